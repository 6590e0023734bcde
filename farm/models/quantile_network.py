"""Direct quantile network: a window in, ordered quantiles out, no latent in between."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, final

from jaxtyping import Float as Shaped
from torch import Tensor, nn

from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Float, Int
from farm.base.types import Inputs
from farm.models.layers import LSTM, OrderedQuantiles
from farm.models.network import NetworkConfig, QuantileNetwork


@component(MODELS)
class QuantileNetworkConfig(NetworkConfig):
    """Config of `DirectQuantiles`.

    Parameters
    ----------
    encoder
        What reads the window: ``mlp`` all of it side by side, ``lstm`` day after day.
    hidden_size
        Width of the hidden layers or of the hidden state.
    num_layers
        Hidden or stacked layers.
    dropout
        Dropout after each hidden layer, or between stacked ones.
    """

    name: Literal["quantile_network"] = "quantile_network"
    quantile_levels: ClassVar[tuple[float, ...]] = (0.05, 0.5, 0.95)
    encoder: Literal["mlp", "lstm"] = "mlp"
    hidden_size: Annotated[int, Int(1, 1024, log=True)] = 64
    num_layers: Annotated[int, Int(1, 8)] = 2
    dropout: Annotated[float, Float(0.0, 0.9)] = 0.2

    def build(self, inputs: Inputs) -> DirectQuantiles:
        """Make the untrained network."""
        return DirectQuantiles(self, inputs)


@final
class DirectQuantiles(QuantileNetwork):
    """Multi-quantile regression by a network (Taylor 2000, Journal of Forecasting 19(4)).

    A multilayer perceptron over the flattened window, or an LSTM read at its last day; then a head
    whose quantiles cannot cross.
    """

    def __init__(self, config: QuantileNetworkConfig, inputs: Inputs) -> None:
        super().__init__(inputs, config.quantile_levels)
        n_features, layers = len(inputs.features), config.num_layers
        self.lstm: LSTM | None = None
        self.mlp: nn.Sequential | None = None
        if config.encoder == "lstm":
            self.lstm = LSTM(n_features, config.hidden_size, layers, config.dropout)
        else:
            widths = [inputs.lookback * n_features, *[config.hidden_size] * layers]
            self.mlp = nn.Sequential(nn.Flatten())
            for before, after in pairwise(widths):
                self.mlp.extend([nn.Linear(before, after), nn.ReLU(), nn.Dropout(config.dropout)])
        self.head = OrderedQuantiles(config.hidden_size, config.quantile_levels)

    def forward(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, "B Q"]:
        """Give the quantiles, in scaled units."""
        if self.lstm is not None:
            summary = self.lstm(x)[0][:, -1, :]
        else:
            assert self.mlp is not None
            summary = self.mlp(x)
        quantiles: Tensor = self.head(summary)
        return quantiles
