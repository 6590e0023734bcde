"""What a metric is, and how a forecast gets its scores.

A metric is one function under `metric`. It sees a `Forecast` and the truth, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Literal

import numpy as np
import numpy.typing as npt

from farm.base.registry import Registry
from farm.base.types import Floats, Forecast

Score = Callable[[Forecast, Floats], float]
Levels = tuple[float, ...]


@dataclass(frozen=True)
class Metric:
    """One way to score a forecast.

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
    needs
        What the forecast must have.
    """

    name: str
    section: Literal["test", "interval"]
    function: Score
    direction: Literal["min", "max", "none"]
    optimum: float | Callable[[Levels], float]
    unit: Literal["target", "share", "1"]
    needs: Literal["point", "quantiles"]

    def optimum_at(self, levels: Levels = ()) -> float:
        """Give the score of a perfect forecast with these quantile levels."""
        return self.optimum(levels) if callable(self.optimum) else self.optimum


METRICS: Registry[Metric] = Registry("metric")


def metric(
    section: Literal["test", "interval"],
    *,
    direction: Literal["min", "max", "none"],
    optimum: float | Callable[[Levels], float],
    unit: Literal["target", "share", "1"],
    needs: Literal["point", "quantiles"],
) -> Callable[[Score], Score]:
    """Register a function as the metric of its name; see `Metric` for the parameters.

    Returns
    -------
    Callable
        A decorator. What it gives back takes its truth in double precision and raises ValueError
        if the truth is empty, not finite or not of the forecast's shape, or if the forecast lacks
        the quantiles that are needed.
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
            if needs == "quantiles" and forecast.quantiles is None:
                raise ValueError(f"{function.__name__} needs quantile forecasts, got point forecasts only")
            return function(forecast, truth)

        name = function.__name__
        METRICS.register(name, Metric(name, section, checked, direction, optimum, unit, needs))
        return checked

    return add


def metric_name(section: str, part: str, name: str) -> str:
    """Join the parts of a full metric name; the middle one may be empty."""
    return f"{section}/{part}/{name}" if part else f"{section}/{name}"


def evaluate(
    forecast: Forecast,
    truth: Floats,
    block: str = "test",
    part: str = "",
    keep: npt.NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Score a forecast with every metric that applies to it.

    Parameters
    ----------
    forecast
        B forecasts.
    truth
        What came to pass, (B,), in the unit of the forecast; finite.
    block
        The block of the data, ``"train"``, ``"val"`` or ``"test"``.
    part
        What is scored, where a trial has several evaluations: a named forecast (``"s1"``), a
        calibrated one (``"s4/cqr"``), a subset of the days (``"s4/cqr/volatile"``). It stands
        between the section and the metric. Empty for the forecast that is ranked, on all days.
    keep
        The samples to score, (B,); all of them if None.

    Returns
    -------
    dict
        Scores by MLflow name: ``test/rmse``, or ``test/{part}/rmse``, and so on, and, if the forecast
        has quantiles, ``interval/violations`` and so on; on another block ``{block}/rmse`` and
        ``{block}/violations``. A score that is not defined on these truths (see each metric) is NaN.

    Raises
    ------
    ValueError
        If `keep` has not one entry a sample, or keeps none.
    """
    if keep is not None:
        if keep.dtype != np.bool_ or keep.shape != forecast.point.shape:
            raise ValueError(f"keep is {keep.dtype} {keep.shape}, expected bool {forecast.point.shape}")
        forecast, truth = forecast.take(keep), truth[keep]
    scores: dict[str, float] = {}
    for name in METRICS:
        entry = METRICS[name]
        if entry.needs == "quantiles" and forecast.quantiles is None:
            continue
        section = entry.section if block == "test" else block
        scores[metric_name(section, part, name)] = entry.function(forecast, truth)
    return scores
