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


class LSTM(nn.LSTM):
    """`torch.nn.LSTM` over (B, T, F), with dropout between its layers, that a seed decides on a GPU too.

    cuDNN draws its dropout from a state that it keeps for the life of the process: no seed sets it and no
    checkpoint holds it. So on a GPU, while it is taught, each layer is a call and dropout is torch's.

    Parameters
    ----------
    width
        F.
    hidden_size, num_layers
        D and the number of layers.
    dropout
        Share of a layer's output that is hidden from the next one; without effect with one layer.
    """

    def __init__(self, width: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        between = dropout if num_layers > 1 else 0.0
        super().__init__(width, hidden_size, num_layers, batch_first=True, dropout=between)

    def forward(  # type: ignore[override]  # packed sequences are not for it
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Give the last layer's outputs, (B, T, D), and the last states, each (layers, B, D)."""
        if x.is_cuda and self.training and self.dropout > 0:
            return self.layer_by_layer(x, state)
        out: tuple[Tensor, tuple[Tensor, Tensor]] = super().forward(x, state)
        return out

    def layer_by_layer(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Compute the same, a layer at a time."""
        if state is None:
            zeros = x.new_zeros(self.num_layers, len(x), self.hidden_size)
            state = zeros, zeros
        ends = []
        for k, weights in enumerate(self.all_weights):
            if k:
                x = nn.functional.dropout(x, self.dropout, self.training)
            begin = state[0][k : k + 1], state[1][k : k + 1]
            x, *end = torch.lstm(x, begin, tuple(weights), self.bias, 1, 0.0, self.training, False, True)
            ends.append(end)
        hidden, cell = (torch.cat(part) for part in zip(*ends, strict=True))
        return x, (hidden, cell)


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
