"""What a worker frees it keeps for its next tensor, on this machine and on a cluster that was joined."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e(100)


def faults() -> int:
    """Count the faults of a thread that makes and drops tensors of a MiB, as a step does; 256 pages each."""
    import resource
    import threading

    import numpy as np

    seen = []

    def steps(count: int) -> None:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(count):
            np.ones(2**17)
        seen.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

    def work() -> None:
        steps(5)
        steps(100)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return seen[1]


# Pickled by value, since a worker of another process cannot import the tests.
SCRIPT = f"""
import sys
from farm.tuning.connection import cluster

{inspect.getsource(faults)}

with cluster(sys.argv[1], 1):
    import ray
    print(ray.get(ray.remote(faults).remote()))
"""


def faults_of(env: dict[str, str], address: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, address],
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}


def test_of_this_machine(ray_here: None) -> None:
    import ray

    assert ray.get(ray.remote(faults).remote()) < 256


def test_of_a_cluster_that_was_joined(tmp_path: Path) -> None:
    """The cluster was started without it, as `ray start` does."""
    head = (
        "import ray, sys;"
        "ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _node_ip_address='127.0.0.1');"
        "print(ray.get_runtime_context().gcs_address, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", head],
        env={**plain(), "RAY_AUTH_MODE": "token"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert faults_of(plain(), process.stdout.readline().strip()) < 256
    finally:
        process.communicate("", timeout=60)
