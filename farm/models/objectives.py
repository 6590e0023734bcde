"""What quantile networks and latent-variable models are taught with.

Shape letters: B samples, N assets, D latent dimensions, Q quantile levels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float as Shaped
from torch import Tensor, nn

LEVELS = (0.05, 0.5, 0.95)  # of every quantile network


def ordered_quantiles(raw: Shaped[Tensor, "*B Q"]) -> Shaped[Tensor, "*B Q"]:
    """Turn free numbers into quantiles that cannot cross.

    The middle number is the median. Each other quantile lies a positive step, the softplus of its
    own number, beyond its inner neighbour.

    Parameters
    ----------
    raw
        Any finite numbers; Q is odd.

    Returns
    -------
    Tensor
        Non-decreasing along the last axis.
    """
    middle = raw.shape[-1] // 2
    median = raw[..., middle : middle + 1]
    steps = nn.functional.softplus(raw)
    below = steps[..., :middle].flip(-1).cumsum(-1).flip(-1)
    above = steps[..., middle + 1 :].cumsum(-1)
    return torch.cat([median - below, median, median + above], dim=-1)


def pinball(
    quantiles: Shaped[Tensor, "*B Q"], truth: Shaped[Tensor, "*B"], levels: tuple[float, ...] = LEVELS
) -> Shaped[Tensor, "*B"]:
    """Give the pinball loss of each sample, the mean over its levels.

    At level q an error e = truth - quantile costs q e if positive and (q - 1) e if negative
    (Koenker & Bassett 1978, Econometrica 46, 33-50).
    """
    error = truth.unsqueeze(-1) - quantiles
    level = torch.tensor(levels, dtype=error.dtype, device=error.device)
    return torch.maximum(level * error, (level - 1) * error).mean(dim=-1)


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
