"""The six figures of a sweep, from plain frames.

A model has one colour and one marker in all of them: variants are coloured and filled, baselines
grey and hollow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from farm.base.errors import UserError, nearest
from farm.evaluation.verdict import mean_skill
from farm.report.looks import BASELINE_GREYS, COLOURS, GREY, INK, PALE, Look, looks_of
from farm.report.marks import (
    AROUND,
    PERCENT,
    dated,
    heat_map,
    legend_handle,
    limits,
    message_figure,
    new_figure,
    rows_of_points,
    say,
    scale_losses,
    tidy,
    titled,
)
from farm.report.pictures import Pictures

MOST_FORECASTS = 12  # variants whose forecasts are drawn
_REFERENCE_LINES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")


@dataclass(frozen=True)
class _Story:
    """What the figures share: the frames, the reference to beat and the look of each model."""

    table: pd.DataFrame
    scores: pd.DataFrame
    reference: str
    looks: dict[str, Look]

    def rows(self, role: str) -> pd.DataFrame:
        """Give the finished rows of the table in one role, best first."""
        return self.table[(self.table["role"] == role) & self.table["rmse"].notna()]


def figures(
    table: pd.DataFrame,
    scores: pd.DataFrame,
    predictions: pd.DataFrame,
    curves: pd.DataFrame,
    references: tuple[str, ...],
    ticker: str | None = None,
) -> Pictures:
    """Draw the six figures of a sweep, each when it is asked for.

    Parameters
    ----------
    table
        The verdict, best first; see `farm.report.tables.verdict_table`. Where it has columns
        ``METRIC_lo`` and ``METRIC_hi``, they are drawn as a 95 % interval. NaN are left out.
    scores
        One row for each model, ticker and seed: model, role, ticker, seed, rmse, mae,
        direction_accuracy.
    predictions
        One row for each test day: date, ticker, model, seed, actual, predicted.
    curves
        One row for each epoch of each trained network: model, ticker, seed, epoch (from 1),
        train_loss, val_loss, best_epoch. May be empty.
    references
        The baselines that skill is measured against; the first one is the one to beat.
    ticker
        Whose forecasts are drawn; the first one in `predictions` if None.

    Returns
    -------
    Pictures
        By file stem: ``ablation_bars``, ``rmse_per_ticker``, ``curves``, ``predictions``,
        ``direction_heatmap``, ``full_comparison``.

    Raises
    ------
    UserError
        If nothing was forecast for the ticker.
    """
    tickers = list(predictions["ticker"].unique())
    ticker = tickers[0] if ticker is None else ticker
    if ticker not in tickers:
        raise UserError(f"ticker {ticker!r} has no forecasts to draw: {nearest(ticker, tickers)}")
    story = _Story(table, scores, references[0], looks_of(table))
    days = len(predictions.loc[predictions["ticker"] == ticker, "date"].unique())
    return Pictures(
        {
            "ablation_bars": lambda: _ablation(story),
            "rmse_per_ticker": lambda: _per_ticker(story, references),
            "curves": lambda: _curves(story, curves),
            "predictions": lambda: _predictions(story, predictions[predictions["ticker"] == ticker], ticker),
            "direction_heatmap": lambda: _direction_heatmap(story, days),
            "full_comparison": lambda: _full_comparison(story),
        }
    )


def _ablation(story: _Story) -> Figure:
    """Draw the mean scores of each variant as points: bars from zero would hide every difference."""
    rows = story.rows("variant")
    if len(rows) == 0:
        return message_figure("Ablation", "No variant finished.")
    figure = new_figure(11.5, 1.9 + 0.45 * len(rows))
    panels = (
        ("rmse", "RMSE (left is better)", 1.0, 0.02),
        ("mae", "MAE (left is better)", 1.0, 0.02),
        ("direction_accuracy", "Direction accuracy, % (right is better)", 100.0, 0.02),
    )
    for axis, (column, label, scale, floor) in zip(
        figure.subplots(1, len(panels), sharey=True), panels, strict=True
    ):
        reference = scale * _first(story.table.loc[story.table["model"] == story.reference, column])
        also = (reference, 50.0) if scale == 100 else (reference,)
        rows_of_points(axis, rows, story.looks, story.reference, column, scale, floor, also)
        axis.axvline(reference, color=INK, linestyle="--", linewidth=1.2, zorder=1)
        if column == "direction_accuracy":
            axis.axvline(50, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
        axis.set_xlabel(label, color=INK, fontsize=10)
    handles = [
        Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label=f"{story.reference} (reference)"),
        Line2D([], [], color=GREY, linestyle=":", linewidth=1.2, label="a coin"),
    ]
    return titled(
        figure,
        "Ablation: mean test scores of each variant",
        "Mean over tickers and seeds. Bars: 95 % interval, where there is one. Axes do not start at zero.",
        handles,
    )


def _per_ticker(story: _Story, references: tuple[str, ...]) -> Figure:
    """Draw the RMSE of each variant on each ticker, and its skill, which the eye can compare."""
    error, lowest, highest = (
        story.scores.pivot_table(index="ticker", columns="model", values="rmse", aggfunc=how, sort=False)
        for how in ("mean", "min", "max")
    )
    variants = [name for name in story.rows("variant")["model"] if name in error]
    if not variants:
        return message_figure("RMSE on each ticker", "No variant finished.")
    standard = error[story.reference] if story.reference in error else error.mean(axis=1) * math.nan
    skills = story.scores.rename(columns={f"vs/{story.reference}_rmse_skill": "skill"})
    skill, worst, best = (
        100 * skills.pivot_table("skill", "ticker", "model", aggfunc=how, sort=False).reindex_like(error)
        if "skill" in skills
        else error * math.nan
        for how in (mean_skill, "min", "max")
    )
    width = min(max(8.0, 2.0 + 0.16 * len(error) * (len(variants) + 2)), 22.0)
    figure = new_figure(width, 6.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    half = 0.5 * float(np.nanmedian(error))  # a range no ticker's own level can reach by chance
    _ticker_points(top, story, variants, (error, lowest, highest), floor=half, also=())
    _ticker_points(bottom, story, variants, (skill, worst, best), floor=2.0, also=(0.0,))
    top.set_ylabel("RMSE", color=INK, fontsize=10)
    bottom.set_ylabel(f"RMSE skill vs {story.reference}, %\n(above 0 is better)", color=INK, fontsize=10)
    if standard.isna().all():
        say(bottom, f"{story.reference} did not finish")
    handles = [legend_handle(story.looks[name], name) for name in variants]
    places = np.arange(len(error), dtype=float)
    marked = [name for name in references if name in error]
    for name, colour, style in zip(marked, (INK, GREY, GREY), _REFERENCE_LINES, strict=False):
        for axis, level in ((top, error[name]), (bottom, skill[name])):
            axis.hlines(level, places - 0.42, places + 0.42, color=colour, linestyle=style, linewidth=1.4)
        handles.append(
            Line2D([], [], color=colour, linestyle=style, linewidth=1.4, label=f"{name} (baseline)")
        )
    bottom.set_xlim(-0.5, len(error) - 0.5)
    bottom.set_xticks(places, list(error.index), rotation=45 if width / len(error) < 0.6 else 0)
    return titled(
        figure, "RMSE on each ticker", "Points: mean over seeds. Bars: lowest to highest seed.", handles
    )


def _ticker_points(
    axis: Axes,
    story: _Story,
    variants: list[str],
    frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
    floor: float,
    also: tuple[float, ...],
) -> None:
    """Draw the variants side by side on each ticker: value, low end and high end, each ticker x model."""
    value, low, high = (frame[variants].to_numpy(dtype=float) for frame in frames)
    start, stop = limits(value.ravel(), low.ravel(), high.ravel(), floor, also)
    for i, name in enumerate(variants):
        look = story.looks[name]
        x = np.arange(len(value)) + 0.7 * ((i + 0.5) / len(variants) - 0.5)
        axis.vlines(x, low[:, i], high[:, i], color=look.colour, linewidth=1.4, zorder=2)
        axis.plot(x, value[:, i], look.marker, color=look.colour, markersize=5.5, zorder=3)
        for place, level in zip(x, value[:, i], strict=True):
            if start <= level <= stop or math.isnan(level):
                continue
            below = level < start  # far off: said at the edge, so that the others keep their scale
            text = f"{level:.4g}".replace("-", "−")
            axis.annotate(
                f"← {text}" if below else f"{text} →",
                (place, start if below else stop),
                rotation=90,
                ha="center",
                va="bottom" if below else "top",
                fontsize=8,
                color=look.colour,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},  # over its own bar
                zorder=4,
            )
    axis.set_ylim(start, stop)
    tidy(axis, grid="y")
    for edge in np.arange(len(value) - 1) + 0.5:
        axis.axvline(edge, color=PALE, linewidth=0.8, zorder=0)


def _curves(story: _Story, curves: pd.DataFrame) -> Figure:
    """Draw training and validation loss over epochs, a panel for each trained variant."""
    variants = [name for name in story.table["model"] if name in set(curves["model"])]
    if not variants:
        return message_figure("Learning curves", "No network was trained: there are no learning curves.")
    columns = min(len(variants), 4 if len(variants) != 6 else 3)
    lines = math.ceil(len(variants) / columns)
    figure = new_figure(max(3.1 * columns + 0.7, 7.0), 2.9 * lines + 1.0)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    losses = curves[["train_loss", "val_loss"]].to_numpy()
    logarithmic = False
    for axis, name in zip(axes.flat, variants, strict=False):
        _curve_panel(axis, curves[curves["model"] == name], story.looks[name])
        axis.set_title(name, loc="left", fontsize=10, color=story.looks[name].colour, fontweight="bold")
        logarithmic = scale_losses(axis, losses)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        tidy(axis, grid="both")
    for axis in axes.flat[len(variants) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss (log scale)" if logarithmic else "loss", color=INK, fontsize=10)
    for axis in axes.flat[max(len(variants) - columns, 0) : len(variants)]:
        axis.tick_params(labelbottom=True)  # also above an empty place
    handles = [
        Line2D([], [], color=GREY, linestyle="--", linewidth=2.2, label="training, mean"),
        Line2D([], [], color=COLOURS[0], linewidth=2.2, label="validation, mean (variant's colour)"),
        Line2D(
            [],
            [],
            color=COLOURS[0],
            marker="o",
            markersize=4,
            linestyle="",
            label="best epoch of a replicate",
        ),
        Line2D([], [], color=INK, linestyle=":", linewidth=1.2, label="median best epoch"),
    ]
    return titled(
        figure,
        "Learning curves",
        "Thin: one replicate (ticker and seed). The mean holds a stopped replicate at its last loss.",
        handles,
    )


def _curve_panel(axis: Axes, curves: pd.DataFrame, look: Look) -> None:
    curves = curves.sort_values("epoch")
    replicates = ["ticker", "seed"]
    for column, colour, style in (("train_loss", GREY, "--"), ("val_loss", look.colour, "-")):
        thin = [group[["epoch", column]].to_numpy(dtype=float) for _, group in curves.groupby(replicates)]
        axis.add_collection(
            LineCollection(
                thin, colors=colour, linewidths=0.6, alpha=float(np.clip(6 / len(thin), 0.12, 0.5))
            )
        )
        # Without the hold the mean would jump each time a replicate stops, as levels differ by ticker.
        wide = curves.pivot_table(index="epoch", columns=replicates, values=column).ffill()
        axis.plot(wide.index, wide.mean(axis=1), color=colour, linestyle=style, linewidth=2.2, zorder=4)
    best = curves[curves["epoch"] == curves["best_epoch"]]
    axis.plot(best["epoch"], best["val_loss"], "o", color=look.colour, markersize=3.5, alpha=0.8, zorder=3)
    middle = float(best["epoch"].median())
    axis.axvline(middle, color=INK, linestyle=":", linewidth=1.2, zorder=1)
    spread = f"median {middle:g}, {best['epoch'].min():g} to {best['epoch'].max():g}"
    axis.set_xlabel(f"epoch (best: {spread if len(best) > 1 else f'{middle:g}'})", color=INK, fontsize=9.5)
    axis.autoscale_view()


def _predictions(story: _Story, predictions: pd.DataFrame, ticker: str) -> Figure:
    """Draw forecasts on the scale of the truth, where they are nearly flat, and against it, enlarged."""
    variants = [name for name in story.rows("variant")["model"] if name in set(predictions["model"])]
    title = f"Forecast against actual returns: {ticker}, test block"
    if not variants:
        return message_figure(title, f"No variant forecast {ticker}.")
    left_out = len(variants) - MOST_FORECASTS
    variants = variants[:MOST_FORECASTS]
    figure = new_figure(11.5, 1.6 * len(variants) + 1.5)
    axes = figure.subplots(len(variants), 2, squeeze=False, sharey=True, width_ratios=[3.4, 1])
    frames = [predictions[predictions["model"] == name] for name in variants]
    means = [frame.groupby("date")["predicted"].mean() for frame in frames]
    middle, low, high = (np.array([mean.agg(how) for mean in means]) for how in ("median", "min", "max"))
    actual = predictions["actual"]
    window = limits(middle, low, high, floor=0.0, also=(float(actual.min()), float(actual.max())))
    for (left, right), name, frame, mean in zip(axes, variants, frames, means, strict=True):
        left.sharex(axes[-1, 0])
        left.tick_params(labelbottom=left is axes[-1, 0])
        _forecast_panels(left, right, name, frame, mean, story.looks[name].colour)
        if not window[0] <= mean.median() <= window[1]:
            say(left, "the forecast is off this scale")
    left, right = axes[-1]
    left.set_ylim(window)
    dated(left)
    right.set_xlabel("forecast, % (own scale)", color=INK, fontsize=10)
    axes[0, 1].set_title("actual against forecast", loc="left", fontsize=10, color=INK)
    handles = [
        Line2D([], [], color="#b5b5b5", linewidth=1.2, label="actual"),
        Line2D([], [], color=COLOURS[0], linewidth=1.4, label="forecast, mean over seeds (variant's colour)"),
        Line2D([], [], color=COLOURS[0], linewidth=0.6, alpha=0.6, label="forecast, each seed"),
    ]
    return titled(
        figure,
        title,
        "Left: both on one scale. Right: the same days, each forecast on its own; a good one slopes upwards."
        + (f" The worst {left_out} variants are left out." if left_out > 0 else ""),
        handles,
    )


def _forecast_panels(
    left: Axes, right: Axes, name: str, frame: pd.DataFrame, mean: pd.Series[float], colour: str
) -> None:
    """Draw one variant's forecasts over time, and against the truth."""
    actual = frame.groupby("date")["actual"].first()
    seeds = frame.pivot_table(index="date", columns="seed", values="predicted")
    left.plot(actual.index, actual, color="#b5b5b5", linewidth=0.8, zorder=1)
    left.plot(seeds.index, seeds, color=colour, linewidth=0.5, alpha=0.4, zorder=2)
    left.plot(mean.index, mean, color=colour, linewidth=1.3, zorder=3)
    title = f"{name}:  {_agreement(mean, actual)}"
    left.set_title(title, loc="left", fontsize=10, color=colour, fontweight="bold")
    left.set_ylabel("return, %", color=INK, fontsize=10)
    right.plot(mean, actual, "o", color=colour, markersize=2.6, alpha=0.45, markeredgewidth=0)
    right.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    right.xaxis.set_major_formatter(PERCENT)
    right.xaxis.set_major_locator(MaxNLocator(4))
    for axis in (left, right):
        axis.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        axis.yaxis.set_major_formatter(PERCENT)
        axis.yaxis.set_major_locator(MaxNLocator(5))
    tidy(left, grid="y")
    tidy(right, grid="both")


def _agreement(forecast: pd.Series[float], actual: pd.Series[float]) -> str:
    """Say how much a forecast moves and whether it moves with the truth."""
    spread, moves = float(forecast.std()), float(actual.std())
    if not spread > 1e-9 * moves:  # rounding leaves a trace of spread in equal numbers
        return "the forecast is constant"
    together = f"{float(forecast.corr(actual)):+.2f}".replace("-", "−")
    return f"moves {100 * spread / moves:.0f} % as much as the actual return, correlation {together}"


def _direction_heatmap(story: _Story, days: int) -> Figure:
    """Draw the direction accuracy of each model on each ticker around a coin's 50 %."""
    percent = 100 * story.scores.pivot_table(
        index="ticker", columns="model", values="direction_accuracy", sort=False
    )
    models = [
        name for role in ("variant", "baseline") for name in story.rows(role)["model"] if name in percent
    ]
    if not models:
        return message_figure("Direction accuracy", "No model has a direction accuracy.")
    percent = percent[models]
    percent.loc["mean"] = percent.mean()
    figure = new_figure(max(2.4 + 0.78 * len(models), 7.0), 2.4 + 0.33 * len(percent))
    axis = figure.subplots()
    apart = (percent - 50).abs().to_numpy()
    # One odd cell must not wash out the others, nor a quiet table shout.
    reach = float(np.clip(np.nanquantile(apart, 0.95), 3, 15)) if np.isfinite(apart).any() else 3.0
    cells = heat_map(
        axis, percent, AROUND, 50 - reach, 50 + reach, lambda v: "" if math.isnan(v) else f"{v:.1f}"
    )
    beyond = "both" if np.nanmax(apart) > reach else "neither"
    figure.colorbar(cells, ax=axis, extend=beyond, fraction=0.03, pad=0.02).outline.set_visible(False)
    variants = sum(story.looks[name].variant for name in models)
    axis.axvline(variants - 0.5, color="white", linewidth=5)
    axis.axhline(len(percent) - 1.5, color="white", linewidth=5)
    axis.xaxis.tick_top()
    for label, name in zip(axis.get_xticklabels(), models, strict=True):
        look = story.looks[name]
        label.set(rotation=35, ha="left", rotation_mode="anchor", color=look.colour if look.variant else GREY)
        label.set_fontweight("bold" if look.variant else "normal")
    chance = 100 * 1.96 * 0.5 / math.sqrt(max(days, 1))
    return titled(
        figure,
        "Direction accuracy, %, on each ticker",
        f"Mean over seeds. A coin tossed on {days} test days: 50 ± {chance:.1f} in 95 of 100 cases.",
    )


def _full_comparison(story: _Story) -> Figure:
    """Draw every model, best first: its RMSE, and its skill against the reference."""
    rows = story.table[story.table["rmse"].notna()]
    figure = new_figure(11.5, 1.7 + 0.36 * max(len(rows), 3))
    left, right = figure.subplots(1, 2, sharey=True)
    rows_of_points(left, rows, story.looks, story.reference, "rmse", 1.0, 0.02)
    skill = f"{story.reference}_rmse_skill"
    rows_of_points(right, rows, story.looks, story.reference, skill, 100.0, 0.02, also=(0.0,))
    left.set_xlabel("RMSE (left is better)", color=INK, fontsize=10)
    right.set_xlabel(f"RMSE skill vs {story.reference}, % (right is better)", color=INK, fontsize=10)
    right.axvline(0, color=INK, linestyle="--", linewidth=1.2, zorder=1)
    beyond: dict[str, Any] = {
        "transform": right.get_yaxis_transform(),
        "va": "center",
        "fontsize": 9.5,
        "color": INK,
    }
    right.text(1.03, -0.85, f"beats {story.reference}?", **beyond)
    for place, (name, beats) in enumerate(zip(rows["model"], rows["beats"], strict=True)):
        if story.looks[name].variant:
            right.text(1.03, place, beats, fontweight="bold" if beats == "yes" else "normal", **beyond)
    filled, hollow = (
        Look(COLOURS[0], "o", COLOURS[0], True),
        Look(BASELINE_GREYS[0], "o", "white", False),
    )
    dashed = Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label=f"{story.reference} (reference)")
    return titled(
        figure,
        "All models, best first",
        "Mean over tickers and seeds. Bars: 95 % interval, where there is one. RMSE does not start at zero.",
        [legend_handle(filled, "variant (its own colour)"), legend_handle(hollow, "baseline"), dashed],
    )


def _first(values: pd.Series[float]) -> float:
    return float(values.iloc[0]) if len(values) else math.nan
