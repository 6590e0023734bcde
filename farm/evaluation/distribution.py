"""How well a whole forecast distribution fits: its density at the truth, and where the truth fell in it.

A forecast that comes with a density is scored by that. Any other stands for the distribution that its
quantiles imply: as for the continuous ranked probability score (`farm.evaluation.intervals.crps`), the
quantile function is linear in the normal score between two levels and beyond the outer two, which
makes the density piecewise normal, with normal tails. A model with heavy tails of its own is judged by
them, and one of quantiles by tails that it never stated: the true Student-t law with 3 degrees of freedom
loses 0.02 by nine of its quantiles and 0.19 by three. So a log score is named after its kind
(`log_score_name`) and compared within it.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

from farm.base.types import Floats, Forecast
from farm.evaluation.metric import metric


def log_score_name(forecast: Forecast) -> str:
    """Return the name of a log score: ``log_score``, or ``log_score_9_quantiles`` of what these imply."""
    return "log_score" if forecast.density is not None else f"log_score_{len(forecast.levels)}_quantiles"


@metric(
    "interval",
    direction="max",
    optimum=math.inf,
    unit="1",
    reads="quantiles",
    undefined="a truth lies where the quantiles leave no density",
    named=log_score_name,
)
def log_score(forecast: Forecast, truth: Floats) -> float:
    """Give the mean logarithm of the forecast density at the truth (Good 1952, JRSS B 14(1)).

    Parameters
    ----------
    forecast
        B forecasts with quantiles; see the module for what density is meant.
    truth
        (B,), finite.

    Returns
    -------
    float
        More is better; in logarithms of 1 / unit of the target. NaN where a truth lies where the
        quantiles leave no density, or all of it on one point.
    """
    if forecast.density is not None:
        logs = forecast.density.log_density(truth)
    else:
        z, slope = _normal_score(forecast, truth)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = -0.5 * (z**2 + math.log(2 * math.pi)) - np.log(slope)
    mean = float(np.mean(logs))
    return mean if math.isfinite(mean) else math.nan


def pit(forecast: Forecast, truth: Floats) -> Floats:
    """Give the probability integral transform of each truth: the forecast's probability of less.

    Uniform on (0, 1) where the forecast distribution is right (Dawid 1984, JRSS A 147(2); Diebold,
    Gunther & Tay 1998, International Economic Review 39(4)): a hump means intervals too wide, a valley too
    narrow, a slope a bias.

    Returns
    -------
    Floats
        (B,), in [0, 1].
    """
    if forecast.density is not None:
        return forecast.density.cdf(truth)
    probabilities: Floats = ndtr(_normal_score(forecast, truth)[0])
    return probabilities


def _normal_score(forecast: Forecast, truth: Floats) -> tuple[Floats, Floats]:
    """Give the normal score of each truth and the slope of the quantile function there, (B,)."""
    quantiles = np.asarray(forecast.quantiles, dtype=np.float64)
    if quantiles.shape[1] < 2:
        raise ValueError(f"got quantile levels {forecast.levels}, expected at least two")
    known = ndtri(forecast.levels)
    left = np.clip((quantiles <= truth[:, None]).sum(axis=1) - 1, 0, len(known) - 2)
    rows = np.arange(len(truth))
    below = quantiles[rows, left]
    slope = (quantiles[rows, left + 1] - below) / (known[left + 1] - known[left])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = known[left] + (truth - below) / slope
    # Where two quantiles coincide the truth is on one side of both, or just there: then between them.
    return np.where(np.isnan(z), (known[left] + known[left + 1]) / 2, z), slope
