"""The real command line, with real Ray and a real MLflow database."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from farm.data.door import load_panel
from tests.conftest import Called, call

pytestmark = pytest.mark.e2e(100)

# One worker, whose imports are most of a small sweep.
COMMON = ("ablation", "--tickers", "AAPL,MSFT", "--epochs", "2", "--seeds", "2", "--concurrency", "1")
VARIANTS = ["LSTM-Raw", "LSTM-OHLCV", "LSTM-Feat", "Transformer-Feat"]
BASELINES = ["linear", "econometric", "zero", "historical-mean", "persistence", "ridge", "gradient-boosting"]
TRIALS = 2 * (2 * len(VARIANTS) + len(BASELINES))
PLOTS = {
    "ablation_bars.png", "rmse_per_ticker.png", "curves.png",
    "predictions.png", "direction_heatmap.png", "full_comparison.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("anywhere")


@pytest.fixture(scope="module")
def runs_of(folder: Path) -> dict[str, Called]:
    return {}


@pytest.fixture
def first(ray_here: None, folder: Path, runs_of: dict[str, Called]) -> Called:
    """Run a part of the sweep, then the whole of it, which must run only the rest; once for all tests."""
    for name, only in (("part", ("--variants", "LSTM-Raw")), ("whole", ())):
        if name not in runs_of:
            runs_of[name] = call(folder, *COMMON, *only)
            assert runs_of[name].code == 0, runs_of[name]
    return runs_of["whole"]


@pytest.fixture
def client(folder: Path, first: object) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def runs(client: MlflowClient, role: str) -> list:
    experiment = client.get_experiment_by_name("ablation")
    assert experiment is not None
    return list(
        client.search_runs([experiment.experiment_id], f"tags.`farm.role` = '{role}'", max_results=1000)
    )


def test_runs_what_is_missing_and_prints_the_table(first: Called) -> None:
    already = 2 * (2 + len(BASELINES))
    assert f"{TRIALS - already} of {TRIALS} trials to run" in first.out
    for name in (*VARIANTS, *BASELINES):
        assert name in first.out
    assert "beats" in first.out
    assert "fewer than 3 seeds" in " ".join(first.out.split())


def test_mlflow_holds_each_trial_once_beside_summaries(client: MlflowClient) -> None:
    trials = runs(client, "trial")
    signatures = Counter(run.data.tags["farm.signature"] for run in trials)
    assert len(signatures) == TRIALS
    assert set(signatures.values()) == {1}
    sweeps = {run.info.run_id: run for run in runs(client, "sweep")}
    assert len(sweeps) == 2, "the part and the whole"
    whole = max(sweeps.values(), key=lambda run: run.data.metrics["cost/trials"])
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {whole.info.run_id}
    mine = f"tags.`farm.sweep` = '{whole.info.run_id}'"
    experiment = whole.info.experiment_id
    for role, names in (("variant", VARIANTS), ("baseline", BASELINES)):
        summaries = client.search_runs([experiment], f"tags.`farm.role` = '{role}' AND {mine}")
        assert sorted(run.info.run_name for run in summaries) == sorted(names)
        assert not [run for run in summaries if "mlflow.parentRunId" in run.data.tags], "they are on top"
        for run in runs(client, role):  # those of the part are folded below it
            below = run.data.tags.get("mlflow.parentRunId", whole.info.run_id)
            assert below == run.data.tags["farm.sweep"]
    for run in (*trials, *sweeps.values()):
        assert run.info.status == "FINISHED"


def test_mlflow_names_and_numbers(client: MlflowClient, folder: Path) -> None:
    results = pd.read_csv(folder / "results" / "ablation" / "results.csv").set_index(
        ["ticker", "model", "seed"]
    )
    assert len(results) == TRIALS
    sections = {
        "train",
        "val",
        "test",
        "interval",
        "latent",
        "vs",
        "ci",
        "dm",
        "cost",
        "best",
        "probe",
        "risk",
    }
    for run in runs(client, "trial"):
        metrics, tags = run.data.metrics, run.data.tags
        assert {name.split("/")[0] for name in metrics} <= sections
        row = results.loc[tags["farm.ticker"], tags["farm.variant"], int(run.data.params["seed"])]
        assert metrics["test/rmse"] == pytest.approx(row["RMSE"], rel=1e-9)
        assert metrics["test/mae"] == pytest.approx(row["MAE"], rel=1e-9)
        assert metrics["test/direction_accuracy"] == pytest.approx(row["DirAcc"], rel=1e-9)
        linear = results.loc[tags["farm.ticker"], "linear", 0]["RMSE"]
        assert metrics["vs/linear_rmse_skill"] == pytest.approx(1 - row["RMSE"] / linear, abs=1e-9)
        assert "vs/econometric_rmse_skill" in metrics
        assert tags["farm.variant"] in run.info.run_name
        if tags["farm.variant"] in VARIANTS:
            curve = client.get_metric_history(run.info.run_id, "val/loss")
            assert sorted(point.step for point in curve) == [1, 2]
        if tags["farm.variant"] == "econometric":
            assert 0 <= metrics["interval/violations"] <= 1
    for run in runs(client, "variant"):
        name = run.data.tags["farm.variant"]
        assert run.data.metrics["test/rmse"] == pytest.approx(results.xs(name, level="model")["RMSE"].mean())
        assert {"ci/lo", "ci/hi", "dm/p", "vs/linear_rmse_skill", "vs/econometric_rmse_skill"} <= set(
            run.data.metrics
        )
        skill = run.data.metrics["vs/linear_rmse_skill"]
        assert run.data.metrics["ci/lo"] <= skill <= run.data.metrics["ci/hi"]


def test_artifacts_lie_in_results_and_on_the_sweeps_run(client: MlflowClient, folder: Path) -> None:
    out = folder / "results" / "ablation"
    assert {path.name for path in out.iterdir()} == PLOTS | {
        "results.csv",
        "table.csv",
        "predictions.parquet",
        "evaluations.csv",
        "metrics.csv",
        "report.html",
        "verdict.txt",
    }
    for run in runs(client, "sweep"):
        logged = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {"results.csv", "predictions.parquet"} <= logged
        assert {Path(file.path).name for file in client.list_artifacts(run.info.run_id, "figures")} == PLOTS
    predictions = pd.read_parquet(out / "predictions.parquet")
    assert {"date", "ticker", "model", "seed", "actual", "predicted"} <= set(predictions.columns)
    days = predictions.groupby(["ticker", "model", "seed"])["date"].agg(tuple)
    assert days.groupby("ticker").nunique().eq(1).all(), "every row of a ticker has the same test days"
    actual = predictions.groupby(["ticker", "model", "seed"])["actual"].agg(tuple)
    assert actual.groupby("ticker").nunique().eq(1).all()


def test_a_second_run_changes_nothing(client: MlflowClient, folder: Path, first: Called) -> None:
    before = {
        run.info.run_id: run.data.metrics
        for role in ("trial", "variant", "sweep")
        for run in runs(client, role)
    }
    table = (folder / "results" / "ablation" / "table.csv").read_bytes()
    again = call(folder, *COMMON)
    assert again.code == 0, again.err
    assert f"all {TRIALS} trials are in the store" in again.out
    after = {
        run.info.run_id: run.data.metrics
        for role in ("trial", "variant", "sweep")
        for run in runs(client, role)
    }
    assert after == before
    assert (folder / "results" / "ablation" / "table.csv").read_bytes() == table


def test_concurrency_and_rerun_change_no_bit(folder: Path, first: object, tmp_path: Path) -> None:
    done = call(tmp_path, *COMMON[:-1], "2", "--rerun", "--variants", "LSTM-Feat,Transformer-Feat")
    assert done.code == 0, done.err
    key = ["model", "ticker", "seed", "date"]
    one, two = (
        pd.read_parquet(place / "results" / "ablation" / "predictions.parquet").set_index(key).sort_index()
        for place in (folder, tmp_path)
    )
    shared = two.index
    assert len(shared) > 0
    np.testing.assert_array_equal(one.loc[shared, "predicted"].to_numpy(), two["predicted"].to_numpy())


def test_a_half_written_run_is_completed_and_not_doubled(
    client: MlflowClient, folder: Path, first: object
) -> None:
    run = runs(client, "trial")[0]
    client.update_run(run.info.run_id, status="RUNNING")
    sweep = max(runs(client, "sweep"), key=lambda run: run.data.metrics["cost/trials"])
    client.update_run(sweep.info.run_id, status="RUNNING")
    assert call(folder, *COMMON).code == 0
    assert len(runs(client, "trial")) == TRIALS
    healed = client.get_run(run.info.run_id)
    assert healed.info.status == "FINISHED"
    assert healed.data.metrics == run.data.metrics
    assert len(client.get_metric_history(run.info.run_id, "test/rmse")) == 1
    assert client.get_run(sweep.info.run_id).info.status == "FINISHED"


def test_a_trial_that_fails_fails_alone(ray_here: None, tmp_path: Path) -> None:
    """A price that never moves has no GARCH; everything else goes on, and the next run tries it again."""
    frame = load_panel().select(("AAPL", "SP500"), "2013-01-02", "2014-12-31").frame()
    still = frame[frame["ticker"] == "AAPL"].assign(ticker="STILL", open=7.0, high=7.0, low=7.0, close=7.0)
    pd.concat([frame, still]).to_parquet(tmp_path / "mine.parquet")
    arguments = (
        "ablation",
        "--data",
        "mine.parquet",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--variants",
        "LSTM-Raw",
        "--concurrency",
        "1",
    )
    done = call(tmp_path, *arguments)
    assert done.code == 1
    assert "Traceback" not in done.out + done.err
    assert "failed: econometric STILL seed 0: " in done.out
    assert "LSTM-Raw" in done.out
    results = pd.read_csv(tmp_path / "results" / "ablation" / "results.csv")
    assert len(results) == 2 * 8 - 1
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert len(runs(client, "trial")) == 2 * 8 - 1
    assert runs(client, "sweep")[0].data.metrics["cost/failed_trials"] == 1
    again = call(tmp_path, *arguments)
    assert "1 of 16 trials to run" in again.out
    assert again.code == 1
    assert len(runs(client, "trial")) == 2 * 8 - 1
