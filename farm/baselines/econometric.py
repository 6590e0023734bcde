"""AR(1)-GARCH(1,1): the field's own forecast of a daily return and its risk."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

import numpy as np

from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.types import Floats, Forecast, Inputs, Windows

# The optimiser of arch is at home with variances near one, so returns are taken in percent.
PERCENT = 100.0
N_PARAMS = 5  # const, phi, omega, alpha, beta; what follows belongs to the error distribution


def one_step_ahead(params: Floats, backcast: float, returns: Floats) -> tuple[Floats, Floats]:
    """Run the AR(1)-GARCH(1,1) filter once over a series.

    With shocks ``e[t] = r[t] - const - phi r[t-1]`` and variance
    ``s[t] = omega + alpha e[t-1]**2 + beta s[t-1]`` (Bollerslev 1986, eq. 3). The first return is
    used up by the autoregression; before the first shock both ``e**2`` and ``s`` stand at the
    backcast, as in arch.

    Parameters
    ----------
    params
        ``const, phi, omega, alpha, beta``, (5,).
    backcast
        Variance assumed before the first shock, in squared units of `returns`.
    returns
        The series, (n,), finite.

    Returns
    -------
    mean, variance
        Each (n,): entry ``t`` is the forecast of ``returns[t + 1]`` from ``returns[: t + 1]``.
    """
    from scipy.signal import lfilter  # slow to import

    const, phi, omega, alpha, beta = params
    mean = const + phi * returns
    shocks = returns[1:] - mean[:-1]
    drive = omega + np.concatenate([[(alpha + beta) * backcast], alpha * shocks**2])
    return mean, lfilter([1.0], [1.0, -beta], drive)


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

    _params: Floats
    _backcast: float
    _error_quantiles: Floats

    def __init__(self, dist: Literal["normal", "t"], levels: tuple[float, ...]) -> None:
        self._dist = dist
        self._levels = levels

    def fit(self, train: Windows, val: Windows) -> None:
        """Fit on all returns up to the last training target; the validation block is left alone.

        Parameters
        ----------
        train
            Samples whose series is finite up to the last of them, as log returns (not percent).
        val
            Not read.

        Raises
        ------
        RuntimeError
            If the returns are not finite or constant, or the likelihood has no maximum that the
            optimiser can find.
        """
        from arch import arch_model  # slow to import

        returns = PERCENT * train.series[: train.position[-1] + 1].astype(np.float64)
        if not (np.isfinite(returns).all() and np.ptp(returns) > 0):
            raise RuntimeError(
                f"AR-GARCH: got {len(returns)} training returns that are constant or not finite"
            )
        model = arch_model(returns, mean="AR", lags=1, vol="GARCH", p=1, q=1, dist=self._dist, rescale=False)
        with warnings.catch_warnings():  # arch changes the filters of the whole process
            warnings.simplefilter("ignore")
            # The default of arch, from residuals of least squares, but made here once and kept:
            # filtering a longer series must not move it.
            phi, const = np.polyfit(returns[:-1], returns[1:], 1)
            backcast = float(model.volatility.backcast(returns[1:] - const - phi * returns[:-1]))
            result = model.fit(disp="off", show_warning=False, backcast=backcast)
        params = np.asarray(result.params, dtype=np.float64)
        if result.convergence_flag != 0 or not np.isfinite(params).all():
            reason = result.optimization_result.message
            raise RuntimeError(f"AR-GARCH did not converge on {len(returns)} training returns: {reason}")
        self._params = params[:N_PARAMS]
        self._backcast = backcast
        self._error_quantiles = np.asarray(model.distribution.ppf(self._levels, params[N_PARAMS:]))

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
        # Position 0 would read the forecast made at the end of the series, which is the future.
        if (windows.position < 1).any():
            raise ValueError("a sample at position 0 has no return before it; expected positions from 1 on")
        known = PERCENT * windows.series[: windows.position.max()].astype(np.float64)
        mean, variance = one_step_ahead(self._params, self._backcast, known)
        last = windows.position - 1
        point = mean[last] / PERCENT
        scale = np.sqrt(variance[last]) / PERCENT
        quantiles = point[:, None] + scale[:, None] * self._error_quantiles
        return Forecast(point=point, quantiles=quantiles, levels=self._levels)

    def state(self) -> State:
        """Give parameters, (5,), backcast, (1,), and error quantiles, (Q,), in percent units."""
        return {
            "params": self._params,
            "backcast": np.array([self._backcast]),
            "error_quantiles": self._error_quantiles,
        }

    def load_state(self, state: State) -> None:
        """Take parameters, backcast and error quantiles back."""
        self._params = state["params"]
        self._backcast = float(state["backcast"][0])
        self._error_quantiles = state["error_quantiles"]


@component(MODELS)
class ArGarchConfig(ModelConfig):
    """AR(1)-GARCH(1,1) with 5, 50 and 95 % quantiles."""

    name: Literal["ar_garch"] = "ar_garch"
    quantile_levels: ClassVar[tuple[float, ...]] = (0.05, 0.5, 0.95)
    dist: Literal["normal", "t"] = "t"

    def build(self, inputs: Inputs) -> ArGarch:
        """Make the model; it reads no features."""
        return ArGarch(self.dist, self.quantile_levels)
