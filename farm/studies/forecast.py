"""Forecast study: tomorrow's log return of one ticker from the days before."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import BeforeValidator

from farm.base.errors import UserError
from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.types import Dataset
from farm.data.features import FEATURE_SETS, daily_features, expand
from farm.data.panel import Panel
from farm.data.splits import Chronological
from farm.data.windows import next_step_dataset
from farm.studies.study import STUDIES, PanelStudy


@component(STUDIES)
@final
class ForecastStudy(PanelStudy):
    """Next-day log return, unscaled, from a window of daily features.

    Parameters
    ----------
    ticker
        Whose return is forecast.
    market
        The index behind the feature `mkt_return`.
    features
        Name of a feature set (raw, ohlcv, feat) or feature names.
    lookback
        Days in a window.
    split
        How the samples are cut into blocks.
    """

    name: Literal["forecast"] = "forecast"
    ticker: str
    market: str
    features: Annotated[tuple[str, ...], BeforeValidator(expand)] = FEATURE_SETS["feat"]
    lookback: Annotated[int, Int(1, 1000)] = 20
    split: Chronological = Chronological()

    def tickers(self) -> tuple[str, ...]:
        """Name the ticker and its market."""
        return (self.ticker, self.market)

    def cut(self, panel: Panel) -> Dataset:
        """Cut the windows; see `StudyConfig.dataset`."""
        try:
            table = daily_features(panel.bars[self.ticker], panel.bars[self.market])
            return next_step_dataset(
                table[list(self.features)].to_numpy(),
                table["log_return"].to_numpy(),
                table.index.to_numpy().astype("datetime64[D]"),
                self.features,
                self.lookback,
                self.split,
            )
        except UserError as error:
            raise UserError(f"ticker {self.ticker}, market {self.market}: {error}") from error
