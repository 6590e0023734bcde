"""What flows between the floors: windows in, forecasts out.

Shape letters: B samples, T time steps, F features, Q quantile levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.base.density import Density

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
Dates = npt.NDArray[np.datetime64]

# Of a forecast that is to say the tails: the ends of Value-at-Risk at 1 and 5 %, and the quarters.
RISK_LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def quantile_name(level: float) -> str:
    """Return the name of a quantile in tables and files: ``q05``, ``q02.5``; no two levels share one."""
    whole, _, rest = f"{100 * Decimal(repr(float(level))):f}".partition(".")
    rest = rest.rstrip("0")
    return f"q{whole:0>2}" + (f".{rest}" if rest else "")


@dataclass(frozen=True)
class Windows:
    """One block of a study's samples, in time order.

    Sample ``b`` may use ``x[b]`` and ``series[: position[b]]``, which is everything known before
    its target ``y[b] == series[position[b]]``.

    Parameters
    ----------
    x
        Inputs, (B, T, F) float32, scaled with statistics of the training block. A strided view of
        one array: nothing is copied per window.
    y
        Targets, (B,) float32, unscaled.
    times
        Dates of the targets, (B,).
    features
        Names of the F features.
    series
        The target series from its beginning to the end of this block, float64, unscaled.
    position
        Where each target stands in `series`, (B,).
    hidden
        What `x` hides on its last day, (B, K) float32, scaled: for training and for evaluations
        that are flagged as oracle. None where nothing is hidden.
    refit
        Of a walk-forward: the number of the fit that forecasts each sample, (B,), not decreasing; its
        windows are scaled as that fit learnt. None where one fit forecasts all.
    """

    x: Floats
    y: Floats
    times: Dates
    features: tuple[str, ...]
    series: Floats
    position: Ints
    hidden: Floats | None = None
    refit: Ints | None = None

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.y)

    def take(self, keep: slice) -> Windows:
        """Give a contiguous part of the block, without copying."""
        hidden = None if self.hidden is None else self.hidden[keep]
        refit = None if self.refit is None else self.refit[keep]
        return replace(
            self,
            x=self.x[keep],
            y=self.y[keep],
            times=self.times[keep],
            position=self.position[keep],
            hidden=hidden,
            refit=refit,
        )

    @property
    def truth(self) -> Floats:
        """Give the targets in double precision, (B,)."""
        return self.series[self.position]


@dataclass(frozen=True)
class Inputs:
    """What a model is told of its windows before it is built.

    Parameters
    ----------
    features
        Names of the F features.
    lookback
        Days in a window, T.
    mean, scale
        What each feature was scaled with, (F,), from the training block: scaled = (raw - mean) / scale.
    """

    features: tuple[str, ...]
    lookback: int
    mean: Floats
    scale: Floats


@dataclass(frozen=True)
class Forecast:
    """What a model says of a block of samples.

    Parameters
    ----------
    point
        Point forecast, (B,), in the unit of the target.
    quantiles
        Quantile forecasts, (B, Q), non-decreasing along Q; None for a model without them.
    levels
        The Q quantile levels, increasing, in (0, 1).
    density
        The distribution that the quantiles are of, where the model has it in closed form.

    Raises
    ------
    ValueError
        If shapes disagree, a value is not finite, quantiles cross or a density comes without them.
    """

    point: Floats
    quantiles: Floats | None = None
    levels: tuple[float, ...] = ()
    density: Density | None = None

    def __post_init__(self) -> None:
        """Hold the forecast to its shape, finiteness and order."""
        if not np.isfinite(self.point).all():
            broken = int((~np.isfinite(self.point)).sum())
            raise ValueError(f"{broken} of {self.point.size} point forecasts are not finite")
        if (self.quantiles is None) != (self.levels == ()):
            raise ValueError("quantiles and levels come together or not at all")
        if self.density is not None and (
            self.quantiles is None or len(self.density.location) != len(self.point)
        ):
            raise ValueError("a density comes with quantiles, and of as many samples")
        if self.quantiles is None:
            return
        if self.quantiles.shape != (len(self.point), len(self.levels)):
            expected = (len(self.point), len(self.levels))
            raise ValueError(f"quantiles have shape {self.quantiles.shape}, expected {expected}")
        if not np.isfinite(self.quantiles).all():
            raise ValueError("a quantile forecast is not finite")
        if (np.diff(self.quantiles, axis=1) < 0).any():
            raise ValueError("quantile forecasts cross")

    @classmethod
    def of(cls, density: Density, levels: tuple[float, ...]) -> Forecast:
        """Say what a density says: its mean and its quantiles."""
        return cls(density.mean(), density.quantiles(levels), levels, density)

    def take(self, keep: npt.NDArray[Any]) -> Forecast:
        """Select samples, by number or by a mask."""
        quantiles = None if self.quantiles is None else self.quantiles[keep]
        density = None if self.density is None else self.density.take(keep)
        return Forecast(self.point[keep], quantiles, self.levels, density)

    @classmethod
    def join(cls, parts: Sequence[Forecast]) -> Forecast:
        """Put forecasts of one kind, of samples that follow each other, into one."""
        quantiles = [part.quantiles for part in parts if part.quantiles is not None]
        densities = [part.density for part in parts if part.density is not None]
        return cls(
            np.concatenate([part.point for part in parts]),
            np.concatenate(quantiles) if quantiles else None,
            parts[0].levels,
            Density.join(densities) if densities else None,
        )


@dataclass(frozen=True)
class Latents:
    """What an encoder says of B samples.

    Parameters
    ----------
    sample
        One draw of z for each sample, (B, D), or what the decoder was given in its place.
    mean, logvar
        Of the normal posterior q(z | x) of each sample, (B, D).
    prior_mean, prior_logvar
        Of the prior of each sample where it is learnt, (B, D); None for the standard normal.

    Raises
    ------
    ValueError
        If shapes disagree, there is no sample, or a value is not finite.
    """

    sample: Floats
    mean: Floats
    logvar: Floats
    prior_mean: Floats | None = None
    prior_logvar: Floats | None = None

    def __post_init__(self) -> None:
        """Hold the arrays to one shape and to finite values."""
        if (self.prior_mean is None) != (self.prior_logvar is None):
            raise ValueError("the mean and the log variance of a prior come together or not at all")
        for name, value in vars(self).items():
            if value is None:
                continue
            if value.ndim != 2 or value.shape != self.sample.shape or value.size == 0:
                raise ValueError(f"{name} has shape {value.shape}, expected (B, D) = {self.sample.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{int((~np.isfinite(value)).sum())} entries of {name} are not finite")


class TestBlockReused(RuntimeError):
    """The test block was asked for a second time: a fault of the program."""

    __test__ = False  # not a test case, whatever pytest makes of the name


@dataclass
class Dataset:
    """Training, validation, calibration and test blocks of one trial.

    Parameters
    ----------
    train, val
        Blocks a model may learn from and be selected on.
    inputs
        What the windows hold and how they were scaled.
    calibration
        A block between `val` and the test block that no model learns from; None for a study that
        calibrates nothing.
    refits
        Of a walk-forward: the data of each of its fits, in order of time. The blocks above are then
        `train` and `inputs` of the last one, and `val` and the test block those of all, one after the
        other, with `Windows.refit`. Empty where one fit forecasts all.
    """

    train: Windows
    val: Windows
    inputs: Inputs
    _test: Windows = field(repr=False)
    calibration: Windows | None = None
    refits: tuple[Dataset, ...] = field(default=(), repr=False)
    _opened: bool = field(default=False, repr=False)

    def open_test(self) -> Windows:
        """Hand out the test block, once, after model selection.

        Raises
        ------
        TestBlockReused
            If it was handed out before.
        """
        if self._opened:
            raise TestBlockReused("the test block is read once, after model selection")
        self._opened = True
        return self._test
