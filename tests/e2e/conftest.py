"""One small sweep that several tests look at."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret-4f1c",
    "AWS_SESSION_TOKEN": "planted-session-token-8d2e",
    "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/planted-google-77aa.json",
    "HF_TOKEN": "planted-hub-token-19bd",
}
PASSWORD = "planted-password-c0de"  # of a tracking server
# What examples/first_sweep.py asks for, as the command line has it.
QUICK = ("ablation", "--quick", "--epochs", "2")


class Sweep(NamedTuple):
    """Where a sweep was run, and what it said."""

    folder: Path
    output: str

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def storage(self) -> str:
        return str(self.folder / "farm_store")


def holding(folder: Path, secret: str) -> list[Path]:
    """Find the files that hold a text, plain or in the way that an HTTP header has it."""
    return [p for p in folder.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


@pytest.fixture(scope="session")
def quick_sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Run the first example as a user would, from an empty folder, with secrets in the environment.

    It is the quick ablation: two tickers, four networks, seven baselines.
    """
    folder = tmp_path_factory.mktemp("quick")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "first_sweep.py")],
        cwd=folder,
        env={**os.environ, **SECRETS, "PYTHONPATH": path, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", "neither Ray nor torch nor MLflow makes noise"
    return Sweep(folder, done.stdout)


@contextmanager
def _server(command: list[str], health: str, folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / f"server-{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            # MLflow starts its servers by their names.
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # six processes that no test asks for
            },
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(f"{address}/{health}", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # with the workers it started
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def serve() -> Callable[..., object]:
    """Give a context in which an mlflow command listens on a free port of the loopback."""
    return _server
