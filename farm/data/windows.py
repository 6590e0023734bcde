"""Windows over one feature array: strided views where nothing is hidden, a small copy where it is."""

from __future__ import annotations

import numpy as np

from farm.base.errors import UserError
from farm.base.types import Dataset, Dates, Floats, Inputs, Windows
from farm.data.splits import Blocks, Calibrated, Chronological, WalkForward


def next_step_dataset(
    table: Floats,
    target: Floats,
    dates: Dates,
    features: tuple[str, ...],
    lookback: int,
    split: Chronological | Calibrated | WalkForward,
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
        windows cover; a feature that is constant there keeps scale 1. Each fit of a walk-forward has
        a scaler of its own.

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

    def cut(train: slice, val: slice, test: slice, calibration: slice | None = None) -> Dataset:
        mean, scale = _scaler(table[: train.stop - 1 + lookback])
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

        inputs = Inputs(features, lookback, mean, scale)
        mending = None if calibration is None else block(calibration)
        return Dataset(block(train), block(val), inputs, block(test), mending)

    if isinstance(split, Chronological):
        return cut(*split.blocks(n, gap=1))
    if isinstance(split, WalkForward):
        return _walk_forward([cut(*blocks) for blocks in split.blocks(n, gap=1)])
    four = split.blocks(dates[lookback:], gap=1)
    return cut(four.train, four.val, four.test, four.calibration)


def _walk_forward(refits: list[Dataset]) -> Dataset:
    """Put the test blocks of a walk-forward, and its validation blocks, one after the other."""
    last = refits[-1]
    tests = _joined([refit.open_test() for refit in refits])
    return Dataset(
        last.train, _joined([refit.val for refit in refits]), last.inputs, tests, refits=tuple(refits)
    )


def _joined(blocks: list[Windows]) -> Windows:
    """Copy blocks into one that says which fit each sample is for."""
    return Windows(
        x=np.concatenate([block.x for block in blocks]),
        y=np.concatenate([block.y for block in blocks]),
        times=np.concatenate([block.times for block in blocks]),
        features=blocks[0].features,
        series=blocks[-1].series,
        position=np.concatenate([block.position for block in blocks]),
        refit=np.repeat(np.arange(len(blocks)), [len(block) for block in blocks]),
    )


def same_day_dataset(
    table: Floats,
    dates: Dates,
    features: tuple[str, ...],
    context: int,
    hidden: int,
    blocks: Blocks,
) -> Dataset:
    """Cut windows that end on the target's own day, with the target's channels hidden there.

    Sample i has the days i .. i + context; its target is the first feature on the last of them.

    Parameters
    ----------
    table
        Features, (T, F), finite, unscaled; the target's channels first.
    dates
        Days, (T,).
    features
        The F names.
    context
        Days before the target's own.
    hidden
        How many leading columns are hidden on the last day.
    blocks
        Rows of the T - context samples.

    Returns
    -------
    Dataset
        Windows of context + 1 days. On the last day the hidden columns are 0, the training mean,
        and `Windows.hidden` has their scaled truth. Mean and scale come from the rows that training
        windows cover. The windows are a copy: a day that one window hides is shown by the next.
    """
    mean, scale = _scaler(table[blocks.train.start : blocks.train.stop + context])
    scaled = ((table - mean) / scale).astype(np.float32)
    sliding = np.lib.stride_tricks.sliding_window_view(scaled, context + 1, axis=0)
    windows = np.ascontiguousarray(sliding.transpose(0, 2, 1))
    windows[:, -1, :hidden] = 0.0
    target = np.ascontiguousarray(table[:, 0])

    def block(rows: slice) -> Windows:
        days = slice(rows.start + context, rows.stop + context)
        return Windows(
            x=windows[rows],
            y=target[days].astype(np.float32),
            times=dates[days],
            features=features,
            series=target[: days.stop],
            position=np.arange(days.start, days.stop),
            hidden=scaled[days, :hidden].copy(),
        )

    inputs = Inputs(features, context + 1, mean, scale)
    return Dataset(
        block(blocks.train), block(blocks.val), inputs, block(blocks.test), block(blocks.calibration)
    )


def next_window(table: Floats, target: Floats, dates: Dates, inputs: Inputs, hidden: int = 0) -> Windows:
    """Cut the last window there is, for a target that is not known yet.

    Parameters
    ----------
    table
        Features, (T, F), finite, unscaled.
    target
        Series before the target, (P,).
    dates
        Days of the table, (T,).
    inputs
        Days of a window and the scaler, from training.
    hidden
        How many leading columns are hidden on the last day, as by `same_day_dataset`; 0 for none.

    Returns
    -------
    Windows
        One sample: the last `Inputs.lookback` rows; its target reads 0, its time is the last of `dates`.

    Raises
    ------
    UserError
        If there are fewer rows.
    """
    if len(table) < inputs.lookback:
        raise UserError(
            f"got {len(table)} usable rows, expected at least the {inputs.lookback} of a window:"
            " give more days"
        )
    x = ((table[-inputs.lookback :] - inputs.mean) / inputs.scale).astype(np.float32)[None]
    x[:, -1, :hidden] = 0.0
    return Windows(
        x=x,
        y=np.zeros(1, dtype=np.float32),
        times=dates[-1:],
        features=inputs.features,
        series=np.append(target, 0.0),
        position=np.array([len(target)]),
        hidden=np.zeros((1, hidden), dtype=np.float32) if hidden else None,
    )


def _scaler(seen: Floats) -> tuple[Floats, Floats]:
    """Give mean and standard deviation of each column; a constant column keeps scale 1."""
    mean, scale = seen.mean(axis=0), seen.std(axis=0)
    return mean, np.where(scale > 1e-12 * np.maximum(1.0, np.abs(mean)), scale, 1.0)
