"""What flows between the floors in the surface study: days of surfaces in, paths of surfaces out.

Shape letters: N days, W maturities, M strikes, E extra features, F = W * M + E, C days of context,
S samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from farm.base.types import Dates, Floats, Inputs, Windows


@dataclass(frozen=True)
class SurfaceInputs(Inputs):
    """What a model of implied-volatility surfaces is told of its days.

    A day is one row of F = W * H + E numbers: the logarithm of each cell's volatility, maturity by
    maturity, then the extra features, the day's log return first. `features`, `mean` and `scale` say
    how each was scaled; `lookback` is the length of the context, C.

    Parameters
    ----------
    maturities
        The W maturities, in years, increasing.
    shapes
        The extra features after the return as linear functions of the unscaled surface, (E - 1, W, H):
        skew and slope. A generated day gets them from its generated surface, so that the two agree.
    level
        Row and column of the cell that stands for the whole surface.
    log_moneyness
        log(K/S) of the H columns, increasing; None for a grid in delta.
    delta
        Call delta of the H columns, increasing; None for a grid in moneyness.
    """

    maturities: Floats
    shapes: Floats
    level: tuple[int, int]
    log_moneyness: Floats | None = None
    delta: Floats | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Give W and H."""
        return self.shapes.shape[1], self.shapes.shape[2]

    @property
    def extras(self) -> int:
        """Count the extra features, E."""
        return len(self.shapes) + 1


@dataclass(frozen=True)
class Past:
    """All that is known before a generated stretch begins; its last row is the day before.

    Parameters
    ----------
    days
        Dates, (N,).
    surface
        Implied volatilities, (N, W, M) float64, positive.
    extra
        Extra features, (N, E) float64 in their own units, the day's log return first.
    vectors
        The same days as a network reads them, scaled, (N, F) float32; see `SurfaceInputs`.
    """

    days: Dates
    surface: Floats
    extra: Floats
    vectors: Floats

    def __len__(self) -> int:
        """Count the days."""
        return len(self.days)


@dataclass(frozen=True)
class SurfaceWindows(Windows):
    """Windows over days of surfaces, and the days themselves.

    A window is a context of C days, and its target the level of the day after it, in volatility.

    Parameters
    ----------
    past
        Every day from the beginning of the record to the end of this block, N days.
    first
        Row of `past` on which the block begins. Days before it are known, and not to be learnt from
        or scored.
    """

    past: Past = field(kw_only=True)
    first: int = field(kw_only=True)

    @property
    def block(self) -> Floats:
        """Give the scaled days of the block alone, (N - first, F)."""
        return self.past.vectors[self.first :]

    @property
    def with_context(self) -> Floats:
        """Give the scaled days of the block and the C before it, from which its first days follow."""
        return self.past.vectors[max(self.first - self.x.shape[1], 0) :]

    def before(self, row: int) -> Past:
        """Give what is known before a row of `past`."""
        past = self.past
        return Past(past.days[:row], past.surface[:row], past.extra[:row], past.vectors[:row])


@dataclass(frozen=True)
class Paths:
    """Generated days after a `Past`; day 0 is the first of them.

    Parameters
    ----------
    samples
        Implied volatilities, (S, days, W, M), positive.
    returns
        Daily log returns of the underlying, (S, days); None from a model that generates none.
    passes
        For each pass of a rollout its first day and what it generated before overlaps were averaged,
        (S, H, W, M); empty for a model that does not roll.
    oracle
        What the paths have seen of the truth, such as ``"the days themselves"``; empty for an honest
        generation. An oracle is shown, never ranked.

    Raises
    ------
    ValueError
        If shapes disagree or a volatility is not positive and finite.
    """

    samples: Floats
    returns: Floats | None = None
    passes: tuple[tuple[int, Floats], ...] = ()
    oracle: str = ""

    def __post_init__(self) -> None:
        """Hold the paths to their shape and sign."""
        if self.samples.ndim != 4 or self.samples.size == 0:
            raise ValueError(f"samples have shape {self.samples.shape}, expected (S, days, W, M)")
        if self.returns is not None and self.returns.shape != self.samples.shape[:2]:
            raise ValueError(f"returns have shape {self.returns.shape}, expected {self.samples.shape[:2]}")
        if not (np.isfinite(self.samples).all() and (self.samples > 0).all()):
            raise ValueError("a generated volatility is not positive and finite")
