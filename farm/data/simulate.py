"""A simulator of index volatility surfaces, driven by the real returns of the S&P 500.

**These are no market quotes.** No index surface is free to bundle, so this stands in for one. Real
are the days and the daily returns of the bundled ``sp500_20_adjclose`` (1990-2022); everything else is
a model with constants set by hand.

A day's surface is SSVI [1]_: with k = log(K/S) and theta the total variance at the money of a
maturity,

    w(k) = theta / 2 * (1 + rho phi k + sqrt((phi k + rho)**2 + 1 - rho**2)),
    phi = eta / (theta**gamma * (1 + theta)**(1 - gamma)).

It has no static arbitrage, at any strike and between any two maturities, because on every day theta
increases with maturity and eta stays below `eta_bound`.

What moves, day by day, each factor reading returns up to its own day alone:

- short variance: the filtered variance of a GJR-GARCH(1,1) [2]_, damped (`ELASTICITY`) and raised by a
  risk premium, times a lognormal AR(1) noise of its own;
- long variance: a slow average of the short one, drawn to a constant, times another such noise;
- term structure: the variance expected for a maturity reverts from short to long at `KAPPA` a year,
  which leaves theta increasing whatever the two are;
- rho and eta: AR(1) on a transformed scale, moved by the day's standardised return as well (the
  leverage effect: a fall makes the smile steeper and more curved);
- observation noise, independent from day to day: on the variance between neighbouring maturities, on
  rho and on eta, never on cells, so that the observed surface is an SSVI too.

Measured, with level the one-year volatility at the money and cointegration the share of cells with p <
0.05 by `farm.evaluation.cointegration`, method ``"adf"``:

==============================================  ======  ====================================
what                                            seed 0  seeds 0 to 7 (cointegration: 0 to 3)
==============================================  ======  ====================================
mean level                                       0.207   0.203 to 0.210
lowest level                                     0.128   0.121 to 0.131
highest level                                    0.599   0.530 to 0.663
highest level in 2008-10                         0.517   0.425 to 0.581
highest level in 2020-03                         0.576   0.516 to 0.663
autocorrelation of the level, 20 days            0.88    0.87 to 0.90
autocorrelation of the level, 60 days            0.69    0.69 to 0.73
autocorrelation of the level, 90 days            0.57    0.57 to 0.63
correlation of return and change of level       -0.66   -0.67 to -0.66
mean slope of the smile, s[3, 3] - s[3, 1]      -0.072  -0.072 to -0.071
mean slope in 2017                               0.019   0.017 to 0.026
mean slope in 2008-10                           -0.188  -0.222 to -0.161
days in contango, level below its median         88 %    84 to 88 %
cointegration 2011 to 2019                      100 %   100 %
cointegration 2008 to 2010                       60 %    52 to 64 %
cointegration within one year, mean of ten       67 %    54 to 69 %
==============================================  ======  ====================================

The report that the surface study rebuilds gives autocorrelations of 0.88, 0.72 and 0.66. The constants
were chosen by hand for these figures, and the same ones serve all seeds. Over one year the test has
little power: there its share is low whatever the surfaces are.

Limits. Three numbers shape a day's smile at all maturities alike, so its cells agree with one another
far better than quotes do. There are no spreads, stale quotes, rates, dividends or jumps, nothing is
fitted to option prices, and no event is known but the returns; the premium is constant. The GJR-GARCH
constants come from all 33 years, so early surfaces know their variance's law as no trader of the time
did. A result on it says what a method does in a world like this one, and nothing about a market.

References
----------
.. [1] Gatheral and Jacquier (2014), Arbitrage-free SVI volatility surfaces, Quantitative Finance
   14(1), section 4.
.. [2] Glosten, Jagannathan and Runkle (1993), On the Relation between the Expected Value and the
   Volatility of the Nominal Excess Return on Stocks, Journal of Finance 48(5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from farm.base.types import Floats
from farm.data.door import load_closes
from farm.data.surface import MATURITIES, MONEYNESS, Surfaces

VERSION = 1  # raise it when a seed's surfaces change
DAYS_A_YEAR = 252

# GJR-GARCH(1,1) of the S&P 500's log returns 1990-2022 in percent, Student t likelihood, rounded.
MEAN, OMEGA, ALPHA, LEVERAGE, BETA = 0.048, 0.0146, 0.0023, 0.1718, 0.8985
CALM = 0.82  # geometric mean of the filtered daily variance, in squared percent

ELASTICITY = 0.8  # of the short variance to the filtered one: quotes move less than a GARCH
PREMIUM = 1.52  # implied over expected variance
KAPPA = 3.3  # a year: how fast the expected variance goes from short to long
LONG_RUN = 0.055  # a year's variance that the long factor is drawn to
PULL = 0.2  # share of LONG_RUN in the long factor; the rest is a slow average of the short one
SLOW = 1 / 90  # weight of a day in that average

GAMMA = 0.4  # the skew at the money falls with maturity about as T**-GAMMA
# Largest theta * phi**2 / eta**2 over all theta, which it takes at theta = 1 - 2 GAMMA.
PEAK = (1 - 2 * GAMMA) ** (1 - 2 * GAMMA) / (2 - 2 * GAMMA) ** (2 - 2 * GAMMA)


@dataclass(frozen=True)
class Ar1:
    """A stationary AR(1) whose shock may hold part of the day's return.

    Parameters
    ----------
    persistence
        Weight of yesterday, in [0, 1).
    deviation
        Stationary standard deviation, without the part that the return brings.
    mean
        Stationary mean.
    leverage
        What a day's return of one standard deviation adds.
    noise
        Standard deviation of the observation noise on it.
    """

    persistence: float
    deviation: float
    mean: float = 0.0
    leverage: float = 0.0
    noise: float = 0.0

    def path(self, surprise: Floats, rng: np.random.Generator) -> Floats:
        """Draw it along standardised returns, (N,), without observation noise."""
        shocks = rng.standard_normal(len(surprise)) * self.deviation
        shocks[1:] *= np.sqrt(1 - self.persistence**2)  # the first day is drawn from the stationary law
        steps = shocks + self.leverage * surprise
        return self.mean + np.asarray(lfilter([1.0], [1.0, -self.persistence], steps), dtype=np.float64)


SHORT = Ar1(persistence=0.98, deviation=0.15)  # log of the short variance's own factor
LONG = Ar1(persistence=0.985, deviation=0.12)  # log of the long variance's own factor
RHO = Ar1(persistence=0.97, deviation=0.08, mean=0.78, leverage=-0.012, noise=0.01)  # rho = -tanh
ETA = Ar1(persistence=0.97, deviation=0.2, mean=0.1, leverage=-0.025, noise=0.02)  # logit of eta / bound
THETA_NOISE = 0.015  # standard deviation of the log of a step of theta


@dataclass(frozen=True)
class Smile:
    """The SSVI parameters of N days.

    Parameters
    ----------
    theta
        Total variance at the money, (N, W), above 0, increasing along W.
    rho
        Correlation, (N,), in (-1, 1).
    eta
        Curvature, (N,), in (0, `eta_bound`).
    """

    theta: Floats
    rho: Floats
    eta: Floats


@dataclass(frozen=True)
class Simulation:
    """Simulated surfaces and what made them.

    Parameters
    ----------
    surfaces
        The N days as a reader would give them, source ``"simulated"``.
    short_variance, long_variance
        The two factors of the term structure, (N,), a year's variance.
    state
        The smile before observation noise, which the factors give.
    observed
        The smile after it; `surfaces` are exactly `ssvi` of it.
    """

    surfaces: Surfaces
    short_variance: Floats
    long_variance: Floats
    state: Smile
    observed: Smile


def simulate(
    seed: int = 0,
    maturities: tuple[float, ...] = MATURITIES,
    moneyness: tuple[float, ...] = MONEYNESS,
) -> Simulation:
    """Simulate a surface for each day of the bundled S&P 500 returns, 1990-01-03 to 2022-12-28.

    Parameters
    ----------
    seed
        Of the factors' own noise and of the observation noise; the returns are always the real ones.
    maturities
        Years, increasing, above 0.
    moneyness
        Strike over spot, increasing, above 0.

    Returns
    -------
    Simulation
        8,312 days; equal arguments give equal bits.
    """
    closes = load_closes("sp500_20_adjclose")["SP500"]
    returns = np.diff(np.log(closes.to_numpy()))
    years = np.array(maturities)
    rng = np.random.default_rng(seed)

    filtered, surprise = _filter(100 * returns - MEAN)
    damped = CALM * (filtered / CALM) ** ELASTICITY / 100**2
    short = PREMIUM * DAYS_A_YEAR * damped * np.exp(SHORT.path(surprise, rng))
    average = lfilter([SLOW], [1.0, SLOW - 1], short, zi=[(1 - SLOW) * LONG_RUN])[0]
    long = (PULL * LONG_RUN + (1 - PULL) * average) * np.exp(LONG.path(surprise, rng))
    reverting = (1 - np.exp(-KAPPA * years)) / KAPPA
    theta = np.outer(long, years) + np.outer(short - long, reverting)
    x, y = RHO.path(surprise, rng), ETA.path(surprise, rng)
    state = _smile(theta, x, y)

    n = len(returns)
    steps = np.diff(theta, axis=1, prepend=0.0) * np.exp(THETA_NOISE * rng.standard_normal(theta.shape))
    observed = _smile(
        np.cumsum(steps, axis=1),
        x + RHO.noise * rng.standard_normal(n),
        y + ETA.noise * rng.standard_normal(n),
    )
    w = ssvi(observed, np.log(np.array(moneyness)))
    surfaces = Surfaces(
        dates=closes.index.to_numpy().astype("datetime64[D]")[1:],
        iv=np.sqrt(w / years[:, None]).astype(np.float32),
        returns=returns,
        maturities=years,
        strikes=np.array(moneyness),
        axis="moneyness",
        source="simulated",
    )
    return Simulation(surfaces, short, long, state, observed)


def ssvi(smile: Smile, k: Floats) -> Floats:
    """Give total variance at some log-moneyness (Gatheral and Jacquier 2014, eq. 4.1).

    Parameters
    ----------
    smile
        Parameters of N days and W maturities.
    k
        log(K/S), (H,).

    Returns
    -------
    Floats
        Total variance, (N, W, H).
    """
    theta = smile.theta[:, :, None]
    rho, eta = smile.rho[:, None, None], smile.eta[:, None, None]
    scaled = eta / (theta**GAMMA * (1 + theta) ** (1 - GAMMA)) * k
    w: Floats = theta / 2 * (1 + rho * scaled + np.sqrt((scaled + rho) ** 2 + 1 - rho**2))
    return w


def eta_bound(rho: Floats) -> Floats:
    """Give what eta must stay below for a surface free of static arbitrage.

    Sufficient conditions for a slice without butterflies are theta phi (1 + |rho|) < 4 and theta
    phi**2 (1 + |rho|) <= 4 (Gatheral and Jacquier 2014, theorem 4.2). Here theta phi < eta, and theta
    phi**2 is at most `PEAK` eta**2. For no calendar spread, with theta increasing, the derivative of
    theta phi by theta must lie between 0 and (1 + sqrt(1 - rho**2)) / rho**2 phi (theorem 4.1); it is
    (1 - gamma) / (1 + theta) phi, so that holds at any eta.

    Parameters
    ----------
    rho
        Correlation, in (-1, 1).

    Returns
    -------
    Floats
        The bound, of the shape of `rho`.
    """
    one = 1 + np.abs(rho)
    bound: Floats = np.minimum(4 / one, 2 / np.sqrt(PEAK * one))
    return bound


def _smile(theta: Floats, x: Floats, y: Floats) -> Smile:
    """Bring the two AR(1) factors to where no surface has arbitrage."""
    rho = -np.tanh(x)
    return Smile(theta, rho, eta_bound(rho) / (1 + np.exp(-y)))


def _filter(shocks: Floats) -> tuple[Floats, Floats]:
    """Filter daily variance: of tomorrow given today, (N,), and today's shock in yesterday's measure."""
    start = OMEGA / (1 - ALPHA - LEVERAGE / 2 - BETA)
    drive = OMEGA + (ALPHA + LEVERAGE * (shocks < 0)) * shocks**2
    variance = lfilter([1.0], [1.0, -BETA], drive, zi=[BETA * start])[0]
    before = np.concatenate([[start], variance[:-1]])
    return variance, shocks / np.sqrt(before)
