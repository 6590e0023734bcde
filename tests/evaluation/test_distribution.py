import math

import numpy as np
import pytest
from scipy import stats

from farm.base.density import Density
from farm.base.types import RISK_LEVELS, Forecast
from farm.evaluation.distribution import log_score, pit

SCALE = 0.02


def of_quantiles(law, n, levels=RISK_LEVELS):
    quantiles = np.tile(law.ppf(levels), (n, 1))
    return Forecast(quantiles[:, len(levels) // 2], quantiles, levels)


def test_quantiles_of_a_normal_stand_for_that_normal():
    law = stats.norm(0.001, SCALE)
    truth = law.rvs(300, random_state=0)
    truth[:2] = -0.3, 0.3  # far beyond the outer quantiles
    for levels in ((0.05, 0.5, 0.95), (0.25, 0.75), RISK_LEVELS):
        forecast = of_quantiles(law, 300, levels)
        assert log_score(forecast, truth) == pytest.approx(law.logpdf(truth).mean(), rel=1e-9)
        np.testing.assert_allclose(pit(forecast, truth), law.cdf(truth), rtol=1e-7, atol=1e-15)


def test_a_density_is_believed_before_the_quantiles():
    law = stats.t(4, 0.001, SCALE)
    truth = law.rvs(4000, random_state=1)
    density = Density.of(np.full(4000, 0.001), np.full(4000, SCALE), 4.0)
    exact = Forecast.of(density, RISK_LEVELS)
    assert log_score(exact, truth) == pytest.approx(law.logpdf(truth).mean(), rel=1e-12)
    np.testing.assert_allclose(pit(exact, truth), law.cdf(truth), rtol=1e-9)
    # What the quantiles imply has normal tails: it scores less, but not by much.
    implied = log_score(of_quantiles(law, 4000), truth)
    assert log_score(exact, truth) - 0.15 < implied < log_score(exact, truth)


def test_the_implied_density_integrates_to_one():
    """Of crooked quantiles: the trapezoid over a fine grid."""
    quantiles = np.array([-0.09, -0.03, -0.025, -0.01, 0.002, 0.004, 0.03, 0.05, 0.2])
    grid = np.linspace(-1, 1, 8001)
    forecast = Forecast(np.zeros(len(grid)), np.tile(quantiles, (len(grid), 1)), RISK_LEVELS)
    density = [math.exp(log_score(forecast.take(np.array([i])), grid[[i]])) for i in range(len(grid))]
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=5e-3)
    at = forecast.take(np.arange(9))
    np.testing.assert_allclose(pit(at, quantiles), RISK_LEVELS, rtol=1e-9)
    assert (np.diff(pit(forecast, grid)) >= 0).all()


def test_the_transform_is_uniform_for_the_true_law_and_not_for_a_narrow_one():
    law = stats.t(5, 0, SCALE)
    truth = law.rvs(3000, random_state=2)
    right, narrow = of_quantiles(law, 3000), of_quantiles(stats.t(5, 0, SCALE / 2), 3000)
    assert stats.kstest(pit(right, truth), "uniform").pvalue > 0.01
    assert stats.kstest(pit(narrow, truth), "uniform").pvalue < 1e-10
    assert log_score(right, truth) > log_score(narrow, truth)


def test_quantiles_without_width_have_no_log_score():
    truth = np.array([0.0, 0.01])
    flat = Forecast(np.zeros(2), np.zeros((2, 3)), (0.05, 0.5, 0.95))
    assert math.isnan(log_score(flat, truth))
    assert np.isfinite(pit(flat, truth)).all()
    assert pit(flat, truth)[1] == 1.0
