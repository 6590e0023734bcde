"""The simulator: no arbitrage anywhere, the documented statistics, no look into the future."""

import math

import numpy as np
import pandas as pd
import pytest

from farm.data import simulate as simulate_module
from farm.data.door import load_closes
from farm.data.simulate import (
    ALPHA,
    BETA,
    GAMMA,
    LEVERAGE,
    OMEGA,
    Simulation,
    eta_bound,
    simulate,
    ssvi,
)
from farm.data.surface import MATURITIES, MONEYNESS
from farm.evaluation.arbitrage import butterfly_g, calendar_rise, static_arbitrage

SEEDS = range(3)


@pytest.fixture(scope="module")
def worlds() -> list[Simulation]:
    return [simulate(seed) for seed in SEEDS]


def test_equal_seeds_give_equal_bits_and_others_do_not(worlds):
    again = simulate(1)
    assert again.surfaces.digest == worlds[1].surfaces.digest != worlds[0].surfaces.digest
    np.testing.assert_array_equal(again.state.theta, worlds[1].state.theta)


def test_days_and_returns_are_the_real_ones(worlds):
    closes = load_closes("sp500_20_adjclose")["SP500"]
    s = worlds[0].surfaces
    assert (s.iv.shape, s.source, s.axis) == ((8312, 5, 5), "simulated", "moneyness")
    assert (str(s.dates[0]), str(s.dates[-1])) == ("1990-01-03", "2022-12-28")
    np.testing.assert_allclose(s.returns, np.log(closes).diff().to_numpy()[1:], atol=1e-15)


def test_no_surface_has_arbitrage_on_the_grid(worlds):
    for world in worlds:
        s = world.surfaces
        found = static_arbitrage(s.iv, s.maturities, s.strikes, s.axis, tolerance=0.0)
        assert (found.calendar.sum(), found.butterfly.sum()) == (0, 0)
        assert found.calendar_checks.sum() == 8312 * 20
        assert found.butterfly_checks.sum() == 8312 * 15


def test_no_surface_has_arbitrage_between_and_beyond_the_grid():
    # Density is g times a positive number, so g >= 0 on a fine grid out to 22 % and 450 % of the spot.
    years = np.geomspace(0.02, 5, 12)
    k = np.linspace(-1.5, 1.5, 301)
    world = simulate(4, maturities=tuple(years))
    for smile in (world.state, world.observed):
        iv = np.sqrt(ssvi(smile, k)[::25] / years[:, None])
        rise, scale = calendar_rise(iv, years, np.exp(k), "moneyness")
        assert (rise / scale).min() > 1e-3
        assert butterfly_g(iv, years, np.exp(k), "moneyness").min() > 0.05


@pytest.mark.parametrize("rho", [-0.99, -0.6, 0.0, 0.3, 0.95])
def test_the_bound_on_eta_is_the_theorems(rho):
    theta = np.geomspace(1e-6, 1e6, 100_001)
    phi = 1 / (theta**GAMMA * (1 + theta) ** (1 - GAMMA))
    room = np.minimum(4 / (theta * phi).max(), np.sqrt(4 * (1 + abs(rho)) / (theta * phi**2).max()))
    assert eta_bound(np.array(rho)) == pytest.approx(room / (1 + abs(rho)), rel=1e-4)
    growth = np.diff(theta * phi) / np.diff(theta)
    middle = phi[:-1]
    limit = math.inf if rho == 0 else (1 + np.sqrt(1 - rho**2)) / rho**2
    assert ((growth >= 0) & (growth <= limit * middle)).all()


def test_parameters_stay_where_the_theorems_need_them(worlds):
    for world in worlds:
        for smile in (world.state, world.observed):
            assert (np.diff(smile.theta, axis=1) > 0).all()
            assert (smile.theta > 0).all()
            assert ((smile.rho > -1) & (smile.rho < 0)).all()
            assert ((smile.eta > 0) & (smile.eta < eta_bound(smile.rho))).all()


def test_surfaces_are_the_slow_formula_of_their_parameters(worlds):
    world = worlds[0]
    for day in (0, 4000, 8311):
        for i, years in enumerate(MATURITIES):
            for j, moneyness in enumerate(MONEYNESS):
                theta, rho = world.observed.theta[day, i], world.observed.rho[day]
                phi = world.observed.eta[day] / (theta**GAMMA * (1 + theta) ** (1 - GAMMA))
                x = phi * math.log(moneyness)
                w = theta / 2 * (1 + rho * x + math.sqrt((x + rho) ** 2 + 1 - rho**2))
                assert world.surfaces.iv[day, i, j] == pytest.approx(math.sqrt(w / years), rel=1e-6)


def test_the_filter_is_the_explicit_recursion():
    shocks = np.random.default_rng(0).standard_t(5, 300)
    variance, surprise = simulate_module._filter(shocks)
    h = OMEGA / (1 - ALPHA - LEVERAGE / 2 - BETA)
    for t, shock in enumerate(shocks):
        assert surprise[t] == pytest.approx(shock / math.sqrt(h))
        h = OMEGA + (ALPHA + LEVERAGE * (shock < 0)) * shock**2 + BETA * h
        assert variance[t] == pytest.approx(h)


def test_no_day_knows_a_later_return(worlds, monkeypatch: pytest.MonkeyPatch):
    closes = load_closes("sp500_20_adjclose").copy()
    cut = 5000  # the return of day 5000 is the first that differs
    closes.iloc[cut + 1 :] *= 0.7

    def crashed(name: str) -> pd.DataFrame:
        return closes

    monkeypatch.setattr(simulate_module, "load_closes", crashed)
    other = simulate(0)
    for mine, its in (
        (worlds[0].surfaces.iv, other.surfaces.iv),
        (worlds[0].short_variance, other.short_variance),
        (worlds[0].long_variance, other.long_variance),
    ):
        np.testing.assert_array_equal(mine[:cut], its[:cut])
    rise = other.surfaces.level[cut] - worlds[0].surfaces.level[cut]
    assert rise > 0.2  # a fall of 36 % is seen on its own day
    assert other.state.rho[cut] < worlds[0].state.rho[cut]


def month(world: Simulation, name: str) -> np.ndarray:
    return world.surfaces.dates.astype("datetime64[M]") == np.datetime64(name)


def test_statistics_are_the_documented_ones(worlds):
    for world in worlds:
        s = world.surfaces
        level, slope = s.level, s.slope
        assert 0.20 < level.mean() < 0.22
        assert 0.11 < level.min() < 0.14
        assert level[month(world, "2008-10")].max() > 0.42
        assert level[month(world, "2020-03")].max() > 0.5
        for lag, low, high in ((20, 0.86, 0.91), (60, 0.68, 0.74), (90, 0.56, 0.65)):
            assert low < np.corrcoef(level[:-lag], level[lag:])[0, 1] < high
        assert -0.72 < np.corrcoef(s.returns[1:], np.diff(level))[0, 1] < -0.6
        assert ((s.iv[:, 3, 3] - s.iv[:, 3, 1]) < -0.03).all()
        assert -0.075 < (s.iv[:, 3, 3] - s.iv[:, 3, 1]).mean() < -0.07
        calm = level < np.median(level)
        assert (slope[calm] > 0).mean() > 0.8
        assert slope[month(world, "2008-10")].mean() < -0.15
        assert slope[month(world, "2020-03")].mean() < -0.1
    level = worlds[0].surfaces.level
    assert level.mean() == pytest.approx(0.207, abs=0.002)
    assert level[month(worlds[0], "2008-10")].max() == pytest.approx(0.517, abs=0.002)
    assert level[month(worlds[0], "2020-03")].max() == pytest.approx(0.576, abs=0.002)


def test_observation_noise_is_small_and_has_no_memory(worlds):
    world = worlds[0]
    noise = np.log(world.observed.theta / world.state.theta)
    assert (noise.std(axis=0) < 0.02).all()
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.03
    for name in ("rho", "eta"):
        error = getattr(world.observed, name) - getattr(world.state, name)
        assert 0 < error.std() < 0.05
        assert abs(np.corrcoef(error[:-1], error[1:])[0, 1]) < 0.03
