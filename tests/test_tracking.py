"""What MLflow holds after several sweeps, with a real database."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow.store.db.utils
import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import Engine

from farm.base.search_space import Sweep, Variant
from farm.data.panel import Panel
from farm.experiment import run
from farm.plan import Options, Plan, make_plan
from farm.report.conclusion import Conclusion, conclude
from farm.store import Record, Store
from farm.tracking import Tracking, _client, _fluent

SWEEP = Sweep(
    title="Two regressions",
    question="Does shrinking help?",
    common={"study.name": "forecast", "study.features": "feat", "study.lookback": 5},
    variants=(
        Variant(name="shrunk", values={"model.name": "ridge"}),
        Variant(name="longer", values={"model.name": "linear", "model.lags": 3}),
    ),
    baselines=(Variant(name="linear", values={"model.name": "linear"}),),
    references=("linear",),
    tickers=("AR",),
    market="MKT",
)


class World:
    """Two sweeps, the smaller a part of the larger, finished and in the store."""

    def __init__(self, folder: Path, panel: Panel) -> None:
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.whole = make_plan("two", SWEEP, panel, Options())
        self.part = make_plan("two", SWEEP, panel, Options(variants=("shrunk",)))
        store = Store(str(folder / "store")).open()
        self.records: dict[str, Record] = {}
        for trial in self.whole.trials:
            store.put(trial.signature, trial.config, run(trial.config, panel))
            record = store.get(trial.signature)
            assert record is not None
            self.records[trial.signature] = record
        self._ends = {id(plan): conclude(plan, self._of(plan), folder) for plan in (self.whole, self.part)}
        self.client = MlflowClient(self.uri)

    def _of(self, plan: Plan) -> dict[str, Record]:
        return {trial.signature: self.records[trial.signature] for trial in plan.trials}

    def log(self, plan: Plan) -> Tracking:
        """Log a sweep as its end does."""
        end: Conclusion = self._ends[id(plan)]
        tracking = Tracking(self.uri, plan, {})
        skills = {trial.signature: {"vs/linear_rmse_skill": 0.1} for trial in plan.trials}
        tracking.log_results(end.trials, self._of(plan), skills, end.table, "note", (), 0)
        return tracking

    def parents(self) -> dict[str, str]:
        """Say below which run each trial's run stands, by row."""
        experiment = self.client.get_experiment_by_name("two")
        assert experiment is not None
        found = self.client.search_runs([experiment.experiment_id], "tags.`farm.role` = 'trial'")
        return {each.data.tags["farm.variant"]: each.data.tags["mlflow.parentRunId"] for each in found}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, ar1_panel: Panel) -> World:
    return World(tmp_path_factory.mktemp("tracking"), ar1_panel)


def test_a_finished_sweep_reads_no_trials_run_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.log(world.whole).parent
    asked: list[str] = []
    search = Tracking._runs
    monkeypatch.setattr(
        Tracking, "_runs", lambda self, role, **tags: asked.append(role) or search(self, role, **tags)
    )
    assert world.log(world.whole).parent == first
    assert asked == ["sweep"]
    assert set(world.parents().values()) == {first}


def test_a_served_model_leaves_no_trace_in_the_environment(world: World) -> None:
    mlflow.set_tracking_uri("sqlite:///another.db")
    os.environ.pop("MLFLOW_TRACKING_URI")  # which MLflow set; monkeypatch would put it back
    with _fluent(world.uri):
        assert mlflow.get_tracking_uri() == world.uri
    assert mlflow.get_tracking_uri() == "sqlite:///another.db"
    assert "MLFLOW_TRACKING_URI" not in os.environ
    mlflow.set_tracking_uri(None)


def test_trials_stand_below_the_latest_sweep_that_asks_for_them(world: World) -> None:
    whole = world.log(world.whole).parent
    part = world.log(world.part).parent
    assert part != whole
    assert world.parents() == {"linear": part, "shrunk": part, "longer": whole}
    assert world.log(world.whole).parent == whole
    assert set(world.parents().values()) == {whole}


def test_a_sweep_takes_back_what_one_that_was_killed_had_taken(world: World) -> None:
    whole = world.log(world.whole).parent
    killed = Tracking(world.uri, world.part, {})
    trial = world.part.trials[0]
    killed.log_trial(trial, world.records[trial.signature], {"vs/linear_rmse_skill": 0.1})
    assert world.parents()[trial.row] == killed.parent
    world.log(world.whole)
    assert set(world.parents().values()) == {whole}


def test_what_was_not_logged_to_its_end_is_completed(world: World) -> None:
    whole = world.log(world.whole).parent
    world.client.set_tag(whole, "farm.digest", "of fewer trials")
    rows = world.client.search_runs(
        [world.client.get_run(whole).info.experiment_id], "tags.`farm.variant` = 'longer'"
    )
    for row in rows:
        world.client.delete_run(row.info.run_id)
    assert "longer" not in world.parents()
    world.log(world.whole)
    assert world.parents()["longer"] == whole


def test_runs_that_were_deleted_come_back_with_the_sweeps_own(world: World) -> None:
    whole = world.log(world.whole).parent
    experiment = world.client.get_run(whole).info.experiment_id
    for row in world.client.search_runs([experiment], "tags.`farm.variant` = 'longer'"):
        world.client.delete_run(row.info.run_id)
    assert world.log(world.whole).parent == whole
    assert "longer" not in world.parents()
    world.client.delete_run(whole)
    again = world.log(world.whole).parent
    assert again != whole
    assert world.parents()["longer"] == again


def test_who_reads_the_database_stops_no_sweep_and_the_file_is_whole_by_itself(
    world: World, tmp_path: Path
) -> None:
    tracking = world.log(world.part)
    path = Path(world.uri.removeprefix("sqlite:///"))
    count = "SELECT count(*) FROM tags"
    with closing(sqlite3.connect(path)) as reader, closing(sqlite3.connect(path, timeout=0)) as writer:
        reader.execute("BEGIN")
        (tags,) = reader.execute(count).fetchone()
        writer.execute("UPDATE tags SET value = value")
        writer.commit()  # without a log of its own it would be locked out
    tracking.close()
    alone = tmp_path / "copy.db"
    alone.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(alone)) as copied:
        assert copied.execute(count).fetchone() == (tags,)
        assert copied.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_new_database_is_the_one_of_mlflows_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made once for each version, and by MLflow itself where what is kept is damaged."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    migrate, migrated = mlflow.store.db.utils._initialize_tables, []

    def counted(engine: Engine) -> None:
        migrated.append(Path(engine.url.database or "memory").name)
        migrate(engine)

    monkeypatch.setattr(mlflow.store.db.utils, "_initialize_tables", counted)

    def experiments(name: str, *, ours: bool = True) -> list[str]:
        uri = f"sqlite:///{tmp_path / name}"
        return [each.name for each in (_client(uri) if ours else MlflowClient(uri)).search_experiments()]

    def empty(name: str, *, ours: bool = True) -> object:
        assert experiments(name, ours=ours) == ["Default"]
        with closing(sqlite3.connect(tmp_path / name)) as database:
            tables = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
            others = ("SELECT * FROM alembic_version", "SELECT * FROM workspaces")
            # MLflow's migrations put the constraints of a table in any order.
            parts = sorted((kind, table, sorted((sql or "").split(", \n"))) for kind, table, sql in tables)
            return [parts, *(database.execute(query).fetchall() for query in others)]

    first = empty("first.db")
    (tmp_path / "second.db").touch()
    assert empty("second.db") == first
    assert migrated == ["memory"], "what is kept was read"
    (kept,) = (tmp_path / "cache" / "farm").iterdir()
    kept.write_text(kept.read_text()[:-1000])
    assert empty("third.db") == first
    assert empty("fourth.db", ours=False) == first
    assert migrated == ["memory", "third.db", "fourth.db"]
    with closing(sqlite3.connect(tmp_path / "third.db")) as database, database:
        database.execute("UPDATE experiments SET name = 'of a user'")
    assert experiments("third.db") == ["of a user"]
