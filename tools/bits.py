"""Digests and values of every bundled sweep's forecasts and scores: ``make bits``, ``make bits BASE=COMMIT``.

A change of structure keeps the bits. Every trial of every bundled sweep is run, smaller than ``--quick``, by
the one function that runs a trial, without Ray, MLflow or a store, and what it forecasts is kept by what it
is: sweep, variant, item, seed and block, never by its signature, which may change. The files lie in a cache
folder of the user's and are named by the commit (``-changed`` where tracked files differ from it) and by the
processor and torch, since other processors round differently.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DRAWS = 2  # configs of each search
# In place of what a sweep's own `quick` has: one epoch of each network and phase, few paths.
SETTINGS = {"training.epochs": 1, "study.samples": 8, "curriculum.epoch_share": 1e-4}
STARTS = {"latent": "2015-01-02", "weights-generate": "2015-01-02"}
SURFACE_ROWS = slice(4200, 6100)  # 2006 to 2014, 2008 to 2010 among the days that are learnt from
SHORT_RECORD = {"study.split.least_val": 360}  # for the longest horizon of `horizons`
NOT_COMPARED = ("cost/",)  # seconds


def main() -> None:
    """Write the file of this checkout, or compare it with that of another commit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base", nargs="?", help="a commit to compare with")
    parser.add_argument("--only", default="", help="sweeps, separated by commas; for trying things out")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    only = tuple(filter(None, options.only.split(",")))
    if options.out:
        write(options.out, only)
        return
    here = folder() / f"{commit('HEAD')}{'-changed' if changed() else ''}{'-'.join(('', *only))}.npz"
    if options.base:
        there = folder() / f"{commit(options.base)}{'-'.join(('', *only))}.npz"
        if not there.exists():
            write_commit(options.base, there, only)
    if changed() or not here.exists():
        write(here, only)
    if options.base:
        sys.exit(compare(there, here))


def folder() -> Path:
    """Return the folder of this user's files for this processor, made if need be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = cache / "farm" / "bits" / machine()
    found.mkdir(parents=True, exist_ok=True)
    return found


def machine() -> str:
    """Name what decides the last bits of a sum: the processor's make and model, and torch's release."""
    from importlib.metadata import version

    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else platform.processor()
    which = " ".join(re.findall(r"^(?:vendor_id|cpu family|model|flags)\s*:\s*(.*)$", text, re.MULTILINE)[:4])
    return hashlib.sha256(f"{which or text} {version('torch')}".encode()).hexdigest()[:12]


def git(*arguments: str) -> str:
    """Return what git says about this checkout."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bits: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def commit(name: str) -> str:
    """Return the first twelve digits of a commit."""
    return git("rev-parse", "--verify", f"{name}^{{commit}}")[:12]


def changed() -> bool:
    """Return whether tracked files differ from the commit."""
    return bool(git("status", "--porcelain", "--untracked-files=no"))


def write_commit(name: str, path: Path, only: tuple[str, ...]) -> None:
    """Write the file of another commit, by that commit's own tool in a worktree of its own."""
    print(f"no file of {name} for this processor: made from a worktree", flush=True)
    with tempfile.TemporaryDirectory(prefix="farm-bits-") as temporary:
        tree = Path(temporary) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit(name))
        try:
            if not (tree / "tools" / "bits.py").exists():  # a commit older than this tool
                shutil.copy(__file__, tree / "tools" / "bits.py")
            command = [sys.executable, "tools/bits.py", "--out", str(path), "--only", ",".join(only)]
            subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)
        finally:
            git("worktree", "remove", "--force", str(tree))


def write(path: Path, only: tuple[str, ...] = ()) -> None:
    """Run every trial on two cores and write what they forecast, whole or not at all."""
    started = time.monotonic()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    groups, names, left_out = planned(only)
    arrays: dict[str, Any] = {}
    _GROUPS.extend(groups)
    with multiprocessing.get_context("fork").Pool(2, initializer=_one_thread) as pool:
        done = pool.imap_unordered(_run_group, range(len(groups)))
        for count, found in enumerate(done, start=1):
            for signature, result in found.items():
                for name in names[signature]:
                    arrays |= {f"{name}/{key}": value for key, value in result.items()}
            if sys.stdout.isatty():
                print(f"\r{count} of {len(groups)} groups of trials", end="", flush=True)
    import numpy as np

    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    aside = path.with_suffix(".part")
    aside.write_bytes(content.getvalue())
    aside.replace(path)
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    print(f"{len(names)} trials, {len(arrays)} arrays, {time.monotonic() - started:.0f} s: {path}")


_GROUPS: list[list[tuple[str, Any, Any]]] = []  # read by the processes that are forked


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def planned(
    only: tuple[str, ...],
) -> tuple[list[list[tuple[str, Any, Any]]], dict[str, list[str]], dict[str, str]]:
    """Plan the sweeps.

    Returns
    -------
    groups
        Signature, config and data of each trial once; those that may share stages lie together, and the
        groups that take longest come first.
    names
        What each signature is: ``sweep/variant/replicate/seed``, for each place where it stands.
    left_out
        Why a sweep is left out, by its name.
    """
    from farm.base.errors import UserError

    groups: dict[str, list[tuple[str, Any, Any]]] = {}
    names: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    for sweep, trials, source in _sweeps(only, left_out):
        for trial in trials:
            label = f"{sweep}/{trial.row}/{trial.ticker}/{trial.config.seed}"
            if trial.signature not in names:
                key = trial.signature
                if trial.config.curriculum is not None:
                    try:
                        digest = trial.config.study.data_digest(source)
                        key = trial.config.stage_signature(digest, trial.config.stages()[:1])
                    except UserError:
                        pass
                groups.setdefault(key, []).append((trial.signature, trial.config, source))
            if label not in names.setdefault(trial.signature, []):
                names[trial.signature].append(label)

    def weight(group: list[tuple[str, Any, Any]]) -> tuple[bool, int, bool]:
        config = group[0][1]
        return config.curriculum is not None, len(group), config.training is not None

    return sorted(groups.values(), key=weight, reverse=True), names, left_out


def _sweeps(only: tuple[str, ...], left_out: dict[str, str]) -> Iterator[tuple[str, list[Any], Any]]:
    """Resolve every bundled sweep, smaller than quick; a search adds configs drawn from its ranges."""
    import importlib

    from farm.base.errors import UserError
    from farm.sweep import load_sweep, read_source, sweeps

    sources: dict[Any, Any] = {}
    for name in sweeps():
        studies = getattr(importlib.import_module(f"search_spaces.{name}"), "STUDIES", {None: None})
        for study in studies:
            called, declared = load_sweep(name, study)
            if only and called not in only:
                continue
            quick = {key: SETTINGS.get(key, value) for key, value in declared.quick.items()}
            if declared.replicate == "surfaces":
                quick |= SHORT_RECORD
            start = STARTS.get(called, declared.start)
            declared = declared.model_copy(update={"start": start, "quick": quick})
            key = (declared.replicate == "surfaces", declared.panel)
            try:
                if key not in sources:
                    source = read_source(declared)
                    sources[key] = _shortened(source) if key[0] else source
                yield called, *_resolved(called, declared, sources[key])
            except UserError as error:
                left_out[called] = str(error)


def _resolved(name: str, declared: Any, source: Any) -> tuple[list[Any], Any]:
    import numpy as np

    from farm.plan import Options, make_plan
    from farm.space import make_search

    tickers = declared.tickers[:1] if declared.replicate == "ticker" else None
    plan = make_plan(name, declared, source, Options(tickers=tickers, seeds=1, quick=True))
    trials = list(plan.trials)
    if declared.search is not None:
        space = make_search(plan, {}, quick=True).space
        for i in range(DRAWS):
            rng = np.random.default_rng(i)
            values = space.draw(lambda key, wanted, rng=rng: _drawn(wanted, rng))
            trials += space.trials(f"draw {i + 1}", values)
    return trials, plan.source


def _drawn(wanted: Any, rng: Any) -> Any:
    """Draw a value of a range; linear in a logarithmic one too, which is as good here."""
    if hasattr(wanted, "options"):
        return wanted.options[int(rng.integers(len(wanted.options)))]
    value = wanted.low + rng.random() * (wanted.high - wanted.low)
    return round(value) if isinstance(wanted.low, int) else float(value)


def _shortened(surfaces: Any) -> Any:
    days = len(surfaces)
    cut = {
        field.name: getattr(surfaces, field.name)[SURFACE_ROWS]
        for field in dataclasses.fields(surfaces)
        if hasattr(getattr(surfaces, field.name), "shape") and len(getattr(surfaces, field.name)) == days
    }
    return dataclasses.replace(surfaces, **cut)


def _run_group(number: int) -> dict[str, dict[str, Any]]:
    """Run trials one after the other, each stage that several have in common once."""
    import numpy as np

    stages: dict[str, Any] = {}
    found = {}
    for signature, config, source in _GROUPS[number]:
        try:
            found[signature] = dict(_arrays(_result(config, source, stages)))
        except Exception as error:  # noqa: BLE001  (a trial that fails must go on failing in the same way)
            found[signature] = {"error": np.array(f"{type(error).__name__}: {error}"[:300])}
    return found


def _result(config: Any, source: Any, known: dict[str, Any]) -> Any:
    from farm.evaluation.stages import Taught
    from farm.experiment import advance, conclude, run

    if config.curriculum is None:
        return run(config, source, device="cpu")
    digest, after = config.study.data_digest(source), None
    while True:
        taught = Taught.of(after)
        stages = config.stages(taught)
        if len(taught) == len(stages):
            return conclude(config, source, after, device="cpu")
        name = config.stage_signature(digest, stages[: len(taught) + 1])
        if name not in known:
            known[name] = advance(config, source, after, device="cpu")
        after = known[name]


def _arrays(result: Any) -> Iterator[tuple[str, Any]]:
    """Lay out an evaluation: ``item/block/evaluation/what`` of forecasts, and ``scores`` by name."""
    import numpy as np

    evaluation = result.evaluation.test
    scores = {name: v for name, v in result.metrics.items() if not name.startswith(NOT_COMPARED)}
    for name, value in scores.items():
        yield f"scores/{name}", np.float64(value)
    yield "warnings", np.array(json.dumps(result.tags, sort_keys=True))
    items = np.array(evaluation.items or [""] * len(evaluation.actual))
    for item in dict.fromkeys(items.tolist()):
        mine = items == item
        yield f"{item}/test/days", evaluation.times[mine].astype("datetime64[D]").astype(np.int64)
        yield f"{item}/test/actual", evaluation.actual[mine]
        for name, forecast in evaluation.forecasts.items():
            yield f"{item}/test/{name}/point", forecast.point[mine]
            if forecast.quantiles is not None:
                yield f"{item}/test/{name}/quantiles", forecast.quantiles[mine]
                yield f"{item}/test/{name}/levels", np.array(forecast.levels)


def compare(base: Path, here: Path) -> int:
    """Print whether two files are equal, or what differs and by how much; return the exit code."""
    import numpy as np

    with np.load(base) as one, np.load(here) as other:
        only = [(f"only in {path.stem}", sorted(set(a.files) - set(b.files)))
                for path, a, b in ((base, one, other), (here, other, one))]  # fmt: skip
        shared = sorted(set(one.files) & set(other.files))
        with zipfile.ZipFile(base) as left, zipfile.ZipFile(here) as right:
            unequal = [key for key in shared if left.read(f"{key}.npy") != right.read(f"{key}.npy")]
        differing = [f"{key}: {_apart(one[key], other[key])}" for key in unequal]
    for what, keys in only:
        for key in keys:
            print(f"{what}: {key}")
    for line in differing:
        print(line)
    lost = sum(len(keys) for _, keys in only)
    if not differing and not lost:
        print(f"equal: {len(shared)} arrays of {base.stem} and {here.stem}")
        return 0
    print(f"{len(shared) - len(differing)} equal, {len(differing)} differ, {lost} in one alone")
    return 1


def _apart(one: Any, other: Any) -> str:
    """Say how far two arrays are apart."""
    import numpy as np

    if one.dtype.kind in "US" or other.dtype.kind in "US":
        return f"{one} | {other}"
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.dtype} {one.shape} | {other.dtype} {other.shape}"
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    where = np.nanargmax(apart) if np.isfinite(apart).any() else 0
    return f"by at most {apart.flat[where]:.3g} ({one.flat[where]:.6g} | {other.flat[where]:.6g})"


if __name__ == "__main__":
    main()
