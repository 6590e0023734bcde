"""What every study is: a question with its data, its blocks and the name of one replicate."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, SerializeAsAny

from farm.base.config import Config
from farm.base.model import Model
from farm.base.registry import Registry, resolve
from farm.base.types import Dataset, Floats, Inputs, Windows
from farm.data.panel import Panel
from farm.data.surface import Surfaces
from farm.evaluation.metric import measure
from farm.evaluation.probes import channel_groups, probe
from farm.evaluation.scores import Block, Evaluation, Fitted, Measured
from farm.training.curriculum import CurriculumConfig

Source = Panel | Surfaces  # what a study cuts its blocks from


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

    def evaluate(self, fitted: Fitted) -> Evaluation:
        """Forecast the validation block, that of calibration if there is one, and then the test block."""
        data = fitted.data
        blocks = {"val": self.forecast(fitted.model, data.val)}
        if data.calibration is not None:
            blocks["calibration"] = self.forecast(fitted.model, data.calibration)
        return Evaluation(blocks | {"test": self.forecast(fitted.model, fitted.test)})

    def forecast(self, model: Model, windows: Windows) -> Block:
        """Forecast a block of samples as it is ranked.

        Raises
        ------
        UserError
            If the study forecasts no block at once.
        """
        return Block(windows.times, windows.truth, {"": model.predict(windows)})

    def scores_on_validation(self, part: str) -> bool:
        """Return whether metrics of the validation block are computed under this part of their name."""
        return part == ""

    def probe(self, fitted: Fitted, evaluation: Evaluation) -> Measured:
        """Disturb what the model reads; see `farm.evaluation.probes`."""
        test = fitted.test
        groups = channel_groups(test.features, fitted.data.inputs.lookback)
        return probe(fitted.model, test, evaluation.test.forecasts[""], groups, self.believable)


@measure("model")
def probes(fitted: Fitted, evaluation: Evaluation) -> Measured:
    """Disturb what the model reads, as its study does."""
    found: Measured = fitted.study.probe(fitted, evaluation)
    return found


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
        panel = _panel(source)
        for ticker in self.tickers():
            panel.require(ticker)
        bars = panel.bars
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
