"""What is released is whole: the wheel, with what it depends on and no more, runs a sweep."""

import ast
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions, packages_distributions
from itertools import chain
from pathlib import Path

import pytest

import farm
from farm.base.origin import DISTRIBUTION

ROOT = Path(__file__).parents[2]
PYTHON = Path(sys.executable)
OWN = ("PYTHON", "VIRTUAL_ENV", "RAY_", "FARM_", "MLFLOW_")  # what a stranger's shell has none of
# Imported where an extra is installed alone.
OF_EXTRAS = {"chronos": "chronos-forecasting", "transformers": "chronos-forecasting", "yfinance": "yfinance"}


def say(command: Path, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [command, *arguments],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith(OWN)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*folders: str) -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in done.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the source distribution, in a copy, since files are left beside what is built."""
    folder = tmp_path_factory.mktemp("built")
    for name in tracked():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "source" / name)
    (folder / "source" / "farm_store").mkdir()
    (folder / "source" / "farm_store" / "left.py").write_text("")
    build = "from setuptools import build_meta; build_meta.build_{}({!r})"
    say(PYTHON, "-c", build.format("sdist", str(folder)), cwd=folder / "source")
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    say(PYTHON, "-c", build.format("wheel", str(folder)), cwd=unpacked)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def dependencies(wheel: Path) -> Iterator[Path]:
    """Give an environment with what the wheel depends on, kept for the next time in the user's cache.

    It is named by what is asked for. Making one removes those of other dependencies; nobody removes one that
    is in use.
    """
    (found,) = distributions(path=[str(wheel)])
    asked = sorted(each for each in found.requires or () if "extra ==" not in each)
    (torch,) = re.findall(r"^torch==\S+", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    key = hashlib.sha256("\n".join([*asked, torch, sys.version, sysconfig.get_platform()]).encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "farm" / "wheel"
    cache.mkdir(parents=True, exist_ok=True)
    place, making = cache / key.hexdigest()[:16], cache / "making"
    with (cache / "lock").open("w") as lock:
        while fcntl.flock(lock, fcntl.LOCK_SH) or not place.is_dir():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if place.is_dir():  # another run has made it meanwhile
                continue
            for other in filter(Path.is_dir, cache.iterdir()):
                shutil.rmtree(other)
            say(PYTHON, "-m", "venv", str(making), cwd=cache)
            (making / "constraints").write_text(f"{torch}\n")
            pip = (making / "bin" / "python", "-m", "pip")
            # Compiled as it is imported, which little of it is.
            say(*pip, "install", "--quiet", "--no-compile", "-c", "constraints", str(wheel), cwd=making)
            say(*pip, "uninstall", "--quiet", "--yes", DISTRIBUTION, cwd=making)
            making.rename(place)
        yield place


@pytest.fixture(scope="module")
def installed(wheel: Path, dependencies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own, which sees its dependencies and nothing else."""
    place = tmp_path_factory.mktemp("installed")
    say(PYTHON, "-m", "venv", "--without-pip", str(place), cwd=place)
    (theirs,), (own,) = (each.glob("lib/python*/site-packages") for each in (dependencies, place))
    (own / "dependencies.pth").write_text(f"import site; site.addsitedir({str(theirs)!r})\n")
    pip = (place / "bin" / "python", "-m", "pip")
    say(*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel), cwd=place)
    return place


def test_the_wheel_has_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(tracked("farm", "search_spaces"))


def test_what_is_imported_is_what_is_depended_on() -> None:
    # Else one that comes with another is missed only where that other does without it.
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked, optional = (
        {re.split(r"[\[<>=]", each)[0] for each in some}
        for some in (declared["dependencies"], chain(*declared["optional-dependencies"].values()))
    )
    imported: set[str] = set()
    for name in tracked("farm/*.py", "search_spaces/*.py"):
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    imported -= {*sys.stdlib_module_names, "farm", "search_spaces"}
    homes = packages_distributions()
    found = set()
    for module in imported - OF_EXTRAS.keys():
        names = {home.lower().replace("_", "-") for home in homes[module]} & asked
        assert names, f"{module} is imported, and what has it, {homes[module]}, is no dependency"
        found |= names
    assert asked == found, "a dependency is not imported"
    assert {OF_EXTRAS[module] for module in imported & OF_EXTRAS.keys()} <= optional


@pytest.mark.e2e(60)
def test_a_wheel_alone_runs_a_sweep(installed: Path, tmp_path: Path) -> None:
    python, script = installed / "bin" / "python", installed / "bin" / "farm"
    where = (
        "import sys, farm, search_spaces; print(farm.__file__, search_spaces.__file__, *sys.path, sep='\\n')"
    )
    ours, sweeps, *path = say(python, "-c", where, cwd=tmp_path).split("\n")
    assert all(Path(each).is_relative_to(installed) for each in (ours, sweeps))
    assert not any(Path(each).is_relative_to(ROOT) for each in path)

    (found,) = distributions(name=DISTRIBUTION, path=[str(Path(ours).parents[1])])
    assert found.version == farm.__version__
    ways = ((script,), (python, "-m", "farm.sweep"))
    for way in ways:
        assert say(*way, "--version", cwd=tmp_path) == f"{DISTRIBUTION} {found.version}\n"
    by_script, by_module = (say(*way, "--help", cwd=tmp_path).split() for way in ways)
    assert " ".join(by_script).replace("Usage: farm ", "Usage: python -m farm.sweep ") == " ".join(by_module)
    assert "133 trials" in say(python, "-m", "farm.sweep", "ablation", "--dry-run", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []

    small = ("--quick", "--epochs", "1", "--tickers", "AAPL", "--variants", "LSTM-Raw", "--concurrency", "1")
    assert "vs linear" in say(script, "ablation", *small, cwd=tmp_path)
    results = (tmp_path / "results" / "ablation" / "results.csv").read_text()
    assert len(results.splitlines()) == 1 + 1 + 7, "a network and seven baselines"
    assert (tmp_path / "results" / "ablation" / "report.html").stat().st_size > 100_000

    # What serves the model needs the farm too, in releases that can be had.
    (served,) = tmp_path.glob("mlruns/**/requirements.txt")
    assert f"{DISTRIBUTION}=={found.version}" in served.read_text().splitlines()
    assert "+" not in served.read_text()
    install = ("-m", "pip", "install", "--no-index", "--dry-run", "-r", str(served))
    assert "Would install" not in say(python, *install, cwd=tmp_path)

    again = (
        "import farm\n"
        "end = farm.run('ablation', quick=True, tickers=['AAPL'], variants=['LSTM-Raw'],"
        " settings={'training.epochs': 1})\n"
        "print(len(end.table), len(end.failures))"
    )
    assert say(python, "-c", again, cwd=tmp_path).splitlines()[-1] == "8 0"
