"""The figures of the back-filling study say what is in their arrays."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from farm.base.types import Forecast
from farm.report.backfill_figures import (
    correlation_heatmap,
    coverage_over_time,
    forecast_fan,
    latent_against_prior,
    latent_shift,
    scenario_bars,
)

DAYS = 200
TIMES = pd.bdate_range("2020-01-01", periods=DAYS).to_numpy().astype("datetime64[D]")
LEVELS = (0.05, 0.5, 0.95)


def constant(half, days=DAYS):
    return Forecast(np.zeros(days), np.tile([-half, 0.0, half], (days, 1)), LEVELS)


def truth_outside(rows):
    """Truths of zero, and of 5 % on the given rows."""
    actual = np.zeros(DAYS)
    actual[rows] = 0.05
    return actual


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


def drawn(axis, marker):
    """Points that a panel draws with a marker, (n, 2)."""
    lines = [line for line in axis.lines if line.get_marker() == marker]
    return np.concatenate([np.column_stack([line.get_xdata(), line.get_ydata()]) for line in lines])


@pytest.fixture
def latents():
    rng = np.random.default_rng(0)
    oracle = rng.standard_normal((DAYS, 5))
    return {"oracle": oracle, "realistic": 0.1 * oracle + 0.1 * rng.standard_normal((DAYS, 5))}


def test_a_panel_for_each_dimension_with_both_densities_and_the_prior(latents):
    figure = latent_against_prior(latents)
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in panels] == ["z0", "z1", "z2", "z3", "z4"]
    said = words(figure)
    assert f"oracle {latents['oracle'][:, 3].std():.2f}" in said
    assert f"realistic {latents['realistic'][:, 3].std():.2f}" in said
    assert "prior N(0, 1)" in said
    prior = panels[0].lines[0]
    assert prior.get_ydata().max() == pytest.approx(1 / np.sqrt(2 * np.pi), rel=1e-3)
    # The density of a histogram has area one.
    outline = panels[0].patches[0].get_xy()
    area = np.abs(np.sum(outline[:-1, 0] * outline[1:, 1] - outline[1:, 0] * outline[:-1, 1])) / 2
    assert area == pytest.approx(1, rel=1e-6)


def test_the_heatmap_holds_the_correlations(latents):
    returns = np.column_stack([latents["oracle"][:, 2], np.random.default_rng(1).standard_normal(DAYS)])
    figure = correlation_heatmap(latents, returns, ("AMZN", "MSFT"))
    for axis, (name, z) in zip(figure.axes, latents.items(), strict=False):
        expected = np.corrcoef(z, returns, rowvar=False)[:5, 5:]
        np.testing.assert_allclose(np.ma.getdata(axis.images[0].get_array()), expected)
        assert axis.get_title(loc="left") == f"{name}: largest |r| {np.abs(expected).max():.2f}"
        assert [label.get_text() for label in axis.get_xticklabels()] == ["AMZN", "MSFT"]
    assert "+1.00" in words(figure)


def test_the_shift_draws_each_pair_and_says_how_far(latents):
    before = latents["oracle"]
    after = before + np.array([3.0, 0, 0, 0, 4.0])
    figure = latent_shift(before, after)
    panels = [axis for axis in figure.axes if axis.get_visible()]
    np.testing.assert_allclose(drawn(panels[4], "o"), np.column_stack([before[:, 4], after[:, 4]]))
    assert "Mean distance 5, mean r 1.00" in words(figure)


def test_the_fan_marks_the_violations_and_no_others():
    rows = [10, 150, 199]
    forecasts = {"raw": constant(0.01), "calibrated": constant(0.06)}
    figure = forecast_fan(TIMES, truth_outside(rows), forecasts, "AMZN", days=100)
    raw, calibrated = figure.axes
    marks = [line for line in raw.lines if line.get_marker() == "X"]
    np.testing.assert_array_equal(np.concatenate([line.get_xdata() for line in marks]), TIMES[rows[1:]])
    assert all((line.get_ydata() == 0.05).all() for line in marks)
    assert sum(len(line.get_xdata()) for line in raw.lines if line.get_marker() == "o") == 98
    assert not any(len(line.get_xdata()) for line in calibrated.lines if line.get_marker() == "X")
    said = words(figure)
    assert "raw:  1.5 % of 200 days outside (nominal 10 %), mean width 2.00 %" in said
    assert "calibrated:  0.0 % of 200 days outside (nominal 10 %), mean width 12.00 %" in said
    assert "last 100 days" in said
    assert "AMZN" in said


def test_coverage_is_the_share_of_the_last_days():
    actual = truth_outside(np.arange(100, 130))
    figure = coverage_over_time(TIMES, actual, {"raw": constant(0.01), "wide": constant(0.06)}, window=60)
    nominal, raw, wide = figure.axes[0].lines
    np.testing.assert_allclose(nominal.get_ydata(), 0.9)
    share = raw.get_ydata()
    assert np.isnan(share[:59]).all()
    expected = [1 - np.mean(actual[t - 59 : t + 1] > 0.01) for t in range(59, DAYS)]
    np.testing.assert_allclose(share[59:], expected, atol=1e-12)
    assert min(expected) == 0.5
    np.testing.assert_allclose(wide.get_ydata()[59:], 1.0)
    assert "raw (all days 85.0 %)" in words(figure)
    short = coverage_over_time(TIMES[:30], actual[:30], {"raw": constant(0.01, 30)})
    assert "fewer than 60 days" in words(short)


def test_bars_have_the_lengths_of_the_scores_and_the_line_of_the_baseline():
    scores = pd.DataFrame(
        {
            "name": ["S1", "S4", "linear"],
            "rmse": [0.0246, 0.0457, 0.0209],
            "rmse_lo": [0.02, 0.04, 0.0209],
            "rmse_hi": [0.03, 0.05, 0.0209],
            "direction_accuracy": [0.7025, 0.5025, 0.7625],
            "violations": [0.3725, 0.5925, np.nan],
        }
    )
    figure = scenario_bars(scores)
    widths = [[bar.get_width() for bar in axis.patches] for axis in figure.axes]
    np.testing.assert_allclose(widths[0], scores["rmse"])
    np.testing.assert_allclose(widths[1], 100 * scores["direction_accuracy"])
    np.testing.assert_allclose(widths[2], [37.25, 59.25, 0])
    upright = [[line.get_xdata()[0] for line in axis.lines] for axis in figure.axes]
    assert upright[0] == [0.0209]
    assert upright[1] == [76.25, 50]
    assert upright[2] == [10]
    assert [text.get_text() for text in figure.axes[2].texts] == ["37.2", "59.2", "none"]
    whiskers = figure.axes[0].collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 0] for segment in whiskers], scores[["rmse_lo", "rmse_hi"]])
    assert figure.axes[0].patches[2].get_facecolor() == to_rgba("#6b6b6b")
    with pytest.raises(ValueError, match="no row 'ols'"):
        scenario_bars(scores, reference="ols")


@pytest.mark.parametrize("dimensions", [1, 3, 24])
def test_any_number_of_dimensions_and_a_constant_one(dimensions):
    z = np.random.default_rng(2).standard_normal((DAYS, dimensions))
    z[:, 0] = 0.3
    before = dict(mpl.rcParams)
    for figure in (
        latent_against_prior({"all": z}),
        correlation_heatmap({"all": z}, z[:, :1], ("AMZN",)),
        latent_shift(z, z),
    ):
        figure.savefig(io.BytesIO(), format="png", dpi=30)
    assert dict(mpl.rcParams) == before
