"""Training objectives that several models share."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float as Shaped
from torch import Tensor


def pinball_loss(
    quantiles: Shaped[Tensor, "B Q"],
    y: Shaped[Tensor, " B"],
    levels: Sequence[float],
    weights: Sequence[float] | None = None,
) -> Shaped[Tensor, ""]:
    """Give the pinball (quantile) loss, Koenker & Bassett 1978, Econometrica 46(1).

    At level q an error ``e = y - quantile`` costs ``q e`` if positive and ``(q - 1) e`` if negative.

    Parameters
    ----------
    quantiles
        Quantile forecasts, (B, Q), in the unit of `y`.
    y
        Truths, (B,), finite.
    levels
        The Q quantile levels, in (0, 1).
    weights
        What each level counts for, Q positive numbers; only their ratios matter. None for all alike.

    Returns
    -------
    Tensor
        Mean over samples of the (weighted) mean over levels; a scalar.
    """
    level = quantiles.new_tensor(levels)
    error = y.unsqueeze(-1) - quantiles
    cost = level.sub(1).mul(error).maximum(level * error)
    if weights is None:
        return cost.mean()
    weight = quantiles.new_tensor(weights)
    return (cost @ (weight / weight.sum())).mean()
