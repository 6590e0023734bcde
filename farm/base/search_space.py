"""What a sweep file is written with: ranges, variants and the sweep itself.

This module imports neither torch, ray nor mlflow, so that listing the sweeps is immediate.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, GroupedMetadata, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from farm.base.errors import UserError


@dataclass(frozen=True)
class Float(GroupedMetadata):
    """A range of real numbers, both ends included.

    On a config field (``Annotated[float, Float(0, 1)]``) it is the field's valid range; in a
    sweep it narrows that range to what is searched.

    Parameters
    ----------
    low, high
        The ends of the range.
    log
        Whether to draw on a logarithmic scale.

    Raises
    ------
    UserError
        If the range is upside down, or logarithmic and not positive.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse a range nothing can be drawn from."""
        if not self.low < self.high:
            raise UserError(f"range {self.low}..{self.high}: expected the low end below the high; swap them")
        if self.log and self.low <= 0:
            raise UserError(f"range {self.low}..{self.high}: a logarithmic range needs a positive low end")

    def __str__(self) -> str:
        """Write it shortly, such as ``1e-06..1, log``."""
        return f"{self.low:g}..{self.high:g}{', log' if self.log else ''}"

    def __iter__(self) -> Iterator[object]:
        """Give pydantic the two bounds to hold values to."""
        yield Ge(self.low)
        yield Le(self.high)


@dataclass(frozen=True)
class Int(Float):
    """A range of whole numbers, both ends included; see `Float`."""

    low: int
    high: int


@dataclass(frozen=True)
class Choice:
    """A set of named options.

    Parameters
    ----------
    options
        The values to choose from, each once.
    """

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuse an empty or repeated set of options."""
        if len(self.options) == 0 or len(set(map(repr, self.options))) != len(self.options):
            raise UserError(f"choice {self.options!r}: expected at least one option, each once")

    def __str__(self) -> str:
        """Write it shortly, such as ``2, 5 or 10``."""
        *some, last = map(str, self.options)
        return f"{', '.join(some)} or {last}" if some else last


FIRST_DAY = datetime.date(1800, 1, 1)


def last_day() -> datetime.date:
    """Return tomorrow, which has begun somewhere: the last day that a record of the past can hold."""
    return datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)


def iso_day(value: Any) -> str:
    """Return a day as YYYY-MM-DD.

    Parameters
    ----------
    value
        That text, or a date.

    Raises
    ------
    ValueError
        If it is none, or no day that a record can hold.
    """
    if isinstance(value, datetime.datetime):
        value = value.date()
    text = str(value) if isinstance(value, datetime.date | str) else ""
    expected = f"a day written YYYY-MM-DD from {FIRST_DAY} to tomorrow"
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(expected)
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise ValueError(expected) from None
    if not FIRST_DAY <= day <= last_day():
        raise ValueError(expected)
    return text


Day = Annotated[str, BeforeValidator(iso_day)]
Seeds = Annotated[int, Field(ge=1, le=10_000)]
Samples = Annotated[int, Field(ge=1, le=100_000)]
Range = Float | Int | Choice
Replicate = Literal["ticker", "panel", "surfaces"]


class _Declaration(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Variant(_Declaration):
    """A named set of config values: one row of the table a sweep ends with.

    Parameters
    ----------
    name
        The row's name: letters, digits, ``-``, ``_``, ``.`` and space.
    values
        Config values by dotted key, such as ``{"model.name": "lstm", "study.features": "raw"}``.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.+\- ]*$", max_length=80)
    values: dict[str, Any]


@dataclass(frozen=True)
class When:
    """A range of a key that exists only where another searched key has one of some values.

    Parameters
    ----------
    key
        The other key, which is searched over named options and declared before.
    values
        The options of it under which this range exists.
    range
        What is then searched.
    """

    key: str
    values: tuple[Any, ...]
    range: Range


class Search(_Declaration):
    """What a search tries, and what it looks for; see `farm.space`.

    Parameters
    ----------
    variant
        The row of the sweep whose config is searched from: it holds what is not searched.
    ranges
        What is searched, by dotted key; each within the range that its config field declares. An
        item of a tuple is named by its place, such as ``model.quantile_weights.0``.
    objectives
        Metrics of the validation block, such as ``"val/pinball"``. Less or more is better as the
        metric declares, and where it declares an optimum instead, the distance from that is what is
        made small; ``"val/pinball:min"`` says it outright.
    stopped_on
        The objective that a config's validation loss ranks configs by, from epoch to epoch. A search
        for it alone stops what falls behind; empty where no loss compares between configs.
    samplers
        Who proposes configs, each within the same budget and knowing nothing of the others.
    samples
        Configs that each sampler may try, in all.
    top
        How many of the best are run again on every seed of the sweep.
    """

    variant: str
    ranges: dict[str, Range | When] = Field(min_length=1)
    objectives: tuple[str, ...] = Field(min_length=1)
    stopped_on: str = ""
    samplers: tuple[str, ...] = ("tpe", "random")
    samples: Samples = 64
    top: int = Field(default=5, ge=1)


class Resources(_Declaration):
    """What one trial may use; outside the signature.

    Parameters
    ----------
    cpu
        Cores. A trial computes on one thread, so more than one only thins out a node.
    gpu
        Fraction of a GPU, used only where the cluster has one or can launch one.
    memory
        Main memory in GiB that a node must have free for it; 0 to leave it uncounted.
    """

    cpu: float = Field(default=1.0, gt=0)
    gpu: float = Field(default=0.25, ge=0)
    memory: float = Field(default=0.0, ge=0)


class Sweep(_Declaration):
    """A typed declaration of trials: every variant and baseline on every replicate.

    Parameters
    ----------
    title
        One line for the list of sweeps.
    question
        What the sweep is to answer, in a sentence.
    common
        Config values by dotted key that every trial shares; ``study.name`` is required.
    variants, baselines
        The rows of the table. A baseline is a variant that the others are compared with.
    references
        The baselines, by name, that each variant's skill is measured against; the first one is
        the one to beat.
    replicate
        What the sweep is repeated on, beside seeds. ``ticker``: each of `tickers`, the asset whose
        return is forecast or filled in. ``panel``: nothing; a study reads all of `tickers` together.
        ``surfaces``: nothing; a study reads one record of implied-volatility surfaces.
    tickers
        The assets. Where a user's own panel lacks one of them, all that it has are run in their place, and
        a line says so.
    start, end
        First and last day that is read, ISO dates, both included; of a user's own data too.
    market, peers
        What a study reads beside each ticker: a market index or the ticker's peers; one of the two.
        Beside a panel: the market index.
    panel
        The bundled table that is read, unless the user has data of their own.
    panel_days
        First and last day of that table that is read. A user's own data is read whole (see `start` and
        `end`), and a line says so.
    seeds
        Number of seeds of each variant: 0, 1, ...
    quick
        Values that replace those above under ``--quick``: ``tickers``, ``seeds``, and config
        values by dotted key in ``common``.
    ranges
        What ``--samples`` draws from, by dotted key.
    search
        What a search tries beside the rows above; ``quick`` may replace its ``samples`` and ``top``.
    resources
        What one trial may use.

    Raises
    ------
    UserError
        If a name is used twice, a reference is not a baseline, `quick` holds what is none of its keys, or
        something is declared that the sweep does not read.
    """

    title: str
    question: str
    common: dict[str, Any]
    variants: tuple[Variant, ...] = Field(min_length=1)
    baselines: tuple[Variant, ...] = Field(min_length=1)
    references: tuple[str, ...] = Field(min_length=1)
    replicate: Replicate = "ticker"
    tickers: tuple[str, ...] = ()
    market: str | None = None
    peers: tuple[str, ...] = ()
    panel: str = "equities_ohlcv"
    panel_days: tuple[Day | None, Day | None] = (None, None)
    start: Day | None = None
    end: Day | None = None
    seeds: Seeds = 3
    quick: dict[str, Any] = Field(default_factory=dict)
    ranges: dict[str, Range] = Field(default_factory=dict)
    search: Search | None = None
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _search_has_its_row(self) -> Self:
        if self.search is not None and self.search.variant not in {row.name for row in self.variants}:
            raise UserError(
                f"sweep {self.title!r}: the search sets out from {self.search.variant!r}, which is not"
                " among its variants; add it"
            )
        return self

    @model_validator(mode="after")
    def _days_are_sound(self) -> Self:
        for first, last in ((self.start, self.end), self.panel_days):
            if first is not None and last is not None and first > last:
                raise UserError(f"sweep {self.title!r}: the first day {first} is after the last one {last}")
        return self

    @model_validator(mode="after")
    def _nothing_is_left_unread(self) -> Self:
        unread = {
            "ranges beside a search, which has ranges of its own": self.ranges and self.search is not None,
            "a panel, though it reads surfaces": self.replicate == "surfaces"
            and bool(self.model_fields_set & {"panel", "panel_days"}),
            "tickers under quick, though it reads surfaces": self.replicate == "surfaces"
            and "tickers" in self.quick,
            "samples or top under quick, without a search": self.search is None
            and bool(self.quick.keys() & {"samples", "top"}),
        }
        for what, there in unread.items():
            if there:
                raise UserError(f"sweep {self.title!r}: got {what}, expected none: leave it out")
        return self

    @model_validator(mode="after")
    def _quick_is_sound(self) -> Self:
        for key, value in self.quick.items():
            if key == "tickers":
                sound = isinstance(value, tuple) and value != () and all(isinstance(t, str) for t in value)
                expected = "a tuple of names such as ('AAPL', 'MSFT')"
            elif "." not in key:
                sound = key in ("seeds", "samples", "top") and type(value) is int and value >= 1
                expected = "tickers, seeds, samples or top, the last three 1 or more, or a dotted key"
            else:
                continue
            if not sound:
                raise UserError(
                    f"sweep {self.title!r}: quick: got {key!r} with {value!r}, expected {expected}: mend it"
                )
        return self

    @model_validator(mode="after")
    def _names_are_sound(self) -> Self:
        names = [row.name for row in (*self.variants, *self.baselines)]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise UserError(f"sweep {self.title!r}: the name {doubled[0]!r} is used twice; rename one")
        companions = (self.market is not None) + (self.peers != ())
        if companions != (self.replicate != "surfaces") or (self.peers and self.replicate == "panel"):
            expected = {
                "ticker": "a market or peers, one of the two; give one",
                "panel": "a market, and no peers beside it; give one",
                "surfaces": "neither market nor peers, which stand beside tickers alone; leave them out",
            }
            raise UserError(f"sweep {self.title!r}: expected {expected[self.replicate]}")
        if (self.tickers != ()) != (self.replicate != "surfaces"):
            raise UserError(f"sweep {self.title!r}: expected tickers, or surfaces, one of the two")
        missing = set(self.references) - {row.name for row in self.baselines}
        if missing:
            raise UserError(
                f"sweep {self.title!r}: the reference {min(missing)!r} is not among its baselines; add it"
            )
        return self
