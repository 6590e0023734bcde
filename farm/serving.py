"""Stored forecasters as one model that MLflow loads and serves: bars in, forecasts out.

A folder holds ``model.json`` and, for each ticker, the weights as safetensors. Nothing in it is code or
pickled: the models are built by their configs, as in any trial.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy
import torch

from farm.base.errors import UserError
from farm.base.model import Model, State
from farm.base.types import Inputs, quantile_name
from farm.data.door import panel_from
from farm.data.panel import Panel
from farm.data.splits import WalkForward
from farm.experiment import TrialConfig
from farm.studies.forecast import ForecastStudy
from farm.studies.study import Ahead

FACTS = "model.json"
SPARE_DAYS = 10  # of the example beyond what the features need


@dataclass(frozen=True)
class Forecaster:
    """A taught model with its study and the scaler of its training rows."""

    study: Ahead
    inputs: Inputs
    model: Model

    @classmethod
    def of(cls, config: TrialConfig, state: Mapping[str, Any]) -> Forecaster:
        """Build a model and give it what its trial learnt."""
        assert isinstance(config.study, Ahead)  # held by `can_serve`
        inputs = config.study.inputs(state["inputs.mean"], state["inputs.scale"])
        with _single_precision():
            model = config.model.build(inputs)
        learnt = {name[6:]: value for name, value in state.items() if name.startswith("model.")}
        split = config.study.split if isinstance(config.study, ForecastStudy) else None
        if learnt and isinstance(split, WalkForward):  # of many fits the newest, whose scaler is kept
            newest = f"{max(int(name.split('.')[0]) for name in learnt)}."
            learnt = {n.removeprefix(newest): v for n, v in learnt.items() if n.startswith(newest)}
        model.load_state(learnt)
        return cls(config.study, inputs, model)

    def row(self, panel: Panel) -> dict[str, object]:
        """Forecast what comes next for its ticker."""
        windows = self.study.ahead(panel, self.inputs)
        with _single_precision():
            forecast = self.model.predict(windows)
        found: dict[str, object] = {
            "ticker": self.study.ticker,
            "known_until": str(windows.times[0]),
            "forecast": float(forecast.point[0]),
        }
        if forecast.quantiles is not None:
            levels = zip(forecast.levels, forecast.quantiles[0], strict=True)
            found |= {quantile_name(level): float(value) for level, value in levels}
        return found


@contextmanager
def _single_precision() -> Iterator[None]:
    """Have torch make what it makes in any trial, whatever this process has chosen."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


class Forecasters:
    """Forecasters by ticker, with the one method that MLflow calls."""

    def __init__(self, by_ticker: Mapping[str, Forecaster]) -> None:
        self._by_ticker = dict(by_ticker)

    def predict(self, model_input: pd.DataFrame, params: object = None) -> pd.DataFrame:
        """Forecast what comes next for each ticker whose bars are given.

        Parameters
        ----------
        model_input
            Daily bars as `farm.data.door.panel_from` reads them: date, ticker, open, high, low, close,
            volume; of a ticker and of what its study reads beside it (its market, its peers).
        params
            Not read.

        Returns
        -------
        pandas.DataFrame
            A row for each ticker: ``ticker``, ``known_until`` (the last day that was read), ``forecast``
            (log return of the next day; where peers are ahead of their target, of the day that they have
            and it has not) and ``q05`` and the like for a model with quantiles.

        Raises
        ------
        UserError
            If a row is not as expected, no ticker is there with all it needs, or days are too few.
        """
        panel = panel_from(model_input, "the request")
        ready = [one for one in self._by_ticker.values() if set(one.study.tickers()) <= set(panel.bars)]
        if not ready:
            needed = "; or ".join(" and ".join(one.study.tickers()) for one in self._by_ticker.values())
            raise UserError(
                f"got bars of {', '.join(panel.bars)}, expected those of {needed}: add their rows"
            )
        return pd.DataFrame([one.row(panel) for one in ready])


def can_serve(config: TrialConfig) -> bool:
    """Say whether a trial forecasts one number for each ticker from its bars."""
    return isinstance(config.study, Ahead)


def save(folder: Path, trials: Mapping[str, tuple[TrialConfig, State]]) -> None:
    """Write trials as a model, by signature, one for each ticker: its config and what it learnt."""
    folder.mkdir(parents=True, exist_ok=True)
    for signature, (_, state) in trials.items():
        arrays = {name: np.ascontiguousarray(value) for name, value in state.items()}
        (folder / f"{signature}.safetensors").write_bytes(safetensors.numpy.save(arrays))
    configs = {signature: config.model_dump(mode="json") for signature, (config, _) in trials.items()}
    (folder / FACTS).write_text(json.dumps(configs, indent=1))


def load(folder: Path) -> Forecasters:
    """Read what `save` wrote."""
    configs = json.loads((folder / FACTS).read_text())
    found = {}
    for signature, values in configs.items():
        config = TrialConfig.model_validate_json(json.dumps(values))
        forecaster = Forecaster.of(config, safetensors.numpy.load_file(folder / f"{signature}.safetensors"))
        found[forecaster.study.ticker] = forecaster
    return Forecasters(found)


def _load_pyfunc(path: str) -> Forecasters:
    """Load the model, under the name by which MLflow asks for it."""
    return load(Path(path))


def example(panel: Panel, configs: list[TrialConfig]) -> pd.DataFrame:
    """Cut the last bars that a request needs out of a panel, dates as text.

    Days are counted as a study counts them, which reads those that all its tickers share. What it reads
    must end on one day, so bars end with the last shared one; studies that end on other days than the
    first one are left out.
    """
    shared: list[tuple[Ahead, np.ndarray[Any, Any]]] = []
    for config in configs:
        if isinstance(study := config.study, Ahead):
            days = reduce(np.intersect1d, [panel.bars[name].dates for name in study.tickers()])
            if not shared or days[-1] == shared[0][1][-1]:
                shared.append((study, days))
    tickers = tuple(dict.fromkeys(name for study, _ in shared for name in study.tickers()))
    start = min(days[-study.days_needed - SPARE_DAYS :][0] for study, days in shared)
    frame = panel.select(tickers, str(start), str(shared[0][1][-1])).frame()
    return frame.assign(date=frame["date"].dt.strftime("%Y-%m-%d"))
