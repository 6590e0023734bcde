"""The gallery's scripts, run as a user would: from an empty folder, each by itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# What each says, and the picture that it leaves.
GALLERY = {
    "first_sweep": ("No variant beats linear", "first_sweep.png"),
    "own_data": ("wrong.csv: ", ""),
    "own_model": ("seasonal: test RMSE 0.0", ""),
    "backfill": ("AMZN: RMSE 0.01", "backfill.png"),
    "simulated_surfaces": ("253 surfaces of 5 maturities x 5 strikes, simulated", "simulated_surfaces.png"),
    "regimes": ("2017: 0% of the days look wild", "regimes.png"),
    "tune_weights": ("Tried 2 configs", ""),
    "load_from_mlflow": ("2020-11-20", ""),
}


def test_every_script_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == GALLERY.keys()


@pytest.mark.e2e(100)
@pytest.mark.parametrize("name", list(GALLERY))
def test_a_script_runs_from_an_empty_folder(name: str, tmp_path: Path) -> None:
    said, picture = GALLERY[name]
    path = os.pathsep.join(filter(None, [str(EXAMPLES.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout
    assert "Traceback" not in done.stderr
    if picture:
        assert (tmp_path / picture).stat().st_size > 10_000
