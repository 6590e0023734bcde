"""The training loop, the only one."""

from __future__ import annotations

import copy
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from pydantic import AfterValidator
from threadpoolctl import ThreadpoolController
from torch import Tensor

from farm.base.config import Config
from farm.base.errors import UserError, shown
from farm.base.search_space import Choice, Float, Int
from farm.base.types import Windows
from farm.models.network import Batch, Network
from farm.training.adam import Adam
from farm.training.checkpoint import Checkpoint, capture, restore

MOST_PARTS = 64  # that a batch is taken in before a GPU without room for it fails the trial
EVALUATION_BATCH = 1024  # samples of the validation block that are scored together


LOSS = "loss"


def _check_stopping_metric(name: str) -> str:
    """Refuse a number that is not of the validation block."""
    if name != LOSS and not name.startswith("val/"):
        raise UserError(
            f"training: got the stopping metric {shown(name)}, expected {LOSS} or a metric of the validation"
            " block: set training.stopping_metric to one such as val/rmse"
        )
    return name


class TrainingConfig(Config):
    """How a network is taught: Adam on shuffled batches, stopped early on the validation block.

    Parameters
    ----------
    epochs
        Most passes over the training block.
    patience
        Epochs without a better validation loss after which training stops.
    learning_rate
        Of Adam.
    batch_size
        Samples a step.
    gradient_clip
        Largest norm of the gradient; a longer one is scaled down to it.
    mixed_precision
        Whether a GPU computes in bfloat16 where that is safe. A CPU never does.
    stopping_metric
        What decides which epoch is best: ``loss``, the validation loss, or any metric of the validation
        block that the model gives, such as ``val/crps``.
    """

    epochs: Annotated[int, Int(1, 100_000)] = 100
    patience: Annotated[int, Int(1, 100_000)] = 10
    learning_rate: Annotated[float, Float(1e-7, 1.0, log=True)] = 1e-3
    batch_size: Annotated[int, Int(1, 65_536, log=True)] = 64
    gradient_clip: Annotated[float, Float(1e-6, 1e6, log=True)] = 1.0
    mixed_precision: Annotated[bool, Choice((False, True))] = False
    stopping_metric: Annotated[str, AfterValidator(_check_stopping_metric)] = LOSS


@dataclass(frozen=True)
class Epoch:
    """One row of a learning curve; losses are means over samples.

    `parts` is in how many parts its batches were taken at last: more than one where a GPU had no room.
    """

    epoch: int  # counted from 1
    train_loss: float
    val_loss: float
    seconds: float
    phase: str = ""  # of a curriculum; losses of different phases do not compare
    parts: int = 1


Report = Callable[[Epoch], None]


class Samples(Protocol):
    """A block on a device, whose samples are taken by number."""

    @property
    def size(self) -> int:
        """Count the samples."""

    def take(self, rows: Tensor) -> Any:
        """Select samples; what comes is what the objective reads."""


Objective = Callable[[Any], Tensor]


@dataclass(frozen=True)
class History:
    """A learning curve and the epoch whose weights were kept."""

    epochs: tuple[Epoch, ...]
    best_epoch: int


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed torch, numpy and python, compute on one thread, and put all back afterwards.

    One thread is faster when trials run side by side, and the bits of a sum do not depend on how
    many cores the machine has.
    """
    threads = torch.get_num_threads()
    before = np.random.get_state(), random.getstate()  # noqa: NPY002  (third parties draw from it)
    torch.set_num_threads(1)
    try:
        with _pools(len(sys.modules)).limit(limits=1), torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])


@lru_cache(maxsize=1)
def _pools(modules: int) -> ThreadpoolController:
    """Find the libraries that have threads of their own, anew when a module has been imported since."""
    import_module("sklearn")  # models import it as they are fitted, and its threads must be found here
    return ThreadpoolController()


def fit(
    network: Network,
    train: Windows | Samples,
    val: Windows | Samples,
    config: TrainingConfig,
    seed: int,
    report: Report = lambda epoch: None,
    *,
    objective: Objective | None = None,
    resume: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] | None = None,
    keep_every: float = 0.0,
    since: float | None = None,
    judge: Callable[[], float] | None = None,
) -> History:
    """Teach a network and leave in it the weights of its best epoch.

    Parameters
    ----------
    network
        On the device where it is to be taught; changed in place.
    train, val
        Blocks to learn from and to stop on; windows are put on the network's device.
    config
        How.
    seed
        Decides the order of the batches. Dropout draws from torch's own generator; see
        `reproducible`.
    report
        Called after each epoch.
    objective
        Gives the mean loss of what the blocks give; by default the network's own loss. In evaluation
        mode it must draw nothing.
    resume
        Where an earlier call with the same arguments stood; this one goes on from there, to the bit.
    keep
        Called after an epoch with where training stands.
    keep_every
        Seconds that pass at least between two such calls.
    since
        When the last one was, on the monotonic clock; None for now.
    judge
        Scores the network as it stands, less is better, where another number than the validation loss
        decides which epoch is best.

    Returns
    -------
    History
        The learning curve, with the epochs before `resume`.

    Raises
    ------
    FloatingPointError
        If a loss is NaN or infinite; the message has the epoch and the learning rate.
    OutOfMemoryError
        Of torch, if a GPU has no room for one of `MOST_PARTS` parts of a batch.
    """
    device = next(network.parameters()).device
    samples, held_out = _on(train, device), _on(val, device)
    objective = network.loss if objective is None else objective
    optimizer = Adam(network.parameters(), config.learning_rate)
    order = torch.Generator().manual_seed(seed)
    epochs: list[Epoch] = []
    best_loss, best_epoch, best_state = math.inf, 0, network.state_dict()
    if resume is not None:
        best_state = restore(resume, network, optimizer, order)
        epochs = [Epoch(**epoch) for epoch in resume.record["epochs"]]
        best_loss, best_epoch = resume.record["best_loss"], resume.record["best_epoch"]
    kept = time.monotonic() if since is None else since
    while len(epochs) < config.epochs and len(epochs) - best_epoch < config.patience:
        number, started = len(epochs) + 1, time.perf_counter()
        network.begin_epoch(number)
        parts = epochs[-1].parts if epochs else 1
        train_loss, parts = _one_pass(network, objective, optimizer, samples, config, order, parts)
        val_loss = _evaluate(network, objective, held_out, config)
        if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
            raise FloatingPointError(
                f"the loss is not finite (train {train_loss}, validation {val_loss}) at epoch {number},"
                f" learning rate {config.learning_rate}"
            )
        epochs.append(Epoch(number, train_loss, val_loss, time.perf_counter() - started, parts=parts))
        report(epochs[-1])
        judged = val_loss if judge is None else judge()
        if judged < best_loss:
            # state_dict() aliases the live weights, so it must be copied.
            best_loss, best_epoch, best_state = judged, number, copy.deepcopy(network.state_dict())
        if keep is not None and time.monotonic() - kept >= keep_every:
            kept = time.monotonic()
            tensors, record = capture(network, best_state, optimizer, order)
            record |= {"epochs": [asdict(epoch) for epoch in epochs]}
            keep(Checkpoint(tensors, record | {"best_loss": best_loss, "best_epoch": best_epoch}))
    network.load_state_dict(best_state)
    network.eval()
    return History(tuple(epochs), best_epoch)


def _on(block: Windows | Samples, device: torch.device) -> Samples:
    return Batch.of(block, device) if isinstance(block, Windows) else block


def _precision(config: TrainingConfig, device: torch.device) -> torch.autocast:
    enabled = config.mixed_precision and device.type == "cuda"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _evaluate(network: Network, objective: Objective, samples: Samples, config: TrainingConfig) -> float:
    """Give the mean loss over samples in evaluation mode."""
    network.eval()
    device, total = next(network.parameters()).device, 0.0
    with torch.no_grad(), _precision(config, device):
        for rows in torch.split(torch.arange(samples.size, device=device), EVALUATION_BATCH):
            total += float(objective(samples.take(rows))) * (len(rows) / samples.size)
    return total


def _one_pass(
    network: Network,
    objective: Objective,
    optimizer: Adam,
    samples: Samples,
    config: TrainingConfig,
    order: torch.Generator,
    parts: int,
) -> tuple[float, int]:
    """Take one step for each batch; give the mean loss over samples, and the parts of the last batch.

    A batch that a GPU has no room for is taken in two parts, or four and so on, whose gradients are
    added up, and so are the batches after it.
    """
    network.train()
    device = next(network.parameters()).device
    total = torch.zeros((), device=device)
    for rows in torch.split(torch.randperm(samples.size, generator=order).to(device), config.batch_size):
        while True:
            network.zero_grad()
            try:
                loss = _gradient(objective, samples, rows, parts, _precision(config, device))
                break
            except torch.cuda.OutOfMemoryError:
                if parts >= min(MOST_PARTS, len(rows)):
                    raise
                parts *= 2
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()
        total += loss * len(rows)
    return float(total) / samples.size, parts


def _gradient(
    objective: Objective, samples: Samples, rows: Tensor, parts: int, precision: torch.autocast
) -> Tensor:
    """Leave the gradient of a batch's mean loss in the parameters, and give that loss."""
    total = torch.zeros((), device=rows.device)
    for part in rows.chunk(parts):
        with precision:
            loss = objective(samples.take(part)) * (len(part) / len(rows))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total
