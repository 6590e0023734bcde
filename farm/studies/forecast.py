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
from farm.evaluation.distribution import log_score, log_score_name, pit
from farm.evaluation.metric import evaluate, metric_name
from farm.evaluation.probes import channel_groups, probe
from farm.evaluation.regimes import volatile_quarter
from farm.evaluation.value_at_risk import risk_scores
from farm.models.pretrained import LEAK, Pretrained
from farm.models.refitted import Refitted
from farm.studies.study import STUDIES, Ahead, Evaluation


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

    VERSION = 2  # 2: exact p-values of backtests, log scores by their kind

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

    def evaluate(self, model: Model, data: Dataset) -> Evaluation:
        """Score the test block: the ranked forecast as it comes, and each of its calibrations.

        The scores of a calibrator name it (``interval/cqr/violations``); those with ``volatile`` in their
        name are of the most volatile quarter of the days. A forecast with quantiles also has a log score,
        named after its kind (`farm.evaluation.distribution.log_score_name`), backtests of its Value-at-Risk
        (``risk/var1_kupiec_p``) and, among the arrays, its probability integral transform.
        """
        scores = evaluate(model.predict(data.val), data.val.truth, block="val")
        calibrators = {}
        if data.calibration is not None and self.calibrators:
            calibrators = taught(self.calibrators, model.predict(data.calibration), data.calibration)
        test = data.open_test()
        forecasts = {"": model.predict(test)}
        forecasts |= {name: mend.apply(forecasts[""], test) for name, mend in calibrators.items()}
        volatile, truth = volatile_quarter(test), test.truth
        arrays = {"volatile": volatile.astype("float64")}
        for part, forecast in forecasts.items():
            wild = f"{part}/volatile".lstrip("/")
            found = evaluate(forecast, truth, part=part)
            found |= evaluate(forecast, truth, part=wild, keep=volatile)
            # A calibrator leaves the points alone, so their scores are those of the raw forecast.
            scores |= {key: value for key, value in found.items() if not part or key.startswith("interval/")}
            if forecast.quantiles is None:
                continue
            kind = log_score_name(forecast)
            scores[metric_name("interval", part, kind)] = log_score(forecast, truth)
            scores[metric_name("interval", wild, kind)] = log_score(forecast.take(volatile), truth[volatile])
            risk = risk_scores(forecast, truth)
            scores |= {metric_name("risk", part, name): value for name, value in risk.items()}
            arrays[f"pit/{part}"] = pit(forecast, truth)
        one = model.fits[-1] if isinstance(model, Refitted) else model
        pretrained = isinstance(one, Pretrained)  # it reads the series alone, so it relies on no feature
        groups = {} if pretrained else channel_groups(test.features, data.inputs.lookback)
        probed, tags = probe(model, test, forecasts[""], groups, self.believable)
        tags |= {"may have seen the test days": LEAK} if pretrained else {}
        return Evaluation(scores | probed, test.times, truth, forecasts, tags, arrays=arrays)
