"""A Ray of its own beside somebody else's, and a cluster that is named: with a token, and without one."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import farm
from farm.base.errors import UserError
from farm.tuning.connection import check_address, cluster, find_address
from tests.conftest import call

pytestmark = pytest.mark.e2e(30)


def gcs() -> str:
    """Run a task on the Ray that is up; give the cluster's port, since it may have several addresses."""
    import ray

    assert ray.get(ray.remote(lambda: 6 * 7).remote()) == 42
    return str(ray.get_runtime_context().gcs_address.rpartition(":")[2])


def refused(address: str | None, reason: str) -> None:
    """See that a cluster cannot be joined or started, in one line."""
    with pytest.raises(UserError, match=reason) as error, cluster(address, 1):
        pass
    assert "\n" not in str(error.value)


class Foreign:
    """Another project's `ray start --head` in a place where Ray looks for clusters by itself."""

    def __init__(self, place: Path, token: Path | None) -> None:
        self.place, self.token = place, token
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)} if token else {}
        command = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=1",
                   "--include-dashboard=false", "--disable-usage-stats",
                   f"--port={self.port}"]  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *command],
            env={**os.environ, "RAY_AUTH_MODE": "disabled", **mode, "RAY_TMPDIR": str(place)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while not (place / "ray" / "ray_current_cluster").exists():
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.before = self.marks()

    def marks(self) -> tuple[str, str]:
        """Give what Ray's own tools find it by."""
        ray = self.place / "ray"
        return (ray / "ray_current_cluster").read_text(), str((ray / "session_latest").readlink())

    def is_as_it_was(self) -> bool:
        check_address(self.address)
        return self.process.poll() is None and self.marks() == self.before

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a short path, since sockets are made below it; a user without a token, and no Ray of a test's."""
    import ray

    ray.shutdown()
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "home").mkdir()
        monkeypatch.setenv("HOME", f"{folder}/home")
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


@pytest.mark.parametrize("guarded", [False, True])
def test_somebody_elses_cluster_is_left_alone_and_joined_when_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    token = tmp_path / "token"
    token.write_text("f" * 64)
    with ExitStack() as during:
        if not guarded:  # one is started while a sweep runs, the other stands there before
            during.enter_context(cluster(None, 1))
            own = gcs()
        foreign = Foreign(place, token if guarded else None)
        if not guarded:
            assert gcs() == own != foreign.port
    try:
        assert foreign.is_as_it_was()
        if guarded:
            with cluster(None, 1):
                assert gcs() != foreign.port
                assert foreign.is_as_it_was()
            assert foreign.is_as_it_was()
        assert not list((place / "home").iterdir()), "no token is left in the user's home"
        assert "RAY_AUTH_MODE" not in os.environ

        if guarded:
            refused(foreign.address, "asks for a token, and this user has none: put")
            other = tmp_path / "other"
            other.write_text("0" * 64)
            monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(other))
            refused(foreign.address, "does not take the token of this user: set RAY_AUTH_TOKEN_PATH")
            monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        else:  # a token that Ray once left in the user's home is no hindrance
            (place / "home" / ".ray").mkdir()
            (place / "home" / ".ray" / "auth_token").write_text("0" * 64)
        for name in (foreign.address, "auto"):
            with cluster(name, 1):
                assert gcs() == foreign.port
        assert foreign.is_as_it_was()

        # Both doors take the variable, and say so.
        monkeypatch.setenv("RAY_ADDRESS", foreign.address)
        done = call(tmp_path, "ablation", "--quick")
        assert done.code == 2
        assert f"Ray cluster {foreign.address}, from RAY_ADDRESS" in done.out
        assert "is a file of one machine: on a cluster" in done.err
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match="is a file of one machine: on a cluster"):
            farm.run("ablation", quick=True)
    finally:
        foreign.end()


def test_a_process_that_imported_ray_before_starts_it_all_the_same(place: Path, tmp_path: Path) -> None:
    """Ray reads its mode and token once in a process; and a home that nobody may write to is no hindrance."""
    (place / "home").chmod(0o500)
    program = (
        "import ray\nfrom farm.tuning.connection import cluster\n"
        "with cluster(None, 1): print(ray.get(ray.remote(lambda: 6 * 7).remote()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "42\n", done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("given", "variable", "found"),
    [
        (None, "", None),
        (None, "local", None),
        ("local", "10.0.0.1:6379", None),
        (None, "auto", "auto"),
        (None, " 10.0.0.1:6379 ", "10.0.0.1:6379"),
        ("head:6379", "http://10.0.0.1:8265", "head:6379"),
        ("[::1]:6379", "", "[::1]:6379"),
    ],
)
def test_the_option_counts_before_the_variable(given: str | None, variable: str, found: str | None) -> None:
    assert find_address(given, variable) == found


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8265", "ray://127.0.0.1:10001", "here", "here:", "h:x"]
)
def test_an_address_that_is_none_names_where_it_came_from(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for option, variable, name in ((("--address", address), "", "--address"), ((), address, "RAY_ADDRESS")):
        monkeypatch.setenv("RAY_ADDRESS", variable)
        done = call(tmp_path, "ablation", "--quick", *option)
        assert done.code == 2
        assert done.err.startswith(f"farm: {name}")
        assert repr(address) in done.err
        assert done.err.count("\n") == 1
        with pytest.raises(UserError) as error:
            farm.run("ablation", quick=True, address=option[1] if option else None)
        assert str(error.value).startswith(name)
        assert call(tmp_path, "ablation", "--quick", "--dry-run", *option).code == 0, "which joins nothing"
    assert list(tmp_path.iterdir()) == []


def test_what_is_the_machines_is_said_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    refused(None, "set RAY_TMPDIR to a shorter one")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))
    refused(None, "no folder can be made in .*set RAY_TMPDIR")
