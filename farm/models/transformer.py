"""Transformer encoder forecaster: self-attention over the window, then a small head."""

from __future__ import annotations

from typing import Annotated, Literal, final

from jaxtyping import Float as Shaped
from pydantic import model_validator
from torch import Tensor, nn

from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Float, Int
from farm.base.types import Inputs
from farm.models.layers import ReturnHead, SinusoidalPositions
from farm.models.network import NetworkConfig, PointNetwork


@component(MODELS)
class TransformerConfig(NetworkConfig):
    """Config of `TransformerForecaster`; the defaults have as many weights as the default LSTM.

    Parameters
    ----------
    width
        Width of the tokens, one token a day; a multiple of `heads`.
    heads
        Attention heads.
    num_layers
        Encoder layers.
    feedforward
        Width of each layer's inner part.
    dropout
        Dropout within the layers.
    """

    name: Literal["transformer"] = "transformer"
    width: Annotated[int, Int(2, 1024, log=True)] = 64
    heads: Annotated[int, Int(1, 16)] = 4
    num_layers: Annotated[int, Int(1, 8)] = 2
    feedforward: Annotated[int, Int(1, 4096, log=True)] = 64
    dropout: Annotated[float, Float(0.0, 0.9)] = 0.2

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> TransformerConfig:
        if self.width % self.heads:
            raise UserError(
                f"model transformer: got width {self.width} with {self.heads} heads,"
                " expected a multiple of heads"
            )
        return self

    def build(self, inputs: Inputs) -> TransformerForecaster:
        """Make the untrained network."""
        return TransformerForecaster(self, len(inputs.features), inputs.lookback)


@final
class TransformerForecaster(PointNetwork):
    """Pre-norm Transformer encoder (Vaswani et al. 2017; Xiong et al. 2020), read at the last day.

    The whole window lies in the past of the target, so attention needs no causal mask.
    """

    def __init__(self, config: TransformerConfig, n_features: int, lookback: int) -> None:
        super().__init__()
        self.embed = nn.Linear(n_features, config.width)
        self.positions = SinusoidalPositions(lookback, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            config.feedforward,
            config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, config.num_layers, norm=nn.LayerNorm(config.width), enable_nested_tensor=False
        )
        self.head = ReturnHead(config.width)
        # Returns are tiny beside tokens of unit scale: start from the forecast zero, not from noise.
        for parameter in self.head[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, " B"]:
        """Forecast from the last day's token."""
        tokens = self.encoder(self.positions(self.embed(x)))
        out: Tensor = self.head(tokens[:, -1, :]).squeeze(-1)
        return out
