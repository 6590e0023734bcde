"""Latents whose knowledge is known."""

import numpy as np
import pytest
import torch
from sklearn.feature_selection import mutual_info_regression

from farm.evaluation.latent import (
    Latents,
    active_units,
    collapse,
    compare_latents,
    correlations,
    effective_dimension,
    kl_per_dimension,
    latent_metrics,
    mutual_information,
)

ASSETS = ("AMZN", "MSFT")


def latents_of(mean, deviation=0.1, seed=0, **prior):
    mean = np.asarray(mean, dtype=np.float64)
    noise = np.random.default_rng(seed).standard_normal(mean.shape)
    logvar = np.full(mean.shape, 2 * np.log(deviation))
    return Latents(mean + deviation * noise, mean, logvar, **prior)


def test_kl_agrees_with_torch():
    rng = np.random.default_rng(0)
    mean, logvar, prior_mean, prior_logvar = rng.normal(0, 1, (4, 50, 3))
    normal = torch.distributions.Normal

    def reference(m, s):
        posterior = normal(torch.tensor(mean), torch.tensor(logvar / 2).exp())
        prior = normal(torch.as_tensor(m), torch.as_tensor(s / 2).exp())
        return torch.distributions.kl_divergence(posterior, prior).mean(0).numpy()

    standard = Latents(mean, mean, logvar)
    np.testing.assert_allclose(kl_per_dimension(standard), reference(0 * mean, 0 * mean), rtol=1e-12)
    learnt = Latents(mean, mean, logvar, prior_mean, prior_logvar)
    np.testing.assert_allclose(kl_per_dimension(learnt), reference(prior_mean, prior_logvar), rtol=1e-12)
    np.testing.assert_allclose(kl_per_dimension(Latents(mean, mean, logvar, mean, logvar)), 0, atol=1e-15)


def test_active_units_are_the_planted_ones():
    rng = np.random.default_rng(1)
    mean = rng.standard_normal((2000, 5)) * [1.0, 0.2, 0.09, 0.0, 0.11] + 7
    assert active_units(mean) == 3  # variances 1, 0.04 and 0.0121 against 0.01
    assert active_units(mean.astype(np.float32)) == 3


def test_effective_dimension_is_the_planted_rank():
    rng = np.random.default_rng(2)
    mixing = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    for rank in (1, 3, 12):
        mean = rng.standard_normal((1000, rank)) @ mixing[:rank]
        noise = 1e-3 * rng.standard_normal((1000, 12))
        assert effective_dimension(mean + noise + 5) == rank
    # 99 % lie in two components exactly when the third has less than 1 %.
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=float)
    assert effective_dimension(signs * np.sqrt([0.5, 0.4905, 0.0095])) == 2
    assert effective_dimension(signs * np.sqrt([0.5, 0.4895, 0.0105])) == 3
    assert effective_dimension(np.full((100, 4), 0.1, dtype=np.float32)) == 0


def test_correlations_agree_with_numpy_and_constants_have_none():
    rng = np.random.default_rng(3)
    z, returns = rng.standard_normal((200, 4)), rng.standard_normal((200, 2))
    expected = np.corrcoef(z, returns, rowvar=False)[:4, 4:]
    np.testing.assert_allclose(correlations(z, returns), expected, atol=1e-12)
    z[:, 1] = 0.1
    assert (correlations(z, returns)[1] == 0).all()
    assert (correlations(z * 1e-9, returns * 1e-9)[0] != 0).all()


def test_mutual_information_is_scikit_learns():
    rng = np.random.default_rng(4)
    z = rng.standard_normal((300, 3))
    returns = np.stack([z[:, 0] + rng.standard_normal(300), rng.standard_normal(300)], axis=1)
    found = mutual_information(z, returns)
    for a in range(2):
        expected = mutual_info_regression(z, returns[:, a], n_neighbors=3, random_state=0)
        np.testing.assert_array_equal(found[:, a], expected)
    with pytest.raises(ValueError, match="at least 4"):
        mutual_information(z[:3], returns[:3])


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.7, -0.9, 0.99])
def test_mutual_information_of_correlated_normals_is_the_closed_form(rho):
    rng = np.random.default_rng(5)
    z, noise = 0.02 * rng.standard_normal((2, 4000))
    other = rho * z + np.sqrt(1 - rho**2) * noise
    found = mutual_information(z[:, None], other[:, None])[0, 0]
    assert found == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.06)


def test_an_oracle_knows_and_a_blind_encoder_does_not():
    rng = np.random.default_rng(6)
    amzn, msft = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 1500).T * 0.02
    returns = np.stack([amzn, msft], axis=1)
    oracle = latents_of(np.outer(amzn / 0.02, [1.0, -0.5, 0.8]), deviation=0.3)
    blind = latents_of(rng.standard_normal((1500, 3)), deviation=0.3)
    scores = compare_latents(blind, oracle, returns, ASSETS)
    assert scores["latent/oracle/corr_AMZN"] == pytest.approx(1 / np.sqrt(1.09), abs=0.02)
    assert scores["latent/oracle/corr_MSFT"] == pytest.approx(0.7 / np.sqrt(1.09), abs=0.05)
    assert scores["latent/corr_AMZN"] < 0.1
    # The closed form of each dimension: signal over noise.
    each = 0.5 * np.log(1 + np.array([1.0, 0.25, 0.64]) / 0.09)
    assert scores["latent/oracle/mi_AMZN"] == pytest.approx(each.sum(), rel=0.1)
    assert scores["latent/oracle/mi_max_AMZN"] == pytest.approx(each.max(), rel=0.1)
    assert scores["latent/kept_AMZN"] < 0.05
    assert scores["latent/kept_AMZN"] == scores["latent/mi_AMZN"] / scores["latent/oracle/mi_AMZN"]
    assert (scores["latent/oracle/effective_dim"], scores["latent/effective_dim"]) == (1, 3)
    assert (scores["latent/oracle/active_units"], scores["latent/active_units"]) == (3, 3)
    assert scores["latent/kl"] == pytest.approx(sum(scores[f"latent/kl_dim{d:02d}"] for d in range(3)))
    again = latent_metrics(oracle, returns, ASSETS, part="oracle")
    assert again == {name: scores[name] for name in again}
    assert all(type(score) is float for score in scores.values())


def test_collapse_is_named_and_a_sound_space_is_not():
    rng = np.random.default_rng(7)
    line, free = rng.standard_normal((500, 1)), rng.standard_normal((500, 4))
    assert collapse(latents_of(free)) == ""
    assert collapse(latents_of(line)) == "", "one dimension of one is no collapse"
    assert collapse(latents_of(0.01 * free, deviation=1.0)) == "no active unit of 4"
    assert "KL 0.0" in collapse(latents_of(0.12 * free[:, :2], deviation=1.0))
    assert collapse(latents_of(np.repeat(line, 4, axis=1))) == "4 active units of 4, effective dimension 1"
    one = latents_of(free * [1, 0, 0, 0], deviation=0.1)
    assert collapse(one) == "1 active units of 4, effective dimension 1"
    # A learnt prior that has reached the posterior is no collapse.
    logvar = np.full(free.shape, 2 * np.log(0.1))
    assert collapse(latents_of(free, prior_mean=free, prior_logvar=logvar)) == ""


def test_latents_that_do_not_fit_are_refused():
    z = np.zeros((5, 2))
    with pytest.raises(ValueError, match=r"logvar has shape \(5, 3\)"):
        Latents(z, z, np.zeros((5, 3)))
    with pytest.raises(ValueError, match="1 entries of mean are not finite"):
        Latents(z, np.where(np.arange(10).reshape(5, 2) == 3, np.nan, z), z)
    with pytest.raises(ValueError, match="come together"):
        Latents(z, z, z, prior_mean=z)
    with pytest.raises(ValueError, match="expected"):
        Latents(z[:0], z[:0], z[:0])
    with pytest.raises(ValueError, match=r"returns have shape \(5, 1\), expected \(5, 2\)"):
        latent_metrics(Latents(z, z, z), np.zeros((5, 1)), ASSETS)
    with pytest.raises(ValueError, match="all finite"):
        latent_metrics(Latents(z, z, z), np.full((5, 2), np.nan), ASSETS)
