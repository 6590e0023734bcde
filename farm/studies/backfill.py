"""Back-filling study: the missing return of one asset from its peers' bars of the same day."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

from pydantic import BeforeValidator, Field, model_validator

from farm.base.errors import UserError
from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.types import Dataset
from farm.data.features import CHANNELS, channel_table
from farm.data.panel import Panel
from farm.data.splits import Calibrated, FourWay
from farm.data.windows import same_day_dataset
from farm.studies.study import STUDIES, StudyConfig


def _names(value: Any) -> Any:
    """Take a list, as JSON has it, for a tuple."""
    return tuple(value) if isinstance(value, list) else value


@component(STUDIES)
@final
class BackfillStudy(StudyConfig):
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
    """

    name: Literal["backfill"] = "backfill"
    ticker: str
    peers: Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]
    context: Annotated[int, Int(1, 250)] = 5
    split: FourWay = Calibrated()

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

    def dataset(self, panel: Panel) -> Dataset:
        """Cut the windows; see `StudyConfig.dataset`."""
        try:
            table = channel_table({name: panel.bars[name] for name in self.tickers()})
            dates = table.index.to_numpy().astype("datetime64[D]")
            if len(table) <= self.context:
                raise UserError(
                    f"got {len(table)} usable rows, expected more than the context of {self.context}:"
                    " give a longer panel"
                )
            return same_day_dataset(
                table.to_numpy(),
                dates,
                tuple(table.columns),
                self.context,
                len(CHANNELS),
                self.split.blocks(dates[self.context :], gap=1),
            )
        except UserError as error:
            raise UserError(f"target {self.ticker}, peers {', '.join(self.peers)}: {error}") from error
