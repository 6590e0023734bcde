"""What a run of MLflow is told of a trial or a row of the verdict: tags, params and metrics as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from farm.evaluation.checklist import checklist_text
from farm.plan import Plan, Trial
from farm.store import Record, epochs_of_stages
from farm.views import SKILL

PRIMARY_METRIC = "test/rmse"
_SUMMARY = {  # metric of a row's run: column of the verdict
    "test/rmse": "rmse",
    "test/mae": "mae",
    "test/direction_accuracy": "direction_accuracy",
    "dm/statistic": "dm_statistic",
    "dm/p": "dm_p",
    "mcs/p": "mcs_p",
}
_AGAINST = ("rmse_skill", "p_selected")  # columns of the verdict for each reference
_BEST = {"best/val_loss": "val/best_loss", "best/epoch": "train/best_epoch"}  # the table shows the last value
_TOLD_APART = 8  # leading characters by which the parallel-coordinates plot tells values apart


def trial_tags(trial: Trial, record: Record) -> dict[str, str]:
    """Say which trial a run is of, where it comes from and what a reader should be warned of."""
    tags = {
        "farm.kind": trial.role,
        "farm.ticker": trial.ticker,
        "farm.signature": trial.signature,
        **record.tags,
        **{f"env/{name}": value for name, value in record.origin.items() if name != "revision"},
    }
    if "revision" in record.origin:
        tags["mlflow.source.git.commit"] = record.origin["revision"]
    for number, (name, stage) in enumerate(record.stages.items(), start=1):
        tags[f"stage/{number}"] = f"{name}: {stage}"
    if record.stages:
        tags["farm.checklist"] = checklist_text(record.metrics)
    if record.oracles:
        tags["farm.oracles"] = ", ".join(record.oracles)
    return tags


def trial_metrics(record: Record, skill: Mapping[str, float]) -> list[tuple[str, float, int]]:
    """Give the metrics of a trial: name, value and step, which is an epoch of its learning curve or 0.

    Parameters
    ----------
    record
        Its result.
    skill
        Its ``vs/`` metrics.
    """
    metrics = [(name, value, 0) for name, value in {**record.metrics, **skill}.items()]
    for epoch in record.history.epochs if record.history else ():
        metrics += [("train/loss", epoch.train_loss, epoch.epoch), ("val/loss", epoch.val_loss, epoch.epoch)]
    metrics += [(best, record.metrics[name], 0) for best, name in _BEST.items() if name in record.metrics]
    return metrics


def row_metrics(
    row: Mapping[Any, Any], records: Sequence[Record], references: Sequence[str]
) -> dict[str, float]:
    """Give the metrics of a row: means over its trials of what all of them have, and the verdict's figures.

    Parameters
    ----------
    row
        Of the verdict's table.
    records
        Its trials.
    references
        Baselines that the verdict compares with.
    """
    shared = set.intersection(*(set(record.metrics) for record in records))
    metrics = {name: sum(r.metrics[name] for r in records) / len(records) for name in sorted(shared)}
    metrics |= {name: row[column] for name, column in _SUMMARY.items()}
    metrics |= {f"ci/{end}": row[f"{references[0]}_rmse_skill_{end}"] for end in ("lo", "hi")}
    metrics |= {f"vs/best_{column}": row[f"best_{column}"] for column in _AGAINST}
    metrics |= {f"vs/{column}": row[column] for column in against(references)}
    return metrics | {SKILL.format(name): 100 * row[f"{name}_rmse_skill"] for name in references}


def tree_metrics(records: Sequence[Record], seconds: float) -> dict[str, float]:
    """Compare the epochs of all trials with those of their stages, each counted once."""
    scratch, trained = epochs_of_stages(records)
    if not trained:
        return {}
    metrics = {
        "tree/epochs_from_scratch": float(scratch),
        "tree/epochs_trained": float(trained),
        "tree/ratio": scratch / trained,
    }
    return {**metrics, "tree/wall_seconds": seconds} if seconds else metrics


def against(references: Sequence[str]) -> list[str]:
    """Name the columns of the verdict that compare with the references."""
    return [f"{reference}_{column}" for reference in references for column in _AGAINST]


def defined(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out what is NaN or infinite."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten a config to params: dotted keys, plain numbers."""
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            found[f"{prefix}{name}"] = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def labels(plan: Plan) -> dict[tuple[str, str], str]:
    """Mark with numbers the values of a param that the parallel-coordinates plot would merge.

    Returns
    -------
    dict
        Such as ``{("model.name", "surface_cvae"): "2 surface_cvae"}``, for texts alone: numbers stay plain.
    """
    values: dict[str, set[str]] = {}
    for trial in plan.trials:
        for name, value in {"variant": trial.row, **flat(trial.config.model_dump(mode="json"))}.items():
            values.setdefault(name, set()).add(value)
    marked: dict[tuple[str, str], str] = {}
    for name, found in values.items():
        texts = sorted(value for value in found if not _is_number(value))
        if len({text[:_TOLD_APART] for text in texts}) < len(texts):
            width = len(str(len(texts)))
            marked |= {(name, text): f"{i:0{width}d} {text}" for i, text in enumerate(texts, start=1)}
    return marked


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
