import math

import numpy as np
import pytest

from farm.base.errors import UserError
from farm.data.features import FEATURE_SETS, FEATURES, daily_features, expand
from farm.data.panel import Bars


def slow_features(bars: Bars, market: Bars, t: int) -> dict[str, float]:
    """The formulas of the ablation, one day at a time, from days up to t alone."""
    o, h, low, c, v = bars.values[t]
    closes, volumes = bars.close[: t + 1], bars.volume[: t + 1]
    returns = [math.log(closes[i] / closes[i - 1]) for i in range(t - 19, t + 1)]
    ranges = [(bars.high[i] - bars.low[i]) / bars.close[i] for i in range(t - 19, t + 1)]
    window = volumes[-20:]
    mean, sd = np.mean(window), np.std(window, ddof=1)
    return {
        "log_return": returns[-1],
        "oc_return": (c - o) / o,
        "hl_range": (h - low) / c,
        "close_pos": (c - low) / (h - low) if h > low else 0.5,
        "log_vol": math.log(1 + v),
        "vol_change": math.log(max(v, 1) / max(volumes[-2], 1)),
        "roll_vol": float(np.std(returns, ddof=1)),
        "range_norm": ranges[-1] / float(np.mean(ranges)) if any(ranges) else 1.0,
        "vol_zscore": float((v - mean) / sd) if len(set(window)) > 1 else 0.0,
        "mkt_return": math.log(market.close[t] / market.close[t - 1]),
    }


@pytest.fixture
def awkward(make_bars) -> tuple[Bars, Bars]:
    """Bars with flat days, days without volume and stretches of equal volume."""
    rng = np.random.default_rng(5)
    bars, market = make_bars(rng.normal(0, 0.02, 150)), make_bars(rng.normal(0, 0.01, 150), seed=2)
    values = bars.values.copy()
    values[40, :4] = values[40, 3]  # no range on a day
    values[60:85, :4] = values[60:85, 3:4]  # nor for more than a window
    values[[50, 51, 90], 4] = 0.0  # no volume
    values[100:130, 4] = 1234567.89  # the same volume for more than a window
    return Bars(bars.dates, values), market


def test_agrees_with_the_formulas_day_by_day(awkward) -> None:
    bars, market = awkward
    table = daily_features(bars, market)
    assert list(table.columns) == list(FEATURES)
    assert np.isfinite(table.to_numpy()).all()
    assert len(table) == 130
    for row, t in zip(table.to_dict("records"), range(20, 150), strict=True):
        expected = slow_features(bars, market, t)
        for name, value in row.items():
            assert value == pytest.approx(expected[name], rel=1e-6, abs=1e-9), (name, t)


def test_keeps_the_days_that_both_have(awkward) -> None:
    bars, market = awkward
    holes = np.ones(150, dtype=bool)
    holes[[30, 77]] = False
    gappy = Bars(market.dates[holes], market.values[holes])
    table = daily_features(bars, gappy)
    assert len(table) == 128
    assert not set(bars.dates[~holes]) & set(table.index.to_numpy().astype("datetime64[D]"))


def test_a_market_without_overlap_is_refused(awkward) -> None:
    bars, market = awkward
    late = Bars(market.dates + np.timedelta64(10_000, "D"), market.values)
    with pytest.raises(UserError, match="shares 0 days"):
        daily_features(bars, late)


def test_sets_are_the_ones_of_the_ablation() -> None:
    assert FEATURE_SETS["raw"] == ("log_return",)
    assert len(FEATURE_SETS["ohlcv"]) == 6
    assert len(FEATURE_SETS["feat"]) == 5
    assert expand("feat") == FEATURE_SETS["feat"]
    assert expand(["hl_range", "log_return"]) == ("hl_range", "log_return")


@pytest.mark.parametrize("bad", ["fat", ["log_return", "log_retrun"], ["log_vol", "log_vol"], []])
def test_unknown_or_doubled_features_are_refused(bad) -> None:
    with pytest.raises(UserError) as caught:
        expand(bad)
    assert "\n" not in str(caught.value)
