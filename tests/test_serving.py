"""What is served is what was stored: forecasters from bars alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from farm import serving
from farm.base.errors import UserError
from farm.data.panel import Bars, Panel
from farm.data.splits import Calibrated, Chronological
from farm.experiment import Result, TrialConfig, run
from farm.studies.backfill import BackfillStudy
from farm.studies.forecast import ForecastStudy

TRAINING = {"epochs": 1, "patience": 1}


def forecast_trial(**fields) -> TrialConfig:
    study = ForecastStudy(
        ticker="AR", market="MKT", features="feat", lookback=5, split=Chronological(train=0.6, val=0.2)
    )
    values = {"study": study.model_dump(mode="json"), **fields}
    return TrialConfig.make(values, "trial")


NETWORK = forecast_trial(model={"name": "lstm", "hidden_size": 4, "num_layers": 1}, training=TRAINING)
READS_THE_SERIES = forecast_trial(model={"name": "ar_garch"})


def until(panel: Panel, day: np.datetime64, days: int | None = None, **others: np.datetime64) -> Panel:
    """Keep the bars before a day, the last few of them; some tickers have a last day of their own."""
    bars = {}
    for name, all_of in panel.bars.items():
        stop = int(np.searchsorted(all_of.dates, others.get(name, day)))
        start = 0 if days is None else max(stop - days, 0)
        bars[name] = Bars(all_of.dates[start:stop], all_of.values[start:stop])
    return Panel(bars, panel.source)


def loaded(folder: Path, config: TrialConfig, result: Result) -> serving.Forecasters:
    serving.save(folder, {"0123": (config, result.state)})
    return serving.load(folder)


@pytest.fixture(scope="module")
def network(ar1_panel: Panel) -> Result:
    return run(NETWORK, ar1_panel, device="cpu")


@pytest.mark.parametrize("row", [0, 7, -1])
def test_a_forecast_is_the_stored_one(row, network, ar1_panel, tmp_path):
    served = loaded(tmp_path, NETWORK, network)
    day = network.evaluation.test.times[row]
    request = until(ar1_panel, day, days=NETWORK.study.days_needed).frame()
    (found,) = served.predict(request).to_dict("records")
    assert found["ticker"] == "AR"
    assert found["known_until"] == str(request["date"].max().date())
    assert found["forecast"] == pytest.approx(network.evaluation.test.forecasts[""].point[row], rel=1e-5)


def test_precision_is_that_of_the_trial(network, ar1_panel, tmp_path):
    request = serving.example(ar1_panel, [NETWORK])
    expected = loaded(tmp_path, NETWORK, network).predict(request)
    torch.set_default_dtype(torch.float64)
    try:
        assert loaded(tmp_path, NETWORK, network).predict(request).equals(expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("calendar", ["weekends too", "a day later", "holidays of its own"])
def test_the_example_has_the_last_days_that_tickers_share(calendar, network, ar1_panel, tmp_path):
    own, market = ar1_panel.bars["AR"], ar1_panel.bars["MKT"]
    if calendar == "weekends too":
        days = np.arange(own.dates[0], own.dates[-1] + 1)
        own = Bars(days, own.values[np.searchsorted(own.dates, days)])
    elif calendar == "a day later":
        own = Bars(own.dates + 1, own.values)
    else:
        kept = np.arange(len(market)) % 3 > 0
        market = Bars(market.dates[kept], market.values[kept])
    panel = Panel({"AR": own, "MKT": market}, "two calendars")
    shared = np.intersect1d(own.dates, market.dates)
    example = serving.example(panel, [NETWORK])
    ends = shared[[-NETWORK.study.days_needed - serving.SPARE_DAYS, -1]]
    assert [example["date"].min(), example["date"].max()] == list(ends.astype(str))
    there = example.groupby("date")["ticker"].nunique() == 2
    assert there.sum() == NETWORK.study.days_needed + serving.SPARE_DAYS
    served = loaded(tmp_path, NETWORK, network)
    (found,) = served.predict(example).to_dict("records")
    assert found["known_until"] == str(shared[-1])
    assert found["forecast"] == pytest.approx(
        served.predict(panel.select(("AR", "MKT"), end=str(shared[-1])).frame())["forecast"].item()
    )


def test_of_a_walk_forward_the_newest_fit_is_served(ar1_panel, tmp_path):
    study = NETWORK.study.model_dump(mode="json") | {"split": {"name": "walk_forward", "windows": 2}}
    config = TrialConfig.make({"study": study, "model": {"name": "ridge"}}, "trial")
    result = run(config, ar1_panel, device="cpu")
    request = until(ar1_panel, result.evaluation.test.times[-1], days=NETWORK.study.days_needed)
    (found,) = loaded(tmp_path, config, result).predict(request.frame()).to_dict("records")
    assert found["forecast"] == pytest.approx(result.evaluation.test.forecasts[""].point[-1], rel=1e-5)


def test_a_model_that_reads_the_series_is_given_it_and_has_its_quantiles(ar1_panel, tmp_path):
    result = run(READS_THE_SERIES, ar1_panel, device="cpu")
    day = result.evaluation.test.times[-1]
    (found,) = (
        loaded(tmp_path, READS_THE_SERIES, result).predict(until(ar1_panel, day).frame()).to_dict("records")
    )
    stored = result.evaluation.test.forecasts[""]
    assert found["forecast"] == pytest.approx(stored.point[-1], rel=1e-9)
    quantiles = [value for name, value in found.items() if name.startswith("q")]
    assert [name for name in found if name.startswith("q")][:2] == ["q01", "q05"]
    np.testing.assert_allclose(quantiles, stored.quantiles[-1], rtol=1e-9)


def test_a_hidden_target_is_filled_as_it_was(ar1_panel, tmp_path):
    study = BackfillStudy(ticker="AR", peers=("MKT",), context=3, calibrators=(), split=Calibrated())
    config = TrialConfig.make(
        {"study": study.model_dump(mode="json"), "model": {"name": "peer_regression"}}, "trial"
    )
    result = run(config, ar1_panel, device="cpu")
    served = loaded(tmp_path, config, result)
    day, after = result.evaluation.test.times[10], result.evaluation.test.times[11]
    stored = result.evaluation.test.forecasts[""].point[10]
    # The target's own bar of that day changes nothing, there or not.
    for panel in (until(ar1_panel, after, AR=day), until(ar1_panel, after)):
        (found,) = served.predict(panel.frame()).to_dict("records")
        assert found["known_until"] == str(day)
        assert found["forecast"] == pytest.approx(stored, rel=1e-5)


def test_the_example_is_enough_and_days_are_text(network, ar1_panel, tmp_path):
    example = serving.example(ar1_panel, [NETWORK])
    assert set(example["ticker"]) == {"AR", "MKT"}
    assert example["date"].iloc[0] == str(ar1_panel.bars["AR"].dates[-serving.SPARE_DAYS - 25])
    assert len(loaded(tmp_path, NETWORK, network).predict(example)) == 1


def test_the_example_ends_where_the_market_does(network, ar1_panel, tmp_path):
    end = ar1_panel.bars["AR"].dates[-300]
    shorter = until(ar1_panel, ar1_panel.bars["AR"].dates[-1], MKT=end)
    (found,) = (
        loaded(tmp_path, NETWORK, network).predict(serving.example(shorter, [NETWORK])).to_dict("records")
    )
    assert found["known_until"] == str(shorter.bars["MKT"].dates[-1])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda frame: frame[frame["ticker"] == "AR"], "got bars of AR, expected those of AR and MKT"),
        (
            lambda frame: frame.groupby("ticker").tail(24),
            "got 4 usable rows, expected at least the 5 of a window",
        ),
        (lambda frame: frame.drop(columns="close"), "close"),
        (lambda frame: frame.assign(high=0.01), "the request: "),
    ],
)
def test_a_bad_request_is_one_line(change, expected, network, ar1_panel, tmp_path):
    served = loaded(tmp_path, NETWORK, network)
    with pytest.raises(UserError, match=expected) as error:
        served.predict(change(serving.example(ar1_panel, [NETWORK])))
    assert "\n" not in str(error.value)
