"""From a plan to its verdict: run what is missing, search, log it and show what it comes to."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic.dataclasses import dataclass as checked
from rich.console import Console
from rich.markup import escape

from farm import serving
from farm.base.command_line import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, optional, tell_missing
from farm.base.config import canonical_json
from farm.base.errors import UserError, of_one_line, without_credentials
from farm.base.options import Concurrency, Place, Seconds
from farm.data.panel import Panel
from farm.experiment import TrialConfig
from farm.plan import Plan, Trial
from farm.report.dry_run import show_plan, show_search
from farm.report.progress import Progress
from farm.runs import flat
from farm.space import SearchPlan, check_objectives, with_rows
from farm.store import Record, Store
from farm.tracking import (
    NotOurs,
    Tracking,
    Unreachable,
    absolute,
    check_experiment,
    check_for_cluster,
    check_uri,
)
from farm.tuning.connection import VARIABLE, check_address, cluster, find_address
from farm.tuning.engine import Event, Outcome, execute
from farm.tuning.stage_tree import StageTree, stage_nodes
from farm.views import address

if TYPE_CHECKING:
    from farm.report.conclusion import Conclusion  # what draws takes a second, and a dry run needs none of it
    from farm.report.search import Found
    from farm.tuning.studies import Attempt  # optuna takes half a second, and only a search needs it

# Seconds without logging after MLflow could not be written: each try takes a quarter of a minute to give up.
SILENCE = 60.0
RESULTS = "results"  # folder, below that of the sweep
PAGE = "report.html"


@checked(frozen=True, config={"strict": True, "arbitrary_types_allowed": True})
class Runtime:
    """Where and how a sweep runs; outside every signature.

    Relative paths are meant from the folder where it was made: wherever the process goes afterwards, they
    stay what they were. Places are as they were typed; what is opened are the properties.
    """

    storage: Place
    tracking_uri: Place
    concurrency: Concurrency | None
    address: str | None
    dry_run: bool
    rerun: bool
    checkpoint_every: Seconds
    command: str  # that repeats the sweep; it is told and logged, so passwords are blotted out
    report_only: bool = False  # tell what is in the store, and run nothing
    experiment: str | None = None  # of MLflow; None for one named like the sweep
    ray_address: str = field(default_factory=lambda: os.environ.get(VARIABLE, ""))
    folder: Path = field(default_factory=Path.cwd)

    def __post_init__(self) -> None:
        """Blot passwords out of the command, and check the name of the experiment."""
        object.__setattr__(self, "command", without_credentials(self.command))
        if self.experiment is not None:
            check_experiment(self.experiment)

    @property
    def root(self) -> str:
        """Where the store is."""
        return self.storage if "://" in self.storage else str(self.folder / Path(self.storage).expanduser())

    @property
    def tracked(self) -> str:
        """Where MLflow keeps its runs."""
        return absolute(self.tracking_uri, self.folder)

    @property
    def cluster(self) -> str | None:
        """The Ray cluster to join; None for a Ray of its own."""
        return find_address(self.address, self.ray_address)

    def results(self, name: str) -> Path:
        """Where the files of a sweep go."""
        return self.folder / RESULTS / name


@dataclass(frozen=True)
class Driven:
    """What became of a sweep.

    Parameters
    ----------
    code
        The exit code: 0, or that trials failed, or that it was interrupted.
    end
        What it comes to; None of one that was interrupted or only listed.
    failures
        Why trials failed, by their names.
    """

    code: int
    end: Conclusion | None = None
    failures: Mapping[str, str] = field(default_factory=dict)


def drive(
    plan: Plan,
    search: SearchPlan | None,
    runtime: Runtime,
    console: Console,
    failed: Mapping[str, str] = MappingProxyType({}),
) -> Driven:
    """Run what is missing of a sweep, log it and show the verdict.

    Parameters
    ----------
    plan
        The rows of the sweep.
    search
        What it searches beside them; None for a sweep that searches for nothing.
    runtime
        Where and how.
    console
        Where to show it.
    failed
        Why trials that are not to be tried again failed, by their signatures.
    """
    if runtime.dry_run:
        show_plan(plan, Store(runtime.root), console)
        if search is not None:
            show_search(search, console)
        return Driven(0)
    check_places(runtime, plan.name, console)
    started = time.monotonic()

    def waiting() -> None:
        text = f"another sweep {plan.name!r} is at work in {runtime.storage!r}: waiting for its end"
        console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)

    claim = Store(runtime.root).open().claim(plan.name, waiting)
    with claim, ThreadPoolExecutor(1, "tracking") as desk:  # which logs what is left before it is gone
        driver = _Driver(plan, runtime, console, desk)
        driver.failures |= {t.name: failed[t.signature] for t in plan.trials if t.signature in failed}
        # What a user has told numpy to raise is nothing here: an undefined score is NaN.
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            return _drive(driver, search, runtime, console, started)


def _drive(
    driver: _Driver, search: SearchPlan | None, runtime: Runtime, console: Console, started: float
) -> Driven:
    """Run, tell and log a sweep."""
    plan = driver.plan
    console.print(f"[bold]{plan.name}[/bold]: {escape(plan.sweep.question)}", highlight=False)
    for note in plan.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    done = driver.execute() if search is None else driver.search(search)
    if not done:  # Ctrl-C: Tune ends what is running and returns
        console.print(
            f"[yellow]stopped: {len(driver.records)} of {len(driver.plan.trials)} trials are in the store;"
            " the same command goes on from here[/yellow]"
        )
        return Driven(EXIT_INTERRUPTED)
    if not driver.records:
        raise UserError(
            f"sweep {plan.name!r} has no finished trial in storage {runtime.storage!r}:"
            f" run `{runtime.command}` first, or give its --storage"
        )
    end = driver.conclude(search)
    told = f"{time.monotonic() - started:.0f} s"
    if (where := driver.where()) is not None:
        told += f"; compare the runs: {without_credentials(where)}"
    console.print(told, style="dim", markup=False, soft_wrap=True)
    code = EXIT_FAILED_TRIALS if driver.failures and not runtime.report_only else 0
    return Driven(code, end, driver.failures)


def check_places(runtime: Runtime, name: str, console: Console) -> None:
    """See that MLflow, the cluster and the folder of the results are there, before anything is run.

    Where RAY_ADDRESS names the cluster, one line says so.

    Raises
    ------
    UserError
        If one is not, or a cluster would log to a file of one machine.
    """
    there = out = runtime.results(name)
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        from farm.report.tables import unwritable

        raise unwritable(out, "no permission" if there.is_dir() else f"{str(there)!r} is no folder")
    check_uri(runtime.tracked)
    if (found := runtime.cluster) is not None:
        if not runtime.address:
            console.print(f"Ray cluster {found}, from {VARIABLE}", style="dim", highlight=False, markup=False)
        check_address(found, "--address" if runtime.address else VARIABLE)
        check_for_cluster(runtime.tracking_uri)


class _Driver:
    """One run of a sweep.

    Attributes
    ----------
    plan
        The rows; a search adds its best.
    records, failures
        Results by signature, and reasons by the name of the trial.
    seconds
        That trials ran.
    attempts
        What a search has tried.

    MLflow is opened and written by a thread of its own, so that no worker waits for it.
    """

    def __init__(self, plan: Plan, runtime: Runtime, console: Console, desk: ThreadPoolExecutor) -> None:
        from farm.report.looks import looks_of

        self.plan = plan
        self.records: dict[str, Record] = {}
        self.failures: dict[str, str] = {}
        self.seconds = 0.0
        self.attempts: tuple[Attempt, ...] = ()
        self._runtime = runtime
        self._console = console
        self._store = Store(runtime.root).open()
        rows = [(role, row) for role in ("variant", "baseline") for row in plan.rows(role)]
        looks = looks_of(pd.DataFrame(rows, columns=["role", "model"]))
        self._desk = desk
        self._colours = {row: look.colour for row, look in looks.items()}
        self._opened: Future[Tracking] | None = None
        self._silent_until = 0.0  # on the monotonic clock
        self._references: dict[str, list[Trial]] = {}  # by ticker
        for trial in plan.trials:
            if trial.row in plan.sweep.references:
                self._references.setdefault(trial.ticker, []).append(trial)

    def execute(self) -> bool:
        """Run the trials of the plan that are missing; False after Ctrl-C."""
        missing = []
        for trial in self.plan.trials:
            if trial.signature in self.records or trial.name in self.failures:
                continue
            found = None if self._runtime.rerun else self._store.get(trial.signature)
            if found is None:
                missing.append(trial)
            else:
                self.records[trial.signature] = found
        self._fill_scores()
        if self._runtime.report_only:
            reasons = {trial.name: self._store.failure(trial.signature) for trial in missing}
            self.failures |= {name: reason for name, reason in reasons.items() if reason}
            return True
        if not missing:
            self._console.print(f"all {len(self.plan.trials)} trials are in the store", highlight=False)
            return True
        started = time.monotonic()
        total = len(self.plan.trials)
        self._console.print(f"{len(missing)} of {total} trials to run", highlight=False)
        tree = StageTree(missing, self.plan.source, self._store, again=self._runtime.rerun)
        nodes = stage_nodes(missing, self.plan.source, self._store).values()
        stages = sum(self._runtime.rerun or not node.stored for node in nodes)
        reference = self.plan.sweep.references[0]
        with Progress(self._console, total, total - len(missing), stages, reference) as progress:
            for outcome in tree.stopped():  # by gates after stages of the store
                self._settle(outcome, progress, self.failures)
            opened = self._tracking()
            if not tree.finished:
                with cluster(self._runtime.cluster, self._runtime.concurrency):  # while MLflow is opened
                    opened.result()  # what MLflow refuses ends the sweep before a trial is begun
                    execute(
                        tree,
                        [self.plan.source],
                        self._store,
                        on_event=self._listener(progress, self.failures),
                        concurrency=self._runtime.concurrency,
                        resources=self.plan.sweep.resources,
                        address=self._runtime.cluster,
                        keep_every=self._runtime.checkpoint_every,
                    )
        self.seconds += time.monotonic() - started
        return all(trial.signature in self.records or trial.name in self.failures for trial in missing)

    def _fill_scores(self) -> None:
        """Compute what stored trials lack of the metrics that there are now, and say so."""
        names: dict[str, None] = {}
        count = 0
        for trial in self.plan.trials:
            if trial.signature not in self.records:
                continue
            try:
                record, computed = self._store.fill_scores(self.records[trial.signature], self.plan.source)
            except Exception as error:  # noqa: BLE001  (a metric is anybody's code, and the rest goes on)
                self.failures[f"metrics of {trial.name}"] = of_one_line(error)
                continue
            self.records[trial.signature] = record
            count += bool(computed)
            names |= dict.fromkeys(computed)
        if names:
            some = f"{len(names)} metric{'s' * (len(names) > 1)}"
            self._console.print(
                f"{some} computed for {count} stored trial{'s' * (count > 1)}: {', '.join(names)}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def _listener(self, progress: Progress, failures: dict[str, str]) -> Callable[[Event], None]:
        def on_event(event: Event) -> None:
            name = event.job.name
            if event.kind == "started":
                progress.running(name, "starting")
            elif event.kind == "epoch":
                progress.running(name, f"epoch {event.epoch}, validation loss {event.val_loss:.3g}")
            else:
                progress.left(name, event.job.kind == "stage")
                if event.kind == "stopped":
                    progress.finished(name, None)
                for outcome in event.outcomes:
                    self._settle(outcome, progress, failures)

        return on_event

    def _settle(self, outcome: Outcome, progress: Progress, failures: dict[str, str]) -> None:
        """Take a trial that has ended to the records or the failures, show it and log it."""
        trial, references = outcome.trial, self.plan.sweep.references
        if outcome.error:
            failures[trial.name] = outcome.error
            if trial.row in references:
                self._console.print(
                    f"baseline {trial.row} failed on {trial.ticker}: skill is not measured against it there",
                    style="yellow", highlight=False, markup=False, soft_wrap=True,
                )  # fmt: skip
            self._store.put_failure(trial.signature, outcome.error)
            progress.failed(trial.name, outcome.error)
        elif (record := self._store.get(trial.signature)) is not None:
            self.records[trial.signature] = record
            skill = self._skills(trial)
            on_validation = self._skills(trial, "val").get(f"vs/{references[0]}_rmse_skill", math.nan)
            progress.finished(trial.name, 1 - on_validation if trial.role == "variant" else None)
            # Baselines go first; a trial that overtook its reference is logged at the end.
            if len(skill) == len(references):
                self._desk.submit(self._log, self._tracking(), trial, record, skill)

    def _tracking(self) -> Future[Tracking]:
        """Have MLflow opened, once."""
        if self._opened is None:
            at = self._runtime
            self._opened = self._desk.submit(
                Tracking, at.tracked, self.plan, self._colours, at.experiment, at.folder
            )
        return self._opened

    def _log(self, tracking: Future[Tracking], trial: Trial, record: Record, skill: dict[str, float]) -> None:
        """Log a trial, in the thread that does nothing else.

        That MLflow be opened was asked of the same thread before, which could not wait for itself.
        """
        if time.monotonic() < self._silent_until:
            return
        try:
            tracking.result().log_trial(trial, record, skill)
        except UserError as error:  # the trial counts all the same, and is logged at the end
            self._console.print(str(error), style="yellow", highlight=False, markup=False)
            self._silent_until = time.monotonic() + SILENCE

    def search(self, search: SearchPlan) -> bool:
        """Run the rows, let each sampler try its configs, and run the best on every seed."""
        from farm.tuning.studies import journal_of, tried_so_far

        check_objectives(search.objectives, search.space.bases.values(), self.plan.source)
        journal = journal_of(self._store, self.plan.name, self._runtime.results(self.plan.name))
        there = {name: tried_so_far(journal, search.study(self.plan, name)) for name in search.samplers}
        if self._runtime.report_only:
            if min(there.values()) == 0:
                raise UserError(
                    f"the search of sweep {self.plan.name!r} has not begun in {journal}:"
                    f" run `{self._runtime.command}` first, or give its --storage"
                )
            search = replace(search, samples=min(there.values()))  # tells what was tried, and tries nothing
        with ExitStack() as stack:
            if min(there.values()) < search.samples:  # one start of Ray for all that follows
                stack.enter_context(cluster(self._runtime.cluster, self._runtime.concurrency))
            return (
                self.execute()
                and all(self._try(search, name, journal, there[name]) for name in search.samplers)
                and self._add_best(search)
                and self.execute()
            )

    def _try(self, search: SearchPlan, sampler: str, journal: Path, there: int) -> bool:
        """Let a sampler try its configs; False after Ctrl-C."""
        from farm.tuning.search import search as run_search
        from farm.tuning.studies import known_configs

        there = min(there, search.samples)
        self._console.print(
            f"{sampler}: {search.samples - there} of {search.samples} configs to try, kept in {journal}",
            highlight=False,
            soft_wrap=True,
        )
        each = len(search.space.bases)
        reference = self.plan.sweep.references[0]
        with Progress(self._console, search.samples * each, there * each, 0, reference) as progress:
            found, done = run_search(
                search.study(self.plan, sampler),
                sampler,
                search,
                self._store,
                self.plan.source,
                journal=journal,
                # Random search is what the others are measured by, so it hears of nothing.
                known=() if sampler == "random" else known_configs(self._store, search.space),
                rivals=[search.study(self.plan, name) for name in search.samplers if name != sampler],
                on_event=self._listener(progress, {}),
                concurrency=self._runtime.concurrency,
                resources=self.plan.sweep.resources,
                address=self._runtime.cluster,
            )
        self.attempts += found
        lost = Counter(attempt.error or "it was lost" for attempt in found if attempt.state == "failed")
        for number, (reason, count) in enumerate(lost.items(), start=1):
            self.failures[f"{count} config{'s' * (count > 1)} of {sampler} ({number})"] = reason
        for attempt in found:
            for signature in attempt.signatures if attempt.state == "complete" else ():
                if signature not in self.records and (record := self._store.get(signature)) is not None:
                    self.records[signature] = record
        return done

    def _add_best(self, search: SearchPlan) -> bool:
        """Add the best of a search as rows, on every seed, and what else it tried; always True."""
        from farm.report.search import choose

        plan, space = self.plan, search.space
        seeds = 1 + max(trial.config.seed for trial in plan.trials if trial.row == search.variant)
        best = choose(self.attempts, search.objectives, search.top, _signatures(plan))
        plan = with_rows(plan, space, {attempt.row: attempt.settings for attempt in best}, seeds)
        rows = _signatures(plan)
        rest = {
            a.signatures: a for a in self.attempts if a.state == "complete" and not rows & {*a.signatures}
        }
        tried = [trial for a in rest.values() for trial in space.trials(a.row, a.settings)]
        self.plan = replace(plan, tried=tuple(tried))
        return True

    def conclude(self, search: SearchPlan | None) -> Conclusion:
        """Write, show and log the verdict over what is finished.

        All that follows the verdict may fail, each step by itself and in one line.
        """
        self._tracking()  # is opened while these are imported
        from farm.report.conclusion import conclude
        from farm.report.tables import save_files, verdict_table
        from farm.report.walk_forward import walk_forward_tables

        plan, show = self.plan, self._console.print
        if isinstance(error := self._tracking().exception(), NotOurs):
            raise error
        out = self._runtime.results(plan.name)
        self.plan = plan = replace(plan, earlier=self._earlier())
        end = conclude(plan, self.records, out)
        found = None
        if search is not None:
            from farm.report.search import conclude_search, search_table

            found = conclude_search(plan, search, self.attempts, self.records, end, out)
            end = replace(
                end,
                sentence=f"{end.sentence}\n{found.sentence}",
                files=(*end.files, *found.files),
                pictures=(*end.pictures, found.pictures),
            )
        save_files(out, {"verdict.txt": f"{end.sentence}\n".encode()})
        show(verdict_table(end.table, plan.sweep.references, width=self._console.width))
        if end.walk_forward is not None:
            show(walk_forward_tables(end.walk_forward, plan.sweep.references[0]))
        if found is not None and search is not None:
            show(search_table(found, search))
        show(end.sentence, highlight=False, markup=False)
        for name, reason in self.failures.items():
            show(f"failed: {name}: {reason}", style="red", soft_wrap=True, highlight=False, markup=False)
        end = self._draw(end, out)
        with optional(self._console, "report page"):
            self._write_page(end, out)
        for what, step in self._log_steps(end, found, out).items():
            try:
                step()
            except Exception as error:  # noqa: BLE001  (as in `optional`)
                tell_missing(self._console, what, error)
                if isinstance(error, Unreachable):
                    break  # nor would MLflow take the rest
        with suppress(UserError):
            if (tracking := self._tracking().result()).stale:
                show(
                    f"MLflow experiment {tracking.name!r} has runs that another version of Farm wrote: they"
                    " are left as they are and count for nothing",
                    style="yellow", highlight=False, markup=False, soft_wrap=True,
                )  # fmt: skip
        return end

    def _earlier(self) -> tuple[Trial, ...]:
        """Find what earlier runs of the sweep have tried on these test days, and keep what this one has.

        A variant that was tried counts in the p-values, whichever of them is looked at today.
        """
        plan, known = self.plan, self._store.tried(self.plan.name)
        own = {t.signature: (t.row, t.ticker) for t in (*plan.trials, *plan.tried) if t.role == "variant"}
        finished = {name: at for name, at in own.items() if name in self.records}
        if not finished.items() <= known.items():
            self._store.put_tried(plan.name, known | finished)
        days: dict[str, set[np.datetime64]] = {}
        for references in self._references.values():
            for trial in references:
                if (record := self.records.get(trial.signature)) is not None:
                    days.setdefault(trial.ticker, set()).update(record.forecast()["date"].to_numpy())
        earlier = []
        for name, (row, ticker) in known.items():
            if name in own or ticker not in days or (record := self._store.get(name)) is None:
                continue
            mine = record.forecast()["date"].to_numpy()
            if sum(day in days[ticker] for day in mine) < len(mine) / 2:
                continue  # of another period
            config = TrialConfig.model_validate_json(json.dumps(record.config))
            varied = flat(record.config)
            # A row is the seeds and tickers of one design, and its name may have had another one.
            design = canonical_json({k: v for k, v in varied.items() if k not in ("seed", "study.ticker")})
            called = f"{row} {hashlib.sha256(design.encode()).hexdigest()[:8]}"
            self.records[name] = record
            earlier.append(Trial(called, "variant", ticker, config, name))
        return tuple(earlier)

    def _draw(self, end: Conclusion, out: Path) -> Conclusion:
        """Draw the pictures."""
        from farm.report.pictures import save_pictures

        drawn = save_pictures(out, end.pictures, self._console)
        end = replace(end, files=(*end.files, *drawn))
        files = ", ".join(path.name for path in end.files)
        self._console.print(f"{RESULTS}/{self.plan.name}/: {files}", style="dim", markup=False)
        return end

    def _write_page(self, end: Conclusion, out: Path) -> None:
        """Write all of it as one page."""
        from farm.report.page import Sources, report_page
        from farm.report.tables import save_files

        (out / PAGE).unlink(missing_ok=True)  # of another verdict
        states = Counter(str(attempt.state) for attempt in self.attempts)
        text = report_page(
            self.plan, end, self.records, Sources(self._runtime.command, self.failures, states)
        )
        save_files(out, {PAGE: text.encode()})
        where = f"{RESULTS}/{self.plan.name}/{PAGE}"
        self._console.print(f"all of it on one page: {where}", style="dim", markup=False, soft_wrap=True)

    def _log_steps(self, end: Conclusion, found: Found | None, out: Path) -> dict[str, Callable[[], None]]:
        """Return what is left to log, by what would be missing; the thread that logs does it."""
        from farm.report.note import verdict_note

        plan = self.plan

        def results(tracking: Tracking) -> None:
            every = (*end.trials, *(trial for trial in plan.tried if trial.signature in self.records))
            tracking.log_results(
                every,
                self.records,
                self._skills_of(end),
                end.table,
                verdict_note(plan.sweep.question, end.sentence, end.table, plan.sweep.references[0]),
                end.files,
                len(self.failures),
                self.seconds,
                end.walk_forward.metrics() if end.walk_forward is not None else {},
            )

        def page(tracking: Tracking) -> None:
            if (out / PAGE).exists():
                tracking.log_page(out / PAGE)

        def marks(tracking: Tracking) -> None:
            if found is not None:
                tracking.log_search(found.marks, found.metrics)

        def served(tracking: Tracking) -> None:
            self._serve_best(tracking, end.table)

        steps = {
            "results in MLflow": results,
            "report page in MLflow": page,
            "served model": served,
            "marks of the search in MLflow": marks,
            "database of MLflow in one file": Tracking.close,
        }

        def at_the_desk(step: Callable[[Tracking], None]) -> None:
            self._desk.submit(lambda: step(self._tracking().result())).result()

        return {what: partial(at_the_desk, step) for what, step in steps.items()}

    def where(self) -> str | None:
        """Return where the runs can be looked at; None if MLflow could not be opened."""
        opened = self._tracking()
        if opened.exception() is not None:
            return None
        uri, experiment = self._runtime.tracking_uri, opened.result().experiment
        if uri.startswith("http"):
            return address(uri, experiment)
        return f"mlflow ui --backend-store-uri {uri}, then {address('http://127.0.0.1:5000', experiment)}"

    def _serve_best(self, tracking: Tracking, table: pd.DataFrame) -> None:
        """Log the best variant as a model: of each ticker the seed that validation prefers."""
        rows = table[table["role"] == "variant"]["model"]
        chosen: dict[str, Trial] = {}
        for trial in self.plan.trials:
            if trial.row != next(iter(rows), None) or trial.signature not in self.records:
                continue
            loss = self.records[trial.signature].metrics["val/rmse"]
            best = chosen.get(trial.ticker)
            if best is None or loss < self.records[best.signature].metrics["val/rmse"]:
                chosen[trial.ticker] = trial
        trials = list(chosen.values())
        source = self.plan.source
        if (
            not trials
            or not isinstance(source, Panel)
            or not all(serving.can_serve(t.config) for t in trials)
        ):
            return
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "forecasters"
            states = {t.signature: (t.config, self._store.model_state(t.signature)) for t in trials}
            serving.save(folder, states)
            example = serving.example(source, [trial.config for trial in trials])
            tracking.log_model(trials[0].row, trials, folder, example)

    def _skills(self, trial: Trial, block: str = "test") -> dict[str, float]:
        """Measure a trial against each finished reference on the same ticker, as the verdict does.

        It is NaN where the reference is never wrong, as on a price that does not move.
        """
        from farm.evaluation.verdict import pair_skill

        own = self.records[trial.signature].forecast(block=block)
        return {
            f"vs/{other.row}_rmse_skill": pair_skill(own, self.records[other.signature].forecast(block=block))
            for other in self._references.get(trial.ticker, ())
            if other.signature in self.records
        }

    def _skills_of(self, end: Conclusion) -> dict[str, dict[str, float]]:
        """Read the skill of every trial off the scores of a verdict; what a search tried has none there."""
        from farm.evaluation.verdict import mean_skill

        names = [f"vs/{reference}_rmse_skill" for reference in self.plan.sweep.references]
        names = [name for name in names if name in end.scores]
        by_item = any(record.items for record in self.records.values())
        keys = ["model", "seed"] if by_item else ["model", "seed", "ticker"]
        means = end.scores.groupby(keys)[names].agg(mean_skill)
        found = dict(zip(means.index, means.to_dict("records"), strict=True))
        skills = {}
        for trial in end.trials:
            key = (trial.row, trial.config.seed, *(() if by_item else (trial.ticker,)))
            skills[trial.signature] = {str(name): float(value) for name, value in found[key].items()}
        beside = (trial for trial in self.plan.tried if trial.signature in self.records)
        return skills | {trial.signature: self._skills(trial) for trial in beside}


def _signatures(plan: Plan) -> frozenset[str]:
    return frozenset(trial.signature for trial in plan.trials)
