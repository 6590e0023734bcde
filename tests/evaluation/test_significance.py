import math

import numpy as np
import pytest
import statsmodels.api as sm
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from farm.evaluation.significance import (
    bootstrap_interval,
    default_lags,
    diebold_mariano,
    long_run_variance,
    mean_block_length,
    resampled_rows,
)


def autoregression(rng, n, phi):
    shocks = rng.standard_normal(n + 100)
    values = np.zeros(n + 100)
    for t in range(1, n + 100):
        values[t] = phi * values[t - 1] + shocks[t]
    return values[100:]


def losses(seed, n=120, gap=0.1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(n) ** 2, (rng.standard_normal(n) + gap) ** 2


def brute_force(a, b, horizon, lags):
    """The definition, term by term."""
    d = [x - y for x, y in zip(a, b, strict=True)]
    n = len(d)
    mean = sum(d) / n
    variance = 0.0
    for i in range(n):
        for j in range(n):
            if abs(i - j) <= lags:
                variance += (1 - abs(i - j) / (lags + 1)) * (d[i] - mean) * (d[j] - mean) / n
    statistic = mean / math.sqrt(variance / n)
    statistic *= math.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    return statistic, 2 * (1 - stats.t.cdf(abs(statistic), n - 1))


@pytest.mark.parametrize(("horizon", "lags"), [(1, 0), (1, 4), (5, 4), (3, 11)])
def test_diebold_mariano_agrees_with_its_definition(horizon, lags):
    a, b = losses(0, n=60)
    test = diebold_mariano(a, b, horizon=horizon, lags=lags)
    statistic, p_value = brute_force(a, b, horizon, lags)
    assert test.statistic == pytest.approx(statistic, rel=1e-10)
    assert test.p_value == pytest.approx(p_value, rel=1e-8)
    assert test.mean_difference == pytest.approx(np.mean(a - b), rel=1e-12)
    assert test.n == 60


@pytest.mark.parametrize("lags", [0, 1, 5, 20])
def test_diebold_mariano_agrees_with_statsmodels(lags):
    a, b = losses(1)
    n = len(a)
    hac = sm.OLS(a - b, np.ones(n)).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
    expected = hac.tvalues[0] * math.sqrt((n - 1) / n)
    assert diebold_mariano(a, b, lags=lags).statistic == pytest.approx(expected, rel=1e-10)


def test_without_lags_it_is_the_paired_t_test():
    # The factor of Harvey, Leybourne and Newbold at one step turns 1/n into 1/(n - 1) exactly.
    a, b = losses(2)
    expected = stats.ttest_rel(a, b)
    test = diebold_mariano(a, b, lags=0)
    assert test.statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert test.p_value == pytest.approx(expected.pvalue, rel=1e-10)


def test_default_lags_follow_the_rule():
    assert [default_lags(n) for n in (1, 2, 100, 390, 2000)] == [0, 1, 4, 5, 7]
    assert default_lags(390, horizon=21) == 20


@given(st.integers(0, 10_000), st.floats(1e-8, 1e8))
@settings(max_examples=30, deadline=None)
def test_diebold_mariano_is_antisymmetric_and_free_of_scale(seed, scale):
    a, b = losses(seed, n=40)
    one, other = diebold_mariano(a, b), diebold_mariano(b, a)
    assert one.statistic == -other.statistic
    assert one.p_value == other.p_value
    assert one.mean_difference == -other.mean_difference
    assert diebold_mariano(scale * a, scale * b).statistic == pytest.approx(one.statistic, rel=1e-9)


def test_identical_losses_are_no_evidence():
    a, _ = losses(4)
    test = diebold_mariano(a, a)
    assert (test.statistic, test.p_value, test.mean_difference) == (0.0, 1.0, 0.0)
    rounded = diebold_mariano(a, a * (1 + 1e-16 * np.sign(np.arange(len(a)) % 2 - 0.5)))
    assert (rounded.statistic, rounded.p_value) == (0.0, 1.0)


def test_a_constant_difference_is_all_evidence_as_in_a_t_test():
    a, _ = losses(5)
    better, worse = diebold_mariano(a, a + 0.5), diebold_mariano(a + 0.5, a)
    assert (better.statistic, better.p_value) == (-math.inf, 0.0)
    assert (worse.statistic, worse.p_value) == (math.inf, 0.0)


def test_small_losses_are_not_taken_for_rounding():
    a, b = losses(6)
    assert diebold_mariano(1e-12 * a, 1e-12 * b).p_value == pytest.approx(
        diebold_mariano(a, b).p_value, rel=1e-9
    )


def test_small_differences_are_not_taken_for_rounding():
    a, b = losses(6)
    near = diebold_mariano(1 + 1e-9 * a, 1 + 1e-9 * b)
    assert near.p_value == pytest.approx(diebold_mariano(a, b).p_value, rel=1e-4)


def test_days_that_either_lacks_are_dropped():
    a, b = losses(7)
    holed_a, holed_b = a.copy(), b.copy()
    holed_a[[3, 50]] = np.nan
    holed_b[[50, 70]] = np.nan
    kept = np.delete(np.arange(len(a)), [3, 50, 70])
    assert diebold_mariano(holed_a, holed_b) == diebold_mariano(a[kept], b[kept])


def test_too_few_days_give_nan():
    for n in (0, 1):
        test = diebold_mariano(np.ones(n), np.zeros(n))
        assert math.isnan(test.statistic)
        assert math.isnan(test.p_value)
        assert test.n == n
    assert math.isnan(diebold_mariano(np.arange(9.0), np.zeros(9), horizon=5).p_value)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="shapes"):
        diebold_mariano(np.ones(4), np.ones(5))
    with pytest.raises(ValueError, match="horizon"):
        diebold_mariano(np.ones(4), np.ones(4), horizon=0)
    with pytest.raises(ValueError, match="lags"):
        diebold_mariano(np.ones(4), np.ones(4), lags=4)


def test_size_is_nominal_when_the_null_holds():
    rng = np.random.default_rng(8)
    worlds = 1000
    rejected = sum(diebold_mariano(*rng.standard_normal((2, 300)) ** 2).p_value < 0.05 for _ in range(worlds))
    # Four binomial standard errors around 5 %, and a per cent for the known excess of HAC tests.
    assert 0.05 - 0.0276 < rejected / worlds < 0.05 + 0.0276 + 0.01


def test_correlated_differences_need_the_lags():
    rng = np.random.default_rng(9)
    worlds = 300
    series = [autoregression(rng, 300, 0.5) for _ in range(worlds)]
    naive = np.mean([diebold_mariano(d, np.zeros(300), lags=0).p_value < 0.05 for d in series])
    robust = np.mean([diebold_mariano(d, np.zeros(300)).p_value < 0.05 for d in series])
    assert naive > 0.2
    assert robust < 0.13


@given(st.integers(0, 1000), st.integers(2, 30), st.data())
@settings(max_examples=40, deadline=None)
def test_the_variance_is_never_negative(seed, n, data):
    values = np.random.default_rng(seed).standard_normal(n) * (-1) ** np.arange(n)
    assert long_run_variance(values, data.draw(st.integers(0, n - 1))) >= 0


def test_rows_come_in_geometric_wrapping_blocks():
    n, block = 50, 8
    rows = resampled_rows(n, resamples=4000, seed=0, block=block)
    assert rows.shape == (4000, n)
    goes_on = np.mean((np.diff(rows, axis=1) % n) == 1)
    # A new block follows its forerunner by chance once in n.
    assert goes_on == pytest.approx(1 - 1 / block + 1 / block / n, abs=0.005)
    share = np.bincount(rows.ravel(), minlength=n) / rows.size
    assert share == pytest.approx(np.full(n, 1 / n), abs=0.003)  # the ends as often as the middle


def test_equal_seeds_give_equal_bits():
    x = np.random.default_rng(10).standard_normal(80)
    one = bootstrap_interval(lambda rows: x[rows].mean(), 80, seed=3, resamples=200)
    assert one == bootstrap_interval(lambda rows: x[rows].mean(), 80, seed=3, resamples=200)
    assert one != bootstrap_interval(lambda rows: x[rows].mean(), 80, seed=4, resamples=200)


def test_the_interval_agrees_with_arch():
    x = autoregression(np.random.default_rng(11), 150, 0.4)
    expected = StationaryBootstrap(6, x, seed=np.random.default_rng(5)).conf_int(
        np.std, reps=500, method="percentile", size=0.9
    )
    got = bootstrap_interval(
        lambda rows: float(np.std(x[rows])), 150, level=0.9, resamples=500, seed=5, block=6
    )
    assert got == pytest.approx(tuple(expected.ravel()), rel=1e-12)


def test_the_interval_of_an_independent_mean_is_the_textbook_one():
    x = np.random.default_rng(12).standard_normal(500)
    low, high = bootstrap_interval(lambda rows: x[rows].mean(), 500, resamples=4000, block=1)
    half = 1.96 * x.std() / math.sqrt(500)
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.1 * half)


def test_the_interval_covers_a_dependent_mean_only_with_blocks():
    rng = np.random.default_rng(13)
    covered = {"blocks": 0, "days": 0}
    for seed in range(100):
        x = autoregression(rng, 300, 0.6)
        for name, block in (("blocks", mean_block_length(x)), ("days", 1)):
            low, high = bootstrap_interval(
                lambda rows, x=x: x[rows].mean(), 300, resamples=200, seed=seed, block=block
            )
            covered[name] += low < 0 < high
    assert covered["blocks"] >= 84
    assert covered["days"] <= 80


def test_block_length_grows_with_dependence():
    rng = np.random.default_rng(14)
    assert mean_block_length(rng.standard_normal(400)) <= 4
    assert mean_block_length(autoregression(rng, 400, 0.8)) > 8
    x = autoregression(rng, 400, 0.8)
    assert mean_block_length(x) == round(optimal_block_length(x)["stationary"].item())
    holed = np.append(autoregression(rng, 400, 0.8), np.nan)
    assert mean_block_length(holed) == mean_block_length(holed[:-1])


def test_block_length_falls_back_to_the_cube_root():
    assert mean_block_length(np.ones(125)) == 5
    assert mean_block_length(np.arange(8.0)) == 2
    assert mean_block_length(np.array([])) == 1


def test_a_statistic_that_is_sometimes_nan_still_has_an_interval():
    x = np.arange(20.0)
    assert bootstrap_interval(lambda rows: math.nan, 20, resamples=50) == pytest.approx(
        (math.nan,) * 2, nan_ok=True
    )
    low, high = bootstrap_interval(
        lambda rows: x[rows].mean() if rows[0] > 5 else math.nan, 20, resamples=200
    )
    assert 0 < low < high < 19


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 5, "block": 0}, {"n": 5, "resamples": 0}])
def test_nothing_to_draw_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        resampled_rows(**{"resamples": 10, "seed": 0} | wrong)
