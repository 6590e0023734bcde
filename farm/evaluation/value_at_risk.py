"""Backtests of Value-at-Risk: is a return below its low quantile as often as said, and at random times.

The Value-at-Risk at 1 % is the 1 % quantile of the return; a hit is a day below it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farm.base.types import Floats, Forecast
from farm.evaluation.metric import measure, metric_name
from farm.evaluation.scores import Evaluation

VAR_LEVELS = (0.01, 0.05)


class Backtest(NamedTuple):
    """What the tests find; each p-value is that of a likelihood ratio in its chi-squared limit.

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


def backtest(hits: npt.NDArray[np.bool_], level: float) -> Backtest:
    """Test a series of hits.

    Unconditional coverage is that of Kupiec (1995, Journal of Derivatives 3(2)), independence against a
    first-order Markov chain and conditional coverage those of Christoffersen (1998, International
    Economic Review 39(4)); the last statistic is the sum of the first two. At 1 % some four hundred days
    hold four hits: the tests then find gross faults alone, and the limit is rough.

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
    from scipy.special import chdtrc, xlogy  # slow to import

    if len(hits) < 2:
        raise ValueError(f"got {len(hits)} days, expected at least two")

    def log_likelihood(misses: Any, hit: Any, share: Any) -> Any:
        return xlogy(misses, 1 - share) + xlogy(hit, share)

    n, x = len(hits), int(hits.sum())
    coverage = 2 * (log_likelihood(n - x, x, x / n) - log_likelihood(n - x, x, level))
    before, after = hits[:-1], hits[1:]
    # Days that follow a miss and a hit: how many of them miss, and hit.
    miss = np.array([(~before & ~after).sum(), (before & ~after).sum()], dtype=np.float64)
    hit = np.array([(~before & after).sum(), (before & after).sum()], dtype=np.float64)
    shares = hit / np.maximum(miss + hit, 1)
    pooled = hit.sum() / (n - 1)
    chain = log_likelihood(miss, hit, shares).sum() - log_likelihood(miss.sum(), hit.sum(), pooled)
    independence = 2 * max(float(chain), 0.0)  # rounding may leave it below 0
    coverage = max(float(coverage), 0.0)
    return Backtest(
        x / n,
        float(chdtrc(1, coverage)),
        float(chdtrc(1, independence)),
        float(chdtrc(2, coverage + independence)),
    )


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
