import numpy as np
import pytest
from scipy import stats

from farm.base.density import Density
from farm.base.types import RISK_LEVELS, Forecast

LEVELS = np.array(RISK_LEVELS)


def mixture(rng, n=40, k=3):
    return Density(
        rng.normal(0, 0.02, (n, k)), rng.uniform(0.005, 0.03, (n, k)), rng.choice([3.0, 8.0, np.inf], (n, k))
    )


def parts(density, b):
    return [
        stats.t(df, loc, scale)
        for loc, scale, df in zip(density.location[b], density.scale[b], density.freedom[b], strict=True)
    ]


def test_a_single_component_is_the_textbook_distribution():
    loc, scale = np.array([0.001, -0.02]), np.array([0.01, 0.03])
    y = np.array([0.0, -0.1])
    for freedom, law in ((np.inf, stats.norm), (4.0, lambda *a: stats.t(4.0, *a))):
        density = Density.of(loc, scale, freedom)
        np.testing.assert_allclose(density.log_density(y), law(loc, scale).logpdf(y), rtol=1e-12)
        np.testing.assert_allclose(density.cdf(y), law(loc, scale).cdf(y), rtol=1e-10)
        expected = np.stack([law(m, s).ppf(LEVELS) for m, s in zip(loc, scale, strict=True)])
        np.testing.assert_allclose(density.quantiles(RISK_LEVELS), expected, rtol=1e-9)


def test_a_mixture_is_the_mean_of_its_components():
    density = mixture(np.random.default_rng(0))
    y = np.random.default_rng(1).normal(0, 0.05, 40)
    cdf = [np.mean([part.cdf(y[b]) for part in parts(density, b)]) for b in range(40)]
    pdf = [np.mean([part.pdf(y[b]) for part in parts(density, b)]) for b in range(40)]
    np.testing.assert_allclose(density.cdf(y), cdf, rtol=1e-9)
    np.testing.assert_allclose(density.log_density(y), np.log(pdf), rtol=1e-9)


def test_quantiles_invert_the_distribution_function():
    density = mixture(np.random.default_rng(2))
    quantiles = density.quantiles(RISK_LEVELS)
    assert (np.diff(quantiles, axis=1) > 0).all()
    for q, level in enumerate(RISK_LEVELS):
        np.testing.assert_allclose(density.cdf(quantiles[:, q]), level, atol=1e-9)


def test_components_that_agree_are_one():
    one = Density.of(np.array([0.01]), np.array([0.02]), 5.0)
    three = Density(*(np.repeat(value, 3, axis=1) for value in vars(one).values()))
    np.testing.assert_allclose(three.quantiles(RISK_LEVELS), one.quantiles(RISK_LEVELS), rtol=1e-12)


@pytest.mark.parametrize(
    ("scale", "freedom", "message"),
    [(0.0, 5.0, "scales above 0"), (np.nan, 5.0, "scales above 0"), (1.0, 2.0, "freedom above 2")],
)
def test_what_is_no_density_is_refused(scale, freedom, message):
    with pytest.raises(ValueError, match=message):
        Density.of(np.zeros(2), np.full(2, scale), freedom)


def test_a_forecast_selects_its_density_with_its_samples():
    density = mixture(np.random.default_rng(3))
    forecast = Forecast.of(density, RISK_LEVELS)
    keep = np.arange(40) % 3 == 0
    part = forecast.take(keep)
    np.testing.assert_array_equal(part.quantiles, forecast.quantiles[keep])
    np.testing.assert_array_equal(part.density.location, density.location[keep])
    with pytest.raises(ValueError, match="as many samples"):
        Forecast(part.point, part.quantiles, part.levels, density)
