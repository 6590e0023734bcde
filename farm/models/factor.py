"""Factor analysis, probabilistic PCA and a mixture of it: classical latent variables of a day."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from farm.base.errors import UserError
from farm.base.generative import Factors, GenerativeConfig, returns_of
from farm.base.model import MODELS, State
from farm.base.normal import NormalModel, NormalRegimes, normal_days
from farm.base.registry import component
from farm.base.search_space import Choice, Float, Int
from farm.base.types import Floats, Inputs, Windows
from farm.models.linear_gaussian import FactorLaw, Noise, learn_factors, principal_factors, require_fewer

LEAST_DAYS = 3  # with which a component is still a component


class FactorModel(NormalModel, Factors):
    """A few factors behind each day, and noise of each asset's own.

    Parameters
    ----------
    config
        How it is learnt.
    days
        Of a window that it draws.
    """

    factors: FactorLaw

    def __init__(self, config: FactorConfig, days: int) -> None:
        super().__init__(days)
        self._config = config

    def fit(self, train: Windows, val: Windows) -> None:
        """Learn from the training days; `val` decides the number of factors where that is asked for."""
        rows, later = returns_of(train).block, returns_of(val)
        if self._config.missing > 0:
            gone = np.random.default_rng(0).random(rows.shape) < self._config.missing
            rows = np.where(gone, np.nan, rows)
        most = self._config.factors
        counts = range(1, min(most, rows.shape[1] - 1) + 1) if self._config.choose else [most]
        laws = [learn_factors(rows, count, self._config.noise) for count in counts]
        held_out = [float(law.posterior(later.block)[2].mean()) for law in laws]
        self._take(laws[int(np.argmax(held_out))])

    def _take(self, law: FactorLaw) -> None:
        self.factors = law
        self.law = NormalRegimes.single(law.mean, law.covariance)

    def loadings(self) -> Floats:
        """Give the loadings; see `Factors.loadings`. Any rotation of them is as likely."""
        return self.factors.loadings

    def idiosyncratic(self) -> Floats:
        """Give each asset's own variance; see `Factors.idiosyncratic`."""
        return self.factors.noise

    def state(self) -> State:
        """Give mean, loadings and noise; see `Model.state`."""
        return dict(vars(self.factors))

    def load_state(self, state: State) -> None:
        """Take them back; see `Model.load_state`."""
        self._take(FactorLaw(state["mean"], state["loadings"], state["noise"]))


@component(MODELS)
class FactorConfig(GenerativeConfig):
    """Factor analysis (own noise) or probabilistic PCA (equal noise).

    Parameters
    ----------
    factors
        How many, or the most that are tried where that is fewer than assets.
    noise
        Whether each asset has a noise variance of its own, or all have the same.
    choose
        Whether 1, 2, ... `factors` are tried and the likelihood of the validation days decides.
    missing
        Share of the training entries that are hidden from the fit, which then is by EM.
    """

    name: Literal["factor"] = "factor"
    factors: Annotated[int, Int(1, 100)] = 5
    noise: Annotated[Noise, Choice(("own", "equal"))] = "own"
    choose: Annotated[bool, Choice((False, True))] = False
    missing: Annotated[float, Float(0.0, 0.9)] = 0.0

    def build(self, inputs: Inputs) -> FactorModel:
        """Make the model."""
        if not self.choose:
            require_fewer(self.factors, inputs.features, self.name)
        return FactorModel(self, inputs.lookback)


class PpcaMixture(NormalModel):
    """Several probabilistic PCAs, one of which makes each day.

    Learnt by expectation and maximisation; each step solves for the loadings in closed form from the
    component's own covariance [1]_.

    Parameters
    ----------
    config
        How it is learnt.
    days
        Of a window that it draws.

    References
    ----------
    .. [1] Tipping & Bishop (1999), Mixtures of Probabilistic Principal Component Analysers, Neural
       Computation 11(2), section 3 and appendix C.
    """

    def __init__(self, config: PpcaMixtureConfig, days: int) -> None:
        super().__init__(days)
        self._config = config

    def fit(self, train: Windows, val: Windows) -> None:
        """Learn from the training days; `val` is not read."""
        rows = returns_of(train).block
        law, _ = em_mixture(rows, self._config.components, self._config.factors)
        self.law = law


def em_mixture(
    rows: Floats, components: int, factors: int, steps: int = 300, tolerance: float = 1e-5
) -> tuple[NormalRegimes, Floats]:
    """Learn a mixture of probabilistic PCAs from days without NaN, (N, A).

    Returns
    -------
    law
        The mixture, calm components first.
    likelihoods
        Before each step and after the last, in nats a day; it never falls.

    Raises
    ------
    UserError
        If a component is left with fewer than `LEAST_DAYS` days.
    """
    from sklearn.mixture import GaussianMixture  # slow to import

    start = GaussianMixture(components, covariance_type="diag", reg_covar=1e-3, random_state=0)
    chance = start.fit(rows).predict_proba(rows)
    likelihoods: list[float] = []
    while True:
        days = chance.sum(axis=0)
        if (days < LEAST_DAYS).any():
            raise UserError(
                f"model ppca_mixture: a component is left with {days.min():.1f} of {len(rows)} days, expected"
                f" {LEAST_DAYS} or more: lower model.components"
            )
        mean = (chance.T @ rows) / days[:, None]
        parts = []
        for k in range(components):
            apart = rows - mean[k]
            covariance = (chance[:, k, None] * apart).T @ apart / days[k]
            parts.append(principal_factors(mean[k], covariance, factors).covariance)
        order = np.argsort([np.trace(part) for part in parts], kind="stable")
        law = NormalRegimes.mixture((days / len(rows))[order], mean[order], np.stack(parts)[order])
        joint = np.log(law.start) + np.stack(
            [normal_days(rows, m, s)[0] for m, s in zip(law.mean, law.covariance, strict=True)], axis=1
        )
        density = np.logaddexp.reduce(joint, axis=1)
        likelihoods.append(float(density.mean()))
        if len(likelihoods) > steps or (
            len(likelihoods) > 1 and likelihoods[-1] - likelihoods[-2] < tolerance
        ):
            return law, np.array(likelihoods)
        chance = np.exp(joint - density[:, None])


@component(MODELS)
class PpcaMixtureConfig(GenerativeConfig):
    """A mixture of probabilistic PCAs.

    Parameters
    ----------
    components
        How many.
    factors
        Of each.
    """

    name: Literal["ppca_mixture"] = "ppca_mixture"
    components: Annotated[int, Int(1, 20)] = 3
    factors: Annotated[int, Int(1, 100)] = 5

    def build(self, inputs: Inputs) -> PpcaMixture:
        """Make the model."""
        require_fewer(self.factors, inputs.features, self.name)
        return PpcaMixture(self, inputs.lookback)
