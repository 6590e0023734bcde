"""How well quantile forecasts cover the truth, and how sharp they are.

The interval is that of 90 %, from the 5 % to the 95 % quantile, where a forecast has both, so that
models with more levels compare with those that have these alone; else it runs from the lowest to the
highest level. Its ends belong to it.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from farm.base.types import Floats, Forecast
from farm.evaluation.metric import Levels, metric

USUAL = (0.05, 0.95)  # ends of the interval of a forecast that has both
# Levels of the whole distribution, at the middles of equal shares of probability.
_CRPS_LEVELS = (np.arange(200) + 0.5) / 200


def ends_of(levels: Levels) -> tuple[int, int]:
    """Say which of the Q levels, increasing, are the ends of the interval.

    Raises
    ------
    ValueError
        If there are fewer than two levels, hence no interval.
    """
    if len(levels) < 2:
        raise ValueError(
            f"got quantile levels {levels}, expected at least two: they are the ends of an interval"
        )
    if set(USUAL) <= set(levels):
        return levels.index(USUAL[0]), levels.index(USUAL[1])
    return 0, len(levels) - 1


def nominal_violations(levels: Levels) -> float:
    """Share of truths that a calibrated forecast leaves outside its interval.

    Parameters
    ----------
    levels
        The Q quantile levels, increasing.

    Returns
    -------
    float
        1 - (upper level - lower level).

    Raises
    ------
    ValueError
        If there are fewer than two levels.
    """
    low, high = ends_of(levels)
    return 1 - (levels[high] - levels[low])


def interval_of(forecast: Forecast) -> tuple[Floats, Floats, float]:
    """Give the lower and upper ends, each (B,) in double precision, and the nominal violations."""
    low, high = ends_of(forecast.levels)
    quantiles = np.asarray(forecast.quantiles, dtype=np.float64)
    return quantiles[:, low], quantiles[:, high], nominal_violations(forecast.levels)


@metric("interval", direction="none", optimum=nominal_violations, unit="share", reads="quantiles")
def violations(forecast: Forecast, truth: Floats) -> float:
    """Share of truths outside the interval.

    The optimum is the nominal share, which a calibrated forecast attains: 0.10 for 5/95 %
    quantiles. More is overconfident, less overcautious. An oracle whose quantiles all equal the
    truth scores 0, since the ends belong to the interval: it hits every truth, and is not calibrated.
    """
    low, high, _ = interval_of(forecast)
    return float(np.mean((truth < low) | (truth > high)))


@metric("interval", direction="min", optimum=0.0, unit="target", reads="quantiles")
def width(forecast: Forecast, truth: Floats) -> float:
    """Mean width of the interval; narrow is better only as long as the violations are nominal."""
    low, high, _ = interval_of(forecast)
    return float(np.mean(high - low))


@metric("interval", direction="min", optimum=0.0, unit="target", reads="quantiles")
def pinball(forecast: Forecast, truth: Floats) -> float:
    """Pinball (quantile) loss, mean over levels and samples.

    At level q an error e = truth - quantile costs q e if positive and (q - 1) e if negative
    (Koenker & Bassett 1978, Econometrica 46, 33-50). It is least for the true quantiles.
    """
    error = truth[:, None] - np.asarray(forecast.quantiles, dtype=np.float64)
    level = np.asarray(forecast.levels)
    return float(np.mean(np.maximum(level * error, (level - 1) * error)))


@metric("interval", direction="min", optimum=0.0, unit="target", reads="quantiles")
def winkler(forecast: Forecast, truth: Floats) -> float:
    """Mean Winkler (interval) score: the width plus 2 / a times the miss, a the nominal violations.

    Winkler 1972, JASA 67, 187-191; Gneiting & Raftery 2007, JASA 102, 359-378, eq. 43.

    Raises
    ------
    ValueError
        If the levels are not symmetric about one half: the score is proper only where they are.
    """
    from scoringrules import interval_score  # a quarter of a second, and most forecasts are points

    low, high, nominal = interval_of(forecast)
    ends = [forecast.levels[end] for end in ends_of(forecast.levels)]
    if abs(sum(ends) - 1) > 1e-9:
        raise ValueError(f"got levels {forecast.levels}, expected the interval's two symmetric about 0.5")
    return float(np.mean(interval_score(truth, low, high, nominal)))


@metric("interval", direction="min", optimum=0.0, unit="target", reads="quantiles")
def crps(forecast: Forecast, truth: Floats) -> float:
    """Mean continuous ranked probability score of the distribution that the quantiles stand for.

    A few quantiles are no distribution yet. They are joined by straight lines over normal scores:
    between two levels, and beyond the outer two, the quantile function is linear in the quantile
    function of the standard normal. So 5/50/95 % quantiles stand for a normal distribution with a
    scale of its own on each side of the median. Its score is the mean quantile score at 200 equally
    spaced levels (Gneiting & Raftery 2007, JASA 102, 359-378, section 4.2; Laio & Tamea 2007,
    HESS 11, 1267-1277).

    For normal forecasts this is the closed form to 0.01 %, for true quantiles of a Student t with 3
    degrees of freedom it is 0.7 % too much. The mean over the three levels themselves would be twice
    the pinball loss, no new number, and 28 % too little.
    """
    from scoringrules import crps_quantile  # a quarter of a second, and most forecasts are points

    ends_of(forecast.levels)  # holds it to two levels
    quantiles = np.asarray(forecast.quantiles, dtype=np.float64)
    known, wanted = ndtri(forecast.levels), ndtri(_CRPS_LEVELS)
    left = np.clip(np.searchsorted(known, wanted) - 1, 0, len(known) - 2)
    share = (wanted - known[left]) / (known[left + 1] - known[left])
    distribution = quantiles[:, left] + share * (quantiles[:, left + 1] - quantiles[:, left])
    return float(np.mean(crps_quantile(truth, distribution, _CRPS_LEVELS)))
