"""Forecast distributions side by side: coverage, width, proper scores and backtests, and their pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from farm.base.types import Floats, quantile_name
from farm.evaluation.selection import LEVEL, common_block, stepwise_p_values
from farm.evaluation.significance import diebold_mariano
from farm.report.pictures import Pictures
from farm.report.tables import FEWEST_SEEDS, Trials
from farm.store import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REJECTED = 0.05  # p-value below which a backtest rejects
_BACKTESTS = ("kupiec", "independence", "christoffersen")
RAW = "raw"  # stands for the forecast as it comes, beside its calibrations
MOST_PANELS = 12


@dataclass(frozen=True)
class Distributions:
    """What a sweep's forecast distributions come to: the table, a plain sentence and how to draw them."""

    table: pd.DataFrame
    sentence: str
    figures: Callable[[], Pictures]


def distributions(
    trials: Trials, references: Sequence[str], variants: Sequence[str], seeds: int, tried: Trials = ()
) -> Distributions | None:
    """Compare the forecast distributions of a sweep, if any of its variants has one.

    Parameters
    ----------
    trials
        What names each finished trial (model, ticker, seed), and its result.
    references
        The sweep's; the last one with quantiles is the one that distributions are compared with.
    variants
        The sweep's.
    seeds
        Seeds of each variant.
    tried
        Trials of a search beside them, which count in the p-values.
    """
    having = {key["model"] for key, record in trials if record.levels[""]}
    able = [name for name in references if name in having]
    if not able or not having & set(variants):
        return None
    table = distribution_table(trials, able[-1], variants, tried)
    sentence = distribution_sentence(table, able[-1], variants, seeds)
    return Distributions(table, sentence, partial(_figures, table, trials, able[-1], variants))


def _kind(record: Record) -> str:
    """Say what makes a model's distribution, for colours."""
    model = record.config["model"]
    if model.get("members", 1) > 1:
        return "ensemble"
    if model.get("passes", 1) > 1:
        return "dropout"
    return str(model.get("head", "pretrained")).replace("_", "-")


def _figures(table: pd.DataFrame, trials: Trials, reference: str, variants: Sequence[str]) -> Pictures:
    from farm.report.backfill_figures import coverage_over_time, forecast_fan
    from farm.report.forecast_figures import coverage_against_width, pit_histograms, skill_by_kind
    from farm.report.studies import forecast_of

    records: dict[str, list[Record]] = {}
    for key, record in trials:
        if record.levels[""]:
            records.setdefault(key["model"], []).append(record)
    kinds = {name: _kind(own[0]) if name in variants else "baseline" for name, own in records.items()}
    raw = table[table["evaluation"] == RAW]
    ranked = [name for name in raw["model"] if name in variants]
    best_of_kind = list({kinds[name]: name for name in reversed(ranked)}.values())
    shown = [name for name in raw["model"] if name in best_of_kind or name not in variants][:MOST_PANELS]
    pooled = {name: np.concatenate([own.array("pit/") for own in records[name]]) for name in shown}
    baselines = [name for name in records if name not in variants]
    draw: dict[str, Callable[[], Figure]] = {
        "pit": partial(pit_histograms, pooled),
        "coverage_against_width": partial(coverage_against_width, table, kinds),
        "pinball_skill": partial(skill_by_kind, table, baselines, reference),
    }
    if ranked:
        best, ticker = records[ranked[0]][0], str(trials[0][0]["ticker"])
        frame = best.forecast()
        times, actual = frame["date"].to_numpy().astype("datetime64[D]"), frame["actual"].to_numpy()
        names = ("", *(calibrator["name"] for calibrator in best.config["study"]["calibrators"]))
        parts = {f"{ranked[0]}, {part or RAW}": forecast_of(best, part) for part in names}
        draw["intervals"] = partial(forecast_fan, times, actual, dict(list(parts.items())[:3]), ticker)
        draw["coverage"] = partial(coverage_over_time, times, actual, parts)
    return Pictures(draw)


def distribution_table(
    trials: Trials, reference: str, variants: Sequence[str], tried: Trials = ()
) -> pd.DataFrame:
    """Lay out every forecast distribution of a sweep, the best by pinball loss first.

    Parameters
    ----------
    trials
        What names each finished trial (model, ticker, seed), and its result.
    reference
        The baseline whose distribution the others are compared with, like with like: raw with raw, and
        calibrated with what the same calibrator makes of the reference.
    variants
        The models that are tested; all others are baselines.
    tried
        Trials of a search beside them: no rows, but they count in the p-values after selection.

    Returns
    -------
    DataFrame
        One row for each model and ``evaluation`` (``raw`` or a calibrator) with quantiles, means over
        tickers and seeds:

        - ``coverage``, ``volatile_coverage``: shares of days inside the interval, of all days and of
          the most volatile quarter; ``nominal``: what they should be; ``width`` and ``volatile_width`` in
          the unit of the target;
        - ``pinball`` over the levels of the reference that the model has, and ``crps``;
        - ``log_score`` of a model with a density of its own and, such as ``log_score_9_quantiles``, that of
          the density which quantiles imply, of a head of quantiles, empirical errors and everything
          calibrated: a column for each kind, since kinds do not compare
          (`farm.evaluation.distribution.log_score_name`);
        - ``pinball_skill``: 1 - pinball / that of the reference after the same calibration, at the same
          levels and days, mean over replicates; ``dm_statistic`` and ``dm_p``: the two-sided
          Diebold-Mariano test of each day's difference, averaged over replicates; ``p_selected``: the same
          adjusted for all rows of variants, and for what was tried beside them (`stepwise_p_values`). NaN
          where the reference lacks the calibration;
        - ``best_reference``: the baseline and evaluation that has the lowest pinball loss of all;
          ``best_pinball_skill``, ``best_dm_statistic``, ``best_dm_p`` and ``best_p_selected``: as above,
          against it;
        - ``var1_hits``, ``var5_hits`` and, such as ``var1_kupiec_rejects``, the share of replicates on
          which that backtest rejects at 5 %.

        NaN where a model has no such quantiles. Empty if no trial has quantiles.
    """
    groups = _groups(trials)
    levels = groups[reference, ""][0][1].levels[""] if (reference, "") in groups else ()
    baselines = {at: own for at, own in groups.items() if at[0] not in variants}
    losses = {
        at: _pinball(own, at[1], levels)
        for at, own in baselines.items()
        if levels and all(set(levels) <= set(record.levels[at[1]]) for _, record in own)
    }
    best = min(losses, key=losses.__getitem__, default=(reference, ""))
    rows: list[dict[str, Any]] = []
    gains: dict[str, dict[_At, pd.Series]] = {"": {}, "best_": {}}
    for at, members in {**groups, **_groups(tried)}.items():
        model, part = at
        row: dict[str, Any] = {"model": model, "evaluation": part or RAW}
        row |= _scores([record for _, record in members], part)
        row |= {"pinball": _pinball(members, part, levels), "best_reference": _told(*best)}
        for beside in gains:
            other = best if beside else (reference, part)
            found, daily = _against(members, groups.get(other, ()), part, other[1])
            if other == at:
                found = {"pinball_skill": 0.0}
            elif daily is not None and (model in variants or at not in groups):
                gains[beside][at] = daily
            row |= {f"{beside}{name}": value for name, value in found.items()}
        rows.append({**row, "replicates": len(members)})
    if not rows:
        return pd.DataFrame()
    for beside, own in gains.items():
        adjusted = _selected(own)
        for row in rows:
            at = (row["model"], "" if row["evaluation"] == RAW else row["evaluation"])
            row[f"{beside}p_selected"] = adjusted.get(at, math.nan)
    table = pd.DataFrame(rows[: len(groups)])
    return table.sort_values(["best_pinball_skill", "model"], ascending=[False, True], ignore_index=True)


_At = tuple[str, str]  # a model and an evaluation
_Members = Sequence[tuple[str, Record]]  # replicates of one model: ticker and record


def _groups(trials: Trials) -> dict[_At, list[tuple[str, Record]]]:
    """Gather the replicates of each model and evaluation that has quantiles."""
    groups: dict[_At, list[tuple[str, Record]]] = {}
    for key, record in trials:
        for part, levels in record.levels.items():
            if levels and part not in record.oracles:
                groups.setdefault((key["model"], part), []).append((key["ticker"], record))
    return groups


def _told(model: str, part: str) -> str:
    return f"{model} {f'after {part}' if part else 'as it comes'}"


def _scores(records: Sequence[Record], part: str) -> dict[str, float]:
    """Average the stored scores of one evaluation over replicates."""

    def mean(section: str, name: str, middle: str = "") -> float:
        full = "/".join(filter(None, (section, part, middle, name)))
        values = [record.metrics[full] for record in records if full in record.metrics]
        return float(np.mean(values)) if values else math.nan

    first = records[0].levels[part]
    usual = 0.05 in first and 0.95 in first
    row = {
        "coverage": 1 - mean("interval", "violations"),
        "volatile_coverage": 1 - mean("interval", "violations", "volatile"),
        "nominal": 0.9 if usual else first[-1] - first[0],
        "width": mean("interval", "width"),
        "volatile_width": mean("interval", "width", "volatile"),
    }
    row |= {name: mean("interval", name) for name in ("crps", *_log_scores(records, part))}
    for level in ("var1", "var5"):
        row[f"{level}_hits"] = mean("risk", f"{level}_hits")
        for test in _BACKTESTS:
            full = "/".join(filter(None, ("risk", part, f"{level}_{test}_p")))
            values = [record.metrics[full] < REJECTED for record in records if full in record.metrics]
            row[f"{level}_{test}_rejects"] = float(np.mean(values)) if values else math.nan
    return row


def _log_scores(records: Sequence[Record], part: str) -> list[str]:
    """Name the log scores of one evaluation, by their kinds."""
    start = "/".join(filter(None, ("interval", part, "log_score")))
    names = (name.split("/")[-1] for record in records for name in record.metrics if name.startswith(start))
    return list(dict.fromkeys(names))


def _daily_pinball(record: Record, part: str, levels: tuple[float, ...]) -> pd.Series:
    """Return each day's pinball loss, averaged over levels, by date."""
    frame = record.forecast(part)
    columns = [quantile_name(level) for level in levels]
    error: Floats = frame["actual"].to_numpy()[:, None] - frame[columns].to_numpy()
    level = np.asarray(levels)
    return pd.Series(np.maximum(level * error, (level - 1) * error).mean(axis=1), index=frame["date"])


def _pinball(members: _Members, part: str, levels: tuple[float, ...]) -> float:
    """Return the mean pinball loss at those of the levels that a model has."""
    losses = []
    for _, record in members:
        if own := tuple(level for level in levels if level in record.levels[part]):
            losses.append(_daily_pinball(record, part, own).mean())
    return float(np.mean(losses)) if losses else math.nan


def _against(
    members: _Members, rivals: _Members, part: str, its: str
) -> tuple[dict[str, float], pd.Series | None]:
    """Compare an evaluation with a baseline's, replicate by replicate; also each day's mean gain."""
    base = dict(reversed(rivals))  # of a baseline with several seeds the first
    own, other = [], []
    for ticker, record in members:
        if ticker in base:
            levels = tuple(level for level in record.levels[part] if level in base[ticker].levels[its])
            if levels:
                own.append(_daily_pinball(record, part, levels))
                other.append(_daily_pinball(base[ticker], its, levels))
    names = ("pinball_skill", "dm_statistic", "dm_p")
    if not own:
        return dict.fromkeys(names, math.nan), None
    skills = [1 - mine.mean() / theirs.mean() for mine, theirs in zip(own, other, strict=True)]
    days = pd.concat([theirs - mine for mine, theirs in zip(own, other, strict=True)], axis=1)
    gain = days.mean(axis=1).dropna().sort_index()
    test = diebold_mariano(-gain.to_numpy(), np.zeros(len(gain)))
    values = (float(np.mean(skills)), test.statistic, test.p_value)
    return dict(zip(names, values, strict=True)), gain


def _selected(gains: Mapping[_At, pd.Series]) -> dict[_At, float]:
    """Return the p-value of each row's daily gain, adjusted for all of them."""
    if not gains:
        return {}
    wide = pd.concat(list(gains.values()), axis=1).sort_index().to_numpy(np.float64)
    p_values = stepwise_p_values(np.zeros(len(wide)), -wide, block=common_block(wide))
    return dict(zip(gains, p_values.tolist(), strict=True))


def distribution_sentence(table: pd.DataFrame, reference: str, variants: Sequence[str], seeds: int) -> str:
    """Say in one plain sentence which variants know the distribution better than the reference.

    Parameters
    ----------
    table, reference
        See `distribution_table`.
    variants
        The models in question.
    seeds
        Fewest seeds behind one of them.
    """
    own = table[table["model"].isin(list(variants)) & table["best_pinball_skill"].notna()]
    if len(own) == 0:
        return ""
    better, above_all = (own[_shown(own, beside)] for beside in ("", "best_"))
    row = next(some for some in (above_all, better, own) if len(some)).iloc[0].to_dict()
    part = "" if row["evaluation"] == RAW else row["evaluation"]
    most = row["best_reference"]
    count, above = (len(set(some["model"])) for some in (better, above_all))
    like = _told(reference, part)
    distances = {like: _distance(row, "", like), most: _distance(row, "best_", most)}
    few = "; fewer than 3 seeds: too few to trust" if seeds < FEWEST_SEEDS else ""
    return (
        f"Distributions: {count} of {own['model'].nunique()} variants, raw or calibrated,"
        f" {'has' if count == 1 else 'have'} a pinball loss shown to be below that of {reference} with the"
        f" same calibration, and {above} below that of the best baseline, {most}; the best,"
        f" {_told(row['model'], part)}, has {' and '.join(distances.values())}{few}."
    )


def _shown(table: pd.DataFrame, beside: str) -> pd.Series:
    """Return which rows are better, by themselves and once all that was tried is counted."""
    shown: pd.Series = (
        (table[f"{beside}pinball_skill"] > 0)
        & (table[f"{beside}dm_statistic"] < 0)
        & (table[f"{beside}dm_p"] < LEVEL)
        & (table[f"{beside}p_selected"] < LEVEL)
    )
    return shown


def _distance(row: Mapping[Any, Any], beside: str, rival: str) -> str:
    skill = row[f"{beside}pinball_skill"]
    if math.isnan(skill):
        return f"no {rival} to compare with"
    size = f"{abs(100 * skill):.1f} % {'lower' if skill > 0 else 'higher'} loss than {rival}"
    p_values = (row[f"{beside}{name}"] for name in ("dm_p", "p_selected"))
    words = ("DM p", "p after selection")
    told = (f"{w} {'< 0.001' if p < 0.001 else f'= {p:.2g}'}" for w, p in zip(words, p_values, strict=True))
    return f"{size} ({'; '.join(told)})"
