"""Where training stands, so that it can go on elsewhere to the bit."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from farm.base.config import canonical_json
from farm.base.files import write_atomically


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
        metadata = {"record": text, "sha256": _digest(self.tensors, text)}
        content: bytes = safetensors.torch.save(self.tensors, metadata)
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Read it back.

        Raises
        ------
        ValueError
            If the content is cut short or changed.
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
        return cls(tensors, json.loads(text))

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""
        write_atomically(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """Read it from a file; None if there is none or it is damaged, and training starts anew."""
        try:
            return cls.from_bytes(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def capture(
    network: nn.Module, best: dict[str, Tensor], optimizer: torch.optim.Optimizer, order: torch.Generator
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
    tensors = {f"weights/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items()}
    tensors |= {"order": order.get_state(), "random/torch": torch.get_rng_state()}
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
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}, {"random": record}


def restore(
    checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer, order: torch.Generator
) -> dict[str, Tensor]:
    """Put a training loop back to where `capture` found it; give the best weights so far."""
    tensors, device = checkpoint.tensors, next(network.parameters()).device
    network.load_state_dict(_under(tensors, "weights/"))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, "optimizer/").items():
        index, moment = name.split("/")
        state.setdefault(int(index), {})[moment] = value
    settings = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": settings})
    order.set_state(tensors["order"])
    torch.set_rng_state(tensors["random/torch"])
    cuda = _under(tensors, "random/cuda/")
    if device.type == "cuda" and cuda:
        torch.cuda.set_rng_state_all([cuda[str(i)] for i in range(len(cuda))])
    position, has_gauss, gauss = checkpoint.record["random"]["numpy"]
    key = tensors["random/numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, gauss))  # noqa: NPY002
    version, words, gauss = checkpoint.record["random"]["python"]
    random.setstate((version, tuple(words), gauss))
    return {name: value.to(device) for name, value in _under(tensors, "best/").items()}


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
