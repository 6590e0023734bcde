"""Structural series behind the factors: the filter against the joint normal written out."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from farm.base.errors import UserError
from farm.models.linear_gaussian import FactorLaw
from farm.models.structural import VAGUE, Structural, StructuralConfig
from tests.return_world import ASSETS, return_data


@pytest.fixture(scope="module")
def taught():
    data = return_data(500)
    model = StructuralConfig(factors=1, season=5).build(data.inputs)
    model.fit(data.train, data.val)
    return model, data


def joint(model: Structural, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Write out mean and covariance of the first days of the record, stacked."""
    design, transition, noise = (model._system[name] for name in ("design", "transition", "noise"))
    loadings = model._law.loadings @ design
    states = len(transition)
    spread = [VAGUE * np.eye(states)]
    for _ in range(days - 1):
        spread.append(transition @ spread[-1] @ transition.T + noise)
    assets = len(model._law.mean)
    covariance = np.zeros((days * assets, days * assets))
    for t in range(days):
        for s in range(t + 1):
            move = np.linalg.matrix_power(transition, t - s) @ spread[s]
            part = loadings @ move @ loadings.T
            if t == s:
                part = part + np.diag(model._law.noise)
            covariance[t * assets : (t + 1) * assets, s * assets : (s + 1) * assets] = part
            covariance[s * assets : (s + 1) * assets, t * assets : (t + 1) * assets] = part.T
    return np.tile(model._law.mean, days), covariance


def test_density_is_that_of_the_joint_normal(taught):
    model, data = taught
    rows = data.train.rows[:8]
    mean, covariance = joint(model, 8)
    daily = model.log_likelihood(rows, 0)
    for days in (1, 4, 8):
        n = days * len(ASSETS)
        whole = multivariate_normal(mean[:n], covariance[:n, :n]).logpdf(rows[:days].ravel())
        assert daily[:days].sum() == pytest.approx(whole, abs=1e-6)


def test_hidden_entries_are_filled_from_their_day_and_the_days_before(taught):
    model, data = taught
    rows = data.train.rows[:6].copy()
    rows[np.random.default_rng(0).random(rows.shape) < 0.4] = np.nan
    rows[2] = np.nan
    rows[5, :2] = np.nan
    mean, covariance = joint(model, 6)
    seen = ~np.isnan(rows.ravel())
    wanted = np.flatnonzero(~seen)[-2:]  # the two of the last day, in asset order
    gain = covariance[np.ix_(wanted, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    expected = mean[wanted] + gain @ (rows.ravel()[seen] - mean[seen])
    left = covariance[np.ix_(wanted, wanted)] - gain @ covariance[np.ix_(seen, wanted)]
    filled = model.impute(rows, 0)
    hidden = np.flatnonzero(np.isnan(rows[5]))[-2:]
    np.testing.assert_allclose(filled.mean[5, hidden], expected, atol=1e-6)
    np.testing.assert_allclose(filled.sd[5, hidden], np.sqrt(np.diag(left)), atol=1e-6)


def test_finds_a_planted_week_and_memory():
    draws = np.random.default_rng(1)
    days = 1500
    week = np.array([0.8, -0.3, 0.1, -0.9, 0.3])
    memory = np.zeros(days)
    for t in range(1, days):
        memory[t] = 0.6 * memory[t - 1] + 0.6 * draws.normal()
    factor = week[np.arange(days) % 5] + memory
    data = return_data(days)
    rows = factor[:, None] * np.array([1.0, 1.2, 0.8, 0.9, 1.1]) + 0.3 * draws.normal(size=(days, 5))
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    object.__setattr__(data.train, "rows", rows[: len(data.train.rows)])
    object.__setattr__(data.val, "rows", rows[: len(data.val.rows)])
    gains = {}
    for season, level in ((5, False), (0, False)):
        model = StructuralConfig(factors=1, season=season, level=level).build(data.inputs)
        model.fit(data.train, data.val)
        static = FactorLaw(model._law.mean, model._law.loadings, model._law.noise)
        later = data.val
        ahead = model.log_likelihood(later.rows, later.first) - static.posterior(later.block)[2]
        gains[season] = ahead.mean()
        assert model._system["transition"][-1, -1] == pytest.approx(0.6 if season else 0.3, abs=0.15)
    assert gains[5] > gains[0] + 0.1 > 0.1


def test_a_season_of_one_day_is_refused():
    with pytest.raises(UserError, match="a season of 1 day, expected 0 for none, or 2 or more"):
        StructuralConfig(factors=1, season=1).build(return_data(300).inputs)
