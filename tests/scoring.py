"""Forecasts and scores of a fitted model in one place, for tests."""

from dataclasses import dataclass, field
from typing import Any

from farm.base.model import Model
from farm.base.types import Dataset
from farm.evaluation.scores import Evaluation, Fitted, Scores, numbers, score, warnings_of
from farm.experiment import Result
from farm.studies.study import StudyConfig


@dataclass
class Scored:
    """An evaluation with its scores; what the test block has can be asked of it."""

    evaluation: Evaluation
    scores: dict[str, Scores]
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        return {**self.facts, **numbers(self.scores)}

    @property
    def tags(self) -> dict[str, str]:
        return {**self.evaluation.notes, **warnings_of(self.scores)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.evaluation if hasattr(self.evaluation, name) else self.evaluation.test, name)


def of(result: Result) -> Scored:
    return Scored(result.evaluation, dict(result.scores), dict(result.facts))


def evaluate(study: StudyConfig, model: Model, data: Dataset) -> Scored:
    fitted = Fitted(study, model, data)
    evaluation = study.evaluate(fitted)
    return Scored(evaluation, score(evaluation, lambda: fitted, study.name))
