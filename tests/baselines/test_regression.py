from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from skops import io

import farm.baselines  # noqa: F401  registers the models
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.baselines.regression import ALPHAS
from tests.baselines.conftest import make_inputs

REGRESSIONS = ("linear", "ridge", "gradient_boosting")
N, LOOKBACK, NOISE = 900, 6, 0.01
CUTS = (LOOKBACK, 600, 720, N)  # train, validation, test


def built(name, n_features=3, **values):
    return MODELS[name].make({"name": name, **values}, name).build(make_inputs(n_features, LOOKBACK))


def panel(signal, seed=0):
    """Features of which ``signal(yesterday, day before)`` moves the return."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N, 3)).astype(np.float32).astype(np.float64)
    series = NOISE * rng.normal(size=N)
    for t in range(2, N):
        series[t] += signal(features[t - 1], features[t - 2])
    return features, series


def blocks(block, features, series):
    return [block(series, a, b, features, LOOKBACK) for a, b in pairwise(CUTS)]


def linear_signal(last, before):
    return 0.001 + 0.02 * last[0] - 0.01 * before[2]


def bent_signal(last, before):
    return 0.03 * abs(last[0])


def no_signal(last, before):
    return 0.001


def out_of_sample_r2(model, test):
    return 1 - np.mean((model.predict(test).point - test.y) ** 2) / np.var(test.y)


def slow_design(windows, lags):
    return np.array(
        [
            [float(row[-lag, f]) for lag in range(lags, 0, -1) for f in range(row.shape[1])]
            for row in windows.x
        ]
    )


def test_linear_is_ordinary_least_squares(block):
    train, val, test = blocks(block, *panel(linear_signal))
    model = built("linear", lags=2)
    model.fit(train, val)
    ones = np.ones((len(train), 1))
    solution, *_ = np.linalg.lstsq(
        np.hstack([ones, slow_design(train, 2)]), train.y.astype(float), rcond=None
    )
    expected = solution[0] + slow_design(test, 2) @ solution[1:]
    point = model.predict(test).point
    assert point.dtype == np.float64
    np.testing.assert_allclose(point, expected, rtol=1e-9, atol=1e-12)


def test_linear_finds_the_planted_coefficients_at_their_lags(block):
    train, val, _ = blocks(block, *panel(linear_signal))
    model = built("linear", lags=2)
    model.fit(train, val)
    planted = np.array([0, 0, -0.01, 0.02, 0, 0])  # the day before yesterday comes first
    error = NOISE / np.sqrt(len(train))  # of a coefficient of a feature with unit variance
    np.testing.assert_allclose(model.state()["coef"], planted, atol=4 * error)
    np.testing.assert_allclose(model.state()["intercept"], 0.001, atol=4 * error)


# The truth explains 5/6 of the variance; yesterday alone, which is all that linear reads, 4/6.
@pytest.mark.parametrize(("name", "least"), [("linear", 0.6), ("ridge", 0.75), ("gradient_boosting", 0.65)])
def test_a_planted_linear_signal_is_found(name, least, block):
    train, val, test = blocks(block, *panel(linear_signal))
    model = built(name)
    model.fit(train, val)
    assert least < out_of_sample_r2(model, test) < 0.87


def test_trees_find_a_bent_signal_that_a_line_cannot(block):
    train, val, test = blocks(block, *panel(bent_signal))
    r2 = {}
    for name in ("linear", "gradient_boosting"):
        model = built(name)
        model.fit(train, val)
        r2[name] = out_of_sample_r2(model, test)
    assert r2["gradient_boosting"] > 0.6
    assert r2["linear"] < 0.1


@pytest.mark.parametrize("signal", [linear_signal, no_signal])
def test_ridge_keeps_the_penalty_that_forecasts_validation_best(signal, block):
    train, val, test = blocks(block, *panel(signal))
    X, y = slow_design(train, LOOKBACK), train.y.astype(float)
    centred = X - X.mean(axis=0)

    def normal_equations(alpha):
        gram = centred.T @ centred + alpha * np.eye(X.shape[1])
        coef = np.linalg.solve(gram, centred.T @ (y - y.mean()))
        return lambda windows: y.mean() + (slow_design(windows, LOOKBACK) - X.mean(axis=0)) @ coef

    rules = [normal_equations(alpha) for alpha in ALPHAS]
    best = min(rules, key=lambda rule: np.mean((rule(val) - val.y) ** 2))
    model = built("ridge")
    model.fit(train, val)
    np.testing.assert_allclose(model.predict(test).point, best(test), rtol=1e-7, atol=1e-10)


def test_ridge_shrinks_noise_to_the_mean(block):
    train, val, test = blocks(block, *panel(no_signal))
    ridge, line = built("ridge"), built("linear", lags=LOOKBACK)
    for model in (ridge, line):
        model.fit(train, val)
    assert np.std(ridge.predict(test).point) < 0.2 * np.std(line.predict(test).point)


@pytest.mark.parametrize("signal", [linear_signal, no_signal])
def test_boosting_keeps_the_number_of_trees_that_forecasts_validation_best(signal, block):
    train, val, test = blocks(block, *panel(signal))
    X, y = slow_design(train, 5), train.y.astype(float)
    alone = [  # a fit of its own for 1 tree, 2 trees, ...
        HistGradientBoostingRegressor(learning_rate=0.05, max_iter=n, early_stopping=False).fit(X, y)
        for n in range(1, 13)
    ]
    best = min(alone, key=lambda fit: np.mean((fit.predict(slow_design(val, 5)) - val.y.astype(float)) ** 2))
    model = built("gradient_boosting", max_iter=12)
    model.fit(train, val)
    np.testing.assert_array_equal(model.predict(test).point, best.predict(slow_design(test, 5)))


@pytest.mark.parametrize(
    ("name", "values"), [("linear", {"lags": 2}), ("gradient_boosting", {"lags": 2}), ("ridge", {})]
)
def test_a_forecast_depends_on_the_last_days_of_its_own_window_alone(name, values, block):
    train, val, test = blocks(block, *panel(linear_signal))
    model = built(name, **values)
    model.fit(train, val)
    lags, b = values.get("lags", LOOKBACK), 30
    x = test.x.copy()
    x[:, :-lags] += 7  # days that are not read
    x[b + 1 :] -= 3  # later samples
    changed = replace(test, x=x, series=np.full_like(test.series, np.nan), y=np.full_like(test.y, np.nan))
    before, after = model.predict(test).point, model.predict(changed).point
    np.testing.assert_array_equal(after[: b + 1], before[: b + 1])
    assert (after[b + 1 :] != before[b + 1 :]).mean() > 0.9
    for n in (1, 2, 7):  # nor on what else is forecast along with it
        np.testing.assert_array_equal(model.predict(test.take(slice(0, n))).point, before[:n])


@pytest.mark.parametrize("name", REGRESSIONS)
def test_same_fit_twice_and_a_stored_model_forecast_alike_to_the_bit(name, block):
    train, val, test = blocks(block, *panel(linear_signal))
    first, second, stored = built(name), built(name), built(name)
    first.fit(train, val)
    second.fit(train, val)
    stored.load_state(first.state())
    point = first.predict(test).point
    np.testing.assert_array_equal(second.predict(test).point, point)
    np.testing.assert_array_equal(stored.predict(test).point, point)


def test_linear_and_boosting_do_not_look_at_validation_to_fit(block):
    """With one setting to choose from, validation cannot matter."""
    train, val, test = blocks(block, *panel(linear_signal))
    other = replace(val, y=-5 * val.y)
    for name, values in (("linear", {}), ("gradient_boosting", {"max_iter": 1})):
        points = []
        for seen in (val, other):
            model = built(name, **values)
            model.fit(train, seen)
            points.append(model.predict(test).point)
        np.testing.assert_array_equal(*points)


@pytest.mark.parametrize("name", ["linear", "gradient_boosting"])
def test_more_lags_than_the_window_has_days_is_a_user_error(name):
    with pytest.raises(
        UserError, match=rf"^model {name}: lags: got 7, expected at most the lookback of 6; lower it$"
    ):
        built(name, lags=7)
    built(name, lags=6)


class Foreign:
    """Stands for whatever an archive from elsewhere may hold."""


def test_a_stored_model_of_foreign_types_is_not_loaded():
    archive = np.frombuffer(io.dumps(Foreign()), dtype=np.uint8)
    with pytest.raises(ValueError, match="Foreign"):
        built("gradient_boosting").load_state({"skops": archive})
