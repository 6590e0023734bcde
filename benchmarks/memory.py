"""A panel of 500 tickers over 20 years: what windows and workers add to its size."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.idle import IdlePanel, idle_plan, made_up_panel
from benchmarks.measure import Line, python, told
from farm.data.door import load_panel
from farm.data.panel import Panel
from farm.studies.forecast import ForecastStudy

TICKERS, DAYS = 500, 5040
EVERY = 0.3  # seconds between two looks at a node's memory


def rows(quick: bool) -> list[Line]:
    """Cut windows of one ticker, and run sweeps with more and more workers in processes of their own."""
    tickers = 50 if quick else TICKERS
    with tempfile.TemporaryDirectory() as folder:
        panel = read_panel(tickers, Path(folder))
    size = panel_bytes(panel)
    study = ForecastStudy(ticker="T0", market="MARKET", features="feat")
    data = study.dataset(panel)
    windows, base = data.train.x, _owner(data.train.x)
    shared = np.shares_memory(windows, data.val.x) or base is _owner(data.val.x)
    how = "one array holds all blocks" if shared else "A BLOCK WAS COPIED"
    copied = sum(len(block) for block in (data.train, data.val)) * windows[0].nbytes / 2**20
    lines = [
        Line(
            "MiB that hold the windows of a ticker",
            base.nbytes / 2**20,
            "<=",
            1.0,
            f"copied they would be {copied:.1f} MiB; {how}",
        )
    ]
    for workers in (1, 2, 4):
        with_panel, without = (
            told(python("-m", "benchmarks.memory", str(workers), str(count))[1]) for count in (tickers, 2)
        )
        for what, key, target in (("node", "all", 1.5), ("processes of Ray alone", "ray", 0.0)):
            growth = (with_panel[key] - without[key]) / size
            lines.append(
                Line(
                    f"times the panel: growth of the {what}, {workers} workers",
                    growth,
                    "<=" if target else "",
                    target,
                    f"{size / 2**20:.0f} MiB of panel",
                )
            )
    return lines


def read_panel(tickers: int, folder: Path) -> Panel:
    """Draw a panel, write it, and read it as a user's file is read, in a process that did not draw it."""
    path = folder / f"{tickers}.parquet"
    python("-m", "benchmarks.memory", "draw", str(tickers), str(path))
    return load_panel(path)


def draw(tickers: int, path: Path) -> None:
    """Draw a panel into a file."""
    made_up_panel((*(f"T{number}" for number in range(tickers)), "MARKET"), DAYS).frame().to_parquet(path)


def panel_bytes(panel: Panel) -> int:
    """Count what its arrays hold; tickers may share their days."""
    arrays = {id(array): array for bars in panel.bars.values() for array in (bars.values, bars.dates)}
    return sum(array.nbytes for array in arrays.values())


def _owner(array: Any) -> Any:
    """Find the array that a view looks at."""
    while getattr(array, "base", None) is not None:  # a sliding view has one that is no array between
        array = array.base
    return array


def _tree(root: int) -> dict[int, int]:
    """Give the proportional memory of a process and all below it, in bytes by process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    inside, found = {root}, {}
    grown = True
    while grown:
        more = {child for child, parent in parents.items() if parent in inside} - inside
        inside |= more
        grown = bool(more)
    for number in inside:
        try:
            lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        found[number] = 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return found


def main() -> None:
    """Run a sweep over a panel with some workers; print the most memory that it took after reading."""
    import json
    import os
    import sys

    from farm.base.search_space import Resources
    from farm.store import Store
    from farm.tuning.engine import execute
    from farm.tuning.stage_tree import StageTree

    if sys.argv[1] == "draw":
        draw(int(sys.argv[2]), Path(sys.argv[3]))
        return
    workers, tickers = map(int, sys.argv[1:3])
    plan = idle_plan(4 * 4 * workers, 0.3)
    small = plan.source
    assert isinstance(small, Panel)
    with tempfile.TemporaryDirectory() as folder:
        bars = read_panel(tickers, Path(folder)).bars
    plan = replace(plan, source=IdlePanel({**bars, **small.bars}, "made up"))
    most = {"ray": 0, "all": 0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            held = _tree(os.getpid())
            own = held.pop(os.getpid(), 0)
            most["ray"] = max(most["ray"], sum(held.values()))
            most["all"] = max(most["all"], sum(held.values()) + own)

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder).open()
        watcher = threading.Thread(target=watch)
        watcher.start()
        execute(
            StageTree(plan.trials, plan.source, store),
            [plan.source],
            store,
            on_event=lambda event: None,
            concurrency=workers,
            resources=Resources(gpu=0.0),
        )
        over.set()
        watcher.join()
    json.dump(most, sys.stdout)
    print()


if __name__ == "__main__":
    main()
