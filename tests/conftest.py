"""Shared worlds for the tests; shapes in the models are checked at run time."""

import io
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook(["farm.models"], "beartype.beartype")

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

import farm.sweep
from farm.base.types import Dataset
from farm.data.panel import Bars, Panel
from farm.data.splits import Chronological
from farm.experiment import Result, TrialConfig, run
from farm.studies.forecast import ForecastStudy

settings.register_profile("no deadline")  # a wall time, on a machine with other work
settings.load_profile("no deadline")

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


_RAY = ExitStack()


@pytest.fixture
def ray_here() -> None:
    """See that Ray is up in this process: one start for all tests that run sweeps or searches in it.

    Tests that ask for it run in one process, see `tests.bounds`; one that wants a Ray of another kind there
    shuts this one down.
    """
    import ray

    from farm.tuning.connection import cluster

    if not ray.is_initialized():
        _RAY.close()
        _RAY.enter_context(cluster(None, 2))


def pytest_sessionfinish() -> None:
    _RAY.close()


class Called(NamedTuple):
    """What a command ended with, and what it said."""

    code: int
    out: str
    err: str


def call(folder: Path, *arguments: str) -> Called:
    """Call ``python -m farm.sweep`` in this process, from a folder."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["farm.sweep", *arguments])
        with pytest.raises(SystemExit) as ended:
            farm.sweep.main()
    return Called(int(ended.value.code or 0), out.getvalue(), err.getvalue())
