"""What a stage of a curriculum left behind, and whether it passed the plan's gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farm.evaluation.checklist import gates, hold
from farm.training.checkpoint import Checkpoint
from farm.training.fit import Epoch, History


@dataclass(frozen=True)
class Taught:
    """A stage of a curriculum that was trained.

    Parameters
    ----------
    number, name
        Of the stage; see `Stage`.
    history
        Its learning curve; epochs are counted from the beginning of the curriculum.
    scores
        Of the network after it, by full name, such as ``phase2/val/rmse_h90``.
    seconds
        What it took; of an interrupted attempt, the epochs that were kept.
    """

    number: int
    name: str
    history: History
    scores: dict[str, float]
    seconds: float

    @property
    def missed(self) -> str:
        """Say which gates of the plan it missed and by what numbers; ``""`` if none."""
        held = hold(self.scores, gates(f"phase {self.number}"))
        return "; ".join(
            f"{one.criterion.name} is {one.value:.4g}, limit {one.criterion.limit:g}"
            for one in held
            if one.verdict in ("refine", "fall back")
        )

    @classmethod
    def of(cls, checkpoint: Checkpoint | None) -> tuple[Taught, ...]:
        """Read the stages that led to a checkpoint, in order; none before the first."""
        return tuple(map(cls._read, checkpoint.record["stages"])) if checkpoint is not None else ()

    @classmethod
    def _read(cls, value: dict[str, Any]) -> Taught:
        epochs = tuple(Epoch(**epoch) for epoch in value["history"]["epochs"])
        return cls(**{**value, "history": History(epochs, value["history"]["best_epoch"])})
