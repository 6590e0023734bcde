"""Phases of the surface curriculum, as data: in which order they come, and how one of them is taught."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo
from torch import Tensor

from farm.base.config import Config, listed
from farm.base.errors import UserError
from farm.base.search_space import Choice, Float, Int
from farm.base.types import Floats
from farm.models.network import Sequences, on_device
from farm.models.surface_cvae import Latent, SurfaceCVAE
from farm.training.checkpoint import Checkpoint
from farm.training.fit import History, Objective, Report, TrainingConfig, fit
from farm.training.rollout import Feed, pass_costs, require_no_gap

Days = Annotated[int, Int(1, 10_000)]
DayTuple = Annotated[tuple[Days, ...], BeforeValidator(listed), Field(min_length=1)]
Epochs = Annotated[int, Int(1, 100_000)]


class Phase(Config):
    """One stage of training: one call of `fit` with its own objective."""

    epochs: Epochs

    @abstractmethod
    def days(self, context: int) -> int:
        """Count the days of a training sequence, its context included."""

    def up_to(self, horizon: int) -> Self:
        """Give the same phase with no horizon beyond one; itself where there is none."""
        return self

    @abstractmethod
    def objective(self, network: SurfaceCVAE) -> Objective:
        """Give the mean loss of sequences, (B, days, F); it draws nothing in evaluation mode."""


class TeacherForcing(Phase):
    """Phase 1: the next `horizon` days from a real context."""

    epochs: Epochs = 200
    horizon: Days = 1

    def days(self, context: int) -> int:
        """Count context and horizon."""
        return context + self.horizon

    def objective(self, network: SurfaceCVAE) -> Objective:
        """Give the evidence lower bound of the days after the context."""
        return lambda days: network.costs(days)[0].mean()


class MultiHorizon(Phase):
    """Phase 2: several horizons at once from a real context.

    Parameters
    ----------
    horizons
        In days, increasing.
    weights
        What each horizon's loss counts for; they are divided by their sum.
    """

    epochs: Epochs = 150
    horizons: DayTuple = (1, 7, 14, 30, 60, 90)
    weights: Annotated[tuple[Annotated[float, Float(1e-6, 1e6)], ...], BeforeValidator(listed)] = (
        1.0,
        0.9,
        0.8,
        0.6,
        0.4,
        0.3,
    )

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        if len(self.weights) != len(self.horizons) or sorted(set(self.horizons)) != list(self.horizons):
            raise UserError(
                f"multi-horizon phase: got horizons {self.horizons} with weights {self.weights}: expected"
                " increasing horizons, each with a weight"
            )
        return self

    def days(self, context: int) -> int:
        """Count context and longest horizon."""
        return context + self.horizons[-1]

    def up_to(self, horizon: int) -> Self:
        """Leave the horizons beyond one out, but never all of them."""
        kept = max(1, sum(days <= horizon for days in self.horizons))
        return self.model_copy(update={"horizons": self.horizons[:kept], "weights": self.weights[:kept]})

    def objective(self, network: SurfaceCVAE) -> Objective:
        """Give the weighted mean of the horizons' losses, from one pass to the longest of them.

        The network is causal, so the first h days of that pass are the pass to horizon h, and the loss
        of horizon h is the mean of their costs.
        """

        def loss(days: Tensor) -> Tensor:
            return prefix_loss(network.costs(days)[0], self.horizons, self.weights)

        return loss


class Autoregressive(Phase):
    """Phases 3 and 4: several passes, the later ones from contexts that were generated.

    Parameters
    ----------
    horizon
        Days of a pass.
    offsets
        Days between the starts of passes: one of them is drawn for each batch, all alike likely. In
        evaluation mode their losses are averaged.
    steps
        Passes.
    latent
        ``prior``: z is drawn from the model's prior, as when generating: with a learned prior it has seen
        the context, with a standard one nothing, and there is no KL to weigh. ``posterior``: z has seen
        the truth of its pass. Neither is the plan's rollout, which encodes the context alone and weighs a
        KL in every pass.
    feed
        What later passes read of the earlier ones in training; see `farm.training.rollout.pass_costs`.
    """

    epochs: Epochs = 125
    horizon: Days
    offsets: DayTuple
    steps: Annotated[int, Int(1, 100)] = 3
    latent: Annotated[Latent, Choice(("prior", "posterior"))] = "prior"
    feed: Annotated[Feed, Choice(("median", "fan"))] = "median"

    @model_validator(mode="after")
    def _no_gaps(self) -> Self:
        for offset in self.offsets:
            require_no_gap(self.horizon, offset, f"autoregressive phase H={self.horizon}")
        return self

    def days(self, context: int) -> int:
        """Count the context and `steps` horizons, as in the plan, whatever the offsets.

        With every offset below the horizon fewer would do; phases that differ in their offsets alone
        then still learn from the same sequences.
        """
        return context + self.steps * self.horizon

    def up_to(self, horizon: int) -> Self:
        """Shorten the passes to a horizon, and with them the offsets beyond it."""
        days = min(self.horizon, horizon)
        offsets = tuple(dict.fromkeys(min(offset, days) for offset in self.offsets))
        return self.model_copy(update={"horizon": days, "offsets": offsets})

    def objective(self, network: SurfaceCVAE) -> Objective:
        """Give the mean cost over passes."""

        def loss(days: Tensor) -> Tensor:
            offsets = self.offsets
            if network.training:
                offsets = (offsets[int(torch.randint(len(offsets), ()))],)
            losses = [
                pass_costs(network, days, self.horizon, offset, self.steps, self.latent, self.feed).mean()
                for offset in offsets
            ]
            return torch.stack(losses).mean()

        return loss


def prefix_loss(costs: Tensor, horizons: tuple[int, ...], weights: tuple[float, ...]) -> Tensor:
    """Give the weighted mean of the mean costs of the first h days, for each horizon h.

    Parameters
    ----------
    costs
        Cost of each day ahead, (H,), H the longest horizon.
    horizons, weights
        In days, and what each counts for.
    """
    of_day = costs.new_zeros(len(costs))
    for horizon, weight in zip(horizons, weights, strict=True):
        of_day[:horizon] += weight / (sum(weights) * horizon)
    return (costs * of_day).sum()


CURRICULA: dict[str, tuple[int, ...]] = {
    "1": (1,),
    "1,2": (1, 2),
    "1,2,3": (1, 2, 3),
    "1,2,3,4": (1, 2, 3, 4),
    "1,2,4": (1, 2, 4),
    "1,4": (1, 4),
    "4": (4,),
}
Policy = Literal["mark", "stop", "extend", "fall_back"]


class GateMissed(RuntimeError):
    """A gate was missed, and the curriculum says to stop there."""


@dataclass(frozen=True)
class Stage:
    """What a curriculum trains in one go: a phase, or more epochs of it after a missed gate.

    Parameters
    ----------
    number
        Of the phase, counted from 1.
    phase
        With the epochs that are trained.
    extended
        Whether these are the epochs that a missed gate added.
    """

    number: int
    phase: Phase
    extended: bool = False

    @property
    def name(self) -> str:
        """Name it, such as ``"phase 2"`` or ``"phase 2 extended"``."""
        return f"phase {self.number}{' extended' if self.extended else ''}"

    def described(self) -> dict[str, Any]:
        """Say all that decides what is trained, JSON-ready; it enters the stage's signature."""
        return {"name": self.name, "phase": self.phase.versioned()}


class CurriculumConfig(Config):
    """Which phases, and what each of them is; the defaults are the plan's.

    Parameters
    ----------
    name
        The phases that are gone through, one of `CURRICULA`.
    phase1, phase2, phase3, phase4
        The phases; one that `name` leaves out is not read.
    epoch_share
        What share of each phase's epochs is trained, at least, in whole epochs: below 1 the
        curriculum is reduced in proportion.
    gates
        What a missed gate after a phase leads to; see `farm.evaluation.checklist.gates`.
        ``mark``: nothing, the result carries a warning. ``stop``: the trial ends there, without a
        result. ``extend``: the phase is trained for `gate_epochs` more, once, from its best weights.
        ``fall_back``: the phases after it go to `gate_horizon` at most.
    gate_epochs, gate_horizon
        See `gates`; the epochs are reduced by `epoch_share` too.
    """

    VERSION = 2

    name: Annotated[str, Choice(tuple(CURRICULA))] = "1,2,3,4"
    phase1: TeacherForcing = TeacherForcing()
    phase2: MultiHorizon = MultiHorizon()
    phase3: Autoregressive = Autoregressive(horizon=60, offsets=(30, 60))
    phase4: Autoregressive = Autoregressive(horizon=90, offsets=(45, 90))
    epoch_share: Annotated[float, Float(1e-4, 1.0, log=True)] = 1.0
    gates: Annotated[Policy, Choice(("mark", "stop", "extend", "fall_back"))] = "mark"
    gate_epochs: Epochs = 50
    gate_horizon: Days = 60

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """Take the rest of a phase of which only some values are given from its default."""
        if not isinstance(values, Mapping):
            return values
        return {name: _filled(cls.model_fields.get(name), value) for name, value in values.items()}

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name not in CURRICULA:
            raise UserError(f"curriculum {self.name!r}: expected one of {' | '.join(CURRICULA)}")
        return self

    def stages(self, missed: Sequence[str] = ()) -> tuple[Stage, ...]:
        """Give the stages in order, as far as is known.

        Parameters
        ----------
        missed
            For each stage that was trained, the gate that it missed, or ``""``. The stages after those
            are what follows if no other gate is missed.

        Raises
        ------
        GateMissed
            If a gate was missed and `gates` is ``stop``; the message says which.
        """
        phases = {1: self.phase1, 2: self.phase2, 3: self.phase3, 4: self.phase4}
        stages = [Stage(number, self._shared(phases[number])) for number in CURRICULA[self.name]]
        for done, gate in enumerate(missed, start=1):
            stage = stages[done - 1]
            if not gate:
                continue
            if self.gates == "stop":
                raise GateMissed(f"stopped after {stage.name}: {gate}")
            if self.gates == "extend" and not stage.extended:
                more = self._shared(stage.phase.model_copy(update={"epochs": self.gate_epochs}))
                stages.insert(done, Stage(stage.number, more, extended=True))
            elif self.gates == "fall_back":
                stages[done:] = [
                    Stage(later.number, later.phase.up_to(self.gate_horizon)) for later in stages[done:]
                ]
        return tuple(stages)

    def _shared(self, phase: Phase) -> Phase:
        # The share of a whole number of epochs must stay that number: 150 * 0.1 need not be 15.
        epochs = math.ceil(round(phase.epochs * self.epoch_share, 6))
        return phase.model_copy(update={"epochs": max(1, epochs)})

    def longest(self, context: int) -> tuple[str, int]:
        """Name the phase that needs most days, and give them."""
        stage = max(self.stages(), key=lambda stage: stage.phase.days(context))
        return stage.name, stage.phase.days(context)

    def require_days(self, context: int, blocks: dict[str, int]) -> None:
        """Refuse blocks that are too short for the longest phase.

        Parameters
        ----------
        context
            C.
        blocks
            Days of each block, by name, such as ``{"training": 4001, "validation": 600}``.

        Raises
        ------
        UserError
            With the phase and the days that it needs.
        """
        name, needed = self.longest(context)
        for block, days in blocks.items():
            if days < needed:
                raise UserError(
                    f"{block} block: got {days} days, expected at least {needed}, which {name}"
                    f" needs with a context of {context}: give more days, a shorter horizon or leave the"
                    " phase out"
                )


def _filled(field: FieldInfo | None, value: Any) -> Any:
    partial_phase = field is not None and isinstance(field.default, Phase) and isinstance(value, Mapping)
    return {**field.default.model_dump(), **value} if field is not None and partial_phase else value


def teach(
    network: SurfaceCVAE,
    train: Floats,
    val: Floats,
    stage: Stage,
    config: TrainingConfig,
    seed: int,
    report: Report = lambda epoch: None,
    *,
    resume: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
    keep_every: float = 0.0,
) -> History:
    """Take a network through one stage of a curriculum.

    It starts from the weights that it finds, with a fresh optimizer (the moments of an earlier stage
    belong to other weights and another loss) and an order of the data that depends on the seed and the
    stage. Dropout, latents and offsets are drawn on from where torch's generator stands. So a stage
    depends on those before it and never on those after.

    Parameters
    ----------
    network
        On its device; changed in place, to the best weights of the stage.
    train, val
        Scaled days of the two blocks, (N, F) float32 each; see `farm.data.day_vectors`.
    stage
        Which.
    config
        Optimizer and batches; its epochs are those of the stage instead.
    seed, report, resume, keep, keep_every
        See `fit`.
    """
    device = next(network.parameters()).device
    length = stage.phase.days(network.context_days)
    learnt, held_out = (Sequences(on_device(block, device), length) for block in (train, val))
    return fit(
        network,
        learnt,
        held_out,
        config.model_copy(update={"epochs": stage.phase.epochs}),
        seed + 1_000_003 * stage.number + 1_009 * stage.extended,
        report,
        objective=stage.phase.objective(network),
        resume=resume,
        keep=keep,
        keep_every=keep_every,
    )
