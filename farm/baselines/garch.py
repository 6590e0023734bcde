"""The AR(1)-GARCH(1,1) filter: tomorrow's mean and spread from the returns up to today."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from farm.base.model import State
from farm.base.types import Floats, Windows

Distribution = Literal["normal", "t"]

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


class ArGarchFilter:
    """AR(1) mean with GARCH(1,1) variance, fitted once and then filtered with parameters held.

    Parameters
    ----------
    dist
        Distribution of the standardised errors.
    """

    _params: Floats
    _backcast: float

    def __init__(self, dist: Distribution) -> None:
        self._dist = dist

    def fit(self, train: Windows, levels: tuple[float, ...]) -> Floats:
        """Fit by maximum likelihood on all returns up to the last training target.

        Parameters
        ----------
        train
            Samples whose series is finite up to the last of them, as log returns (not percent).
        levels
            Q levels.

        Returns
        -------
        Floats
            Quantiles of the fitted standardised errors at the levels, (Q,).

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
        return np.asarray(model.distribution.ppf(levels, params[N_PARAMS:]))

    def one_step(self, windows: Windows) -> tuple[Floats, Floats]:
        """Forecast each sample's return from the returns strictly before it.

        Parameters
        ----------
        windows
            B samples, each at position 1 or later, with a finite series before the last of them.

        Returns
        -------
        mean, scale
            Conditional mean and standard deviation, each (B,) float64, as log returns.

        Raises
        ------
        ValueError
            If a sample has no return before it.
        """
        # Position 0 would read the forecast made at the end of the series, which is the future.
        if (windows.position < 1).any():
            raise ValueError("a sample at position 0 has no return before it; expected positions from 1 on")
        known = PERCENT * windows.series[: windows.position.max()].astype(np.float64)
        mean, variance = one_step_ahead(self._params, self._backcast, known)
        last = windows.position - 1
        return mean[last] / PERCENT, np.sqrt(variance[last]) / PERCENT

    def state(self) -> State:
        """Give parameters, (5,), and backcast, (1,), in percent units."""
        return {"params": self._params, "backcast": np.array([self._backcast])}

    def load_state(self, state: State) -> None:
        """Take parameters and backcast back."""
        self._params = state["params"]
        self._backcast = float(state["backcast"][0])
