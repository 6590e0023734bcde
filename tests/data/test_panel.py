"""Bars and panels: what names them, what they share and what they refuse."""

import hashlib
import pickle
import struct

import numpy as np
import pytest
from ray import cloudpickle

from farm.base.errors import UserError
from farm.data.door import load_panel
from farm.data.panel import FIELDS, Bars


def test_digest_is_defined_by_the_bytes():
    bars = Bars(
        np.array(["1970-01-02", "1970-01-05"], dtype="datetime64[D]"), np.arange(1.0, 11.0).reshape(2, 5)
    )
    content = struct.pack("<2q", 1, 4) + struct.pack("<10d", *range(1, 11))
    assert bars.digest == hashlib.sha256(content).hexdigest()[:16]


def test_digest_sees_every_cell_and_every_day():
    bars = load_panel().select(["AAPL"], end="2013-02-01").bars["AAPL"]
    seen = {bars.digest}
    for row, column in np.ndindex(bars.values.shape):
        values = bars.values.copy()
        values[row, column] = np.nextafter(values[row, column], np.inf)
        seen.add(Bars(bars.dates, values).digest)
    seen.add(Bars(bars.dates + np.timedelta64(1, "D"), bars.values).digest)
    assert len(seen) == bars.values.size + 2


def test_columns_are_views_and_cannot_be_written():
    bars = load_panel().bars["AAPL"]
    for i, name in enumerate(FIELDS):
        assert np.shares_memory(getattr(bars, name), bars.values)
        np.testing.assert_array_equal(getattr(bars, name), bars.values[:, i])
    with pytest.raises(ValueError, match="read-only"):
        bars.close[0] = 1.0


@pytest.mark.parametrize("days", [["2020-01-02", "2020-01-02"], ["2020-01-03", "2020-01-02"]])
def test_bars_refuse_days_that_do_not_increase(days):
    with pytest.raises(ValueError, match="increase"):
        Bars(np.array(days, dtype="datetime64[D]"), np.ones((2, 5)))


def test_select_keeps_both_ends_and_copies_nothing():
    panel = load_panel()
    chosen = panel.select(["MSFT", "AAPL"], "2019-12-31", "2020-01-03")
    assert list(chosen.bars) == ["MSFT", "AAPL"]
    assert [str(d) for d in chosen.bars["AAPL"].dates] == ["2019-12-31", "2020-01-02", "2020-01-03"]
    assert np.shares_memory(chosen.bars["MSFT"].values, panel.bars["MSFT"].values)
    assert chosen.source == panel.source


@pytest.mark.parametrize(
    ("tickers", "start", "end", "words"),
    [
        (["APPL"], None, None, "unknown ticker 'APPL'.*did you mean 'AAPL'"),
        (["AAPL"], "2020-13-01", None, "start: got '2020-13-01'.*YYYY-MM-DD"),
        (["AAPL"], None, "yesterday", "end: got 'yesterday'.*YYYY-MM-DD"),
        (["AAPL"], "2024-01-01", None, r"AAPL has no day.*within 2013-01-02\.\.2023-09-21"),
        (["AAPL"], "2020-01-01", "2019-01-01", "AAPL has no day"),
        ([], None, None, "no ticker"),
    ],
)
def test_select_says_what_is_wrong(tickers, start, end, words):
    with pytest.raises(UserError, match=words):
        load_panel().select(tickers, start, end)


def test_a_pickled_panel_leaves_its_numbers_outside_where_workers_share_them():
    panel = load_panel()
    outside: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(panel, protocol=5, buffer_callback=outside.append)
    assert len(stream) < 10_000 < sum(len(buffer.raw()) for buffer in outside)
    again = cloudpickle.loads(stream, buffers=outside)
    for name, bars in panel.bars.items():
        assert again.bars[name].dates.dtype == bars.dates.dtype
        np.testing.assert_array_equal(again.bars[name].dates, bars.dates)
        assert np.shares_memory(again.bars[name].values, bars.values)
