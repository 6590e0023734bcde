"""The forest on residuals, where the spread of the residual depends on the inputs."""

import numpy as np
import pytest

from farm.base.types import Forecast
from farm.calibration.conformal import CqrConfig
from farm.calibration.uncertainty import ForestConfig
from tests.calibration.worlds import LEVELS, Z, outside, pinball, windows


def heteroscedastic(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise of deviation 0.2 or 2 by the sign of the second of three inputs."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (n, 3))
    return x, rng.normal(0, 1, n) * np.where(x[:, 1] > 0, 2.0, 0.2)


def test_forest_beats_constant_width_on_heteroscedastic_data() -> None:
    (x, past), (x_later, truth) = heteroscedastic(800, 0), heteroscedastic(3000, 1)
    wild = x_later[:, 1] > 0
    loss, missed = {}, {}
    for name, config in {"forest": ForestConfig(), "constant": CqrConfig()}.items():
        calibrator = config.build()
        calibrator.fit(Forecast(np.zeros(800)), windows(past, x))
        mended = calibrator.apply(Forecast(np.zeros(3000)), windows(truth, x_later))
        out = outside(mended, truth)
        assert out.mean() == pytest.approx(0.1, abs=0.035)
        loss[name], missed[name] = pinball(mended, truth), out[wild].mean()
    sigma = np.where(wild, 2.0, 0.2)
    known = Forecast(np.zeros(3000), sigma[:, None] * Z * np.array([-1, 0, 1]), LEVELS)
    best = pinball(known, truth)
    # three quarters of the way from constant widths to the true quantiles
    assert loss["forest"] - best < 0.25 * (loss["constant"] - best)
    assert missed["constant"] > 0.15  # nearly all misses fall on the wild half, where 0.1 is nominal
    assert missed["forest"] == pytest.approx(0.1, abs=0.05)


def test_seed_decides() -> None:
    x, past = heteroscedastic(200, 0)

    def mended(seed: int) -> np.ndarray:
        calibrator = ForestConfig(trees=20, seed=seed).build()
        calibrator.fit(Forecast(np.zeros(200)), windows(past, x))
        quantiles = calibrator.apply(Forecast(np.zeros(200)), windows(past, x)).quantiles
        assert quantiles is not None
        return quantiles

    np.testing.assert_array_equal(mended(1), mended(1))
    assert not np.array_equal(mended(1), mended(2))


def test_residuals_of_a_biased_point_move_the_median() -> None:
    x, past = heteroscedastic(400, 0)
    calibrator = ForestConfig(trees=20).build()
    calibrator.fit(Forecast(np.full(400, 5.0)), windows(past, x))
    mended = calibrator.apply(Forecast(np.full(400, 5.0)), windows(past, x))
    assert mended.quantiles is not None
    assert np.median(mended.quantiles[:, 1]) == pytest.approx(0.0, abs=0.1)
