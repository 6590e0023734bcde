"""Forecasts that learn nothing: the floor under every other model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.types import Floats, Forecast, Inputs, Windows


class Naive(Estimator):
    """A fixed rule over the known returns; nothing is fitted and nothing is stored.

    Parameters
    ----------
    rule
        Gives the point forecasts, (B,) float64, of B samples.
    """

    reads_windows = False

    def __init__(self, rule: Callable[[Windows], Floats]) -> None:
        self._rule = rule

    def fit(self, train: Windows, val: Windows) -> None:
        """Do nothing: the rule has no parameters."""

    def predict(self, windows: Windows) -> Forecast:
        """Apply the rule.

        Parameters
        ----------
        windows
            B samples. A NaN in the known part of the series that the rule reads is an error.

        Returns
        -------
        Forecast
            Point forecasts, (B,) float64, in the unit of the target.

        Raises
        ------
        ValueError
            If a sample has no return before it, or a forecast is not finite.
        """
        # Position 0 would read series[-1], which is the future.
        if (windows.position < 1).any():
            raise ValueError("a sample at position 0 has no return before it; expected positions from 1 on")
        return Forecast(point=self._rule(windows))

    def state(self) -> State:
        """Give no arrays: nothing was learnt."""
        return {}

    def load_state(self, state: State) -> None:
        """Take nothing back."""


def zero(windows: Windows) -> Floats:
    """Forecast no change: prices as a martingale.

    Parameters
    ----------
    windows
        B samples.

    Returns
    -------
    Floats
        Zeros, (B,) float64.
    """
    return np.zeros(len(windows), dtype=np.float64)


def historical_mean(windows: Windows) -> Floats:
    """Forecast the prevailing mean: the mean of all returns known before each sample.

    Parameters
    ----------
    windows
        B samples, each at position 1 or later.

    Returns
    -------
    Floats
        ``mean(series[: position[b]])`` for each sample, (B,) float64.

    References
    ----------
    Goyal and Welch (2008), A Comprehensive Look at The Empirical Performance of Equity Premium
    Prediction, Review of Financial Studies 21(4).
    """
    known = windows.position
    totals = np.cumsum(windows.series[: known.max()], dtype=np.float64)
    means: Floats = totals[known - 1] / known
    return means


def persistence(windows: Windows) -> Floats:
    """Forecast the last known return once more.

    Parameters
    ----------
    windows
        B samples, each at position 1 or later.

    Returns
    -------
    Floats
        ``series[position[b] - 1]`` for each sample, (B,) float64.
    """
    return windows.series[windows.position - 1].astype(np.float64)


@component(MODELS)
class ZeroConfig(ModelConfig):
    """Always zero."""

    name: Literal["zero"] = "zero"

    def build(self, inputs: Inputs) -> Naive:
        """Make the model; it reads no features."""
        return Naive(zero)


@component(MODELS)
class HistoricalMeanConfig(ModelConfig):
    """The prevailing mean of the returns."""

    name: Literal["historical_mean"] = "historical_mean"

    def build(self, inputs: Inputs) -> Naive:
        """Make the model; it reads no features."""
        return Naive(historical_mean)


@component(MODELS)
class PersistenceConfig(ModelConfig):
    """The last known return."""

    name: Literal["persistence"] = "persistence"

    def build(self, inputs: Inputs) -> Naive:
        """Make the model; it reads no features."""
        return Naive(persistence)
