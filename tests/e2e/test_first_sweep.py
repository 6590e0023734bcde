"""The first example, run as a user runs it, and the command line over what it left."""

from pathlib import Path

import pandas as pd
import pytest

import farm
from tests.conftest import call
from tests.e2e.conftest import QUICK, Sweep

pytestmark = pytest.mark.e2e(30)


def test_the_first_script_runs_as_a_user_runs_it(quick_sweep: Sweep) -> None:
    assert "No variant beats linear" in quick_sweep.output
    assert (quick_sweep.folder / "first_sweep.png").stat().st_size > 10_000


def test_the_command_is_the_function(quick_sweep: Sweep, tmp_path: Path) -> None:
    """It finds the function's trials in the store, so it runs none, and comes to the same verdict."""
    done = call(tmp_path, *QUICK, "--storage", quick_sweep.storage, "--tracking-uri", quick_sweep.uri)
    assert done.code == 0
    assert "all 22 trials are in the store" in done.out
    here, there = (folder / "results" / "ablation" for folder in (tmp_path, quick_sweep.folder))
    assert (here / "verdict.txt").read_text() == (there / "verdict.txt").read_text()
    assert (here / "table.csv").read_bytes() == (there / "table.csv").read_bytes()


def test_the_function_gives_what_the_files_hold(quick_sweep: Sweep, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = farm.run(
        "ablation",
        quick=True,
        settings={"training.epochs": 2},
        storage=quick_sweep.storage,
        tracking_uri=quick_sweep.uri,
    )
    told = (quick_sweep.folder / "results" / "ablation" / "verdict.txt").read_text()
    assert outcome.sentence == told.strip()
    assert outcome.failures == {}
    stored = pd.read_csv(quick_sweep.folder / "results" / "ablation" / "table.csv")
    assert outcome.table["model"].tolist() == stored["model"].tolist()
    assert outcome.table["rmse"].to_numpy() == pytest.approx(stored["rmse"].to_numpy(), rel=1e-12)
    record = farm.load(outcome.signatures["LSTM-Raw AAPL seed 0"], quick_sweep.storage)
    mine = outcome.predictions.query("model == 'LSTM-Raw' and ticker == 'AAPL'")
    assert record.forecast()["predicted"].to_numpy() == pytest.approx(mine["predicted"].to_numpy())
