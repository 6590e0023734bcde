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


def gaussian_kl(
    mean: Shaped[Tensor, "B D"],
    log_variance: Shaped[Tensor, "B D"],
    prior_mean: Shaped[Tensor, "B D"],
    prior_log_variance: Shaped[Tensor, "B D"],
) -> Shaped[Tensor, "B D"]:
    """Give KL(q || p) of each dimension of two diagonal Gaussians, in nats."""
    gap = log_variance - prior_log_variance
    distance = (mean - prior_mean) ** 2 / prior_log_variance.exp()
    return 0.5 * (gap.exp() + distance - 1 - gap)


def kl_penalty(kl: Shaped[Tensor, "B D"], free_bits: float) -> Shaped[Tensor, ""]:
    """Sum the mean KL of each dimension, counting no dimension below its free allowance.

    A dimension that carries less than `free_bits` nats is not pushed further towards the prior, so
    the latent keeps some room (Kingma et al. 2016, NeurIPS 29, eq. 15).
    """
    return kl.mean(dim=0).clamp(min=free_bits).sum()


def warm_up(epoch: int, epochs: int) -> float:
    """Give the share of the KL weight in an epoch, counted from 1: linear, 1 after `epochs` epochs.

    Bowman et al. 2016, CoNLL, section 3.1. With 0 epochs it is 1 from the start.
    """
    return min(1.0, epoch / (epochs + 1))
