"""Where prices come from when there is no file yet: Yahoo Finance, by way of yfinance."""

from __future__ import annotations

import datetime
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.base.errors import UserError
from farm.base.files import check_output
from farm.base.origin import DISTRIBUTION

if TYPE_CHECKING:
    import pandas as pd

# The LSTM ablation's 12 stocks and its market; META was FB until 2022, and FB is another paper now.
TICKERS = ("AAPL", "AMZN", "BA", "META", "GOOG", "JNJ", "JPM", "KO", "MSFT", "PG", "WMT", "XOM", "SPY")
PATIENCE_S = 20.0  # Yahoo answers for 13 tickers in about five seconds, one after another

Download = Callable[..., "pd.DataFrame | None"]


def fetch(
    tickers: Sequence[str],
    start: str,
    end: str | None,
    out: Path,
    download: Download | None = None,
    patience_s: float = PATIENCE_S,
    *,
    force: bool = False,
) -> None:
    """Fill a panel file with daily bars from Yahoo, adjusted for splits and dividends.

    Parameters
    ----------
    tickers
        Yahoo's names, such as ``AAPL`` or ``^GSPC``.
    start, end
        First and last day, both inclusive, as YYYY-MM-DD; None for `end` means yesterday, as
        today's bar may still be growing.
    out
        Parquet file to write, long layout; there as a whole, or left alone on any error.
    download
        Asks for the bars, called as ``yfinance.download``; None for that function itself.
    patience_s
        Seconds to wait for the answer; a second for each ticker where that is more.
    force
        Whether a file that is there may be replaced.

    Raises
    ------
    UserError
        If yfinance is absent, an argument is bad, there is no internet or no answer, or what came
        does not pass the checks of `farm.data.door`.
    """
    from farm.data.door import TICKER, panel_from  # pandas is slow to import, and --help needs none

    names = list(dict.fromkeys(ticker.strip().upper() for ticker in tickers))
    for name in names:
        if not re.match(TICKER, name):
            raise UserError(
                f"got ticker {name!r}, expected 1 to 32 letters, digits or ^ . = _ -: correct --tickers"
            )
    if not names:
        raise UserError("got no ticker, expected at least one, such as AAPL,SPY: correct --tickers")
    first, last = _day(start, "--start"), _yesterday() if end is None else _day(end, "--end")
    if first > last:
        raise UserError(f"got --start {first} after --end {last}, expected it before: correct one of them")
    if out.suffix != ".parquet":
        raise UserError(f"got --out {str(out)!r}, expected a name that ends in .parquet: rename it")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(
            f"cannot write --out {str(out)!r}, expected a file in an existing folder: make the folder"
        )
    check_output("--out", out, {}, force=force)

    answer = _ask(download or _yfinance(), names, first, last, max(patience_s, len(names)))
    panel = panel_from(answer, "Yahoo's answer")
    if missing := [name for name in names if name not in panel.bars]:
        raise UserError(f"Yahoo knows nothing of {', '.join(missing)}, expected prices: correct --tickers")

    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            panel.frame().to_parquet(file, index=False)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(out)
    except OSError as error:
        raise UserError(
            f"cannot write --out {str(out)!r} ({error.strerror}): free some space, or choose another folder"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _day(text: str, option: str) -> datetime.date:
    """Read an ISO day of the command line."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UserError(f"got {option} {text!r}, expected a day written YYYY-MM-DD: correct it") from None


def _yesterday() -> datetime.date:
    return datetime.date.today() - datetime.timedelta(days=1)


def _yfinance() -> Download:
    """Import yfinance, an extra of its own."""
    try:
        import yfinance
    except ImportError:
        raise UserError(
            f"got no yfinance, which fetch needs, expected it installed: pip install '{DISTRIBUTION}[fetch]'"
        ) from None
    download: Download = yfinance.download
    return download


class _Remarks(logging.Handler):
    """Keeps what yfinance logs; it logs its failures and returns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as one line."""
        self.lines.append(" ".join(record.getMessage().split()))


def _ask(
    download: Download, names: list[str], first: datetime.date, last: datetime.date, wait_s: float
) -> pd.DataFrame:
    """Ask in a thread of its own, for no setting of yfinance bounds the time that it takes."""
    answer: list[pd.DataFrame | None] = []
    failure: list[str] = []
    remarks, logger = _Remarks(), logging.getLogger("yfinance")
    options: dict[str, Any] = {
        "start": first.isoformat(),
        "end": (last + datetime.timedelta(days=1)).isoformat(),  # Yahoo leaves the end out
        "auto_adjust": True,
        "progress": False,
        "threads": False,  # its own threads would hold up the exit
        "timeout": 10,
    }

    def work() -> None:
        try:
            answer.append(download(names, **options))
        except Exception as error:  # noqa: BLE001  (whatever broke, there is no answer)
            failure.append(f"{type(error).__name__}: {error}")

    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(remarks)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(wait_s)
    finally:
        logger.removeHandler(remarks)
        logger.propagate = propagate
    if answer and answer[0] is not None and len(answer[0]):
        return answer[0]
    late = [f"no answer within {wait_s:.0f} s"] if thread.is_alive() else []
    reason = " ".join((late + failure + remarks.lines[:1] + ["an empty answer"])[0].split())[:200]
    raise UserError(
        f"got no prices from Yahoo ({reason}), expected {len(names)} tickers from {first} to {last}:"
        " check the internet connection, the tickers and the days, or try later"
    )
