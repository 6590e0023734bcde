from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import farm.baselines  # noqa: F401  registers the models
from farm.base.model import MODELS
from farm.base.types import Windows
from tests.baselines.conftest import make_inputs

NAIVE = ("zero", "historical_mean", "persistence")
SLOW = {
    "zero": lambda known: 0.0,
    "historical_mean": lambda known: sum(known) / len(known),
    "persistence": lambda known: known[-1],
}
RETURNS = np.random.default_rng(0).normal(0.001, 0.02, 300)


def built(name):
    return MODELS[name]().build(make_inputs())


@pytest.mark.parametrize("name", NAIVE)
def test_agrees_with_the_definition_applied_to_each_sample_alone(name, block):
    windows = block(RETURNS, 40, 300)
    slow = [SLOW[name](RETURNS[:p].tolist()) for p in windows.position]
    point = built(name).predict(windows).point
    assert point.dtype == np.float64
    np.testing.assert_allclose(point, slow, rtol=1e-12, atol=1e-17)


@given(
    st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=40),
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
def test_historical_mean_at_any_positions_in_any_order(values, positions):
    series = np.array(values)
    position = np.minimum(np.array(positions), len(series))
    n = len(position)
    windows = Windows(
        x=np.zeros((n, 1, 1)),
        y=np.zeros(n),
        times=np.full(n, np.datetime64("2020-01-01")),
        features=("f",),
        series=series,
        position=position,
    )
    slow = [np.mean(series[:p]) for p in position]
    np.testing.assert_allclose(built("historical_mean").predict(windows).point, slow, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("p", [41, 150, 299])
def test_reads_nothing_at_or_after_the_target(name, p, block):
    windows = block(RETURNS, 40, p + 1)
    future = RETURNS.copy()
    future[p:] = np.nan
    changed = replace(windows, series=future, y=np.full_like(windows.y, np.nan))
    np.testing.assert_array_equal(built(name).predict(changed).point, built(name).predict(windows).point)


def test_persistence_knows_the_return_just_before_the_target(block):
    windows = block(RETURNS, 40, 42)
    changed = RETURNS.copy()
    changed[40] = 0.5
    before, after = (
        built("persistence").predict(replace(windows, series=s)).point for s in (RETURNS, changed)
    )
    assert before[0] == after[0]
    assert after[1] == 0.5


@pytest.mark.parametrize("name", NAIVE)
def test_a_sample_without_a_past_is_refused(name, block):
    windows = replace(block(RETURNS, 40, 42), position=np.array([0, 1]))
    with pytest.raises(ValueError, match="position 0"):
        built(name).predict(windows)


@pytest.mark.parametrize("name", NAIVE)
def test_a_fresh_model_forecasts_as_a_fitted_one(name, block):
    fitted, fresh = built(name), built(name)
    fitted.fit(block(RETURNS, 40, 200), block(RETURNS, 200, 240))
    assert fitted.state() == {}
    fresh.load_state({})
    test = block(RETURNS, 240, 300)
    np.testing.assert_array_equal(fresh.predict(test).point, fitted.predict(test).point)
