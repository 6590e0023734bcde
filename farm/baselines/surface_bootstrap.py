"""Random walk and moving-block bootstrap of surfaces: what happened to all cells happens again."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from farm.base.errors import UserError
from farm.base.model import MODELS, State
from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.surfaces import Past, SurfaceInputs
from farm.base.types import Floats, Inputs, Ints
from farm.baselines.surface_paths import SurfaceConfig, SurfaceEstimator, flat


class SurfaceBootstrap(SurfaceEstimator):
    """The last surface, moved by blocks of past days drawn at random [1]_.

    A day drawn brings the log changes of all cells and the return of the underlying together, so cells
    keep their correlations, their fat tails and the leverage effect; a normal law would need the
    covariance of all cells and lose the tails. Within a block the order of days is kept as well. With
    blocks of one day it is the random walk.

    Changes are scaled, cell by cell and for each day of a block, so that the expected volatility of
    every future day is the last one known: the trend of the training days is not carried forward.

    Parameters
    ----------
    inputs
        The grid.
    block
        Days of a block, L.

    References
    ----------
    .. [1] Künsch (1989), The Jackknife and the Bootstrap for General Stationary Observations, Annals
       of Statistics 17(3).
    """

    _changes: Floats  # log changes of the training days, (N - 1, G)
    _growth: Floats  # log of the mean growth over day j of a block, (L, G)
    _returns: Floats  # (N - 1,)

    def __init__(self, inputs: SurfaceInputs, block: int) -> None:
        super().__init__(inputs)
        self.block = block

    def learn(self, volatility: Floats, returns: Floats) -> None:
        """Keep the changes; see `SurfaceEstimator.learn`."""
        if len(volatility) < 2 * self.block + 1:
            raise UserError(
                f"surface bootstrap: got {len(volatility)} training days, expected at least"
                f" {2 * self.block + 1} for blocks of {self.block}: give more days or a shorter block"
            )
        changes = np.diff(np.log(volatility), axis=0)
        starts = len(changes) - self.block + 1
        grown, growth = np.zeros((starts, changes.shape[1])), []
        for day in range(self.block):
            grown += changes[day : day + starts]
            growth.append(np.log(np.exp(grown).mean(axis=0)))
        self._growth = np.diff(growth, axis=0, prepend=np.zeros((1, changes.shape[1]))).astype(np.float32)
        self._changes = changes.astype(np.float32)
        self._returns = returns[1:]

    def draw(self, past: Past, days: int, samples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw blocks and add them up; see `SurfaceEstimator.draw`."""
        blocks = -(-days // self.block)
        starts = rng.integers(0, len(self._changes) - self.block + 1, (samples, blocks, 1))
        rows = (starts + np.arange(self.block)).reshape(samples, -1)[:, :days]
        path = self._changes[rows]
        path -= self._growth[np.arange(days) % self.block]
        path[:, 0] += np.log(flat(past.surface[-1:]))
        np.cumsum(path, axis=1, out=path)
        return np.exp(path, out=path), self._returns[rows]

    def next_level(self, past: Past, rows: Ints) -> Floats:
        """Move the last level by every change that a block can begin with."""
        starts = len(self._changes) - self.block + 1
        moves = np.exp(self._changes[:starts, self.level].astype(np.float64) - self._growth[0, self.level])
        last: Floats = past.surface[rows].reshape(len(rows), -1)[:, self.level].astype(np.float64)
        levels: Floats = last[:, None] * moves
        return levels

    def state(self) -> State:
        """Give log changes, (N - 1, G), growth, (L, G), and returns, (N - 1,)."""
        return {"changes": self._changes, "growth": self._growth, "returns": self._returns}

    def load_state(self, state: State) -> None:
        """Take them back."""
        self._changes, self._growth, self._returns = state["changes"], state["growth"], state["returns"]


@component(MODELS)
class SurfaceRandomWalkConfig(SurfaceConfig):
    """The last surface; days of the past drawn one by one give its spread."""

    name: Literal["surface_random_walk"] = "surface_random_walk"

    def build(self, inputs: Inputs) -> SurfaceBootstrap:
        """Make the model."""
        return SurfaceBootstrap(self.surfaces(inputs), block=1)


@component(MODELS)
class SurfaceBlockBootstrapConfig(SurfaceConfig):
    """The last surface, moved by blocks of consecutive days of the past.

    Parameters
    ----------
    block
        Days of a block.
    """

    name: Literal["surface_block_bootstrap"] = "surface_block_bootstrap"
    block: Annotated[int, Int(1, 252)] = 21

    def build(self, inputs: Inputs) -> SurfaceBootstrap:
        """Make the model."""
        return SurfaceBootstrap(self.surfaces(inputs), self.block)
