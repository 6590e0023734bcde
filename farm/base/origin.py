"""What code and which libraries a result comes from."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = "ablation-farm"  # what is installed; `farm`, as it is imported, is another's name on the index
VERSION = "0.1.0"
_ROOT = Path(__file__).parents[2]
_LIBRARIES = ("torch", "numpy", "scikit-learn")
UNKNOWN = "unknown"
# How a store, a search's journal, a checkpoint and the runs in MLflow are written. Raised with every change
# after which what an older version wrote would be misread, or counted beside what it does not compare with.
FORMAT = "3"


@cache
def origin() -> dict[str, str]:
    """Say what is running, once for each process.

    Returns
    -------
    dict
        ``revision`` of git, with ``+changes`` where tracked files differ from it, and ``lock``, the first
        16 digits of the SHA-256 of ``requirements.lock``, both ``unknown`` outside a checkout; ``python``,
        ``platform``, the version of each library that numbers rest on, and ``gpu`` where there is one.
    """
    lock = _ROOT / "requirements.lock"
    found = {
        "revision": _revision(),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest()[:16] if lock.is_file() else UNKNOWN,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
    }
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = UNKNOWN
    torch = sys.modules.get("torch")  # who has not imported it computes nothing on a GPU
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _revision() -> str:
    if not (_ROOT / ".git").exists():  # a farm that is installed may lie inside somebody else's repository
        return UNKNOWN
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return f"{head}+changes" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(_ROOT), *arguments],
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # reads beside whoever is committing
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()
