"""Adam by torch's own kernel, without `torch.optim.Adam`, which imports torch's compiler in every worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Adam:
    """The steps of ``torch.optim.Adam(parameters, lr=learning_rate, fused=True)``, to the bit.

    Parameters
    ----------
    parameters
        Changed in place by each step; one without a gradient is left as it is.
    learning_rate
        Length of a step; the other settings are torch's defaults.

    Attributes
    ----------
    moments
        State of each parameter that has been changed, by its position: ``step``, ``exp_avg``, ``exp_avg_sq``.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        self._parameters = list(parameters)
        self._learning_rate = learning_rate
        self.moments: dict[int, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        # The kernel takes tensors of one device and type.
        alike: dict[Any, list[tuple[Tensor, Tensor, dict[str, Tensor]]]] = defaultdict(list)
        for index, parameter in enumerate(self._parameters):
            if parameter.grad is None:
                continue
            if index not in self.moments:
                self.moments[index] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
            alike[parameter.device, parameter.dtype].append((parameter, parameter.grad, self.moments[index]))
        for each in alike.values():
            parameters, gradients, moments = zip(*each, strict=True)
            steps = [kept["step"] for kept in moments]
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                parameters,
                gradients,
                [kept["exp_avg"] for kept in moments],
                [kept["exp_avg_sq"] for kept in moments],
                [],
                steps,
                lr=self._learning_rate,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )
