"""Windows over days of surfaces, and how their days are cut into blocks."""

import dataclasses

import numpy as np
import pytest

from farm.base.errors import UserError
from farm.data.simulate import simulate
from farm.data.splits import Blocks, SurfaceSplit
from farm.data.surface import Surfaces
from farm.data.surface_windows import cell_names, surface_dataset
from tests.surface_world import record

BLOCKS = Blocks(slice(20, 100), slice(110, 140), slice(150, 180), slice(190, 230))
CONTEXT = 6


@pytest.fixture(scope="module")
def surfaces() -> Surfaces:
    return record(230)


def test_windows_against_a_slow_reference(surfaces: Surfaces):
    data = surface_dataset(surfaces, CONTEXT, BLOCKS)
    rows = np.concatenate([np.log(surfaces.iv.astype(float).reshape(230, 25)), surfaces.extra], axis=1)
    mean, scale = rows[20:100].mean(axis=0), rows[20:100].std(axis=0)
    np.testing.assert_allclose(data.inputs.mean, mean, atol=1e-8)
    np.testing.assert_allclose(data.inputs.scale, scale, rtol=1e-5)
    expected_first = {"train": 26, "val": 110, "calibration": 150, "test": 190}
    for name, rows_of in vars(BLOCKS).items():
        block = data.open_test() if name == "test" else getattr(data, name)
        days = np.arange(expected_first[name], rows_of.stop)
        np.testing.assert_array_equal(block.position, days)
        for sample, day in enumerate(days):
            window = (rows[day - CONTEXT : day] - mean) / scale
            np.testing.assert_allclose(block.x[sample], window, atol=2e-4)
            assert block.y[sample] == surfaces.iv[day, 3, 2]
            assert block.times[sample] == surfaces.dates[day]
        assert len(block.past) == rows_of.stop
        assert len(block.block) == rows_of.stop - rows_of.start
        np.testing.assert_array_equal(block.with_context, block.past.vectors[rows_of.start - CONTEXT :])
        np.testing.assert_array_equal(block.past.surface, surfaces.iv[: rows_of.stop])


def test_the_scaler_reads_the_training_rows_alone(surfaces: Surfaces):
    other = surfaces.iv.copy()
    other[:20] *= 1.7
    other[100:] *= 0.4
    one, two = (
        surface_dataset(s, CONTEXT, BLOCKS).inputs
        for s in (surfaces, dataclasses.replace(surfaces, iv=other))
    )
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.scale, two.scale)


def test_a_delta_grid_has_its_names_and_no_moneyness(surfaces: Surfaces):
    other = dataclasses.replace(surfaces, strikes=np.array([0.1, 0.25, 0.5, 0.75, 0.9]), axis="delta")
    inputs = surface_dataset(other, CONTEXT, BLOCKS).inputs
    assert inputs.log_moneyness is None
    np.testing.assert_array_equal(inputs.delta, other.strikes)
    assert cell_names(inputs)[:2] == ("1m 0.1d", "1m 0.25d")
    names = cell_names(surface_dataset(surfaces, CONTEXT, BLOCKS).inputs)
    assert names[5:8] == ("3m 0.7", "3m 0.85", "3m 1")
    assert names[-1] == "2y 1.3"
    assert len(set(names)) == 25


def test_the_bundled_days_are_cut_as_in_the_plan():
    surfaces = simulate().surfaces
    blocks = SurfaceSplit().blocks(len(surfaces))
    assert (blocks.train.start, blocks.train.stop) == (1000, 5001)
    for before, after in zip(list(vars(blocks).values())[:-1], list(vars(blocks).values())[1:], strict=True):
        assert after.start - before.stop == 120
    assert blocks.test == slice(7052, 8312)  # five years of 252 days
    crisis = np.datetime64("2020-03-16")
    assert surfaces.dates[blocks.test.start] < crisis < surfaces.dates[blocks.test.stop - 1]
    assert surfaces.dates[5000] == np.datetime64("2009-11-02")


@pytest.mark.parametrize("days", [1898, 1626, 3000, 20000])
def test_every_block_of_a_record_that_is_long_enough_holds_the_longest_phase(days: int):
    blocks = SurfaceSplit().blocks(days)
    sizes = {name: rows.stop - rows.start for name, rows in vars(blocks).items()}
    assert blocks.test.stop == days
    assert min(sizes["train"], sizes["val"]) >= 330
    assert sizes["test"] >= 252
    assert blocks.train.start >= 0


def test_a_record_that_is_too_short_says_how_many_days_are_needed():
    with pytest.raises(
        UserError, match="got 1500 days, which leave 264 to learn from, expected at least 330"
    ):
        SurfaceSplit().blocks(1500)
    with pytest.raises(UserError, match="got 300 days, which leave 0 to learn from"):
        SurfaceSplit().blocks(300)
