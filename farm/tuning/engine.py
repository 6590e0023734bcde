"""Run trials on Ray Tune, in warm workers of one thread each."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from farm.base.errors import UserError
from farm.base.search_space import Resources
from farm.experiment import TrialConfig, run
from farm.plan import Trial
from farm.store import Store
from farm.studies.study import Source
from farm.training.fit import Epoch

# Read by Ray when it is imported or started, hence set before.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
}
WORKER_RETRIES = 2  # of a trial whose worker died, not of one that raised


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial, for progress and tracking."""

    kind: Literal["started", "epoch", "finished", "failed"]
    trial: Trial
    epoch: int = 0
    val_loss: float | None = None
    error: str = ""


def execute(
    trials: Sequence[Trial],
    source: Source,
    store: Store,
    *,
    on_event: Callable[[Event], None],
    concurrency: int | None = None,
    resources: Resources,
    address: str | None = None,
) -> None:
    """Run trials; each leaves its result in the store before it counts as finished.

    On Ctrl-C it ends what is running and returns; `on_event` has then not been told of every trial.

    Parameters
    ----------
    trials
        What to run, in this order as workers become free.
    source
        The data; a node holds one copy, shared by its workers.
    store
        Where the results go; on a cluster, a place that every node reaches.
    on_event
        Told, on the driver, what happens. A trial that raises is told as failed and not tried
        again: it would raise again.
    concurrency
        Most trials at a time; None for as many as the resources allow.
    resources
        What a trial takes. A GPU is asked for only where the cluster has one.
    address
        A running Ray cluster, ``auto`` or ``HOST:PORT``; None starts Ray on this machine for as
        long as the call lasts.

    Raises
    ------
    UserError
        If the cluster cannot be reached.
    """
    if not trials:
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray
    from ray import tune

    _connect(address, concurrency)
    try:
        for logger in ("ray", "ray.tune", "ray.train"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        gpu = resources.gpu if ray.cluster_resources().get("GPU", 0) > 0 else 0
        by_index = dict(enumerate(trials))
        with tempfile.TemporaryDirectory(prefix="farm-tune-") as scratch:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(_trainable, source=source, root=store.root),
                    {"cpu": resources.cpu, "gpu": gpu},
                ),
                param_space={
                    "index": tune.grid_search(list(by_index)),
                    "config": tune.sample_from(
                        lambda spec: by_index[spec.config.index].config.model_dump_json()
                    ),
                    "signature": tune.sample_from(lambda spec: by_index[spec.config.index].signature),
                },
                tune_config=tune.TuneConfig(max_concurrent_trials=concurrency, reuse_actors=True),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=scratch,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
                    callbacks=[_relay(by_index, on_event)],
                ),
            )
            tuner.fit()
    finally:
        ray.shutdown()


def _connect(address: str | None, concurrency: int | None) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ray.init(include_dashboard=False, num_cpus=max(cores, concurrency or 0), **quiet)
        return
    check_address(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"Ray cluster {address!r} cannot be joined ({reason}): check --address and the cluster"
        ) from error


def check_address(address: str) -> None:
    """See that a Ray cluster answers at an address, within a few seconds.

    Ray itself waits for minutes, so its server is greeted first: it speaks gRPC, and an HTTP/2 server
    answers the greeting (RFC 9113, section 3.4) with a frame of type 4, its settings.

    Raises
    ------
    UserError
        If nothing does, or the address is neither ``auto`` nor ``HOST:PORT``.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(
            f"Ray address {address!r}: expected auto or HOST:PORT, as `ray start --head` prints it"
        )
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            if connection.recv(9)[3:4] != b"\x04":
                raise ConnectionError("what answers there is not Ray")
    except OSError as error:
        raise UserError(
            f"Ray address {address!r} cannot be reached ({error}):"
            " start the cluster, or leave --address out to run here"
        ) from error


def _trainable(setting: dict[str, Any], source: Source, root: str) -> None:
    """Run one trial in a worker and put its result into the store."""
    from ray import tune

    def report(epoch: Epoch) -> None:
        tune.report({"epoch": epoch.epoch, "val_loss": epoch.val_loss})

    config = TrialConfig.model_validate_json(setting["config"])
    try:
        result = run(config, source, report=report)
        Store(root).put(setting["signature"], config, result)
    except Exception as error:  # noqa: BLE001  (one trial's fault must not end the sweep)
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split()) or "no message"
        tune.report({"error": f"{type(error).__name__}: {text} ({where.name}, line {where.lineno})"})
    else:
        tune.report({"stored": True})


def _relay(by_index: dict[int, Trial], on_event: Callable[[Event], None]) -> Any:
    """Make the Tune callback that tells `on_event` what happens."""
    from ray import tune

    class Relay(tune.Callback):  # type: ignore[misc]  # ray is not typed
        def __init__(self, tell: Callable[..., None]) -> None:
            self._tell = tell

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune saves its callbacks; this one means nothing in another process

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._tell("started", trial)

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if "epoch" in result:
                self._tell("epoch", trial, epoch=result["epoch"], val_loss=result["val_loss"])

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            error = trial.last_result.get("error", "")
            self._tell("failed" if error else "finished", trial, error=error)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._tell("failed", trial, error=f"its worker died {WORKER_RETRIES + 1} times")

    def tell(kind: Literal["started", "epoch", "finished", "failed"], trial: Any, **details: Any) -> None:
        on_event(Event(kind, by_index[trial.config["index"]], **details))

    return Relay(tell)
