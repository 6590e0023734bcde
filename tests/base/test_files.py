"""What one process holds, no other does, until it lets go or dies."""

import subprocess
import sys
from pathlib import Path

import pytest

from farm.base.files import held

HOLD = """
import sys
from pathlib import Path
from farm.base.files import held

with held(Path(sys.argv[1]) / "claims" / "abc"):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from farm.base.files import held

folder = Path(sys.argv[1])
for _ in range(200):
    with held(folder / "claims" / "abc"):
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds it until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_waits_for_who_holds_it_and_says_so_once(tmp_path: Path) -> None:
    process, said = holder(tmp_path), []

    def waiting() -> None:
        said.append("waiting")
        assert process.stdin is not None
        process.stdin.close()  # at which it lets go

    with held(tmp_path / "claims" / "abc", waiting):
        assert said == ["waiting"]
    assert process.wait() == 0
    assert list((tmp_path / "claims").iterdir()) == []


def test_who_is_killed_holds_nothing(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.wait()
    with held(tmp_path / "claims" / "abc", lambda: pytest.fail("nobody holds it")):
        pass
    assert list((tmp_path / "claims").iterdir()) == []


def test_others_are_held_at_the_same_time(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with held(tmp_path / "claims" / "def", lambda: pytest.fail("it is another")):
        pass
    process.kill()
    process.wait()


def test_four_processes_never_hold_it_together(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0, 0]
    assert (tmp_path / "count").read_text() == "800"
