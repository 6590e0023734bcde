"""Autoregressive rollouts of surfaces, on a calendar of absolute days.

Day 0 is the first day of the real context, so the first generated day is day C. Pass p, counted from
0, reads the context days [p * offset, p * offset + C) and forecasts the days
[C + p * offset, C + p * offset + horizon).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from farm.base.config import Config
from farm.base.errors import UserError
from farm.base.search_space import Choice, Int
from farm.base.surfaces import Past, Paths
from farm.base.types import Floats
from farm.models.surface_cvae import LEVELS, MEDIAN, Ahead, Latent, SurfaceCVAE

Z95 = 1.6448536269514722  # standard normal quantile of the outer levels
Step = Callable[[int, Tensor], Tensor]
Feed = Literal["median", "fan"]


def require_no_gap(horizon: int, offset: int, what: str) -> None:
    """Refuse an offset beyond the horizon.

    With it, the last days of a later context would lie after the end of one pass and before the start
    of the next, and nobody would have forecast them. Up to the horizon every context is complete,
    whatever its length: the day before a pass begins is at most the last day of the pass before.
    """
    if not 1 <= offset <= horizon:
        raise UserError(
            f"{what}: offset {offset} with horizon {horizon} leaves days between passes that nobody"
            f" forecasts: expected an offset of 1 to {horizon}"
        )


def roll(context: Tensor, step: Step, horizon: int, offset: int, passes: int) -> list[Tensor]:
    """Forecast pass after pass, each from what is known and forecast before it.

    Where several passes forecast a day, the newest of them stands in later contexts: its own context
    was nearer to that day. Days that no later context reads (offset > C) are forecast all the same.

    Parameters
    ----------
    context
        Real days, (B, C, F).
    step
        Given the number of the pass and its context, (B, C, F), forecasts `horizon` days,
        (B, horizon, F). Gradients flow through what it gives.
    horizon, offset
        Days of a pass, and days between the starts of two.
    passes
        How many.

    Returns
    -------
    list of Tensor
        The days of each pass.

    Raises
    ------
    UserError
        If the offset is larger than the horizon.
    """
    require_no_gap(horizon, offset, "rollout")
    known, timeline, made = context.shape[1], context, []
    for number in range(passes):
        start = number * offset
        made.append(step(number, timeline[:, start : start + known]))
        timeline = torch.cat([timeline[:, : start + known], made[-1]], dim=1)
    return made


def pass_costs(
    network: SurfaceCVAE,
    days: Tensor,
    horizon: int,
    offset: int,
    steps: int,
    latent: Latent,
    feed: Feed = "median",
) -> Tensor:
    """Give the mean cost of each pass of a rollout against the truth, (steps,), with gradients.

    Parameters
    ----------
    network
        In training or evaluation mode; see `SurfaceCVAE.costs`.
    days
        Context and truth, (B, T, F) with T at least C + (steps - 1) * offset + horizon.
    horizon, offset, steps
        Of the rollout.
    latent
        ``prior``: as when generating. ``posterior``: z of a pass has seen the truth of that pass.
    feed
        What later passes read of the earlier ones: their ``median`` days, or a path drawn from their
        ``fan``, as when generating; in evaluation mode the median either way.
    """
    known, costs = network.context_days, []

    def step(number: int, context: Tensor) -> Tensor:
        first = known + number * offset
        truth = days[:, first : first + horizon]
        cost, ahead = network.costs(torch.cat([context, truth], dim=1), latent)
        costs.append(cost.mean())
        if feed == "median" or not network.training:
            return network.median_days(ahead)
        steps, returns = torch.randn(2, len(context), horizon, device=context.device)
        return _in_the_fan(network, ahead, steps, returns)

    roll(days[:, :known], step, horizon, offset, steps)
    return torch.stack(costs)


class DeploymentConfig(Config):
    """How a stretch of days is generated; the defaults are the plan's fast way.

    Parameters
    ----------
    days
        Days wanted.
    horizon, offset
        Of each pass. With an offset below the horizon, days that several passes generate are
        averaged, which also narrows the spread of the samples on those days.
    spread
        What makes samples differ. ``latent``: z alone, each path is the median given its z, as in the
        plan. ``fan``: also the forecast quantiles: a path keeps to one quantile of all cells, which
        wanders through the fan as a random walk would, so that each day has the forecast's spread.
    """

    days: Annotated[int, Int(1, 100_000)] = 252
    horizon: Annotated[int, Int(1, 10_000)] = 90
    offset: Annotated[int, Int(1, 10_000)] = 90
    spread: Annotated[Literal["latent", "fan"], Choice(("latent", "fan"))] = "fan"

    @model_validator(mode="after")
    def _no_gap(self) -> Self:
        require_no_gap(self.horizon, self.offset, "deployment")
        return self

    @property
    def passes(self) -> int:
        """Count the passes: as many offsets as the wanted days hold."""
        return math.ceil(self.days / self.offset)

    @property
    def generated(self) -> int:
        """Count the days that the passes reach, at least `days`."""
        return (self.passes - 1) * self.offset + self.horizon


FAST = DeploymentConfig()
HIGH_QUALITY = DeploymentConfig(offset=45)


@dataclass(frozen=True)
class Noise:
    """Standard normal draws of S samples in P passes of H days: they decide a generation.

    Parameters
    ----------
    latent
        Of z, (S, P, H, D).
    steps
        Of the walk through the fan, (S, P, H).
    returns
        Of the daily return within its own fan, (S, P, H).
    """

    latent: Tensor
    steps: Tensor
    returns: Tensor

    @classmethod
    def draw(cls, samples: int, config: DeploymentConfig, latent_dim: int, seed: int) -> Noise:
        """Draw on the CPU, so that a seed means the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        shape = (samples, config.passes, config.horizon)
        latent = torch.randn(*shape, latent_dim, generator=generator)
        return cls(latent, torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))

    def take(self, rows: slice) -> Noise:
        """Select samples."""
        return Noise(self.latent[rows], self.steps[rows], self.returns[rows])


@dataclass(frozen=True)
class Generated:
    """Generated days; day 0 is the one after the context.

    Parameters
    ----------
    samples
        Volatilities, (S, days, W, M), overlaps averaged.
    extra
        Extra features in their own units, (S, days, E); without meaning in a return that is not taught.
    passes
        Volatilities of each pass, (P, S, H, W, M); pass p begins on day `starts[p]`.
    quantiles
        Their forecast quantiles given each sample's own past and z, (P, S, H, W, M, Q).
    starts
        First day of each pass, P numbers.
    oracle
        Whether z has seen the truth. Such a result is shown, never ranked.
    """

    samples: Floats
    extra: Floats
    passes: Floats
    quantiles: Floats
    starts: tuple[int, ...]
    oracle: bool


def generate(
    network: SurfaceCVAE,
    context: Tensor,
    config: DeploymentConfig,
    noise: Noise,
    *,
    truth: Tensor | None = None,
    batch: int = 256,
) -> Generated:
    """Generate days after a context: S samples, each feeding on its own past.

    Parameters
    ----------
    network
        Taught.
    context
        The last C real days, (C, F), scaled.
    config
        Which days and how.
    noise
        See `Noise.draw`.
    truth
        The days after the context, (at least `config.generated`, F): z then comes from the posterior
        that has read them, which makes the result an oracle. None for a real generation.
    batch
        Samples that are computed together, on one of torch's threads; several batches run side by side,
        to the same bits whatever the number of threads.

    Returns
    -------
    Generated
        With S = the samples of `noise`.
    """

    @torch.no_grad()  # which holds for the thread that it is called in
    def part(first: int) -> tuple[Tensor, Tensor]:
        return _generate(network, context, config, noise.take(slice(first, first + batch)), truth)

    was_training, threads = network.training, torch.get_num_threads()
    firsts = range(0, len(noise.latent), batch)
    network.eval()
    if threads == 1 or len(firsts) == 1 or context.is_cuda:
        parts = [part(first) for first in firsts]
    else:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(part, firsts))
        torch.set_num_threads(threads)
    network.train(was_training)
    paths, bands = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    surface, extras = paths[..., : network.cells], paths[..., network.cells :]
    volatility = network.volatility(surface)
    volatility = volatility.reshape(*volatility.shape[:-1], *network.grid)
    quantiles = network.volatility(bands.movedim(-1, -2)).movedim(-2, -1)
    return Generated(
        samples=_averaged(volatility, config).cpu().numpy(),
        extra=_averaged(network.raw_extras(extras), config).cpu().numpy(),
        passes=volatility.cpu().numpy(),
        quantiles=quantiles.reshape(*volatility.shape, len(LEVELS)).cpu().numpy(),
        starts=tuple(number * config.offset for number in range(config.passes)),
        oracle=truth is not None,
    )


def generate_paths(
    network: SurfaceCVAE,
    past: Past,
    config: DeploymentConfig,
    samples: int,
    seed: int,
    truth: Floats | None = None,
) -> Paths:
    """Generate days after what is known.

    Parameters
    ----------
    network
        Taught.
    past
        At least C days.
    config
        Which days and how.
    samples, seed
        How many, and what decides their draws.
    truth
        The days after `past`, scaled, (at least 1, F): the paths are then those of an oracle. Where
        there are fewer than the passes reach, the last one is repeated, which changes nothing up to it.

    Returns
    -------
    Paths
        With returns where the network was taught them.
    """
    known, device = network.context_days, next(network.parameters()).device
    if len(past) < known:
        raise UserError(
            f"got {len(past)} known days, expected at least the context of {known}: begin later or give"
            " more days"
        )
    seen = None
    if truth is not None:
        rows = np.minimum(np.arange(config.generated), len(truth) - 1)
        seen = torch.from_numpy(truth[rows]).to(device)
    made = generate(
        network,
        torch.from_numpy(past.vectors[-known:]).to(device),
        config,
        Noise.draw(samples, config, network.config.latent_dim, seed),
        truth=seen,
    )
    return Paths(
        made.samples,
        made.extra[..., 0] if network.config.variant == "ex_loss" else None,
        tuple(zip(made.starts, made.passes, strict=True)),
        oracle="the days themselves" if made.oracle else "",
    )


def _generate(
    network: SurfaceCVAE, context: Tensor, config: DeploymentConfig, noise: Noise, truth: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Roll a few samples out: scaled days (P, S, H, F) and cell quantiles (P, S, H, G, Q)."""
    device, count = context.device, len(noise.latent)
    bands: list[Tensor] = []

    def step(number: int, past: Tensor) -> Tensor:
        memory = network.remember(past)
        if truth is None:
            drawn = noise.latent[:, number].to(device)
            z = network.prior(memory, config.horizon).draw(drawn)
        else:
            first = number * config.offset
            seen = truth[first : first + config.horizon].expand(count, -1, -1)
            z = network.posterior(torch.cat([past, seen], dim=1)).mean
        ahead = network.decode(memory, z)
        bands.append(network.bounded(ahead.surface))
        if config.spread == "latent":
            return network.median_days(ahead)
        steps, returns = (drawn[:, number].to(device) for drawn in (noise.steps, noise.returns))
        return _in_the_fan(network, ahead, steps, returns)

    start = context.expand(count, -1, -1)
    days = roll(start, step, config.horizon, config.offset, config.passes)
    return torch.stack(days), torch.stack(bands)


def _in_the_fan(network: SurfaceCVAE, ahead: Ahead, steps: Tensor, returns: Tensor) -> Tensor:
    """Give a path through the quantiles: a two-piece normal on each day, one score for all cells.

    The score of day k is a random walk over the square root of k, so it is standard normal on every
    day, and the path moves through the fan as a random walk moves through its own.
    """
    ks = torch.arange(1, steps.shape[1] + 1, device=steps.device)
    score = steps.cumsum(dim=1) / ks.sqrt()
    cells = _at(ahead.surface, score.unsqueeze(-1))
    if network.extra_head is None:
        return network.as_days(cells, torch.zeros_like(score))
    said = ahead.extra[..., 0, :]
    # The squared error teaches the median alone, so only the pinball loss makes a fan of returns.
    taught = network.config.extra_loss == "pinball"
    return network.as_days(cells, _at(said, returns) if taught else said[..., MEDIAN])


def _at(quantiles: Tensor, score: Tensor) -> Tensor:
    """Read quantiles, (..., Q) at `LEVELS`, at standard normal scores."""
    assert LEVELS == (0.05, 0.5, 0.95)
    low, middle, high = quantiles.unbind(-1)
    return middle + score / Z95 * torch.where(score > 0, high - middle, middle - low)


def _averaged(passes: Tensor, config: DeploymentConfig) -> Tensor:
    """Put passes, (P, S, H, ...), on the calendar and average those that share a day, (S, days, ...)."""
    count, samples, horizon = passes.shape[:3]
    total = passes.new_zeros(samples, config.generated, *passes.shape[3:])
    times = passes.new_zeros(config.generated)
    for number in range(count):
        days = slice(number * config.offset, number * config.offset + horizon)
        total[:, days] += passes[number]
        times[days] += 1
    return (total / times.view(-1, *[1] * (total.ndim - 2)))[:, : config.days]
