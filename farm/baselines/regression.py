"""Regressions on the features of the last days of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.search_space import Float, Int
from farm.base.types import RISK_LEVELS, Floats, Forecast, Inputs, Windows
from farm.baselines.tabular import check_lags, design, freeze, target, thaw

if TYPE_CHECKING:  # imported where a model is fitted: it takes a second
    from sklearn.ensemble import HistGradientBoostingRegressor

# The features are scaled, so the largest eigenvalue of their Gram matrix is about samples x lags
# (some 1e4 for five years of days). The grid reaches well above it, where the forecast is
# all but the mean, as the best forecast of a return often is.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(-2, 6, 17))


class LinearForecaster(Estimator):
    """A linear function of the last days' features, by least squares.

    Without penalties it is ordinary least squares (the solution of least norm where features are
    collinear). With penalties it is ridge regression [1]_, one fit for each; the one with the least
    squared error on the validation block is kept. Nothing is fitted on the validation block, as for
    every other model.

    Parameters
    ----------
    lags
        Days of the window to read.
    alphas
        L2 penalties to choose from; the intercept is not penalised. Empty for least squares.
    levels
        Levels of the quantiles of the training residuals that are laid around the point, the same on
        all days; empty for points alone.

    References
    ----------
    .. [1] Hoerl and Kennard (1970), Ridge Regression, Technometrics 12(1).
    """

    _coef: Floats
    _intercept: float
    _residual_quantiles: Floats

    def __init__(self, lags: int, alphas: tuple[float, ...] = (), levels: tuple[float, ...] = ()) -> None:
        self._lags = lags
        self._alphas = alphas
        self._levels = levels

    def fit(self, train: Windows, val: Windows) -> None:
        """Fit on the training block and choose the penalty on the validation block.

        Parameters
        ----------
        train, val
            Samples with finite features and targets.

        Raises
        ------
        ValueError
            If a feature or a target is NaN or infinite.
        """
        from sklearn.linear_model import LinearRegression, Ridge

        X, y = design(train, self._lags), target(train)
        if self._alphas:
            X_val, y_val = design(val, self._lags), target(val)
            fits = [Ridge(alpha=alpha).fit(X, y) for alpha in self._alphas]
            best = min(fits, key=lambda fit: float(np.mean((fit.predict(X_val) - y_val) ** 2)))
        else:
            best = LinearRegression().fit(X, y)
        self._coef = best.coef_
        self._intercept = float(best.intercept_)
        self._residual_quantiles = np.quantile(y - self._point(train), self._levels)

    def _point(self, windows: Windows) -> Floats:
        # A matrix product rounds a row differently with the number of rows; a sum of its own does not,
        # so a forecast is the same to the bit whatever it is made together with.
        point: Floats = (design(windows, self._lags) * self._coef).sum(axis=1) + self._intercept
        return point

    def predict(self, windows: Windows) -> Forecast:
        """Evaluate the linear function.

        Parameters
        ----------
        windows
            B samples.

        Returns
        -------
        Forecast
            Point forecasts, (B,) float64, in the unit of the target, and quantiles, (B, Q), if there
            are levels.
        """
        point = self._point(windows)
        if not self._levels:
            return Forecast(point=point)
        return Forecast(point, point[:, None] + self._residual_quantiles, self._levels)

    def state(self) -> State:
        """Give the coefficients, (lags * F,), the intercept, (1,), and residual quantiles, (Q,)."""
        learnt = {"coef": self._coef, "intercept": np.array([self._intercept])}
        return learnt | ({"residual_quantiles": self._residual_quantiles} if self._levels else {})

    def load_state(self, state: State) -> None:
        """Take back what `state` gave."""
        if self._levels:
            self._residual_quantiles = state["residual_quantiles"]
        self._coef = state["coef"]
        self._intercept = float(state["intercept"][0])


class GradientBoosting(Estimator):
    """Boosted regression trees [1]_ on the last days' features, in scikit-learn's histogram form [2]_.

    The number of trees is the one, from 1 to `max_iter`, with the least squared error on the
    validation block. There is no subsampling, so equal data give equal trees.

    Parameters
    ----------
    lags
        Days of the window to read.
    learning_rate
        Shrinkage of each tree.
    max_iter
        Most trees.

    References
    ----------
    .. [1] Friedman (2001), Greedy Function Approximation, Annals of Statistics 29(5).
    .. [2] Ke et al. (2017), LightGBM, NeurIPS 30.
    """

    _regressor: HistGradientBoostingRegressor

    def __init__(self, lags: int, learning_rate: float, max_iter: int) -> None:
        self._lags = lags
        self._learning_rate = learning_rate
        self._max_iter = max_iter

    def _boost(self, train: Windows, n_trees: int) -> HistGradientBoostingRegressor:
        from sklearn.ensemble import HistGradientBoostingRegressor

        regressor = HistGradientBoostingRegressor(
            learning_rate=self._learning_rate, max_iter=n_trees, early_stopping=False, random_state=0
        )
        return regressor.fit(design(train, self._lags), target(train))

    def fit(self, train: Windows, val: Windows) -> None:
        """Fit on the training block and choose the number of trees on the validation block.

        Parameters
        ----------
        train, val
            Samples with finite targets.

        Raises
        ------
        ValueError
            If a target is NaN or infinite.
        """
        full = self._boost(train, self._max_iter)
        X_val, y_val = design(val, self._lags), target(val)
        errors = [np.mean((stage - y_val) ** 2) for stage in full.staged_predict(X_val)]
        # The first trees do not depend on how many follow, so a second, shorter fit cuts the rest off.
        self._regressor = self._boost(train, int(np.argmin(errors)) + 1)

    def predict(self, windows: Windows) -> Forecast:
        """Sum the trees.

        Parameters
        ----------
        windows
            B samples.

        Returns
        -------
        Forecast
            Point forecasts, (B,) float64, in the unit of the target.
        """
        return Forecast(point=self._regressor.predict(design(windows, self._lags)))

    def state(self) -> State:
        """Give the trees as the bytes of an archive, (n,) uint8; see `freeze`."""
        return {"skops": freeze(self._regressor)}

    def load_state(self, state: State) -> None:
        """Take the trees back; see `thaw`."""
        self._regressor = thaw(state["skops"])


@component(MODELS)
class LinearConfig(ModelConfig):
    """Ordinary least squares on the last days' features.

    Parameters
    ----------
    lags
        Days of the window to read.
    intervals
        ``residuals``: lay the quantiles of the training residuals around the point, which least squares
        makes a little too narrow.
    """

    name: Literal["linear"] = "linear"
    lags: Annotated[int, Int(1, 60)] = 1
    intervals: Literal["none", "residuals"] = "none"

    def build(self, inputs: Inputs) -> LinearForecaster:
        """Make the model; `lags` beyond the lookback is a `UserError`."""
        levels = RISK_LEVELS if self.intervals == "residuals" else ()
        return LinearForecaster(check_lags(self.name, self.lags, inputs.lookback), levels=levels)


@component(MODELS)
class RidgeConfig(ModelConfig):
    """Ridge regression on the whole window, its penalty chosen on the validation block."""

    name: Literal["ridge"] = "ridge"

    def build(self, inputs: Inputs) -> LinearForecaster:
        """Make the model."""
        return LinearForecaster(inputs.lookback, ALPHAS)


@component(MODELS)
class GradientBoostingConfig(ModelConfig):
    """Boosted trees on the last days' features, their number chosen on the validation block."""

    name: Literal["gradient_boosting"] = "gradient_boosting"
    lags: Annotated[int, Int(1, 60)] = 5
    learning_rate: Annotated[float, Float(0.001, 1.0, log=True)] = 0.05
    max_iter: Annotated[int, Int(1, 2000)] = 200

    def build(self, inputs: Inputs) -> GradientBoosting:
        """Make the model; `lags` beyond the lookback is a `UserError`."""
        return GradientBoosting(
            check_lags(self.name, self.lags, inputs.lookback), self.learning_rate, self.max_iter
        )
