"""Forecasters that come taught on other people's series: what they share, and what must be said of them.

Another such model is one file beside `farm.models.chronos`: a config that derives from
`PretrainedConfig` and a forecaster that derives from `Pretrained`.
"""

from __future__ import annotations

import hashlib
import importlib
from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

import numpy as np
from pydantic import AfterValidator, Field

from farm.base.errors import UserError
from farm.base.model import Estimator, ModelConfig, State
from farm.base.origin import DISTRIBUTION
from farm.base.types import Floats, Forecast, Windows

BATCH = 256  # series that are forecast together
_FAILURES: dict[PretrainedConfig, str] = {}  # the hub is asked once a process: it takes half a minute to fail
LEAK = "the pretraining data may contain the test days"


def _found(weights: str) -> str:
    """Give a folder its full path, since a worker has a folder of its own; leave a hub name alone."""
    folder = Path(weights).expanduser()
    if folder.is_dir():
        return str(folder.resolve())
    if weights.startswith(("/", ".", "~")):
        raise UserError(
            f"weights {weights!r}: there is no such folder: give one that holds a model, or the name of a"
            " model on the hub, such as amazon/chronos-2"
        )
    return weights


Weights = Annotated[str, AfterValidator(_found)]


class PretrainedConfig(ModelConfig):
    """Config of a pretrained forecaster, which is used as it comes: no field of it can be searched.

    Parameters
    ----------
    weights
        Name of a model on the Hugging Face hub, or a local folder with one. A folder enters the
        signature by what is in it.
    revision
        Of the model on the hub; a commit makes the result repeatable. A folder has none.
    context
        Days before each target that the model reads, at most.
    """

    study: ClassVar[str] = "forecast"
    module: ClassVar[str]  # what must be installed, as it is imported
    package: ClassVar[str]  # and as it is installed

    weights: Weights
    revision: str = "main"
    # No Int: what is not to be tuned declares no range to draw from.
    context: Annotated[int, Field(ge=20, le=8192)] = 512

    def versioned(self) -> dict[str, Any]:
        """Name a folder by its contents; see `Config.versioned`."""
        resolved = super().versioned()
        if Path(self.weights).is_dir():
            resolved["weights"] = folder_digest(self.weights)
        return resolved


@lru_cache(maxsize=8)
def folder_digest(folder: str) -> str:
    """Digest names and contents of the files of a folder; read once a process."""
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


class Pretrained(Estimator):
    """A forecaster whose weights come from elsewhere; it reads the target's own past and learns nothing.

    Its life, in call order: built by its config, which loads nothing; `fit`, which only sees that the
    weights can be had; `predict`. Its scores are no evidence of foresight: see `LEAK`.

    Parameters
    ----------
    config
        Which weights.
    """

    reads_windows = False

    def __init__(self, config: PretrainedConfig) -> None:
        self.config = config

    @abstractmethod
    def load(self) -> tuple[float, ...]:
        """Load the weights where they are not loaded, and give the quantile levels to forecast.

        Any error means that they cannot be had.
        """

    @abstractmethod
    def quantiles(self, contexts: Floats) -> tuple[Floats, Floats]:
        """Forecast the next value of each series.

        Parameters
        ----------
        contexts
            The last values of B series, (B, T) float32, oldest first; NaN before a series begins.

        Returns
        -------
        point, quantiles
            (B,) and (B, Q) at the levels of `load`; quantiles may cross.
        """

    @final
    def fit(self, train: Windows, val: Windows) -> None:
        """Load the weights.

        Parameters
        ----------
        train, val
            Not read.

        Raises
        ------
        UserError
            If the package is not installed or the weights cannot be had.
        """
        self._loaded()

    def _loaded(self) -> tuple[float, ...]:
        config = self.config
        try:
            importlib.import_module(config.module)
        except ImportError as error:
            raise UserError(
                f"model {config.name}: the package {config.package} is not installed:"
                f" pip install '{DISTRIBUTION}[pretrained]'"
            ) from error
        if config not in _FAILURES:
            try:
                return self.load()
            except Exception as error:  # noqa: BLE001  the hub, the file and the network fail in many ways
                _FAILURES[config] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise UserError(
            f"model {config.name}: weights {config.weights!r} cannot be had ({_FAILURES[config]}): give"
            " model.weights a local folder that holds them, or run where the hub can be reached"
        )

    @final
    def predict(self, windows: Windows) -> Forecast:
        """Forecast each target from the series before it.

        Parameters
        ----------
        windows
            B samples, each at position 1 or later, with a finite series before the last of them.

        Returns
        -------
        Forecast
            Points, (B,), and quantiles, (B, Q), float64, in the unit of the target, put in order row by
            row.

        Raises
        ------
        UserError
            See `fit`.
        ValueError
            If a sample has no return before it, or a forecast is not finite.
        """
        if (windows.position < 1).any():
            raise ValueError("a sample at position 0 has no return before it; expected positions from 1 on")
        levels = self._loaded()
        days = self.config.context
        padded = np.concatenate([np.full(days, np.nan), windows.series[: windows.position.max()]])
        view = np.lib.stride_tricks.sliding_window_view(padded.astype(np.float32), days)
        points, quantiles = [], []
        for start in range(0, len(windows), BATCH):
            # Row p of the view ends on day p - 1 of the series.
            rows = windows.position[start : start + BATCH]
            # What no series of the batch has is not read.
            contexts = np.ascontiguousarray(view[rows][:, max(days - int(rows.max()), 0) :])
            point, found = self.quantiles(contexts)
            points.append(point)
            quantiles.append(found)
        ordered = np.sort(np.concatenate(quantiles).astype(np.float64), axis=1)
        return Forecast(np.concatenate(points).astype(np.float64), ordered, levels)

    @final
    def state(self) -> State:
        """Give no arrays: nothing was learnt."""
        return {}

    @final
    def load_state(self, state: State) -> None:
        """Take nothing back."""
