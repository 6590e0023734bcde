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
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from farm.base.errors import UserError
from farm.base.types import Dates, Floats
from farm.data.panel import FIRST_DAY, possible

Axis = Literal["moneyness", "delta"]

MATURITIES = (1 / 12, 1 / 4, 1 / 2, 1.0, 2.0)  # years
MONEYNESS = (0.7, 0.85, 1.0, 1.15, 1.3)  # strike over spot
EXTRA = ("return", "skew", "slope")

MAX_BYTES = 2 * 1024**3
MIN_VOLATILITY, MAX_VOLATILITY = 1e-4, 5.0  # beyond these it is in percent, or a broken quote
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

# What numpy and zipfile raise on a broken or foreign archive.
DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


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

    def select(self, start: str | None = None, end: str | None = None) -> Surfaces:
        """Keep a range of days, without copying.

        Parameters
        ----------
        start, end
            First and last day to keep, both inclusive, as YYYY-MM-DD; None leaves that end open.

        Raises
        ------
        UserError
            If no day lies in it.
        """
        low = 0 if start is None else int(np.searchsorted(self.dates, np.datetime64(start)))
        high = len(self) if end is None else int(np.searchsorted(self.dates, np.datetime64(end), "right"))
        if low >= high:
            raise UserError(
                f"{self.source} has no day from {start or 'its first'} to {end or 'its last'}, expected days"
                f" within {self.dates[0]}..{self.dates[-1]}: change the start or the end"
            )
        if (low, high) == (0, len(self)):
            return self
        kept = slice(low, high)
        return replace(self, dates=self.dates[kept], iv=self.iv[kept], returns=self.returns[kept])

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

    @cached_property
    def digest(self) -> str:
        """Name of the content: the first 16 hexadecimal digits of a SHA-256, alike on every platform."""
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
    return iv[..., year, middle]


def skew(iv: Floats, maturities: Floats, strikes: Floats, axis: Axis) -> Floats:
    """Compute the feature called skew: (s[3, 1] + s[3, 3]) / 2 - s[3, 2] on the default grid.

    It is the mean of the two neighbours of the money at one year less the money itself. A
    straight smile, however steep, has 0: a trader would call this the butterfly (curvature), and the
    difference of the wings the skew. The plan names a skew and defines none; this definition came with the
    files, whose name for it is kept.

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
    return (row[..., middle - 1] + row[..., middle + 1]) / 2 - row[..., middle]


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
    return iv[..., last, middle] - iv[..., short, middle]


def read_surfaces(path: Path) -> Surfaces:
    """Read surfaces from a file.

    npz: arrays ``surface`` (N, W, H), ``dates`` (N,) as text or datetime64, ``ret`` (N,) log returns
    or ``price`` (N,), ``ttm_years`` (W,), and ``moneyness`` or ``call_delta`` (H,); a 5x5 surface
    without axes is on the default grid. parquet: columns ``date``, ``maturity``, ``moneyness`` or
    ``delta``, ``iv`` and ``return`` or ``price``, a row for each cell, in any order. More names are
    known (`NPZ_NAMES`), in either case; other arrays and columns are not read, so level, skew and slope
    are always computed anew. Pickled arrays are refused: reading one can run code.

    A first day whose return is missing is left out; with ``price`` alone that is every first day.

    Parameters
    ----------
    path
        The file; its content decides how it is read, not its suffix.

    Returns
    -------
    Surfaces
        N days; arrays are read-only.

    Raises
    ------
    UserError
        If the file or anything in it is not as expected; the message names the first bad day.
    """
    give = "give an npz or parquet file of surfaces"
    try:
        if not path.exists():
            raise UserError(f"no file {str(path)!r}, expected surfaces: {give}")
        if not path.is_file():
            raise UserError(f"{path}: got no regular file, expected surfaces: {give}")
        if path.stat().st_size > MAX_BYTES:
            raise _mistake(path.name, "got more than 2 GiB, expected less: keep fewer days")
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise _mistake(
            path.name, f"cannot be read ({error.strerror}), expected a readable file: {give}"
        ) from error
    if magic == b"PAR1":
        return _checked(_parquet(path), path.name)
    if magic == b"PK\x03\x04":
        return _checked(_npz(path), path.name)
    raise _mistake(path.name, f"is neither npz nor parquet: {give}")


def _mistake(source: str, text: str) -> UserError:
    """Make the complaint about a source, as one line whatever was in the file."""
    return UserError(textwrap.shorten(f"{source}: {text}", 600, placeholder=" ..."))


def _chosen(names: Mapping[str, tuple[str, ...]], there: list[str], source: str, what: str) -> dict[str, str]:
    """Find which of the file's names stands for which of ours, and complain of what is missing."""
    known = {name.lower(): name for name in reversed(there)}
    found = {
        ours: known[next(n for n in theirs if n in known)]
        for ours, theirs in names.items()
        if any(n in known for n in theirs)
    }
    got = ", ".join(repr(name[:32]) for name in there[:10]) or "none"
    for need in (("surface",), ("dates",), ("return", "price")):
        if not found.keys() & set(need):
            wanted = " or ".join(repr(names[n][0]) for n in need)
            raise _mistake(source, f"got the {what} {got}, expected {wanted} among them: add or rename it")
    if "moneyness" in found and "delta" in found:
        raise _mistake(source, f"got both {what} of moneyness and of delta, expected one: leave one out")
    return found


def _npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays that are known; a damaged file is the user's to mend."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {m.filename.removesuffix(".npy"): m.file_size for m in archive.infolist()}
        with np.load(path, allow_pickle=False) as arrays:
            found = _chosen(NPZ_NAMES, list(arrays.files), path.name, "arrays")
            if sum(sizes[name] for name in found.values()) > MAX_BYTES:
                raise _mistake(path.name, "unpacks to more than 2 GiB, expected less: keep fewer days")
            loaded = {ours: arrays[theirs] for ours, theirs in found.items()}
    except DAMAGE as error:
        if "allow_pickle" in str(error):
            raise _mistake(
                path.name,
                "holds pickled objects, which could run code, expected plain numbers, and days as text or"
                " datetime64: write it anew without dtype object",
            ) from None
        raise _mistake(
            path.name, f"is a damaged npz ({error}), expected a whole file: write it anew"
        ) from error
    for name, array in loaded.items():
        if not isinstance(array, np.ndarray):
            raise _mistake(path.name, f"{name!r} is no array, expected one: write it with numpy.savez")
    return loaded


def _parquet(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a long table."""
    import pyarrow.parquet as pq  # slow to import, as is pandas

    try:
        with path.open("rb") as file:  # Arrow's complaint then has no path in it
            table = pq.ParquetFile(file)
            found = _chosen(PARQUET_NAMES, list(table.schema_arrow.names), path.name, "columns")
            if table.metadata.num_rows * len(found) * 8 > MAX_BYTES:
                raise _mistake(path.name, "unpacks to more than 2 GiB, expected less: keep fewer days")
            frame = table.read(list(found.values())).to_pandas(ignore_metadata=True)
    except UserError:
        raise
    except Exception as error:  # damage shows anywhere in Arrow
        raise _mistake(
            path.name, f"is damaged parquet ({error}), expected a whole file: write it anew"
        ) from error
    columns = {ours: frame[theirs].to_numpy() for ours, theirs in found.items()}
    if "maturities" not in columns or not columns.keys() & {"moneyness", "delta"}:
        raise _mistake(
            path.name,
            f"got the columns {', '.join(map(repr, found.values()))}, expected 'maturity' and 'moneyness' or"
            " 'delta' too: add or rename them",
        )
    if not len(frame):
        raise _mistake(path.name, "got a table without rows, expected surfaces: give a file with data")
    return _laid_out(columns, path.name)


def _laid_out(columns: Mapping[str, npt.NDArray[Any]], source: str) -> dict[str, npt.NDArray[Any]]:
    """Lay rows out as (N, W, H), days and both axes in order; every day must have the whole grid."""
    axis = "delta" if "delta" in columns else "moneyness"
    days, day = np.unique(_days(columns["dates"], source), return_inverse=True)
    years, row = np.unique(_numbers(columns["maturities"], "maturity", source), return_inverse=True)
    strikes, column = np.unique(_numbers(columns[axis], axis, source), return_inverse=True)
    grid = len(years) * len(strikes)
    cells = (day * len(years) + row) * len(strikes) + column
    per_day = np.bincount(day)
    order = np.argsort(cells, kind="stable")
    repeated = order[1:][np.diff(cells[order]) == 0]
    wrong = np.flatnonzero(per_day != grid)
    if len(wrong) or len(repeated):
        at = wrong[0] if len(wrong) else day[repeated[0]]
        raise _mistake(
            source,
            f"{days[at]}: got {per_day[at]} rows, expected {grid}, each of the file's {len(years)} maturities"
            f" x {len(strikes)} strikes once: give every day the whole grid",
        )
    laid: dict[str, npt.NDArray[Any]] = {"dates": days, "maturities": years, axis: strikes}
    surface = _numbers(columns["surface"], "iv", source)[order]
    laid["surface"] = surface.reshape(len(days), len(years), len(strikes))
    for name in sorted(columns.keys() & {"return", "price"}):
        daily = _numbers(columns[name], name, source)[order].reshape(len(days), grid)
        differs = ~((daily == daily[:, :1]) | (np.isnan(daily) & np.isnan(daily[:, :1]))).all(axis=1)
        if differs.any():
            raise _mistake(
                source,
                f"{days[differs.argmax()]}: {name} differs between rows, expected one for a day: correct it",
            )
        laid[name] = daily[:, 0]
    return laid


def _numbers(values: npt.NDArray[Any], name: str, source: str) -> Floats:
    """Take real numbers as double precision; anything else is a mistake."""
    if values.dtype.kind not in "fiu":
        raise _mistake(source, f"{name} holds {values.dtype}, expected numbers: convert it")
    return values.astype(np.float64)


def _days(values: npt.NDArray[Any], source: str) -> Dates:
    """Read days from datetime64 or ISO text; a number is no day."""
    expected = "expected days, as datetime64 or written YYYY-MM-DD: correct them"
    if values.dtype.kind == "O":  # text or dates, as Arrow gives them; npz lets no object in
        values = np.array([str(value)[:10] for value in values], dtype="U10")
    if values.dtype.kind not in "MUS" or values.ndim != 1:
        raise _mistake(source, f"dates hold {values.dtype} {values.shape}, {expected}")
    try:
        days = values.astype("datetime64[D]")
    except ValueError as error:
        raise _mistake(source, f"a date cannot be read ({error}), {expected}") from None
    if np.isnat(days).any():
        raise _mistake(source, f"date {int(np.isnat(days).argmax()) + 1} is missing, {expected}")
    if (bad := ~possible(days)).any():
        raise _mistake(
            source,
            f"date {int(bad.argmax()) + 1} is {days[bad.argmax()]} ({int(bad.sum())} such days), expected"
            f" a day from {FIRST_DAY} to tomorrow: correct it, or leave the day out",
        )
    return days


def _axes(raw: Mapping[str, npt.NDArray[Any]], source: str) -> tuple[Floats, Floats, Axis]:
    """Find the grid and hold it to the surface's shape."""
    shape = raw["surface"].shape[1:]
    axis: Axis = "delta" if "delta" in raw else "moneyness"
    if "maturities" not in raw and axis not in raw and shape == (len(MATURITIES), len(MONEYNESS)):
        return np.array(MATURITIES), np.array(MONEYNESS), axis
    found = []
    for name, size, least in (("maturities", shape[0], 2), (axis, shape[1], 3)):
        names = " or ".join(map(repr, NPZ_NAMES[name]))
        if name not in raw:
            raise _mistake(
                source,
                f"got a surface of {shape[0]} x {shape[1]} without {names}, expected both axes, as only 5 x 5"
                " has a default grid: add the array",
            )
        values = _numbers(raw[name], name, source)
        if values.shape != (size,) or size < least:
            raise _mistake(
                source,
                f"got {name} {values.shape} for a surface of {shape[0]} maturities x {shape[1]} strikes,"
                f" expected ({size},) and at least {least}: correct the grid",
            )
        top = 1.0 if name == "delta" else np.inf
        if not ((np.diff(values) > 0).all() and values[0] > 0 and values[-1] < top):
            shown = ", ".join(f"{v:g}" for v in values[:8])
            bound = "between 0 and 1" if name == "delta" else "above 0"
            raise _mistake(source, f"got {name} {shown}, expected numbers {bound}, increasing: sort the grid")
        found.append(values)
    return found[0], found[1], axis


def _checked(raw: Mapping[str, npt.NDArray[Any]], source: str) -> Surfaces:
    """Hold what was read to what surfaces are: days before the grid, the grid before its numbers."""
    iv = _numbers(raw["surface"], "surface", source)
    if iv.ndim != 3:
        raise _mistake(source, f"got a surface {iv.shape}, expected (days, maturities, strikes): reshape it")
    days, n = _days(raw["dates"], source), len(iv)
    if len(days) != n or n < 2:
        raise _mistake(
            source, f"got {n} surfaces and {len(days)} dates, expected as many, 2 or more: correct it"
        )
    steps = np.diff(days)
    if (steps <= np.timedelta64(0, "D")).any():
        at = int((steps <= np.timedelta64(0, "D")).argmax())
        raise _mistake(
            source,
            f"got date {days[at + 1]} after {days[at]}, expected each day once, in order: sort the days",
        )
    maturities, strikes, axis = _axes(raw, source)
    bad = ~((iv >= MIN_VOLATILITY) & (iv <= MAX_VOLATILITY))  # NaN is neither
    if bad.any():
        day, row, column = (int(i[0]) for i in np.nonzero(bad))
        raise _mistake(
            source,
            f"{days[day]}: got volatility {iv[day, row, column]:g} at maturity {maturities[row]:.4g},"
            f" {axis} {strikes[column]:g} ({int(bad.sum())} such cells), expected {MIN_VOLATILITY:g} to"
            f" {MAX_VOLATILITY:g}, where 0.2 is 20 % a year: correct the cells or leave the days out",
        )
    returns = _returns(raw, days, source)
    keep = slice(int(np.isnan(returns[0])), None)
    surfaces = Surfaces(
        days[keep], iv[keep].astype(np.float32), returns[keep], maturities, strikes, axis, source
    )
    for array in (surfaces.dates, surfaces.iv, surfaces.returns, maturities, strikes):
        array.setflags(write=False)
    return surfaces


def _returns(raw: Mapping[str, npt.NDArray[Any]], days: Dates, source: str) -> Floats:
    """Give log returns, (N,); only the first may be NaN."""
    name = "return" if "return" in raw else "price"
    values = _numbers(raw[name], name, source)
    if values.shape != days.shape:
        raise _mistake(
            source, f"got {name} {values.shape} for {len(days)} days, expected one a day: correct it"
        )
    bad = ~np.isfinite(values)
    bad[0] &= not (name == "return" and np.isnan(values[0]))
    if name == "price":
        bad |= ~(values > 0)
    if name == "return":
        bad |= np.abs(values) > 1.0
    if bad.any():
        at = int(bad.argmax())
        expected = "a price above 0" if name == "price" else "a log return such as 0.01, not percent"
        raise _mistake(
            source,
            f"{days[at]}: got {name} {values[at]:g} ({int(bad.sum())} such days), expected {expected}:"
            " correct it, or leave the days out",
        )
    if name == "return":
        return values
    return np.concatenate([[np.nan], np.diff(np.log(values))])
