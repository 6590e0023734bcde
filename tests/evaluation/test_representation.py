from itertools import permutations

import numpy as np
import pytest

from farm.evaluation.representation import alignment, centred_kernels, linear_probe


def brute_hsic(x, y):
    """The unbiased estimate as the U-statistic that defines it: a mean over all ordered quadruples."""
    k, m = x @ x.T, y @ y.T
    found = [
        k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(len(x)), 4)
    ]  # fmt: skip
    return float(np.mean(found))


def cka(x, y):
    return alignment(centred_kernels([x, y]))[0, 1]


def test_alignment_is_the_ratio_of_brute_force_hsic():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    y[:, 0] += x[:, 0]
    expected = brute_hsic(x, y) / np.sqrt(brute_hsic(x, x) * brute_hsic(y, y))
    assert cka(x, y) == pytest.approx(expected, abs=1e-5)


def test_alignment_ignores_rotation_scale_and_place_but_not_a_stretch():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 6)) * [5, 3, 2, 1, 1, 1]
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert cka(x, 3.7 * x @ turn + 11) == pytest.approx(1.0, abs=1e-5)
    assert cka(x, x * [0.1, 1, 1, 1, 1, 8]) < 0.9


@pytest.mark.parametrize("width", [4, 200])
def test_independent_states_align_at_about_zero_however_wide(width):
    """The biased estimate is about D / (B + D) for them: 0.57 of width 200 and 150 days."""
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        found.append(cka(rng.normal(size=(150, width)), rng.normal(size=(150, width))))
    assert abs(np.mean(found)) < 0.02


def test_a_state_that_does_not_move_aligns_with_nothing():
    rng = np.random.default_rng(2)
    assert cka(np.ones((30, 3)), rng.normal(size=(30, 3))) == 0


def test_a_shift_is_the_alignment_with_moved_days():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 40, 3))
    moved = alignment(centred_kernels([x, y]), shift=7)[0, 1]
    assert moved == pytest.approx(cka(x, np.roll(y, 7, axis=0)), abs=1e-6)


def slow_series(days, memory, rng):
    values = rng.normal(size=days)
    for t in range(1, days):
        values[t] = memory * values[t - 1] + np.sqrt(1 - memory**2) * values[t]
    return values


def probed(states, target, seed=0):
    n = len(states)
    return linear_probe(states, target, int(0.6 * n), int(0.75 * n), gap=20, shifts=39, seed=seed)


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_a_planted_factor_is_found(memory):
    rng = np.random.default_rng(4)
    factor = slow_series(900, memory, rng)
    states = rng.normal(size=(900, 1)) * rng.normal(size=(1, 16)) + np.outer(factor, rng.normal(size=16))
    states += 0.3 * rng.normal(size=states.shape)
    probe = probed(states, factor)
    assert probe.r2 > 0.7
    assert probe.p_value == 1 / 40
    assert probe.chance < 0.4


@pytest.mark.parametrize("memory", [0.0, 0.95])
def test_nothing_is_found_in_noise_also_where_both_have_a_memory(memory):
    """The target and every unit of the state are slow and know nothing of each other."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        states = np.stack([slow_series(400, memory, rng) for _ in range(5)], axis=1)
        found.append(probed(states, slow_series(400, memory, rng), seed).p_value)
    # 5 % each by chance: more than 6 of 40 in one of 70 worlds.
    assert sum(p <= 0.05 for p in found) <= 6
    assert np.mean(found) > 0.35


def test_the_scored_days_and_the_gaps_teach_nothing():
    rng = np.random.default_rng(5)
    states, target = rng.normal(size=(300, 4)), rng.normal(size=300)
    before = probed(states, target)
    spoiled, truth = states.copy(), target.copy()
    for gap in (slice(180, 200), slice(225, 245)):
        spoiled[gap] += 100
        truth[gap] -= 100
    # Shifted targets carry what was spoiled elsewhere; the true one does not.
    assert probed(spoiled, truth).r2 == pytest.approx(before.r2, abs=1e-12)
    with pytest.raises(ValueError, match="too short"):
        linear_probe(states, target, 200, 210, gap=20)
