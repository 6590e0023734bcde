"""What every calibrator is: it learns on one block how a model errs, and mends a later block.

Shape letters: B samples, Q quantile levels, K pairs of levels (q, 1 - q), outermost first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from math import ceil
from typing import Annotated, ClassVar

import numpy as np
from pydantic import BeforeValidator, SerializeAsAny

from farm.base.config import Config
from farm.base.errors import UserError
from farm.base.registry import Registry, resolve
from farm.base.types import Floats, Forecast, Windows

Levels = tuple[float, ...]
LEVELS: Levels = (0.05, 0.5, 0.95)  # given to a forecast that comes as points only


class Calibrator(ABC):
    """Mends the quantiles of a taught model; its point forecast is left as it is.

    Its life, in call order: built by its config; `fit` on the calibration block, from which the
    model learnt nothing; `apply` to any block after it.
    """

    @abstractmethod
    def fit(self, forecast: Forecast, windows: Windows) -> None:
        """Learn from what the model said and what came to pass.

        Parameters
        ----------
        forecast
            What the model says of the calibration block, n samples.
        windows
            That block. A truth that is NaN is an error.

        Raises
        ------
        UserError
            If there are too few samples for the quantile levels.
        ValueError
            If a truth is not finite, or the levels have no median or are not symmetric about it.
        """

    @abstractmethod
    def apply(self, forecast: Forecast, windows: Windows) -> Forecast:
        """Mend a forecast.

        Parameters
        ----------
        forecast
            What the same model says of a later block, B samples.
        windows
            That block. Sample b is mended from ``x[b]`` and ``series[: position[b]]`` alone.

        Returns
        -------
        Forecast
            The same points, with quantiles (B, Q) float64 that do not cross, at the levels of the
            forecast or, where it has none, at `LEVELS`.
        """


class CalibratorConfig(Config):
    """Config of a calibrator; it builds the calibrator it describes."""

    name: str
    takes_points: ClassVar[bool] = True  # a forecast without quantiles will do

    @abstractmethod
    def build(self) -> Calibrator:
        """Make the calibrator, which has learnt nothing yet."""


CALIBRATORS: Registry[type[CalibratorConfig]] = Registry("calibrator")
AnyCalibrator = Annotated[
    SerializeAsAny[CalibratorConfig], BeforeValidator(lambda value: resolve(CALIBRATORS, value))
]


def taught(
    calibrators: Iterable[CalibratorConfig], forecast: Forecast, windows: Windows
) -> dict[str, Calibrator]:
    """Make the calibrators that can mend a forecast and teach them on its calibration block, by name.

    Those that need quantiles are left out where the forecast has points alone.
    """
    able = [c for c in calibrators if c.takes_points or forecast.quantiles is not None]
    built = {config.name: config.build() for config in able}
    for calibrator in built.values():
        calibrator.fit(forecast, windows)
    return built


def quantiles_of(forecast: Forecast) -> tuple[Floats, Levels]:
    """Give quantiles in double precision, (B, Q), and their levels.

    A forecast of points alone is one of intervals without width, at `LEVELS`: what widens an
    interval then makes one around the point.

    Raises
    ------
    ValueError
        If the levels have no median or are not symmetric about it.
    """
    if forecast.quantiles is None:
        return np.repeat(forecast.point.astype(np.float64)[:, None], len(LEVELS), axis=1), LEVELS
    levels = np.asarray(forecast.levels)
    if len(levels) < 3 or len(levels) % 2 == 0 or not np.allclose(levels + levels[::-1], 1, atol=1e-9):
        raise ValueError(f"got quantile levels {forecast.levels}, expected 0.5 and pairs about it")
    return forecast.quantiles.astype(np.float64), forecast.levels


def truth_of(windows: Windows) -> Floats:
    """Give the truths, (B,) float64.

    Raises
    ------
    ValueError
        If one is not finite.
    """
    truth = windows.truth.astype(np.float64)
    if not np.isfinite(truth).all():
        raise ValueError(f"{int((~np.isfinite(truth)).sum())} of {truth.size} truths are not finite")
    return truth


def misses(levels: Levels) -> Floats:
    """Give the share of truths that may lie outside each pair of levels, (K,), outermost first."""
    return 2 * np.asarray(levels[: len(levels) // 2], dtype=np.float64)


def require_rows(calibrator: str, levels: Levels, got: int) -> None:
    """Hold a calibration block to the rows below which its finite-sample quantile is infinite.

    With n samples the rank ``ceil((n + 1) (1 - a))`` must not exceed n, hence n >= 1 / a - 1.

    Raises
    ------
    UserError
        If there are too few.
    """
    share = float(misses(levels)[0])
    needed = ceil(1 / share - 1e-9) - 1
    if got < needed:
        raise UserError(
            f"calibrator {calibrator}: got {got} calibration rows, expected at least {needed} for intervals"
            f" at the {1 - share:.10g} level: lengthen the calibration block or lower the level"
        )


def nested(quantiles: Floats) -> Floats:
    """Move quantiles outwards from the median until none crosses another, (B, Q).

    The median stays, and an interval only grows, so that its coverage is not lost.
    """
    middle = quantiles.shape[1] // 2
    mended = quantiles.copy()
    mended[:, middle::-1] = np.minimum.accumulate(quantiles[:, middle::-1], axis=1)
    mended[:, middle:] = np.maximum.accumulate(quantiles[:, middle:], axis=1)
    return mended
