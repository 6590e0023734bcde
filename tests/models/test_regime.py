"""Regimes of a made-up market: told when they were, and forward in time."""

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from sklearn.mixture import GaussianMixture

from farm.base.normal import NormalRegimes
from farm.models.regime import RegimeConfig
from tests.return_world import STAY, draw_days, return_data


def taught(days=1500, **fields):
    data = return_data(days)
    model = RegimeConfig(**fields).build(data.inputs)
    model.fit(data.train, data.val)
    return model, data


@pytest.mark.parametrize("tell_from", ["market", "all"])
def test_finds_the_planted_regimes(tell_from):
    model, data = taught(tell_from=tell_from)
    _, regime = draw_days(1500)
    found = model.probabilities(data._test.rows, data._test.first)[:, 1] > 0.5
    truth = regime[data._test.first :]
    assert (found == truth).mean() > (0.93 if tell_from == "all" else 0.85)
    np.testing.assert_allclose(np.diag(model.law.transition), STAY, atol=0.05)


def test_memory_tells_more_than_none():
    remembers, data = taught(tell_from="all")
    forgets, _ = taught(tell_from="all", memory=False)
    later = data._test
    gain = remembers.log_likelihood(later.rows, later.first) - forgets.log_likelihood(later.rows, later.first)
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_probabilities_are_filtered_not_smoothed():
    model, data = taught()
    rows = data._test.rows
    cut = len(rows) - 40
    np.testing.assert_array_equal(model.probabilities(rows, 0)[:cut], model.probabilities(rows[:cut], 0))


def test_the_filter_ends_where_hmmlearns_likelihood_is():
    draws = np.random.default_rng(0)
    rows = draws.normal(size=(200, 2)) * np.repeat([1.0, 3.0], 100)[:, None]
    chain = GaussianHMM(2, covariance_type="full", random_state=0, n_iter=20).fit(rows)
    ours = NormalRegimes(chain.startprob_, chain.transmat_, chain.means_, chain.covars_)
    assert ours.log_likelihood(rows, 0).sum() == pytest.approx(chain.score(rows))
    # On the last day, filtered and smoothed are one.
    np.testing.assert_allclose(ours.filtered(rows)[1][-1], chain.predict_proba(rows)[-1], atol=1e-9)


def test_a_mixture_of_all_assets_is_scikit_learns():
    model, data = taught(tell_from="all", memory=False)
    train = data.train.block
    theirs = GaussianMixture(2, n_init=5, max_iter=500, tol=1e-4, reg_covar=1e-3, random_state=0).fit(train)
    assert model.log_likelihood(train, 0).mean() == pytest.approx(theirs.score(train), abs=0.01)


def test_one_regime_is_the_sample_law():
    model, data = taught(regimes=1)
    train = data.train.block
    np.testing.assert_allclose(model.law.covariance[0], np.cov(train, rowvar=False, bias=True), atol=2e-3)
