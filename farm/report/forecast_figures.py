"""The figures of the probabilistic forecasts: where truths fell, what was covered, and how sharply.

They have the look of `farm.report.marks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from farm.base.types import Floats
from farm.report.looks import COLOURS, GREY, INK, MARKERS, PALE
from farm.report.marks import PERCENT, new_figure, tidy, titled

BINS = 20


def pit_histograms(transforms: Mapping[str, Floats], columns: int = 4) -> Figure:
    """Draw how the truths are spread over each forecast distribution, a panel a model.

    Parameters
    ----------
    transforms
        Probability integral transforms by the model's name, each (B,), in [0, 1].
    columns
        Panels side by side.
    """
    columns = min(columns, len(transforms))
    lines = math.ceil(len(transforms) / columns)
    figure = new_figure(max(2.7 * columns, 7.0), 1.9 * lines + 1.2)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    tops = []
    for axis, (name, values) in zip(axes.flat, transforms.items(), strict=False):
        share = np.histogram(values, bins=BINS, range=(0, 1))[0] / len(values) * BINS
        tops.append(float(share.max()))
        axis.bar((np.arange(BINS) + 0.5) / BINS, share, width=1 / BINS, color=COLOURS[0], alpha=0.55)
        chance = 1.96 * math.sqrt((BINS - 1) / len(values))
        axis.axhspan(max(1 - chance, 0), 1 + chance, color=PALE, alpha=0.7, linewidth=0, zorder=0)
        axis.axhline(1.0, color=INK, linestyle="--", linewidth=1.1)
        axis.set_title(name, loc="left", fontsize=10, color=INK, fontweight="bold")
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        tidy(axis, grid="y")
    for axis in axes.flat[len(transforms) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(len(transforms) - columns, 0) : len(transforms)]:
        axis.tick_params(labelbottom=True)
    axes.flat[0].set_ylim(0, min(max(tops) * 1.08, 5.0))
    axes.flat[0].set_xlim(0, 1)
    figure.supylabel("density", fontsize=10, color=INK)
    handles: list[Any] = [
        Patch(color=COLOURS[0], alpha=0.55, label="share of days, uniform = 1"),
        Line2D([], [], color=INK, linestyle="--", linewidth=1.1, label="a distribution that is right"),
        Patch(color=PALE, alpha=0.7, label="95 % of chance, for independent days"),
    ]
    note = (
        "Across: the forecast probability of less than what came. Towers at the ends: too narrow; a hump: too"
        " wide.\nAll tickers and seeds, which move together: chance is wider than drawn."
    )
    return titled(figure, "Where the returns fell in their forecast distributions", note, handles)


def coverage_against_width(table: pd.DataFrame, kinds: Mapping[str, str], nominal: float = 0.9) -> Figure:
    """Draw coverage of all days and of the volatile quarter against width, raw and calibrated.

    Parameters
    ----------
    table
        See `farm.report.distributions.distribution_table`; rows of another nominal coverage are
        left out.
    kinds
        The kind of each model, such as its head, by model name; one colour and marker each.
    nominal
        Coverage that is aimed at.
    """
    table = table[np.isclose(table["nominal"], nominal) & table["model"].isin(list(kinds))]
    evaluations = _in_order(table["evaluation"])
    figure = new_figure(max(3.1 * len(evaluations) + 0.8, 7.0), 6.2)
    axes = figure.subplots(2, len(evaluations), sharex=True, sharey=True, squeeze=False)
    names = list(dict.fromkeys(kinds.values()))
    rows: tuple[tuple[str, str], ...] = (
        ("coverage", "all days"),
        ("volatile_coverage", "most volatile quarter"),
    )
    for line, (column, days) in zip(axes, rows, strict=True):
        for axis, evaluation in zip(line, evaluations, strict=True):
            own = table[table["evaluation"] == evaluation]
            width = "width" if column == "coverage" else "volatile_width"
            for model, across, up in zip(own["model"], own[width], own[column], strict=True):
                place = names.index(kinds[model])
                axis.plot(
                    across,
                    up,
                    MARKERS[place % len(MARKERS)],
                    color=COLOURS[place % len(COLOURS)],
                    markersize=6,
                    alpha=0.8,
                    markeredgewidth=0,
                )
            axis.axhline(nominal, color=INK, linestyle="--", linewidth=1.1, zorder=1)
            axis.set_title(f"{evaluation}, {days}", loc="left", fontsize=10, color=INK, fontweight="bold")
            _percents(axis)
    axes[0, 0].set_ylabel("inside, %", color=INK, fontsize=10)
    axes[1, 0].set_ylabel("inside, %", color=INK, fontsize=10)
    for axis in axes[1]:
        axis.set_xlabel("mean width, %", color=INK, fontsize=10)
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=6,
            linestyle="",
            label=name,
        )
        for i, name in enumerate(names)
    ]
    handles.append(
        Line2D([], [], color=INK, linestyle="--", linewidth=1.1, label=f"nominal {100 * nominal:.0f} %")
    )
    note = "Means over tickers and seeds. Best: on the line, and to the left."
    return titled(figure, "Coverage against width of the 90 % intervals", note, handles)


def _in_order(evaluations: Iterable[Any]) -> list[str]:
    """Name each evaluation once, the raw one first."""
    return sorted(set(map(str, evaluations)), key=lambda name: (name != "raw", name))


def _percents(axis: Axes) -> None:
    axis.xaxis.set_major_formatter(PERCENT)
    axis.yaxis.set_major_formatter(PERCENT)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_major_locator(MaxNLocator(6))
    tidy(axis, grid="both")


def skill_by_kind(table: pd.DataFrame, baselines: Sequence[str], reference: str) -> Figure:
    """Draw each model's pinball skill against the reference, raw and by its calibrations.

    Parameters
    ----------
    table
        See `farm.report.distributions.distribution_table`.
    baselines
        Models that are drawn grey.
    reference
        What skill is measured against.
    """
    wide = table.pivot_table(index="model", columns="evaluation", values="pinball_skill", sort=False)
    evaluations = _in_order(wide.columns)
    wide = wide.loc[wide.max(axis=1).sort_values(ascending=False).index]
    figure = new_figure(9.5, 1.8 + 0.26 * len(wide))
    axis = figure.subplots()
    places = np.arange(len(wide))
    low = float(np.nanquantile(wide.to_numpy(), 0.02))
    floor = min(100 * low, 0.0) - 1
    for k, name in enumerate(evaluations):
        skill = np.maximum(100 * wide[name].to_numpy(dtype=float), floor)
        axis.plot(
            skill, places, MARKERS[k], color=COLOURS[k], markersize=6, alpha=0.85, markeredgewidth=0, zorder=3
        )
    for place, model in enumerate(wide.index):
        own = np.maximum(100 * wide.loc[model].to_numpy(dtype=float), floor)
        axis.hlines(place, np.nanmin(own), np.nanmax(own), color=PALE, linewidth=2.0, zorder=2)
    axis.axvline(0, color=INK, linestyle="--", linewidth=1.1, zorder=1)
    axis.set_yticks(places, list(wide.index))
    tidy(axis, grid="x")
    for label, model in zip(axis.get_yticklabels(), wide.index, strict=True):
        label.set_color(GREY if model in baselines else INK)
    axis.set_ylim(len(wide) - 0.4, -0.6)
    axis.set_xlabel(
        f"pinball loss below that of {reference} with the same calibration, % (right is better)", color=INK
    )
    axis.xaxis.set_major_locator(MaxNLocator(8))
    handles = [
        Line2D([], [], color=COLOURS[k], marker=MARKERS[k], markersize=6, linestyle="", label=name)
        for k, name in enumerate(evaluations)
    ]
    note = f"Means over tickers and seeds; grey names are baselines. At {floor:.0f} % also what is worse."
    return titled(figure, f"Pinball skill against {reference}", note, handles)
