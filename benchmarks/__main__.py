"""Measure every row, or the named ones, and write their tables into docs/performance.md.

    python -m benchmarks [ROW ...] [--data PANEL.parquet --market SPY] [--neuralforecast] [--quick]

The page keeps its prose; a row's table stands between ``<!-- begin ROW -->`` and ``<!-- end -->``. It
ends with code 1 if a target is missed. ``--quick`` runs each way once on small data and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks import ablation, golden, memory, surface, sweeps
from benchmarks.measure import ROOT, Line, NotHere, peak_gflops

PAGE = ROOT / "docs" / "performance.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "farm-benchmarks"


def neuralforecast() -> Path:
    """Make the environment that neuralforecast runs in, once; give its Python."""
    folder = CACHE / "neuralforecast"
    interpreter = folder / "bin" / "python"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(interpreter), "-m", "pip", "install", "--quiet", *ablation.NEURALFORECAST]
        subprocess.run(install, check=True)
        (folder / "made").touch()
    return interpreter


def table(lines: list[Line]) -> str:
    """Lay lines out, with when and where they were measured."""
    head = ["", "measured", "target", "reached", "of what"]
    rows = [head, ["---", "---:", "---:", "---", "---"], *(line.cells() for line in lines)]
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    load = os.getloadavg()[1]
    where = (
        f"{when}, {os.cpu_count()} cores, {_processor()}, load {load:.1f},"
        f" peak {peak_gflops(1):.0f} Gflop/s on one thread"
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n*{where}*\n"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.*)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    return found[1].strip() if found else platform.machine()


def write(name: str, text: str) -> None:
    """Put a table between its markers."""
    page = PAGE.read_text()
    block = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not block.search(page):
        raise RuntimeError(f"{PAGE.name} has no markers for {name}")
    PAGE.write_text(block.sub(lambda found: found[1] + text + found[2], page))


def main() -> int:
    """Measure, print and write; give the exit code."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    asked.add_argument("rows", nargs="*", metavar="ROW")
    asked.add_argument("--data", type=Path, help="panel of the row ablation, which is not bundled")
    asked.add_argument("--market", default="SPY", help="its market")
    asked.add_argument("--neuralforecast", action="store_true", help="measure it too; installs it at first")
    asked.add_argument("--quick", action="store_true", help="small data, each way once; writes nothing")
    given = asked.parse_args()
    other = neuralforecast() if given.neuralforecast and given.data else None
    every: dict[str, Callable[[bool], list[Line]]] = {
        "ablation": partial(ablation.rows, given.data and given.data.resolve(), given.market, other),
        "overhead": sweeps.overhead,
        "noop": sweeps.noop,
        "logging": sweeps.logging,
        "again": sweeps.again,
        "memory": memory.rows,
        "surface": surface.rows,
        "golden": golden.rows,
    }
    unknown = [name for name in given.rows if name not in every]
    if unknown:
        asked.error(f"unknown row {unknown[0]!r}: expected some of {', '.join(every)}")
    missed = False
    for name in given.rows or every:
        began = time.monotonic()
        try:
            lines = every[name](given.quick)
        except NotHere as reason:
            print(f"{name}: skipped: {reason}", flush=True)
            continue
        told = table(lines)
        print(f"{name}, {time.monotonic() - began:.0f} s\n{told}", flush=True)
        missed |= not all(line.met for line in lines)
        if not given.quick:
            write(name, told)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
