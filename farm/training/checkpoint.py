"""Where training stands, so that it can go on elsewhere to the bit."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from farm.base.config import canonical_json
from farm.base.errors import StaleError
from farm.base.origin import FORMAT
from farm.training.adam import Adam


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and plain facts; nothing in it is code, so nothing is unpickled.

    Parameters
    ----------
    tensors
        Weights, best weights, moments of the optimizer, states of the generators; on the CPU.
    record
        What JSON can hold: epochs so far, the best one, and what the caller adds.
    """

    tensors: dict[str, Tensor]
    record: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Write it as one safetensors file, whose header holds the record and a checksum."""
        text = canonical_json(self.record)
        metadata = {"record": text, "sha256": _digest(self.tensors, text), "format": FORMAT}
        content: bytes = safetensors.torch.save(self.tensors, metadata)
        return content

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "a checkpoint") -> Checkpoint:
        """Read it back.

        Parameters
        ----------
        content
            What `to_bytes` wrote.
        name
            Of its file, for messages.

        Raises
        ------
        ValueError
            If the content is cut short or changed.
        StaleError
            If another version of Farm wrote it.
        """
        try:
            tensors = safetensors.torch.load(content)
            length = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + length])["__metadata__"]
            text, digest = metadata["record"], metadata["sha256"]
        except (safetensors.SafetensorError, KeyError) as error:
            raise ValueError(f"not a whole checkpoint: {error}") from error
        if _digest(tensors, text) != digest:
            raise ValueError("the checkpoint does not match its checksum")
        if metadata.get("format") != FORMAT:
            raise StaleError(name, "delete it to train from the beginning")
        return cls(tensors, json.loads(text))

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Give the tensors whose names begin with a prefix, without it."""
        return {
            name.removeprefix(prefix): value
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }


@dataclass
class Progress:
    """Where the fits of one trial keep their checkpoints, so that a trial that was killed goes on.

    Parameters
    ----------
    load
        Given the number of a fit, counted from 0, gives its last checkpoint; None if it has none.
    save
        Keeps the checkpoint of a fit.
    every
        Seconds that pass at least between two of them, over all fits.
    kept
        When one was kept last, seconds of the monotonic clock.
    seconds
        That earlier runs have spent on the epochs gone on from.
    """

    load: Callable[[int], Checkpoint | None]
    save: Callable[[int, Checkpoint], None]
    every: float
    kept: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def resume(self, number: int) -> Checkpoint | None:
        """Give what a fit goes on from, and count what it has cost."""
        checkpoint = self.load(number)
        if checkpoint is not None:
            self.seconds += sum(epoch["seconds"] for epoch in checkpoint.record["epochs"])
        return checkpoint

    def keep(self, number: int, checkpoint: Checkpoint) -> None:
        """Keep where a fit stands."""
        self.save(number, checkpoint)
        self.kept = time.monotonic()


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        if value.numel():  # a grid in delta has no moneyness; torch views no empty tensor as bytes
            sha.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def capture(
    network: nn.Module, best: dict[str, Tensor], optimizer: Adam, order: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Copy the state of a training loop.

    Parameters
    ----------
    network, best
        The live network, and the weights that were best so far.
    optimizer
        Its settings are in the trial's config, so only its moments are kept.
    order
        The generator of the order of the data.

    Returns
    -------
    tuple
        Tensors and record of a `Checkpoint`; the states of the generators of torch, numpy and
        python are in them.
    """
    tensors, record = capture_taught(network)
    tensors |= {f"best/{name}": _copied(value) for name, value in best.items()}
    for index, moments in optimizer.moments.items():
        tensors |= {f"optimizer/{index}/{name}": _copied(value) for name, value in moments.items()}
    return tensors | {"order": order.get_state()}, record


def capture_taught(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Copy what the next training loop goes on from: weights and random states, as `capture` does."""
    tensors = {f"weights/{name}": _copied(value) for name, value in network.state_dict().items()}
    tensors["random/torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors |= {f"random/cuda/{i}": value for i, value in enumerate(torch.cuda.get_rng_state_all())}
    legacy: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    # What third parties draw from the global generators must go on as well.
    tensors["random/numpy"] = torch.from_numpy(legacy["state"]["key"].astype(np.int64))
    version, words, gauss = random.getstate()
    record = {
        "numpy": [legacy["state"]["pos"], legacy["has_gauss"], legacy["gauss"]],
        "python": [version, list(words), gauss],
    }
    return tensors, {"random": record}


def restore(
    checkpoint: Checkpoint, network: nn.Module, optimizer: Adam, order: torch.Generator
) -> dict[str, Tensor]:
    """Put a training loop back to where `capture` found it; give the best weights so far."""
    tensors, device = checkpoint.tensors, next(network.parameters()).device
    optimizer.moments = {}
    for name, value in checkpoint.under("optimizer/").items():
        index, moment = name.split("/")
        optimizer.moments.setdefault(int(index), {})[moment] = value.to(device, copy=True)
    order.set_state(tensors["order"])
    restore_taught(checkpoint, network)
    return {name: value.to(device) for name, value in checkpoint.under("best/").items()}


def restore_taught(checkpoint: Checkpoint, network: nn.Module) -> None:
    """Put weights and random states back to where `capture_taught` found them."""
    tensors, device = checkpoint.tensors, next(network.parameters()).device
    network.load_state_dict(checkpoint.under("weights/"))
    torch.set_rng_state(tensors["random/torch"])
    cuda = checkpoint.under("random/cuda/")
    if device.type == "cuda" and cuda:
        torch.cuda.set_rng_state_all([cuda[str(i)] for i in range(len(cuda))])
    position, has_gauss, gauss = checkpoint.record["random"]["numpy"]
    key = tensors["random/numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, gauss))  # noqa: NPY002
    version, words, gauss = checkpoint.record["random"]["python"]
    random.setstate((version, tuple(words), gauss))


def _copied(value: Tensor) -> Tensor:
    return value.detach().cpu().clone()
