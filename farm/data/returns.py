"""Daily log returns of many assets side by side, and blocks of them for models of whole days."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from farm.base.errors import UserError
from farm.base.generative import ReturnWindows
from farm.base.types import Dataset, Dates, Floats, Inputs
from farm.data.features import log_returns
from farm.data.panel import Bars
from farm.data.splits import Chronological


def return_table(assets: Mapping[str, Bars]) -> pd.DataFrame:
    """Compute the log returns of closes on the days that all assets share.

    Parameters
    ----------
    assets
        Bars by name.

    Returns
    -------
    pandas.DataFrame
        (N, A), no NaN; each return is from the shared day before.

    Raises
    ------
    UserError
        If they share fewer than two days, or an asset's close never moves on them.
    """
    closes = pd.DataFrame(
        {name: pd.Series(bars.close, index=pd.DatetimeIndex(bars.dates)) for name, bars in assets.items()}
    ).dropna()
    if len(closes) < 2:
        shortest = min(assets, key=lambda name: len(assets[name]))
        raise UserError(
            f"the {len(assets)} assets share {len(closes)} days, expected at least 2:"
            f" leave out those with few days, first {shortest} with {len(assets[shortest])}"
        )
    table = pd.DataFrame({name: log_returns(closes[name]) for name in closes}).iloc[1:]
    still = [str(name) for name in table if np.ptp(table[name].to_numpy()) == 0]
    if still:
        raise UserError(f"{still[0]}: its close never moves, expected returns: leave it out of --tickers")
    return table


def hidden_entries(shape: tuple[int, int], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Draw which entries are hidden, each with the same chance; equal seeds give equal bits.

    Entries hidden at a small share are hidden at a larger one too.
    """
    mask: npt.NDArray[np.bool_] = np.random.default_rng(seed).random(shape) < share
    return mask


def return_dataset(
    returns: Floats,
    days: Dates,
    assets: tuple[str, ...],
    lookback: int,
    split: Chronological,
    hidden: float,
    recent: int = 0,
) -> Dataset:
    """Cut days of returns into blocks, and each block into windows; see `ReturnWindows`.

    Parameters
    ----------
    returns
        Log returns, (N, A), finite.
    days
        Their dates, (N,).
    assets
        The A names.
    lookback
        Days of a window, T.
    split
        How the days are cut.
    hidden
        Share of the entries in `ReturnWindows.mask`, in (0, 1).
    recent
        How many of the last training days are learnt from; 0 for all of them.

    Returns
    -------
    Dataset
        Mean and scale come from all training days, so that they do not depend on `recent`. No window
        spans two blocks.

    Raises
    ------
    UserError
        If a block is shorter than a window, or has an asset that does not move in training.
    """
    learnt, *later = split.blocks(len(returns), gap=1)
    train = returns[learnt]
    mean, scale = train.mean(axis=0), train.std(axis=0)
    for name, constant in zip(assets, scale == 0, strict=True):
        if constant:
            raise UserError(f"{name}: its close never moves on the {len(train)} training days: leave it out")
    if recent:
        learnt = slice(max(learnt.start, learnt.stop - recent), learnt.stop)
    blocks = (learnt, *later)
    for what, rows in zip(("training", "validation", "test"), blocks, strict=True):
        if rows.stop - rows.start < lookback:
            raise UserError(
                f"the {what} block has {rows.stop - rows.start} days, expected at least the"
                f" {lookback} of a window: give a longer panel or a shorter study.lookback"
            )
    scaled = (returns - mean) / scale
    # Nothing writes to the view, but torch warns of memory that it could not write to.
    sliding = np.lib.stride_tricks.sliding_window_view(
        scaled.astype(np.float32), lookback, axis=0, writeable=True
    ).transpose(0, 2, 1)

    def block(number: int, rows: slice) -> ReturnWindows:
        ends = np.arange(rows.start + lookback - 1, rows.stop)
        return ReturnWindows(
            x=sliding[rows.start : rows.stop - lookback + 1],
            y=returns[ends, 0].astype(np.float32),
            times=days[ends],
            features=assets,
            series=returns[: rows.stop, 0],
            position=ends,
            rows=scaled[: rows.stop],
            days=days[: rows.stop],
            first=rows.start,
            mask=hidden_entries((rows.stop - rows.start, len(assets)), hidden, seed=number),
            mean=mean,
            scale=scale,
        )

    parts = [block(number, rows) for number, rows in enumerate(blocks)]
    return Dataset(parts[0], parts[1], Inputs(assets, lookback, mean, scale), parts[2])
