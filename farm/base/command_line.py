"""How every command of the farm ends: 0, or one line and an exit code."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from farm.base.errors import NO_SPACE, UserError, of_one_line

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 110  # of a log file; a terminal has its own
EXIT_FAILED_TRIALS, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def collect_seldom() -> None:
    """Have the collector of garbage look through objects seldom, and not at all when the process ends.

    A command imports a million objects that stay. To look through them again and again takes a second while
    they are imported, and another when they are all dropped.
    """
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)


@contextmanager
def optional(console: Console, what: str) -> Iterator[None]:
    """Let something fail that the rest stands without, and say in one line what is missing and why."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (a verdict must not hang on the kind of it)
        tell_missing(console, what, error)


def tell_missing(console: Console, what: str, error: Exception) -> None:
    """Write in one line what is missing of something that stands without it, and why."""
    line = str(error) if isinstance(error, UserError) else f"{of_one_line(error)}: the same command retries"
    console.print(f"missing: {what}: {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def run(app: typer.Typer, name: str, arguments: list[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on stderr.

    Parameters
    ----------
    app
        The command, or several.
    name
        How it is called, for its help, such as ``"python -m farm.data"``.
    arguments
        Of the command line; None for the program's own.

    Returns
    -------
    int
        Exit code: what the command gave, `EXIT_USAGE` for a user's mistake, `EXIT_INTERRUPTED` for one
        that was interrupted.
    """
    collect_seldom()
    os.environ.pop("MPLBACKEND", None)  # no window is opened, and matplotlib ends on a name it does not know
    try:
        return app(arguments, prog_name=name, standalone_mode=False) or 0
    except UserError as error:
        line = str(error)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        where = f" for {error.filename!r}" if error.filename else ""
        line = f"no space left{where}: what is in the store is kept; make room, and run the same command"
    except typer.Abort:
        return EXIT_INTERRUPTED
    except typer.TyperException as error:
        line = f"{' '.join(error.format_message().split())} (--help lists what there is)"
    print(f"farm: {line}", file=sys.stderr)
    return EXIT_USAGE
