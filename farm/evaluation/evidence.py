"""What daily losses can show: the variance that they are divided by, and the gain that they could find."""

from __future__ import annotations

import math

import numpy as np

from farm.base.types import Floats
from farm.evaluation.significance import cosine_variance, cosines

DECAY = 0.94  # of a day, as RiskMetrics has it
FIRST = 20  # days whose mean is the first variance
LEAST = 0.05  # of the mean so far, below which no variance falls


def variance_known(squared: Floats) -> Floats:
    """Compute the variance of each day that was known the day before.

    The exponentially weighted mean of squared errors, with which losses of calm and wild days, and of
    assets, count alike. The first days have the mean of their own: one divisor for both sides of a
    comparison, which favours neither.

    Parameters
    ----------
    squared
        Squared errors of a reference, (D, N) for N assets; NaN where it has none, and the variance stays.

    Returns
    -------
    Floats
        (D, N), positive; NaN for an asset on which the reference is never wrong.
    """
    days, assets = squared.shape
    known = np.empty((days, assets))
    seen = ~np.isnan(squared)
    first = np.cumsum(seen, axis=0) <= FIRST
    early = np.where(first & seen, squared, 0.0).sum(axis=0) / np.maximum((first & seen).sum(axis=0), 1)
    variance, total, count = early.copy(), early * FIRST, np.full(assets, float(FIRST))
    for day in range(days):
        known[day] = np.where(first[day], early, np.maximum(variance, LEAST * total / count))
        today = np.where(seen[day], squared[day], variance)
        variance = DECAY * variance + (1 - DECAY) * today
        later = seen[day] & ~first[day]
        total, count = total + np.where(later, squared[day], 0.0), count + later
    return np.where(known > 0, known, np.nan)


def memory(difference: Floats) -> float:
    """Compute for how many days the difference of two forecasts stays what it is.

    Losses have the memory of squared forecasts, though the noise of returns hides it:
    ``(1 + r^2) / (1 - r^2)`` days, with r the median over assets of the correlation of the difference with
    that of the day before, corrected for its bias (Kendall 1954, Biometrika 41, 403-404): 1 without memory,
    9 for an r of 0.9, 100 for 0.99.

    Parameters
    ----------
    difference
        (D, N) for N assets; NaN where there is none.

    Returns
    -------
    float
        Between 1 and D.
    """
    days = len(difference)
    seen = ~np.isnan(difference)
    count = np.maximum(seen.sum(axis=0), 1)
    centred = np.where(seen, difference - np.where(seen, difference, 0.0).sum(axis=0) / count, 0.0)
    power = np.square(centred).sum(axis=0)
    moving = power > 0
    if not moving.any():
        return 1.0
    lagged = (centred[1:] * centred[:-1]).sum(axis=0)[moving] / power[moving]
    r = float(np.median(lagged + (1 + 3 * lagged) / count[moving]))
    r = min(max(r, 0.0), 1.0)
    return float(days) if r == 1 else min((1 + r**2) / (1 - r**2), float(days))


def detectable_gain(losses: Floats, gains: Floats, stretches: int | None = None) -> float:
    """Compute the gain in RMSE that these days would show half the time.

    The mean gain that is as many standard errors of the gains as a two-sided test at 5 % asks for; one in
    squared error, g, is ``1 - sqrt(1 - g)`` in RMSE.

    Parameters
    ----------
    losses
        Losses of the reference on D days, (D,).
    gains
        What a model loses less, (D,): its spread and memory decide.
    stretches
        See `farm.evaluation.significance.cosines`.

    Returns
    -------
    float
        Such as 0.013 for an RMSE 1.3 % lower; NaN without any spread.
    """
    from scipy.special import stdtrit

    both = ~(np.isnan(losses) | np.isnan(gains))
    own, gain = losses[both], gains[both]
    n = len(gain)
    if n < 2 or np.ptp(gain) == 0 or own.mean() <= 0:
        return math.nan
    count = cosines(n, stretches)
    error = math.sqrt(float(cosine_variance(gain - gain.mean(), count)) / n)
    share = float(stdtrit(count, 0.975)) * error / float(own.mean())
    return 1 - math.sqrt(max(1 - share, 0.0))
