"""Covariance errors and the portfolio of least variance, against definitions and known answers."""

import numpy as np
import pytest

from farm.evaluation.covariance import (
    correlation,
    covariance_scores,
    minimum_variance_weights,
    portfolio_scores,
)

SIGMA = np.array([[0.04, 0.006, 0.0], [0.006, 0.01, 0.002], [0.0, 0.002, 0.09]])


def days(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(np.zeros(3), SIGMA, size=count)


def test_no_other_fully_invested_portfolio_varies_less():
    weights = minimum_variance_weights(SIGMA)
    assert weights.sum() == pytest.approx(1)
    least = weights @ SIGMA @ weights
    draws = np.random.default_rng(1)
    for _ in range(50):
        other = weights + np.append(step := draws.normal(size=2), -step.sum())
        assert other @ SIGMA @ other > least


def test_independent_assets_are_held_by_inverse_variance():
    np.testing.assert_allclose(minimum_variance_weights(np.diag([1.0, 2.0, 4.0])), np.array([4, 2, 1]) / 7)


def test_the_true_covariance_keeps_its_promise():
    scores, daily = portfolio_scores(SIGMA, days(20_000))
    assert scores["risk"] == pytest.approx(scores["promised_risk"], rel=0.02)
    assert scores["risk"] == pytest.approx(daily.std(ddof=1) * np.sqrt(252))


def test_errors_are_none_for_the_sample_itself_and_grow_with_distance():
    later = days(500)
    own = np.cov(later, rowvar=False)
    assert covariance_scores(own, later) == {"error": pytest.approx(0), "correlation_error": pytest.approx(0)}
    doubled = covariance_scores(2 * own, later)
    assert doubled["error"] == pytest.approx(1)
    assert doubled["correlation_error"] == pytest.approx(0)
    alone = covariance_scores(np.diag(np.diag(own)), later)
    off = correlation(own)[np.triu_indices(3, 1)]
    assert alone["correlation_error"] == pytest.approx(np.sqrt(np.mean(off**2)))


def test_a_worse_covariance_bears_more_risk():
    later = days(5000)
    wrong = SIGMA[::-1, ::-1]
    assert portfolio_scores(SIGMA, later)[0]["risk"] < portfolio_scores(wrong, later)[0]["risk"]
