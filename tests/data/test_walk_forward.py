from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.base.errors import UserError
from farm.data.splits import WalkForward
from farm.data.windows import next_step_dataset


@given(
    n=st.integers(30, 3000),
    gap=st.integers(1, 30),
    windows=st.integers(1, 12),
    first=st.floats(0.1, 0.9),
    val=st.floats(0.02, 0.5),
)
@settings(max_examples=200, deadline=None)
def test_windows_grow_test_every_later_day_once_and_never_overlap_their_purge(n, gap, windows, first, val):
    split = WalkForward(windows=windows, first=first, val=val, min_rows=2)
    try:
        blocks = split.blocks(n, gap)
    except UserError:
        return
    assert len(blocks) == windows
    for train, held_out, test in blocks:
        assert train.start == 0
        # A target at row r spans the days r .. r + gap - 1.
        assert train.stop - 1 + gap < held_out.start
        assert held_out.stop - 1 + gap < test.start
        assert all(block.stop - block.start >= 2 for block in (train, held_out, test))
    tested = [row for _, _, test in blocks for row in range(test.start, test.stop)]
    assert tested == list(range(int(n * first), n))
    for (train, _, test), (later_train, _, later_test) in pairwise(blocks):
        assert later_train.stop > train.stop
        assert later_test.start == test.stop
    sizes = [test.stop - test.start for _, _, test in blocks]
    assert max(sizes) - min(sizes) <= 1


def test_the_usual_windows_of_2000_days_by_hand():
    blocks = WalkForward().blocks(2000, gap=1)
    assert [(t.stop, v.start, v.stop, s.start, s.stop) for t, v, s in blocks] == [
        (898, 899, 999, 1000, 1250),
        (1123, 1124, 1249, 1250, 1500),
        (1348, 1349, 1499, 1500, 1750),
        (1573, 1574, 1749, 1750, 2000),
    ]


@pytest.mark.parametrize("split", [WalkForward(), WalkForward(windows=9, first=0.3, val=0.02, min_rows=7)])
def test_too_few_days_are_named_and_no_more_than_needed(split):
    with pytest.raises(UserError) as caught:
        split.blocks(40, gap=1)
    needed = int(str(caught.value).split("expected at least ")[1].split(":")[0])
    assert f"give a panel {needed - 40} days longer" in str(caught.value)
    assert len(split.blocks(needed, gap=1)) == split.windows
    with pytest.raises(UserError, match="too few days"):
        split.blocks(needed - 1, gap=1)


def made(n=450, lookback=5, seed=0, changed_from=None):
    rng = np.random.default_rng(seed)
    table, target = rng.normal(3, 2, (n, 2)), rng.normal(0, 1, n)
    if changed_from is not None:
        table[changed_from:] += 5
        target[changed_from:] *= -3
    days = np.datetime64("2020-01-01") + np.arange(n)
    return table, next_step_dataset(table, target, days, ("a", "b"), lookback, WalkForward(windows=4))


def test_each_fit_has_a_scaler_of_its_own_and_samples_say_whose_they_are():
    table, data = made()
    test = data.open_test()
    np.testing.assert_array_equal(np.unique(test.refit), np.arange(4))
    for k, (refit, blocks) in enumerate(zip(data.refits, WalkForward().blocks(445, gap=1), strict=True)):
        train, val, rows = blocks
        seen = table[: train.stop - 1 + 5]
        np.testing.assert_allclose(refit.inputs.mean, seen.mean(axis=0))
        assert (len(refit.train), len(refit.val)) == (train.stop, val.stop - val.start)
        own = test.take(slice(*np.searchsorted(test.refit, [k, k + 1])))
        assert len(own) == rows.stop - rows.start
        scaled = (table[rows.start : rows.start + 5] - seen.mean(axis=0)) / seen.std(axis=0)
        np.testing.assert_allclose(own.x[0], scaled, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(own.position, np.arange(rows.start, rows.stop) + 5)
        assert (own.refit == k).all()
    np.testing.assert_array_equal(test.truth, test.series[test.position])
    assert np.diff(test.position).tolist() == [1] * (len(test) - 1)
    assert len(data.val) == sum(len(refit.val) for refit in data.refits)


def test_no_window_knows_what_comes_after_its_own_test_block():
    _, data = made()
    _, other = made(changed_from=5 + 277)  # the first day of the second test block
    for mine, theirs in zip(data.refits[:2], other.refits[:2], strict=True):
        np.testing.assert_array_equal(mine.train.x, theirs.train.x)
        np.testing.assert_array_equal(mine.val.y, theirs.val.y)
        np.testing.assert_array_equal(mine.inputs.scale, theirs.inputs.scale)
    assert not np.array_equal(data.refits[2].inputs.mean, other.refits[2].inputs.mean)
