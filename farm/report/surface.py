"""The surface study's results, brought into the arrays that its figures are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from farm.base.types import Floats, quantile_name
from farm.evaluation.checklist import checklist_metrics, hold
from farm.evaluation.paths import LEVELS
from farm.report.looks import looks_of
from farm.report.pictures import Pictures
from farm.report.surface_figures import (
    cell_heatmap,
    checklist_picture,
    cointegration_shares,
    deployments,
    errors_ahead,
    phase_curves,
    year_fan,
)
from farm.report.tables import Trials
from farm.store import Record

_WAYS = {"fast": "", "overlap": "overlap/"}  # parts of metric names


def surface_figures(table: pd.DataFrame, evaluations: pd.DataFrame, trials: Trials) -> Pictures:
    """Draw the surface study: all rows where they compare, else the best variant and baseline.

    What is one trial's own (fans, phases, checklist) is that of the first seed.

    Parameters
    ----------
    table, evaluations, trials
        See `farm.report.studies.study_figures`.

    Returns
    -------
    Pictures
        By file stem.
    """
    looks = looks_of(table)
    every: dict[str, list[Record]] = {}
    for key, record in trials:
        every.setdefault(key["model"], []).append(record)
    names = [name for name in table["model"] if name in every]
    first = {name: every[name][0] for name in names}
    mean = {name: _mean_metrics(every[name]) for name in names}
    variants = [name for name in names if looks[name].variant]
    baseline = next(name for name in table.loc[table["dm_p"].isna(), "model"] if name in every)
    chosen = tuple(dict.fromkeys((*variants[:2], baseline)))
    shown = {name: first[name] for name in dict.fromkeys((*variants[:1], baseline))}
    draw: dict[str, Callable[[], Figure]] = {
        "year_ahead": lambda: _fans(shown),
        "errors_ahead": lambda: errors_ahead(
            {name: _series(mean[name], "test/pass{}/rmse") for name in names},
            {name: np.mean([_rmse_by_lead(r) for r in every[name]], axis=0) for name in names},
            looks,
        ),
        "cells": lambda: _cells({name: mean[name] for name in chosen}, first[baseline]),
        "cointegration": lambda: cointegration_shares(_cointegration(mean), looks),
        "deployments": lambda: deployments(_both_ways({name: mean[name] for name in variants}), looks),
    }
    curves = {name: parts for name in variants if (parts := _by_phase(first[name]))}
    if curves:
        draw["phases"] = partial(phase_curves, curves, looks)
    for name in variants[:1]:
        skills = {
            column.removesuffix("_rmse_skill"): float(value)
            for column, value in table.set_index("model").loc[name].items()
            if str(column).endswith("_rmse_skill")
        }
        metrics = first[name].metrics | {f"vs/{ref}_rmse_skill": skill for ref, skill in skills.items()}
        if checklist_metrics(metrics):
            draw[f"checklist_{name.replace(' ', '-')}"] = partial(checklist_picture, hold(metrics), name)
    return Pictures(draw)


def _mean_metrics(records: Sequence[Record]) -> dict[str, float]:
    """Average what every record measured."""
    shared = set.intersection(*(set(record.metrics) for record in records))
    return {name: float(np.mean([record.metrics[name] for record in records])) for name in shared}


def _series(metrics: Mapping[str, float], name: str) -> Floats:
    """Gather numbered metrics, such as ``test/pass{}/rmse``, from 1 on."""
    values: list[float] = []
    while name.format(len(values) + 1) in metrics:
        values.append(metrics[name.format(len(values) + 1)])
    return np.array(values)


def _rmse_by_lead(record: Record) -> Floats:
    frame = record.forecast()
    lead = frame["lead"].to_numpy()
    squared = (frame["predicted"] - frame["actual"]).to_numpy() ** 2
    return np.asarray(np.sqrt(np.bincount(lead, squared)[1:] / np.bincount(lead)[1:]))


def _fans(records: Mapping[str, Record]) -> Figure:
    """Turn changes of the level into levels and draw them."""
    some = next(iter(records.values()))
    _, columns, row, column = some.array("grid").astype(int)
    at, cells = row * columns + column, len(some.items)
    lengths = some.array("lengths").astype(int)
    last = np.repeat(some.array("last")[:, at], lengths)
    fans = {}
    for name, record in records.items():
        frame = record.forecast().iloc[at::cells]
        ends = [quantile_name(level) for level in (LEVELS[0], LEVELS[-1])]
        drawn = frame[["predicted", *ends]].to_numpy(np.float64) + last[:, None]
        fans[name] = np.column_stack([drawn, record.array("level_paths").T])
    frame = some.forecast().iloc[at::cells]
    starts = [0, *np.cumsum(lengths)[:-1].tolist()]
    times = frame["date"].to_numpy().astype("datetime64[D]")
    return year_fan(times, frame["actual"].to_numpy(np.float64) + last, fans, starts)


def _cells(metrics: Mapping[str, Mapping[str, float]], record: Record) -> Figure:
    maturities, strikes = (
        list(dict.fromkeys(part)) for part in zip(*(i.split() for i in record.items), strict=True)
    )
    shape = (len(maturities), len(strikes))
    rmse = {
        name: np.array([own[f"test/grid/{item}/rmse"] for item in record.items]).reshape(shape)
        for name, own in metrics.items()
    }
    return cell_heatmap(rmse, maturities, strikes)


def _cointegration(metrics: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    rows = [
        {
            "model": name,
            "regime": regime,
            "generated": own[f"cointegration/generated/{regime}"],
            "real": own[real],
        }
        for name, own in metrics.items()
        for regime in ("crisis", "normal", "all")
        if (real := f"cointegration/real/{regime}") in own
    ]
    return pd.DataFrame(rows, columns=["model", "regime", "generated", "real"])


def _both_ways(metrics: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Gather both deployments of the models that have them."""
    names = {
        "rmse": "test/{}rmse",
        "violations": "interval/{}violations",
        "degradation": "test/{}degradation",
    }
    rows = []
    for model, own in metrics.items():
        row: dict[str, Any] = {"model": model}
        for column, name in names.items():
            row |= {f"{column}_{way}": own.get(name.format(part), np.nan) for way, part in _WAYS.items()}
        if "test/overlap/rmse" in own:
            rows.append(row)
    return pd.DataFrame(rows)


def _by_phase(record: Record) -> list[tuple[str, Floats, Floats]]:
    """Cut a learning curve into its phases, by the epochs that each was trained."""
    counts = {
        name.split("/")[0]: int(value) for name, value in record.metrics.items() if name.endswith("/epochs")
    }
    epochs = record.history.epochs if record.history is not None else ()
    parts, start = [], 0
    for phase in sorted(name for name in counts if name.startswith("phase")):
        own = epochs[start : start + counts[phase]]
        start += counts[phase]
        losses = [np.array([getattr(e, kind) for e in own]) for kind in ("train_loss", "val_loss")]
        parts.append((phase.replace("phase", "phase "), losses[0], losses[1]))
    return parts if start == len(epochs) else []
