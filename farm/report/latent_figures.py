"""The figures of the generative study's classical half, from plain arrays: regimes, factors, risk, density.

They have the look of `farm.report.marks`.

Shape letters: N days, A assets, K regimes or factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from farm.base.types import Dates, Floats
from farm.evaluation.covariance import TRADING_DAYS
from farm.evaluation.significance import default_lags, long_run_variance
from farm.report.looks import COLOURS, GREY, INK, PALE
from farm.report.marks import PERCENT, dated, new_figure, tidy, titled

SHADES = ("#9ccbe6", "#f3d9a4", "#e8853f", "#a3170f")  # from calm to wild
FARTHEST = -6.0  # nats below the reference that a picture of densities has room for
CALM, WILD = SHADES[0], SHADES[-1]
# Sectors of the bundled stocks, by GICS as of 2022.
SECTORS = {
    "Technology": ("AAPL", "AMD", "MSFT"),
    "Consumer": ("BBY", "HD", "KO", "PEP", "PG", "WMT"),
    "Health care": ("JNJ", "LLY", "MRK", "PFE", "UNH"),
    "Financials": ("BAC", "JPM"),
    "Industrials": ("GE",),
    "Energy": ("CVX", "RRC", "XOM"),
}


def regime_timeline(
    days: Dates, market: Floats, probabilities: Mapping[str, Floats], test: np.datetime64, index: str
) -> Figure:
    """Draw the market's returns in the colours of their regime, and each model's filtered regimes below.

    Parameters
    ----------
    days, market
        Dates and daily log returns, (N,) each.
    probabilities
        Filtered chances by model, (N, K) each, calm regimes first; the first model colours the returns.
    test
        First day of the test block.
    index
        Name of the market.
    """
    figure = new_figure(11.5, 2.8 + 1.35 * len(probabilities))
    heights = [1.7, *[1.0] * len(probabilities)]
    top, *below = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    name, chances = next(iter(probabilities.items()))
    wild = chances[:, -1] > 0.5
    for mask, colour in ((~wild, CALM), (wild, WILD)):
        top.plot(days[mask], 100 * market[mask], ".", color=colour, markersize=1.8)
    top.set_ylabel(f"{index}, % a day", color=INK, fontsize=10)
    reach = float(np.abs(100 * market).max())
    top.set_ylim(-1.12 * reach, 1.25 * reach)
    for year, said in ((2008.75, "2008: credit crisis"), (2020.2, "2020: pandemic")):
        when = np.datetime64("1970-01-01", "D") + np.timedelta64(round((year - 1970) * 365.25), "D")
        if days[0] < when < days[-1]:
            top.annotate(said, (when, 1.12 * reach), ha="center", va="center", fontsize=9, color=INK)
    for axis, (label, chances) in zip(below, probabilities.items(), strict=True):
        count = chances.shape[1]
        smooth = pd.DataFrame(chances).rolling(5, min_periods=1).mean().to_numpy()
        shades = [_shade(k, count) for k in range(count)]
        axis.stackplot(days, smooth.T, colors=shades, linewidth=0)
        axis.set_ylim(0, 1)
        axis.set_yticks([0, 0.5, 1])
        axis.set_ylabel(label, color=INK, fontsize=10)
    for axis in (top, *below):
        axis.axvline(test, color=INK, linestyle="--", linewidth=1.2)
        tidy(axis, grid="x")
    dated(below[-1])
    below[-1].set_xlim(days[0], days[-1])
    handles = [
        Line2D([], [], color=CALM, marker="o", linestyle="", markersize=5, label="calmest regime"),
        Line2D([], [], color=WILD, marker="o", linestyle="", markersize=5, label="wildest regime"),
        Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label="test block begins"),
    ]
    note = (
        f"Above: each day in the colour of {name}'s likelier regime. Below: filtered chances (given the days"
        " up to each one; mean of 5 days), calm at the bottom.\nBefore the dashed line the laws had seen"
        " the days. This says which regime a day was in, once it was over. It is no forecast."
    )
    return titled(figure, "Regimes of the market", note, handles)


def _shade(k: int, count: int) -> tuple[float, float, float]:
    """Give regime k of `count` its colour, from calm to wild."""
    place = k / max(count - 1, 1) * (len(SHADES) - 1)
    low = min(int(place), len(SHADES) - 2)
    calm, wild = (np.array(to_rgb(shade)) for shade in SHADES[low : low + 2])
    red, green, blue = (low + 1 - place) * calm + (place - low) * wild
    return float(red), float(green), float(blue)


def factor_loadings(loadings: Floats, own: Floats, assets: tuple[str, ...], model: str) -> Figure:
    """Draw loadings by sector, turned to be easily read, and how much of each asset they explain.

    The rotation is varimax (Kaiser 1958, Psychometrika 23); the covariance does not depend on it.

    Parameters
    ----------
    loadings, own
        (A, K) and each asset's own variance, (A,), in scaled units.
    assets
        Names of the A assets, the index first.
    model
        Whose they are.
    """
    sector_of = {ticker: sector for sector, tickers in SECTORS.items() for ticker in tickers}
    sector_of[assets[0]] = "Index"
    sectors = [*SECTORS, "Other", "Index"]
    order = sorted(
        range(len(assets)), key=lambda i: (sectors.index(sector_of.get(assets[i], "Other")), assets[i])
    )
    turned = readable(loadings)[order]
    named = [assets[i] for i in order]
    count = turned.shape[1]
    figure = new_figure(5.4 + 0.62 * count + 2.4, 1.9 + 0.27 * len(assets))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[0.62 * count + 1.0, 3.4])
    reach = float(np.abs(turned).max())
    picture = left.imshow(turned, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
    for (i, k), value in np.ndenumerate(turned):
        if abs(value) > 0.25:
            dark = abs(value) > 0.6 * reach
            left.text(k, i, f"{value:.1f}".replace("-", "−"), ha="center", va="center", fontsize=8)
            left.texts[-1].set_color("white" if dark else INK)
    left.set_xticks(range(count), [f"f{k + 1}" for k in range(count)])
    left.set_yticks(range(len(named)), named)
    figure.colorbar(picture, ax=left, shrink=0.5, pad=0.02, label="loading").outline.set_visible(False)
    systematic = (turned**2).sum(axis=1) / ((turned**2).sum(axis=1) + own[order])
    places = np.arange(len(named))
    right.barh(places, systematic, height=0.66, color=COLOURS[0])
    right.barh(places, 1 - systematic, left=systematic, height=0.66, color=PALE)
    for place, share in zip(places, systematic, strict=True):
        right.text(
            share / 2, place, f"{100 * share:.0f} %", ha="center", va="center", fontsize=8, color="white"
        )
    right.set_xlim(0, 1)
    right.xaxis.set_major_formatter(PERCENT)
    right.set_xlabel("share of variance, %", color=INK, fontsize=10)
    for axis in (left, right):
        tidy(axis, grid="x")
        axis.grid(visible=False)
        for side in axis.spines.values():
            side.set_visible(False)
    groups = [sector_of.get(name, "Other") for name in named]
    for i in range(1, len(groups)):
        if groups[i] != groups[i - 1]:
            for axis in (left, right):
                axis.axhline(i - 0.5, color="white", linewidth=3)
    for sector in dict.fromkeys(groups):
        rows = [i for i, group in enumerate(groups) if group == sector]
        right.annotate(sector, (1.03, float(np.mean(rows))), fontsize=9, va="center", color=INK)
        right.texts[-1].set(annotation_clip=False)
    handles: list[Any] = [
        Patch(color=COLOURS[0], label="systematic: explained by the factors"),
        Patch(color=PALE, label="idiosyncratic: the asset's own"),
    ]
    note = (
        "Loadings after a varimax rotation, in units of each asset's standard deviation on the training days."
    )
    return titled(figure, f"Factors by sector ({model})", note, handles)


def readable(loadings: Floats) -> Floats:
    """Turn loadings by varimax, strongest factor first, each mostly positive, (A, K)."""
    from statsmodels.multivariate.factor_rotation import rotate_factors  # slow to import

    turned = loadings
    if loadings.shape[1] > 1:
        turned = np.asarray(rotate_factors(loadings, "varimax")[0])
    turned = turned[:, np.argsort(-(turned**2).sum(axis=0), kind="stable")]
    signed: Floats = turned * np.where(turned.sum(axis=0) < 0, -1.0, 1.0)
    return signed


@dataclass(frozen=True)
class Scored:
    """What the pictures need of one model.

    Parameters
    ----------
    metrics
        Means over seeds, by full name.
    density, portfolio
        Of the first seed, for paired tests: log density of each test day and the portfolio's returns, (N,);
        None where the model has none.
    """

    metrics: Mapping[str, float]
    density: Floats | None = None
    portfolio: Floats | None = None


def covariance_and_risk(models: Mapping[str, Scored], reference: str) -> Figure:
    """Draw each model's covariance error and the risk of its minimum-variance portfolio.

    Parameters
    ----------
    models
        By name; those without a covariance are left out.
    reference
        The one whose portfolio the others' are compared with, day by day.
    """
    shown = {name: s for name, s in models.items() if "portfolio/risk" in s.metrics}
    shown = dict(sorted(shown.items(), key=lambda item: item[1].metrics["portfolio/risk"]))
    names = list(shown)
    figure = new_figure(11.5, 1.9 + 0.3 * len(names))
    panels = (
        ("portfolio/risk", "Risk of the minimum-variance portfolio, % a year"),
        ("covariance/correlation_error", "Error of the correlations"),
        ("covariance/error", "Error of the covariance, share of its norm"),
    )
    base = shown[reference].portfolio if reference in shown else None
    for axis, (key, label) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        risk = key == "portfolio/risk"
        for place, (name, s) in enumerate(shown.items()):
            colour = INK if name == reference else COLOURS[0]
            value = (100 if risk else 1) * s.metrics[key]
            if risk:
                axis.plot(100 * s.metrics["portfolio/promised_risk"], place, "|", color=GREY, markersize=10)
                if base is not None and s.portfolio is not None and name != reference:
                    half = 100 * _risk_error(s.portfolio, base)
                    axis.hlines(place, value - half, value + half, color=colour, linewidth=1.8)
            axis.plot(value, place, "o", color=colour, markersize=6)
            text = f"{value:.2f}" if risk else f"{value:.3f}"
            axis.annotate(text, (value, place), xytext=(0, 5), textcoords="offset points", ha="center")
            axis.texts[-1].set(fontsize=8.5, color=INK)
        axis.margins(x=0.14)
        axis.set_ylim(len(names) - 0.4, -0.8)
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel(label, color=INK, fontsize=10)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        tidy(axis, grid="both")
    handles = [
        Line2D([], [], color=INK, marker="o", linestyle="", markersize=6, label=f"{reference} (baseline)"),
        Line2D([], [], color=COLOURS[0], marker="o", markersize=6, label="95 % interval of the difference"),
        Line2D([], [], color=GREY, marker="|", linestyle="", markersize=10, label="risk that was promised"),
    ]
    note = (
        "Left is better. Weights are set once, from the training days, and held through the test block."
        f"\nThe interval is that of the difference from {reference}, day by day, first seed (HAC)."
    )
    return titled(figure, "Covariance and risk, out of sample", note, handles)


def _risk_error(portfolio: Floats, base: Floats) -> float:
    """Give half the 95 % interval of the difference of two annualised risks, by the delta method."""
    squares = [(daily - daily.mean()) ** 2 / (2 * daily.std()) for daily in (portfolio, base)]
    return 1.96 * _standard_error(squares[0] - squares[1]) * math.sqrt(TRADING_DAYS)


def densities(models: Mapping[str, Scored], reference: str) -> Figure:
    """Draw how much likelier the test days are under each model than under a reference.

    Parameters
    ----------
    models
        By name: those with an exact likelihood as points with the paired interval, the others as the span
        from the evidence lower bound to the importance-weighted one, both of which lie below the likelihood.
    reference
        A model with an exact likelihood.
    """
    zero = models[reference].metrics["density/log_likelihood"]
    base = models[reference].density
    exact = {name: s for name, s in models.items() if "density/log_likelihood" in s.metrics}
    bounded = {name: s for name, s in models.items() if "bound/elbo" in s.metrics}
    best = {name: s.metrics["density/log_likelihood"] - zero for name, s in exact.items()}
    best |= {name: s.metrics["bound/importance_weighted"] - zero for name, s in bounded.items()}
    names = sorted(best, key=lambda name: -best[name])
    figure = new_figure(9.0, 1.9 + 0.3 * len(names))
    axis = figure.subplots()
    for place, name in enumerate(names):
        s = models[name]
        value = best[name]
        text = f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")
        if value < FARTHEST:  # said at the edge, so that the others keep their scale
            axis.annotate(f"← {text}", (FARTHEST, place), va="center", fontsize=8.5, color=INK)
            continue
        if name in exact:
            colour = INK if name == reference else COLOURS[0]
            axis.plot(value, place, "o", color=colour, markersize=6)
            if base is not None and s.density is not None and name != reference:
                half = 1.96 * _standard_error(s.density - base)
                axis.hlines(place, value - half, value + half, color=colour, linewidth=1.8)
        else:
            low = s.metrics["bound/elbo"] - zero
            axis.hlines(place, low, value, color=COLOURS[1], linewidth=4, alpha=0.5)
            axis.plot(low, place, "|", color=COLOURS[1], markersize=9, markeredgewidth=2)
            axis.plot(value, place, ">", color=COLOURS[1], markersize=6)
        axis.annotate(text, (value, place), xytext=(0, 5), textcoords="offset points", ha="center")
        axis.texts[-1].set(fontsize=8.5, color=INK)
    axis.axvline(0, color=INK, linestyle="--", linewidth=1.2)
    if min(best.values()) < FARTHEST:
        axis.set_xlim(left=FARTHEST)
    axis.set_ylim(len(names) - 0.4, -0.8)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel(f"log density of a test day, nats above {reference}", color=INK, fontsize=10)
    tidy(axis, grid="both")
    handles = [
        Line2D(
            [], [], color=COLOURS[0], marker="o", markersize=6, label="exact, 95 % interval of the difference"
        ),
        Line2D(
            [], [], color=COLOURS[1], marker="|", linestyle="", markersize=9, label="evidence lower bound"
        ),
        Line2D(
            [],
            [],
            color=COLOURS[1],
            marker=">",
            linestyle="",
            markersize=6,
            label="importance-weighted bound",
        ),
    ]
    note = (
        "Right is better. The likelihood of a bounded model lies at or right of the arrow; the gap of its"
        " ELBO is\nat least the bar. HAC standard errors over days, first seed."
    )
    return titled(figure, "How likely the test days were", note, handles)


def _standard_error(values: Floats) -> float:
    """Give the standard error of a mean of dependent days."""
    return math.sqrt(long_run_variance(values, default_lags(len(values))) / len(values))


def dimension_choice(
    counts: Sequence[int], scores: Mapping[str, Mapping[str, Floats]], planted: int
) -> Figure:
    """Draw held-out likelihood against the number of factors, a panel for each kind of noise.

    Parameters
    ----------
    counts
        Numbers of factors that were tried, C.
    scores
        By kind of noise, then by model: mean log density of a held-out day, (C,).
    planted
        The number that the data was drawn with.
    """
    figure = new_figure(11.0, 4.2)
    looks = dict(zip(next(iter(scores.values())), (COLOURS[3], COLOURS[0]), strict=False))
    for axis, (kind, by_model) in zip(
        figure.subplots(1, len(scores), squeeze=False)[0], scores.items(), strict=True
    ):
        for (name, values), style, lift in zip(by_model.items(), ("-", "--"), (6, -14), strict=False):
            axis.plot(counts, values, style, color=looks[name], linewidth=1.8)
            best = int(np.argmax(values))
            axis.plot(counts[best], values[best], "o", color=looks[name], markersize=8)
            axis.annotate(
                f"{counts[best]}",
                (counts[best], values[best]),
                xytext=(12, lift),
                textcoords="offset points",
                ha="center",
                color=looks[name],
                fontweight="bold",
            )
        axis.axvline(planted, color=GREY, linestyle=":", linewidth=1.4)
        axis.set_title(kind, loc="left", fontsize=10.5, color=INK)
        axis.set_xlabel("number of factors", color=INK, fontsize=10)
        axis.margins(y=0.12)
        tidy(axis, grid="y")
    figure.axes[0].set_ylabel("log density of a held-out row, nats", color=INK, fontsize=10)
    handles = [Line2D([], [], color=colour, linewidth=1.8, label=name) for name, colour in looks.items()]
    handles[-1].set_linestyle("--")
    handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=1.4, label=f"planted: {planted}"))
    note = "Dots: the number that cross-validation would choose."
    return titled(figure, "How many factors?", note, handles)


def imputation_errors(errors: pd.DataFrame, reference: str) -> Figure:
    """Draw the error of filled entries by the share that is hidden.

    Parameters
    ----------
    errors
        A row for each model, a column for each share in per cent, root mean square errors.
    reference
        The baseline.
    """
    middle = errors.columns[len(errors.columns) // 2]
    ordered = errors.sort_values(middle)
    figure = new_figure(9.0, 1.9 + 0.3 * len(ordered))
    axis = figure.subplots()
    places = np.arange(len(ordered))
    for colour, marker, share in zip(COLOURS, ("s", "o", "^"), ordered.columns, strict=False):
        axis.plot(100 * ordered[share], places, marker, color=colour, markersize=6)
    axis.axvline(100 * float(ordered[middle][reference]), color=INK, linestyle="--", linewidth=1.2)
    axis.set_ylim(len(ordered) - 0.4, -0.6)
    axis.set_yticks(places, [str(name) for name in ordered.index])
    axis.set_xlabel("root mean square error of a hidden return, % a day", color=INK, fontsize=10)
    tidy(axis, grid="both")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6, label=f"{share} % hidden")
        for colour, marker, share in zip(COLOURS, ("s", "o", "^"), ordered.columns, strict=False)
    ]
    handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label=f"{reference}, {middle} %"))
    note = "Left is better. Test block; the same random entries for every model; they differ by share."
    return titled(figure, "Filling hidden returns", note, handles)
