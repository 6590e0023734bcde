"""Run a sweep of idle trials in this process and say where its time went.

    python -m benchmarks.overhead --trials 200 --seconds 2

It prints one line of JSON; `benchmarks.rows` runs it in a process of its own, so that start-up counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

STARTED = time.time()


@dataclass
class Steps:
    """What the process has used whenever a tenth of the trials has been logged."""

    every: int
    ended: int = 0
    last: float = 0.0  # when the last one so far ended
    rows: list[dict[str, float]] = field(default_factory=list)

    def tell(self) -> None:
        """Count a trial that has ended."""
        self.ended += 1
        self.last = time.time()
        if self.ended % self.every == 0:
            self.rows.append(
                {"ended": self.ended, "at": time.time(), "cpu": time.process_time(), "rss": resident()}
            )


def resident() -> float:
    """Give the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Run it."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--trials", type=int, default=100)
    asked.add_argument("--seconds", type=float, default=0.0)
    asked.add_argument("--concurrency", type=int, default=os.cpu_count())
    asked.add_argument("--folder", default="", help="where a finished one is kept, to be run again")
    given = asked.parse_args()

    from rich.console import Console

    from farm.base.command_line import collect_seldom

    collect_seldom()  # as a command does

    from benchmarks.idle import idle_plan
    from farm.drive import Runtime, drive
    from farm.report.progress import Progress

    steps = Steps(max(1, given.trials // 10))
    finished = Progress.finished

    def heard(self: Progress, name: str, ratio: float | None) -> None:
        finished(self, name, ratio)
        steps.tell()

    Progress.finished = heard  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(given.folder or scratch)
        runtime = Runtime(
            "farm_store",
            "sqlite:///mlflow.db",
            given.concurrency,
            None,
            dry_run=False,
            rerun=False,
            checkpoint_every=30.0,
            command="benchmarks.overhead",
        )
        plan = idle_plan(given.trials, given.seconds)
        imported = time.time()
        with Path("log.txt").open("w") as log:
            code = drive(plan, None, runtime, Console(file=log, width=120)).code
    now = {"at": time.time(), "cpu": time.process_time(), "rss": resident()}
    told = {
        "trials": len(plan.trials),
        "code": code,
        "began": STARTED,
        "planned": imported,
        "last": steps.last,
    }
    json.dump({**told, "ended": now["at"], "cpu": now["cpu"], "steps": steps.rows}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
