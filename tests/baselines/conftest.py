from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from farm.base.types import Inputs, Windows

Array = npt.NDArray[np.float64]


def make_block(
    series: Array, start: int, stop: int, features: Array | None = None, lookback: int = 20
) -> Windows:
    """Cut the samples with targets start..stop-1; features, (n, F), are known at the end of their day."""
    if features is None:
        features = np.zeros((len(series), 1))
    position = np.arange(start, stop)
    return Windows(
        x=np.stack([features[p - lookback : p] for p in position]).astype(np.float32),
        y=series[position].astype(np.float32),
        times=np.datetime64("2013-01-02") + position,
        features=tuple(f"f{i}" for i in range(features.shape[1])),
        series=series[:stop],
        position=position,
    )


@pytest.fixture(scope="session")
def block() -> Callable[..., Windows]:
    return make_block


def make_inputs(n_features: int = 1, lookback: int = 20) -> Inputs:
    names = tuple(f"f{i}" for i in range(n_features))
    return Inputs(names, lookback, np.zeros(n_features), np.ones(n_features))
