"""Every sweep as one, through the command line, with real Ray and MLflow."""

import os
from pathlib import Path

import pytest

import farm.sweep
from farm.base.search_space import Sweep, Variant
from farm.store import Store
from tests.conftest import call

pytestmark = pytest.mark.e2e(100)


def row(name: str) -> Variant:
    return Variant(name=name, values={"model.name": name.replace("-", "_"), "study.features": "feat"})


def declared(variant: str, *tickers: str) -> Sweep:
    return Sweep(
        title=variant,
        question=f"Does {variant} beat linear?",
        common={"study.name": "forecast"},
        variants=(row(variant),),
        baselines=(row("linear"), row("zero")),
        references=("linear",),
        tickers=tickers,
        market="SP500",
        start="2018-01-02",
        end="2020-11-20",
        quick={"tickers": tickers[:1]},
    )


SWEEPS = {
    "one": declared("ridge", "AAPL", "MSFT"),
    "two": declared("historical-mean", "AAPL", "MSFT"),
    "lost": declared("ridge", "NOBODY"),
    "three": declared("ridge", "AAPL", "NVDA"),
}
ASKED = 3 * 2 * 3
DISTINCT = 2 * 3 + 2 + 3  # one; the variants of two; NVDA of three


@pytest.fixture
def run(ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Call the command line in this process, in an empty folder, with these sweeps."""
    monkeypatch.setattr(farm.sweep, "sweeps", lambda: SWEEPS)

    def called(*arguments: str) -> tuple[int, str]:
        done = call(tmp_path, "all", "--concurrency", "1", *arguments)
        return done.code, " ".join((done.out + done.err).split())

    return called


def test_shared_trials_run_once_and_every_sweep_has_its_verdict(run, tmp_path: Path) -> None:
    code, listed = run("--dry-run")
    assert code == 0
    assert f"{ASKED} trials, {DISTINCT} of them distinct" in listed
    assert not (tmp_path / "farm_store").exists()

    code, told = run()
    assert code == 1, "a sweep is missing"
    assert f"{DISTINCT} of {DISTINCT} trials to run" in told
    assert told.count("all 6 trials are in the store") == 3
    assert "lost is left out: unknown ticker 'NOBODY'" in told
    assert len(Store(str(tmp_path / "farm_store")).configs()) == DISTINCT
    assert "MLFLOW_TRACKING_URI" not in os.environ, "what is begun after it logs where it would have"

    page = (tmp_path / "results/all/report.html").read_text()
    for name in ("one", "two", "three"):
        assert (tmp_path / "results" / name / "report.html").is_file()
        assert f'href="../{name}/report.html"' in page
        assert SWEEPS[name].question in page
    assert "NOBODY" in page
    assert "beats linear" in page
    assert "<script src" not in page

    _, listed = run("--dry-run")
    assert "one 6 6 0 two 6 6 4 three 6 6 3" in listed, "what each asks for, has, and shares with those above"


def test_quick_is_passed_on_and_what_names_trials_is_refused(run) -> None:
    _, listed = run("--quick", "--dry-run")
    assert "9 trials, 4 of them distinct" in listed
    for option in (("--tickers", "AAPL"), ("--seeds", "2"), ("--study", "forecast"), ("--set", "lookback=3")):
        code, told = run(*option)
        assert code == 2
        assert "only --quick goes with it" in told
