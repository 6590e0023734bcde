"""Named evaluations, subsets of the days, and the score of a whole distribution."""

import dataclasses
import itertools

import numpy as np
import pytest
import scoringrules
from scipy import integrate, stats

from farm.base.types import Forecast, Windows
from farm.evaluation.accuracy import rmse
from farm.evaluation.intervals import crps, pinball, violations
from farm.evaluation.metric import METRICS
from farm.evaluation.regimes import VOLATILITY_DAYS, volatile_quarter
from farm.evaluation.scores import Block, Evaluation, of_forecast, score

LEVELS = (0.05, 0.5, 0.95)


def forecast_of(truth, seed=0):
    rng = np.random.default_rng(seed)
    quantiles = np.sort(truth[:, None] + rng.normal(0, 0.02, (len(truth), 3)), axis=1)
    return Forecast(quantiles[:, 1], quantiles, LEVELS)


def windows_of(series, start=30):
    position = np.arange(start, len(series))
    return Windows(
        x=np.zeros((len(position), 2, 1), dtype=np.float32),
        y=series[position].astype(np.float32),
        times=np.arange(len(position)).astype("datetime64[D]"),
        features=("A/log_return",),
        series=series,
        position=position,
    )


def test_a_part_stands_between_the_section_and_the_metric():
    truth = np.random.default_rng(1).normal(0, 0.02, 40)
    forecast = forecast_of(truth)
    whole, part = of_forecast(forecast, truth), of_forecast(forecast, truth, part="s4/cqr")
    assert {"test/s4/cqr/rmse", "interval/s4/cqr/violations", "interval/s4/cqr/crps"} <= set(part)
    assert part == {name.replace("/", "/s4/cqr/", 1): score for name, score in whole.items()}
    assert "val/s1/mae" in of_forecast(forecast, truth, block="val", part="s1")


def scores_of(block):
    """Scores of an evaluation with that test block, without what reads the model."""
    found = score(Evaluation({"test": block}), lambda: 1 / 0, "", [*METRICS])
    return {name: value for one in found.values() for name, value in one.values.items()}


def test_a_subset_is_scored_as_if_there_were_nothing_else():
    truth = np.random.default_rng(1).normal(0, 0.02, 40)
    times = np.arange(40).astype("datetime64[D]")
    forecast = forecast_of(truth)
    keep = np.arange(40) % 3 == 0
    parts = {"": Forecast(forecast.point), "s4": forecast}
    subsets = {"volatile": keep, "never": np.zeros(40, dtype=bool)}
    scores = scores_of(Block(times, truth, parts, subsets=subsets))
    alone = Forecast(forecast.point[keep], forecast.quantiles[keep], LEVELS)
    mine = {name: value for name, value in scores.items() if "s4/volatile" in name}
    assert mine == of_forecast(alone, truth[keep], part="s4/volatile")
    assert scores["test/s4/volatile/rmse"] == rmse(alone, truth[keep]) != rmse(forecast, truth)
    assert scores["interval/s4/volatile/violations"] == violations(alone, truth[keep])
    assert scores["test/volatile/rmse"] == rmse(alone, truth[keep])
    assert not [name for name in scores if "never" in name]


def test_of_a_calibrated_part_the_intervals_alone_are_scored():
    truth = np.random.default_rng(1).normal(0, 0.02, 40)
    times = np.arange(40).astype("datetime64[D]")
    forecasts = {"": forecast_of(truth), "cqr": forecast_of(truth)}
    scores = scores_of(Block(times, truth, forecasts, calibrated=frozenset({"cqr"})))
    assert "interval/cqr/crps" in scores
    assert not [name for name in scores if name.startswith("test/cqr")]


@pytest.mark.parametrize("keep", [np.arange(40), np.ones(39, dtype=bool)])
def test_a_subset_that_does_not_fit_is_refused(keep):
    truth = np.zeros(40)
    with pytest.raises(ValueError, match="subset odd is"):
        Block(np.arange(40).astype("datetime64[D]"), truth, {"": forecast_of(truth)}, subsets={"odd": keep})


def test_the_volatile_quarter_is_found_by_a_slow_loop_too():
    rng = np.random.default_rng(2)
    series = rng.normal(0, 0.01 * np.exp(rng.normal(0, 1, 250).cumsum() / 8))
    windows = windows_of(series)
    volatility = [np.std([series[p - d] for d in range(1, 21)]) for p in windows.position]
    cut = sorted(volatility)[-55]  # ceil(220 / 4)
    np.testing.assert_array_equal(volatile_quarter(windows), np.array(volatility) >= cut)


def test_a_planted_storm_is_marked_from_the_day_after_it_begins():
    series = np.random.default_rng(3).normal(0, 0.01, 430)
    series[200] = 0.5
    mask = volatile_quarter(windows_of(series))
    assert mask.sum() == 100
    assert not mask[200 - 30], "the day itself was not known to be wild"
    assert mask[201 - 30 : 221 - 30].all()
    changed = series.copy()
    changed[-1] = 9.0  # nothing comes after it
    np.testing.assert_array_equal(volatile_quarter(windows_of(changed)), mask)


def test_the_volatility_of_a_day_reads_nothing_from_the_day_on():
    series = np.random.default_rng(4).normal(0, 0.01, 300)
    whole = windows_of(series)
    after = dataclasses.replace(whole, series=np.where(np.arange(300) < 100, series, 0.0))
    before = slice(0, 71)  # days up to position 100
    # Later days are now calm, so of the early ones all the old wild ones stay marked.
    assert (volatile_quarter(after)[before] >= volatile_quarter(whole)[before]).all()


def test_equal_volatility_still_makes_a_quarter():
    assert volatile_quarter(windows_of(np.zeros(70))).tolist() == [True] * 10 + [False] * 30


def test_a_series_that_cannot_be_judged_is_refused():
    series = np.random.default_rng(5).normal(size=80)
    with pytest.raises(ValueError, match="position 19, expected 20"):
        volatile_quarter(windows_of(series, start=VOLATILITY_DAYS - 1))
    assert volatile_quarter(windows_of(series, start=VOLATILITY_DAYS)).sum() == 15
    series[40] = np.nan
    with pytest.raises(ValueError, match="not finite before 20 samples"):
        volatile_quarter(windows_of(series))


def normal_quantiles(mean, scale):
    return np.stack([mean + scale * stats.norm.ppf(level) for level in LEVELS], axis=1)


def test_crps_of_normal_quantiles_is_the_closed_form():
    rng = np.random.default_rng(6)
    mean, scale = rng.normal(0, 0.01, 500), rng.uniform(0.005, 0.03, 500)
    truth = rng.normal(mean, 0.02)
    expected = np.mean(scoringrules.crps_normal(truth, mean, scale))
    forecast = Forecast(mean, normal_quantiles(mean, scale), LEVELS)
    assert crps(forecast, truth) == pytest.approx(expected, rel=1e-3)
    # The mean over three levels is no such approximation.
    assert 2 * pinball(forecast, truth) < 0.9 * expected


def test_crps_of_skewed_quantiles_is_the_integral_of_its_definition():
    truth, low, median, high = 0.013, -0.04, 0.002, 0.02
    down, up = (median - low) / stats.norm.ppf(0.95), (high - median) / stats.norm.ppf(0.95)

    def squared_gap(x):
        below = stats.norm.cdf((x - median) / (down if x < median else up))
        return (below - (x >= truth)) ** 2

    pieces = [-0.4, median, truth, 0.4]
    expected = sum(integrate.quad(squared_gap, *ends)[0] for ends in itertools.pairwise(pieces))
    forecast = Forecast(np.array([median]), np.array([[low, median, high]]), LEVELS)
    assert crps(forecast, np.array([truth])) == pytest.approx(expected, rel=3e-3)


def test_crps_of_heavy_tails_is_close():
    law = stats.t(3)
    truth = law.ppf((np.arange(4000) + 0.5) / 4000)
    forecast = Forecast(np.zeros(4000), np.tile(law.ppf(LEVELS), (4000, 1)), LEVELS)
    fine = law.ppf((np.arange(2000) + 0.5) / 2000)
    expected = np.mean(scoringrules.crps_ensemble(truth[::10], np.tile(fine, (400, 1))))
    assert crps(forecast, truth) == pytest.approx(expected, rel=0.02)


def test_crps_takes_any_two_levels_or_more():
    truth = np.random.default_rng(7).normal(0, 1, 200)
    expected = np.mean(scoringrules.crps_normal(truth, 0.0, 1.0))
    for levels in [(0.1, 0.8), (0.01, 0.2, 0.3, 0.9), tuple(np.arange(1, 20) / 20)]:
        quantiles = np.tile(stats.norm.ppf(levels), (200, 1))
        assert crps(Forecast(np.zeros(200), quantiles, levels), truth) == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="at least two"):
        crps(Forecast(truth, truth[:, None], (0.5,)), truth)
