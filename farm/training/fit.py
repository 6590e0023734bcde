"""The training loop, the only one."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from threadpoolctl import threadpool_limits

from farm.base.config import Config
from farm.base.search_space import Float, Int
from farm.base.types import Windows
from farm.models.network import Batch, Network


class TrainingConfig(Config):
    """How a network is taught: Adam on shuffled batches, stopped early on the validation loss.

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
    """

    epochs: Annotated[int, Int(1, 100_000)] = 100
    patience: Annotated[int, Int(1, 100_000)] = 10
    learning_rate: Annotated[float, Float(1e-7, 1.0, log=True)] = 1e-3
    batch_size: Annotated[int, Int(1, 65_536, log=True)] = 64
    gradient_clip: Annotated[float, Float(1e-6, 1e6, log=True)] = 1.0


@dataclass(frozen=True)
class Epoch:
    """One row of a learning curve; losses are means over samples."""

    epoch: int  # counted from 1
    train_loss: float
    val_loss: float
    seconds: float


Report = Callable[[Epoch], None]


@dataclass(frozen=True)
class History:
    """A learning curve and the epoch whose weights were kept."""

    epochs: tuple[Epoch, ...]
    best_epoch: int


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed torch, compute on one thread, and put both back afterwards.

    One thread is faster when trials run side by side, and the bits of a sum do not depend on how
    many cores the machine has.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def fit(
    network: Network,
    train: Windows,
    val: Windows,
    config: TrainingConfig,
    seed: int,
    report: Report = lambda epoch: None,
) -> History:
    """Teach a network and leave in it the weights of its best epoch.

    Parameters
    ----------
    network
        Untrained, on the device where it is to be taught; changed in place.
    train, val
        Blocks to learn from and to stop on.
    config
        How.
    seed
        Decides the order of the batches. Dropout draws from torch's own generator; see
        `reproducible`.
    report
        Called after each epoch.

    Returns
    -------
    History
        The learning curve.

    Raises
    ------
    FloatingPointError
        If a loss is NaN or infinite; the message has the epoch and the learning rate.
    """
    device = next(network.parameters()).device
    samples, held_out = Batch.of(train, device), Batch.of(val, device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    order = torch.Generator().manual_seed(seed)
    epochs: list[Epoch] = []
    best_loss, best_epoch, best_state = math.inf, 0, network.state_dict()
    for number in range(1, config.epochs + 1):
        started = time.perf_counter()
        network.begin_epoch(number)
        train_loss = _one_pass(network, optimizer, samples, config, order)
        network.eval()
        with torch.no_grad():
            val_loss = float(network.loss(held_out))
        if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
            raise FloatingPointError(
                f"the loss is not finite (train {train_loss}, validation {val_loss}) at epoch {number},"
                f" learning rate {config.learning_rate}"
            )
        epochs.append(Epoch(number, train_loss, val_loss, time.perf_counter() - started))
        report(epochs[-1])
        if val_loss < best_loss:
            # state_dict() aliases the live weights, so it must be copied.
            best_loss, best_epoch, best_state = val_loss, number, copy.deepcopy(network.state_dict())
        elif number - best_epoch >= config.patience:
            break
    network.load_state_dict(best_state)
    network.eval()
    return History(tuple(epochs), best_epoch)


def _one_pass(
    network: Network,
    optimizer: torch.optim.Optimizer,
    samples: Batch,
    config: TrainingConfig,
    order: torch.Generator,
) -> float:
    """Take one step for each batch; give the mean loss over samples."""
    network.train()
    count, device = len(samples.x), samples.x.device
    total = torch.zeros((), device=device)
    for rows in torch.split(torch.randperm(count, generator=order).to(device), config.batch_size):
        optimizer.zero_grad(set_to_none=True)
        loss = network.loss(samples.take(rows))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()
        total += loss.detach() * len(rows)
    return float(total) / count
