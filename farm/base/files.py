"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomically(path: Path) -> Iterator[BinaryIO]:
    """Write beside, sync, rename: the file is there whole or not at all."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def held(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold what a file stands for, for this process alone; wait while another holds it.

    The kernel lets go of it however the process ends, also one that is killed. Nothing is held on a
    file system that has no locks.

    Parameters
    ----------
    path
        The file, made here; it is gone when nobody holds it.
    waiting
        Called once if another holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    waiting()
                told = True
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                yield
                return
            try:
                same = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                same = False
            if not same:  # who held it has taken the file away, and the next one has made another
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file from memory; see `atomically`."""
    with atomically(path) as out:
        out.write(content)
