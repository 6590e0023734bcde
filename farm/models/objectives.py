"""Training objectives that several models share."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float as Shaped
from torch import Tensor


def pinball_costs(
    quantiles: Shaped[Tensor, "*N Q"], y: Shaped[Tensor, "*N"], levels: Sequence[float]
) -> Shaped[Tensor, "*N Q"]:
    """Give what each quantile of each truth costs; see `pinball_loss`."""
    level = quantiles.new_tensor(levels)
    error = y.unsqueeze(-1) - quantiles
    return level.sub(1).mul(error).maximum(level * error)


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
    cost = pinball_costs(quantiles, y, levels)
    if weights is None:
        return cost.mean()
    weight = quantiles.new_tensor(weights)
    return (cost @ (weight / weight.sum())).mean()


def gaussian_kl(
    mean: Shaped[Tensor, "*N D"],
    log_variance: Shaped[Tensor, "*N D"],
    prior_mean: Shaped[Tensor, "*N D"],
    prior_log_variance: Shaped[Tensor, "*N D"],
) -> Shaped[Tensor, "*N D"]:
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


def calendar_gap(variance: Shaped[Tensor, "*N W H"]) -> Shaped[Tensor, "*N"]:
    """Give how far total variance falls with maturity, on average over neighbouring cells.

    A surface is free of calendar arbitrage where total variance w = iv^2 T does not fall with T at
    equal log-moneyness (Gatheral & Jacquier 2014, Quantitative Finance 14(1), lemma 2.1).

    Parameters
    ----------
    variance
        Total variance, (..., W, H), W maturities increasing.

    Returns
    -------
    Tensor
        Mean of max(0, w[i] - w[i + 1]); zero for a sound surface.
    """
    return variance.diff(dim=-2).neg().clamp(min=0).mean(dim=(-2, -1))


def butterfly_gap(
    variance: Shaped[Tensor, "*N W H"], log_moneyness: Shaped[Tensor, " H"]
) -> Shaped[Tensor, "*N"]:
    """Give how far Gatheral's g falls below zero, on average over the inner cells of the grid.

    g(k) = (1 - k w'/(2 w))^2 - w'^2/4 (1/w + 1/4) + w''/2 is not negative where a slice is free of
    butterfly arbitrage (Gatheral & Jacquier 2014, lemma 2.2). The derivatives are those of the
    parabola through three neighbouring strikes.

    Parameters
    ----------
    variance
        Total variance, (..., W, H), positive, H at least 3.
    log_moneyness
        log(K/S) of the H columns, increasing.

    Returns
    -------
    Tensor
        Mean of max(0, -g); zero for a sound surface.
    """
    k, w = log_moneyness[1:-1], variance[..., 1:-1]
    step, rise = log_moneyness.diff(), variance.diff(dim=-1) / log_moneyness.diff()
    left, right = step[:-1], step[1:]
    slope = (right * rise[..., :-1] + left * rise[..., 1:]) / (left + right)
    bend = 2 * (rise[..., 1:] - rise[..., :-1]) / (left + right)
    g = (1 - k * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + 0.25) + bend / 2
    return g.neg().clamp(min=0).mean(dim=(-2, -1))
