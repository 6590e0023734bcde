"""`make ui`: on the loopback without a password; where others reach it, with one."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.e2e(100)

ROOT = Path(__file__).parents[2]
PASSWORD = "a long enough password 4f1c"


def command(folder: Path, *settings: str) -> list[str]:
    make = ["make", "-C", str(folder), "-f", str(ROOT / "Makefile"), "-o", ".venv/.installed"]
    return [*make, f"BIN={Path(sys.executable).parent}", "ui", "WORKERS=1", *settings]


def status(address: str, password: str = "") -> int:
    request = urllib.request.Request(f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0")
    if password:
        request.add_header(
            "Authorization", f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"
        )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@contextmanager
def ui(folder: Path, *settings: str, **environment: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "ui.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command(folder, f"PORT={port}", *settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(480):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def listening(port: int) -> set[str]:
    """Give the addresses on which a port listens."""
    every = psutil.net_connections("inet")
    return {each.laddr.ip for each in every if each.status == psutil.CONN_LISTEN and each.laddr.port == port}


def test_it_is_reached_from_this_machine_alone(tmp_path: Path) -> None:
    with ui(tmp_path) as address:
        assert status(address) == 200
        assert listening(int(address.rsplit(":", 1)[1])) == {"127.0.0.1"}


def test_others_are_let_in_with_a_password_alone(tmp_path: Path) -> None:
    refused = subprocess.run(
        command(tmp_path, "HOST=0.0.0.0"), capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert "set MLFLOW_AUTH_ADMIN_PASSWORD" in refused.stderr
    with ui(tmp_path, "HOST=0.0.0.0", MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD) as address:
        assert listening(int(address.rsplit(":", 1)[1])) == {"0.0.0.0"}
        assert status(address) == 401
        assert status(address, "another password") == 401
        assert status(address, PASSWORD) == 200
