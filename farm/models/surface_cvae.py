"""Conditional VAE with memory that forecasts implied-volatility surfaces.

Shape letters: B samples, C days of context, H days ahead, F numbers of a day (G = W * M cells, W
maturities, M strikes, then E extra features), D latent dimensions, U hidden width, Q quantile levels.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float as Shaped
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from farm.base.config import listed
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Choice, Float, Int
from farm.base.surfaces import SurfaceInputs
from farm.base.types import Forecast, Inputs
from farm.models.layers import LSTM, OrderedQuantiles
from farm.models.network import Batch, ForecastNetwork, NetworkConfig
from farm.models.objectives import butterfly_gap, calendar_gap, gaussian_kl, pinball_costs

LEVELS = (0.05, 0.5, 0.95)
MEDIAN = 1
LOG_VARIANCE = 10.0  # bound on log variances, so that no exponential overflows
FARTHEST = 8.0  # standard deviations that a generated day may lie from the mean: a rollout stays finite
NARROW = -2.0  # where the gaps between quantiles start: softplus(-2) = 0.13 standard deviations
_LONGEST = 252.0  # days ahead are told to the prior as a share of a year

Variant = Literal["no_ex", "ex_no_loss", "ex_loss"]
Latent = Literal["posterior", "prior"]


@component(MODELS)
class SurfaceCVAEConfig(NetworkConfig):
    """Config of `SurfaceCVAE`; the defaults are those of the plan, where the plan names a value.

    Of the plan's layers 5, 5, 5 for encoder and decoder, the encoder alone has any; the decoder is one head.

    Parameters
    ----------
    variant
        ``no_ex``: surfaces alone. ``ex_no_loss``: the extra features are read, and forecast without
        being taught. ``ex_loss``: they are taught too.
    prior
        ``standard``: z ~ N(0, 1). ``learned``: z ~ p(z | context, days ahead).
    output
        ``change``: what is decoded is added to the last surface of the context, so that an untaught
        network is a random walk. ``revert``: to what `Reversion` makes of the context, so that it is a
        regression to the mean. ``level``: it is the surface itself. The plan does not say.
    encoder
        How a day's surface is read: ``dense`` layers, or 3x3 ``convolution`` over the grid.
    surface_hidden
        Widths of those layers, or their channels.
    hidden_size, num_layers, dropout
        Of every LSTM.
    latent_dim
        Latent dimensions of a day.
    quantile_weights
        What the pinball losses of the levels 0.05, 0.5 and 0.95 count for; they are divided by their
        sum, so that beside the other terms 5:1:5 weighs 3.67 times less than as a mean over levels.
    kl_weight
        Weight of the KL divergence, summed over dimensions, mean over days.
    extra_weight
        Weight of the loss of the extra features, with ``ex_loss``.
    extra_loss
        ``l2``: squared error of their median; their outer quantiles are then not taught.
        ``pinball``: weighted pinball loss of all three.
    extra_return_only
        Whether that loss is taken on the return alone.
    calendar_weight, butterfly_weight
        Weights of the penalties on static arbitrage of the median surface; see `calendar_gap` and
        `butterfly_gap`.
    """

    VERSION = 1

    name: Literal["surface_cvae"] = "surface_cvae"
    study: ClassVar[str] = "surface"
    in_phases: ClassVar[bool] = True
    quantile_levels: ClassVar[tuple[float, ...]] = LEVELS
    variant: Annotated[Variant, Choice(("no_ex", "ex_no_loss", "ex_loss"))] = "ex_loss"
    prior: Annotated[Literal["standard", "learned"], Choice(("standard", "learned"))] = "standard"
    output: Annotated[Literal["change", "revert", "level"], Choice(("change", "revert", "level"))] = "change"
    encoder: Annotated[Literal["dense", "convolution"], Choice(("dense", "convolution"))] = "dense"
    surface_hidden: Annotated[
        tuple[Annotated[int, Int(1, 512)], ...], BeforeValidator(listed), Field(min_length=1, max_length=8)
    ] = (5, 5, 5)
    hidden_size: Annotated[int, Int(1, 1024, log=True)] = 100
    num_layers: Annotated[int, Int(1, 8)] = 2
    dropout: Annotated[float, Float(0.0, 0.9)] = 0.3
    latent_dim: Annotated[int, Int(1, 256, log=True)] = 5
    quantile_weights: Annotated[
        tuple[Annotated[float, Float(1e-3, 1e3)], ...],
        BeforeValidator(listed),
        Field(min_length=3, max_length=3),
    ] = (5.0, 1.0, 5.0)
    kl_weight: Annotated[float, Float(0.0, 100.0)] = 1e-5
    extra_weight: Annotated[float, Float(0.0, 100.0)] = 1.0
    extra_loss: Annotated[Literal["l2", "pinball"], Choice(("l2", "pinball"))] = "l2"
    extra_return_only: Annotated[bool, Choice((True, False))] = True
    calendar_weight: Annotated[float, Float(0.0, 1e6)] = 0.0
    butterfly_weight: Annotated[float, Float(0.0, 1e6)] = 0.0

    def build(self, inputs: Inputs) -> SurfaceCVAE:
        """Make the untrained network; windows that are no surfaces are a `UserError`."""
        if not isinstance(inputs, SurfaceInputs):
            raise UserError(
                "model surface_cvae: expected days of surfaces, got the features"
                f" {', '.join(inputs.features[:6])}: use the surface study"
            )
        if self.butterfly_weight > 0 and (inputs.log_moneyness is None or inputs.grid[1] < 3):
            raise UserError(
                f"model surface_cvae: butterfly_weight={self.butterfly_weight} needs a grid of at least 3"
                " strikes in moneyness: set butterfly_weight=0"
            )
        return SurfaceCVAE(self, inputs)


class Gaussian(NamedTuple):
    """Mean and log variance of diagonal Gaussians, (B, H, D) each."""

    mean: Tensor
    log_variance: Tensor

    def draw(self, noise: Tensor | None) -> Tensor:
        """Give mean + deviation * noise; the mean without noise."""
        if noise is None:
            return self.mean
        return self.mean + noise * (0.5 * self.log_variance).exp()


class Memory(NamedTuple):
    """What is known of a context: last and mean day, (B, F), and states of its LSTM, (L, B, U) each."""

    last: Tensor
    mean: Tensor
    hidden: Tensor
    cell: Tensor


class Ahead(NamedTuple):
    """Ordered quantiles of the days ahead in scaled units: surface (B, H, G, Q), extra (B, H, E, Q)."""

    surface: Tensor
    extra: Tensor


class Reversion(nn.Module):
    """Regress each cell from its last day to the mean of the context, and from there to its long-run mean.

    After k days x_k = exp(-k / s) (exp(-k / f) last + (1 - exp(-k / f)) mean of the context), in scaled
    units, in which the long-run mean is 0. The fast and the slow time constant f and s of each cell are
    learnt.

    Parameters
    ----------
    cells
        G.
    """

    FAST, SLOW = 20.0, 250.0  # trading days to start from: a month and a year

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.log_days = nn.Parameter(torch.tensor([self.FAST, self.SLOW]).log().repeat(cells, 1))

    def forward(
        self, last: Shaped[Tensor, "B G"], mean: Shaped[Tensor, "B G"], horizon: int
    ) -> Shaped[Tensor, "B H G"]:
        """Give the days ahead."""
        ahead = torch.arange(1, horizon + 1, device=last.device, dtype=last.dtype)
        fast, slow = (-ahead[:, None] / self.log_days.exp().T[:, None]).exp()
        reverted: Tensor = slow * (fast * last[:, None] + (1 - fast) * mean[:, None])
        return reverted


class DayEncoder(nn.Module):
    """Map scaled days, (B, T, F), to one vector each; the extra features pass through beside the surface."""

    def __init__(self, config: SurfaceCVAEConfig, grid: tuple[int, int], extras: int) -> None:
        super().__init__()
        self.grid, self.cells = grid, grid[0] * grid[1]
        self.extras = 0 if config.variant == "no_ex" else extras
        dense = config.encoder == "dense"
        layers: list[nn.Module] = [] if dense else [nn.Unflatten(-1, (1, *grid))]
        width = self.cells if dense else 1
        for size in config.surface_hidden:
            layer = nn.Linear(width, size) if dense else nn.Conv2d(width, size, 3, padding=1)
            layers += [layer, nn.GELU()]
            width = size
        self.surface = nn.Sequential(*layers, nn.Flatten())
        self.width = (width if dense else width * self.cells) + self.extras

    def forward(self, days: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, "B T V"]:
        """Read each day alone."""
        flat = days.flatten(0, 1)
        extras = flat[:, self.cells : self.cells + self.extras]
        read = torch.cat([self.surface(flat[:, : self.cells]), extras], dim=-1)
        return read.reshape(*days.shape[:2], -1)


@final
class SurfaceCVAE(ForecastNetwork):
    """Conditional VAE with memory (Sohn, Lee & Yan 2015, NeurIPS 28; Chung et al. 2015, NeurIPS 28).

    An encoder LSTM reads context and truth and gives a latent of each day ahead from the days up to
    it; a context encoder reads the context; a decoder LSTM, started in the state of the context
    encoder, reads [context, z] day by day and gives three ordered quantiles of each cell and of each
    extra feature. Encoder, prior and decoder are causal in the days ahead: the first h days of a
    pass over H days are the pass over h days, which is why several horizons cost one pass.

    It computes in scaled logarithms of volatility, so that every forecast volatility is positive and
    the order of the quantiles is kept.

    Parameters
    ----------
    config
        Parts, sizes and weights.
    inputs
        The days and how they were scaled; `inputs.lookback` is C.
    """

    mean: Tensor
    scale: Tensor
    shapes: Tensor
    maturities: Tensor
    log_moneyness: Tensor
    weights: Tensor

    def __init__(self, config: SurfaceCVAEConfig, inputs: SurfaceInputs) -> None:
        super().__init__()
        self.config, self.grid, self.extras = config, inputs.grid, inputs.extras
        self.context_days, self.cells = inputs.lookback, inputs.grid[0] * inputs.grid[1]
        self.level = inputs.level[0] * inputs.grid[1] + inputs.level[1]
        width, latent = config.hidden_size, config.latent_dim
        self.encoder_days = DayEncoder(config, self.grid, self.extras)
        self.encoder = self._lstm(self.encoder_days.width)
        self.posterior_head = nn.Linear(width, 2 * latent)
        self.context_encoder_days = DayEncoder(config, self.grid, self.extras)
        self.context_encoder = self._lstm(self.context_encoder_days.width)
        self.prior_head = (
            nn.Sequential(nn.Linear(width + 1, width), nn.GELU(), nn.Linear(width, 2 * latent))
            if config.prior == "learned"
            else None
        )
        self.decoder = self._lstm(width + latent)
        self.surface_head = OrderedQuantiles(width, LEVELS, self.cells)
        self.extra_head = OrderedQuantiles(width, LEVELS, self.extras) if self.encoder_days.extras else None
        self.reversion = Reversion(self.cells) if config.output == "revert" else None
        if config.output != "level":  # start from what is added to, not from noise
            nn.init.zeros_(self.surface_head.linear.weight)
            outer = torch.tensor([NARROW, 0.0, NARROW]).repeat(self.cells)
            self.surface_head.linear.bias.data.copy_(outer)
        moneyness = inputs.log_moneyness
        given: dict[str, Any] = {
            "mean": inputs.mean,
            "scale": inputs.scale,
            "shapes": inputs.shapes.reshape(len(inputs.shapes), -1),
            "maturities": inputs.maturities,
            "log_moneyness": np.zeros(0) if moneyness is None else moneyness,
            "weights": np.array(config.quantile_weights) / sum(config.quantile_weights),
        }
        for name, value in given.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    def _lstm(self, width: int) -> LSTM:
        return LSTM(width, self.config.hidden_size, self.config.num_layers, self.config.dropout)

    def remember(self, context: Shaped[Tensor, "B C F"]) -> Memory:
        """Read a context."""
        _, (hidden, cell) = self.context_encoder(self.context_encoder_days(context))
        return Memory(context[:, -1], context.mean(dim=1), hidden, cell)

    def posterior(self, days: Shaped[Tensor, "B T F"]) -> Gaussian:
        """Give q(z | days) of the T - C days after the context, each from the days up to it."""
        out, _ = self.encoder(self.encoder_days(days))
        return _gaussian(self.posterior_head(out[:, self.context_days :]))

    def prior(self, memory: Memory, horizon: int) -> Gaussian:
        """Give p(z | context) of the days ahead."""
        context = memory.hidden[-1].unsqueeze(1).expand(-1, horizon, -1)
        if self.prior_head is None:
            zeros = context.new_zeros(len(context), horizon, self.config.latent_dim)
            return Gaussian(zeros, zeros)
        ahead = torch.arange(1, horizon + 1, device=context.device) / _LONGEST
        ahead = ahead.sqrt().to(context.dtype).expand(len(context), -1).unsqueeze(-1)
        return _gaussian(self.prior_head(torch.cat([context, ahead], dim=-1)))

    def decode(self, memory: Memory, z: Shaped[Tensor, "B H D"]) -> Ahead:
        """Give the quantiles of the days ahead from their latents."""
        context = memory.hidden[-1].unsqueeze(1).expand(-1, z.shape[1], -1)
        state = (memory.hidden, memory.cell)
        out, _ = self.decoder(torch.cat([context, z], dim=-1), state)
        surface = self.surface_head(out)
        last, mean = memory.last[:, : self.cells], memory.mean[:, : self.cells]
        if self.reversion is not None:
            surface = surface + self.reversion(last, mean, z.shape[1]).unsqueeze(-1)
        elif self.config.output == "change":
            surface = surface + last[:, None, :, None]
        if self.extra_head is None:
            return Ahead(surface, surface[:, :, :0])
        return Ahead(surface, self.extra_head(out))

    def costs(
        self, days: Shaped[Tensor, "B T F"], latent: Latent = "posterior", noise: Tensor | None = None
    ) -> tuple[Shaped[Tensor, " H"], Ahead]:
        """Decode the T - C days after the context, and say what each of them costs.

        Parameters
        ----------
        days
            Context and truth, scaled.
        latent
            ``posterior``: z has seen the truth, and its KL from the prior is part of the cost (the
            evidence lower bound). ``prior``: z is drawn from the prior, as when generating: a learned one
            has seen the context, a standard one nothing.
        noise
            Standard normal draws, (B, H, D), that tie two passes; None draws them in training mode,
            and takes the mean of z in evaluation mode.

        Returns
        -------
        tuple
            Mean cost of each day over the samples, and the forecast. The mean of the first h costs is
            the loss of horizon h.
        """
        context, truth = days[:, : self.context_days], days[:, self.context_days :]
        memory = self.remember(context)
        prior = self.prior(memory, truth.shape[1])
        chosen = self.posterior(days) if latent == "posterior" else prior
        if noise is None and self.training:
            noise = torch.randn_like(chosen.mean)
        ahead = self.decode(memory, chosen.draw(noise))
        cost = self._reconstruction(ahead, truth)
        if latent == "posterior":
            cost = cost + self.config.kl_weight * gaussian_kl(*chosen, *prior).sum(dim=-1).mean(dim=0)
        return cost, ahead

    def _reconstruction(self, ahead: Ahead, truth: Tensor) -> Tensor:
        config = self.config
        cells, extras = truth[..., : self.cells], truth[..., self.cells :]
        cost = (pinball_costs(ahead.surface, cells, LEVELS) @ self.weights).mean(dim=(0, 2))
        if config.variant == "ex_loss":
            taught = 1 if config.extra_return_only else self.extras
            said, true = ahead.extra[..., :taught, :], extras[..., :taught]
            if config.extra_loss == "l2":
                miss = (said[..., MEDIAN] - true) ** 2
            else:
                miss = pinball_costs(said, true, LEVELS) @ self.weights
            cost = cost + config.extra_weight * miss.mean(dim=(0, 2))
        if config.calendar_weight > 0 or config.butterfly_weight > 0:
            iv = self.volatility(ahead.surface[..., MEDIAN])
            variance = iv.reshape(*iv.shape[:-1], *self.grid) ** 2 * self.maturities[:, None]
            if config.calendar_weight > 0:
                cost = cost + config.calendar_weight * calendar_gap(variance).mean(dim=0)
            if config.butterfly_weight > 0:
                gap = butterfly_gap(variance, self.log_moneyness)
                cost = cost + config.butterfly_weight * gap.mean(dim=0)
        return cost

    def loss(self, batch: Batch) -> Tensor:
        """Give the teacher-forced loss of sequences, x (B, C + H, F), at the horizon that they hold."""
        cost, _ = self.costs(batch.x)
        return cost.mean()

    def volatility(self, cells: Shaped[Tensor, "*N G"]) -> Shaped[Tensor, "*N G"]:
        """Turn scaled log volatilities into volatilities per square root of year."""
        return (cells * self.scale[: self.cells] + self.mean[: self.cells]).exp()

    def raw_extras(self, extras: Shaped[Tensor, "*N E"]) -> Shaped[Tensor, "*N E"]:
        """Turn scaled extra features into their own units."""
        return extras * self.scale[self.cells :] + self.mean[self.cells :]

    def bounded(self, values: Tensor) -> Tensor:
        """Bring scaled values back to `FARTHEST` standard deviations, so that none overflows."""
        return values.clamp(-FARTHEST, FARTHEST)

    def as_days(
        self, cells: Shaped[Tensor, "B H G"], returns: Shaped[Tensor, "B H"]
    ) -> Shaped[Tensor, "B H F"]:
        """Make days that a context can hold of forecast surfaces and returns, scaled.

        Skew and slope are those of the surface itself. The loss teaches neither, so what the network
        says of them is not used; nor is an untaught return (``ex_no_loss``, ``no_ex``), whose place
        takes its mean. Days beyond `FARTHEST` standard deviations are brought back to that bound.
        """
        cells = self.bounded(cells)
        shapes = self.volatility(cells) @ self.shapes.T
        scaled = (shapes - self.mean[self.cells + 1 :]) / self.scale[self.cells + 1 :]
        if self.config.variant != "ex_loss":
            returns = torch.zeros_like(returns)
        return torch.cat([cells, self.bounded(returns).unsqueeze(-1), self.bounded(scaled)], dim=-1)

    def median_days(self, ahead: Ahead) -> Shaped[Tensor, "B H F"]:
        """Give the median forecast as days that a context can hold."""
        cells = ahead.surface[..., MEDIAN]
        returns = ahead.extra[..., 0, MEDIAN] if self.extra_head is not None else cells[..., 0]
        return self.as_days(cells, returns)

    def forecast(self, x: Tensor) -> Forecast:
        """Forecast the level of the day after each context, in volatility; the latent is its mean."""
        memory = self.remember(x)
        ahead = self.decode(memory, self.prior(memory, 1).mean)
        scaled = self.bounded(ahead.surface[:, 0, self.level]).double()
        values = (scaled * self.scale[self.level] + self.mean[self.level]).exp().cpu().numpy()
        return Forecast(values[:, MEDIAN].copy(), values, LEVELS)


def _gaussian(parameters: Tensor) -> Gaussian:
    mean, log_variance = parameters.chunk(2, dim=-1)
    return Gaussian(mean, log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE))
