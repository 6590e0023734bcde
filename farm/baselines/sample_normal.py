"""One normal law for all days: the sample covariance, or Ledoit and Wolf's, pulled towards a sphere."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from farm.base.generative import GenerativeConfig, returns_of
from farm.base.model import MODELS
from farm.base.normal import NormalModel, NormalRegimes
from farm.base.registry import component
from farm.base.search_space import Choice
from farm.base.types import Inputs, Windows

Shrinkage = Literal["none", "ledoit_wolf"]


class SampleNormal(NormalModel):
    """Days drawn from a normal law with the mean and the covariance of the training days.

    Parameters
    ----------
    shrinkage
        ``none``, or that of Ledoit & Wolf 2004, A well-conditioned estimator for large-dimensional
        covariance matrices, Journal of Multivariate Analysis 88(2).
    days
        Of a window that it draws.
    """

    def __init__(self, shrinkage: Shrinkage, days: int) -> None:
        super().__init__(days)
        self._shrinkage = shrinkage

    def fit(self, train: Windows, val: Windows) -> None:
        """Learn from the training days; `val` is not read."""
        from sklearn.covariance import ledoit_wolf  # slow to import

        rows = returns_of(train).block
        covariance = np.cov(rows, rowvar=False, bias=True)
        if self._shrinkage == "ledoit_wolf":
            covariance = ledoit_wolf(rows)[0]
        self.law = NormalRegimes.single(rows.mean(axis=0), covariance)


@component(MODELS)
class SampleNormalConfig(GenerativeConfig):
    """One normal law; `shrinkage` says how its covariance is estimated."""

    name: Literal["sample_normal"] = "sample_normal"
    shrinkage: Annotated[Shrinkage, Choice(("none", "ledoit_wolf"))] = "none"

    def build(self, inputs: Inputs) -> SampleNormal:
        """Make the model."""
        return SampleNormal(self.shrinkage, inputs.lookback)
