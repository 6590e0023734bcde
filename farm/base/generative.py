"""What flows between the floors in the generative study, and what its models are able to do.

A model of this study is an `Imputer`, which ranks it, and whatever else of the classes below it can be.
All that they take and give is in scaled units, as `ReturnWindows.rows` is.

Shape letters: N days, A assets, B windows, T days of a window, D latent dimensions, K regimes or factors.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from farm.base.model import Model, ModelConfig
from farm.base.types import Floats, Forecast, Latents, Windows

LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class ReturnWindows(Windows):
    """Windows over days of many assets' returns, and the days themselves.

    `x` holds every window of T days that lies wholly in the block, (B, T, A) float32, a strided view of
    the scaled returns; `features` are the A assets. `times`, `y`, `series` and `position` are of the
    last day of each window, and of the first asset's return; no model of this study forecasts it.

    Parameters
    ----------
    rows
        Scaled daily log returns from the beginning of the record to the end of this block, (N, A)
        float64, no NaN. The scaler is each asset's mean and standard deviation on the training rows.
    days
        Their dates, (N,).
    first
        Row on which the block begins. Rows before it are known, and not to be learnt from or scored.
    mask
        Entries of the block that `Imputer.predict` must fill, (N - first, A) bool, H of them True.
    mean, scale
        Of the scaler, (A,): return = scaled * scale + mean.
    """

    rows: Floats = field(kw_only=True)
    days: npt.NDArray[np.datetime64] = field(kw_only=True)
    first: int = field(kw_only=True)
    mask: npt.NDArray[np.bool_] = field(kw_only=True)
    mean: Floats = field(kw_only=True)
    scale: Floats = field(kw_only=True)

    @property
    def block(self) -> Floats:
        """Give the scaled days of the block alone, (N - first, A), a view."""
        return self.rows[self.first :]

    @property
    def apart(self) -> Floats:
        """Give the windows that do not overlap, from the beginning of the block on, one in T."""
        return self.x[:: self.x.shape[1]]

    def hide(self, mask: npt.NDArray[np.bool_]) -> Floats:
        """Copy the rows with NaN in the entries of the block that a mask marks, (N, A)."""
        rows = self.rows.copy()
        rows[self.first :][mask] = np.nan
        return rows

    def hidden_returns(self, mask: npt.NDArray[np.bool_]) -> Floats:
        """Give the marked entries as unscaled log returns, day by day, (H,)."""
        returns: Floats = (self.block * self.scale + self.mean)[mask]
        return returns


def returns_of(windows: Windows) -> ReturnWindows:
    """Take windows for those of returns.

    Raises
    ------
    TypeError
        If they are of another study: a fault of the program.
    """
    if not isinstance(windows, ReturnWindows):
        raise TypeError(f"got {type(windows).__name__}, expected ReturnWindows")
    return windows


@dataclass(frozen=True)
class Imputation:
    """What a model says of the hidden entries of a block.

    Parameters
    ----------
    mean
        Conditional means, (N - first, A); what is visible stands as it was.
    sd
        Conditional standard deviations, (N - first, A), 0 where the entry is visible; None for a model
        without them.

    Raises
    ------
    ValueError
        If shapes disagree, a value is not finite or a standard deviation is negative.
    """

    mean: Floats
    sd: Floats | None = None

    def __post_init__(self) -> None:
        """Hold the arrays to shape, finiteness and sign."""
        if not np.isfinite(self.mean).all():
            raise ValueError(f"{int((~np.isfinite(self.mean)).sum())} imputed entries are not finite")
        if self.sd is not None and (
            self.sd.shape != self.mean.shape or not (np.isfinite(self.sd) & (self.sd >= 0)).all()
        ):
            raise ValueError(f"sd {self.sd.shape}: expected {self.mean.shape}, finite and not negative")


class Imputer(Model):
    """A model that fills hidden entries; every model of this study is one."""

    @abstractmethod
    def impute(self, rows: Floats, first: int) -> Imputation:
        """Fill the hidden entries of a block.

        Parameters
        ----------
        rows
            Scaled returns, (N, A) float64, NaN where hidden; a day may be hidden whole.
        first
            Row on which the block begins; nothing before it is hidden.

        Returns
        -------
        Imputation
            Of the N - first days. Day t depends on ``rows[: t + 1]`` alone: on its own visible entries
            and on the days before it.
        """

    def predict(self, windows: Windows) -> Forecast:
        """Forecast the H hidden entries of a block, unscaled, in the order of `ReturnWindows.mask`."""
        block = returns_of(windows)
        return self.forecast_hidden(block, block.mask)

    def forecast_hidden(self, windows: ReturnWindows, mask: npt.NDArray[np.bool_]) -> Forecast:
        """Hide the entries that a mask marks, (N - first, A), and forecast them, unscaled.

        Returns
        -------
        Forecast
            H forecasts, day by day. Quantiles at `LEVELS` are those of a normal distribution with the
            model's mean and standard deviation.
        """
        from scipy.special import ndtri  # slow to import

        filled = self.impute(windows.hide(mask), windows.first)
        point = (filled.mean * windows.scale + windows.mean)[mask]
        if filled.sd is None:
            return Forecast(point=point)
        sd = (filled.sd * windows.scale)[mask]
        return Forecast(point, point[:, None] + sd[:, None] * ndtri(LEVELS), LEVELS)


class Density(Model):
    """A model with an exact likelihood."""

    @abstractmethod
    def log_likelihood(self, rows: Floats, first: int) -> Floats:
        """Give the log density of each day of a block.

        Parameters
        ----------
        rows
            Scaled returns, (N, A), no NaN.
        first
            Row on which the block begins.

        Returns
        -------
        Floats
            (N - first,), in nats a day; that of day t is given at most ``rows[:t]``.
        """


class Covariance(Model):
    """A model that says how the assets move together."""

    @abstractmethod
    def covariance(self) -> Floats:
        """Give the covariance of a day's scaled returns, (A, A), symmetric and positive definite."""


class WindowGenerator(Model):
    """A model that makes up windows."""

    @abstractmethod
    def draw(self, count: int, seed: int) -> Floats:
        """Draw windows of T days of scaled returns, (count, T, A) float64; equal seeds, equal bits."""


class LatentBound(Model):
    """A model whose likelihood can only be bounded, through a latent."""

    @abstractmethod
    def bound(self, windows: Floats, samples: int, seed: int) -> tuple[Floats, Floats]:
        """Bound the log density of windows from below.

        Parameters
        ----------
        windows
            Scaled returns, (B, T, A).
        samples
            Draws of the latent for each window.
        seed
            Decides the draws.

        Returns
        -------
        tuple of Floats
            The evidence lower bound and the importance-weighted bound (Burda et al. 2016), (B,) each,
            in nats a window, from the same draws, so that the first is never above the second.
        """


class LatentSpace(Model):
    """A model that maps windows to a latent and back."""

    @abstractmethod
    def encode(self, windows: Floats, seed: int) -> Latents:
        """Encode windows, (B, T, A); `seed` decides the one draw for each."""

    @abstractmethod
    def decode(self, z: Floats) -> Floats:
        """Give the mean window of each latent, (B, D) to (B, T, A)."""

    @abstractmethod
    def spread(self, z: Floats) -> Floats:
        """Give the standard deviation of each entry about that mean, (B, D) to (B, T, A)."""

    @abstractmethod
    def components(self, z: Floats) -> dict[str, Floats]:
        """Give the named parts that add up to `decode`, each (B, T, A); empty where it has no parts."""


@dataclass(frozen=True)
class GradientMoments:
    """Mean and variance of a stochastic gradient over its draws, (P,) each, P parameters."""

    mean: Floats
    variance: Floats


class NoisyGradients(Model):
    """A model whose gradient can be estimated in several ways, all with one expectation."""

    @abstractmethod
    def gradient_moments(self, windows: Floats, repeats: int, seed: int) -> dict[str, GradientMoments]:
        """Estimate the gradient on the last days of windows, (B, T, A), many times by each estimator."""


class Regimes(Model):
    """A model of regimes that follow each other."""

    @abstractmethod
    def probabilities(self, rows: Floats, first: int) -> Floats:
        """Give the filtered probability of each regime on each day of a block.

        Returns
        -------
        Floats
            (N - first, K), calm regimes first; day t is given ``rows[: t + 1]``, never later days.
        """


class Factors(Model):
    """A model of a day's returns as loadings on factors plus each asset's own noise."""

    @abstractmethod
    def loadings(self) -> Floats:
        """Give the loadings, (A, K), in scaled units."""

    @abstractmethod
    def idiosyncratic(self) -> Floats:
        """Give the variance that is each asset's own, (A,), in scaled units."""


class GenerativeConfig(ModelConfig):
    """Config of a model of the generative study."""

    study: ClassVar[str] = "generate"
    quantile_levels: ClassVar[tuple[float, ...]] = LEVELS
