"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from farm.base.errors import UserError


def check_output(option: str, out: Path, read: Mapping[str, Path | None], *, force: bool = False) -> None:
    """Refuse an output that is, or lies in, something that is read, or, unless forced, a file that is there.

    Parameters
    ----------
    option
        That names the output, for messages, such as ``--out``.
    out
        File to be written.
    read
        Files and folders that are read, by the options that name them; links to a file are that file.
    force
        Whether another file may be replaced.

    Raises
    ------
    UserError
        One line; nothing is written.
    """
    place = out.resolve()
    for name, path in read.items():
        if path is None or not path.exists():
            continue
        if path.is_dir() and path.resolve() in place.parents:
            raise UserError(
                f"{option}: {str(out)!r} lies in {str(path)!r}, which {name} reads, and a file of it would be"
                " replaced: choose another folder"
            )
        if place.exists() and place.samefile(path):
            raise UserError(
                f"{option}: {str(out)!r} is the file that {name} reads, and would be replaced: choose another"
                " name"
            )
    if out.exists() and not force:
        raise UserError(
            f"{option}: there is a file {str(out)!r} already: choose another name, or add --force"
        )


def check_inputs(folder: Path, read: Mapping[str, object]) -> None:
    """Refuse files that are read and lie in a folder that is written, where one of them may be replaced.

    Parameters
    ----------
    folder
        That is written.
    read
        Paths by the options that name them; anything else is no file and is passed over.

    Raises
    ------
    UserError
        One line.
    """
    for option, path in read.items():
        if isinstance(path, Path) and folder.resolve() in path.resolve().parents:
            raise UserError(
                f"{option}: {str(path)!r} lies in {str(folder)!r}, whose files the sweep replaces: move it"
            )


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
