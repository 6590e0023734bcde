"""AR(1)-GARCH(1,1): the field's own forecast of a daily return and its risk."""

from __future__ import annotations

from typing import ClassVar, Literal

from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.types import Floats, Forecast, Inputs, Windows
from farm.baselines.garch import ArGarchFilter, Distribution


class ArGarch(Estimator):
    """AR(1) mean with GARCH(1,1) variance [1]_ and normal or Student-t errors [2]_.

    The parameters are fitted once, by maximum likelihood, on the returns up to the end of the
    training block. A forecast then filters the series strictly before its sample, with the
    parameters held.

    Parameters
    ----------
    dist
        Distribution of the standardised errors.
    levels
        Quantile levels to forecast.

    References
    ----------
    .. [1] Bollerslev (1986), Generalized Autoregressive Conditional Heteroskedasticity,
       Journal of Econometrics 31(3).
    .. [2] Bollerslev (1987), A Conditionally Heteroskedastic Time Series Model for Speculative
       Prices and Rates of Return, Review of Economics and Statistics 69(3).
    """

    _error_quantiles: Floats

    def __init__(self, dist: Distribution, levels: tuple[float, ...]) -> None:
        self._filter = ArGarchFilter(dist)
        self._levels = levels

    def fit(self, train: Windows, val: Windows) -> None:
        """Fit on all returns up to the last training target; see `ArGarchFilter.fit`.

        Parameters
        ----------
        train
            Samples whose series is finite up to the last of them, as log returns (not percent).
        val
            Not read.
        """
        self._error_quantiles = self._filter.fit(train, self._levels)

    def predict(self, windows: Windows) -> Forecast:
        """Forecast mean and quantiles one step ahead of each sample.

        Parameters
        ----------
        windows
            B samples, each at position 1 or later, with a finite series before the last of them.

        Returns
        -------
        Forecast
            Conditional means, (B,), and quantiles, (B, Q), both float64, as log returns.

        Raises
        ------
        ValueError
            If a sample has no return before it, or a forecast is not finite.
        """
        point, scale = self._filter.one_step(windows)
        quantiles = point[:, None] + scale[:, None] * self._error_quantiles
        return Forecast(point=point, quantiles=quantiles, levels=self._levels)

    def state(self) -> State:
        """Give parameters, (5,), backcast, (1,), and error quantiles, (Q,), in percent units."""
        return {**self._filter.state(), "error_quantiles": self._error_quantiles}

    def load_state(self, state: State) -> None:
        """Take parameters, backcast and error quantiles back."""
        self._filter.load_state(state)
        self._error_quantiles = state["error_quantiles"]


@component(MODELS)
class ArGarchConfig(ModelConfig):
    """AR(1)-GARCH(1,1) with 5, 50 and 95 % quantiles."""

    name: Literal["ar_garch"] = "ar_garch"
    quantile_levels: ClassVar[tuple[float, ...]] = (0.05, 0.5, 0.95)
    dist: Distribution = "t"

    def build(self, inputs: Inputs) -> ArGarch:
        """Make the model; it reads no features."""
        return ArGarch(self.dist, self.quantile_levels)
