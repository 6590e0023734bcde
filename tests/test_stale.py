"""What Farm wrote at 6a9a7e4, before anything that is kept said which version wrote it.

``stale/6a9a7e4.tar.xz`` holds a store of a search with finished trials and stages and checkpoints under way,
the search's journal in it, and the MLflow database of its runs.
"""

import hashlib
import shutil
import tarfile
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

import farm
from farm.base.errors import StaleError, UserError
from farm.store import PROGRESS, Store
from farm.training.checkpoint import Checkpoint
from farm.tuning.studies import tried_so_far
from tests.conftest import call

pytestmark = pytest.mark.e2e(20)

# Two of the baselines of that search, on the days on which it had them.
OWN = """
from farm import Sweep, Variant

SWEEP = Sweep(
    title="t", question="q?", common={"study.name": "forecast", "study.features": "feat"},
    variants=(Variant(name="ridge", values={"model.name": "ridge"}),),
    baselines=(Variant(name="linear", values={"model.name": "linear"}),),
    references=("linear",), tickers=("AAPL",), market="SP500", start="2013-01-02", end="2020-11-20",
)
"""
ARCHIVE = Path(__file__).parent / "stale" / "6a9a7e4.tar.xz"
FINISHED, STAGE, UNDER_WAY = "057c843542b16f6a", "e3e3995bc28cbab3", "79a9f2d72c7778ab"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def digests(folder: Path) -> dict[Path, str]:
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
    }


def is_named(error: UserError, name: str) -> None:
    assert "written by another version of Farm, and is left as it is" in str(error)
    assert name in str(error)
    assert "\n" not in str(error)


def test_an_older_store_is_named_and_left_as_it_is(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests(old)
    monkeypatch.chdir(old)
    small = {"quick": True, "tickers": ["AAPL"], "variants": ["LSTM-Raw"]}
    for ask in (
        lambda: Store("farm_store"),
        lambda: farm.load(FINISHED),
        lambda: farm.run("ablation", **small),
        lambda: farm.run("weights", study="forecast", samples=1, quick=True, tickers=["AAPL"]),
    ):
        with pytest.raises(StaleError) as error:
            ask()
        is_named(error.value, str(old / "farm_store"))
    assert digests(old) == before


def test_a_new_store_says_what_wrote_it_and_a_later_version_sees_that(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists(), "who reads makes nothing"
    store.put_failure("0" * 16, "why")
    assert Store(str(tmp_path / "new")).failure("0" * 16) == "why"
    (tmp_path / "new" / "format").write_text("later")
    with pytest.raises(StaleError):
        Store(str(tmp_path / "new"))


def test_an_older_journal_is_named_and_left_as_it_is(old: Path) -> None:
    journal = old / "farm_store" / "studies" / "weights-forecast.journal"
    before = journal.read_bytes()
    with pytest.raises(StaleError) as error:
        tried_so_far(journal, "weights-forecast random 1407b5de")
    is_named(error.value, str(journal))
    assert journal.read_bytes() == before


def test_an_older_checkpoint_is_named_and_left_as_it_is(old: Path, tmp_path: Path) -> None:
    new = Store(str(tmp_path / "new")).open()
    for part, signature, read in (
        ("stages", STAGE, new.get_stage),
        ("stages", UNDER_WAY, new.get_progress),
        ("trials", "ee29ecfd687cfdf0", lambda signature: new.get_progress(signature, 0)),
    ):
        there = tmp_path / "new" / part / signature
        shutil.copytree(old / "farm_store" / part / signature, there)
        before = digests(there)
        assert any(PROGRESS in path.name or "checkpoint" in path.name for path in before)
        with pytest.raises(StaleError) as error:
            read(signature)
        is_named(error.value, str(there))
        assert digests(there) == before


def test_an_older_database_is_used_and_its_runs_count_for_nothing(
    ray_here: None, old: Path, tmp_path: Path
) -> None:
    client = MlflowClient(f"sqlite:///{old / 'mlflow.db'}")
    (tmp_path / "old" / "farm_store").rename(tmp_path / "moved away")

    def runs() -> dict[str, tuple]:
        found = client.get_experiment_by_name("weights-forecast")
        every = client.search_runs([found.experiment_id], max_results=1000)
        return {run.info.run_id: (run.info.status, vars(run.data)) for run in every}

    before = runs()
    assert len(before) > 10
    (old / "weights-forecast.py").write_text(OWN)
    done = call(old, "weights-forecast.py", "--concurrency", "1")
    assert done.code == 0, done.err
    assert "2 of 2 trials to run" in done.out, "what is logged is no result"
    line = "MLflow experiment 'weights-forecast' has runs that another version of Farm wrote: they are left"
    assert line in " ".join(done.out.split())
    after = runs()
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1 + 2 + 2


def test_what_is_cut_short_is_no_checkpoint_of_an_older_version(old: Path) -> None:
    (path,) = (old / "farm_store" / "stages" / UNDER_WAY).glob(f"{PROGRESS}*")
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        Checkpoint.from_bytes(path.read_bytes()[:-1])
