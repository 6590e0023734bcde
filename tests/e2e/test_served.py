"""What a sweep leaves in MLflow, used as a stranger would: a server of its own, and the model served."""

import json
import urllib.request
from urllib.error import HTTPError

import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from farm.data.door import load_panel
from tests.conftest import call
from tests.e2e.conftest import PASSWORD, QUICK, Sweep, holding

pytestmark = pytest.mark.e2e(40)


def logged(uri: str) -> dict[tuple[str, ...], tuple[object, ...]]:
    """Give what the runs of a tracking server hold, by what they are."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("ablation")
    assert experiment is not None
    found = {}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        tags = run.data.tags
        name = (tags["farm.role"], run.info.run_name, tags.get("farm.signature", ""))
        ours = {
            key: value for key, value in tags.items() if not key.startswith(("mlflow.user", "mlflow.parent"))
        }
        ours = {key: ours[key] for key in ours if key != "farm.sweep"}
        metrics = {key: value for key, value in run.data.metrics.items() if not key.startswith("tree/")}
        data = sorted((some.dataset.name, some.dataset.digest) for some in run.inputs.dataset_inputs)
        curve = [
            (point.step, point.value) for point in client.get_metric_history(run.info.run_id, "val/loss")
        ]
        files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
        assert name not in found
        found[name] = (metrics, run.data.params, ours, data, sorted(curve), files, run.info.status)
    return found


def request() -> tuple[pd.DataFrame, str]:
    """Give the bars of the days before the last one of the sweep, and that day."""
    last = "2020-11-20"
    frame = load_panel().select(("AAPL", "MSFT", "SP500"), "2013-01-02", last).frame()
    bars = frame[frame["date"] < last].groupby("ticker").tail(60)
    return bars.assign(date=bars["date"].dt.strftime("%Y-%m-%d")), last


def best_of(quick_sweep: Sweep) -> tuple[str, pd.Series]:
    """Give the sweep's run, and what its best variant forecast for the last day, by ticker."""
    client = MlflowClient(quick_sweep.uri)
    (run,) = client.search_runs(
        [client.get_experiment_by_name("ablation").experiment_id], "tags.`farm.role` = 'sweep'"
    )
    stored = pd.read_parquet(quick_sweep.folder / "results" / "ablation" / "predictions.parquet")
    stored = stored[stored["model"] == run.data.tags["farm.best"]]
    return run.info.run_id, stored[stored["date"] == "2020-11-20"].set_index("ticker")["predicted"]


def test_a_server_is_told_the_same_as_a_file_and_its_password_is_nowhere(
    quick_sweep: Sweep, serve, tmp_path
) -> None:
    work, server = tmp_path / "work", tmp_path / "server"
    work.mkdir()
    server.mkdir()
    command = ["server", "--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "kept"]
    with serve([*command, "--workers", "1"], "health", server) as address:
        uri = address.replace("://", f"://planted-user:{PASSWORD}@")
        done = call(work, *QUICK, "--storage", quick_sweep.storage, "--tracking-uri", uri)
        assert done.code == 0, done.out + done.err
        assert f"{address.replace('://', '://***@')}/#/experiments/" in done.out
        there, here = logged(address), logged(quick_sweep.uri)
        assert there.keys() == here.keys()
        assert len(here) == 1 + 11 + 22
        for name in here:
            assert there[name] == here[name], name
    assert not (work / "mlflow.db").exists()
    assert "://***@127.0.0.1" in (work / "results" / "ablation" / "report.html").read_text()
    assert PASSWORD not in done.out + done.err
    assert holding(tmp_path, PASSWORD) == []


def test_the_best_model_is_served_on_a_request(quick_sweep: Sweep, serve, tmp_path, monkeypatch) -> None:
    run_id, stored = best_of(quick_sweep)
    bars, _ = request()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", quick_sweep.uri)
    mlflow.set_tracking_uri(quick_sweep.uri)
    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    assert [column.name for column in model.metadata.signature.inputs] == list(bars.columns)
    assert len(model.predict(model.input_example)) == 2
    with serve(
        ["models", "serve", "-m", f"runs:/{run_id}/model", "--env-manager", "local"], "ping", tmp_path
    ) as url:

        def ask(frame: pd.DataFrame) -> list[dict[str, object]]:
            body = json.dumps({"dataframe_split": frame.to_dict("split", index=False)}).encode()
            asked = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=120) as answer:
                predictions: list[dict[str, object]] = json.load(answer)["predictions"]
                return predictions

        answers = ask(bars)
        assert {row["ticker"] for row in answers} == {"AAPL", "MSFT"}
        for row in answers:
            assert row["known_until"] == bars["date"].max()
            assert row["forecast"] == pytest.approx(stored[row["ticker"]], rel=1e-4)
        assert [row["ticker"] for row in ask(bars[bars["ticker"] != "AAPL"])] == ["MSFT"]
        with pytest.raises(HTTPError) as error:
            ask(bars[bars["ticker"] != "SP500"])
        assert "expected those of AAPL and SP500" in error.value.read().decode()
