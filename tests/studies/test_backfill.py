"""The back-filling study: its windows, blocks, scenarios and the answers that are known."""

import dataclasses

import numpy as np
import pytest

from farm.base.errors import UserError
from farm.base.types import Forecast
from farm.data.door import load_panel
from farm.data.panel import Bars, Panel
from farm.data.splits import Calibrated, ReportProtocol
from farm.evaluation.scores import Evaluation
from farm.experiment import TrialConfig, run
from farm.plan import Options, make_plan
from farm.studies.backfill import BackfillStudy
from farm.sweep import load_sweep
from farm.training.fit import TrainingConfig
from tests.conftest import bars_from_returns
from tests.scoring import Scored, of

TARGET, PEERS = "AMZN", ("MSFT", "SP500")
REPORT = load_sweep("backfill_report")


@pytest.fixture(scope="module")
def bundled() -> Panel:
    return load_panel()


@pytest.fixture(scope="module")
def closes() -> Panel:
    return load_panel(table=REPORT[1].panel).select((TARGET, *PEERS), REPORT[1].start)


@pytest.fixture(scope="module")
def market() -> Panel:
    """A target that is 0.8 of one peer, less 0.3 of the other, plus noise."""
    rng = np.random.default_rng(5)
    index = 0.01 * rng.normal(size=1200)
    peer = 0.8 * index + 0.008 * rng.normal(size=1200)
    target = 0.8 * peer - 0.3 * index + 0.004 * rng.normal(size=1200)
    made = {"TG": bars_from_returns(target), "PE": bars_from_returns(peer, 1)}
    return Panel({**made, "IX": bars_from_returns(index, 2)}, "synthetic")


STUDY = BackfillStudy(ticker="TG", peers=("PE", "IX"))


# ---------------------------------------------------------------- windows and blocks


def channels(bars: Bars, days: np.ndarray) -> np.ndarray:
    """Compute the four channels of one asset the slow way, (T, 4); NaN where a day has no past."""
    rows = [int(np.flatnonzero(bars.dates == day)[0]) for day in days]
    close, volume = bars.close[rows], np.maximum(bars.volume[rows], 1)
    out = np.full((len(days), 4), np.nan)
    for t in range(1, len(days)):
        out[t, 0] = np.log(close[t] / close[t - 1])
        out[t, 2] = np.log(volume[t] / volume[t - 1])
        out[t, 3] = np.log(bars.high[rows[t]] / bars.low[rows[t]])
        if t >= 20:
            out[t, 1] = np.std(out[t - 19 : t + 1, 0], ddof=1)
    return out


def test_windows_against_a_slow_reference(market: Panel) -> None:
    # One peer lacks some days: only shared days count.
    kept = np.delete(np.arange(1200), [30, 31, 700])
    peer = market.bars["PE"]
    panel = Panel({**market.bars, "PE": Bars(peer.dates[kept], peer.values[kept])}, "synthetic")
    data = STUDY.dataset(panel)
    days = peer.dates[kept]
    table = np.concatenate([channels(panel.bars[name], days) for name in ("TG", "PE", "IX")], axis=1)[20:]
    days = days[20:]
    n = len(table) - 5
    mean, scale = table[: int(0.6 * n) + 5].mean(axis=0), table[: int(0.6 * n) + 5].std(axis=0)
    np.testing.assert_allclose(data.inputs.mean, mean)
    np.testing.assert_allclose(data.inputs.scale, scale)
    seen = []
    for block in (data.train, data.val, data.calibration, data.open_test()):
        assert block is not None
        assert block.hidden is not None
        for b in (0, 7, len(block) - 1):
            t = int(np.flatnonzero(days == block.times[b])[0])
            x = (table[t - 5 : t + 1] - mean) / scale
            np.testing.assert_allclose(block.hidden[b], x[-1, :4], rtol=1e-4, atol=1e-4)
            x[-1, :4] = 0
            np.testing.assert_allclose(block.x[b], x, rtol=1e-4, atol=1e-4)
            assert block.y[b] == pytest.approx(table[t, 0], rel=1e-6)
            assert block.truth[b] == pytest.approx(table[t, 0], rel=1e-12)
        np.testing.assert_allclose(block.series[block.position], block.y, rtol=1e-6)
        seen.append([int(np.flatnonzero(days == day)[0]) - 5 for day in block.times[[0, -1]]])
    # Chronological, a day purged before each later block, nothing else left out.
    assert [end for _, end in seen[:-1]] == [start - 2 for start, _ in seen[1:]]
    assert seen[0][0] == 0
    assert seen[-1][1] == n - 1
    assert data.inputs.features[:5] == (
        "TG/log_return",
        "TG/roll_vol",
        "TG/vol_change",
        "TG/log_range",
        "PE/log_return",
    )


def test_report_protocol_cuts_where_the_report_does(closes: Panel) -> None:
    splits = {teach: ReportProtocol(teach=teach) for teach in ("before", "first_half")}
    data = {
        teach: BackfillStudy(ticker=TARGET, peers=PEERS, split=split).dataset(closes)
        for teach, split in splits.items()
    }
    returns_from_2000 = load_panel(table=REPORT[1].panel).bars[TARGET].dates
    returns_from_2000 = returns_from_2000[returns_from_2000 >= np.datetime64("2000-01-03")]
    block = returns_from_2000[5024:]
    halves = block[: len(block) // 2], block[len(block) // 2 :]
    np.testing.assert_array_equal(data["first_half"].train.times, halves[0])
    for made in data.values():
        np.testing.assert_array_equal(made.open_test().times, halves[1])
        for earlier in (made.val, made.calibration):
            assert earlier is not None
            assert earlier.times[-1] < block[0]
    before = data["before"]
    assert before.calibration is not None
    assert before.train.times[-1] < before.val.times[0]
    assert before.val.times[-1] < before.calibration.times[0]


def test_known_answer_comes_out_of_the_study(closes: Panel) -> None:
    plan = make_plan(*REPORT, load_panel(table=REPORT[1].panel), Options(quick=True))
    trial = next(trial for trial in plan.trials if trial.row == "linear")
    evaluation = of(run(trial.config, plan.source))
    forecast = evaluation.forecasts[""].point
    returns = [np.log(closes.bars[name].close) for name in PEERS]
    rows = np.searchsorted(closes.bars[TARGET].dates, evaluation.times)
    design = np.column_stack([*((r[rows] - r[rows - 1]) for r in returns), np.ones(len(rows))])
    weights = np.linalg.lstsq(design, forecast, rcond=None)[0]
    assert [round(float(w), 3) for w in weights[:2]] == [0.740, -0.123]
    assert round(float(weights[2]), 5) == 0.00074
    assert round(evaluation.metrics["test/rmse"], 4) == 0.0207
    assert round(100 * evaluation.metrics["test/direction_accuracy"], 1) == 74.8


# ---------------------------------------------------------------- evaluations

CVAE = {
    "name": "backfill_cvae",
    "reconstruct": "day",
    "masked_latent": "current",
    "mask_fill": "flag",
    "masked_share": 0.8,
    "cointegration": True,
    "dropout": 0.0,
}


def trial(model: dict[str, object], **study: object) -> TrialConfig:
    training = {"training": TrainingConfig(epochs=25, learning_rate=3e-3)} if "cvae" in str(model) else {}
    return TrialConfig.make({"study": STUDY.model_copy(update=study), "model": model, **training}, "trial")


@pytest.fixture(scope="module")
def latent_result(market: Panel) -> Scored:
    return of(run(trial(CVAE), market))


def test_every_scenario_is_scored_and_s4_is_ranked(latent_result: Scored) -> None:
    metrics = latent_result.metrics
    for metric in ("rmse", "mae", "direction_accuracy", "r2"):
        assert metrics[f"test/{metric}"] == metrics[f"test/s4/{metric}"]
        assert {f"test/s{i}/{metric}" for i in (1, 2, 3, 4)} <= set(metrics)
        assert f"test/volatile/{metric}" in metrics
    for part in ("", "s1/", "s3/", "cqr/", "aci/", "forest/", "s3/cqr/", "volatile/", "cqr/volatile/"):
        for metric in ("violations", "width", "pinball", "winkler", "crps"):
            assert f"interval/{part}{metric}" in metrics
    assert not [name for name in metrics if name.startswith("test/cqr")], "a calibrator moves no point"
    assert {"val/rmse", "latent/kl", "latent/oracle/mi_TG", "probe/reliance/PE/log_return"} <= set(metrics)


def test_oracles_are_flagged_and_cannot_be_ranked(latent_result: Scored) -> None:
    assert set(latent_result.oracles) == {"s1", "s2", "s1/cqr", "s2/cqr"}
    with pytest.raises(ValueError, match="no oracle"):
        dataclasses.replace(latent_result.evaluation, oracles=("",))
    unranked = dataclasses.replace(latent_result.test, forecasts={"s4": latent_result.forecasts["s4"]})
    with pytest.raises(ValueError, match="no oracle"):
        Evaluation({"test": unranked})


def test_a_redesign_reaches_the_planted_answer(latent_result: Scored, market: Panel) -> None:
    linear = run(trial({"name": "peer_regression"}), market).metrics
    assert latent_result.metrics["test/rmse"] < 1.1 * linear["test/rmse"]
    assert latent_result.metrics["test/rmse"] < 1.15 * 0.004
    reliance = {
        name: latent_result.metrics[f"probe/reliance/{name}/log_return"] for name in ("TG", "PE", "IX")
    }
    assert reliance["PE"] > 2 * reliance["IX"] > 2 * reliance["TG"]  # 0.8 x 1.1 %, 0.3 x 1 %, nothing
    assert "ignores the peers" not in latent_result.tags


def test_the_mixed_scenario_is_the_oracle_on_four_days_of_five(latent_result: Scored) -> None:
    s1, s2, s3 = (latent_result.forecasts[name].point for name in ("s1", "s2", "s3"))
    oracle = s2 == s1
    np.testing.assert_array_equal(s2[~oracle], s3[~oracle])
    assert abs(oracle.mean() - 0.8) < 4 * np.sqrt(0.8 * 0.2 / len(oracle))


def test_without_a_latent_there_is_one_forecast_and_its_calibrations(market: Panel) -> None:
    result = of(run(trial({"name": "zero"}), market))
    assert set(result.forecasts) == {"", "cqr", "cqr_scaled", "aci", "forest"}
    assert result.oracles == ()
    assert result.tags == {}  # it reads no peers by design
    assert result.forecasts[""].quantiles is None
    assert result.metrics["interval/cqr/violations"] < 0.25


def test_calibration_learns_from_the_calibration_block_alone(market: Panel) -> None:
    """Other test truths leave the plain conformal intervals of the forecasts as they were."""
    before = of(run(trial({"name": "zero"}), market))
    bars = market.bars["TG"]
    changed = bars.dates >= before.times[0]
    values = bars.values.copy()
    factor = np.exp(np.random.default_rng(0).normal(0, 0.1, int(changed.sum())))
    values[changed, :4] *= factor[:, None]
    after = of(run(trial({"name": "zero"}), Panel({**market.bars, "TG": Bars(bars.dates, values)}, "")))
    assert not np.array_equal(after.actual, before.actual)
    np.testing.assert_array_equal(after.forecasts["cqr"].quantiles, before.forecasts["cqr"].quantiles)


def test_equal_seeds_give_equal_bits(latent_result: Scored, market: Panel) -> None:
    again = of(run(trial(CVAE), market))
    for name, forecast in latent_result.forecasts.items():
        same: Forecast = again.forecasts[name]
        np.testing.assert_array_equal(forecast.quantiles, same.quantiles)
    timing = {"cost/fit_seconds", "cost/evaluate_seconds"}
    assert {k: v for k, v in again.metrics.items() if k not in timing} == {
        k: v for k, v in latent_result.metrics.items() if k not in timing
    }


# ---------------------------------------------------------------- bad input


def plan(panel: Panel, **options: object) -> None:
    make_plan(*load_sweep("backfill"), panel, Options(quick=True, **options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tickers": ("AMZM",)}, "'AMZN'"),
        ({"peers": ("MSFT", "SPY5")}, "'SPY5'"),
        ({"tickers": ("MSFT",)}, "one of the peers"),
        ({"peers": ("MSFT", "MSFT")}, "each once"),
        ({"market": "SP500"}, "--peers"),
        ({"settings": {"study.split.calibration": 0.35}}, "leave no test block"),
        ({"settings": {"study.split.train": 0.99}}, "0.9"),
        ({"settings": {"study.context": 100_000}}, "250"),
    ],
)
def test_bad_options_are_one_clear_line(options: dict[str, object], says: str, bundled: Panel) -> None:
    with pytest.raises(UserError) as caught:
        plan(bundled, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_peers_are_refused_by_a_sweep_with_a_market(bundled: Panel) -> None:
    with pytest.raises(UserError, match="--market"):
        make_plan(*load_sweep("ablation"), bundled, Options(quick=True, peers=("SP500",)))


def test_any_target_and_peers_of_a_panel_will_do(market: Panel) -> None:
    made = make_plan(
        *load_sweep("backfill"),
        market,
        Options(quick=True, tickers=("PE",), peers=("TG",), variants=("all",)),
    )
    assert {trial.ticker for trial in made.trials} == {"PE"}
    assert {trial.config.study.peers for trial in made.trials} == {("TG",)}


def test_peers_without_overlap(market: Panel) -> None:
    bars = market.bars["IX"]
    late = Bars(bars.dates + np.timedelta64(365 * 20, "D"), bars.values)
    with pytest.raises(UserError, match="target TG, peers PE, IX: IX shares 0 days with TG, PE"):
        STUDY.dataset(Panel({**market.bars, "IX": late}, "synthetic"))


def test_calibration_block_too_short() -> None:
    rng = np.random.default_rng(0)
    panel = Panel(
        {
            name: bars_from_returns(0.01 * rng.normal(size=330), k)
            for k, name in enumerate(("TG", "PE", "IX"))
        },
        "synthetic",
    )
    split = Calibrated(calibration=0.05)
    with pytest.raises(UserError, match="calibration block: got 14 of 305, expected at least 20"):
        BackfillStudy(ticker="TG", peers=("PE", "IX"), split=split).dataset(panel)
    split = Calibrated(calibration=0.03, min_rows=2)
    with pytest.raises(UserError, match="got 8 calibration rows, expected at least 9 for intervals"):
        BackfillStudy(ticker="TG", peers=("PE", "IX"), split=split).dataset(panel)


def test_a_model_of_another_study_is_refused() -> None:
    study = {"name": "forecast", "ticker": "AMZN", "market": "SP500"}
    with pytest.raises(UserError, match="expected backfill"):
        TrialConfig.make(
            {"study": study, "model": {"name": "backfill_cvae"}, "training": TrainingConfig()}, "trial"
        )
