"""The figures of the variational autoencoders, from plain arrays: latents, walks, parts, gradients.

They have the look of `farm.report.marks`.

Shape letters: B windows, D latent dimensions, T days, A assets, W steps of a walk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from farm.base.types import Floats, Ints, Latents
from farm.evaluation.latent import kl_per_dimension
from farm.report.looks import COLOURS, GREY, INK
from farm.report.marks import message_figure, new_figure, tidy, titled
from farm.report.pictures import Pictures
from farm.store import Record
from farm.studies.generate import WALK

_SHOWN = 6  # dimensions that are drawn, those that carry most
_SILENT = 0.01  # nats: a dimension that carries less is called silent
_ESTIMATORS = {
    "reparameterised": "reparameterised",
    "score_function": "score function, with a baseline",
    "score_function_plain": "score function",
}


def network_figures(ranked: Sequence[str], records: Mapping[str, Sequence[Record]]) -> Pictures:
    """Draw the best variant of each kind of network, on the first seed, and the noise of the gradients.

    Parameters
    ----------
    ranked
        Names of the models, best first.
    records
        Finished trials by the name of the model, a seed each; models without a latent are left out.

    Returns
    -------
    Pictures
        By file stem.
    """
    draw: dict[str, Callable[[], Figure]] = {}
    best: dict[tuple[str, str], str] = {}
    for name in ranked:
        if records[name][0].has("latent/walk"):
            model = records[name][0].config["model"]
            best.setdefault((model["name"], model.get("decoder", "")), name)
    for name in best.values():
        record = records[name][0]
        study, model = record.config["study"], record.config["model"]
        assets = (study["market"], *study["assets"])
        latents = Latents(*(record.array(f"latent/{part}") for part in ("sample", "mean", "logvar")))
        kl, walk = kl_per_dimension(latents), record.array("latent/walk")
        draw[f"latent_prior_{name}"] = partial(posterior_against_prior, latents, name)
        draw[f"latent_walk_{name}"] = partial(latent_walk, walk, WALK, kl, assets, name)
        if model["noise"] == "decoded":
            spread = record.array("latent/spread")
            draw[f"latent_spread_{name}"] = partial(spread_walk, spread, WALK, kl, name)
        if record.has("window/part/trend"):
            parts = ("trend", *(f"season {days}" for days in model["seasons"]), "residual")
            draw[f"window_parts_{name}"] = partial(
                decomposed_window,
                record.array("window/real"),
                record.array("window/decoded"),
                {part: record.array(f"window/part/{part}") for part in parts},
                assets,
                (*assets[:2], assets[-1]),
                name,
            )
    noise = {
        name: {
            estimator: [float(r.metrics[_noise_of(estimator)]) for r in seeds] for estimator in _ESTIMATORS
        }
        for name, seeds in records.items()
        if all(_noise_of(estimator) in r.metrics for r in seeds for estimator in _ESTIMATORS)
    }
    if noise:
        draw["gradient_noise"] = partial(gradient_noise, noise)
    return Pictures(draw)


def _noise_of(estimator: str) -> str:
    return f"gradient/{estimator}_variance"


def posterior_against_prior(latents: Latents, name: str) -> Figure:
    """Draw what each dimension carries, and the aggregate posterior of the busiest ones.

    Parameters
    ----------
    latents
        Of B windows; the prior is the standard normal.
    name
        Whose they are.
    """
    kl = kl_per_dimension(latents)
    chosen = _busiest(kl)
    lines = math.ceil(len(chosen) / 3)
    figure = new_figure(11.5, 1.4 + 1.75 * max(lines, 2))
    grid = figure.add_gridspec(lines, 4, width_ratios=(1.5, 1, 1, 1))
    bars = figure.add_subplot(grid[:, 0])
    order = np.argsort(-kl, kind="stable")
    bars.bar(np.arange(len(kl)), kl[order], width=0.8, color=COLOURS[0])
    bars.set_xlabel("latent dimensions, by what they carry", color=INK, fontsize=10)
    bars.set_ylabel("KL from the prior, nats", color=INK, fontsize=10)
    bars.set_xticks([])
    bars.set_ylim(0, max(1.1 * float(kl.max()), _SILENT))
    tidy(bars, grid="y")
    line = np.linspace(-4, 4, 200)
    prior = np.exp(-(line**2) / 2) / math.sqrt(2 * math.pi)
    bins = list(np.linspace(-4, 4, 49))
    for place, d in enumerate(chosen):
        axis = figure.add_subplot(grid[place // 3, 1 + place % 3])
        for values, colour in ((latents.mean, COLOURS[1]), (latents.sample, COLOURS[0])):
            axis.hist(values[:, d], bins=bins, density=True, histtype="stepfilled", color=colour, alpha=0.3)
            axis.hist(values[:, d], bins=bins, density=True, histtype="step", color=colour, linewidth=1.2)
        axis.plot(line, prior, color=INK, linestyle="--", linewidth=1.2)
        axis.set_title(f"z{d}:  {kl[d]:.2f} nats", loc="left", fontsize=10, color=INK, fontweight="bold")
        axis.set(xlim=(-4, 4), ylim=(0, 3 * prior.max()))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.yaxis.set_major_locator(MaxNLocator(3))
        tidy(axis, grid="x")
    silent = int((kl < _SILENT).sum()) or "none"
    note = (
        f"{kl.sum():.1f} nats over {len(kl)} dimensions, {silent} of them silent (below {_SILENT} nats)."
        " Density over the test block, cut off at 3 times the prior's."
    )
    handles = [
        Patch(color=COLOURS[0], alpha=0.5, label="draws of the posterior"),
        Patch(color=COLOURS[1], alpha=0.5, label="its means"),
        Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label="prior N(0, 1)"),
    ]
    return titled(figure, f"Posterior against prior: {name}", note, handles)


def latent_walk(
    walk: Floats, values: Sequence[float], kl: Floats, assets: Sequence[str], name: str
) -> Figure:
    """Draw what is decoded while one dimension moves and the others stand still.

    Parameters
    ----------
    walk
        Decoded means in scaled units, (D, W, T, A). Of a single day (T = 1) the assets are drawn, of
        a window the mean over the assets, day by day.
    values
        The W places of the moving dimension, increasing.
    kl
        What each dimension carries, (D,), in nats; the busiest are drawn.
    assets
        The A names.
    name
        Of the model.
    """
    chosen = _busiest(kl)
    if not np.ptp(walk[chosen], axis=1).max() > 1e-6:
        return message_figure(f"Latent walk: {name}", "no dimension moves what is decoded")
    return (_walk_of_days if walk.shape[2] == 1 else _walk_of_windows)(walk, values, chosen, assets, name)


def _walk_of_days(
    walk: Floats, values: Sequence[float], chosen: Ints, assets: Sequence[str], name: str
) -> Figure:
    """Draw a row for each asset, coloured by its decoded return."""
    figure = new_figure(1.6 + 1.65 * len(chosen), 1.5 + 0.21 * len(assets))
    axes = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    norm = CenteredNorm(0.0, float(np.abs(walk[chosen]).max()))
    for axis, d in zip(axes, chosen, strict=True):
        image = axis.imshow(walk[d, :, 0].T, aspect="auto", cmap="RdBu_r", norm=norm)
        places = range(0, len(values), 2) if len(values) > 4 else range(len(values))
        axis.set_xticks(list(places), [_signed(values[i]) for i in places])
        axis.set_title(f"z{d}", loc="left", fontsize=10, color=INK, fontweight="bold")
        axis.set_yticks(range(len(assets)), assets)
        axis.tick_params(length=0, labelsize=9, labelcolor=INK)
        for spine in axis.spines.values():
            spine.set_visible(False)
    bar = figure.colorbar(image, ax=list(axes), fraction=0.03, pad=0.01)
    bar.set_label("mean return, standard deviations", color=INK, fontsize=9.5)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    note = "Across: the place of one dimension; the others stand at their mean over the test block."
    return titled(figure, f"Latent walk: {name}", note)


def _walk_of_windows(
    walk: Floats, values: Sequence[float], chosen: Ints, assets: Sequence[str], name: str
) -> Figure:
    """Draw a line over the days for each place, of the mean over assets."""
    lines = math.ceil(len(chosen) / 3)
    figure = new_figure(11.5, 1.3 + 1.9 * lines)
    axes = figure.subplots(lines, 3, sharex=True, sharey=True, squeeze=False)
    colours = mpl.colormaps["coolwarm"]
    norm = Normalize(min(values), max(values))
    market = walk.mean(axis=3)
    for axis, d in zip(axes.flat, chosen, strict=False):
        for value, line in zip(values, market[d], strict=True):
            colour = GREY if value == 0 else colours(norm(value))
            axis.plot(np.arange(1, len(line) + 1), line, color=colour, linewidth=1.6)
        axis.set_title(f"z{d}", loc="left", fontsize=10, color=INK, fontweight="bold")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.yaxis.set_major_locator(MaxNLocator(4))
        tidy(axis, grid="y")
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    figure.supylabel("mean return over assets, sd", fontsize=10, color=INK)
    handles = [
        Line2D([], [], color=GREY if v == 0 else colours(norm(v)), linewidth=2, label=_signed(v))
        for v in values
    ]
    note = (
        f"Across: day of the window. Mean of {len(assets)} assets, standard deviations. The other dimensions"
        " stand at their mean over the test block."
    )
    return titled(
        figure,
        f"Latent walk: {name}, z from {_signed(values[0])} to {_signed(values[-1])}",
        note,
        handles,
    )


def spread_walk(spread: Floats, values: Sequence[float], kl: Floats, name: str) -> Figure:
    """Draw how wild the decoded returns are while one dimension moves and the others stand still.

    Parameters
    ----------
    spread
        Standard deviation of a return about what is decoded, mean over days and assets, (D, W).
    values
        The W places of the moving dimension, increasing.
    kl
        What each dimension carries, (D,), in nats; the busiest are drawn.
    name
        Of the model.
    """
    chosen = _busiest(kl)
    figure = new_figure(7.0, 4.0)
    axis = figure.subplots()
    handles = []
    for colour, d in zip(COLOURS, chosen, strict=False):
        axis.plot(values, spread[d], color=colour, linewidth=1.7, marker="o", markersize=4)
        handles.append(Line2D([], [], color=colour, linewidth=1.7, marker="o", markersize=4, label=f"z{d}"))
    axis.set_ylim(bottom=0)
    axis.set_xticks(values, [_signed(value) for value in values])
    axis.set_xlabel("place of the dimension", color=INK, fontsize=10)
    axis.set_ylabel("spread of a return, sd", color=INK, fontsize=10)
    tidy(axis, grid="y")
    note = "Mean over days and assets; the other dimensions stand at their mean over the test block."
    return titled(figure, f"What the latent says of volatility: {name}", note, handles)


def decomposed_window(
    real: Floats,
    decoded: Floats,
    parts: Mapping[str, Floats],
    assets: Sequence[str],
    shown: Sequence[str],
    name: str,
) -> Figure:
    """Draw one window, what is decoded of it, and the parts which that is the sum of.

    Parameters
    ----------
    real, decoded
        Scaled returns and their reconstruction, (T, A).
    parts
        By name, each (T, A); they add up to `decoded`.
    assets
        The A names.
    shown
        Those that are drawn, a column each.
    name
        Of the model.
    """
    rows = 1 + len(parts)
    figure = new_figure(11.5, 1.2 + 1.45 * rows)
    axes = figure.subplots(rows, len(shown), sharex=True, sharey="row", squeeze=False)
    days = np.arange(1, len(real) + 1)
    colours = dict(zip(parts, (COLOURS[1], COLOURS[2], COLOURS[4], COLOURS[6], COLOURS[5]), strict=False))
    for column, asset in enumerate(shown):
        a = list(assets).index(asset)
        top = axes[0, column]
        top.bar(days, real[:, a], width=0.8, color="#c4c4c4")
        top.plot(days, decoded[:, a], color=COLOURS[0], linewidth=1.7)
        top.set_title(asset, loc="left", fontsize=10, color=INK, fontweight="bold")
        for axis, (part, values) in zip(axes[1:, column], parts.items(), strict=True):
            axis.axhline(0, color="#b0b0b0", linewidth=0.8)
            axis.plot(days, values[:, a], color=colours[part], linewidth=1.7)
        for axis in axes[:, column]:
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axis.yaxis.set_major_locator(MaxNLocator(4))
            tidy(axis, grid="y")
    for axis, label in zip(axes[:, 0], ("return", *parts), strict=True):
        axis.set_ylabel(label, color=INK, fontsize=10)
    share = 1 - float(((real - decoded) ** 2).mean() / (real**2).mean())
    note = (
        "The wildest window of the test block, standard deviations, by day. What is decoded holds"
        f" {100 * share:.0f} % of all assets' squares. How it splits into parts is not identified."
    )
    handles = [
        Patch(color="#c4c4c4", label="real"),
        Line2D([], [], color=COLOURS[0], linewidth=1.7, label="decoded: the sum of the parts"),
    ]
    return titled(figure, f"A window taken apart: {name}", note, handles)


def gradient_noise(variances: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw the total variance of each estimator of the encoder's gradient, on a logarithmic scale.

    Parameters
    ----------
    variances
        By the name of the model and of the estimator, one for each seed, positive.
    """
    figure = new_figure(max(7.0, 2.2 + 2.2 * len(variances)), 4.2)
    axis = figure.subplots()
    width = 0.8 / len(_ESTIMATORS)
    for place, found in enumerate(variances.values()):
        base = float(np.mean(found["reparameterised"]))
        for k, estimator in enumerate(_ESTIMATORS):
            values = np.asarray(found[estimator], dtype=np.float64)
            x = place + (k - 1) * width
            axis.bar(x, values.mean(), width=0.9 * width, color=COLOURS[k])
            axis.vlines(x, values.min(), values.max(), color=INK, linewidth=1.3)
            ratio = values.mean() / base
            text = "1" if k == 0 else f"× {ratio:,.0f}" if ratio >= 10 else f"× {ratio:.1f}"
            axis.annotate(text, (x, values.max()), xytext=(0, 3), textcoords="offset points", ha="center")
            axis.texts[-1].set(fontsize=9, color=INK)
    axis.set_yscale("log")
    axis.set_xticks(range(len(variances)), list(variances))
    axis.set_ylabel("variance of the gradient", color=INK, fontsize=10)
    axis.margins(y=0.12)
    tidy(axis, grid="y")
    axis.tick_params(axis="x", labelsize=9.5)
    handles = [
        Patch(color=colour, label=label) for colour, label in zip(COLOURS, _ESTIMATORS.values(), strict=False)
    ]
    note = (
        "Of the taught encoder's weights, summed, on one batch, all estimators with the same draws."
        " Whiskers: lowest to highest seed."
    )
    return titled(figure, "Noise of the gradient, by estimator", note, handles)


def _busiest(kl: Floats) -> Ints:
    """Choose the dimensions that carry most, in their own order."""
    return np.sort(np.argsort(-kl, kind="stable")[:_SHOWN])


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "−") if value else "0"
