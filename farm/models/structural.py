"""Structural time series behind the factors: level, week and short memory, by the Kalman filter."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, Literal

import numpy as np

from farm.base.errors import UserError
from farm.base.generative import (
    Covariance,
    Density,
    Factors,
    GenerativeConfig,
    Imputation,
    Imputer,
    WindowGenerator,
    returns_of,
)
from farm.base.model import MODELS, Estimator, State
from farm.base.registry import component
from farm.base.search_space import Choice, Int
from farm.base.types import Floats, Inputs, Windows
from farm.models.linear_gaussian import FactorLaw, learn_factors, require_fewer

SYSTEM = ("design", "transition", "noise")
# Variance of each part before the first day, in units of a factor's: a level that wanders has none of its
# own in the long run.
VAGUE = 1.0


class Structural(Estimator, Imputer, Density, Covariance, WindowGenerator, Factors):
    """Factors of the assets, each a sum of a wandering level, a weekly season and an autoregression.

    The classical counterpart of a decoder with trend and season. In two steps (Doz, Giannone & Reichlin
    2011, Journal of Econometrics 164(1)): factor analysis, then an unobserved-components model of each
    factor's posterior mean, scaled to variance one (Harvey 1989, Forecasting, Structural Time Series
    Models and the Kalman Filter; statsmodels). Days are then told by the Kalman filter of the whole, which
    passes over hidden entries. The season counts trading days, so a holiday shifts it.

    Parameters
    ----------
    config
        How it is learnt.
    days
        Of a window that it draws.
    """

    _law: FactorLaw
    _system: dict[str, Floats]  # design (K, D), transition and noise (D, D)
    _states: Floats  # filtered, of the training days, (N, D)

    def __init__(self, config: StructuralConfig, days: int) -> None:
        self._config = config
        self.days = days

    def fit(self, train: Windows, val: Windows) -> None:
        """Learn from the training days; `val` is not read."""
        from scipy.linalg import block_diag  # slow to import
        from statsmodels.tsa.statespace.structural import UnobservedComponents

        rows = returns_of(train).block
        law = learn_factors(rows, self._config.factors, "own")
        scores = law.posterior(rows)[0]
        parts = []
        for series in ((scores - scores.mean(axis=0)) / scores.std(axis=0)).T:
            model = UnobservedComponents(
                series,
                level=self._config.level,
                stochastic_level=self._config.level,
                irregular=False,
                seasonal=self._config.season or None,
                autoregressive=self._config.autoregressive,
            )
            with warnings.catch_warnings():  # a variance at its lower end, 0, is a sound answer here
                warnings.simplefilter("ignore")
                found = model.fit(disp=False, method="lbfgs", maxiter=200)
            system = model.ssm
            model.update(found.params)
            selection = system["selection"]
            noise = selection @ system["state_cov"] @ selection.T
            parts.append((system["design"], system["transition"], noise))
        self._law = law
        self._system = {
            name: block_diag(*column) for name, column in zip(SYSTEM, zip(*parts, strict=True), strict=True)
        }
        self._states = self._filter(rows).filtered_state.T.copy()

    def _filter(self, rows: Floats) -> Any:
        """Run the Kalman filter over days from the beginning of the record."""
        from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

        design, transition, noise = (self._system[name] for name in SYSTEM)
        states = len(transition)
        kalman = KalmanFilter(rows.shape[1], states, k_posdef=states)
        kalman.bind(np.ascontiguousarray(rows))
        kalman["obs_intercept"] = self._law.mean[:, None]
        kalman["design"] = self._law.loadings @ design
        kalman["obs_cov"] = np.diag(self._law.noise)
        kalman["transition"], kalman["selection"], kalman["state_cov"] = transition, np.eye(states), noise
        kalman.initialize_known(np.zeros(states), VAGUE * np.eye(states))
        return kalman.filter()

    def impute(self, rows: Floats, first: int) -> Imputation:
        """Fill the hidden entries from the filtered state; see `Imputer.impute`."""
        found = self._filter(rows)
        loadings = self._law.loadings @ self._system["design"]
        mean = found.filtered_state.T[first:] @ loadings.T + self._law.mean
        spread = np.einsum("ad,den,ae->na", loadings, found.filtered_state_cov[:, :, first:], loadings)
        hidden = np.isnan(rows[first:])
        # Given the state, each asset's own noise tells nothing of another's.
        sd = np.sqrt(np.maximum(spread, 0.0) + self._law.noise)
        return Imputation(np.where(hidden, mean, rows[first:]), np.where(hidden, sd, 0.0))

    def log_likelihood(self, rows: Floats, first: int) -> Floats:
        """Give the density of each day; see `Density.log_likelihood`."""
        density: Floats = self._filter(rows).llf_obs[first:]
        return density

    def covariance(self) -> Floats:
        """Give that of the factor analysis: the level has no variance in the long run."""
        return self._law.covariance

    def draw(self, count: int, seed: int) -> Floats:
        """Draw windows that begin with the state of some training day."""
        draws = np.random.default_rng(seed)
        design, transition, noise = (self._system[name] for name in SYSTEM)
        values, vectors = np.linalg.eigh(noise)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        state = self._states[draws.integers(len(self._states), size=count)]
        out = np.empty((count, self.days, len(self._law.mean)))
        for day in range(self.days):
            state = state @ transition.T + draws.standard_normal(state.shape) @ root.T
            own = draws.standard_normal(out.shape[::2]) * np.sqrt(self._law.noise)
            out[:, day] = self._law.mean + state @ design.T @ self._law.loadings.T + own
        return out

    def loadings(self) -> Floats:
        """Give the loadings; see `Factors.loadings`."""
        return self._law.loadings

    def idiosyncratic(self) -> Floats:
        """Give each asset's own variance; see `Factors.idiosyncratic`."""
        return self._law.noise

    def state(self) -> State:
        """Give the factors, the system and the states of the training days; see `Model.state`."""
        law = {f"law.{name}": value for name, value in vars(self._law).items()}
        return (
            law | {f"system.{name}": value for name, value in self._system.items()} | {"states": self._states}
        )

    def load_state(self, state: State) -> None:
        """Take them back; see `Model.load_state`."""
        self._law = FactorLaw(state["law.mean"], state["law.loadings"], state["law.noise"])
        self._system = {name: state[f"system.{name}"] for name in SYSTEM}
        self._states = state["states"]


@component(MODELS)
class StructuralConfig(GenerativeConfig):
    """Factors with a level, a season and an autoregression of their own.

    Parameters
    ----------
    factors
        How many.
    level
        Whether each has a level that wanders.
    season
        Days of its season; 0 for none.
    autoregressive
        Order of its autoregression.
    """

    name: Literal["structural"] = "structural"
    factors: Annotated[int, Int(1, 20)] = 5
    level: Annotated[bool, Choice((False, True))] = True
    season: Annotated[int, Int(0, 30)] = 5
    autoregressive: Annotated[int, Int(1, 5)] = 1

    def build(self, inputs: Inputs) -> Structural:
        """Make the model."""
        require_fewer(self.factors, inputs.features, self.name)
        if self.season == 1:
            raise UserError("model structural: got a season of 1 day, expected 0 for none, or 2 or more")
        return Structural(self, inputs.lookback)
