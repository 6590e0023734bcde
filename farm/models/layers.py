"""Parts that several models share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ReturnHead(nn.Sequential):
    """Map a summary of the window, (..., D), to one number, (..., 1)."""

    def __init__(self, width: int, hidden: int = 32) -> None:
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))


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
