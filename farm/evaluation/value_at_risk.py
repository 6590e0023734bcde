"""Backtests of Value-at-Risk: is a return below its low quantile as often as said, and at random times.

The Value-at-Risk at 1 % is the 1 % quantile of the return; a hit is a day below it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farm.base.types import Floats, Forecast, Ints
from farm.evaluation.metric import measure, metric_name
from farm.evaluation.scores import Evaluation

VAR_LEVELS = (0.01, 0.05)
SLACK = 1e-9  # two statistics that differ by rounding are one
NEVER = 1e-16


class Backtest(NamedTuple):
    """What the tests find; each p-value is that of a likelihood ratio under its exact law.

    Parameters
    ----------
    hits
        Share of days below the quantile.
    kupiec_p
        Unconditional coverage: hits are as frequent as said.
    independence_p
        A hit is as likely after a hit as after none.
    christoffersen_p
        Conditional coverage: both together.
    """

    hits: float
    kupiec_p: float
    independence_p: float
    christoffersen_p: float


class Law(NamedTuple):
    """A statistic's values and their probabilities where the null hypothesis holds."""

    statistic: Floats
    share: Floats

    def p_value(self, found: float) -> float:
        """Return the probability of a statistic as large as the one found, rounding aside."""
        return min(float(self.share[self.statistic >= found - SLACK].sum()), 1.0)


def backtest(hits: npt.NDArray[np.bool_], level: float) -> Backtest:
    """Test a series of hits.

    Unconditional coverage is that of Kupiec (1995, Journal of Derivatives 3(2)), independence against a
    first-order Markov chain and conditional coverage those of Christoffersen (1998, International
    Economic Review 39(4)); the last statistic is the sum of the first two. Their chi-squared limits are
    rough where hits are rare (at 1 % and 250 days Kupiec's rejects a right model in 9.7 % of cases), so
    the p-values are those of the laws themselves: hits are binomial, and given their number every order
    of them is equally likely. So a right model is rejected in 5 % of cases at most; at 1 % some four
    hundred days hold four hits, and the tests find gross faults alone.

    Parameters
    ----------
    hits
        One for each of B days, in order of time.
    level
        The share of hits that was forecast.

    Returns
    -------
    Backtest
        Without any hit, or with hits alone, independence cannot fail: its p-value is 1.

    Raises
    ------
    ValueError
        If there are fewer than two days.
    """
    n, x = len(hits), int(hits.sum())
    if n < 2:
        raise ValueError(f"got {n} days, expected at least two")
    runs = np.array([int(hits[0]) + int((hits[1:] & ~hits[:-1]).sum())])
    coverage = float(coverage_law(n, level).statistic[x])
    independence = float(_independence(n, x, runs, hits[:1].astype(int), hits[-1:].astype(int))[0])
    return Backtest(
        x / n,
        coverage_law(n, level).p_value(coverage),
        independence_law(n, x).p_value(independence),
        conditional_law(n, level).p_value(coverage + independence),
    )


def _log_likelihood(misses: Any, hits: Any, share: Any) -> Floats:
    from scipy.special import xlogy  # slow to import

    likelihood: Floats = xlogy(misses, 1 - share) + xlogy(hits, share)
    return likelihood


@lru_cache(maxsize=64)
def coverage_law(n: int, level: float) -> Law:
    """Return the law of Kupiec's statistic: an entry for each number of hits from 0 to n."""
    from scipy.stats import binom

    x = np.arange(n + 1)
    ratio = _log_likelihood(n - x, x, x / n) - _log_likelihood(n - x, x, level)
    return Law(np.maximum(2 * ratio, 0.0), binom.pmf(x, n, level))  # rounding may leave it below 0


def _independence(n: int, x: int, runs: Ints, first: Ints, last: Ints) -> Floats:
    """Return the statistics of series with x hits in so many runs; `first` and `last` days may be hits."""
    # Days that follow a miss and a hit: how many of them hit, and miss.
    hit = np.stack([runs - first, x - runs])
    miss = np.stack([n - 1 - hit.sum(axis=0) - (runs - last), runs - last])
    chain = _log_likelihood(miss, hit, hit / np.maximum(miss + hit, 1)).sum(axis=0)
    pooled = hit.sum(axis=0) / (n - 1)
    ratio = chain - _log_likelihood(miss.sum(axis=0), hit.sum(axis=0), pooled)
    statistic: Floats = np.maximum(2 * ratio, 0.0)
    return statistic


@lru_cache(maxsize=1024)
def independence_law(n: int, x: int) -> Law:
    """Return the law of the statistic of independence, given x hits on n days."""
    from scipy.special import gammaln

    def log_choose(of: Any, k: Any) -> Floats:
        return np.asarray(gammaln(of + 1) - gammaln(k + 1) - gammaln(of - k + 1))

    if x in (0, n):
        return Law(np.zeros(1), np.ones(1))
    runs, first, last = (
        part.ravel() for part in np.meshgrid(np.arange(1, x + 1), (0, 1), (0, 1), indexing="ij")
    )
    gaps = runs + 1 - first - last  # runs of misses
    fits = (gaps >= 1) & (gaps <= n - x)
    runs, first, last, gaps = runs[fits], first[fits], last[fits], gaps[fits]
    orders = log_choose(x - 1, runs - 1) + log_choose(n - x - 1, gaps - 1)
    return Law(_independence(n, x, runs, first, last), np.exp(orders - log_choose(n, x)))


@lru_cache(maxsize=64)
def conditional_law(n: int, level: float) -> Law:
    """Return the law of the statistic of conditional coverage; what is rarer than `NEVER` is left out."""
    coverage = coverage_law(n, level)
    parts = [
        (coverage.statistic[x] + given.statistic, coverage.share[x] * given.share)
        for x in np.flatnonzero(coverage.share > NEVER).tolist()
        for given in [independence_law(n, x)]
    ]
    return Law(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def risk_scores(forecast: Forecast, truth: Floats) -> dict[str, float]:
    """Backtest the Value-at-Risk of a forecast at 1 and 5 %, where it has these quantiles.

    Parameters
    ----------
    forecast
        B forecasts, in order of time.
    truth
        (B,), finite.

    Returns
    -------
    dict
        Entries of `Backtest` by name, such as ``var1_hits`` and ``var5_kupiec_p``.
    """
    scores: dict[str, float] = {}
    for level in VAR_LEVELS:
        if level not in forecast.levels:
            continue
        assert forecast.quantiles is not None  # it has levels
        hits = truth < forecast.quantiles[:, forecast.levels.index(level)]
        found = backtest(hits, level)._asdict()
        scores |= {f"var{100 * level:.0f}_{name}": value for name, value in found.items()}
    return scores


@measure("evaluation", study="forecast")
def value_at_risk(evaluation: Evaluation) -> dict[str, float]:
    """Backtest every forecast of the test block: ``risk/var1_kupiec_p``, ``risk/{part}/var1_hits``, ..."""
    block = evaluation.test
    return {
        metric_name("risk", part, name): value
        for part, forecast in block.forecasts.items()
        for name, value in risk_scores(forecast, block.actual).items()
    }
