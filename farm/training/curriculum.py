"""Phases of the surface curriculum, as data, and the one way to go through them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo
from torch import Tensor

from farm.base.config import Config, listed
from farm.base.errors import UserError
from farm.base.search_space import Choice, Float, Int
from farm.base.types import Floats
from farm.models.network import Sequences
from farm.models.surface_cvae import Latent, SurfaceCVAE
from farm.training.checkpoint import Checkpoint
from farm.training.fit import Epoch, History, Objective, TrainingConfig, fit
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
        What each horizon's loss counts for; only ratios matter.
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
        ``prior``: z has seen the context alone, as when generating and as in the plan, whose rollout
        shows the model nothing but a context; there is then no KL to weigh. ``posterior``: z has seen
        the truth of its pass.
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


class CurriculumConfig(Config):
    """Which phases, and what each of them is; the defaults are the plan's.

    Parameters
    ----------
    name
        The phases that are gone through, one of `CURRICULA`.
    phase1, phase2, phase3, phase4
        The phases; one that `name` leaves out is not read.
    epoch_share
        What share of each phase's epochs is trained, at least one: below 1 the curriculum is
        reduced in proportion.
    """

    name: Annotated[str, Choice(tuple(CURRICULA))] = "1,2,3,4"
    phase1: TeacherForcing = TeacherForcing()
    phase2: MultiHorizon = MultiHorizon()
    phase3: Autoregressive = Autoregressive(horizon=60, offsets=(30, 60))
    phase4: Autoregressive = Autoregressive(horizon=90, offsets=(45, 90))
    epoch_share: Annotated[float, Float(1e-4, 1.0, log=True)] = 1.0

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

    @classmethod
    def reaching(cls, horizon: int, **fields: Any) -> Self:
        """Make the plan's curriculum for another longest horizon, such as 30, 60 or 120.

        Phase 2 keeps the plan's horizons below it and its weights; phase 3 goes to two thirds of it;
        the offsets are half and whole horizons.
        """
        plan = dict(zip(MultiHorizon().horizons, MultiHorizon().weights, strict=True))
        kept = {days: weight for days, weight in plan.items() if days < horizon}
        # A horizon that the plan does not name counts for what its next longer one does.
        kept[horizon] = next((weight for days, weight in plan.items() if days >= horizon), plan[90])
        medium = max(1, round(horizon * 2 / 3))
        return cls(
            phase2=MultiHorizon(horizons=tuple(kept), weights=tuple(kept.values())),
            phase3=Autoregressive(horizon=medium, offsets=_halves(medium)),
            phase4=Autoregressive(horizon=horizon, offsets=_halves(horizon)),
            **fields,
        )

    def phases(self) -> tuple[tuple[str, Phase], ...]:
        """Give the phases in order, by name, with the epochs that they are trained."""
        all_phases = {1: self.phase1, 2: self.phase2, 3: self.phase3, 4: self.phase4}
        return tuple((f"phase {number}", self._shared(all_phases[number])) for number in CURRICULA[self.name])

    def _shared(self, phase: Phase) -> Phase:
        return phase.model_copy(update={"epochs": max(1, round(phase.epochs * self.epoch_share))})

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
        name, phase = max(self.phases(), key=lambda entry: entry[1].days(context))
        for block, days in blocks.items():
            if days < phase.days(context):
                raise UserError(
                    f"{block} block: got {days} days, expected at least {phase.days(context)}, which {name}"
                    f" needs with a context of {context}: give more days, a shorter horizon or leave the"
                    " phase out"
                )


def _filled(field: FieldInfo | None, value: Any) -> Any:
    partial_phase = field is not None and isinstance(field.default, Phase) and isinstance(value, Mapping)
    return {**field.default.model_dump(), **value} if field is not None and partial_phase else value


def _halves(horizon: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, horizon // 2), horizon}))


PhaseReport = Callable[[str, Epoch], None]


def teach(
    network: SurfaceCVAE,
    train: Floats,
    val: Floats,
    curriculum: CurriculumConfig,
    config: TrainingConfig,
    seed: int,
    report: PhaseReport = lambda phase, epoch: None,
    *,
    resume: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
) -> dict[str, History]:
    """Take a network through a curriculum.

    Each phase starts from the best weights of the one before, with a fresh optimizer (its moments
    belonged to other weights and another loss) and an order of the data that depends on the seed and
    the phase. Dropout, latents and offsets are drawn on from where the phase before stopped. So a
    phase depends on those before it and never on those after: curricula with the same first phases
    share them, to the bit.

    Parameters
    ----------
    network
        Untaught, on its device; changed in place.
    train, val
        Scaled days of the two blocks, (N, F) float32 each; see `farm.data.day_vectors`.
    curriculum
        Phases.
    config
        Optimizer and batches; its epochs are those of each phase instead.
    seed
        See `fit`.
    report
        Called after each epoch with the name of the phase.
    resume
        What an earlier call gave `keep`, whose first phases were the same. The record's ``phases``
        say which phases were begun; a checkpoint of the last epoch of a phase starts the next one.
    keep
        Called after each epoch with where training stands.

    Returns
    -------
    dict of History
        The learning curve of each phase, by name.

    Raises
    ------
    UserError
        If a block is too short for the longest phase.
    ValueError
        If `resume` comes from other phases.
    """
    context, device = network.context_days, next(network.parameters()).device
    curriculum.require_days(context, {"training": len(train), "validation": len(val)})
    learnt, held_out = (torch.from_numpy(block).to(device) for block in (train, val))
    phases = curriculum.phases()
    described = [[name, phase.model_dump(mode="json")] for name, phase in phases]
    histories: dict[str, History] = {}
    begun = 0
    if resume is not None:
        begun = len(resume.record["phases"])
        if resume.record["phases"] != described[:begun]:
            raise ValueError(f"the checkpoint is of the phases {resume.record['phases']}, not of {described}")
        histories = {name: _history(value) for name, value in resume.record["histories"].items()}
    for number, (name, phase) in enumerate(phases, start=1):
        if number < begun:
            continue
        before = {done: asdict(history) for done, history in histories.items()}

        def kept(checkpoint: Checkpoint, number: int = number, before: dict[str, Any] = before) -> None:
            assert keep is not None
            facts = {"phases": described[:number], "histories": before}
            keep(replace(checkpoint, record=checkpoint.record | facts))

        histories[name] = fit(
            network,
            Sequences(learnt, phase.days(context)),
            Sequences(held_out, phase.days(context)),
            config.model_copy(update={"epochs": phase.epochs}),
            seed + 1_000_003 * int(name.split()[-1]),
            partial(report, name),
            objective=phase.objective(network),
            resume=resume if number == begun else None,
            keep=None if keep is None else kept,
        )
    return histories


def _history(value: dict[str, Any]) -> History:
    return History(tuple(Epoch(**epoch) for epoch in value["epochs"]), value["best_epoch"])
