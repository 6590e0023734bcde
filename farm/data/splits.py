"""Chronological blocks with a purge gap between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from farm.base.config import Config
from farm.base.errors import UserError
from farm.base.search_space import Float, Int
from farm.base.types import Dates


class Chronological(Config):
    """Training, validation and test blocks in order of time.

    Parameters
    ----------
    train, val
        Shares of the samples; the test block takes the rest.
    min_rows
        Fewest samples that each block must have.
    """

    name: Literal["chronological"] = "chronological"
    train: Annotated[float, Float(0.1, 0.9)] = 0.70
    val: Annotated[float, Float(0.01, 0.5)] = 0.10
    min_rows: Annotated[int, Int(2, 1_000_000)] = Field(default=20)

    @model_validator(mode="after")
    def _leaves_a_test_block(self) -> Self:
        if self.train + self.val >= 0.99:
            raise UserError(
                f"split: train {self.train} and val {self.val} leave no test block;"
                " their sum must be below 0.99"
            )
        return self

    def blocks(self, n: int, gap: int) -> tuple[slice, slice, slice]:
        """Cut n samples into three blocks, leaving `gap` samples out before each later one.

        A target that spans `gap` days then never lies in two blocks (purging, Lopez de Prado 2018,
        ch. 7).

        Parameters
        ----------
        n
            Number of samples.
        gap
            Samples left out at each boundary: the forecast horizon.

        Returns
        -------
        tuple of slice
            Training, validation and test rows.

        Raises
        ------
        UserError
            If a block has fewer than `min_rows` samples.
        """
        first, second = int(n * self.train), int(n * (self.train + self.val))
        blocks = slice(0, first), slice(first + gap, second), slice(second + gap, n)
        for name, block in zip(("training", "validation", "test"), blocks, strict=True):
            rows = max(block.stop - block.start, 0)
            if rows < self.min_rows:
                raise UserError(
                    f"too few rows for the {name} block: got {rows} of {n}, expected at least"
                    f" {self.min_rows}: give a longer panel or change study.split"
                )
        return blocks


@dataclass(frozen=True)
class Blocks:
    """Rows of the four blocks of a study that calibrates."""

    train: slice
    val: slice
    calibration: slice
    test: slice

    def checked(self, n: int, min_rows: int) -> Self:
        """Hold every block to a least size.

        Raises
        ------
        UserError
            If one has fewer than `min_rows` samples.
        """
        for name, block in vars(self).items():
            rows = max(block.stop - block.start, 0)
            if rows < min_rows:
                raise UserError(
                    f"too few rows for the {name} block: got {rows} of {n}, expected at least {min_rows}:"
                    " give a longer panel or change study.split"
                )
        return self


class Calibrated(Config):
    """Training, validation, calibration and test blocks in order of time.

    Parameters
    ----------
    train, val, calibration
        Shares of the samples; the test block takes the rest.
    min_rows
        Fewest samples that each block must have.
    """

    name: Literal["calibrated"] = "calibrated"
    train: Annotated[float, Float(0.1, 0.9)] = 0.60
    val: Annotated[float, Float(0.01, 0.5)] = 0.10
    calibration: Annotated[float, Float(0.01, 0.5)] = 0.10
    min_rows: Annotated[int, Int(2, 1_000_000)] = 20

    @model_validator(mode="after")
    def _leaves_a_test_block(self) -> Self:
        shares = self.train + self.val + self.calibration
        if shares >= 0.99:
            raise UserError(
                f"split: train {self.train}, val {self.val} and calibration {self.calibration} leave no"
                " test block; their sum must be below 0.99"
            )
        return self

    def blocks(self, times: Dates, gap: int) -> Blocks:
        """Cut samples, leaving `gap` of them out before each later block; see `Chronological.blocks`."""
        n = len(times)
        ends = [int(n * share) for share in np.cumsum([self.train, self.val, self.calibration])]
        return Blocks(
            slice(0, ends[0]),
            slice(ends[0] + gap, ends[1]),
            slice(ends[1] + gap, ends[2]),
            slice(ends[2] + gap, n),
        ).checked(n, self.min_rows)


class WalkForward(Config):
    """Test blocks that follow each other, each with a fit of its own on all that lies before it.

    The window that a model learns from begins with the first sample and grows (expanding windows). Its
    last part is the validation block; the test block comes after a gap. The next window takes the days
    that were just tested into what it learns from, so every test day is forecast once, by a model that
    knew nothing after it.

    Parameters
    ----------
    windows
        How many, each a fit.
    first
        Share of the samples before the first test block; the test blocks divide the rest evenly.
    val
        Share of the samples before a test block that its window validates on.
    min_rows
        Fewest samples that each block must have.
    """

    name: Literal["walk_forward"] = "walk_forward"
    windows: Annotated[int, Int(1, 1000)] = 4
    first: Annotated[float, Float(0.05, 0.95)] = 0.50
    val: Annotated[float, Float(0.01, 0.5)] = 0.10
    min_rows: Annotated[int, Int(2, 1_000_000)] = 20

    def blocks(self, n: int, gap: int) -> tuple[tuple[slice, slice, slice], ...]:
        """Cut n samples, leaving `gap` of them out before each validation and each test block.

        Parameters
        ----------
        n
            Number of samples.
        gap
            Samples left out, at least the forecast horizon: a target that spans `gap` days then never lies
            in two blocks of one window (purging, Lopez de Prado 2018, ch. 7).

        Returns
        -------
        tuple
            Training, validation and test rows of each window. The test blocks touch: between them nothing
            is learnt.

        Raises
        ------
        UserError
            If a block has fewer than `min_rows` samples, with how many days are missing.
        """
        windows = self._cut(n, gap)
        if not self._lacks(windows):
            return windows
        needed = n
        while lacking := self._lacks(self._cut(needed, gap)):
            needed += lacking  # a further row adds at most one to a block
        raise UserError(
            f"too few days for {self.windows} walk-forward windows with blocks of at least {self.min_rows}"
            f" rows: got {n} rows, expected at least {needed}: give a panel {needed - n} days longer, or"
            " change study.split"
        )

    def _cut(self, n: int, gap: int) -> tuple[tuple[slice, slice, slice], ...]:
        first = int(n * self.first)
        edges = [first + (n - first) * k // self.windows for k in range(self.windows + 1)]
        windows = []
        for start, stop in pairwise(edges):
            known = start - gap
            learnt = known - int(start * self.val)
            windows.append((slice(0, learnt - gap), slice(learnt, known), slice(start, stop)))
        return tuple(windows)

    def _lacks(self, windows: tuple[tuple[slice, slice, slice], ...]) -> int:
        """Count the rows that the smallest block lacks."""
        smallest = min(block.stop - block.start for window in windows for block in window)
        lacking: int = max(self.min_rows - smallest, 0)
        return lacking


class ReportProtocol(Config):
    """The protocol of the report on the failed back-filling model, so that its numbers compare.

    The test block begins on a fixed day; baselines are fitted on its first half and everything is scored on
    its second. Networks learn from what lies before the block. So ``teach`` differs between the rows of a
    table, and the scored days do not. The report itself seems to have scored its network on the whole
    block: its percentages are counts out of 800 days, those of its baselines out of 400.

    Parameters
    ----------
    start
        First day of the test block. The provenance of the data says row 5005 of the log returns from
        2000-01-03 on; the baselines' figures come out from row 5024, where the first full window of 20
        days after it ends.
    teach
        ``"before"``: learn from the days before the block. ``"first_half"``: from its first half.
        Validation and calibration blocks lie before `start` either way, so that the first half is
        whole, as in the report, and no model has learnt from the days that calibrate it.
    val, calibration
        Their shares of the samples before `start`, cut from the end of them.
    min_rows
        Fewest samples that each block must have.
    """

    name: Literal["report"] = "report"
    start: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] = "2019-12-20"
    teach: Literal["before", "first_half"] = "before"
    val: Annotated[float, Float(0.01, 0.4)] = 0.10
    calibration: Annotated[float, Float(0.01, 0.4)] = 0.10
    min_rows: Annotated[int, Int(2, 1_000_000)] = 20

    def blocks(self, times: Dates, gap: int) -> Blocks:
        """Cut samples at `start`, leaving `gap` of them out before each block that lies before it."""
        n = len(times)
        first = int(np.searchsorted(times, np.datetime64(self.start, "D")))
        half = first + (n - first) // 2
        last_train = int(first * (1 - self.val - self.calibration))
        last_val = int(first * (1 - self.calibration))
        # The two halves touch, as in the report: the last target of one and the first of the other
        # are returns of different days.
        return Blocks(
            slice(first, half) if self.teach == "first_half" else slice(0, last_train),
            slice(last_train + gap, last_val),
            slice(last_val + gap, first - gap),
            slice(half, n),
        ).checked(n, self.min_rows)


class SurfaceSplit(Config):
    """Blocks of days of surfaces: the last days test, those before calibrate, validate and teach.

    The blocks are cut from the end, so the test days depend on nothing but the record and this config.
    On the 8,312 days of the bundled simulation the defaults give the plan's training rows, 1000 to
    5000 (1993-12 to 2009-11), then 600 days of validation, 1,091 of calibration and the last 1,260 (five
    years, 2020 among them) for the test. On a short record the least sizes count, and the training
    block gives way.

    Parameters
    ----------
    val, calibration, test
        Shares of the days.
    least_val, least_calibration, least_test
        Fewest days of these blocks, whatever their share. The first is as long as a sequence of the
        plan's longest phase, 330 days; a year of the test block and of the calibration block is one
        generated path.
    train
        Most days that are learnt from: the last ones before the validation block. Earlier ones are
        known, not learnt from.
    least_train
        Fewest days to learn from.
    gap
        Days between two blocks that belong to neither, at least the longest horizon, so that no
        forecast spans two blocks (purging). They are known to what comes after them.
    """

    val: Annotated[float, Float(0.0, 0.5)] = 0.0722
    calibration: Annotated[float, Float(0.0, 0.5)] = 0.1313
    test: Annotated[float, Float(0.0, 0.5)] = 0.1516
    least_val: Annotated[int, Int(1, 100_000)] = 330
    least_calibration: Annotated[int, Int(1, 100_000)] = 294
    least_test: Annotated[int, Int(1, 100_000)] = 252
    train: Annotated[int, Int(1, 1_000_000)] = 4001
    least_train: Annotated[int, Int(1, 1_000_000)] = 330
    gap: Annotated[int, Int(0, 10_000)] = 120

    def blocks(self, n: int) -> Blocks:
        """Cut n days.

        Raises
        ------
        UserError
            If too few are left to learn from.
        """
        stop, later = n, []
        for share, least in (
            (self.test, self.least_test),
            (self.calibration, self.least_calibration),
            (self.val, self.least_val),
        ):
            start = stop - max(round(n * share), least)
            later.append(slice(start, stop))
            stop = start - self.gap
        if stop < self.least_train:
            needed = n + self.least_train - stop
            raise UserError(
                f"got {n} days, which leave {max(stop, 0)} to learn from, expected at least"
                f" {self.least_train} beside validation, calibration, test and their gaps: give about"
                f" {needed} days or smaller blocks in study.split"
            )
        test, calibration, val = later
        return Blocks(slice(max(stop - self.train, 0), stop), val, calibration, test)


def _named(usual: str) -> Callable[[object], str | None]:
    """Say which split is meant; one without a name is the usual one."""

    def name(split: object) -> str | None:
        if isinstance(split, dict):
            return str(split.get("name", usual))
        return getattr(split, "name", None)

    return name


FourWay = Annotated[
    Annotated[Calibrated, Tag("calibrated")] | Annotated[ReportProtocol, Tag("report")],
    Discriminator(_named("calibrated")),
]
NextStep = Annotated[
    Annotated[Chronological, Tag("chronological")]
    | Annotated[Calibrated, Tag("calibrated")]
    | Annotated[WalkForward, Tag("walk_forward")],
    Discriminator(_named("chronological")),
]
