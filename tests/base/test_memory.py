import mmap
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ray import cloudpickle

from farm.base.memory import give_back, mapped, rest
from farm.data.door import load_panel
from farm.data.panel import Panel

ROWS = np.random.default_rng(0).standard_normal((7, 3))
ARRAYS = {
    "rows": ROWS,
    "columns": np.asfortranarray(ROWS),
    "a view": ROWS[::2, 1:],
    "days": np.arange("2020-01-01", "2020-01-08", dtype="datetime64[D]"),
    "none": np.empty((0, 5)),
    "one": np.array([True]),
}


def held() -> float:
    """Give the proportional memory of this process in MiB."""
    found = re.search(r"Pss: +([0-9]+)", Path("/proc/self/smaps_rollup").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.parametrize("name", list(ARRAYS))
def test_the_same_bits_in_the_same_layout(name: str) -> None:
    given = ARRAYS[name]
    _, laid, again = mapped([ROWS, given, given])
    assert again is laid, "written once"
    for found in (laid, cloudpickle.loads(cloudpickle.dumps(laid))):
        assert found.dtype == given.dtype
        np.testing.assert_array_equal(found, given)
    assert not laid.flags.writeable or not laid.size
    contiguous = given.flags.c_contiguous or given.flags.f_contiguous
    assert not contiguous or laid.strides == given.strides


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system cannot be told to forget")
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_rests_takes_no_memory_until_it_is_read() -> None:
    (laid,) = mapped([np.ones(8 * 2**20)])  # 64 MiB
    give_back()
    before = held()
    assert laid.sum() == laid.size
    awake = held()
    rest([laid[5:, None]])
    resting = held()
    assert awake - before > 60
    assert resting - before < 4
    assert laid.sum() == laid.size
    rest([np.ones(3), ROWS])  # what lies in no file is left alone


def test_without_room_arrays_stay_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert mapped([ROWS])[0] is ROWS


def test_a_panel_of_a_file_is_mapped_and_its_digest_the_same(ar1_panel: Panel, tmp_path: Path) -> None:
    path = tmp_path / "panel.parquet"
    ar1_panel.frame().to_parquet(path)
    panel = load_panel(path)
    assert isinstance(panel.bars["AR"].values.base, mmap.mmap)
    assert {name: bars.digest for name, bars in panel.bars.items()} == {
        name: bars.digest for name, bars in ar1_panel.bars.items()
    }
    chosen = panel.select(("AR",), "2011-01-03")
    chosen.rest()
    whole = panel.bars["AR"].values
    np.testing.assert_array_equal(chosen.bars["AR"].values, whole[-len(chosen.bars["AR"]) :])
