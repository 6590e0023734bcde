"""Large tables lie in files that are mapped into memory, which the system may take away and bring back."""

from __future__ import annotations

import ctypes
import mmap
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def mapped(arrays: Sequence[Array]) -> list[Array]:
    """Move arrays to a temporary file that is mapped into memory.

    The file has no name and is gone with the last array that looks into it.

    Parameters
    ----------
    arrays
        Of any shapes and of types without objects. One that stands several times is written once.

    Returns
    -------
    list of ndarray
        The same in the same order, each laid out as it was, read-only. They are the arrays that were given
        where the folder for temporary files has no room.
    """
    different = {id(array): array for array in arrays if array.size}
    if not different:
        return list(arrays)
    offsets: dict[int, int] = {}
    try:
        with tempfile.TemporaryFile() as file:
            for key, array in different.items():
                file.seek(-file.tell() % 64, 1)  # as numpy lays arrays out in memory
                offsets[key] = file.tell()
                flat = np.ascontiguousarray(array.T if _fortran(array) else array).reshape(-1)
                file.write(flat.view(np.uint8).data)  # a buffer has no type for days
            file.flush()
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:
        return list(arrays)
    laid = {
        key: np.ndarray(array.shape, array.dtype, whole, offsets[key], order="F" if _fortran(array) else "C")
        for key, array in different.items()
    }
    return [laid.get(id(array), array) for array in arrays]


def rest(arrays: Iterable[Array]) -> None:
    """Take arrays that lie in mapped files out of memory; what is read again comes back."""
    files = {id(owner): owner for owner in map(_owner, arrays) if isinstance(owner, mmap.mmap)}
    for file in files.values():
        if hasattr(mmap, "MADV_DONTNEED"):  # not so on Windows
            file.madvise(mmap.MADV_DONTNEED)


def give_back() -> None:
    """Give memory that was freed back to the system: Arrow and glibc keep what reading a table took."""
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # not so with musl
        trim(0)


def _fortran(array: Array) -> bool:
    return array.flags.f_contiguous and not array.flags.c_contiguous


def _owner(array: Any) -> Any:
    """Find what a view looks into in the end."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array
