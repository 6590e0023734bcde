"""No trial can learn from, or be chosen on, its test block: what it is taught does not hold it."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from farm.base.types import Dataset, TestBlockReused
from farm.data.panel import Bars, Panel
from farm.data.surface import Surfaces
from farm.experiment import run
from farm.plan import Options, make_plan
from farm.studies.study import Source
from farm.sweep import load_sweep, read_source


def others_from(source: Source, day: np.datetime64) -> Source:
    """The same record up to a day, and another one from it on."""
    rng = np.random.default_rng(0)
    if isinstance(source, Surfaces):
        later = source.dates >= day
        iv, returns = source.iv.copy(), source.returns.copy()
        iv[later] *= rng.uniform(0.5, 2.0, iv[later].shape).astype(iv.dtype)
        returns[later] = rng.normal(0, 0.1, later.sum())
        return replace(source, iv=iv, returns=returns)
    assert isinstance(source, Panel)
    bars = {}
    for ticker, old in source.bars.items():
        values, later = old.values.copy(), old.dates >= day
        values[later] *= rng.uniform(0.5, 2.0, (later.sum(), 1))
        bars[ticker] = Bars(old.dates, values)
    return Panel(bars, source.source)


def arrays(thing: object, where: str = "") -> dict[str, np.ndarray]:
    """Every array in it, by where it stands."""
    if isinstance(thing, np.ndarray):
        return {where: thing}
    inside: dict[str, object] = {}
    if is_dataclass(thing) and not isinstance(thing, type):
        inside = {f.name: getattr(thing, f.name) for f in fields(thing) if f.name != "_test"}
    elif isinstance(thing, dict):
        inside = thing
    elif isinstance(thing, list | tuple):
        inside = dict(enumerate(thing))  # type: ignore[arg-type]
    return {
        name: array for key, part in inside.items() for name, array in arrays(part, f"{where}.{key}").items()
    }


def taught(data: Dataset) -> dict[str, np.ndarray]:
    """What a model is given before the test block: blocks and scalers, of each window of a walk-forward."""
    blocks = [data.train, data.val, data.calibration]
    return arrays({"blocks": blocks, "inputs": data.inputs, "refits": data.refits})


@pytest.mark.parametrize("name", ["ablation", "probabilistic", "final", "backfill", "latent", "surface"])
def test_another_test_block_changes_nothing_that_is_learnt_from(name: str) -> None:
    sweep, declared = load_sweep(name)
    plan = make_plan(sweep, declared, read_source(declared), Options(quick=True, seeds=1))
    studies = {trial.config.study: None for trial in plan.trials}
    for study in list(studies)[:8]:
        data = study.dataset(plan.source)
        held = taught(data)
        test = data.open_test()
        # Of a walk-forward the test block of one window is taught to the next.
        last = slice(None) if test.refit is None else test.refit == test.refit.max()
        first = test.times[last].min()
        other = study.dataset(others_from(plan.source, first))
        again = taught(other)
        assert held.keys() == again.keys()
        assert held
        for where, array in held.items():
            np.testing.assert_array_equal(array, again[where], err_msg=where)
        moved, still = arrays(other.open_test()), arrays(study.dataset(plan.source).open_test())
        assert any(not np.array_equal(moved[where], still[where]) for where in still)


def test_a_model_that_looks_at_the_test_block_ends_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    from farm.baselines.regression import LinearForecaster

    plan = make_plan(
        "ablation", load_sweep("ablation")[1], read_source(load_sweep("ablation")[1]), Options(quick=True)
    )
    trial = next(trial for trial in plan.trials if trial.row == "linear")
    cut = type(trial.config.study).dataset
    seen: list[Dataset] = []
    monkeypatch.setattr(
        type(trial.config.study), "dataset", lambda study, source: seen.append(cut(study, source)) or seen[-1]
    )
    learn = LinearForecaster.fit
    monkeypatch.setattr(
        LinearForecaster, "fit", lambda model, *blocks: (seen[-1].open_test(), learn(model, *blocks))
    )
    with pytest.raises(TestBlockReused):
        run(trial.config, plan.source)
