"""The plan's gates between the phases of a surface curriculum (section 7.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """A limit that a network is held to after a phase.

    Parameters
    ----------
    name
        As in the plan.
    after
        Number of the phase.
    metric
        The score of that phase that is held to it; less is better.
    limit
        What the score must stay below.
    """

    name: str
    after: int
    metric: str
    limit: float


GATES = (
    Gate("gate 1", after=2, metric="phase2/train/rmse_h90", limit=0.07),
    Gate("gate 2", after=3, metric="phase3/val/degradation", limit=1.5),
)


def missed(phase: int, scores: Mapping[str, float]) -> str:
    """Say which gate after a phase is missed and by what number; ``""`` if none is.

    A gate whose score was not measured, as with other horizons than the plan's, is not missed.

    Parameters
    ----------
    phase
        Its number.
    scores
        Of the network after the phase, by name.
    """
    for gate in GATES:
        score = scores.get(gate.metric)
        if gate.after == phase and score is not None and not score < gate.limit:
            return f"{gate.name} missed: {gate.metric} is {score:.4g}, limit {gate.limit:g}"
    return ""
