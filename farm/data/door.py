"""The door: tables of prices from outside are read and checked here, and come in as panels.

Two layouts are read, from parquet or CSV (plain or gzip): long, with the columns of
`farm.data.panel.COLUMNS`, and yfinance's wide one, whose columns are (field, ticker) pairs.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import textwrap
import zlib
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from farm.base.errors import UserError, nearest, shown
from farm.base.memory import give_back
from farm.data.panel import COLUMNS, FIELDS, FIRST_DAY, Bars, Panel, possible

OHLCV = "equities_ohlcv"
CLOSES = ("amzn_msft_sp500_close", "sp500_20_adjclose")
MAX_BYTES = 2 * 1024**3

# At least one letter or digit: ".." must never become a folder.
TICKER = r"(?=.*[A-Za-z0-9])[A-Za-z0-9^.=_-]{1,32}\Z"
# A day, with or without a time and an offset. The day is taken as written: an exchange's own.
ISO_DAY = r"^(\d{4}-\d{2}-\d{2})(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s*(?:Z|[+-]\d{2}:?\d{2})?)?$"
# Quotes stray outside a day's range (SPY's open by 0.6 % in public data); adjusted prices mixed
# with raw ones stray further.
STRAY = 0.05
POSSIBLE = f"a day from {FIRST_DAY} to tomorrow"
BLANK = ("", "nan", "na", "n/a", "null", "none", "<na>")


def load_panel(data: Path | pd.DataFrame | None = None, table: str = OHLCV) -> Panel:
    """Load a panel of daily bars.

    Parameters
    ----------
    data
        Parquet or CSV, long or in yfinance's wide layout, or a table in one of them; None for a bundled one.
    table
        Which one: `OHLCV`, or one of `CLOSES`, whose bars have the close for all four prices and no
        volume.

    Returns
    -------
    Panel
        Tickers in alphabetical order. Those of a file are read-only and lie in a mapped copy of it, so that
        a large panel takes its size once and not the several times over that reading takes.

    Raises
    ------
    UserError
        If the file or anything in it is not as expected; the message names the first bad row.
    """
    if data is not None:
        if isinstance(data, pd.DataFrame):
            frame, name = data, "DataFrame"
        else:
            # The bundled tables are known by their name.
            frame, name = _read(data), data.name if data.name != "bundled" else "file bundled"
        panel = panel_from(frame, name).mapped()
        give_back()
        return panel
    if table == OHLCV:
        return panel_from(_bundled(OHLCV), "bundled")
    closes = load_closes(table)
    days = closes.index.to_numpy().astype("datetime64[D]")
    flat = {str(name): np.stack([closes[name].to_numpy()] * 4 + [np.zeros(len(days))], 1) for name in closes}
    return Panel({name: Bars(days, values) for name, values in flat.items()}, "bundled")


def load_closes(name: str) -> pd.DataFrame:
    """Load a bundled table of closing prices.

    Parameters
    ----------
    name
        One of `CLOSES`.

    Returns
    -------
    pandas.DataFrame
        Closes, (T, N) float64, no NaN, indexed by day; one column for each ticker.

    Raises
    ------
    UserError
        If there is no such table.
    """
    if name not in CLOSES:
        raise UserError(f"unknown table of closes {name!r}: {nearest(name, CLOSES)}")
    return _bundled(name)


def panel_from(frame: pd.DataFrame, source: str) -> Panel:
    """Check a table in either layout and make a panel of it.

    Parameters
    ----------
    frame
        Long or wide, in any order; cells may be text. In the wide layout rows in which a ticker has
        no cell at all, before its first day and after its last, are left out: it is not listed then.
    source
        Where the table comes from, for messages and for `Panel.source`.

    Returns
    -------
    Panel
        Tickers in alphabetical order; arrays are read-only.

    Raises
    ------
    UserError
        If a column is missing or a row is not as expected.
    """
    raw, wide = _long(frame, source)
    if raw.empty:
        raise _mistake(source, "got a table without rows, expected daily bars: give a file with data")
    text = raw[list(FIELDS)].apply(_tidy)
    table = text.apply(_numbers).assign(
        date=_days(raw["date"]), ticker=_tidy(raw["ticker"]).astype("str").fillna("")
    )
    if wide:
        table = _listed(table, text.isna().all(axis=1))
        for ticker in raw["ticker"].unique():
            if not (table["ticker"] == ticker).any():
                raise _mistake(source, f"{shown(ticker)} has no prices, expected some: leave the ticker out")
    _check(table, raw, source)
    bars = {}
    for ticker, rows in table.sort_values(["ticker", "date"]).groupby("ticker"):
        dates = rows["date"].to_numpy().astype("datetime64[D]")
        values = rows[list(FIELDS)].to_numpy(np.float64) + 0.0  # a volume of -0.0 has the digest of 0.0
        dates.setflags(write=False)
        values.setflags(write=False)
        bars[str(ticker)] = Bars(dates, values)
    return Panel(bars, source)


def _mistake(source: str, text: str) -> UserError:
    """Make the complaint about a source, as one line whatever was in the file."""
    return UserError(textwrap.shorten(f"{source}: {text}", 600, placeholder=" ..."))


def _too_much(source: str) -> UserError:
    return _mistake(source, "got more than 2 GiB, expected less: keep fewer tickers or days, or daily bars")


def _bundled(name: str) -> pd.DataFrame:
    """Read a table that ships with the package."""
    with resources.as_file(resources.files("farm.data") / "bundled" / f"{name}.parquet") as path:
        return pd.read_parquet(path)


def _read(path: Path) -> pd.DataFrame:
    """Read a file by its content; its suffix says nothing. Cells of a CSV stay text."""
    give = "give a parquet or CSV file"
    try:
        if not path.exists():
            raise UserError(f"no file {str(path)!r}, expected a panel of prices: {give}")
        if not path.is_file():
            raise _mistake(
                str(path),
                f"got {'a directory' if path.is_dir() else 'no regular file'}, expected a file: {give}",
            )
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1" and size <= MAX_BYTES:
            return _read_parquet(path)
        content = b""
        if size <= MAX_BYTES:
            with gzip.open(path) if magic[:2] == b"\x1f\x8b" else path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise _mistake(
            path.name, f"cannot be read ({reason}), expected a whole, readable file: {give}"
        ) from error
    if max(size, len(content)) > MAX_BYTES:
        raise _too_much(path.name)
    if not content.strip():
        raise _mistake(path.name, f"got an empty file, expected daily bars: {give}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise _mistake(path.name, f"is neither parquet nor CSV in UTF-8: {give}")
    return _read_csv(text, path.name)


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read parquet; a damaged file is the user's to mend, one that holds too much is not unpacked."""
    import pyarrow.parquet as pq  # slow to import

    try:
        with path.open("rb") as file:  # Arrow's complaint then has no path in it
            told = pq.ParquetFile(file).metadata
            if told.num_rows * told.num_columns * 8 > MAX_BYTES:
                raise _too_much(path.name)
            return pd.read_parquet(file)
    except UserError:
        raise
    except Exception as error:  # damage shows anywhere: one flipped byte gave a SyntaxError
        raise _mistake(
            path.name, f"is damaged parquet ({error}), expected a whole file: write it anew"
        ) from error


def _read_csv(text: str, source: str) -> pd.DataFrame:
    """Read a CSV of either layout; all cells are text.

    The wide layout is known by its first two rows, which begin with ``Price`` and ``Ticker``, in
    either order (old files leave the words out). Its third row, ``Date``, has no other cell and
    goes the way of every row without a price.
    """
    buffer = io.StringIO(text, newline="")
    try:
        rows = csv.reader(buffer)
        header = next((row for row in rows if row), [])
        body = buffer.tell()
        second = next(rows, [])
        lead = {row[0].strip().lower() if row else "-" for row in (header, second)}
        columns: pd.Index = pd.Index(header, dtype=object)
        if lead <= {"price", "ticker", ""} and "date" not in (name.strip().lower() for name in header):
            if len(header) != len(second):
                raise csv.Error(f"its two header rows have {len(header)} and {len(second)} cells")
            body = buffer.tell()
            columns = pd.MultiIndex.from_tuples([("date", ""), *zip(header[1:], second[1:], strict=True)])
        buffer.seek(body)
        cells = pd.read_csv(buffer, header=None, dtype=str, na_filter=False)
        if cells.shape[1] != len(columns):
            raise csv.Error(f"a row has {cells.shape[1]} cells, the header {len(columns)}")
        return cells.set_axis(columns, axis=1)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=columns)
    except (csv.Error, ValueError, OverflowError) as error:
        raise _mistake(
            source, f"is not a CSV table ({error}), expected the columns {', '.join(COLUMNS)}: mend it"
        ) from error


def _long(frame: pd.DataFrame, source: str) -> tuple[pd.DataFrame, bool]:
    """Bring either layout to the columns of `COLUMNS` and ``row``, its row in the source from 1.

    Also says whether the layout was wide. Cells are left as they are.
    """
    parts = {i: frame.iloc[:, i].reset_index(drop=True) for i in range(frame.shape[1])}
    names = [_pair(column, source) for column in frame.columns]
    known = {first.lower() for first, second in names if not second}
    for level, label in enumerate(frame.index.names):
        values = frame.index.get_level_values(level)
        is_day = label is None and pd.api.types.is_datetime64_any_dtype(values)
        own_name = "date" if is_day else str(label).strip()
        if own_name.lower() in {"date", "ticker"} - known:
            parts[len(names)] = pd.Series(values)
            names.append((own_name, ""))
    wide = any(second for _, second in names)
    # The level that holds more of the five fields names the fields; the other one the tickers.
    at = max((0, 1), key=lambda k: len({name[k].lower() for name in names} & set(FIELDS)))
    columns: dict[str, list[tuple[str, int]]] = {}
    for i, name in enumerate(names):
        if not wide or name[at].lower() in FIELDS:
            columns.setdefault(name[1 - at] if wide else "", []).append((name[at if wide else 0], i))
    shared = [
        (name[0], i) for i, name in enumerate(names) if wide and name[0].lower() == "date" and not name[1]
    ]
    row = pd.Series(range(1, len(frame) + 1))
    if not wide:
        return pd.DataFrame(
            {n: parts[i] for n, i in _found(columns.get("", []), COLUMNS, source).items()} | {"row": row}
        ), False
    tables = []
    for ticker, own in (columns or {"": []}).items():
        found = _found([*own, *shared], ("date", *FIELDS), f"{source}: {ticker}" if ticker else source)
        tables.append(pd.DataFrame({n: parts[i] for n, i in found.items()} | {"ticker": ticker, "row": row}))
    return pd.concat(tables, ignore_index=True), True


def _pair(column: Any, source: str) -> tuple[str, str]:
    """Give the two levels of a column's name; the second is empty in the long layout.

    Arrow stores a pair of levels as the text ``"('Close', 'AAPL')"``.
    """
    if not isinstance(column, tuple):
        written = re.fullmatch(r"\('([^']*)', '([^']*)'\)", str(column))
        column = written.groups() if written else (column, "")
    if len(column) != 2:
        raise _mistake(source, f"got {len(column)} header levels, expected one, or two (field and ticker)")
    first, second = (str(part).strip() for part in column)
    return first, second


def _found(columns: Sequence[tuple[str, int]], wanted: Sequence[str], source: str) -> dict[str, int]:
    """Find the wanted columns, whatever their case."""
    names = [name for name, _ in columns]
    count = Counter(name.lower() for name in names)
    expected = f"expected the columns {', '.join(wanted)}"
    if not count.keys() & set(wanted):
        got = ", ".join(shown(name) for name in names[:8]) or "none of them"
        raise _mistake(
            source, f"is no panel of prices: got {got}; {expected}: rename them, or give another file"
        )
    for name in wanted:
        if count[name] > 1:
            raise _mistake(source, f"column {name!r} stands {count[name]} times, {expected}: leave one")
        if not count[name]:
            close = nearest(name, [other[:32] for other in names])
            raise _mistake(source, f"column {name!r} is missing, {expected}: add or rename it; {close}")
    where = {name.lower(): i for name, i in columns}
    return {name: where[name] for name in wanted}


def _tidy(cells: pd.Series) -> pd.Series:
    """Strip text and make every way to write nothing a missing value; numbers pass as they are."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells
    text = cells.astype("str").str.strip()
    # A ticker may be NA: for it only the empty name is nothing.
    nothing = ("",) if cells.name == "ticker" else BLANK
    return text.mask(text.str.lower().isin(nothing))


def _numbers(cells: pd.Series) -> pd.Series:
    """Read numbers to the last bit; what is none becomes NaN."""
    numbers: pd.Series = pd.to_numeric(cells, errors="coerce").astype("float64")
    return numbers


def _days(cells: pd.Series) -> pd.Series:
    """Read days; a time of day and its zone fall away, what is no day becomes NaT."""
    if pd.api.types.is_datetime64_any_dtype(cells):
        naive: pd.Series = cells.dt.tz_localize(None).dt.normalize().astype("datetime64[s]")
        return naive
    # Numbers are no days: 20200102 would be read as nanoseconds of 1970.
    text = cells.astype("str").str.strip().str.extract(ISO_DAY, expand=False)
    days: pd.Series = pd.to_datetime(text, format="%Y-%m-%d", errors="coerce").astype("datetime64[s]")
    return days


def _listed(table: pd.DataFrame, blank: pd.Series) -> pd.DataFrame:
    """Leave out each ticker's blank rows before its first quoted day and after its last."""
    table = table.sort_values(["ticker", "date"], kind="stable")  # a row without a day comes last
    quoted = ~blank.loc[table.index]
    begun = quoted.groupby(table["ticker"]).cummax()
    goes_on = quoted[::-1].groupby(table["ticker"]).cummax()[::-1]
    return table[begun & goes_on]


def _check(table: pd.DataFrame, raw: pd.DataFrame, source: str) -> None:
    """Hold every row to what bars are; complain of the first that is not."""
    import pandera.pandas as pa  # slow to import, and --help needs none of it

    finite = pa.Check(np.isfinite, error="a finite number")
    price = pa.Column(float, [finite, pa.Check.gt(0, error="a number above 0")])
    schema = pa.DataFrameSchema(
        {
            "ticker": pa.Column(
                str, pa.Check.str_matches(TICKER, error="1 to 32 letters, digits or ^ . = _ -")
            ),
            "date": pa.Column(
                "datetime64[s]",
                pa.Check(lambda days: pd.Series(possible(days.to_numpy()), days.index), error=POSSIBLE),
            ),
            **dict.fromkeys(FIELDS[:4], price),
            "volume": pa.Column(float, [finite, pa.Check.ge(0, error="0 or more")]),
        },
        checks=[
            pa.Check(lambda rows: rows["high"] >= rows["low"], error="high not below low"),
            pa.Check(_within, error=f"open and close from low to high, or within {STRAY:.0%} of it"),
        ],
        unique=["ticker", "date"],
    )
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise _first_failure(error.failure_cases, table, raw, source) from None


def _within(rows: pd.DataFrame) -> pd.Series:
    """Say which rows have open and close between low and high, give or take `STRAY`."""
    ends = rows[["open", "close"]]
    inside: pd.Series = (ends.max(axis=1) <= rows["high"] * (1 + STRAY)) & (
        ends.min(axis=1) >= rows["low"] * (1 - STRAY)
    )
    return inside


def _first_failure(cases: pd.DataFrame, table: pd.DataFrame, raw: pd.DataFrame, source: str) -> UserError:
    """Word the first failure: names before days, days before numbers, cells before whole rows."""
    once, missing = "multiple_fields_uniqueness", "not_nullable"
    cell = cases["schema_context"] == "Column"
    rank = (cases["check"] != once).map({False: 2, True: 4}).mask(cell, 3)
    rank = rank.mask(cell & (cases["column"] == "ticker"), 0).mask(cell & (cases["column"] == "date"), 1)
    cases = cases.assign(rank=rank).sort_values(["rank", "index"], kind="stable")
    first = cases.iloc[0]
    column, check, row = first["column"], first["check"], first["index"]
    alike = cases[(cases["check"] == check) & (cases["column"] == column)]["index"].nunique()
    bad, as_given = table.loc[row], raw.loc[row]
    ticker = shown(bad["ticker"])[1:-1]
    where = f"{ticker} row {as_given['row']}" if first["rank"] < 2 else f"{ticker} {bad['date']:%Y-%m-%d}"
    if first["rank"] == 2:
        got, expected = "stands more than once", "one row for each ticker and day"
        do = "remove the copies, or make intraday bars daily"
    elif first["rank"] == 4:
        got = ", ".join(f"{name} {bad[name]:g}" for name in FIELDS[:4])
        expected, do = check, "correct the rows, or leave them out; adjust all four prices or none"
    else:
        given = as_given[column]
        got = f"{column} is {shown(given.item() if isinstance(given, np.generic) else given)}"
        do = "correct the rows, or leave them out"
        wording = {"date": "a day written YYYY-MM-DD", "volume": "a number, 0 or more"}
        expected = wording.get(column, "a number above 0") if check == missing else check
    such = "1 such row" if alike == 1 else f"{alike} such rows"
    return _mistake(source, f"{where}: {got} ({such}), expected {expected}: {do}")
