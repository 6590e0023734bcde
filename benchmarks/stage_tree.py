"""What the tree of stages saves: the sweeps `curriculum` and `offsets` together, with two seeds, both ways.

    python benchmarks/stage_tree.py

Each trial is run from scratch, and all of them as a tree, by the same engine with the same number of
workers in the same process tree. The horizons, offsets and shares of epochs are the plan's; epochs are
reduced to 8 % (16, 12, 10 and 10), the network and the training block are small, and few paths are
generated, so that it takes minutes. It prints ratios beside their targets and ends with code 1 if one is
missed or if a single number or weight differs.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from farm.base.search_space import Resources
from farm.plan import Options, Trial, make_plan
from farm.store import Store
from farm.studies.study import Source
from farm.sweep import load_sweep, read_source
from farm.tuning.engine import Event, Job, Outcome, Supply, execute
from farm.tuning.stage_tree import StageTree, stage_nodes

SEEDS, WORKERS = 2, 2
SETTINGS = {
    "curriculum.epoch_share": 0.08,
    "model.hidden_size": 16,
    "training.batch_size": 64,
    "training.learning_rate": 1e-3,
    "study.samples": 2,
    "study.split.train": 500,
    "study.split.calibration": 0.0,
    "study.split.test": 0.0,
}
TARGETS = {"epochs": 3.0, "wall": 2.0, "idle": 0.05}


class FromScratch:
    """Whole trials, one after the other."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._waiting = [Job("trial", one.name, one.signature, one.config) for one in trials]
        self._trials = {one.signature: one for one in trials}

    @property
    def finished(self) -> bool:
        """See `Supply`."""
        return not self._trials

    def next(self) -> Job | None:
        """See `Supply`."""
        return self._waiting.pop(0) if self._waiting else None

    def ended(self, job: Job, error: str) -> list[Outcome]:
        """See `Supply`."""
        return [Outcome(self._trials.pop(job.signature), error)]


@dataclass
class Clock:
    """When each job was begun and left by its worker."""

    spans: dict[str, tuple[str, float, float]] = field(default_factory=dict)

    def hear(self, event: Event) -> None:
        """Take an event of the engine."""
        if event.kind == "failed":
            sys.exit(f"{event.job.name}: {event.error}")
        if event.kind == "finished":
            self.spans[event.job.signature] = (event.job.before, event.began, event.left)

    @property
    def wall(self) -> float:
        """Give the seconds from the first job's beginning to the last one's end."""
        return max(left for _, _, left in self.spans.values()) - self.start

    @property
    def start(self) -> float:
        """Give when the first job was begun."""
        return min(began for _, began, _ in self.spans.values())

    def idle(self, workers: int) -> float:
        """Give the share of the workers' time in which one was idle although a job was ready.

        A job is ready when the one that it goes on from has been left by its worker; the first ones
        are from the beginning.
        """
        ready = {
            name: self.spans[before][2] if before else self.start
            for name, (before, _, _) in self.spans.items()
        }
        moments = sorted({moment for _, *span in self.spans.values() for moment in span})
        lost = 0.0
        for one, next_one in pairwise(moments):
            middle = (one + next_one) / 2
            busy = sum(began <= middle < left for _, began, left in self.spans.values())
            waiting = sum(ready[name] <= middle < began for name, (_, began, _) in self.spans.items())
            lost += (next_one - one) * min(workers - busy, waiting)
        return lost / (workers * self.wall)


def trials_of_both() -> tuple[list[Trial], Source]:
    """Give the trials of both sweeps, each once."""
    trials: dict[str, Trial] = {}
    for name in ("curriculum", "offsets"):
        declared = load_sweep(name)[1]
        plan = make_plan(name, declared, read_source(declared), Options(seeds=SEEDS, settings=SETTINGS))
        for trial in plan.trials:
            if trial.role == "variant":
                trials.setdefault(trial.signature, trial)
    return list(trials.values()), plan.source


def measure(supply: Supply, source: Source, store: Store) -> Clock:
    """Run a supply to its end."""
    clock = Clock()
    execute(
        supply,
        [source],
        store,
        on_event=clock.hear,
        concurrency=WORKERS,
        resources=Resources(gpu=0.0),
    )
    return clock


def differing(trials: Sequence[Trial], one: Store, other: Store) -> list[str]:
    """Name the trials whose scores, weights or forecasts are not the same to the bit."""
    names = []
    for trial in trials:
        left, right = (store.get(trial.signature) for store in (one, other))
        if left is None or right is None:
            names.append(trial.name)
            continue
        weights = [store.model_state(trial.signature) for store in (one, other)]
        scores = [
            {name: value for name, value in record.metrics.items() if not name.endswith("_seconds")}
            for record in (left, right)
        ]
        same = all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
        if not (same and scores[0] == scores[1] and left.content == right.content):
            names.append(trial.name)
    return names


def main() -> int:
    """Run both ways and print how they compare."""
    trials, source = trials_of_both()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        stores = [Store(str(Path(folder) / name)).open() for name in ("scratch", "tree")]
        nodes = stage_nodes(trials, source, stores[1]).values()
        scratch = sum(node.epochs * len(node.trials) for node in nodes)
        tree = sum(node.epochs for node in nodes)
        print(f"{len(trials)} trials, {len(nodes)} stages, {WORKERS} workers on {os.cpu_count()} cores")
        alone = measure(FromScratch(trials), source, stores[0])
        print(f"from scratch: {scratch} epochs, {alone.wall:.1f} s")
        shared = measure(StageTree(trials, source, stores[1]), source, stores[1])
        print(f"as a tree:    {tree} epochs, {shared.wall:.1f} s")
        unlike = differing(trials, *stores)
    idle = shared.idle(WORKERS)
    rows = [
        ("times fewer epochs", scratch / tree, ">=", TARGETS["epochs"]),
        ("times less wall time", alone.wall / shared.wall, ">=", TARGETS["wall"]),
        ("share of idle workers while a stage is ready", idle, "<=", TARGETS["idle"]),
    ]
    met = not unlike
    for name, value, sign, target in rows:
        good = value >= target if sign == ">=" else value <= target
        met &= good
        print(f"{value:8.3f}  {name}, target {sign} {target:g}: {'met' if good else 'MISSED'}")
    print(f"same scores, forecasts and weights to the bit: {'yes' if not unlike else f'NO: {unlike}'}")
    print(f"{time.monotonic() - started:.0f} s in all")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
