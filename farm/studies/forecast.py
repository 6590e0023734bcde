"""Forecast study: tomorrow's log return of one ticker from the days before."""

from __future__ import annotations

from typing import Annotated, Literal, Self, final

from pydantic import BeforeValidator, model_validator

from farm.base.config import listed
from farm.base.errors import UserError
from farm.base.model import Model
from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.types import RISK_LEVELS, Dataset, Floats, Inputs, Windows
from farm.calibration.calibrator import AnyCalibrator, require_rows, taught
from farm.data.features import FEATURE_SETS, ROLLING, daily_features, expand
from farm.data.panel import Panel
from farm.data.splits import Calibrated, Chronological, NextStep
from farm.data.windows import next_step_dataset, next_window
from farm.evaluation.distribution import pit
from farm.evaluation.probes import channel_groups, probe
from farm.evaluation.regimes import volatile_quarter
from farm.evaluation.scores import Block, Evaluation, Fitted, Measured
from farm.models.pretrained import LEAK, Pretrained
from farm.models.refitted import Refitted
from farm.studies.study import STUDIES, Ahead


@component(STUDIES)
@final
class ForecastStudy(Ahead):
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
    calibrators
        What mends the intervals of every model after training, from the calibration block of a split
        that has one.
    """

    name: Literal["forecast"] = "forecast"
    ticker: str
    market: str
    features: Annotated[tuple[str, ...], BeforeValidator(expand)] = FEATURE_SETS["feat"]
    lookback: Annotated[int, Int(1, 1000)] = 20
    split: NextStep = Chronological()
    calibrators: Annotated[tuple[AnyCalibrator, ...], BeforeValidator(listed)] = ()

    @model_validator(mode="after")
    def _calibrators_have_a_block(self) -> Self:
        if self.calibrators and not isinstance(self.split, Calibrated):
            raise UserError(
                f"study forecast: got the calibrator {self.calibrators[0].name} with the split"
                f" {self.split.name}, expected one with a calibration block: set study.split.name to"
                " calibrated"
            )
        return self

    def tickers(self) -> tuple[str, ...]:
        """Name the ticker and its market."""
        return (self.ticker, self.market)

    def cut(self, panel: Panel) -> Dataset:
        """Cut the windows; see `StudyConfig.dataset`."""
        try:
            table = daily_features(panel.bars[self.ticker], panel.bars[self.market])
            data = next_step_dataset(
                table[list(self.features)].to_numpy(),
                table["log_return"].to_numpy(),
                table.index.to_numpy().astype("datetime64[D]"),
                self.features,
                self.lookback,
                self.split,
            )
            for calibrator in self.calibrators:
                assert data.calibration is not None  # the split has a block for them
                require_rows(calibrator.name, RISK_LEVELS, len(data.calibration))
        except UserError as error:
            raise UserError(f"ticker {self.ticker}, market {self.market}: {error}") from error
        return data

    @property
    def days_needed(self) -> int:
        """Count the days of a window and those behind its first one."""
        return self.lookback + ROLLING

    def inputs(self, mean: Floats, scale: Floats) -> Inputs:
        """Describe the windows; see `Ahead.inputs`."""
        return Inputs(self.features, self.lookback, mean, scale)

    def ahead(self, panel: Panel, inputs: Inputs) -> Windows:
        """Cut the window from which the day after the last shared one is forecast; see `Ahead.ahead`."""
        try:
            table = daily_features(panel.bars[self.ticker], panel.bars[self.market])
            days = table.index.to_numpy().astype("datetime64[D]")
            returns = table["log_return"].to_numpy()
            return next_window(table[list(self.features)].to_numpy(), returns, days, inputs)
        except UserError as error:
            raise UserError(f"ticker {self.ticker}, market {self.market}: {error}") from error

    def evaluate(self, fitted: Fitted) -> Evaluation:
        """Forecast the blocks: the ranked forecast of the test block as it comes, and each calibration.

        The scores of a calibrator name it (``interval/cqr/violations``); those with ``volatile`` in their
        name are of the most volatile quarter of the days. A forecast with quantiles also has backtests of
        its Value-at-Risk (``risk/var1_kupiec_p``) and, among the arrays, its probability integral
        transform.
        """
        model, data = fitted.model, fitted.data
        blocks = {"val": self.forecast(model, data.val)}
        calibrators = {}
        if data.calibration is not None:
            blocks["calibration"] = self.forecast(model, data.calibration)
            raw = blocks["calibration"].forecasts[""]
            calibrators = taught(self.calibrators, raw, data.calibration) if self.calibrators else {}
        test = fitted.test
        forecasts = {"": model.predict(test)}
        forecasts |= {name: mend.apply(forecasts[""], test) for name, mend in calibrators.items()}
        volatile, truth = volatile_quarter(test), test.truth
        arrays = {"volatile": volatile.astype("float64")}
        arrays |= {f"pit/{part}": pit(f, truth) for part, f in forecasts.items() if f.quantiles is not None}
        blocks["test"] = Block(
            test.times,
            truth,
            forecasts,
            subsets={"volatile": volatile},
            calibrated=frozenset(calibrators),
        )
        leak = {"may have seen the test days": LEAK} if _is_pretrained(model) else {}
        return Evaluation(blocks, arrays=arrays, notes=leak)

    def probe(self, fitted: Fitted, evaluation: Evaluation) -> Measured:
        """Disturb what the model reads; one that reads the series alone relies on no feature."""
        test = fitted.test
        pretrained = _is_pretrained(fitted.model)
        groups = {} if pretrained else channel_groups(test.features, fitted.data.inputs.lookback)
        return probe(fitted.model, test, evaluation.test.forecasts[""], groups, self.believable)


def _is_pretrained(model: Model) -> bool:
    return isinstance(model.fits[-1] if isinstance(model, Refitted) else model, Pretrained)
