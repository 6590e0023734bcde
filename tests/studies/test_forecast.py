from itertools import pairwise

import numpy as np
import pytest

import farm.baselines
import farm.models  # noqa: F401
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.types import RISK_LEVELS
from farm.data.panel import Panel
from farm.evaluation.value_at_risk import backtest
from farm.studies.forecast import ForecastStudy
from tests.scoring import evaluate

CALIBRATED = {
    "name": "forecast",
    "ticker": "AR",
    "market": "MKT",
    "split": {"name": "calibrated"},
    "calibrators": [{"name": "cqr"}, {"name": "cqr_scaled"}, {"name": "aci"}],
}


def evaluated(panel, model, **values):
    study = ForecastStudy.make({**CALIBRATED, **values}, "study")
    data = study.dataset(panel)
    built = MODELS[model["name"]].make(model, "model").build(data.inputs)
    built.fit(data.train, data.val)
    return evaluate(study, built, data)


def test_every_calibration_is_scored_and_the_raw_forecast_is_ranked(ar1_panel):
    evaluation = evaluated(ar1_panel, {"name": "ar_garch"})
    assert set(evaluation.forecasts) == {"", "cqr", "cqr_scaled", "aci"}
    metrics = evaluation.metrics
    for part in ("", "cqr/", "cqr_scaled/", "aci/"):
        for days in ("", "volatile/"):
            # GARCH has a density of its own, and what is calibrated its quantiles alone.
            kinds = ("log_score", "log_score_9_quantiles")
            kind, other = kinds[::-1] if part else kinds
            assert f"interval/{part}{days}{other}" not in metrics
            for name in ("violations", "width", "pinball", "crps", kind):
                assert np.isfinite(metrics[f"interval/{part}{days}{name}"]), (part, days, name)
        forecast = evaluation.forecasts[part.rstrip("/")]
        assert forecast.levels == RISK_LEVELS
        hits = evaluation.actual < forecast.quantiles[:, 0]
        assert metrics[f"risk/{part}var1_kupiec_p"] == backtest(hits, 0.01).kupiec_p
        transform = evaluation.arrays[f"pit/{part.rstrip('/')}"]
        assert ((transform >= 0) & (transform <= 1)).all()
    assert "test/volatile/rmse" in metrics
    assert "test/cqr/rmse" not in metrics  # a calibrator leaves the points alone
    outside = (evaluation.actual < evaluation.forecasts[""].quantiles[:, 1]) | (
        evaluation.actual > evaluation.forecasts[""].quantiles[:, -2]
    )
    assert metrics["interval/violations"] == outside.mean()  # of the 90 % interval, not of the 98 % one
    wild = evaluation.arrays["volatile"] == 1
    assert metrics["interval/volatile/violations"] == outside[wild].mean()


def test_points_get_intervals_from_the_calibration_block_alone(ar1_panel):
    evaluation = evaluated(ar1_panel, {"name": "linear"})
    assert evaluation.forecasts[""].quantiles is None
    assert evaluation.forecasts["cqr"].levels == (0.05, 0.5, 0.95)
    assert "risk/cqr/var5_hits" in evaluation.metrics
    assert "risk/cqr/var1_hits" not in evaluation.metrics
    assert abs(evaluation.metrics["interval/cqr/violations"] - 0.1) < 0.1


def test_the_test_block_follows_the_calibration_block_with_a_gap(ar1_panel):
    study = ForecastStudy.make(CALIBRATED, "study")
    data = study.dataset(ar1_panel)
    blocks = (data.train, data.val, data.calibration, data.open_test())
    for before, after in pairwise(blocks):
        assert after.position[0] - before.position[-1] == 2
    total = sum(len(block) for block in blocks) + 3
    assert len(data.train) == int(0.6 * total)
    scaled = data.train.x[:, -1, 0].astype(float) * data.inputs.scale[0] + data.inputs.mean[0]
    np.testing.assert_allclose(scaled, data.train.series[data.train.position - 1], atol=1e-6)


def test_the_usual_split_is_as_it_was(ar1_panel):
    study = ForecastStudy(ticker="AR", market="MKT")
    assert study.split.name == "chronological"
    data = study.dataset(ar1_panel)
    assert data.calibration is None
    named = ForecastStudy.make(
        {"name": "forecast", "ticker": "AR", "market": "MKT", "split": {"train": 0.7}}, ""
    )
    assert named == study


def test_calibrators_without_a_block_are_refused():
    with pytest.raises(UserError, match="got the calibrator cqr with the split chronological"):
        ForecastStudy.make({**CALIBRATED, "split": {}}, "study")


def test_too_short_a_calibration_block_is_one_line(ar1_panel):
    with pytest.raises(UserError, match=r"ticker AR, market MKT: calibrator cqr: got \d+ calibration rows"):
        evaluated(ar1_panel, {"name": "linear"}, split={"name": "calibrated", "calibration": 0.04})


def test_a_ticker_that_is_not_there_is_named_before_anything_is_read(ar1_panel: Panel) -> None:
    for ticker in ("", "ARR"):
        study = ForecastStudy(ticker=ticker, market="MKT")
        with pytest.raises(UserError, match=f"unknown ticker '{ticker}' in synthetic"):
            study.data_digest(ar1_panel)
