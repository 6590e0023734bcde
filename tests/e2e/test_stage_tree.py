"""Sweeps of curricula through the real command line: what is shared, what a kill costs, what is logged."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from mlflow.tracking import MlflowClient

from farm.base.search_space import Sweep, Variant
from farm.experiment import TrialConfig, run
from farm.store import PROGRESS, STAGE, Store
from farm.training.checkpoint import Checkpoint
from tests.surface_world import SMALL, TINY_PHASES, TINY_STUDY, tiny_record

pytestmark = pytest.mark.e2e(100)

ROWS = {"phases 1+2": "1,2", "phases 1+2+4": "1,2,4", "phases 1+4": "1,4"}
LONG = 30  # epochs of phase 1: long enough to be killed in
MODEL = {"name": "surface_cvae", **SMALL, "dropout": 0.4}
TRAINING = {"learning_rate": 3e-3, "batch_size": 64, "patience": 1000}


def values(row: str) -> dict:
    phases = {**TINY_PHASES, "phase1": {"epochs": LONG}, "name": ROWS[row]}
    return {"study": TINY_STUDY, "model": MODEL, "training": TRAINING, "curriculum": phases}


def dotted(nested: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in nested.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@pytest.fixture(scope="module")
def source():
    return tiny_record()


@pytest.fixture(scope="module")
def alone(source) -> dict[str, tuple]:
    """Weights and scores of each row when it is run by itself in this process."""
    results = {row: run(TrialConfig.make(values(row), row), source) for row in ROWS}
    return {row: (result.state, scores(result.metrics)) for row, result in results.items()}


def scores(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith("_seconds")}


@pytest.fixture
def command(tmp_path: Path, source) -> list[str]:
    np.savez(
        tmp_path / "world.npz",
        surface=source.iv,
        dates=source.dates.astype(str),
        ret=source.returns,
        ttm_years=source.maturities,
        moneyness=source.strikes,
    )
    sweep = Sweep(
        title="tiny",
        question="Is it the same?",
        common={"study.name": "surface"},
        variants=tuple(Variant(name=row, values=dotted(values(row))) for row in ROWS),
        baselines=(
            Variant(
                name="random-walk",
                values={**dotted({"study": TINY_STUDY}), "model.name": "surface_random_walk"},
            ),
        ),
        references=("random-walk",),
        replicate="surfaces",
        seeds=1,
    )
    declared = sweep.model_dump(exclude_unset=True)
    text = f"from farm.base.search_space import *\nSWEEP = Sweep.model_validate({declared!r})\n"
    (tmp_path / "tiny.py").write_text(text)
    return [
        sys.executable, "-m", "farm.sweep", "tiny.py", "--surface", "world.npz",
        "--checkpoint-every", "0", "--concurrency", "1",
    ]  # fmt: skip


@pytest.fixture
def begin(tmp_path: Path, command: list[str]):
    """Start the sweep; whatever is left of it is killed in the end."""
    begun: list[subprocess.Popen[str]] = []

    def start(*more: str) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [*command, *more],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def progress(folder: Path) -> tuple[Path, list[dict]] | None:
    """Find a stage that has been checkpointed a few times, and the epochs it has kept."""
    for path in folder.glob(f"farm_store/stages/*/{PROGRESS}*"):
        try:
            epochs = Checkpoint.from_bytes(path.read_bytes()).record["epochs"]
        except (FileNotFoundError, ValueError):
            continue
        if 3 <= len(epochs) < LONG - 10:
            return path.parent, epochs
    return None


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Find the processes that train for one sweep, among its own descendants alone."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline() and child.cmdline()[0].startswith("ray::ImplicitFunc"):
                found.append(child)
        except psutil.Error:
            continue
    return found


def finish(process: subprocess.Popen[str], folder: Path, alone: dict[str, tuple]) -> str:
    """Wait for the end; every trial must then be equal, to the bit, to the same one alone."""
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    store = Store(str(folder / "farm_store"))
    found = {}
    for path in folder.glob("farm_store/trials/*/result.json"):
        stored = store.get(path.parent.name)
        if stored.config["curriculum"] is not None:
            found[stored.config["curriculum"]["name"]] = stored
    assert len(found) == len(ROWS)
    for row, name in ROWS.items():
        state, expected = alone[row]
        assert scores(found[name].metrics) == expected
        for key, value in store.model_state(found[name].signature).items():
            np.testing.assert_array_equal(value, state[key], err_msg=key)
    return output


def kept(folder: Path, epochs: list[dict]) -> None:
    """See that epochs which a checkpoint held were not trained again: they took the very same seconds."""
    first = json.loads((folder / STAGE).read_text())["stages"][0]["history"]["epochs"]
    assert len(first) == LONG
    assert [epoch["seconds"] for epoch in first[: len(epochs)]] == [epoch["seconds"] for epoch in epochs]


def test_a_killed_worker_costs_the_epochs_since_its_checkpoint(begin, alone, tmp_path: Path) -> None:
    process = begin()
    wait_for(lambda: progress(tmp_path) is not None, process)
    for worker in workers(process):
        worker.suspend()
    stage, epochs = progress(tmp_path)
    doomed = workers(process)
    assert doomed
    for worker in doomed:
        worker.kill()
    finish(process, tmp_path, alone)
    kept(stage, epochs)


def test_a_killed_driver_costs_no_more_and_the_rest_is_logged(begin, alone, tmp_path: Path) -> None:
    process = begin()
    wait_for(lambda: progress(tmp_path) is not None, process)
    training, family = workers(process), psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(training, timeout=60)
    assert not alive, "workers notice that their driver is gone"
    for idle in family:  # what else Ray has begun goes more slowly
        if idle.is_running():
            idle.kill()
    stage, epochs = progress(tmp_path)
    output = finish(begin(), tmp_path, alone)
    kept(stage, epochs)
    assert "4/4 stages" in " ".join(output.split())
    assert "all 4 trials are in the store" in begin().communicate(timeout=120)[0]

    dry = begin("--dry-run").communicate(timeout=120)[0]
    scratch = 3 * LONG + 2 * 2 + 2 * 2
    assert f"{scratch} epochs from scratch, {LONG + 6} as a tree" in dry
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny").experiment_id
    (sweep,) = client.search_runs([experiment], "tags.`farm.role` = 'sweep'")
    metrics = sweep.data.metrics
    assert metrics["tree/epochs_from_scratch"] == scratch
    assert metrics["tree/epochs_trained"] == LONG + 6
    assert metrics["tree/ratio"] == pytest.approx(scratch / (LONG + 6))
    assert metrics["tree/wall_seconds"] > 0
    trials = {
        found.data.tags["farm.variant"]: found
        for found in client.search_runs([experiment], "tags.`farm.role` = 'trial'")
    }
    assert set(trials) == {*ROWS, "random-walk"}
    longest = trials["phases 1+2+4"]
    curve = client.get_metric_history(longest.info.run_id, "val/loss")
    assert sorted(point.step for point in curve) == list(range(1, LONG + 5)), "its ancestors' epochs too"
    tags = longest.data.tags
    assert [tags[f"stage/{n}"].split(":")[0] for n in (1, 2, 3)] == ["phase 1", "phase 2", "phase 4"]
    shared = {trials[row].data.tags["stage/1"] for row in ROWS}
    assert len(shared) == 1
    assert "phase2/val/rmse" in longest.data.metrics
