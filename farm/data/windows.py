"""Strided windows over one feature array; nothing is copied per window."""

from __future__ import annotations

import numpy as np

from farm.base.errors import UserError
from farm.base.types import Dataset, Dates, Floats, Inputs, Windows
from farm.data.splits import Chronological


def next_step_dataset(
    table: Floats,
    target: Floats,
    dates: Dates,
    features: tuple[str, ...],
    lookback: int,
    split: Chronological,
) -> Dataset:
    """Cut windows [t - lookback, t - 1] that forecast target t, split them and scale the features.

    Parameters
    ----------
    table
        Features, (T, F), finite.
    target
        Target series, (T,).
    dates
        Days, (T,).
    features
        The F names.
    lookback
        Length of a window in days.
    split
        How the samples are cut into blocks; the purge gap is the horizon, one day.

    Returns
    -------
    Dataset
        Blocks over one scaled copy of `table`. Mean and scale come from the rows that training
        windows cover; a feature that is constant there keeps scale 1.

    Raises
    ------
    UserError
        If there are too few rows.
    """
    n = len(table) - lookback
    if n < 1:
        raise UserError(
            f"got {len(table)} usable rows, expected more than the lookback of {lookback}:"
            " give a longer panel"
        )
    blocks = split.blocks(n, gap=1)
    seen = table[: blocks[0].stop - 1 + lookback]
    mean, scale = seen.mean(axis=0), seen.std(axis=0)
    scale = np.where(scale > 1e-12 * np.maximum(1.0, np.abs(mean)), scale, 1.0)
    scaled = ((table - mean) / scale).astype(np.float32)
    # The window axis comes last: (n + 1, F, lookback). Nothing writes to the view, but torch warns
    # of memory that it could not write to.
    sliding = np.lib.stride_tricks.sliding_window_view(scaled, lookback, axis=0, writeable=True)
    windows = sliding.transpose(0, 2, 1)

    def block(rows: slice) -> Windows:
        end = rows.stop + lookback
        return Windows(
            x=windows[rows],
            y=target[rows.start + lookback : end].astype(np.float32),
            times=dates[rows.start + lookback : end],
            features=features,
            series=target[:end],
            position=np.arange(rows.start + lookback, end),
        )

    train, val, test = map(block, blocks)
    return Dataset(train, val, Inputs(features, lookback, mean, scale), test)
