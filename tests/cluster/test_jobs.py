"""A sweep as `ray job submit` runs it, where Ray sets RAY_ADDRESS for it."""

import os
import re
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import _server

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
COMMAND = ("ablation", "--quick", "--epochs", "1", "--tickers", "AAPL", "--variants", "LSTM-Raw")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A node of one machine, its dashboard at RAY_API: this environment, with what a head needs beside it."""
    place = tmp_path_factory.mktemp("node")
    venv.EnvBuilder(symlinks=True).create(place)
    [packages] = place.glob("lib/python*/site-packages")
    lock = ROOT / "clusters" / "requirements.lock"
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes")
    done = subprocess.run(
        [sys.executable, *install, "--target", str(packages), "-r", str(lock)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"what the head of a cluster needs is not to be had: {done.stderr.splitlines()[-1]}")
    here = Path(sys.prefix) / packages.relative_to(place)
    (packages / "farm.pth").write_text(f"{ROOT}\nimport site; site.addsitedir({str(here)!r})\n")
    ports = []
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_API": f"http://127.0.0.1:{ports[1]}",
    }
    start = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=2",
             "--disable-usage-stats", f"--port={ports[0]}", f"--dashboard-port={ports[1]}",
             f"--temp-dir={tmp_path_factory.mktemp('ray', numbered=False)}"]  # fmt: skip
    python = place / "bin" / "python"
    head = subprocess.Popen(
        [python, "-m", "ray.scripts.scripts", *start],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", int(ports[1]))) == 0:
                    break
            assert head.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield environment
    finally:
        head.terminate()
        head.wait(timeout=60)


def test_a_job_runs_on_the_cluster_that_took_it(node: dict[str, str], tmp_path: Path) -> None:
    tracking = ["server", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--workers", "1"]
    with _server(tracking, "health", tmp_path) as uri:
        places = ("--storage", str(tmp_path / "store"), "--tracking-uri", uri)
        submit = ("-m", "ray.scripts.scripts", "job", "submit", "--address", node["RAY_API"], "--")
        python = f"{node['PATH'].partition(os.pathsep)[0]}/python"
        done = subprocess.run(
            [python, *submit, python, "-m", "farm.sweep", *COMMAND, *places],
            cwd=tmp_path,
            env=node,
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Ray cluster \S+, from RAY_ADDRESS", done.stdout), done.stdout
    assert "vs linear" in done.stdout
    assert len(list((tmp_path / "store").glob("trials/*/result.json"))) == 8, "a network and seven baselines"
