"""Fetching: a whole file or none, and a clear line where it fails."""

import importlib.util
import logging
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from farm.base.errors import UserError
from farm.data.door import load_panel
from farm.data.sources import TICKERS, fetch

DAYS = pd.bdate_range("2020-01-02", periods=30, name="Date")


def answer(tickers, **options) -> pd.DataFrame:
    """Bars as yfinance gives them; the first ticker is listed late."""
    parts = {}
    for k, ticker in enumerate(sorted(tickers)):
        close = 50.0 + k + np.arange(30.0)
        if k == 0:
            close[:5] = np.nan
        prices = {"Close": close, "High": close + 1, "Low": close - 1, "Open": close, "Volume": close * 1000}
        parts |= {(field, ticker): values for field, values in prices.items()}
    frame = pd.DataFrame(parts, index=DAYS)
    frame.columns.names = ["Price", "Ticker"]
    return frame


def ask(
    out: Path, download, tickers=("AAPL", "SPY"), start="2020-01-01", end="2020-02-28", **options
) -> None:
    fetch(tickers, start, end, out, download=download, **options)


def test_a_fetched_panel_is_a_panel(tmp_path):
    out = tmp_path / "panel.parquet"
    asked = {}

    def download(tickers, **options):
        asked.update(options, tickers=tickers)
        return answer(tickers)

    ask(out, download, tickers=(" spy", "AAPL", "AAPL"))
    panel = load_panel(out)
    assert {ticker: len(bars) for ticker, bars in panel.bars.items()} == {"AAPL": 25, "SPY": 30}
    np.testing.assert_array_equal(panel.bars["SPY"].close, 51.0 + np.arange(30.0))
    assert list(pd.read_parquet(out)) == ["date", "ticker", "open", "high", "low", "close", "volume"]
    assert asked["tickers"] == ["SPY", "AAPL"]
    assert asked["auto_adjust"] is True
    assert (asked["start"], asked["end"]) == ("2020-01-01", "2020-02-29")  # Yahoo leaves the end out
    assert [path.name for path in tmp_path.iterdir()] == ["panel.parquet"]


def test_a_file_that_is_there_is_replaced_on_request_alone(tmp_path):
    out = tmp_path / "panel.parquet"
    out.write_bytes(b"somebody's")
    with pytest.raises(UserError, match=r"there is a file .* already: choose another name, or add --force"):
        ask(out, lambda tickers, **options: answer(tickers))
    assert out.read_bytes() == b"somebody's"
    ask(out, lambda tickers, **options: answer(tickers), force=True)
    assert set(load_panel(out).bars) == {"AAPL", "SPY"}


def test_the_usual_tickers_are_twelve_and_the_market():
    assert len(set(TICKERS)) == 13
    assert TICKERS[-1] == "SPY"


def nothing(tickers, **options):
    return answer(tickers).iloc[:0]


def none(tickers, **options):
    return None


def offline(tickers, **options):
    raise ConnectionError("could not resolve host:\nquery2.finance.yahoo.com")


def logs_and_gives_nothing(tickers, **options):
    logging.getLogger("yfinance").error("Too Many Requests.\nRate limited.")
    return answer(tickers).iloc[:0]


def half(tickers, **options):
    return answer(tickers).drop(columns="SPY", level=1)


def silent(tickers, **options):
    frame = answer(tickers)
    frame.loc[:, (slice(None), "SPY")] = np.nan
    return frame


def negative(tickers, **options):
    return -answer(tickers)


def asleep(tickers, **options):
    time.sleep(3)


@pytest.mark.parametrize(
    ("download", "words"),
    [
        (nothing, "an empty answer.*internet"),
        (none, "an empty answer"),
        (offline, "ConnectionError: could not resolve host: query2"),
        (logs_and_gives_nothing, r"Too Many Requests\. Rate limited\."),
        (half, "knows nothing of SPY"),
        (silent, "'SPY' has no prices"),
        (negative, "Yahoo's answer: AAPL 2020-01-09: open is -"),
        (asleep, "no answer within 2 s"),  # two tickers, a second each
    ],
)
@pytest.mark.parametrize("before", [None, b"what stood there"])
def test_a_failed_fetch_leaves_everything_alone(download, words, before, tmp_path, capfd, caplog):
    out = tmp_path / "panel.parquet"
    if before:
        out.write_bytes(before)
    with pytest.raises(UserError, match=words) as caught:
        ask(out, download, patience_s=0.1, force=before is not None)
    assert len(str(caught.value).splitlines()) == 1
    assert (out.read_bytes() if out.exists() else None) == before
    assert [path.name for path in tmp_path.iterdir()] == (["panel.parquet"] if before else [])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []  # what yfinance logs is in the one line, or nowhere


def test_a_failed_write_leaves_nothing_beside(tmp_path):
    out = tmp_path / "panel.parquet"

    def download(tickers, **options):
        out.mkdir()  # what stands there now cannot be replaced by a file
        return answer(tickers)

    with pytest.raises(UserError, match="cannot write --out"):
        ask(out, download)
    assert [path.name for path in tmp_path.iterdir()] == ["panel.parquet"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"start": "2020-1-1"}, "--start '2020-1-1'.*YYYY-MM-DD"),
        ({"end": "soon"}, "--end 'soon'.*YYYY-MM-DD"),
        ({"start": "2021-01-01"}, "--start 2021-01-01 after --end 2020-02-28"),
        ({"tickers": []}, "no ticker"),
        ({"tickers": ["AAPL", "../X"]}, r"'\.\./X'"),
        ({"out": Path("panel.csv")}, r"\.parquet"),
        ({"out": Path("nowhere/panel.parquet")}, "existing folder"),
    ],
)
def test_bad_arguments_are_told_before_asking(arguments, words, tmp_path):
    def never(tickers, **options):
        raise AssertionError("asked")

    out = tmp_path / arguments.pop("out", "panel.parquet")
    with pytest.raises(UserError, match=words):
        ask(out, never, **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("yfinance") is not None, reason="yfinance is installed")
def test_without_yfinance_the_line_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"pip install 'ablation-farm\[fetch\]'"):
        ask(tmp_path / "panel.parquet", None)
    assert list(tmp_path.iterdir()) == []
