"""Direct quantile regressions on the last days' features: a line, boosted trees, a forest.

Each level is estimated on its own (the forest reads all from one distribution), so levels could
cross. They are put in order row by row, which brings them no further from the true quantiles
(rearrangement: Chernozhukov, Fernandez-Val and Galichon 2010, Econometrica 78(3)).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.search_space import Float, Int
from farm.base.types import Floats, Forecast, Inputs, Windows
from farm.baselines.tabular import check_lags, design, freeze, target, thaw

if TYPE_CHECKING:  # imported where a model is fitted: they take a second
    from quantile_forest import RandomForestQuantileRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor


class QuantileEstimator(Estimator):
    """A direct quantile regression.

    Parameters
    ----------
    levels
        The Q quantile levels, increasing; the one nearest to one half is the point forecast.
    lags
        Days of the window to read.
    """

    def __init__(self, levels: tuple[float, ...], lags: int) -> None:
        self._levels = levels
        self._lags = lags

    @abstractmethod
    def _quantiles(self, X: Floats) -> Floats:
        """Map rows to quantiles, (B, Q), that may cross."""

    def predict(self, windows: Windows) -> Forecast:
        """Forecast the quantiles and put them in order.

        Parameters
        ----------
        windows
            B samples.

        Returns
        -------
        Forecast
            Medians, (B,), and quantiles, (B, Q), both float64, in the unit of the target.
        """
        quantiles = np.sort(self._quantiles(design(windows, self._lags)), axis=1)
        median = min(range(len(self._levels)), key=lambda q: abs(self._levels[q] - 0.5))
        return Forecast(point=quantiles[:, median], quantiles=quantiles, levels=self._levels)


class LinearQuantiles(QuantileEstimator):
    """Linear quantile regression, Koenker and Bassett (1978), Econometrica 46(1).

    Solved exactly, as a linear programme.
    """

    _coef: Floats
    _intercept: Floats

    def fit(self, train: Windows, val: Windows) -> None:
        """Solve one linear programme for each level.

        Parameters
        ----------
        train
            Samples with finite features and targets.
        val
            Not read.

        Raises
        ------
        ValueError
            If a feature or a target is NaN or infinite.
        """
        from sklearn.linear_model import QuantileRegressor

        X, y = design(train, self._lags), target(train)
        unit = float(np.std(y)) or 1.0  # the solver's tolerance is absolute, and returns are small
        lines = [QuantileRegressor(quantile=level, alpha=0.0).fit(X, y / unit) for level in self._levels]
        self._coef = unit * np.stack([line.coef_ for line in lines])
        self._intercept = unit * np.array([line.intercept_ for line in lines])

    def _quantiles(self, X: Floats) -> Floats:
        # The order of BLAS's sums changes with the number of rows; a sum of its own does not.
        quantiles: Floats = (X[:, None, :] * self._coef).sum(axis=2) + self._intercept
        return quantiles

    def state(self) -> State:
        """Give the coefficients, (Q, lags * F), and the intercepts, (Q,)."""
        return {"coef": self._coef, "intercept": self._intercept}

    def load_state(self, state: State) -> None:
        """Take coefficients and intercepts back."""
        self._coef, self._intercept = state["coef"], state["intercept"]


class BoostedQuantiles(QuantileEstimator):
    """Trees boosted on the pinball loss, one ensemble a level; see `GradientBoosting` for the method.

    The number of trees of each level is the one, from 1 to `max_iter`, with the least pinball loss on
    the validation block.

    Parameters
    ----------
    levels, lags
        See `QuantileEstimator`.
    learning_rate
        Shrinkage of each tree.
    max_iter
        Most trees.
    max_leaf_nodes
        Most leaves of a tree.
    """

    _ensembles: list[HistGradientBoostingRegressor]

    def __init__(
        self, levels: tuple[float, ...], lags: int, learning_rate: float, max_iter: int, max_leaf_nodes: int
    ) -> None:
        super().__init__(levels, lags)
        self._learning_rate = learning_rate
        self._max_iter = max_iter
        self._max_leaf_nodes = max_leaf_nodes

    def fit(self, train: Windows, val: Windows) -> None:
        """Fit on the training block and choose the numbers of trees on the validation block.

        Parameters
        ----------
        train, val
            Samples with finite targets.

        Raises
        ------
        ValueError
            If a target is NaN or infinite.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.metrics import mean_pinball_loss

        X, y, X_val, y_val = design(train, self._lags), target(train), design(val, self._lags), target(val)

        def boost(level: float, n_trees: int) -> HistGradientBoostingRegressor:
            return HistGradientBoostingRegressor(
                loss="quantile",
                quantile=level,
                learning_rate=self._learning_rate,
                max_iter=n_trees,
                max_leaf_nodes=self._max_leaf_nodes,
                early_stopping=False,
                random_state=0,
            ).fit(X, y)

        self._ensembles = []
        for level in self._levels:
            stages = boost(level, self._max_iter).staged_predict(X_val)
            losses = [mean_pinball_loss(y_val, stage, alpha=level) for stage in stages]
            # The first trees do not depend on how many follow: a second, shorter fit cuts the rest off.
            self._ensembles.append(boost(level, int(np.argmin(losses)) + 1))

    def _quantiles(self, X: Floats) -> Floats:
        return np.stack([ensemble.predict(X) for ensemble in self._ensembles], axis=1)

    def state(self) -> State:
        """Give each level's trees as the bytes of an archive; see `freeze`."""
        return {f"skops.{q}": freeze(ensemble) for q, ensemble in enumerate(self._ensembles)}

    def load_state(self, state: State) -> None:
        """Take the trees back; see `thaw`."""
        self._ensembles = [thaw(state[f"skops.{q}"]) for q in range(len(self._levels))]


class QuantileForest(QuantileEstimator):
    """Quantile regression forest, Meinshausen (2006), Journal of Machine Learning Research 7.

    Parameters
    ----------
    levels, lags
        See `QuantileEstimator`.
    n_estimators
        Trees.
    min_samples_leaf
        Fewest training samples in a leaf.
    max_features
        Share of the features tried at each split.
    """

    _forest: RandomForestQuantileRegressor

    def __init__(
        self,
        levels: tuple[float, ...],
        lags: int,
        n_estimators: int,
        min_samples_leaf: int,
        max_features: float,
    ) -> None:
        super().__init__(levels, lags)
        self._settings = {
            "n_estimators": n_estimators,
            "min_samples_leaf": min_samples_leaf,
            "max_features": max_features,
            "max_samples_leaf": None,  # keep all of a leaf's targets; by default the library keeps one
        }

    def fit(self, train: Windows, val: Windows) -> None:
        """Grow the forest on the training block, always with the same draws.

        Parameters
        ----------
        train
            Samples with finite features and targets.
        val
            Not read.
        """
        from quantile_forest import RandomForestQuantileRegressor

        forest = RandomForestQuantileRegressor(**self._settings, random_state=0)
        self._forest = forest.fit(design(train, self._lags), target(train))

    def _quantiles(self, X: Floats) -> Floats:
        # Each leaf's samples share the weight of their tree, as in the paper's equation 4.
        found = self._forest.predict(X, quantiles=list(self._levels), weighted_leaves=True)
        quantiles: Floats = found.reshape(len(X), -1)
        return quantiles

    def state(self) -> State:
        """Give the forest, with the training targets in its leaves, as the bytes of an archive."""
        return {"skops": freeze(self._forest)}

    def load_state(self, state: State) -> None:
        """Take the forest back; see `thaw`."""
        self._forest = thaw(state["skops"])


class QuantileConfig(ModelConfig):
    """What the configs of direct quantile regressions share.

    Parameters
    ----------
    lags
        Days of the window to read, counted from its end. With two, a back-filling model reads the
        day it fills, of which it sees the peers, and the last day it sees whole, whose volatility
        says how wide its interval must be.
    """

    quantile_levels: ClassVar[tuple[float, ...]] = (0.05, 0.5, 0.95)
    lags: Annotated[int, Int(1, 60)] = 2


@component(MODELS)
class LinearQuantileConfig(QuantileConfig):
    """Linear quantile regression on the last days' features."""

    name: Literal["linear_quantile"] = "linear_quantile"

    def build(self, inputs: Inputs) -> LinearQuantiles:
        """Make the model; `lags` beyond the lookback is a `UserError`."""
        return LinearQuantiles(self.quantile_levels, check_lags(self.name, self.lags, inputs.lookback))


@component(MODELS)
class GradientBoostedQuantilesConfig(QuantileConfig):
    """Trees boosted on the pinball loss, their number chosen on the validation block."""

    name: Literal["gradient_boosted_quantiles"] = "gradient_boosted_quantiles"
    learning_rate: Annotated[float, Float(0.001, 1.0, log=True)] = 0.05
    max_iter: Annotated[int, Int(1, 2000)] = 300
    max_leaf_nodes: Annotated[int, Int(2, 255, log=True)] = 8

    def build(self, inputs: Inputs) -> BoostedQuantiles:
        """Make the model; `lags` beyond the lookback is a `UserError`."""
        return BoostedQuantiles(
            self.quantile_levels,
            check_lags(self.name, self.lags, inputs.lookback),
            self.learning_rate,
            self.max_iter,
            self.max_leaf_nodes,
        )


@component(MODELS)
class QuantileForestConfig(QuantileConfig):
    """Quantile regression forest on the last days' features."""

    name: Literal["quantile_forest"] = "quantile_forest"
    n_estimators: Annotated[int, Int(1, 2000, log=True)] = 200
    min_samples_leaf: Annotated[int, Int(1, 1000, log=True)] = 20
    max_features: Annotated[float, Float(0.05, 1.0)] = 1.0

    def build(self, inputs: Inputs) -> QuantileForest:
        """Make the model; `lags` beyond the lookback is a `UserError`."""
        return QuantileForest(
            self.quantile_levels,
            check_lags(self.name, self.lags, inputs.lookback),
            self.n_estimators,
            self.min_samples_leaf,
            self.max_features,
        )
