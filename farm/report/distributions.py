"""Forecast distributions side by side: coverage, width, proper scores and backtests, and their pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from farm.base.types import Floats, quantile_name
from farm.evaluation.significance import diebold_mariano
from farm.report.pictures import Pictures
from farm.report.tables import FEWEST_SEEDS, Trials
from farm.store import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REJECTED = 0.05  # p-value below which a backtest rejects
SIGNIFICANT = 0.05
_MEANS = ("crps", "log_score")
_BACKTESTS = ("kupiec_p", "independence_p", "christoffersen_p")
RAW = "raw"  # stands for the forecast as it comes, beside its calibrations
MOST_PANELS = 12


@dataclass(frozen=True)
class Distributions:
    """What a sweep's forecast distributions come to: the table, a plain sentence and how to draw them."""

    table: pd.DataFrame
    sentence: str
    figures: Callable[[], Pictures]


def distributions(
    trials: Trials, references: Sequence[str], variants: Sequence[str], seeds: int
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
    """
    having = {key["model"] for key, record in trials if record.levels[""]}
    able = [name for name in references if name in having]
    if not able or not having & set(variants):
        return None
    table = distribution_table(trials, able[-1])
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


def distribution_table(trials: Trials, reference: str) -> pd.DataFrame:
    """Lay out every forecast distribution of a sweep, the best by pinball loss first.

    Parameters
    ----------
    trials
        What names each finished trial (model, ticker, seed), and its result.
    reference
        The baseline whose distribution, as it comes, the others are compared with.

    Returns
    -------
    DataFrame
        One row for each model and ``evaluation`` (``raw`` or a calibrator) with quantiles, means over
        tickers and seeds:

        - ``coverage``, ``volatile_coverage``: shares of days inside the interval, of all days and of
          the most volatile quarter; ``nominal``: what they should be; ``width`` and ``volatile_width`` in
          the unit of the target;
        - ``pinball`` over the levels of the reference that the model has, ``crps`` and ``log_score``, which
          is that of the model's density where it has one, and of that which the quantiles imply for a
          head of quantiles, empirical errors and everything calibrated
          (`farm.evaluation.distribution.log_score`);
        - ``pinball_skill``: 1 - pinball / that of the reference, at the same levels and days, mean over
          replicates; ``dm_p``: the two-sided Diebold-Mariano p-value of each day's difference, averaged
          over replicates, which is not adjusted for the number of rows;
        - ``var1_hits``, ``var5_hits`` and, such as ``var1_kupiec_p``, the share of replicates on which
          that backtest rejects at 5 %.

        NaN where a model has no such quantiles. Empty if no trial has quantiles.
    """
    base = {key["ticker"]: record for key, record in trials if key["model"] == reference}
    groups: dict[tuple[str, str], list[tuple[str, Record]]] = {}
    for key, record in trials:
        for part, levels in record.levels.items():
            if levels and part not in record.oracles:
                groups.setdefault((key["model"], part), []).append((key["ticker"], record))
    rows = []
    for (model, part), members in groups.items():
        row: dict[str, Any] = {"model": model, "evaluation": part or RAW}
        row |= _scores([record for _, record in members], part)
        compared = [(ticker, record) for ticker, record in members if ticker in base]
        row |= _against([(record, base[ticker]) for ticker, record in compared], part)
        rows.append({**row, "replicates": len(members)})
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows).sort_values(["pinball_skill", "model"], ascending=[False, True])
    return table.reset_index(drop=True)


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
    row |= {name: mean("interval", name) for name in _MEANS}
    for level in ("var1", "var5"):
        row[f"{level}_hits"] = mean("risk", f"{level}_hits")
        for test in _BACKTESTS:
            full = "/".join(filter(None, ("risk", part, f"{level}_{test}")))
            values = [record.metrics[full] < REJECTED for record in records if full in record.metrics]
            row[f"{level}_{test}"] = float(np.mean(values)) if values else math.nan
    return row


def _daily_pinball(record: Record, part: str, levels: tuple[float, ...]) -> pd.Series:
    """Give each day's pinball loss, averaged over levels, by date."""
    frame = record.forecast(part)
    columns = [quantile_name(level) for level in levels]
    error: Floats = frame["actual"].to_numpy()[:, None] - frame[columns].to_numpy()
    level = np.asarray(levels)
    return pd.Series(np.maximum(level * error, (level - 1) * error).mean(axis=1), index=frame["date"])


def _against(pairs: Sequence[tuple[Record, Record]], part: str) -> dict[str, float]:
    """Compare an evaluation with the reference, pair by pair and day by day."""
    row = {"pinball": math.nan, "pinball_skill": math.nan, "dm_statistic": math.nan, "dm_p": math.nan}
    own, other = [], []
    for record, reference in pairs:
        levels = tuple(level for level in record.levels[part] if level in reference.levels[""])
        if levels:
            own.append(_daily_pinball(record, part, levels))
            other.append(_daily_pinball(reference, "", levels))
    if not own:
        return row
    row["pinball"] = float(np.mean([loss.mean() for loss in own]))
    skills = [1 - mine.mean() / theirs.mean() for mine, theirs in zip(own, other, strict=True)]
    row["pinball_skill"] = float(np.mean(skills))
    days = pd.concat([mine - theirs for mine, theirs in zip(own, other, strict=True)], axis=1)
    difference = days.mean(axis=1).dropna().to_numpy()
    if difference.any():
        test = diebold_mariano(difference, np.zeros_like(difference))
        row |= {"dm_statistic": test.statistic, "dm_p": test.p_value}
    return row


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
    own = table[table["model"].isin(list(variants)) & table["pinball_skill"].notna()]
    if len(own) == 0:
        return ""
    best = own.iloc[0]
    better = own[(own["pinball_skill"] > 0) & (own["dm_statistic"] < 0) & (own["dm_p"] < SIGNIFICANT)]
    names = len(set(better["model"]))
    count = (
        f"{names} of {own['model'].nunique()} variants, raw or calibrated, {'has' if names == 1 else 'have'}"
    )
    how = "as it comes" if best["evaluation"] == RAW else f"after {best['evaluation']}"
    size = f"{abs(100 * best['pinball_skill']):.1f} % {'lower' if best['pinball_skill'] > 0 else 'higher'}"
    p = "< 0.001" if best["dm_p"] < 0.001 else f"= {best['dm_p']:.2g}"
    few = "; fewer than 3 seeds: too few to trust" if seeds < FEWEST_SEEDS else ""
    return (
        f"Distributions: {count} a pinball loss shown to be below that of {reference}; the best,"
        f" {best['model']} {how}, has {size} pinball loss (DM p {p}){few}."
    )
