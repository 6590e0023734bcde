"""Conformal intervals of paths: coverage on exchangeable paths, order in time, hand-made factors."""

import numpy as np
import pytest

from farm.base.types import Forecast
from farm.calibration.lead_time import LeadTimeConformal

LEVELS = (0.05, 0.5, 0.95)
LEAD = np.arange(1, 101)


def walk(rng: np.random.Generator, scale: float = 1.0) -> tuple[Forecast, np.ndarray]:
    """A random walk and quantiles that are right for scale 1."""
    spread = 1.6448536 * np.sqrt(LEAD)
    quantiles = np.stack([-spread, 0 * spread, spread], axis=1)
    return Forecast(np.zeros(100), quantiles, LEVELS), scale * rng.standard_normal(100).cumsum()


def outside(forecast: Forecast, truth: np.ndarray) -> float:
    return float(np.mean((truth < forecast.quantiles[:, 0]) | (truth > forecast.quantiles[:, 2])))


@pytest.mark.parametrize("paths", [20, 60])
def test_too_narrow_intervals_of_exchangeable_paths_come_to_cover(paths: int):
    shares = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        conformal = LeadTimeConformal()
        for _ in range(paths):
            conformal.learn(*walk(rng, scale=2.5), LEAD, 1)
        forecast, truth = walk(rng, scale=2.5)
        shares.append([outside(forecast, truth), outside(conformal.apply(forecast, LEAD), truth)])
    raw, mended = np.mean(shares, axis=0)
    assert raw > 0.4
    assert 0.03 < mended < 0.15  # nominal 0.10; the mean of 60 dependent paths


def test_a_calm_calibration_narrows_nothing():
    rng = np.random.default_rng(1)
    conformal = LeadTimeConformal()
    for _ in range(30):
        conformal.learn(*walk(rng, scale=0.2), LEAD, 1)
    forecast, _ = walk(rng)
    np.testing.assert_array_equal(conformal.apply(forecast, LEAD).quantiles, forecast.quantiles)


def test_factors_by_hand():
    # Nineteen paths of one day whose truths lie 1, 2, ... 19 half intervals off, on either side.
    low, middle, high = 1.0, 5.0, 7.0
    forecast = Forecast(np.array([middle]), np.array([[low, middle, high]]), LEVELS)
    conformal = LeadTimeConformal()
    for off in range(1, 20):
        truth = middle + 2.0 * off if off % 2 else middle - 4.0 * off
        conformal.learn(forecast, np.array([truth]), np.array([3]), 1)
    # Share 0.9 (1 + 1 / 19) = 18 / 19 of nineteen scores: the 18th of them, or the next.
    factors = conformal.factors(0.1)
    assert factors[0] in (18.0, 19.0)
    assert (factors == factors[0]).all()  # other buckets know nothing and take their predecessor's
    mended = conformal.apply(forecast, np.array([3]))
    np.testing.assert_allclose(
        mended.quantiles[0], [middle - 4 * factors[0], middle, middle + 2 * factors[0]]
    )
    assert mended.point[0] == middle


def test_buckets_are_apart_and_weight_is_repetition():
    rng = np.random.default_rng(2)
    forecast, truth = walk(rng, scale=3.0)
    early = LEAD < 8
    one, other = LeadTimeConformal(), LeadTimeConformal()
    one.learn(forecast, truth, LEAD, 1, weight=3)
    for _ in range(3):
        other.learn(forecast, np.where(early, truth, 100.0), LEAD, 1)
    assert one.factors(0.1)[0] == other.factors(0.1)[0]
    assert one.factors(0.1)[3] < other.factors(0.1)[3]


def test_what_cannot_be_mended_is_refused():
    with pytest.raises(ValueError, match="nothing was learnt"):
        LeadTimeConformal().apply(walk(np.random.default_rng(0))[0], LEAD)
    with pytest.raises(ValueError, match="a median and a pair"):
        LeadTimeConformal().learn(Forecast(np.zeros(2)), np.zeros(2), np.array([1, 2]), 1)
