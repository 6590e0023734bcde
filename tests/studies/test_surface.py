"""The surface study: what is scored, what is known when, and who is an oracle."""

import dataclasses

import numpy as np
import pytest

import farm.baselines  # noqa: F401  (registers)
from farm.base.errors import UserError
from farm.base.model import MODELS, PathGenerator
from farm.base.surfaces import Past, Paths, SurfaceWindows
from farm.base.types import Dataset, Forecast
from farm.data.splits import SurfaceSplit
from farm.data.surface import Surfaces
from farm.studies.surface import SurfaceStudy
from farm.training.curriculum import CurriculumConfig
from tests.scoring import Scored, evaluate
from tests.surface_world import network, record

SPLIT = SurfaceSplit(
    val=0, calibration=0, test=0, least_val=40, least_calibration=70, least_test=54, least_train=30, gap=10
)
STUDY = SurfaceStudy(context=6, horizon=8, offset=8, overlap=4, days=24, samples=6, split=SPLIT)


class LastSurface(PathGenerator):
    """The last surface, with some noise."""

    def generate(self, past: Past, days: int, samples: int, seed: int) -> Paths:
        rng = np.random.default_rng(seed)
        noise = np.exp(0.02 * rng.standard_normal((samples, days, 1, 1)).cumsum(axis=1))
        return Paths(past.surface[-1] * noise / noise.mean(axis=0))

    def predict(self, windows: SurfaceWindows) -> Forecast:
        return Forecast(windows.series[windows.position - 1])

    def state(self):
        return {}

    def load_state(self, state):
        pass


@pytest.fixture(scope="module")
def surfaces() -> Surfaces:
    return record(600)


@pytest.fixture(scope="module")
def walked(surfaces: Surfaces) -> Scored:
    return evaluate(STUDY, LastSurface(), STUDY.dataset(surfaces))


@pytest.fixture(scope="module")
def rolled(surfaces: Surfaces) -> Scored:
    data = STUDY.dataset(surfaces)
    return evaluate(STUDY, network(data.inputs), data)


def test_each_test_day_and_cell_is_forecast_once_as_a_change(surfaces: Surfaces, walked: Scored):
    assert len(walked.actual) == 54 * 25
    assert len(set(zip(walked.times.tolist(), walked.items, strict=True))) == 54 * 25
    iv = surfaces.iv.astype(float)
    for start, stop in ((546, 570), (570, 594), (594, 600)):  # the last stretch is as long as it can be
        place = slice((start - 546) * 25, (stop - 546) * 25)
        change = (iv[start:stop] - iv[start - 1]).reshape(-1)
        np.testing.assert_allclose(walked.actual[place], change)
        np.testing.assert_array_equal(walked.times[place], np.repeat(surfaces.dates[start:stop], 25))
    # The walk's mean is the last surface, so its error is the change itself and it calls no direction.
    assert walked.metrics["test/rmse"] == pytest.approx(np.sqrt(np.mean(walked.actual**2)), rel=1e-6)
    assert np.abs(walked.forecasts[""].point).max() < 1e-12
    assert walked.metrics["test/next-day/direction_accuracy"] == 0.5


def test_neither_context_nor_horizon_moves_the_test_days(surfaces: Surfaces, walked: Scored):
    other = STUDY.model_copy(update={"context": 20, "horizon": 5, "offset": 5, "overlap": 5})
    scored = evaluate(other, LastSurface(), other.dataset(surfaces))
    np.testing.assert_array_equal(scored.times, walked.times)
    np.testing.assert_array_equal(scored.actual, walked.actual)
    assert scored.items == walked.items


def changed_from(surfaces: Surfaces, row: int) -> Surfaces:
    """The same record, with other surfaces and returns from a row on."""
    iv, returns = surfaces.iv.copy(), surfaces.returns.copy()
    iv[row:] = iv[row:][::-1] * 1.3
    returns[row:] *= -2
    return dataclasses.replace(surfaces, iv=iv, returns=returns)


def test_the_test_days_change_nothing_that_comes_before_them(surfaces: Surfaces, rolled: Scored):
    data = STUDY.dataset(changed_from(surfaces, 546))
    other = evaluate(STUDY, network(data.inputs), data)
    before = {name for name in rolled.metrics if name.startswith(("val/", "train/", "cointegration/val"))}
    assert before
    for name in before:
        np.testing.assert_equal(other.metrics[name], rolled.metrics[name])
    first = slice(0, 24 * 25)  # generated from known days, widened by what calibration needed
    for part in ("", "overlap", "conformal"):
        np.testing.assert_array_equal(
            other.forecasts[part].quantiles[first], rolled.forecasts[part].quantiles[first]
        )


@pytest.mark.parametrize("part", ["", "overlap", "conformal"])
def test_no_stretch_reads_the_days_it_generates_or_later_ones(surfaces: Surfaces, rolled: Scored, part: str):
    data = STUDY.dataset(changed_from(surfaces, 570))
    other = evaluate(STUDY, network(data.inputs), data).forecasts[part]
    known = slice(0, 2 * 24 * 25)  # the second stretch begins on row 570
    np.testing.assert_array_equal(other.point[known], rolled.forecasts[part].point[known])
    np.testing.assert_array_equal(other.quantiles[known], rolled.forecasts[part].quantiles[known])


def test_the_oracle_reads_them_and_is_flagged(surfaces: Surfaces, rolled: Scored):
    assert rolled.oracles == ("oracle",)
    data = STUDY.dataset(changed_from(surfaces, 550))
    other = evaluate(STUDY, network(data.inputs), data)
    first = slice(0, 4 * 25)  # the days before row 550, whose latents have read no later day
    np.testing.assert_array_equal(
        other.forecasts["oracle"].point[first], rolled.forecasts["oracle"].point[first]
    )
    assert (
        other.forecasts["oracle"].point[4 * 25 : 24 * 25]
        != rolled.forecasts["oracle"].point[4 * 25 : 24 * 25]
    ).any()


def test_probes_find_no_fault_in_an_honest_model(rolled: Scored, walked: Scored):
    for evaluation in (rolled, walked):
        assert evaluation.metrics["probe/causality/targets"] == 0
        assert evaluation.metrics["probe/causality/future"] == 0
        assert evaluation.tags == {}


def test_a_model_that_peeks_is_flagged(surfaces: Surfaces):
    data = STUDY.dataset(surfaces)

    class Peeks(LastSurface):
        def predict(self, windows: SurfaceWindows) -> Forecast:
            return Forecast(windows.truth)

    told = evaluate(STUDY, Peeks(), data)
    assert told.metrics["probe/causality/future"] > 0
    assert set(told.tags) == {"sees the future", "too good to be true"}
    assert "reads days after" in told.tags["too good to be true"]


def test_equal_arguments_give_equal_bits(surfaces: Surfaces, rolled: Scored):
    data = STUDY.dataset(surfaces)
    again = evaluate(STUDY, network(data.inputs), data)
    assert again.metrics.keys() == rolled.metrics.keys()
    for name, value in again.metrics.items():
        np.testing.assert_equal(value, rolled.metrics[name])


def test_what_is_measured_has_its_name(rolled: Scored, walked: Scored):
    names = {
        "val/rmse", "val/violations", "test/rmse", "test/pass1/rmse", "test/pass3/rmse", "test/degradation",
        "test/lead/5/rmse", "test/lead/21/rmse", "test/monte_carlo_rmse",
        "test/grid/1y 1/rmse", "test/normal/rmse", "test/next-day/rmse",
        "test/correlation_distance", "interval/violations", "interval/width", "interval/winkler",
        "interval/crps", "interval/energy_score", "interval/conformal/violations", "arbitrage/excess",
        "arbitrage/generated/calendar_rate", "arbitrage/real/butterfly_magnitude",
    }  # fmt: skip
    assert names <= walked.metrics.keys()
    rolling = {"test/overlap/rmse", "test/overlap/pass6/rmse", "test/overlap/degradation", "test/oracle/rmse"}
    assert names | rolling <= rolled.metrics.keys()
    assert not [name for name in walked.metrics if "overlap" in name or "oracle" in name]
    assert np.isfinite(rolled.metrics["interval/conformal/violations"])
    raw, mended = (rolled.forecasts[part].quantiles for part in ("", "conformal"))
    assert (mended[:, 0] <= raw[:, 0] + 1e-12).all()
    assert (mended[:, 2] >= raw[:, 2] - 1e-12).all()


def test_crises_among_the_training_days_are_named_in_sample(surfaces: Surfaces, walked: Scored):
    # The record begins in 2004, so its training rows hold no crisis, and neither does its test block.
    assert not [name for name in walked.metrics if "crisis" in name]
    late = record(600, start="2007-01-01")  # row 261 is the first of 2008; training rows end at 406
    scored = evaluate(STUDY, LastSurface(), STUDY.dataset(late))
    rows = np.arange(261, STUDY.blocks(late).train.stop)
    iv = late.iv.astype(float)
    last = iv[261 + 24 * ((rows - 261) // 24) - 1]
    expected = np.sqrt(np.mean((iv[rows] - last) ** 2))
    assert scored.metrics["train/in-sample-crisis/rmse"] == pytest.approx(expected, rel=1e-6)
    assert "in-sample-crisis" not in scored.forecasts  # so it can never be ranked


def test_a_volatility_rule_is_set_by_the_training_rows_alone(surfaces: Surfaces):
    study = STUDY.model_copy(update={"crisis": "volatility"})
    one = evaluate(study, LastSurface(), study.dataset(surfaces)).metrics
    assert "test/crisis/rmse" in one
    wild = surfaces.returns * np.where(np.arange(600) < 420, 1.0, 5.0)
    other = evaluate(study, LastSurface(), study.dataset(dataclasses.replace(surfaces, returns=wild))).metrics
    # Against a limit from calmer days every day is a crisis; the test's own days would set a higher one.
    assert "test/normal/rmse" not in other
    assert other["test/crisis/rmse"] == other["test/rmse"]
    assert other["train/in-sample-crisis/rmse"] == one["train/in-sample-crisis/rmse"]


def test_the_econometric_baseline_is_shown_what_knowing_the_returns_is_worth(surfaces: Surfaces):
    data = STUDY.dataset(surfaces)
    model = (
        MODELS["surface_cointegration"].make({"name": "surface_cointegration"}, "model").build(data.inputs)
    )
    model.fit(data.train, data.val)
    scored = evaluate(STUDY, model, data)
    assert scored.oracles == ("known-returns",)
    assert "test/known-returns/rmse" in scored.metrics
    assert set(scored.forecasts) == {"", "known-returns", "conformal"}


def test_curricula_are_held_to_the_days_before_anything_is_trained(surfaces: Surfaces):
    study = SurfaceStudy(split=SPLIT.model_copy(update={"gap": 90}))
    with pytest.raises(
        UserError, match=r"synthetic: training block: got 166 days, .* 330, which phase 4 needs"
    ):
        study.check(CurriculumConfig(), surfaces)
    with pytest.raises(UserError, match=r"leave .* to learn from.*phase 4 needs 330 days"):
        SurfaceStudy().check(CurriculumConfig(), record(700))
    study.check(CurriculumConfig(name="1"), surfaces)
    shallow = SurfaceSplit(least_val=200, val=0)
    with pytest.raises(UserError, match=r"validation block: got 260 days, expected at least 330"):
        SurfaceStudy(split=shallow).check(CurriculumConfig(), record(2200))
    SurfaceStudy().check(CurriculumConfig(), record(1898))  # as long as the EURUSD file


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"offset": 91}, "offset 91 with horizon 90"),
        ({"overlap": 95}, "overlap: offset 95 with horizon 90"),
        ({"horizon": 150}, "horizon 150 with split.gap 120"),
        ({"context": 0}, "context: got 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fields, message):
    with pytest.raises(UserError, match=message) as error:
        SurfaceStudy.make({"name": "surface", **fields}, "study surface")
    assert "\n" not in str(error.value)


def test_a_model_that_generates_nothing_is_refused(surfaces: Surfaces):
    data: Dataset = STUDY.dataset(surfaces)
    model = MODELS["zero"].make({"name": "zero"}, "model").build(data.inputs)
    with pytest.raises(UserError, match="generates no surfaces"):
        evaluate(STUDY, model, data)


def test_a_changed_record_is_another_trial(surfaces: Surfaces):
    assert STUDY.data_digest(surfaces) == STUDY.data_digest(record(600))
    assert STUDY.data_digest(surfaces) != STUDY.data_digest(record(600, seed=1))
