"""Factors behind a day: EM against closed forms, scikit-learn and marginals written out."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA, FactorAnalysis

from farm.base.errors import UserError
from farm.base.normal import normal_days
from farm.models.factor import FactorConfig, PpcaMixtureConfig, em_mixture
from farm.models.linear_gaussian import FactorLaw, em_factors, learn_factors, principal_factors
from tests.return_world import return_data


def planted(days: int, assets: int, count: int, noise: np.ndarray, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    loadings = draws.normal(size=(assets, count))
    return (
        draws.normal(size=(days, count)) @ loadings.T
        + draws.normal(size=(days, assets)) * np.sqrt(noise)
        + 0.5
    )


ELSEWHERE = FactorLaw(np.zeros(6), np.random.default_rng(5).normal(size=(6, 2)), np.full(6, 3.0))
ROWS = planted(300, 6, 2, np.array([0.2, 0.5, 1.0, 0.3, 0.8, 1.5]))


def with_holes(rows: np.ndarray, share: float) -> np.ndarray:
    out = rows.copy()
    out[np.random.default_rng(9).random(rows.shape) < share] = np.nan
    return out


@pytest.mark.parametrize("noise", ["own", "equal"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_em_never_lowers_the_likelihood(noise, share):
    _, likelihoods = em_factors(with_holes(ROWS, share), 2, noise, start=ELSEWHERE)
    assert len(likelihoods) > 3
    assert (np.diff(likelihoods) > -1e-10).all()
    assert likelihoods[-1] > likelihoods[0]


def test_em_without_holes_is_scikit_learns_factor_analysis():
    law, likelihoods = em_factors(ROWS, 2, "own", steps=5000, tolerance=1e-9, start=ELSEWHERE)
    theirs = FactorAnalysis(2, tol=1e-8, max_iter=5000, svd_method="lapack").fit(ROWS)
    assert likelihoods[-1] == pytest.approx(theirs.score(ROWS), abs=1e-6)
    np.testing.assert_allclose(law.covariance, theirs.get_covariance(), atol=2e-3)
    ours = learn_factors(ROWS, 2, "own")
    np.testing.assert_allclose(ours.covariance, theirs.get_covariance(), atol=2e-2)


def test_em_without_holes_is_the_closed_form_of_ppca_and_scikit_learns():
    law, _ = em_factors(ROWS, 2, "equal", steps=2000, tolerance=1e-12, start=ELSEWHERE)
    closed = learn_factors(ROWS, 2, "equal")
    np.testing.assert_allclose(law.covariance, closed.covariance, atol=1e-5)
    theirs = PCA(2).fit(ROWS)
    np.testing.assert_allclose(closed.covariance, theirs.get_covariance() * 299 / 300, rtol=1e-10)
    assert closed.posterior(ROWS)[2].mean() == pytest.approx(theirs.score(ROWS), abs=1e-4)


def test_em_climbs_to_a_stationary_point_from_elsewhere():
    # Where EM stops, no small change of a parameter is likelier, by the likelihood written out.
    rows = with_holes(ROWS, 0.3)
    law, likelihoods = em_factors(rows, 2, "own", steps=3000, tolerance=1e-11)

    def written_out(law: FactorLaw) -> float:
        return float(normal_days(rows, law.mean, law.covariance)[0].mean())

    best = written_out(law)
    assert best == pytest.approx(likelihoods[-1], abs=1e-9)
    draws = np.random.default_rng(0)
    for _ in range(20):
        moved = FactorLaw(
            law.mean + 1e-3 * draws.normal(size=6),
            law.loadings + 1e-3 * draws.normal(size=(6, 2)),
            law.noise * np.exp(1e-3 * draws.normal(size=6)),
        )
        assert written_out(moved) < best + 1e-7


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_posterior_and_density_are_those_of_the_joint_normal_written_out(share):
    law = learn_factors(ROWS, 2, "own")
    rows = with_holes(ROWS[:30], share)
    rows[3] = np.nan
    mean, covariance, density = law.posterior(rows)
    for day, row in enumerate(rows):
        v = ~np.isnan(row)
        loadings = law.loadings[v]
        sigma = loadings @ loadings.T + np.diag(law.noise[v])
        gain = loadings.T @ np.linalg.inv(sigma)
        np.testing.assert_allclose(mean[day], gain @ (row[v] - law.mean[v]), atol=1e-10)
        np.testing.assert_allclose(covariance[day], np.eye(2) - gain @ loadings, atol=1e-10)
        expected = multivariate_normal(law.mean[v], sigma).logpdf(row[v]) if v.any() else 0.0
        assert density[day] == pytest.approx(expected)


def test_holes_at_random_bring_the_same_law():
    noise = np.array([0.2, 0.5, 1.0, 0.3, 0.8, 1.5])
    rows = planted(8000, 6, 2, noise, seed=2)
    whole, holed = (learn_factors(r, 2, "own") for r in (rows, with_holes(rows, 0.3)))
    np.testing.assert_allclose(holed.covariance, whole.covariance, atol=0.2)
    np.testing.assert_allclose(holed.noise, noise, atol=0.15)


@pytest.mark.parametrize("components", [1, 3])
def test_the_mixture_never_lowers_its_likelihood(components):
    rows = np.concatenate([ROWS, 3 * ROWS[:150] - 2])
    law, likelihoods = em_mixture(rows, components, 2)
    assert (np.diff(likelihoods) > -1e-10).all()
    assert likelihoods[-1] == pytest.approx(law.log_likelihood(rows, 0).mean())
    if components == 1:
        closed = principal_factors(rows.mean(axis=0), np.cov(rows, rowvar=False, bias=True), 2)
        np.testing.assert_allclose(law.covariance[0], closed.covariance)
    else:
        assert likelihoods[-1] > likelihoods[0]
        assert (np.diff([np.trace(s) for s in law.covariance]) >= 0).all()


def test_validation_days_choose_the_planted_number_of_factors():
    data = return_data(900)
    model = FactorConfig(factors=12, choose=True).build(data.inputs)
    model.fit(data.train, data.val)
    fixed = []
    for count in range(1, 5):
        one = FactorConfig(factors=count).build(data.inputs)
        one.fit(data.train, data.val)
        fixed.append(one.log_likelihood(data.val.rows, data.val.first).mean())
    chosen = model.loadings().shape[1]
    assert chosen == int(np.argmax(fixed)) + 1
    assert chosen <= 2  # one was planted; the difference of one more is chance


@pytest.mark.parametrize("config", [FactorConfig(factors=5), PpcaMixtureConfig(factors=7)])
def test_as_many_factors_as_assets_are_refused_in_one_line(config):
    with pytest.raises(UserError, match=r"expected fewer factors than assets: lower model\.factors") as error:
        config.build(return_data(300).inputs)
    assert "\n" not in str(error.value)


def test_a_mixture_of_more_components_than_days_can_fill_is_refused():
    with pytest.raises(UserError, match=r"lower model\.components"):
        em_mixture(ROWS[:12], 8, 2)
