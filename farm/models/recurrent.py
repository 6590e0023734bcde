"""LSTM forecaster: the last hidden state of the window, then a small head."""

from __future__ import annotations

from typing import Annotated, Literal, final

from jaxtyping import Float as Shaped
from torch import Tensor

from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Float, Int
from farm.base.types import Inputs
from farm.models.heads import HeadedConfig, HeadedNetwork, build_head
from farm.models.layers import LSTM


@component(MODELS)
class LSTMConfig(HeadedConfig):
    """Config of `LSTMForecaster`; the fields about the head are those of `HeadedConfig`.

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

    def drops_out(self) -> bool:
        """Say whether there is dropout: it stands between layers alone."""
        return self.dropout > 0 and self.num_layers > 1

    def network(self, inputs: Inputs) -> LSTMForecaster:
        """Make one untrained network; an LSTM takes windows of any length."""
        return LSTMForecaster(self, inputs)


@final
class LSTMForecaster(HeadedNetwork):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) over a window of features."""

    def __init__(self, config: LSTMConfig, inputs: Inputs) -> None:
        super().__init__(config)
        self.lstm = LSTM(len(inputs.features), config.hidden_size, config.num_layers, config.dropout)
        self.head = build_head(config, config.hidden_size, inputs)

    def summary(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, "B D"]:
        """Give the last hidden state."""
        hidden, _ = self.lstm(x)
        last: Tensor = hidden[:, -1, :]
        return last
