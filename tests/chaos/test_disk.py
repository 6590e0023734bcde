"""A full disk: one line, nothing half-written, and after room is made the same command goes on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.store import Store

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that is small enough to fill"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "farm-test", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_sweep_goes_on_when_there_is_room(disk: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "farm.sweep", "ablation", "--variants", "LSTM-Raw", "--tickers", "AAPL",
        "--epochs", "1", "--seeds", "8", "--storage", str(disk / "store"),
    ]  # fmt: skip

    def farm() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)

    done = farm()
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        "is full: what is finished is kept; make room, and the same command goes on"
    )
    store = Store(str(disk / "store"))
    kept = store.configs()
    assert 0 < len(kept) < 15
    assert all(store.get(signature) is not None for signature in kept)

    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    done = farm()
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{15 - len(kept)} of 15 trials to run" in done.stdout
    assert len(store.configs()) == 15
