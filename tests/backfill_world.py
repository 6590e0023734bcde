"""Back-filling windows over a made-up market whose beta and noise are known."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from farm.base.types import Dataset, Inputs, Windows

Array = npt.NDArray[np.float64]

ASSETS = ("TARGET", "PEER", "INDEX")
CHANNELS = ("log_return", "roll_vol", "vol_change", "log_range")
FEATURES = tuple(f"{asset}/{channel}" for asset in ASSETS for channel in CHANNELS)
HIDDEN = len(CHANNELS)  # of the target, on the last day
CONTEXT = 5
SHARES = (0.6, 0.1, 0.1, 0.2)  # train, validation, calibration, test

INTERCEPT = 0.0005
BETA = np.array([0.8, -0.3])  # on PEER and INDEX
NOISE = 0.006  # mean standard deviation of what the peers do not explain
CALM, WILD = 0.5, 1.5  # times NOISE, on days of little and of much range


def market(n: int, seed: int = 0) -> tuple[Array, Array]:
    """Draw n days: channels, (n, 12), and the standard deviation of the target's noise, (n,).

    The target is INTERCEPT + BETA @ peers + noise. Each day is calm or wild for a while; the peers'
    range of the same day tells which, so the width of the right interval is known to whoever looks.
    """
    rng = np.random.default_rng(seed)
    wild = np.zeros(n, dtype=bool)
    for t in range(1, n):
        wild[t] = wild[t - 1] ^ (rng.random() < 0.05)
    sigma = NOISE * np.where(wild, WILD, CALM)
    index = 0.01 * rng.normal(size=n)
    peer = 0.8 * index + 0.008 * rng.normal(size=n)
    target = INTERCEPT + BETA @ np.stack([peer, index]) + sigma * rng.normal(size=n)
    columns = []
    for returns in (target, peer, index):
        vol = 0.01 + 0.001 * rng.normal(size=n)
        volume = 0.2 * rng.normal(size=n)
        log_range = np.where(wild, 0.03, 0.01) + 0.002 * rng.normal(size=n)
        columns += [returns, vol, volume, log_range]
    return np.stack(columns, axis=1), sigma


def backfill_dataset(
    table: Array,
    dates: npt.NDArray[np.datetime64],
    features: tuple[str, ...] = FEATURES,
    context: int = CONTEXT,
    hidden: int = HIDDEN,
) -> Dataset:
    """Cut back-filling windows, one slow row after another.

    Rows T - context + 1 .. T + 1 of the scaled table, with the first `hidden` columns of the last
    row set to 0; the target is column 0 of row T + 1. Purge gap: one day.
    """
    first = context  # the first T + 1
    cuts = first + np.cumsum([0, *(int(share * (len(table) - first)) for share in SHARES)])
    seen = table[: cuts[1]]
    mean, scale = seen.mean(axis=0), seen.std(axis=0)
    scaled = ((table - mean) / scale).astype(np.float32)

    def block(start: int, stop: int) -> Windows:
        position = np.arange(start, stop)
        x = np.stack([scaled[p - context : p + 1] for p in position])
        truth = x[:, -1, :hidden].copy()
        x[:, -1, :hidden] = 0.0
        return Windows(
            x=x,
            y=table[position, 0].astype(np.float32),
            times=dates[position],
            features=features,
            series=table[:stop, 0],
            position=position,
            hidden=truth,
        )

    train, val, calibration, test = (
        block(int(start) + (k > 0), int(stop)) for k, (start, stop) in enumerate(pairwise(cuts))
    )
    return Dataset(train, val, Inputs(features, context + 1, mean, scale), test, calibration)


def market_dataset(n: int = 3000, seed: int = 0) -> tuple[Dataset, Array]:
    """Give the windows of a made-up market and the noise of each of its days, (n,)."""
    table, sigma = market(n, seed)
    return backfill_dataset(table, np.datetime64("2005-01-03") + np.arange(n)), sigma
