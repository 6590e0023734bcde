"""A made-up study whose best config is known: a model that errs by as much as its config says."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator

from farm.base.config import listed
from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.search_space import Choice, Float, Int, Search, Sweep, Variant
from farm.base.types import Forecast, Inputs, Windows
from farm.data.panel import Bars, Panel
from farm.plan import Options, Plan, make_plan

LEVELS = (0.05, 0.5, 0.95)


@component(MODELS)
class BowlConfig(ModelConfig):
    """Config of `Bowl`.

    The error of the point is |x - 0.3| + (|depth - 4| / 10 where deep, else 1 / 2) + 0.01; the share of
    truths outside the interval is 0.1 + 0.8 |x - 0.8|.
    """

    name: Literal["bowl"] = "bowl"
    x: Annotated[float, Float(-1.0, 1.0)] = -1.0
    kind: Annotated[Literal["flat", "deep"], Choice(("flat", "deep"))] = "flat"
    depth: Annotated[int, Int(1, 9)] = 1
    weights: Annotated[tuple[Annotated[float, Float(0.1, 10.0, log=True)], ...], BeforeValidator(listed)] = (
        1.0,
        1.0,
    )
    fails_above: Annotated[float, Float(-1.0, 2.0)] = 2.0

    def build(self, inputs: Inputs) -> "Bowl":
        return Bowl(self)

    def error(self) -> float:
        deep = abs(self.depth - 4) / 10 if self.kind == "deep" else 0.5
        return abs(self.x - 0.3) + deep + 0.01

    def violations(self) -> float:
        """Least, 0.1, at x = 0.8: not where the error is."""
        return min(0.1 + 0.8 * abs(self.x - 0.8), 1.0)


class Bowl(Estimator):
    def __init__(self, config: BowlConfig) -> None:
        self.config = config

    def fit(self, train: Windows, val: Windows) -> None:
        if self.config.x > self.config.fails_above:
            raise FloatingPointError(f"no number at x = {self.config.x:.2f}")

    def predict(self, windows: Windows) -> Forecast:
        truth, n = windows.truth, len(windows)
        point = truth + self.config.error() * np.where(np.arange(n) % 2, 1.0, -1.0)
        far = np.arange(n) < round(self.config.violations() * n)
        half = np.where(far, 0.0, 10.0)
        middle = np.where(far, truth + 5.0, truth)
        return Forecast(point, np.stack([middle - half, middle, middle + half], axis=1), LEVELS)

    def state(self) -> State:
        return {"x": np.array([self.config.x])}

    def load_state(self, state: State) -> None:
        pass


class BowlPanel(Panel):
    """A panel that a worker can only read with this module imported, and so with the model registered."""

    def select(self, *arguments: Any) -> "BowlPanel":
        return BowlPanel(super().select(*arguments).bars, self.source)


def panel(n: int = 300) -> BowlPanel:
    rng = np.random.default_rng(0)
    bars = {}
    days = np.arange("2010-01-04", "2030-01-01", dtype="datetime64[D]")
    for ticker in ("A", "B", "M"):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
        values = np.stack([close, close * 1.01, close * 0.99, close, np.full(n, 1e6)], axis=1)
        bars[ticker] = Bars(days[np.is_busday(days)][:n], values)
    return BowlPanel(bars, "bundled")


def sweep(**search: Any) -> Sweep:
    declared: dict[str, Any] = {"variant": "bowl", "objectives": ("val/rmse",), "samplers": ("tpe",)}
    return Sweep(
        title="bowl",
        question="Where is its bottom?",
        common={"study.name": "forecast", "study.features": "raw", "study.lookback": 2},
        variants=(Variant(name="bowl", values={"model.name": "bowl"}),),
        baselines=(Variant(name="zero", values={"model.name": "zero"}),),
        references=("zero",),
        tickers=("A",),
        market="M",
        search=Search(**{**declared, **search}),
    )


def plan(**search: Any) -> Plan:
    return make_plan("bowl", sweep(**search), panel(), Options())
