"""Figures of the generative study: what is drawn is what was given."""

import numpy as np
import pandas as pd
import pytest

from farm.evaluation.significance import bootstrap_interval
from farm.report.latent_figures import (
    Scored,
    _risk_error,
    covariance_and_risk,
    densities,
    dimension_choice,
    factor_loadings,
    imputation_errors,
    readable,
    regime_timeline,
)

DRAWS = np.random.default_rng(0)


def labels(axis):
    return [label.get_text() for label in axis.get_yticklabels()]


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_turned_loadings_keep_the_covariance_and_come_strongest_first():
    loadings = DRAWS.normal(size=(8, 3))
    turned = readable(loadings)
    np.testing.assert_allclose(turned @ turned.T, loadings @ loadings.T, atol=1e-8)
    assert (np.diff((turned**2).sum(axis=0)) <= 0).all()
    assert (turned.sum(axis=0) >= 0).all()


def test_turned_loadings_are_simpler():
    simple = np.kron(np.eye(2), np.ones((4, 1)))
    angle = 0.6
    mixed = simple @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = readable(mixed)
    np.testing.assert_allclose(np.sort(np.abs(turned), axis=1), np.sort(simple, axis=1), atol=1e-4)


def test_assets_stand_by_sector_with_their_systematic_share():
    assets = ("SP500", "XOM", "AAPL", "OWN", "JPM")
    loadings = np.array([[0.9], [0.6], [0.5], [0.3], [0.8]])
    figure = factor_loadings(loadings, 1 - loadings[:, 0] ** 2, assets, "m")
    left, right, *_ = figure.axes
    assert labels(left) == ["AAPL", "JPM", "XOM", "OWN", "SP500"]
    shares = [patch.get_width() for patch in right.patches[:5]]
    np.testing.assert_allclose(shares, [0.25, 0.64, 0.36, 0.09, 0.81])
    assert {"Technology", "Financials", "Energy", "Other", "Index"} <= set(texts(figure))


def test_the_timeline_colours_days_by_regime_and_marks_the_test_block():
    days = np.datetime64("2006-01-02", "D") + np.arange(1200)
    wild = (np.arange(1200) > 900).astype(float)
    market = np.where(wild > 0, 0.03, 0.01) * DRAWS.normal(size=1200)
    chances = np.stack([1 - wild, wild], axis=1)
    figure = regime_timeline(days, market, {"hmm": chances, "gmm": chances}, days[1000], "IDX")
    top, *below = figure.axes
    calm, loud, edge = top.lines
    assert len(calm.get_xdata()) == 901
    assert len(loud.get_xdata()) == 299
    assert edge.get_xdata()[0] == days[1000]
    assert [axis.get_ylabel() for axis in below] == ["hmm", "gmm"]
    assert "2008: credit crisis" in texts(figure)
    assert "2020: pandemic" not in texts(figure)
    assert "no forecast" in figure.get_supxlabel()


def scored(risk, density=None, **metrics):
    daily = risk / 1600 * DRAWS.normal(size=400)
    values = {
        "portfolio/risk": risk,
        "portfolio/promised_risk": 0.9 * risk,
        "covariance/error": 0.3,
        "covariance/correlation_error": 0.1,
    }
    if density is not None:
        values["density/log_likelihood"] = density.mean()
    return Scored({**values, **metrics}, density, daily)


def test_risk_is_sorted_and_promises_are_shown():
    models = {"b": scored(0.2), "a": scored(0.1), "none": Scored({})}
    figure = covariance_and_risk(models, "a")
    assert labels(figure.axes[0]) == ["a", "b"]
    marks = {tuple(line.get_xdata()) for line in figure.axes[0].lines}
    assert {(10.0,), (9.0,), (20.0,), (18.0,)} == {tuple(np.round(m, 9)) for m in marks}


def test_the_interval_of_a_difference_in_risk_is_the_bootstraps():
    base = 0.01 * DRAWS.standard_t(6, size=1500)
    other = 0.9 * base + 0.003 * DRAWS.normal(size=1500)

    def difference(rows):
        return (other[rows].std() - base[rows].std()) * np.sqrt(252)

    low, high = bootstrap_interval(difference, 1500, resamples=400, block=1)
    assert 2 * _risk_error(other, base) == pytest.approx(high - low, rel=0.25)


def test_bounds_are_spans_below_the_likelihood_and_exact_ones_points():
    base = DRAWS.normal(size=300) - 20
    models = {
        "gauss": scored(0.1, base),
        "hmm": scored(0.1, base + 1.0),
        "far": scored(0.1, base - 30.0),
        "vae": Scored({"bound/elbo": base.mean() - 2, "bound/importance_weighted": base.mean() - 1}),
    }
    figure = densities(models, "gauss")
    assert labels(figure.axes[0]) == ["hmm", "gauss", "vae", "far"]
    assert texts(figure) == ["+1.00", "+0.00", "−1.00", "← −30.00"]
    spans = [path.get_segments()[0][:, 0] for path in figure.axes[0].collections]
    np.testing.assert_allclose(spans[0], [1.0, 1.0], atol=1e-9)  # a constant difference has no error
    np.testing.assert_allclose(spans[-1], [-2.0, -1.0])


def test_the_chosen_number_of_factors_is_the_likeliest():
    scores = {"Equal": {"pca": np.array([1.0, 3.0, 2.0]), "fa": np.array([0.0, 1.0, 2.0])}}
    figure = dimension_choice((5, 10, 15), scores, planted=10)
    assert texts(figure) == ["10", "15"]


def test_errors_are_sorted_by_the_ranked_share():
    errors = pd.DataFrame({"10": [0.1, 0.2], "30": [0.4, 0.3], "50": [0.5, 0.6]}, index=["a", "b"])
    figure = imputation_errors(errors, "a")
    assert labels(figure.axes[0]) == ["b", "a"]
    assert figure.axes[0].lines[-1].get_xdata()[0] == pytest.approx(40.0)
