"""The scores of generated windows: known answers, and what must be told from what."""

import numpy as np
import pytest
from scipy import stats

from farm.evaluation.generative import generative_scores

DAYS, ASSETS = 12, 4
LIKE = ("discriminative", "predictive_size", "wasserstein", "square_autocorrelation", "cross_correlation")


def market(count: int, seed: int) -> np.ndarray:
    """Days of one factor whose volatility comes in long waves, with fat tails, (count, A)."""
    rng = np.random.default_rng(seed)
    level = np.zeros(count)
    for t in range(1, count):
        level[t] = 0.95 * level[t - 1] + rng.normal(0, 0.2)
    factor = rng.standard_t(10, count)
    return np.exp(level)[:, None] * (factor[:, None] + 0.7 * rng.normal(size=(count, ASSETS)))


def windows(days: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(days, DAYS, axis=0).transpose(0, 2, 1)


def bootstrap(days: np.ndarray, count: int, block: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, len(days) - block + 1, (count, DAYS // block))
    return days[starts[..., None] + np.arange(block)].reshape(count, DAYS, ASSETS)


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    days = market(3000, 0)
    return windows(days[2000:]), windows(days[:2000]), days[:2000]


@pytest.fixture(scope="module")
def scored(world) -> dict[str, dict[str, float]]:
    real, train, days = world
    made = {
        "blocks": bootstrap(days, 800, 6, 1),
        "days": bootstrap(days, 800, 1, 2),
        "noise": np.random.default_rng(3).normal(size=(800, DAYS, ASSETS)) * days.std(),
        "copies": train[::2],
        "fresh": windows(market(2000, 9)),
    }
    return {name: generative_scores(real, x, train, seed=0) for name, x in made.items()}


def test_noise_is_told_from_a_bootstrap_by_every_score_that_it_fails(scored):
    for name in LIKE:
        assert scored["blocks"][name] < scored["noise"][name], name
    assert scored["noise"]["discriminative"] > 0.4
    assert scored["noise"]["cross_correlation"] > 0.4 > 4 * scored["blocks"]["cross_correlation"]


def test_a_bootstrap_of_single_days_loses_what_links_days_and_nothing_else(scored):
    blocks, days = scored["blocks"], scored["days"]
    assert days["discriminative_train"] > blocks["discriminative_train"] + 0.1
    # A block of half a window keeps some of the lags.
    assert days["square_autocorrelation"] > 1.1 * blocks["square_autocorrelation"]
    assert days["square_autocorrelation"] > 1.5 * scored["copies"]["square_autocorrelation"]
    assert days["predictive_size"] > blocks["predictive_size"] + 0.05
    assert days["wasserstein"] == pytest.approx(blocks["wasserstein"], abs=0.1)
    assert days["cross_correlation"] == pytest.approx(blocks["cross_correlation"], abs=0.05)


def test_copies_are_flagged_and_new_windows_are_not(scored):
    assert scored["copies"]["memorised"] == 1.0
    assert scored["copies"]["nearest_ratio"] < 1e-5
    for name in ("fresh", "noise"):
        assert scored[name]["memorised"] < 0.05
        assert scored[name]["nearest_ratio"] > 0.5
    # Half a window that is a copy shows too, but not as a whole one.
    assert 0.05 < scored["blocks"]["memorised"] < 0.9


def test_a_few_copies_among_new_windows_are_counted(world):
    real, train, _ = world
    mixed = windows(market(2000, 9))[:400].copy()
    mixed[::10] = train[::40][:40]
    assert generative_scores(real, mixed, train, seed=0)["memorised"] == pytest.approx(0.1, abs=0.03)


def test_the_real_windows_themselves_score_nothing(world):
    real, train, _ = world
    scores = generative_scores(real, real, train, seed=0)
    for name in ("wasserstein", "kolmogorov", "skewness", "kurtosis", "autocorrelation"):
        assert scores[name] == 0.0
    assert scores["square_autocorrelation"] == scores["cross_correlation"] == 0.0
    assert abs(scores["discriminative"]) < 0.02
    assert scores["nearest_ratio"] == 1.0
    assert scores["memorised"] == pytest.approx(0.01, abs=0.005)


def test_known_answers(world):
    real, train, _ = world
    chosen = real[:800]
    shifted = generative_scores(chosen, chosen + np.array([0.1, 0.2, 0.3, 0.4]), train, seed=0)
    assert shifted["wasserstein"] == pytest.approx(0.25, rel=1e-6)
    expected = np.mean(
        [
            stats.ks_2samp(chosen[..., a].ravel(), chosen[..., a].ravel() + 0.1 * (a + 1)).statistic
            for a in range(ASSETS)
        ]
    )
    assert shifted["kolmogorov"] == pytest.approx(expected, abs=1e-9)
    assert shifted["kurtosis"] == pytest.approx(0, abs=1e-6)
    mirrored = generative_scores(chosen, -chosen, train, seed=0)
    skew = [stats.skew(chosen[..., a].ravel()) for a in range(ASSETS)]
    assert mirrored["skewness"] == pytest.approx(2 * np.abs(skew).mean(), rel=1e-6)
    assert mirrored["autocorrelation"] == pytest.approx(0, abs=1e-9)
    # Signs that alternate from day to day turn the odd lags over, and leave squares and pairs alone.
    flipped = generative_scores(chosen, chosen * np.where(np.arange(DAYS) % 2, -1, 1)[:, None], train, seed=0)
    assert flipped["square_autocorrelation"] < 0.02 < flipped["autocorrelation"]
    assert flipped["cross_correlation"] < 0.01


def test_autocorrelation_is_that_of_the_days(world):
    rng = np.random.default_rng(0)
    days = np.zeros((4000, ASSETS))
    for t in range(1, len(days)):
        days[t] = 0.6 * days[t - 1] + rng.normal(size=ASSETS)
    linked, loose = windows(days)[:1000], rng.normal(size=(1000, DAYS, ASSETS))
    scores = generative_scores(linked, loose, windows(days), seed=0)
    assert scores["autocorrelation"] == pytest.approx(np.mean(0.6 ** np.arange(1, 11)), abs=0.03)
    assert scores["predictive_return"] > 0.15


def test_equal_seeds_give_equal_scores(world, scored):
    real, train, days = world
    assert generative_scores(real, bootstrap(days, 800, 6, 1), train, seed=0) == scored["blocks"]


def test_bad_windows_are_refused(world):
    real, train, _ = world
    with pytest.raises(ValueError, match=r"generated windows \(40, 12, 4\).*at least 50"):
        generative_scores(real, real[:40], train, seed=0)
    with pytest.raises(ValueError, match=r"train windows \(1989, 12, 3\)"):
        generative_scores(real, real, train[..., :3], seed=0)
    broken = real.copy()
    broken[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="1 generated returns are not finite"):
        generative_scores(real, broken, train, seed=0)
