import warnings
from dataclasses import replace

import numpy as np
import pytest
from arch import arch_model

import farm.baselines  # noqa: F401  registers the models
from farm.base.model import MODELS
from farm.base.types import RISK_LEVELS
from farm.baselines.garch import one_step_ahead
from tests.baselines.conftest import make_inputs

CONST, PHI, OMEGA, ALPHA, BETA = 0.05, 0.3, 0.1, 0.12, 0.8  # in percent
PLANTED = np.array([CONST, PHI, OMEGA, ALPHA, BETA])
NU = 6.0
N_TRAIN = 4000


def built(dist="t"):
    return MODELS["ar_garch"](dist=dist).build(make_inputs())


def simulate(dist, n, seed=0):
    """Draw log returns by the definition of the process, one day after another."""
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=n) if dist == "normal" else rng.standard_t(NU, size=n) * np.sqrt((NU - 2) / NU)
    returns, variance, shock = np.zeros(n), OMEGA / (1 - ALPHA - BETA), 0.0
    for t in range(n):
        variance = OMEGA + ALPHA * shock**2 + BETA * variance
        shock = np.sqrt(variance) * errors[t]
        returns[t] = CONST + PHI * returns[t - 1] * (t > 0) + shock
    return returns / 100


def slow_filter(params, backcast, returns):
    const, phi, omega, alpha, beta = params
    mean, variance = [], []
    square, last = backcast, backcast
    for t in range(len(returns)):
        if t > 0:
            square = (returns[t] - const - phi * returns[t - 1]) ** 2
        last = omega + alpha * square + beta * last
        mean.append(const + phi * returns[t])
        variance.append(last)
    return mean, variance


@pytest.fixture(scope="module", params=["normal", "t"])
def fitted(request, block):
    series = simulate(request.param, 2 * N_TRAIN)
    model = built(request.param)
    model.fit(block(series, 20, N_TRAIN), block(series, N_TRAIN, N_TRAIN + 50))
    return request.param, series, model


@pytest.mark.parametrize("n", [1, 2, 3, 400])
def test_filter_agrees_with_the_explicit_loop(n):
    returns = 100 * simulate("t", n)
    mean, variance = one_step_ahead(PLANTED, 1.7, returns)
    slow_mean, slow_variance = slow_filter(PLANTED, 1.7, returns)
    np.testing.assert_allclose(mean, slow_mean, rtol=1e-13)
    np.testing.assert_allclose(variance, slow_variance, rtol=1e-12)


def test_fit_and_forecasts_agree_with_arch(fitted, block):
    dist, series, model = fitted
    options = {"mean": "AR", "lags": 1, "dist": dist, "rescale": False}
    theirs = arch_model(100 * series[:N_TRAIN], **options).fit(disp="off")
    state = model.state()
    np.testing.assert_allclose(state["params"], np.asarray(theirs.params)[:5], rtol=1e-4)
    # On the training block the whole path agrees, from the first variance on.
    _, variance = one_step_ahead(state["params"], state["backcast"][0], 100 * series[:N_TRAIN])
    np.testing.assert_allclose(np.sqrt(variance[:-1]), theirs.conditional_volatility[1:], rtol=1e-4)
    error = theirs.model.distribution.ppf(RISK_LEVELS, np.asarray(theirs.params)[5:])
    np.testing.assert_allclose(state["error_quantiles"], error, rtol=1e-4, atol=1e-12)
    # Beyond it, with parameters held, so do the one-step forecasts. arch makes its first variance
    # from all it is given, which has died out by then.
    held = arch_model(100 * series, **options).fix(np.r_[state["params"], np.asarray(theirs.params)[5:]])
    path = held.forecast(horizon=1, start=N_TRAIN - 1, reindex=False)
    ours = model.predict(block(series, N_TRAIN, 2 * N_TRAIN))
    np.testing.assert_allclose(100 * ours.point, path.mean["h.1"].to_numpy()[:-1], rtol=1e-9)
    spread = np.sqrt(path.variance["h.1"].to_numpy()[:-1, None]) * state["error_quantiles"]
    np.testing.assert_allclose(100 * (ours.quantiles - ours.point[:, None]), spread, rtol=1e-9, atol=1e-12)


def test_planted_coefficients_are_recovered(fitted):
    _, _, model = fitted
    const, phi, _, alpha, beta = model.state()["params"]
    assert abs(phi - PHI) < 4 * np.sqrt((1 - PHI**2) / N_TRAIN)
    assert abs(const - CONST) < 4 * np.sqrt(OMEGA / (1 - ALPHA - BETA) / N_TRAIN)
    assert abs(alpha - ALPHA) < 0.04
    assert abs(beta - BETA) < 0.06


def test_quantiles_cover_as_they_say_on_calm_and_on_wild_days(fitted, block):
    _, series, model = fitted
    test = block(series, N_TRAIN, 2 * N_TRAIN)
    forecast = model.predict(test)
    assert forecast.levels == RISK_LEVELS
    assert forecast.quantiles.dtype == forecast.point.dtype == np.float64
    width = forecast.quantiles[:, -1] - forecast.quantiles[:, 0]
    # A constant variance would cover too much on calm days and too little on wild ones.
    for days in (width > 0, width < np.median(width), width >= np.median(width)):
        for q, level in enumerate(forecast.levels):
            below = np.mean(test.y[days] <= forecast.quantiles[days, q])
            assert abs(below - level) < 4 * np.sqrt(level * (1 - level) / days.sum()), (level, below)


def test_point_is_the_conditional_mean(fitted, block):
    _, series, model = fitted
    const, phi = model.state()["params"][:2]
    forecast = model.predict(block(series, N_TRAIN, N_TRAIN + 100))
    known = series[N_TRAIN - 1 : N_TRAIN + 99]
    np.testing.assert_allclose(forecast.point, const / 100 + phi * known, rtol=1e-12)
    np.testing.assert_allclose(forecast.quantiles[:, 4], forecast.point, rtol=1e-12)


@pytest.mark.parametrize("p", [21, 70, N_TRAIN - 1, N_TRAIN + 30])
def test_forecasts_up_to_p_do_not_move_with_the_series_from_p_on(fitted, block, p):
    _, series, model = fitted
    windows = block(series, 20, N_TRAIN + 60)
    changed = windows.series.copy()
    changed[p:] = 3.0
    before, after = model.predict(windows), model.predict(replace(windows, series=changed))
    past = slice(0, p + 1 - 20)
    np.testing.assert_array_equal(after.point[past], before.point[past])
    np.testing.assert_array_equal(after.quantiles[past], before.quantiles[past])
    # The next sample knows the return at p.
    assert (after.quantiles[past.stop] != before.quantiles[past.stop]).all()
    # A return that is not known yet may as well be missing.
    changed[p:] = np.nan
    missing = model.predict(replace(windows, series=changed).take(past))
    np.testing.assert_array_equal(missing.quantiles, before.quantiles[past])


def test_fit_reads_neither_validation_nor_what_follows_the_last_training_target(block):
    series = simulate("t", 1200)
    states = []
    for shift in (0.0, 0.7):
        changed = series.copy()
        changed[800:] += shift
        model = built()
        model.fit(block(changed, 20, 1000).take(slice(0, 780)), block(changed, 1000, 1200))
        states.append(model.state())
    for name, array in states[0].items():
        np.testing.assert_array_equal(states[1][name], array)


def test_same_fit_twice_and_a_stored_model_forecast_alike_to_the_bit(fitted, block):
    dist, series, model = fitted
    again, stored = built(dist), built(dist)
    again.fit(block(series, 20, N_TRAIN), block(series, N_TRAIN, N_TRAIN + 50))
    stored.load_state(model.state())
    test = block(series, 20, 220)  # early days, where the backcast still tells
    expected = model.predict(test)
    for other in (again, stored):
        forecast = other.predict(test)
        np.testing.assert_array_equal(forecast.point, expected.point)
        np.testing.assert_array_equal(forecast.quantiles, expected.quantiles)


def test_a_fit_that_does_not_converge_says_so_without_noise(block, capfd):
    line = 0.001 * np.arange(400.0)  # the autoregression explains it all: no variance is left
    filters = list(warnings.filters)
    with pytest.raises(RuntimeError, match="AR-GARCH did not converge on 300 training returns: "):
        built().fit(block(line, 20, 300), block(line, 300, 400))
    assert warnings.filters == filters
    assert capfd.readouterr() == ("", "")


def test_constant_returns_are_refused(block):
    flat = np.full(400, 0.001)
    with pytest.raises(RuntimeError, match="constant or not finite"):
        built().fit(block(flat, 20, 300), block(flat, 300, 400))


def test_a_sample_without_a_past_is_refused(fitted, block):
    _, series, model = fitted
    with pytest.raises(ValueError, match="position 0"):
        model.predict(replace(block(series, 20, 22), position=np.array([0, 1])))


GJR = np.array([0.02, 0.05, 0.08, 0.03, 0.12, 0.85])  # const, phi, omega, alpha, gamma, beta


def simulate_gjr(n, seed=0):
    rng = np.random.default_rng(seed)
    const, phi, omega, alpha, gamma, beta = GJR
    returns, variance, shock = np.zeros(n), omega / (1 - alpha - gamma / 2 - beta), 0.0
    for t in range(n):
        variance = omega + (alpha + gamma * (shock < 0)) * shock**2 + beta * variance
        shock = np.sqrt(variance) * rng.normal()
        returns[t] = const + phi * returns[t - 1] * (t > 0) + shock
    return returns / 100


def test_the_asymmetric_filter_agrees_with_the_explicit_loop_and_with_arch(block):
    returns = 100 * simulate_gjr(300)
    const, phi, omega, alpha, gamma, beta = GJR
    _, variance = one_step_ahead(GJR, 1.3, returns)
    last = omega + (alpha + gamma / 2 + beta) * 1.3
    slow = [last]
    for t in range(1, 300):
        shock = returns[t] - const - phi * returns[t - 1]
        last = omega + (alpha + gamma * (shock < 0)) * shock**2 + beta * last
        slow.append(last)
    np.testing.assert_allclose(variance, slow, rtol=1e-12)
    series = simulate_gjr(3000)
    model = MODELS["ar_garch"](dist="normal", asymmetric=True).build(make_inputs())
    model.fit(block(series, 20, 2800), block(series, 2800, 2900))
    state = model.state()
    theirs = arch_model(100 * series[:2800], mean="AR", lags=1, o=1, rescale=False).fit(disp="off")
    np.testing.assert_allclose(state["params"], np.asarray(theirs.params), rtol=1e-3)
    _, variance = one_step_ahead(state["params"], state["backcast"][0], 100 * series[:2800])
    np.testing.assert_allclose(np.sqrt(variance[:-1]), theirs.conditional_volatility[1:], rtol=1e-3)
    assert abs(state["params"][4] - gamma) < 0.06  # a symmetric fit has none


def test_filtered_historical_simulation_takes_the_errors_as_they_were(block):
    """Errors of a crooked law: the quantiles follow it where normal ones do not."""
    rng = np.random.default_rng(1)
    errors = rng.exponential(size=4000) - 1  # never below -1
    returns, variance, shock = np.zeros(4000), 1.0, 0.0
    for t in range(4000):
        variance = 0.1 + 0.1 * shock**2 + 0.8 * variance
        shock = np.sqrt(variance) * errors[t]
        returns[t] = shock
    series = returns / 100
    test = block(series, 3000, 4000)
    found = {}
    for dist in ("empirical", "normal"):
        model = MODELS["ar_garch"](dist=dist).build(make_inputs())
        model.fit(block(series, 20, 3000), test)
        forecast = model.predict(test)
        assert (forecast.density is None) == (dist == "empirical")
        found[dist] = np.mean(test.truth < forecast.quantiles[:, 1])
    assert abs(found["empirical"] - 0.05) < 0.03
    assert found["normal"] < 0.005
    again = MODELS["ar_garch"](dist="empirical").build(make_inputs())
    again.fit(block(series, 20, 3000), test)
    standard = again._filter.standardised(block(series, 20, 3000))
    assert len(standard) == 2999
    np.testing.assert_allclose(
        np.quantile(standard, RISK_LEVELS), -np.log1p(-np.array(RISK_LEVELS)) - 1, atol=0.2
    )


def test_the_density_is_that_of_the_quantiles(fitted, block):
    _, series, model = fitted
    forecast = model.predict(block(series, N_TRAIN, N_TRAIN + 50))
    np.testing.assert_allclose(forecast.density.quantiles(RISK_LEVELS), forecast.quantiles, rtol=1e-9)
    for q, level in enumerate(RISK_LEVELS):
        np.testing.assert_allclose(forecast.density.cdf(forecast.quantiles[:, q]), level, rtol=1e-9)
