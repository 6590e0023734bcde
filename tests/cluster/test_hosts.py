"""A real `ray up` of clusters/onprem.yaml, on hosts that are namespaces of this machine; see hosts.sh."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from farm.store import RECORD

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("hosts.sh")
NODES = (1, 2, 3)  # the first is the head
LAPTOP = 4
COMMAND = ("ablation", "--quick", "--epochs", "20", "--seeds", "2")
TRIALS = 2 * (4 * 2 + 7)  # tickers; variants with two seeds, and baselines


@dataclass(frozen=True)
class Task:
    """A command that goes on on a host."""

    command: str
    process: subprocess.Popen[bytes]
    out: Path

    def end(self, code: int | None = 0, seconds: float = 900) -> str:
        """Wait until it ends; give what it printed."""
        try:
            got = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"{self.command} is not done after {seconds} s: {self.out.read_text()}")
        told = self.out.read_text()
        assert code is None or got == code, f"{self.command} ends with {got}: {told}"
        return told


@dataclass(frozen=True)
class Lab:
    """The hosts and the cluster file for them."""

    folder: Path
    environment: dict[str, str]

    @property
    def file(self) -> Path:
        return self.folder / "onprem.yaml"

    @property
    def storage(self) -> Path:
        return self.folder / "shared"

    def home(self, host: int) -> Path:
        """Give the home of a host, as it lies on this machine."""
        return self.folder / f"{self.environment['NAME']}{host}" / "home"

    def finished(self) -> int:
        """Count the trials in the shared storage."""
        return len(list(self.storage.glob(f"trials/*/{RECORD}")))

    def hosts(self, *arguments: str) -> None:
        subprocess.run(["bash", str(SCRIPT), *arguments], env=self.environment, check=True, timeout=120)

    def start(self, host: int, command: str) -> "Task":
        """Begin a command on a host, as somebody who has logged in there."""
        # Into a file, since a pipe that nobody reads would stop it.
        out = Path(tempfile.mkstemp(dir=self.folder, prefix="told")[1])
        with out.open("w") as stream:
            process = subprocess.Popen(
                ["bash", str(SCRIPT), "ssh", str(host), f"bash -lc {shlex.quote(command)}"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        return Task(command, process, out)

    def run(self, host: int, command: str, *, code: int | None = 0) -> str:
        """Run a command on a host; give what it printed."""
        return self.start(host, command).end(code)

    def exec(self, command: str, *, code: int | None = 0) -> str:
        """Run a command on the head from the laptop."""
        return self.run(LAPTOP, f"cd {ROOT} && ray exec {self.file} {shlex.quote(command)}", code=code)


def _lacking() -> str:
    """Say what such hosts need and this machine has not."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("ip", "unshare", "ssh", "rsync", "curl", "make", "/usr/sbin/sshd"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    made = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "true"], capture_output=True)
    return f"needs namespaces: {made.stderr.decode().strip()}" if made.returncode else ""


def _render(folder: Path) -> str:
    """Fill in the cluster file as a user does."""
    text = (ROOT / "clusters/onprem.yaml").read_text()
    for what, value in {
        "/CHANGE-ME/farm": str(folder / "shared"),
        "head_ip: CHANGE-ME": f"head_ip: {_address(NODES[0])}",
        "CHANGE-ME-1, CHANGE-ME-2": ", ".join(map(_address, NODES[1:])),
        "ssh_user: CHANGE-ME": "ssh_user: root",
        # Hosts reach no package index. They have the tests' environment, which needs no cloud.
        "setup_commands:": "setup_commands:\n  - truncate -s 0 ~/checkout/clusters/requirements.lock",
    }.items():
        assert text.count(what) == 1
        text = text.replace(what, value)
    assert "CHANGE-ME" not in text
    return text


def _address(host: int) -> str:
    return f"10.231.7.{host}"


def _environment(checkout: Path) -> None:
    """Give a host what `make venv` would have made there: this environment, with the host's own checkout."""
    place = checkout / ".venv"
    venv.EnvBuilder(symlinks=True).create(place)
    [packages] = place.glob("lib/python*/site-packages")
    here = Path(sys.prefix) / packages.relative_to(place)
    (packages / "farm.pth").write_text(f"{Path.home() / 'checkout'}\n{here}\n")
    for name in ("ray", "mlflow"):
        _, _, script = (Path(sys.prefix) / "bin" / name).read_text().partition("\n")
        (place / "bin" / name).write_text(f"#!{Path.home()}/checkout/.venv/bin/python\n{script}")
        (place / "bin" / name).chmod(0o755)
    (place / ".installed").touch()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts and a laptop that reaches them."""
    if lacking := _lacking():
        pytest.skip(lacking)
    folder = tmp_path_factory.mktemp("lab")
    name = f"farm{os.getpid()}-"
    environment = {
        **os.environ,
        "LAB": str(folder),
        "NAME": name,
        "BIN": str(Path(sys.prefix) / "bin"),
        "BINDS": f"{sys.base_prefix} {sys.prefix} {ROOT}",
    }
    lab = Lab(folder, environment)
    lab.storage.mkdir()
    lab.file.write_text(_render(folder))
    for host in NODES:
        _environment(lab.home(host) / "checkout")
    try:
        lab.hosts("up", str(LAPTOP))
        yield lab
    finally:
        lab.hosts("down", str(LAPTOP))


@pytest.fixture(scope="module")
def alone(lab: Lab) -> Task:
    """The same sweep on one machine, the laptop, while the cluster comes up."""
    own = "--storage ~/store --tracking-uri sqlite:///mlflow.db"
    return lab.start(LAPTOP, f"PYTHONPATH={ROOT} python -m farm.sweep {shlex.join(COMMAND)} {own}")


@pytest.fixture(scope="module")
def cluster(lab: Lab, alone: object) -> Lab:
    """The cluster, up, with every host in it."""
    lab.run(LAPTOP, "ray get-auth-token --generate")
    lab.run(LAPTOP, f"cd {ROOT} && ray up -y --no-config-cache {lab.file}")
    _wait(lambda: _active(lab) == len(NODES), "not every host is in the cluster", 400)
    return lab


def _active(lab: Lab) -> int:
    """Count the hosts that Ray holds for alive."""
    told = lab.run(NODES[0], "ray status", code=None).partition("Active:")[2].partition("Pending:")[0]
    return sum(int(count) for count in re.findall(r"^ (\d+) local\.cluster\.node", told, re.MULTILINE))


def _wait(ready: Callable[[], bool], complaint: str, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < limit, complaint
        time.sleep(0.5)


def _at_work(lab: Lab) -> set[int]:
    """Give the hosts that are running a trial, as this machine sees their processes."""
    spaces = {Path(f"/run/netns/{lab.environment['NAME']}{host}").stat().st_ino: host for host in NODES}
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if b"ImplicitFunc.train" in (process / "cmdline").read_bytes():
                found.add(spaces.get((process / "ns/net").stat().st_ino, 0))
    return found - {0}  # of nobody's host: other work on this machine


@dataclass(frozen=True)
class Swept:
    """A sweep that went on while a host was lost.

    Parameters
    ----------
    told
        What it printed.
    worked
        The hosts that ran trials.
    cut
        The host that was cut off while it ran a trial.
    finished
        Trials that were in the store then.
    left
        The hosts that Ray held for alive at the end.
    """

    told: str
    worked: set[int]
    cut: int
    finished: int
    left: int


@pytest.fixture(scope="module")
def swept(cluster: Lab) -> Iterator[Swept]:
    """The sweep, submitted from the laptop; a host is cut off while it is at work on a trial."""
    submit = f"cd {ROOT} && ray submit {cluster.file} farm/sweep.py {shlex.join(COMMAND)}"
    task = cluster.start(LAPTOP, submit)
    started = time.monotonic()
    worked: set[int] = set()
    cut = finished = 0
    try:
        while task.process.poll() is None:
            now = _at_work(cluster)
            worked |= now
            waited = time.monotonic() - started
            assert waited < 1800, task.out.read_text()
            # Not before all have worked; but on a machine with much else to do one may be very late.
            if not cut and now & {*NODES[1:]} and (len(worked) == len(NODES) or waited > 240):
                cut = max(now)
                cluster.hosts("cut", str(cut))
                finished = cluster.finished()
            time.sleep(0.2)
        assert cut, f"it has ended, and no host but {worked} worked: {task.out.read_text()}"
        yield Swept(task.end(), worked, cut, finished, _active(cluster))
    finally:
        task.process.kill()


def test_without_the_token_nobody_joins(cluster: Lab) -> None:
    head = f"{_address(NODES[0])}:6379"
    assert "Active" in cluster.run(LAPTOP, f"ray status --address {head}")
    for other in ("RAY_AUTH_MODE=disabled", "RAY_AUTH_TOKEN=0123456789abcdef"):
        told = cluster.run(LAPTOP, f"{other} timeout 60 ray status --address {head}", code=None)
        assert "Active" not in told, told


def test_mlflow_and_the_dashboard_are_reached_on_the_head_alone(cluster: Lab) -> None:
    cluster.exec("curl -sf http://127.0.0.1:5000/health")
    for port in (5000, 8265):
        cluster.run(LAPTOP, f"curl -s --max-time 5 http://{_address(NODES[0])}:{port}", code=7)  # refused


def test_a_storage_that_is_not_shared_is_refused(cluster: Lab) -> None:
    told = cluster.exec("cd /tmp && python -m farm.sweep ablation --quick --storage ~/own_store", code=None)
    assert re.search(r"farm: storage .* is not shared: node 10\.231\.7\.[23] does not see", told), told


def test_a_node_with_other_code_is_refused(cluster: Lab) -> None:
    module = "~/checkout/farm/base/normal.py"
    cluster.run(NODES[1], f"cp -a {module} /tmp/kept && echo '# changed' >>{module}")
    try:
        told = cluster.exec("cd /tmp && python -m farm.sweep ablation --quick", code=None)
        assert re.search(rf"farm: node {_address(NODES[1])} differs from the driver \(farm ", told), told
    finally:
        cluster.run(NODES[1], f"cp -a /tmp/kept {module}")


def test_every_host_ran_trials_and_none_was_lost_with_a_host(cluster: Lab, swept: Swept) -> None:
    assert swept.worked == {*NODES}
    assert swept.finished < TRIALS
    assert swept.left == len(NODES) - 1, "Ray has not noticed the loss"
    assert f"{TRIALS}/{TRIALS}" in re.sub(r"\x1b\[[0-9;]*m", "", swept.told)
    assert "failed:" not in swept.told
    assert cluster.finished() == TRIALS


def test_the_table_is_that_of_one_machine(cluster: Lab, swept: Swept, alone: Task) -> None:
    alone.end()
    for name in ("table.csv", "results.csv"):
        here, there = (
            pd.read_csv(cluster.home(host) / "results/ablation" / name) for host in (LAPTOP, NODES[0])
        )
        pd.testing.assert_frame_equal(here, there, check_exact=True)


COUNT = """
from mlflow.tracking import MlflowClient

client = MlflowClient()
experiment = client.get_experiment_by_name("ablation").experiment_id
runs = client.search_runs([experiment], "tags.`farm.role` = 'trial'", max_results=1000)
print(len(runs), len({run.data.tags["farm.signature"] for run in runs}), *{run.info.status for run in runs})
"""


def test_every_trial_is_logged_once(cluster: Lab, swept: Swept) -> None:
    script = cluster.folder / "count.py"
    script.write_text(COUNT)
    assert f"{TRIALS} {TRIALS} FINISHED" in cluster.exec(f"python {script}")


def test_the_same_command_finds_everything_done(cluster: Lab, swept: Swept) -> None:
    told = cluster.exec(f"python -m farm.sweep {shlex.join(COMMAND)}")
    assert f"all {TRIALS} trials are in the store" in told


def test_ray_down_ends_it(cluster: Lab, swept: Swept) -> None:
    cluster.run(LAPTOP, f"cd {ROOT} && ray down -y {cluster.file}")
    cluster.hosts("heal", str(swept.cut))
    for host in NODES[1:]:
        cluster.run(host, "ray stop", code=None)
    for host in NODES:
        assert "gcs_server" not in cluster.run(host, "ps -eo args")
        assert "raylet" not in cluster.run(host, "ps -eo args")
