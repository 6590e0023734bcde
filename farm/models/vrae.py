"""Variational recurrent autoencoder of windows.

References
----------
.. [1] Fabius and van Amersfoort (2015), Variational recurrent auto-encoders, ICLR workshop.
.. [2] Cho et al. (2014), Learning phrase representations using RNN encoder-decoder for statistical machine
   translation, EMNLP.
"""

from __future__ import annotations

from typing import Annotated, Literal, final

import torch
from jaxtyping import Float as Shaped
from torch import Tensor, nn

from farm.base.model import MODELS
from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.types import Inputs
from farm.models.variational import VariationalConfig, VariationalNetwork


@component(MODELS)
class VRAEConfig(VariationalConfig):
    """Config of `VRAE`.

    Parameters
    ----------
    hidden_size
        Of either recurrent network.
    """

    name: Literal["vrae"] = "vrae"
    latent_dim: Annotated[int, Int(1, 256, log=True)] = 16
    hidden_size: Annotated[int, Int(1, 512, log=True)] = 48

    def build(self, inputs: Inputs) -> VRAE:
        """Make the untrained network."""
        return VRAE(self, inputs)


@final
class VRAE(VariationalNetwork):
    """VAE of windows with recurrent networks [1]_, of gated units [2]_.

    The last state of the encoder summarises the window and gives q(z | x). The latent gives the first
    state of the decoder, which then runs on its own and emits a day at each step. The paper feeds each
    emitted mean back; as that is a linear function of the state, the recurrent weights hold it already,
    and the decoder reads z instead.

    Parameters
    ----------
    config
        Sizes and weights.
    inputs
        The windows.
    """

    def __init__(self, config: VRAEConfig, inputs: Inputs) -> None:
        super().__init__(config, inputs, inputs.lookback)
        width, latent = config.hidden_size, config.latent_dim
        self.encoder = nn.GRU(self.assets, width, batch_first=True)
        self.summary = nn.Linear(width, 2 * latent)
        self.start = nn.Linear(latent, width)
        self.decoder = nn.GRU(latent, width, batch_first=True)
        self.emission = nn.Linear(width, self.outputs)

    def parameters_of_posterior(self, x: Shaped[Tensor, "B T A"]) -> Shaped[Tensor, "B E"]:
        """Encode windows; see `VariationalNetwork`."""
        _, last = self.encoder(x)
        parameters: Tensor = self.summary(last[0])
        return parameters

    def parameters_of_output(self, z: Shaped[Tensor, "B D"]) -> Shaped[Tensor, "B T O"]:
        """Decode windows; see `VariationalNetwork`."""
        steps = z.unsqueeze(1).expand(-1, self.days, -1)
        states, _ = self.decoder(steps, torch.tanh(self.start(z)).unsqueeze(0))
        output: Tensor = self.emission(states)
        return output
