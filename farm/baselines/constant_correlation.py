"""GARCH(1,1) of each asset, tied together by correlations that do not change."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from farm.base.generative import (
    Covariance,
    Density,
    GenerativeConfig,
    Imputation,
    Imputer,
    WindowGenerator,
    returns_of,
)
from farm.base.model import MODELS, Estimator, State
from farm.base.normal import normal_days
from farm.base.registry import component
from farm.base.types import Floats, Inputs, Windows


class ConstantCorrelation(Estimator, Imputer, Density, Covariance, WindowGenerator):
    """Normal days whose variances follow GARCH(1,1) and whose correlations are constant [1]_.

    Each asset's GARCH is fitted by maximum likelihood (arch); the correlations are those of its
    standardised shocks. The covariance it gives for the long run is that of the training days: their mean
    variances, as a sum of alpha and beta near one has no better.

    Parameters
    ----------
    days
        Of a window that it draws.

    References
    ----------
    .. [1] Bollerslev (1990), Modelling the Coherence in Short-Run Nominal Exchange Rates: A
       Multivariate Generalized ARCH Model, Review of Economics and Statistics 72(3).
    """

    _params: Floats  # mu, omega, alpha, beta of each asset, (4, A)
    _start: Floats  # variance of the first day, (A,)
    _correlation: Floats
    _variances: Floats  # of the training days, (N, A)

    def __init__(self, days: int) -> None:
        self.days = days

    def fit(self, train: Windows, val: Windows) -> None:
        """Fit on the training days; `val` is not read.

        Raises
        ------
        RuntimeError
            If the likelihood of an asset has no maximum that the optimiser finds.
        """
        from arch import arch_model  # slow to import

        block = returns_of(train)
        params = []
        for name, column in zip(block.features, block.block.T, strict=True):
            model = arch_model(column, mean="Constant", vol="GARCH", p=1, q=1, dist="normal", rescale=False)
            with warnings.catch_warnings():  # arch changes the filters of the whole process
                warnings.simplefilter("ignore")
                result = model.fit(disp="off", show_warning=False, backcast=float(column.var()))
            found = np.asarray(result.params, dtype=np.float64)
            if result.convergence_flag != 0 or not np.isfinite(found).all():
                raise RuntimeError(f"GARCH of {name} did not converge on {len(column)} training days")
            params.append(found)
        self._params = np.array(params).T
        self._start = block.block.var(axis=0)
        self._correlation = np.eye(len(params))
        mean, self._variances, _ = self._filter(block.block)
        shocks = (block.block - mean) / np.sqrt(self._variances)
        self._correlation = np.asarray(np.corrcoef(shocks, rowvar=False))

    def _filter(self, rows: Floats) -> tuple[Floats, Floats, Floats]:
        """Run the variances over days from the beginning of the record, (N, A), NaN where hidden.

        A hidden shock enters with its expected square given the visible entries of its day.

        Returns
        -------
        mean, variances
            Of each day given the days before it, (A,) and (N, A).
        squares
            Of the shocks, or what is expected of them, (N, A).
        """
        mean, omega, alpha, beta = self._params
        variances, squares = np.empty_like(rows), (rows - mean) ** 2
        variance = self._start
        broken = [bool(np.isnan(row).any()) for row in rows]
        for day in range(len(rows)):
            variances[day] = variance
            if broken[day]:
                sd = np.sqrt(variance)
                _, filled, spread = normal_days(
                    rows[day : day + 1], mean, self._correlation * np.outer(sd, sd)
                )
                squares[day] = ((filled - mean) ** 2 + spread)[0]
            variance = omega + alpha * squares[day] + beta * variance
        return mean, variances, squares

    def _days(self, rows: Floats, first: int) -> tuple[Floats, Floats, Floats]:
        mean, variances, _ = self._filter(rows)
        sd = np.sqrt(variances[first:])
        return normal_days(
            rows[first:],
            np.broadcast_to(mean, sd.shape),
            self._correlation * sd[:, :, None] * sd[:, None, :],
        )

    def impute(self, rows: Floats, first: int) -> Imputation:
        """Fill the hidden entries with their conditional normal; see `Imputer.impute`."""
        _, filled, variance = self._days(rows, first)
        return Imputation(filled, np.sqrt(variance))

    def log_likelihood(self, rows: Floats, first: int) -> Floats:
        """Give the density of each day; see `Density.log_likelihood`."""
        return self._days(rows, first)[0]

    def covariance(self) -> Floats:
        """Give the correlations with the mean variances of the training days."""
        sd = np.sqrt(self._variances.mean(axis=0))
        return self._correlation * np.outer(sd, sd)

    def draw(self, count: int, seed: int) -> Floats:
        """Draw windows that begin with the variances of some training day."""
        draws = np.random.default_rng(seed)
        mean, omega, alpha, beta = self._params
        root = np.linalg.cholesky(self._correlation)
        variance = self._variances[draws.integers(len(self._variances), size=count)]
        out = np.empty((count, self.days, len(mean)))
        for day in range(self.days):
            shock = np.sqrt(variance) * (draws.standard_normal(variance.shape) @ root.T)
            out[:, day] = mean + shock
            variance = omega + alpha * shock**2 + beta * variance
        return out

    def state(self) -> State:
        """Give parameters, start, correlations and training variances; see `Model.state`."""
        return {
            "params": self._params,
            "start": self._start,
            "correlation": self._correlation,
            "variances": self._variances,
        }

    def load_state(self, state: State) -> None:
        """Take them back; see `Model.load_state`."""
        self._params, self._start = state["params"], state["start"]
        self._correlation, self._variances = state["correlation"], state["variances"]


@component(MODELS)
class ConstantCorrelationConfig(GenerativeConfig):
    """GARCH(1,1) with constant correlation."""

    name: Literal["garch_ccc"] = "garch_ccc"

    def build(self, inputs: Inputs) -> ConstantCorrelation:
        """Make the model."""
        return ConstantCorrelation(inputs.lookback)
