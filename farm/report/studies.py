"""Pictures that a study adds to those of every sweep, from the stored results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from farm.base.types import Forecast
from farm.report.backfill_figures import (
    correlation_heatmap,
    coverage_over_time,
    forecast_fan,
    latent_against_prior,
    latent_shift,
    scenario_bars,
)
from farm.report.latent_deep_figures import network_figures
from farm.report.latent_figures import (
    Scored,
    covariance_and_risk,
    densities,
    factor_loadings,
    imputation_errors,
    regime_timeline,
)
from farm.store import Record

MOST_FACTORS = 10  # that a picture of loadings has room for
Trials = Sequence[tuple[Mapping[str, Any], Record]]
SCENARIOS = {
    "s1": "S1 oracle",
    "s2": "S2 mixed 80/20",
    "s3": "S3 realistic, z[T−1]",
    "s4": "S4 realistic, z[T]",
}


def study_figures(
    study: str, table: pd.DataFrame, evaluations: pd.DataFrame, trials: Trials
) -> dict[str, Figure]:
    """Draw the pictures of a study; most have none of their own.

    Parameters
    ----------
    study
        Its name.
    table
        The verdict, best first.
    evaluations
        See `farm.report.tables.evaluation_table`.
    trials
        What names each finished trial (model, ticker, seed), and its result.

    Returns
    -------
    dict
        Figures by file stem.
    """
    draw = _DRAWN_BY.get(study)
    return draw(table, evaluations, trials) if draw else {}


def _backfill(table: pd.DataFrame, evaluations: pd.DataFrame, trials: Trials) -> dict[str, Figure]:
    """Draw the first variant with a latent beside the best one, on the first ticker and seed.

    The first is the recipe that the sweep sets out from. Intervals are those of the best variant.
    """
    ticker = trials[0][0]["ticker"]
    mine: dict[str, Record] = {}
    for key, record in trials:
        if key["ticker"] == ticker:
            mine.setdefault(key["model"], record)
    with_latent = [name for name, record in mine.items() if "s1" in record.levels]
    ranked = [name for name in table.loc[table["role"] == "variant", "model"] if name in mine]
    figures: dict[str, Figure] = {}
    if not ranked:
        return figures
    best_latent = next((name for name in ranked if name in with_latent), None)
    for name in dict.fromkeys(n for n in (*with_latent[:1], best_latent) if n):
        record = mine[name]
        z = {SCENARIOS[s]: record.array(f"latent/{s}") for s in ("s1", "s3", "s4")}
        assets = (ticker, *record.config["study"]["peers"])
        figures[f"latent_prior_{name}"] = latent_against_prior(
            {key: value for key, value in z.items() if key != SCENARIOS["s3"]}
        )
        figures[f"latent_correlation_{name}"] = correlation_heatmap(z, record.array("returns"), assets)
        figures[f"latent_shift_{name}"] = latent_shift(z[SCENARIOS["s3"]], z[SCENARIOS["s4"]])
        scores = _scenario_scores(evaluations, name, str(table.loc[table["dm_p"].isna(), "model"].iloc[0]))
        figures[f"scenarios_{name}"] = scenario_bars(scores, str(scores["name"].iloc[-1]))
    best = mine[ranked[0]]
    parts = [part for part, levels in best.levels.items() if levels and part.split("/")[0] not in SCENARIOS]
    forecasts = {f"{ranked[0]}, {part or 'raw'}": _forecast(best, part) for part in parts}
    ranked_frame = best.forecast()
    times, actual = ranked_frame["date"].to_numpy().astype("datetime64[D]"), ranked_frame["actual"].to_numpy()
    figures["intervals"] = forecast_fan(times, actual, dict(list(forecasts.items())[:3]), ticker)
    figures["coverage"] = coverage_over_time(times, actual, forecasts)
    return figures


def _scenario_scores(evaluations: pd.DataFrame, model: str, reference: str) -> pd.DataFrame:
    """Average the scenarios of a model, and a baseline, over tickers and seeds."""
    columns = ["rmse", "direction_accuracy", "violations"]
    every = evaluations[evaluations["days"] == "all"]
    rows = []
    for name, label, part in [
        *((model, label, s) for s, label in SCENARIOS.items()),
        (reference, reference, ""),
    ]:
        own = every[(every["model"] == name) & (every["evaluation"] == part)]
        row: dict[str, Any] = {"name": label}
        for column in columns:
            row |= {column: own[column].mean(), f"{column}_lo": own[column].min()}
            row[f"{column}_hi"] = own[column].max()
        rows.append(row)
    return pd.DataFrame(rows)


def _forecast(record: Record, part: str) -> Forecast:
    frame = record.forecast(part)
    quantiles = frame[[column for column in frame if str(column).startswith("q")]].to_numpy(np.float64)
    return Forecast(frame["predicted"].to_numpy(np.float64), quantiles, record.levels[part])


def _generate(table: pd.DataFrame, evaluations: pd.DataFrame, trials: Trials) -> dict[str, Figure]:
    """Draw what the models of days and of windows know beside the imputation that ranks them.

    The regimes and the factors are those of each model that has some; arrays are of the first seed.
    """
    records: dict[str, list[Record]] = {}
    for key, record in trials:
        records.setdefault(key["model"], []).append(record)
    order = [str(name) for name in table["model"] if name in records]
    models = {name: _scored(records[name]) for name in order}
    reference = str(table.loc[table["dm_p"].isna(), "model"].iloc[0])
    figures: dict[str, Figure] = {}
    ranked = f"{100 * records[order[0]][0].config['study']['hidden']:.0f}"
    parts = {"10": "test/hidden10/rmse", ranked: "test/rmse", "50": "test/hidden50/rmse"}
    errors = {name: [s.metrics[key] for key in parts.values()] for name, s in models.items()}
    figures["imputation"] = imputation_errors(
        pd.DataFrame.from_dict(errors, orient="index", columns=list(parts)), reference
    )
    if "density/log_likelihood" in models[reference].metrics:
        figures["density"] = densities(models, reference)
    figures["risk"] = covariance_and_risk(models, reference)
    first = {name: records[name][0] for name in order}
    told = {name: r for name, r in first.items() if r.has("regimes")}
    with_regimes = {name: r for name, r in told.items() if r.config["model"]["tell_from"] == "market"}
    if with_regimes:
        some = next(iter(with_regimes.values()))
        figures["regimes"] = regime_timeline(
            some.array("regime_days").astype("datetime64[D]"),
            some.array("market"),
            {name: r.array("regimes") for name, r in sorted(with_regimes.items(), key=_by_regimes)},
            some.forecast()["date"].to_numpy().astype("datetime64[D]")[0],
            some.config["study"]["market"],
        )
    for name, record in first.items():
        if record.has("loadings") and record.array("loadings").shape[1] <= MOST_FACTORS:
            study = record.config["study"]
            figures[f"loadings_{name}"] = factor_loadings(
                record.array("loadings"),
                record.array("idiosyncratic"),
                (study["market"], *study["assets"]),
                name,
            )
    return figures | network_figures(order, records)


def _by_regimes(item: tuple[str, Record]) -> tuple[int, bool]:
    """Put few regimes before many, and those with memory first."""
    return item[1].config["model"]["regimes"], not item[1].config["model"]["memory"]


def _scored(records: Sequence[Record]) -> Scored:
    """Average the metrics of a model's seeds, and take the daily arrays of the first."""
    names = set.intersection(*(set(record.metrics) for record in records))
    metrics = {name: float(np.mean([record.metrics[name] for record in records])) for name in names}
    daily = {n: records[0].array(n) if records[0].has(n) else None for n in ("density", "portfolio")}
    return Scored(metrics, **daily)


_Draw = Callable[[pd.DataFrame, pd.DataFrame, Trials], dict[str, Figure]]
_DRAWN_BY: dict[str, _Draw] = {"backfill": _backfill, "generate": _generate}
