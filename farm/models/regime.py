"""Regimes of the market: a Gaussian mixture, which forgets, and a hidden Markov model, which remembers."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import numpy as np

from farm.base.errors import UserError
from farm.base.generative import GenerativeConfig, Regimes, returns_of
from farm.base.model import MODELS
from farm.base.normal import NormalModel, NormalRegimes
from farm.base.registry import component
from farm.base.search_space import Choice, Int
from farm.base.types import Floats, Inputs, Windows

RIDGE = 1e-3  # on a variance of 1: a regime of few days keeps a covariance that can be inverted
STAY = 0.95  # beyond what chance would keep in a regime, where the search for a chain begins


class RegimeModel(NormalModel, Regimes):
    """A few kinds of days, each with its own mean and covariance.

    Where the regimes are told from the market alone, they are learnt from its returns, and each then has
    the moments of all assets on its days, weighted with the chance that a day is one of its.

    Parameters
    ----------
    config
        How it is learnt.
    days
        Of a window that it draws.

    References
    ----------
    Hamilton (1989), A New Approach to the Economic Analysis of Nonstationary Time Series and the
    Business Cycle, Econometrica 57(2). Baum et al. (1970), Annals of Mathematical Statistics 41(1).
    """

    def __init__(self, config: RegimeConfig, days: int) -> None:
        super().__init__(days)
        self._config = config

    def fit(self, train: Windows, val: Windows) -> None:
        """Learn from the training days; `val` is not read.

        Raises
        ------
        UserError
            If there are fewer days than regimes, or a regime is left without days.
        """
        rows = returns_of(train).block
        reads = np.array([0]) if self._config.tell_from == "market" else None
        seen = rows if reads is None else rows[:, reads]
        count = self._config.regimes
        if self._config.memory:
            start, transition, chance = _chain(seen, count, self._config.restarts)
        else:
            transition = None
            start, chance = _mixture(seen, count, self._config.restarts)
        days = chance.sum(axis=0)
        if (days < 2).any():
            raise UserError(
                f"model regime: a regime is left with {days.min():.1f} of {len(rows)} days, expected 2 or"
                " more: lower model.regimes"
            )
        mean = (chance.T @ rows) / days[:, None]
        covariance = np.stack(
            [((chance[:, k, None] * (rows - mean[k])).T @ (rows - mean[k])) / days[k] for k in range(count)]
        ) + RIDGE * np.eye(rows.shape[1])
        calm = np.argsort([s[0, 0] if reads is not None else np.trace(s) for s in covariance], kind="stable")
        mean, covariance, start = mean[calm], covariance[calm], start[calm]
        if transition is None:
            self.law = NormalRegimes.mixture(start, mean, covariance, reads)
        else:
            self.law = NormalRegimes(start, transition[np.ix_(calm, calm)], mean, covariance, reads)

    def probabilities(self, rows: Floats, first: int) -> Floats:
        """Give the filtered probabilities; see `Regimes.probabilities`."""
        return self.law.filtered(rows)[1][first:]


def _mixture(rows: Floats, count: int, restarts: int) -> tuple[Floats, Floats]:
    """Give weights (K,) and each day's chances (N, K) of the best of some Gaussian mixtures."""
    from sklearn.mixture import GaussianMixture  # slow to import

    found = GaussianMixture(count, reg_covar=RIDGE, n_init=restarts, max_iter=500, tol=1e-4, random_state=0)
    chance = found.fit(rows).predict_proba(rows)
    return found.weights_, chance


def _chain(rows: Floats, count: int, restarts: int) -> tuple[Floats, Floats, Floats]:
    """Give start (K,), transition (K, K) and each day's chances (N, K) of the best of some chains."""
    from hmmlearn.hmm import GaussianHMM  # slow to import

    logger = logging.getLogger("hmmlearn.base")  # it tells of every step back by a rounding error
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        best, best_score = None, -np.inf
        for seed in range(restarts):
            chain = GaussianHMM(
                count,
                covariance_type="full",
                min_covar=RIDGE,
                n_iter=300,
                tol=1e-3,
                init_params="mc",
                random_state=seed,
            )
            chain.startprob_ = np.full(count, 1 / count)
            chain.transmat_ = STAY * np.eye(count) + (1 - STAY) / count
            score = float(chain.fit(rows).score(rows))
            if score > best_score:
                best, best_score = chain, score
    finally:
        logger.setLevel(level)
    assert best is not None  # at least one start, each with a finite score
    return best.startprob_, best.transmat_, best.predict_proba(rows)


@component(MODELS)
class RegimeConfig(GenerativeConfig):
    """Regimes by Gaussian mixture or by hidden Markov model.

    Parameters
    ----------
    regimes
        How many.
    memory
        Whether a day's regime depends on that of the day before: a hidden Markov model.
    tell_from
        Whether regimes are told from the market's return alone or from all assets.
    restarts
        Random beginnings, of which the likeliest end is kept.
    """

    name: Literal["regime"] = "regime"
    regimes: Annotated[int, Int(1, 10)] = 2
    memory: Annotated[bool, Choice((False, True))] = True
    tell_from: Annotated[Literal["market", "all"], Choice(("market", "all"))] = "market"
    restarts: Annotated[int, Int(1, 50)] = 5

    def build(self, inputs: Inputs) -> RegimeModel:
        """Make the model."""
        return RegimeModel(self, inputs.lookback)
