"""What every neural model is: a torch module that the training loop can teach."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float as Shaped
from torch import Tensor, nn

from farm.base.model import Model, ModelConfig, State
from farm.base.types import Floats, Forecast, Inputs, Latents, Windows
from farm.models.objectives import pinball_loss


def on_device(values: Floats, device: torch.device) -> Tensor:
    """Put an array on a device; from pinned memory, beside the computing, where that is a GPU.

    A block goes there once, whole, and its batches are taken on the device: no batch crosses the bus.
    """
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


class Batch(NamedTuple):
    """Samples on a device: x (B, T, F), y (B,) and, where inputs are hidden, hidden (B, K)."""

    x: Tensor
    y: Tensor
    hidden: Tensor | None = None

    @classmethod
    def of(cls, windows: Windows, device: torch.device) -> Batch:
        """Put a block on a device."""
        hidden = None if windows.hidden is None else on_device(windows.hidden, device)
        return cls(on_device(windows.x, device), on_device(windows.y, device), hidden)

    @property
    def size(self) -> int:
        """Count the samples."""
        return len(self.x)

    def take(self, rows: Tensor) -> Batch:
        """Select samples."""
        return Batch(self.x[rows], self.y[rows], None if self.hidden is None else self.hidden[rows])


class Sequences(NamedTuple):
    """Every run of `length` days of one block on a device, days (N, F); only what is taken is copied."""

    days: Tensor
    length: int

    @property
    def size(self) -> int:
        """Count the runs, N - length + 1."""
        return len(self.days) - self.length + 1

    def take(self, rows: Tensor) -> Tensor:
        """Select runs by their first day, (B, length, F)."""
        return self.days[rows[:, None] + torch.arange(self.length, device=rows.device)]


class NetworkConfig(ModelConfig):
    """Config of a model that the training loop teaches, with a seed."""

    trained: ClassVar[bool] = True


class Network(nn.Module, Model):
    """A neural model."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Give the scalar training loss of a batch."""

    def begin_epoch(self, epoch: int) -> None:
        """Hear that a pass over the training block begins, counted from 1; most networks need not know."""

    def state(self) -> State:
        """Give the weights; see `Model.state`."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}

    def load_state(self, state: State) -> None:
        """Take weights back; see `Model.load_state`."""
        self.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})


class ForecastNetwork(Network):
    """A network that forecasts windows."""

    @abstractmethod
    def forecast(self, x: Tensor) -> Forecast:
        """Forecast a batch, x (B, T, F), in evaluation mode and without gradients."""

    def predict(self, windows: Windows) -> Forecast:
        """Forecast each sample; see `Model.predict`."""
        was_training = self.training
        self.eval()
        with torch.no_grad():
            forecast = self.forecast(on_device(windows.x, next(self.parameters()).device))
        self.train(was_training)
        return forecast


class QuantileNetwork(ForecastNetwork):
    """A network with ordered quantiles per sample, taught by the pinball loss.

    It computes in the unit of the first feature, the target's own return, as the windows are scaled;
    its forecasts are in the unit of the target. The middle quantile is the point forecast.

    Parameters
    ----------
    inputs
        What the windows hold.
    levels
        The Q quantile levels.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: Inputs, levels: tuple[float, ...]) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("mean", torch.tensor(inputs.mean[0], dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(inputs.scale[0], dtype=torch.float32))

    @abstractmethod
    def forward(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, "B Q"]:
        """Map windows to non-decreasing quantiles in scaled units."""

    def loss(self, batch: Batch) -> Tensor:
        """Give the pinball loss in scaled units."""
        return pinball_loss(self(batch.x), (batch.y - self.mean) / self.scale, self.levels)

    def forecast(self, x: Tensor) -> Forecast:
        """Give the quantiles, unscaled; a product with a positive number keeps their order."""
        quantiles = (self(x) * self.scale + self.mean).cpu().numpy().astype(np.float64)
        middle = min(range(len(self.levels)), key=lambda q: abs(self.levels[q] - 0.5))
        return Forecast(point=quantiles[:, middle], quantiles=quantiles, levels=self.levels)


Scenario = Literal["s1", "s2", "s3", "s4"]


class LatentNetwork(ForecastNetwork):
    """A network that forecasts a hidden target through a latent, which can be had in several ways.

    The scenarios of one taught network, by what the latent of the target's day T+1 has seen:

    - ``s1``, oracle: everything, the hidden truth included;
    - ``s2``, mixed: that of ``s1`` on 80 % of the days, drawn with a seed, else that of ``s3``;
    - ``s3``, realistic with z[T-1]: the days up to T alone; the latent of the last full day. (A
      cointegration module reads the peers' day T+1 beside it);
    - ``s4``, realistic with z[T]: also the peers' day T+1; how the missing target is made up for is
      the network's own way.

    The report counts the C+1 days of a window from 0, so its z[T] is the latent of day T+1 here.
    ``s3`` and ``s4`` read nothing of `Windows.hidden` and `Windows.y`. `predict` is ``s4``.
    """

    scenarios: ClassVar[tuple[Scenario, ...]] = ("s1", "s2", "s3", "s4")

    @abstractmethod
    def scenario(self, windows: Windows, name: Scenario, seed: int = 0) -> Forecast:
        """Forecast each sample under a scenario; `seed` draws the days of ``s2``."""

    @abstractmethod
    def latent(self, windows: Windows, name: Scenario) -> Latents:
        """Give the latent of each sample under a scenario other than the mixed one."""
