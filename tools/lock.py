"""Write a lock file: pinned releases in, each with the SHA-256 of its files on the package index out.

``python tools/lock.py [WHEEL ...] < pins > requirements.lock``; a pin is ``name==version``, and the index is
that of ``PIP_INDEX_URL``, as pip has it, for which ``make lock`` asks. The hashes of local wheels of these
releases are added, so that a build of torch for the CPU, which the index does not have, may stand in for
the index's own.
"""

import hashlib
import json
import os
import sys
import urllib.request
from pathlib import Path

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

Release = tuple[str, str]


def release(file: str) -> Release | None:
    """Give the name and public version that a file is of; None if it is neither wheel nor source."""
    try:
        name, version = (
            parse_wheel_filename(file)[:2] if file.endswith(".whl") else parse_sdist_filename(file)
        )
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return name, version.public


def hashes(name: str, version: str) -> list[str]:
    """Ask the index for the hashes of a release."""
    request = urllib.request.Request(
        f"{os.environ['PIP_INDEX_URL'].rstrip('/')}/{name}/",
        headers={"Accept": "application/vnd.pypi.simple.v1+json"},  # the Simple API of PEP 691
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    return [file["hashes"]["sha256"] for file in files if release(file["filename"]) == (name, version)]


def main() -> None:
    """Copy the pins from standard input to standard output, with hashes."""
    local: dict[Release | None, list[str]] = {}
    for wheel in map(Path, sys.argv[1:]):
        local.setdefault(release(wheel.name), []).append(hashlib.sha256(wheel.read_bytes()).hexdigest())
    for pin in sys.stdin.read().split():
        shown, _, text = pin.partition("==")
        found = str(canonicalize_name(shown)), Version(text).public
        known = sorted({*hashes(*found), *local.get(found, [])})
        if not known:
            sys.exit(f"got no file of {pin} on the index, expected some: pin another release")
        lines = [f"{shown}=={text}", *(f"    --hash=sha256:{digest}" for digest in known)]
        sys.stdout.write(" \\\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
