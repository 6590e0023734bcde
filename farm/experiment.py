"""One trial from config to result; knows neither Ray nor MLflow."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator

import farm.baselines
import farm.evaluation
import farm.models
import farm.studies  # noqa: F401  (these four register their components)
from farm.base.config import Config, canonical_json, signature
from farm.base.errors import UserError, nearest
from farm.base.model import AnyModel, Estimator, Model, State
from farm.base.surfaces import SurfaceWindows
from farm.base.types import Dataset, Floats
from farm.evaluation.checklist import checklist_metrics
from farm.evaluation.metric import (
    MEASURES,
    METRICS,
    direction_of,
    metric_of,
    objectives,
    undefined_because,
)
from farm.evaluation.phases import phase_scores
from farm.evaluation.scores import Evaluation, Fitted, Scores, names_of, numbers, score, warnings_of
from farm.evaluation.stages import Taught
from farm.models.heads import Ensemble
from farm.models.network import Network
from farm.models.refitted import Refitted
from farm.models.surface_cvae import SurfaceCVAE
from farm.studies.study import AnyStudy, Source, StudyConfig
from farm.training.checkpoint import Checkpoint, Progress, capture_taught, restore_taught
from farm.training.curriculum import CurriculumConfig, Stage, teach
from farm.training.fit import LOSS, Epoch, History, Report, TrainingConfig, fit, reproducible


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
        if self.training is not None and (name := self.training.stopping_metric) != LOSS:
            if direction_of(name) is None:
                raise UserError(
                    f"training: unknown stopping metric {name!r}: {nearest(name, [LOSS, *objectives()])}"
                )
            if self.model.in_phases:
                raise UserError(
                    f"model {self.model.name}: got the stopping metric {name}, expected {LOSS}, on which each"
                    " phase stops: leave training.stopping_metric out"
                )
        return self

    def signature(self, source: Source) -> str:
        """Name the trial; see `farm.base.config.signature`."""
        return signature(self, self.study.data_digest(source))

    def stages(self, taught: Sequence[Taught] = ()) -> tuple[Stage, ...]:
        """Give the stages of the curriculum as they follow from those that are taught.

        Raises
        ------
        GateMissed
            If a gate was missed that the curriculum stops at.
        """
        assert self.curriculum is not None
        return self.curriculum.stages([stage.missed for stage in taught])

    def stage_signature(self, data_digest: str, stages: Sequence[Stage]) -> str:
        """Name what a network is after some stages, by all that decides its weights.

        These are the study and its data, the model, the training settings, the seed and the stages so
        far, each with the versions of its components. Neither the stages after them nor what a gate
        would have led to matter, so trials that begin alike share the beginning.
        """
        assert self.training is not None
        decides = {
            "version": self.VERSION,
            "study": self.study.versioned(),
            "data": data_digest,
            "model": self.model.versioned(),
            "training": self.training.versioned(),
            "seed": self.seed,
            "stages": [stage.described() for stage in stages],
        }
        return hashlib.sha256(canonical_json(decides).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """What a trial leaves behind.

    Parameters
    ----------
    evaluation
        Forecasts of its blocks.
    scores
        By metric; see `farm.evaluation.scores.score`.
    facts
        Numbers that no forecast has: costs, and those of the stages of a curriculum.
    notes
        What a reader should be warned of, by name, beside what `scores` find.
    history
        The learning curve; None for a model that fits itself.
    state
        What the model learnt and the scaler of its inputs, as arrays; of a walk-forward, those of each
        fit.
    stages
        Signatures of the stages that it was taught in, by their names; empty without a curriculum.
    """

    evaluation: Evaluation
    scores: Mapping[str, Scores]
    facts: Mapping[str, float]
    history: History | None
    state: State
    stages: dict[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Return all numbers by full name."""
        return metrics_of(self.facts, self.scores, self.stages)

    @property
    def tags(self) -> dict[str, str]:
        """Return what a reader should be warned of, by name."""
        return {**self.notes, **warnings_of(self.scores)}


def metrics_of(
    facts: Mapping[str, float], scores: Mapping[str, Scores], stages: Mapping[str, str]
) -> dict[str, float]:
    """Return all numbers of a trial by full name; of a curriculum also its counts of the checklist."""
    metrics = {**facts, **numbers(scores)}
    return metrics | checklist_metrics(metrics) if stages else metrics


def require_number(metrics: Mapping[str, float], undefined: Mapping[str, str], name: str) -> float:
    """Return a number of a trial that is searched for.

    Raises
    ------
    ValueError
        If the trial has none, or it is not finite; the message has the reason.
    """
    if name in metrics:
        return metrics[name]
    reason = undefined.get(name, "this model and study have no such number")
    raise ValueError(f"{name} is not a finite number: {reason}")


def resolve_device(device: str) -> torch.device:
    """Turn ``auto`` into a GPU where there is one, else the CPU."""
    return (
        torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device == "auto"
        else torch.device(device)
    )


def judge(config: TrialConfig, network: Network, data: Dataset) -> Callable[[], float] | None:
    """Return what scores a network on validation days, less is better; None where its loss does.

    Raises
    ------
    UserError
        If the model and study give no such number; when it is called.
    """
    assert config.training is not None
    name = config.training.stopping_metric
    if name == LOSS:
        return None

    def scored() -> float:
        network.eval()
        with torch.no_grad(), torch.random.fork_rng():
            value = validation_number(config.study, network, data, name)
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is not a finite number: {undefined_because(name)}")
        direction = direction_of(name)
        if direction != "none":
            return -value if direction == "max" else value
        metric = metric_of(name)
        assert metric is not None  # what has an optimum is a metric
        return abs(value - metric.optimum_at(config.model.quantile_levels))

    return scored


def validation_number(study: StudyConfig, model: Model, data: Dataset, name: str) -> float:
    """Compute one number of the validation block, by its full name.

    Raises
    ------
    UserError
        If the model and study do not give it.
    """
    last = name.removeprefix("val/")
    if (metric := metric_of(name)) is not None and "/" not in last:
        block = study.forecast(model, data.val)
        forecast = block.forecasts[""]
        if (metric.reads == "point" or forecast.quantiles is not None) and metric.kind(forecast) == last:
            return metric.function(forecast, block.actual)
    for entry in (MEASURES[known] for known in names_of(study.name) if known not in METRICS):
        if last in entry.directions and entry.reads == "block" and isinstance(model, entry.requires or Model):
            return float(entry.function(Fitted(study, model, data), data.val)[last])
    raise UserError(
        f"{type(model).__name__} in the study {study.name} gives no {name} after an epoch: set"
        " training.stopping_metric to loss, or to a metric that it gives"
    )


def _fit(
    config: TrialConfig,
    network: Network,
    data: Dataset,
    seed: int,
    report: Report,
    progress: Progress | None,
    number: int,
) -> History:
    """Teach a network: the fit of that number within its trial."""
    assert config.training is not None  # held by TrialConfig
    training, judged = config.training, judge(config, network, data)
    if progress is None:
        return fit(network, data.train, data.val, training, seed, report, judge=judged)
    return fit(
        network,
        data.train,
        data.val,
        training,
        seed,
        report,
        judge=judged,
        resume=progress.resume(number),
        keep=partial(progress.keep, number),
        keep_every=progress.every,
        since=progress.kept,
    )


def _teach_members(
    ensemble: Ensemble,
    data: Dataset,
    config: TrialConfig,
    device: torch.device,
    report: Report,
    progress: Progress | None,
    number: int,
) -> History:
    """Teach each member by itself; give one learning curve after the other, their epochs counted on.

    The best epoch is that of the last member.
    """
    epochs: list[Epoch] = []
    for member, seed in zip(ensemble.members, ensemble.seeds(config.seed), strict=True):
        before = len(epochs)

        def on_epoch(epoch: Epoch, before: int = before) -> None:
            report(replace(epoch, epoch=before + epoch.epoch))

        history = _fit(config, member.to(device), data, seed, on_epoch, progress, number)
        epochs += [replace(epoch, epoch=before + epoch.epoch) for epoch in history.epochs]
        number += 1
    return History(tuple(epochs), before + history.best_epoch)


def _taught(
    config: TrialConfig,
    data: Dataset,
    device: str,
    report: Report,
    progress: Progress | None,
    number: int = 0,
) -> tuple[Model, History | None, int]:
    """Build a model and teach it on one training block; give the number of the next fit with it."""
    model, history = config.model.build(data.inputs), None
    if isinstance(model, Network):
        model.to(resolve_device(device))
        history = _fit(config, model, data, config.seed, report, progress, number)
        number += 1
    elif isinstance(model, Ensemble):
        where = resolve_device(device)
        history = _teach_members(model, data, config, where, report, progress, number)
        number += len(model.members)
    elif isinstance(model, Estimator):
        model.fit(data.train, data.val)
    return model, history, number


def _refitted(
    config: TrialConfig, data: Dataset, device: str, report: Report, progress: Progress | None
) -> tuple[Model, History | None]:
    """Teach a model on each window of a walk-forward, from the same seed and nothing of the one before.

    The learning curves follow each other, their epochs counted on; the best epoch is that of the last.
    """
    fits: list[Model] = []
    epochs: list[Epoch] = []
    best = number = 0

    for window, refit in enumerate(data.refits, start=1):
        past, phase = len(epochs), f"window {window}"

        def absolute(epoch: Epoch, past: int = past, phase: str = phase) -> Epoch:
            return replace(epoch, epoch=past + epoch.epoch, phase=phase)

        def on_epoch(epoch: Epoch, absolute: Callable[[Epoch], Epoch] = absolute) -> None:
            report(absolute(epoch))

        with reproducible(config.seed):
            model, history, number = _taught(config, refit, device, on_epoch, progress, number)
        fits.append(model)
        if history is not None:
            epochs += map(absolute, history.epochs)
            best = past + history.best_epoch
    return Refitted(fits), History(tuple(epochs), best) if epochs else None


def run(
    config: TrialConfig,
    source: Source,
    *,
    device: str = "auto",
    report: Report = lambda epoch: None,
    progress: Progress | None = None,
) -> Result:
    """Run one trial: data, fit, forecast of the test block, scores.

    A trial with a curriculum is the chain of its stages, each by `advance`, and `conclude`.

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
    progress
        Where its fits keep checkpoints, and go on from; None to keep none. The stages of a curriculum
        have `advance` for that.

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
    GateMissed
        If the curriculum stops at a gate.
    """
    if config.curriculum is not None:
        after = None
        while len(Taught.of(after)) < len(config.stages(Taught.of(after))):
            after = advance(config, source, after, device=device, report=report)
        assert after is not None  # no curriculum is empty
        return conclude(config, source, after, device=device)
    data = config.study.dataset(source)
    started = time.perf_counter()
    with reproducible(config.seed):
        if data.refits:
            model, history = _refitted(config, data, device, report, progress)
        else:
            model, history, _ = _taught(config, data, device, report, progress)
        seconds = time.perf_counter() - started + (progress.seconds if progress is not None else 0.0)
        return _scored(config, data, model, history, seconds)


def advance(
    config: TrialConfig,
    source: Source,
    before: Checkpoint | None = None,
    *,
    device: str = "auto",
    report: Report = lambda epoch: None,
    resume: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
    keep_every: float = 0.0,
) -> Checkpoint:
    """Train the next stage of a trial's curriculum.

    Parameters
    ----------
    config, source, device
        See `run`.
    before
        What this function gave for the stage before, of this trial or of one that begins alike; None
        for the first stage.
    report
        Called after each epoch, which is counted from the beginning of the curriculum.
    resume
        What `keep` was given last by an interrupted call with the same arguments.
    keep, keep_every
        See `fit`.

    Returns
    -------
    Checkpoint
        The best weights, the random states and, in its record, what `Taught.of` reads.

    Raises
    ------
    UserError, FloatingPointError, GateMissed
        See `run`.
    """
    assert config.training is not None
    taught = Taught.of(before)
    stage = config.stages(taught)[len(taught)]
    past = sum(len(earlier.history.epochs) for earlier in taught)
    data = config.study.dataset(source)
    started = time.perf_counter()

    def absolute(epoch: Epoch) -> Epoch:
        return replace(epoch, epoch=past + epoch.epoch, phase=stage.name)

    with reproducible(config.seed):
        network, train, val = _student(config, data, device)
        if before is not None:
            restore_taught(before, network)
        history = teach(
            network,
            train,
            val,
            stage,
            config.training,
            config.seed,
            lambda epoch: report(absolute(epoch)),
            resume=resume,
            keep=keep,
            keep_every=keep_every,
        )
        tensors, record = capture_taught(network)
        best = history.epochs[history.best_epoch - 1]
        scores = phase_scores(network, f"phase {stage.number}", stage.phase, train, val, history)
        scores[f"phase{stage.number}/val/loss"] = best.val_loss
    curve = History(tuple(map(absolute, history.epochs)), past + history.best_epoch)
    seconds = time.perf_counter() - started
    if resume is not None:
        seconds += sum(epoch["seconds"] for epoch in resume.record["epochs"])
    now = Taught(stage.number, stage.name, curve, scores, seconds)
    return Checkpoint(tensors, record | {"stages": [asdict(each) for each in (*taught, now)]})


def conclude(config: TrialConfig, source: Source, after: Checkpoint, *, device: str = "auto") -> Result:
    """Evaluate a trial whose curriculum is trained to its end.

    Parameters
    ----------
    config, source, device
        See `run`.
    after
        What `advance` gave for the last stage.

    Returns
    -------
    Result
        Its cost is that of all stages, whoever trained them.
    """
    taught, digest = Taught.of(after), config.study.data_digest(source)
    stages = config.stages(taught)
    data = config.study.dataset(source)
    with reproducible(config.seed):
        network, _, _ = _student(config, data, device)
        # The weights alone: evaluation does not go on from where training left the generators.
        network.load_state_dict(after.under("weights/"))
        network.eval()
        epochs = tuple(epoch for stage in taught for epoch in stage.history.epochs)
        history = History(epochs, taught[-1].history.best_epoch)
        result = _scored(config, data, network, history, sum(stage.seconds for stage in taught))
    facts, notes = dict(result.facts), dict(result.notes)
    for stage in taught:
        facts |= {name: value for name, value in stage.scores.items() if math.isfinite(value)}
        if stage.missed:
            notes[f"gate after {stage.name} missed"] = stage.missed
    return replace(
        result,
        facts=facts,
        notes=notes,
        stages={
            stage.name: config.stage_signature(digest, stages[: number + 1])
            for number, stage in enumerate(stages)
        },
    )


def _student(config: TrialConfig, data: Dataset, device: str) -> tuple[SurfaceCVAE, Floats, Floats]:
    """Build the network that a curriculum teaches, with the days that it learns from and stops on."""
    assert config.curriculum is not None
    network = config.model.build(data.inputs)
    assert isinstance(network, SurfaceCVAE)
    assert isinstance(data.train, SurfaceWindows)
    assert isinstance(data.val, SurfaceWindows)
    blocks = {"training": data.train.block, "validation": data.val.with_context}
    config.curriculum.require_days(network.context_days, {name: len(days) for name, days in blocks.items()})
    return network.to(resolve_device(device)), blocks["training"], blocks["validation"]


def _scored(
    config: TrialConfig, data: Dataset, model: Model, history: History | None, seconds: float
) -> Result:
    """Evaluate a fitted model and gather what its trial leaves behind."""
    started = time.perf_counter()
    fitted = Fitted(config.study, model, data)
    evaluation = config.study.evaluate(fitted)
    scores = score(evaluation, lambda: fitted, config.study.name)
    facts = {"cost/fit_seconds": seconds, "cost/evaluate_seconds": time.perf_counter() - started}
    notes = dict(evaluation.notes)
    if history is not None:
        facts["cost/epochs"] = float(len(history.epochs))
        facts["train/best_epoch"] = float(history.best_epoch)
        if (parts := max(e.parts for e in history.epochs)) > 1:
            facts["cost/batch_parts"] = float(parts)
            notes["out of memory"] = f"batches taken in {parts} parts"
        last = history.epochs[-1].phase  # losses of different phases do not compare
        facts["val/best_loss"] = min(e.val_loss for e in history.epochs if e.phase == last)
    state = {f"model.{name}": value for name, value in model.state().items()}
    scalers = {"inputs": data.inputs} | {f"inputs.{k}": refit.inputs for k, refit in enumerate(data.refits)}
    for name, inputs in scalers.items():
        state |= {f"{name}.mean": inputs.mean, f"{name}.scale": inputs.scale}
    return Result(evaluation, scores, facts, history, state, notes=notes)


def rescore(
    config: TrialConfig,
    source: Source,
    evaluation: Evaluation,
    state: Callable[[], State],
    names: Sequence[str],
    *,
    device: str = "auto",
) -> dict[str, Scores]:
    """Compute metrics of a finished trial from what it stored; a fit is never needed.

    Parameters
    ----------
    config, source, device
        See `run`.
    evaluation
        What it forecast.
    state
        Reads what its model learnt; called where a metric needs the model.
    names
        Of the metrics; see `farm.evaluation.scores.score`.
    """

    def fitted() -> Fitted:
        if not loaded:
            data = config.study.dataset(source)
            builds = [config.model.build(refit.inputs) for refit in data.refits]
            model: Model = Refitted(builds) if builds else config.model.build(data.inputs)
            model.load_state({n[6:]: value for n, value in state().items() if n.startswith("model.")})
            for network in (model, *getattr(model, "fits", ()), *getattr(model, "members", ())):
                if isinstance(network, Network):
                    network.to(resolve_device(device)).eval()
            loaded.append(Fitted(config.study, model, data))
        return loaded[0]

    loaded: list[Fitted] = []
    with reproducible(config.seed):
        return score(evaluation, fitted, config.study.name, names)
