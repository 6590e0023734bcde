"""Temperature scaling: one number stretches the quantiles about the median."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import numpy as np

from farm.base.errors import UserError
from farm.base.registry import component
from farm.base.types import Floats, Forecast, Windows
from farm.calibration.calibrator import (
    CALIBRATORS,
    Calibrator,
    CalibratorConfig,
    Levels,
    quantiles_of,
    require_rows,
    truth_of,
)


def best_temperature(quantiles: Floats, levels: Levels, truth: Floats) -> float:
    """Find the stretch of the quantiles about the median that minimises the mean pinball loss.

    With residual r and distance d of a quantile from the median, the loss of ``r - tau d`` is convex
    and piecewise linear in tau with its kinks at r / d, so the minimum is the kink at which the slope
    turns: a weighted quantile of r / d. Nothing iterates.

    Parameters
    ----------
    quantiles
        (n, Q), Q odd, the median in the middle.
    levels
        The Q levels.
    truth
        (n,), finite.

    Returns
    -------
    float
        0 or more; the least one where several are best.

    Raises
    ------
    ValueError
        If no quantile differs from the median.
    """
    middle = len(levels) // 2
    distance = np.delete(quantiles - quantiles[:, middle : middle + 1], middle, axis=1)
    residual = np.broadcast_to((truth - quantiles[:, middle])[:, None], distance.shape)
    # The loss at level q falls with tau by |d| max(q, 1 - q) before the kink, as the quantile then lies
    # between the median and the truth, and rises by |d| min(q, 1 - q) behind it.
    outer = np.abs(np.delete(np.asarray(levels), middle) - 0.5) + 0.5
    weight, level = np.abs(distance), np.broadcast_to(outer, distance.shape)
    some = weight > 0
    if not some.any():
        raise ValueError("every quantile equals its median; expected intervals with a width to scale")
    kink = residual[some] / distance[some]
    order = np.argsort(kink, kind="stable")
    slope = np.cumsum(weight[some][order]) - (weight * level)[some].sum()
    return max(float(kink[order][np.searchsorted(slope, 0.0)]), 0.0)


class Temperature(Calibrator):
    """Stretch all quantiles about the median by one temperature.

    The counterpart, for quantiles, of dividing logits by a temperature [1]_. As there, the temperature
    minimises a proper score on the calibration block, here the pinball loss, and so weighs both how
    often and how far truths lie outside; it does not promise a coverage.

    References
    ----------
    .. [1] Guo, Pleiss, Sun & Weinberger (2017), On Calibration of Modern Neural Networks, ICML.
    """

    temperature: float

    def fit(self, forecast: Forecast, windows: Windows) -> None:
        """Choose the temperature; see `Calibrator.fit`.

        Raises
        ------
        UserError
            Also if the forecast has points alone: there is no width to scale.
        """
        if forecast.quantiles is None:
            raise UserError(
                "calibrator temperature: got a forecast of points alone, expected quantiles: choose a"
                " model with quantiles, or the calibrator cqr"
            )
        quantiles, levels = quantiles_of(forecast)
        require_rows("temperature", levels, len(windows))
        self.temperature = best_temperature(quantiles, levels, truth_of(windows))

    def apply(self, forecast: Forecast, windows: Windows) -> Forecast:
        """Stretch the quantiles; see `Calibrator.apply`."""
        quantiles, levels = quantiles_of(forecast)
        median = quantiles[:, len(levels) // 2, None]
        return Forecast(forecast.point, median + self.temperature * (quantiles - median), levels)


@component(CALIBRATORS)
@final
class TemperatureConfig(CalibratorConfig):
    """One temperature for the width of all quantiles, by least pinball loss."""

    name: Literal["temperature"] = "temperature"
    takes_points: ClassVar[bool] = False

    def build(self) -> Temperature:
        """Make the calibrator."""
        return Temperature()
