"""Which variants beat the baselines, over all assets and seeds: the table a sweep ends with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from farm.base.types import Floats, Forecast, Ints
from farm.evaluation.accuracy import direction_accuracy, mae
from farm.evaluation.selection import LEVEL, common_block, model_confidence_set, stepwise_p_values
from farm.evaluation.significance import (
    diebold_mariano,
    mean_block_length,
    percentile_interval,
    resampled_weights,
)


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
    ``beats`` is about the first reference: ``yes`` where the skill is positive, the Diebold-Mariano
    test finds the losses smaller at 5 % and they stay so after selection (``{ref}_p_selected`` below
    5 %); ``no`` where the skill is not positive; ``not shown`` where it is positive but may be chance,
    or could not be measured. ``dm_statistic`` is negative where the model loses less than the first
    reference, and ``dm_p`` is two-sided and not adjusted: of twenty variants as good as the reference,
    about one has a ``dm_p`` below 0.05.

    What is corrected for. ``{ref}_p_selected`` is adjusted for all variants of this table, drawn ones
    (``--samples``) included: if none is better than this reference, the chance that one or more has a
    value below 0.05 is about 0.05, whichever is picked afterwards (`stepwise_p_values`). It is not
    adjusted for variants that other sweeps tried on the same days, for a design that was changed after
    a look at them, nor for the number of references. ``mcs_p`` is of another question, which of all
    models, baselines too, may be the best: those with a value above 0.05 are the 95 % model confidence
    set (`model_confidence_set`).

    All tests run on one series: each day's difference of squared errors, averaged over tickers and
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
        Bootstrap draws behind each 95 % interval and each adjusted p-value.
    seed
        Seed of those draws.

    Returns
    -------
    DataFrame
        One row a model, best skill against the first reference first: ``model``, ``role``
        (variant or baseline), ``beats`` (empty for a baseline), ``rmse`` with ``rmse_lo`` and
        ``rmse_hi``, ``mae`` (both in the unit of the target) and ``direction_accuracy`` (means over
        replicates), ``{ref}_rmse_skill`` for each reference, with ``_lo`` and ``_hi`` for the first,
        ``dm_statistic`` and ``dm_p`` (NaN for the reference itself), ``{ref}_p_selected`` for each
        reference (NaN for a baseline), ``mcs_p``, ``seeds``, ``replicates`` (on which the row rests),
        ``expected`` (tickers x seeds seen in any model of its role; tickers for a settled one) and
        ``settled``. A model without forecasts has replicates 0 and NaN scores, and stands last.

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
    intervals = _intervals(table, names, references[0], resamples, seed)
    daily = {reference: _daily_losses(table, names, reference) for reference in references}
    selected = _selected(daily, names, variants, resamples, seed)
    tickers, seeds = scores["ticker"].nunique(), _seeds(scores, variants, baselines, settled)
    first = f"{references[0]}_rmse_skill"
    rows: list[dict[str, Any]] = []
    for name in names:
        role = "variant" if name in variants else "baseline"
        own = scores.iloc[table.of(name)]
        row = {column: _mean(own[column]) for column in ("rmse", "mae", "direction_accuracy")}
        row |= {f"{other}_rmse_skill": _mean(own[f"vs/{other}_rmse_skill"]) for other in references}
        row |= intervals[name] | _diebold_mariano(daily[references[0]], name) | selected[name]
        beats = _beats(row, references[0]) if role == "variant" else ""
        # A replicate without a single forecast is one that failed.
        measured = own[own["rmse"].notna()]
        row |= {"seeds": measured["seed"].nunique(), "replicates": len(measured)}
        row |= {"expected": tickers * seeds[name], "settled": name in settled}
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

    @cached_property
    def _columns(self) -> dict[Any, Ints]:
        return {
            str(name): np.asarray(rows) for name, rows in self.replicates.groupby("model").indices.items()
        }

    def of(self, model: str) -> Ints:
        """Give the columns of a model."""
        return self._columns.get(model, np.empty(0, dtype=np.int64))

    def partners(self, reference: str) -> tuple[Floats, Ints]:
        """Give the squared errors of a reference, (D, T + 1), and each replicate's column in them.

        The last column is NaN, for the replicates whose ticker the reference lacks.
        """
        columns = self.of(reference)
        tickers = self.replicates["ticker"].to_numpy()
        place = {ticker: i for i, ticker in enumerate(tickers[columns])}
        if len(place) < len(columns):
            raise ValueError(f"reference {reference!r} has several seeds, expected one for each ticker")
        nothing = np.full((len(self.squared), 1), np.nan)
        squared = np.hstack([self.squared[:, columns], nothing])
        return squared, np.array([place.get(ticker, len(columns)) for ticker in tickers])


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
    """Average over resampled days, (R, D) weights and (D, K) values to (R, K), without NaN."""
    known = ~np.isnan(values)
    if known.all():
        whole: Floats = (weights @ values) / len(values)
        return whole
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
        partners, partner_of = table.partners(reference)
        own, other = _both(table.squared, partners[:, partner_of])
        scores[f"vs/{reference}_rmse_skill"] = _skill(_column_means(own), _column_means(other))
    return scores


def _intervals(
    table: _Aligned, models: tuple[str, ...], reference: str, resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """Give the 95 % intervals of each model's rmse and skill.

    All models see the same draws, and the block length comes from the reference alone: a further
    variant changes no other row's. One model at a time: the draws of all replicates of a large sweep
    would not fit into memory.
    """
    days = len(table.squared)
    block = mean_block_length(_row_means(table.squared[:, table.of(reference)]))
    weights = resampled_weights(days, resamples=resamples, seed=seed, block=min(block, days))
    partners, partner_of = table.partners(reference)
    drawn_partners = _resampled_means(weights, partners)
    intervals = {}
    for model in models:
        columns = table.of(model)
        squared = table.squared[:, columns]
        drawn = _resampled_means(weights, squared)
        own, other = _both(squared, partners[:, partner_of[columns]])
        # Most replicates have the days of the reference: their draws are there already.
        lost = np.isnan(own).any(axis=0)
        paired, drawn_other = drawn.copy(), drawn_partners[:, partner_of[columns]]
        paired[:, lost] = _resampled_means(weights, own[:, lost])
        drawn_other[:, lost] = _resampled_means(weights, other[:, lost])
        rmse = percentile_interval(_row_means(np.sqrt(drawn)))
        skill = percentile_interval(_row_means(_skill(paired, drawn_other)))
        named = {"rmse": rmse, f"{reference}_rmse_skill": skill}
        intervals[model] = {
            f"{name}_{end}": x
            for name, ends in named.items()
            for end, x in zip(("lo", "hi"), ends, strict=True)
        }
    return intervals


@dataclass(frozen=True)
class _DailyLosses:
    """Squared errors of models and of a reference on the same tickers, averaged over replicates.

    Parameters
    ----------
    reference
        Its name.
    own, other
        Of each model and of the reference beside it, (D,) by model, NaN on a day without both.
    """

    reference: str
    own: dict[str, Floats]
    other: dict[str, Floats]

    def gains(self, models: Sequence[str]) -> Floats:
        """Give how much less each model loses than the reference, (D, K)."""
        gains = [self.other[name] - self.own[name] for name in models]
        return np.stack(gains, axis=1) if gains else np.empty((len(self.other[self.reference]), 0))


def _seeds(
    scores: pd.DataFrame, variants: tuple[str, ...], baselines: tuple[str, ...], settled: frozenset[str]
) -> dict[str, int]:
    """Count the seeds that each model was to be run with: those seen in any model of its role."""
    counts: dict[str, int] = {}
    for peers in (variants, baselines):
        drawing = [peer for peer in peers if peer not in settled]
        seen = scores.loc[scores["model"].isin(drawing), "seed"].nunique()
        counts |= {peer: 1 if peer in settled else seen for peer in peers}
    return counts


def _daily_losses(table: _Aligned, models: tuple[str, ...], reference: str) -> _DailyLosses:
    partners, partner_of = table.partners(reference)
    own, other = {}, {}
    for model in models:
        columns = table.of(model)
        pair = _both(table.squared[:, columns], partners[:, partner_of[columns]])
        own[model], other[model] = map(_row_means, pair)
    return _DailyLosses(reference, own, other)


def _diebold_mariano(daily: _DailyLosses, model: str) -> dict[str, float]:
    if model == daily.reference:
        return {"dm_statistic": math.nan, "dm_p": math.nan}
    test = diebold_mariano(daily.own[model], daily.other[model])
    return {"dm_statistic": test.statistic, "dm_p": test.p_value}


def _selected(
    daily: Mapping[str, _DailyLosses],
    models: tuple[str, ...],
    variants: tuple[str, ...],
    resamples: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Give each model's p-values that account for the others."""
    options = {"resamples": resamples, "seed": seed}
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for reference, losses in daily.items():
        against = losses.other[reference]
        # Variants may lack a ticker: what counts is the gain over the reference on the same tickers.
        gains = losses.gains(sorted(variants))
        p_values = stepwise_p_values(against, against[:, None] - gains, block=common_block(gains), **options)
        adjusted = dict(zip(sorted(variants), p_values, strict=True))
        for name in models:
            found[name][f"{reference}_p_selected"] = float(adjusted.get(name, math.nan))
    losses = next(iter(daily.values()))
    gains = losses.gains(sorted(models))
    comparable = losses.other[losses.reference][:, None] - gains
    confidence = model_confidence_set(comparable, block=common_block(gains), **options)
    for name, p_value in zip(sorted(models), confidence.p_values, strict=True):
        found[name]["mcs_p"] = float(p_value)
    return found


def _beats(row: Mapping[str, float], reference: str) -> str:
    """Put a variant's numbers into the word of the table; see `verdict`."""
    skill = row[f"{reference}_rmse_skill"]
    if skill <= 0:
        return "no"
    shown = row["dm_statistic"] < 0 and row["dm_p"] < LEVEL and row[f"{reference}_p_selected"] < LEVEL
    return "yes" if skill > 0 and shown else "not shown"
