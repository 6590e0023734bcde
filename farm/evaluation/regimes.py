"""Which days were calm and which were wild."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from farm.base.types import Dates, Floats, Windows

VOLATILITY_DAYS = 20
# First and last years of the crises that the surface study is asked about.
CRISES = ((2000, 2002), (2008, 2010), (2020, 2020))


def volatile_quarter(windows: Windows) -> npt.NDArray[np.bool_]:
    """Mark the quarter of the days before which the target was most volatile.

    The volatility of a day is the standard deviation of the target over the 20 days before it, so
    it reads nothing of the day itself. Which volatility is high is decided by the whole block, by
    its last days too: the mark is for scoring, and no forecast may read it.

    Parameters
    ----------
    windows
        B samples, each at position 20 or later, with a finite series before each of them.

    Returns
    -------
    mask
        (B,), True on ``ceil(B / 4)`` days. Of days with equal volatility the earlier are taken.

    Raises
    ------
    ValueError
        If a sample has fewer than 20 days before it, or one of those is not finite.
    """
    first = int(windows.position.min())
    if first < VOLATILITY_DAYS:
        raise ValueError(
            f"a sample at position {first}, expected {VOLATILITY_DAYS} or later, for its past volatility"
        )
    known = windows.series[: windows.position.max()]
    past = np.lib.stride_tricks.sliding_window_view(known, VOLATILITY_DAYS)
    volatility = past[windows.position - VOLATILITY_DAYS].std(axis=1)
    if not np.isfinite(volatility).all():
        raise ValueError(f"the series is not finite before {int((~np.isfinite(volatility)).sum())} samples")
    mask = np.zeros(len(windows), dtype=np.bool_)
    mask[np.argsort(-volatility, kind="stable")[: -(-len(windows) // 4)]] = True
    return mask


def crisis_years(dates: Dates) -> npt.NDArray[np.bool_]:
    """Mark the days of `CRISES`, (N,): whole calendar years, known to be crises by hindsight alone."""
    years = dates.astype("datetime64[Y]").astype(np.int64) + 1970
    mask = np.zeros(len(dates), dtype=np.bool_)
    for first, last in CRISES:
        mask |= (years >= first) & (years <= last)
    return mask


def above_quantile(volatility: Floats, learnt: slice, share: float) -> npt.NDArray[np.bool_]:
    """Mark the days whose volatility is above a quantile of that of the training rows.

    Parameters
    ----------
    volatility
        Of each day, (N,), finite.
    learnt
        The training rows, which alone set the limit.
    share
        Of the training rows that lie below the limit.
    """
    return np.asarray(volatility > np.quantile(volatility[learnt], share))


def skill_by_regime(predictions: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Score every model on the volatile and the calm days of the test block, and in each of its years.

    Volatile is the quarter of a ticker's test days before which its truth moved most: the standard
    deviation over the 20 test days before, so the first 20 are neither volatile nor calm. A description of
    where a difference comes from, not a test: regimes are chosen after the fact.

    Parameters
    ----------
    predictions
        One row for each test day: date, ticker, model, seed, actual, predicted. A row with a NaN counts
        nowhere.
    reference
        The model that skill is measured against.

    Returns
    -------
    DataFrame
        One row for each model and ``regime`` (``volatile``, ``calm``, then the years): ``days``, the cells
        that the model shares with the reference, ``rmse`` and ``skill``: 1 - rmse / rmse of the
        reference on these cells. Cells are of one ticker and day, squared errors averaged over seeds.
        NaN where nothing is shared, or the reference is never wrong.
    """
    cells = predictions.assign(squared=(predictions["predicted"] - predictions["actual"]) ** 2)
    cells = cells.dropna(subset="squared")
    wide = cells.pivot_table(index=["ticker", "date"], columns="model", values="squared", sort=True)
    truth = cells.groupby(["ticker", "date"])["actual"].mean().reindex(wide.index)
    past = truth.groupby(level="ticker").transform(lambda y: y.shift().rolling(VOLATILITY_DAYS).std())
    limit = past.groupby(level="ticker").transform(lambda known: known.quantile(0.75))
    years = pd.DatetimeIndex(wide.index.get_level_values("date")).year
    regimes = {"volatile": past > limit, "calm": past <= limit}
    regimes |= {str(year): pd.Series(years == year, index=wide.index) for year in sorted(set(years))}
    rows = []
    for model in wide:
        both = wide[[model, reference]].notna().all(axis=1) if reference in wide else wide[model].isna()
        for regime, days in regimes.items():
            kept = wide[both & days]
            own = float(np.sqrt(kept[model].mean())) if len(kept) else math.nan
            other = float(np.sqrt(kept[reference].mean())) if len(kept) else math.nan
            skill = 0.0 if model == reference else 1 - own / other if other else math.nan
            rows.append({"model": model, "regime": regime, "days": len(kept), "rmse": own, "skill": skill})
    return pd.DataFrame(rows)
