import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal, norm

import farm.baselines  # noqa: F401  registers the models
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.baselines.gaussian_process import negative_log_likelihood, rbf
from tests.backfill_world import market_dataset
from tests.baselines.conftest import make_inputs


@pytest.fixture(scope="module")
def data():
    return market_dataset(700)[0]


@pytest.fixture(scope="module")
def model(data):
    config = MODELS["gaussian_process"].make({"name": "gaussian_process", "max_rows": 60}, "gaussian_process")
    model = config.build(data.inputs)
    model.fit(data.train, data.val)
    return model


def test_likelihood_is_that_of_the_whole_dense_gaussian():
    rng = np.random.default_rng(0)
    n, p = 12, 3
    rows, outputs = rng.normal(size=(n, 4)), rng.normal(size=(n, p))
    W, log_d = np.eye(p) + 0.3 * rng.normal(size=(p, p)), rng.normal(size=p)
    K = rbf(rows, rows, 1.5)
    A = np.linalg.inv(W)
    dense = np.kron(K, A @ np.diag(np.exp(log_d)) @ A.T) + np.kron(np.eye(n), A @ A.T)
    expected = -multivariate_normal(np.zeros(n * p), dense).logpdf(outputs.ravel()) / n
    eigenvalues, basis = np.linalg.eigh(K)
    theta = np.concatenate([W.ravel(), log_d])
    value, gradient = negative_log_likelihood(theta, basis.T @ outputs, eigenvalues)
    assert value + p * np.log(2 * np.pi) / 2 == pytest.approx(expected, rel=1e-10)
    slow = approx_fprime(theta, lambda t: negative_log_likelihood(t, basis.T @ outputs, eigenvalues)[0], 1e-7)
    np.testing.assert_allclose(gradient, slow, rtol=1e-4, atol=1e-5)


def test_forecast_is_the_dense_conditional_gaussian(model, data):
    """Condition on every training output and on the peers of the day at once, in one big Gaussian."""
    state = model.state()
    train, windows = data.train.take(slice(len(data.train) - 60, len(data.train))), data._test
    A, d = state["mixing"], state["signal"]
    B, S = A @ np.diag(d) @ A.T, A @ A.T
    outputs = np.column_stack([train.y, train.x[:, -1, 4], train.x[:, -1, 8]]).astype(float)
    centre = outputs.mean(axis=0)
    forecast = model.predict(windows)
    for b in (0, 7, 31):
        rows = np.vstack([train.x[:, -2], windows.x[b, -2]]).astype(float)
        K = np.kron(rbf(rows, rows, state["length"][0]), B) + np.kron(np.eye(len(rows)), S)
        known = np.ones(len(K), dtype=bool)
        known[-3] = False  # the target's return of the day
        seen = np.concatenate([(outputs - centre).ravel(), windows.x[b, -1, [4, 8]] - centre[1:]])
        weights = np.linalg.solve(K[np.ix_(known, known)], K[known, -3])
        mean = centre[0] + weights @ seen
        sd = np.sqrt(K[-3, -3] - weights @ K[known, -3])
        assert forecast.point[b] == pytest.approx(mean, rel=1e-6)
        np.testing.assert_allclose(forecast.quantiles[b], mean + sd * norm.ppf((0.05, 0.5, 0.95)), rtol=1e-5)


def test_only_the_latest_rows_are_learnt_from(data, model):
    assert len(model.state()["rows"]) == 60
    np.testing.assert_array_equal(model.state()["rows"], data.train.x[-60:, -2].astype(float))


def test_a_window_of_one_day_is_a_user_error():
    with pytest.raises(
        UserError, match=r"^model gaussian_process: got windows of 1 day, expected at least 2"
    ):
        MODELS["gaussian_process"].make({"name": "gaussian_process"}, "").build(make_inputs(1, 1))
