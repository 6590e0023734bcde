"""Conditional VAE that back-fills a missing asset from its peers, with the parts to redesign it.

The defaults are our reading of the report's failed model; each redesign is a setting of the config.
Shape letters: B samples, T days (context and the target's own), K of them that are decoded, N assets,
C channels of an asset, D latent dimensions, H hidden width, Q quantile levels.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float as Shaped
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from farm.base.config import listed
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Choice, Float, Int
from farm.base.types import Forecast, Inputs, Latents, Windows
from farm.models.layers import LSTM, OrderedQuantiles
from farm.models.network import Batch, LatentNetwork, NetworkConfig, Scenario
from farm.models.objectives import gaussian_kl, kl_penalty, pinball_loss, warm_up

LEVELS = (0.05, 0.5, 0.95)
MIXED_ORACLE = 0.8  # share of the days of scenario s2 whose latent sees the truth
LOG_VARIANCE = 10.0  # bound on log variances, so that no exponential overflows
LAST, BEFORE = -1, -2  # rows of a window: the target's own day T+1, and day T


@component(MODELS)
class BackfillCVAEConfig(NetworkConfig):
    """Config of `BackfillCVAE`; the defaults are those of the row `original`.

    The report gives the two encoders, `latent_dim`, `masked_share`, `masked_latent`, `mask_fill`, the three
    levels and a loss on the target alone. It gives neither width, layers, dropout, KL weight nor what stops
    training: those defaults are ours.

    Parameters
    ----------
    hidden_size, num_layers, dropout
        Of every LSTM.
    latent_dim
        Latent dimensions. With a latent for each asset they share them evenly, rounded down.
    latents
        ``joint``: one latent of all channels. ``per_asset``: one for each asset, of its own channels;
        that of an absent asset is imputed from the others by cross-attention.
    prior
        ``standard``: N(0, 1). ``learned``: p(z | context, peers), which then also gives the latent of
        an absent asset, in masked batches and when forecasting (Sohn, Lee & Yan 2015, NeurIPS 28).
    reconstruct
        Which days the loss is taken on: every day of the window after the first, each decoded from
        its own latent and the context before it (``window``), or the target's day alone (``day``).
    cointegration
        Whether the target's forecast is betas(z) times the peers' returns of the day plus the decoder.
    peer_loss
        Weight of each peer's return in the loss; the target's is 1. The report proposes 0.3.
    masked_share
        Share of batches in which an asset is absent on day T+1.
    masked_asset
        ``target``: always the target. ``any``: one drawn for each batch (adversarial masking); the
        absent asset then has weight 1 in the loss.
    masked_latent
        Which latent decodes a masked batch: that of day T (``previous``, the report's z[T-1]) or of
        day T+1 (``current``, z[T]).
    mask_fill
        What stands for an absent asset: its channels of day T (``forward``) or 0, the mean, with a
        flag that says so (``flag``).
    stop_on
        What the validation loss is, and so which epoch is kept: the expectation of the training loss
        (``recipe``), which goes on falling while the oracle improves, or the pinball loss of the
        forecast without the target (``realistic``).
    quantile_weights
        What the pinball losses of the levels 0.05, 0.5 and 0.95 count for in training; they are
        divided by their sum. The validation loss under ``realistic`` weighs them alike, so that configs
        compare.
    kl_weight
        Weight of the KL divergence, summed over dimensions.
    kl_warmup
        Epochs over which that weight rises from 0.
    free_bits
        Nats a dimension may carry for free.
    """

    name: Literal["backfill_cvae"] = "backfill_cvae"
    study: ClassVar[str] = "backfill"
    quantile_levels: ClassVar[tuple[float, ...]] = LEVELS
    hidden_size: Annotated[int, Int(1, 512, log=True)] = 32
    num_layers: Annotated[int, Int(1, 8)] = 2
    dropout: Annotated[float, Float(0.0, 0.9)] = 0.3
    latent_dim: Annotated[int, Int(1, 256, log=True)] = 12
    latents: Annotated[Literal["joint", "per_asset"], Choice(("joint", "per_asset"))] = "joint"
    prior: Annotated[Literal["standard", "learned"], Choice(("standard", "learned"))] = "standard"
    reconstruct: Annotated[Literal["window", "day"], Choice(("window", "day"))] = "window"
    cointegration: Annotated[bool, Choice((False, True))] = False
    peer_loss: Annotated[float, Float(0.0, 10.0)] = 0.0
    masked_share: Annotated[float, Float(0.0, 1.0)] = 0.3
    masked_asset: Annotated[Literal["target", "any"], Choice(("target", "any"))] = "target"
    masked_latent: Annotated[Literal["previous", "current"], Choice(("previous", "current"))] = "previous"
    mask_fill: Annotated[Literal["forward", "flag"], Choice(("forward", "flag"))] = "forward"
    stop_on: Annotated[Literal["recipe", "realistic"], Choice(("recipe", "realistic"))] = "recipe"
    quantile_weights: Annotated[
        tuple[Annotated[float, Float(1e-3, 1e3)], ...],
        BeforeValidator(listed),
        Field(min_length=3, max_length=3),
    ] = (1.0, 1.0, 1.0)
    kl_weight: Annotated[float, Float(0.0, 100.0)] = 1e-4
    kl_warmup: Annotated[int, Int(0, 10_000)] = 0
    free_bits: Annotated[float, Float(0.0, 10.0)] = 0.0

    @model_validator(mode="after")
    def _parts_agree(self) -> BackfillCVAEConfig:
        if self.prior == "learned" and self.masked_latent == "previous":
            raise UserError(
                "model backfill_cvae: a learned prior gives the latent of day T+1, expected masked_latent"
                " current, got previous: set masked_latent=current"
            )
        return self

    def build(self, inputs: Inputs) -> BackfillCVAE:
        """Make the untrained network; windows without peers are a `UserError`."""
        assets = tuple(dict.fromkeys(feature.split("/")[0] for feature in inputs.features))
        if len(assets) < 2 or len(inputs.features) % len(assets) or inputs.lookback < 2:
            raise UserError(
                "model backfill_cvae: expected windows of a target and its peers with as many channels"
                f" each, got the features {', '.join(inputs.features[:6])}: use the backfill study"
            )
        return BackfillCVAE(self, inputs, len(assets))


class Gaussian(NamedTuple):
    """Mean and log variance of diagonal Gaussians, (B, K, D) each."""

    mean: Tensor
    log_variance: Tensor


def _gaussian(parameters: Tensor) -> Gaussian:
    mean, log_variance = parameters.chunk(2, dim=-1)
    return Gaussian(mean, log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE))


class JointLatent(nn.Module):
    """One latent of all channels of all assets, for each day of a window."""

    def __init__(self, config: BackfillCVAEConfig, assets: int, channels: int) -> None:
        super().__init__()
        self.dim: int = config.latent_dim
        self.assets = assets
        self.lstm = _lstm(assets * channels + assets, config)
        self.head = nn.Linear(config.hidden_size, 2 * self.dim)

    def forward(self, x: Shaped[Tensor, "B T F"], absent: int | None, first: int) -> Gaussian:
        """Give the latents from a day on; a flag channel for each asset says which the last day lacks."""
        flags = x.new_zeros(*x.shape[:2], self.assets)
        if absent is not None:
            flags[:, LAST, absent] = 1.0
        hidden, _ = self.lstm(torch.cat([x, flags], dim=-1))
        return _gaussian(self.head(hidden[:, first:]))


class AssetLatents(nn.Module):
    """A latent for each asset, of its own channels, side by side.

    That of an absent asset is imputed: what is known of it up to day T asks, by scaled dot-product
    attention (Vaswani et al. 2017, section 3.2), the latents of the others on day T+1.
    """

    def __init__(self, config: BackfillCVAEConfig, assets: int, channels: int) -> None:
        super().__init__()
        each = max(config.latent_dim // assets, 1)
        width = config.hidden_size
        self.dim: int = each * assets
        self.assets = assets
        self.lstm = _lstm(channels + assets, config)
        self.head = nn.Linear(width, 2 * each)
        # Which peer a value comes from decides its sign and size, so keys and values know their asset.
        self.query = nn.Linear(width + assets, width)
        self.key = nn.Linear(each + assets, width)
        self.value = nn.Sequential(nn.Linear(each + 2 * assets, width), nn.ReLU(), nn.Linear(width, width))
        self.imputed = nn.Linear(width, 2 * each)

    def forward(self, x: Shaped[Tensor, "B T F"], absent: int | None, first: int) -> Gaussian:
        """Give the latents from a day on, those of a day one asset after another."""
        batch, days, _ = x.shape
        names = torch.eye(self.assets, device=x.device).expand(batch, -1, -1)  # (B, N, N)
        own = x.reshape(batch, days, self.assets, -1).transpose(1, 2)
        own = torch.cat([own, names.unsqueeze(2).expand(-1, -1, days, -1)], dim=-1)
        hidden, _ = self.lstm(own.flatten(0, 1))
        hidden = hidden.unflatten(0, (batch, self.assets))  # (B, N, T, H)
        latent = self.head(hidden)
        if absent is not None:
            others = [asset for asset in range(self.assets) if asset != absent]
            asks = names[:, absent]
            query = self.query(torch.cat([hidden[:, absent, BEFORE], asks], dim=-1)).unsqueeze(1)
            means = torch.cat([latent[:, :, LAST].chunk(2, dim=-1)[0], names], dim=-1)[:, others]
            values = torch.cat([means, asks.unsqueeze(1).expand(-1, len(others), -1)], dim=-1)
            answer = nn.functional.scaled_dot_product_attention(query, self.key(means), self.value(values))
            latent = latent.clone()
            latent[:, absent, LAST] = self.imputed(answer.squeeze(1))
        mean, log_variance = _gaussian(latent[:, :, first:])
        return Gaussian(mean.transpose(1, 2).flatten(2), log_variance.transpose(1, 2).flatten(2))


class Cointegration(nn.Module):
    """Betas of the target on its peers, as a function of the latent; all 0 before training."""

    def __init__(self, dim: int, peers: int, width: int) -> None:
        super().__init__()
        self.betas = nn.Sequential(nn.Linear(dim, width), nn.Tanh(), nn.Linear(width, peers))
        for parameter in self.betas[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, z: Shaped[Tensor, "B K D"], returns: Shaped[Tensor, "B K P"]
    ) -> Shaped[Tensor, "B K 1"]:
        """Give betas times the peers' returns."""
        shift: Tensor = (self.betas(z) * returns).sum(dim=-1, keepdim=True)
        return shift


def _lstm(width: int, config: BackfillCVAEConfig) -> LSTM:
    return LSTM(width, config.hidden_size, config.num_layers, config.dropout)


@final
class BackfillCVAE(LatentNetwork):
    """Conditional VAE (Sohn, Lee & Yan 2015, NeurIPS 28) of a window whose last day misses the target.

    A main encoder reads the whole window, the last day included, and gives a latent z of each day; a
    context encoder reads the days before; the decoder turns z of a day and the context up to the day
    before it into quantiles of each asset's return of that day. All work is done in scaled units.

    Parameters
    ----------
    config
        Parts and sizes.
    inputs
        The windows: the channels of each asset side by side, the target's first, a log return first
        of each.
    assets
        How many there are.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: BackfillCVAEConfig, inputs: Inputs, assets: int) -> None:
        super().__init__()
        features = len(inputs.features)
        self.config = config
        self.assets = assets
        self.channels = features // assets
        kind: type[JointLatent | AssetLatents] = JointLatent if config.latents == "joint" else AssetLatents
        self.encoder = kind(config, assets, self.channels)
        self.prior = kind(config, assets, self.channels) if config.prior == "learned" else None
        self.context = _lstm(features, config)
        width, self.dim = config.hidden_size, self.encoder.dim
        self.decoder = nn.Sequential(nn.Linear(width + self.dim, width), nn.ReLU())
        self.heads = nn.ModuleList(OrderedQuantiles(width, LEVELS) for _ in range(assets))
        for parameter in self.heads.parameters():
            # Small returns in a large spread: a head that starts at random leaves its noise in the median.
            nn.init.zeros_(parameter)
        self.cointegration = Cointegration(self.dim, assets - 1, width) if config.cointegration else None
        self.kl_share = 1.0
        equal = len(set(config.quantile_weights)) == 1
        self._weights = None if equal else config.quantile_weights
        self.register_buffer("mean", torch.tensor(float(inputs.mean[0]), dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(float(inputs.scale[0]), dtype=torch.float64))

    def begin_epoch(self, epoch: int) -> None:
        """Raise the KL weight, while it warms up."""
        self.kl_share = warm_up(epoch, self.config.kl_warmup)

    def _cover(self, x: Tensor, asset: int) -> Tensor:
        """Hide an asset on the last day, whatever stands there."""
        columns = slice(asset * self.channels, (asset + 1) * self.channels)
        covered = x.clone()
        covered[:, LAST, columns] = x[:, BEFORE, columns] if self.config.mask_fill == "forward" else 0.0
        return covered

    def _flag(self, absent: int | None) -> int | None:
        """Say which asset the encoder is told of; the row `original` tells it of none."""
        told = self.config.mask_fill == "flag" or self.config.latents == "per_asset"
        return absent if told else None

    def _posterior(self, x: Tensor, absent: int | None, first: int, previous: bool) -> Gaussian:
        """Give the latents that decode the days from `first` on, from a window covered where it must be.

        With `previous`, the last day is decoded from the latent of the day before it.
        """
        if previous:
            mean, log_variance = self.encoder(x[:, :LAST], None, min(first + 1, LAST))
            if first == LAST:
                return Gaussian(mean, log_variance)
            return Gaussian(*(torch.cat([v, v[:, LAST:]], dim=1) for v in (mean, log_variance)))
        network = self.encoder if self.prior is None or absent is None else self.prior
        gaussian: Gaussian = network(x, self._flag(absent), first)
        return gaussian

    def _decode(self, z: Tensor, x: Tensor) -> list[Tensor]:
        """Give the quantiles of each asset's return on the last K days, N of (B, K, Q), in scaled units."""
        days = z.shape[1]
        hidden, _ = self.context(x[:, :LAST])
        summary = self.decoder(torch.cat([hidden[:, -days:], z], dim=-1))
        quantiles = [head(summary) for head in self.heads]
        if self.cointegration is not None:
            returns = x[:, -days:, self.channels :: self.channels]
            quantiles[0] = quantiles[0] + self.cointegration(z, returns)
        return quantiles

    def loss(self, batch: Batch) -> Tensor:
        """Give the pinball loss and the weighted KL.

        In training a batch is masked or not, by lot. In evaluation mode nothing is drawn: see
        `stop_on`; with ``recipe`` it is the expectation over that lot with the target as the absent
        asset and the full KL weight, so that epochs compare.
        """
        if batch.hidden is None:
            raise ValueError("backfill_cvae learns from windows with hidden inputs, got none")
        full = torch.cat(
            [
                batch.x[:, :LAST],
                torch.cat([batch.hidden, batch.x[:, LAST, self.channels :]], dim=-1).unsqueeze(1),
            ],
            dim=1,
        )
        share = self.config.masked_share
        if self.training:
            masked = bool(torch.rand(()) < share)
            drawn = int(torch.randint(self.assets, ())) if self.config.masked_asset == "any" else 0
            return self._loss(full, drawn if masked else None, self.kl_share)
        if self.config.stop_on == "realistic":
            quantiles = self._realistic(batch.x)
            return pinball_loss(quantiles, batch.hidden[:, 0], LEVELS)
        parts = [(1 - share, None), (share, 0)]
        losses = [weight * self._loss(full, absent, 1.0) for weight, absent in parts if weight > 0]
        return torch.stack(losses).sum()

    def _loss(self, full: Tensor, absent: int | None, kl_share: float) -> Tensor:
        x = full if absent is None else self._cover(full, absent)
        previous = absent is not None and self.config.masked_latent == "previous"
        first = LAST if self.config.reconstruct == "day" else 1 - full.shape[1]
        posterior = self._posterior(x, absent, first, previous)
        z = posterior.mean
        if self.training:
            z = z + torch.randn_like(z) * (0.5 * posterior.log_variance).exp()
        loss = full.new_zeros(())
        for asset, quantiles in enumerate(self._decode(z, x)):
            weight = 1.0 if asset in (0, absent) else self.config.peer_loss
            if weight > 0:
                truth = full[:, first:, asset * self.channels].flatten()
                loss = loss + weight * pinball_loss(quantiles.flatten(0, 1), truth, LEVELS, self._weights)
        if self.prior is not None and absent is not None:
            return loss  # z was drawn from the prior itself
        kl = gaussian_kl(*(value.flatten(0, 1) for value in (*posterior, *self._prior(full, first))))
        return loss + self.config.kl_weight * kl_share * kl_penalty(kl, self.config.free_bits)

    def _prior(self, x: Tensor, first: int) -> Gaussian:
        """Give the prior of the latents from a day on; reads nothing of the target's last day."""
        if self.prior is None:
            zeros = x.new_zeros(len(x), -first, self.dim)
            return Gaussian(zeros, zeros)
        gaussian: Gaussian = self.prior(self._cover(x, 0), self._flag(0), first)
        return gaussian

    def _seen(self, windows: Windows, name: Scenario) -> tuple[Tensor, Gaussian]:
        """Give the window that a scenario decodes with, and its latent."""
        device = self.mean.device
        x = torch.from_numpy(windows.x).to(device)
        if name == "s1":
            if windows.hidden is None:
                raise ValueError("the oracle scenario needs the hidden inputs, got none")
            x = x.clone()
            x[:, LAST, : self.channels] = torch.from_numpy(windows.hidden).to(device)
            return x, self._posterior(x, None, LAST, previous=False)
        x = self._cover(x, 0)
        return x, self._posterior(x, 0, LAST, previous=name == "s3")

    def _realistic(self, x: Tensor) -> Tensor:
        """Give the target's quantiles under ``s4``, (B, Q), in scaled units; nothing is drawn."""
        x = self._cover(x, 0)
        z = self._posterior(x, 0, LAST, previous=False).mean
        return self._decode(z, x)[0][:, LAST]

    def forecast(self, x: Tensor) -> Forecast:
        """Forecast under ``s4``."""
        return self._in_raw_units(self._realistic(x))

    def _in_raw_units(self, quantiles: Tensor) -> Forecast:
        values = (quantiles.double() * self.scale + self.mean).cpu().numpy()
        return Forecast(values[:, len(LEVELS) // 2].copy(), values, LEVELS)

    def scenario(self, windows: Windows, name: Scenario, seed: int = 0) -> Forecast:
        """Forecast each sample under a scenario; see `LatentNetwork`."""
        if name == "s2":
            oracle, realistic = self.scenario(windows, "s1"), self.scenario(windows, "s3")
            sees = np.random.default_rng(seed).random(len(windows)) < MIXED_ORACLE
            assert oracle.quantiles is not None
            assert realistic.quantiles is not None
            point = np.where(sees, oracle.point, realistic.point)
            return Forecast(point, np.where(sees[:, None], oracle.quantiles, realistic.quantiles), LEVELS)
        self.eval()
        with torch.no_grad():
            x, posterior = self._seen(windows, name)
            return self._in_raw_units(self._decode(posterior.mean, x)[0][:, LAST])

    def latent(self, windows: Windows, name: Scenario) -> Latents:
        """Give the latent under a scenario; see `LatentNetwork`."""
        if name == "s2":
            raise ValueError("the mixed scenario has the latents of s1 and s3, expected one of s1, s3, s4")
        self.eval()
        with torch.no_grad():
            x, (mean, log_variance) = self._seen(windows, name)
            prior = self._prior(x, LAST)
        values = [tensor[:, LAST].cpu().numpy() for tensor in (mean, mean, log_variance, *prior)]
        return Latents(*values)
