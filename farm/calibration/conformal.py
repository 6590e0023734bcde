"""Conformal calibration: widen each interval by a quantile of past misses."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import ceil
from typing import Annotated, Literal, final

import numpy as np

from farm.base.registry import component
from farm.base.search_space import Float
from farm.base.types import Floats, Forecast, Windows
from farm.calibration.calibrator import (
    CALIBRATORS,
    Calibrator,
    CalibratorConfig,
    Levels,
    misses,
    nested,
    quantiles_of,
    require_rows,
    truth_of,
)
from farm.calibration.volatility import ewma_volatility


def conformal_rank(n: int, miss: float) -> int:
    """Give the rank, from 1, of the finite-sample quantile of n scores: ``ceil((n + 1) (1 - miss))``.

    It exceeds n where n is too small for `miss`.
    """
    # 1 - 0.9 is not 0.1 in floating point; without the slack 9 rows would not do for 90 %.
    return ceil((n + 1) * (1 - miss) - 1e-9)


def local_scale(forecast: Forecast, windows: Windows) -> Floats:
    """Guess the size of each error: the geometric mean of the interval's width and the volatility.

    Widths of a model that knows of volatility would count it twice in a product, and those of a model
    that does not would miss it altogether; the mean hedges between the two. An interval without
    width leaves the volatility alone.

    Returns
    -------
    Floats
        (B, K), above 0, in the unit of the target.
    """
    quantiles, levels = quantiles_of(forecast)
    pairs = len(levels) // 2
    volatility = ewma_volatility(windows)[:, None]
    width = quantiles[:, : -pairs - 1 : -1] - quantiles[:, :pairs]
    return np.sqrt(np.where(width > 0, width, volatility) * volatility)


def adaptive_shifts(past: Floats, scores: Floats, miss: float, step: float) -> Floats:
    """Choose each day's shift from the scores before it, steering towards the nominal misses.

    Day t takes the finite-sample quantile at ``1 - a_t`` of the last n scores; then
    ``a_{t+1} = a_t + step (miss - 1{score_t > shift_t})`` (Gibbs & Candes 2021, eq. 2), and the new
    score enters as the oldest leaves. Where the paper's interval would be infinite (or empty) it is
    the largest (or smallest) score of the memory here, as a forecast must be finite; the level a_t
    goes on beyond 0 and 1 all the same.

    Parameters
    ----------
    past
        Scores of the calibration block, (n,), oldest first.
    scores
        Scores of the block that is mended, (B,), in time order.
    miss
        Nominal share of misses.
    step
        Step size.

    Returns
    -------
    Floats
        (B,): entry t depends on ``past`` and ``scores[:t]`` alone.
    """
    memory, ranked, level = deque(past.tolist()), sorted(past.tolist()), miss
    shifts = np.empty(len(scores))
    for t, score in enumerate(scores.tolist()):
        rank = min(max(conformal_rank(len(ranked), level), 1), len(ranked))
        shifts[t] = ranked[rank - 1]
        level += step * (miss - (score > shifts[t]))
        ranked.pop(bisect_left(ranked, memory.popleft()))
        insort(ranked, score)
        memory.append(score)
    return shifts


class Conformal(Calibrator):
    """Conformalised quantile regression [1]_, plain, local or online.

    The score of a sample says how far its truth lies outside the interval, ``max(low - y, y - high)``
    (eq. 6), negative inside; both ends then move outwards by the same quantile of the scores, never past
    the median. Moving each end by its own quantile would balance the tails too, at the price of wider
    intervals (theorem 2) and of twice the rows. Around a forecast of points alone this is split
    conformal prediction.

    Where samples are exchangeable, a share of at least ``1 - miss`` of truths is covered, and where scores
    do not tie at most ``1 / (n + 1)`` more (theorem 1). Returns are not exchangeable: volatility
    clusters, which `local` answers, and drifts, which `step` answers.

    Parameters
    ----------
    name
        What it is called in messages.
    local
        Measure scores from the median, in units of `local_scale` [2]_: wide where errors are expected
        to be large. (Dividing the score of [1]_ instead would narrow too wide intervals most on
        the most volatile days.)
    step
        Step size of adaptive conformal inference [3]_; None keeps the quantile of the calibration block.

    References
    ----------
    .. [1] Romano, Patterson & Candes (2019), Conformalized Quantile Regression, NeurIPS 32.
    .. [2] Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018), Distribution-Free Predictive Inference
       for Regression, JASA 113(523), section 5.2.
    .. [3] Gibbs & Candes (2021), Adaptive Conformal Inference Under Distribution Shift, NeurIPS 34.
    """

    _scores: Floats  # (n, K), in time order
    _levels: Levels

    def __init__(self, name: str, local: bool = False, step: float | None = None) -> None:
        self._name = name
        self._local = local
        self._step = step

    def fit(self, forecast: Forecast, windows: Windows) -> None:
        """Keep the scores of the calibration block; see `Calibrator.fit`."""
        low, high, scale = self._ends(forecast, windows)
        _, self._levels = quantiles_of(forecast)
        require_rows(self._name, self._levels, len(windows))
        self._scores = _scores(low, high, scale, truth_of(windows))

    def apply(self, forecast: Forecast, windows: Windows) -> Forecast:
        """Move the ends of each interval; see `Calibrator.apply`.

        Online, sample b depends also on the forecasts and truths of the samples before it in this
        block. Otherwise no truth of this block is read.
        """
        quantiles, levels = quantiles_of(forecast)
        if levels != self._levels:
            raise ValueError(f"got levels {levels}, expected those of the calibration block, {self._levels}")
        low, high, scale = self._ends(forecast, windows)
        shares = misses(levels).tolist()
        if self._step is None:
            ranked = np.sort(self._scores, axis=0)
            ranks = [conformal_rank(len(ranked), miss) for miss in shares]
            shift = np.array([ranked[rank - 1, k] for k, rank in enumerate(ranks)])
        else:
            scores = _scores(low, high, scale, truth_of(windows))
            columns = zip(self._scores.T, scores.T, shares, strict=True)
            shift = np.stack([adaptive_shifts(*column, self._step) for column in columns], axis=1)
        median = quantiles[:, len(levels) // 2, None]
        moved = [low - shift * scale, median, (high + shift * scale)[:, ::-1]]
        return Forecast(forecast.point, nested(np.concatenate(moved, axis=1)), levels)

    def _ends(self, forecast: Forecast, windows: Windows) -> tuple[Floats, Floats, Floats]:
        """Give the ends that are moved and the unit of the move, each (B, K), outermost first."""
        quantiles, levels = quantiles_of(forecast)
        pairs = len(levels) // 2
        if self._local:
            median = np.repeat(quantiles[:, pairs, None], pairs, axis=1)
            return median, median, local_scale(forecast, windows)
        low, high = quantiles[:, :pairs], quantiles[:, : -pairs - 1 : -1]
        return low, high, np.ones_like(low)


def _scores(low: Floats, high: Floats, scale: Floats, truth: Floats) -> Floats:
    """Measure how far each truth lies outside each interval, in units of `scale`, (B, K)."""
    y = truth[:, None]
    return np.maximum(low - y, y - high) / scale


@component(CALIBRATORS)
@final
class CqrConfig(CalibratorConfig):
    """Conformalised quantile regression: every interval moves by the same amount."""

    name: Literal["cqr"] = "cqr"

    def build(self) -> Conformal:
        """Make the calibrator."""
        return Conformal(self.name)


@component(CALIBRATORS)
@final
class CqrScaledConfig(CalibratorConfig):
    """Local conformal intervals: wide where the model or recent volatility expects large errors."""

    name: Literal["cqr_scaled"] = "cqr_scaled"

    def build(self) -> Conformal:
        """Make the calibrator."""
        return Conformal(self.name, local=True)


@component(CALIBRATORS)
@final
class AciConfig(CalibratorConfig):
    """Adaptive conformal inference: the online case, in which each day's truth is seen the day after.

    Parameters
    ----------
    step
        How fast the level follows the misses. The default is that of Gibbs & Candes (2021).
    """

    name: Literal["aci"] = "aci"
    step: Annotated[float, Float(0.0005, 0.5, log=True)] = 0.005

    def build(self) -> Conformal:
        """Make the calibrator."""
        return Conformal(self.name, step=self.step)
