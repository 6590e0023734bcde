"""The two kinds of failure a person can mend: bad input, and a trial that broke."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


NO_SPACE = (errno.ENOSPC, errno.EDQUOT)  # a full disk, or a quota
MOST = 2000  # characters of a message
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+@")


def without_credentials(text: str) -> str:
    """Blot out user and password of every address in a text: ``http://***@host``."""
    return _CREDENTIALS.sub("***@", text)


class UserError(Exception):
    """A mistake in what the user gave; shown as one line, exit code 2.

    The message says what was got, what was expected and what to do. Passwords in addresses are blotted
    out of it; whatever a file or an option held, it is one line, printable, and not endless.
    """

    def __init__(self, message: str) -> None:
        message = without_credentials(message)
        if not message.isprintable():
            message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
        if len(message) > MOST:
            message = f"{message[: MOST // 2]} ... {message[-MOST // 2 :]}"
        super().__init__(message)


class StaleError(UserError):
    """What an older version of Farm wrote is read by none of this version, and is left as it is."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(f"{what} was written by another version of Farm, and is left as it is: {do}")


def of_one_line(error: Exception) -> str:
    """Name an error and its reason in one line."""
    reason = without_credentials(" ".join(str(error).split()))[:200]
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are meant, closest first.

    Parameters
    ----------
    name
        What was asked for.
    known
        The names that exist.

    Returns
    -------
    str
        ``"did you mean 'x'? known: ..."`` or ``"known: ..."``.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5) or [
        n for n in names if n.lower() == name.lower() or n.rsplit(".", 1)[-1] == name
    ]
    listing = "known: " + (", ".join(names) if names else "none")
    return f"did you mean {close[0]!r}? {listing}" if close else listing


def shown(value: object, most: int = 40) -> str:
    """Quote a value for a message, in so many characters at most."""
    quoted = repr(value)
    return quoted if len(quoted) <= most else quoted[: most - 4] + "..." + quoted[-1]


def one_line(error: ValidationError, what: str, known: Iterable[str] = ()) -> str:
    """Turn the first complaint of a pydantic error into one line.

    Parameters
    ----------
    error
        What pydantic raised.
    what
        The thing that was being made, such as ``"model lstm"``.
    known
        The field names that exist, for an unknown key.

    Returns
    -------
    str
        ``what: field: got X, expected Y``.
    """
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{what}: unknown key {path!r}: {nearest(path.rsplit('.', 1)[-1], known)}"
    if first["type"] == "missing":
        return f"{what}: {path!r} is missing: give it a value"
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    where = f"{what}: {path}" if path else what
    return f"{where}: got {shown(first['input'], 200)}, expected {expected}"
