import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from farm.evaluation.pareto import best_first, front

COSTS = st.integers(1, 3).flatmap(
    lambda m: st.integers(1, 12).flatmap(
        lambda n: arrays(np.float64, (n, m), elements=st.integers(0, 4).map(float))
    )
)


@given(COSTS)
def test_the_front_is_what_nothing_dominates(costs: np.ndarray) -> None:
    marks = front(costs)
    for i, mine in enumerate(costs):
        beaten = any((other <= mine).all() and (other < mine).any() for other in costs)
        assert marks[i] == (not beaten)


@given(COSTS)
def test_the_order_starts_on_the_front_and_does_not_depend_on_units(costs: np.ndarray) -> None:
    order = best_first(costs)
    assert sorted(order) == list(range(len(costs)))
    on = front(costs)[order]
    assert (np.sort(on)[::-1] == on).all()
    scale = np.array([1024.0, 0.25, 8.0])[: costs.shape[1]]  # powers of two: no rounding
    if np.ptp(costs[front(costs)], axis=0).all():
        np.testing.assert_array_equal(best_first(costs * scale), order)
    if costs.shape[1] == 1:
        assert costs[order[0]] == costs.min()


def test_a_knee_is_picked_and_the_ends_are_not() -> None:
    costs = np.array([[0.0, 10.0], [10.0, 0.0], [2.0, 2.0], [9.0, 9.0]])
    assert front(costs).tolist() == [True, True, True, False]
    assert best_first(costs).tolist()[0] == 2


@pytest.mark.parametrize("costs", [np.empty((0, 2)), np.array([[3.0, 3.0]])])
def test_few_points(costs: np.ndarray) -> None:
    assert best_first(costs).tolist() == list(range(len(costs)))
