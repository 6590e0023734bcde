"""Baselines of the generative study: what they know, and what they keep of the record."""

import numpy as np
import pytest
from arch import arch_model
from sklearn.covariance import LedoitWolf

from farm.baselines.bootstrap import BootstrapConfig
from farm.baselines.constant_correlation import ConstantCorrelationConfig
from farm.baselines.sample_normal import SampleNormalConfig
from tests.return_world import return_data


def taught(config, days=700):
    data = return_data(days)
    model = config.build(data.inputs)
    model.fit(data.train, data.val)
    return model, data


def squares_autocorrelation(windows: np.ndarray) -> float:
    squared = windows[:, :, 0] ** 2
    return float(np.corrcoef(squared[:, :-1].ravel(), squared[:, 1:].ravel())[0, 1])


def test_the_shrunk_covariance_is_scikit_learns():
    model, data = taught(SampleNormalConfig(shrinkage="ledoit_wolf"))
    np.testing.assert_allclose(model.covariance(), LedoitWolf().fit(data.train.block).covariance_)


def test_a_bootstrapped_day_is_a_day_of_the_record():
    model, data = taught(BootstrapConfig())
    known = {row.tobytes() for row in data.train.block}
    drawn = model.draw(50, seed=0)
    assert all(day.tobytes() in known for window in drawn for day in window)


def test_blocks_have_the_mean_length_and_keep_what_clusters():
    model, data = taught(BootstrapConfig(block=10))
    place = {row.tobytes(): i for i, row in enumerate(data.train.block)}
    places = np.array([[place[day.tobytes()] for day in window] for window in model.draw(3000, seed=1)])
    goes_on = (np.diff(places, axis=1) % len(place)) == 1
    assert goes_on.mean() == pytest.approx(0.9, abs=0.01)
    single, _ = taught(BootstrapConfig())
    assert squares_autocorrelation(model.draw(3000, seed=1)) > 0.1
    assert abs(squares_autocorrelation(single.draw(3000, seed=1))) < 0.05


def test_variances_are_those_of_arch():
    model, data = taught(ConstantCorrelationConfig())
    rows = data._test.rows
    _, variances, _ = model._filter(rows)
    column, train = rows[:, 1], data.train.block[:, 1]
    theirs = arch_model(column, mean="Constant", vol="GARCH", p=1, q=1, rescale=False)
    fixed = theirs.fix(model._params[:, 1])
    # The beginning differs, by the backcast; its effect dies away.
    np.testing.assert_allclose(variances[100:, 1], fixed.conditional_volatility[100:] ** 2, rtol=1e-3)
    assert variances[0, 1] == pytest.approx(train.var())


def test_an_asset_alone_has_the_likelihood_of_its_garch():
    model, data = taught(ConstantCorrelationConfig())
    rows = data._test.rows
    mean, variances, _ = model._filter(rows)
    alone = -0.5 * ((rows - mean) ** 2 / variances + np.log(2 * np.pi * variances)).sum(axis=1)
    model._correlation = np.eye(rows.shape[1])
    np.testing.assert_allclose(model.log_likelihood(rows, 0), alone)


def test_a_hidden_shock_enters_with_its_expected_square():
    model, data = taught(ConstantCorrelationConfig())
    rows = data._test.rows[:50].copy()
    rows[49, 2] = np.nan
    _, variances, squares = model._filter(rows)
    mean, *_ = model._params
    sd = np.sqrt(variances[49])
    draws = np.random.default_rng(0).standard_normal((200_000, 5)) @ np.linalg.cholesky(model._correlation).T
    near = np.abs(draws[:, [0, 1, 3, 4]] - ((rows[49] - mean) / sd)[[0, 1, 3, 4]]).max(axis=1) < 0.35
    assert near.sum() > 100
    expected = (draws[near, 2] * sd[2]) ** 2
    assert squares[49, 2] == pytest.approx(expected.mean(), rel=0.25)


def test_drawn_windows_cluster_as_garch_does():
    model, _ = taught(ConstantCorrelationConfig(), days=1500)
    assert squares_autocorrelation(model.draw(3000, seed=0)) > 0.1
