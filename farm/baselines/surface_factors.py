"""A vector autoregression on the principal components of log volatilities."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from farm.base.errors import UserError
from farm.base.model import MODELS, State
from farm.base.registry import component
from farm.base.search_space import Choice, Int
from farm.base.surfaces import Past, SurfaceInputs
from farm.base.types import Floats, Inputs, Ints
from farm.baselines.surface_paths import SurfaceConfig, SurfaceEstimator, flat, stationary

Dynamics = Literal["ar", "var"]
MIN_DAYS = 60


class FactorAutoregression(SurfaceEstimator):
    """First-order dynamics of a few factors of the surface (Cont and da Fonseca [1]_).

    The factors are the first principal components of the log volatilities. They follow an AR(1) each,
    or a VAR(1), around the mean of the training days, by least squares; the slowest root is held below
    one (`stationary`), so that every path stays around that mean. A future day draws a training day
    and takes three things from it together: the residual of the factors, what the components leave out
    of the surface, and the return. What they leave out at the last known day is forgotten at once.

    Parameters
    ----------
    inputs
        The grid.
    factors
        Number of components, K.
    dynamics
        ``ar`` or ``var``.

    References
    ----------
    .. [1] Cont and da Fonseca (2002), Dynamics of Implied Volatility Surfaces, Quantitative Finance 2(1).
    """

    _mean: Floats  # of log volatilities, (G,)
    _loadings: Floats  # orthonormal rows, (K, G)
    _transition: Floats  # factors tomorrow = factors today @ transition + residual, (K, K)
    _residuals: Floats  # of the factors, (N - 1, K), mean 0
    _left_out: Floats  # of the surface, (N - 1, G)
    _returns: Floats  # (N - 1,)

    def __init__(self, inputs: SurfaceInputs, factors: int, dynamics: Dynamics) -> None:
        super().__init__(inputs)
        self.factors, self.dynamics = factors, dynamics

    def learn(self, volatility: Floats, returns: Floats) -> None:
        """Fit components, then their dynamics; see `SurfaceEstimator.learn`."""
        if len(volatility) < MIN_DAYS:
            raise UserError(
                f"model surface_pca_var: got {len(volatility)} training days, expected at least {MIN_DAYS}:"
                " give more days"
            )
        logs = np.log(volatility)
        self._mean = logs.mean(axis=0)
        centred = logs - self._mean
        self._loadings = np.linalg.svd(centred, full_matrices=False)[2][: self.factors]
        scores = centred @ self._loadings.T
        before, after = scores[:-1], scores[1:]
        if self.dynamics == "var":
            self._transition = stationary(np.linalg.lstsq(before, after, rcond=None)[0])
        else:
            power = (before**2).sum(axis=0)
            own = np.divide((before * after).sum(axis=0), power, out=np.zeros_like(power), where=power > 0)
            self._transition = np.diag(stationary(own))
        residuals = after - before @ self._transition
        self._residuals = residuals - residuals.mean(axis=0)
        self._left_out = (centred - scores @ self._loadings)[1:]
        self._returns = returns[1:]

    def draw(self, past: Past, days: int, samples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Roll the factors and add what they leave out; see `SurfaceEstimator.draw`."""
        rows = rng.integers(0, len(self._residuals), (samples, days))
        path = self._residuals[rows]
        path[:, 0] += self._scores(past.surface[-1:]) @ self._transition
        for day in range(1, days):
            path[:, day] += path[:, day - 1] @ self._transition
        logs = (path @ self._loadings + self._mean).astype(np.float32)
        logs += self._left_out.astype(np.float32)[rows]
        return np.exp(logs, out=logs), self._returns[rows]

    def next_level(self, past: Past, rows: Ints) -> Floats:
        """Add what each training day brought to the expected factors of the next day."""
        expected = self._scores(past.surface[rows]) @ self._transition @ self._loadings[:, self.level]
        brought = self._residuals @ self._loadings[:, self.level] + self._left_out[:, self.level]
        levels: Floats = np.exp(self._mean[self.level] + expected[:, None] + brought)
        return levels

    def _scores(self, surface: Floats) -> Floats:
        scores: Floats = (np.log(flat(surface)) - self._mean) @ self._loadings.T
        return scores

    def state(self) -> State:
        """Give means and loadings of the log volatilities, the transition, and what days bring."""
        return {
            "mean": self._mean,
            "loadings": self._loadings,
            "transition": self._transition,
            "residuals": self._residuals,
            "left_out": self._left_out,
            "returns": self._returns,
        }

    def load_state(self, state: State) -> None:
        """Take them back."""
        self._mean, self._loadings = state["mean"], state["loadings"]
        self._transition, self._residuals = state["transition"], state["residuals"]
        self._left_out, self._returns = state["left_out"], state["returns"]


@component(MODELS)
class SurfacePcaVarConfig(SurfaceConfig):
    """First-order dynamics of principal components.

    Parameters
    ----------
    factors
        Principal components of the log volatilities; at most as many as there are cells.
    dynamics
        ``var``: each component depends on all of yesterday's; ``ar``: on its own alone.
    """

    name: Literal["surface_pca_var"] = "surface_pca_var"
    factors: Annotated[int, Int(1, 100)] = 3
    dynamics: Annotated[Dynamics, Choice(("ar", "var"))] = "var"

    def build(self, inputs: Inputs) -> FactorAutoregression:
        """Make the model; more components than cells is a `UserError`."""
        surfaces = self.surfaces(inputs)
        cells = surfaces.grid[0] * surfaces.grid[1]
        if self.factors > cells:
            raise UserError(
                f"model {self.name}: got factors={self.factors} for {cells} cells, expected at most {cells}:"
                " ask for fewer"
            )
        return FactorAutoregression(surfaces, self.factors, self.dynamics)
