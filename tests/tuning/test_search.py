"""Searches on Ray itself, one start for all of them."""

from pathlib import Path
from typing import Any

import pytest

from farm.base.search_space import Choice, Float, Int, Resources, Variant, When
from farm.data.panel import Panel
from farm.plan import Options, make_plan
from farm.space import make_search, make_space
from farm.store import Store
from farm.tuning.engine import Event
from farm.tuning.search import search
from farm.tuning.studies import Attempt, importances, tried_so_far
from tests.tuning import bowl

pytestmark = pytest.mark.usefixtures("ray_here")


def run(
    folder: Path,
    samples: int,
    *,
    ranges: dict[str, Any],
    objectives: tuple[str, ...] = ("val/rmse",),
    tickers: tuple[str, ...] = ("A",),
    panel: Panel | None = None,
    plan: Any = None,
    **options: Any,
) -> tuple[tuple[Attempt, ...], list[Event], Store]:
    declared = bowl.sweep(ranges=ranges, objectives=objectives)
    made = plan or make_plan("bowl", declared, bowl.panel(), Options(tickers=tickers))
    wanted = make_search(made, {}, samples=samples)
    store, events = Store(str(folder)).open(), list[Event]()
    found, done = search(
        "bowl tpe",
        "tpe",
        wanted,
        store,
        made.source,
        journal=folder / "studies" / "bowl.journal",
        on_event=events.append,
        resources=Resources(),
        **options,
    )
    assert done
    assert tried_so_far(folder / "studies" / "bowl.journal", "bowl tpe") == samples
    return found, events, store


RANGES = {
    "model.x": Float(-1.0, 1.0),
    "model.kind": Choice(("flat", "deep")),
    "model.depth": When("model.kind", ("deep",), Int(1, 9)),
}


def test_a_known_optimum_is_found_and_every_result_is_stored(tmp_path: Path) -> None:
    found, events, store = run(tmp_path, 40, ranges=RANGES, concurrency=2)
    assert len(found) == 40
    best = min(found, key=lambda a: a.scores)
    assert best.settings["model.kind"] == "deep"
    assert best.scores[0] < 0.25
    for attempt in found:
        (record,) = (store.get(signature) for signature in attempt.signatures)
        assert record is not None
        assert record.metrics["val/rmse"] == attempt.scores[0]
    finished = [outcome.trial.signature for event in events for outcome in event.outcomes]
    assert sorted(finished) == sorted(a.signatures[0] for a in found)
    more, events, _ = run(tmp_path, 42, ranges=RANGES, concurrency=2)
    assert more[:40] == found
    assert len([event for event in events if event.kind == "finished"]) == 2
    shares = importances(found, make_space(bowl.plan(ranges=RANGES), {}))
    assert set(shares) == {"model.x", "model.kind"}, "a key under a condition is left out"
    assert sum(shares.values()) == pytest.approx(1)


def test_a_config_runs_on_every_replicate_and_its_objectives_are_means(tmp_path: Path) -> None:
    found, events, store = run(
        tmp_path, 3, ranges=RANGES, tickers=("A", "B"), objectives=("val/rmse", "val/violations")
    )
    for attempt in found:
        records = [store.get(signature) for signature in attempt.signatures]
        assert [record.config["study"]["ticker"] for record in records if record] == ["A", "B"]
        means = [sum(r.metrics[m] for r in records if r) / 2 for m in ("val/rmse", "val/violations")]
        assert attempt.scores == pytest.approx((means[0], abs(means[1] - 0.1)))
    assert sum(len(event.outcomes) for event in events) == 6


def test_asha_stops_networks_early_and_their_results_are_not_stored(tmp_path: Path) -> None:
    """A learning rate of 1 or so ruins an LSTM; one at a time, so that each meets full rungs."""
    declared = bowl.sweep(
        ranges={"training.learning_rate": Float(1e-3, 1.0, log=True)}, stopped_on="val/rmse"
    )
    lstm = Variant(name="bowl", values={"model.name": "lstm", "model.hidden_size": 4, "training.epochs": 9})
    plan = make_plan("lstm", declared.model_copy(update={"variants": (lstm,)}), bowl.panel(), Options())
    found, events, store = run(tmp_path, 8, ranges=RANGES, plan=plan, concurrency=1)
    stopped = [a for a in found if a.state == "stopped"]
    assert {a.epochs for a in stopped} <= {3}
    assert len(stopped) >= 3
    assert all(store.get(a.signatures[0]) is None for a in stopped)
    assert all(store.get(a.signatures[0]) is not None for a in found if a.state == "complete")
    assert sum(event.kind == "stopped" for event in events) == len(stopped)
