"""Surface study: a year of implied-volatility surfaces, generated from the days before it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, final

import numpy as np
from pydantic import model_validator

from farm.base.errors import UserError
from farm.base.model import Model, PathGenerator, ReturnsOracle
from farm.base.registry import component
from farm.base.search_space import Choice, Float, Int
from farm.base.surfaces import Past, Paths, SurfaceInputs, SurfaceWindows
from farm.base.types import Dataset, Floats, Forecast, Windows
from farm.calibration.lead_time import LeadTimeConformal
from farm.data.splits import Blocks, SurfaceSplit
from farm.data.surface import Surfaces
from farm.data.surface_windows import cell_names, surface_dataset
from farm.data.volatility import ewma_volatility
from farm.evaluation.metric import measure
from farm.evaluation.paths import (
    Stretch,
    arbitrage_scores,
    cointegration_scores,
    correlation_score,
    energy_score,
    flatten,
    pass_scores,
    path_block,
    path_subsets,
)
from farm.evaluation.probes import path_causality, warned
from farm.evaluation.regimes import above_quantile, crisis_years
from farm.evaluation.scores import Block, Evaluation, Fitted, Mask, Measured
from farm.models.surface_cvae import SurfaceCVAE
from farm.studies.study import STUDIES, Source, StudyConfig
from farm.training.curriculum import CurriculumConfig
from farm.training.rollout import DeploymentConfig, generate_paths, require_no_gap

SIX_MONTHS = 180  # days of the plan's third gate: two passes of 90
PROBED_DAYS = 5  # that are generated again to see whether they hang on what is to come
VAL_STRIDE, CALIBRATION_STRIDE = 126, 63  # days between the starts of generated stretches there
IN_SAMPLE = "in-sample-crisis"

Generate = Callable[[int, int], Paths]  # given the row of the first day and the days wanted


@component(STUDIES)
@final
class SurfaceStudy(StudyConfig):
    """The surfaces of the next `days` days, generated again and again, each time from a known past.

    The test block is cut into stretches of `days` days, end to end, so that each test day is forecast
    once; the days and where stretches begin depend on neither context nor horizon.

    Parameters
    ----------
    context
        Days that a network reads, C.
    horizon
        Days of a pass of a rollout.
    offset
        Days between the starts of passes in the ranked forecast. At the horizon (the plan's fast
        deployment) passes do not overlap.
    overlap
        The same in the evaluation ``overlap`` (the plan's high quality), where days that several passes
        generate are averaged.
    days
        Days of a stretch: a trading year.
    samples
        Generated paths of a stretch, S.
    spread
        What makes the paths of a network differ; see `DeploymentConfig`.
    crisis
        Which days are a crisis: the years of `farm.evaluation.regimes.CRISES`, or those with an EWMA
        volatility above the share `crisis_quantile` of the training rows.
    crisis_quantile
        See `crisis`.
    split
        How days are cut into blocks.
    """

    name: Literal["surface"] = "surface"
    believable: ClassVar[float] = 0.6  # half of the change of a level that is noise about a known mean
    context: Annotated[int, Int(1, 2000)] = 60
    horizon: Annotated[int, Int(1, 2000)] = 90
    offset: Annotated[int, Int(1, 2000)] = 90
    overlap: Annotated[int, Int(1, 2000)] = 45
    days: Annotated[int, Int(1, 2000)] = 252
    samples: Annotated[int, Int(2, 100_000)] = 200
    spread: Annotated[Literal["latent", "fan"], Choice(("latent", "fan"))] = "fan"
    crisis: Annotated[Literal["years", "volatility"], Choice(("years", "volatility"))] = "years"
    crisis_quantile: Annotated[float, Float(0.5, 0.99)] = 0.8
    split: SurfaceSplit = SurfaceSplit()

    @model_validator(mode="after")
    def _horizon_fits(self) -> SurfaceStudy:
        for name in ("offset", "overlap"):
            require_no_gap(self.horizon, getattr(self, name), f"study surface: {name}")
        if self.split.gap < self.horizon:
            raise UserError(
                f"study surface: horizon {self.horizon} with split.gap {self.split.gap}: expected a gap of at"
                " least the horizon, so that no forecast spans two blocks: raise split.gap"
            )
        return self

    def blocks(self, surfaces: Surfaces) -> Blocks:
        """Cut the days of a record; see `SurfaceSplit`."""
        try:
            blocks = self.split.blocks(len(surfaces))
        except UserError as error:
            raise UserError(f"{surfaces.source}: {error}") from error
        rows = blocks.train.stop - blocks.train.start
        if rows <= self.context:
            raise UserError(
                f"{surfaces.source}: got {rows} days to learn from, expected more than the context of"
                f" {self.context}: give more days or a shorter context"
            )
        return blocks

    def check(self, curriculum: CurriculumConfig, source: Source) -> None:
        """Hold a curriculum to the days there are, before anything is trained.

        Raises
        ------
        UserError
            With the phase and the days that it needs; or if a phase reaches further than the gap
            between two blocks.
        """
        assert isinstance(source, Surfaces)
        try:
            blocks = self.blocks(source)
        except UserError as error:
            name, needed = curriculum.longest(self.context)
            raise UserError(f"{error} ({name} needs {needed} days of training and of validation)") from error
        days = {"training": blocks.train.stop - blocks.train.start}
        days["validation"] = blocks.val.stop - blocks.val.start + self.context
        try:
            curriculum.require_days(self.context, days)
        except UserError as error:
            raise UserError(f"{source.source}: {error}") from error

    def dataset(self, source: Source) -> Dataset:
        """Cut the windows; see `StudyConfig.dataset`."""
        assert isinstance(source, Surfaces)
        return surface_dataset(source, self.context, self.blocks(source))

    def data_digest(self, source: Source) -> str:
        """Digest the surfaces."""
        assert isinstance(source, Surfaces)
        return source.digest

    def evaluate(self, fitted: Fitted) -> Evaluation:
        """Generate the blocks, on test days a year at a time.

        The ranked forecast ``""`` is the change of every cell since the last known day, at the offset
        `offset`. Beside it: ``overlap``, for a network that rolls; ``conformal``, the ranked forecast
        with intervals from the calibration block; ``oracle``, whose latents have read the days, and
        ``known-returns``, which has been told the returns: both flagged. Scores of the crises among the
        training days stand under ``train/in-sample-crisis``; the next day's level under
        ``test/next-day``. See `farm.evaluation.paths` for the names of the rest, and
        `farm.evaluation.probes.path_causality` for what must not move a path.
        """
        model, data = fitted.model, fitted.data
        assert isinstance(data.inputs, SurfaceInputs)
        cells = cell_names(data.inputs)
        tried = self._tried(fitted)
        flat, half = flatten(tried), flatten([stretch.cut(SIX_MONTHS) for stretch in tried])
        blocks = {
            "val": path_block({"": flat}, cells, path_subsets(flat, self.offset, {})),
            "val/six-month": path_block({"": half}, (), path_subsets(half, self.offset, {})),
        }
        if (known := self._in_sample(fitted)) is not None:
            crisis = flatten(known)
            blocks[f"train/{IN_SAMPLE}"] = path_block({"": crisis}, (), path_subsets(crisis, self.offset, {}))
        calibration = data.calibration
        assert isinstance(calibration, SurfaceWindows)
        kept = _stretches(calibration, self.days, CALIBRATION_STRIDE, self._ways(model, calibration)[""])
        conformal, flat = LeadTimeConformal(), flatten(kept)
        conformal.learn(flat.forecast, flat.truth, flat.lead, len(kept))
        blocks["calibration"] = replace(path_block({"": flat}), sampled={})  # it is not scored
        stretches = self._generated(fitted)
        flats = {part: flatten(made) for part, made in stretches.items()}
        ranked = flats[""]
        test = fitted.test
        assert isinstance(test, SurfaceWindows)
        regimes, _ = self._regimes(test.past, data)
        plain = path_block(flats, cells, path_subsets(ranked, self.offset, regimes))
        blocks["test"] = replace(
            plain,
            forecasts={**plain.forecasts, "conformal": self._mended(conformal, stretches[""])},
            # Its passes are its own, not slices of the calendar.
            subsets_of={"overlap": tuple(regimes)},
            calibrated=frozenset({"conformal"}),
        )
        forecast, truth = _next_day(model.predict(test), test)
        blocks["test/next-day"] = Block(test.times, truth, {"": forecast})
        oracles = tuple(part for part, some in stretches.items() if some[0].paths.oracle)
        return Evaluation(blocks, oracles, _drawn(stretches[""], data.inputs))

    def scores_on_validation(self, part: str) -> bool:
        """Return whether validation days are scored by this part; see `StudyConfig.scores_on_validation`."""
        return re.fullmatch(r"(six-month)?/?(pass\d+)?", part) is not None

    def forecast(self, model: Model, windows: Windows) -> Block:
        """Refuse: a year of days is generated from few starts, which costs more than an epoch."""
        raise UserError(
            "study surface: it forecasts no block at once: a curriculum stops on the loss of its phase"
        )

    def probe(self, fitted: Fitted, evaluation: Evaluation) -> Measured:
        """Disturb the days to come."""
        model, test = fitted.model, fitted.test
        assert isinstance(test, SurfaceWindows)
        ranked = evaluation.blocks["test/next-day"]
        seen = path_causality(model, lambda some, row: self._ways(model, some)[""](row, PROBED_DAYS), test)
        return warned(ranked.forecasts[""], ranked.actual, seen, self.believable, {})

    def _generated(self, fitted: Fitted) -> dict[str, list[Stretch]]:
        """Generate the test block in every way."""
        test = fitted.test
        assert isinstance(test, SurfaceWindows)
        ways = self._ways(fitted.model, test)
        return fitted.once(
            "stretches",
            lambda: {part: _stretches(test, self.days, self.days, way) for part, way in ways.items()},
        )

    def _tried(self, fitted: Fitted) -> list[Stretch]:
        """Generate stretches of validation days."""
        val = fitted.data.val
        assert isinstance(val, SurfaceWindows)
        whole = [start for start in range(0, len(val), VAL_STRIDE) if len(val) - start >= self.days]
        way = self._ways(fitted.model, val)[""]
        return fitted.once("tried", lambda: _stretches(val, self.days, VAL_STRIDE, way, whole or [0]))

    def _in_sample(self, fitted: Fitted) -> list[Stretch] | None:
        """Generate the last crisis among the training days, if there is one: the model has learnt from it."""
        train = fitted.data.train
        assert isinstance(train, SurfaceWindows)
        regimes, _ = self._regimes(train.past, fitted.data)
        learnt = np.flatnonzero(regimes["crisis"][train.first :]) + train.first
        learnt = learnt[learnt >= train.position[0]]
        if not len(learnt):
            return None
        breaks = np.flatnonzero(np.diff(learnt) > 21)
        first = int(learnt[breaks[-1] + 1] if len(breaks) else learnt[0])
        starts = list(range(first - train.first, int(learnt[-1]) + 1 - train.first, self.days))
        way = self._ways(fitted.model, train)[""]
        return fitted.once("in sample", lambda: _stretches(train, self.days, self.days, way, starts))

    def measure_paths(self, fitted: Fitted) -> dict[str, float]:
        """Score generated surfaces as such: jointly, by pass, by arbitrage and by cointegration."""
        data, stretches = fitted.data, self._generated(fitted)
        assert isinstance(data.inputs, SurfaceInputs)
        assert isinstance(fitted.test, SurfaceWindows)
        assert isinstance(data.val, SurfaceWindows)
        assert isinstance(data.train, SurfaceWindows)
        made = stretches[""]
        regimes, volatility = self._regimes(fitted.test.past, data)
        scores = {"interval/energy_score": energy_score(made)}
        scores["test/correlation_distance"] = correlation_score(made)
        scores |= pass_scores(stretches["overlap"], "overlap") if "overlap" in stretches else {}
        scores |= arbitrage_scores(made, data.inputs)
        scores |= cointegration_scores(made, volatility, regimes)
        regimes, volatility = self._regimes(data.val.past, data)
        half = [stretch.cut(SIX_MONTHS) for stretch in self._tried(fitted)]
        scores |= cointegration_scores(half, volatility, regimes, "val")
        if (known := self._in_sample(fitted)) is not None:
            regimes, volatility = self._regimes(data.train.past, data)
            scores |= cointegration_scores(known, volatility, {"crisis": regimes["crisis"]}, IN_SAMPLE)
        return scores

    def _mended(self, conformal: LeadTimeConformal, stretches: list[Stretch]) -> Forecast:
        """Widen the intervals of each stretch by what calibration and the stretches before it needed."""
        mended = []
        for flat in map(flatten, ([stretch] for stretch in stretches)):
            mended.append(conformal.apply(flat.forecast, flat.lead))
            weight = max(round(self.days / CALIBRATION_STRIDE), 1)  # as often as calibration paths begin
            conformal.learn(flat.forecast, flat.truth, flat.lead, 1, weight)
        return Forecast(
            np.concatenate([forecast.point for forecast in mended]),
            np.concatenate([forecast.quantiles for forecast in mended if forecast.quantiles is not None]),
            mended[0].levels,
        )

    def _regimes(self, past: Past, data: Dataset) -> tuple[dict[str, Mask], Floats]:
        """Mark the days of each regime, and give the EWMA volatility, (N,) each."""
        train = data.train
        assert isinstance(train, SurfaceWindows)
        volatility = ewma_volatility(past.extra[:, 0])
        learnt = slice(train.first, len(train.past))
        crisis = (
            crisis_years(past.days)
            if self.crisis == "years"
            else above_quantile(volatility, learnt, self.crisis_quantile)
        )
        return {"crisis": crisis, "normal": ~crisis}, volatility

    def _ways(self, model: Model, windows: SurfaceWindows) -> dict[str, Generate]:
        """Give the ways in which a model generates the days from a row on; the first is ranked.

        The seed of a stretch is its row, so models are compared on the same draws.
        """
        if isinstance(model, SurfaceCVAE):
            network = model

            def rolling(offset: int, oracle: bool = False) -> Generate:
                def roll(row: int, days: int) -> Paths:
                    way = DeploymentConfig(days=days, horizon=self.horizon, offset=offset, spread=self.spread)
                    truth = windows.past.vectors[row : row + days] if oracle else None
                    return generate_paths(network, windows.before(row), way, self.samples, row, truth)

                return roll

            ways = {"": rolling(self.offset), "oracle": rolling(self.offset, oracle=True)}
            return ways if self.overlap == self.offset else {**ways, "overlap": rolling(self.overlap)}
        if not isinstance(model, PathGenerator):
            raise UserError(
                f"study surface: {type(model).__name__} generates no surfaces: expected a model of surfaces"
            )
        generator = model
        ways = {"": lambda row, days: generator.generate(windows.before(row), days, self.samples, row)}
        if isinstance(model, ReturnsOracle):
            oracle = model

            def knowing(row: int, days: int) -> Paths:
                returns = windows.past.extra[row : row + days, 0]
                return oracle.generate_knowing(windows.before(row), returns, self.samples, row)

            ways["known-returns"] = knowing
        return ways


@measure("model", study="surface")
def generated_paths(fitted: Fitted, evaluation: Evaluation) -> dict[str, float]:
    """Score generated surfaces; see `SurfaceStudy.measure_paths`."""
    found: dict[str, float] = fitted.study.measure_paths(fitted)
    return found


def _stretches(
    windows: SurfaceWindows, days: int, stride: int, way: Generate, starts: Iterable[int] | None = None
) -> list[Stretch]:
    """Generate stretches of a block.

    Parameters
    ----------
    windows
        The block.
    days
        Days of a stretch; one that reaches the end of the block is cut there.
    stride
        Days between the starts of two.
    way
        Generates.
    starts
        First days, counted from the beginning of the block; by default every `stride` days.
    """
    past, size = windows.past, len(windows.block)
    made = []
    for start in range(0, size, stride) if starts is None else starts:
        row, stop = windows.first + start, windows.first + min(start + days, size)
        made.append(
            Stretch(
                row,
                past.days[row:stop],
                past.days[row - 1],
                past.surface[row - 1],
                past.surface[row:stop],
                way(row, stop - row),
            )
        )
    return made


def _next_day(forecast: Forecast, test: SurfaceWindows) -> tuple[Forecast, Floats]:
    """Take a forecast of the next day's level and the truth as changes from the day before."""
    last = test.series[test.position - 1]
    quantiles = None if forecast.quantiles is None else forecast.quantiles - last[:, None]
    return replace(forecast, point=forecast.point - last, quantiles=quantiles), test.truth - last


def _drawn(stretches: list[Stretch], inputs: SurfaceInputs) -> dict[str, Floats]:
    """Keep what pictures need beside the forecasts.

    ``last``: the last known volatilities of each stretch, (stretches, G); ``lengths``: its days;
    ``grid``: W, M, row and column of the level; ``level_paths``: a few paths of the level, (few, days).
    """
    few = np.concatenate(
        [stretch.samples[:3, :, inputs.level[0], inputs.level[1]] for stretch in stretches], axis=1
    )
    return {
        "last": np.stack([stretch.last.ravel() for stretch in stretches]),
        "lengths": np.array([float(len(stretch.truth)) for stretch in stretches]),
        "grid": np.array([*inputs.grid, *inputs.level], dtype=np.float64),
        "level_paths": few.astype(np.float64),
    }
