"""A forecast's whole distribution, where a model has one: a mixture of Student-t and normal densities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Density:
    """For each of B samples the mean of K Student-t densities of location and scale.

    One component is a parametric forecast. Several are those of an ensemble's members or of a
    network's dropout passes, each of which counts alike (a linear pool, Stone 1961, Annals of
    Mathematical Statistics 32).

    Parameters
    ----------
    location, scale
        Of the components, (B, K), in the unit of the target; scales above 0.
    freedom
        Degrees of freedom of the components, (B, K), above 2 so that a variance exists; infinite
        for a normal density.

    Raises
    ------
    ValueError
        If shapes disagree or a value is out of its range.
    """

    location: Array
    scale: Array
    freedom: Array

    def __post_init__(self) -> None:
        """Hold the parameters to one shape and to their ranges."""
        shapes = {value.shape for value in vars(self).values()}
        if len(shapes) > 1 or self.location.ndim != 2 or self.location.shape[1] == 0:
            raise ValueError(f"a density's parameters have shapes {sorted(shapes)}, expected one (B, K)")
        sound = np.isfinite(self.location) & np.isfinite(self.scale) & (self.scale > 0) & (self.freedom > 2)
        if not sound.all():
            broken = int((~sound).sum())
            raise ValueError(
                f"{broken} of {sound.size} components: expected finite locations, scales above 0 and"
                " freedom above 2"
            )

    @classmethod
    def of(cls, location: Array, scale: Array, freedom: float = np.inf) -> Density:
        """Make one component a sample from location and scale, (B,), and a common freedom."""
        return cls(location[:, None], scale[:, None], np.full((len(location), 1), freedom))

    def take(self, keep: Any) -> Density:
        """Select samples."""
        return Density(self.location[keep], self.scale[keep], self.freedom[keep])

    @classmethod
    def join(cls, parts: Sequence[Density]) -> Density:
        """Put densities of as many components, of samples that follow each other, into one."""
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("location", "scale", "freedom")
            )
        )

    def mean(self) -> Array:
        """Give the means, (B,)."""
        means: Array = self.location.mean(axis=1)
        return means

    def log_density(self, y: Array) -> Array:
        """Give the logarithm of the density of each sample at y, (B,), in units of 1 / target."""
        from scipy.special import logsumexp  # slow to import, as is all of scipy here
        from scipy.stats import t

        parts = t.logpdf((y[:, None] - self.location) / self.scale, self.freedom) - np.log(self.scale)
        total: Array = logsumexp(parts, axis=1) - np.log(parts.shape[1])
        return total

    def cdf(self, y: Array) -> Array:
        """Give the probability of a value up to y for each sample, (B,)."""
        return self._cdf(y, np.arange(len(y)))

    def _cdf(self, y: Array, row: npt.NDArray[np.integer[Any]]) -> Array:
        from scipy.special import ndtr, stdtr

        z = (y[:, None] - self.location[row]) / self.scale[row]
        freedom = self.freedom[row]
        normal = np.isinf(freedom)
        parts = np.where(normal, ndtr(z), stdtr(np.where(normal, 3.0, freedom), z))
        share: Array = parts.mean(axis=1)
        return share

    def quantiles(self, levels: Sequence[float]) -> Array:
        """Give the quantiles at Q levels, (B, Q), non-decreasing along Q.

        Of one component they are exact; of several they are the root of the mixture's distribution
        function, which lies between those of the components.
        """
        from scipy.optimize.elementwise import find_root
        from scipy.stats import t

        level = np.asarray(levels, dtype=np.float64)
        each = self.location[..., None] + self.scale[..., None] * t.ppf(level, self.freedom[..., None])
        low, high = each.min(axis=1), each.max(axis=1)
        rows = np.broadcast_to(np.arange(len(low))[:, None], low.shape)

        def miss(y: Array, row: Array, wanted: Array) -> Array:
            below: Array = self._cdf(y.ravel(), row.ravel().astype(np.int64)).reshape(y.shape) - wanted
            return below

        if each.shape[1] == 1:
            return np.asarray(low)
        # Where the components agree there is no interval to search.
        apart = high - low > 1e-9 * self.scale.min(axis=1, keepdims=True)
        found = low.copy()
        wanted = np.broadcast_to(level, low.shape)[apart]
        # A hair wider, as the two ends are rounded.
        hair = 1e-10 * (high - low)[apart]
        ends = (low[apart] - hair, high[apart] + hair)
        if apart.any():
            found[apart] = find_root(miss, ends, args=(rows[apart].astype(np.float64), wanted)).x
        return np.asarray(np.maximum.accumulate(found, axis=1))
