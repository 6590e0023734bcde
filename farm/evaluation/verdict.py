"""Which variants beat the baselines, over all assets and seeds: the table a sweep ends with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from farm.base.types import Floats, Forecast, Ints
from farm.evaluation.accuracy import direction_accuracy, mae
from farm.evaluation.significance import (
    diebold_mariano,
    mean_block_length,
    percentile_interval,
    resampled_rows,
)

SIGNIFICANCE = 0.05


def verdict(
    predictions: pd.DataFrame,
    references: tuple[str, ...],
    variants: tuple[str, ...],
    baselines: tuple[str, ...],
    *,
    settled: frozenset[str] = frozenset(),
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Judge every model on the test days, against the reference baselines.

    How to read a row. ``{ref}_rmse_skill`` is 1 - rmse / rmse of the reference on the same ticker
    and days, averaged over the replicates: 0.02 is an error 2 % smaller, and 0 is no gain.
    ``beats`` is about the first reference: ``yes`` where the skill is positive and the
    Diebold-Mariano test finds the losses smaller at 5 %; ``no`` where the skill is not positive;
    ``not shown`` where it is positive but may be chance, or could not be measured.
    ``dm_statistic`` is negative where the model loses less than the first reference, and ``dm_p``
    is two-sided. The p-values are not adjusted for the number of variants: of twenty variants as
    good as the reference, about one will have a p-value below 0.05.

    The test runs on one series: each day's difference of squared errors, averaged over tickers and
    seeds. Assets move together, and so do a variant's seeds; a series for each would count the same
    day many times over. It weighs tickers by their variance, the skill weighs them alike: where
    the two disagree on the sign, a variant is ``not shown`` to beat. The intervals resample days
    in blocks (`mean_block_length` of the first reference's losses), and keep tickers and seeds:
    they show what other days could have brought, not other assets.

    Parameters
    ----------
    predictions
        One row for each forecast, in any order: ``date``, ``ticker``, ``model``, ``seed``,
        ``actual`` and ``predicted``; other columns are left alone. A missing day is an absent row
        or a NaN, and is skipped, never taken for 0.
    references
        Baselines that skill is measured against; the first is the one to beat.
    variants, baselines
        All models that were to be run. A baseline has one seed, which is compared with every seed
        of a variant.
    settled
        Variants that draw nothing, so that one seed says all.
    resamples
        Bootstrap draws behind each 95 % interval.
    seed
        Seed of those draws.

    Returns
    -------
    DataFrame
        One row a model, best skill against the first reference first: ``model``, ``role``
        (variant or baseline), ``beats`` (empty for a baseline), ``rmse`` with ``rmse_lo`` and
        ``rmse_hi``, ``mae`` (both in the unit of the target) and ``direction_accuracy`` (means over
        replicates), ``{ref}_rmse_skill`` for each reference, with ``_lo`` and ``_hi`` for the first,
        ``dm_statistic`` and ``dm_p`` (NaN for the reference itself), ``seeds``, ``replicates`` (on
        which the row rests), ``expected`` (tickers x seeds seen in any model of its role; tickers for
        a settled one) and ``settled``. A model without forecasts has replicates 0 and NaN scores, and
        stands last.

    Raises
    ------
    ValueError
        If there are no rows, a row is there twice, a model is neither variant nor baseline, a
        reference is no baseline or has several seeds, or two models disagree on what came to pass.
    """
    table = _align(predictions)
    names = (*variants, *baselines)
    unknown = sorted(set(table.replicates["model"]) - set(names))
    if unknown:
        raise ValueError(f"predictions of {unknown[0]!r}, which is neither a variant nor a baseline")
    if not references or not set(references) <= set(baselines):
        raise ValueError(f"references {references}, expected at least one, from the baselines {baselines}")
    scores = _scores(table, references)
    drawn = _resample(table, references[0], resamples, seed)
    first = f"{references[0]}_rmse_skill"
    rows: list[dict[str, Any]] = []
    for name in names:
        role, peers = ("variant", variants) if name in variants else ("baseline", baselines)
        row = _judge(table, scores, drawn, name, references)
        beats = _beats(row[first], row["dm_statistic"], row["dm_p"]) if role == "variant" else ""
        drawing = [peer for peer in peers if peer not in settled]
        seeds = 1 if name in settled else scores.loc[scores["model"].isin(drawing), "seed"].nunique()
        expected = scores["ticker"].nunique() * seeds
        row |= {"expected": expected, "settled": name in settled}
        rows.append({"model": name, "role": role, "beats": beats, **row})
    best_first = pd.DataFrame(rows).sort_values([first, "rmse", "model"], ascending=[False, True, True])
    return best_first.reset_index(drop=True)


def replicate_scores(predictions: pd.DataFrame, references: tuple[str, ...]) -> pd.DataFrame:
    """Score each replicate by itself.

    Parameters
    ----------
    predictions, references
        As for `verdict`.

    Returns
    -------
    DataFrame
        One row for each (``model``, ``ticker``, ``seed``), sorted, with ``mae``, ``rmse``,
        ``direction_accuracy`` and, for each reference, ``vs/{ref}_rmse_skill``: 1 - rmse / rmse of
        the reference, on the days of this ticker that both have; NaN where there are none.

    Raises
    ------
    ValueError
        As for `verdict`.
    """
    return _scores(_align(predictions), references)


@dataclass(frozen=True)
class _Aligned:
    """Forecasts as matrices: D days by K replicates, NaN where there is none.

    The replicates are sorted by model, ticker and seed, so those of a model stand side by side.
    """

    replicates: pd.DataFrame
    actual: Floats
    predicted: Floats
    squared: Floats

    def of(self, model: str) -> Ints:
        """Give the columns of a model."""
        return np.flatnonzero(self.replicates["model"] == model)

    def partners(self, reference: str) -> Floats:
        """Give the squared errors of a reference on each replicate's ticker, (D, K)."""
        columns = self.of(reference)
        tickers = self.replicates["ticker"].to_numpy()
        column_of = dict(zip(tickers[columns], columns, strict=True))
        if len(column_of) < len(columns):
            raise ValueError(f"reference {reference!r} has several seeds, expected one for each ticker")
        partners = np.full_like(self.squared, np.nan)
        for k, ticker in enumerate(tickers):
            if ticker in column_of:
                partners[:, k] = self.squared[:, column_of[ticker]]
        return partners


def _align(predictions: pd.DataFrame) -> _Aligned:
    if len(predictions) == 0:
        raise ValueError("got no predictions, expected at least one row")
    keys = ["date", "model", "ticker", "seed"]
    twice = predictions.duplicated(keys)
    if twice.any():
        first = predictions.loc[twice, keys].iloc[0].to_dict()
        raise ValueError(f"{int(twice.sum())} predictions are there twice, such as {first}")
    truths = predictions.groupby(["date", "ticker"])["actual"]
    low, high = truths.min().to_numpy(np.float64), truths.max().to_numpy(np.float64)
    # A truth may have passed through single precision on its way here.
    disagree = np.abs(high - low) > 1e-6 * np.maximum(np.abs(low), np.abs(high))
    if disagree.any():
        raise ValueError(
            f"two models disagree on what came to pass on {int(disagree.sum())} (date, ticker) pairs"
        )
    days, row = np.unique(predictions["date"].to_numpy(), return_inverse=True)
    replicates = predictions[keys[1:]].drop_duplicates().sort_values(keys[1:], ignore_index=True)
    column = pd.MultiIndex.from_frame(replicates).get_indexer(pd.MultiIndex.from_frame(predictions[keys[1:]]))
    actual = np.full((len(days), len(replicates)), np.nan)
    predicted = actual.copy()
    actual[row, column] = predictions["actual"]
    predicted[row, column] = predictions["predicted"]
    return _Aligned(replicates, actual, predicted, (predicted - actual) ** 2)


def _column_means(values: Floats) -> Floats:
    """Average over days, (D, K) to (K,), without NaN; NaN for an empty column.

    Each column is summed in the same order, so equal columns have means equal to the bit.
    """
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return means


def _resampled_means(weights: csr_array, values: Floats) -> Floats:
    """Average over resampled days, (R, D) weights and (D, K) values to (R, K), without NaN.

    The product is sparse because that one sums in the same order always; a dense one rounds
    differently with the number of threads.
    """
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: Floats = (weights @ np.where(known, values, 0.0)) / (weights @ known.astype(np.float64))
    return means


def _skill(squared: Floats, partner: Floats) -> Floats:
    """Give 1 - rmse / rmse of the partner from mean squared errors; 0 where the two are equal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        skill: Floats = np.where(squared == partner, 0.0, 1 - np.sqrt(squared / partner))
    return skill


def _both(values: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Keep of two matrices what both have."""
    missing = np.isnan(values) | np.isnan(other)
    return np.where(missing, np.nan, values), np.where(missing, np.nan, other)


def _mean(values: Iterable[float] | Floats) -> float:
    """Average without NaN; NaN if nothing is left."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else math.nan


def _row_means(values: Floats) -> Floats:
    """Average over replicates, (D, K) to (D,), without NaN."""
    return _column_means(np.ascontiguousarray(values.T))


def _scores(table: _Aligned, references: tuple[str, ...]) -> pd.DataFrame:
    scores = table.replicates.copy()
    forecasts = []
    for k in range(len(scores)):
        known = ~np.isnan(table.squared[:, k])
        forecasts.append((Forecast(table.predicted[known, k]), table.actual[known, k]))
    scores["mae"] = [mae(*pair) if len(pair[1]) else math.nan for pair in forecasts]
    scores["rmse"] = np.sqrt(_column_means(table.squared))
    scores["direction_accuracy"] = [
        direction_accuracy(*pair) if len(pair[1]) else math.nan for pair in forecasts
    ]
    for reference in references:
        own, other = _both(table.squared, table.partners(reference))
        scores[f"vs/{reference}_rmse_skill"] = _skill(_column_means(own), _column_means(other))
    return scores


def _resample(table: _Aligned, reference: str, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Draw days and give each replicate's rmse and skill on them, each (R, K).

    All models see the same draws, and the block length comes from the reference alone: a further
    variant changes no other row.
    """
    days = len(table.squared)
    block = mean_block_length(_row_means(table.squared[:, table.of(reference)]))
    rows = resampled_rows(days, resamples=resamples, seed=seed, block=min(block, days))
    numbered = rows + days * np.arange(resamples)[:, None]
    # How often each draw has each day: one product then replaces R selections of rows.
    weights = csr_array(
        np.bincount(numbered.ravel(), minlength=resamples * days).reshape(resamples, days) * 1.0
    )
    own, other = _both(table.squared, table.partners(reference))
    skill = _skill(_resampled_means(weights, own), _resampled_means(weights, other))
    return np.sqrt(_resampled_means(weights, table.squared)), skill


def _judge(
    table: _Aligned,
    scores: pd.DataFrame,
    drawn: tuple[Floats, Floats],
    model: str,
    references: tuple[str, ...],
) -> dict[str, float]:
    """Score one model over its replicates."""
    columns = table.of(model)
    own = scores.iloc[columns]
    judged = {"rmse": _mean(own["rmse"])}
    judged["rmse_lo"], judged["rmse_hi"] = percentile_interval(_row_means(drawn[0][:, columns]))
    judged["mae"] = _mean(own["mae"])
    judged["direction_accuracy"] = _mean(own["direction_accuracy"])
    skills = {name: _mean(own[f"vs/{name}_rmse_skill"]) for name in references}
    first = f"{references[0]}_rmse_skill"
    judged[first] = skills[references[0]]
    judged[f"{first}_lo"], judged[f"{first}_hi"] = percentile_interval(_row_means(drawn[1][:, columns]))
    judged |= {f"{name}_rmse_skill": skill for name, skill in skills.items()}
    if model == references[0]:
        judged |= {"dm_statistic": math.nan, "dm_p": math.nan}
    else:
        pair = _both(table.squared[:, columns], table.partners(references[0])[:, columns])
        test = diebold_mariano(_row_means(pair[0]), _row_means(pair[1]))
        judged |= {"dm_statistic": test.statistic, "dm_p": test.p_value}
    # A replicate without a single forecast is one that failed.
    measured = own[own["rmse"].notna()]
    return judged | {"seeds": measured["seed"].nunique(), "replicates": len(measured)}


def _beats(skill: float, statistic: float, p_value: float) -> str:
    """Put a variant's numbers into the word of the table; see `verdict`."""
    if skill <= 0:
        return "no"
    return "yes" if skill > 0 and statistic < 0 and p_value < SIGNIFICANCE else "not shown"
