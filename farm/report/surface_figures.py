"""The figures of the surface study, from plain arrays: years ahead, errors, cells, phases, checklist.

They have the look of `farm.report.marks`; a model has the look that the sweep's other figures give it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from farm.base.types import Dates, Floats
from farm.evaluation.checklist import Outcome, overall
from farm.report.looks import COLOURS, GREY, INK, PALE, Look
from farm.report.marks import (
    PERCENT,
    RISING,
    dated,
    heat_map,
    legend_handle,
    message_figure,
    new_figure,
    scale_losses,
    tidy,
    titled,
)

VERDICT_COLOURS = {"pass": "#cfe8d8", "refine": "#fbe3b5", "fall back": "#f3c3bb", "not measured": "#eeeeee"}


def year_fan(times: Dates, actual: Floats, fans: Mapping[str, Floats], starts: Sequence[int]) -> Figure:
    """Draw the level over the test days with the fan of each stretch.

    Parameters
    ----------
    times, actual
        Days and the level that came, (T,).
    fans
        By model: mean, 5 % and 95 % quantile and a few paths of the generated level, (T, 3 + paths).
    starts
        Places of the days on which a stretch begins.
    """
    figure = new_figure(11.5, 2.6 * len(fans) + 1.2)
    axes = figure.subplots(len(fans), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    ends = [*starts[1:], len(times)]
    for axis, colour, (name, fan) in zip(axes, COLOURS, fans.items(), strict=False):
        for start, end in zip(starts, ends, strict=True):
            some = slice(start, end)  # a fan must not be joined to the next one
            axis.fill_between(times[some], fan[some, 1], fan[some, 2], color=colour, alpha=0.2, linewidth=0)
            axis.plot(times[some], fan[some, 3:], color=colour, linewidth=0.5, alpha=0.55)
            axis.plot(times[some], fan[some, 0], color=colour, linewidth=1.8)
            axis.axvline(times[start], color=GREY, linestyle=":", linewidth=0.9)
        axis.plot(times, actual, color=INK, linewidth=0.9)
        outside = np.mean((actual < fan[:, 1]) | (actual > fan[:, 2]))
        rmse = np.sqrt(np.mean((fan[:, 0] - actual) ** 2))
        axis.set_title(
            f"{name}:  RMSE {rmse:.3f}, {100 * outside:.0f} % of days outside",
            loc="left",
            fontsize=10,
            color=colour,
            fontweight="bold",
        )
        axis.set_ylabel("level, % a year", color=INK, fontsize=10)
        axis.yaxis.set_major_formatter(PERCENT)
        axis.yaxis.set_major_locator(MaxNLocator(5))
        tidy(axis, grid="y")
    axes[0].set_ylim(
        0, 1.08 * float(np.max([actual.max(), *(np.quantile(f[:, 2], 0.98) for f in fans.values())]))
    )
    dated(axes[-1])
    handles: list[Any] = [
        Line2D([], [], color=INK, linewidth=0.9, label="came"),
        Line2D([], [], color=COLOURS[0], linewidth=1.8, label="mean (panel's colour)"),
        Patch(color=COLOURS[0], alpha=0.2, label="90 % interval, raw"),
        Line2D([], [], color=COLOURS[0], linewidth=0.5, label="some generated paths"),
        Line2D([], [], color=GREY, linestyle=":", linewidth=0.9, label="a stretch begins"),
    ]
    return titled(
        figure,
        "The level, a year ahead at a time",
        "One-year volatility at the money, test block. Each stretch is generated from the days before it.",
        handles,
    )


def errors_ahead(
    passes: Mapping[str, Floats], leads: Mapping[str, Floats], looks: Mapping[str, Look]
) -> Figure:
    """Draw RMSE by pass and by the number of days ahead.

    Parameters
    ----------
    passes
        By model: RMSE of pass 1, 2 and so on, means over seeds.
    leads
        By model: RMSE of the days 1 to T, (T,).
    looks
        Of each model.
    """
    figure = new_figure(11.5, 5.0)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 2.2])
    width = 0.7 / max(len(passes), 1)
    for place, (name, values) in enumerate(passes.items()):
        look, x = looks[name], np.arange(1, len(values) + 1) + (place + 0.5) * width - 0.35
        left.plot(x, values, look.marker, color=look.colour, markerfacecolor=look.face, markersize=6)
    count = max(len(values) for values in passes.values())
    for edge in np.arange(1, count) + 0.5:
        left.axvline(edge, color=PALE, linewidth=0.8, zorder=0)
    left.set_xlim(0.5, count + 0.5)
    left.set_xticks(range(1, count + 1))
    left.set_xlabel("pass", color=INK, fontsize=10)
    left.set_ylabel("RMSE, volatility", color=INK, fontsize=10)
    for name, values in leads.items():
        look = looks[name]
        right.plot(
            np.arange(1, len(values) + 1), values, color=look.colour, linewidth=2.0 if look.variant else 1.1
        )
        right.plot(
            len(values), values[-1], look.marker, color=look.colour, markerfacecolor=look.face, markersize=5
        )
    right.set_xlabel("days ahead", color=INK, fontsize=10)
    right.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    for axis in (left, right):
        axis.set_ylim(bottom=0)
        tidy(axis, grid="y")
    return titled(
        figure,
        "How the error grows",
        "All cells, means over seeds. Few stretches lie behind a day ahead, so their years show as bumps"
        " that all models share.",
        [legend_handle(looks[name], name) for name in leads],
    )


def cell_heatmap(rmse: Mapping[str, Floats], maturities: Sequence[str], strikes: Sequence[str]) -> Figure:
    """Draw the RMSE of each cell.

    Parameters
    ----------
    rmse
        By model, (W, M) in volatility.
    maturities, strikes
        Names of the rows and columns.
    """
    rows = 1 + (len(rmse) > 3)
    columns = -(-len(rmse) // rows)
    figure = new_figure(max(7.0, 3.4 * columns + 0.8), 2.9 * rows + 0.9)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    top = max(float(values.max()) for values in rmse.values())
    for axis, (name, values) in zip(axes, rmse.items(), strict=False):
        table = pd.DataFrame(values, index=list(maturities), columns=list(strikes))
        heat_map(axis, table, RISING, 0, top, lambda v: f"{v:.3f}")
        axis.set_title(name, loc="left", fontsize=10, color=INK, fontweight="bold")
        axis.set_xlabel("strike", color=INK, fontsize=9.5)
    for axis in axes[::columns]:
        axis.set_ylabel("maturity", color=INK, fontsize=9.5)
    for axis in axes[len(rmse) :]:
        axis.set_visible(False)
    return titled(
        figure, "RMSE of each cell", "A year ahead, test block, means over seeds; one scale of colour."
    )


def phase_curves(
    curves: Mapping[str, Sequence[tuple[str, Floats, Floats]]], looks: Mapping[str, Look]
) -> Figure:
    """Draw the learning curve of each phase.

    Parameters
    ----------
    curves
        By model: name of each phase it went through, training and validation loss of its epochs.
    looks
        Of each model.
    """
    phases = list(dict.fromkeys(phase for parts in curves.values() for phase, _, _ in parts))
    if not phases:
        return message_figure("Learning curves by phase", "No network was trained in phases.")
    figure = new_figure(max(3.0 * len(phases) + 0.8, 7.0), 4.2)
    axes = figure.subplots(1, len(phases), squeeze=False)[0]
    for axis, phase in zip(axes, phases, strict=True):
        seen: list[float] = []
        for name, parts in curves.items():
            for own, train, val in parts:
                if own != phase:
                    continue
                epochs = np.arange(1, len(val) + 1)
                mark = look.marker if (look := looks[name]) and len(val) < 3 else None
                axis.plot(
                    epochs, train, color=look.colour, linestyle="--", linewidth=1.1, alpha=0.8, marker=mark
                )
                axis.plot(epochs, val, color=look.colour, linewidth=1.8, marker=mark, markersize=4)
                best = int(np.argmin(val))
                axis.plot(epochs[best], val[best], look.marker, color=look.colour, markersize=5)
                seen += [*train.tolist(), *val.tolist()]
        axis.set_title(phase, loc="left", fontsize=10, color=INK, fontweight="bold")
        axis.set_xlabel("epoch of the phase", color=INK, fontsize=9.5)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        scale_losses(axis, np.array(seen))
        tidy(axis, grid="y")
    axes[0].set_ylabel("loss", color=INK, fontsize=10)
    handles = [legend_handle(looks[name], name) for name in curves]
    handles += [
        Line2D([], [], color=GREY, linewidth=1.8, label="validation"),
        Line2D([], [], color=GREY, linestyle="--", linewidth=1.1, label="training, with dropout"),
    ]
    return titled(
        figure,
        "Learning curves by phase",
        "First seed. Each phase has a loss of its own: compare heights within a phase. Marked: the epoch"
        " whose weights were kept.",
        handles,
    )


def cointegration_shares(shares: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw the share of cells that follow EWMA volatility, generated beside real.

    Parameters
    ----------
    shares
        One row for each model and regime: model, regime, generated, real (shares), means over seeds.
    looks
        Of each model.
    """
    regimes = list(dict.fromkeys(shares["regime"]))
    names = list(dict.fromkeys(shares["model"]))
    if not regimes:
        return message_figure("Cointegration", "No period was long enough to be tested.")
    figure = new_figure(11.5, 1.9 + 0.36 * len(names))
    axes = figure.subplots(1, len(regimes), sharey=True, squeeze=False)[0]
    for axis, regime in zip(axes, regimes, strict=True):
        own = shares[shares["regime"] == regime].set_index("model")
        axis.axvline(float(own["real"].mean()), color=INK, linestyle="--", linewidth=1.2)
        for place, name in enumerate(names):
            look = looks[name]
            if name not in own.index:
                continue
            value = float(own.loc[name, "generated"])
            axis.plot(value, place, look.marker, color=look.colour, markerfacecolor=look.face, markersize=7)
            near = value > 0.85 or 0 < float(own["real"].mean()) - value < 0.15  # the line, or the edge
            axis.annotate(
                f"{100 * value:.0f}",
                (value, place),
                xytext=(-7 if near else 7, 0),
                textcoords="offset points",
                ha="right" if near else "left",
                va="center",
                fontsize=8.5,
                color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
        axis.set_xlim(-0.04, 1.04)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_yticks(range(len(names)), names)
        axis.xaxis.set_major_formatter(PERCENT)
        axis.set_xlabel("cells that are cointegrated, %", color=INK, fontsize=9.5)
        axis.set_title(
            f"{regime}: real {100 * float(own['real'].mean()):.0f} %",
            loc="left",
            fontsize=10,
            color=INK,
            fontweight="bold",
        )
        tidy(axis, grid="x")
    return titled(
        figure,
        "Do generated volatilities still follow the returns' volatility?",
        "Stretches joined; EWMA volatility of the real returns; ADF test of the residual, p < 0.05."
        " Nothing honest knows the returns to come, and the real share is no 100 %.",
        [Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label="real surfaces, same days")],
    )


def deployments(ways: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw both deployments of each network side by side: passes apart, and overlapping.

    Parameters
    ----------
    ways
        One row for each model: model, and for each of rmse, violations and degradation the columns
        ``NAME_fast`` and ``NAME_overlap``, means over seeds.
    looks
        Of each model.
    """
    if not len(ways):
        return message_figure("Two ways to deploy", "No network rolled out in overlapping passes.")
    figure = new_figure(11.5, 2.0 + 0.42 * len(ways))
    panels = (
        ("rmse", "RMSE (left is better)", 1.0, "{:.4f}"),
        ("violations", "outside the raw 90 % interval, % (10 is right)", 100.0, "{:.1f}"),
        ("degradation", "pass 3 / pass 1 (left is better)", 1.0, "{:.2f}"),
    )
    for axis, (column, label, scale, form) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        for place, row in enumerate(ways.to_dict("records")):
            look = looks[row["model"]]
            fast, overlap = (scale * float(row[f"{column}_{way}"]) for way in ("fast", "overlap"))
            axis.plot([fast, overlap], [place, place], color=look.colour, linewidth=1.2, zorder=2)
            axis.plot(fast, place, "o", color=look.colour, markersize=7, zorder=3)
            axis.plot(
                overlap, place, "D", color=look.colour, markerfacecolor="white", markersize=6.5, zorder=3
            )
            low, high = sorted((fast, overlap))
            for value, side in ((low, -1), (high, 1)):
                axis.annotate(
                    form.format(value),
                    (value, place),
                    xytext=(side * 7, 0),
                    textcoords="offset points",
                    ha="right" if side < 0 else "left",
                    va="center",
                    fontsize=8.5,
                    color=INK,
                )
        axis.margins(x=0.35)
        axis.set_ylim(len(ways) - 0.5, -0.5)
        axis.set_yticks(range(len(ways)), list(ways["model"]))
        axis.set_xlabel(label, color=INK, fontsize=9.5)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        tidy(axis, grid="x")
    handles = [
        Line2D(
            [], [], color=GREY, marker="o", markersize=7, linestyle="", label="fast: passes apart (ranked)"
        ),
        Line2D(
            [],
            [],
            color=GREY,
            marker="D",
            markerfacecolor="white",
            markersize=6.5,
            linestyle="",
            label="overlapping passes, averaged",
        ),
    ]
    return titled(
        figure, "Two ways to deploy", "Test block, means over seeds. Axes do not start at zero.", handles
    )


def checklist_picture(outcomes: Sequence[Outcome], name: str) -> Figure:
    """Draw the plan's checklist: each number beside its limit, coloured by its verdict.

    Parameters
    ----------
    outcomes
        See `farm.evaluation.checklist.hold`.
    name
        What was held to it.
    """
    height = 0.235
    figure = new_figure(11.5, height * (len(outcomes) + 1) + 1.1)
    axis = figure.subplots()
    columns = {
        "Criterion": 0.0,
        "Section": 0.48,
        "Number": 0.655,
        "Limit": 0.665,
        "Red flag": 0.79,
        "Verdict": 0.87,
    }
    for title, x in columns.items():
        axis.text(x, -0.5, title, ha=_side(title), va="center", fontsize=9, fontweight="bold", color=INK)
    for place, outcome in enumerate(outcomes):
        c, y = outcome.criterion, place + 0.5
        axis.axhspan(place, place + 1, xmin=0.855, color=VERDICT_COLOURS[outcome.verdict], linewidth=0)
        sign = "≤" if c.better == "less" else "≥"
        limit = f"{sign} {c.limit:g}" + ("" if c.stretch is None else f"  (aim {c.stretch:g})")
        red = "" if c.red is None else f"{'>' if c.better == 'less' else '<'} {c.red:g}"
        value = "–" if outcome.value is None else _number(outcome.value)
        bold = "bold" if c.kind == "gate" else "normal"
        cells = (textwrap.shorten(c.name, 75), c.section, value, limit, red, outcome.verdict)
        for (title, x), text in zip(columns.items(), cells, strict=True):
            colour = GREY if outcome.verdict == "not measured" else INK
            axis.text(x, y, text, ha=_side(title), va="center", fontsize=9, color=colour, fontweight=bold)
        axis.axhline(place + 1, color=PALE, linewidth=0.6)
    axis.set_xlim(-0.005, 1.0)
    axis.set_ylim(len(outcomes), -1)
    axis.axis("off")
    found = [outcome.verdict for outcome in outcomes]
    counts = ", ".join(f"{found.count(v)} {v}" for v in ("pass", "refine", "fall back", "not measured"))
    return titled(
        figure,
        f"The plan's checklist: {name}: {overall(outcomes)}",
        f"{counts}. Bold: gates. First seed. Sections are the plan's; where it contradicts itself, each"
        " number has its row.",
    )


def _number(value: float) -> str:
    """Write four significant digits, which tell a number from its limit, and large numbers whole."""
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.4g}").replace("-", "−")


def _side(title: str) -> str:
    return "right" if title == "Number" else "left"
