"""Windows over days of surfaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from farm.base.surfaces import Past, SurfaceInputs, SurfaceWindows
from farm.base.types import Dataset
from farm.data.day_vectors import day_vectors, shape_weights, surface_inputs
from farm.data.splits import Blocks
from farm.data.surface import Surfaces, anchors


def surface_dataset(surfaces: Surfaces, context: int, blocks: Blocks) -> Dataset:
    """Cut contexts of days that are followed by a day of a block, and scale the days.

    Parameters
    ----------
    surfaces
        N days.
    context
        Days of a context, C.
    blocks
        Rows of the days.

    Returns
    -------
    Dataset
        Blocks of `SurfaceWindows` over one scaled copy of the days, scaled with the mean and the
        standard deviation of the training rows. The target is the level of the day after a context.
        Contexts of the training block lie within it; later ones may begin before their block, with
        days that were known.
    """
    iv, extra = surfaces.iv.astype(np.float64), surfaces.extra.astype(np.float64)
    extra[:, 0] = surfaces.returns
    inputs = _inputs(surfaces, context, blocks.train)
    vectors = day_vectors(iv, extra, inputs)
    # The window axis comes last: (N + 1 - C, F, C). Nothing writes to the view, but torch warns of
    # memory that it could not write to.
    sliding = np.lib.stride_tricks.sliding_window_view(vectors, context, axis=0, writeable=True)
    windows, level = sliding.transpose(0, 2, 1), iv[:, inputs.level[0], inputs.level[1]]

    def block(rows: slice, first: int) -> SurfaceWindows:
        """Cut one block, whose first target stands on row `first`."""
        end = rows.stop
        return SurfaceWindows(
            x=windows[first - context : end - context],
            y=level[first:end].astype(np.float32),
            times=surfaces.dates[first:end],
            features=inputs.features,
            series=level[:end],
            position=np.arange(first, end),
            past=Past(surfaces.dates[:end], iv[:end], extra[:end], vectors[:end]),
            first=rows.start,
        )

    return Dataset(
        block(blocks.train, blocks.train.start + context),
        block(blocks.val, blocks.val.start),
        inputs,
        block(blocks.test, blocks.test.start),
        block(blocks.calibration, blocks.calibration.start),
    )


def _inputs(surfaces: Surfaces, context: int, train: slice) -> SurfaceInputs:
    """Describe the days, with a scaler from the training rows."""
    year, short, last, middle = anchors(surfaces.maturities, surfaces.strikes, surfaces.axis)
    grid = (len(surfaces.maturities), len(surfaces.strikes))
    extra = surfaces.extra[train].astype(np.float64)
    extra[:, 0] = surfaces.returns[train]
    moneyness = surfaces.axis == "moneyness"
    return surface_inputs(
        surfaces.iv[train],
        extra,
        context,
        surfaces.maturities.tolist(),
        np.log(surfaces.strikes).tolist() if moneyness else None,
        shape_weights(grid, skew=year, middle=middle, wing=1, ends=(last, short)),
        (year, middle),
        None if moneyness else surfaces.strikes.tolist(),
    )


def cell_names(inputs: SurfaceInputs) -> tuple[str, ...]:
    """Name the cells, maturity by maturity, such as ``"1y 0.85"`` or ``"3m 0.25d"`` on a delta grid."""
    if inputs.log_moneyness is not None:
        values, unit = np.exp(inputs.log_moneyness).tolist(), ""
    else:
        assert inputs.delta is not None  # a grid is one or the other
        values, unit = np.asarray(inputs.delta).tolist(), "d"
    strikes = _told_apart([f"{value:.4g}{unit}" for value in values], values, unit)
    years = np.asarray(inputs.maturities).tolist()
    maturities = _told_apart(list(map(_duration, years)), years, "y")
    return tuple(f"{maturity} {strike}" for maturity in maturities for strike in strikes)


def _told_apart(short: Sequence[str], values: Sequence[float], unit: str) -> list[str]:
    """Return short names where no two are alike, and those with every digit where some are."""
    return list(short) if len(set(short)) == len(short) else [f"{float(value)!r}{unit}" for value in values]


def _duration(years: float) -> str:
    """Say a maturity as a trader does: in days, months or years."""
    for unit, length in (("y", 1.0), ("m", 1 / 12), ("d", 1 / 365)):
        if years > 0.999 * length and abs(years / length - round(years / length)) < 0.02:
            return f"{round(years / length)}{unit}"
    return f"{years:.4g}y"
