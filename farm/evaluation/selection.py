"""What is left of a difference once all the models that were tried are counted.

The best of fifty models that are as good as a reference beats it by luck. These tests ask how far
luck alone would bring the best of as many, from a bootstrap of whole days, which keeps what the models
have in common. Shape letters: D days, K models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from farm.base.types import Floats
from farm.evaluation.significance import mean_block_length, resampled_weights

LEVEL = 0.05
FEWEST_DAYS = 20  # with fewer there is nothing to resample
FEWEST_STRETCHES = 8  # of days that no two forecasts share; with fewer there is no test
RESAMPLES = 1000
DEVIATION = (0.85, 1.0)  # of a resample, in that of the days; see `stepwise_p_values`


class ConfidenceSet(NamedTuple):
    """Models of which none is shown to be worse than another.

    Parameters
    ----------
    members
        Columns of the set, increasing.
    p_values
        Of each model, (K,): the smallest error level at which it leaves the set. NaN where there
        was nothing to judge it by.
    """

    members: tuple[int, ...]
    p_values: Floats


def spa_p_value(
    reference_losses: Floats, model_losses: Floats, *, block: int, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Test whether the best of several models is better than a reference.

    The consistent p-value of Hansen 2005, Journal of Business & Economic Statistics 23, 365-380: of the
    hypothesis that no model loses less than the reference.

    Parameters
    ----------
    reference_losses, model_losses
        Losses on the same days in time order, (D,) and (D, K).
    block, resamples, seed
        As for `stepwise_p_values`, which says how days and models without losses are treated.

    Returns
    -------
    float
        1 if no model has a lower mean loss; NaN if nothing can be judged.

    Raises
    ------
    ValueError
        As for `stepwise_p_values`.
    """
    p_values = stepwise_p_values(reference_losses, model_losses, block=block, resamples=resamples, seed=seed)
    return float(np.nanmin(p_values)) if not np.isnan(p_values).all() else math.nan


def step_m(
    reference_losses: Floats,
    model_losses: Floats,
    *,
    block: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[int, ...]:
    """Find the models that are better than a reference, with few false finds among all of them.

    Romano & Wolf 2005, Econometrica 73, 1237-1282: the chance that even one of the models that are no
    better is in the answer is at most `level`.

    Parameters
    ----------
    reference_losses, model_losses, block, resamples, seed
        As for `stepwise_p_values`.
    level
        Of the test.

    Returns
    -------
    tuple of int
        Columns, increasing.

    Raises
    ------
    ValueError
        As for `stepwise_p_values`.
    """
    p_values = stepwise_p_values(reference_losses, model_losses, block=block, resamples=resamples, seed=seed)
    return tuple(int(k) for k in np.flatnonzero(p_values < level))


def stepwise_p_values(
    reference_losses: Floats, model_losses: Floats, *, block: int, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Give the p-value of each model against a reference, adjusted for all that were tried.

    The best model has the p-value of the SPA test of all models, the next one that of the models without
    the best, and so on down, never below the one before (Romano & Wolf 2005 with Hansen's recentring:
    Hsu, Hsu & Kuan 2010, Journal of Empirical Finance 17, 471-484). A model is in the answer of `step_m`
    where its p-value is below the level.

    The statistic is the mean gain over its standard deviation. ``arch.bootstrap.SPA`` compares plain
    means, so that one noisy model hides all others. In a resample the deviation is taken anew, as Romano &
    Wolf advise, but held between 85 % and all of that of the days: with a fixed one, the best of 50 equal
    models is "better" in 9 % of worlds of 120 days, at 5 %, since a model that is lucky also looks steady;
    with a free one, a single wild day takes all power.

    Parameters
    ----------
    reference_losses, model_losses
        Losses on the same days in time order, (D,) and (D, K). Days on which the reference or any model
        has none (NaN) are left out for all, so that every model is judged on the same days. A model
        without any loss is left out instead.
    block
        Mean length in days of the blocks of the stationary bootstrap; `mean_block_length` chooses one.
    resamples
        Bootstrap draws; a p-value is a multiple of one over this number.
    seed
        Equal seeds give equal p-values.

    Returns
    -------
    ndarray
        (K,): 1 where the mean loss is not below that of the reference; NaN for a model without losses,
        and for all where fewer than ten days are left.

    Raises
    ------
    ValueError
        If the shapes disagree, or a block is shorter than a day.
    """
    reference: Floats = np.asarray(reference_losses, np.float64)
    models: Floats = np.asarray(model_losses, np.float64)
    if reference.ndim != 1 or models.ndim != 2 or len(models) != len(reference):
        raise ValueError(f"losses have shapes {reference.shape} and {models.shape}, expected (D,) and (D, K)")
    p_values = np.full(models.shape[1], np.nan)
    tried, gain = _common_days(reference[:, None] - models)
    if len(gain) < FEWEST_DAYS or len(tried) == 0:
        return p_values
    mean = gain.mean(axis=0)
    p_values[tried] = 1.0
    flat = np.ptp(gain, axis=0) <= _rounding(reference, models)
    p_values[tried[flat & (mean > _rounding(reference, models))]] = 0.0  # better on every day alike
    columns = np.flatnonzero(~flat)
    if len(columns):
        p_values[tried[columns]] = _step_down(gain[:, columns], block, resamples, seed)
    return p_values


def _step_down(gain: Floats, block: int, resamples: int, seed: int) -> Floats:
    """Give the adjusted p-values of gains over the reference, (D, K) to (K,); none is constant."""
    days = len(gain)
    weights = resampled_weights(days, resamples=resamples, seed=seed, block=block)
    mean, deviation = gain.mean(axis=0), gain.std(axis=0)
    centred = (gain - mean) / deviation
    statistic = mean / deviation
    drawn = weights @ centred / days
    drawn_deviation = np.sqrt(np.maximum(weights @ centred**2 / days - drawn**2, 0.0))
    drawn_deviation = np.clip(drawn_deviation, *DEVIATION)
    # A model far below the reference cannot be the best by luck: it stays where it is.
    error = drawn.std(axis=0)
    far_below = statistic < -error * math.sqrt(2 * math.log(math.log(days)))
    luck = drawn / drawn_deviation + np.where(far_below, statistic, 0.0)
    best_first = np.argsort(-statistic, kind="stable")
    # Column j: the luck of the best of the models from the j-th on.
    best_luck = np.maximum.accumulate(luck[:, best_first[::-1]], axis=1)[:, ::-1]
    p_values = np.empty(len(statistic))
    p_values[best_first] = np.maximum.accumulate((best_luck >= statistic[best_first]).mean(axis=0))
    return np.where(statistic > 0, p_values, 1.0)


def model_confidence_set(
    losses: Floats, *, block: int, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> ConfidenceSet:
    """Find the models that may be the best.

    Hansen, Lunde & Nason 2011, Econometrica 79, 453-497, with their statistic T_max: the worst model is
    dropped as long as equality of the rest is rejected. The set holds the best model with probability
    1 - `level` at least; with little data it holds nearly all.

    Parameters
    ----------
    losses
        Losses on the same days in time order, (D, K). Days and models without losses as for
        `stepwise_p_values`.
    block, resamples, seed
        As for `stepwise_p_values`.
    level
        Of each test.

    Returns
    -------
    ConfidenceSet
        Models whose losses are equal have one p-value. A single model has p-value 1.

    Raises
    ------
    ValueError
        If the losses are not (D, K), or a block is shorter than a day.
    """
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 2 or block < 1:
        raise ValueError(f"losses {losses.shape} and block {block}: expected (D, K) and at least a day")
    p_values = np.full(losses.shape[1], np.nan)
    tried, known = _common_days(losses)
    if len(known) >= FEWEST_DAYS and len(tried) > 0:
        # Twins count once: what is between them is rounding, whose variance says nothing.
        rounded = np.round(known / (1e-12 * np.abs(known).max() or 1.0))
        _, first, same = np.unique(rounded, axis=1, return_index=True, return_inverse=True)
        order = np.argsort(first)
        found = np.empty(len(first))
        found[order] = _confidence_p_values(known[:, first[order]], block, resamples, seed)
        p_values[tried] = found[same.ravel()]
    return ConfidenceSet(tuple(int(k) for k in np.flatnonzero(p_values > level)), p_values)


def _confidence_p_values(losses: Floats, block: int, resamples: int, seed: int) -> Floats:
    from arch.bootstrap import MCS  # takes a second to import

    if losses.shape[1] == 1:
        return np.ones(1)
    # T_max, since T_R needs the memory of K x K series.
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(losses)
    test = MCS(table, LEVEL, reps=resamples, block_size=block, method="max", seed=rng)
    test.compute()
    p_values: Floats = test.pvalues["Pvalue"].sort_index().to_numpy(dtype=np.float64)
    return p_values


def common_block(gains: Floats, overlap: int = 1) -> int:
    """Choose one block length for many series of gains, (D, K).

    Twice the median of what each asks for, since that is best for the size of an error, not for a test: with
    errors that remember (0.6) the best of 50 equal models of 120 days passes in 11 % of worlds, and in 7 %
    with twice that. They are asked for by their signed roots, as wild days hide their memory. And at least 20
    days of 390 and 40 of 1,000: forecasts with a memory of 0.97 pass in 12 and 14 % of worlds with less.

    Parameters
    ----------
    gains
        (D, K); a NaN counts nowhere.
    overlap
        Rows that one forecast shares with the next ones; a block is no shorter.
    """
    days = len(gains)
    least = max(1, overlap, round(0.2476 * days**0.7361))
    varying = [gain for gain in gains.T if not np.isnan(gain).all() and np.nanmax(gain) > np.nanmin(gain)]
    lengths = [mean_block_length(np.sign(gain) * np.sqrt(np.abs(gain))) for gain in varying]
    asked = round(2 * float(np.median(lengths))) if lengths else 1
    longest = min(max(days // 3, overlap), days)
    return int(max(1, min(max(least, asked), longest)))


def _common_days(values: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Give the columns that are not empty, and their values on the days that all of them have."""
    columns = np.flatnonzero(~np.isnan(values).all(axis=0))
    kept = values[:, columns]
    return columns, kept[~np.isnan(kept).any(axis=1)]


def _rounding(*losses: Floats) -> float:
    """Give the size below which a difference of losses is rounding."""
    return float(4 * np.finfo(np.float64).eps * max(np.nanmax(np.abs(values)) for values in losses))


def judge_tickers(
    predictions: pd.DataFrame,
    references: Sequence[str],
    variants: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ask on each ticker by itself which models may be the best, and whether any variant beats a reference.

    Parameters
    ----------
    predictions
        One row for each forecast: ``date``, ``ticker``, ``model``, ``seed``, ``actual``, ``predicted``. A
        row with a NaN counts nowhere. Squared errors are averaged over seeds.
    references
        Of the second question.
    variants
        The models of the second question; the first is about all.
    resamples, seed
        See `stepwise_p_values`.

    Returns
    -------
    confidence : DataFrame
        p-values of `model_confidence_set`, a row for each model and a column for each ticker; NaN where
        the model has no forecast.
    ability : DataFrame
        p-values of `spa_p_value`, a row for each reference and a column for each ticker.
    """
    losses = predictions.assign(loss=(predictions["predicted"] - predictions["actual"]) ** 2)
    models = list(dict.fromkeys(losses["model"]))
    confidence, ability = {}, {}
    for ticker, own in losses.groupby("ticker", sort=False):
        wide = own.pivot_table(index="date", columns="model", values="loss").reindex(columns=models)
        first = wide[references[0]].to_numpy()[:, None] - wide.to_numpy()
        found = model_confidence_set(
            wide.to_numpy(), block=common_block(first), resamples=resamples, seed=seed
        )
        confidence[ticker] = pd.Series(found.p_values, index=models)
        tried = wide[[name for name in variants if name in wide]].to_numpy()
        p_values = {}
        for name in references:
            against = wide[name].to_numpy()
            block = common_block(against[:, None] - tried)
            p_values[name] = spa_p_value(against, tried, block=block, resamples=resamples, seed=seed)
        ability[ticker] = pd.Series(p_values)
    return pd.DataFrame(confidence), pd.DataFrame(ability)
