"""Kill what a sweep is made of, at random, until it is done: nothing may be lost, doubled or other by a bit.

``FARM_CHAOS_SEED`` repeats a round, ``FARM_CHAOS_ROUNDS`` says how many; each prints its seed and its faults.
The clock jumps only where there is a C compiler for what moves it.
"""

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest
from mlflow.tracking import MlflowClient

from farm.plan import Options, make_plan
from farm.store import PROGRESS, Record, Store
from farm.sweep import load_sweep, read_source

pytestmark = pytest.mark.chaos

ROUNDS = int(os.environ.get("FARM_CHAOS_ROUNDS", "1"))
TRIALS = 40
STARTS = 60  # of the command; more are no bad luck any more
LIMIT = 900.0  # seconds of a round
EVERY = (3.0, 9.0)  # seconds between two faults
FIRST = (3.0, 30.0)  # to the first one after a start, which may come before any trial
COMPILER = shutil.which("cc")
FAULTS = [
    "worker", "worker", "driver", "ctrl-c", "raylet", "server", "slow server", "server error",
    "torn checkpoint", *(["clock"] if COMPILER else []),
]  # fmt: skip
SWEEP = """
from farm.base.search_space import Sweep, Variant

SWEEP = Sweep(
    title="Forty trials among faults",
    question="Is anything lost?",
    common={"study.name": "forecast", "study.lookback": 20, "study.features": "raw",
            "training.epochs": 6, "training.patience": 6},
    variants=tuple(
        Variant(name=f"{model}-{size}", values={"model.name": model, key: size, **more})
        for model, key, size, more in (
            ("lstm", "model.hidden_size", 8, {}),
            ("lstm", "model.hidden_size", 16, {"model.num_layers": 2, "model.dropout": 0.3}),
            ("lstm", "model.hidden_size", 24, {"model.members": 2}),
        )
    ),
    baselines=(Variant(name="linear", values={"model.name": "linear"}),
               Variant(name="zero", values={"model.name": "zero"})),
    references=("linear",),
    tickers=("AAPL", "MSFT"),
    seeds=6,
    market="SP500",
)
"""


class Server:
    """A tracking server that can be killed and comes back at the same address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.process = folder, None
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--backend-store-uri", "sqlite:///server.db",
                "--artifacts-destination", "./artifacts", "--host", "127.0.0.1", "--port", str(self.port),
                "--workers", "1",
            ],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            start_new_session=True,
        )  # fmt: skip

    def wait(self) -> None:
        deadline = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.5)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Proxy(ThreadingHTTPServer):
    """Stands before a tracking server, and answers 500 in its place for as long as it is told to."""

    daemon_threads = True

    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.behind, self.broken_until = server, 0.0
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class _Forward(BaseHTTPRequestHandler):
    server: Proxy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if time.monotonic() < self.server.broken_until:
            self.send_error(500)
            return
        try:
            connection = HTTPConnection("127.0.0.1", self.server.behind.port, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException):
            self.close_connection = True  # as of a server that is not there
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Forward, f"do_{method}", _Forward.forward)


class Chaos:
    """One sweep, and what befalls it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng, self.said = folder, random.Random(seed), Counter()
        self.server = Server(folder)
        self.proxy = Proxy(self.server)
        self.down_until = 0.0
        self.clock = folder / "clock"
        self.turn(0.0)
        self.process: subprocess.Popen[str] | None = None
        self.family: dict[int, psutil.Process] = {}
        (folder / "forty.py").write_text(SWEEP)

    def says(self) -> str:
        """Give what the latest start of the command has said."""
        return (self.folder / "said.txt").read_bytes()[self.before :].decode()

    def begin(self) -> None:
        said = self.folder / "said.txt"
        self.before = said.stat().st_size if said.exists() else 0
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "farm.sweep", "forty.py", "--tracking-uri", self.proxy.uri,
                "--checkpoint-every", "0",
            ],
            cwd=self.folder,
            env={**os.environ, **self.faked()},
            stdout=said.open("a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def faked(self) -> dict[str, str]:
        """Let the sweep, and all that it starts, read its time of day through a clock that can be turned."""
        if COMPILER is None:
            return {}
        library = self.folder / "clock.so"
        if not library.exists():
            source = Path(__file__).with_name("clock.c")
            subprocess.run([COMPILER, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        return {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self.clock)}

    def turn(self, seconds: float) -> None:
        """Put the sweep's clock forward or back, against the right time; it is read without a lock."""
        with self.clock.open("r+b" if self.clock.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))

    def children(self, *names: str) -> list[psutil.Process]:
        """Find processes of the sweep by how their command lines begin, and remember all of them."""
        found = []
        try:
            every = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return []
        for child in every:
            self.family[child.pid] = child
            try:
                line = " ".join(child.cmdline()[:1])
            except psutil.Error:
                continue
            if any(name in line for name in names):
                found.append(child)
        return sorted(found, key=lambda child: child.pid)

    def fault(self) -> str:
        """Let something go wrong; say what."""
        kind = self.rng.choice(FAULTS)
        chosen = {"worker": ("ray::ImplicitFunc",), "raylet": ("raylet/raylet",)}.get(kind)
        if chosen:
            doomed = self.children(*chosen)
            if not doomed:
                return ""
            self.rng.choice(doomed).kill()
        elif kind == "driver":
            self.children()
            self.process.kill()
            self.process.wait()
            self.reap()
        elif kind == "ctrl-c":
            self.children()
            os.killpg(self.process.pid, signal.SIGINT)
            began = time.monotonic()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                pytest.fail("Ctrl-C did not end the sweep within a minute")
            self.said[f"ctrl-c took {'over' if time.monotonic() - began > 10 else 'up to'} 10 s"] += 1
        elif kind == "server":
            if self.down_until:
                return ""
            self.server.stop()
            self.down_until = time.monotonic() + self.rng.uniform(1, 8)
        elif kind == "slow server":
            if self.down_until:
                return ""
            group = [psutil.Process(self.server.process.pid)]
            group += group[0].children(recursive=True)
            for each in group:
                each.suspend()
            time.sleep(self.rng.uniform(1, 4))
            for each in group:
                each.resume()
        elif kind == "server error":
            self.proxy.broken_until = time.monotonic() + self.rng.uniform(1, 8)
        elif kind == "clock":
            self.turn(self.rng.uniform(-30, 30) * 86400)
        else:
            files = sorted((self.folder / "farm_store").rglob(f"{PROGRESS}*"))
            if not files:
                return ""
            file = self.rng.choice(files)
            try:
                content = file.read_bytes()
                file.write_bytes(content[: self.rng.randrange(len(content))])
            except FileNotFoundError:
                return ""
        return kind

    def reap(self) -> None:
        """End what a killed driver has left; Ray's processes notice by themselves, only later."""
        psutil.wait_procs(list(self.family.values()), timeout=2)
        for process in self.family.values():
            if process.is_running():
                process.kill()
        self.family.clear()

    def run(self) -> None:
        self.server.start()
        self.server.wait()
        began, starts = time.monotonic(), 0
        try:
            while True:
                assert starts < STARTS
                assert time.monotonic() - began < LIMIT, dict(self.said)
                self.begin()
                starts += 1
                following = time.monotonic() + self.rng.uniform(*FIRST)
                while self.process.poll() is None:
                    time.sleep(0.1)
                    now = time.monotonic()
                    assert now - began < LIMIT, dict(self.said)
                    if self.down_until and now > self.down_until:
                        self.server.start()
                        self.down_until = 0.0
                    if now > following:
                        self.said[self.fault() or "nothing to break"] += 1
                        following = time.monotonic() + self.rng.uniform(*EVERY)
                # A server that went down at the very end costs what is logged there, and no exit code.
                if self.process.returncode == 0 and "missing: " not in self.says():
                    return
                self.reap()
                if self.down_until:
                    self.server.start()
                    self.down_until = 0.0
                self.server.wait()
        finally:
            print(f"{starts} starts, {time.monotonic() - began:.0f} s, {dict(self.said)}", flush=True)


def results(folder: Path) -> dict[str, Record]:
    store = Store(str(folder / "farm_store"))
    return {
        path.parent.name: store.get(path.parent.name)
        for path in folder.glob("farm_store/trials/*/result.json")
    }


def scores(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith("_seconds")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "forty.py").write_text(SWEEP)
    done = subprocess.run(
        [sys.executable, "-m", "farm.sweep", "forty.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("number", range(ROUNDS))
def test_nothing_is_lost(
    number: int, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = os.environ.get("FARM_CHAOS_SEED")
    seed = int(given) + number if given else random.SystemRandom().randrange(10**6)
    with capsys.disabled():
        print(f"\nchaos round {number + 1} of {ROUNDS}: FARM_CHAOS_SEED={seed}", flush=True)
        chaos = Chaos(tmp_path, seed)
        try:
            with chaos.proxy.serving():
                chaos.run()
            said = (tmp_path / "said.txt").read_text()
            assert "Traceback" not in said, said[-3000:]
            compare(undisturbed, tmp_path, chaos.server.uri)
        finally:
            chaos.reap()
            chaos.server.stop()


def compare(undisturbed: Path, folder: Path, uri: str) -> None:
    """See that each trial is once in the store, once in MLflow, and equal to the bit."""
    expected, found = results(undisturbed), results(folder)
    assert len(expected) == TRIALS
    assert found.keys() == expected.keys()
    one, other = Store(str(undisturbed / "farm_store")), Store(str(folder / "farm_store"))
    for signature, record in expected.items():
        again = found[signature]
        assert scores(again.metrics) == scores(record.metrics)
        assert again.content == record.content, "forecasts"
        state = other.model_state(signature)
        for name, value in one.model_state(signature).items():
            np.testing.assert_array_equal(state[name], value, err_msg=name)
        if record.history is not None:
            assert [(e.epoch, e.train_loss, e.val_loss) for e in again.history.epochs] == [
                (e.epoch, e.train_loss, e.val_loss) for e in record.history.epochs
            ]
    assert not list((folder / "farm_store").rglob(f"{PROGRESS}*")), "checkpoints of finished trials are gone"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("forty").experiment_id
    runs = client.search_runs([experiment], "tags.`farm.role` = 'trial'", max_results=1000)
    assert Counter(run.data.tags["farm.signature"] for run in runs) == Counter(list(expected))
    for run in runs:
        assert run.info.status == "FINISHED"
        record = found[run.data.tags["farm.signature"]]
        assert run.data.metrics["test/rmse"] == record.metrics["test/rmse"]
        if record.history is not None:
            curve = client.get_metric_history(run.info.run_id, "val/loss")
            assert sorted(point.step for point in curve) == [e.epoch for e in record.history.epochs]
    summaries = client.search_runs([experiment], "tags.`farm.role` = 'variant'")
    assert len(summaries) == 3
    assert len(client.search_runs([experiment], "tags.`farm.role` = 'sweep'")) == 1


def test_the_sweep_has_forty_trials(tmp_path: Path) -> None:
    (tmp_path / "forty.py").write_text(SWEEP)
    name, sweep = load_sweep(str(tmp_path / "forty.py"))
    assert len(make_plan(name, sweep, read_source(sweep), Options()).trials) == TRIALS


@pytest.mark.skipif(COMPILER is None, reason="no C compiler for what moves the clock")
def test_the_clock_is_turned_and_no_other_one(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path, 0)
    chaos.proxy.server_close()

    def clocks() -> list[float]:
        """Give what a program reads of the time of day, the file system and the monotonic clock."""
        said = subprocess.run(
            [
                sys.executable, "-c",
                "import os, time; open('now', 'w').close();"
                "print(time.time(), os.stat('now').st_mtime, time.monotonic())",
            ],
            cwd=tmp_path, env={**os.environ, **chaos.faked()}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [float(part) for part in said.stdout.split()]

    for days in (0, 20, -20):
        chaos.turn(86400.0 * days)
        now, of_files, monotonic = clocks()
        assert abs(now - time.time() - 86400 * days) < 60
        assert abs(of_files - time.time()) < 60
        assert abs(monotonic - time.monotonic()) < 60


def test_the_server_answers_500_for_as_long_as_it_is_told(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path, 0)
    chaos.server.start()
    try:
        chaos.server.wait()
        with chaos.proxy.serving():
            address = f"{chaos.proxy.uri}/health"
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert answer.read() == b"OK"
            chaos.proxy.broken_until = time.monotonic() + 1
            with pytest.raises(urllib.error.HTTPError, match="500"):
                urllib.request.urlopen(address, timeout=30)
            time.sleep(1.1)
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert answer.status == 200
    finally:
        chaos.server.stop()
