"""Small worlds in which the right interval is known."""

import numpy as np
import numpy.typing as npt

from farm.base.types import Forecast, Windows

Array = npt.NDArray[np.float64]
LEVELS = (0.05, 0.5, 0.95)
Z = 1.6448536269514722  # the 95 % quantile of a standard normal
HISTORY = 30  # returns known before the first sample


def windows(truth: Array, x: Array | None = None, seed: int = 0) -> Windows:
    """Samples with the given truths; the last row of the inputs holds `x`, (B, F)."""
    history = np.random.default_rng(seed).normal(0, 1, HISTORY)
    x = np.zeros((len(truth), 1)) if x is None else x
    days = np.datetime64("2020-01-01") + np.arange(len(truth))
    return Windows(
        x=np.repeat(x[:, None, :], 2, axis=1).astype(np.float32),
        y=truth.astype(np.float32),
        times=days,
        features=tuple(f"f{i}" for i in range(x.shape[1])),
        series=np.concatenate([history, truth]),
        position=HISTORY + np.arange(len(truth)),
    )


def constant(n: int, half_width: float, levels: tuple[float, ...] = LEVELS) -> Forecast:
    """The same quantiles every day, outermost at -+half_width."""
    row = half_width * np.linspace(-1, 1, len(levels))
    return Forecast(np.zeros(n), np.tile(row, (n, 1)), levels)


def outside(forecast: Forecast, truth: Array) -> npt.NDArray[np.bool_]:
    assert forecast.quantiles is not None
    return (truth < forecast.quantiles[:, 0]) | (truth > forecast.quantiles[:, -1])


def pinball(forecast: Forecast, truth: Array) -> float:
    assert forecast.quantiles is not None
    error = truth[:, None] - forecast.quantiles
    level = np.asarray(forecast.levels)
    return float(np.where(error > 0, level * error, (level - 1) * error).mean())
