"""What ends a command in the middle, and two at once: processes of their own, with a Ray each."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from tests.conftest import call
from tests.e2e.test_ablation import BASELINES, runs

pytestmark = pytest.mark.e2e(60)


def marked(mark: str) -> list[psutil.Process]:
    """Find the processes that have a variable in their environment, which children inherit."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("FARM_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "farm.sweep", "ablation", "--tickers", "AAPL", "--seeds", "8"]
    command += ["--concurrency", "1"]
    process = subprocess.Popen(
        [*command, "--variants", "LSTM-Raw"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "FARM_TEST_MARK": mark},
    )
    try:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("farm_store/trials/*/result.json"))) < 8:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        assert len(marked(mark)) > 3, "the driver, Ray's daemons and workers"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "the same command goes on from here" in " ".join(output.split())
    kept = len(list(tmp_path.glob("farm_store/trials/*/result.json")))
    assert 8 <= kept < 7 + 8
    deadline = time.monotonic() + 60
    while left := marked(mark):  # a daemon of Ray's may be on its way out
        assert time.monotonic() < deadline, [process.cmdline() for process in left]
        time.sleep(0.1)
    again = call(tmp_path, *command[3:], "--variants", "LSTM-Raw", "--dry-run")
    assert again.out.count("yes") == kept


def test_two_at_once_do_the_work_once(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "farm.sweep",
        "ablation",
        "--quick",
        "--epochs",
        "1",
        "--tickers",
        "AAPL",
        "--variants",
        "LSTM-Raw,LSTM-Feat",
        "--concurrency",
        "1",
    ]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    waited = [text for text in said if "another sweep 'ablation' is at work" in " ".join(text.split())]
    assert len(waited) == 1, said
    assert "trials are in the store" in waited[0]
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    logged = Counter(run.data.tags["farm.signature"] for run in runs(client, "trial"))
    assert len(logged) == 2 + len(BASELINES)
    assert set(logged.values()) == {1}
    assert not list((tmp_path / "farm_store" / "claims").iterdir())
