"""What a search comes to: the choice, the pick, the margins and the pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from farm.base.search_space import Choice, Float, Int, When
from farm.evaluation.pareto import best_first, front
from farm.experiment import run
from farm.plan import Plan
from farm.report.conclusion import conclude
from farm.report.search import _margin, choose, conclude_search, costs_of, search_table
from farm.report.search_figures import search_figures
from farm.space import SearchPlan, make_search, parse_objective, with_rows
from farm.store import Record, Store
from farm.tuning.studies import Attempt, importances
from tests.tuning import bowl

RANGES = {
    "model.x": Float(-1.0, 1.0),
    "model.kind": Choice(("flat", "deep")),
    "model.depth": When("model.kind", ("deep",), Int(1, 9)),
    "model.weights.1": Float(0.5, 5.0, log=True),
}
OBJECTIVES = ("val/rmse", "val/violations")


def searched(objectives: tuple[str, ...] = OBJECTIVES, n: int = 40) -> tuple[Plan, SearchPlan, list[Attempt]]:
    """Configs of two samplers over the bowl, whose scores are known without running them."""
    plan = bowl.plan(ranges=RANGES, objectives=objectives)
    search = make_search(plan, {})
    rng = np.random.default_rng(0)
    attempts = []
    for i in range(n):
        sampler = ("tpe", "random")[i % 2]
        near = 0.3 if sampler == "tpe" else 1.0
        settings: dict[str, Any] = {
            "model.x": float(np.clip(rng.normal(0.4, near), -1, 1)),
            "model.kind": "deep" if rng.random() < 0.7 else "flat",
            "model.weights.1": float(np.exp(rng.uniform(np.log(0.5), np.log(5.0)))),
        }
        if settings["model.kind"] == "deep":
            settings["model.depth"] = int(rng.integers(1, 10))
        (trial,) = search.space.trials("", settings)
        model = trial.config.model
        both = (model.error(), abs(model.violations() - 0.1))
        state = "stopped" if i % 5 == 3 else "failed" if i == 14 else "complete"
        scores = both[: len(objectives)] if state == "complete" else ()
        attempts.append(
            Attempt(sampler, i // 2, state, i == 0, settings, scores, 10, (trial.signature,))  # type: ignore[arg-type]
        )
    return plan, search, attempts


def test_the_best_of_all_and_of_each_sampler_are_chosen_once() -> None:
    _, search, attempts = searched(("val/rmse",))
    done = [a for a in attempts if a.state == "complete"]
    ranked = sorted(done, key=lambda a: a.scores)
    chosen = choose(attempts, search.objectives, 3, frozenset())
    assert chosen[:3] == ranked[:3]
    for sampler in ("tpe", "random"):
        own = next(a for a in ranked if a.sampler == sampler and not a.known)
        assert own in chosen
    assert len(chosen) == len({a.signatures for a in chosen})
    taken = frozenset(chosen[0].signatures)
    assert chosen[0] not in choose(attempts, search.objectives, 3, taken)
    twice = [*attempts, dataclasses.replace(chosen[0], sampler="gp", number=99)]
    assert choose(twice, search.objectives, 3, frozenset()) == chosen, "the same config is one row"


def test_several_objectives_are_chosen_off_the_front() -> None:
    _, search, attempts = searched()
    done = [a for a in attempts if a.state == "complete"]
    costs = costs_of(done, search.objectives)
    chosen = choose(attempts, search.objectives, 2, frozenset())
    assert chosen[0] is done[best_first(costs)[0]]
    on_front = {done[i].row for i in np.flatnonzero(front(costs))}
    assert {a.row for a in chosen[:2]} <= on_front


def test_less_is_worse_where_more_is_better() -> None:
    objective = parse_objective("val/direction_accuracy")
    attempts = [
        Attempt("tpe", i, "complete", False, {}, (v,), 0, (str(i),)) for i, v in enumerate((0.5, 0.6))
    ]
    assert choose(attempts, [objective], 1, frozenset())[0].scores == (0.6,)


def concluded(folder: Path, objectives: tuple[str, ...]) -> tuple[Any, Any, Plan, dict[str, Record]]:
    """Run every trial of the rows and of what was tried, and conclude."""
    plan, search, attempts = searched(objectives, n=14)
    best = choose(attempts, search.objectives, 3, frozenset(t.signature for t in plan.trials))
    plan = with_rows(plan, search.space, {a.row: a.settings for a in best}, 1)
    rows = {t.signature for t in plan.trials}
    tried = [
        t
        for a in attempts
        if a.state == "complete" and a.signatures[0] not in rows
        for t in search.space.trials(a.row, a.settings)
    ]
    plan = dataclasses.replace(plan, tried=tuple(tried))
    store, records = Store(str(folder)).open(), {}
    for trial in (*plan.trials, *plan.tried):
        store.put(trial.signature, trial.config, run(trial.config, plan.source))
        records[trial.signature] = store.get(trial.signature)
    end = conclude(plan, records, folder / "out")
    return end, conclude_search(plan, search, attempts, records, end, folder / "out"), plan, records


def test_the_verdict_counts_what_was_tried_and_shows_the_rows_alone(tmp_path: Path) -> None:
    end, found, plan, records = concluded(tmp_path, ("val/rmse",))
    variants = end.table.loc[end.table["role"] == "variant", "model"]
    assert sorted(variants) == sorted(plan.rows("variant"))
    finished = len(plan.rows("variant")) + len(plan.tried)
    assert end.judged == finished
    assert f"best of {finished} tried" in end.sentence
    alone = conclude(dataclasses.replace(plan, tried=()), records, tmp_path / "alone")
    both = end.table.merge(alone.table, on="model", suffixes=("", "_alone"))
    assert (
        (both["zero_p_selected"] >= both["zero_p_selected_alone"] - 1e-12)
        .loc[both["role"] == "variant"]
        .all()
    )
    assert (both["rmse"] == both["rmse_alone"]).all()
    pick = found.rerun.loc[found.rerun["pick"], "row"].item()
    assert pick == found.rerun["row"].iloc[0]
    assert f"Best on validation: {pick}" in found.sentence
    assert "Tried 13 configs (tpe 6, random 7)" in found.sentence
    assert "1 known before" in found.sentence


def test_the_front_is_in_the_files_the_table_and_the_marks(tmp_path: Path) -> None:
    _, found, plan, _ = concluded(tmp_path, OBJECTIVES)
    assert {"search.csv", "pareto.csv"} <= {path.name for path in found.files}
    assert "search_pareto" in found.pictures()
    written = pd.read_csv(tmp_path / "out" / "search.csv")
    done = written[written["state"] == "complete"]
    np.testing.assert_array_equal(done["front"], front(done[list(OBJECTIVES)].to_numpy()))
    marked = [s for s, tags in found.marks.items() if tags["farm.pareto"] == "front"]
    assert sorted(marked) == sorted(done.loc[done["front"], "signature"])
    assert "nearest to the ideal point" in found.sentence
    assert sum(tags["farm.pick"] == "pick" for tags in found.marks.values()) == 1
    assert found.metrics["search/front"] == done["front"].sum()
    search = make_search(plan, {})
    assert search_table(found, search).row_count == len(found.rerun)


def test_a_margin_is_paired_over_seeds() -> None:
    objective = parse_objective("val/rmse")
    seeds = pd.Index(range(5), name="seed")
    luck = np.array([0.0, 1.0, -1.0, 2.0, -2.0])
    other = pd.DataFrame({"val/rmse": 10 + luck}, index=seeds)
    mine = pd.DataFrame({"val/rmse": 9 + luck + [0.01, -0.01, 0.0, 0.0, 0.0]}, index=seeds)
    text = _margin(mine, other, objective)
    assert "−1 (−10.0 %)" in text
    assert "paired t over 5 seeds p < 0.001" in text, "the seeds' common luck does not hide the difference"
    assert "p" not in _margin(mine[:1], other[:1], objective).split("RMSE")[1]


@pytest.mark.parametrize("objectives", [("val/rmse",), OBJECTIVES])
@pytest.mark.parametrize("n", [1, 6, 40])
def test_every_figure_is_drawn(objectives: tuple[str, ...], n: int, tmp_path: Path) -> None:
    _, search, attempts = searched(objectives, n)
    rerun = pd.DataFrame(
        [
            {"row": a.row, "pick": i == 0, "front": True, **dict(zip(objectives, a.scores, strict=True))}
            for i, a in enumerate([a for a in attempts if a.state == "complete"][:4])
        ]
    )
    shares = [importances(attempts, search.space, k) for k in range(len(objectives))]
    figures = search_figures(attempts, search, shares, rerun)
    expected = {"search_history", "search_importances", "search_slices", "search_contour"}
    assert set(figures) == expected | ({"search_pareto"} if len(objectives) > 1 else set())
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    if n == 40:
        assert list(shares[0])[-1] == "model.weights.1", "a key without effect comes last"


def test_a_search_without_a_result_says_so() -> None:
    _, search, attempts = searched(("val/rmse",), 3)
    failed = [dataclasses.replace(a, state="failed", scores=()) for a in attempts]
    assert choose(failed, search.objectives, 3, frozenset()) == []
    figures = search_figures(failed, search, [{}], pd.DataFrame(columns=["row", "pick"]))
    assert set(figures) == {"search_history"}
