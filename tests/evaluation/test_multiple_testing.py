import numpy as np
from statsmodels.stats.multitest import multipletests

from farm.evaluation.multiple_testing import holm


def test_holm_is_that_of_statsmodels() -> None:
    for seed in range(20):
        p_values = np.random.default_rng(seed).random(7) ** 3
        np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])


def test_what_was_not_tested_does_not_count() -> None:
    np.testing.assert_allclose(holm(np.array([np.nan, 0.02, 0.03])), [np.nan, 0.04, 0.04])
    assert holm(np.array([])).shape == (0,)
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_of_seven_true_hypotheses_one_ends_below_five_per_cent_in_at_most_as_many_worlds() -> None:
    worlds = np.random.default_rng(0).random((4000, 7))
    share = np.mean([holm(world).min() < 0.05 for world in worlds])
    assert 0.04 < share < 0.06
    assert np.mean(worlds.min(axis=1) < 0.05) > 0.25
