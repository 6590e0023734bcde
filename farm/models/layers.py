"""Parts that several models share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float as Shaped
from torch import Tensor, nn


class SinusoidalPositions(nn.Module):
    """Add fixed sine and cosine positions to (B, T, D); Vaswani et al. 2017, section 3.5."""

    table: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        step = torch.arange(length, dtype=torch.float32).unsqueeze(1)
        rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
        table = torch.zeros(length, width)
        table[:, 0::2] = torch.sin(step * rate)
        table[:, 1::2] = torch.cos(step * rate[: width // 2])
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add the positions."""
        return x + self.table[: x.shape[1]]


class OrderedQuantiles(nn.Module):
    """Map a summary, (..., D), to quantiles, (..., Q) or (..., K, Q), that cannot cross.

    One output is the quantile of the level nearest to one half. The others stand apart from their
    inner neighbours by a softplus, which is never negative, so the order holds by construction
    and needs no penalty.

    Parameters
    ----------
    width
        D.
    levels
        The Q quantile levels, increasing.
    targets
        K, where one summary speaks of several targets; None for one target and no axis for it.
    """

    def __init__(self, width: int, levels: Sequence[float], targets: int | None = None) -> None:
        super().__init__()
        self.middle = min(range(len(levels)), key=lambda q: abs(levels[q] - 0.5))
        self.shape = (len(levels),) if targets is None else (targets, len(levels))
        self.linear = nn.Linear(width, math.prod(self.shape))

    def forward(self, summary: Shaped[Tensor, "*N D"]) -> Shaped[Tensor, "*M Q"]:
        """Give the quantiles in order of their levels."""
        out = self.linear(summary).unflatten(-1, self.shape)
        centre = out[..., self.middle : self.middle + 1]
        gaps = nn.functional.softplus(out)
        above = centre + gaps[..., self.middle + 1 :].cumsum(-1)
        below = centre - gaps[..., : self.middle].flip(-1).cumsum(-1).flip(-1)
        return torch.cat([below, centre, above], dim=-1)
