"""Whether a difference is more than chance: the Diebold-Mariano test and the stationary bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.special import stdtr

from farm.base.types import Floats, Ints


class DieboldMariano(NamedTuple):
    """What the test says.

    Parameters
    ----------
    statistic
        Negative where the first forecast loses less; Student t if the two are equally good, with
        n - 1 degrees of freedom where lags were given and as many as cosines elsewhere.
    p_value
        Two-sided.
    mean_difference
        Mean of first loss - second loss, in the unit of the losses.
    n
        Days that were compared.
    """

    statistic: float
    p_value: float
    mean_difference: float
    n: int


def default_lags(n: int, horizon: int = 1) -> int:
    """Choose how many autocovariances enter the long-run variance of n values.

    Parameters
    ----------
    n
        Number of values.
    horizon
        Steps ahead of the forecasts; an optimal h-step forecast has errors correlated up to lag
        h - 1.

    Returns
    -------
    int
        ``max(h - 1, floor(4 (n / 100)^(2/9)))``, at most n - 1. The second is the rule of thumb
        that goes with Newey & West 1994, Review of Economic Studies 61, 631-653: 5 for 390 days.
    """
    return min(max(horizon - 1, int(4 * math.pow(n / 100, 2 / 9))), max(n - 1, 0))


def cosines(n: int, stretches: int | None = None) -> int:
    """Choose how many cosines the long-run variance of n values is read off.

    Parameters
    ----------
    n
        Number of values.
    stretches
        Of days that forecasts do not share, where these reach over several.

    Returns
    -------
    int
        ``0.4 n^(2/3)`` (Lazarus, Lewis, Stock & Watson 2018, JBES 36, 541-559), 21 of 390 days: waves of 37
        days and longer. At most half the stretches, so that no wave is shorter than four forecasts that
        overlap; at least 2.
    """
    wanted = int(0.4 * n ** (2 / 3) + 1e-9)  # of 1,000 it is 40
    return max(2, wanted if stretches is None else min(wanted, stretches // 2))


def cosine_variance(values: Floats, count: int) -> Floats:
    """Estimate the long-run variance from the longest waves, all with one weight.

    Parameters
    ----------
    values
        Series, (n,) or (n, K), without NaN.
    count
        Number of cosines, B.

    Returns
    -------
    Floats
        () or (K,). A mean over the root of its variance has nearly Student's t with B degrees of freedom,
        whatever the memory of the series up to waves of n / B (Mueller 2004, Journal of Econometrics 122).
    """
    n = len(values)
    waves = np.cos(np.pi * np.arange(1, count + 1)[:, None] * (np.arange(n) + 0.5) / n) * math.sqrt(2 / n)
    variance: Floats = np.square(np.tensordot(waves, values, axes=(1, 0))).mean(axis=0)
    return variance


def long_run_variance(values: Floats, lags: int) -> float:
    """Estimate the long-run variance with Bartlett weights.

    Parameters
    ----------
    values
        A series, (n,), without NaN.
    lags
        Number L of autocovariances; the k-th has weight 1 - k / (L + 1).

    Returns
    -------
    float
        Never negative (Newey & West 1987, Econometrica 55, 703-708, eq. 5).
    """
    n = len(values)
    centred = values - values.mean()
    autocovariance = [float(np.sum(centred[k:] * centred[: n - k])) / n for k in range(lags + 1)]
    return autocovariance[0] + 2 * sum((1 - k / (lags + 1)) * autocovariance[k] for k in range(1, lags + 1))


def diebold_mariano(
    loss_a: Floats, loss_b: Floats, *, stretches: int | None = None, horizon: int = 1, lags: int | None = None
) -> DieboldMariano:
    """Test whether two forecasts are equally good.

    The mean loss difference over its standard error (Diebold & Mariano 1995, JBES 13, 253-263) from the
    longest waves of the series (`cosine_variance`), with Student's t: the autocovariances of a few lags
    miss the memory of persistent forecasts, and the best of 20 of them is then "better" in 12 % of worlds.
    With `lags` the variance has these and Bartlett weights, with the small-sample factor and the Student t of
    Harvey, Leybourne & Newbold 1997, International Journal of Forecasting 13, 281-291, eq. 8-9.

    Parameters
    ----------
    loss_a, loss_b
        Losses of the two forecasts on the same days in time order, each (n,). A day on which
        either is NaN is dropped, and its neighbours move together.
    stretches
        See `cosines`.
    horizon
        Steps ahead of the forecasts, for the small-sample factor.
    lags
        Autocovariances in the variance; None for cosines.

    Returns
    -------
    DieboldMariano
        Losses that are equal up to rounding give statistic 0 and p 1. A constant difference gives
        an infinite statistic and p 0, as a t test would. Fewer than ``2 * horizon`` days (the
        correction needs them) give NaN.

    Raises
    ------
    ValueError
        If the shapes disagree, the horizon is below 1 or there are as many lags as days.
    """
    a, b = np.asarray(loss_a, dtype=np.float64), np.asarray(loss_b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"losses have shapes {a.shape} and {b.shape}, expected one (n,)")
    if horizon < 1:
        raise ValueError(f"horizon {horizon}, expected at least 1")
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    n = len(a)
    if n < 2 * horizon:
        return DieboldMariano(math.nan, math.nan, float(np.mean(a - b)) if n else math.nan, n)
    if lags is not None and not 0 <= lags < n:
        raise ValueError(f"{lags} lags on {n} days, expected 0 to {n - 1}")
    difference = a - b
    mean = float(difference.mean())
    # Below this a difference is rounding, and its variance would be noise over noise.
    rounding = 4 * np.finfo(np.float64).eps * max(np.abs(a).max(), np.abs(b).max())
    if np.ptp(difference) <= rounding:
        if abs(mean) <= rounding:
            return DieboldMariano(0.0, 1.0, mean, n)
        return DieboldMariano(math.copysign(math.inf, mean), 0.0, mean, n)
    if lags is None:
        count = cosines(n, stretches)
        statistic = mean / math.sqrt(float(cosine_variance(difference - mean, count)) / n)
        return DieboldMariano(statistic, float(2 * stdtr(count, -abs(statistic))), mean, n)
    correction = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    statistic = mean / math.sqrt(long_run_variance(difference, lags) / n) * math.sqrt(correction)
    return DieboldMariano(statistic, float(2 * stdtr(n - 1, -abs(statistic))), mean, n)


def mean_block_length(series: Floats) -> int:
    """Choose the mean block length of a stationary bootstrap from the dependence of a series.

    Parameters
    ----------
    series
        Values in time order, (n,); NaN are dropped.

    Returns
    -------
    int
        The optimum of Politis & White 2004 (corrected by Patton, Politis & White 2009, Econometric
        Reviews 28, 372-375), at least 1; the cube root of n where a series is constant or shorter
        than 20.
    """
    from arch.bootstrap import optimal_block_length  # takes a second to import

    known = np.asarray(series, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) < 20:
        return _cube_root(len(known))
    with np.errstate(invalid="ignore", divide="ignore"):  # a constant series has no correlations
        length = float(optimal_block_length(known)["stationary"].iloc[0])
    return max(1, round(length)) if math.isfinite(length) else _cube_root(len(known))


def _cube_root(n: int) -> int:
    return max(1, round(math.pow(n, 1 / 3)))


def resampled_rows(n: int, *, resamples: int, seed: int, block: int | None = None) -> Ints:
    """Draw rows with the stationary bootstrap of Politis & Romano 1994, JASA 89, 1303-1313.

    Parameters
    ----------
    n
        Number of rows (days) to draw from, and to draw.
    resamples
        Number R of draws.
    seed
        Equal seeds give equal rows.
    block
        Mean length of the geometric blocks, which wrap around; the cube root of n if None.

    Returns
    -------
    Ints
        Row numbers, (R, n).

    Raises
    ------
    ValueError
        If there is nothing to draw, or a block is shorter than one row.
    """
    from arch.bootstrap import StationaryBootstrap  # takes a second to import

    block = _cube_root(n) if block is None else block
    if n < 1 or resamples < 1 or block < 1:
        raise ValueError(f"got n {n}, resamples {resamples}, block {block}: expected each at least 1")
    bootstrap = StationaryBootstrap(block, np.arange(n), seed=np.random.default_rng(seed))
    return np.stack([bootstrap.update_indices() for _ in range(resamples)])


def resampled_weights(n: int, *, resamples: int, seed: int, block: int | None = None) -> csr_array:
    """Count how often each draw of `resampled_rows` has each row: (R, n).

    One product with it replaces R selections of rows. It is sparse because a sparse product sums in
    the same order always; a dense one rounds differently with the number of threads.
    """
    rows = resampled_rows(n, resamples=resamples, seed=seed, block=block)
    numbered = rows + n * np.arange(resamples)[:, None]
    counts = np.bincount(numbered.ravel(), minlength=resamples * n)
    return csr_array(counts.reshape(resamples, n).astype(np.float64))


def bootstrap_interval(
    statistic: Callable[[Ints], float],
    n: int,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    block: int | None = None,
) -> tuple[float, float]:
    """Give the percentile interval of a statistic under the stationary bootstrap over rows.

    Parameters
    ----------
    statistic
        Computes the statistic from n row numbers, (n,), some of them repeated.
    n
        Number of rows (days).
    level
        Coverage that is asked for.
    resamples, seed, block
        See `resampled_rows`; `mean_block_length` chooses a block for a given series.

    Returns
    -------
    tuple of float
        Lower and upper end. A resample on which the statistic is NaN is left out; both ends are
        NaN if all are.
    """
    rows = resampled_rows(n, resamples=resamples, seed=seed, block=block)
    return percentile_interval(np.array([statistic(drawn) for drawn in rows]), level)


def percentile_interval(draws: Floats, level: float = 0.95) -> tuple[float, float]:
    """Cut the tails off resampled values; see `bootstrap_interval`."""
    known = draws[~np.isnan(draws)]
    if len(known) == 0:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
