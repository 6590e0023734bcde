"""LSTM forecaster: the last hidden state of the window, then a small head."""

from __future__ import annotations

from typing import Annotated, Literal, final

from jaxtyping import Float as Shaped
from torch import Tensor, nn

from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Float, Int
from farm.base.types import Inputs
from farm.models.layers import ReturnHead
from farm.models.network import NetworkConfig, PointNetwork


@component(MODELS)
class LSTMConfig(NetworkConfig):
    """Config of `LSTMForecaster`.

    Parameters
    ----------
    hidden_size
        Width of the hidden state.
    num_layers
        Stacked layers.
    dropout
        Dropout between layers; without effect with one layer.
    """

    name: Literal["lstm"] = "lstm"
    hidden_size: Annotated[int, Int(1, 1024, log=True)] = 64
    num_layers: Annotated[int, Int(1, 8)] = 2
    dropout: Annotated[float, Float(0.0, 0.9)] = 0.2

    def build(self, inputs: Inputs) -> LSTMForecaster:
        """Make the untrained network; an LSTM takes windows of any length."""
        return LSTMForecaster(self, len(inputs.features))


@final
class LSTMForecaster(PointNetwork):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) over a window of features."""

    def __init__(self, config: LSTMConfig, n_features: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            n_features,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        self.head = ReturnHead(config.hidden_size)

    def forward(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, " B"]:
        """Forecast from the last hidden state."""
        hidden, _ = self.lstm(x)
        out: Tensor = self.head(hidden[:, -1, :]).squeeze(-1)
        return out
