"""Days of surfaces as rows of numbers: log volatilities and extra features, scaled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from farm.base.errors import UserError
from farm.base.surfaces import SurfaceInputs
from farm.base.types import Floats

EXTRAS = ("return", "skew", "slope")


def shape_weights(grid: tuple[int, int], skew: int, middle: int, wing: int, ends: tuple[int, int]) -> Floats:
    """Write skew and slope as linear functions of a surface, (2, W, H).

    Parameters
    ----------
    grid
        W and H.
    skew
        Row on which the skew is read: the mean of the columns `wing` beside the middle, less the middle.
    middle, wing
        Column at the money, and how far the wings lie from it.
    ends
        Rows of the slope: the first less the second, at the money.
    """
    weights = np.zeros((2, *grid))
    weights[0, skew, [middle - wing, middle + wing]] = 0.5
    weights[0, skew, middle] -= 1.0
    weights[1, ends[0], middle] += 1.0
    weights[1, ends[1], middle] -= 1.0
    return weights


SHAPES_5X5 = shape_weights((5, 5), skew=3, middle=2, wing=1, ends=(4, 1))


def surface_inputs(
    surface: Floats,
    extra: Floats,
    context: int,
    maturities: Sequence[float],
    log_moneyness: Sequence[float] | None,
    shapes: Floats = SHAPES_5X5,
    level: tuple[int, int] = (3, 2),
    delta: Sequence[float] | None = None,
) -> SurfaceInputs:
    """Describe days of surfaces and fit their scaler; give it the training rows alone.

    Parameters
    ----------
    surface
        Implied volatility, (N, W, H), positive and finite.
    extra
        Extra features, (N, E), finite, the return first.
    context
        Days of the context, C.
    maturities, log_moneyness, shapes, level, delta
        See `SurfaceInputs`.

    Returns
    -------
    SurfaceInputs
        With the mean and the standard deviation of each column; a column that is constant has scale 1.

    Raises
    ------
    UserError
        If a volatility is not positive and finite, an extra feature not finite, or shapes disagree.
    """
    raw = _raw(surface, extra)
    if shapes.shape[1:] != surface.shape[1:] or len(shapes) + 1 != extra.shape[1]:
        raise UserError(
            f"surfaces of shape {surface.shape[1:]} with {extra.shape[1]} extra features: expected"
            f" {shapes.shape[1:]} with {len(shapes) + 1}: correct the grid or its skew and slope"
        )
    scale = raw.std(axis=0)
    cells = tuple(f"iv[{i},{j}]" for i in range(surface.shape[1]) for j in range(surface.shape[2]))
    extras = EXTRAS if extra.shape[1] == len(EXTRAS) else tuple(f"extra{i}" for i in range(extra.shape[1]))
    return SurfaceInputs(
        features=cells + extras,
        lookback=context,
        mean=raw.mean(axis=0),
        scale=np.where(scale > 0, scale, 1.0),
        maturities=np.asarray(maturities, dtype=np.float64),
        shapes=shapes,
        level=level,
        log_moneyness=None if log_moneyness is None else np.asarray(log_moneyness, dtype=np.float64),
        delta=None if delta is None else np.asarray(delta, dtype=np.float64),
    )


def day_vectors(surface: Floats, extra: Floats, inputs: SurfaceInputs) -> Floats:
    """Scale days of surfaces, (N, F) float32; see `SurfaceInputs` and `surface_inputs`."""
    return ((_raw(surface, extra) - inputs.mean) / inputs.scale).astype(np.float32)


def _raw(surface: Floats, extra: Floats) -> Floats:
    """Put log volatilities and extra features side by side, (N, F) in double precision."""
    cells = surface.reshape(len(surface), -1).astype(np.float64)
    bad = ~(np.isfinite(cells) & (cells > 0)).all(axis=1)
    if bad.any():
        raise UserError(
            f"{int(bad.sum())} of {bad.size} surfaces hold a volatility that is not positive and finite,"
            f" the first on row {int(bad.argmax())}: expected volatilities above 0; drop or mend those days"
        )
    lost = ~np.isfinite(extra).all(axis=1)
    if lost.any():
        raise UserError(
            f"{int(lost.sum())} of {lost.size} rows of extra features are not finite, the first is row"
            f" {int(lost.argmax())}: expected numbers; drop or mend those days"
        )
    return np.concatenate([np.log(cells), extra.astype(np.float64)], axis=1)
