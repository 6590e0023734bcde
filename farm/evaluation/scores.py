"""Scores of a trial, computed from what it stored: the one place where metrics are applied.

A trial stores the forecasts of its blocks and declared arrays (`Evaluation`). `score` applies every metric
and measure to them; only a measure that reads the model asks for it. Each keeps its version beside its
numbers, so that a trial of the store gets what is new or changed without a fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from farm.base.model import Model
from farm.base.types import Dataset, Dates, Floats, Forecast, Ints, Windows
from farm.evaluation.metric import MEASURES, METRICS, Measure, Metric, metric_name, undefined_because

Mask = npt.NDArray[np.bool_]
T = TypeVar("T")
UNSCORED = "calibration"  # the block that intervals are calibrated on: its scores would flatter them


@dataclass(frozen=True)
class Block:
    """Forecasts of one block of samples beside the truth.

    Parameters
    ----------
    times, actual
        Dates and truths, (B,).
    forecasts
        Forecasts by the name of the part; the plain one is named ``""``.
    items
        What each sample is about, B names, where a day has several: a cell of a surface, an asset. Empty
        where each day has one sample. Verdicts treat an item as they treat a ticker.
    starts, leads
        Of forecasts of several days: the last day known to each, and how many days after it the target
        is, from 1, (B,). None where every forecast is of the next day.
    subsets
        Samples that are scored apart too, (B,) bool, by name, such as ``volatile``.
    subsets_of
        Names of the subsets of a part, where those are not all.
    calibrated
        Parts whose point forecasts are those of another: only their quantiles are scored.
    sampled
        What sampled draws say of each sample, by the name of a metric and by part, (B,): where it is there
        for a metric, that is its mean, and a part without it has none, since a few quantiles say too little.
    """

    times: Dates
    actual: Floats
    forecasts: Mapping[str, Forecast]
    items: tuple[str, ...] = ()
    starts: Dates | None = None
    leads: Ints | None = None
    subsets: Mapping[str, Mask] = field(default_factory=dict)
    subsets_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calibrated: frozenset[str] = frozenset()
    sampled: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that all is of as many samples, and lay forecasts out as they are stored."""
        # Sums depend, in their last bit, on how an array lies in memory.
        forecasts = {part: _contiguous(forecast) for part, forecast in self.forecasts.items()}
        object.__setattr__(self, "forecasts", forecasts)
        if self.items and len(self.items) != len(self.actual):
            raise ValueError(f"{len(self.items)} items, expected one for each of {len(self.actual)} samples")
        for name, mask in self.subsets.items():
            if mask.dtype != np.bool_ or mask.shape != self.actual.shape:
                raise ValueError(
                    f"subset {name} is {mask.dtype} {mask.shape}, expected bool {self.actual.shape}"
                )

    def views(self) -> Iterator[tuple[str, View]]:
        """Yield each part on all samples, and on each of its subsets that has some, with its name."""
        for part, forecast in self.forecasts.items():
            calibrated = part in self.calibrated
            sampled = {name: parts.get(part) for name, parts in self.sampled.items()}
            yield part, View(forecast, self.actual, calibrated, sampled)
            for subset in self.subsets_of.get(part, tuple(self.subsets)):
                keep = self.subsets[subset]
                if keep.any():
                    some = {name: None if all_ is None else all_[keep] for name, all_ in sampled.items()}
                    view = View(forecast.take(keep), self.actual[keep], calibrated, some)
                    yield f"{part}/{subset}".lstrip("/"), view


class View(NamedTuple):
    """One forecast of some samples; see `Block` for the rest."""

    forecast: Forecast
    actual: Floats
    calibrated: bool = False
    sampled: Mapping[str, Floats | None] = MappingProxyType({})


def _contiguous(forecast: Forecast) -> Forecast:
    """Return a forecast whose arrays are rows of memory, copied only where they are not."""
    quantiles = None if forecast.quantiles is None else np.ascontiguousarray(forecast.quantiles)
    return replace(forecast, point=np.ascontiguousarray(forecast.point), quantiles=quantiles)


@dataclass(frozen=True)
class Evaluation:
    """What a trial forecast, and what pictures need beside it.

    Parameters
    ----------
    blocks
        By name: ``test``, ``val``, ``calibration``, or a further set of samples of one, such as
        ``test/next-day``.
    oracles
        Parts of the test block that have seen the truth; they are shown, never ranked.
    arrays
        What pictures and measures need beside the forecasts, by name, such as latents.
    notes
        What a reader should be warned of, by name, that no measure finds.

    Raises
    ------
    ValueError
        If there is no forecast to rank, or it is that of an oracle.
    """

    blocks: Mapping[str, Block]
    oracles: tuple[str, ...] = ()
    arrays: Mapping[str, Floats] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that there is a forecast to rank."""
        forecasts = self.blocks["test"].forecasts if "test" in self.blocks else {}
        if "" not in forecasts or "" in self.oracles or not set(self.oracles) <= set(forecasts):
            raise ValueError(
                f"forecasts {sorted(forecasts)} with oracles {self.oracles}: expected one named '',"
                " which is no oracle"
            )

    @property
    def test(self) -> Block:
        """Return the test block."""
        return self.blocks["test"]


class Fitted:
    """A fitted model with its study and data.

    Parameters
    ----------
    study
        The question; a `farm.studies.study.StudyConfig`.
    model
        Fitted.
    data
        Whose test block has not been opened.
    """

    def __init__(self, study: Any, model: Model, data: Dataset) -> None:
        self.study = study
        self.model = model
        self.data = data
        self._found: dict[str, Any] = {}

    @property
    def test(self) -> Windows:
        """Open the test block."""
        return self.once("test", self.data.open_test)

    def windows(self, block: str) -> Windows:
        """Return the windows of a block: train, val or test."""
        return self.test if block == "test" else {"train": self.data.train, "val": self.data.val}[block]

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Compute something that several measures read, once."""
        if name not in self._found:
            self._found[name] = make()
        found: T = self._found[name]
        return found


@dataclass(frozen=True)
class Measured:
    """What a measure finds: numbers by full name, and warnings for a reader by name."""

    values: Mapping[str, float]
    warnings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """The numbers of one metric or measure of one trial.

    Parameters
    ----------
    version
        Of the metric.
    values
        By full name, finite.
    undefined
        Why a number is not there, by its full name.
    warnings
        What a reader should be warned of, by name.
    """

    version: int
    values: Mapping[str, float]
    undefined: Mapping[str, str] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)


def names_of(study: str) -> list[str]:
    """Return the names of the metrics and measures of a study's trials."""
    return [*METRICS, *(name for name in MEASURES if MEASURES[name].study in ("", study))]


def lacking(known: Mapping[str, Scores], study: str) -> list[str]:
    """Return the names of metrics that a trial of a study has not, or has of another version."""
    return [
        name for name in names_of(study) if name not in known or known[name].version != _entry(name).version
    ]


def _entry(name: str) -> Metric | Measure:
    return METRICS[name] if name in METRICS else MEASURES[name]


def score(
    evaluation: Evaluation, fitted: Callable[[], Fitted], study: str, names: Sequence[str] | None = None
) -> dict[str, Scores]:
    """Compute the scores of a trial.

    Parameters
    ----------
    evaluation
        What it forecast.
    fitted
        Called where a measure reads the model.
    study
        Name of its study.
    names
        Of the metrics and measures; by default all of the study.

    Returns
    -------
    dict
        Scores by the name of the metric or measure. Full names of numbers are ``test/rmse``, or
        ``test/{part}/{subset}/rmse``, and, if a forecast has quantiles, ``interval/violations`` and so
        on; on another block ``{block}/rmse`` and ``{block}/violations``.
    """
    views = list(_views(evaluation))
    found: dict[str, Scores] = {}
    for name in names_of(study) if names is None else names:
        entry = _entry(name)
        measured = _apply(entry, views) if isinstance(entry, Metric) else _measure(entry, evaluation, fitted)
        undefined = {
            full: undefined_because(full) for full, v in measured.values.items() if not math.isfinite(v)
        }
        values = {full: float(v) for full, v in measured.values.items() if full not in undefined}
        warnings = {what: reason for what, reason in measured.warnings.items() if reason}
        found[name] = Scores(entry.version, values, undefined, warnings)
    return found


def _views(evaluation: Evaluation) -> Iterator[tuple[str, str, View]]:
    """Yield the block, what stands before the name of a metric, and what is scored."""
    for key, block in evaluation.blocks.items():
        name, _, beside = key.partition("/")
        if name != UNSCORED:
            for middle, view in block.views():
                yield name, "/".join(filter(None, (beside, middle))), view


def _apply(entry: Metric, views: Iterable[tuple[str, str, View]]) -> Measured:
    values = {}
    for block, middle, view in views:
        if view.forecast.quantiles is None if entry.reads == "quantiles" else view.calibrated:
            continue
        if entry.name not in view.sampled:
            value = entry.function(view.forecast, view.actual)
        elif (drawn := view.sampled[entry.name]) is not None:
            value = float(np.mean(drawn, dtype=np.float64))
        else:
            continue
        section = entry.section if block == "test" else block
        values[metric_name(section, middle, entry.kind(view.forecast))] = value
    return Measured(values)


def _measure(entry: Measure, evaluation: Evaluation, fitted: Callable[[], Fitted]) -> Measured:
    if entry.reads == "evaluation":
        found = entry.function(evaluation)
    else:
        trial = fitted()
        if entry.requires is not None and not isinstance(trial.model, entry.requires):
            return Measured({})
        if entry.reads == "block":
            found = {
                f"{entry.section if block == 'test' else block}/{name}": value
                for block in entry.blocks
                for name, value in entry.function(trial, trial.windows(block)).items()
            }
        else:
            found = entry.function(trial, evaluation)
    return found if isinstance(found, Measured) else Measured(found)


def numbers(scores: Mapping[str, Scores]) -> dict[str, float]:
    """Return all numbers by full name."""
    return {name: value for one in scores.values() for name, value in one.values.items()}


def undefined(scores: Mapping[str, Scores]) -> dict[str, str]:
    """Return why numbers are not there, by full name."""
    return {name: reason for one in scores.values() for name, reason in one.undefined.items()}


def warnings_of(scores: Mapping[str, Scores]) -> dict[str, str]:
    """Return what a reader should be warned of, by name."""
    return {name: reason for one in scores.values() for name, reason in one.warnings.items()}


def of_forecast(forecast: Forecast, truth: Floats, block: str = "test", part: str = "") -> dict[str, float]:
    """Compute every metric of one forecast.

    Parameters
    ----------
    forecast
        B forecasts.
    truth
        (B,), finite, in the unit of the forecast.
    block, part
        For the names; see `score`.

    Returns
    -------
    dict
        By full name; NaN where a metric is not defined on these truths.
    """
    views = [(block, part, View(forecast, truth))]
    return {name: value for known in METRICS for name, value in _apply(METRICS[known], views).values.items()}
