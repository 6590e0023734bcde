"""The farm from Python, apart from running anything; see tests/e2e for that."""

import subprocess
import sys
from pathlib import Path

import pytest

import farm
from farm.base.errors import UserError


def test_importing_the_farm_costs_nothing() -> None:
    code = (
        "import sys, farm; farm.Sweep;"
        "sys.exit(','.join({'torch', 'ray', 'mlflow', 'pandas', 'sklearn', 'numpy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_it_offers_is_there_and_documented() -> None:
    for name in farm.__all__:
        assert getattr(farm, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        farm.swep  # noqa: B018


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    declared = farm.Sweep(
        title="t",
        question="q?",
        common={"study.name": "forecast"},
        variants=(farm.Variant(name="a", values={"model.name": "linear"}),),
        baselines=(farm.Variant(name="b", values={"model.name": "zero"}),),
        references=("b",),
        tickers=("AAPL",),
        market="SP500",
    )
    for call, expected in (
        (lambda: farm.run("ablatio"), "unknown sweep 'ablatio'"),
        (lambda: farm.run("mine.py"), "sweep file 'mine.py' does not exist"),
        (lambda: farm.run(declared, study="backfill"), "leave it out"),
        (lambda: farm.run(declared, settings={"hiden_size": 3}), "hiden_size"),
        (lambda: farm.run(declared, tickers=["XYZ"]), "XYZ"),
        (lambda: farm.run(declared, samplers=["tpe"]), "searches for nothing"),
        (lambda: farm.load("0123456789abcdef"), "no finished trial '0123456789abcdef'"),
    ):
        with pytest.raises(UserError, match=expected) as error:
            call()
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [], "nothing is left by a mistake"


@pytest.mark.parametrize("arguments", [["--help"], ["no-such-sweep"], []])
def test_the_script_is_the_module(arguments: list[str]) -> None:
    script = Path(sys.executable).parent / "farm"
    if not script.exists():
        pytest.skip("the farm is on the path, not installed: there is no script")
    one, other = (
        subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        for command in ([str(script)], [sys.executable, "-m", "farm.sweep"])
    )
    assert one.returncode == other.returncode
    assert one.stdout.replace("Usage: farm ", "Usage: python -m farm.sweep ").split() == other.stdout.split()
    assert one.stderr == other.stderr
