"""The gallery's scripts, run from an empty folder each."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import pytest

import farm.api

pytestmark = pytest.mark.e2e(40)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# What each says, and the picture that it leaves.
SWEEPS = {
    "own_data": ("wrong.csv: ", ""),
    "tune_weights": ("Tried 2 configs", ""),
    "load_from_mlflow": ("2020-11-20", ""),
}
ALONE = {
    "backfill": ("AMZN: RMSE 0.01", "backfill.png"),
    "simulated_surfaces": ("253 surfaces of 5 maturities x 5 strikes, simulated", "simulated_surfaces.png"),
    "regimes": ("2017: 0% of the days look wild", "regimes.png"),
}
OWN = {"own_model": ("seasonal: test RMSE 0.0", "")}  # registers a model, so in a process of its own


def test_every_script_is_run_here() -> None:
    elsewhere = {"first_sweep"}  # tests/e2e/test_first_sweep.py
    assert {path.stem for path in EXAMPLES.glob("*.py")} == (SWEEPS | ALONE | OWN).keys() | elsewhere


def run_here(name: str, said: str, picture: str, folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # so that it is put back, whatever a script makes of it
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    plt.switch_backend("agg")
    try:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        plt.close("all")
        mlflow.set_tracking_uri(None)
    assert said in capsys.readouterr().out
    if picture:
        assert (folder / picture).stat().st_size > 10_000


@pytest.mark.parametrize("name", list(SWEEPS))
def test_a_script_that_sweeps(name: str, ray_here: None, tmp_path: Path, monkeypatch, capsys) -> None:
    # One worker, whose imports are most of so small a sweep.
    monkeypatch.setitem(farm.api.run.__kwdefaults__, "concurrency", 1)
    run_here(name, *SWEEPS[name], tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", list(ALONE))
def test_a_script_without_a_sweep(name: str, tmp_path: Path, monkeypatch, capsys) -> None:
    run_here(name, *ALONE[name], tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", list(OWN))
def test_a_script_that_registers_what_is_its_own(name: str, tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, [str(EXAMPLES.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert OWN[name][0] in done.stdout
