"""Chronological blocks with a purge gap between them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from farm.base.config import Config
from farm.base.errors import UserError
from farm.base.search_space import Float, Int


class Chronological(Config):
    """Training, validation and test blocks in order of time.

    Parameters
    ----------
    train, val
        Shares of the samples; the test block takes the rest.
    min_rows
        Fewest samples that each block must have.
    """

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
