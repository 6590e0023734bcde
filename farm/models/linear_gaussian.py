"""Factors behind a day: x = mean + loadings z + noise, z standard normal; how it is learnt and inverted.

Shape letters: N days, A assets, K factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Literal

import numpy as np
import numpy.typing as npt

from farm.base.errors import UserError
from farm.base.types import Floats

Noise = Literal["own", "equal"]
Mask = npt.NDArray[np.bool_]
LEAST_NOISE = 1e-4  # of a variance of 1: an asset that the factors explain whole has no likelihood


@dataclass(frozen=True)
class FactorLaw:
    """A linear Gaussian law of a day.

    Parameters
    ----------
    mean
        (A,).
    loadings
        (A, K).
    noise
        Variance of each asset's own noise, (A,), positive.
    """

    mean: Floats
    loadings: Floats
    noise: Floats

    @property
    def covariance(self) -> Floats:
        """Give the covariance of a day, (A, A)."""
        return self.loadings @ self.loadings.T + np.diag(self.noise)

    def posterior(self, rows: Floats) -> tuple[Floats, Floats, Floats]:
        """Tell the factors of each day from its visible entries (Bishop 2006, eq. 12.42 and 12.66).

        Parameters
        ----------
        rows
            (N, A), NaN where hidden.

        Returns
        -------
        mean, covariance
            Of the factors, (N, K) and (N, K, K).
        log_density
            Of the visible entries, (N,), in nats.
        """
        visible = ~np.isnan(rows)
        weight = visible / self.noise
        shock = np.where(visible, rows - self.mean, 0.0)
        count = self.loadings.shape[1]
        squares = (self.loadings[:, :, None] * self.loadings[:, None, :]).reshape(len(self.noise), -1)
        precision = np.eye(count) + (weight @ squares).reshape(-1, count, count)
        covariance = np.linalg.inv(precision)
        pull = (weight * shock) @ self.loadings
        mean: Floats = np.einsum("nkl,nl->nk", covariance, pull)
        determinant = np.linalg.slogdet(precision)[1] + visible @ np.log(self.noise)
        distance = (weight * shock**2).sum(axis=1) - (pull * mean).sum(axis=1)
        log_density: Floats = -0.5 * (distance + determinant + visible.sum(axis=1) * log(2 * pi))
        return mean, covariance, log_density


def require_fewer(count: int, assets: tuple[str, ...], model: str) -> None:
    """Refuse as many factors as assets.

    Raises
    ------
    UserError
        If there are.
    """
    if count >= len(assets):
        raise UserError(
            f"model {model}: got {count} factors for {len(assets)} assets, expected fewer factors than"
            " assets: lower model.factors"
        )


def principal_factors(mean: Floats, covariance: Floats, count: int) -> FactorLaw:
    """Give the probabilistic PCA of greatest likelihood (Tipping & Bishop 1999, eq. 7 and 8).

    Parameters
    ----------
    mean, covariance
        Of the days, with N in the denominator, (A,) and (A, A).
    count
        K, below A.
    """
    values, vectors = np.linalg.eigh(covariance)
    left = len(values) - count
    noise = max(float(values[:left].mean()), LEAST_NOISE)
    strength = np.sqrt(np.maximum(values[left:] - noise, 0.0))
    return FactorLaw(mean, (vectors[:, left:] * strength)[:, ::-1], np.full(len(values), noise))


def learn_factors(rows: Floats, count: int, noise: Noise) -> FactorLaw:
    """Learn the law of greatest likelihood: factor analysis (own noise) or probabilistic PCA (equal).

    In closed form or by scikit-learn where nothing is hidden, else by `em_factors`.

    Parameters
    ----------
    rows
        (N, A), NaN where hidden; every asset has visible days.
    count
        K, below A.
    noise
        Whether each asset has a noise variance of its own.
    """
    if np.isnan(rows).any():
        return em_factors(rows, count, noise)[0]
    if noise == "equal":
        return principal_factors(rows.mean(axis=0), np.cov(rows, rowvar=False, bias=True), count)
    from sklearn.decomposition import FactorAnalysis  # slow to import

    found = FactorAnalysis(count, tol=1e-5 * len(rows), max_iter=2000, svd_method="lapack").fit(rows)
    return FactorLaw(found.mean_, found.components_.T, np.maximum(found.noise_variance_, LEAST_NOISE))


def em_factors(
    rows: Floats,
    count: int,
    noise: Noise,
    steps: int = 500,
    tolerance: float = 1e-5,
    start: FactorLaw | None = None,
) -> tuple[FactorLaw, Floats]:
    """Learn the law by expectation and maximisation over the visible entries.

    Factor analysis: Rubin & Thayer 1982, Psychometrika 47, with the sums over the visible entries of
    each asset. Probabilistic PCA with hidden entries: Tipping & Bishop 1999, section 4.2; Ilin & Raiko
    2010, Journal of Machine Learning Research 11, section 4.2, with exact posteriors.

    Parameters
    ----------
    rows
        (N, A), NaN where hidden, at random; every asset has visible days.
    count
        K, below A.
    noise
        Whether each asset has a noise variance of its own.
    steps
        Most steps.
    tolerance
        It stops when a step adds less than this to the likelihood, in nats a day.
    start
        Where it begins; by default at the principal factors, with each hidden entry at its mean.

    Returns
    -------
    law
        After the last step.
    likelihoods
        Log likelihood of the visible entries before each step and after the last, in nats a day; it
        never falls.
    """
    visible = ~np.isnan(rows)
    if start is None:
        mean = np.nansum(rows, axis=0) / visible.sum(axis=0)
        filled = np.where(visible, rows, mean)
        start = principal_factors(mean, np.cov(filled, rowvar=False, bias=True), count)
    law = start
    z, spread, density = law.posterior(rows)
    likelihoods = [float(density.mean())]
    known = np.where(visible, rows, 0.0)
    for _ in range(steps):
        law = _maximise(known, visible, z, spread, noise)
        z, spread, density = law.posterior(rows)
        likelihoods.append(float(density.mean()))
        if likelihoods[-1] - likelihoods[-2] < tolerance:
            break
    return law, np.array(likelihoods)


def _maximise(known: Floats, visible: Mask, z: Floats, spread: Floats, noise: Noise) -> FactorLaw:
    """Regress each asset, on the days it is visible, on the factors and a constant.

    Parameters
    ----------
    known, visible
        The days, 0 where hidden, and where they are not, (N, A).
    z, spread
        Posterior mean (N, K) and covariance (N, K, K) of the factors.
    """
    days, count = z.shape
    assets = known.shape[1]
    wide = np.concatenate([z, np.ones((days, 1))], axis=1)
    second = wide[:, :, None] * wide[:, None, :]
    second[:, :count, :count] += spread
    moments = (visible.T @ second.reshape(days, -1)).reshape(assets, count + 1, count + 1)
    cross = known.T @ wide
    slopes = np.linalg.solve(moments, cross[:, :, None])[:, :, 0]
    left = (known**2).sum(axis=0) - (slopes * cross).sum(axis=1)  # the normal equations hold
    seen = visible.sum(axis=0)
    variance = np.full(assets, left.sum() / seen.sum()) if noise == "equal" else left / seen
    return FactorLaw(slopes[:, count], slopes[:, :count], np.maximum(variance, LEAST_NOISE))
