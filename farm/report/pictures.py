"""Pictures as files: drawn one after the other under settings of our own; one that fails costs itself alone.

Nothing of matplotlib is imported before the first is drawn, so a verdict does not depend on it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farm.base.command_line import optional
from farm.base.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

_DPI = 150


@dataclass(frozen=True)
class Pictures(Mapping[str, "Figure"]):
    """Figures by file stem, each drawn when it is asked for."""

    draw: Mapping[str, Callable[[], Figure]]

    def __getitem__(self, stem: str) -> Figure:
        """Draw one."""
        return self.draw[stem]()

    def __iter__(self) -> Iterator[str]:
        """Name the file stems."""
        return iter(self.draw)

    def __len__(self) -> int:
        """Count them."""
        return len(self.draw)


Group = Callable[[], Mapping[str, "Figure"]]  # such as what a study adds


def save_pictures(out: Path, groups: Iterable[Group], console: Console) -> list[Path]:
    """Draw figures and write each as ``STEM.png``, whole or not at all.

    Parameters
    ----------
    out
        A folder that is there.
    groups
        Figures by file stem.
    console
        Where to say what could not be drawn or written.

    Returns
    -------
    list of Path
        The files, in the order written.
    """
    files: list[Path] = []
    for group in groups:
        figures: Mapping[str, Figure] = {}
        with optional(console, "pictures"), own_settings():
            figures = group()
        for stem in figures:
            path = out / f"{stem}.png"
            with optional(console, f"picture {path.name}"):
                path.unlink(missing_ok=True)  # one that fails leaves none of another verdict
                content = io.BytesIO()
                with own_settings():
                    figures[stem].savefig(content, format="png", dpi=_DPI)
                write_atomically(path, content.getvalue())
                files.append(path)
    return files


@contextmanager
def own_settings() -> Iterator[None]:
    """Draw as matplotlib does where nothing is set; what the user has set stands again afterwards."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["timezone"] = "UTC"  # which the defaults leave as it is
        yield
