"""What a sweep costs beside its trials: no-op trials, overhead, logging, and the second run."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.measure import Line, alternately, python, told

METRICS, EPOCHS = 10, 30


class _Trial:
    """As much of a Tune trial as Ray's callback reads."""

    def __init__(self, name: str) -> None:
        self.name, self.config = name, {"seed": 0}

    def __str__(self) -> str:
        return self.name


def idle(trials: int, seconds: float = 0.0, folder: Path | None = None) -> dict[str, Any]:
    """Run a sweep of idle trials in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        wall, said = python(
            "-m", "benchmarks.overhead", "--trials", str(trials), "--seconds", str(seconds),
            "--folder", str(folder or scratch),
        )  # fmt: skip
    return {**told(said), "wall": wall}


def noop(quick: bool) -> list[Line]:
    """Time trials that do nothing, between the first tenth of a sweep and its last."""
    lines, growths = [], []
    for trials in (40, 100) if quick else (100, 1000, 5000):
        found = idle(trials)
        steps = found["steps"]
        ended = steps[-1]["ended"] - steps[0]["ended"]
        each = {name: (steps[-1][name] - steps[0][name]) / ended for name in ("at", "cpu", "rss")}
        lines.append(
            Line(
                f"ms of wall time for each of {trials} no-op trials",
                1000 * each["at"],
                "<=",
                50.0,
                f"of which the driver computes {1000 * each['cpu']:.0f} ms; {os.cpu_count()} cores",
            )
        )
        growths.append(Line(f"KiB of the driver's memory a trial, {trials} trials", 1024 * each["rss"]))
        halves = [
            statistics.median(b["cpu"] - a["cpu"] for a, b in pairwise(part))
            for part in (steps[: len(steps) // 2 + 1], steps[len(steps) // 2 :])
        ]
        if trials == (100 if quick else 5000):
            lines.append(
                Line("times the driver's cost of a late trial that of an early one", halves[1] / halves[0],
                     "<=", 1.2, f"over {trials} trials")
            )  # fmt: skip
    return lines + growths


def overhead(quick: bool) -> list[Line]:
    """Compare the wall time of the whole command with that of its trials alone."""
    trials, seconds, workers = (8, 2.0, 2) if quick else (200, 2.0, os.cpu_count() or 1)
    found = idle(trials, seconds)
    alone = trials * seconds / workers
    first, last = found["steps"][0]["at"], found["last"]
    return [
        Line(
            f"% of wall time beyond {trials} trials of {seconds:g} s",
            100 * (found["wall"] - alone) / alone,
            "<=",
            5.0,
            f"{found['wall']:.1f} s for {alone:.0f} s on {workers} cores; {first - found['began']:.1f} s"
            f" to the end of the first tenth, {found['ended'] - last:.1f} s after the last trial",
        )
    ]


def again(quick: bool) -> list[Line]:
    """Time what must be immediate: help, a dry run, and a sweep that has nothing left to do."""
    from benchmarks.idle import TICKERS

    bare = statistics.median(python("-m", "farm.sweep", "--help")[0] for _ in range(3))
    trials = 100 if quick else 1000
    with tempfile.TemporaryDirectory() as folder:
        idle(trials - len(TICKERS), folder=Path(folder))
        second = idle(trials - len(TICKERS), folder=Path(folder))["wall"]
        seeds = 10_000 // 28
        dry, said = python(
            "-m", "farm.sweep", "ablation", "--seeds", str(seeds), "--dry-run", folder=Path(folder)
        )
    return [
        Line("s of `python -m farm.sweep --help`", bare, "<=", 1.0),
        Line("s of a finished sweep run again", second, "<=", 10.0, f"{trials} trials, verdict included"),
        Line("s of `--dry-run`", dry, "<=", 5.0, f"{said.count(chr(10))} lines, about 10,000 trials"),
    ]


def logging(quick: bool) -> list[Line]:
    """Log trials of 30 epochs with 10 metrics each, as the farm does and as Ray's callback does."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    from benchmarks.idle import idle_plan
    from farm.tracking import Tracking

    names = [f"metric_{number}" for number in range(METRICS)]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            own = Tracking("sqlite:///farm.db", idle_plan(4), {})
            ray = MLflowLoggerCallback(tracking_uri="sqlite:///ray.db", experiment_name="peer")
            ray.setup()
            count = iter(range(10**6))

            def farm() -> None:
                run = own._create("trial", {"farm.role": "trial"}, 0)
                points = [(name, 0.5, epoch) for epoch in range(EPOCHS) for name in names]
                own._finish(run.info.run_id, points, {"seed": "0"}, int(1000 * time.time()))

            def callback(epochs: int = EPOCHS) -> None:
                trial = _Trial(str(next(count)))
                ray.log_trial_start(trial)
                for epoch in range(epochs):
                    ray.log_trial_result(
                        epoch, trial, {**dict.fromkeys(names, 0.5), "training_iteration": epoch + 1}
                    )
                ray.log_trial_end(trial)

            farm()  # the first statements of a kind are compiled
            callback(1)
            mine, theirs = alternately([farm, callback], 1 if quick else 3)
        finally:
            os.chdir(before)
    return [
        Line(
            "times cheaper than Ray's MLflow callback",
            theirs / mine,
            ">=",
            50.0,
            f"{1000 * mine:.0f} ms a trial of {EPOCHS} epochs x {METRICS} metrics instead of"
            f" {1000 * theirs:.0f} ms, both on sqlite",
        )
    ]
