"""Days from normal laws, against definitions written out: marginals, chains of few days, long draws."""

from itertools import pairwise, product

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from farm.base.normal import NormalRegimes, normal_days


def law(assets: int, seed: int = 0):
    draws = np.random.default_rng(seed)
    root = draws.normal(size=(assets, assets))
    return draws.normal(size=assets), root @ root.T + 0.3 * np.eye(assets)


def holes(shape, share, seed=1):
    return np.random.default_rng(seed).random(shape) < share


def chain(regimes: int, assets: int, seed: int = 0) -> NormalRegimes:
    draws = np.random.default_rng(seed)
    parts = [law(assets, seed + k) for k in range(regimes)]
    transition = draws.dirichlet(np.ones(regimes), size=regimes)
    return NormalRegimes(
        draws.dirichlet(np.ones(regimes)),
        transition,
        np.stack([m for m, _ in parts]),
        np.stack([s for _, s in parts]),
    )


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_density_and_conditionals_are_those_of_the_marginal_of_what_is_visible(share):
    mean, covariance = law(4)
    rows = np.random.default_rng(2).normal(size=(40, 4))
    rows[holes(rows.shape, share)] = np.nan
    density, filled, variance = normal_days(rows, mean, covariance)
    for day, row in enumerate(rows):
        v = ~np.isnan(row)
        expected = multivariate_normal(mean[v], covariance[np.ix_(v, v)]).logpdf(row[v]) if v.any() else 0.0
        assert density[day] == pytest.approx(expected)
        gain = covariance[np.ix_(~v, v)] @ np.linalg.inv(covariance[np.ix_(v, v)])
        np.testing.assert_allclose(filled[day, ~v], mean[~v] + gain @ (row[v] - mean[v]))
        left = covariance[np.ix_(~v, ~v)] - gain @ covariance[np.ix_(v, ~v)]
        np.testing.assert_allclose(variance[day, ~v], np.diag(left), atol=1e-12)
        np.testing.assert_array_equal(filled[day, v], row[v])
        assert (variance[day, v] == 0).all()


def test_each_day_may_have_a_law_of_its_own():
    laws = [law(3, seed) for seed in range(5)]
    rows = np.random.default_rng(3).normal(size=(5, 3))
    rows[1, 2] = rows[4, 0] = np.nan
    together = normal_days(rows, np.stack([m for m, _ in laws]), np.stack([s for _, s in laws]))
    for day, (m, s) in enumerate(laws):
        for mine, alone in zip(together, normal_days(rows[day : day + 1], m, s), strict=True):
            np.testing.assert_allclose(mine[day], alone[0])


def enumerated(chain: NormalRegimes, rows: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum over every path of regimes: log density of all days, and chances of the last day's regime."""
    count = len(chain.start)
    total, last = 0.0, np.zeros(count)
    for path in product(range(count), repeat=len(rows)):
        weight = chain.start[path[0]]
        for before, after in pairwise(path):
            weight *= chain.transition[before, after]
        for day, k in enumerate(path):
            v = ~np.isnan(rows[day])
            if v.any():
                weight *= multivariate_normal(chain.mean[k][v], chain.covariance[k][np.ix_(v, v)]).pdf(
                    rows[day][v]
                )
        total += weight
        last[path[-1]] += weight
    return float(np.log(total)), last / total


def test_a_chain_against_the_sum_over_all_paths():
    model = chain(3, 2)
    rows = np.random.default_rng(4).normal(size=(6, 2))
    daily = model.log_likelihood(rows, 0)
    before, after = model.filtered(rows)
    for days in range(1, 7):
        density, last = enumerated(model, rows[:days])
        assert daily[:days].sum() == pytest.approx(density)
        np.testing.assert_allclose(after[days - 1], last)
        if days < 6:
            np.testing.assert_allclose(before[days], last @ model.transition)


def test_a_chain_with_hidden_entries_fills_them_as_the_sum_over_all_paths_does():
    model = chain(2, 3)
    rows = np.random.default_rng(5).normal(size=(5, 3))
    rows[holes(rows.shape, 0.4)] = np.nan
    rows[4] = [np.nan, 0.3, np.nan]
    rows[2] = np.nan
    filled = model.impute(rows, 0)
    _, last = enumerated(model, rows)
    means, squares = [], []
    for m, s in zip(model.mean, model.covariance, strict=True):
        _, mean, variance = normal_days(rows[4:], m, s)
        means.append(mean[0])
        squares.append(variance[0] + mean[0] ** 2)
    mean = last @ np.array(means)
    np.testing.assert_allclose(filled.mean[4], mean)
    np.testing.assert_allclose(filled.sd[4, [0, 2]] ** 2, (last @ np.array(squares) - mean**2)[[0, 2]])


def test_regimes_told_from_one_column_do_not_hear_of_the_others():
    model = chain(2, 3)
    model = NormalRegimes(model.start, model.transition, model.mean, model.covariance, np.array([0]))
    rows = np.random.default_rng(6).normal(size=(20, 3))
    louder = rows * [1.0, 5.0, 5.0]
    np.testing.assert_array_equal(model.filtered(rows)[1], model.filtered(louder)[1])
    louder = rows * [5.0, 1.0, 1.0]
    assert np.abs(model.filtered(rows)[1] - model.filtered(louder)[1]).max() > 0.1


def test_the_long_run_is_that_of_a_long_draw():
    model = chain(2, 2, seed=3)
    mean, covariance = model.moments()
    drawn = model.draw(6000, 4, seed=0)
    for day in (0, 3):
        np.testing.assert_allclose(drawn[:, day].mean(axis=0), mean, atol=0.12)
        np.testing.assert_allclose(np.cov(drawn[:, day], rowvar=False), covariance, atol=0.25)
    share = model.stationary
    np.testing.assert_allclose(share @ model.transition, share)


def test_drawn_regimes_follow_the_transition():
    stay = np.array([[0.9, 0.1], [0.3, 0.7]])
    apart = NormalRegimes(np.ones(2) / 2, stay, np.array([[-50.0], [50.0]]), np.ones((2, 1, 1)))
    regime = (apart.draw(4000, 3, seed=1)[:, :, 0] > 0).astype(int)
    moved = [regime[:, 1][regime[:, 0] == k].mean() for k in (0, 1)]
    np.testing.assert_allclose(moved, [0.1, 0.7], atol=0.03)
    assert regime[:, 0].mean() == pytest.approx(0.25, abs=0.03)
