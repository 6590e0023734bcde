"""Temperature scaling against known temperatures and a search by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.base.types import Forecast
from farm.calibration.temperature import Temperature, best_temperature
from tests.calibration.worlds import LEVELS, Z, pinball, windows


@pytest.mark.parametrize("tau", [0.25, 1.0, 3.0])
def test_recovers_a_known_temperature(tau: float) -> None:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.5, 2, 20_000)
    center = rng.normal(0, 1, 20_000)
    quantiles = center[:, None] + sigma[:, None] * Z / tau * np.array([-1, 0, 1])
    calibrator = Temperature()
    calibrator.fit(Forecast(center, quantiles, LEVELS), windows(center + sigma * rng.normal(0, 1, 20_000)))
    assert calibrator.temperature == pytest.approx(tau, rel=0.03)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(9, 40),
    bias=st.floats(-3, 3),
    levels=st.sampled_from([LEVELS, (0.05, 0.25, 0.5, 0.75, 0.95)]),
)
def test_no_other_temperature_has_less_pinball_loss(
    seed: int, n: int, bias: float, levels: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(seed)
    quantiles = np.sort(rng.normal(0, 1, (n, len(levels))), axis=1)
    truth = rng.normal(bias, 1, n)
    median = quantiles[:, len(levels) // 2, None]

    def loss(tau: float) -> float:
        return pinball(Forecast(median[:, 0], median + tau * (quantiles - median), levels), truth)

    best = loss(best_temperature(quantiles, levels, truth))
    assert best <= min(map(loss, np.linspace(0, 10, 400))) + 1e-12


def test_intervals_without_width_have_no_temperature() -> None:
    with pytest.raises(ValueError, match="expected intervals with a width to scale"):
        best_temperature(np.zeros((20, 3)), LEVELS, np.ones(20))
