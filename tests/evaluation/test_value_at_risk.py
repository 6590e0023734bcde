import math

import numpy as np
import pytest
from scipy import stats

from farm.base.types import RISK_LEVELS, Forecast
from farm.evaluation.value_at_risk import backtest, risk_scores


def series(text):
    return np.array([c == "1" for c in text])


def test_kupiec_by_hand():
    """250 days with 6 hits at 1 %: LR = 2 [244 ln(.976/.99) + 6 ln(.024/.01)] = 3.5554."""
    hits = np.zeros(250, dtype=bool)
    hits[::42] = True
    assert hits.sum() == 6
    ratio = 2 * (244 * math.log(0.976 / 0.99) + 6 * math.log(0.024 / 0.01))
    assert ratio == pytest.approx(3.5554, abs=1e-4)
    found = backtest(hits, 0.01)
    assert found.hits == 0.024
    assert found.kupiec_p == pytest.approx(0.05935, abs=1e-5)  # the chi-squared tail with 1 degree


def test_christoffersen_by_hand():
    """0 0 1 1 1 0 0 0 0 1: after a miss 4 misses and 2 hits, after a hit 1 miss and 2 hits.

    pi01 = 2/6, pi11 = 2/3, pi = 4/9. ln L1 = 4 ln(2/3) + 2 ln(1/3) + ln(1/3) + 2 ln(2/3) = -5.7286,
    ln L0 = 5 ln(5/9) + 4 ln(4/9) = -6.1827, LR = 0.9081.
    """
    found = backtest(series("0011100001"), 0.4)
    ratio = 2 * (6 * math.log(2 / 3) + 3 * math.log(1 / 3) - 5 * math.log(5 / 9) - 4 * math.log(4 / 9))
    assert ratio == pytest.approx(0.9081, abs=1e-4)
    assert found.independence_p == pytest.approx(stats.chi2.sf(ratio, 1), rel=1e-9)
    assert found.kupiec_p == pytest.approx(1.0)  # 4 hits of 10, as said
    assert found.christoffersen_p == pytest.approx(stats.chi2.sf(ratio, 2), rel=1e-9)


def test_no_hit_at_all():
    """Nothing to be dependent; the coverage statistic is -2 n ln(1 - p)."""
    found = backtest(np.zeros(400, dtype=bool), 0.01)
    ratio = -2 * 400 * math.log(0.99)
    assert found == pytest.approx((0.0, stats.chi2.sf(ratio, 1), 1.0, stats.chi2.sf(ratio, 2)))


def test_hits_in_a_row_are_found_and_hits_at_random_are_not():
    clustered = np.zeros(1000, dtype=bool)
    clustered[300:350] = True
    assert backtest(clustered, 0.05).kupiec_p == pytest.approx(1.0)
    assert backtest(clustered, 0.05).independence_p < 1e-20
    rng = np.random.default_rng(0)
    drawn = [backtest(rng.random(1000) < 0.05, 0.05) for _ in range(400)]
    for p in ("kupiec_p", "christoffersen_p"):
        rejected = np.mean([getattr(found, p) < 0.05 for found in drawn])
        assert abs(rejected - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 400), p


def test_scores_read_the_low_quantiles_alone():
    truth = np.random.default_rng(1).normal(size=500)
    quantiles = np.tile(stats.norm.ppf(RISK_LEVELS), (500, 1))
    scores = risk_scores(Forecast(quantiles[:, 4], quantiles, RISK_LEVELS), truth)
    assert scores["var1_hits"] == np.mean(truth < stats.norm.ppf(0.01))
    assert scores["var5_hits"] == np.mean(truth < stats.norm.ppf(0.05))
    assert scores["var1_kupiec_p"] == backtest(truth < stats.norm.ppf(0.01), 0.01).kupiec_p
    higher = quantiles + 5 * (np.array(RISK_LEVELS) > 0.5)
    assert risk_scores(Forecast(quantiles[:, 4], higher, RISK_LEVELS), truth) == scores
    middle = Forecast(quantiles[:, 4], quantiles[:, 2:7], RISK_LEVELS[2:7])
    assert risk_scores(middle, truth) == {}
    assert set(risk_scores(Forecast(quantiles[:, 4], quantiles[:, 1:8], RISK_LEVELS[1:8]), truth)) == {
        f"var5_{name}" for name in ("hits", "kupiec_p", "independence_p", "christoffersen_p")
    }


def test_a_single_day_is_refused():
    with pytest.raises(ValueError, match="got 1 days"):
        backtest(np.zeros(1, dtype=bool), 0.05)
