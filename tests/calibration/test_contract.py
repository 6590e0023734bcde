"""What every calibrator must hold to; one added to the registry is tested without a line here."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import farm.calibration  # noqa: F401
from farm.base.errors import UserError
from farm.base.types import Forecast
from farm.calibration.calibrator import CALIBRATORS, Calibrator
from tests.calibration.worlds import LEVELS, constant, outside, windows

ONLINE = {"aci"}
NEEDS_QUANTILES = {"temperature"}
FIELDS = {"forest": {"trees": 20}}  # enough for a contract

pytestmark = pytest.mark.parametrize("name", list(CALIBRATORS))


def build(name: str) -> Calibrator:
    return CALIBRATORS[name].make({"name": name, **FIELDS.get(name, {})}, name).build()


def world(seed: int, n: int) -> tuple[Forecast, np.ndarray]:
    """A forecast with quantiles of changing width, some of them 0, and truths."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1, (n, 5)) * rng.integers(0, 2, (n, 1))
    quantiles = rng.normal(0, 1, (n, 1)) + np.cumsum(gaps, axis=1)
    return Forecast(quantiles[:, 2], quantiles, (0.05, 0.25, 0.5, 0.75, 0.95)), rng.normal(1, 2, n)


def test_covers_as_promised(name: str) -> None:
    rng = np.random.default_rng(5)
    past, truth = rng.normal(0, 1, 1000), rng.normal(0, 1, 4000)
    calibrator = build(name)
    calibrator.fit(constant(1000, 0.3), windows(past))
    mended = calibrator.apply(constant(4000, 0.3), windows(truth))
    assert outside(constant(4000, 0.3), truth).mean() > 0.7
    # four standard errors: of 1000 rows in the calibration block and of 4000 in the other one
    slack = 4 * np.sqrt(0.1 * 0.9 * (1 / 1000 + 1 / 4000))
    assert outside(mended, truth).mean() == pytest.approx(0.1, abs=slack)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(25, 60))
def test_quantiles_never_cross_and_points_stay(name: str, seed: int, n: int) -> None:
    forecast, truth = world(seed, n)
    calibrator = build(name)
    calibrator.fit(forecast, windows(truth, seed=seed))
    later, unseen = world(seed + 1, 40)
    mended = calibrator.apply(later, windows(unseen, seed=seed))
    assert mended.quantiles is not None
    assert (np.diff(mended.quantiles, axis=1) >= 0).all()
    assert mended.levels == later.levels
    np.testing.assert_array_equal(mended.point, later.point)


def test_changing_the_future_changes_no_interval_before(name: str) -> None:
    forecast, truth = world(0, 200)
    later, unseen = world(1, 120)
    cut = 50  # the first day whose truth is changed
    changed = unseen.copy()
    changed[cut:] = 9 * changed[cut:] + 30
    calibrator = build(name)
    calibrator.fit(forecast, windows(truth))
    one, other = (calibrator.apply(later, windows(values)) for values in (unseen, changed))
    assert one.quantiles is not None
    assert other.quantiles is not None
    np.testing.assert_array_equal(one.quantiles[: cut + 1], other.quantiles[: cut + 1])
    if name in ONLINE:  # and the test would notice
        assert not np.array_equal(one.quantiles[cut + 1 :], other.quantiles[cut + 1 :])


def test_an_interval_depends_on_nothing_after_its_day(name: str) -> None:
    forecast, truth = world(0, 200)
    later, unseen = world(1, 120)
    assert later.quantiles is not None
    calibrator = build(name)
    calibrator.fit(forecast, windows(truth))
    whole = calibrator.apply(later, windows(unseen))
    start = 0 if name in ONLINE else 30  # online the days before count, and are meant to
    rows = slice(start, 80)
    part = Forecast(later.point[rows], later.quantiles[rows], later.levels)
    mended = calibrator.apply(part, windows(unseen).take(rows))
    assert whole.quantiles is not None
    assert mended.quantiles is not None
    np.testing.assert_allclose(mended.quantiles, whole.quantiles[rows], rtol=1e-12)


def test_equal_blocks_give_equal_bits(name: str) -> None:
    forecast, truth = world(0, 100)
    later, unseen = world(1, 50)
    results = []
    for _ in range(2):
        calibrator = build(name)
        calibrator.fit(forecast, windows(truth))
        results.append(calibrator.apply(later, windows(unseen)).quantiles)
    assert results[0] is not None
    np.testing.assert_array_equal(results[0], results[1])


def test_forecasts_of_points_alone(name: str) -> None:
    rng = np.random.default_rng(2)
    past, truth = rng.normal(0, 1, 500), rng.normal(0, 1, 2000)
    calibrator = build(name)
    if name in NEEDS_QUANTILES:
        with pytest.raises(UserError, match="points alone"):
            calibrator.fit(Forecast(np.zeros(500)), windows(past))
        return
    calibrator.fit(Forecast(np.zeros(500)), windows(past))
    mended = calibrator.apply(Forecast(np.zeros(2000)), windows(truth))
    assert mended.levels == LEVELS
    assert outside(mended, truth).mean() == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize(("low", "needed"), [(0.05, 9), (0.025, 19), (0.005, 99)])
def test_a_short_block_is_one_clear_line(name: str, low: float, needed: int) -> None:
    levels = (low, 0.5, 1 - low)
    truth = np.random.default_rng(0).normal(0, 1, needed)
    calibrator = build(name)
    calibrator.fit(constant(needed, 1, levels), windows(truth))  # just enough
    text = (
        f"calibrator {name}: got {needed - 1} calibration rows, expected at least {needed}"
        f" for intervals at the {1 - 2 * low:.10g} level: "
    )
    with pytest.raises(UserError) as caught:
        calibrator.fit(constant(needed - 1, 1, levels), windows(truth[1:]))
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_a_truth_that_is_not_finite_is_an_error(name: str) -> None:
    truth = np.random.default_rng(0).normal(0, 1, 50)
    truth[-1] = np.nan
    with pytest.raises(ValueError, match="1 of 50 truths are not finite"):
        build(name).fit(constant(50, 1), windows(truth))


@pytest.mark.parametrize("levels", [(0.05, 0.95), (0.05, 0.5, 0.9)])
def test_levels_must_be_pairs_about_the_median(name: str, levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected 0\.5 and pairs about it"):
        build(name).fit(constant(50, 1, levels), windows(np.ones(50)))


def test_float32_forecasts_are_mended_in_double_precision(name: str) -> None:
    forecast, truth = world(0, 100)
    assert forecast.quantiles is not None
    narrow = dataclasses.replace(
        forecast, point=forecast.point.astype(np.float32), quantiles=forecast.quantiles.astype(np.float32)
    )
    calibrator = build(name)
    calibrator.fit(narrow, windows(truth))
    mended = calibrator.apply(narrow, windows(truth)).quantiles
    assert mended is not None
    assert mended.dtype == np.float64
