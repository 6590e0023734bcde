"""What the surface baselines share: rows in, equally likely paths out.

Shape letters: N training rows, G = W * M cells, S samples, K outcomes, B forecasts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from farm.base.errors import UserError
from farm.base.model import Estimator, ModelConfig, PathGenerator
from farm.base.surfaces import Past, Paths, SurfaceInputs, SurfaceWindows
from farm.base.types import Floats, Forecast, Inputs, Ints, Windows
from farm.data.surface import MAX_VOLATILITY, MIN_VOLATILITY

LEVELS = (0.05, 0.5, 0.95)
# Shocks die out to a half within a year at the latest: a root nearer to one cannot be told from one in
# a few thousand days, and a path of a year would wander as a random walk does, or explode.
SLOWEST = 0.5 ** (1 / 252)
BATCH = 256  # samples, or forecasts, that are computed together


class SurfaceConfig(ModelConfig):
    """Config of a baseline of surfaces."""

    study: ClassVar[str] = "surface"
    quantile_levels: ClassVar[tuple[float, ...]] = LEVELS

    def surfaces(self, inputs: Inputs) -> SurfaceInputs:
        """Take the inputs for days of surfaces; anything else is a `UserError`."""
        if not isinstance(inputs, SurfaceInputs):
            raise UserError(
                f"model {self.name}: expected days of surfaces, got the features"
                f" {', '.join(inputs.features[:6])}: use the surface study"
            )
        return inputs


class SurfaceEstimator(Estimator, PathGenerator):
    """A baseline that learns from rows of surfaces and returns, and draws what follows.

    Parameters
    ----------
    inputs
        The grid, and which cell is the level.
    """

    def __init__(self, inputs: SurfaceInputs) -> None:
        self.grid = inputs.grid
        self.level = inputs.level[0] * self.grid[1] + inputs.level[1]

    @abstractmethod
    def learn(self, volatility: Floats, returns: Floats) -> None:
        """Learn from consecutive days.

        Parameters
        ----------
        volatility
            Implied volatility, (N, G) float64, positive.
        returns
            Log returns of the same days, (N,) float64.

        Raises
        ------
        UserError
            If there are too few days.
        """

    @abstractmethod
    def draw(self, past: Past, days: int, samples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw volatilities, (S, days, G), and returns, (S, days), of the days after `past`."""

    @abstractmethod
    def next_level(self, past: Past, rows: Ints) -> Floats:
        """Give equally likely levels of the day after each row, (B, K), from the rows up to it alone."""

    def fit(self, train: Windows, val: Windows) -> None:
        """Learn from the days of the training block.

        Parameters
        ----------
        train
            `SurfaceWindows`; no day before or after its block is read.
        val
            Not read.

        Raises
        ------
        UserError
            If there are too few days.
        """
        assert isinstance(train, SurfaceWindows)
        past = train.past
        self.learn(flat(past.surface[train.first :]), past.extra[train.first :, 0].astype(np.float64))

    def predict(self, windows: Windows) -> Forecast:
        """Forecast the level of the day after each context, in volatility.

        Parameters
        ----------
        windows
            `SurfaceWindows` whose positions are rows of its `past`, 1 or later.

        Returns
        -------
        Forecast
            Mean and 5, 50 and 95 % quantiles of the outcomes that `next_level` gives.

        Raises
        ------
        ValueError
            If a sample has no day before it.
        """
        assert isinstance(windows, SurfaceWindows)
        rows = windows.position - 1
        if (rows < 0).any():
            raise ValueError("a sample at position 0 has no day before it; expected positions from 1 on")
        point, quantiles = np.empty(len(rows)), np.empty((len(rows), len(LEVELS)))
        for first in range(0, len(rows), BATCH):
            some = slice(first, first + BATCH)
            outcomes = self.next_level(windows.past, rows[some])
            point[some] = outcomes.mean(axis=1)
            quantiles[some] = np.quantile(outcomes, LEVELS, axis=1).T
        return Forecast(point, quantiles, LEVELS)

    def generate(self, past: Past, days: int, samples: int, seed: int) -> Paths:
        """Draw paths after what is known; see `PathGenerator.generate`.

        A path that leaves what the reader takes for a volatility (`MIN_VOLATILITY` to `MAX_VOLATILITY`) is
        held at that bound, so a walk of many years stays finite.
        """
        rng = np.random.default_rng(seed)
        return self.collected(samples, days, lambda count: self.draw(past, days, count, rng))

    def collected(
        self, samples: int, days: int, draw: Callable[[int], tuple[Floats, Floats]], oracle: str = ""
    ) -> Paths:
        """Draw a few paths at a time, so that what is in between stays small."""
        volatility = np.empty((samples, days, *self.grid), dtype=np.float32)
        returns = np.empty((samples, days), dtype=np.float32)
        for first in range(0, samples, BATCH):
            some = slice(first, min(first + BATCH, samples))
            drawn, returns[some] = draw(some.stop - some.start)
            np.clip(drawn.reshape(-1, days, *self.grid), MIN_VOLATILITY, MAX_VOLATILITY, out=volatility[some])
        return Paths(volatility, returns, oracle=oracle)


def flat(surface: Floats) -> Floats:
    """Lay surfaces, (N, W, M), out as rows of cells, (N, G) in double precision."""
    return surface.reshape(len(surface), -1).astype(np.float64)


def stationary(transition: Floats) -> Floats:
    """Hold the slowest root of a first-order process to `SLOWEST`, by scaling all of it.

    Parameters
    ----------
    transition
        Weights of yesterday: (G,), each series on itself, or (K, K), all on all.

    Returns
    -------
    Floats
        Of the same shape; unchanged where its roots are small enough already.
    """
    if transition.ndim == 1:
        return np.clip(transition, -SLOWEST, SLOWEST)
    radius = np.abs(np.linalg.eigvals(transition)).max()
    return transition * min(1.0, SLOWEST / radius) if radius > 0 else transition
