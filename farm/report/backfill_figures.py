"""The figures of the back-filling study, from plain arrays: latents, intervals, scenarios.

They have the look of `farm.report.marks`. A named thing has the colour of its place in the
mapping it comes in.

Shape letters: B samples, D latent dimensions, A assets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from farm.base.types import Dates, Floats, Forecast
from farm.evaluation.intervals import interval_of
from farm.evaluation.latent import correlations
from farm.report.looks import COLOURS, GREY, INK, PALE
from farm.report.marks import AROUND, PERCENT, dated, heat_map, new_figure, say, tidy, titled

_ALARM = "#882255"


def latent_against_prior(latents: Mapping[str, Floats]) -> Figure:
    """Draw the density of each latent dimension against the standard normal.

    Parameters
    ----------
    latents
        Draws of z by the name of the evaluation, each (B, D) with one D.
    """
    dimensions = next(iter(latents.values())).shape[1]
    figure, axes = _grid(dimensions, height=1.5, shared=True)
    reach = max(4.0, *(float(np.quantile(np.abs(z), 0.999)) for z in latents.values()))
    line = np.linspace(-reach, reach, 300)
    prior = np.exp(-(line**2) / 2) / math.sqrt(2 * math.pi)
    bins = np.linspace(-reach, reach, 61)
    top = 3 * prior.max()
    for d, axis in enumerate(axes):
        said = []
        for colour, (name, z) in zip(COLOURS, latents.items(), strict=False):
            axis.hist(z[:, d], bins=list(bins), density=True, histtype="stepfilled", color=colour, alpha=0.3)
            axis.hist(z[:, d], bins=list(bins), density=True, histtype="step", color=colour, linewidth=1.2)
            said.append(f"{name.split()[0]} {z[:, d].std():.2f}")
        axis.plot(line, prior, color=INK, linestyle="--", linewidth=1.2)
        axis.set_title(f"z{d}", loc="left", fontsize=10, color=INK, fontweight="bold")
        axis.text(0.98, 0.97, "sd\n" + "\n".join(said), transform=axis.transAxes, ha="right", va="top")
        axis.texts[-1].set(fontsize=8.5, color=GREY)
        axis.set_ylim(0, top)
        axis.set_xlim(-reach, reach)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.yaxis.set_major_locator(MaxNLocator(3))
        tidy(axis, grid="x")
    handles = [
        *_handles(latents),
        Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label="prior N(0, 1)"),
    ]
    return titled(
        figure,
        "Latent against prior",
        f"Density of each dimension over the days of the test block; cut off at {top:.1f}.",
        handles,
    )


def correlation_heatmap(latents: Mapping[str, Floats], returns: Floats, assets: tuple[str, ...]) -> Figure:
    """Draw the correlation of each latent dimension with each asset's return, a panel an evaluation.

    Parameters
    ----------
    latents
        z by the name of the evaluation, each (B, D) with one D.
    returns
        Of the assets on the same days, (B, A).
    assets
        Their names.
    """
    dimensions = next(iter(latents.values())).shape[1]
    figure = new_figure(max(7.0, 1.6 + len(latents) * (0.9 + 0.85 * len(assets))), 2.0 + 0.3 * dimensions)
    axes = figure.subplots(1, len(latents), sharey=True, squeeze=False)[0]
    for place, (axis, (name, z)) in enumerate(zip(axes, latents.items(), strict=True)):
        r = correlations(z, returns)
        last = place == len(latents) - 1
        table = pd.DataFrame(r, index=[f"z{d}" for d in range(dimensions)], columns=list(assets))
        cells = heat_map(axis, table, AROUND, -1, 1, lambda v: f"{v:+.2f}")
        if last:
            figure.colorbar(cells, ax=axis, fraction=0.05, pad=0.03).outline.set_visible(False)
        axis.set_title(
            f"{name}: largest |r| {np.abs(r).max():.2f}",
            loc="left",
            fontsize=10,
            color=INK,
            fontweight="bold",
        )
    return titled(figure, "What the latent knows of each asset's return", "Pearson correlation, test block.")


def latent_shift(before: Floats, after: Floats, names: tuple[str, str] = ("z[T−1]", "z[T]")) -> Figure:
    """Draw each latent dimension after the last day against the same before it.

    Parameters
    ----------
    before, after
        z of the same samples, each (B, D).
    names
        What they are called.
    """
    figure, axes = _grid(before.shape[1], height=1.75, shared=False)
    distance = float(np.linalg.norm(after - before, axis=1).mean())
    r = np.array([correlations(before[:, [d]], after[:, [d]])[0, 0] for d in range(before.shape[1])])
    for d, axis in enumerate(axes):
        pair = np.concatenate([before[:, d], after[:, d]])
        low, high = float(pair.min()), float(pair.max())
        margin = 0.05 * (high - low) or 1.0
        axis.plot(
            before[:, d], after[:, d], "o", color=COLOURS[0], markersize=2.2, alpha=0.4, markeredgewidth=0
        )
        ends = (low - margin, high + margin)
        axis.plot(ends, ends, color=INK, linestyle="--", linewidth=1.0, zorder=1)
        axis.set(xlim=ends, ylim=ends)
        axis.set_title(
            f"z{d}:  r = {r[d]:.2f}".replace("-", "−"), loc="left", fontsize=10, color=INK, fontweight="bold"
        )
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.yaxis.set_major_locator(MaxNLocator(4))
        tidy(axis, grid="both")
    figure.supylabel(names[1], fontsize=10, color=INK)
    handles = [
        Line2D(
            [], [], color=COLOURS[0], marker="o", markersize=4, linestyle="", label="a day of the test block"
        ),
        Line2D([], [], color=INK, linestyle="--", linewidth=1.0, label="the last day changed nothing"),
    ]
    return titled(
        figure,
        f"{names[1]} against {names[0]}",
        f"Across: {names[0]}; up: {names[1]}. Mean distance {distance:.2g}, mean r {r.mean():.2f}.".replace(
            "-", "−"
        ),
        handles,
    )


def forecast_fan(
    times: Dates, actual: Floats, forecasts: Mapping[str, Forecast], target: str, days: int = 150
) -> Figure:
    """Draw the interval and the median of forecasts over the last days, with violations marked.

    Parameters
    ----------
    times, actual
        Dates and truths, (B,).
    forecasts
        Forecasts with quantiles by name, such as raw and calibrated; a panel for each.
    target
        Name of what is forecast.
    days
        Days that are drawn, counted from the end.
    """
    figure = new_figure(11.5, 2.5 * len(forecasts) + 1.2)
    axes = figure.subplots(len(forecasts), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, colour, (name, forecast) in zip(axes, COLOURS, forecasts.items(), strict=False):
        low, high, nominal = interval_of(forecast)
        outside = (actual < low) | (actual > high)
        shown = slice(-days, None)
        day = times[shown]
        axis.fill_between(day, low[shown], high[shown], color=colour, alpha=0.22, linewidth=0)
        axis.plot(day, forecast.point[shown], color=colour, linewidth=1.2)
        inside = ~outside[shown]
        axis.plot(day[inside], actual[shown][inside], "o", color=INK, markersize=2.6)
        axis.plot(
            day[~inside], actual[shown][~inside], "X", color=_ALARM, markersize=5.5, markeredgecolor="white"
        )
        axis.lines[-1].set_markeredgewidth(0.4)
        axis.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        axis.set_title(
            f"{name}:  {100 * outside.mean():.1f} % of {len(actual)} days outside"
            f" (nominal {100 * nominal:.0f} %), mean width {100 * np.mean(high - low):.2f} %",
            loc="left",
            fontsize=10,
            color=colour,
            fontweight="bold",
        )
        axis.set_ylabel("return, %", color=INK, fontsize=10)
        axis.yaxis.set_major_formatter(PERCENT)
        axis.yaxis.set_major_locator(MaxNLocator(6))
        tidy(axis, grid="y")
    dated(axes[-1])
    handles: list[Any] = [
        Patch(color=COLOURS[0], alpha=0.22, label="interval (panel's colour)"),
        Line2D([], [], color=COLOURS[0], linewidth=1.2, label="point forecast"),
        Line2D([], [], color=INK, marker="o", markersize=3, linestyle="", label="actual, inside"),
        Line2D([], [], color=_ALARM, marker="X", markersize=6, linestyle="", label="actual, outside"),
    ]
    return titled(
        figure,
        f"Forecast intervals: {target}",
        f"Drawn: the last {min(days, len(actual))} days. The shares are of the whole test block.",
        handles,
    )


def coverage_over_time(
    times: Dates, actual: Floats, forecasts: Mapping[str, Forecast], window: int = 60
) -> Figure:
    """Draw the share of the last days that fell inside the interval, day by day.

    Parameters
    ----------
    times, actual
        Dates and truths, (B,).
    forecasts
        Forecasts with quantiles of one nominal coverage, by name.
    window
        Days in the share; nothing is drawn before there are so many.
    """
    figure = new_figure(11.5, 4.2)
    axis = figure.subplots()
    nominal = 1 - interval_of(next(iter(forecasts.values())))[2]
    chance = 1.96 * math.sqrt(nominal * (1 - nominal) / window)
    axis.axhspan(nominal - chance, min(nominal + chance, 1.0), color=PALE, alpha=0.6, linewidth=0, zorder=0)
    axis.axhline(nominal, color=INK, linestyle="--", linewidth=1.2, zorder=1)
    handles: list[Any] = []
    for colour, (name, forecast) in zip(COLOURS, forecasts.items(), strict=False):
        low, high, _ = interval_of(forecast)
        inside = pd.Series(((actual >= low) & (actual <= high)).astype(float), index=times)
        axis.plot(times, inside.rolling(window).mean(), color=colour, linewidth=1.5)
        label = f"{name} (all days {100 * inside.mean():.1f} %)"
        handles.append(Line2D([], [], color=colour, linewidth=1.5, label=label))
    if len(actual) < window:
        say(axis, f"fewer than {window} days")
    axis.set_ylabel(f"inside, % of the last {window} days", color=INK, fontsize=10)
    axis.yaxis.set_major_formatter(PERCENT)
    axis.set_ylim(top=1.01)
    tidy(axis, grid="y")
    dated(axis)
    handles += [
        Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label=f"nominal {100 * nominal:.0f} %"),
        Patch(color=PALE, alpha=0.6, label="95 % of chance"),
    ]
    note = f"Grey: where the share of {window} independent days lies in 95 of 100 cases."
    return titled(figure, "Coverage over time", note, handles)


def scenario_bars(scores: pd.DataFrame, reference: str = "linear") -> Figure:
    """Draw RMSE, direction accuracy and violations of each scenario beside a baseline's.

    Parameters
    ----------
    scores
        One row for each scenario and for the baseline, in order: name, rmse, direction_accuracy and
        violations (shares), each as a mean over seeds. Where there are columns ``METRIC_lo`` and
        ``METRIC_hi``, they are drawn as whiskers. NaN is said to be none.
    reference
        Name of the baseline's row; its scores go through every panel as a line.

    Raises
    ------
    ValueError
        If the reference has no row.
    """
    names = list(scores["name"])
    if reference not in names:
        raise ValueError(f"no row {reference!r} among {names}")
    figure = new_figure(11.5, 1.9 + 0.42 * len(names))
    panels = (
        ("rmse", "RMSE (left is better)", 1.0, None),
        ("direction_accuracy", "Direction accuracy, % (right is better)", 100.0, (50.0, "a coin")),
        ("violations", "Outside the 90 % interval, % (nominal is best)", 100.0, (10.0, "nominal")),
    )
    colours = [GREY if name == reference else COLOURS[i % len(COLOURS)] for i, name in enumerate(names)]
    places = np.arange(len(names))
    for axis, (column, label, scale, mark) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        value = scale * scores[column].to_numpy(dtype=float)
        known = np.nan_to_num(value)
        axis.barh(places, known, height=0.62, color=colours)
        ends = known
        if f"{column}_lo" in scores:
            low, high = (scale * scores[f"{column}_{end}"].to_numpy(dtype=float) for end in ("lo", "hi"))
            axis.hlines(places, low, high, color=INK, linewidth=1.3)
            ends = np.fmax(known, high)
        own = float(value[names.index(reference)])
        if math.isfinite(own):
            axis.axvline(own, color=INK, linestyle="--", linewidth=1.2)
        if mark is not None:
            axis.axvline(mark[0], color=INK, linestyle=":", linewidth=1.2)
        for place, level in enumerate(value):
            text = "none" if math.isnan(level) else f"{level:.4f}" if scale == 1 else f"{level:.1f}"
            note = axis.annotate(text, (ends[place], place), xytext=(4, 0), textcoords="offset points")
            note.set(va="center", fontsize=9, color=INK)
            note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
        axis.set_xlim(0, 1.22 * max(float(ends.max()), mark[0] if mark else 0.0, 1e-12))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_yticks(places, names)
        axis.set_xlabel(label, color=INK, fontsize=10)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        tidy(axis, grid="x")
    handles = [
        Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label=f"{reference} (baseline)"),
        Line2D([], [], color=INK, linestyle=":", linewidth=1.2, label="a coin; the nominal share"),
    ]
    note = "Mean over seeds, test block. Whiskers, where there are any: lowest to highest seed."
    return titled(figure, f"Scenarios beside {reference}", note, handles)


def _grid(count: int, height: float, shared: bool) -> tuple[Figure, list[Axes]]:
    """Make a small panel for each dimension."""
    columns = min(count, 4)
    lines = math.ceil(count / columns)
    figure = new_figure(max(2.6 * columns, 7.0), height * lines + 1.2)
    axes: npt.NDArray[Any] = figure.subplots(lines, columns, sharex=shared, sharey=shared, squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def _handles(names: Mapping[str, Any]) -> list[Any]:
    return [Patch(color=colour, alpha=0.5, label=name) for colour, name in zip(COLOURS, names, strict=False)]
