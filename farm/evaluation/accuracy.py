"""How far point forecasts are from the truth."""

from __future__ import annotations

import numpy as np

from farm.base.types import Floats, Forecast
from farm.evaluation.metric import metric


@metric("test", direction="min", optimum=0.0, unit="target", reads="point")
def rmse(forecast: Forecast, truth: Floats) -> float:
    """Root mean squared error, in the unit of the target."""
    return float(np.sqrt(np.mean((forecast.point - truth) ** 2)))


@metric("test", direction="min", optimum=0.0, unit="target", reads="point")
def mae(forecast: Forecast, truth: Floats) -> float:
    """Mean absolute error, in the unit of the target."""
    return float(np.mean(np.abs(forecast.point - truth)))


@metric("test", direction="max", optimum=1.0, unit="share", reads="point", undefined="every truth is zero")
def direction_accuracy(forecast: Forecast, truth: Floats) -> float:
    """Share of moves whose sign was called.

    A truth of exactly zero has no direction, so it is left out. A forecast of exactly zero makes no
    call and counts one half, as a coin would on average. So a model that always says zero scores
    0.5, and the rule is the same for every model.

    Returns
    -------
    float
        In [0, 1]; NaN if every truth is zero. Equals the accuracy of the signs where nothing is
        zero.
    """
    moved = truth != 0
    if not moved.any():
        return float("nan")
    # The product of two signs is 1 (right), -1 (wrong) or 0 (no call).
    return float(np.mean((np.sign(forecast.point[moved]) * np.sign(truth[moved]) + 1) / 2))


@metric("test", direction="max", optimum=1.0, unit="1", reads="point", undefined="the truth is constant")
def r2(forecast: Forecast, truth: Floats) -> float:
    """Coefficient of determination: 1 - squared error / squared error of the mean of the truth.

    The mean is that of the scored truths themselves, so a forecast made ahead of time that knows
    nothing scores a little below zero.

    Returns
    -------
    float
        At most 1; NaN if the truth is constant, where there is no variance to explain.
    """
    if np.ptp(truth) == 0:
        return float("nan")
    return float(1 - np.sum((forecast.point - truth) ** 2) / np.sum((truth - truth.mean()) ** 2))
