"""The six figures of a sweep, from plain frames.

Drawn on figure objects with every setting given explicitly, so that nothing global is touched and
a process may draw whatever else it likes. A model has one colour and one marker in all of them:
variants are coloured and filled, baselines grey and hollow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from farm.base.errors import UserError, nearest
from farm.base.types import Floats

_INK, _GREY, _PALE = "#222222", "#6b6b6b", "#dddddd"
# Colour-blind safe: seaborn's "colorblind" without its grey, yellow and pink, which are pale on white,
# and the wine of Paul Tol's "muted".
_COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#882255", "#56b4e9", "#ca9161")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")  # nine on eight colours: 72 pairs
_BASELINE_GREYS = ("#4d4d4d", "#8c8c8c")
_REFERENCE_LINES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")


@dataclass(frozen=True)
class _Look:
    """How one model is drawn everywhere."""

    colour: str
    marker: str
    face: str
    variant: bool


@dataclass(frozen=True)
class _Story:
    """What the figures share: the frames, the reference to beat and the look of each model."""

    table: pd.DataFrame
    scores: pd.DataFrame
    reference: str
    looks: dict[str, _Look]

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
) -> dict[str, Figure]:
    """Draw the six figures of a sweep.

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
    dict of Figure
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
    story = _Story(table, scores, references[0], _looks(table))
    days = len(predictions.loc[predictions["ticker"] == ticker, "date"].unique())
    return {
        "ablation_bars": _ablation(story),
        "rmse_per_ticker": _per_ticker(story, references),
        "curves": _curves(story, curves),
        "predictions": _predictions(story, predictions[predictions["ticker"] == ticker], ticker),
        "direction_heatmap": _direction_heatmap(story, days),
        "full_comparison": _full_comparison(story),
    }


def _ablation(story: _Story) -> Figure:
    """Draw the mean scores of each variant as points: bars from zero would hide every difference."""
    rows = story.rows("variant")
    if len(rows) == 0:
        return _message("Ablation", "No variant finished.")
    figure = _figure(11.5, 1.9 + 0.45 * len(rows))
    panels = (
        ("rmse", "RMSE (left is better)", 1.0, 0.02),
        ("mae", "MAE (left is better)", 1.0, 0.02),
        ("direction_accuracy", "Direction accuracy, % (right is better)", 100.0, 0.02),
    )
    for axis, (column, label, scale, floor) in zip(
        figure.subplots(1, len(panels), sharey=True), panels, strict=True
    ):
        reference = scale * _first(story.table.loc[story.table["model"] == story.reference, column])
        _rows_of_points(
            axis, story, rows, column, scale, floor, also=(reference, 50.0) if scale == 100 else (reference,)
        )
        axis.axvline(reference, color=_INK, linestyle="--", linewidth=1.2, zorder=1)
        if column == "direction_accuracy":
            axis.axvline(50, color=_GREY, linestyle=":", linewidth=1.2, zorder=1)
        axis.set_xlabel(label, color=_INK, fontsize=10)
    handles = [
        Line2D([], [], color=_INK, linestyle="--", linewidth=1.2, label=f"{story.reference} (reference)"),
        Line2D([], [], color=_GREY, linestyle=":", linewidth=1.2, label="a coin"),
    ]
    return _titled(
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
        return _message("RMSE on each ticker", "No variant finished.")
    standard = error[story.reference] if story.reference in error else error.mean(axis=1) * math.nan
    skill, worst, best = (100 * (1 - frame.div(standard, axis=0)) for frame in (error, highest, lowest))
    width = min(max(8.0, 2.0 + 0.16 * len(error) * (len(variants) + 2)), 22.0)
    figure = _figure(width, 6.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    half = 0.5 * float(np.nanmedian(error))  # a range no ticker's own level can reach by chance
    _ticker_points(top, story, variants, (error, lowest, highest), floor=half, also=())
    _ticker_points(bottom, story, variants, (skill, worst, best), floor=2.0, also=(0.0,))
    top.set_ylabel("RMSE", color=_INK, fontsize=10)
    bottom.set_ylabel(f"RMSE skill vs {story.reference}, %\n(above 0 is better)", color=_INK, fontsize=10)
    if standard.isna().all():
        _say(bottom, f"{story.reference} did not finish")
    handles = [_handle(story.looks[name], name) for name in variants]
    places = np.arange(len(error), dtype=float)
    marked = [name for name in references if name in error]
    for name, colour, style in zip(marked, (_INK, _GREY, _GREY), _REFERENCE_LINES, strict=False):
        for axis, level in ((top, error[name]), (bottom, skill[name])):
            axis.hlines(level, places - 0.42, places + 0.42, color=colour, linestyle=style, linewidth=1.4)
        handles.append(
            Line2D([], [], color=colour, linestyle=style, linewidth=1.4, label=f"{name} (baseline)")
        )
    bottom.set_xlim(-0.5, len(error) - 0.5)
    bottom.set_xticks(places, list(error.index), rotation=45 if width / len(error) < 0.6 else 0)
    return _titled(
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
    start, stop = _window(value.ravel(), low.ravel(), high.ravel(), floor, also)
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
    _tidy(axis, grid="y")
    for edge in np.arange(len(value) - 1) + 0.5:
        axis.axvline(edge, color=_PALE, linewidth=0.8, zorder=0)


def _curves(story: _Story, curves: pd.DataFrame) -> Figure:
    """Draw training and validation loss over epochs, a panel for each trained variant."""
    variants = [name for name in story.table["model"] if name in set(curves["model"])]
    if not variants:
        return _message("Learning curves", "No network was trained: there are no learning curves.")
    columns = min(len(variants), 4 if len(variants) != 6 else 3)
    lines = math.ceil(len(variants) / columns)
    figure = _figure(max(3.1 * columns + 0.7, 7.0), 2.9 * lines + 1.0)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    positive = bool((curves[["train_loss", "val_loss"]].min() > 0).all())
    for axis, name in zip(axes.flat, variants, strict=False):
        _curve_panel(axis, curves[curves["model"] == name], story.looks[name])
        axis.set_title(name, loc="left", fontsize=10, color=story.looks[name].colour, fontweight="bold")
        if positive:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.yaxis.set_major_formatter(
                FuncFormatter(lambda loss, _: f"{loss:.1e}".replace(".0e", "e").replace("e-0", "e-"))
            )
            axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _tidy(axis, grid="both")
    for axis in axes.flat[len(variants) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss (log scale)" if positive else "loss", color=_INK, fontsize=10)
    for axis in axes.flat[max(len(variants) - columns, 0) : len(variants)]:
        axis.tick_params(labelbottom=True)  # also above an empty place
    handles = [
        Line2D([], [], color=_GREY, linestyle="--", linewidth=2.2, label="training, mean"),
        Line2D([], [], color=_COLOURS[0], linewidth=2.2, label="validation, mean (variant's colour)"),
        Line2D(
            [],
            [],
            color=_COLOURS[0],
            marker="o",
            markersize=4,
            linestyle="",
            label="best epoch of a replicate",
        ),
        Line2D([], [], color=_INK, linestyle=":", linewidth=1.2, label="median best epoch"),
    ]
    return _titled(
        figure,
        "Learning curves",
        "Thin: one replicate (ticker and seed). The mean holds a stopped replicate at its last loss.",
        handles,
    )


def _curve_panel(axis: Axes, curves: pd.DataFrame, look: _Look) -> None:
    curves = curves.sort_values("epoch")
    replicates = ["ticker", "seed"]
    for column, colour, style in (("train_loss", _GREY, "--"), ("val_loss", look.colour, "-")):
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
    axis.axvline(middle, color=_INK, linestyle=":", linewidth=1.2, zorder=1)
    spread = f"median {middle:g}, {best['epoch'].min():g} to {best['epoch'].max():g}"
    axis.set_xlabel(f"epoch (best: {spread if len(best) > 1 else f'{middle:g}'})", color=_INK, fontsize=9.5)
    axis.autoscale_view()


def _predictions(story: _Story, predictions: pd.DataFrame, ticker: str) -> Figure:
    """Draw forecasts on the scale of the truth, where they are nearly flat, and against it, enlarged."""
    variants = [name for name in story.rows("variant")["model"] if name in set(predictions["model"])]
    title = f"Forecast against actual returns: {ticker}, test block"
    if not variants:
        return _message(title, f"No variant forecast {ticker}.")
    figure = _figure(11.5, 1.6 * len(variants) + 1.5)
    axes = figure.subplots(len(variants), 2, squeeze=False, sharey=True, width_ratios=[3.4, 1])
    frames = [predictions[predictions["model"] == name] for name in variants]
    means = [frame.groupby("date")["predicted"].mean() for frame in frames]
    middle, low, high = (np.array([mean.agg(how) for mean in means]) for how in ("median", "min", "max"))
    actual = predictions["actual"]
    window = _window(middle, low, high, floor=0.0, also=(float(actual.min()), float(actual.max())))
    for (left, right), name, frame, mean in zip(axes, variants, frames, means, strict=True):
        left.sharex(axes[-1, 0])
        left.tick_params(labelbottom=left is axes[-1, 0])
        _forecast_panels(left, right, name, frame, mean, story.looks[name].colour)
        if not window[0] <= mean.median() <= window[1]:
            _say(left, "the forecast is off this scale")
    left, right = axes[-1]
    left.set_ylim(window)
    left.margins(x=0.01)
    dates = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    left.xaxis.set_major_locator(dates)
    left.xaxis.set_major_formatter(ConciseDateFormatter(dates))  # type: ignore[no-untyped-call]
    right.set_xlabel("forecast, % (own scale)", color=_INK, fontsize=10)
    axes[0, 1].set_title("actual against forecast", loc="left", fontsize=10, color=_INK)
    handles = [
        Line2D([], [], color="#b5b5b5", linewidth=1.2, label="actual"),
        Line2D(
            [], [], color=_COLOURS[0], linewidth=1.4, label="forecast, mean over seeds (variant's colour)"
        ),
        Line2D([], [], color=_COLOURS[0], linewidth=0.6, alpha=0.6, label="forecast, each seed"),
    ]
    return _titled(
        figure,
        title,
        "Left: both on one scale. Right: the same days, each forecast on its own; a good one slopes upwards.",
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
    left.set_ylabel("return, %", color=_INK, fontsize=10)
    right.plot(mean, actual, "o", color=colour, markersize=2.6, alpha=0.45, markeredgewidth=0)
    right.axvline(0, color=_GREY, linewidth=0.8, zorder=1)
    percent = FuncFormatter(lambda share, _: f"{100 * share:g}".replace("-", "−"))
    right.xaxis.set_major_formatter(percent)
    right.xaxis.set_major_locator(MaxNLocator(4))
    for axis in (left, right):
        axis.axhline(0, color=_GREY, linewidth=0.8, zorder=1)
        axis.yaxis.set_major_formatter(percent)
        axis.yaxis.set_major_locator(MaxNLocator(5))
    _tidy(left, grid="y")
    _tidy(right, grid="both")


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
        return _message("Direction accuracy", "No model has a direction accuracy.")
    percent = percent[models]
    percent.loc["mean"] = percent.mean()
    figure = _figure(max(2.4 + 0.78 * len(models), 7.0), 2.4 + 0.33 * len(percent))
    axis = figure.subplots()
    apart = (percent - 50).abs().to_numpy()
    # One odd cell must not wash out the others, nor a quiet table shout.
    reach = float(np.clip(np.nanquantile(apart, 0.95), 3, 15)) if np.isfinite(apart).any() else 3.0
    sns.heatmap(
        percent,
        ax=axis,
        cmap="vlag_r",
        center=50,
        vmin=50 - reach,
        vmax=50 + reach,
        annot=True,
        fmt=".1f",
        annot_kws={"fontsize": 9},
        linewidths=0.6,
        linecolor="white",
        cbar_kws={"extend": "both" if np.nanmax(apart) > reach else "neither", "fraction": 0.03, "pad": 0.02},
    )
    axis.set_facecolor(_PALE)  # a missing cell
    for text in axis.texts:
        column, row = (int(place) for place in text.get_position())
        text.set_color("white" if apart[row, column] > 0.7 * reach else _INK)
    variants = sum(story.looks[name].variant for name in models)
    axis.axvline(variants, color="white", linewidth=5)
    axis.axhline(len(percent) - 1, color="white", linewidth=5)
    axis.set(xlabel="", ylabel="")
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize=9.5, labelcolor=_INK)
    for label in axis.get_yticklabels():
        label.set_rotation(0)
    for label, name in zip(axis.get_xticklabels(), models, strict=True):
        look = story.looks[name]
        label.set(
            rotation=35, ha="left", rotation_mode="anchor", color=look.colour if look.variant else _GREY
        )
        label.set_fontweight("bold" if look.variant else "normal")
    chance = 100 * 1.96 * 0.5 / math.sqrt(max(days, 1))
    return _titled(
        figure,
        "Direction accuracy, %, on each ticker",
        f"Mean over seeds. A coin tossed on {days} test days: 50 ± {chance:.1f} in 95 of 100 cases.",
    )


def _full_comparison(story: _Story) -> Figure:
    """Draw every model, best first: its RMSE, and its skill against the reference."""
    rows = story.table[story.table["rmse"].notna()]
    figure = _figure(11.5, 1.7 + 0.36 * max(len(rows), 3))
    left, right = figure.subplots(1, 2, sharey=True)
    _rows_of_points(left, story, rows, "rmse", 1.0, 0.02)
    _rows_of_points(right, story, rows, f"{story.reference}_rmse_skill", 100.0, 0.02, also=(0.0,))
    left.set_xlabel("RMSE (left is better)", color=_INK, fontsize=10)
    right.set_xlabel(f"RMSE skill vs {story.reference}, % (right is better)", color=_INK, fontsize=10)
    right.axvline(0, color=_INK, linestyle="--", linewidth=1.2, zorder=1)
    beyond: dict[str, Any] = {
        "transform": right.get_yaxis_transform(),
        "va": "center",
        "fontsize": 9.5,
        "color": _INK,
    }
    right.text(1.03, -0.85, f"beats {story.reference}?", **beyond)
    for place, (name, beats) in enumerate(zip(rows["model"], rows["beats"], strict=True)):
        if story.looks[name].variant:
            right.text(1.03, place, beats, fontweight="bold" if beats == "yes" else "normal", **beyond)
    filled, hollow = (
        _Look(_COLOURS[0], "o", _COLOURS[0], True),
        _Look(_BASELINE_GREYS[0], "o", "white", False),
    )
    dashed = Line2D([], [], color=_INK, linestyle="--", linewidth=1.2, label=f"{story.reference} (reference)")
    return _titled(
        figure,
        "All models, best first",
        "Mean over tickers and seeds. Bars: 95 % interval, where there is one. RMSE does not start at zero.",
        [_handle(filled, "variant (its own colour)"), _handle(hollow, "baseline"), dashed],
    )


def _rows_of_points(
    axis: Axes,
    story: _Story,
    rows: pd.DataFrame,
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
    story
        For the looks.
    rows
        Rows of the table, best first.
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
    start, stop = _window(value, low, high, narrowest, also)
    for place, name in enumerate(rows["model"]):
        look = story.looks[name]
        text = (f"{value[place]:+.2f}" if column.endswith("skill") else f"{value[place]:#.4g}").replace(
            "-", "−"
        )
        note: dict[str, Any] = {
            "ha": "center",
            "va": "bottom",
            "fontsize": 8.5,
            "color": _INK,
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
    _tidy(axis, grid="x")
    # A panel that shares its neighbour's names has no labels of its own.
    for label, name in zip(axis.get_yticklabels(), rows["model"], strict=False):
        look = story.looks[name]
        label.set_color(look.colour if look.variant else _INK if name == story.reference else _GREY)
        label.set_fontweight("bold" if look.variant or name == story.reference else "normal")


def _window(
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


def _looks(table: pd.DataFrame) -> dict[str, _Look]:
    """Give each model its look, by the order of names, so that a new ranking changes no colour."""
    looks = {}
    for i, name in enumerate(sorted(table.loc[table["role"] == "variant", "model"])):
        colour = _COLOURS[i % len(_COLOURS)]
        looks[name] = _Look(colour, _MARKERS[i % len(_MARKERS)], colour, variant=True)
    for i, name in enumerate(sorted(table.loc[table["role"] != "variant", "model"])):
        grey = _BASELINE_GREYS[i % len(_BASELINE_GREYS)]
        looks[name] = _Look(grey, _MARKERS[i % len(_MARKERS)], "white", variant=False)
    return looks


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _message(title: str, text: str) -> Figure:
    """Make a figure that says why there is nothing to see."""
    figure = _figure(7.0, 2.2)
    figure.text(0.5, 0.45, text, ha="center", va="center", fontsize=11, color=_GREY)
    return _titled(figure, title, "")


def _say(axis: Axes, text: str) -> None:
    """Say in the middle of a panel why something is missing from it."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=9.5, color=_GREY)


def _titled(figure: Figure, title: str, note: str, handles: list[Line2D] | None = None) -> Figure:
    """Put the title and the legend above, and the note below."""
    bold = {"size": 13, "weight": "bold"}
    if handles is None:
        figure.suptitle(title, x=0.005, ha="left", color=_INK, fontproperties=bold)
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
            labelcolor=_INK,
            title=title,
            title_fontproperties=bold,
            alignment="left",
            borderpad=0.2,
            borderaxespad=0.2,
        )
        legend.get_title().set_color(_INK)
    figure.supxlabel(note, x=0.005, ha="left", fontsize=8.5, color=_GREY)
    return figure


def _handle(look: _Look, label: str) -> Line2D:
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


def _tidy(axis: Axes, grid: str) -> None:
    """Set what global settings would otherwise decide: grid, spines, ticks."""
    axis.set_axisbelow(True)
    axis.grid(visible=False)
    axis.grid(visible=True, axis=grid, color="#e6e6e6", linewidth=0.8)  # type: ignore[arg-type]
    axis.tick_params(which="both", length=0, labelsize=9.5, labelcolor=_INK)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color="#b0b0b0", linewidth=0.8)


def _first(values: pd.Series[float]) -> float:
    return float(values.iloc[0]) if len(values) else math.nan
