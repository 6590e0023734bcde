"""Transformer over assets: the target's token asks the peers' tokens what its own day was."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import torch
from jaxtyping import Float as Shaped
from pydantic import model_validator
from torch import Tensor, nn

from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Float, Int
from farm.base.types import Inputs
from farm.models.layers import OrderedQuantiles
from farm.models.network import NetworkConfig, QuantileNetwork


@component(MODELS)
class CrossAssetTransformerConfig(NetworkConfig):
    """Config of `CrossAssetTransformer`.

    Parameters
    ----------
    width
        Width of the tokens, one token an asset; a multiple of `heads`.
    heads
        Attention heads.
    num_layers
        Layers of cross-attention.
    feedforward
        Width of each layer's inner part.
    dropout
        Dropout within the layers.
    """

    name: Literal["cross_asset_transformer"] = "cross_asset_transformer"
    quantile_levels: ClassVar[tuple[float, ...]] = (0.05, 0.5, 0.95)
    width: Annotated[int, Int(2, 1024, log=True)] = 32
    heads: Annotated[int, Int(1, 16)] = 4
    num_layers: Annotated[int, Int(1, 8)] = 2
    feedforward: Annotated[int, Int(1, 4096, log=True)] = 64
    dropout: Annotated[float, Float(0.0, 0.9)] = 0.2

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> CrossAssetTransformerConfig:
        if self.width % self.heads:
            raise UserError(
                f"model {self.name}: got width {self.width} with {self.heads} heads,"
                " expected a multiple of heads"
            )
        return self

    def build(self, inputs: Inputs) -> CrossAssetTransformer:
        """Make the untrained network."""
        return CrossAssetTransformer(self, inputs)


def columns_by_asset(features: tuple[str, ...]) -> list[list[int]]:
    """Group the columns of features named ``asset/channel`` by asset, in order of appearance.

    Features without an asset in their names are one group.
    """
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(features):
        groups.setdefault(name.rpartition("/")[0], []).append(column)
    return list(groups.values())


class _CrossAttention(nn.Module):
    """Pre-norm cross-attention of one query to all tokens, then a feed-forward part."""

    def __init__(self, config: CrossAssetTransformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = nn.MultiheadAttention(
            config.width, config.heads, dropout=config.dropout, batch_first=True
        )
        self.feedforward = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.feedforward),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feedforward, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, query: Shaped[Tensor, "B 1 D"], tokens: Shaped[Tensor, "B N D"]) -> Tensor:
        """Give the query with what it took from the tokens."""
        heard, _ = self.attention(self.norm(query), tokens, tokens, need_weights=False)
        query = query + heard
        out: Tensor = query + self.feedforward(query)
        return out


@final
class CrossAssetTransformer(QuantileNetwork):
    """Attention (Vaswani et al. 2017) from the target's token to the tokens of all assets.

    The window of each asset is one token, embedded by a map of the asset's own, so that the content of
    a token also says whose it is. The first feature's asset is the target: its token, which lacks what
    its window hides, is the query. It is among the keys as well, so that a target without peers has
    its own past to lean on. Ordered quantiles are read from the query after the last layer.

    Neither the keys nor what the head reads are normalised: a layer norm would take from a token how
    large its asset's return is, and that is what is asked for.
    """

    def __init__(self, config: CrossAssetTransformerConfig, inputs: Inputs) -> None:
        super().__init__(inputs, config.quantile_levels)
        self.assets = columns_by_asset(inputs.features)
        self.embed = nn.ModuleList(
            nn.Linear(inputs.lookback * len(columns), config.width) for columns in self.assets
        )
        self.layers = nn.ModuleList(_CrossAttention(config) for _ in range(config.num_layers))
        self.head = OrderedQuantiles(config.width, config.quantile_levels)

    def forward(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, "B Q"]:
        """Give the quantiles, in scaled units."""
        tokens = torch.stack(
            [
                embed(x[:, :, columns].flatten(1))
                for embed, columns in zip(self.embed, self.assets, strict=True)
            ],
            dim=1,
        )
        query = tokens[:, :1]
        for layer in self.layers:
            query = layer(query, tokens)
        quantiles: Tensor = self.head(query[:, 0])
        return quantiles
