"""Linear regression on the returns of the last day seen, and the risk around it."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.types import Floats, Forecast, Inputs, Ints, Windows
from farm.baselines.garch import ArGarchFilter, Distribution
from farm.baselines.tabular import design, return_columns, target


class PeerRegression(Estimator):
    """Ordinary least squares of the target on the last day's returns, with the errors it made.

    On back-filling windows these are the peers' returns of the very day that is asked for (a market
    model with more than one market, Sharpe 1963, Management Science 9(2)). On forecasting windows,
    where nothing is hidden, it is the own last return: an AR(1).

    Quantiles are the point forecast plus the empirical quantiles of the training residuals. With a
    volatility they are quantiles of the residuals divided by the volatility of their day, and are
    multiplied by the volatility of the day that is forecast. The volatility is that of the target's
    own returns, whose whole past each sample knows, and of the past alone.

    Parameters
    ----------
    inputs
        What the windows hold.
    columns
        The returns among the features, (P,).
    levels
        The Q quantile levels.
    volatility
        Gives each day's expected spread; None for the same spread every day.
    """

    _beta: Floats
    _intercept: float
    _error_quantiles: Floats

    def __init__(
        self,
        inputs: Inputs,
        columns: Ints,
        levels: tuple[float, ...],
        volatility: ArGarchFilter | None = None,
    ) -> None:
        self._columns = columns
        self._mean, self._scale = inputs.mean[columns], inputs.scale[columns]
        self._levels = levels
        self._volatility = volatility

    def _point(self, windows: Windows) -> Floats:
        returns = design(windows, 1)[:, self._columns] * self._scale + self._mean
        # The order of BLAS's sums changes with the number of rows; a sum of its own does not.
        point: Floats = (returns * self._beta).sum(axis=1) + self._intercept
        return point

    def _spread(self, windows: Windows) -> Floats:
        return np.ones(len(windows)) if self._volatility is None else self._volatility.one_step(windows)[1]

    def fit(self, train: Windows, val: Windows) -> None:
        """Fit the line, then the volatility, then the quantiles of the scaled residuals.

        Parameters
        ----------
        train
            Samples with finite features and targets.
        val
            Not read.

        Raises
        ------
        ValueError
            If a feature or a target is NaN or infinite.
        RuntimeError
            If the volatility cannot be fitted; see `ArGarchFilter.fit`.
        """
        from sklearn.linear_model import LinearRegression  # slow to import

        # A return that is hidden is 0 in every row: the solution of least norm gives it no weight.
        line = LinearRegression().fit(design(train, 1)[:, self._columns], target(train))
        self._beta = line.coef_ / self._scale
        self._intercept = float(line.intercept_ - self._beta @ self._mean)
        if self._volatility is not None:
            self._volatility.fit(train)
        residuals = (target(train) - self._point(train)) / self._spread(train)
        self._error_quantiles = np.quantile(residuals, self._levels)

    def predict(self, windows: Windows) -> Forecast:
        """Read the line, and the quantiles around it.

        Parameters
        ----------
        windows
            B samples; with a volatility each at position 1 or later.

        Returns
        -------
        Forecast
            Conditional means, (B,), and quantiles, (B, Q), both float64, in the unit of the target.
        """
        point = self._point(windows)
        quantiles = point[:, None] + self._spread(windows)[:, None] * self._error_quantiles
        return Forecast(point=point, quantiles=quantiles, levels=self._levels)

    def state(self) -> State:
        """Give beta, (P,), on unscaled returns, intercept, (1,), error quantiles, (Q,), and volatility."""
        learnt = {
            "beta": self._beta,
            "intercept": np.array([self._intercept]),
            "error_quantiles": self._error_quantiles,
        }
        return learnt if self._volatility is None else learnt | self._volatility.state()

    def load_state(self, state: State) -> None:
        """Take back what `state` gave."""
        self._beta = state["beta"]
        self._intercept = float(state["intercept"][0])
        self._error_quantiles = state["error_quantiles"]
        if self._volatility is not None:
            self._volatility.load_state(state)


@component(MODELS)
class PeerRegressionConfig(ModelConfig):
    """Least squares on the peers' returns, with the quantiles of its training residuals."""

    name: Literal["peer_regression"] = "peer_regression"
    quantile_levels: ClassVar[tuple[float, ...]] = (0.05, 0.5, 0.95)

    def build(self, inputs: Inputs) -> PeerRegression:
        """Make the model; features without a return are a `UserError`."""
        return PeerRegression(inputs, return_columns(self.name, inputs.features), self.quantile_levels)


@component(MODELS)
class GarchRegressionConfig(ModelConfig):
    """Least squares on the peers' returns, its residuals scaled by a GARCH(1,1) volatility.

    Parameters
    ----------
    dist
        Distribution of the errors under which the volatility is fitted; the quantiles are empirical.
    """

    name: Literal["garch_regression"] = "garch_regression"
    quantile_levels: ClassVar[tuple[float, ...]] = (0.05, 0.5, 0.95)
    dist: Distribution = "t"

    def build(self, inputs: Inputs) -> PeerRegression:
        """Make the model; features without a return are a `UserError`."""
        columns = return_columns(self.name, inputs.features)
        return PeerRegression(inputs, columns, self.quantile_levels, ArGarchFilter(self.dist))
