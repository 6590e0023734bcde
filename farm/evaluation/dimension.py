"""How many factors data has, by the likelihood of days that were held out."""

from __future__ import annotations

import numpy as np

from farm.base.types import Floats
from farm.models.linear_gaussian import Noise, learn_factors


def low_rank_rows(days: int, assets: int, rank: int, equal_noise: bool, seed: int) -> Floats:
    """Draw data of a known rank under noise, (days, assets), as scikit-learn's example does [1]_.

    Factors of variance one lie along orthonormal directions. The noise has variance one everywhere, or a
    standard deviation drawn for each asset from 0.5 to 1.5.

    References
    ----------
    .. [1] scikit-learn, Model selection with Probabilistic PCA and Factor Analysis.
    """
    draws = np.random.default_rng(seed)
    directions = np.linalg.qr(draws.normal(size=(assets, rank)))[0]
    spread = np.ones(assets) if equal_noise else draws.uniform(0.5, 1.5, assets)
    rows: Floats = draws.normal(size=(days, rank)) @ directions.T
    return rows + spread * draws.normal(size=rows.shape)


def held_out_likelihoods(rows: Floats, counts: tuple[int, ...], noise: Noise, folds: int = 3) -> Floats:
    """Score numbers of factors by cross-validation.

    Parameters
    ----------
    rows
        Independent days, (N, A), no NaN.
    counts
        Numbers of factors, C of them.
    noise
        ``own`` for factor analysis, ``equal`` for probabilistic PCA.
    folds
        Parts of the days, each of which is held out once.

    Returns
    -------
    Floats
        Mean log density of a held-out day, (C,), in nats.
    """
    fold = np.arange(len(rows)) % folds
    return np.array(
        [
            np.mean(
                [
                    learn_factors(rows[fold != k], count, noise).posterior(rows[fold == k])[2].mean()
                    for k in range(folds)
                ]
            )
            for count in counts
        ]
    )
