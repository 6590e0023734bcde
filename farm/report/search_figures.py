"""The pictures of a search: its history, what mattered, slices, a contour and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from farm.base.search_space import Choice, Float, Int, Range
from farm.base.types import Floats
from farm.evaluation.pareto import front
from farm.report.looks import COLOURS, GREY, INK, MARKERS, PALE
from farm.report.marks import limits, message_figure, new_figure, say, tidy, titled
from farm.report.pictures import Pictures
from farm.space import SAMPLERS, Objective, SearchPlan
from farm.tuning.studies import Attempt

COLUMNS = 4  # of slices
FEWEST_FOR_CONTOUR = 6
_KNOWN = "#8c8c8c"


def search_figures(
    attempts: Sequence[Attempt],
    search: SearchPlan,
    importances: Sequence[Mapping[str, float]],
    rerun: pd.DataFrame,
) -> Pictures:
    """Draw a search.

    Parameters
    ----------
    attempts
        What was tried.
    search
        What was searched, and for what.
    importances
        Of each objective, the share of its variance that each key explains; empty where too little
        finished.
    rerun
        The rows that were run on every seed; see `farm.report.search.Found`.

    Returns
    -------
    Pictures
        By file stem: ``search_history``, ``search_importances``, ``search_slices``,
        ``search_contour``, and ``search_pareto`` for several objectives.
    """
    done = [attempt for attempt in attempts if attempt.state == "complete"]
    stopped = [attempt for attempt in attempts if attempt.state == "stopped"]
    if not done:
        return Pictures({"search_history": lambda: message_figure("Search", "No config finished.")})
    draw: dict[str, Callable[[], Figure]] = {
        "search_history": lambda: _history(done, attempts, search, rerun),
        "search_importances": lambda: _importances(search, importances),
        "search_slices": lambda: _slices(done, stopped, search),
        "search_contour": lambda: _contour(done, search, importances),
    }
    if len(search.objectives) > 1:
        draw["search_pareto"] = lambda: _pareto(done, search, rerun)
    return Pictures(draw)


def _look(attempts: Sequence[Attempt]) -> dict[str, tuple[str, str]]:
    """Give each sampler a colour and a marker, the same in every figure."""
    names = {attempt.sampler for attempt in attempts}
    return {name: (COLOURS[i], MARKERS[i]) for i, name in enumerate(SAMPLERS) if name in names}


def _handles(attempts: Sequence[Attempt]) -> list[Line2D]:
    looks = _look(attempts)
    handles = [_dot(colour, marker, name) for name, (colour, marker) in looks.items()]
    if any(attempt.known for attempt in attempts):
        handles.append(_dot(_KNOWN, "o", "known before", face="white"))
    return handles


def _dot(colour: str, marker: str, label: str, face: str | None = None) -> Line2D:
    return Line2D(
        [], [], color=colour, marker=marker, markerfacecolor=face or colour, linestyle="", label=label
    )


def _scatter(axis: Axes, attempts: Sequence[Attempt], x: Floats, y: Floats) -> None:
    """Draw attempts at places, in the look of their sampler; hollow what was known before."""
    for name, (colour, marker) in _look(attempts).items():
        for known in (True, False):
            rows = [i for i, a in enumerate(attempts) if a.sampler == name and a.known == known]
            if rows:
                axis.scatter(
                    x[rows],
                    y[rows],
                    s=26,
                    marker="o" if known else marker,
                    color="white" if known else colour,
                    edgecolors=_KNOWN if known else "white",
                    linewidths=0.9 if known else 0.5,
                    zorder=3,
                )


def _scores(attempts: Sequence[Attempt], objective: int) -> Floats:
    return np.array([attempt.scores[objective] for attempt in attempts])


def _window(axis: Axes, values: Floats, also: tuple[float, ...] = ()) -> None:
    """Set the height so that a few far-off configs do not hide the rest; say how many are outside."""
    low, high = limits(values, values, values, 0.02 * abs(float(np.median(values))), also)
    axis.set_ylim(low, high)
    outside = int(((values < low) | (values > high)).sum())
    if outside:
        text = f"{outside} outside"
        axis.annotate(
            text, (0.99, 0.98), xycoords="axes fraction", ha="right", va="top", fontsize=8.5, color=GREY
        )


def _rug(axis: Axes, attempts: Sequence[Attempt], x: Floats) -> None:
    """Mark along the bottom what was stopped early and has no value."""
    for name, (colour, _) in _look(attempts).items():
        rows = [i for i, a in enumerate(attempts) if a.sampler == name]
        axis.plot(
            x[rows],
            np.full(len(rows), 0.02),
            "|",
            transform=axis.get_xaxis_transform(),
            color=colour,
            alpha=0.6,
            markersize=7,
        )


def _history(
    done: Sequence[Attempt], attempts: Sequence[Attempt], search: SearchPlan, rerun: pd.DataFrame
) -> Figure:
    """Draw each objective over the configs in the order tried, and the best so far."""
    figure = new_figure(9.0, 3.4 * len(search.objectives) + 0.6)
    panels = figure.subplots(len(search.objectives), 1, squeeze=False)[:, 0]
    order = {a.row: i + 1 for name in _look(attempts) for i, a in enumerate(_of(attempts, name))}
    own = rerun[rerun["row"] == search.variant]
    stopped = [attempt for attempt in attempts if attempt.state == "stopped"]
    for k, (axis, objective) in enumerate(zip(panels, search.objectives, strict=True)):
        scores = _scores(done, k)
        _rug(axis, stopped, np.array([order[a.row] for a in stopped], dtype=np.float64))
        _scatter(axis, done, np.array([order[a.row] for a in done], dtype=np.float64), scores)
        best = np.minimum.accumulate if objective.sign > 0 else np.maximum.accumulate
        for name, (colour, _) in _look(attempts).items():
            mine = [a for a in _of(done, name) if not a.known]
            if mine:
                places = [order[a.row] for a in mine] + [len(_of(attempts, name))]
                so_far = best(_scores(mine, k))
                axis.step(places, [*so_far, so_far[-1]], where="post", color=colour, linewidth=1.6, zorder=2)
        base = tuple(float(value) for value in own[objective.metric])
        for value in base:
            axis.axhline(value, color=INK, linestyle="--", linewidth=1.1)
        _window(axis, scores, base)
        axis.set_ylabel(objective.label, color=INK, fontsize=10)
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        tidy(axis, grid="y")
    panels[-1].set_xlabel("config, in the order tried", color=INK, fontsize=10)
    handles = _handles(attempts)
    if len(own):
        handles.append(
            Line2D([], [], color=INK, linestyle="--", linewidth=1.1, label=f"{search.variant}, mean of seeds")
        )
    note = "Lines: the best so far. Strokes at the bottom: stopped early, without a value."
    return titled(figure, "What was tried", note if stopped else "Lines: the best so far.", handles)


def _of(attempts: Sequence[Attempt], sampler: str) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.sampler == sampler]


def _importances(search: SearchPlan, importances: Sequence[Mapping[str, float]]) -> Figure:
    title = "What mattered"
    keys = [p.key for p in search.space.parameters if any(p.key in shares for shares in importances)]
    if not keys:
        return message_figure(title, "Too few configs finished to tell.")
    keys.sort(key=lambda key: -max(shares.get(key, 0.0) for shares in importances))
    figure = new_figure(3.2 + 3.2 * len(importances), 1.5 + 0.34 * len(keys))
    panels = figure.subplots(1, len(importances), sharey=True, squeeze=False)[0]
    for axis, shares, objective in zip(panels, importances, search.objectives, strict=True):
        values = [100 * shares.get(key, 0.0) for key in keys]
        axis.barh(range(len(keys)), values, height=0.6, color=COLOURS[0])
        for place, value in enumerate(values):
            axis.annotate(
                f"{value:.0f}",
                (value, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=INK,
            )
        axis.set_xlim(0, 1.15 * max(max(values), 1.0))
        axis.set_ylim(len(keys) - 0.5, -0.5)
        axis.set_yticks(range(len(keys)), [_short(key) for key in keys])
        axis.set_xlabel(f"% of the variance of {objective.label}", color=INK, fontsize=10)
        tidy(axis, grid="x")
        if not shares:
            say(axis, "too few configs finished")
    return titled(figure, title, "Functional ANOVA of a random forest; keys under a condition are left out.")


def _short(key: str) -> str:
    return key.split(".", 1)[1].replace("_", " ")


def _slices(done: Sequence[Attempt], stopped: Sequence[Attempt], search: SearchPlan) -> Figure:
    """Draw the first objective over each searched key."""
    parameters = search.space.parameters
    rows = math.ceil(len(parameters) / COLUMNS)
    columns = math.ceil(len(parameters) / rows)
    figure = new_figure(2.9 * columns + 0.6, 2.5 * rows + 0.9)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis, parameter in zip(panels, parameters, strict=False):
        has, gone = ([a for a in some if parameter.key in a.settings] for some in (done, stopped))
        if gone:
            _rug(axis, gone, _places(parameter.range, [a.settings[parameter.key] for a in gone]))
        if has:
            _scatter(
                axis, has, _places(parameter.range, [a.settings[parameter.key] for a in has]), _scores(has, 0)
            )
        _ticks(axis, parameter.range)
        axis.set_xlabel(_short(parameter.key), color=INK, fontsize=10)
        tidy(axis, grid="y")
    for axis in panels[len(parameters) :]:
        axis.set_visible(False)
    _window(panels[0], _scores(done, 0))
    figure.supylabel(search.objectives[0].label, fontsize=10, color=INK)
    note = "Strokes at the bottom: stopped early, without a value." if stopped else ""
    return titled(figure, "Each key by itself", note, _handles([*done, *stopped]))


def _places(space: Range, values: Sequence[Any]) -> Floats:
    if isinstance(space, Choice):
        return np.array([float(space.options.index(value)) for value in values])
    return np.array(values, dtype=np.float64)


def _ticks(axis: Axes, space: Range, vertical: bool = False) -> None:
    """Scale an axis as a range is searched."""
    along = axis.yaxis if vertical else axis.xaxis
    set_limits = axis.set_ylim if vertical else axis.set_xlim
    if isinstance(space, Choice):
        along.set_ticks(range(len(space.options)), [str(option) for option in space.options])
        set_limits(-0.5, len(space.options) - 0.5)
    elif space.log:
        (axis.set_yscale if vertical else axis.set_xscale)("log")
        if space.high / space.low < 200:  # too few powers of ten to read it off
            small = space.low < 0.01  # its labels are long, so fewer of them
            along.set_major_locator(LogLocator(subs=(1.0, 3.0) if small else (1.0, 2.0, 5.0), numticks=9))
            short = "{:.0e}" if small else "{:g}"
            along.set_major_formatter(FuncFormatter(lambda v, _: short.format(v).replace("e-0", "e-")))
        else:
            along.set_major_locator(LogLocator(numticks=5))
        along.set_minor_formatter(NullFormatter())
        set_limits(space.low / 1.2, space.high * 1.2)
    else:
        margin = 0.04 * (space.high - space.low)
        along.set_major_locator(MaxNLocator(4, integer=isinstance(space, Int)))
        set_limits(space.low - margin, space.high + margin)


def _contour(
    done: Sequence[Attempt], search: SearchPlan, importances: Sequence[Mapping[str, float]]
) -> Figure:
    """Draw the first objective over the two numbers that explain most of it."""
    title = "The two keys that mattered most"
    ranges = {
        p.key: p.range for p in search.space.parameters if isinstance(p.range, Float) and p.given is None
    }
    ranked = [key for key in importances[0] if key in ranges] or list(ranges)
    if len(ranked) < 2 or len(done) < FEWEST_FOR_CONTOUR:
        return message_figure(
            title, "A contour needs two numbers that were searched, and six finished configs."
        )
    x_key, y_key = ranked[:2]
    x = _places(ranges[x_key], [attempt.settings[x_key] for attempt in done])
    y = _places(ranges[y_key], [attempt.settings[y_key] for attempt in done])
    scores = _scores(done, 0)
    figure = new_figure(7.4, 5.4)
    axis = figure.subplots()
    for key, vertical in ((x_key, False), (y_key, True)):
        _ticks(axis, ranges[key], vertical)
    low, high = limits(scores, scores, scores, 1e-9)
    unit = [np.log(v) if ranges[key].log else v for key, v in ((x_key, x), (y_key, y))]
    if min(len(np.unique(np.round(values, 12))) for values in unit) > 2:
        drawn = axis.tricontourf(
            x, y, np.clip(scores, low, high), levels=12, cmap="viridis_r", alpha=0.85, zorder=1
        )
        bar = figure.colorbar(drawn, ax=axis)
        bar.set_label(search.objectives[0].label, color=INK, fontsize=10)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=9)
    _scatter(axis, done, x, y)
    axis.set_xlabel(_short(x_key), color=INK, fontsize=10)
    axis.set_ylabel(_short(y_key), color=INK, fontsize=10)
    tidy(axis, grid="both")
    axis.grid(visible=False)
    return titled(
        figure,
        title,
        "Straight between the configs that were tried; the other keys differ from point to point.",
        _handles(done),
    )


def _pareto(done: Sequence[Attempt], search: SearchPlan, rerun: pd.DataFrame) -> Figure:
    """Draw every pair of objectives, the front of what was tried and what several seeds made of it."""
    pairs = list(combinations(range(len(search.objectives)), 2))
    figure = new_figure(5.6 * len(pairs) + 0.8, 5.2)
    signs = np.array([objective.sign for objective in search.objectives])
    marks = front(np.array([a.scores for a in done]) * signs)
    for axis, (i, j) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        x, y = _scores(done, i), _scores(done, j)
        _scatter(axis, done, x, y)
        if len(signs) == 2:
            order = np.argsort(x[marks])
            axis.step(
                x[marks][order],
                y[marks][order],
                where="post" if signs[0] > 0 else "pre",
                color=GREY,
                linewidth=1.3,
                zorder=2,
            )
        _means(axis, rerun, search.objectives[i], search.objectives[j], search.variant)
        _window(axis, y)
        axis.set_xlim(*limits(x, x, x, 0.02 * abs(float(np.median(x)))))
        axis.set_xlabel(search.objectives[i].label, color=INK, fontsize=10)
        axis.set_ylabel(search.objectives[j].label, color=INK, fontsize=10)
        tidy(axis, grid="both")
    handles = [
        *_handles(done),
        Line2D([], [], color=GREY, linewidth=1.3, label="front of one seed"),
        _dot(INK, "D", "mean of seeds", face="white"),
        _dot(INK, "*", "the pick"),
    ]
    return titled(figure, "Which compromises there are", "", handles)


def _means(axis: Axes, rerun: pd.DataFrame, x: Objective, y: Objective, variant: str) -> None:
    for line in rerun.to_dict("records"):
        at = (float(line[x.metric]), float(line[y.metric]))
        axis.plot(
            *at,
            "*" if line["pick"] else "D",
            color=INK,
            markerfacecolor=INK if line["pick"] else "white",
            markersize=13 if line["pick"] else 6,
            zorder=4,
        )
        if line["pick"] or line["row"] == variant:
            axis.annotate(
                str(line["row"]),
                at,
                xytext=(7, 6),
                textcoords="offset points",
                fontsize=9,
                color=INK,
                bbox={"facecolor": "white", "edgecolor": PALE, "pad": 1.2, "linewidth": 0.6},
                zorder=5,
            )
