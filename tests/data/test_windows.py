import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.base.errors import UserError
from farm.base.types import TestBlockReused
from farm.data.splits import Chronological
from farm.data.windows import next_step_dataset

SPLIT = Chronological(min_rows=2)


def made(n: int = 200, lookback: int = 7, features: int = 3, split: Chronological = SPLIT, seed: int = 0):
    rng = np.random.default_rng(seed)
    table = rng.normal(3, 2, (n, features))
    target = rng.normal(0, 1, n)
    days = np.datetime64("2020-01-01") + np.arange(n)
    return (
        table,
        target,
        days,
        next_step_dataset(table, target, days, ("a", "b", "c")[:features], lookback, split),
    )


def test_windows_are_what_a_plain_loop_gives() -> None:
    table, target, days, data = made()
    n = 200 - 7
    first, second = int(n * 0.7), int(n * 0.8)
    seen = table[: first - 1 + 7]
    scaled = (table - seen.mean(axis=0)) / seen.std(axis=0)
    blocks = {"train": range(first), "val": range(first + 1, second), "test": range(second + 1, n)}
    for block, rows in zip((data.train, data.val, data.open_test()), blocks.values(), strict=True):
        assert len(block) == len(rows)
        for i, s in enumerate(rows):
            np.testing.assert_allclose(block.x[i], scaled[s : s + 7], rtol=1e-5, atol=1e-6)
            assert block.y[i] == np.float32(target[s + 7])
            assert block.truth[i] == target[s + 7]
            assert block.times[i] == days[s + 7]
            assert block.position[i] == s + 7
        assert len(block.series) == block.position[-1] + 1, "a block's series ends with the block"


def test_nothing_is_copied_per_window() -> None:
    *_, data = made(n=2000, lookback=50)
    assert np.shares_memory(data.train.x, data.val.x)
    # One step in time is one row of the one array underneath.
    assert data.train.x.strides[0] == data.train.x.strides[1]


def test_the_scaler_sees_training_rows_only() -> None:
    table, target, days, data = made()
    first = int((200 - 7) * 0.7)
    changed = table.copy()
    changed[first - 1 + 7 :] += 1000.0
    again = next_step_dataset(changed, target, days, ("a", "b", "c"), 7, SPLIT)
    np.testing.assert_array_equal(again.inputs.mean, data.inputs.mean)
    np.testing.assert_array_equal(again.train.x, data.train.x)
    changed[first - 2 + 7] += 1000.0
    assert not np.array_equal(
        next_step_dataset(changed, target, days, ("a", "b", "c"), 7, SPLIT).inputs.mean, data.inputs.mean
    )


def test_a_constant_feature_is_left_alone() -> None:
    table, target, days, _ = made()
    table[:, 1] = 0.1
    data = next_step_dataset(table, target, days, ("a", "b", "c"), 7, SPLIT)
    assert np.isfinite(data.train.x).all()
    assert np.abs(data.train.x[:, :, 1]).max() < 1e-6


def test_the_test_block_is_handed_out_once() -> None:
    *_, data = made()
    data.open_test()
    with pytest.raises(TestBlockReused):
        data.open_test()


@given(
    n=st.integers(10, 3000),
    gap=st.integers(0, 30),
    train=st.floats(0.1, 0.9),
    val=st.floats(0.01, 0.5),
)
@settings(max_examples=300, deadline=None)
def test_blocks_never_touch_across_the_purge_gap(n: int, gap: int, train: float, val: float) -> None:
    try:
        one, two, three = Chronological(train=train, val=val, min_rows=2).blocks(n, gap)
    except UserError:
        return
    assert one.start == 0
    assert three.stop == n
    assert two.start - one.stop == gap
    assert three.start - two.stop == gap
    assert min(block.stop - block.start for block in (one, two, three)) >= 2


def test_too_few_rows_name_the_block() -> None:
    with pytest.raises(UserError, match=r"validation block: got 3 of 60, expected at least 20"):
        Chronological(train=0.7, val=0.07).blocks(60, 1)
    with pytest.raises(UserError, match="more than the lookback"):
        made(n=7, lookback=7)
