"""Historical simulation: tomorrow is a day drawn from the last ones."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np

from farm.base.errors import UserError
from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.types import RISK_LEVELS, Forecast, Inputs, Windows


class HistoricalSimulation(Estimator):
    """The empirical quantiles of the returns of the last days, which move on with each sample.

    The oldest and still the commonest Value-at-Risk of banks (Perignon & Smith 2010, Journal of
    Banking & Finance 34(2)). It learns nothing else.

    Parameters
    ----------
    days
        Returns in the window; at the beginning of a series as many as there are, at least 20.
    levels
        Quantile levels to forecast.
    """

    LEAST = 20

    reads_windows = False

    def __init__(self, days: int, levels: tuple[float, ...]) -> None:
        self._days = days
        self._levels = levels

    def fit(self, train: Windows, val: Windows) -> None:
        """Do nothing: the window is known."""

    def predict(self, windows: Windows) -> Forecast:
        """Take mean and quantiles of the last returns before each sample.

        Parameters
        ----------
        windows
            B samples, with a finite series before the last of them.

        Returns
        -------
        Forecast
            Means, (B,), and quantiles, (B, Q), of ``series[position - days : position]``, linear between
            order statistics; both float64.

        Raises
        ------
        UserError
            If a sample has fewer than 20 returns before it.
        """
        first = int(windows.position.min())
        if first < self.LEAST:
            raise UserError(
                f"model historical_simulation: a sample has {first} returns before it, expected at least"
                f" {self.LEAST}: lengthen study.lookback or the panel"
            )
        series = windows.series.astype(np.float64)
        known = [series[max(p - self._days, 0) : p] for p in windows.position]
        quantiles = np.stack([np.quantile(past, self._levels) for past in known])
        return Forecast(np.array([past.mean() for past in known]), quantiles, self._levels)

    def state(self) -> State:
        """Give no arrays: nothing was learnt."""
        return {}

    def load_state(self, state: State) -> None:
        """Take nothing back."""


@component(MODELS)
class HistoricalSimulationConfig(ModelConfig):
    """Quantiles of the last year's returns.

    Parameters
    ----------
    days
        Returns in the window; 250 is the least that the Basel rules allow.
    """

    name: Literal["historical_simulation"] = "historical_simulation"
    quantile_levels: ClassVar[tuple[float, ...]] = RISK_LEVELS
    days: Annotated[int, Int(20, 10_000)] = 250

    def build(self, inputs: Inputs) -> HistoricalSimulation:
        """Make the model; it reads no features."""
        return HistoricalSimulation(self.days, self.quantile_levels)
