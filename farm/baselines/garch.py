"""The AR(1)-GARCH(1,1) filter: tomorrow's mean and spread from the returns up to today.

Its asymmetric form is GJR-GARCH, in which a fall moves the variance more than a rise.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from farm.base.model import State
from farm.base.types import Floats, Windows

Distribution = Literal["normal", "t"]

# The optimiser of arch is at home with variances near one, so returns are taken in percent.
PERCENT = 100.0


def one_step_ahead(params: Floats, backcast: float, returns: Floats) -> tuple[Floats, Floats]:
    """Run the AR(1)-GARCH(1,1) filter once over a series.

    With shocks ``e[t] = r[t] - const - phi r[t-1]`` and variance
    ``s[t] = omega + (alpha + gamma [e[t-1] < 0]) e[t-1]**2 + beta s[t-1]`` (Bollerslev 1986, eq. 3;
    with gamma Glosten, Jagannathan & Runkle 1993, Journal of Finance 48(5)). The first return is
    used up by the autoregression; before the first shock both ``e**2`` and ``s`` stand at the
    backcast and half a fall is assumed, as in arch.

    Parameters
    ----------
    params
        ``const, phi, omega, alpha, beta``, (5,), or ``const, phi, omega, alpha, gamma, beta``, (6,).
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

    const, phi, omega, alpha, *asymmetry, beta = params
    gamma = asymmetry[0] if asymmetry else 0.0
    mean = const + phi * returns
    shocks = returns[1:] - mean[:-1]
    moved = (alpha + gamma * (shocks < 0)) * shocks**2
    drive = omega + np.concatenate([[(alpha + gamma / 2 + beta) * backcast], moved])
    return mean, lfilter([1.0], [1.0, -beta], drive)


class ArGarchFilter:
    """AR(1) mean with GARCH(1,1) variance, fitted once and then filtered with parameters held.

    Parameters
    ----------
    dist
        Distribution of the standardised errors under which the likelihood is taken.
    asymmetric
        Whether falls move the variance otherwise than rises do (GJR-GARCH).
    """

    _params: Floats
    _backcast: float
    freedom: float  # degrees of freedom of the fitted errors; infinite for the normal

    def __init__(self, dist: Distribution, asymmetric: bool = False) -> None:
        self._dist = dist
        self._asymmetric = asymmetric

    def fit(self, train: Windows) -> None:
        """Fit by maximum likelihood on all returns up to the last training target.

        Parameters
        ----------
        train
            Samples whose series is finite up to the last of them, as log returns (not percent).

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
        model = arch_model(
            returns, mean="AR", lags=1, p=1, o=int(self._asymmetric), q=1, dist=self._dist, rescale=False
        )
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
        shape = model.distribution.num_params  # they come last
        self._params = params[: len(params) - shape]
        self._backcast = backcast
        self.freedom = float(params[-1]) if shape else np.inf

    def standardised(self, train: Windows) -> Floats:
        """Give the training errors in units of the spread forecast for each of them.

        Parameters
        ----------
        train
            What the filter was fitted on.

        Returns
        -------
        Floats
            One for each return from the second to the last training target, float64.
        """
        returns = PERCENT * train.series[: train.position[-1] + 1].astype(np.float64)
        mean, variance = one_step_ahead(self._params, self._backcast, returns)
        errors: Floats = (returns[1:] - mean[:-1]) / np.sqrt(variance[:-1])
        return errors

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
        """Give parameters, (5,) or (6,), and backcast, (1,), in percent units, and freedom, (1,)."""
        return {
            "params": self._params,
            "backcast": np.array([self._backcast]),
            "freedom": np.array([self.freedom]),
        }

    def load_state(self, state: State) -> None:
        """Take back what `state` gave."""
        self._params = state["params"]
        self.freedom = float(state["freedom"][0])
        self._backcast = float(state["backcast"][0])
