"""What every declared search must hold to; a new one is tested without a line here."""

import importlib
import json
from functools import cache

import numpy as np
import pytest

from farm.base.search_space import Choice, Int, Range
from farm.plan import Options, Plan, make_plan
from farm.space import make_search
from farm.sweep import load_sweep, read_source, sweeps

DECLARED = [
    (name, study)
    for name in sweeps()
    for study, declared in getattr(importlib.import_module(f"search_spaces.{name}"), "STUDIES", {}).items()
    if declared.search is not None
]


@cache
def quick_plan(name: str, study: str) -> Plan:
    full_name, sweep = load_sweep(name, study)
    return make_plan(full_name, sweep, read_source(sweep), Options(quick=True))


def at_random(key: str, space: Range, rng: np.random.Generator) -> object:
    if isinstance(space, Choice):
        return space.options[int(rng.integers(len(space.options)))]
    if isinstance(space, Int):
        return int(rng.integers(space.low, space.high + 1))
    return float(rng.uniform(space.low, space.high))


@pytest.mark.parametrize(("name", "study"), DECLARED)
def test_every_config_of_the_space_can_be_built(name: str, study: str) -> None:
    plan = quick_plan(name, study)
    search = make_search(plan, {}, quick=True)
    rng = np.random.default_rng(0)
    first = next(iter(search.space.bases.values()))
    inputs = first.study.dataset(plan.source).inputs
    drawn = set()
    for _ in range(25):
        values = search.space.draw(lambda key, space: at_random(key, space, rng))
        drawn |= set(values)
        trial = search.space.trials("row", values)[0]
        trial.config.model.build(inputs)
        stored = json.loads(json.dumps(trial.config.model_dump(mode="json")))
        assert search.space.values_of(stored) == values
    assert drawn == {parameter.key for parameter in search.space.parameters}


@pytest.mark.parametrize(("name", "study"), DECLARED)
def test_the_row_that_is_set_out_from_is_a_point_of_its_space(name: str, study: str) -> None:
    """So every sampler but random search is told of it first."""
    plan = quick_plan(name, study)
    search = make_search(plan, {}, quick=True)
    for base in search.space.bases.values():
        assert search.space.values_of(base.model_dump(mode="json")) is not None
    assert search.samples < make_search(plan, {}).samples


def test_the_first_study_of_a_file_has_the_name_of_the_file() -> None:
    assert load_sweep("weights")[0] == load_sweep("weights", "backfill")[0] == "weights"
    assert load_sweep("weights", "forecast")[0] == "weights-forecast"
