"""What a sweep comes to: the verdict over its finished trials, written with all that backs it.

Pictures are drawn later, by whoever has shown the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from farm.evaluation.verdict import replicate_scores, verdict
from farm.plan import Plan, Trial
from farm.report.distributions import Distributions, distributions
from farm.report.pictures import Group, Pictures
from farm.report.tables import Trials, evaluation_table, verdict_sentence, write_results
from farm.report.walk_forward import WalkForward, of_walk_forward, walk_forward
from farm.store import Record, shares_of_warnings

_CURVES = ["model", "ticker", "seed", "epoch", "train_loss", "val_loss", "best_epoch"]


@dataclass(frozen=True)
class Conclusion:
    """What a sweep comes to.

    Parameters
    ----------
    trials
        The finished trials, in the plan's order.
    table
        The verdict, best first; see `farm.report.tables.verdict_table`.
    sentence
        The same in one plain sentence.
    files
        What was written.
    judged
        How many variants its p-values account for: the rows, and what a search and earlier runs of the sweep
        have tried beside.
    scores, predictions, curves
        What it rests on; see `farm.report.figures.figures`.
    walk_forward
        What a walk-forward adds; None for any other sweep.
    pictures
        Groups of figures that are to be drawn; see `farm.report.pictures.save_pictures`.
    """

    trials: tuple[Trial, ...]
    table: pd.DataFrame
    sentence: str
    files: tuple[Path, ...]
    judged: int
    scores: pd.DataFrame
    predictions: pd.DataFrame
    curves: pd.DataFrame
    walk_forward: WalkForward | None = None
    pictures: tuple[Group, ...] = field(default=(), repr=False)


def conclude(plan: Plan, records: Mapping[str, Record], out: Path) -> Conclusion:
    """Draw the verdict over what is finished, and write its tables and predictions.

    Parameters
    ----------
    plan
        The sweep.
    records
        Results by signature; trials without one did not finish.
    out
        Folder for the files; see `farm.report.tables.write_results`.

    Raises
    ------
    UserError
        If the files cannot be written.
    """
    done = tuple(trial for trial in plan.trials if trial.signature in records)
    references = plan.sweep.references
    predictions, curves = _frames(done, records)
    finished = tuple(name for name in plan.rows("baseline") if name in set(predictions["model"]))
    scores = replicate_scores(predictions, finished)
    settled = frozenset(trial.row for trial in plan.trials if not trial.config.model.trained)
    variants, tried = plan.rows("variant"), _tried(plan, records)
    table = verdict(
        pd.concat([predictions, *tried.values()], ignore_index=True),
        references,
        (*variants, *tried),
        plan.rows("baseline"),
        settled=settled,
    )
    table = table[~table["model"].isin(list(tried))].reset_index(drop=True)
    by_row = {row: [records[t.signature] for t in done if t.row == row] for row in table["model"]}
    table["warnings"] = [
        ", ".join(f"{name} {share}" for name, share in shares_of_warnings(by_row[row]).items())
        for row in table["model"]
    ]
    keyed = [(_key(trial), records[trial.signature]) for trial in done]
    evaluations = evaluation_table(keyed)
    study, sentence = plan.trials[0].config.study.name, verdict_sentence(table, references, len(tried))

    def drawn() -> Pictures:
        from farm.report.figures import figures

        return figures(table, scores, predictions, curves, references)

    def of_study() -> Pictures:
        from farm.report.studies import study_figures

        return study_figures(study, table, evaluations, keyed)

    pictures: list[Group] = [drawn, of_study]
    more: dict[str, pd.DataFrame] = {}
    if study == "forecast" and (found := _distributions(plan, keyed, records)):
        more, sentence = {"distributions": found.table}, f"{sentence} {found.sentence}"
        pictures.append(found.figures)
    walked = None
    if any(of_walk_forward(record.config["study"]) for _, record in keyed):
        walked = walk_forward(table, predictions, keyed, references)
        more, sentence = more | walked.tables, f"{sentence} {walked.sentence}"

        def of_windows(found: WalkForward = walked) -> Pictures:
            from farm.report.walk_forward_figures import walk_forward_figures

            return walk_forward_figures(found, references[0], variants)

        pictures.append(of_windows)
    metrics = pd.DataFrame([key | record.metrics for key, record in keyed])
    files = write_results(out, table, scores, predictions, evaluations, metrics, more, other_forecasts(keyed))
    judged = len({trial.row for trial in done if trial.role == "variant"}) + len(tried)
    return Conclusion(
        done,
        table,
        sentence,
        tuple(files),
        judged,
        scores,
        predictions,
        curves,
        walked,
        tuple(pictures),
    )


def _distributions(plan: Plan, keyed: Trials, records: Mapping[str, Record]) -> Distributions | None:
    seeds = len({trial.config.seed for trial in plan.trials})
    tried = [(_key(trial), records[trial.signature]) for trial in plan.tried if trial.signature in records]
    return distributions(keyed, plan.sweep.references, plan.rows("variant"), seeds, tried)


def _tried(plan: Plan, records: Mapping[str, Record]) -> dict[str, pd.DataFrame]:
    """Gather the forecasts of what a search and earlier runs have tried beside the rows, by name."""
    finished = [trial for trial in (*plan.tried, *plan.earlier) if trial.signature in records]
    names = dict.fromkeys(trial.row for trial in finished)
    return {name: _frames([t for t in finished if t.row == name], records)[0] for name in names}


def _key(trial: Trial) -> dict[str, Any]:
    return {"model": trial.row, "ticker": trial.ticker, "seed": trial.config.seed}


def other_forecasts(keyed: Trials) -> pd.DataFrame:
    """Gather the forecasts of all evaluations beside the ranked ones."""
    parts = [
        record.forecast(part).assign(**key, evaluation=part, oracle=part in record.oracles)
        for key, record in keyed
        for part in record.levels
        if part
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _frames(trials: Sequence[Trial], records: Mapping[str, Record]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gather the forecasts and the learning curves of trials into two long tables."""
    parts = [records[trial.signature].forecast() for trial in trials]
    forecasts = pd.concat(parts, ignore_index=True)
    for name, values in pd.DataFrame([_key(trial) for trial in trials]).items():
        forecasts[name] = values.repeat([len(part) for part in parts]).to_numpy()
    if "item" in forecasts:
        items = forecasts.pop("item")
        forecasts["ticker"] = items.where(items.notna(), forecasts["ticker"])
    curves: list[pd.DataFrame] = []
    for trial in trials:
        record = records[trial.signature]
        if record.history is not None:
            curve = pd.DataFrame([vars(epoch) for epoch in record.history.epochs])
            curve["best_epoch"] = record.history.best_epoch
            if of_walk_forward(record.config["study"]):  # the last window's, from epoch 1 on
                curve = curve[curve["phase"] == curve["phase"].iloc[-1]]
                curve[["epoch", "best_epoch"]] -= curve["epoch"].iloc[0] - 1
            curves.append(curve.assign(**_key(trial))[_CURVES])
    no_curves = pd.DataFrame(columns=_CURVES)
    return forecasts, pd.concat(curves, ignore_index=True) if curves else no_curves
