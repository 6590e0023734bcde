"""One trial from config to result; knows neither Ray nor MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator

import farm.baselines
import farm.evaluation
import farm.models
import farm.studies  # noqa: F401  (these four register their components)
from farm.base.config import Config, signature
from farm.base.errors import UserError
from farm.base.model import AnyModel, Estimator, State
from farm.base.surfaces import SurfaceWindows
from farm.base.types import Dataset
from farm.models.heads import Ensemble
from farm.models.network import Network
from farm.models.surface_cvae import SurfaceCVAE
from farm.studies.study import AnyStudy, Evaluation, Source
from farm.training.curriculum import CurriculumConfig, teach
from farm.training.fit import Epoch, History, TrainingConfig, fit, reproducible


class TrialConfig(Config):
    """Everything that decides a trial's numbers, beside its data.

    Parameters
    ----------
    study
        The question and its data.
    model
        The model or baseline.
    training
        How a network is taught; None for a model that fits itself.
    curriculum
        The phases of a model that is taught in phases; None for any other.
    seed
        Decides weights, batches and dropout; 0 for a model that draws nothing.
    """

    VERSION = 1

    study: AnyStudy
    model: AnyModel
    training: TrainingConfig | None = None
    curriculum: CurriculumConfig | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _training_fits_the_model(self) -> Self:
        if self.model.study not in ("", self.study.name):
            raise UserError(
                f"model {self.model.name}: got the study {self.study.name}, expected {self.model.study},"
                " whose windows it needs: choose another model or study"
            )
        if self.model.trained != (self.training is not None):
            raise UserError(
                f"model {self.model.name}: training settings are for networks only"
                if self.training
                else f"model {self.model.name}: a network needs training settings"
            )
        if self.model.in_phases != (self.curriculum is not None):
            raise UserError(
                f"model {self.model.name}: a curriculum is for models that are taught in phases only"
                if self.curriculum
                else f"model {self.model.name}: it is taught in phases, so it needs a curriculum"
            )
        return self

    def signature(self, source: Source) -> str:
        """Name the trial; see `farm.base.config.signature`."""
        return signature(self, self.study.data_digest(source))


@dataclass(frozen=True)
class Result:
    """What a trial leaves behind.

    Parameters
    ----------
    evaluation
        Scores and forecasts of the test block; its metrics hold the cost too, and no NaN.
    history
        The learning curve; None for a model that fits itself.
    state
        What the model learnt and the scaler of its inputs, as arrays.
    """

    evaluation: Evaluation
    history: History | None
    state: State


def resolve_device(device: str) -> torch.device:
    """Turn ``auto`` into a GPU where there is one, else the CPU."""
    return (
        torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device == "auto"
        else torch.device(device)
    )


def _teach(
    network: Network,
    data: Dataset,
    config: TrialConfig,
    curriculum: CurriculumConfig,
    training: TrainingConfig,
    report: Callable[[Epoch], None],
) -> History:
    """Take a network through its curriculum; give one learning curve, its epochs counted on."""
    assert isinstance(network, SurfaceCVAE)
    assert isinstance(data.train, SurfaceWindows)
    assert isinstance(data.val, SurfaceWindows)
    epochs: list[Epoch] = []

    def on_epoch(phase: str, epoch: Epoch) -> None:
        epochs.append(replace(epoch, epoch=len(epochs) + 1))
        report(epochs[-1])

    phases = teach(network, data.train.block, data.val.block, curriculum, training, config.seed, on_epoch)
    last = list(phases.values())[-1]
    return History(tuple(epochs), len(epochs) - len(last.epochs) + last.best_epoch)


def _teach_members(
    ensemble: Ensemble,
    data: Dataset,
    config: TrialConfig,
    training: TrainingConfig,
    device: torch.device,
    report: Callable[[Epoch], None],
) -> History:
    """Teach each member by itself; give one learning curve after the other, their epochs counted on.

    The best epoch is that of the last member.
    """
    epochs: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        epochs.append(replace(epoch, epoch=len(epochs) + 1))
        report(epochs[-1])

    for member, seed in zip(ensemble.members, ensemble.seeds(config.seed), strict=True):
        before = len(epochs)
        history = fit(member.to(device), data.train, data.val, training, seed, on_epoch)
    return History(tuple(epochs), before + history.best_epoch)


def run(
    config: TrialConfig,
    source: Source,
    *,
    device: str = "auto",
    report: Callable[[Epoch], None] = lambda epoch: None,
) -> Result:
    """Run one trial: data, fit, forecast of the test block, scores.

    Parameters
    ----------
    config
        The trial.
    source
        Holds at least what the study reads.
    device
        ``auto``, ``cpu`` or ``cuda``; outside the signature.
    report
        Called after each epoch.

    Returns
    -------
    Result
        Equal to the bit for equal config, source and machine.

    Raises
    ------
    UserError
        If the source is too short for the study.
    FloatingPointError
        If the loss diverges.
    """
    data = config.study.dataset(source)
    started = time.perf_counter()
    with reproducible(config.seed):
        model = config.model.build(data.inputs)
        history = None
        if isinstance(model, Network):
            assert config.training is not None  # held by TrialConfig
            model.to(resolve_device(device))
            if config.curriculum is None:
                history = fit(model, data.train, data.val, config.training, config.seed, report)
            else:
                history = _teach(model, data, config, config.curriculum, config.training, report)
        elif isinstance(model, Ensemble):
            assert config.training is not None  # held by TrialConfig
            device_ = resolve_device(device)
            history = _teach_members(model, data, config, config.training, device_, report)
        elif isinstance(model, Estimator):
            model.fit(data.train, data.val)
        fitted = time.perf_counter()
        evaluation = config.study.evaluate(model, data)
    metrics = {
        **evaluation.metrics,
        "cost/fit_seconds": fitted - started,
        "cost/evaluate_seconds": time.perf_counter() - fitted,
    }
    if history is not None:
        metrics["cost/epochs"] = len(history.epochs)
        metrics["train/best_epoch"] = history.best_epoch
        metrics["val/best_loss"] = min(epoch.val_loss for epoch in history.epochs)
    defined = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    state = {f"model.{name}": value for name, value in model.state().items()}
    state |= {"inputs.mean": data.inputs.mean, "inputs.scale": data.inputs.scale}
    return Result(replace(evaluation, metrics=defined), history, state)
