"""Blocks of returns: what is scaled with what, where windows lie, and what is hidden."""

import numpy as np
import pytest

from farm.base.errors import UserError
from farm.data.panel import Bars, Panel
from farm.data.returns import hidden_entries, return_dataset, return_table
from farm.data.splits import Chronological
from tests.return_world import ASSETS, draw_days, return_data, return_panel

SPLIT = Chronological(train=0.6, val=0.15)


def test_the_table_is_the_log_returns_of_shared_days():
    panel = return_panel(100)
    table = return_table(panel.bars)
    assert tuple(table.columns) == ASSETS
    np.testing.assert_allclose(table.to_numpy(), draw_days(100)[0], atol=1e-12)
    gap = panel.bars["A"]
    holed = Bars(np.delete(gap.dates, 50), np.delete(gap.values, 50, axis=0))
    fewer = return_table({**panel.bars, "A": holed})
    assert len(fewer) == len(table) - 1
    # The return over the gap is that of both days.
    np.testing.assert_allclose(fewer.iloc[49], table.iloc[49] + table.iloc[50])


def test_the_scaler_has_seen_the_training_days_alone():
    data = return_data(600)
    train = data.train.block
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(train.std(axis=0), 1)
    returns, _ = draw_days(600)
    np.testing.assert_allclose(data._test.rows * data.inputs.scale + data.inputs.mean, returns)


def test_windows_lie_wholly_in_their_block_and_view_one_array():
    data = return_data(600, lookback=6)
    test = data._test
    assert test.x.shape == (len(test.block) - 5, 6, 5)
    assert test.x.dtype == np.float32
    for b in (0, len(test.x) - 1):
        np.testing.assert_allclose(test.x[b], test.block[b : b + 6], rtol=1e-6)
    assert np.shares_memory(test.x[0], test.x[1])  # days that two windows have in common are there once
    assert data.val.first >= len(data.train.rows) + 1
    assert (test.days[test.position] == test.times).all()
    assert len(test.apart) == -(-len(test.x) // 6)


def test_learning_from_recent_days_changes_neither_units_nor_later_blocks():
    returns, _ = draw_days(600)
    dates = np.datetime64("2000-01-03", "D") + np.arange(600)
    whole, recent = (return_dataset(returns, dates, ASSETS, 6, SPLIT, 0.3, recent=n) for n in (0, 50))
    np.testing.assert_array_equal(recent.train.block, whole.train.block[-50:])
    assert recent.train.x.shape == (45, 6, 5)
    np.testing.assert_array_equal(recent._test.rows, whole._test.rows)
    np.testing.assert_array_equal(recent._test.mask, whole._test.mask)


def test_hidden_entries_are_a_fixed_draw_and_nested_by_share():
    few, many = (hidden_entries((200, 5), share, seed=2) for share in (0.1, 0.5))
    assert (hidden_entries((200, 5), 0.1, seed=2) == few).all()
    assert not (few & ~many).any()
    assert few.mean() == pytest.approx(0.1, abs=0.03)
    assert (few != hidden_entries((200, 5), 0.1, seed=3)).any()


def test_hiding_leaves_the_record_whole_and_the_days_before_visible():
    test = return_data(600)._test
    rows = test.hide(test.mask)
    assert not np.isnan(test.rows).any()
    assert not np.isnan(rows[: test.first]).any()
    np.testing.assert_array_equal(np.isnan(rows[test.first :]), test.mask)
    truth = (test.block * test.scale + test.mean)[test.mask]
    np.testing.assert_array_equal(test.hidden_returns(test.mask), truth)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda bars: Bars(bars.dates[:1], bars.values[:1]), "share 1 days"),
        (lambda bars: Bars(bars.dates, np.ones_like(bars.values)), "A: its close never moves"),
    ],
)
def test_a_panel_without_returns_is_refused_in_one_line(change, expected):
    panel = return_panel(100)
    with pytest.raises(UserError, match=expected) as error:
        return_table({**panel.bars, "A": change(panel.bars["A"])})
    assert "\n" not in str(error.value)


def test_a_block_shorter_than_a_window_is_refused_in_one_line():
    returns, _ = draw_days(200)
    dates = np.datetime64("2000-01-03", "D") + np.arange(200)
    with pytest.raises(UserError, match="the validation block has 29 days, expected at least the 40"):
        return_dataset(returns, dates, ASSETS, 40, SPLIT, 0.3)
    flat = returns.copy()
    flat[:120, 2] = 0.0
    with pytest.raises(UserError, match="B: its close never moves on the 120 training days"):
        return_dataset(flat, dates, ASSETS, 5, SPLIT, 0.3)


def test_panel_of_the_study_needs_no_other_column_than_closes():
    panel = return_panel(100)
    louder = {name: Bars(b.dates, b.values * [2, 3, 0.5, 1, 7]) for name, b in panel.bars.items()}
    np.testing.assert_array_equal(return_table(louder), return_table(Panel(panel.bars, "").bars))
