"""The figures of hidden states: maps, what a probe reads, and alignment. They have the look of `marks`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from farm.base.types import Floats, Ints
from farm.report.looks import COLOURS, GREY, INK
from farm.report.marks import RISING, heat_map, new_figure, tidy, titled

QUARTERS = ("calmest quarter of days", "calm", "wild", "wildest quarter")
_QUARTER_COLOURS = ("#9ecae1", "#3182bd", "#fdae6b", "#c0392b")


def map_figure(states: Mapping[str, Floats], volatility: Mapping[str, Floats], ticker: str) -> Figure:
    """Draw the states of each variant in two dimensions, by PCA above and t-SNE below.

    Parameters
    ----------
    states
        By variant, (B, D).
    volatility
        Of the days before each state, (B,); decides the colour.
    ticker
        Whose days they are; ``all`` where they are of many assets.
    """
    from sklearn.decomposition import PCA  # slow to import
    from sklearn.manifold import TSNE

    figure = new_figure(max(2.6 * len(states) + 0.5, 7.0), 6.2)
    axes = figure.subplots(2, len(states), squeeze=False)
    for column, (name, values) in enumerate(states.items()):
        scaled = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-12)
        width = min(2, scaled.shape[1])
        pca = PCA(width).fit(scaled)
        flat = np.zeros((len(scaled), 2))
        flat[:, :width] = pca.transform(scaled)
        perplexity = min(30.0, (len(scaled) - 1) / 3)
        near = TSNE(2, perplexity=perplexity, init="random", random_state=0).fit_transform(scaled)
        rank = np.argsort(np.argsort(volatility[name], kind="stable"), kind="stable")
        quarter = 4 * rank // len(rank)
        for axis, points in zip(axes[:, column], (flat, near), strict=True):
            _points(axis, points, quarter)
        axes[0, column].set_title(name, loc="left", fontsize=10, color=INK, fontweight="bold")
        share = 100 * float(pca.explained_variance_ratio_.sum())
        axes[0, column].set_xlabel(f"{share:.0f} % of the variance", fontsize=9, color=GREY)
    for axis, label in zip(axes[:, 0], ("PCA", "t-SNE"), strict=True):
        axis.set_ylabel(label, color=INK, fontsize=10)
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=6, linestyle="", label=label)
        for colour, label in zip(_QUARTER_COLOURS, QUARTERS, strict=True)
    ]
    whose = "" if ticker == "all" else f" of {ticker}"
    note = (
        f"Test days{whose}, first seed; colours: volatility of the 20 days before. t-SNE keeps neighbours,"
        " not distances."
    )
    return titled(figure, "Hidden states by volatility", note, handles)


def _points(axis: Axes, points: Floats, quarter: Ints) -> None:
    colours = np.array(_QUARTER_COLOURS)[quarter]
    axis.scatter(points[:, 0], points[:, 1], s=9, c=list(colours), alpha=0.75, linewidths=0)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color="#b0b0b0", linewidth=0.8)


def probe_figure(probes: pd.DataFrame) -> Figure:
    """Draw what a linear probe reads from each variant's states, a panel a quantity.

    Parameters
    ----------
    probes
        See `farm.report.latent_space.probe_table`.
    """
    quantities, variants = (list(dict.fromkeys(probes[name])) for name in ("quantity", "variant"))
    figure = new_figure(max(2.7 * len(quantities) + 2, 8.0), 1.8 + 0.3 * len(variants))
    axes = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
    for axis, quantity in zip(axes, quantities, strict=True):
        own = probes[probes["quantity"] == quantity].set_index("variant").loc[variants]
        floor = -0.2  # far below, how far says nothing
        for place, row in enumerate(own.to_dict("records")):
            chance, ends = max(row["chance"], floor), [max(row[f"r2_{end}"], floor) for end in ("lo", "hi")]
            there = row["there"]
            axis.hlines(place, *ends, color=COLOURS[0], linewidth=2)
            axis.plot(
                max(row["r2"], floor),
                place,
                "o",
                color=COLOURS[0],
                markersize=7,
                markerfacecolor=COLOURS[0] if there else "white",
            )
            axis.plot(chance, place, "|", color=COLOURS[3], markersize=12, markeredgewidth=1.8)
        axis.axvline(0, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
        axis.set_xlim(floor - 0.03, 1.03)
        axis.set_title(quantity, loc="left", fontsize=10, color=INK, fontweight="bold")
        tidy(axis, grid="x")
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.set_xlabel("R²", color=INK, fontsize=10)
    axes[0].set_yticks(range(len(variants)), variants)
    axes[0].set_ylim(len(variants) - 0.4, -0.6)
    circle: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "markersize": 7}
    handles = [
        Line2D([], [], **circle, linewidth=2, label="R² on the test days, lowest to highest seed"),
        Line2D([], [], **circle, linestyle="", markerfacecolor="white", label="not beyond chance in most"),
        Line2D(
            [],
            [],
            color=COLOURS[3],
            marker="|",
            markersize=12,
            markeredgewidth=1.8,
            linestyle="",
            label="chance: 95 % of shifted targets stay below",
        ),
    ]
    note = "Ridge regression from the states; medians over tickers. Left end: −0.2 or lower."
    return titled(figure, "What a linear probe reads from the states", note, handles)


def alignment_figure(alike: pd.DataFrame) -> Figure:
    """Draw how alike the states of two variants are.

    Parameters
    ----------
    alike
        See `farm.report.latent_space.alignment_table`.
    """
    size = 0.62 * len(alike)
    figure = new_figure(max(size + 3.0, 6.5), max(size * 0.62 + 2.4, 3.4))
    axis = figure.subplots()
    heat_map(axis, alike, RISING, 0, 1, lambda cka: "–" if math.isnan(cka) else f"{cka:.2f}")
    for text in axis.texts:
        column, row = text.get_position()
        text.set_fontweight("bold" if row == column else "normal")
    axis.xaxis.tick_top()
    for label in axis.get_xticklabels():
        label.set(rotation=40, ha="left")
    note = (
        "Linear CKA, debiased, on the test days; means over tickers and seeds.\nBold: seeds of one variant."
    )
    return titled(figure, "How alike the states are", note)
