"""Every sweep as one: what is missing of all of them first, then each one's search, verdict and page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from farm.base.command_line import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, optional
from farm.base.errors import UserError
from farm.base.search_space import Resources
from farm.data.panel import Panel
from farm.drive import PAGE, RESULTS, Driven, Runtime, check_places, drive
from farm.plan import Plan, Trial
from farm.report.index import SweepLine, index_page
from farm.report.progress import Progress
from farm.report.tables import save_files
from farm.space import SearchPlan
from farm.store import Store
from farm.studies.study import Source
from farm.tracking import check_experiments
from farm.tuning.connection import cluster
from farm.tuning.engine import Event, execute
from farm.tuning.stage_tree import Forest, StageTree

Resolved = Mapping[str, tuple[Plan, SearchPlan | None]]
NAME = "all"


def drive_all(resolved: Resolved, left_out: Mapping[str, str], runtime: Runtime, console: Console) -> int:
    """Run what is missing of many sweeps as one, then bring each to its verdict.

    The rows of all sweeps come first: a trial or a stage that several ask for is run once, and of what is
    ready the largest goes first, whichever sweep it belongs to. What a search tries depends on what it
    has seen, so searches follow, one after the other, in the order of the sweeps; each then finds its
    rows done. A sweep that cannot be concluded is told and does not keep the others from theirs.

    Parameters
    ----------
    resolved
        The sweeps by name.
    left_out
        Why others could not be resolved, by name.
    runtime
        Where and how. A trial takes the most that any of the sweeps declares.
    console
        Where to show it.

    Returns
    -------
    int
        The exit code: 0, or that trials failed or sweeps are missing, or that it was interrupted.
    """
    store = Store(runtime.root)
    groups = _by_source([plan for plan, _ in resolved.values()])
    asked = sum(len(plan.trials) for plan, _ in resolved.values())
    distinct = sum(len(trials) for _, trials in groups)
    if runtime.dry_run:
        _show(resolved, left_out, store, console)
        console.print(f"{asked} trials, {distinct} of them distinct", highlight=False)
        return 0
    check_places(runtime, NAME, console)
    check_experiments(runtime.tracked, [runtime.experiment] if runtime.experiment else resolved)
    store.open()
    started = time.monotonic()
    console.print(f"[bold]{len(resolved)} sweeps[/bold]: {asked} trials, {distinct} of them distinct")
    for name, reason in left_out.items():
        _tell_missing(name, reason, console)
    failures: dict[str, str] = {}
    ends: dict[str, Driven] = {}
    lacking = dict(left_out)
    with ExitStack() as stack:
        if not runtime.report_only and not _run(groups, resolved, store, runtime, console, failures, stack):
            return EXIT_INTERRUPTED
        # What is said of the cluster is said once.
        each = replace(runtime, rerun=False, address=runtime.cluster or "local")
        for name, (plan, search) in resolved.items():
            try:
                ends[name] = drive(plan, search, each, console, failures)
            except UserError as error:
                lacking[name] = str(error)
                _tell_missing(name, str(error), console)
                continue
            if ends[name].code == EXIT_INTERRUPTED:
                return EXIT_INTERRUPTED
    with optional(console, "page of all sweeps"):
        lines = [_line(name, *resolved[name], driven) for name, driven in ends.items()]
        text = index_page(lines, lacking, asked, distinct, runtime.command)
        save_files(runtime.results(NAME), {PAGE: text.encode()})
        console.print(f"all sweeps on one page: {RESULTS}/{NAME}/{PAGE}", highlight=False, soft_wrap=True)
    console.print(f"[dim]{time.monotonic() - started:.0f} s[/dim]")
    return EXIT_FAILED_TRIALS if lacking or any(driven.code for driven in ends.values()) else 0


def _by_source(plans: Sequence[Plan]) -> list[tuple[Source, tuple[Trial, ...]]]:
    """Gather the trials that read the same data, each signature once."""
    sources: dict[str, Source] = {}
    trials: dict[str, list[Trial]] = {}
    seen: set[str] = set()
    for plan in plans:
        key = _digest(plan.source)
        sources.setdefault(key, plan.source)
        for trial in plan.trials:
            if trial.signature not in seen:
                seen.add(trial.signature)
                trials.setdefault(key, []).append(trial)
    return [(sources[key], tuple(some)) for key, some in trials.items()]


def _digest(source: Source) -> str:
    if not isinstance(source, Panel):
        return source.digest
    return " ".join(f"{ticker}={bars.digest}" for ticker, bars in source.bars.items())


def _run(
    groups: Sequence[tuple[Source, tuple[Trial, ...]]],
    resolved: Resolved,
    store: Store,
    runtime: Runtime,
    console: Console,
    failures: dict[str, str],
    stack: ExitStack,
) -> bool:
    """Run what is missing, and note by signature what failed; False after Ctrl-C.

    Ray goes on in `stack`, for the searches.
    """
    missing = [
        (source, [trial for trial in trials if runtime.rerun or store.get(trial.signature) is None])
        for source, trials in groups
    ]
    missing = [(source, trials) for source, trials in missing if trials]
    count = sum(len(trials) for _, trials in missing)
    total = sum(len(trials) for _, trials in groups)
    if not missing:
        console.print(f"all {total} trials are in the store", highlight=False)
        return True
    console.print(f"{count} of {total} trials to run", highlight=False)
    stack.enter_context(cluster(runtime.cluster, runtime.concurrency))
    forest = Forest([StageTree(trials, source, store, again=runtime.rerun) for source, trials in missing])
    ended: set[str] = set()
    with Progress(console, total, total - count, 0, "") as progress:

        def settle(trial: Trial, error: str) -> None:
            ended.add(trial.signature)
            if error:
                failures[trial.signature] = error
                store.put_failure(trial.signature, error)
                progress.failed(trial.name, error)
            else:
                progress.finished(trial.name, None)

        def on_event(event: Event) -> None:
            if event.kind == "started":
                progress.running(event.job.name, "starting")
            elif event.kind == "epoch":
                progress.running(event.job.name, f"epoch {event.epoch}")
            else:
                progress.left(event.job.name, stage=False)
                for outcome in event.outcomes:
                    settle(outcome.trial, outcome.error)

        for outcome in forest.stopped():
            settle(outcome.trial, outcome.error)
        execute(
            forest,
            [source for source, _ in missing],
            store,
            on_event=on_event,
            concurrency=runtime.concurrency,
            resources=_most([plan.sweep.resources for plan, _ in resolved.values()]),
            address=runtime.cluster,
            keep_every=runtime.checkpoint_every,
        )
    return len(ended) == count


def _most(resources: Sequence[Resources]) -> Resources:
    return Resources(
        cpu=max(each.cpu for each in resources),
        gpu=max(each.gpu for each in resources),
        memory=max(each.memory for each in resources),
    )


def _line(name: str, plan: Plan, search: SearchPlan | None, driven: Driven) -> SweepLine:
    assert driven.end is not None  # it was concluded
    return SweepLine(name, plan, driven.end, driven.failures, search is not None)


def _tell_missing(name: str, reason: str, console: Console) -> None:
    console.print(f"{name} is left out: {reason}", style="yellow", highlight=False, markup=False)


def _show(resolved: Resolved, left_out: Mapping[str, str], store: Store, console: Console) -> None:
    """List the sweeps with what they would run."""
    table = Table("sweep", "trials", "in the store", "shared with those above", "configs to try", box=None)
    seen: set[str] = set()
    for name, (plan, search) in resolved.items():
        own = {trial.signature for trial in plan.trials}
        there = sum(store.get(signature) is not None for signature in own)
        tried = "" if search is None else str(search.samples * len(search.samplers))
        table.add_row(name, str(len(own)), str(there), str(len(own & seen)), tried)
        seen |= own
    console.print(table)
    for name, reason in left_out.items():
        _tell_missing(name, reason, console)
