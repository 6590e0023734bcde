"""A model of your own in 30 lines, against linear regression, as one trial each and without Ray."""

from typing import Annotated, Literal

import numpy as np

from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.search_space import Int
from farm.base.types import Forecast, Inputs, Windows


class Seasonal(Estimator):
    """Forecast the mean return of the weekday, shrunk to the mean of all days."""

    def __init__(self, strength: int) -> None:
        self.strength, self.means = strength, np.zeros(7)

    def fit(self, train: Windows, val: Windows) -> None:
        """Average the training days alone."""
        weekday, mean = (train.times.astype(int) + 3) % 7, float(train.y.mean())
        for day in range(7):
            returns = train.y[weekday == day]
            self.means[day] = (returns.sum() + self.strength * mean) / (len(returns) + self.strength)

    def predict(self, windows: Windows) -> Forecast:
        """Look the weekday up."""
        return Forecast(self.means[(windows.times.astype(int) + 3) % 7])

    def state(self) -> State:
        """Give what was learnt."""
        return {"means": self.means}

    def load_state(self, state: State) -> None:
        """Take it back."""
        self.means = state["means"]


@component(MODELS)
class SeasonalConfig(ModelConfig):
    """Its config: what the search may try, and its name."""

    name: Literal["seasonal"] = "seasonal"
    strength: Annotated[int, Int(1, 10_000, log=True)] = 500

    def build(self, inputs: Inputs) -> Seasonal:
        """Make it."""
        return Seasonal(self.strength)


if __name__ == "__main__":
    from farm.data.door import load_panel
    from farm.experiment import TrialConfig, run

    panel = load_panel().select(("AAPL", "SP500"), "2013-01-02", "2020-11-20")
    study = {"name": "forecast", "ticker": "AAPL", "market": "SP500", "features": "raw", "lookback": 20}
    for model in ("seasonal", "linear", "zero"):
        result = run(TrialConfig.make({"study": study, "model": {"name": model}}, "trial"), panel)
        scores = result.metrics
        print(f"{model}: test RMSE {scores['test/rmse']:.5f}, warnings: {result.tags}")
