"""The command line: ``python -m farm.sweep NAME``."""

from __future__ import annotations

import importlib
import math
import pkgutil
import runpy
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

import search_spaces
from farm.base.command_line import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, PLAIN_WIDTH, run
from farm.base.errors import UserError, nearest
from farm.base.search_space import Sweep

if TYPE_CHECKING:  # imported where they are used, so that --help is immediate
    from farm.plan import Plan, Trial
    from farm.store import Record, Store
    from farm.studies.study import Source
    from farm.tracking import Tracking

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Runtime:
    """Where and how a sweep runs; outside every signature."""

    storage: str
    tracking_uri: str
    concurrency: int | None
    address: str | None
    dry_run: bool
    rerun: bool
    checkpoint_every: float


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UserError(f"got an empty list {text!r}, expected names separated by commas")
    return names


@app.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Without NAME it lists the sweeps. A sweep that is run again runs only what is missing.",
)
def sweep(
    name: Annotated[
        str | None,
        typer.Argument(help="A sweep of search_spaces/, or a .py file of your own.", show_default=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small version: few tickers, one seed, few epochs.")
    ] = False,
    tickers: Annotated[
        str | None,
        typer.Option(
            "--tickers",
            "--target",
            help="Tickers to run, separated by commas: the assets whose return is forecast or filled in.",
            show_default="the sweep's; all of --data",
        ),
    ] = None,
    market: Annotated[
        str | None, typer.Option(help="Ticker of the market index.", show_default="the sweep's")
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            help="Tickers whose bars of the missing day are known, separated by commas.",
            show_default="the sweep's",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your own panel: parquet or CSV, long (date, ticker, open, high, low, close, volume)"
            " or yfinance's two-level columns.",
            show_default="the bundled panel",
        ),
    ] = None,
    surface: Annotated[
        Path | None,
        typer.Option(
            help="Your own implied-volatility surfaces: npz or parquet, on any grid in moneyness or delta.",
            show_default="the simulated ones",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Seeds of each variant: 0, 1, ...", show_default="the sweep's"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Most epochs of a network; the same as --set training.epochs=N.",
            show_default="the sweep's",
        ),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            help="Variants to run, separated by commas; the baselines always run.", show_default="all"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set any config field, wherever it applies: --set hidden_size=32. Repeatable."
            " A range, --set training.learning_rate=1e-4..1e-2, goes with --samples.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Draw this many configs of each variant from the sweep's ranges and those of --set;"
            " each is a row of its own.",
            show_default="none",
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Most trials at a time.", show_default="one a core")
    ] = None,
    storage: Annotated[
        str, typer.Option(help="Where results are kept by signature: a folder or an s3:// or gs:// URI.")
    ] = "farm_store",
    tracking_uri: Annotated[
        str, typer.Option(envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="MLflow's database or server.")
    ] = "sqlite:///mlflow.db",
    address: Annotated[
        str | None,
        typer.Option(
            help="A running Ray cluster: auto or HOST:PORT.",
            show_default="Ray on this machine",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the resolved trials with their signatures, and stop.")
    ] = False,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Run every trial again, also those in the store.")
    ] = False,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds between two checkpoints of a training phase, which is what a crash costs at most.",
        ),
    ] = 30.0,
) -> None:
    """Run a sweep: every variant and baseline on every ticker and seed, logged to MLflow, with a verdict.

    Tables, predictions and pictures go to [bold]results/NAME/[/bold] under the working directory.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    if name is None:
        _list_sweeps(console)
        return
    declared_name, declared = load_sweep(name)
    from farm.plan import Options, make_plan, parse_setting

    chosen = dict(parse_setting(text) for text in settings or ())
    if epochs is not None:
        chosen["training.epochs"] = epochs
    options = Options(_names(tickers), market, _names(peers), seeds, _names(variants), chosen, samples, quick)
    runtime = Runtime(storage, tracking_uri, concurrency, address, dry_run, rerun, checkpoint_every)
    plan = make_plan(declared_name, declared, read_source(declared, data, surface), options)
    raise typer.Exit(_run(plan, runtime, console))


def read_source(declared: Sweep, data: Path | None = None, surface: Path | None = None) -> Source:
    """Read what a sweep's study reads: the user's own file, or the sweep's bundled table.

    Raises
    ------
    UserError
        If the file is of the other kind, cannot be read or is not sound.
    """
    from farm.data.door import load_panel
    from farm.data.simulate import simulate
    from farm.data.surface import read_surfaces

    if declared.replicate == "surfaces":
        if data is not None:
            raise UserError("--data: this sweep reads surfaces, not prices: give --surface instead")
        return simulate().surfaces if surface is None else read_surfaces(surface)
    if surface is not None:
        raise UserError("--surface: this sweep reads prices, not surfaces: give --data instead")
    return load_panel(data, declared.panel)


def sweeps() -> dict[str, Sweep]:
    """Load every sweep file of `search_spaces`, by name."""
    return {
        module.name: importlib.import_module(f"search_spaces.{module.name}").SWEEP
        for module in pkgutil.iter_modules(search_spaces.__path__)
    }


def load_sweep(name: str) -> tuple[str, Sweep]:
    """Find a sweep by name, or load it from a user's own ``.py`` file.

    Raises
    ------
    UserError
        If there is no such sweep, or the file declares none.
    """
    if not name.endswith(".py"):
        known = sweeps()
        if name not in known:
            raise UserError(f"unknown sweep {name!r}: {nearest(name, known)}")
        return name, known[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"sweep file {name!r} does not exist: give the name of a sweep or a .py file that declares SWEEP"
        )
    try:
        declared = runpy.run_path(name).get("SWEEP")
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"sweep file {name!r} fails with {reason}: mend the file") from error
    if not isinstance(declared, Sweep):
        raise UserError(f"sweep file {name!r} declares no SWEEP: write SWEEP = Sweep(...)")
    return path.stem, declared


def _list_sweeps(console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)  # one line each
    for known, declared in sweeps().items():
        table.add_row(f"[bold]{known}[/bold]", declared.title)
    console.print(table)
    console.print("[dim]python -m farm.sweep NAME runs one; --help lists the options[/dim]")


def _run(plan: Plan, runtime: Runtime, console: Console) -> int:
    """Run what is missing, log it and show the verdict; give the exit code."""
    from farm.store import Store
    from farm.tracking import Tracking, check_uri
    from farm.tuning.engine import check_address

    if runtime.dry_run:
        from farm.report.dry_run import show_plan

        show_plan(plan, Store(runtime.storage), console)
        return 0
    check_uri(runtime.tracking_uri)
    if runtime.address:
        check_address(runtime.address)
    started = time.monotonic()
    store = Store(runtime.storage).open()
    records = (
        {}
        if runtime.rerun
        else {t.signature: found for t in plan.trials if (found := store.get(t.signature))}
    )
    console.print(f"[bold]{plan.name}[/bold]: {plan.sweep.question}", highlight=False)
    tracking = Tracking(runtime.tracking_uri, plan)
    failures: dict[str, str] = {}
    seconds = _execute(plan, runtime, store, records, failures, tracking, console)
    if len(records) + len(failures) < len(plan.trials):  # Ctrl-C: Tune ends what is running and returns
        console.print(
            f"[yellow]stopped: {len(records)} of {len(plan.trials)} trials are in the store;"
            " the same command goes on from here[/yellow]"
        )
        return EXIT_INTERRUPTED
    _conclude(plan, records, failures, seconds, tracking, console)
    where = f"mlflow ui --backend-store-uri {runtime.tracking_uri}"
    if runtime.tracking_uri.startswith("http"):
        where = runtime.tracking_uri
    console.print(f"[dim]{time.monotonic() - started:.0f} s; compare the runs: {where}[/dim]", soft_wrap=True)
    return EXIT_FAILED_TRIALS if failures else 0


def _execute(
    plan: Plan,
    runtime: Runtime,
    store: Store,
    records: dict[str, Record],
    failures: dict[str, str],
    tracking: Tracking,
    console: Console,
) -> float:
    """Run the missing trials, filling `records` and `failures` as they end; give the seconds it took."""
    from farm.report.progress import Progress
    from farm.tuning.engine import Event, Outcome, execute
    from farm.tuning.stage_tree import StageTree, stage_nodes

    missing = [trial for trial in plan.trials if trial.signature not in records]
    if not missing:
        console.print(f"all {len(plan.trials)} trials are in the store", highlight=False)
        return 0.0
    started = time.monotonic()
    console.print(f"{len(missing)} of {len(plan.trials)} trials to run", highlight=False)
    reference = plan.sweep.references[0]
    tree = StageTree(missing, plan.source, store, again=runtime.rerun)
    nodes = stage_nodes(missing, plan.source, store).values()
    stages = sum(runtime.rerun or not node.stored for node in nodes)
    with Progress(console, len(plan.trials), len(records), stages, reference) as progress:

        def on_event(event: Event) -> None:
            name = event.job.name
            if event.kind == "started":
                progress.running(name, "starting")
            elif event.kind == "epoch":
                progress.running(name, f"epoch {event.epoch}, validation loss {event.val_loss:.3g}")
            else:
                progress.left(name, event.job.kind == "stage")
                for outcome in event.outcomes:
                    settle(outcome)

        def settle(outcome: Outcome) -> None:
            trial = outcome.trial
            if outcome.error:
                failures[trial.name] = outcome.error
                progress.failed(trial.name, outcome.error)
            elif (record := store.get(trial.signature)) is not None:
                records[trial.signature] = record
                skill = _skills(plan, trial, records)
                on_validation = _skills(plan, trial, records, "val").get(
                    f"vs/{reference}_rmse_skill", math.nan
                )
                progress.finished(
                    trial.name,
                    1 - on_validation if trial.role == "variant" else None,
                )
                # Baselines go first; a trial that overtook its reference is logged at the end.
                if len(skill) == len(plan.sweep.references):
                    try:
                        tracking.log_trial(trial, record, skill)
                    except UserError as error:  # the trial counts all the same
                        console.print(str(error), style="yellow", highlight=False, markup=False)

        for outcome in tree.stopped():  # by gates after stages of the store
            settle(outcome)
        execute(
            tree,
            plan.source,
            store,
            on_event=on_event,
            concurrency=runtime.concurrency,
            resources=plan.sweep.resources,
            address=runtime.address,
            keep_every=runtime.checkpoint_every,
        )
    return time.monotonic() - started


def _conclude(
    plan: Plan,
    records: dict[str, Record],
    failures: dict[str, str],
    seconds: float,
    tracking: Tracking,
    console: Console,
) -> None:
    """Show and log the verdict over what is finished."""
    from farm.report.conclusion import conclude
    from farm.report.tables import verdict_table

    out = Path("results") / plan.name
    end = conclude(plan, records, out)
    console.print(verdict_table(end.table, plan.sweep.references, width=console.width))
    console.print(end.sentence, highlight=False, markup=False)
    for name, reason in failures.items():
        console.print(f"failed: {name}: {reason}", style="red", soft_wrap=True, highlight=False, markup=False)
    console.print(f"[dim]{out}/: {', '.join(path.name for path in end.files)}[/dim]")
    skills = {trial.signature: _skills(plan, trial, records) for trial in end.trials}
    tracking.log_results(
        end.trials, records, skills, end.table, end.sentence, end.files, len(failures), seconds
    )


def _skills(plan: Plan, trial: Trial, records: Mapping[str, Record], block: str = "test") -> dict[str, float]:
    """Measure a trial against each finished reference on the same ticker: 1 - rmse / rmse of it.

    It is NaN where the reference is never wrong, as on a price that does not move.
    """
    rmse = records[trial.signature].metrics[f"{block}/rmse"]
    skills = {}
    for other in plan.trials:
        if other.row in plan.sweep.references and other.ticker == trial.ticker and other.signature in records:
            reference = records[other.signature].metrics[f"{block}/rmse"]
            skills[f"vs/{other.row}_rmse_skill"] = 1 - rmse / reference if reference else math.nan
    return skills


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    sys.exit(run(app, "python -m farm.sweep"))


if __name__ == "__main__":
    main()
