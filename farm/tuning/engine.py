"""Run jobs on Ray Tune, in warm workers of one thread each."""

from __future__ import annotations

import logging
import math
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from farm.base.errors import UserError
from farm.base.search_space import Resources
from farm.experiment import TrialConfig, advance, conclude, run
from farm.plan import Trial
from farm.store import Store
from farm.studies.study import Source
from farm.training.fit import Epoch, Report

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
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # a sweep resumes from the store, not from Tune's snapshots
}
WORKER_RETRIES = 2  # of a job whose worker died, not of one that raised
KEEP_EVERY = 30.0  # seconds between two checkpoints within a stage


@dataclass(frozen=True)
class Job:
    """What a worker does in one go, as one Tune trial.

    Parameters
    ----------
    kind
        ``trial``: a whole trial. ``stage``: one stage of a curriculum. ``conclusion``: the evaluation
        after the last stage.
    name
        For people.
    signature
        What it leaves in the store: that of a trial or of a stage.
    config
        The trial, or one of those that share the stage.
    before
        Signature of the stage that it goes on from; ``""`` if there is none.
    again
        Whether a stage is trained anew although the store may have it.
    """

    kind: Literal["trial", "stage", "conclusion"]
    name: str
    signature: str
    config: TrialConfig
    before: str = ""
    again: bool = False


class Supply(Protocol):
    """Where jobs come from: it is asked when a worker is free, and told what became of each job."""

    @property
    def finished(self) -> bool:
        """Say that no job will come any more, whatever those that are running lead to."""

    def next(self) -> Job | None:
        """Give the next job; None to wait until another one has ended, so never with none running."""

    def ended(self, job: Job, error: str) -> list[Outcome]:
        """Hear that a job has ended, with ``""`` for success; give the trials that have ended with it."""


@dataclass(frozen=True)
class Outcome:
    """A trial has ended: its result is in the store, or there is a reason why not."""

    trial: Trial
    error: str = ""


@dataclass(frozen=True)
class Event:
    """Something that happened, for progress and tracking.

    Parameters
    ----------
    kind
        What happened to the job; of a job that has ended, `error` and `outcomes` say how.
    job
        The job.
    epoch, val_loss
        Of ``epoch``.
    error
        Why it failed; ``""`` if it did not.
    outcomes
        Trials that have ended with the job.
    began, stopped
        When the worker was at a job that has ended, seconds since 1970.
    """

    kind: Literal["started", "epoch", "ended"]
    job: Job
    epoch: int = 0
    val_loss: float = math.nan
    error: str = ""
    outcomes: Sequence[Outcome] = ()
    began: float = math.nan
    stopped: float = math.nan


def execute(
    supply: Supply,
    source: Source,
    store: Store,
    *,
    on_event: Callable[[Event], None],
    concurrency: int | None = None,
    resources: Resources,
    address: str | None = None,
    keep_every: float = KEEP_EVERY,
) -> None:
    """Run jobs; each leaves what it made in the store before it counts as ended.

    On Ctrl-C it ends what is running and returns; `on_event` has then not been told of every trial.

    Parameters
    ----------
    supply
        Gives the jobs as workers become free.
    source
        The data; a node holds one copy, shared by its workers.
    store
        Where the results go; on a cluster, a place that every node reaches.
    on_event
        Told, on the driver, what happens. A job that raises is told as failed and not tried again:
        it would raise again. One whose worker dies is, from its last checkpoint if it is a stage.
    concurrency
        Most jobs at a time; None for as many as the resources allow.
    resources
        What a job takes. A GPU is asked for only where the cluster has one.
    address
        A running Ray cluster, ``auto`` or ``HOST:PORT``; None starts Ray on this machine for as
        long as the call lasts.
    keep_every
        Seconds between two checkpoints within a stage: what a worker's death costs at most.

    Raises
    ------
    UserError
        If the cluster cannot be reached.
    """
    if supply.finished:
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
        searcher, relay = _desk(supply, on_event, _most_jobs(concurrency, resources.cpu, gpu, address))
        with tempfile.TemporaryDirectory(prefix="farm-tune-") as scratch:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(_trainable, source=source, root=store.root, keep_every=keep_every),
                    {"cpu": resources.cpu, "gpu": gpu},
                ),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=-1,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: trial.trial_id,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="jobs",
                    storage_path=scratch,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
                    callbacks=[relay],
                ),
            )
            tuner.fit()
    finally:
        ray.shutdown()


def _most_jobs(concurrency: int | None, cpu: float, gpu: float, address: str | None) -> float:
    """Count the jobs that may be asked for at a time.

    On one machine no more than fit, so that a job is chosen when a worker is free and not before. A
    cluster may grow with what waits for it.
    """
    import ray

    if address is not None or concurrency is not None:
        return concurrency or math.inf
    has = ray.cluster_resources()
    fit = [float(has.get(name, 0.0) // need) for name, need in (("CPU", cpu), ("GPU", gpu)) if need > 0]
    return max(1.0, min(fit))


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


def _trainable(setting: dict[str, Any], source: Source, root: str, keep_every: float) -> None:
    """Do one job in a worker."""
    from ray import tune

    def report(epoch: Epoch) -> None:
        tune.report({"epoch": epoch.epoch, "val_loss": epoch.val_loss})

    began, fault = time.time(), ""
    try:
        config = TrialConfig.model_validate_json(setting["config"])
        job = Job(**{**setting, "config": config})
        _work(job, source, Store(root), report, keep_every)
    except Exception as error:  # noqa: BLE001  (one job's fault must not end the sweep)
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split()) or "no message"
        fault = f"{type(error).__name__}: {text} ({where.name}, line {where.lineno})"
    tune.report({"error": fault, "began": began, "stopped": time.time()})


def _work(job: Job, source: Source, store: Store, report: Report, keep_every: float) -> None:
    """Do a job and put what it made into the store."""
    if job.kind == "trial":
        store.put(job.signature, job.config, run(job.config, source, report=report))
        return
    before = store.get_stage(job.before) if job.before else None
    if job.before and before is None:
        raise LookupError(f"stage {job.before} is not whole in the store any more: run the sweep again")
    if job.kind == "conclusion":
        assert before is not None
        store.put(job.signature, job.config, conclude(job.config, source, before))
    elif job.again or store.get_stage(job.signature) is None:  # another sweep may have been faster
        checkpoint = advance(
            job.config,
            source,
            before,
            report=report,
            resume=None if job.again else store.get_progress(job.signature),
            keep=partial(store.put_progress, job.signature),
            keep_every=keep_every,
        )
        store.put_stage(job.signature, checkpoint)


def _desk(supply: Supply, on_event: Callable[[Event], None], most: float) -> tuple[Any, Any]:
    """Make what hands jobs to Tune, a searcher, and what hears of them, a callback."""
    from ray import tune
    from ray.tune.search import Searcher

    jobs: dict[str, Job] = {}  # those that Tune has, by its trial ids

    class Desk(Searcher):  # type: ignore[misc]  # ray is not typed
        def suggest(self, trial_id: str) -> Any:
            if supply.finished:
                return Searcher.FINISHED
            job = supply.next() if len(jobs) < most else None
            if job is None:
                return None
            jobs[trial_id] = job
            return {**vars(job), "config": job.config.model_dump_json()}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Leave it to the callback, which knows more."""

        def save(self, checkpoint_path: str) -> None:
            """Write nothing: a sweep resumes from the store."""

        def restore(self, checkpoint_path: str) -> None:
            """Read nothing."""

    class Relay(tune.Callback):  # type: ignore[misc]
        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune saves its callbacks; this one means nothing in another process

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            on_event(Event("started", jobs[trial.trial_id]))

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if "epoch" in result:
                job = jobs[trial.trial_id]
                on_event(Event("epoch", job, epoch=result["epoch"], val_loss=result["val_loss"]))

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            last = trial.last_result
            self._ended(trial, last["error"], last["began"], last["stopped"])

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._ended(trial, f"its worker died {WORKER_RETRIES + 1} times", math.nan, math.nan)

        def _ended(self, trial: Any, error: str, began: float, stopped: float) -> None:
            job = jobs.pop(trial.trial_id)
            outcomes = supply.ended(job, error)
            on_event(Event("ended", job, error=error, outcomes=outcomes, began=began, stopped=stopped))

    return Desk(), Relay()
