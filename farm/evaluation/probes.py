"""What a model's forecasts hang on, found by disturbing what it is given.

Shape letters: B samples, T time steps, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farm.base.generative import Imputer, ReturnWindows
from farm.base.model import Model
from farm.base.surfaces import Paths, SurfaceWindows
from farm.base.types import Floats, Forecast, Windows
from farm.evaluation.metric import metric_name
from farm.evaluation.scores import Measured

Cells = npt.NDArray[np.bool_]
IGNORED = 0.1  # of the reliance on the target's own past
ROUNDING = 1e-6  # of the size of a forecast: what moves it by less is arithmetic in single precision


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
    return groups | channel_groups(features, lookback)


def channel_groups(features: tuple[str, ...], lookback: int) -> dict[str, Cells]:
    """Group the cells of a window by feature, (T, F) each: ``{feature}``, on all days."""
    every = np.ones((lookback, 1), dtype=np.bool_)
    return {name: every & (np.arange(len(features)) == f) for f, name in enumerate(features)}


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
        By MLflow name, for each group: ``probe/reliance/{group}``, the root mean square change of the
        point forecast, over that between the forecasts of two samples drawn at random, which is
        sqrt(2) standard deviations. It is 0 where a group has no say and about 1 where it has
        all of it; for a linear model of independent inputs the squares add up to 1. A constant
        forecast scores 0. And ``probe/reliance_rmse/{group}``, the RMSE with the group permuted over
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
        scores[metric_name("probe", part, f"reliance/{name}")] = change / spread if spread > 0 else 0.0
        loss = _rms(after - windows.truth) / error - 1 if error > 0 else float("nan")
        scores[metric_name("probe", part, f"reliance_rmse/{name}")] = loss
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
    last, own = (scores[metric_name("probe", part, f"reliance/{name}")] for name in ("peers_last", "own"))
    if last > IGNORED * own:
        return ""
    return f"reliance on the peers' last day {last:.2g}, on its own past {own:.2g}"


class Causality(NamedTuple):
    """How far forecasts change when what they may not see is replaced; 0 for an honest model.

    A change below `ROUNDING` of the forecasts' root mean square is 0: other windows in a batch may change
    the last bits of a sum.

    Parameters
    ----------
    targets
        The largest change, of a point or quantile forecast in the unit of the target, when the targets
        and hidden inputs are replaced by noise.
    future
        The same of the forecasts up to a date, when all that comes after is replaced: the series from
        the date's own target on, and the windows of all later samples.
    """

    targets: float
    future: float


def causality(model: Model, windows: Windows, seed: int = 0) -> Causality:
    """Replace what forecasts may not see, and measure how far they change.

    The future is replaced after each of three dates that cut the block into quarters.

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
    Causality
        Both 0.0 for an honest model.
    """
    rng = np.random.default_rng(seed)
    before = model.predict(windows)
    noise = 10 * float(np.abs(windows.y).max() or 1)
    hidden = windows.hidden
    if hidden is not None:
        hidden = (hidden + rng.normal(0, 10, hidden.shape)).astype(hidden.dtype)
    y = (windows.y + rng.normal(0, noise, windows.y.shape)).astype(windows.y.dtype)
    targets = _apart(before, model.predict(replace(windows, y=y, hidden=hidden)), len(windows))
    future = 0.0
    for date in sorted({len(windows) * quarter // 4 for quarter in (1, 2, 3)}):
        series, x = windows.series.copy(), windows.x.copy()
        series[windows.position[date] :] += rng.normal(0, noise, len(series) - windows.position[date])
        x[date + 1 :] += rng.normal(0, 3, x[date + 1 :].shape).astype(x.dtype)
        after = model.predict(replace(windows, series=series, x=x))
        future = max(future, _apart(before, after, date + 1))
    return Causality(targets, future)


def imputation_causality(model: Imputer, windows: ReturnWindows, seed: int = 0) -> Causality:
    """Do what `causality` does with the hidden entries of a block of returns, unscaled.

    Parameters
    ----------
    model
        Taught.
    windows
        A block whose mask hides H entries.
    seed
        Of the noise.

    Returns
    -------
    Causality
        ``targets``: the hidden entries are replaced. ``future``: so is every entry of all days after each
        of three days, and an entry filled up to that day must not move.
    """
    rng = np.random.default_rng(seed)
    before = model.predict(windows)
    day_of = np.nonzero(windows.mask)[0]

    def apart(cells: Cells, last: int) -> float:
        after = model.predict(_with_noise(windows, cells, rng))
        return _apart(before, after, int(np.searchsorted(day_of, last, side="right")))

    days = len(windows.mask)
    targets, future = apart(windows.mask, days), 0.0
    for day in sorted({days * quarter // 4 for quarter in (1, 2, 3)}):
        later = np.repeat(np.arange(days)[:, None] > day, windows.mask.shape[1], axis=1)
        future = max(future, apart(later, day))
    return Causality(targets, future)


def _with_noise(windows: ReturnWindows, cells: Cells, rng: np.random.Generator) -> ReturnWindows:
    """Add noise to entries of a block, (N - first, A), wherever they stand in its windows."""
    rows = windows.rows.copy()
    rows[windows.first :][cells] += rng.normal(0, 10, int(cells.sum()))
    x = np.lib.stride_tricks.sliding_window_view(
        rows[windows.first :].astype(windows.x.dtype), windows.x.shape[1], axis=0, writeable=True
    ).transpose(0, 2, 1)
    series = rows[:, 0] * windows.scale[0] + windows.mean[0]
    y = series[windows.position].astype(windows.y.dtype)
    return replace(windows, rows=rows, x=x, series=series, y=y)


def path_causality(
    model: Model, generate: Callable[[SurfaceWindows, int], Paths], windows: SurfaceWindows, seed: int = 0
) -> Causality:
    """Do what `causality` does with surfaces: generated paths, and the next day's level.

    Parameters
    ----------
    model
        Taught; its `predict` gives the next day's level.
    generate
        Generates the days from a row of `SurfaceWindows.past` on; equal draws at every call.
    windows
        A block; its record is replaced from a row in its middle on.
    seed
        Of the noise.

    Returns
    -------
    Causality
        Both in volatility or, for generated returns, log return; ``targets`` is that of the next day's
        levels when the targets alone are replaced.
    """
    rng = np.random.default_rng(seed)
    middle = len(windows) // 2
    row = int(windows.position[middle])
    past = windows.past
    surface, extra, vectors = past.surface.copy(), past.extra.copy(), past.vectors.copy()
    surface[row:] *= np.exp(rng.normal(0, 0.5, surface[row:].shape)).astype(surface.dtype)
    extra[row:] += rng.normal(0, 1, extra[row:].shape)
    vectors[row:] += rng.normal(0, 3, vectors[row:].shape).astype(vectors.dtype)
    series, x = windows.series.copy(), windows.x.copy()
    series[row:] *= np.exp(rng.normal(0, 0.5, len(series) - row))
    x[middle + 1 :] += rng.normal(0, 3, x[middle + 1 :].shape).astype(x.dtype)
    later = replace(past, surface=surface, extra=extra, vectors=vectors)
    changed = replace(windows, past=later, series=series, x=x)
    one, other = generate(windows, row), generate(changed, row)
    future = _moved(one.samples, other.samples)
    if one.returns is not None and other.returns is not None:
        future = max(future, _moved(one.returns, other.returns))
    before = model.predict(windows)
    future = max(future, _apart(before, model.predict(changed), middle + 1))
    noisy = (windows.y * np.exp(rng.normal(0, 0.5, windows.y.shape))).astype(windows.y.dtype)
    return Causality(_apart(before, model.predict(replace(windows, y=noisy)), len(windows)), future)


def too_good(
    forecast: Forecast, truth: Floats, seen: Causality, limit: float, inputs: Mapping[str, Floats]
) -> str:
    """Say why a forecast may be better than it can honestly be.

    Parameters
    ----------
    forecast
        B forecasts.
    truth
        What came, (B,).
    seen
        What `causality` or one of its kin found.
    limit
        Share of the target's variance that no honest forecast of this kind explains.
    inputs
        What stood before each forecast, by name, each (B,), scaled or not: one that is nearly the target
        is the likely leak.

    Returns
    -------
    str
        Empty where the share explained is at most `limit`, or the target does not vary. Else the share
        and the likeliest reason: the model sees its target or the future; an input is nearly the
        target; or none of these.
    """
    truth = truth.astype(np.float64)
    explained = 1 - np.mean((forecast.point - truth) ** 2) / truth.var() if truth.var() > 0 else 0.0
    if explained <= limit:
        return ""
    alike = {name: _correlation(values, truth) for name, values in inputs.items()}
    closest = max(alike, key=lambda name: alike[name], default="")
    if seen.targets > 0:
        reason = "the model reads the targets it is to forecast"
    elif seen.future > 0:
        reason = "the model reads days after the forecast"
    elif closest and alike[closest] ** 2 > limit:
        reason = f"its input {closest} is nearly the target (correlation {alike[closest]:.2f})"
    else:
        reason = "no single input tells it, so see how the inputs are dated and scaled"
    return f"explains {100 * explained:.0f} % of the variance: {reason}"


def _correlation(one: Floats, other: Floats) -> float:
    """Give the size of a correlation; 0 where one of the two is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(abs(np.corrcoef(one.astype(np.float64), other)[0, 1]))


def probe(
    model: Model, windows: Windows, forecast: Forecast, groups: Mapping[str, Cells], limit: float
) -> Measured:
    """Look behind the forecasts of a test block: causality, reliance, and results too good to be true.

    Parameters
    ----------
    model
        Taught.
    windows
        B samples in time order.
    forecast
        What the model says of them.
    groups
        Cells whose reliance is measured; see `reliance`.
    limit
        Of `too_good`.

    Returns
    -------
    Measured
        ``probe/causality/targets`` and ``probe/causality/future`` (see `Causality`), and those of
        `reliance`, none for a single sample. Warnings: ``sees the future`` and ``too good to be true``.
    """
    last = {name: windows.x[:, -1, f] for f, name in enumerate(windows.features)}
    found = warned(forecast, windows.truth, causality(model, windows), limit, last)
    more = reliance(model, windows, groups) if len(windows) > 1 else {}
    return Measured({**found.values, **more}, found.warnings)


def warned(
    forecast: Forecast, truth: Floats, seen: Causality, limit: float, inputs: Mapping[str, Floats]
) -> Measured:
    """Name what `causality` and `too_good` found; arguments as there, result as of `probe`."""
    metrics = {"probe/causality/targets": seen.targets, "probe/causality/future": seen.future}
    tags = {"too good to be true": too_good(forecast, truth, seen, limit, inputs)}
    changed = [f"{what} move it by {by:.2g}" for what, by in seen._asdict().items() if by > 0]
    tags["sees the future"] = ", ".join(changed)
    return Measured(metrics, {name: reason for name, reason in tags.items() if reason})


def _apart(one: Forecast, other: Forecast, count: int) -> float:
    """Return the largest difference between the first forecasts of two blocks."""
    gap = _moved(one.point[:count], other.point[:count])
    if one.quantiles is not None and other.quantiles is not None:
        gap = max(gap, _moved(one.quantiles[:count], other.quantiles[:count]))
    return gap


def _moved(before: Floats, after: Floats) -> float:
    """Return the largest change of numbers, or 0 where it is rounding."""
    gap = float(np.abs(before - after).max())
    return gap if gap > ROUNDING * _rms(before.astype(np.float64)) else 0.0


def _rms(values: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(values**2)))
