"""Pictures that a study adds to those of every sweep, from the stored results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from farm.base.types import Forecast, quantile_name
from farm.report.backfill_figures import (
    correlation_heatmap,
    coverage_over_time,
    forecast_fan,
    latent_against_prior,
    latent_shift,
    scenario_bars,
)
from farm.report.latent import latent_figures
from farm.report.pictures import Pictures
from farm.report.surface import surface_figures
from farm.report.tables import Trials
from farm.store import Record

SCENARIOS = {
    "s1": "S1 oracle",
    "s2": "S2 mixed 80/20",
    "s3": "S3 realistic, z[T−1]",
    "s4": "S4 realistic, z[T]",
}


def study_figures(study: str, table: pd.DataFrame, evaluations: pd.DataFrame, trials: Trials) -> Pictures:
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
    Pictures
        By file stem.
    """
    draw = _DRAWN_BY.get(study)
    return draw(table, evaluations, trials) if draw else Pictures({})


def _backfill(table: pd.DataFrame, evaluations: pd.DataFrame, trials: Trials) -> Pictures:
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
    draw: dict[str, Callable[[], Figure]] = {}
    if not ranked:
        return Pictures(draw)
    best_latent = next((name for name in ranked if name in with_latent), None)
    for name in dict.fromkeys(n for n in (*with_latent[:1], best_latent) if n):
        record = mine[name]
        z = {SCENARIOS[s]: record.array(f"latent/{s}") for s in ("s1", "s3", "s4")}
        assets = (ticker, *record.config["study"]["peers"])
        realistic = {key: value for key, value in z.items() if key != SCENARIOS["s3"]}
        draw[f"latent_prior_{name}"] = partial(latent_against_prior, realistic)
        draw[f"latent_correlation_{name}"] = partial(correlation_heatmap, z, record.array("returns"), assets)
        draw[f"latent_shift_{name}"] = partial(latent_shift, z[SCENARIOS["s3"]], z[SCENARIOS["s4"]])
        scores = _scenario_scores(evaluations, name, str(table.loc[table["dm_p"].isna(), "model"].iloc[0]))
        draw[f"scenarios_{name}"] = partial(scenario_bars, scores, str(scores["name"].iloc[-1]))
    best = mine[ranked[0]]
    parts = [part for part, levels in best.levels.items() if levels and part.split("/")[0] not in SCENARIOS]
    forecasts = {f"{ranked[0]}, {part or 'raw'}": forecast_of(best, part) for part in parts}
    ranked_frame = best.forecast()
    times, actual = ranked_frame["date"].to_numpy().astype("datetime64[D]"), ranked_frame["actual"].to_numpy()
    draw["intervals"] = partial(forecast_fan, times, actual, dict(list(forecasts.items())[:3]), ticker)
    draw["coverage"] = partial(coverage_over_time, times, actual, forecasts)
    return Pictures(draw)


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


def forecast_of(record: Record, part: str) -> Forecast:
    """Give the forecast of one evaluation with its quantiles, in double precision."""
    frame = record.forecast(part)
    quantiles = frame[[quantile_name(level) for level in record.levels[part]]].to_numpy(np.float64)
    return Forecast(frame["predicted"].to_numpy(np.float64), quantiles, record.levels[part])


_Draw = Callable[[pd.DataFrame, pd.DataFrame, Trials], Pictures]
_DRAWN_BY: dict[str, _Draw] = {"backfill": _backfill, "surface": surface_figures, "generate": latent_figures}
