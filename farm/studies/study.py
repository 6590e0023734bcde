"""What every study is: a question with its data, its blocks and the name of one replicate."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from farm.base.config import Config
from farm.base.registry import Registry, resolve
from farm.base.types import Dataset
from farm.data.panel import Panel


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


STUDIES: Registry[type[StudyConfig]] = Registry("study")
AnyStudy = Annotated[SerializeAsAny[StudyConfig], BeforeValidator(lambda value: resolve(STUDIES, value))]
