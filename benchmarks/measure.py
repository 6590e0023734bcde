"""What every row of the benchmark is measured and told with."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class NotHere(Exception):
    """A row cannot be measured on this machine; the message says why."""


@dataclass(frozen=True)
class Line:
    """One number and its target.

    Parameters
    ----------
    what
        What it is, with its unit.
    value
        The number.
    sign, target
        ``>=`` or ``<=`` and what to reach; ``""`` for a number that is told for itself.
    note
        What it was made of.
    """

    what: str
    value: float
    sign: str = ""
    target: float = 0.0
    note: str = ""

    @property
    def met(self) -> bool:
        """Say whether the target is reached; one without a target is."""
        return {"": True, ">=": self.value >= self.target, "<=": self.value <= self.target}[self.sign]

    def cells(self) -> list[str]:
        """Give the cells of a table."""
        target = f"{self.sign.replace('>=', '≥').replace('<=', '≤')} {self.target:g}" if self.sign else ""
        reached = ("yes" if self.met else "**no**") if self.sign else ""
        return [self.what, f"{self.value:.3g}", target, reached, self.note]


def alternately(
    ways: Sequence[Callable[[], Any]], times: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Run each way in turn, several times over, and give the median seconds of each.

    What else the machine does then falls on all of them alike.
    """
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(times):
        for way, own in zip(ways, seconds, strict=True):
            began = clock()
            way()
            own.append(clock() - began)
    return [statistics.median(own) for own in seconds]


def python(
    *arguments: str, folder: Path | None = None, interpreter: str = sys.executable, **environment: str
) -> tuple[float, str]:
    """Run Python on the farm's root in a process of its own; give its wall seconds and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [interpreter, *arguments],
        cwd=folder or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout


def told(output: str) -> Any:
    """Read the JSON of the last line that a process printed."""
    return json.loads(output.strip().splitlines()[-1])


def peak_gflops(threads: int, size: int = 1024) -> float:
    """Measure what float32 matrix products reach, the machine's limit for training."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        one, other = torch.randn(2, size, size)
        best = min(alternately([lambda: one @ other], 1)[0] for _ in range(12))
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / best / 1e9
