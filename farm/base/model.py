"""What every model and baseline is: it learns from two blocks and forecasts a third."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

import numpy.typing as npt
from pydantic import BeforeValidator, SerializeAsAny

from farm.base.config import Config
from farm.base.registry import Registry, resolve
from farm.base.surfaces import Past, Paths
from farm.base.types import Floats, Forecast, Inputs, Windows

State = dict[str, npt.NDArray[Any]]


class Model(ABC):
    """A forecaster.

    Its life, in call order: built by its config; taught (`Estimator.fit`, or the training loop
    for a network); `predict` on any block; `state` into the store and `load_state` back.
    """

    reads_windows: ClassVar[bool] = True  # False of one that reads the target's own series alone

    @abstractmethod
    def predict(self, windows: Windows) -> Forecast:
        """Forecast the target of each sample from what was known before it.

        Parameters
        ----------
        windows
            B samples.

        Returns
        -------
        Forecast
            B forecasts; sample ``b`` depends on ``windows.x[b]`` and
            ``windows.series[: windows.position[b]]`` alone.
        """

    @abstractmethod
    def state(self) -> State:
        """Give all that was learnt, as arrays."""

    @abstractmethod
    def load_state(self, state: State) -> None:
        """Take back what `state` gave; the forecasts are then equal to the bit."""


class Estimator(Model):
    """A model that fits itself in one call."""

    @abstractmethod
    def fit(self, train: Windows, val: Windows) -> None:
        """Learn.

        Parameters
        ----------
        train
            Samples to learn from.
        val
            Later samples, for choosing a setting; a model without settings leaves them alone.
        """


class PathGenerator(Model):
    """A model of surfaces that generates the days after what is known."""

    @abstractmethod
    def generate(self, past: Past, days: int, samples: int, seed: int) -> Paths:
        """Generate paths of surfaces.

        Parameters
        ----------
        past
            What is known; the paths depend on it, on what was learnt and on the seed alone.
        days
            Days wanted, from the day after `past` on.
        samples
            Paths, S.
        seed
            Decides the draws; equal seeds give equal bits.
        """


class ReturnsOracle(PathGenerator):
    """A generator that can also be told the returns to come: to see what knowing them would be worth."""

    @abstractmethod
    def generate_knowing(self, past: Past, future_returns: Floats, samples: int, seed: int) -> Paths:
        """Generate paths of surfaces along given returns, flagged as those of an oracle.

        Parameters
        ----------
        past, samples, seed
            See `generate`.
        future_returns
            Daily log returns of the days to generate, (days,).
        """


class ModelConfig(Config):
    """Config of a model; it builds the model it describes."""

    name: str
    trained: ClassVar[bool] = False  # by the training loop, with a seed
    in_phases: ClassVar[bool] = False  # those of a curriculum
    study: ClassVar[str] = ""  # the one whose windows it can read; empty for any
    quantile_levels: ClassVar[tuple[float, ...]] = ()

    @abstractmethod
    def build(self, inputs: Inputs) -> Model:
        """Make the untrained model.

        Parameters
        ----------
        inputs
            The windows that it will see.
        """


MODELS: Registry[type[ModelConfig]] = Registry("model")
AnyModel = Annotated[SerializeAsAny[ModelConfig], BeforeValidator(lambda value: resolve(MODELS, value))]
