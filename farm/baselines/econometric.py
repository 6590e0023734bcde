"""AR(1)-GARCH(1,1): the field's own forecast of a daily return and its risk."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np

from farm.base.density import Density
from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.search_space import Choice
from farm.base.types import RISK_LEVELS, Floats, Forecast, Inputs, Windows
from farm.baselines.garch import ArGarchFilter

Errors = Literal["normal", "t", "empirical"]


class ArGarch(Estimator):
    """AR(1) mean with GARCH(1,1) variance [1]_ and normal, Student-t [2]_ or empirical errors [3]_.

    The parameters are fitted once, by maximum likelihood, on the returns up to the end of the
    training block. A forecast then filters the series strictly before its sample, with the
    parameters held. With empirical errors the likelihood is the normal one and the quantiles are
    those of the standardised training errors: filtered historical simulation.

    Parameters
    ----------
    dist
        Distribution of the standardised errors.
    asymmetric
        Whether the variance is that of GJR-GARCH [4]_.
    levels
        Quantile levels to forecast.

    References
    ----------
    .. [1] Bollerslev (1986), Generalized Autoregressive Conditional Heteroskedasticity,
       Journal of Econometrics 31(3).
    .. [2] Bollerslev (1987), A Conditionally Heteroskedastic Time Series Model for Speculative
       Prices and Rates of Return, Review of Economics and Statistics 69(3).
    .. [3] Barone-Adesi, Giannopoulos & Vosper (1999), VaR without Correlations for Portfolios of
       Derivative Securities, Journal of Futures Markets 19(5).
    .. [4] Glosten, Jagannathan & Runkle (1993), On the Relation between the Expected Value and the
       Volatility of the Nominal Excess Return on Stocks, Journal of Finance 48(5).
    """

    _error_quantiles: Floats

    reads_windows = False

    def __init__(self, dist: Errors, asymmetric: bool, levels: tuple[float, ...]) -> None:
        self._dist = dist
        self._filter = ArGarchFilter("normal" if dist == "empirical" else dist, asymmetric)
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
        self._filter.fit(train)
        if self._dist == "empirical":
            self._error_quantiles = np.quantile(self._filter.standardised(train), self._levels)
        else:
            unit = self._density(np.zeros(1), np.ones(1))
            self._error_quantiles = unit.quantiles(self._levels)[0]

    def _density(self, mean: Floats, deviation: Floats) -> Density:
        """Give the fitted distribution with these means and standard deviations, (B,)."""
        freedom = self._filter.freedom
        # The scale of a Student t is not its standard deviation.
        scale = deviation if np.isinf(freedom) else deviation * np.sqrt((freedom - 2) / freedom)
        return Density.of(mean, scale, freedom)

    def predict(self, windows: Windows) -> Forecast:
        """Forecast mean and quantiles one step ahead of each sample.

        Parameters
        ----------
        windows
            B samples, each at position 1 or later, with a finite series before the last of them.

        Returns
        -------
        Forecast
            Conditional means, (B,), and quantiles, (B, Q), both float64, as log returns; with a
            density unless the errors are empirical.

        Raises
        ------
        ValueError
            If a sample has no return before it, or a forecast is not finite.
        """
        point, scale = self._filter.one_step(windows)
        quantiles = point[:, None] + scale[:, None] * self._error_quantiles
        density = None if self._dist == "empirical" else self._density(point, scale)
        return Forecast(point, quantiles, self._levels, density)

    def state(self) -> State:
        """Give what the filter learnt and error quantiles, (Q,), in units of the deviation."""
        return {**self._filter.state(), "error_quantiles": self._error_quantiles}

    def load_state(self, state: State) -> None:
        """Take parameters, backcast and error quantiles back."""
        self._filter.load_state(state)
        self._error_quantiles = state["error_quantiles"]


@component(MODELS)
class ArGarchConfig(ModelConfig):
    """AR(1)-GARCH(1,1) with the quantiles of a risk forecast.

    Parameters
    ----------
    dist, asymmetric
        See `ArGarch`.
    """

    VERSION = 2

    name: Literal["ar_garch"] = "ar_garch"
    quantile_levels: ClassVar[tuple[float, ...]] = RISK_LEVELS
    dist: Errors = "t"
    asymmetric: Annotated[bool, Choice((False, True))] = False

    def build(self, inputs: Inputs) -> ArGarch:
        """Make the model; it reads no features."""
        return ArGarch(self.dist, self.asymmetric, self.quantile_levels)
