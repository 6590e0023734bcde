"""The econometric baseline of surfaces: implied volatility tied to the EWMA volatility of returns."""

from __future__ import annotations

from typing import Literal

import numpy as np

from farm.base.errors import UserError
from farm.base.model import MODELS, ReturnsOracle, State
from farm.base.registry import component
from farm.base.surfaces import Past, Paths
from farm.base.types import Floats, Inputs, Ints
from farm.baselines.surface_paths import SLOWEST, SurfaceConfig, SurfaceEstimator, flat, stationary
from farm.data.volatility import DAYS_A_YEAR, LAMBDA, ewma_volatility

WARM_UP = 60  # days after which the EWMA has forgotten where it began, 0.94**60 = 2 %
FLOOR = 0.5  # share of a cell's least training volatility below which no path goes


class CointegrationRegression(SurfaceEstimator, ReturnsOracle):
    """Regression of each cell on EWMA volatility, with AR(1) residuals (Engle and Granger [1]_).

    With s the EWMA volatility of returns (decay 0.94, RiskMetrics [2]_), for each cell

        iv[t] = a + b s[t] + e[t],    e[t] = rho e[t-1] + u[t],

    by least squares, `rho` held below one (`stationary`). Future returns are not known, so they are
    simulated: a training day is drawn, its innovations u of all cells and its standardised return z go
    together (the leverage effect is in that pairing), and

        r[t+1] = z sqrt(h[t+1]),    h[t+1] = (1 - kappa) v + kappa s[t]**2,

    with v the mean squared return of training. z is scaled to a second moment of one. kappa is chosen by
    Gaussian quasi-likelihood: with kappa = 1 (the EWMA as its own forecast, RiskMetrics) the simulated
    variance is a martingale that goes to zero on almost every path. Measured on the bundled simulation,
    rows 1000 to 5000: a year after a day of average variance, s is 0.17, 0.53 and 1.87 times its start
    (5, 50 and 95 % of paths) with kappa = 1; 0.41, 0.74 and 1.72 times with the chosen kappa, 0.94; and
    0.37, 0.75 and 1.77 times the root of the average variance in history. The log-likelihood is higher by
    24 of 16,155.
    This is a GARCH(1,1) with beta = 0.94 and a targeted variance, simulated as in [3]_.

    The regression is additive, as in the tests of cointegration, so a path may go below zero; it is
    held at half the least volatility that its cell had in training.

    References
    ----------
    .. [1] Engle and Granger (1987), Co-integration and Error Correction, Econometrica 55(2).
    .. [2] J.P. Morgan/Reuters (1996), RiskMetrics Technical Document, section 5.2.
    .. [3] Barone-Adesi, Giannopoulos and Vosper (1999), VaR without Correlations for Portfolios of
       Derivative Securities, Journal of Futures Markets 19(5).
    """

    _line: Floats  # a and b, (2, G)
    _persistence: Floats  # rho, (G,)
    _variance: Floats  # v and kappa, (2,); v of a day
    _floor: Floats  # (G,)
    _innovations: Floats  # u, (K, G), mean 0
    _shocks: Floats  # z, (K,)

    def learn(self, volatility: Floats, returns: Floats) -> None:
        """Fit the lines, their residuals and the variance; see `SurfaceEstimator.learn`."""
        if len(volatility) < 2 * WARM_UP or not returns.any():
            raise UserError(
                f"model surface_cointegration: got {len(volatility)} training days, expected at least"
                f" {2 * WARM_UP} with returns that move: give more days"
            )
        ewma = ewma_volatility(returns)
        cells, known = volatility[WARM_UP:], ewma[WARM_UP:]
        design = np.column_stack([np.ones(len(known)), known])
        self._line = np.linalg.lstsq(design, cells, rcond=None)[0]
        residuals = cells - design @ self._line
        before, after = residuals[:-1], residuals[1:]
        power = (before**2).sum(axis=0)
        own = np.divide((before * after).sum(axis=0), power, out=np.zeros_like(power), where=power > 0)
        self._persistence = stationary(own)
        innovations = after - before * self._persistence
        self._innovations = innovations - innovations.mean(axis=0)
        self._floor = FLOOR * volatility.min(axis=0)
        self._variance = np.array([(returns**2).mean(), 0.0])
        daily, moves = known[:-1] ** 2 / DAYS_A_YEAR, returns[WARM_UP + 1 :]
        self._variance[1] = _best_kappa(self._variance[0], daily, moves)
        shocks = moves / np.sqrt(self._ahead(daily))
        self._shocks = shocks / np.sqrt((shocks**2).mean())

    def draw(self, past: Past, days: int, samples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Simulate returns, then the cells that follow them; see `SurfaceEstimator.draw`."""
        rows = rng.integers(0, len(self._shocks), (samples, days))
        ewma, residual = self._today(past)
        variance = np.full(samples, ewma**2 / DAYS_A_YEAR)
        returns, ahead = np.empty((samples, days)), np.empty((samples, days))
        for day in range(days):
            returns[:, day] = np.sqrt(self._ahead(variance)) * self._shocks[rows[:, day]]
            variance = LAMBDA * variance + (1 - LAMBDA) * returns[:, day] ** 2
            ahead[:, day] = np.sqrt(DAYS_A_YEAR * variance)
        return self._cells(ahead, residual, rows), returns

    def generate_knowing(self, past: Past, future_returns: Floats, samples: int, seed: int) -> Paths:
        """Draw innovations alone, along returns that are known; see `ReturnsOracle.generate_knowing`.

        The rebuilt report has its econometric baseline that way.
        """
        rng, days = np.random.default_rng(seed), len(future_returns)
        known = past.extra[:, 0].astype(np.float64)
        ahead = ewma_volatility(np.concatenate([known, future_returns]))[len(known) :]
        residual = self._today(past)[1]

        def draw(count: int) -> tuple[Floats, Floats]:
            rows = rng.integers(0, len(self._shocks), (count, days))
            return self._cells(np.tile(ahead, (count, 1)), residual, rows), future_returns

        return self.collected(samples, days, draw, oracle="the returns")

    def next_level(self, past: Past, rows: Ints) -> Floats:
        """Let each training day's return and innovation come next."""
        end = int(rows.max()) + 1
        ewma = ewma_volatility(past.extra[:end, 0].astype(np.float64))[rows]
        cell = past.surface[rows].reshape(len(rows), -1)[:, self.level].astype(np.float64)
        line, at = self._line[:, self.level], self.level
        residual = cell - line[0] - line[1] * ewma
        daily = (ewma**2 / DAYS_A_YEAR)[:, None]
        moved = LAMBDA * daily + (1 - LAMBDA) * self._ahead(daily) * self._shocks**2
        level = line[0] + line[1] * np.sqrt(DAYS_A_YEAR * moved)
        level += self._persistence[at] * residual[:, None] + self._innovations[:, at]
        levels: Floats = np.maximum(level, self._floor[at])
        return levels

    def _ahead(self, daily: Floats) -> Floats:
        """Give the variance of the next day's return from the EWMA variance of today."""
        mean, kappa = self._variance
        variance: Floats = (1 - kappa) * mean + kappa * daily
        return variance

    def _today(self, past: Past) -> tuple[float, Floats]:
        """Give the EWMA volatility and the residuals of the last known day."""
        ewma = float(ewma_volatility(past.extra[:, 0].astype(np.float64))[-1])
        return ewma, flat(past.surface[-1:])[0] - self._line[0] - self._line[1] * ewma

    def _cells(self, ewma: Floats, residual: Floats, rows: Ints) -> Floats:
        """Add AR(1) residuals to the lines, (S, days, G), given EWMA volatility, (S, days)."""
        path = self._innovations.astype(np.float32)[rows]
        persistence, before = self._persistence.astype(np.float32), residual.astype(np.float32)
        for day in range(path.shape[1]):
            path[:, day] += persistence * before
            before = path[:, day]
        a, b = self._line.astype(np.float32)
        path += ewma.astype(np.float32)[..., None] * b + a
        return np.maximum(path, self._floor.astype(np.float32), out=path)

    def state(self) -> State:
        """Give the lines, the residuals' dynamics, the variance, the floors and what days bring."""
        return {
            "line": self._line,
            "persistence": self._persistence,
            "variance": self._variance,
            "floor": self._floor,
            "innovations": self._innovations,
            "shocks": self._shocks,
        }

    def load_state(self, state: State) -> None:
        """Take them back."""
        self._line, self._persistence = state["line"], state["persistence"]
        self._variance, self._floor = state["variance"], state["floor"]
        self._innovations, self._shocks = state["innovations"], state["shocks"]


def _best_kappa(mean: float, daily: Floats, returns: Floats) -> float:
    """Choose kappa by Gaussian quasi-likelihood, where the simulated variance forgets within a year.

    A shock to the EWMA variance fades by LAMBDA + (1 - LAMBDA) kappa a day.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    def cost(kappa: float) -> float:
        variance = (1 - kappa) * mean + kappa * daily
        return float((np.log(variance) + returns**2 / variance).sum())

    most = (SLOWEST - LAMBDA) / (1 - LAMBDA)
    return float(minimize_scalar(cost, bounds=(0.0, most), method="bounded").x)


@component(MODELS)
class SurfaceCointegrationConfig(SurfaceConfig):
    """Implied volatility as a line of EWMA volatility, with AR(1) residuals."""

    name: Literal["surface_cointegration"] = "surface_cointegration"

    def build(self, inputs: Inputs) -> CointegrationRegression:
        """Make the model."""
        return CointegrationRegression(self.surfaces(inputs))
