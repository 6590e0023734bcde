"""The command line: ``python -m farm.sweep NAME``."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import runpy
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import search_spaces
from farm.base.command_line import PLAIN_WIDTH, run
from farm.base.errors import UserError, nearest, shown
from farm.base.files import check_inputs
from farm.base.options import Door, Options, check_name, options_of, parse_settings, spelled
from farm.base.origin import DISTRIBUTION, VERSION
from farm.base.search_space import Sweep

if TYPE_CHECKING:  # imported where they are used, so that --help is immediate
    import pandas as pd

    from farm.drive import Runtime
    from farm.plan import Plan
    from farm.space import SearchPlan
    from farm.studies.study import Source

ALL = "all"  # stands for every sweep of search_spaces/
app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


# Options of every command that reads the trials of a sweep.
NameOption = Annotated[
    str | None,
    typer.Argument(
        help="A sweep of search_spaces/, all of them, or a .py file of your own.", show_default=False
    ),
]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="A small version: few tickers, one seed, few epochs.")
]
TickersOption = Annotated[
    str | None,
    typer.Option(
        "--tickers",
        "--target",
        help="Tickers to run, separated by commas: the assets whose return is forecast or filled in.",
        show_default="the sweep's; all of --data where that lacks one",
    ),
]
MarketOption = Annotated[
    str | None, typer.Option(help="Ticker of the market index.", show_default="the sweep's")
]
PeersOption = Annotated[
    str | None,
    typer.Option(
        help="Tickers whose bars of the missing day are known, separated by commas.",
        show_default="the sweep's",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Your own panel: parquet or CSV, long (date, ticker, open, high, low, close, volume)"
        " or yfinance's two-level columns.",
        show_default="the bundled panel",
    ),
]
SurfaceOption = Annotated[
    Path | None,
    typer.Option(
        help="Your own implied-volatility surfaces: npz or parquet, on any grid in moneyness or delta.",
        show_default="the simulated ones",
    ),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        metavar="DAY",
        help="First day that is read, YYYY-MM-DD, of prices or surfaces, bundled or your own.",
        show_default="the sweep's",
    ),
]
EndOption = Annotated[
    str | None,
    typer.Option(metavar="DAY", help="Last day that is read, YYYY-MM-DD.", show_default="the sweep's"),
]
SeedsOption = Annotated[
    int | None,
    typer.Option(help="Seeds of each variant: 0, 1, ...", show_default="the sweep's"),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        help="Most epochs of a network; the same as --set training.epochs=N.",
        show_default="the sweep's",
    ),
]
VariantsOption = Annotated[
    str | None,
    typer.Option(help="Variants to run, separated by commas; the baselines always run.", show_default="all"),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any config field, wherever it applies: --set hidden_size=32. Repeatable."
        " A range, --set training.learning_rate=1e-4..1e-2, goes with --samples; a value fixes a key that"
        " the sweep has a range for.",
        show_default=False,
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        help="Draw this many configs of each variant from the sweep's ranges and those of --set;"
        " each is a row of its own. Of a search: configs that each sampler tries, in all.",
        show_default="none; the search's",
    ),
]
StudyOption = Annotated[
    str | None, typer.Option(help="Which of its studies a sweep is about.", show_default="its first")
]
SamplerOption = Annotated[
    str | None,
    typer.Option(
        help="Who proposes the configs of a search, separated by commas: tpe, gp, nsga2, random.",
        show_default="the search's",
    ),
]
ObjectiveOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC",
        help="What a search looks for, on the validation block: val/pinball, or val/rmse:min."
        " Repeatable: several give a Pareto front.",
        show_default="the search's",
    ),
]
StorageOption = Annotated[
    str,
    typer.Option(
        envvar="FARM_STORAGE",
        show_envvar=True,
        help="Where results are kept by signature: a folder or an s3:// or gs:// URI.",
    ),
]
TrackingOption = Annotated[
    str, typer.Option(envvar="MLFLOW_TRACKING_URI", show_envvar=True, help="MLflow's database or server.")
]
ExperimentOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="MLflow's experiment.", show_default="named like the sweep")
]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{DISTRIBUTION} {VERSION}")
        raise typer.Exit


@app.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Without NAME it lists the sweeps. A sweep that is run again runs only what is missing.",
)
def sweep(
    name: NameOption = None,
    quick: QuickOption = False,
    tickers: TickersOption = None,
    market: MarketOption = None,
    peers: PeersOption = None,
    data: DataOption = None,
    surface: SurfaceOption = None,
    start: StartOption = None,
    end: EndOption = None,
    seeds: SeedsOption = None,
    epochs: EpochsOption = None,
    variants: VariantsOption = None,
    settings: SettingsOption = None,
    samples: SamplesOption = None,
    study: StudyOption = None,
    sampler: SamplerOption = None,
    objective: ObjectiveOption = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Most trials at a time.", show_default="one a core")
    ] = None,
    storage: StorageOption = "farm_store",
    tracking_uri: TrackingOption = "sqlite:///mlflow.db",
    experiment: ExperimentOption = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="A running Ray cluster: HOST:PORT, auto for the one on this machine, or local for none.",
            show_default="RAY_ADDRESS, or a Ray of its own",
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
            help="Seconds between two checkpoints of a trial or phase, which is what a crash costs at most.",
        ),
    ] = 30.0,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Print name and version, and stop."
        ),
    ] = False,
) -> None:
    """Run a sweep: every variant and baseline on every ticker and seed, logged to MLflow, with a verdict.

    Tables, predictions and pictures go to [bold]results/NAME/[/bold] under the working directory.
    """
    if name is None:
        _list_sweeps(plain_or_terminal())
        return
    from farm.drive import Runtime

    asked = ask(
        quick=quick,
        tickers=tickers,
        market=market,
        peers=peers,
        start=start,
        end=end,
        seeds=seeds,
        epochs=epochs,
        variants=variants,
        settings=settings,
        samples=samples,
        study=study,
        sampler=sampler,
        objective=objective,
    )
    with options_of("command line"):
        runtime = Runtime(
            storage=storage,
            tracking_uri=tracking_uri,
            concurrency=concurrency,
            address=address,
            dry_run=dry_run,
            rerun=rerun,
            checkpoint_every=checkpoint_every,
            command=shlex.join(["python", "-m", "farm.sweep", *sys.argv[1:]]),
            experiment=experiment,
        )
    raise typer.Exit(go(name, asked, data, surface, runtime))


def plain_or_terminal() -> Console:
    """Give the terminal, or a width for a log file."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def ask(
    *,
    settings: list[str] | None,
    sampler: str | None = None,
    objective: list[str] | None = None,
    **options: Any,
) -> Options:
    """Read the options of a command that decide which trials a sweep has; see `farm.base.options.Options`."""
    values = {"samplers": sampler, "objectives": objective or None, **options}
    with options_of("command line"):
        return Options(door="command line", settings=parse_settings(settings or ()), **values)


def go(name: str, asked: Options, data: Path | None, surface: Path | None, runtime: Runtime) -> int:
    """Resolve a sweep and drive it to its verdict; see `farm.drive.drive`."""
    from farm.drive import drive

    console = plain_or_terminal()
    if name == ALL:
        return _start_all(asked, (data, surface), runtime, console)
    declared_name, declared = load_sweep(name, asked.study)
    source = read_source(declared, data, surface)
    plan, search = resolve(declared_name, declared, source, asked)
    check_inputs(runtime.results(plan.name), {"--data": data, "--surface": surface})
    return drive(plan, search, runtime, console).code


def resolve(name: str, declared: Sweep, source: Source, asked: Options) -> tuple[Plan, SearchPlan | None]:
    """Resolve a sweep into its rows and, if it has one, its search.

    Raises
    ------
    UserError
        See `farm.plan.make_plan` and `farm.space.make_search`.
    """
    from farm.plan import make_plan
    from farm.space import make_search

    if declared.search is None:
        for option in ("samplers", "objectives"):
            if getattr(asked, option) is not None:
                raise UserError(
                    f"{asked.spell(option)}: this sweep searches for nothing: leave it out, or run weights"
                )
    plan = make_plan(name, declared, source, asked)
    if declared.search is None:
        return plan, None
    search = make_search(
        plan,
        asked.chosen,
        objectives=asked.objectives or (),
        samplers=tuple(dict.fromkeys(asked.samplers or ())),
        samples=asked.samples,
        quick=asked.quick,
        door=asked.door,
    )
    return plan, search


def _start_all(asked: Options, others: tuple[Any, ...], runtime: Runtime, console: Console) -> int:
    """Resolve every sweep and drive them as one; a sweep that cannot be resolved is told, not fatal."""
    from farm.drive_all import drive_all

    if asked != Options(door=asked.door, quick=asked.quick) or any(others):
        raise UserError(
            f"{ALL} runs every sweep as it is declared: of the options that decide trials, only --quick goes"
            " with it; leave the others out, or name one sweep"
        )
    resolved: dict[str, tuple[Plan, SearchPlan | None]] = {}
    left_out: dict[str, str] = {}
    sources: dict[tuple[bool, str], Source] = {}  # reading one takes seconds
    for name, declared in sweeps().items():
        try:
            key = (declared.replicate == "surfaces", declared.panel)
            if key not in sources:
                sources[key] = read_source(declared)
            resolved[name] = resolve(name, declared, sources[key], asked)
        except UserError as error:
            left_out[name] = str(error)
    return drive_all(resolved, left_out, runtime, console)


def read_source(
    declared: Sweep,
    data: Path | pd.DataFrame | None = None,
    surface: Path | None = None,
    door: Door = "command line",
) -> Source:
    """Read what a sweep's study reads: the user's own data, or the sweep's bundled table.

    Raises
    ------
    UserError
        If it is data of the other kind, cannot be read or is not sound.
    """
    from farm.data.door import CLOSES, OHLCV, load_panel

    prices, surfaces = (spelled(door, name) for name in ("data", "surface"))
    if declared.replicate == "surfaces":
        if data is not None:
            raise UserError(f"{prices}: this sweep reads surfaces, not prices: give {surfaces} instead")
        from farm.data.simulate import simulate  # slow to import
        from farm.data.surface import read_surfaces

        return simulate().surfaces if surface is None else read_surfaces(surface)
    if surface is not None:
        raise UserError(f"{surfaces}: this sweep reads prices, not surfaces: give {prices} instead")
    if declared.panel not in (OHLCV, *CLOSES):  # also where it is not read
        known = nearest(declared.panel, (OHLCV, *CLOSES))
        raise UserError(f"sweep {declared.title!r}: unknown panel {declared.panel!r}: {known}")
    return load_panel(data, declared.panel)


def sweeps() -> dict[str, Sweep]:
    """Load every sweep file of `search_spaces`, by name."""
    return {
        module.name: importlib.import_module(f"search_spaces.{module.name}").SWEEP
        for module in pkgutil.iter_modules(search_spaces.__path__)
    }


def load_sweep(name: str, study: str | None = None, door: Door = "command line") -> tuple[str, Sweep]:
    """Find a sweep by name, or load it from a user's own ``.py`` file.

    Parameters
    ----------
    name
        Of the sweep, or of the file.
    study
        One of the file's ``STUDIES``, sweeps by the study that they are about; None for its SWEEP.
    door
        Where it was asked, for messages.

    Returns
    -------
    tuple
        The name, with that of a study that is not the file's first one, and the sweep.

    Raises
    ------
    UserError
        If there is no such sweep, or the file declares none.
    """
    declared, stem = _declarations(name), Path(name).stem
    if not isinstance(declared.get("SWEEP"), Sweep):
        raise UserError(f"sweep file {name!r} declares no SWEEP: write SWEEP = Sweep(...)")
    if study is None:
        return stem, declared["SWEEP"]
    studies = declared.get("STUDIES", {})
    if study not in studies:
        alone = f"it is about one study alone: leave {spelled(door, 'study')} out"
        about = nearest(study, studies) if studies else alone
        raise UserError(f"sweep {stem}: unknown study {study!r}: {about}")
    first = studies[study] is declared["SWEEP"]
    return stem if first else f"{stem}-{study}", studies[study]


def _declarations(name: str) -> dict[str, Any]:
    """Give what a sweep file declares."""
    if not name.endswith(".py"):
        known = sweeps()
        if name not in known:
            raise UserError(f"unknown sweep {name!r}: {nearest(name, known)}")
        return vars(importlib.import_module(f"search_spaces.{name}"))
    try:
        check_name(Path(name).stem)
    except ValueError as error:
        raise UserError(f"sweep file {shown(name)}: expected {error}: rename it") from None
    if not os.path.isfile(name):  # noqa: PTH113  (Path.is_file raises where the folders are too long)
        raise UserError(
            f"sweep file {name!r} does not exist: give the name of a sweep or a .py file that declares SWEEP"
        )
    try:
        with contextlib.chdir(Path.cwd()):  # wherever the file goes, paths are meant from here
            return runpy.run_path(name)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"sweep file {name!r} fails with {reason}: mend the file") from error


def _list_sweeps(console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)  # one line each
    for known, declared in sweeps().items():
        table.add_row(f"[bold]{known}[/bold]", escape(declared.title))
    console.print(table)
    console.print("[dim]python -m farm.sweep NAME runs one, all every one; --help lists the options[/dim]")


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    script = Path(sys.argv[0]).name == "farm"
    sys.exit(run(app, "farm" if script else "python -m farm.sweep"))


if __name__ == "__main__":
    main()
