"""Days from one normal law or from several that take turns: what the classical models of days have in common.

Shape letters: N days, A assets, K regimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import numpy as np

from farm.base.generative import Covariance, Density, Imputation, Imputer, WindowGenerator
from farm.base.model import Estimator, State
from farm.base.types import Floats, Ints

CHUNK = 1024  # days whose matrices are in memory together


def normal_days(rows: Floats, mean: Floats, covariance: Floats) -> tuple[Floats, Floats, Floats]:
    """Fill what is hidden of days that are normal, and give the density of what is not.

    Parameters
    ----------
    rows
        (N, A), NaN where hidden; a day may be hidden whole.
    mean, covariance
        Of every day, (A,) and (A, A), or of each, (N, A) and (N, A, A); positive definite.

    Returns
    -------
    log_density
        Of the visible entries of each day, (N,), in nats; 0 where all are hidden.
    filled, variance
        Conditional mean and variance of each entry given the visible ones of its day, (N, A); a visible
        entry stands as it is, with variance 0.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a covariance is not positive definite.
    """
    if covariance.ndim == 2 and not np.isnan(rows).any():  # one root serves all days
        root = np.linalg.cholesky(covariance)
        white = np.linalg.solve(root, (rows - mean).T)
        constant = 2 * np.log(np.diag(root)).sum() + rows.shape[1] * log(2 * pi)
        return -0.5 * ((white**2).sum(axis=0) + constant), rows, np.zeros_like(rows)
    parts = []
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        m = mean if mean.ndim == 1 else mean[part]
        s = covariance if covariance.ndim == 2 else covariance[part]
        parts.append(_chunk(rows[part], m, s))
    density, filled, variance = (np.concatenate(column) for column in zip(*parts, strict=True))
    return density, filled, variance


def _chunk(rows: Floats, mean: Floats, covariance: Floats) -> tuple[Floats, Floats, Floats]:
    """Do it for days that fit in memory: hidden entries become standard normals apart from all others."""
    hidden = np.isnan(rows)
    covariance = np.broadcast_to(covariance, (len(rows), *covariance.shape[-2:]))
    gone = hidden[:, :, None] | hidden[:, None, :]
    visible = np.where(gone, np.eye(rows.shape[1]), covariance)
    root = np.linalg.cholesky(visible)
    shock = np.where(hidden, 0.0, rows - mean)
    # cross[n, h, v] = covariance of hidden entry h with visible entry v, else 0.
    cross = np.where(hidden[:, :, None] & ~hidden[:, None, :], covariance, 0.0)
    white = np.linalg.solve(root, np.concatenate([shock[:, :, None], cross.transpose(0, 2, 1)], axis=2))
    shocks, weights = white[:, :, 0], white[:, :, 1:]
    filled = np.where(hidden, mean + np.einsum("nv,nvh->nh", shocks, weights), rows)
    own = np.diagonal(covariance, axis1=1, axis2=2)
    variance = np.where(hidden, np.maximum(own - (weights**2).sum(axis=1), 0.0), 0.0)
    spread = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    count = (~hidden).sum(axis=1)
    density: Floats = -0.5 * ((shocks**2).sum(axis=1) + spread + count * log(2 * pi))
    return density, filled, variance


@dataclass(frozen=True)
class NormalRegimes:
    """K normal laws of a day, one of which is in force.

    One law is K = 1; laws that are drawn anew each day are a chain whose rows are alike.

    Parameters
    ----------
    start
        Chances of the regimes on the first day, (K,).
    transition
        Chances of the next day's regime, (K, K), a row for each regime of today.
    mean, covariance
        (K, A) and (K, A, A).
    reads
        Columns that the regimes are told from, such as the market's; None for all.
    """

    start: Floats
    transition: Floats
    mean: Floats
    covariance: Floats
    reads: Ints | None = None

    @classmethod
    def single(cls, mean: Floats, covariance: Floats) -> NormalRegimes:
        """Make the law of days that are all alike."""
        return cls(np.ones(1), np.ones((1, 1)), mean[None], covariance[None])

    @classmethod
    def mixture(
        cls, weights: Floats, mean: Floats, covariance: Floats, reads: Ints | None = None
    ) -> NormalRegimes:
        """Make the law of days whose regime is drawn anew each day."""
        return cls(weights, np.tile(weights, (len(weights), 1)), mean, covariance, reads)

    @property
    def stationary(self) -> Floats:
        """Give the share of days in each regime in the long run, (K,)."""
        count = len(self.start)
        system = np.vstack([self.transition.T - np.eye(count), np.ones(count)])
        share: Floats = np.linalg.lstsq(system, np.r_[np.zeros(count), 1.0], rcond=None)[0]
        share = np.maximum(share, 0.0)
        share /= share.sum()
        return share

    def emissions(self, rows: Floats) -> Floats:
        """Give the log density of the visible entries that the regimes are told from, (N, K)."""
        reads = np.arange(rows.shape[1]) if self.reads is None else self.reads
        columns = [
            normal_days(rows[:, reads], m[reads], s[np.ix_(reads, reads)])[0]
            for m, s in zip(self.mean, self.covariance, strict=True)
        ]
        return np.stack(columns, axis=1)

    def filtered(self, rows: Floats) -> tuple[Floats, Floats]:
        """Tell the regimes forward in time (Hamilton 1989, Econometrica 57(2), eq. 4.1 to 4.9).

        Parameters
        ----------
        rows
            Days from the beginning of the record, (N, A), NaN where hidden.

        Returns
        -------
        before, after
            Chances of each day's regime given the days before it, and given the day too, (N, K).
        """
        likelihood = self.emissions(rows)
        likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
        before, after = np.empty_like(likelihood), np.empty_like(likelihood)
        chance = self.start
        for day, weight in enumerate(likelihood):
            before[day] = chance
            joint = chance * weight
            after[day] = joint / joint.sum() if joint.sum() > 0 else chance
            chance = after[day] @ self.transition
        return before, after

    def log_likelihood(self, rows: Floats, first: int) -> Floats:
        """Give the log density of the days from `first` on, each given the days before it, (N - first,)."""
        before, _ = self.filtered(rows)
        return self._weighed(rows[first:], before[first:])[0]

    def impute(self, rows: Floats, first: int) -> Imputation:
        """Fill the hidden entries from `first` on; see `Imputer.impute`."""
        before, _ = self.filtered(rows)
        _, chance, filled, variance = self._weighed(rows[first:], before[first:])
        mean = np.einsum("nk,kna->na", chance, filled)
        spread = np.einsum("nk,kna->na", chance, variance + (filled - mean) ** 2)
        hidden = np.isnan(rows[first:])
        return Imputation(np.where(hidden, mean, rows[first:]), np.sqrt(np.where(hidden, spread, 0.0)))

    def _weighed(self, rows: Floats, before: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Give density (N,), chances given the whole day (N, K), filled and variance (K, N, A)."""
        laws = [normal_days(rows, m, s) for m, s in zip(self.mean, self.covariance, strict=True)]
        with np.errstate(divide="ignore"):  # a chance may be 0
            joint = np.log(before) + np.stack([density for density, _, _ in laws], axis=1)
        top = joint.max(axis=1, keepdims=True)
        weight = np.exp(joint - top)
        total = weight.sum(axis=1, keepdims=True)
        density: Floats = (top + np.log(total))[:, 0]
        filled, variance = (np.stack([law[i] for law in laws]) for i in (1, 2))
        return density, weight / total, filled, variance

    def moments(self) -> tuple[Floats, Floats]:
        """Give mean (A,) and covariance (A, A) of a day in the long run."""
        share = self.stationary
        mean: Floats = share @ self.mean
        apart = self.mean - mean
        covariance: Floats = np.einsum("k,kab->ab", share, self.covariance)
        return mean, covariance + np.einsum("k,ka,kb->ab", share, apart, apart)

    def draw(self, count: int, days: int, seed: int) -> Floats:
        """Draw stretches of days, (count, days, A), that begin anywhere in the long run."""
        draws = np.random.default_rng(seed)
        root = np.linalg.cholesky(self.covariance)
        steps = np.cumsum(self.transition, axis=1)
        regime = np.searchsorted(np.cumsum(self.stationary)[:-1], draws.random(count))
        out = np.empty((count, days, self.mean.shape[1]))
        for day in range(days):
            noise = draws.standard_normal(out.shape[::2])
            out[:, day] = self.mean[regime] + np.einsum("nab,nb->na", root[regime], noise)
            regime = (draws.random(count)[:, None] > steps[regime, :-1]).sum(axis=1)
        return out

    def state(self) -> State:
        """Give the law as arrays."""
        return {name: np.asarray(value) for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_state(cls, state: State) -> NormalRegimes:
        """Take what `state` gave."""
        known = {name: state[name] for name in cls.__dataclass_fields__ if name in state}
        return cls(**known)


class NormalModel(Estimator, Imputer, Density, Covariance, WindowGenerator):
    """A model whose days are of `NormalRegimes`; a subclass says how the law is learnt.

    Parameters
    ----------
    days
        Of a window that `draw` gives.
    """

    law: NormalRegimes

    def __init__(self, days: int) -> None:
        self.days = days

    def impute(self, rows: Floats, first: int) -> Imputation:
        """Fill the hidden entries; see `Imputer.impute`."""
        return self.law.impute(rows, first)

    def log_likelihood(self, rows: Floats, first: int) -> Floats:
        """Give the density of each day; see `Density.log_likelihood`."""
        return self.law.log_likelihood(rows, first)

    def covariance(self) -> Floats:
        """Give the covariance of a day in the long run; see `Covariance.covariance`."""
        return self.law.moments()[1]

    def draw(self, count: int, seed: int) -> Floats:
        """Draw windows; see `WindowGenerator.draw`."""
        return self.law.draw(count, self.days, seed)

    def state(self) -> State:
        """Give the law; see `Model.state`."""
        return self.law.state()

    def load_state(self, state: State) -> None:
        """Take the law back; see `Model.load_state`."""
        self.law = NormalRegimes.from_state(state)
