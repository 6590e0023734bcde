"""A causal estimate of how much the target moves: what local calibration divides by."""

from __future__ import annotations

import numpy as np

from farm.base.types import Floats, Windows

DECAY = 0.94  # of RiskMetrics (1996) for daily returns


def ewma_volatility(windows: Windows) -> Floats:
    """Estimate the standard deviation of each target from the returns known before it.

    The root of the exponentially weighted mean of squared returns, weights `DECAY` ** age divided by
    their sum (RiskMetrics Technical Document 1996, section 5.2, without a mean).

    Parameters
    ----------
    windows
        B samples, each at position 1 or later, with a finite series before the last of them.

    Returns
    -------
    Floats
        (B,) float64, above 0, in the unit of the series.

    Raises
    ------
    ValueError
        If a sample has no return before it, or a return is not finite, or all before it are 0.
    """
    from scipy.signal import lfilter  # slow to import

    if (windows.position < 1).any():
        raise ValueError("a sample at position 0 has no return before it; expected positions from 1 on")
    known = windows.series[: windows.position.max()].astype(np.float64)
    if not np.isfinite(known).all():
        raise ValueError(f"{int((~np.isfinite(known)).sum())} of {known.size} known returns are not finite")
    totals = lfilter([1.0], [1.0, -DECAY], known**2)
    weights = lfilter([1.0], [1.0, -DECAY], np.ones_like(known))
    volatility: Floats = np.sqrt(totals / weights)[windows.position - 1]
    if not (volatility > 0).all():
        raise ValueError("all returns before a sample are 0; expected a series that moves")
    return volatility
