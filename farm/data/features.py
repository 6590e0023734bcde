"""Daily features: of one ticker, as the LSTM ablation defines them, and of a target with its peers.

Every feature at day t uses days up to t alone; a window that ends at t - 1 therefore forecasts
day t without looking ahead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from farm.base.errors import UserError, nearest
from farm.data.panel import FIELDS, Bars

ROLLING = 20  # days behind each rolling statistic

FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "raw": ("log_return",),
    "ohlcv": ("log_return", "oc_return", "hl_range", "close_pos", "log_vol", "vol_change"),
    "feat": ("log_return", "roll_vol", "range_norm", "vol_zscore", "mkt_return"),
}
CHANNELS = ("log_return", "roll_vol", "vol_change", "log_range")  # of each asset in a back-filling window
FEATURES = tuple(dict.fromkeys(name for names in FEATURE_SETS.values() for name in names))


def expand(features: object) -> object:
    """Turn the name of a feature set, or a list of feature names, into a tuple of feature names.

    Raises
    ------
    UserError
        If a name is unknown or stands twice.
    """
    if isinstance(features, str):
        if features not in FEATURE_SETS and features not in FEATURES:
            known = (*FEATURE_SETS, *FEATURES)
            raise UserError(f"unknown feature set {features!r}: {nearest(features, known)}")
        return FEATURE_SETS.get(features, (features,))
    if not isinstance(features, list | tuple):
        return features
    for name in features:
        if name not in FEATURES:
            raise UserError(f"unknown feature {name!r}: {nearest(str(name), FEATURES)}")
    if len(set(features)) < len(features) or not features:
        raise UserError(f"features {list(features)!r}: expected at least one, each once")
    return tuple(features)


def log_returns(close: pd.Series) -> pd.Series:
    """Give log(close_t / close_{t-1}); the first day is NaN."""
    return pd.Series(np.log(close.to_numpy()), index=close.index).diff()


def daily_features(bars: Bars, market: Bars) -> pd.DataFrame:
    """Compute every feature on the days that a ticker and its market share.

    Parameters
    ----------
    bars, market
        The ticker and the market index.

    Returns
    -------
    pandas.DataFrame
        One row for each shared day from the first on which every feature is known, (T, 10), no
        NaN. Where a formula is 0/0 its neutral value stands: `close_pos` 0.5 on a day without
        range, `range_norm` 1 and `vol_zscore` 0 after 20 days without range or change of volume.
        `vol_change` takes a day without volume as one share.

    Raises
    ------
    UserError
        If the two share fewer days than one rolling window needs.
    """
    own = pd.DataFrame(bars.values, index=bars.dates, columns=["open", "high", "low", "close", "volume"])
    index = pd.Series(market.close, index=market.dates)
    shared = own.index.intersection(index.index)
    if len(shared) < ROLLING + 2:
        raise UserError(
            f"the market shares {len(shared)} days with the ticker, expected at least {ROLLING + 2}:"
            " choose a market (--market) or dates that overlap"
        )
    own, index = own.loc[shared], index.loc[shared]
    spread = own["high"] - own["low"]
    volume = own["volume"]
    table = pd.DataFrame(index=shared)
    table["log_return"] = log_returns(own["close"])
    table["oc_return"] = (own["close"] - own["open"]) / own["open"]
    table["hl_range"] = spread / own["close"]
    table["close_pos"] = ((own["close"] - own["low"]) / spread.where(spread > 0)).fillna(0.5)
    table["log_vol"] = np.log1p(volume)
    table["vol_change"] = np.log(volume.clip(lower=1.0)).diff()
    table["roll_vol"] = table["log_return"].rolling(ROLLING).std()
    table["range_norm"] = _ratio(table["hl_range"], table["hl_range"].rolling(ROLLING).mean(), neutral=1.0)
    rolling = volume.rolling(ROLLING)
    # A rolling deviation of equal volumes is not exactly 0 in floating point, so ask the extremes.
    flat = rolling.max() == rolling.min()
    table["vol_zscore"] = _ratio(volume - rolling.mean(), rolling.std().mask(flat, 0.0), neutral=0.0)
    table["mkt_return"] = log_returns(index)
    return table.iloc[ROLLING:]  # the first return is NaN, so the first full window ends here


def _ratio(above: pd.Series, below: pd.Series, neutral: float) -> pd.Series:
    """Divide, giving the neutral value where the divisor is exactly 0 and NaN where it is NaN."""
    return (above / below.mask(below == 0)).mask(below == 0, neutral)


def channel_table(assets: Mapping[str, Bars]) -> pd.DataFrame:
    """Compute the back-filling channels of several assets on the days that all of them share.

    Parameters
    ----------
    assets
        Bars by name, the target first.

    Returns
    -------
    pandas.DataFrame
        One row for each shared day from the first on which every channel is known, (T, 4 N), no
        NaN; columns ``ASSET/CHANNEL`` with the four of `CHANNELS` side by side: log return, its
        standard deviation over 20 days, change of log volume (a day without volume counts as one
        share) and log(high / low).

    Raises
    ------
    UserError
        If the assets share fewer days than one rolling window needs; the message names the asset
        that leaves the fewest.
    """
    shared = pd.DatetimeIndex(next(iter(assets.values())).dates)
    for name, bars in assets.items():
        shared = shared.intersection(pd.DatetimeIndex(bars.dates))
        if len(shared) < ROLLING + 2:
            raise UserError(
                f"{name} shares {len(shared)} days with {', '.join(n for n in assets if n != name)},"
                f" expected at least {ROLLING + 2}: choose a --target and --peers that overlap"
            )
    columns = {}
    for name, bars in assets.items():
        table = pd.DataFrame(bars.values, index=pd.DatetimeIndex(bars.dates), columns=list(FIELDS)).loc[
            shared
        ]
        log_return = log_returns(table["close"])
        columns[f"{name}/log_return"] = log_return
        columns[f"{name}/roll_vol"] = log_return.rolling(ROLLING).std()
        columns[f"{name}/vol_change"] = np.log(table["volume"].clip(lower=1.0)).diff()
        columns[f"{name}/log_range"] = np.log(table["high"]) - np.log(table["low"])
    return pd.DataFrame(columns).iloc[ROLLING:]
