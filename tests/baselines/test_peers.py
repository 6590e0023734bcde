from dataclasses import replace

import numpy as np
import pytest

import farm.baselines  # noqa: F401  registers the models
from farm.base.errors import UserError
from farm.base.model import MODELS
from tests.backfill_world import market_dataset
from tests.baselines.conftest import make_inputs

LEVELS = (0.05, 0.5, 0.95)


@pytest.fixture(scope="module")
def data():
    return market_dataset(1500)[0]


def fitted(name, data):
    model = MODELS[name].make({"name": name}, name).build(data.inputs)
    model.fit(data.train, data.val)
    return model


def raw_peers(windows, inputs):
    return np.array([[x[-1, c] * inputs.scale[c] + inputs.mean[c] for c in (4, 8)] for x in windows.x], float)


def slow_line(data):
    peers = raw_peers(data.train, data.inputs)
    solution = np.linalg.lstsq(
        np.column_stack([np.ones(len(peers)), peers]), data.train.y.astype(float), rcond=None
    )[0]
    return lambda windows: solution[0] + raw_peers(windows, data.inputs) @ solution[1:], solution


@pytest.mark.parametrize("name", ["peer_regression", "garch_regression"])
def test_point_is_least_squares_on_the_peers_returns_of_the_day_alone(name, data):
    line, solution = slow_line(data)
    model = fitted(name, data)
    np.testing.assert_allclose(model.predict(data._test).point, line(data._test), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(model.state()["beta"], [0.0, *solution[1:]], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(model.state()["intercept"], solution[:1], rtol=1e-5)


def test_intervals_are_the_quantiles_of_the_training_residuals(data):
    line, _ = slow_line(data)
    errors = np.quantile(data.train.y - line(data.train), LEVELS)
    forecast = fitted("peer_regression", data).predict(data._test)
    np.testing.assert_allclose(forecast.quantiles, line(data._test)[:, None] + errors, rtol=1e-5, atol=1e-8)


def slow_volatility(state, windows):
    """Run the filter's definition day by day; give the spread of each sample, from the days before it."""
    const, phi, omega, alpha, beta = state["params"]
    returns, variance, square = 100 * windows.series, state["backcast"][0], state["backcast"][0]
    spread = {}
    for day in range(1, len(returns)):
        if day > 1:
            square = (returns[day - 1] - const - phi * returns[day - 2]) ** 2
        variance = omega + alpha * square + beta * variance
        spread[day] = np.sqrt(variance) / 100
    return np.array([spread[p] for p in windows.position])


def test_garch_intervals_scale_with_the_volatility_known_the_day_before(data):
    line, _ = slow_line(data)
    model = fitted("garch_regression", data)
    state = model.state()
    scaled = (data.train.y - line(data.train)) / slow_volatility(state, data.train)
    expected = np.quantile(scaled, LEVELS)
    forecast = model.predict(data._test)
    slow = line(data._test)[:, None] + slow_volatility(state, data._test)[:, None] * expected
    np.testing.assert_allclose(forecast.quantiles, slow, rtol=1e-4, atol=1e-7)


def test_a_shock_widens_the_garch_interval_of_the_next_day_and_not_of_its_own(data):
    model = fitted("garch_regression", data)
    windows, b = data._test, 40
    shocked = windows.series.copy()
    shocked[windows.position[b]] = 0.2
    before, after = model.predict(windows), model.predict(replace(windows, series=shocked))
    np.testing.assert_array_equal(after.quantiles[: b + 1], before.quantiles[: b + 1])
    width = np.ptp(after.quantiles[b + 1]) / np.ptp(before.quantiles[b + 1])
    assert width > 1.05
    np.testing.assert_array_equal(after.point, before.point)


@pytest.mark.parametrize("name", ["peer_regression", "garch_regression", "gaussian_process"])
def test_features_without_a_return_are_a_user_error(name):
    with pytest.raises(UserError, match=rf"^model {name}: got features f0, f1, expected a 'log_return'"):
        MODELS[name].make({"name": name}, name).build(make_inputs(2))
