"""What a search comes to: the front, the pick, and what is left of it once all that was tried counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from farm.base.types import Floats
from farm.evaluation.pareto import RULE, best_first, front
from farm.plan import Plan
from farm.report.conclusion import Conclusion
from farm.report.pictures import Group, Pictures
from farm.report.tables import save_files
from farm.space import Objective, SearchPlan
from farm.store import Record
from farm.tuning.studies import Attempt, importances


@dataclass(frozen=True)
class Found:
    """What a search comes to.

    Parameters
    ----------
    sentence
        In plain words.
    tried
        One row for each config: sampler, number, row, state, known, epochs, the searched values by key,
        the objectives by metric, ``front``, ``pick`` and the first trial's signature.
    rerun
        One row for each row that was run on every seed, best first: row, ``front``, ``pick``, and for
        each objective its mean over seeds, ``METRIC``, and its standard deviation, ``METRIC_sd``.
    files
        What was written.
    metrics
        The figures of the whole, by the names they have in MLflow.
    pictures
        Figures that are to be drawn; see `farm.report.pictures.save_pictures`.
    """

    sentence: str
    tried: pd.DataFrame
    rerun: pd.DataFrame
    files: tuple[Path, ...]
    metrics: dict[str, float]
    pictures: Group

    @property
    def marks(self) -> dict[str, dict[str, str]]:
        """Say of each trial that was tried, by signature, whether it is on the front and is the pick."""
        return {
            line["signature"]: {
                "farm.pareto": "front" if line["front"] else "",
                "farm.pick": "pick" if line["pick"] else "",
            }
            for line in self.tried.to_dict("records")
            if line["state"] == "complete"
        }


def costs_of(attempts: Sequence[Attempt], objectives: Sequence[Objective]) -> Floats:
    """Give the objectives of complete attempts, (n, M), less is better."""
    signs = np.array([float(objective.sign) for objective in objectives])
    costs: Floats = np.array([attempt.scores for attempt in attempts]).reshape(-1, len(signs)) * signs
    return costs


def choose(
    attempts: Sequence[Attempt], objectives: Sequence[Objective], top: int, taken: frozenset[str]
) -> list[Attempt]:
    """Choose what is run again on every seed: the best of all samplers, and the best of each.

    Parameters
    ----------
    attempts
        What was tried.
    objectives
        What was looked for; for several, see `best_first`.
    top
        How many of all.
    taken
        Signatures that are rows already.
    """
    done, seen = [], set(taken)
    for attempt in attempts:
        if attempt.state == "complete" and not seen & set(attempt.signatures):
            seen |= set(attempt.signatures)
            done.append(attempt)
    ordered = [done[place] for place in best_first(costs_of(done, objectives))]
    own = [next((a for a in ordered if a.sampler == name and not a.known), None) for name in _names(attempts)]
    return [attempt for place, attempt in enumerate(ordered) if place < top or attempt in own]


def _names(attempts: Sequence[Attempt]) -> list[str]:
    return list(dict.fromkeys(attempt.sampler for attempt in attempts))


def conclude_search(
    plan: Plan,
    search: SearchPlan,
    attempts: Sequence[Attempt],
    records: Mapping[str, Record],
    end: Conclusion,
    out: Path,
) -> Found:
    """Pick one config, say what that is worth, and write the tables of a search.

    Parameters
    ----------
    plan
        The sweep with the rows that were run on every seed.
    search
        What was searched, and for what.
    attempts
        What was tried.
    records
        Results by signature.
    end
        The verdict; its p-values account for all that was tried.
    out
        Folder for the files.
    """
    searched = {attempt.row for attempt in attempts}
    rows = [row for row in plan.rows("variant") if row in searched or row == search.variant]
    seeds = {row: _by_seed(plan, row, search.objectives, records) for row in rows}
    rerun = _rerun(seeds, search)
    candidates = [row for row in rerun["row"] if row in searched]
    pick = candidates[0] if candidates else search.variant
    rerun["pick"] = rerun["row"] == pick
    tried = _tried(attempts, search, pick)
    sentence = " ".join(
        [
            _what_was_tried(attempts),
            _what_was_picked(pick, rerun, search),
            *_margins(pick, seeds, attempts, search),
            _on_the_test_block(pick, end, plan.sweep.references),
        ]
    )

    def drawn() -> Pictures:
        from farm.report.search_figures import search_figures

        shares = [importances(attempts, search.space, k) for k in range(len(search.objectives))]
        return search_figures(attempts, search, shares, rerun)

    written = {
        "search.csv": tried.to_csv(index=False).encode(),
        "search_best.csv": rerun.to_csv(index=False).encode(),
        "search.txt": f"{sentence}\n".encode(),
    }
    if len(search.objectives) > 1:
        written["pareto.csv"] = tried[tried["front"]].to_csv(index=False).encode()
    metrics = {
        "search/tried": float((~tried["known"]).sum()),
        "search/stopped_early": float((tried["state"] == "stopped").sum()),
        "search/front": float(tried["front"].sum()),
    }
    for objective in search.objectives:
        for name, row in (("pick", pick), ("base", search.variant)):
            value = rerun.loc[rerun["row"] == row, objective.metric]
            metrics[f"search/{name}/{objective.metric}"] = float(value.iloc[0]) if len(value) else math.nan
    return Found(sentence, tried, rerun, tuple(save_files(out, written)), metrics, drawn)


def _by_seed(
    plan: Plan, row: str, objectives: Sequence[Objective], records: Mapping[str, Record]
) -> pd.DataFrame:
    """Give the objectives of a row, mean over replicates: one line a seed, one column an objective."""
    found = [
        {"seed": t.config.seed, **{o.metric: o.of(r.metrics, r.levels[""]) for o in objectives}}
        for t in plan.trials
        if t.row == row and (r := records.get(t.signature)) is not None
    ]
    columns = ["seed", *(o.metric for o in objectives)]
    return pd.DataFrame(found, columns=columns).groupby("seed").mean()


def _rerun(seeds: Mapping[str, pd.DataFrame], search: SearchPlan) -> pd.DataFrame:
    metrics = [objective.metric for objective in search.objectives]
    signs = np.array([objective.sign for objective in search.objectives])
    lines = []
    for row, values in seeds.items():
        if len(values) and np.isfinite(values.to_numpy()).all():
            line: dict[str, Any] = {"row": row, "seeds": len(values)}
            for name in metrics:
                line |= {name: values[name].mean(), f"{name}_sd": values[name].std(ddof=1)}
            lines.append(line)
    if not lines:
        return pd.DataFrame(columns=["row", "seeds", *metrics, "front"])
    made = pd.DataFrame(lines)
    costs = made[metrics].to_numpy(dtype=np.float64) * signs
    made["front"] = front(costs)
    return made.iloc[best_first(costs)].reset_index(drop=True)


def _tried(attempts: Sequence[Attempt], search: SearchPlan, pick: str) -> pd.DataFrame:
    metrics = [objective.metric for objective in search.objectives]
    done = [attempt for attempt in attempts if attempt.state == "complete"]
    on_front = {
        a.row for a, marked in zip(done, front(costs_of(done, search.objectives)), strict=True) if marked
    }
    rows = [
        {
            "sampler": a.sampler,
            "number": a.number,
            "row": a.row,
            "state": a.state,
            "known": a.known,
            "epochs": a.epochs,
            **{parameter.key: a.settings.get(parameter.key) for parameter in search.space.parameters},
            **dict(zip(metrics, a.scores, strict=False)),
            "front": a.row in on_front,
            "pick": a.row == pick,
            "signature": next(iter(a.signatures), ""),
            "error": a.error,
        }
        for a in attempts
    ]
    return pd.DataFrame(rows)


def _what_was_tried(attempts: Sequence[Attempt]) -> str:
    own = [attempt for attempt in attempts if not attempt.known]
    counts = ", ".join(f"{name} {sum(a.sampler == name for a in own)}" for name in _names(attempts))
    parts = [f"Tried {len(own)} configs ({counts})"]
    for state, words in (("stopped", "stopped early"), ("failed", "failed")):
        if number := sum(a.state == state for a in own):
            parts.append(f"{number} {words}")
    if known := len({a.signatures for a in attempts if a.known}):
        parts.append(f"{known} known before")
    return "; ".join(parts) + "."


def _what_was_picked(pick: str, rerun: pd.DataFrame, search: SearchPlan) -> str:
    line = rerun[rerun["row"] == pick]
    if len(line) == 0:
        return "None of them finished."
    values = ", ".join(f"{o.label} {float(line[o.metric].iloc[0]):.4g}" for o in search.objectives)
    over = int(line["seeds"].iloc[0])
    mean = f", mean of {over} seeds" if over > 1 else ", one seed: too few to trust"
    rule = (
        f"; {int(rerun['front'].sum())} rows on the front, picked: {RULE}"
        if len(search.objectives) > 1
        else ""
    )
    return f"Best on validation: {pick}, {values}{mean}{rule}."


def _margins(
    pick: str, seeds: Mapping[str, pd.DataFrame], attempts: Sequence[Attempt], search: SearchPlan
) -> list[str]:
    """Compare the pick, on validation, with the row that was set out from and the best of other samplers."""
    rivals = {search.variant: search.variant}
    by_sampler = {attempt.row: attempt.sampler for attempt in attempts}
    for name in _names(attempts):
        if name != by_sampler.get(pick):
            best = next((row for row in _best_rows(seeds, search) if by_sampler.get(row) == name), None)
            if best:
                rivals[best] = f"the best of {name} search, {best}"
    return [
        f"Against {words}: {', '.join(_margin(seeds[pick], seeds[row], o) for o in search.objectives)}."
        for row, words in rivals.items()
        if row != pick and len(seeds.get(row, ())) and len(seeds.get(pick, ()))
    ]


def _best_rows(seeds: Mapping[str, pd.DataFrame], search: SearchPlan) -> list[str]:
    return [str(row) for row in _rerun(seeds, search)["row"]]


def _margin(mine: pd.DataFrame, other: pd.DataFrame, objective: Objective) -> str:
    """Say how far one row is from another, and whether that is more than the seeds' luck."""
    from scipy.stats import ttest_rel

    a, b = mine[objective.metric].align(other[objective.metric], join="inner")
    difference = float(a.mean() - b.mean())
    share = (
        f" ({100 * difference / b.mean():+.1f} %)" if b.mean() and objective.direction != "optimum" else ""
    )
    text = f"{objective.label} {difference:+.3g}{share}".replace("-", "−")
    if len(a) < 2 or np.ptp(a - b) == 0:
        return text
    p = float(ttest_rel(a, b).pvalue)
    return f"{text}, paired t over {len(a)} seeds p {_p(p)}"


def _on_the_test_block(pick: str, end: Conclusion, references: tuple[str, ...]) -> str:
    line = end.table[end.table["model"] == pick]
    if len(line) == 0 or not math.isfinite(line["rmse"].iloc[0]):
        return "It has no forecasts of the test block."
    row = line.iloc[0].to_dict()
    parts = []
    for reference in references:
        skill, p = row[f"{reference}_rmse_skill"], row[f"{reference}_p_selected"]
        apart = f"{abs(100 * skill):.1f} % {'lower' if skill > 0 else 'higher'} RMSE than {reference}"
        parts.append(f"{apart} (p after selection {_p(p)})" if math.isfinite(p) else apart)
    return f"On the test block, best of {end.judged} that finished: {', '.join(parts)}."


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def search_table(found: Found, search: SearchPlan) -> Table:
    """Lay out the rows that were run on every seed for a terminal, best on validation first."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    several = len(search.objectives) > 1
    shown.add_column("on validation")
    for heading in (["front"] if several else []) + [o.label for o in search.objectives]:
        shown.add_column(heading, justify="right")
    shown.add_column("searched values")
    values = found.tried.set_index("row")
    keys = [parameter.key for parameter in search.space.parameters]
    for line in found.rerun.to_dict("records"):
        row = line["row"]
        scores = [_score(line[o.metric], line[f"{o.metric}_sd"]) for o in search.objectives]
        own = "" if row not in values.index else _brief({k: values.loc[row, k] for k in keys})
        shown.add_row(
            Text(f"{row} ← pick" if line["pick"] else row, style="bold green" if line["pick"] else ""),
            *((["yes" if line["front"] else ""]) if several else []),
            *scores,
            own,
        )
    return shown


def _score(mean: float, deviation: float) -> str:
    return f"{mean:#.4g} ± {deviation:.1g}" if math.isfinite(deviation) else f"{mean:#.4g}"


def _brief(values: Mapping[str, Any]) -> str:
    """Write searched values shortly, without those that a condition leaves out."""
    parts = []
    for key, value in values.items():
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        name = key.split(".", 1)[1]
        parts.append(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}")
    return " ".join(parts)
