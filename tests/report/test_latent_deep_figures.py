"""The figures of the variational autoencoders say what is in their arrays."""

import numpy as np
import pytest

from farm.base.types import Latents
from farm.data.panel import Panel
from farm.experiment import TrialConfig, run
from farm.report.latent_deep_figures import (
    decomposed_window,
    gradient_noise,
    latent_walk,
    network_figures,
    posterior_against_prior,
    spread_walk,
)
from farm.store import Store

ASSETS = ("IDX", "AAA", "BBB", "CCC")
PLACES = (-2.0, -1.0, 0.0, 1.0, 2.0)
DIMENSIONS = 9


def words(figure):
    """All text of a figure, its legend and its panels."""
    figure.canvas.draw()
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    found += [legend.get_title().get_text() for legend in figure.legends]
    for axis in figure.axes:
        found += [axis.get_title(loc="left"), axis.get_xlabel(), axis.get_ylabel()]
        found += [text.get_text() for text in axis.texts]
    found += [text.get_text() for text in figure.texts]
    found += [text.get_text() for text in (figure._suptitle, figure._supxlabel) if text is not None]
    return "\n".join(found)


@pytest.fixture
def latents():
    """Dimension d has posterior means of spread d / 10, the first none, and variance 1 - (d / 10)^2."""
    rng = np.random.default_rng(0)
    spread = np.arange(DIMENSIONS) / 10
    mean = rng.normal(size=(2000, DIMENSIONS)) * spread
    logvar = np.tile(np.log(1 - spread**2), (2000, 1))
    return Latents(mean + rng.normal(size=mean.shape) * np.exp(logvar / 2), mean, logvar)


def test_the_posterior_shows_the_busiest_dimensions_in_their_order(latents):
    figure = posterior_against_prior(latents, "timevae")
    titles = [axis.get_title(loc="left") for axis in figure.axes[1:]]
    assert [title.split(":")[0] for title in titles] == ["z3", "z4", "z5", "z6", "z7", "z8"]
    kl = -0.5 * np.log(1 - (np.arange(DIMENSIONS) / 10) ** 2)
    assert float(titles[-1].split()[1]) == pytest.approx(kl[8], abs=0.02)
    bars = [patch.get_height() for patch in figure.axes[0].patches]
    np.testing.assert_allclose(bars, np.sort(kl)[::-1], atol=0.03)
    said = words(figure)
    assert "2 of them silent" in said
    assert "Posterior against prior: timevae" in said


def test_a_walk_over_days_has_a_panel_for_each_dimension_and_a_row_for_each_asset():
    walk = np.random.default_rng(0).normal(size=(3, 5, 1, 4))
    figure = latent_walk(walk, PLACES, np.array([0.2, 0.5, 0.1]), ASSETS, "vae")
    panels = figure.axes[:3]
    assert [axis.get_title(loc="left") for axis in panels] == ["z0", "z1", "z2"]
    for d, axis in enumerate(panels):
        np.testing.assert_array_equal(axis.images[0].get_array(), walk[d, :, 0].T)
        low, high = axis.images[0].get_clim()
        assert -low == high == np.abs(walk).max()
    assert [label.get_text() for label in panels[0].get_yticklabels()] == list(ASSETS)


def test_a_walk_over_windows_draws_the_mean_over_assets_of_the_busiest():
    walk = np.random.default_rng(0).normal(size=(8, 5, 12, 4))
    kl = np.array([0.5, 0.0, 0.4, 0.3, 0.2, 0.0, 0.6, 0.7])
    figure = latent_walk(walk, PLACES, kl, ASSETS, "vrae")
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in panels] == ["z0", "z2", "z3", "z4", "z6", "z7"]
    for d, axis in zip((0, 2, 3, 4, 6, 7), panels, strict=True):
        for place, line in enumerate(axis.lines):
            np.testing.assert_allclose(line.get_ydata(), walk[d, place].mean(axis=1))
    assert "z from −2 to +2" in words(figure)


def test_a_walk_that_goes_nowhere_says_so():
    still = np.ones((3, 5, 12, 4))
    assert "no dimension moves what is decoded" in words(
        latent_walk(still, PLACES, np.zeros(3), ASSETS, "vrae")
    )


def test_the_spread_is_a_line_for_each_busy_dimension():
    spread = np.random.default_rng(0).uniform(0.5, 1.5, size=(8, 5))
    kl = np.array([0.5, 0.0, 0.4, 0.3, 0.2, 0.0, 0.6, 0.7])
    figure = spread_walk(spread, PLACES, kl, "vrae")
    for d, line in zip((0, 2, 3, 4, 6, 7), figure.axes[0].lines, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), spread[d])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["z0", "z2", "z3", "z4", "z6", "z7"]


def test_the_parts_of_a_window_are_drawn_below_it():
    rng = np.random.default_rng(0)
    parts = {name: rng.normal(size=(12, 4)) for name in ("trend", "season 5", "residual")}
    decoded = sum(parts.values())
    figure = decomposed_window(2 * decoded, decoded, parts, ASSETS, ("IDX", "CCC"), "timevae")
    grid = np.array(figure.axes).reshape(4, 2)
    np.testing.assert_array_equal([bar.get_height() for bar in grid[0, 1].patches], 2 * decoded[:, 3])
    np.testing.assert_array_equal(grid[0, 1].lines[0].get_ydata(), decoded[:, 3])
    for row, name in enumerate(parts, 1):
        assert grid[row, 0].get_ylabel() == name
        np.testing.assert_array_equal(grid[row, 0].lines[1].get_ydata(), parts[name][:, 0])
    assert "75 % of all assets' squares" in words(figure)


def test_the_noise_of_each_estimator_is_a_bar_with_its_ratio():
    variances = {"reparameterised": [0.5, 1.5], "score_function": [4.0], "score_function_plain": [2000.0]}
    figure = gradient_noise({"vae": variances})
    assert [bar.get_height() for bar in figure.axes[0].patches] == [1.0, 4.0, 2000.0]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "× 4.0", "× 2,000"]
    assert figure.axes[0].get_yscale() == "log"


def test_stored_trials_are_drawn_one_of_each_kind_of_network(tmp_path, make_bars):
    rng = np.random.default_rng(0)
    market = rng.normal(0, 0.01, 700)
    panel = Panel(
        {name: make_bars(market + rng.normal(0, 0.01, 700), seed=i) for i, name in enumerate(ASSETS)},
        "synthetic",
    )
    store = Store(str(tmp_path)).open()
    study = {"name": "generate", "market": ASSETS[0], "assets": ASSETS[1:], "lookback": 6}
    models = {
        "linear": {"name": "vae", "hidden_sizes": (), "latent_dim": 2},
        "vae": {"name": "vae", "hidden_sizes": (8,), "latent_dim": 2},
        "parts": {
            "name": "timevae",
            "latent_dim": 3,
            "filters": (4,),
            "noise": "decoded",
            "decoder": "interpretable",
        },
        "gaussian": {"name": "sample_normal"},
    }
    records = {}
    for name, model in models.items():
        values = {"study": study, "model": model}
        config = TrialConfig.make(
            values | ({"training": {"epochs": 1}} if name != "gaussian" else {}), "trial"
        )
        signature = config.signature(panel)
        store.put(signature, config, run(config, panel, device="cpu"))
        records[name] = [store.get(signature)]
    figures = network_figures(["gaussian", "vae", "linear", "parts"], records)
    assert set(figures) == {
        "latent_prior_vae",
        "latent_walk_vae",
        "latent_prior_parts",
        "latent_walk_parts",
        "latent_spread_parts",
        "window_parts_parts",
        "gradient_noise",
    }
    assert [text.get_text() for text in figures["gradient_noise"].axes[0].get_xticklabels()] == [
        "linear",
        "vae",
    ]
    said = words(figures["window_parts_parts"])
    assert "season 5" in said
    assert "residual" in said
