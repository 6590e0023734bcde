"""A Ray of its own on this machine, or a cluster that was named: how it is started, joined and left.

Ray looks by itself for a cluster that somebody has started, in RAY_ADDRESS and in a file below /tmp. Nothing
here does: a sweep joins what it was told to join, and otherwise starts a Ray that has a folder and a token of
its own, so that neither knows of the other.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from farm.base.errors import UserError, of_one_line

VARIABLE = "RAY_ADDRESS"
# Read by Ray when it is imported or started, hence set before.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_prestart_worker_first_driver": "0",  # Tune's actors take none of them, and each imports for a second
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # an epoch's report holds no objective of a search
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # a sweep resumes from the store, not from Tune's snapshots
}
# glibc gives the memory of each temporary tensor back to the kernel, which hands it out again page by page:
# half of the time of an LSTM's step. A worker keeps up to 64 MiB instead; read when its process starts.
_KEEP_FREED = {
    "MALLOC_ARENA_MAX": "1",  # Tune runs a job in a thread, whose memory would be a heap of its own
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}
# Processes of a node that a sweep on one machine has no use for: an autoscaler, a printer of workers' logs,
# and the server of the dashboard. Methods of Ray's own; one that is not there is left alone.
_IDLE = ("start_monitor", "start_log_monitor", "start_api_server")
# What Ray says of itself where the reason is the machine's, and what helps.
_CAUSES = (
    ("AF_UNIX", "its folder's path is too long for a socket: set RAY_TMPDIR to a shorter one, such as /tmp"),
    ("No space left", "make room there, or set RAY_TMPDIR to a folder on another disk"),
    ("Read-only file system", "set RAY_TMPDIR to a folder that can be written to"),
    ("Permission denied", "set RAY_TMPDIR to a folder that can be written to"),
)


def find_address(given: str | None, variable: str) -> str | None:
    """Return the address of the cluster to join; None for a Ray of its own.

    Parameters
    ----------
    given
        By the option: ``auto``, ``local`` or ``HOST:PORT``; None or empty where it was left out.
    variable
        What RAY_ADDRESS holds, which counts where the option was left out.

    Raises
    ------
    UserError
        If it is none of these, with the name of the option or the variable.
    """
    text = (given or variable).strip()
    if text in ("", "local"):
        return None
    name = "--address (address= in Python)" if given else VARIABLE
    scheme, separator, _ = text.partition("://")
    host, colon, port = text.rpartition(":")
    if separator and scheme in ("http", "https"):
        raise UserError(
            f"{name}: got {text!r}, where Ray takes jobs, expected auto, local or HOST:PORT: submit the sweep"
            f" there with `ray job submit --address {text} -- python -m farm.sweep ...`,"
            f" or {'choose another' if given else 'give --address local to run here'}"
        )
    if separator:
        raise UserError(
            f"{name}: got {text!r}, where Ray takes clients, expected auto, local or HOST:PORT, as `ray start"
            " --head` prints it: a sweep runs on a machine of the cluster, such as its head"
        )
    if text != "auto" and not (colon and host and port.isdigit() and 0 < int(port) < 65536):
        raise UserError(
            f"{name}: got {text!r}, expected auto, local or HOST:PORT, as `ray start --head` prints it:"
            f" {'correct it, or leave it out' if given else 'correct or unset it'} to run here"
        )
    return text


def check_address(address: str, name: str = "--address") -> None:
    """See that a Ray cluster answers at an address, within a few seconds.

    Ray itself waits for minutes, so its server is greeted first: it speaks gRPC, and an HTTP/2 server
    answers the greeting (RFC 9113, section 3.4) with a frame of type 4, its settings.

    Parameters
    ----------
    address
        As `find_address` gives it.
    name
        Of the option or the variable that it came from.

    Raises
    ------
    UserError
        If nothing does.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            if connection.recv(9)[3:4] != b"\x04":
                raise ConnectionError("what answers there is not Ray")
    except OSError as error:
        do = "unset it" if name == VARIABLE else "leave it out"
        raise UserError(
            f"{name}: Ray cluster {address!r} cannot be reached ({error}): start the cluster, or {do} to run"
            " here"
        ) from error


@contextmanager
def cluster(address: str | None, concurrency: int | None) -> Iterator[None]:
    """Join a Ray cluster, or start a Ray of its own, for as long as the block lasts.

    Inside another such block, and where the process has joined or started Ray by itself, it does nothing, so
    that several calls share one start.

    Parameters
    ----------
    address
        ``auto`` or ``HOST:PORT``; None for a Ray of its own, whatever runs on this machine and whatever
        RAY_ADDRESS holds.
    concurrency
        Most jobs at a time; Ray on this machine then has as many cores.

    Raises
    ------
    UserError
        If Ray cannot be started or the cluster cannot be joined.
    """
    for name, value in (_QUIET | _KEEP_FREED).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    with ExitStack() as stack:
        if address is None:
            _start(concurrency, stack)
        else:
            _join(address, stack)
        stack.callback(ray.shutdown)
        for logger in ("ray", "ray.tune", "ray.train"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)  # a death is told in one line
        yield


def _start(concurrency: int | None, stack: ExitStack) -> None:
    """Start Ray in a folder of its own, which goes with it unless RAY_TMPDIR names the place."""
    import ray

    place = os.environ.get("RAY_TMPDIR") or ("/tmp" if Path("/tmp").is_dir() else tempfile.gettempdir())
    try:
        folder = Path(tempfile.mkdtemp(prefix="ray-", dir=place))
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text(secrets.token_hex(32))
    except OSError as error:
        raise UserError(
            f"Ray does not start: no folder can be made in {place!r} ({of_one_line(error)}): set RAY_TMPDIR"
            " to a folder that can be written to"
        ) from error
    with ExitStack() as started:
        if "RAY_TMPDIR" not in os.environ:
            started.callback(shutil.rmtree, folder, ignore_errors=True)
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        started.enter_context(
            _authentication({name: os.environ.get(name, value) for name, value in own.items()})
        )
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            with _few_processes():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    num_cpus=max(cores, concurrency or 0),
                    _temp_dir=str(folder),
                    **_SILENT,
                )
        except Exception as error:  # Ray raises bare ones if a process of its own dies as it starts
            ray.shutdown()
            reason = of_one_line(error)
            do = next((do for sign, do in _CAUSES if sign in reason), "")
            if not do:
                started.pop_all()  # keeps the folder
                do = f"its logs are below {folder}; a machine that is busy may have been too slow for it"
            raise UserError(f"Ray does not start on this machine ({reason}): {do}") from error
        stack.push(started.pop_all())


_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


def _join(address: str, stack: ExitStack) -> None:
    """Join a cluster, with the token that this user has, or without one."""
    import ray
    from ray.exceptions import AuthenticationError

    check_address(address)
    mode = os.environ.get("RAY_AUTH_MODE") or ("token" if _has_token() else "disabled")
    stack.enter_context(_authentication({"RAY_AUTH_MODE": mode}))
    try:
        with _environment({VARIABLE: None}):  # which would win over auto
            ray.init(address=address, runtime_env={"env_vars": _KEEP_FREED}, **_SILENT)
    except (AuthenticationError, ConnectionError) as error:  # it answers, as `check_address` has seen
        raise UserError(_refused(address, mode)) from error
    except (RuntimeError, ValueError, TimeoutError, OSError) as error:
        raise UserError(
            f"Ray cluster {address!r} cannot be joined ({of_one_line(error)}): start it, or run on one of its"
            " machines"
        ) from error


def _refused(address: str, mode: str) -> str:
    if mode == "disabled":
        return (
            f"Ray cluster {address!r} asks for a token, and this user has none: put the cluster's into"
            " ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH to its file"
        )
    return (
        f"Ray cluster {address!r} does not take the token of this user: set RAY_AUTH_TOKEN_PATH to the file"
        " with the cluster's, or RAY_AUTH_MODE=disabled for a cluster without one"
    )


def _has_token() -> bool:
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    return bool(loader.has_token(ignore_auth_mode=True))


@contextmanager
def _authentication(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Have Ray read these variables, which it otherwise reads once in a process; undo it in the end."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    def read_again() -> None:
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()

    try:
        with _environment(variables):
            read_again()
            yield
    finally:
        read_again()


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or take those with None away, for as long as the block lasts."""
    before = {name: os.environ.pop(name, None) for name in variables}
    try:
        os.environ.update({name: value for name, value in variables.items() if value is not None})
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _few_processes() -> Iterator[None]:
    """Start none of the processes that a sweep on one machine has no use for."""
    from ray._private.node import Node

    idle = {name: getattr(Node, name) for name in _IDLE if hasattr(Node, name)}
    try:
        for name in idle:
            setattr(Node, name, lambda self, **options: None)
        yield
    finally:
        for name, method in idle.items():
            setattr(Node, name, method)
