"""Trials as a tree of stages, so that what they share is trained once.

After Shin, Kim, Jeong & Chun (2020), "Hippo: Taming hyper-parameter optimization of deep learning with
stage trees", arXiv:2006.11972. A node is a stage of a curriculum with all that came before it, named by
its signature; trials that begin alike go through the same nodes. A trial without a curriculum is a
node of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from farm.evaluation.stages import Taught
from farm.plan import Trial
from farm.store import Store
from farm.studies.study import Source
from farm.training.curriculum import GateMissed
from farm.tuning.engine import Job, Outcome

Urgency = tuple[bool, int, int]


@dataclass
class Node:
    """A stage and the trials that go through it.

    Parameters
    ----------
    signature
        Of the stage.
    name, epochs
        See `farm.training.curriculum.Stage`.
    before
        Signature of the stage before it; ``""`` for a root.
    stored
        Whether it is in the store.
    trials
        Those that go through it.
    last
        Those of them that end with it.
    """

    signature: str
    name: str
    epochs: int
    before: str
    stored: bool
    trials: list[Trial] = field(default_factory=list)
    last: list[Trial] = field(default_factory=list)


def stage_nodes(trials: Iterable[Trial], source: Source, store: Store) -> dict[str, Node]:
    """Give the nodes of the trials with a curriculum by signature, parents first, if no gate is missed."""
    nodes: dict[str, Node] = {}
    for trial in trials:
        if trial.config.curriculum is None:
            continue
        stages, before = trial.config.stages(), ""
        for count, stage in enumerate(stages, start=1):
            name = trial.config.stage_signature(trial.config.study.data_digest(source), stages[:count])
            if name not in nodes:
                stored = store.get_stage(name) is not None
                nodes[name] = Node(name, stage.name, stage.phase.epochs, before, stored)
            nodes[name].trials.append(trial)
            before = name
        nodes[before].last.append(trial)
    return nodes


class StageTree:
    """The jobs that trials come to, each as soon as what it goes on from is there.

    Baselines go first, since the others are measured against them; then the stages that have the longest
    way of epochs still to go, so that the long chains start early; then other networks, those with most
    epochs first; evaluations last.

    Parameters
    ----------
    trials
        Each once.
    source
        What their studies read.
    store
        Where the stages are; those that it has are not trained again.
    again
        Whether they are, once.
    """

    def __init__(self, trials: Sequence[Trial], source: Source, store: Store, again: bool = False) -> None:
        self._store = store
        self._again = again
        self._source = source
        self._taught: dict[str, tuple[Taught, ...]] = {}  # by signature of the last stage
        self._open: dict[str, _Open] = {}  # jobs that have not ended, by signature
        self._ready: list[tuple[Urgency, int, str]] = []  # a heap of what may be begun
        self._stopped: list[Outcome] = []
        self._pushed = 0
        for trial in trials:
            self._place(trial)

    @property
    def finished(self) -> bool:
        """See `farm.tuning.engine.Supply`."""
        return not self._open

    @property
    def urgency(self) -> Urgency | None:
        """How urgent the next job is, the least first; None if there is none."""
        while self._ready:
            urgency, _, signature = self._ready[0]
            entry = self._open.get(signature)
            if entry is not None and not entry.begun:  # one that gained trials was pushed twice
                return urgency
            heapq.heappop(self._ready)
        return None

    def next(self) -> Job | None:
        """See `farm.tuning.engine.Supply`."""
        if self.urgency is None:
            return None
        entry = self._open[heapq.heappop(self._ready)[-1]]
        entry.begun = True
        return entry.named()

    def ended(self, job: Job, error: str) -> list[Outcome]:
        """See `farm.tuning.engine.Supply`; a failed stage fails the trials that go through it, no others."""
        entry = self._open.pop(job.signature)
        if error and job.kind == "stage":
            error = f"{entry.stage}: {error}"
        if error or job.kind != "stage":
            return [Outcome(trial, error) for trial in entry.trials]
        self._taught[job.signature] = Taught.of(self._store.get_stage(job.signature))
        if not self._taught[job.signature]:
            return [Outcome(trial, f"{entry.stage}: the store has lost it") for trial in entry.trials]
        for trial in entry.trials:
            self._place(trial)
        return self.stopped()

    def stopped(self) -> list[Outcome]:
        """Give, once each, the trials that a gate has stopped.

        Before the first job these are the ones that it stops after stages of the store.
        """
        stopped, self._stopped = self._stopped, []
        return stopped

    def _place(self, trial: Trial) -> None:
        """Put a trial to the job that it needs next."""
        if trial.config.curriculum is None:
            epochs = 0 if trial.config.training is None else trial.config.training.epochs
            job = Job("trial", trial.name, trial.signature, trial.config, again=self._again)
            self._join(trial, _Open(job), 1, epochs)
            return
        taught: tuple[Taught, ...] = ()
        before = ""
        while True:
            try:
                stages = trial.config.stages(taught)
            except GateMissed as error:
                self._stopped.append(Outcome(trial, str(error)))
                return
            if len(taught) == len(stages):
                job = Job("conclusion", trial.name, trial.signature, trial.config, before, self._again)
                self._join(trial, _Open(job, "evaluation"), 2, 0)
                return
            stage = stages[len(taught)]
            digest = trial.config.study.data_digest(self._source)
            signature = trial.config.stage_signature(digest, stages[: len(taught) + 1])
            known = self._known(signature)
            if not known:
                job = Job("stage", trial.name, signature, trial.config, before, self._again)
                remaining = sum(later.phase.epochs for later in stages[len(taught) :])
                self._join(trial, _Open(job, stage.name), 0, remaining)
                return
            before, taught = signature, known

    def _known(self, signature: str) -> tuple[Taught, ...]:
        """Give the stages up to one that is finished; none if it is not."""
        if signature not in self._taught and not self._again:
            stored = self._store.get_stage(signature)
            if stored is not None:
                self._taught[signature] = Taught.of(stored)
        return self._taught.get(signature, ())

    def _join(self, trial: Trial, entry: _Open, rank: int, remaining: int) -> None:
        """Let a trial take part in a job, which is as urgent as the longest way after it."""
        entry = self._open.setdefault(entry.job.signature, entry)
        entry.trials.append(trial)
        self._pushed += 1
        urgency = (trial.role != "baseline", rank, -remaining)
        heapq.heappush(self._ready, (urgency, self._pushed, entry.job.signature))


class Forest:
    """Trees of trials that read different data, as one supply; the most urgent job of all goes first.

    Parameters
    ----------
    trees
        In the order of the sources that `farm.tuning.engine.execute` is given.
    """

    def __init__(self, trees: Sequence[StageTree]) -> None:
        self._trees = trees

    @property
    def finished(self) -> bool:
        """See `farm.tuning.engine.Supply`."""
        return all(tree.finished for tree in self._trees)

    def next(self) -> Job | None:
        """See `farm.tuning.engine.Supply`."""
        ready = [(tree.urgency, number) for number, tree in enumerate(self._trees) if tree.urgency]
        if not ready:
            return None
        _, number = min(ready)
        job = self._trees[number].next()
        assert job is not None  # it has just said how urgent one is
        return replace(job, source=number)

    def ended(self, job: Job, error: str) -> list[Outcome]:
        """See `farm.tuning.engine.Supply`."""
        return self._trees[job.source].ended(job, error)

    def stopped(self) -> list[Outcome]:
        """See `StageTree.stopped`."""
        return [outcome for tree in self._trees for outcome in tree.stopped()]


@dataclass
class _Open:
    """A job that has not ended, with the trials that need it."""

    job: Job
    stage: str = ""
    trials: list[Trial] = field(default_factory=list)
    begun: bool = False

    def named(self) -> Job:
        """Give the job, named for people by what it does and for whom."""
        if not self.stage:
            return self.job
        others = f" and {len(self.trials) - 1} more" if len(self.trials) > 1 else ""
        return replace(self.job, name=f"{self.stage} of {self.job.name}{others}")
