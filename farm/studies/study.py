"""What every study is: a question with its data, its blocks and the name of one replicate."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, SerializeAsAny

from farm.base.config import Config
from farm.base.model import Model
from farm.base.registry import Registry, resolve
from farm.base.types import Dataset, Dates, Floats, Forecast, Inputs, Windows
from farm.data.panel import Panel
from farm.data.surface import Surfaces
from farm.evaluation.metric import evaluate
from farm.evaluation.probes import channel_groups, probe
from farm.training.curriculum import CurriculumConfig

Source = Panel | Surfaces  # what a study cuts its blocks from


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
        What each sample is about, B names, where a day has several: a cell of a surface, an asset.
        Empty where each day has one sample. Verdicts treat an item as they treat a ticker.

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
        """Hold the ranked forecast to honesty and the items to their number."""
        if self.items and len(self.items) != len(self.actual):
            raise ValueError(f"{len(self.items)} items, expected one for each of {len(self.actual)} samples")
        if "" not in self.forecasts or "" in self.oracles or not set(self.oracles) <= set(self.forecasts):
            raise ValueError(
                f"forecasts {sorted(self.forecasts)} with oracles {self.oracles}: expected one named '',"
                " which is no oracle"
            )


class StudyConfig(Config):
    """Config of a study, which is also the study: it cuts its source into a trial's data."""

    name: str
    believable: ClassVar[float] = 0.3  # share of a target's variance that an honest forecast may explain

    @abstractmethod
    def dataset(self, source: Source) -> Dataset:
        """Cut the source into the blocks of one trial.

        Raises
        ------
        UserError
            If the source is too short for the blocks.
        """

    @abstractmethod
    def data_digest(self, source: Source) -> str:
        """Digest what the study reads of its source, and nothing else of it."""

    def check(self, curriculum: CurriculumConfig, source: Source) -> None:
        """Refuse a curriculum that the source is too short for; a study without phases has none.

        Raises
        ------
        UserError
            With the phase and what it needs.
        """

    def evaluate(self, model: Model, data: Dataset) -> Evaluation:
        """Forecast, score and probe the validation block, then the test block, which is read here."""
        scores = evaluate(model.predict(data.val), data.val.truth, block="val")
        test = data.open_test()
        forecast = model.predict(test)
        scores |= evaluate(forecast, test.truth, block="test")
        groups = channel_groups(test.features, data.inputs.lookback)
        probed, warnings = probe(model, test, forecast, groups, self.believable)
        return Evaluation(scores | probed, test.times, test.truth, {"": forecast}, warnings)


class PanelStudy(StudyConfig):
    """A study that reads bars of a panel."""

    @abstractmethod
    def tickers(self) -> tuple[str, ...]:
        """Name the tickers whose bars are read."""

    @abstractmethod
    def cut(self, panel: Panel) -> Dataset:
        """Cut the panel into the blocks of one trial; see `StudyConfig.dataset`."""

    def dataset(self, source: Source) -> Dataset:
        """Cut the panel; see `cut`."""
        return self.cut(_panel(source))

    def data_digest(self, source: Source) -> str:
        """Digest the bars of `tickers`."""
        bars = _panel(source).bars
        text = " ".join(f"{ticker}={bars[ticker].digest}" for ticker in self.tickers())
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Ahead(PanelStudy):
    """A study of one ticker's return that can be asked for the sample to come, whose truth is not known."""

    ticker: str

    @property
    @abstractmethod
    def days_needed(self) -> int:
        """Count the days of bars that a forecast needs at least."""

    @abstractmethod
    def inputs(self, mean: Floats, scale: Floats) -> Inputs:
        """Describe the windows of a trial whose scaler is known; `Dataset.inputs` of its data."""

    @abstractmethod
    def ahead(self, panel: Panel, inputs: Inputs) -> Windows:
        """Cut the one sample whose target is not known yet.

        Returns
        -------
        Windows
            One sample, whose target reads 0 and whose time is the last day of bars that was read.

        Raises
        ------
        UserError
            If there are too few days.
        """


def _panel(source: Source) -> Panel:
    if not isinstance(source, Panel):
        raise TypeError(f"got {type(source).__name__}, expected a panel of prices")
    return source


STUDIES: Registry[type[StudyConfig]] = Registry("study")
AnyStudy = Annotated[SerializeAsAny[StudyConfig], BeforeValidator(lambda value: resolve(STUDIES, value))]
