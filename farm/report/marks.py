"""The look that all figures share, and the marks they are made of.

Drawn on figure objects with every setting given explicitly, so that nothing global is touched and
a process may draw whatever else it likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from farm.base.types import Floats
from farm.report.looks import COLOURS, GREY, INK, PALE, Look

# Colours of cells: more of one thing, and less or more than something.
RISING = LinearSegmentedColormap.from_list("rising", ("#ffffff", COLOURS[0]))
AROUND = LinearSegmentedColormap.from_list("around", (COLOURS[3], "#ffffff", COLOURS[0]))
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g}".replace("-", "−"))


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, in inches, that no global state knows of."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def message_figure(title: str, text: str) -> Figure:
    """Make a figure that says why there is nothing to see."""
    figure = new_figure(7.0, 2.2)
    figure.text(0.5, 0.45, text, ha="center", va="center", fontsize=11, color=GREY)
    return titled(figure, title, "")


def titled(figure: Figure, title: str, note: str, handles: Sequence[Artist] | None = None) -> Figure:
    """Put the title and the legend above, and the note below.

    Parameters
    ----------
    figure
        Where.
    title, note
        What they say; an empty note is none.
    handles
        Entries of the legend; None for no legend.

    Returns
    -------
    Figure
        The same one.
    """
    bold = {"size": 13, "weight": "bold"}
    if handles is None:
        figure.suptitle(title, x=0.005, ha="left", color=INK, fontproperties=bold)
    else:  # title and legend in one, as the layout would put one over the other
        widths = [0.6 + 0.07 * len(str(handle.get_label())) for handle in handles]  # inches, about
        width = figure.get_figwidth()
        columns = len(handles) if sum(widths) < width else max(1, int(width / max(widths)))
        legend = figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=columns,
            frameon=False,
            fontsize=9.5,
            labelcolor=INK,
            title=title,
            title_fontproperties=bold,
            alignment="left",
            borderpad=0.2,
            borderaxespad=0.2,
        )
        legend.get_title().set_color(INK)
    figure.supxlabel(note, x=0.005, ha="left", fontsize=8.5, color=GREY)
    return figure


def legend_handle(look: Look, label: str) -> Line2D:
    """Make the entry of a legend for a model's marker."""
    return Line2D(
        [],
        [],
        color=look.colour,
        marker=look.marker,
        markerfacecolor=look.face,
        markersize=6,
        linestyle="",
        label=label,
    )


def say(axis: Axes, text: str) -> None:
    """Say in the middle of a panel why something is missing from it."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=9.5, color=GREY)


def tidy(axis: Axes, grid: str) -> None:
    """Set what global settings would otherwise decide: grid, spines, ticks.

    Parameters
    ----------
    axis
        Where.
    grid
        Which values have grid lines: ``x``, ``y`` or ``both``.
    """
    axis.set_axisbelow(True)
    axis.grid(visible=False)
    axis.grid(visible=True, axis=grid, color="#e6e6e6", linewidth=0.8)  # type: ignore[arg-type]
    axis.tick_params(which="both", length=0, labelsize=9.5, labelcolor=INK)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color="#b0b0b0", linewidth=0.8)


def scale_losses(axis: Axes, losses: Floats) -> bool:
    """Scale the y axis of learning curves; logarithmic, and True, where losses are positive and far apart."""
    low, high = np.nanmin(losses), np.nanmax(losses)
    if not 0 < 8 * low < high:  # less than that has too few round numbers on a logarithmic axis
        axis.yaxis.set_major_locator(MaxNLocator(5))
        return False
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(
        FuncFormatter(lambda loss, _: f"{loss:.1e}".replace(".0e", "e").replace("e-0", "e-"))
    )
    axis.yaxis.set_minor_formatter(NullFormatter())
    return True


def dated(axis: Axes) -> None:
    """Write dates along the bottom."""
    dates = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(dates)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(dates))  # type: ignore[no-untyped-call]
    axis.margins(x=0.01)


def rows_of_points(
    axis: Axes,
    rows: pd.DataFrame,
    looks: Mapping[str, Look],
    reference: str,
    column: str,
    scale: float,
    floor: float,
    also: tuple[float, ...] = (),
) -> None:
    """Draw one score of each row with its interval, names on the left, best on top.

    Parameters
    ----------
    axis
        Where.
    rows
        Rows of the table, best first.
    looks
        The look of each model.
    reference
        The baseline to beat; its name stands out.
    column
        The score; its interval is ``column_lo``, ``column_hi``.
    scale
        What the score is multiplied with.
    floor
        Narrowest window: a share of the median for an error, a difference for a share.
    also
        Values that the window must hold, not multiplied with `scale`.
    """
    value, low, high = (
        scale * rows[name].to_numpy(dtype=float) if name in rows else np.full(len(rows), math.nan)
        for name in (column, f"{column}_lo", f"{column}_hi")
    )
    narrowest = scale * floor if scale != 1 else floor * float(np.median(value))
    start, stop = limits(value, low, high, narrowest, also)
    for place, name in enumerate(rows["model"]):
        look = looks[name]
        text = (f"{value[place]:+.2f}" if column.endswith("skill") else f"{value[place]:#.4g}").replace(
            "-", "−"
        )
        note: dict[str, Any] = {
            "ha": "center",
            "va": "bottom",
            "fontsize": 8.5,
            "color": INK,
            "textcoords": "offset points",
            "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            "zorder": 1.5,  # above the reference's line, below the points
        }
        if not math.isfinite(value[place]):
            axis.annotate("n/a", (0.5 * (start + stop), place), xytext=(0, -4), **note)
        elif start <= value[place] <= stop:
            axis.hlines(place, low[place], high[place], color=look.colour, linewidth=1.8, zorder=2)
            axis.plot(
                value[place],
                place,
                look.marker,
                color=look.colour,
                markerfacecolor=look.face,
                markersize=7,
                zorder=3,
            )
            axis.annotate(text, (value[place], place), xytext=(0, 5), **note)
        else:  # far off: said at the edge, so that the others keep their scale
            below = value[place] < start
            note["ha"] = "left" if below else "right"
            arrow = f"← {text}" if below else f"{text} →"
            axis.annotate(arrow, (start if below else stop, place), xytext=(3 if below else -3, -4), **note)
    axis.set_xlim(start, stop)
    axis.set_ylim(len(rows) - 0.4, -0.75)
    axis.set_yticks(range(len(rows)), rows["model"])
    axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
    tidy(axis, grid="x")
    # A panel that shares its neighbour's names has no labels of its own.
    for label, name in zip(axis.get_yticklabels(), rows["model"], strict=False):
        look = looks[name]
        label.set_color(look.colour if look.variant else INK if name == reference else GREY)
        label.set_fontweight("bold" if look.variant or name == reference else "normal")


def heat_map(
    axis: Axes,
    table: pd.DataFrame,
    colours: Colormap,
    low: float,
    high: float,
    text: Callable[[float], str],
) -> AxesImage:
    """Draw a table as cells of colour, each with its number.

    Parameters
    ----------
    axis
        Where; its ticks are the names of the table's rows and columns.
    table
        Numbers; a NaN is a pale cell.
    colours, low, high
        The colours from the lowest number to the highest; what lies beyond has the last one.
    text
        Writes a number, NaN too; what it leaves empty is not written.

    Returns
    -------
    AxesImage
        What a colour bar needs.
    """
    values = table.to_numpy(np.float64)
    image = axis.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    axis.set_facecolor(PALE)
    brightness = image.to_rgba(values)[..., :3] @ (0.299, 0.587, 0.114)  # as it looks, ITU-R BT.601
    dark = (brightness < 0.55) & np.isfinite(values)
    for (row, column), value in np.ndenumerate(values):
        if written := text(value).replace("-", "−"):
            ink = "white" if dark[row, column] else INK
            axis.text(column, row, written, ha="center", va="center", fontsize=8.5, color=ink)
    rows, columns = values.shape
    axis.set_xticks(range(columns), [str(name) for name in table.columns])
    axis.set_yticks(range(rows), [str(name) for name in table.index])
    axis.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=0.6)
    axis.tick_params(which="both", length=0, labelsize=9.5, labelcolor=INK)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return image


def limits(
    value: Floats, low: Floats, high: Floats, floor: float, also: tuple[float, ...] = ()
) -> tuple[float, float]:
    """Choose axis limits that a few far-off models cannot stretch.

    The half of the points nearest to the median sets a range; the others enter, nearest first, as
    long as the whole stays within four times that range.

    Parameters
    ----------
    value, low, high
        Points and the ends of their intervals, (n,); NaN are left out.
    floor
        Narrowest range that counts as one.
    also
        Values that must be inside; NaN are left out.

    Returns
    -------
    tuple of float
        The limits, with a margin.
    """
    known = np.isfinite(value)
    if not known.any():
        return (-1.0, 1.0)
    points = value[known]
    low, high = np.fmin(low[known], points), np.fmax(high[known], points)
    order = np.argsort(np.abs(points - np.median(points)), kind="stable")
    half = order[: (len(order) + 1) // 2]
    start = float(np.nanmin([*low[half], *also]))
    stop = float(np.nanmax([*high[half], *also]))
    widest = 4 * max(stop - start, floor)
    for i in order[len(half) :]:
        wider = min(start, float(low[i])), max(stop, float(high[i]))
        if wider[1] - wider[0] <= widest:
            start, stop = wider
    margin = 0.1 * max(stop - start, floor) or 1.0  # 1: all values are equal
    return start - margin, stop + margin
