"""Tests that count what was tried: slow references, worlds with no gain, worlds with one."""

import math

import numpy as np
import pytest
from arch.bootstrap import SPA, StepM

from farm.evaluation.selection import model_confidence_set, spa_p_value, step_m, stepwise_p_values
from farm.evaluation.significance import mean_block_length, resampled_rows

FOUR_ERRORS = 4 * math.sqrt(0.05 * 0.95 / 400)  # of a share of 5 % in 400 worlds


def squared_errors(days, gains, seed, memory=0.0):
    """Squared errors of a reference and of one model for each gain in RMSE, from errors with a memory."""
    rng = np.random.default_rng(seed)
    errors = rng.standard_normal((days, 1 + len(gains)))
    for t in range(1, days):
        errors[t] = memory * errors[t - 1] + math.sqrt(1 - memory**2) * errors[t]
    common = rng.standard_normal((days, 1))
    squared = ((errors + 0.5 * common) * (1 - np.array([0.0, *gains]))) ** 2
    return squared[:, 0], squared[:, 1:]


def slow_spa(reference, models, block, resamples, seed):
    """Hansen's test, one resample and one model at a time."""
    days, count = models.shape
    gains = [[reference[t] - models[t, k] for t in range(days)] for k in range(count)]
    rows = resampled_rows(days, resamples=resamples, seed=seed, block=block)
    statistics, lucks = [], []
    for gain in map(np.array, gains):
        mean, deviation = np.mean(gain), np.std(gain)
        means = [np.mean(gain[drawn]) for drawn in rows]
        far_below = mean < -np.std(means) * math.sqrt(2 * math.log(math.log(days)))
        statistics.append(mean / deviation)
        luck = []
        for drawn, drawn_mean in zip(rows, means, strict=True):
            held = min(max(np.std(gain[drawn]), 0.85 * deviation), deviation)
            luck.append((drawn_mean - mean) / held + (mean / deviation if far_below else 0.0))
        lucks.append(luck)
    best = max(statistics)
    return np.mean([max(luck[r] for luck in lucks) >= best for r in range(resamples)])


def test_agrees_with_a_slow_computation_and_with_its_steps():
    reference, models = squared_errors(80, [0.05, -0.4, 0.2, 0.0, 0.15], seed=3, memory=0.5)
    options = {"block": 4, "resamples": 200, "seed": 9}
    p_values = stepwise_p_values(reference, models, **options)
    gain = reference[:, None] - models
    order = np.argsort(-gain.mean(axis=0) / gain.std(axis=0))
    highest = 0.0
    for step, k in enumerate(order):
        p = slow_spa(reference, models[:, order[step:]], **options)
        highest = max(highest, p)
        expected = highest if gain[:, k].mean() > 0 else 1.0
        assert p_values[k] == pytest.approx(expected, abs=1e-12), (step, k)
    assert 0 < p_values[order[0]] < p_values[order[1]] < 1
    assert spa_p_value(reference, models, **options) == p_values[order[0]]
    level = (p_values[order[0]] + p_values[order[1]]) / 2
    assert step_m(reference, models, level=level, **options) == (order[0],)


@pytest.mark.parametrize("gains", [[0.02, 0.0, -0.1], [0.0, 0.01, 0.01, 0.0], [-0.01, 0.0, -0.3]])
def test_agrees_with_the_library_where_models_are_equally_noisy(gains):
    reference, models = squared_errors(1500, gains, seed=1)
    # The library compares plain means: give it gains of one size.
    gain = reference[:, None] - models
    gain /= gain.std(axis=0)
    library = SPA(np.zeros(len(gain)), -gain, block_size=2, reps=1000, seed=0)
    library.compute()
    ours = spa_p_value(np.zeros(len(gain)), -gain, block=2, resamples=1000)
    assert ours == pytest.approx(library.pvalues["consistent"], abs=0.06)  # four errors of two draws


def test_a_noisy_model_hides_no_other_and_all_can_be_superior():
    reference, models = squared_errors(300, [0.15, 0.15], seed=0)
    noise = np.random.default_rng(1).standard_normal(300)
    noisy = reference + 30 * (noise - noise.mean())
    assert step_m(reference, np.column_stack([noisy, models]), block=1) == (1, 2)
    assert step_m(reference, models, block=1) == (0, 1)
    # What the library does there, and why it is not used.
    library = StepM(reference, np.column_stack([noisy, models]), block_size=1, seed=0)
    library.compute()
    assert library.superior_models == []


def test_the_best_of_fifty_equal_models_is_seldom_called_better():
    found = {1: 0, 50: 0}
    for seed in range(400):
        reference, models = squared_errors(100, np.zeros(50), seed)
        for tried in found:
            p = spa_p_value(reference, models[:, :tried], block=1, resamples=100, seed=seed)
            found[tried] += p < 0.05
    for tried, count in found.items():
        assert 0 < count / 400 < 0.05 + FOUR_ERRORS, tried


def test_errors_with_a_memory_do_not_pass_for_a_gain():
    found = 0
    for seed in range(200):
        reference, models = squared_errors(250, np.zeros(10), seed, memory=0.7)
        block = mean_block_length(reference - models[:, 0])
        found += spa_p_value(reference, models, block=block, resamples=100, seed=seed) < 0.05
    assert found / 200 < 0.05 + FOUR_ERRORS * math.sqrt(2)


def test_true_gains_are_found_and_few_false_ones_beside_them():
    missed = false = 0
    for seed in range(100):
        reference, models = squared_errors(250, [0.25] * 3 + [0.0] * 17, seed)
        found = step_m(reference, models, block=1, resamples=200, seed=seed)
        missed += sum(k not in found for k in range(3))
        false += any(k >= 3 for k in found)
    assert missed / 300 < 0.15
    assert false / 100 < 0.05 + FOUR_ERRORS * 2


def test_equal_seeds_give_equal_bits_and_columns_may_stand_in_any_order():
    reference, models = squared_errors(90, [0.1, 0.0, 0.05, -0.2], seed=4)
    one = stepwise_p_values(reference, models, block=2, resamples=100)
    np.testing.assert_array_equal(one, stepwise_p_values(reference, models, block=2, resamples=100))
    assert not np.array_equal(one, stepwise_p_values(reference, models, block=2, resamples=100, seed=1))
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(
        stepwise_p_values(reference, models[:, order], block=2, resamples=100), one[order]
    )
    set_of = model_confidence_set(models, block=2, resamples=100)
    other = model_confidence_set(models[:, order], block=2, resamples=100)
    np.testing.assert_array_equal(other.p_values, set_of.p_values[order])
    assert {order[k] for k in other.members} == set(set_of.members)


def test_lost_days_are_left_out_for_all():
    reference, models = squared_errors(90, [0.1, 0.0, 0.05], seed=4)
    holes = models.copy()
    holes[10:20, 1] = np.nan
    short = reference.copy()
    short[:5] = np.nan
    common = [t for t in range(5, 90) if not 10 <= t < 20]
    options = {"block": 2, "resamples": 100}
    np.testing.assert_array_equal(
        stepwise_p_values(short, holes, **options),
        stepwise_p_values(reference[common], models[common], **options),
    )
    assert (
        model_confidence_set(holes[5:], **options).members
        == model_confidence_set(models[common], **options).members
    )
    # A model that failed altogether is no reason to judge nobody.
    failed = np.column_stack([models, np.full(90, np.nan)])
    np.testing.assert_array_equal(
        stepwise_p_values(reference, failed, **options),
        [*stepwise_p_values(reference, models, **options), np.nan],
    )
    assert math.isnan(model_confidence_set(failed, **options).p_values[3])


def test_too_few_days_or_no_models_judge_nothing():
    reference, models = squared_errors(9, [0.5], seed=0)
    assert np.isnan(stepwise_p_values(reference, models, block=1)).all()
    assert math.isnan(spa_p_value(reference, models, block=1))
    assert step_m(reference, models, block=1) == ()
    assert model_confidence_set(models, block=1).members == ()
    assert math.isnan(spa_p_value(np.ones(20), np.empty((20, 0)), block=1))
    assert math.isnan(spa_p_value(np.full(20, np.nan), np.ones((20, 2)), block=1))


def test_losses_that_do_not_vary_against_the_reference():
    reference, models = squared_errors(60, [0.0], seed=0)
    other = np.column_stack([reference, reference - 0.1, reference + 0.1, models[:, 0] + 5])
    np.testing.assert_array_equal(stepwise_p_values(reference, other, block=2, resamples=50), [1, 0, 1, 1])
    # A model that differs from the reference on one day only.
    one_day = reference.copy()
    one_day[30] -= 0.01
    p = spa_p_value(reference, one_day[:, None], block=1, resamples=400)
    assert 0.2 < p < 0.7  # one day shows nothing, and it is there in 63 % of the resamples


def test_shapes_and_blocks_are_checked():
    with pytest.raises(ValueError, match=r"\(3,\) and \(4, 2\)"):
        stepwise_p_values(np.zeros(3), np.zeros((4, 2)), block=1)
    reference, models = squared_errors(30, [0.1], seed=0)
    with pytest.raises(ValueError, match="at least 1"):
        stepwise_p_values(reference, models, block=0)
    with pytest.raises(ValueError, match="at least a day"):
        model_confidence_set(np.column_stack([reference, models]), block=0)


def slow_confidence_set(losses, block, resamples, seed):
    """The model confidence set by T_max, with the formulas of the paper."""
    rows = resampled_rows(len(losses), resamples=resamples, seed=seed, block=block)
    means = losses.mean(axis=0)
    drawn = np.array([losses[r].mean(axis=0) for r in rows]) - means
    left, p_values, highest = list(range(losses.shape[1])), {}, 0.0
    while len(left) > 1:
        above = {i: means[i] - np.mean(means[left]) for i in left}
        error = {i: drawn[:, i] - drawn[:, left].mean(axis=1) for i in left}
        size = {i: math.sqrt(np.mean(error[i] ** 2)) for i in left}
        t = {i: above[i] / size[i] for i in left}
        worst = max(left, key=t.get)
        highest = max(highest, np.mean(np.max([error[i] / size[i] for i in left], axis=0) > t[worst]))
        p_values[worst] = highest
        left.remove(worst)
    return np.array([p_values.get(k, 1.0) for k in range(losses.shape[1])])


def test_the_confidence_set_agrees_with_a_slow_computation():
    _, losses = squared_errors(120, [0.2, 0.0, 0.15, -0.2, 0.1], seed=2)
    members, p_values = model_confidence_set(losses, block=3, resamples=300, seed=5)
    expected = slow_confidence_set(losses, 3, 300, 5)
    np.testing.assert_allclose(p_values, expected, atol=1e-12)
    assert members == tuple(np.flatnonzero(expected > 0.05))
    assert len(members) < 5


def test_the_confidence_set_keeps_the_best_and_drops_the_worst():
    kept = dropped = 0
    for seed in range(100):
        _, losses = squared_errors(250, [0.0, 0.05, 0.05, -0.5], seed)
        members, p_values = model_confidence_set(losses, block=1, resamples=100, seed=seed)
        kept += {1, 2} <= set(members)
        dropped += 3 not in members
        assert p_values.max() == 1
    assert kept >= 85
    assert dropped >= 95


def test_equal_models_have_one_place_in_the_confidence_set():
    _, losses = squared_errors(120, [0.1, -0.3, 0.0], seed=2)
    twins = np.column_stack([losses, losses[:, 1], losses[:, 0] * (1 + 1e-16)])
    p_values = model_confidence_set(twins, block=1, resamples=100).p_values
    np.testing.assert_array_equal(p_values[:3], model_confidence_set(losses, block=1, resamples=100).p_values)
    assert (p_values[3], p_values[4]) == (p_values[1], p_values[0])
    assert model_confidence_set(twins[:, [0, 0, 0]], block=1) == ((0, 1, 2), pytest.approx([1, 1, 1]))
    assert model_confidence_set(np.zeros((30, 2)), block=1).members == (0, 1)
