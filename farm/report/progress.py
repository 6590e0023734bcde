"""Live progress: a panel on a terminal, plain lines in a log file."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_EVERY = 15.0  # seconds between lines in a log file


class Progress:
    """Trials done, running and failed, the best so far and the time left.

    Parameters
    ----------
    console
        Where to show it; a terminal gets a live panel, anything else plain lines.
    total
        Trials of the sweep.
    stored
        How many of them were in the store before.
    stages
        Stages of curricula to train, if no gate is missed.
    reference
        Name of the baseline that scores are relative to.
    """

    def __init__(self, console: Console, total: int, stored: int, stages: int, reference: str) -> None:
        self._console = console
        self._total = total
        self._stored = stored
        self._stages = stages
        self._trained = 0
        self._reference = reference
        self._finished = 0
        self._failed: dict[str, str] = {}
        self._running: dict[str, str] = {}
        self._best: tuple[float, str] | None = None
        self._started = time.monotonic()
        self._last_line = float("-inf")
        self._live = (
            Live(get_renderable=self._panel, console=console, refresh_per_second=4, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        """Begin to show it."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the panel away and leave one line."""
        if self._live:
            self._live.stop()
        self._console.print(self._line(), highlight=False)

    def running(self, name: str, state: str) -> None:
        """Show a job, such as a trial or a stage of one, as running, with what it is at."""
        self._running[name] = state
        self._tell()

    def left(self, name: str, stage: bool) -> None:
        """Show a job as running no more; one that was a stage is counted."""
        self._running.pop(name, None)
        self._trained += stage
        self._tell()

    def finished(self, name: str, ratio: float | None) -> None:
        """Count a trial as done.

        Parameters
        ----------
        name
            The trial.
        ratio
            Its validation RMSE over the reference's on the same ticker; None or NaN where that does not
            apply.
        """
        self._finished += 1
        if ratio is not None and not math.isnan(ratio) and (self._best is None or ratio < self._best[0]):
            self._best = ratio, name
        self._tell()

    def failed(self, name: str, reason: str) -> None:
        """Count a trial as failed."""
        self._failed[name] = reason
        self._console.print(
            f"failed: {name}: {reason}", style="red", highlight=False, soft_wrap=True, markup=False
        )

    @property
    def _done(self) -> int:
        return self._stored + self._finished

    def _time_left(self) -> str:
        ended = self._finished + len(self._failed) + self._trained
        remaining = self._total - self._stored + max(self._stages, self._trained) - ended
        if not ended or not remaining:
            return "" if remaining else "0:00"
        seconds = int((time.monotonic() - self._started) / ended * remaining)
        return (
            f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
            if seconds >= 3600
            else f"{seconds // 60}:{seconds % 60:02d}"
        )

    def _best_text(self) -> str:
        assert self._best is not None
        return f"{self._best[1]} ({self._best[0]:.3f} x the validation RMSE of {self._reference})"

    def _line(self) -> str:
        parts = [
            f"{self._done}/{self._total} done",
            f"{len(self._running)} running",
            f"{len(self._failed)} failed",
        ]
        if self._stored:
            parts[0] += f" ({self._stored} from the store)"
        if self._stages:
            parts.insert(1, f"{self._trained}/{self._stages} stages")
        if self._best:
            parts.append(f"best so far {self._best_text()}")
        if self._running and self._time_left():
            parts.append(f"{self._time_left()} left")
        return ", ".join(parts)

    def _tell(self) -> None:
        now = time.monotonic()
        if self._live is None and now - self._last_line >= PLAIN_EVERY:
            self._last_line = now
            self._console.print(self._line(), highlight=False, soft_wrap=True)

    def _panel(self) -> Group:
        head = Table.grid(padding=(0, 2))
        counts = Text.assemble(
            (f"{self._done}", "bold green"),
            f"/{self._total} done  ",
            (f"{len(self._running)}", "bold cyan"),
            " running  ",
            (f"{len(self._failed)}", "bold red" if self._failed else "dim"),
            " failed",
        )
        if self._stages:
            counts.append(f"  {self._trained}/{self._stages} stages", "dim")
        left = self._time_left()
        head.add_row(
            ProgressBar(self._total + self._stages, self._done + len(self._failed) + self._trained, width=30),
            counts,
            Text(f"{left} left" if left else "", "dim"),
        )
        lines: list[Table | Text] = [head]
        if self._best:
            lines.append(Text.assemble(("best so far: ", "dim"), self._best_text()))
        shown = list(self._running.items())[:8]
        lines += [Text.assemble(("  ▸ ", "cyan"), name, (f"  {state}", "dim")) for name, state in shown]
        if len(self._running) > len(shown):
            lines.append(Text(f"  and {len(self._running) - len(shown)} more", "dim"))
        return Group(*lines)
