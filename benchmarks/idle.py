"""A model that only takes time, so that what a sweep costs beside its trials can be measured."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, final

import numpy as np

from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.search_space import Float, Resources, Sweep, Variant
from farm.base.types import Forecast, Inputs, Windows
from farm.data.panel import Bars, Panel
from farm.plan import Options, Plan, make_plan

TICKERS = ("ONE", "TWO", "THREE", "FOUR")
DAYS = 300


@component(MODELS)
class IdleConfig(ModelConfig):
    """Config of `Idle`.

    Parameters
    ----------
    seconds
        Of a core that a fit takes.
    """

    name: Literal["idle"] = "idle"
    seconds: Annotated[float, Float(0.0, 60.0)] = 0.0
    trained: ClassVar[bool] = True  # so that it has seeds, each a trial of its own

    def build(self, inputs: Inputs) -> Idle:
        """Make it; it looks at no input."""
        return Idle(self.seconds)


@final
class Idle(Estimator):
    """Computes for a time and forecasts zero."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def fit(self, train: Windows, val: Windows) -> None:
        """Use up the seconds on a core; one that others use too takes longer."""
        until = time.thread_time() + self._seconds
        while time.thread_time() < until:
            pass

    def predict(self, windows: Windows) -> Forecast:
        """Forecast no change."""
        return Forecast(point=np.zeros(len(windows)))

    def state(self) -> State:
        """Give no arrays."""
        return {}

    def load_state(self, state: State) -> None:
        """Take nothing back."""


class IdlePanel(Panel):
    """A panel that a worker cannot unpickle without this module, which is how it learns of `Idle`."""


def idle_plan(trials: int, seconds: float = 0.0) -> Plan:
    """Make a sweep of idle trials, on made-up prices of four tickers and their market.

    Parameters
    ----------
    trials
        Of the variant, a multiple of four; each ticker also has one of the reference baseline.
    seconds
        Of a core that each takes.
    """
    sweep = Sweep(
        title="Trials that do nothing",
        question="What does a trial cost beside its training?",
        common={"study.name": "forecast", "study.lookback": 5, "study.features": "raw"},
        variants=(Variant(name="idle", values={"model.name": "idle", "model.seconds": seconds}),),
        baselines=(Variant(name="zero", values={"model.name": "zero"}),),
        references=("zero",),
        tickers=TICKERS,
        market="MARKET",
        resources=Resources(gpu=0.0),
    )
    panel = made_up_panel((*TICKERS, "MARKET"), DAYS)
    plan = make_plan("idle", sweep, panel, Options(seeds=trials // len(TICKERS)))
    return replace(plan, source=IdlePanel(plan.source.bars, panel.source))


def made_up_panel(tickers: tuple[str, ...], days: int, seed: int = 0) -> Panel:
    """Draw random walks, as many days of each ticker."""
    rng = np.random.default_rng(seed)
    calendar = np.arange("1990-01-01", "2060-01-01", dtype="datetime64[D]")
    dates = calendar[np.is_busday(calendar)][:days]
    bars = {}
    for ticker in tickers:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, days)))
        spread = 0.01 * close * rng.random((2, days))
        volume = np.round(np.exp(rng.normal(12, 0.5, days)))
        bars[ticker] = Bars(
            dates, np.stack([close, close + spread[0], close - spread[1], close, volume], axis=1)
        )
    return Panel(bars, "made up")
