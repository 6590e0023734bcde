"""What every metric owes: it inherits these tests by being registered."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
    r2_score,
)

from farm.base.types import Forecast
from farm.evaluation.accuracy import direction_accuracy, mae, r2, rmse
from farm.evaluation.intervals import nominal_violations, pinball, violations, width, winkler
from farm.evaluation.metric import METRICS, metric
from farm.evaluation.scores import of_forecast

LEVELS = (0.05, 0.5, 0.95)
EVERY_METRIC = [METRICS[name] for name in METRICS]
every_metric = pytest.mark.parametrize("metric", EVERY_METRIC, ids=lambda metric: metric.name)
# A density has no best: its logarithm at the truth grows as it narrows.
bounded = pytest.mark.parametrize(
    "metric",
    [metric for metric in EVERY_METRIC if np.isfinite(metric.optimum_at(LEVELS))],
    ids=lambda metric: metric.name,
)


def normal_truth(n=400, scale=0.02):
    """Truths that stand exactly at the probabilities (i + 1/2) / n of a normal distribution."""
    return scale * stats.norm.ppf((np.arange(n) + 0.5) / n)


def perfect(metric, truth, scale=0.02):
    """The oracle; for a metric of calibration, the quantiles that the truths were drawn from."""
    if metric.direction == "none":
        true_quantiles = scale * stats.norm.ppf(LEVELS)
        return Forecast(truth, np.tile(true_quantiles, (len(truth), 1)), LEVELS)
    return Forecast(truth, np.repeat(truth[:, None], 3, axis=1), LEVELS)


def disturbed(forecast, size, rng):
    """Add independent noise to the points and to every quantile, and sort the quantiles again."""
    point = forecast.point + size * rng.standard_normal(forecast.point.shape)
    quantiles = np.sort(forecast.quantiles + size * rng.standard_normal(forecast.quantiles.shape), axis=1)
    return Forecast(point, quantiles, forecast.levels)


def test_the_registry_holds_the_named_metrics():
    assert set(METRICS) >= {
        "rmse",
        "mae",
        "direction_accuracy",
        "r2",
        "violations",
        "width",
        "pinball",
        "winkler",
    }


@bounded
def test_a_perfect_forecast_scores_the_optimum(metric):
    truth = normal_truth()
    forecast = perfect(metric, truth)
    assert metric.function(forecast, truth) == pytest.approx(metric.optimum_at(LEVELS), abs=1e-12)


@bounded
def test_noise_moves_the_score_away_from_the_optimum_in_the_declared_direction(metric):
    truth, rng = normal_truth(), np.random.default_rng(1)
    optimum = metric.optimum_at(LEVELS)
    scores = [
        metric.function(disturbed(perfect(metric, truth), size, rng), truth)
        for size in (0, 0.005, 0.02, 0.08)
    ]
    loss = {"min": np.array(scores), "max": -np.array(scores), "none": np.abs(np.array(scores) - optimum)}
    assert (np.diff(loss[metric.direction]) > 0).all(), scores


@every_metric
def test_the_order_of_the_samples_changes_nothing(metric):
    rng = np.random.default_rng(2)
    truth = normal_truth(101)
    forecast = disturbed(perfect(metric, truth), 0.01, rng)
    order = rng.permutation(len(truth))
    shuffled = Forecast(forecast.point[order], forecast.quantiles[order], LEVELS)
    assert metric.function(shuffled, truth[order]) == pytest.approx(
        metric.function(forecast, truth), rel=1e-12
    )


@every_metric
def test_single_precision_loses_nothing_but_the_rounding_of_its_inputs(metric):
    rng = np.random.default_rng(3)
    truth = rng.standard_normal(20_000).astype(np.float32) * np.float32(0.02) + 1000
    forecast = disturbed(perfect(metric, np.zeros(len(truth))), 0.02, rng)
    single = Forecast(
        (forecast.point + 1000).astype(np.float32), (forecast.quantiles + 1000).astype(np.float32), LEVELS
    )
    double = Forecast(single.point.astype(np.float64), single.quantiles.astype(np.float64), LEVELS)
    assert metric.function(single, truth) == pytest.approx(
        metric.function(double, truth.astype(np.float64)), rel=1e-12, nan_ok=True
    )


@every_metric
@pytest.mark.parametrize(
    "truth",
    [np.zeros(3), np.zeros((4, 1)), np.array([0.0, np.nan, 0.0, 1.0]), np.array([0.0, np.inf, 0.0, 1.0])],
)
def test_a_truth_that_does_not_fit_is_refused(metric, truth):
    with pytest.raises(ValueError, match="truth"):
        metric.function(Forecast(np.ones(4), np.ones((4, 3)), LEVELS), truth)


@every_metric
def test_an_empty_block_is_refused(metric):
    with pytest.raises(ValueError, match="B > 0"):
        metric.function(Forecast(np.ones(0), np.ones((0, 3)), LEVELS), np.ones(0))


def test_point_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(4)
    truth, point = rng.standard_normal((2, 300))
    forecast = Forecast(point)
    assert rmse(forecast, truth) == pytest.approx(mean_squared_error(truth, point) ** 0.5, rel=1e-12)
    assert mae(forecast, truth) == pytest.approx(mean_absolute_error(truth, point), rel=1e-12)
    assert r2(forecast, truth) == pytest.approx(r2_score(truth, point), rel=1e-12)
    assert direction_accuracy(forecast, truth) == accuracy_score(truth > 0, point > 0)


def test_pinball_agrees_with_scikit_learn():
    rng = np.random.default_rng(5)
    truth = rng.standard_normal(300)
    quantiles = np.sort(rng.standard_normal((300, 3)), axis=1)
    expected = np.mean([mean_pinball_loss(truth, quantiles[:, i], alpha=q) for i, q in enumerate(LEVELS)])
    assert pinball(Forecast(truth, quantiles, LEVELS), truth) == pytest.approx(expected, rel=1e-12)


def test_winkler_agrees_with_its_definition():
    rng = np.random.default_rng(6)
    truth = rng.standard_normal(300)
    quantiles = np.sort(rng.standard_normal((300, 3)), axis=1)
    expected = 0.0
    for y, (low, _, high) in zip(truth, quantiles, strict=True):
        expected += high - low
        if y < low:
            expected += 2 / 0.1 * (low - y)
        if y > high:
            expected += 2 / 0.1 * (y - high)
    assert winkler(Forecast(truth, quantiles, LEVELS), truth) == pytest.approx(expected / 300, rel=1e-12)


def test_interval_metrics_on_a_case_done_by_hand():
    quantiles = np.array([[-1.0, 0, 1], [-1, 0, 1], [-1, 0, 3], [-1, 0, 1]])
    forecast = Forecast(np.zeros(4), quantiles, LEVELS)
    truth = np.array([1.0, -1.5, 2.0, 1.1])  # on the edge, below, inside, above
    assert violations(forecast, truth) == 0.5
    assert width(forecast, truth) == 2.5
    assert winkler(forecast, truth) == pytest.approx(2.5 + 20 * (0.5 + 0.1) / 4)


def test_the_optimum_of_violations_is_nominal_and_an_oracle_is_overcautious():
    truth = normal_truth()
    assert nominal_violations(LEVELS) == pytest.approx(0.1)
    assert METRICS["violations"].optimum_at((0.25, 0.75)) == 0.5
    oracle = Forecast(truth, np.repeat(truth[:, None], 3, axis=1), LEVELS)
    assert violations(oracle, truth) == 0.0


def test_true_quantiles_score_best_among_shifted_and_stretched_ones():
    truth = normal_truth(2000, scale=1.0)
    quantiles = stats.norm.ppf(LEVELS)

    def scores(shift, stretch):
        forecast = Forecast(truth, np.tile(shift + stretch * quantiles, (len(truth), 1)), LEVELS)
        return pinball(forecast, truth), winkler(forecast, truth)

    best = scores(0, 1)
    for shift, stretch in [(0.1, 1), (-0.1, 1), (0, 0.9), (0, 1.1)]:
        assert all(other > own for other, own in zip(scores(shift, stretch), best, strict=True))


def test_direction_accuracy_leaves_zero_truths_out_and_halves_zero_forecasts():
    truth = np.array([0.0, 0.0, 1.0, -1.0, 2.0, -2.0])
    assert (
        direction_accuracy(Forecast(np.array([1.0, 0.0, 1.0, 1.0, 0.0, -1.0])), truth)
        == (1 + 0 + 0.5 + 1) / 4
    )
    assert direction_accuracy(Forecast(np.zeros(6)), truth) == 0.5
    assert direction_accuracy(Forecast(np.array([-0.0] * 6)), truth) == 0.5


def test_direction_accuracy_ignores_the_size_of_moves():
    rng = np.random.default_rng(7)
    truth, point = rng.standard_normal((2, 200))
    tiny = direction_accuracy(Forecast(point * 1e-200), truth * 1e-200)  # their product underflows
    assert tiny == direction_accuracy(Forecast(point), truth)


def test_scores_without_a_meaning_are_nan():
    assert math.isnan(direction_accuracy(Forecast(np.ones(4)), np.zeros(4)))
    assert math.isnan(r2(Forecast(np.ones(3)), np.full(3, 0.1)))


def test_the_mean_of_the_truth_scores_r2_zero():
    truth = normal_truth(50) + 0.3
    assert r2(Forecast(np.full(50, truth.mean())), truth) == pytest.approx(0, abs=1e-12)


def test_scoring_names_what_applies():
    truth = normal_truth(50)
    points = Forecast(truth + 0.01)
    quantiles = disturbed(perfect(METRICS["winkler"], truth), 0.01, np.random.default_rng(8))
    at_points = {"rmse", "mae", "direction_accuracy", "r2"}
    at_intervals = {"violations", "width", "pinball", "winkler"}
    assert set(of_forecast(points, truth)) >= {f"test/{name}" for name in at_points}
    assert not any(name.startswith("interval/") for name in of_forecast(points, truth))
    assert set(of_forecast(points, truth, block="val")) == {
        name.replace("test/", "val/") for name in of_forecast(points, truth)
    }
    assert set(of_forecast(quantiles, truth)) >= {f"interval/{name}" for name in at_intervals}
    assert all(name.startswith("val/") for name in of_forecast(quantiles, truth, block="val"))
    assert of_forecast(points, truth)["test/rmse"] == pytest.approx(0.01)
    assert all(type(score) is float for score in of_forecast(quantiles, truth).values())


def test_interval_metrics_refuse_what_has_no_interval():
    truth = np.zeros(4)
    with pytest.raises(ValueError, match="needs quantile forecasts"):
        width(Forecast(truth), truth)
    with pytest.raises(ValueError, match="at least two"):
        violations(Forecast(truth, np.zeros((4, 1)), (0.5,)), truth)
    with pytest.raises(ValueError, match="symmetric"):
        winkler(Forecast(truth, np.zeros((4, 2)), (0.05, 0.9)), truth)


def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'rmse' is registered twice"):
        metric("test", direction="min", optimum=0.0, unit="target", reads="point")(rmse)
