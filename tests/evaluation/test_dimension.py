"""The experiment on the number of factors: 100 columns of rank 10 under equal and unequal noise."""

import numpy as np
import pytest

from farm.evaluation.dimension import held_out_likelihoods, low_rank_rows

COUNTS = (6, 10, 16)


@pytest.mark.parametrize(("equal_noise", "by_ppca"), [(True, 10), (False, 16)])
def test_factor_analysis_finds_ten_and_pca_does_so_under_equal_noise_alone(equal_noise, by_ppca):
    rows = low_rank_rows(1000, 100, 10, equal_noise, seed=0)
    chosen = {
        noise: COUNTS[int(np.argmax(held_out_likelihoods(rows, COUNTS, noise, folds=2)))]
        for noise in ("own", "equal")
    }
    assert chosen == {"own": 10, "equal": by_ppca}


def test_the_drawn_rows_have_the_law_they_say():
    rows = low_rank_rows(40_000, 8, 2, equal_noise=True, seed=1)
    values = np.linalg.eigvalsh(np.cov(rows, rowvar=False))
    np.testing.assert_allclose(values, [1] * 6 + [2] * 2, atol=0.05)
