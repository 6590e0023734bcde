import numpy as np
import pytest

import farm.baselines  # noqa: F401  registers the models
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.types import RISK_LEVELS
from tests.baselines.conftest import make_inputs


def test_quantiles_of_the_days_before_each_sample_and_no_others(block):
    series = np.random.default_rng(0).normal(0, 0.01, 200)
    windows = block(series, 30, 120)
    forecast = MODELS["historical_simulation"](days=50).build(make_inputs()).predict(windows)
    for b, p in enumerate(windows.position):
        past = sorted(series[max(p - 50, 0) : p])
        for q, level in enumerate(RISK_LEVELS):
            place = level * (len(past) - 1)
            low = int(place)
            high = min(low + 1, len(past) - 1)
            expected = past[low] + (place - low) * (past[high] - past[low])
            assert forecast.quantiles[b, q] == pytest.approx(expected, abs=1e-15)
        assert forecast.point[b] == pytest.approx(np.mean(past), abs=1e-15)


def test_too_short_a_past_is_one_line(block):
    series = np.zeros(60)
    with pytest.raises(UserError, match="a sample has 19 returns before it, expected at least 20"):
        MODELS["historical_simulation"]().build(make_inputs()).predict(block(series, 19, 30, lookback=5))


def test_residual_quantiles_lie_around_the_line(block):
    rng = np.random.default_rng(2)
    features = rng.normal(size=(3000, 2))
    series = np.r_[0.0, 0.01 * features[:-1, 0] + 0.005 * rng.standard_t(5, 2999)]
    train, test = block(series, 20, 2000, features), block(series, 2000, 3000, features)
    inputs = make_inputs(2)
    plain, told = (MODELS["linear"](intervals=kind).build(inputs) for kind in ("none", "residuals"))
    for model in (plain, told):
        model.fit(train, test)
    forecast = told.predict(test)
    np.testing.assert_array_equal(forecast.point, plain.predict(test).point)
    assert plain.predict(test).quantiles is None
    assert plain.state().keys() == {"coef", "intercept"}
    residual = train.y.astype(float) - plain.predict(train).point
    expected = forecast.point[:, None] + np.quantile(residual, RISK_LEVELS)
    np.testing.assert_allclose(forecast.quantiles, expected, rtol=1e-12)
    stored = MODELS["linear"](intervals="residuals").build(inputs)
    stored.load_state(told.state())
    np.testing.assert_array_equal(stored.predict(test).quantiles, forecast.quantiles)
