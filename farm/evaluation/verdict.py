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
from farm.evaluation.evidence import detectable_gain, memory, variance_known
from farm.evaluation.selection import (
    FEWEST_DAYS,
    FEWEST_STRETCHES,
    LEVEL,
    common_block,
    model_confidence_set,
    stepwise_p_values,
)
from farm.evaluation.significance import diebold_mariano, percentile_interval, resampled_weights


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
    """Judge every model on the test days, against the reference baselines and the best baseline.

    How to read a row. ``{ref}_rmse_skill`` is 1 - rmse / rmse of the reference on the same ticker
    and days, by the geometric mean of the ratios over the replicates: 0.02 is an error 2 % smaller, and 0 is
    no gain. A ticker on which the reference is never wrong has no ratio and is left out.
    ``beats`` is about the first reference: ``yes`` where the skill is positive, the Diebold-Mariano
    test finds the losses smaller at 5 % and they stay so after selection (``{ref}_p_selected`` below
    5 %); ``no`` where the skill is not positive; ``not shown`` where it is positive but may be chance,
    or could not be measured; ``no test`` where there are too few days that no two forecasts share.
    ``beats_best`` is the same about ``best``, the baseline with the least error on these very test days, as
    ``best_rmse_skill``, ``best_dm_p`` and ``best_p_selected`` are. ``dm_statistic`` is negative where the
    model loses less than the first reference, and ``dm_p`` is two-sided and not adjusted: of twenty variants
    as good as the reference, about one has a ``dm_p`` below 0.05.

    What is corrected for. ``{ref}_p_selected`` is adjusted for all variants of this table, drawn ones
    (``--samples``) included: if none is better than this reference, the chance that one or more has a
    value below 0.05 is about 0.05, whichever is picked afterwards (`stepwise_p_values`). It is not
    adjusted for variants that other sweeps tried on the same days, for a design that was changed after
    a look at them, nor for the number of references. ``mcs_p`` is of another question, which of all
    models, baselines too, may be the best: those with a value above 0.05 are the 95 % model confidence
    set (`model_confidence_set`).

    All tests run on one series: each day's difference of squared errors over the variance that was known
    the day before (`variance_known` of the reference's errors), averaged over tickers and seeds. So calm and
    wild days and tickers count alike, as in the skill; where the two disagree on the sign, a variant is
    ``not shown`` to beat. Assets move together, and so do a variant's seeds; a series for each would count
    the same day many times over. Forecasts of several days (a column ``lead``) are judged by the days they
    start on: one loss for each start, the mean over leads, over the ticker's mean error; starts that overlap
    are one stretch, and fewer than eight stretches are no evidence: no p, no confidence set, no interval.
    The intervals resample days in blocks (`common_block`), and keep tickers and seeds: they show what other
    days could have brought, not other assets.

    A model that lacks tickers or days of the first reference is judged apart, on what it has: it counts
    in nobody else's p-values, and its row, marked in ``apart``, stands last.

    Parameters
    ----------
    predictions
        One row for each forecast, in any order: ``date``, ``ticker``, ``model``, ``seed``,
        ``actual`` and ``predicted``, and of forecasts of several days ``start``, the last day known to each,
        and ``lead``; other columns are left alone. A missing day is an absent row or a NaN, and is skipped,
        never taken for 0.
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
        ``expected`` (tickers x seeds seen in any model of its role; tickers for a settled one),
        ``settled`` and ``apart``; ``best``, ``beats_best`` and the like, see above; ``detectable``, the gain
        in RMSE that these days would show half the time of such a model (`detectable_gain`); and ``starts``
        and ``stretches``, how many days forecasts start on and how many stretches they span. A model without
        forecasts has replicates 0 and NaN scores, and stands last.

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
    scores = _scores(table, baselines)
    tickers, seeds = scores["ticker"].nunique(), _seeds(scores, variants, baselines, settled)
    first = f"{references[0]}_rmse_skill"
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        row: dict[str, Any]
        role = "variant" if name in variants else "baseline"
        own = scores.iloc[table.of(name)]
        row = {column: _mean(own[column]) for column in ("rmse", "mae", "direction_accuracy")}
        row |= {f"{other}_rmse_skill": mean_skill(own[f"vs/{other}_rmse_skill"]) for other in baselines}
        # A replicate without a single forecast is one that failed.
        measured = own[own["rmse"].notna()]
        row |= {"seeds": measured["seed"].nunique(), "replicates": len(measured)}
        row |= {"expected": tickers * seeds[name], "settled": name in settled}
        row |= {
            "apart": table.lacks(name, references[0]),
            "starts": table.starts,
            "stretches": table.stretches,
        }
        rows[name] = {"model": name, "role": role, **row}
    best = _best(rows, baselines, references[0])
    against = dict.fromkeys((*references, best))
    daily = {other: _daily_losses(table, names, other) for other in against}
    whole = [name for name in names if not rows[name]["apart"] and rows[name]["replicates"]]
    judged = table.stretches >= FEWEST_STRETCHES and table.starts >= FEWEST_DAYS
    intervals = _intervals(table, names, references[0], resamples, seed) if judged else {}
    for other in against:
        p_values = _selected(daily[other], names, variants, whole, resamples, seed)
        for name, row in rows.items():
            row[f"{other}_p_selected"] = p_values[name]
    confidence = _confidence(daily[references[0]], whole, resamples, seed)
    for name, row in rows.items():
        row |= {f"{column}_{end}": math.nan for column in ("rmse", first) for end in ("lo", "hi")}
        row |= intervals.get(name, {}) | _diebold_mariano(daily[references[0]], name)
        row |= {"mcs_p": confidence.get(name, math.nan)}
        row |= {"best": best, "best_rmse_skill": row[f"{best}_rmse_skill"]}
        row |= {"best_p_selected": row[f"{best}_p_selected"]}
        row |= {f"best_{key}": v for key, v in _diebold_mariano(daily[best], name).items()}
        row["detectable"] = _detectable(daily[references[0]], name)
        row["stretches"] = daily[references[0]].stretches[name]
        if row["role"] == "variant":
            row["beats"] = _beats(row, references[0], "dm", daily[references[0]].judges(name))
            row["beats_best"] = _beats(row, "best", "best_dm", daily[best].judges(name))
        else:
            row |= {"beats": "", "beats_best": ""}
    unranked = [name for name in baselines if name not in references]
    columns = [f"{name}_{column}" for name in unranked for column in ("rmse_skill", "p_selected")]
    found = pd.DataFrame(list(rows.values())).drop(columns=columns, errors="ignore")
    return found.sort_values(
        ["apart", first, "rmse", "model"], ascending=[True, False, True, True], ignore_index=True
    )


def _best(rows: Mapping[str, Mapping[str, Any]], baselines: Sequence[str], first: str) -> str:
    """Return the baseline with the least error on the test days; the first reference where none is less."""
    skill = {name: rows[name][f"{first}_rmse_skill"] for name in baselines if not rows[name]["apart"]}
    able = {name: value for name, value in skill.items() if value == value}
    found = max(able, key=lambda name: able[name], default=first)
    return found if able.get(found, 0.0) > 0 else first


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


def stretches_of(predictions: pd.DataFrame) -> int:
    """Count the stretches of days that no two forecasts share: the days where each is of the next one."""
    return _starts(predictions)[2]


def pair_skill(own: pd.DataFrame, reference: pd.DataFrame) -> float:
    """Compute the skill of one trial against one of a reference, on the days and items that both have.

    Parameters
    ----------
    own, reference
        Forecasts: ``date``, ``actual``, ``predicted``, and where there are ``item``, ``start``, ``lead``.

    Returns
    -------
    float
        As in `verdict` of a row of this one trial; NaN where nothing is shared, or the reference is never
        wrong.
    """
    both = pd.concat([own.assign(model="own"), reference.assign(model="reference")], ignore_index=True)
    both = both.assign(seed=0, ticker=both.get("item", ""))
    scores = replicate_scores(both, ("reference",))
    return mean_skill(scores.loc[scores["model"] == "own", "vs/reference_rmse_skill"])


@dataclass(frozen=True)
class _Aligned:
    """Forecasts as matrices: D days by K replicates, NaN where there is none.

    The replicates are sorted by model, ticker and seed, so those of a model stand side by side. `start`
    numbers the day that each row starts on, (D,), and `stretches` counts those that do not overlap.
    """

    replicates: pd.DataFrame
    actual: Floats
    predicted: Floats
    squared: Floats
    start: Ints
    stretches: int

    @property
    def starts(self) -> int:
        """Count the days that forecasts start on."""
        return int(self.start.max()) + 1

    def of_partner(self, reference: str, columns: Ints) -> Floats:
        """Return the forecasts of a reference beside replicates, (D, K); NaN where it lacks the ticker."""
        theirs = self.of(reference)
        tickers = self.replicates["ticker"].to_numpy()
        place = dict(zip(tickers[theirs], theirs, strict=True))
        found = np.full((len(self.predicted), len(columns)), np.nan)
        for k, column in enumerate(columns):
            if (partner := place.get(tickers[column])) is not None:
                found[:, k] = self.predicted[:, partner]
        return found

    def lacks(self, model: str, reference: str) -> bool:
        """Return whether a model lacks tickers or days of a reference."""
        partners, partner_of = self.partners(reference)
        columns, there = self.of(model), self.of(reference)
        tickers = self.replicates["ticker"].to_numpy()
        if not len(columns) or not len(there):
            return False
        if set(tickers[columns]) != set(tickers[there]):
            return True
        missing = np.isnan(self.squared[:, columns]) & ~np.isnan(partners[:, partner_of[columns]])
        return bool(missing.any())

    def losses(self, values: Floats) -> Floats:
        """Average over the rows that start on one day, (D, K) to (starts, K), without NaN."""
        if self.starts == len(self.start):
            return values
        known = ~np.isnan(values)
        total, count = (np.zeros((self.starts, values.shape[1])) for _ in range(2))
        np.add.at(total, self.start, np.where(known, values, 0.0))
        np.add.at(count, self.start, known)
        with np.errstate(invalid="ignore"):
            return total / count

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
    when = ["start", "lead"] if "lead" in predictions else ["date"]
    keys = [*when, "model", "ticker", "seed"]
    twice = predictions.duplicated(keys)
    if twice.any():
        first = predictions.loc[twice, keys].iloc[0].to_dict()
        raise ValueError(f"{int(twice.sum())} predictions are there twice, such as {first}")
    truths = predictions.groupby([*when, "ticker"])["actual"]
    low, high = truths.min().to_numpy(np.float64), truths.max().to_numpy(np.float64)
    # A truth may have passed through single precision on its way here.
    disagree = np.abs(high - low) > 1e-6 * np.maximum(np.abs(low), np.abs(high))
    if disagree.any():
        raise ValueError(
            f"two models disagree on what came to pass on {int(disagree.sum())} (date, ticker) pairs"
        )
    days, start, stretches, row = _starts(predictions)
    names = keys[len(when) :]
    replicates = predictions[names].drop_duplicates().sort_values(names, ignore_index=True)
    column = pd.MultiIndex.from_frame(replicates).get_indexer(pd.MultiIndex.from_frame(predictions[names]))
    actual = np.full((days, len(replicates)), np.nan)
    predicted = actual.copy()
    actual[row, column] = predictions["actual"]
    predicted[row, column] = predictions["predicted"]
    return _Aligned(replicates, actual, predicted, (predicted - actual) ** 2, start, stretches)


def _starts(predictions: pd.DataFrame) -> tuple[int, Ints, int, Ints]:
    """Return the rows of a matrix of forecasts: one a day, or a start and lead where they are of several.

    Returns
    -------
    tuple
        How many rows there are; the number of the start of each; how many stretches of as many days as a
        forecast is long do not overlap; and the row of each prediction.
    """
    if "lead" not in predictions:
        days, row = np.unique(predictions["date"].to_numpy(), return_inverse=True)
        return len(days), np.arange(len(days)), len(days), row
    pairs = pd.MultiIndex.from_frame(predictions[["start", "lead"]])
    known = pairs.unique().sort_values()
    row = known.get_indexer(pairs)
    number, firsts = pd.factorize(known.get_level_values("start"), sort=True)
    horizon = int(predictions["lead"].max())
    calendar = np.unique(np.concatenate([predictions["date"].to_numpy(), predictions["start"].to_numpy()]))
    places = np.searchsorted(calendar, np.asarray(firsts, dtype=calendar.dtype))
    # A last forecast that is cut short is no stretch of its own.
    longest = predictions.groupby("start")["lead"].max().to_numpy()
    whole = places[longest == horizon]
    stretches, free = 0, -1
    for place in whole:
        if place >= free:
            stretches, free = stretches + 1, int(place) + horizon
    return len(known), np.asarray(number), stretches, row


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
    """Return 1 - rmse / rmse of the partner from mean squared errors; NaN where the partner has none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        skill: Floats = np.where(squared == partner, 0.0, 1 - np.sqrt(squared / partner))
    return np.where(partner > 0, skill, np.nan)


def mean_skill(skill: Any) -> float:
    """Average skill over replicates by the geometric mean of the ratios, without NaN."""
    known = np.asarray(skill, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known) or (known == 1).any():
        return float(known.max()) if len(known) else math.nan
    return float(-np.expm1(np.log1p(-known).mean()))


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
    partners, partner_of = table.partners(reference)
    everything, partners = table.losses(table.squared), table.losses(partners)
    days, overlap = len(everything), _overlap(table.starts, table.stretches)
    block = common_block(_row_means(everything[:, table.of(reference)])[:, None], overlap)
    weights = resampled_weights(days, resamples=resamples, seed=seed, block=block)
    drawn_partners = _resampled_means(weights, partners)
    intervals = {}
    for model in models:
        columns = table.of(model)
        squared = everything[:, columns]
        drawn = _resampled_means(weights, squared)
        own, other = _both(squared, partners[:, partner_of[columns]])
        # Most replicates have the days of the reference: their draws are there already.
        lost = np.isnan(own).any(axis=0)
        paired, drawn_other = drawn.copy(), drawn_partners[:, partner_of[columns]]
        paired[:, lost] = _resampled_means(weights, own[:, lost])
        drawn_other[:, lost] = _resampled_means(weights, other[:, lost])
        rmse = percentile_interval(_row_means(np.sqrt(drawn)))
        with np.errstate(divide="ignore"):
            ratios = np.log1p(-_skill(paired, drawn_other))
        skill = percentile_interval(-np.expm1(_row_means(ratios)))
        named = {"rmse": rmse, f"{reference}_rmse_skill": skill}
        intervals[model] = {
            f"{name}_{end}": x
            for name, ends in named.items()
            for end, x in zip(("lo", "hi"), ends, strict=True)
        }
    return intervals


@dataclass(frozen=True)
class _DailyLosses:
    """Standardised losses of models and of a reference on the same tickers, averaged over replicates.

    Parameters
    ----------
    reference
        Its name.
    own, other
        Of each model and of the reference beside it, (starts,) by model, NaN on a day without both.
    stretches
        Of each model: how many there are of days that no two forecasts share, or over which the difference
        of its forecasts from the reference's stays what it is (`memory`).
    """

    reference: str
    own: dict[str, Floats]
    other: dict[str, Floats]
    stretches: dict[str, int]

    def judges(self, model: str) -> bool:
        """Return whether there is enough to judge a model by."""
        enough = (~np.isnan(self.other[self.reference])).sum() >= FEWEST_DAYS
        return bool(enough and self.stretches[model] >= FEWEST_STRETCHES)

    def block(self, models: Sequence[str]) -> int:
        """Choose a block for the gains of models."""
        reach = [_overlap(len(self.other[self.reference]), self.stretches[name]) for name in models]
        return common_block(self.gains(models), int(np.median(reach)))

    def gains(self, models: Sequence[str]) -> Floats:
        """Return how much less each model loses than the reference, (starts, K)."""
        gains = [self.other[name] - self.own[name] for name in models]
        return np.stack(gains, axis=1) if gains else np.empty((len(self.other[self.reference]), 0))


def _overlap(starts: int, stretches: int) -> int:
    return max(1, -(-starts // max(stretches, 1)))


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
    squared, partners = table.losses(table.squared), table.losses(partners)
    if table.starts == len(table.start):
        known = variance_known(partners)
    else:  # what the starts before have come to is not known yet where they overlap
        known = np.broadcast_to(_column_means(partners), partners.shape)
        known = np.where(known > 0, known, np.nan)
    own, other, stretches = {}, {}, {}
    for model in models:
        columns = table.of(model)
        stretches[model] = table.stretches
        if table.starts == len(table.start) and len(columns):
            mine = table.predicted[:, columns]
            theirs = table.of_partner(reference, columns)
            stretches[model] = int(table.starts / memory(mine - theirs))
        scale = known[:, partner_of[columns]]
        pair = _both(squared[:, columns] / scale, partners[:, partner_of[columns]] / scale)
        own[model], other[model] = map(_row_means, pair)
    return _DailyLosses(reference, own, other, stretches)


def _diebold_mariano(daily: _DailyLosses, model: str) -> dict[str, float]:
    if model == daily.reference or not daily.judges(model):
        return {"dm_statistic": math.nan, "dm_p": math.nan}
    test = diebold_mariano(daily.own[model], daily.other[model], stretches=daily.stretches[model])
    return {"dm_statistic": test.statistic, "dm_p": test.p_value}


def _selected(
    daily: _DailyLosses,
    models: tuple[str, ...],
    variants: tuple[str, ...],
    whole: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """Return the p-value of each variant that accounts for the others; one that is judged apart is alone."""
    found = dict.fromkeys(models, math.nan)
    able = [name for name in sorted(variants) if daily.judges(name)]
    together = [name for name in able if name in whole]
    for family in filter(None, (together, *([name] for name in able if name not in whole))):
        # Variants may lack a ticker: what counts is the gain over the reference on the same tickers.
        against = daily.other[daily.reference if family is together else family[0]]
        p_values = stepwise_p_values(
            against,
            against[:, None] - daily.gains(family),
            block=daily.block(family),
            resamples=resamples,
            seed=seed,
        )
        found |= dict(zip(family, p_values.tolist(), strict=True))
    return found


def _confidence(daily: _DailyLosses, whole: Sequence[str], resamples: int, seed: int) -> dict[str, float]:
    """Return the p-value at which each model leaves the set of those that may be the best."""
    names = [name for name in sorted(whole) if daily.judges(name)]
    if not names:
        return {}
    comparable = daily.other[daily.reference][:, None] - daily.gains(names)
    found = model_confidence_set(comparable, block=daily.block(names), resamples=resamples, seed=seed)
    return dict(zip(names, found.p_values.tolist(), strict=True))


def _detectable(daily: _DailyLosses, model: str) -> float:
    if model == daily.reference or not daily.judges(model):
        return math.nan
    own, other = daily.own[model], daily.other[model]
    return detectable_gain(other, other - own, daily.stretches[model])


def _beats(row: Mapping[str, Any], reference: str, test: str, judged: bool) -> str:
    """Put a variant's numbers into the word of the table; see `verdict`."""
    skill = row[f"{reference}_rmse_skill"]
    if skill != skill:
        return "not shown"
    if not judged:
        return "no test"
    if skill <= 0:
        return "no"
    shown = row[f"{test}_statistic"] < 0 and row[f"{test}_p"] < LEVEL
    return "yes" if skill > 0 and shown and row[f"{reference}_p_selected"] < LEVEL else "not shown"
