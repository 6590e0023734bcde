import itertools
import math

import numpy as np
import pytest
from scipy import stats

from farm.base.types import RISK_LEVELS, Forecast
from farm.evaluation.value_at_risk import Law, backtest, conditional_law, coverage_law, risk_scores


def series(text):
    return np.array([c == "1" for c in text])


def kupiec_ratio(n, x, level):
    """Kupiec's likelihood ratio, term by term."""
    return 2 * sum(
        count * math.log(count / n / share) for count, share in ((x, level), (n - x, 1 - level)) if count
    )


def independence_ratio(hits):
    """Christoffersen's likelihood ratio, from counts of pairs of days."""
    count = dict.fromkeys(itertools.product((0, 1), repeat=2), 0)
    for pair in itertools.pairwise(hits):
        count[pair] += 1
    pooled = sum(hits[1:]) / (len(hits) - 1)
    ratio = 0.0
    for (before, after), found in count.items():
        if found:
            share = found / (count[before, 0] + count[before, 1])
            ratio += 2 * found * math.log(share / (pooled if after else 1 - pooled))
    return ratio


def test_kupiec_by_hand():
    """250 days with 6 hits at 1 %: LR = 2 [244 ln(.976/.99) + 6 ln(.024/.01)] = 3.5554.

    No hit has 5.0252, so as large a ratio have 0 hits and 6 or more.
    """
    hits = np.zeros(250, dtype=bool)
    hits[::42] = True
    assert hits.sum() == 6
    ratio = 2 * (244 * math.log(0.976 / 0.99) + 6 * math.log(0.024 / 0.01))
    assert ratio == pytest.approx(3.5554, abs=1e-4)
    found = backtest(hits, 0.01)
    assert found.hits == 0.024
    assert found.kupiec_p == pytest.approx(0.99**250 + stats.binom.sf(5, 250, 0.01), rel=1e-9)


def test_independence_by_hand():
    """Two hits on four days, in six orders: 1010 and 0101 have the ratio 3.819, all others 1.046."""
    assert independence_ratio([1, 0, 1, 0]) == pytest.approx(2 * math.log(1.5**2 * 3))
    assert independence_ratio([1, 1, 0, 0]) == pytest.approx(2 * math.log(1.5 * 0.75 * 1.5))
    for text in ("1010", "0101"):
        assert backtest(series(text), 0.5).independence_p == pytest.approx(2 / 6)
    for text in ("1100", "0011", "1001", "0110"):
        assert backtest(series(text), 0.5).independence_p == pytest.approx(1)


@pytest.mark.parametrize("level", [0.05, 0.4])
def test_p_values_are_those_of_all_series_of_days(level):
    """Each of the 1,024 series of ten days, with its probability and its ratios."""
    every = list(itertools.product((0, 1), repeat=10))
    found = [backtest(np.array(hits, dtype=bool), level) for hits in every]
    hits = np.array([sum(own) for own in every])
    chance = level**hits * (1 - level) ** (10 - hits)
    coverage = np.array([kupiec_ratio(10, x, level) for x in hits])
    independence = np.array([independence_ratio(own) for own in every])
    for i in range(0, 1024, 7):
        same = hits == hits[i]
        assert found[i].kupiec_p == pytest.approx(chance[coverage >= coverage[i] - 1e-9].sum())
        assert found[i].independence_p == pytest.approx((independence[same] >= independence[i] - 1e-9).mean())
        total = coverage + independence
        assert found[i].christoffersen_p == pytest.approx(chance[total >= total[i] - 1e-9].sum())
    for name in ("kupiec_p", "independence_p", "christoffersen_p"):
        assert chance[[getattr(own, name) <= 0.05 for own in found]].sum() <= 0.05 + 1e-12, name


@pytest.mark.parametrize("level", [0.01, 0.05])
@pytest.mark.parametrize("n", [60, 250, 390, 1000])
def test_a_right_model_is_rejected_in_five_per_cent_of_cases_at_most(n, level):
    """Over all that a right model may hit; the chi-squared limit rejects it in up to 9.7 %."""
    counts = stats.binom.pmf(np.arange(n + 1), n, level)
    law = coverage_law(n, level)
    size = sum(own for own, found in zip(counts, law.statistic, strict=True) if law.p_value(found) <= 0.05)
    assert 0.01 < size <= 0.05
    both = conditional_law(n, level)
    assert both.share.sum() == pytest.approx(1)
    order = np.argsort(-both.statistic)
    tail = Law(both.statistic[order], both.share[order])
    total = np.cumsum(tail.share)
    last = np.searchsorted(-tail.statistic, -tail.statistic + 1e-9, side="right") - 1
    assert tail.share[total[last] <= 0.05].sum() <= 0.05


def test_no_hit_at_all():
    """Nothing to be dependent; 400 days expect four hits, and eleven or more are as far off."""
    found = backtest(np.zeros(400, dtype=bool), 0.01)
    as_far = [x for x in range(401) if kupiec_ratio(400, x, 0.01) >= kupiec_ratio(400, 0, 0.01)]
    assert as_far[:2] == [0, 11]
    p = stats.binom.pmf(as_far, 400, 0.01).sum()
    assert found == pytest.approx((0.0, p, 1.0, found.christoffersen_p))
    assert p <= found.christoffersen_p < 0.05


def test_hits_in_a_row_are_found_and_hits_at_random_are_not():
    clustered = np.zeros(1000, dtype=bool)
    clustered[300:350] = True
    assert backtest(clustered, 0.05).kupiec_p == pytest.approx(1.0)
    assert backtest(clustered, 0.05).independence_p < 1e-20
    rng = np.random.default_rng(0)
    drawn = [backtest(rng.random(1000) < 0.05, 0.05) for _ in range(400)]
    for p in ("kupiec_p", "christoffersen_p"):
        rejected = np.mean([getattr(found, p) < 0.05 for found in drawn])
        assert rejected < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400), p


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
