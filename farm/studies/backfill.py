"""Back-filling study: the missing return of one asset from its peers' bars of the same day."""

from __future__ import annotations

from typing import Annotated, Literal, final

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from farm.base.config import listed
from farm.base.errors import UserError
from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.types import Dataset, Floats, Inputs, Latents, Windows
from farm.calibration.calibrator import LEVELS, AnyCalibrator, require_rows, taught
from farm.calibration.conformal import AciConfig, CqrConfig, CqrScaledConfig
from farm.calibration.temperature import TemperatureConfig
from farm.calibration.uncertainty import ForestConfig
from farm.data.features import CHANNELS, ROLLING, channel_table
from farm.data.panel import Bars, Panel
from farm.data.splits import Calibrated, FourWay
from farm.data.windows import next_window, same_day_dataset
from farm.evaluation.latent import collapse, compare_latents
from farm.evaluation.metric import measure
from farm.evaluation.probes import asset_groups, ignores_peers, probe
from farm.evaluation.regimes import volatile_quarter
from farm.evaluation.scores import Block, Evaluation, Fitted, Measured
from farm.models.network import LatentNetwork, Scenario
from farm.studies.study import STUDIES, Ahead

ORACLES: tuple[Scenario, ...] = ("s1", "s2")  # scenarios that see the truth, on all days or on some


@component(STUDIES)
@final
class BackfillStudy(Ahead):
    """Log return of the target on day T+1 from the days up to T and the peers' day T+1.

    Parameters
    ----------
    ticker
        The target: whose return is missing.
    peers
        The assets whose bars of day T+1 are known.
    context
        Days up to T in a window.
    split
        How the samples are cut into blocks.
    calibrators
        What mends the intervals of every model after training, from the calibration block. The
        first one also mends each scenario of a model with a latent.
    """

    believable = 0.99  # an index is nearly the sum of its peers
    VERSION = 2  # 2: intervals are scored on the validation block too

    name: Literal["backfill"] = "backfill"
    ticker: str
    peers: Annotated[tuple[str, ...], BeforeValidator(listed), Field(min_length=1)]
    context: Annotated[int, Int(1, 250)] = 5
    split: FourWay = Calibrated()
    calibrators: Annotated[tuple[AnyCalibrator, ...], BeforeValidator(listed)] = (
        CqrConfig(),
        CqrScaledConfig(),
        AciConfig(),
        TemperatureConfig(),
        ForestConfig(),
    )

    @model_validator(mode="after")
    def _peers_are_others(self) -> BackfillStudy:
        if self.ticker in self.peers or len(set(self.peers)) < len(self.peers):
            raise UserError(
                f"target {self.ticker} with peers {', '.join(self.peers)}: expected peers other than the"
                " target, each once: correct --target or --peers"
            )
        return self

    def tickers(self) -> tuple[str, ...]:
        """Name the target and its peers."""
        return (self.ticker, *self.peers)

    def cut(self, panel: Panel) -> Dataset:
        """Cut the windows; see `StudyConfig.dataset`."""
        try:
            table = channel_table({name: panel.bars[name] for name in self.tickers()})
            dates = table.index.to_numpy().astype("datetime64[D]")
            if len(table) <= self.context:
                raise UserError(
                    f"got {len(table)} usable rows, expected more than the context of {self.context}:"
                    " give a longer panel"
                )
            blocks = self.split.blocks(dates[self.context :], gap=1)
            for calibrator in self.calibrators:
                rows = blocks.calibration.stop - blocks.calibration.start
                require_rows(calibrator.name, LEVELS, rows)
            return same_day_dataset(
                table.to_numpy(), dates, tuple(table.columns), self.context, len(CHANNELS), blocks
            )
        except UserError as error:
            raise UserError(f"target {self.ticker}, peers {', '.join(self.peers)}: {error}") from error

    @property
    def days_needed(self) -> int:
        """Count the days of a window and those behind its first one."""
        return self.context + 1 + ROLLING

    def inputs(self, mean: Floats, scale: Floats) -> Inputs:
        """Describe the windows; see `Ahead.inputs`."""
        names = tuple(f"{asset}/{channel}" for asset in self.tickers() for channel in CHANNELS)
        return Inputs(names, self.context + 1, mean, scale)

    def ahead(self, panel: Panel, inputs: Inputs) -> Windows:
        """Cut the window of the last day that all peers share, with the target hidden; see `Ahead.ahead`.

        The target's bar of that day is not needed, and not read where it is there.
        """
        peers = {name: panel.bars[name] for name in self.peers}
        day = min(bars.dates[-1] for bars in peers.values())
        own = panel.bars[self.ticker]
        before = int(np.searchsorted(own.dates, day))
        if before == 0:
            raise UserError(f"target {self.ticker}: got no day before {day}, expected some: give more days")
        # Some bar must stand there for the days to be shared: the one before, which is hidden.
        rows = [*range(before), before - 1]
        standing = Bars(np.append(own.dates[:before], day), own.values[rows])
        try:
            table = channel_table({self.ticker: standing, **peers})
            days = table.index.to_numpy().astype("datetime64[D]")
            known = table.iloc[:-1, 0].to_numpy()
            return next_window(table.to_numpy(), known, days, inputs, hidden=len(CHANNELS))
        except UserError as error:
            raise UserError(f"target {self.ticker}, peers {', '.join(self.peers)}: {error}") from error

    def evaluate(self, fitted: Fitted) -> Evaluation:
        """Forecast the blocks: on the test block the ranked forecast, its calibrations and scenarios.

        The ranked forecast is `Model.predict`, which for a model with a latent is scenario ``s4``: it
        alone of the realistic ones sees all that is known. Its metrics have plain names
        (``test/rmse``); those of a scenario or a calibrator name it (``test/s3/rmse``,
        ``interval/cqr/violations``, ``interval/s3/cqr/violations``), and ``.../volatile/...`` are
        those of the most volatile quarter of the days. The scenarios of `ORACLES` have seen the
        truth and are flagged.
        """
        model, data = fitted.model, fitted.data
        calibration = data.calibration
        assert calibration is not None  # `dataset` makes one
        blocks = {"val": self.forecast(model, data.val)}
        before = {"": model.predict(calibration)}
        if isinstance(model, LatentNetwork):
            before |= {name: model.scenario(calibration, name) for name in model.scenarios}
        blocks["calibration"] = Block(calibration.times, calibration.truth, before)
        mended = {
            # Of a scenario the first calibrator alone.
            name: taught(self.calibrators[: 1 if name else None], forecast, calibration)
            for name, forecast in before.items()
        }
        test = fitted.test
        forecasts = {"": model.predict(test)}
        if isinstance(model, LatentNetwork):
            forecasts |= {name: model.scenario(test, name) for name in model.scenarios}
        for name, calibrators in mended.items():
            for kind, calibrator in calibrators.items():
                part = f"{name}/{kind}" if name else kind
                forecasts[part] = calibrator.apply(forecasts[name], test)
        blocks["test"] = Block(
            test.times,
            test.truth,
            forecasts,
            subsets={"volatile": volatile_quarter(test)},
            calibrated=frozenset(forecasts) - frozenset(before),
        )
        arrays: dict[str, Floats] = {}
        if isinstance(model, LatentNetwork):
            arrays["returns"] = self.returns(fitted)
            latents = self.latents(fitted)
            arrays |= {f"latent/{name}": latents[name].mean for name in model.scenarios if name != "s2"}
        oracles = tuple(part for part in forecasts if part.split("/")[0] in ORACLES)
        return Evaluation(blocks, oracles, arrays)

    def probe(self, fitted: Fitted, evaluation: Evaluation) -> Measured:
        """Disturb what the model reads, asset by asset."""
        test = fitted.test
        groups = asset_groups(test.features, fitted.data.inputs.lookback, self.ticker)
        found = probe(fitted.model, test, evaluation.test.forecasts[""], groups, self.believable)
        # What reads no peers by design needs no warning of it.
        ignored = ignores_peers(found.values) if fitted.model.reads_windows else ""
        return Measured(found.values, {**found.warnings, "ignores the peers": ignored})

    def latents(self, fitted: Fitted) -> dict[str, Latents]:
        """Encode the test block in every scenario but that of both."""
        model, test = fitted.model, fitted.test
        assert isinstance(model, LatentNetwork)
        names = [name for name in model.scenarios if name != "s2"]
        return fitted.once("latents", lambda: {name: model.latent(test, name) for name in names})

    def returns(self, fitted: Fitted) -> Floats:
        """Return the returns of the target and its peers on the last day of each window, (B, N), unscaled."""
        windows, inputs = fitted.test, fitted.data.inputs
        columns = np.arange(1, len(self.peers) + 1) * len(CHANNELS)
        peers = windows.x[:, -1, columns].astype(np.float64) * inputs.scale[columns] + inputs.mean[columns]
        return np.column_stack([windows.truth, peers])


@measure("model", study="backfill", requires=LatentNetwork)
def latents_of_scenarios(fitted: Fitted, evaluation: Evaluation) -> Measured:
    """Describe the latents without the target beside those that saw it; see `compare_latents`."""
    study = fitted.study
    latents = study.latents(fitted)
    values = compare_latents(latents["s4"], latents["s1"], study.returns(fitted), study.tickers())
    return Measured(values, {"latent collapsed": collapse(latents["s1"])})
