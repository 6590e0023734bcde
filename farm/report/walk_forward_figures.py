"""The figures of a walk-forward."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from farm.base.types import Floats
from farm.evaluation.selection import LEVEL
from farm.evaluation.trading import COSTS, HOLD
from farm.report.looks import COLOURS, GREY, INK, MARKERS, PALE
from farm.report.marks import AROUND, PERCENT, heat_map, new_figure, tidy, titled
from farm.report.pictures import Pictures
from farm.report.walk_forward import WalkForward


def walk_forward_figures(found: WalkForward, reference: str, variants: Sequence[str]) -> Pictures:
    """Draw what a walk-forward comes to.

    Parameters
    ----------
    found
        See `farm.report.walk_forward.walk_forward`.
    reference
        The baseline to beat.
    variants
        Models whose names stand out.

    Returns
    -------
    Pictures
        By file stem: ``confidence``, ``regimes``, ``trading``.
    """
    return Pictures(
        {
            "confidence": lambda: _confidence_figure(found.confidence),
            "regimes": lambda: _regimes_figure(found.regimes.drop(index=reference), reference),
            "trading": lambda: _trading_figure(found.trading, variants),
        }
    )


def _confidence_figure(confidence: pd.DataFrame) -> Figure:
    """Draw in which sets each model is: a filled cell is in, with its p-value."""
    figure = new_figure(2.8 + 0.95 * confidence.shape[1], 1.5 + 0.3 * len(confidence))
    axis = figure.subplots()
    in_or_out = ListedColormap(("#ffffff", "#a6cbe3"))
    highest = 2 * np.nextafter(LEVEL, 1)  # the colour changes right above the level
    heat_map(axis, confidence, in_or_out, 0, highest, _p_value)
    for text, p in zip(axis.texts, confidence.to_numpy(np.float64).ravel(), strict=True):
        text.set_color(INK if p > LEVEL else GREY)
    axis.xaxis.tick_top()
    return titled(
        figure,
        "Model confidence sets: who may be the best",
        "p-values of the 95 % sets by squared error; blue is in the set. Right: all tickers together.",
    )


def _p_value(p: float) -> str:
    return "–" if math.isnan(p) else "<0.01" if p < 0.01 else f"{p:.2f}"


def _regimes_figure(regimes: pd.DataFrame, reference: str) -> Figure:
    percent: Floats = 100 * regimes.to_numpy(np.float64)
    known = np.abs(percent[np.isfinite(percent)])
    limit = max(3 * float(np.median(known)) if len(known) else 1.0, 0.1)
    figure = new_figure(3.2 + 0.85 * regimes.shape[1], 1.5 + 0.3 * len(regimes))
    axis = figure.subplots()
    heat_map(axis, 100 * regimes, AROUND, -limit, limit, lambda v: f"{v:+.1f}" if math.isfinite(v) else "")
    axis.xaxis.tick_top()
    return titled(
        figure,
        f"RMSE skill against {reference}, %, by regime and year",
        "Volatile: the quarter of a ticker's test days after the wildest 20. Strong colours end at"
        f" ±{limit:.1f} %.\nA description, not a test.",
    )


def _trading_figure(trading: pd.DataFrame, variants: Sequence[str]) -> Figure:
    """Draw the yearly return of each model after each cost beside that of holding."""
    hold = trading[trading["model"] == HOLD].iloc[0]
    rows = trading[trading["model"] != HOLD].reset_index(drop=True)
    figure = new_figure(9.5, 1.9 + 0.28 * len(rows))
    axis = figure.subplots()
    for place, row in enumerate(rows.to_dict("records")):
        ends = [row[f"return_{cost}bp"] for cost in COSTS]
        axis.hlines(place, min(ends), max(ends), color=PALE, linewidth=2.0, zorder=2)
        for k, value in enumerate(ends):
            axis.plot(value, place, MARKERS[k], color=COLOURS[k], markersize=6, markeredgewidth=0, zorder=3)
    axis.axvline(0, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    axis.axvline(hold[f"return_{COSTS[0]}bp"], color=INK, linestyle="--", linewidth=1.2, zorder=1)
    axis.set_yticks(range(len(rows)), rows["model"])
    tidy(axis, grid="x")
    for label, model in zip(axis.get_yticklabels(), rows["model"], strict=True):
        label.set_color(INK if model in variants else GREY)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.xaxis.set_major_formatter(PERCENT)
    axis.set_xlabel("mean return a year, %", color=INK, fontsize=10)
    handles = [
        Line2D([], [], color=COLOURS[k], marker=MARKERS[k], markersize=6, linestyle="", label=f"after {c} bp")
        for k, c in enumerate(COSTS)
    ]
    handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label=HOLD))
    note = (
        "Long on a positive forecast, short on a negative one; mean over tickers and seeds. Grey: baselines."
        "\nNo slippage, no borrowing, no taxes, tickers picked with hindsight: no evidence of profit."
    )
    return titled(figure, "What trading the sign would have earned", note, handles)
