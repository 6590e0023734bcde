"""The recipes of docs/extending.md, followed literally in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
FILE = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.e2e(100)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("farm", "search_spaces", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path, text in FILE.findall(PAGE):
        (copy / path).write_text(text)
    return copy


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_commands_of_the_page_do_what_it_says(checkout: Path) -> None:
    commands = [line for block in COMMANDS.findall(PAGE) for line in block.splitlines() if line]
    assert len(commands) == 4
    for command in commands:
        done = run(checkout, "bash", "-ec", command.replace("python", sys.executable, 1))
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "pytest" in command:
            assert " passed" in done.stdout
    assert (checkout / "results" / "gru" / "report.html").is_file()
    metrics = (checkout / "results" / "gru" / "metrics.csv").read_text()
    assert "test/median_error" in metrics
    table = (checkout / "results" / "gru" / "table.csv").read_text()
    assert all(f"\n{row}," in table for row in ("GRU", "GRU wide", "LSTM", "linear", "week", "year"))


def test_the_files_are_as_the_project_wants_them(checkout: Path) -> None:
    files = [path for path, _ in FILE.findall(PAGE)]
    for tool in (("check",), ("format", "--check")):
        done = run(checkout, sys.executable, "-m", "ruff", *tool, *files)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run(checkout, sys.executable, "-m", "mypy", "--follow-imports=silent", *files)
    assert done.returncode == 0, done.stdout + done.stderr
