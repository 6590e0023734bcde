"""Conformal calibration against its theorems and slow references."""

import dataclasses
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.base.types import Forecast
from farm.calibration.conformal import (
    AciConfig,
    CqrConfig,
    CqrScaledConfig,
    adaptive_shifts,
    conformal_rank,
    local_scale,
)
from farm.calibration.volatility import DECAY, ewma_volatility
from tests.calibration.worlds import LEVELS, constant, outside, windows


@pytest.mark.parametrize("percent", [1, 2, 5, 10, 20, 50, 90])
def test_rank_is_exact(percent: int) -> None:
    low = percent / 200
    for miss in (percent / 100, 1 - ((1 - low) - low)):  # with and without rounding error
        for n in range(1, 1000):
            assert conformal_rank(n, miss) == ceil((n + 1) * (1 - Fraction(percent, 100)))


@given(st.lists(st.floats(-5, 5), min_size=9, max_size=60), st.floats(0, 3))
def test_cqr_moves_ends_by_the_smallest_score_that_covers_enough(values: list[float], half: float) -> None:
    truth = np.asarray(values)
    n = len(truth)
    calibrator = CqrConfig().build()
    calibrator.fit(constant(n, half), windows(truth))
    mended = calibrator.apply(constant(1, half), windows(np.zeros(1)))
    scores = [max(-half - y, y - half) for y in values]
    enough = (n + 1) * Fraction(9, 10)
    shift = min(s for s in scores if sum(other <= s for other in scores) >= enough)
    end = max(half + shift, 0.0)  # not past the median
    assert mended.quantiles is not None
    np.testing.assert_allclose(mended.quantiles, [[-end, 0, end]], atol=1e-12)


@pytest.mark.parametrize("config", [CqrConfig(), AciConfig(step=0.0005)])
@pytest.mark.parametrize(("low", "n"), [(0.05, 19), (0.05, 100), (0.25, 30), (0.01, 200)])
def test_coverage_on_exchangeable_data(config: CqrConfig | AciConfig, low: float, n: int) -> None:
    levels, rounds, ahead = (low, 0.5, 1 - low), 600, 5
    rng = np.random.default_rng(n)
    missed = []
    for _ in range(rounds):
        noise = rng.standard_t(3, n + ahead)
        calibrator = config.build()
        calibrator.fit(constant(n, 0.5, levels), windows(noise[:n]))
        mended = calibrator.apply(constant(ahead, 0.5, levels), windows(noise[n:]))
        missed.append(outside(mended, noise[n:]).mean())
    expected = float(1 - Fraction(ceil((n + 1) * (1 - Fraction(round(200 * low), 100))), n + 1))
    assert expected <= 2 * low
    error = float(np.std(missed)) / np.sqrt(rounds)  # over independent rounds
    assert np.mean(missed) == pytest.approx(expected, abs=4 * error + 1e-3)


def reference_aci(past: list[float], scores: list[float], miss: float, step: float) -> list[float]:
    """Gibbs & Candes, sorted anew every day."""
    level, shifts = miss, []
    for t in range(len(scores)):
        memory = sorted((past + scores[:t])[-len(past) :])
        rank = ceil((len(memory) + 1) * (1 - level) - 1e-9)
        shifts.append(memory[min(max(rank, 1), len(memory)) - 1])
        level = level + step * (miss - (1.0 if scores[t] > shifts[t] else 0.0))
    return shifts


@given(
    past=st.lists(st.integers(-9, 9).map(float), min_size=9, max_size=30),
    scores=st.lists(st.integers(-20, 20).map(float), max_size=60),
    step=st.sampled_from([0.005, 0.1, 0.5]),
)
def test_adaptive_shifts_against_the_loop_that_defines_them(
    past: list[float], scores: list[float], step: float
) -> None:
    fast = adaptive_shifts(np.asarray(past), np.asarray(scores, dtype=float), 0.1, step)
    np.testing.assert_array_equal(fast, reference_aci(past, scores, 0.1, step))


def test_adaptive_inference_holds_under_a_shift_where_cqr_fails() -> None:
    rng = np.random.default_rng(3)
    past = rng.normal(0, 1, 500)
    truth = rng.normal(0, 1, 3000) * np.linspace(1, 4, 3000)
    shares = []
    for config in (CqrConfig(), AciConfig(step=0.02)):
        calibrator = config.build()
        calibrator.fit(constant(500, 1), windows(past))
        shares.append(outside(calibrator.apply(constant(3000, 1), windows(truth)), truth).mean())
    assert shares[0] > 0.3
    assert shares[1] == pytest.approx(0.1, abs=0.01)


def test_local_intervals_follow_volatility_and_are_narrower_at_equal_coverage() -> None:
    rng = np.random.default_rng(4)
    scale = np.repeat(np.tile([1.0, 5.0], 20), 100)  # regimes of 100 days
    truth = rng.normal(0, 1, 4000) * scale
    split, scores = 2000, {}
    for name, config in {"cqr": CqrConfig(), "scaled": CqrScaledConfig()}.items():
        calibrator = config.build()
        calibrator.fit(Forecast(np.zeros(split)), windows(truth[:split]))
        mended = calibrator.apply(Forecast(np.zeros(split)), windows(truth[split:]))
        assert mended.quantiles is not None
        missed = outside(mended, truth[split:])
        width = mended.quantiles[:, 2] - mended.quantiles[:, 0]
        scores[name] = missed.mean(), missed[scale[split:] == 5].mean(), width.mean()
    assert scores["cqr"][0] == pytest.approx(0.1, abs=0.03)
    assert scores["scaled"][0] == pytest.approx(0.1, abs=0.03)
    assert scores["cqr"][1] > scores["scaled"][1] + 0.03
    assert scores["scaled"][2] < 0.9 * scores["cqr"][2]


def test_local_scale_weighs_width_and_volatility_alike() -> None:
    truth = np.random.default_rng(0).normal(0, 1, 4)
    sigma = ewma_volatility(windows(truth))
    with_width = local_scale(constant(4, 2.0), windows(truth))[:, 0]
    np.testing.assert_allclose(with_width, np.sqrt(4.0 * sigma), rtol=1e-12)
    without = local_scale(Forecast(np.zeros(4)), windows(truth))[:, 0]
    np.testing.assert_allclose(without, sigma, rtol=1e-12)


@settings(max_examples=20)
@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=40))
def test_volatility_against_the_sum_that_defines_it(values: list[float]) -> None:
    block = windows(np.asarray(values))
    slow = []
    for position in block.position:
        known = block.series[:position][::-1]
        weight = DECAY ** np.arange(len(known))
        slow.append(np.sqrt((weight * known**2).sum() / weight.sum()))
    np.testing.assert_allclose(ewma_volatility(block), slow, rtol=1e-9)


def test_volatility_needs_returns_that_move() -> None:
    block = windows(np.zeros(3))
    with pytest.raises(ValueError, match="all returns before a sample are 0"):
        ewma_volatility(dataclasses.replace(block, series=np.zeros_like(block.series)))
    with pytest.raises(ValueError, match="position 0"):
        ewma_volatility(dataclasses.replace(block, position=np.arange(3)))


def test_other_levels_than_those_learnt_are_an_error() -> None:
    calibrator = CqrConfig().build()
    calibrator.fit(constant(50, 1, LEVELS), windows(np.zeros(50)))
    with pytest.raises(ValueError, match="expected those of the calibration block"):
        calibrator.apply(constant(5, 1, (0.1, 0.5, 0.9)), windows(np.zeros(5)))
