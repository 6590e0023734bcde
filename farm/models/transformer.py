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
from farm.models.heads import HeadedConfig, HeadedNetwork, build_head
from farm.models.layers import SinusoidalPositions


@component(MODELS)
class TransformerConfig(HeadedConfig):
    """Config of `TransformerForecaster`; the defaults have as many weights as the default LSTM.

    The fields about the head are those of `HeadedConfig`.

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

    def drops_out(self) -> bool:
        """Say whether there is dropout."""
        return self.dropout > 0

    def network(self, inputs: Inputs) -> TransformerForecaster:
        """Make one untrained network."""
        return TransformerForecaster(self, inputs)


@final
class TransformerForecaster(HeadedNetwork):
    """Pre-norm Transformer encoder (Vaswani et al. 2017; Xiong et al. 2020), read at the last day.

    The whole window lies in the past of the target, so attention needs no causal mask.
    """

    def __init__(self, config: TransformerConfig, inputs: Inputs) -> None:
        super().__init__(config)
        self.embed = nn.Linear(len(inputs.features), config.width)
        self.positions = SinusoidalPositions(inputs.lookback, config.width)
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
        self.head = build_head(config, config.width, inputs)
        self.head.start_flat()  # returns are tiny beside tokens of unit scale

    def summary(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, "B D"]:
        """Give the last day's token."""
        last: Tensor = self.encoder(self.positions(self.embed(x)))[:, -1, :]
        return last
