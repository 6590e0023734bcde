"""Implied-volatility surfaces by day, checked at the door.

Two files are read: npz (one array by name, see `NPZ_NAMES`) and parquet (long: one row for each day,
maturity and strike). Any grid is taken, in moneyness K/S or in call delta. What passes has one whole
surface of positive, finite volatility for each day and the day's return, so nothing behind the door
checks again.
"""

from __future__ import annotations

import hashlib
import textwrap
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from farm.base.errors import UserError
from farm.base.types import Dates, Floats

Axis = Literal["moneyness", "delta"]

MATURITIES = (1 / 12, 1 / 4, 1 / 2, 1.0, 2.0)  # years
MONEYNESS = (0.7, 0.85, 1.0, 1.15, 1.3)  # strike over spot
EXTRA = ("return", "skew", "slope")

MAX_BYTES = 2 * 1024**3
MAX_VOLATILITY = 5.0  # above 500 % a year: percent, or a broken quote
CENTRE: dict[Axis, float] = {"moneyness": 1.0, "delta": 0.5}
SLOPE_FROM, LEVEL_AT = 1 / 4, 1.0  # years

# What an array may be called, in a file of either kind; the first name is the one to write.
NPZ_NAMES: dict[str, tuple[str, ...]] = {
    "surface": ("surface", "iv"),
    "dates": ("dates", "date"),
    "return": ("ret", "return", "returns"),
    "price": ("price", "close"),
    "maturities": ("ttm_years", "maturities", "maturity"),
    "moneyness": ("moneyness",),
    "delta": ("call_delta", "delta"),
}
PARQUET_NAMES: dict[str, tuple[str, ...]] = {**NPZ_NAMES, "surface": ("iv", "surface")}


@dataclass(frozen=True)
class Surfaces:
    """Surfaces of implied volatility on one grid, one for each day.

    Parameters
    ----------
    dates
        Days, (N,) datetime64[D], strictly increasing.
    iv
        Implied volatility, (N, W, H) float32 = [day, maturity, strike], per square root of a year,
        above 0, no NaN.
    returns
        Log return of the underlying on each day, (N,) float64, no NaN.
    maturities
        Years to maturity, (W,) float64, W at least 2, strictly increasing.
    strikes
        Strike over spot or (forward) call delta, (H,) float64, H at least 3, strictly increasing.
    axis
        What `strikes` holds.
    source
        ``"simulated"`` or the name of the file without its folders: it is logged where others read.

    Raises
    ------
    ValueError
        If shapes disagree, the days or an axis do not increase, or a number is not as said: a fault
        of the program.
    """

    dates: Dates
    iv: Floats
    returns: Floats
    maturities: Floats
    strikes: Floats
    axis: Axis
    source: str

    def __post_init__(self) -> None:
        """Hold the surfaces to their shape, order and signs."""
        expected = (len(self.dates), len(self.maturities), len(self.strikes))
        if self.iv.shape != expected or self.returns.shape != (len(self.dates),):
            raise ValueError(
                f"iv {self.iv.shape} and returns {self.returns.shape}, expected {expected} and {expected[:1]}"
            )
        if expected[1] < 2 or expected[2] < 3:
            raise ValueError(f"grid {expected[1:]}, expected at least 2 maturities and 3 strikes")
        for name in ("dates", "maturities", "strikes"):
            steps = np.diff(getattr(self, name))
            if not (steps > np.zeros((), steps.dtype)).all():
                raise ValueError(f"{name} must increase strictly")
        if self.maturities[0] <= 0 or self.strikes[0] <= 0:
            raise ValueError("maturities and strikes must be above 0")
        if not (np.isfinite(self.iv).all() and (self.iv > 0).all() and np.isfinite(self.returns).all()):
            raise ValueError("volatility must be finite and above 0, returns finite")

    def __len__(self) -> int:
        """Count the days."""
        return len(self.dates)

    @property
    def level(self) -> Floats:
        """Level of each day, (N,): see `level`."""
        return level(self.iv, self.maturities, self.strikes, self.axis)

    @property
    def skew(self) -> Floats:
        """Skew of each day, (N,): see `skew`."""
        return skew(self.iv, self.maturities, self.strikes, self.axis)

    @property
    def slope(self) -> Floats:
        """Slope of each day, (N,): see `slope`."""
        return slope(self.iv, self.maturities, self.strikes, self.axis)

    @property
    def extra(self) -> Floats:
        """Extra features of each day, (N, 3) float32, in the order of `EXTRA`."""
        return np.stack([self.returns, self.skew, self.slope], axis=1).astype(np.float32)

    def digest(self) -> str:
        """Name the content: the first 16 hexadecimal digits of a SHA-256, alike on every platform."""
        content = hashlib.sha256(self.axis.encode())
        content.update(np.asarray(self.iv.shape, dtype="<i8").tobytes())
        content.update(self.dates.astype("datetime64[D]").astype("<i8").tobytes())
        content.update(self.iv.astype("<f4").tobytes())
        for values in (self.returns, self.maturities, self.strikes):
            content.update(values.astype("<f8").tobytes())
        return content.hexdigest()[:16]


def anchors(maturities: Floats, strikes: Floats, axis: Axis) -> tuple[int, int, int, int]:
    """Find the cells that level, skew and slope are read from.

    On the default grid these are row 3 (1 year), rows 1 and 4 (3 months, 2 years) and column 2
    (K/S 1). On any other grid they are the maturity nearest to a year in log time; the one nearest to
    3 months, the longest left out, and the longest; and the strike nearest to K/S 1 (in log) or to
    call delta 0.5 that has a neighbour on each side.

    Parameters
    ----------
    maturities
        Years, (W,), W at least 2, increasing.
    strikes
        K/S or call delta, (H,), H at least 3, increasing.
    axis
        What `strikes` holds.

    Returns
    -------
    tuple of int
        Row of the level and the skew, row and last row of the slope, column at the money.
    """
    log_years = np.log(maturities)
    year = int(np.abs(log_years - np.log(LEVEL_AT)).argmin())
    short = int(np.abs(log_years[:-1] - np.log(SLOPE_FROM)).argmin())
    inner = strikes[1:-1]
    distance = np.log(inner / CENTRE[axis]) if axis == "moneyness" else inner - CENTRE[axis]
    return year, short, len(maturities) - 1, 1 + int(np.abs(distance).argmin())


def level(iv: Floats, maturities: Floats, strikes: Floats, axis: Axis) -> Floats:
    """Give the one-year volatility at the money: s[3, 2] on the default grid.

    Parameters
    ----------
    iv
        Surfaces, (..., W, H).
    maturities, strikes, axis
        The grid; see `anchors` for which cell is read on another than the default one.

    Returns
    -------
    Floats
        (...,), in the unit of `iv`.
    """
    year, _, _, middle = anchors(maturities, strikes, axis)
    return cast("Floats", iv[..., year, middle])


def skew(iv: Floats, maturities: Floats, strikes: Floats, axis: Axis) -> Floats:
    """Give what the plan calls skew: (s[3, 1] + s[3, 3]) / 2 - s[3, 2] on the default grid.

    It is the mean of the two neighbours of the money at one year less the money itself. A
    straight smile, however steep, has 0: a trader would call this the butterfly (curvature), and the
    difference of the wings the skew. The name is kept because the files carry it.

    Parameters
    ----------
    iv
        Surfaces, (..., W, H).
    maturities, strikes, axis
        The grid; see `anchors` for which cells are read on another than the default one.

    Returns
    -------
    Floats
        (...,), in the unit of `iv`.
    """
    year, _, _, middle = anchors(maturities, strikes, axis)
    row = iv[..., year, :]
    return cast("Floats", (row[..., middle - 1] + row[..., middle + 1]) / 2 - row[..., middle])


def slope(iv: Floats, maturities: Floats, strikes: Floats, axis: Axis) -> Floats:
    """Give the term structure at the money, longest less 3 months: s[4, 2] - s[1, 2] on the default grid.

    Parameters
    ----------
    iv
        Surfaces, (..., W, H).
    maturities, strikes, axis
        The grid; see `anchors` for which cells are read on another than the default one.

    Returns
    -------
    Floats
        (...,), in the unit of `iv`; above 0 in contango.
    """
    _, short, last, middle = anchors(maturities, strikes, axis)
    return cast("Floats", iv[..., last, middle] - iv[..., short, middle])
