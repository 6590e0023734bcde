"""Windows put together from the training days themselves: one by one, or in blocks."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from farm.base.generative import (
    Covariance,
    GenerativeConfig,
    Imputation,
    Imputer,
    WindowGenerator,
    returns_of,
)
from farm.base.model import MODELS, Estimator, State
from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.types import Floats, Inputs, Windows


class Bootstrap(Estimator, Imputer, Covariance, WindowGenerator):
    """Training days drawn with replacement; all assets of a day stay together.

    As a filler of hidden entries it knows nothing but each asset's training mean and spread.

    Parameters
    ----------
    block
        Mean length of the runs of days that are drawn together; 1 draws each day by itself (Efron 1979,
        Annals of Statistics 7(1)), more is the stationary bootstrap (Politis & Romano 1994, Journal of
        the American Statistical Association 89).
    days
        Of a window that it draws.
    """

    _rows: Floats

    def __init__(self, block: int, days: int) -> None:
        self._block = block
        self.days = days

    def fit(self, train: Windows, val: Windows) -> None:
        """Keep the training days; `val` is not read."""
        self._rows = returns_of(train).block.copy()

    def impute(self, rows: Floats, first: int) -> Imputation:
        """Put the training mean and standard deviation in every hidden entry."""
        block = rows[first:]
        hidden = np.isnan(block)
        return Imputation(
            np.where(hidden, self._rows.mean(axis=0), block), np.where(hidden, self._rows.std(axis=0), 0.0)
        )

    def covariance(self) -> Floats:
        """Give the sample covariance of the training days, which is that of a drawn day."""
        covariance: Floats = np.cov(self._rows, rowvar=False, bias=True)
        return covariance

    def draw(self, count: int, seed: int) -> Floats:
        """Draw windows; see `WindowGenerator.draw`."""
        draws = np.random.default_rng(seed)
        known = len(self._rows)
        # A run goes on with chance 1 - 1 / block, and wraps around at the end of the record.
        fresh = draws.random((count, self.days)) < 1 / self._block
        places = draws.integers(known, size=(count, self.days))
        for day in range(1, self.days):
            places[:, day] = np.where(fresh[:, day], places[:, day], (places[:, day - 1] + 1) % known)
        return self._rows[places]

    def state(self) -> State:
        """Give the training days; see `Model.state`."""
        return {"rows": self._rows}

    def load_state(self, state: State) -> None:
        """Take them back; see `Model.load_state`."""
        self._rows = state["rows"]


@component(MODELS)
class BootstrapConfig(GenerativeConfig):
    """Historical (`block` 1) or block bootstrap, with the mean length of a block in days."""

    name: Literal["bootstrap"] = "bootstrap"
    block: Annotated[int, Int(1, 250, log=True)] = 1

    def build(self, inputs: Inputs) -> Bootstrap:
        """Make the model."""
        return Bootstrap(self.block, inputs.lookback)
