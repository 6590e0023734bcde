"""The pictures of the generative study, from the stored results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from farm.report.latent_deep_figures import network_figures
from farm.report.latent_figures import (
    Scored,
    covariance_and_risk,
    densities,
    factor_loadings,
    imputation_errors,
    regime_timeline,
)
from farm.report.pictures import Pictures
from farm.report.tables import Trials
from farm.store import Record

MOST_FACTORS = 10  # that a picture of loadings has room for


def latent_figures(table: pd.DataFrame, evaluations: pd.DataFrame, trials: Trials) -> Pictures:
    """Draw what the models of days and of windows know beside the imputation that ranks them.

    The regimes and the factors are those of each model that has some; arrays are of the first seed.
    """
    records: dict[str, list[Record]] = {}
    for key, record in trials:
        records.setdefault(key["model"], []).append(record)
    order = [str(name) for name in table["model"] if name in records]
    models = {name: _scored(records[name]) for name in order}
    reference = str(table.loc[table["dm_p"].isna(), "model"].iloc[0])
    draw: dict[str, Callable[[], Figure]] = {}
    ranked = f"{100 * records[order[0]][0].config['study']['hidden']:.0f}"
    parts = {"10": "test/hidden10/rmse", ranked: "test/rmse", "50": "test/hidden50/rmse"}
    errors = {name: [s.metrics[key] for key in parts.values()] for name, s in models.items()}
    by_share = pd.DataFrame.from_dict(errors, orient="index", columns=list(parts))
    draw["imputation"] = partial(imputation_errors, by_share, reference)
    if "density/log_likelihood" in models[reference].metrics:
        draw["density"] = partial(densities, models, reference)
    draw["risk"] = partial(covariance_and_risk, models, reference)
    first = {name: records[name][0] for name in order}
    told = {name: r for name, r in first.items() if r.has("regimes")}
    with_regimes = {name: r for name, r in told.items() if r.config["model"]["tell_from"] == "market"}
    if with_regimes:
        some = next(iter(with_regimes.values()))
        draw["regimes"] = partial(
            regime_timeline,
            some.array("regime_days").astype("datetime64[D]"),
            some.array("market"),
            {name: r.array("regimes") for name, r in sorted(with_regimes.items(), key=_by_regimes)},
            some.forecast()["date"].to_numpy().astype("datetime64[D]")[0],
            some.config["study"]["market"],
        )
    for name, record in first.items():
        if record.has("loadings") and record.array("loadings").shape[1] <= MOST_FACTORS:
            study = record.config["study"]
            draw[f"loadings_{name}"] = partial(
                factor_loadings,
                record.array("loadings"),
                record.array("idiosyncratic"),
                (study["market"], *study["assets"]),
                name,
            )
    return Pictures({**draw, **network_figures(order, records).draw})


def _by_regimes(item: tuple[str, Record]) -> tuple[int, bool]:
    """Put few regimes before many, and those with memory first."""
    return item[1].config["model"]["regimes"], not item[1].config["model"]["memory"]


def _scored(records: Sequence[Record]) -> Scored:
    """Average the metrics of a model's seeds, and take the daily arrays of the first."""
    names = set.intersection(*(set(record.metrics) for record in records))
    metrics = {name: float(np.mean([record.metrics[name] for record in records])) for name in names}
    daily = {n: records[0].array(n) if records[0].has(n) else None for n in ("density", "portfolio")}
    return Scored(metrics, **daily)
