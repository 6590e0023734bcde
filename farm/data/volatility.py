"""Realised volatility of an underlying, causally."""

from __future__ import annotations

import numpy as np

from farm.base.types import Floats

LAMBDA = 0.94  # RiskMetrics' daily decay
DAYS_A_YEAR = 252


def ewma_volatility(returns: Floats, decay: float = LAMBDA) -> Floats:
    """Give exponentially weighted volatility from returns up to each day.

    Parameters
    ----------
    returns
        Daily log returns, (..., T), no NaN; give a longer series than is tested and cut afterwards, so
        that the first days have a past.
    decay
        Weight of a return relative to the next day's, in (0, 1).

    Returns
    -------
    Floats
        (..., T), per square root of a year: the root of the weighted mean of squared returns up to and
        with that day, weights ``decay**age`` over their sum, so nothing is assumed before the first.
    """
    from scipy.signal import lfilter  # slow to import

    squares = np.asarray(returns, dtype=np.float64) ** 2
    weighted = lfilter([1.0], [1.0, -decay], squares, axis=-1)
    weight = (1 - decay ** np.arange(1, squares.shape[-1] + 1)) / (1 - decay)
    volatility: Floats = np.sqrt(DAYS_A_YEAR * weighted / weight)
    return volatility
