import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_pinball_loss
from statsmodels.regression.quantile_regression import QuantReg

import farm.baselines  # noqa: F401  registers the models
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.baselines.tabular import design, target
from tests.backfill_world import market_dataset
from tests.baselines.conftest import make_inputs

LEVELS = (0.05, 0.5, 0.95)
NAMES = ("linear_quantile", "gradient_boosted_quantiles", "quantile_forest")


@pytest.fixture(scope="module")
def data():
    return market_dataset(1500)[0]


def fitted(name, data, **values):
    model = MODELS[name].make({"name": name, **values}, name).build(data.inputs)
    model.fit(data.train, data.val)
    return model


def test_linear_agrees_with_statsmodels(data):
    state = fitted("linear_quantile", data, lags=1).state()
    X, y = design(data.train, 1)[:, 4:], target(data.train)  # the first four are hidden
    for q, level in enumerate(LEVELS):
        theirs = QuantReg(y, np.column_stack([np.ones(len(X)), X])).fit(level, p_tol=1e-9, max_iter=5000)
        loss = mean_pinball_loss(y, X @ state["coef"][q, 4:] + state["intercept"][q], alpha=level)
        assert loss <= mean_pinball_loss(y, theirs.fittedvalues, alpha=level) * (1 + 1e-9)
        np.testing.assert_allclose(state["coef"][q, 4:], theirs.params[1:], atol=2e-4)
        # Koenker and Bassett, theorem 3.4: as many lie below as the level says, but for those on the line.
        below = np.mean(y < X @ state["coef"][q, 4:] + state["intercept"][q])
        assert abs(below - level) <= (X.shape[1] + 1) / len(y)


def test_boosting_keeps_the_number_of_trees_that_forecasts_validation_best(data):
    model = fitted("gradient_boosted_quantiles", data, lags=1, max_iter=8, learning_rate=0.3)
    X, y, X_val, y_val = design(data.train, 1), target(data.train), design(data.val, 1), target(data.val)
    columns = []
    for level in LEVELS:
        alone = [  # a fit of its own for 1 tree, 2 trees, ...
            HistGradientBoostingRegressor(
                loss="quantile", quantile=level, learning_rate=0.3, max_iter=n, max_leaf_nodes=8,
                early_stopping=False,
            ).fit(X, y)
            for n in range(1, 9)
        ]  # fmt: skip
        best = min(alone, key=lambda f: mean_pinball_loss(y_val, f.predict(X_val), alpha=level))
        columns.append(best.predict(design(data._test, 1)))
    expected = np.sort(np.stack(columns, axis=1), axis=1)
    np.testing.assert_array_equal(model.predict(data._test).quantiles, expected)


def test_forest_is_meinshausens_weighted_quantile(data):
    """Each training target weighs as often as it shares a leaf, by the leaf's size; mean over trees."""
    few = data.train.take(slice(0, 60))
    model = MODELS["quantile_forest"].make(
        {"name": "quantile_forest", "n_estimators": 25, "min_samples_leaf": 8}, "quantile_forest"
    )
    forest = model.build(data.inputs)
    forest.fit(few, few)
    inner, X, y = forest._forest, design(few, 2), target(few)
    windows = data._test.take(slice(0, 20))
    order = np.argsort(y)
    for row, quantiles in zip(design(windows, 2), forest.predict(windows).quantiles, strict=True):
        weights = np.zeros(len(y))
        for tree, drawn in zip(inner.estimators_, inner.estimators_samples_, strict=True):
            mates = drawn[tree.apply(X[drawn].astype(np.float32)) == tree.apply(row[None].astype(np.float32))]
            np.add.at(weights, mates, 1 / len(mates) / len(inner.estimators_))
        reached = np.cumsum(weights[order])
        # Conventions of interpolation differ by less than one step of the distribution.
        step = weights.max()
        low = y[order][[np.searchsorted(reached, max(level - step, 0)) for level in LEVELS]]
        high = y[order][[np.searchsorted(reached, min(level + step, reached[-1])) for level in LEVELS]]
        assert (low <= quantiles).all()
        assert (quantiles <= high).all()


@pytest.mark.parametrize("name", ["linear_quantile", "gradient_boosted_quantiles"])
def test_levels_that_cross_are_put_in_order(name, data):
    """Learnt from few samples the levels do cross; the forecast's do not."""
    few = data.train.take(slice(0, 80))
    values = {} if name == "linear_quantile" else {"learning_rate": 1.0, "max_leaf_nodes": 31}
    model = MODELS[name].make({"name": name, **values}, name).build(data.inputs)
    model.fit(few, data.val if name == "linear_quantile" else few)
    raw = model._quantiles(design(data._test, 2))
    assert (np.diff(raw, axis=1) < 0).any()
    forecast = model.predict(data._test)  # a crossing raises
    np.testing.assert_array_equal(forecast.quantiles, np.sort(raw, axis=1))
    np.testing.assert_array_equal(forecast.point, forecast.quantiles[:, 1])


@pytest.mark.parametrize("name", NAMES)
def test_the_days_read_are_the_last(name, data):
    model = fitted(name, data)
    windows = data._test.take(slice(0, 50))
    before = model.predict(windows).quantiles
    x = windows.x.copy()
    x[:, :-2] += 5
    windows.x[:] = x
    np.testing.assert_array_equal(model.predict(windows).quantiles, before)
    windows.x[:, -2:] += 5
    assert (model.predict(windows).quantiles != before).any()
    windows.x[:, -2:] -= 5


@pytest.mark.parametrize("name", NAMES)
def test_more_lags_than_the_window_has_days_is_a_user_error(name):
    with pytest.raises(UserError, match=rf"^model {name}: lags: got 7, expected at most the lookback of 6"):
        MODELS[name].make({"name": name, "lags": 7}, name).build(make_inputs(3, 6))


def test_a_stored_forest_is_small_and_holds_no_pickle(data):
    state = fitted("quantile_forest", data).state()
    assert {value.dtype for value in state.values()} == {np.dtype(np.uint8)}
    assert sum(value.nbytes for value in state.values()) < 3_000_000
    assert bytes(state["skops"][:2]) == b"PK"  # a zip of JSON and arrays
