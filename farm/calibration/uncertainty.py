"""A separate model of uncertainty: a quantile forest on the residuals of the point forecast."""

from __future__ import annotations

from typing import Annotated, Literal, final

import numpy as np

from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.types import Floats, Forecast, Windows
from farm.calibration.calibrator import (
    CALIBRATORS,
    Calibrator,
    CalibratorConfig,
    Levels,
    quantiles_of,
    require_rows,
    truth_of,
)
from farm.calibration.volatility import ewma_volatility


def conditions(windows: Windows) -> Floats:
    """Give what the size of an error may depend on: the last row of the inputs and the volatility.

    Returns
    -------
    Floats
        (B, F + 1) float64.
    """
    return np.column_stack([windows.x[:, -1, :].astype(np.float64), ewma_volatility(windows)])


class ResidualForest(Calibrator):
    """Quantiles of the residual from a quantile regression forest [1]_, laid around the point forecast.

    It is grown on the residuals of the calibration block. Those of the training block are more
    numerous, but a model that has seen their truths errs less on them than it will. The quantiles that
    the model came with are dropped: forecasts of points alone are welcome. The median moves with the
    rest, by the median residual. Trees are grown on the residual and its absolute value together: splits
    by the mean of the residual alone, as in [1]_, find a change of its spread only by chance.

    A forest averages what it has seen: it knows no residual larger than those of its block, and
    promises no coverage.

    Parameters
    ----------
    trees
        Number of trees.
    min_leaf
        Fewest samples in a leaf. Each leaf keeps all of its samples, as in [1]_.
    seed
        Decides the bootstrap samples and the features tried at each split; equal seeds give equal bits.

    References
    ----------
    .. [1] Meinshausen (2006), Quantile Regression Forests, JMLR 7.
    """

    _levels: Levels

    def __init__(self, trees: int, min_leaf: int, seed: int) -> None:
        from quantile_forest import RandomForestQuantileRegressor  # slow to import

        self._forest = RandomForestQuantileRegressor(
            n_estimators=trees,
            min_samples_leaf=min_leaf,
            max_samples_leaf=None,
            max_features=1 / 3,
            random_state=seed,
            n_jobs=1,
        )

    def fit(self, forecast: Forecast, windows: Windows) -> None:
        """Grow the forest; see `Calibrator.fit`."""
        _, self._levels = quantiles_of(forecast)
        require_rows("forest", self._levels, len(windows))
        residual = truth_of(windows) - forecast.point.astype(np.float64)
        self._forest.fit(conditions(windows), np.column_stack([residual, np.abs(residual)]))

    def apply(self, forecast: Forecast, windows: Windows) -> Forecast:
        """Lay the quantiles of the residual around each point; see `Calibrator.apply`."""
        _, levels = quantiles_of(forecast)
        if levels != self._levels:
            raise ValueError(f"got levels {levels}, expected those of the calibration block, {self._levels}")
        residual = self._forest.predict(conditions(windows), quantiles=list(levels))[:, 0]
        return Forecast(forecast.point, forecast.point.astype(np.float64)[:, None] + residual, levels)


@component(CALIBRATORS)
@final
class ForestConfig(CalibratorConfig):
    """A quantile forest on residuals, in place of the model's own quantiles.

    Parameters
    ----------
    trees, min_leaf, seed
        See `ResidualForest`.
    """

    name: Literal["forest"] = "forest"
    trees: Annotated[int, Int(10, 2000)] = 200
    min_leaf: Annotated[int, Int(1, 1000)] = 20
    seed: Annotated[int, Int(0, 2**31 - 1)] = 0

    def build(self) -> ResidualForest:
        """Make the calibrator."""
        return ResidualForest(self.trees, self.min_leaf, self.seed)
