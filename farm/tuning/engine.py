"""Run jobs on Ray Tune, in warm workers of one thread each."""

from __future__ import annotations

import math
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from farm.base.errors import NO_SPACE, UserError, without_credentials
from farm.base.search_space import Resources
from farm.data.panel import Panel
from farm.experiment import TrialConfig, advance, conclude, run
from farm.plan import Trial
from farm.store import Store
from farm.studies.study import Source
from farm.training.checkpoint import Progress
from farm.training.fit import Epoch, Report
from farm.tuning.connection import cluster
from farm.tuning.nodes import check_nodes, launchable

# Of a job whose worker died, not of one that raised. An idle worker that dies with it counts for two.
WORKER_RETRIES = 4
LOSSES = 2  # times that a job which Tune gave up, since its workers died, is begun anew
DIED = "its worker died again and again"
FULL = "the storage is full"
STORED = "stored"  # key of a job's last result, when what it made is in the store

_RESOURCES = {"cpu": "CPU", "gpu": "GPU", "memory": "memory"}  # Ray's words for those of Tune

Kind = Literal["started", "epoch", "finished", "stopped", "failed"]


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
        Whether it is done anew although the store may have it.
    source
        Which of the sources that `execute` is given it reads.
    """

    kind: Literal["trial", "stage", "conclusion"]
    name: str
    signature: str
    config: TrialConfig
    before: str = ""
    again: bool = False
    source: int = 0


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
        What happened to the job; one that is ``finished`` has left what it made in the store, and one
        that is ``stopped`` fell behind others of a search.
    job
        The job.
    epoch, val_loss
        Of ``epoch``.
    error
        Of ``failed``: why.
    outcomes
        Trials that have ended with the job.
    began, left
        When a worker began a job that has ended and when it left it, seconds since 1970.
    """

    kind: Kind
    job: Job
    epoch: int = 0
    val_loss: float = math.nan
    error: str = ""
    outcomes: Sequence[Outcome] = ()
    began: float = math.nan
    left: float = math.nan


def execute(
    supply: Supply,
    sources: Sequence[Source],
    store: Store,
    *,
    on_event: Callable[[Event], None],
    concurrency: int | None = None,
    resources: Resources,
    address: str | None = None,
    keep_every: float = 30.0,
) -> None:
    """Run jobs; each leaves what it made in the store before it counts as ended.

    On Ctrl-C it ends what is running and returns; `on_event` has then not been told of every trial.

    Parameters
    ----------
    supply
        Gives the jobs as workers become free.
    sources
        The data, by the number that a job gives; a node holds one copy, shared by its workers.
    store
        Where the results go; on a cluster, a place that every node reaches.
    on_event
        Told, on the driver, what happens. A job that raises is told as failed and not tried again:
        it would raise again. One whose worker dies is, from its last checkpoint.
    concurrency
        Most jobs at a time; None for as many as the resources allow.
    resources
        What a job takes; see `bundle`.
    address
        A running Ray cluster, ``auto`` or ``HOST:PORT``; None starts a Ray of its own on this machine for
        as long as the call lasts.
    keep_every
        Seconds between two checkpoints of a stage or trial: what a worker's death costs at most.

    Raises
    ------
    UserError
        If the cluster cannot be reached, one of its nodes has other code or not this store, none has room
        for a job, or the storage has no room for its result.
    """
    if supply.finished:
        return
    with cluster(address, concurrency), tempfile.TemporaryDirectory(prefix="farm-tune-") as scratch:
        from ray import tune

        if address is not None:
            check_nodes(store)
        needs = bundle(resources, address)
        most = concurrency or (room(needs) if address is None else math.inf)
        searcher, callback, full = _desk(supply, on_event, most)
        work = tune.with_parameters(
            _trainable, sources=tuple(sources), root=store.root, keep_every=keep_every
        )
        for source in sources:  # Ray's store has a copy for the workers of this node
            if isinstance(source, Panel):
                source.rest()
        tuner = tune.Tuner(
            tune.with_resources(work, needs),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_in_order(),
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
                callbacks=[callback],
            ),
        )
        tuner.fit()
        if full():
            raise UserError(
                f"storage {store.root!r} is full: what is finished is kept; make room, and the same command"
                " goes on"
            )


def bundle(resources: Resources, address: str | None) -> dict[str, float]:
    """Say what a job asks of the cluster that was joined, in the words of Tune.

    Parameters
    ----------
    resources
        As the sweep declares them. Of a GPU a job asks only where a node has one, or where the
        autoscaler of a cluster can launch one that has.
    address
        That was joined; None for Ray on this machine, which launches nothing.

    Raises
    ------
    UserError
        If no node, up or to come, has room for a job.
    """
    import ray

    nodes: list[Mapping[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    to_come = [] if address is None else launchable()
    with_gpu = any(node.get("GPU", 0) > 0 for node in (*nodes, *to_come))
    needs = {"cpu": resources.cpu, "gpu": resources.gpu if with_gpu else 0.0}
    if resources.memory:
        needs["memory"] = resources.memory * 2**30
    asked = {_RESOURCES[name]: amount for name, amount in needs.items() if amount}
    # What a type of node to come has, apart from GPUs, need not be known before one is up.
    fits = any(all(node.get(name, 0) >= amount for name, amount in asked.items()) for node in nodes)
    if not fits and not any(
        all(node.get(name, 0 if name == "GPU" else math.inf) >= amount for name, amount in asked.items())
        for node in to_come
    ):
        raise UserError(
            f"resources of a trial: got cpu={resources.cpu:g}, gpu={needs['gpu']:g},"
            f" memory={resources.memory:g} GiB, and no node of the cluster has as much:"
            " lower the sweep's Resources(...), or add larger nodes"
        )
    return needs


def room(needs: Mapping[str, float]) -> int:
    """Count the jobs that run side by side here.

    No more are asked for, so that a job is chosen when a worker is free and not before. A cluster may
    grow with what waits for it.
    """
    import ray

    has = ray.cluster_resources()
    return max(1, min(int(has.get(_RESOURCES[name], 0.0) / need) for name, need in needs.items() if need > 0))


def _trainable(setting: dict[str, Any], sources: tuple[Source, ...], root: str, keep_every: float) -> None:
    """Do one job in a worker."""
    from ray import tune

    def report(epoch: Epoch) -> None:
        tune.report({"epoch": epoch.epoch, "val_loss": epoch.val_loss})

    began = time.time()
    end: dict[str, Any] = {STORED: True}
    try:
        config = TrialConfig.model_validate_json(setting["config"])
        job = Job(**{**setting, "config": config})
        _work(job, sources[job.source], Store(root), report, keep_every)
    except Exception as error:  # noqa: BLE001  (one job's fault must not end the sweep)
        full = isinstance(error, OSError) and error.errno in NO_SPACE
        end = {"error": FULL if full else complaint(error)}
    tune.report({**end, "began": began, "left": time.time()})


def complaint(error: Exception) -> str:
    """Put what a job raised into one line."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = without_credentials(" ".join(str(error).split())) or "no message"
    return f"{type(error).__name__}: {text} ({where.name}, line {where.lineno})"


def _work(job: Job, source: Source, store: Store, report: Report, keep_every: float) -> None:
    """Do a job and put what it made into the store, unless another sweep has done it since this one began."""
    with store.claim(job.signature):
        there = store.get_stage if job.kind == "stage" else store.get
        if job.again or there(job.signature) is None:
            _do(job, source, store, report, keep_every)


def _do(job: Job, source: Source, store: Store, report: Report, keep_every: float) -> None:
    if job.kind == "trial":
        progress = Progress(
            lambda fit: store.get_progress(job.signature, fit),
            lambda fit, checkpoint: store.put_progress(job.signature, checkpoint, fit),
            keep_every,
        )
        store.put(job.signature, job.config, run(job.config, source, report=report, progress=progress))
        return
    before = store.get_stage(job.before) if job.before else None
    if job.before and before is None:
        raise LookupError(f"stage {job.before} is not whole in the store any more: run the sweep again")
    if job.kind == "conclusion":
        assert before is not None
        store.put(job.signature, job.config, conclude(job.config, source, before))
    else:
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


def _desk(
    supply: Supply, on_event: Callable[[Event], None], most: float
) -> tuple[Any, Any, Callable[[], bool]]:
    """Make what hands jobs to Tune, a searcher, what hears of them, a callback, and what says: no room.

    Once there is no room for a result no job is begun any more, and those that are lost so are not told
    as failed.
    """
    jobs: dict[str, Job] = {}  # those that Tune has, by its trial ids
    lost: list[Job] = []
    losses: Counter[str] = Counter()
    homeless: list[Job] = []  # those whose result had no room

    def suggest(trial_id: str, finished: Any) -> Any:
        if supply.finished or homeless:
            return finished
        if len(jobs) >= most:
            return None
        job = lost.pop() if lost else supply.next()
        if job is None:
            return None
        jobs[trial_id] = job
        return {**vars(job), "config": job.config.model_dump_json()}

    def tell(kind: Kind, trial: Any, **details: Any) -> None:
        if kind in ("started", "epoch"):
            on_event(Event(kind, jobs[trial.trial_id], **details))
            return
        job, last = jobs.pop(trial.trial_id), trial.last_result
        error = details.get("error", "")
        if error == DIED and losses[job.signature] < LOSSES:
            # Tune gives a job up at once if word of a death comes while it waits for its next worker.
            losses[job.signature] += 1
            lost.append(job)
            return
        if error == FULL:
            homeless.append(job)
            return
        times = {name: last.get(name, math.nan) for name in ("began", "left")}
        on_event(Event(kind, job, error=error, outcomes=supply.ended(job, error), **times))

    return _searcher(suggest), relay(tell), lambda: bool(homeless)


def _searcher(suggest: Callable[[str, Any], Any]) -> Any:
    """Make the Tune searcher that asks ``suggest(trial_id, finished)`` for what a worker does next."""
    from ray.tune.search import Searcher

    class Desk(Searcher):  # type: ignore[misc]  # ray is not typed
        def __init__(self, suggest: Callable[[str, Any], Any]) -> None:
            super().__init__()
            self._suggest = suggest

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune saves its searcher, and with this one's would go all the data

        def suggest(self, trial_id: str) -> Any:
            return self._suggest(trial_id, Searcher.FINISHED)

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Leave it to the callback, which knows more."""

        def save(self, checkpoint_path: str) -> None:
            """Write nothing: a sweep resumes from the store."""

        def restore(self, checkpoint_path: str) -> None:
            """Read nothing."""

    return Desk(suggest)


def _in_order() -> Any:
    """Make a scheduler that lets every trial run to its end.

    Tune's own looks through all trials, finished ones too, for one to begin, several times for each;
    its controller begins those that wait by itself.
    """
    from ray.tune.schedulers import FIFOScheduler

    class InOrder(FIFOScheduler):  # type: ignore[misc]  # ray is not typed
        def choose_trial_to_run(self, tune_controller: Any) -> None:
            """Choose none in particular."""

    return InOrder()


def relay(tell: Callable[..., None]) -> Any:
    """Make the Tune callback that calls ``tell(kind, trial, **details)``, a `Kind` and Tune's trial."""
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
            unsaid = "" if STORED in trial.last_result else "it ended without a result"
            error = trial.last_result.get("error", unsaid)
            self._tell("failed" if error else "finished", trial, error=error)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._tell("failed", trial, error=DIED)

    return Relay(tell)
