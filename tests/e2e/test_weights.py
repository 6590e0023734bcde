"""A search through the real command line, with real Ray, Optuna and MLflow."""

import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from tests.conftest import call

pytestmark = [pytest.mark.slow, pytest.mark.e2e(100)]

COMMON = ("weights", "--quick", "--epochs", "2", "--objective", "val/rmse", "--objective", "val/violations")


def search(folder: Path, *arguments: str) -> str:
    done = call(folder, *COMMON, *arguments)
    assert done.code == 0, done.err
    assert done.err == "", "neither Ray nor Optuna nor MLflow makes noise"
    return " ".join(done.out.split())


@pytest.fixture(scope="module")
def made() -> list[Path]:
    return []


@pytest.fixture
def folder(ray_here: None, made: list[Path], tmp_path: Path) -> Path:
    """Search, then search on; once for all tests."""
    if not made:
        first = search(tmp_path, "--samples", "2")
        assert "tpe: 2 of 2 configs to try" in first
        more = search(tmp_path, "--samples", "3")
        assert "tpe: 1 of 3 configs to try" in more
        assert "random: 1 of 3 configs to try" in more
        assert "Tried 6 configs (tpe 3, random 3); 1 known before." in more
        assert "p after selection" in more
        made.append(tmp_path)
    return made[0]


def test_the_front_is_in_the_results_and_in_mlflow(folder: Path) -> None:
    tried = pd.read_csv(folder / "results" / "weights" / "search.csv")
    assert len(tried) == 7
    assert (tried["state"] == "complete").all()
    assert tried["front"].any()
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("weights")
    assert experiment is not None

    def marked(condition: str) -> set[str]:
        runs = client.search_runs([experiment.experiment_id], condition, max_results=1000)
        return {run.data.tags["farm.signature"] for run in runs}

    assert marked("tags.`farm.pareto` = 'front'") == set(tried.loc[tried["front"], "signature"])
    assert marked("tags.`farm.pick` = 'pick'") == set(tried.loc[tried["pick"], "signature"])
    (sweep,) = client.search_runs([experiment.experiment_id], "tags.`farm.role` = 'sweep'")
    assert sweep.data.metrics["search/tried"] == 6
    assert "Best on validation" in sweep.data.tags["mlflow.note.content"]


def test_the_store_holds_each_config_once_and_the_study_is_beside_it(folder: Path) -> None:
    tried = pd.read_csv(folder / "results" / "weights" / "search.csv")
    store = folder / "farm_store"
    for line in tried.to_dict("records"):
        record = json.loads((store / "trials" / line["signature"] / "result.json").read_text())
        assert record["metrics"]["val/rmse"] == pytest.approx(line["val/rmse"])
    assert (store / "studies" / "weights.journal").is_file()
    assert "all" in search(folder, "--samples", "3"), "a third run finds nothing to do"
