"""Daily bars of one ticker, and of many.

Made by `farm.data.door`, they have no gap, no NaN and one row for each ticker and day, so nothing
behind the door checks again.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from farm.base import memory, search_space
from farm.base.errors import UserError, nearest, shown
from farm.base.types import Dates, Floats

FIELDS = ("open", "high", "low", "close", "volume")
COLUMNS = ("date", "ticker", *FIELDS)
FIRST_DAY = np.datetime64(search_space.FIRST_DAY)


def possible(days: Dates) -> npt.NDArray[np.bool_]:
    """Return which days a record of the past can hold: from 1800 to tomorrow, which has begun somewhere.

    A slip of a key (3016 for 2016) or a database's word for never (9999-12-31) is no day of a market.
    """
    return np.asarray((days >= FIRST_DAY) & (days <= np.datetime64(search_space.last_day())))


@dataclass(frozen=True)
class Bars:
    """Daily bars of one ticker.

    Parameters
    ----------
    dates
        Trading days, (T,) datetime64[D], strictly increasing.
    values
        Open, high, low, close and volume, (T, 5) float64, no NaN; prices above 0 in the ticker's
        currency, volume in shares, 0 or more.

    Raises
    ------
    ValueError
        If shapes disagree or the days do not increase: a fault of the program.
    """

    dates: Dates
    values: Floats

    def __post_init__(self) -> None:
        """Hold the bars to their shape and order."""
        if self.values.shape != (len(self.dates), len(FIELDS)):
            raise ValueError(
                f"values have shape {self.values.shape}, expected {(len(self.dates), len(FIELDS))}"
            )
        if (np.diff(self.dates) <= np.timedelta64(0, "D")).any():
            raise ValueError("the days of bars must increase strictly")

    def __getstate__(self) -> dict[str, Any]:
        """Give the days as numbers, whose memory workers share; days themselves are copied to each."""
        return {**vars(self), "dates": self.dates.view(np.int64)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take them back."""
        vars(self).update(state, dates=state["dates"].view("datetime64[D]"))

    def __len__(self) -> int:
        """Count the days."""
        return len(self.dates)

    @property
    def open(self) -> Floats:
        """Opening prices, (T,), a view."""
        return self.values[:, 0]

    @property
    def high(self) -> Floats:
        """Highest prices, (T,), a view."""
        return self.values[:, 1]

    @property
    def low(self) -> Floats:
        """Lowest prices, (T,), a view."""
        return self.values[:, 2]

    @property
    def close(self) -> Floats:
        """Closing prices, (T,), a view."""
        return self.values[:, 3]

    @property
    def volume(self) -> Floats:
        """Shares traded, (T,), a view."""
        return self.values[:, 4]

    @property
    def arrays(self) -> tuple[Dates, Floats]:
        """What the bars are made of."""
        return self.dates, self.values

    @cached_property
    def digest(self) -> str:
        """Name of the content: the first 16 hexadecimal digits of a SHA-256, alike on every platform."""
        content = hashlib.sha256(self.dates.astype("datetime64[D]").astype("<i8").tobytes())
        content.update(self.values.astype("<f8").tobytes())
        return content.hexdigest()[:16]


@dataclass(frozen=True)
class Panel:
    """Bars of many tickers; each has its own days.

    Parameters
    ----------
    bars
        Bars by ticker.
    source
        ``"bundled"`` or the name of the file without its folders: it is logged where others read.
    """

    bars: dict[str, Bars]
    source: str

    def require(self, ticker: str) -> None:
        """See that a ticker is there.

        Raises
        ------
        UserError
            If it is not; the message names the nearest one.
        """
        if ticker not in self.bars:
            raise UserError(f"unknown ticker {ticker!r} in {self.source}: {nearest(ticker, self.bars)}")

    def select(self, tickers: Sequence[str], start: str | None = None, end: str | None = None) -> Panel:
        """Keep some tickers and a range of days, without copying.

        Parameters
        ----------
        tickers
            Tickers to keep, in this order.
        start, end
            First and last day to keep, both inclusive, as YYYY-MM-DD; None leaves that end open.

        Returns
        -------
        Panel
            Views of these bars.

        Raises
        ------
        UserError
            If a ticker is unknown, a day is not ISO, or a ticker has no day in the range.
        """
        if not tickers:
            raise UserError(f"got no ticker, expected at least one: {nearest('', self.bars)}")
        first, last = _bound(start, "start"), _bound(end, "end")
        chosen: dict[str, Bars] = {}
        for ticker in tickers:
            self.require(ticker)
            bars = self.bars[ticker]
            low = 0 if first is None else int(np.searchsorted(bars.dates, first))
            high = len(bars) if last is None else int(np.searchsorted(bars.dates, last, side="right"))
            if low >= high:
                raise UserError(
                    f"{ticker} has no day from {first or 'its first'} to {last or 'its last'}, expected days"
                    f" within {bars.dates[0]}..{bars.dates[-1]}: change the start or the end"
                )
            chosen[ticker] = Bars(bars.dates[low:high], bars.values[low:high])  # noqa: PD011
        return Panel(chosen, self.source)

    def mapped(self) -> Panel:
        """Move the bars to a file that is mapped into memory; see `farm.base.memory.mapped`."""
        laid = iter(memory.mapped([array for bars in self.bars.values() for array in bars.arrays]))
        return Panel({name: Bars(next(laid), next(laid)) for name in self.bars}, self.source)

    def rest(self) -> None:
        """Take bars that lie in a mapped file out of memory, until they are read again."""
        memory.rest(array for bars in self.bars.values() for array in bars.arrays)

    def frame(self) -> pd.DataFrame:
        """Give the long table: the columns of `COLUMNS`, a row for each ticker and day."""
        parts = [
            pd.DataFrame(bars.values, columns=list(FIELDS)).assign(
                date=bars.dates.astype("datetime64[s]"), ticker=name
            )
            for name, bars in self.bars.items()
        ]
        return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _bound(day: str | None, name: str) -> np.datetime64 | None:
    """Read one end of a range of days."""
    try:
        return None if day is None else np.datetime64(datetime.date.fromisoformat(day), "D")
    except ValueError:
        raise UserError(f"{name}: got {shown(day)}, expected a day written YYYY-MM-DD") from None
