"""Days of returns of a made-up market whose law is known: one factor, two regimes."""

from functools import cache

import numpy as np
import numpy.typing as npt

from farm.base.types import Dataset
from farm.data.panel import Bars, Panel
from farm.data.returns import return_dataset
from farm.data.splits import Chronological

Array = npt.NDArray[np.float64]

ASSETS = ("IDX", "A", "B", "C", "D")
BETA = np.array([1.0, 1.2, 0.8, 0.6, 1.5])
NOISE = np.array([0.1, 0.4, 0.5, 0.3, 0.6])
STAY = np.array([0.98, 0.94])  # calm, wild
LOUD = np.array([0.6, 2.0])
TYPICAL = 0.01


def draw_days(days: int, seed: int = 0) -> tuple[Array, npt.NDArray[np.int64]]:
    """Draw returns, (days, 5), and the regime of each day."""
    draws = np.random.default_rng(seed)
    regime = np.zeros(days, dtype=np.int64)
    for day in range(1, days):
        regime[day] = regime[day - 1] ^ (draws.random() > STAY[regime[day - 1]])
    factor = draws.normal(size=days)
    own = draws.normal(size=(days, 5)) * NOISE
    return TYPICAL * LOUD[regime][:, None] * (factor[:, None] * BETA + own), regime


@cache
def return_panel(days: int = 900, seed: int = 0) -> Panel:
    """Give bars with those returns; the closes alone mean something."""
    returns, _ = draw_days(days, seed)
    close = 100 * np.exp(np.vstack([np.zeros(5), returns]).cumsum(axis=0))
    dates = np.arange("2000-01-03", "2060-01-01", dtype="datetime64[D]")
    dates = dates[np.is_busday(dates)][: days + 1]
    flat = {name: np.stack([close[:, i]] * 4 + [np.zeros(days + 1)], axis=1) for i, name in enumerate(ASSETS)}
    return Panel({name: Bars(dates, values) for name, values in flat.items()}, "made up")


def return_data(days: int = 900, lookback: int = 6, seed: int = 0) -> Dataset:
    """Cut such days into blocks."""
    returns, _ = draw_days(days, seed)
    dates = np.datetime64("2000-01-03", "D") + np.arange(days)
    return return_dataset(returns, dates, ASSETS, lookback, Chronological(train=0.6, val=0.15), hidden=0.3)
