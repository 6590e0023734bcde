"""What is released is whole: source, wheel, and a sweep by the installed script, outside the checkout."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e(100)

ROOT = Path(__file__).parents[2]


def python(*arguments: str, cwd: Path, path: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_from_the_sdist_runs_a_sweep(tmp_path: Path) -> None:
    build = "from setuptools import build_meta; print(build_meta.build_{}({!r}))"
    source = tmp_path / "source"  # a copy: building leaves files beside what it builds
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, names.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    python("-c", build.format("sdist", str(tmp_path)), cwd=source)
    (sdist,) = tmp_path.glob("farm-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    python("-c", build.format("wheel", str(tmp_path)), cwd=unpacked)
    (wheel,) = tmp_path.glob("farm-*.whl")

    installed, work = tmp_path / "installed", tmp_path / "work"
    work.mkdir()
    pip = (
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(installed),
        str(wheel),
    )
    python(*pip, cwd=work)
    where = python(
        "-c",
        "import farm, search_spaces; print(farm.__file__, search_spaces.__file__)",
        cwd=work,
        path=str(installed),
    )
    assert where.split() == [str(installed / name / "__init__.py") for name in ("farm", "search_spaces")]
    script = (str(installed / "bin" / "farm"),)
    said = python(
        *script, "ablation", "--quick", "--epochs", "1", "--tickers", "AAPL", cwd=work, path=str(installed)
    )
    assert "beats linear" in said
    results = (work / "results" / "ablation" / "results.csv").read_text()
    assert len(results.splitlines()) == 1 + 4 + 7, "four networks and seven baselines"
    assert (work / "results" / "ablation" / "report.html").stat().st_size > 100_000
    ways = (script, ("-m", "farm.sweep"))
    by_script, by_module = (python(*way, "--help", cwd=work, path=str(installed)).split() for way in ways)
    assert " ".join(by_script).replace("Usage: farm ", "Usage: python -m farm.sweep ") == " ".join(by_module)
