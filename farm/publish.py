"""The report page of a sweep, anew from the store: ``python -m farm.report NAME``."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from farm.base.command_line import run
from farm.base.options import options_of
from farm.sweep import (
    DataOption,
    EndOption,
    EpochsOption,
    ExperimentOption,
    MarketOption,
    ObjectiveOption,
    PeersOption,
    QuickOption,
    SamplerOption,
    SamplesOption,
    SeedsOption,
    SettingsOption,
    StartOption,
    StorageOption,
    StudyOption,
    SurfaceOption,
    TickersOption,
    TrackingOption,
    VariantsOption,
    ask,
    go,
)

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Give the same options as the sweep was run with.",
)
def report(
    name: Annotated[str, typer.Argument(help="A sweep of search_spaces/, or a .py file of your own.")],
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
    storage: StorageOption = "farm_store",
    tracking_uri: TrackingOption = "sqlite:///mlflow.db",
    experiment: ExperimentOption = None,
) -> None:
    """Write the verdict, the tables, the pictures and the report page of what is finished; run nothing.

    All goes to [bold]results/NAME/[/bold] under the working directory, and what MLflow lacks to MLflow.
    """
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
    # Every option of this command is one of the sweep's.
    command = shlex.join(["python", "-m", "farm.sweep", *sys.argv[1:]])
    with options_of("command line"):
        runtime = Runtime(
            storage=storage,
            tracking_uri=tracking_uri,
            concurrency=None,
            address=None,
            dry_run=False,
            rerun=False,
            checkpoint_every=0.0,
            command=command,
            report_only=True,
            experiment=experiment,
        )
    raise typer.Exit(go(name, asked, data, surface, runtime))


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    sys.exit(run(app, "python -m farm.report"))
