"""The command line of the data room: ``python -m farm.data fetch`` and ``describe``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from farm.base.command_line import run
from farm.data.sources import TICKERS, fetch

app = typer.Typer(
    help="Get and look at panels of daily prices.",
    rich_markup_mode=None,  # with it, help cuts the list of tickers short
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("fetch")
def fetch_command(
    tickers: Annotated[str, typer.Option(help="Yahoo's names, with commas between.")] = ",".join(TICKERS),
    start: Annotated[str, typer.Option(help="First day, YYYY-MM-DD.")] = "2013-01-01",
    end: Annotated[str | None, typer.Option(help="Last day, YYYY-MM-DD.", show_default="yesterday")] = None,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("panel.parquet"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
) -> None:
    """Fill a panel file with adjusted daily bars from Yahoo (needs ablation-farm[fetch] and internet)."""
    fetch([name for name in tickers.split(",") if name.strip()], start, end, out, force=force)
    typer.echo(f"wrote {out}; python -m farm.data describe {out} shows it")


@app.command()
def describe(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Parquet or CSV, long or yfinance's wide layout.", show_default="the bundled panel"
        ),
    ] = None,
) -> None:
    """Check a panel file and list its tickers with first day, last day and number of rows."""
    from rich.console import Console
    from rich.table import Table

    from farm.data.door import load_panel  # pandas is slow to import, and --help needs none

    panel = load_panel(file)
    table = Table("ticker", "first", "last", title=f"{panel.source}: {len(panel.bars)} tickers")
    table.add_column("rows", justify="right")
    for ticker, bars in panel.bars.items():
        table.add_row(ticker, str(bars.dates[0]), str(bars.dates[-1]), f"{len(bars)}")
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on stderr.

    Parameters
    ----------
    arguments
        Of the command line; None for the program's own.

    Returns
    -------
    int
        Exit code: 0, or 2 for a user's mistake.
    """
    return run(app, "python -m farm.data", (sys.argv[1:] if arguments is None else arguments) or ["--help"])


if __name__ == "__main__":
    sys.exit(main())
