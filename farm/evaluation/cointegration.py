"""Whether implied volatility stays tied to realised volatility, and cells to one another.

A cell's implied volatility is cointegrated with the EWMA volatility of returns if the residual of one
regressed on the other by least squares is stationary (Engle and Granger [1]_). Two ways to judge the
residual are offered, and they differ in their critical values alone:

- ``"adf"``: the augmented Dickey-Fuller test with the p-value of an observed series, as the report
  that the surface study rebuilds has it. The residual is not observed: least squares makes it look as
  stationary as it can. So this calls too much cointegrated: of independent random walks over 250
  days it takes 14 % for cointegrated at p < 0.05.
- ``"engle_granger"``: MacKinnon's p-values for a residual of two series [2]_, which have the right
  size: 6 % of the same 600 pairs.

References
----------
.. [1] Engle and Granger (1987), Co-integration and Error Correction, Econometrica 55(2).
.. [2] MacKinnon (2010), Critical Values for Cointegration Tests, Queen's Economics Department Working
   Paper 1227.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from farm.base.types import Floats

Method = Literal["adf", "engle_granger"]
Mask = npt.NDArray[np.bool_]

LEVEL = 0.05
MIN_DAYS = 60  # fewer tell nothing about a unit root


def cointegration_p_values(cells: Floats, volatility: Floats, method: Method = "adf") -> Floats:
    """Test each cell for cointegration with volatility.

    Parameters
    ----------
    cells
        Implied volatility, (T, C), no NaN, consecutive days.
    volatility
        EWMA volatility of the same days, (T,), not constant; see `farm.data.volatility`.
    method
        Which p-values; see the module. Lags are chosen by AIC, at most 12 (T / 100)**0.25.

    Returns
    -------
    Floats
        (C,). A cell that never moves has p = 1, as it follows nothing; one that is volatility times a
        number plus a number has p = 0.

    Raises
    ------
    ValueError
        If there are fewer than `MIN_DAYS` days, shapes disagree or volatility is constant.
    """
    from statsmodels.tsa.stattools import adfuller  # slow to import

    cells, volatility = np.asarray(cells, dtype=np.float64), np.asarray(volatility, dtype=np.float64)
    if cells.ndim != 2 or len(cells) < MIN_DAYS or volatility.shape != cells.shape[:1]:
        raise ValueError(
            f"cells {cells.shape}, volatility {volatility.shape}: expected (T, C) and (T,), T >= {MIN_DAYS}"
        )
    if np.ptp(volatility) == 0:
        raise ValueError("volatility is constant, so nothing can be regressed on it")
    design = np.column_stack([np.ones(len(volatility)), volatility])
    residuals = cells - design @ np.linalg.lstsq(design, cells, rcond=None)[0]
    p_values = np.ones(cells.shape[1])
    for c, residual in enumerate(residuals.T):
        spread = cells[:, c].std()
        if spread <= 1e-9 * np.abs(cells[:, c]).max():
            continue
        if residual.std() < 1e-7 * spread:
            p_values[c] = 0.0
        elif method == "adf":
            lags = chosen_lags(residual, constant=True)
            p_values[c] = adfuller(residual, lags, autolag=None, result_object=False)[1]
        else:
            p_values[c] = _engle_granger(residual)
    return p_values


def _engle_granger(residual: Floats) -> float:
    """Judge the residual of a series on a constant and another: statsmodels' coint after its regression."""
    from statsmodels.tsa.adfvalues import mackinnonp
    from statsmodels.tsa.stattools import adfuller

    lags = chosen_lags(residual, constant=False)
    statistic = adfuller(residual, lags, "n", autolag=None, result_object=False)[0]
    return float(mackinnonp(statistic, regression="c", N=2))


def chosen_lags(series: Floats, constant: bool) -> int:
    """Choose the lags of a Dickey-Fuller regression by AIC, as statsmodels does, from one decomposition.

    The candidates are nested, so the squared errors of all of them come from one QR decomposition;
    statsmodels fits each anew, which takes twenty times as long for five years.

    Parameters
    ----------
    series
        (T,).
    constant
        Whether the regression has one.
    """
    days = len(series)
    most = min(int(np.ceil(12 * (days / 100) ** 0.25)), days // 2 - constant - 1)
    changes = np.diff(series)
    target = changes[most:]
    first = [np.ones(len(target))] if constant else []
    lagged = [changes[most - lag : len(changes) - lag] for lag in range(1, most + 1)]
    design = np.column_stack([*first, series[most:-1], *lagged])
    explained = (np.linalg.qr(design)[0].T @ target) ** 2
    fewest = constant + 1
    left = target @ target - np.cumsum(explained)[fewest - 1 :]
    criterion = len(target) * np.log(left) + 2 * np.arange(fewest, fewest + most + 1)
    return int(criterion.argmin())


class Preservation(NamedTuple):
    """Cointegration of generated surfaces against real ones, over one period.

    Parameters
    ----------
    generated
        Share of cells, of all samples, that are cointegrated, 0 to 1.
    real
        The same of the real surfaces.
    kept
        Share of generated cells that are cointegrated among those whose real counterpart is; NaN where
        no real cell is.
    days
        Days tested.
    """

    generated: float
    real: float
    kept: float
    days: int


def preservation(
    generated: Floats,
    real: Floats,
    volatility: Floats,
    periods: Mapping[str, Mask],
    method: Method = "adf",
    level: float = LEVEL,
) -> dict[str, Preservation]:
    """Compare the cointegration of generated and real surfaces, period by period.

    A test needs consecutive days, so a period is cut into its runs; a run of fewer than `MIN_DAYS`
    days is left out, and the others count by their days. A test takes some 3 ms a cell and year: give
    a few samples, or the medians, rather than a thousand.

    Parameters
    ----------
    generated
        (T, W, H), or (S, T, W, H) with samples in front.
    real
        (T, W, H), the same days.
    volatility
        EWMA volatility of the real returns, (T,).
    periods
        Days of each period, (T,) bool, such as ``crisis``, ``normal`` and ``all``.
    method, level
        Which p-values, and below what a cell is cointegrated.

    Returns
    -------
    dict
        By period; all NaN, with 0 days, where a period has no run that is long enough.

    Raises
    ------
    ValueError
        If shapes disagree or a run's volatility is constant.
    """
    samples = generated[None] if generated.ndim == real.ndim else generated
    if samples.shape[1:] != real.shape or volatility.shape != real.shape[:1]:
        raise ValueError(
            f"generated {generated.shape}, real {real.shape}, volatility {volatility.shape}: expected"
            " (S, T, W, H) or (T, W, H), (T, W, H) and (T,)"
        )
    result = {}
    for name, mask in periods.items():
        sums, total = np.zeros(3), 0  # cointegrated: generated, real, both; in cells times days
        n_cells = real[0].size
        for run in _runs(mask):
            days = run.stop - run.start
            if days < MIN_DAYS:
                continue
            truth = _tied(real[run], volatility[run], method, level)
            draws = [_tied(sample[run], volatility[run], method, level) for sample in samples]
            drawn = np.mean(draws, axis=0)
            sums += days * np.array([drawn.sum(), truth.sum(), drawn[truth].sum()])
            total += days
        if not total:
            result[name] = Preservation(np.nan, np.nan, np.nan, 0)
            continue
        made, was, both = sums / (total * n_cells)
        result[name] = Preservation(float(made), float(was), float(both / was) if was else np.nan, total)
    return result


def _tied(surfaces: Floats, volatility: Floats, method: Method, level: float) -> Mask:
    """Say which cells are cointegrated, (C,)."""
    flat = surfaces.reshape(len(surfaces), -1)
    return cointegration_p_values(flat, volatility, method) < level


def _runs(mask: Mask) -> list[slice]:
    """Cut a mask into its runs of consecutive days."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def correlation_distance(generated: Floats, real: Floats) -> float:
    """Give Herdin's distance between the correlations of the cells' daily changes.

    1 - tr(A B) / (|A| |B|) with Frobenius norms (Herdin et al. 2005, Correlation Matrix Distance, a
    Meaningful Measure for Evaluation of Non-Stationary MIMO Channels, IEEE VTC, eq. 3): 0 for equal
    correlations, at most 1, and free of the number of cells, unlike the norm of the difference. Changes
    are taken because levels that wander correlate by chance.

    Parameters
    ----------
    generated
        (T, W, H), or (S, T, W, H): the correlations are then the samples' mean.
    real
        (T', W, H), T' at least 3; need not be the same days.

    Returns
    -------
    float
        0 to 1. A cell that never moves has correlation 0 with the others.
    """
    samples = generated[None] if generated.ndim == real.ndim else generated
    first = np.mean([_correlations(sample) for sample in samples], axis=0)
    second = _correlations(real)
    cosine = (first * second).sum() / (np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.clip(1 - cosine, 0.0, 1.0))


def _correlations(surfaces: Floats) -> Floats:
    """Correlate daily changes, (C, C)."""
    changes = np.diff(surfaces.reshape(len(surfaces), -1).astype(np.float64), axis=0)
    changes -= changes.mean(axis=0)
    norms = np.linalg.norm(changes, axis=0)
    moving = norms > 1e-12
    unit = np.divide(changes, norms, out=np.zeros_like(changes), where=moving)
    matrix: npt.NDArray[Any] = unit.T @ unit
    np.fill_diagonal(matrix, 1.0)
    return matrix
