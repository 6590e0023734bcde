"""TimeVAE of windows: a convolutional VAE whose decoder may be split into readable parts.

References
----------
.. [1] Desai, Freeman, Wang and Beaver (2021), TimeVAE: a variational auto-encoder for multivariate time
   series generation, arXiv 2111.08095.
"""

from __future__ import annotations

from typing import Annotated, Literal, final

import torch
from jaxtyping import Float as Shaped
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from farm.base.config import listed
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Choice, Int
from farm.base.types import Floats, Inputs
from farm.models.variational import VariationalConfig, VariationalNetwork


@component(MODELS)
class TimeVAEConfig(VariationalConfig):
    """Config of `TimeVAE`.

    Parameters
    ----------
    filters
        Channels of the encoder's convolutions, and in reverse of the decoder's; each halves the days.
    decoder
        ``base``: convolutions alone. ``interpretable``: a trend and seasons are added to them, and what
        the convolutions decode is the residual branch.
    block_size
        Hidden width of the trend's and of each season's block.
    trend_degree
        Degree of the trend's polynomial.
    seasons
        Lengths of the seasonal patterns in trading days; 5 is a week. They are counted from the window's
        first day, whatever its weekday, so that the phase is left to the latent.
    """

    name: Literal["timevae"] = "timevae"
    latent_dim: Annotated[int, Int(1, 256, log=True)] = 32
    filters: Annotated[
        tuple[Annotated[int, Int(1, 512, log=True)], ...],
        BeforeValidator(listed),
        Field(min_length=1, max_length=6),
    ] = (32, 64)
    decoder: Annotated[Literal["base", "interpretable"], Choice(("base", "interpretable"))] = "base"
    block_size: Annotated[int, Int(1, 512, log=True)] = 32
    trend_degree: Annotated[int, Int(0, 8)] = 2
    seasons: Annotated[
        tuple[Annotated[int, Int(2, 250)], ...], BeforeValidator(listed), Field(max_length=4)
    ] = (5,)

    @model_validator(mode="after")
    def _seasons_differ(self) -> TimeVAEConfig:
        if len(set(self.seasons)) < len(self.seasons):
            raise UserError(f"model timevae: got the seasons {self.seasons}, expected each once: drop one")
        return self

    def build(self, inputs: Inputs) -> TimeVAE:
        """Make the untrained network; a window shorter than a season is a `UserError`."""
        short = [season for season in self.seasons if season > inputs.lookback]
        if self.decoder == "interpretable" and short:
            raise UserError(
                f"model timevae: a season of {max(short)} days does not fit a window of {inputs.lookback}:"
                " lengthen the window or drop the season"
            )
        return TimeVAE(self, inputs)


class TrendBlock(nn.Module):
    """A polynomial of the place in the window for each asset, its coefficients decoded from z [1]_."""

    powers: Tensor

    def __init__(self, latent: int, width: int, assets: int, days: int, degree: int) -> None:
        super().__init__()
        place = torch.arange(days) / days
        self.register_buffer(
            "powers", torch.stack([place**p for p in range(degree + 1)], 1), persistent=False
        )
        self.coefficients = nn.Sequential(
            nn.Linear(latent, width),
            nn.ReLU(),
            nn.Linear(width, (degree + 1) * assets),
            nn.Unflatten(-1, (degree + 1, assets)),
        )

    def forward(self, z: Shaped[Tensor, "B D"]) -> Shaped[Tensor, "B T A"]:
        """Give the trend."""
        trend: Tensor = self.powers @ self.coefficients(z)
        return trend


class SeasonBlock(nn.Module):
    """A pattern of `season` days for each asset, decoded from z and repeated over the window [1]_."""

    def __init__(self, latent: int, width: int, assets: int, days: int, season: int) -> None:
        super().__init__()
        self.place = [day % season for day in range(days)]
        self.pattern = nn.Sequential(
            nn.Linear(latent, width),
            nn.ReLU(),
            nn.Linear(width, season * assets),
            nn.Unflatten(-1, (season, assets)),
        )

    def forward(self, z: Shaped[Tensor, "B D"]) -> Shaped[Tensor, "B T A"]:
        """Give the repeated pattern."""
        pattern: Tensor = self.pattern(z)
        return pattern[:, self.place]


@final
class TimeVAE(VariationalNetwork):
    """TimeVAE [1]_, base and interpretable; the variance of x is learnt, where the paper weighs the fit.

    Which part of an interpretable decoder holds what is not identified: the residual branch could hold
    all of it.

    Parameters
    ----------
    config
        Sizes and weights.
    inputs
        The windows.
    """

    def __init__(self, config: TimeVAEConfig, inputs: Inputs) -> None:
        super().__init__(config, inputs, inputs.lookback)
        latent, filters = config.latent_dim, config.filters
        layers: list[nn.Module] = []
        for a, b in zip((self.assets, *filters), filters, strict=False):
            layers += [nn.Conv1d(a, b, 3, stride=2, padding=1), nn.ReLU()]
        short = self.days
        for _ in filters:
            short = (short + 1) // 2
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(filters[-1] * short, 2 * latent))
        layers = [nn.Linear(latent, filters[-1] * short), nn.ReLU(), nn.Unflatten(-1, (filters[-1], short))]
        for a, b in zip(reversed(filters), (*reversed(filters[:-1]), filters[0]), strict=True):
            layers += [nn.ConvTranspose1d(a, b, 3, stride=2, padding=1, output_padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.emission = nn.Linear(filters[0], self.outputs)
        sizes = (latent, config.block_size, self.assets, self.days)
        self.blocks = nn.ModuleDict()
        if config.decoder == "interpretable":
            self.blocks["trend"] = TrendBlock(*sizes, config.trend_degree)
            for season in config.seasons:
                self.blocks[f"season {season}"] = SeasonBlock(*sizes, season)

    def parameters_of_posterior(self, x: Shaped[Tensor, "B T A"]) -> Shaped[Tensor, "B E"]:
        """Encode windows; see `VariationalNetwork`."""
        parameters: Tensor = self.encoder(x.transpose(1, 2))
        return parameters

    def parameters_of_output(self, z: Shaped[Tensor, "B D"]) -> Shaped[Tensor, "B T O"]:
        """Decode windows; see `VariationalNetwork`."""
        output = self._residual(z)
        for block in self.blocks.values():
            mean = output[..., : self.assets] + block(z)
            output = torch.cat([mean, output[..., self.assets :]], dim=-1)
        return output

    def _residual(self, z: Tensor) -> Tensor:
        """Give what the convolutions decode, (B, T, O)."""
        hidden = self.convolutions(z)[..., : self.days]  # upsampling may overshoot
        output: Tensor = self.emission(hidden.transpose(1, 2))
        return output

    def components(self, z: Floats) -> dict[str, Floats]:
        """Give trend, seasons and residual of an interpretable decoder; see `LatentSpace.components`."""
        if not self.blocks:
            return {}
        with torch.no_grad():
            latents = self._tensor(z)
            parts = {name: block(latents) for name, block in self.blocks.items()}
            parts["residual"] = self._residual(latents)[..., : self.assets]
        return {name: part.cpu().numpy().astype(float) for name, part in parts.items()}
