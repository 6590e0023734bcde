"""A trial that is refitted in windows is the loop of its fits, and nothing else."""

import numpy as np
import pytest

from farm.base.errors import UserError
from farm.base.types import RISK_LEVELS, Forecast
from farm.data.panel import Panel
from farm.experiment import TrialConfig, run
from farm.models.refitted import Refitted
from farm.training.fit import fit, reproducible

STUDY = {
    "name": "forecast",
    "ticker": "AR",
    "market": "MKT",
    "features": "feat",
    "lookback": 5,
    "split": {"name": "walk_forward", "windows": 3},
}
LSTM = {"name": "lstm", "hidden_size": 4, "head": "student_t"}
TRAINING = {"epochs": 2, "patience": 2}


def trial(**values):
    return TrialConfig.make({"study": STUDY, **values}, "trial")


@pytest.fixture(scope="module")
def network(ar1_panel: Panel):
    config = trial(model=LSTM, training=TRAINING, seed=5)
    return config, run(config, ar1_panel, device="cpu")


def test_each_window_is_a_fit_by_itself_to_the_bit(network, ar1_panel) -> None:
    config, result = network
    data = config.study.dataset(ar1_panel)
    test, points, quantiles = data.open_test(), [], []
    for k, refit in enumerate(data.refits):
        with reproducible(5):
            alone = config.model.build(refit.inputs)
            fit(alone, refit.train, refit.val, config.training, 5)
            forecast = alone.predict(test.take(slice(*np.searchsorted(test.refit, [k, k + 1]))))
        points.append(forecast.point)
        quantiles.append(forecast.quantiles)
    found = result.evaluation.test.forecasts[""]
    np.testing.assert_array_equal(found.point, np.concatenate(points))
    np.testing.assert_array_equal(found.quantiles, np.concatenate(quantiles))
    assert found.levels == RISK_LEVELS
    assert found.density is not None
    assert len(found.density.location) == len(found.point) == len(result.evaluation.test.times)


def test_scores_are_of_all_test_days_together(network) -> None:
    _, result = network
    test, metrics = result.evaluation.test, result.metrics
    error = test.forecasts[""].point - test.actual
    assert metrics["test/rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    assert metrics["cost/epochs"] == 6
    assert [(e.epoch, e.phase) for e in result.history.epochs] == [
        (1, "window 1"), (2, "window 1"), (3, "window 2"), (4, "window 2"), (5, "window 3"), (6, "window 3")
    ]  # fmt: skip
    assert result.history.best_epoch in (5, 6)
    assert metrics["probe/causality/future"] == 0
    assert metrics["probe/causality/targets"] == 0


def test_the_stored_state_gives_the_forecasts_back(network, ar1_panel) -> None:
    config, result = network
    data = config.study.dataset(ar1_panel)
    again = Refitted([config.model.build(refit.inputs) for refit in data.refits])
    again.load_state({k[6:]: v for k, v in result.state.items() if k.startswith("model.")})
    np.testing.assert_array_equal(
        again.predict(data.open_test()).point, result.evaluation.test.forecasts[""].point
    )
    assert {"inputs.0.mean", "inputs.2.scale", "inputs.mean"} <= set(result.state)
    with pytest.raises(ValueError, match="say which fit"):
        again.predict(data.refits[0].val)


def test_a_baseline_learns_more_with_each_window(ar1_panel) -> None:
    result = run(trial(model={"name": "linear"}), ar1_panel)
    weights = [v for k, v in sorted(result.state.items()) if "coef" in k or "weights" in k]
    assert result.history is None
    assert len(weights) >= 3
    assert not np.array_equal(weights[0], weights[-1])
    # The world's law is that tomorrow is 0.9 of today.
    assert result.metrics["test/rmse"] < 1.1 * 0.01


def test_a_calibrator_is_refused_and_too_short_a_panel_is_one_line(ar1_panel) -> None:
    with pytest.raises(UserError, match="cqr with the split walk_forward, expected one with a calibration"):
        TrialConfig.make(
            {"study": STUDY | {"calibrators": [{"name": "cqr"}]}, "model": {"name": "zero"}}, "trial"
        )
    split = {"name": "walk_forward", "windows": 60}
    config = TrialConfig.make({"study": STUDY | {"split": split}, "model": {"name": "zero"}}, "trial")
    with pytest.raises(
        UserError, match=r"ticker AR, market MKT: too few days for 60 walk-forward windows .* days longer"
    ):
        config.study.dataset(ar1_panel)


def test_forecasts_are_joined_whole() -> None:
    rng = np.random.default_rng(0)
    whole = Forecast(rng.normal(size=7), np.sort(rng.normal(size=(7, 3)), axis=1), (0.1, 0.5, 0.9))
    joined = Forecast.join([whole.take(np.arange(4)), whole.take(np.arange(4, 7))])
    np.testing.assert_array_equal(joined.point, whole.point)
    np.testing.assert_array_equal(joined.quantiles, whole.quantiles)
    assert joined.levels == whole.levels
    assert Forecast.join([Forecast(np.zeros(2)), Forecast(np.ones(1))]).quantiles is None
