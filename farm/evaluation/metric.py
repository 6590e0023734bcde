"""What a metric is, and what may be measured of a trial.

A `Metric` is one function of a forecast and the truth. Whatever else can be said of a trial, of all its
forecasts or of the fitted model itself, is a `Measure`. Both have a version: a stored trial is scored anew
where it is another one; see `farm.evaluation.scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import numpy as np

from farm.base.registry import Registry
from farm.base.types import Floats, Forecast

Score = Callable[[Forecast, Floats], float]
Levels = tuple[float, ...]
Direction = Literal["min", "max", "none"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Metric:
    """One number of a forecast and the truth.

    Parameters
    ----------
    name
        Last part of its name in MLflow, such as ``"rmse"``.
    section
        First part of that name, on the test block. On any other block it is the block's name:
        ``val/rmse``, ``val/violations``.
    function
        Scores B forecasts against B truths.
    direction
        ``"min"`` or ``"max"`` where less or more is better; ``"none"`` where the distance to the
        optimum counts.
    optimum
        The score of a perfect forecast; a function of the quantile levels where it depends on
        them.
    unit
        ``"target"`` (the unit of what is forecast), ``"share"`` (of samples, 0 to 1) or ``"1"``.
    reads
        What a forecast must have.
    version
        Raised when its numbers change.
    undefined
        Why its value may be NaN, for messages.
    named
        Names what it computes of a forecast where kinds do not compare, as its own name and more.
    """

    name: str
    section: str
    function: Score
    direction: Direction
    optimum: float | Callable[[Levels], float]
    unit: Literal["target", "share", "1"]
    reads: Literal["point", "quantiles"]
    version: int = 1
    undefined: str = "it is not defined on these days"
    named: Callable[[Forecast], str] | None = None

    def kind(self, forecast: Forecast) -> str:
        """Return the last part of the name of its value for a forecast."""
        return self.name if self.named is None else self.named(forecast)

    def optimum_at(self, levels: Levels = ()) -> float:
        """Return the score of a perfect forecast with these quantile levels."""
        return self.optimum(levels) if callable(self.optimum) else self.optimum


@dataclass(frozen=True)
class Measure:
    """Numbers of a whole trial.

    Parameters
    ----------
    name
        By which its numbers are kept.
    function
        With ``reads="evaluation"`` it gets the `Evaluation` alone; with ``"model"`` the `Fitted` trial and
        the `Evaluation`; with ``"block"`` the `Fitted` trial and the windows of one block. It returns a
        `Measured`, or numbers by name: full names, or for ``"block"`` what stands after the block's name.
    reads
        See `function`. All but ``"evaluation"`` need the model, which is loaded for a stored trial, never
        fitted again.
    version
        Raised when its numbers change.
    requires
        What the model must be; None for any.
    study
        Whose trials it measures; empty for any.
    section, blocks
        Of a measure of blocks: what its numbers begin with on the test block, and the blocks that it
        measures.
    directions
        Of its numbers that a search may look for: ``"min"`` or ``"max"`` by name, of a measure of blocks
        without the block.
    """

    name: str
    function: Callable[..., Any]
    reads: Literal["evaluation", "model", "block"]
    version: int = 1
    requires: type[Any] | None = None
    study: str = ""
    section: str = ""
    blocks: tuple[str, ...] = ()
    directions: Mapping[str, Literal["min", "max"]] = field(default_factory=lambda: MappingProxyType({}))


METRICS: Registry[Metric] = Registry("metric")
MEASURES: Registry[Measure] = Registry("measure")


def metric(
    section: str,
    *,
    direction: Direction,
    optimum: float | Callable[[Levels], float],
    unit: Literal["target", "share", "1"],
    reads: Literal["point", "quantiles"],
    version: int = 1,
    undefined: str = Metric.undefined,
    named: Callable[[Forecast], str] | None = None,
) -> Callable[[Score], Score]:
    """Register a function as the metric of its name; see `Metric` for the parameters.

    Returns
    -------
    Callable
        A decorator. The function that it returns takes its truth in double precision and raises
        ValueError if the truth is empty, not finite or not of the forecast's shape, or if the forecast
        lacks the quantiles that are needed.
    """

    def add(function: Score) -> Score:
        @wraps(function)
        def checked(forecast: Forecast, truth: Floats) -> float:
            truth = np.asarray(truth, dtype=np.float64)
            if truth.ndim != 1 or len(truth) == 0 or truth.shape != forecast.point.shape:
                raise ValueError(
                    f"truth {truth.shape} and forecast {forecast.point.shape}: expected one (B,), B > 0"
                )
            if not np.isfinite(truth).all():
                raise ValueError(f"{int((~np.isfinite(truth)).sum())} of {truth.size} truths are not finite")
            if reads == "quantiles" and forecast.quantiles is None:
                raise ValueError(f"{function.__name__} needs quantile forecasts, got point forecasts only")
            return function(forecast, truth)

        name = function.__name__
        METRICS.register(
            name, Metric(name, section, checked, direction, optimum, unit, reads, version, undefined, named)
        )
        return checked

    return add


def measure(
    reads: Literal["evaluation", "model", "block"],
    *,
    version: int = 1,
    requires: type[Any] | None = None,
    study: str = "",
    section: str = "",
    blocks: tuple[str, ...] = (),
    directions: Mapping[str, Literal["min", "max"]] = MappingProxyType({}),
) -> Callable[[F], F]:
    """Register a function as the measure of its name; see `Measure` for the parameters."""

    def add(function: F) -> F:
        name = function.__name__
        MEASURES.register(
            name, Measure(name, function, reads, version, requires, study, section, blocks, directions)
        )
        return function

    return add


def metric_name(section: str, part: str, name: str) -> str:
    """Join the parts of a full metric name; the middle one may be empty."""
    return f"{section}/{part}/{name}" if part else f"{section}/{name}"


def direction_of(name: str) -> Direction | None:
    """Return in which direction a number of the validation block is better, by its full name.

    None of one that is not known, or is of another block.
    """
    block, _, rest = name.partition("/")
    if block != "val" or not rest:
        return None
    if (entry := metric_of(rest)) is not None:
        return entry.direction
    for other in (MEASURES[known] for known in MEASURES):
        known = rest if other.reads == "block" and block in other.blocks else name
        if known in other.directions:
            return other.directions[known]
    return None


def metric_of(name: str) -> Metric | None:
    """Return the metric that a number of this full name is of; None of one that is another's."""
    last = name.rsplit("/", 1)[-1]
    known = next((metric for metric in METRICS if last == metric), "")
    # A kind begins with the name of its metric.
    kinds = (metric for metric in METRICS if METRICS[metric].named and last.startswith(f"{metric}_"))
    found = known or next(kinds, "")
    return METRICS[found] if found else None


def objectives() -> list[str]:
    """Return the numbers that any search can look for, by full name."""
    names = [f"val/{name}" for name in METRICS]
    for entry in (MEASURES[known] for known in MEASURES):
        names += [f"val/{name}" if entry.reads == "block" else name for name in entry.directions]
    return names


def undefined_because(name: str) -> str:
    """Return why a number of this full name is not finite."""
    found = metric_of(name)
    return Metric.undefined if found is None else found.undefined
