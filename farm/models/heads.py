"""What stands on top of a forecaster's summary of the window: a point, quantiles or a distribution.

Shape letters: S passes or members, P parameters of a head.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal, final

import numpy as np
import torch
from jaxtyping import Float as Shaped
from pydantic import model_validator
from torch import Tensor, nn

from farm.base.density import Density
from farm.base.errors import UserError
from farm.base.model import Model, State
from farm.base.search_space import Float, Int
from farm.base.types import RISK_LEVELS, Floats, Forecast, Inputs, Windows
from farm.models.layers import OrderedQuantiles
from farm.models.network import Batch, ForecastNetwork, NetworkConfig
from farm.models.objectives import pinball_loss

HeadKind = Literal["point", "quantile", "gaussian", "student_t"]
RETURN = "log_return"  # the feature in whose unit a head computes
TAILS = 0.1  # levels up to it, and from 1 - it on, are tails
LEAST_FREEDOM = 2.05  # of a Student-t head: above 2, where the variance is finite


class Head(nn.Sequential):
    """Map a summary of the window, (B, D), to P numbers, (B, P), and those to a loss and a forecast.

    Parameters
    ----------
    width
        D.
    last
        Makes the last layer, told how wide the one before it is.
    """

    def __init__(self, width: int, last: Callable[[int], nn.Module], hidden: int = 32) -> None:
        # In this order: weights are drawn from one stream.
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), last(hidden))

    def start_flat(self) -> None:
        """Start from one forecast for all days, not from noise."""
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)

    @abstractmethod
    def loss(self, out: Shaped[Tensor, "B P"], y: Shaped[Tensor, " B"]) -> Shaped[Tensor, ""]:
        """Give the mean loss over samples; `y` is in the unit of the target."""

    @abstractmethod
    def forecast(self, out: Shaped[Tensor, "S B P"]) -> Forecast:
        """Put what S passes or members say together."""


@final
class PointHead(Head):
    """One number, taught by the mean squared error; passes and members are averaged."""

    def __init__(self, width: int) -> None:
        super().__init__(width, lambda hidden: nn.Linear(hidden, 1))

    def loss(self, out: Shaped[Tensor, "B P"], y: Shaped[Tensor, " B"]) -> Shaped[Tensor, ""]:
        """Give the mean squared error."""
        return nn.functional.mse_loss(out.squeeze(-1), y)

    def forecast(self, out: Shaped[Tensor, "S B P"]) -> Forecast:
        """Give the mean of the points."""
        return Forecast(point=_double(out.squeeze(-1)).mean(axis=0))


class ScaledHead(Head):
    """A head that computes in the unit of the target's own return as the windows are scaled."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, last: Callable[[int], nn.Module], inputs: Inputs) -> None:
        super().__init__(width, last)
        column = next((f for f, n in enumerate(inputs.features) if n.rsplit("/", 1)[-1] == RETURN), None)
        if column is None:
            raise UserError(
                f"a head with quantiles: got features {', '.join(inputs.features)}, expected a {RETURN!r}"
                " among them, whose unit it computes in: add it, or choose the head point"
            )
        self.register_buffer("mean", torch.tensor(inputs.mean[column], dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(inputs.scale[column], dtype=torch.float32))

    def scaled(self, y: Tensor) -> Tensor:
        """Give targets in the unit of the head."""
        return (y - self.mean) / self.scale


@final
class QuantileHead(ScaledHead):
    """Quantiles that cannot cross, taught by the pinball loss; the median is the point forecast.

    Passes and members are averaged level by level, which keeps the shape of the distribution where a
    mean of probabilities would widen it (Lichtendahl, Grushka-Cockayne & Winkler 2013, Management
    Science 59(7)).

    Parameters
    ----------
    width, inputs
        See `build_head`.
    tail_weight
        What each level in the tails counts for, where one in the middle counts for 1.
    """

    def __init__(self, width: int, inputs: Inputs, tail_weight: float) -> None:
        super().__init__(width, lambda hidden: OrderedQuantiles(hidden, RISK_LEVELS), inputs)
        self.weights = [tail_weight if min(q, 1 - q) <= TAILS + 1e-9 else 1.0 for q in RISK_LEVELS]

    def loss(self, out: Shaped[Tensor, "B P"], y: Shaped[Tensor, " B"]) -> Shaped[Tensor, ""]:
        """Give the weighted pinball loss in scaled units."""
        return pinball_loss(out, self.scaled(y), RISK_LEVELS, self.weights)

    def forecast(self, out: Shaped[Tensor, "S B P"]) -> Forecast:
        """Average the quantiles; sums and products with a positive number keep their order."""
        quantiles = _double(out).mean(axis=0) * float(self.scale) + float(self.mean)
        return Forecast(quantiles[:, RISK_LEVELS.index(0.5)], quantiles, RISK_LEVELS)


@final
class DistributionHead(ScaledHead):
    """A normal or Student-t distribution, taught by its negative log-likelihood.

    Location and scale, and for the Student t the degrees of freedom, all depend on the window (Nix &
    Weigend 1994, ICNN; Lakshminarayanan, Pritzel & Blundell 2017, NeurIPS 30). Passes and members
    are a mixture of their distributions, each counting alike.

    Parameters
    ----------
    width, inputs
        See `build_head`.
    student
        Whether the distribution is a Student t.
    """

    def __init__(self, width: int, inputs: Inputs, student: bool) -> None:
        super().__init__(width, lambda hidden: nn.Linear(hidden, 3 if student else 2), inputs)
        self.student = student

    def parameters_of(self, out: Shaped[Tensor, "*N P"]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Give location, scale and, of a Student t, freedom, in scaled units."""
        scale = nn.functional.softplus(out[..., 1]) + 1e-4
        if not self.student:
            return out[..., 0], scale, None
        # About 8 from the start: the tails of daily returns.
        return out[..., 0], scale, LEAST_FREEDOM + nn.functional.softplus(out[..., 2] + 6.0)

    def loss(self, out: Shaped[Tensor, "B P"], y: Shaped[Tensor, " B"]) -> Shaped[Tensor, ""]:
        """Give the negative log-likelihood in scaled units."""
        location, scale, freedom = self.parameters_of(out)
        law = (
            torch.distributions.Normal(location, scale)
            if freedom is None
            else torch.distributions.StudentT(freedom, location, scale)
        )
        cost: Tensor = -law.log_prob(self.scaled(y)).mean()  # type: ignore[no-untyped-call]
        return cost

    def forecast(self, out: Shaped[Tensor, "S B P"]) -> Forecast:
        """Give the mixture and its quantiles."""
        location, scale, freedom = self.parameters_of(out)
        unit, mean = float(self.scale), float(self.mean)
        at, spread = _double(location).T * unit + mean, _double(scale).T * unit
        shape = np.full_like(at, np.inf) if freedom is None else _double(freedom).T
        return Forecast.of(Density(at, spread, shape), RISK_LEVELS)


def _double(values: Tensor) -> Floats:
    return values.cpu().numpy().astype(np.float64)


class HeadedConfig(NetworkConfig):
    """Config of a network that summarises the window and reads its forecast from that.

    Parameters
    ----------
    head
        ``point``: a number; ``quantile``: quantiles at `RISK_LEVELS`; ``gaussian``, ``student_t``: a
        distribution.
    tail_weight
        What a tail quantile counts for in the loss of the quantile head, others counting 1.
    passes
        Forward passes with dropout on that are put together at forecast time (Monte Carlo dropout,
        Gal & Ghahramani 2016, ICML); 1 is one pass with dropout off.
    members
        Networks of an ensemble, from seeds of their own (Lakshminarayanan et al. 2017, NeurIPS 30).
        One trial teaches all of them, so it costs that many times as much.
    """

    head: HeadKind = "point"
    tail_weight: Annotated[float, Float(0.1, 20.0, log=True)] = 1.0
    passes: Annotated[int, Int(1, 1000)] = 1
    members: Annotated[int, Int(1, 100)] = 1

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> HeadedConfig:
        if self.tail_weight != 1.0 and self.head != "quantile":
            raise UserError(
                f"model {self.name}: got tail_weight {self.tail_weight:g} with the head {self.head}, expected"
                " the head quantile: leave tail_weight out or change head"
            )
        if self.passes > 1 and not self.drops_out():
            raise UserError(
                f"model {self.name}: got {self.passes} passes of a network without dropout, which would all"
                " be alike: raise dropout (and num_layers above 1 for lstm), or set passes to 1"
            )
        return self

    @abstractmethod
    def drops_out(self) -> bool:
        """Say whether the network has dropout, so that passes with it differ."""

    @abstractmethod
    def network(self, inputs: Inputs) -> HeadedNetwork:
        """Make one untrained network."""

    def build(self, inputs: Inputs) -> HeadedNetwork | Ensemble:
        """Make the untrained network, or as many as there are members."""
        if self.members == 1:
            return self.network(inputs)
        return Ensemble([self.network(inputs) for _ in range(self.members)])


def build_head(config: HeadedConfig, width: int, inputs: Inputs) -> Head:
    """Make the head of a network whose summary is (B, `width`).

    Raises
    ------
    UserError
        If the head needs the target's own return among the features, and it is not there.
    """
    if config.head == "point":
        return PointHead(width)
    if config.head == "quantile":
        return QuantileHead(width, inputs, config.tail_weight)
    return DistributionHead(width, inputs, student=config.head == "student_t")


class HeadedNetwork(ForecastNetwork):
    """A network that summarises each window and reads its forecast from the summary by a head.

    Parameters
    ----------
    config
        Its config.
    """

    head: Head

    def __init__(self, config: HeadedConfig) -> None:
        super().__init__()
        self.passes = config.passes

    @abstractmethod
    def summary(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, "B D"]:
        """Give the hidden state that the forecast is read from."""

    def forward(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, "B P"]:
        """Give the head's parameters."""
        out: Tensor = self.head(self.summary(x))
        return out

    def loss(self, batch: Batch) -> Tensor:
        """Give the head's loss."""
        return self.head.loss(self(batch.x), batch.y)

    def outputs(self, x: Shaped[Tensor, "B T F"]) -> Shaped[Tensor, "S B P"]:
        """Give the head's parameters of each pass.

        All passes of one sample are one batch, and every sample meets the same dropout masks: a pass
        is one thinned network, and a sample's forecast does not depend on the samples beside it.
        """
        if self.passes == 1:
            out: Tensor = self(x)[None]
            return out
        with _dropout(self):
            return torch.stack([self._thinned(sample) for sample in x], dim=1)

    def _thinned(self, sample: Shaped[Tensor, "T F"]) -> Shaped[Tensor, "S P"]:
        torch.manual_seed(0)
        out: Tensor = self(sample.expand(self.passes, *sample.shape))
        return out

    def forecast(self, x: Tensor) -> Forecast:
        """Put the passes together."""
        return self.head.forecast(self.outputs(x))


@contextmanager
def _dropout(network: nn.Module) -> Iterator[None]:
    """Switch dropout on, and afterwards put back the mode and torch's own generator."""
    was_training = network.training
    network.train()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        network.train(was_training)


@final
class Ensemble(Model):
    """Networks alike but for their seeds, each taught by itself; see `HeadedConfig.members`.

    Parameters
    ----------
    members
        At least two.
    """

    def __init__(self, members: Sequence[HeadedNetwork]) -> None:
        self.members = tuple(members)

    def seeds(self, seed: int) -> list[int]:
        """Derive the members' seeds, which order their batches, from the trial's."""
        return [int(word) for word in np.random.SeedSequence(seed).generate_state(len(self.members))]

    def predict(self, windows: Windows) -> Forecast:
        """Put the members' forecasts together; see each head."""
        out = []
        with torch.no_grad():
            for member in self.members:
                member.eval()
                device = next(member.parameters()).device
                out.append(member.outputs(torch.from_numpy(windows.x).to(device)))
        return self.members[0].head.forecast(torch.cat(out))

    def state(self) -> State:
        """Give the members' weights, named ``0.NAME`` and so on."""
        return {
            f"{k}.{name}": value
            for k, member in enumerate(self.members)
            for name, value in member.state().items()
        }

    def load_state(self, state: State) -> None:
        """Take the weights back."""
        for k, member in enumerate(self.members):
            own = {n.removeprefix(f"{k}."): value for n, value in state.items() if n.startswith(f"{k}.")}
            member.load_state(own)
