"""What a forecast's sign would have earned, before and after costs: an illustration, not a backtest.

Shape letters: D days, P replicates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from farm.base.types import Floats
from farm.evaluation.significance import mean_block_length, percentile_interval, resampled_weights

COSTS = (0, 1, 5)  # basis points of what is traded
DAYS_A_YEAR = 252
HOLD = "buy and hold"
_BASIS_POINT = 1e-4


def sign_strategy(
    predictions: pd.DataFrame, costs: Sequence[int] = COSTS, *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Hold one unit of a stock on days with a positive forecast, owe one on days with a negative one.

    The position of a day is the sign of its forecast, taken at the close before and held to the close; a
    forecast of 0, or none, is no position. A change of position costs in proportion to its size, so a
    turn from long to short costs twice an entry. The money is spread evenly over the tickers of each day.
    Returns are simple and are added, not compounded.

    Parameters
    ----------
    predictions
        One row for each forecast: ``date``, ``ticker``, ``model``, ``seed``, ``actual`` (a log return) and
        ``predicted``. A row with a NaN in `actual` is left out.
    costs
        In basis points of what is traded, one way.
    resamples, seed
        Of the stationary bootstrap of days behind the intervals.

    Returns
    -------
    DataFrame
        One row for each model and one for ``buy and hold``, best after the first cost first: ``turnover``,
        units traded a year and ticker; ``long``, the share of days with a long position; and for each
        cost, such as ``1bp``: ``return_1bp`` a year, ``sharpe_1bp`` (the yearly mean over the yearly
        standard deviation, without a riskless rate; NaN without movement) and ``over_hold_1bp`` with
        ``_lo`` and ``_hi``, the return less that of holding after the same costs and its 95 % interval,
        which is not adjusted for the number of models. All are means over seeds.
    """
    known = predictions.dropna(subset="actual")
    truths = known.pivot_table(index="date", columns="ticker", values="actual", aggfunc="first")
    moves = truths.map(np.expm1)
    held = pd.DataFrame(1.0, index=moves.index, columns=moves.columns)
    hold = {cost: _portfolio(moves, held, cost) for cost in costs}
    block = mean_block_length(hold[costs[0]])
    weights = resampled_weights(len(moves), resamples=resamples, seed=seed, block=min(block, len(moves)))
    rows = [{"model": HOLD, **_row([held], moves, hold, costs, weights)}]
    for model, own in known.groupby("model", sort=False):
        positions = [
            one.pivot_table(index="date", columns="ticker", values="predicted")
            .map(np.sign)
            .reindex_like(moves)
            .fillna(0.0)
            for _, one in own.groupby("seed")
        ]
        rows.append({"model": str(model), **_row(positions, moves, hold, costs, weights)})
    table = pd.DataFrame(rows)
    return table.sort_values(f"return_{costs[0]}bp", ascending=False, kind="stable").reset_index(drop=True)


def _traded(positions: pd.DataFrame) -> pd.DataFrame:
    """Give how much each day's position differs from that of the day before; it begins with none."""
    return positions.diff().fillna(positions).abs()


def _portfolio(moves: pd.DataFrame, positions: pd.DataFrame, cost: int) -> Floats:
    """Give the return of each day after costs, mean over tickers, (D,)."""
    net = positions * moves - cost * _BASIS_POINT * _traded(positions)
    daily: Floats = net.where(moves.notna()).mean(axis=1).to_numpy(np.float64)
    return daily


def _row(
    seeds: Sequence[pd.DataFrame],
    moves: pd.DataFrame,
    hold: dict[int, Floats],
    costs: Sequence[int],
    weights: csr_array,
) -> dict[str, float]:
    days = len(moves)
    row = {
        "turnover": float(np.mean([_traded(p).to_numpy().mean() for p in seeds])) * DAYS_A_YEAR,
        "long": float(np.mean([(p.to_numpy() > 0).mean() for p in seeds])),
    }
    for cost in costs:
        daily = [_portfolio(moves, positions, cost) for positions in seeds]
        ahead = np.mean(daily, axis=0) - hold[cost]
        drawn = DAYS_A_YEAR * np.asarray(weights @ ahead) / days
        low, high = percentile_interval(drawn)
        row |= {
            f"return_{cost}bp": DAYS_A_YEAR * float(np.mean(daily)),
            f"sharpe_{cost}bp": float(np.mean([_sharpe(one) for one in daily])),
            f"over_hold_{cost}bp": DAYS_A_YEAR * float(ahead.mean()),
            f"over_hold_{cost}bp_lo": low,
            f"over_hold_{cost}bp_hi": high,
        }
    return row


def _sharpe(daily: Floats) -> float:
    spread = float(daily.std(ddof=1)) if len(daily) > 1 else 0.0
    return math.sqrt(DAYS_A_YEAR) * float(daily.mean()) / spread if spread > 0 else math.nan
