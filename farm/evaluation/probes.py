"""What a model's forecasts hang on, found by disturbing what it is given.

Shape letters: B samples, T time steps, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from farm.base.model import Model
from farm.base.types import Forecast, Windows
from farm.evaluation.metric import metric_name

Cells = npt.NDArray[np.bool_]
IGNORED = 0.1  # of the reliance on the target's own past


def asset_groups(features: tuple[str, ...], lookback: int, target: str) -> dict[str, Cells]:
    """Group the cells of a window by asset and channel.

    Parameters
    ----------
    features
        The F names, each ``asset/channel``.
    lookback
        Days in a window, T; on the last of them the target is hidden.
    target
        The asset that is forecast; the others are its peers.

    Returns
    -------
    dict
        Cells, (T, F), by name: ``own`` (the target's channels), ``peers`` and ``peers_last`` (all
        peers, on all days and on the last), ``{asset}`` and ``{asset}/{channel}`` for each. The
        groups overlap.
    """
    assets = [name.split("/")[0] for name in features]
    own = np.array([asset == target for asset in assets])
    last = np.arange(lookback)[:, None] == lookback - 1
    every = np.ones((lookback, 1), dtype=np.bool_)
    groups = {"own": every & own, "peers": every & ~own, "peers_last": last & ~own}
    for asset in dict.fromkeys(assets):
        groups[asset] = every & np.array([a == asset for a in assets])
    for f, name in enumerate(features):
        groups[name] = every & (np.arange(len(features)) == f)
    return groups


def reliance(
    model: Model, windows: Windows, groups: Mapping[str, Cells], part: str = "", seed: int = 0
) -> dict[str, float]:
    """Measure how much the forecasts change when a group of inputs comes from other samples.

    Permutation importance (Breiman 2001, Machine Learning 45, 5-32; Fisher, Rudin & Dominici 2019,
    JMLR 20(177)), of the forecast itself and of its error. The cells of a group move together, all
    from one sample, and the same permutation serves every group. The window alone is permuted: a
    model that reads the series relies on no group here.

    Parameters
    ----------
    model
        Taught.
    windows
        B samples, B > 1.
    groups
        Cells of a window, (T, F), by name.
    part
        Name of the evaluation; it stands between the section and ``reliance``.
    seed
        Of the permutation.

    Returns
    -------
    dict
        By MLflow name, for each group: ``test/reliance/{group}``, the root mean square change of the
        point forecast, over that between the forecasts of two samples drawn at random, which is
        sqrt(2) standard deviations. It is 0 where a group has no say and about 1 where it has
        all of it; for a linear model of independent inputs the squares add up to 1. A constant
        forecast scores 0. And ``test/reliance_rmse/{group}``, the RMSE with the group permuted over
        the RMSE without, minus 1; NaN where the forecast is perfect.

    Raises
    ------
    ValueError
        If there is one sample only, or a group has not the shape of a window.
    """
    if len(windows) < 2:
        raise ValueError(f"{len(windows)} samples, expected at least 2: they are exchanged")
    order = np.random.default_rng(seed).permutation(len(windows))
    before = model.predict(windows).point.astype(np.float64)
    spread = float(np.sqrt(2) * before.std())
    error = _rms(before - windows.truth)
    scores = {}
    for name, cells in groups.items():
        if cells.shape != windows.x.shape[1:]:
            raise ValueError(f"group {name}: shape {cells.shape}, expected (T, F) = {windows.x.shape[1:]}")
        x = np.where(cells, windows.x[order], windows.x)
        after = model.predict(replace(windows, x=x)).point.astype(np.float64)
        change = _rms(after - before)
        scores[metric_name("test", part, f"reliance/{name}")] = change / spread if spread > 0 else 0.0
        loss = _rms(after - windows.truth) / error - 1 if error > 0 else float("nan")
        scores[metric_name("test", part, f"reliance_rmse/{name}")] = loss
    return scores


def ignores_peers(scores: Mapping[str, float], part: str = "") -> str:
    """Say whether a forecast ignores the peers' returns of the day that is filled in.

    Parameters
    ----------
    scores
        What `reliance` gave for the groups of `asset_groups`.
    part
        As there.

    Returns
    -------
    str
        Why, if the reliance on the peers' last day is at most a tenth of that on the target's own
        past; so also for a constant forecast. Else empty.
    """
    last, own = (scores[metric_name("test", part, f"reliance/{name}")] for name in ("peers_last", "own"))
    if last > IGNORED * own:
        return ""
    return f"reliance on the peers' last day {last:.2g}, on its own past {own:.2g}"


def leak(model: Model, windows: Windows, seed: int = 0) -> float:
    """Measure how far the forecasts change when what they may not see is replaced.

    Once the targets and the hidden inputs of all samples are replaced by noise; once the series
    from the middle sample's own day on, which the samples up to that one may not see.

    Parameters
    ----------
    model
        Taught.
    windows
        B samples in time order.
    seed
        Of the noise.

    Returns
    -------
    float
        The largest absolute change of a point or quantile forecast, in the unit of the target: 0.0
        for an honest model.
    """
    rng = np.random.default_rng(seed)
    before = model.predict(windows)
    noise = 10 * (np.abs(windows.y).max() + 1)
    hidden = windows.hidden
    if hidden is not None:
        hidden = (hidden + rng.normal(0, 10, hidden.shape)).astype(hidden.dtype)
    y = (windows.y + rng.normal(0, noise, windows.y.shape)).astype(windows.y.dtype)
    blind = _apart(before, model.predict(replace(windows, y=y, hidden=hidden)), len(windows))
    middle = len(windows) // 2
    series = windows.series.copy()
    future = slice(int(windows.position[middle]), None)
    series[future] += rng.normal(0, noise, series[future].shape)
    early = _apart(before, model.predict(replace(windows, series=series)), middle + 1)
    return max(blind, early)


def _apart(one: Forecast, other: Forecast, count: int) -> float:
    """Give the largest difference between the first forecasts of two blocks."""
    gap = np.abs(one.point[:count] - other.point[:count]).max()
    if one.quantiles is not None and other.quantiles is not None:
        gap = max(gap, np.abs(one.quantiles[:count] - other.quantiles[:count]).max())
    return float(gap)


def _rms(values: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(values**2)))
