"""What every study is: a question with its data, its blocks and the name of one replicate."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from farm.base.config import Config
from farm.base.model import Model
from farm.base.registry import Registry, resolve
from farm.base.types import Dataset, Dates, Floats, Forecast
from farm.data.panel import Panel
from farm.evaluation.metric import evaluate


@dataclass(frozen=True)
class Evaluation:
    """How a taught model did on the test block.

    Parameters
    ----------
    metrics
        Scores by their full names; one that the truths leave undefined is NaN.
    times, actual
        Dates and truths of the test block, (B,).
    forecasts
        Forecasts by the name of the evaluation; the one that is ranked is named ``""``.
    tags
        What a reader should be warned of, by name.
    oracles
        Evaluations, among `forecasts`, that have seen the truth; they are shown, never ranked.
    arrays
        What pictures need beside the forecasts, by name, such as latents.
    items
        What each truth is of, (B,), where one day has several, such as the asset; empty otherwise.

    Raises
    ------
    ValueError
        If there is no forecast to rank, or it is that of an oracle.
    """

    metrics: dict[str, float]
    times: Dates
    actual: Floats
    forecasts: dict[str, Forecast]
    tags: dict[str, str] = field(default_factory=dict)
    oracles: tuple[str, ...] = ()
    arrays: dict[str, Floats] = field(default_factory=dict)
    items: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Hold the ranked forecast to honesty."""
        if "" not in self.forecasts or "" in self.oracles or not set(self.oracles) <= set(self.forecasts):
            raise ValueError(
                f"forecasts {sorted(self.forecasts)} with oracles {self.oracles}: expected one named '',"
                " which is no oracle"
            )


class StudyConfig(Config):
    """Config of a study, which is also the study: it cuts a panel into a trial's data."""

    name: str

    @abstractmethod
    def tickers(self) -> tuple[str, ...]:
        """Name the tickers whose bars are read."""

    @abstractmethod
    def dataset(self, panel: Panel) -> Dataset:
        """Cut the panel into the blocks of one trial.

        Raises
        ------
        UserError
            If the panel is too short for the blocks.
        """

    def data_digest(self, panel: Panel) -> str:
        """Digest what the study reads of a panel, and nothing else of it."""
        text = " ".join(f"{ticker}={panel.bars[ticker].digest()}" for ticker in self.tickers())
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def evaluate(self, model: Model, data: Dataset) -> Evaluation:
        """Forecast and score the validation block, then the test block, which is read here."""
        scores = evaluate(model.predict(data.val), data.val.truth, block="val")
        test = data.open_test()
        forecast = model.predict(test)
        scores |= evaluate(forecast, test.truth, block="test")
        return Evaluation(scores, test.times, test.truth, {"": forecast})


STUDIES: Registry[type[StudyConfig]] = Registry("study")
AnyStudy = Annotated[SerializeAsAny[StudyConfig], BeforeValidator(lambda value: resolve(STUDIES, value))]
