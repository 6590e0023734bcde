"""Conformal intervals of generated paths: each is stretched by what its lead time has needed before.

Scores of one path are dependent: days follow days, cells move together, and overlapping paths share
their days. So no single score is taken for an independent draw. Scores are pooled by lead time, over all
calibration paths, days of the bucket and cells, and a bucket's factor is the plain quantile of its pool.
That is the pooling of distribution functions of Dunn, Wasserman and Ramdas [1]_ with a path as the
group: it covers at the nominal share on average over new paths of the same kind, and since there are few
paths it promises no finite-sample bound.

References
----------
.. [1] Dunn, Wasserman and Ramdas (2023), Distribution-Free Prediction Sets for Two-Layer Hierarchical
   Models, JASA 118(544).
.. [2] Romano, Patterson and Candes (2019), Conformalized Quantile Regression, NeurIPS 32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from farm.base.types import Floats, Forecast, Ints

BUCKETS = (1, 8, 22, 64, 127)  # first lead of each: a week, a month, a quarter, half a year, the rest
NARROWEST = 1e-4  # of volatility: an interval without width is stretched from here


@dataclass(frozen=True)
class LeadTimeConformal:
    """Factors by which half intervals are stretched about their median, one a bucket of lead times.

    Parameters
    ----------
    factors
        (buckets,), in the order of `BUCKETS`; a bucket that calibration did not reach has its
        predecessor's.
    """

    factors: Floats

    @classmethod
    def fit(cls, forecast: Forecast, truth: Floats, lead: Ints) -> LeadTimeConformal:
        """Learn the factors from paths that nothing was learnt from.

        A score is the distance of the truth from the median in units of the half interval on its side
        (the score of [2]_, made relative), and a factor the share ``1 - miss`` quantile of the scores.

        Parameters
        ----------
        forecast
            Median and a pair of outer quantiles, (B, 3).
        truth, lead
            (B,) each; `lead` counts days from 1.
        """
        low, middle, high = _halves(forecast)
        error = truth - middle
        scores = np.where(error > 0, error / high, -error / low)
        miss = forecast.levels[0] + 1 - forecast.levels[-1]
        bucket, factors = np.searchsorted(BUCKETS, lead, side="right") - 1, np.ones(len(BUCKETS))
        for number in range(len(BUCKETS)):
            own = scores[bucket == number]
            if len(own):
                factors[number] = np.quantile(own, 1 - miss, method="higher")
            elif number:
                factors[number] = factors[number - 1]
        return cls(factors)

    def apply(self, forecast: Forecast, lead: Ints) -> Forecast:
        """Stretch intervals; points and medians stay."""
        low, middle, high = _halves(forecast)
        factor = self.factors[np.searchsorted(BUCKETS, lead, side="right") - 1]
        return replace(
            forecast, quantiles=np.stack([middle - factor * low, middle, middle + factor * high], axis=1)
        )


def _halves(forecast: Forecast) -> tuple[Floats, Floats, Floats]:
    """Give the width below the median, the median and the width above it, (B,) each."""
    if forecast.quantiles is None or forecast.quantiles.shape[1] != 3:
        raise ValueError(f"got quantile levels {forecast.levels}, expected a median and a pair about it")
    low, middle, high = forecast.quantiles.astype(np.float64).T
    return np.maximum(middle - low, NARROWEST), middle, np.maximum(high - middle, NARROWEST)
