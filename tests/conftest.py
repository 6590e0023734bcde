"""Shared worlds for the tests; shapes in the models are checked at run time."""

import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "token")  # as the engine has it; Ray reads it when it is imported

from jaxtyping import install_import_hook

install_import_hook(["farm.models"], "beartype.beartype")

import numpy as np
import numpy.typing as npt
import pytest

from farm.base.types import Dataset
from farm.data.panel import Bars, Panel
from farm.data.splits import Chronological
from farm.experiment import Result, TrialConfig, run
from farm.studies.forecast import ForecastStudy

NOISE = 0.01
PHI = 0.9


def bars_from_returns(returns: npt.NDArray[np.float64], seed: int = 0) -> Bars:
    """Daily bars whose log returns are the given ones from the second day on."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(returns))
    open_ = close * np.exp(rng.normal(0, 0.003, len(close)))
    high = np.maximum(open_, close) * (1 + rng.uniform(0, 0.01, len(close)))
    low = np.minimum(open_, close) * (1 - rng.uniform(0, 0.01, len(close)))
    volume = np.round(np.exp(rng.normal(12, 0.5, len(close))))
    days = np.arange("2010-01-04", "2060-01-01", dtype="datetime64[D]")
    return Bars(days[np.is_busday(days)][: len(close)], np.stack([open_, high, low, close, volume], axis=1))


@pytest.fixture(scope="session")
def ar1_panel() -> Panel:
    """One ticker whose return is 0.9 times yesterday's plus noise, and a market of pure noise."""
    rng = np.random.default_rng(7)
    returns = np.zeros(1000)
    for t in range(1, len(returns)):
        returns[t] = PHI * returns[t - 1] + rng.normal(0, NOISE)
    market = rng.normal(0, NOISE, len(returns))
    return Panel({"AR": bars_from_returns(returns), "MKT": bars_from_returns(market, seed=1)}, "synthetic")


@pytest.fixture(scope="session")
def study() -> ForecastStudy:
    return ForecastStudy(
        ticker="AR", market="MKT", features="feat", lookback=5, split=Chronological(train=0.6, val=0.2)
    )


@pytest.fixture(scope="session")
def finished(ar1_panel: Panel, study: ForecastStudy) -> tuple[TrialConfig, Result]:
    """Run a trial to its end: its config and result."""
    config = TrialConfig.model_validate({"study": study, "model": {"name": "ar_garch"}})
    return config, run(config, ar1_panel)


@pytest.fixture
def dataset(ar1_panel: Panel, study: ForecastStudy) -> Dataset:
    return study.dataset(ar1_panel)


@pytest.fixture(scope="session")
def make_bars() -> Callable[..., Bars]:
    return bars_from_returns
