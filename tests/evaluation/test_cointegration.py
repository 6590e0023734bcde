"""Cointegration against statsmodels and known pairs; correlation distance by its definition."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.tsa.stattools import adfuller, coint

from farm.data.simulate import simulate
from farm.data.volatility import ewma_volatility
from farm.evaluation.cointegration import (
    cointegration_p_values,
    correlation_distance,
    preservation,
)


def walks(n: int, days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((days, n)).cumsum(axis=0), rng.standard_normal((days, n)).cumsum(axis=0)


def test_ewma_is_pandas_and_the_explicit_sum():
    returns = np.random.default_rng(0).normal(0, 0.01, 200)
    got = ewma_volatility(returns)
    frame = pd.Series(returns**2).ewm(alpha=0.06, adjust=True).mean()
    np.testing.assert_allclose(got, np.sqrt(252 * frame))
    weights = 0.94 ** np.arange(50)[::-1]
    assert got[49] == pytest.approx(np.sqrt(252 * (weights * returns[:50] ** 2).sum() / weights.sum()))
    np.testing.assert_allclose(ewma_volatility(np.stack([returns, 2 * returns]))[1], 2 * got)


def test_both_p_values_are_those_of_statsmodels():
    x, y = walks(6, 250, seed=1)
    x[:, :2] = 0.3 * y[:, :2] + np.random.default_rng(2).standard_normal((250, 2))
    for c in range(6):
        plain = cointegration_p_values(x[:, [c]], y[:, c])[0]
        residual = sm.OLS(x[:, c], sm.add_constant(y[:, c])).fit().resid
        assert plain == pytest.approx(adfuller(residual)[1], abs=1e-8)
        strict = cointegration_p_values(x[:, [c]], y[:, c], "engle_granger")[0]
        assert strict == pytest.approx(coint(x[:, c], y[:, c], autolag="aic")[1], abs=1e-8)
        assert strict >= plain


def test_a_cointegrated_pair_is_found_and_two_random_walks_rarely():
    n = 150
    x, y = walks(n, 250, seed=3)
    rng = np.random.default_rng(4)
    tied = 0.5 * y + 0.2 + rng.standard_normal((250, n))
    share = {}
    for method in ("adf", "engle_granger"):
        apart = [cointegration_p_values(x[:, [c]], y[:, c], method)[0] < 0.05 for c in range(n)]
        found = [cointegration_p_values(tied[:, [c]], y[:, c], method)[0] < 0.05 for c in range(40)]
        assert np.mean(found) > 0.97
        share[method] = np.mean(apart)
    # Right size for the one; the other's is near 14 %, as documented.
    assert share["engle_granger"] < 0.10
    assert 0.08 < share["adf"] < 0.25


def test_cells_that_never_move_and_cells_that_are_volatility():
    volatility = walks(1, 100, seed=5)[0][:, 0]
    cells = np.column_stack([np.full(100, 0.2), 2 + 3 * volatility])
    for method in ("adf", "engle_granger"):
        assert cointegration_p_values(cells, volatility, method).tolist() == [1.0, 0.0]


def test_bad_shapes_are_refused():
    x, y = walks(2, 100, seed=6)
    for cells, volatility in ((x[:59], y[:59, 0]), (x, y[:90, 0]), (x[:, 0], y[:, 0]), (x, np.ones(100))):
        with pytest.raises(ValueError, match=r"expected|constant"):
            cointegration_p_values(cells, volatility)


def world(days: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real surfaces tied to volatility in two of four cells; generated ones in the first alone."""
    rng = np.random.default_rng(7)
    volatility = 10 + rng.standard_normal(days).cumsum()
    stray = 10 + rng.standard_normal((2, days, 2, 2)).cumsum(axis=1)
    noise = rng.standard_normal((2, days, 2, 2))
    real, made = stray[0].copy(), stray[1].copy()
    real[:, 0] = volatility[:, None] + noise[0, :, 0]
    made[:, 0, 0] = 2 * volatility + noise[1, :, 0, 0]
    return made, real, volatility


def test_preservation_counts_cells_by_period():
    made, real, volatility = world()
    whole = {"all": np.ones(300, dtype=bool)}
    # Strict, so that no random walk passes by chance.
    got = preservation(made, real, volatility, whole, "engle_granger", level=1e-4)["all"]
    assert got == (0.25, 0.5, 0.5, 300)
    both = preservation(np.stack([made, real]), real, volatility, whole, "engle_granger", level=1e-4)["all"]
    assert both == (0.375, 0.5, 0.75, 300)


def test_a_period_is_tested_run_by_run_and_short_runs_are_left_out():
    made, real, volatility = world()
    mask = np.zeros(300, dtype=bool)
    mask[:100], mask[120:150], mask[160:300] = True, True, True
    short = np.zeros(300, dtype=bool)
    short[10:60] = True
    got = preservation(made, real, volatility, {"two": mask, "short": short}, level=0.2)
    first, second = slice(0, 100), slice(160, 300)

    def tied(block: np.ndarray, run: slice) -> np.ndarray:
        return cointegration_p_values(block[run].reshape(-1, 4), volatility[run]) < 0.2

    weights = np.array([100, 140]) / 240
    for name, block in (("generated", made), ("real", real)):
        want = weights @ [tied(block, run).mean() for run in (first, second)]
        assert getattr(got["two"], name) == pytest.approx(want)
    joint = weights @ [(tied(made, run) & tied(real, run)).mean() for run in (first, second)]
    assert got["two"].kept == pytest.approx(joint / got["two"].real)
    assert got["two"].days == 240
    assert got["short"].days == 0
    assert np.isnan(got["short"][:3]).all()


def test_the_simulators_cells_are_tied_as_documented():
    s = simulate(0).surfaces
    volatility = ewma_volatility(s.returns)
    years = s.dates.astype("datetime64[Y]").astype(int) + 1970
    for low, high, least, most in ((2011, 2019, 1.0, 1.0), (2008, 2010, 0.5, 0.7)):
        days = (years >= low) & (years <= high)
        share = (cointegration_p_values(s.iv[days].reshape(-1, 25), volatility[days]) < 0.05).mean()
        assert least <= share <= most


# ---------------------------------------------------------------- correlation matrices


def test_distance_is_herdins_and_zero_for_equal_correlations():
    rng = np.random.default_rng(8)
    a, b = rng.standard_normal((2, 80, 2, 3)).cumsum(axis=1)
    b[:, 0] += b[:, 1]
    first, second = (np.corrcoef(np.diff(x.reshape(80, 6), axis=0).T) for x in (a, b))
    want = 1 - np.trace(first @ second) / (np.linalg.norm(first) * np.linalg.norm(second))
    assert correlation_distance(a, b) == pytest.approx(want)
    assert want > 0.05
    assert correlation_distance(a, 3 * a + 1) == pytest.approx(0, abs=1e-12)
    samples = np.stack([a, b])
    mean = (first + second) / 2
    want = 1 - np.trace(mean @ second) / (np.linalg.norm(mean) * np.linalg.norm(second))
    assert correlation_distance(samples, b) == pytest.approx(want)


def test_a_cell_that_never_moves_has_no_correlation():
    rng = np.random.default_rng(9)
    a = rng.standard_normal((50, 2, 2)).cumsum(axis=0)
    a[:, 0, 0] = 0.2
    changes = np.diff(a.reshape(50, 4)[:, 1:], axis=0)
    matrix = np.eye(4)
    matrix[1:, 1:] = np.corrcoef(changes.T)
    want = 1 - np.trace(matrix) / (np.linalg.norm(matrix) * 2)  # against four cells that go their own way
    apart = rng.standard_normal((100_000, 2, 2)).cumsum(axis=0)
    assert correlation_distance(a, apart) == pytest.approx(want, abs=0.01)
