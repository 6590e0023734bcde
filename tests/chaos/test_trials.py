"""One trial that always kills its worker is given up after some tries; the others finish."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farm.base.search_space import Resources, Sweep, Variant
from farm.plan import Options, make_plan
from farm.store import Store
from farm.tuning.engine import DIED, LOSSES, WORKER_RETRIES, Event, execute
from farm.tuning.stage_tree import StageTree
from tests.conftest import bars_from_returns

pytestmark = pytest.mark.chaos


def test_a_trial_that_always_dies_is_given_up_and_the_others_finish(tmp_path: Path) -> None:
    # Imported here: collected as a module, it would make `doomed` one of the models that contract tests fit.
    from tests.chaos.doomed import DoomedPanel

    rng = np.random.default_rng(0)
    names = ("A", "B", "M")
    bars = {name: bars_from_returns(rng.normal(0, 0.01, 300), seed=i) for i, name in enumerate(names)}
    sweep = Sweep(
        title="doomed",
        question="Do the others finish?",
        common={"study.name": "forecast", "study.lookback": 5, "study.features": "raw"},
        variants=(
            Variant(name="doomed", values={"model.name": "doomed"}),
            Variant(name="ridge", values={"model.name": "ridge"}),
        ),
        baselines=(Variant(name="zero", values={"model.name": "zero"}),),
        references=("zero",),
        tickers=("A", "B"),
        market="M",
    )
    plan = make_plan("doomed", sweep, DoomedPanel(bars, "made up"), Options(tickers=("A", "B")))
    plan = replace(plan, source=DoomedPanel(bars, "made up"))
    store = Store(str(tmp_path / "store")).open()
    begun: list[str] = []
    ended: dict[str, str] = {}

    def hear(event: Event) -> None:
        if event.kind == "started":
            begun.append(event.job.name)
        for outcome in event.outcomes:
            ended[outcome.trial.name] = outcome.error

    execute(
        StageTree(plan.trials, plan.source, store),
        [plan.source],
        store,
        on_event=hear,
        concurrency=2,
        resources=Resources(gpu=0.0),
    )
    assert ended.keys() == {trial.name for trial in plan.trials}
    for trial in plan.trials:
        assert ended[trial.name] == (DIED if trial.row == "doomed" else "")
        assert (store.get(trial.signature) is None) == (trial.row == "doomed")
    tries = begun.count("doomed A seed 0")
    assert 1 < tries <= (1 + WORKER_RETRIES) * (1 + LOSSES)
