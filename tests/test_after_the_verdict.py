"""What follows a verdict: no step of it takes the verdict away, wherever a project lies."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import mlflow
import numpy as np
import pandas as pd
import plotly.io
import pytest
import torch
from click.testing import CliRunner
from mlflow.experiments import commands
from mlflow.tracking import MlflowClient

import farm
import farm.drive
import farm.report.figures
import farm.report.note
import farm.report.page
import farm.serving
import farm.sweep
from farm.api import Outcome
from farm.base.errors import UserError
from farm.data.panel import Panel
from farm.evaluation.metric import METRICS, metric
from farm.experiment import run
from farm.plan import Options, make_plan
from farm.report.pictures import Pictures
from farm.store import Store
from farm.sweep import load_sweep, read_source
from farm.tracking import Tracking, _fluent, absolute, check_experiment, check_uri

FILE = """
from farm import Sweep, Variant

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
"""
STEMS = ["ablation_bars", "curves", "direction_heatmap", "full_comparison", "predictions", "rmse_per_ticker"]
ODD = "a b ü#?%20&=;"


def go(**options: object) -> Outcome:
    return farm.run("two.py", data="panel.parquet", **options)


def client(folder: Path) -> MlflowClient:
    return MlflowClient(absolute("sqlite:///mlflow.db", folder))


def sweeps_run(folder: Path, name: str = "two") -> tuple[MlflowClient, str]:
    """Give what reads a project's database, and the id of the latest sweep's run."""
    there = client(folder)
    found = there.search_runs(
        [there.get_experiment_by_name(name).experiment_id], "tags.`farm.role` = 'sweep'"
    )
    return there, found[0].info.run_id


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ar1_panel: Panel) -> Path:
    """A project whose trials are in the store, drawn and logged."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    folder.mkdir()
    (folder / "two.py").write_text(FILE)
    ar1_panel.frame().to_parquet(folder / "panel.parquet")
    name, declared = load_sweep(str(folder / "two.py"))
    source = read_source(declared, folder / "panel.parquet")
    store = Store(str(folder / "farm_store")).open()
    for trial in make_plan(name, declared, source, Options()).trials:
        store.put(trial.signature, trial.config, run(trial.config, source, device="cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        go()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, with nothing drawn and nothing logged, as the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns", "results"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def logged(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole copy of it."""
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def raising(error: Exception) -> Callable[..., None]:
    def step(*_: object, **__: object) -> None:
        raise error

    return step


STEPS = {
    "picture curves.png": (farm.report.figures, "_curves"),
    "pictures": (farm.report.figures, "figures"),
    "report page": (farm.report.page, "report_page"),
    "results in MLflow": (Tracking, "log_results"),
    "report page in MLflow": (Tracking, "log_page"),
    "served model": (farm.serving, "example"),
    "database of MLflow in one file": (Tracking, "close"),
}
ERRORS = [OSError(28, "No space left"), UserError("not so: do this"), KeyError("x"), RuntimeError("no tex")]


# Each step with one kind of error, and each kind with a step or two; all with all are slow.
CASES = [
    pytest.param(
        step,
        error,
        id=f"{step}-{type(error).__name__}",
        marks=() if i % len(ERRORS) == k else pytest.mark.slow,
    )
    for i, step in enumerate(STEPS)
    for k, error in enumerate(ERRORS)
]


@pytest.mark.parametrize(("step", "error"), CASES)
def test_a_step_that_fails_is_one_line(
    step: str, error: Exception, logged: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    Path("results/two/verdict.txt").unlink()
    there, parent = sweeps_run(logged)
    there.set_tag(parent, "farm.model", "another one")
    if not step.startswith("picture"):  # which take a second
        monkeypatch.setattr(farm.report.figures, "figures", lambda *_: Pictures({}))
        monkeypatch.setattr(farm.report.page, "report_page", lambda *_: "<p>page</p>")
    monkeypatch.setattr(*STEPS[step], raising(error))
    outcome = go()
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("missing: ")] == [
        f"missing: {step}: {error}"
        if isinstance(error, UserError)
        else f"missing: {step}: {type(error).__name__}: {error}: the same command retries"
    ]
    assert outcome.sentence in " ".join(out.split())
    assert (logged / "results" / "two" / "verdict.txt").read_text() == f"{outcome.sentence}\n"
    assert set(outcome.table["model"]) == {"shrunk", "longer", "linear"}
    assert (logged / "results" / "two" / "report.html").exists() == (step != "report page")
    assert (there.get_run(parent).data.tags["farm.model"] == "another one") == (step == "served model")
    if step == "picture curves.png":
        drawn = sorted(path.stem for path in Path("results/two").glob("*.png"))
        assert drawn == [stem for stem in STEMS if stem != "curves"]


def test_a_command_ends_as_if_nothing_were_missing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mlruns").write_text("no folder")
    (project / "results" / "two" / "curves.png").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["farm.sweep", "two.py", "--data", "panel.parquet"])
    with pytest.raises(SystemExit) as ended:
        farm.sweep.main()
    assert ended.value.code == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing: ")]
    assert [line.split(": ")[1] for line in told] == ["picture curves.png", "results in MLflow"]
    assert told[1].endswith("the same command logs what is missing")
    (project / "mlruns").unlink()
    go()
    there, parent = sweeps_run(project)
    assert "report.html" in {file.path for file in there.list_artifacts(parent)}
    assert there.get_run(parent).data.tags["farm.model"]


def test_a_run_without_its_signature_is_left_out(logged: Path) -> None:
    there, parent = sweeps_run(logged)
    experiment = there.get_run(parent).info.experiment_id
    some = there.search_runs([experiment], "tags.`farm.role` = 'trial'")[0]
    there.delete_tag(some.info.run_id, "farm.signature")
    there.delete_run(parent)
    go()
    again = there.search_runs([experiment], "tags.`farm.role` = 'trial'")
    assert sum("farm.signature" in each.data.tags for each in again) == 3


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "results" / "two").glob("*.png")}


def page(folder: Path) -> str:
    """Give the page without the time that its trials took."""
    text = (folder / "results" / "two" / "report.html").read_text()
    return text[: text.index("Cost")] + text[text.index("Repeat it") :]


@pytest.fixture
def settings() -> Iterator[dict[str, object]]:
    """What a user's process may have set, and what it was before."""
    before = np.seterr(all="raise"), np.get_printoptions(), plotly.io.templates.default
    np.set_printoptions(precision=1)
    plotly.io.templates.default = "plotly_dark"
    torch.set_default_dtype(torch.float64)
    chosen = {"text.usetex": True, "font.size": 30.0, "timezone": "Asia/Seoul", "axes.facecolor": "black"}
    with mpl.rc_context(chosen), pd.option_context("display.max_rows", 2, "future.infer_string", False):
        yield chosen
    torch.set_default_dtype(torch.float32)
    np.seterr(**before[0])
    np.set_printoptions(**before[1])
    plotly.io.templates.default = before[2]


def test_what_a_process_has_set_reaches_no_output(
    finished: Path, project: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    seen, write = [], farm.report.page.report_page
    monkeypatch.setattr(farm.report.page, "report_page", lambda *a: seen.append(np.geterr()) or write(*a))
    go()
    assert seen[0]["invalid"] == "warn", "an undefined score is NaN, and nothing to raise"
    assert "missing" not in capsys.readouterr().out
    assert pictures(project) == pictures(finished)
    assert sorted(pictures(project)) == [f"{stem}.png" for stem in STEMS]
    assert page(project) == page(finished)
    here, there = (folder / "results" / "two" for folder in (finished, project))
    for name in ("table.csv", "results.csv", "verdict.txt"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    one, other = (pd.read_parquet(folder / "predictions.parquet") for folder in (here, there))
    assert one.equals(other)
    assert {name: mpl.rcParams[name] for name in settings} == settings
    assert np.geterr()["invalid"] == "raise"
    assert plotly.io.templates.default == "plotly_dark"


def test_what_a_machine_has_set_reaches_no_picture(finished: Path, project: Path) -> None:
    (project / "matplotlibrc").write_text("text.usetex: True\nfont.size: 30\n")
    done = subprocess.run(
        [sys.executable, "-m", "farm.sweep", "two.py", "--data", "panel.parquet"],
        env={**os.environ, "MPLBACKEND": "garbage", "MATPLOTLIBRC": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "missing" not in done.stdout
    assert pictures(project) == pictures(finished)


def test_a_second_folder_has_a_database_of_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go()
    other = project.with_name(ODD)
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns", "results"))
    before = sorted(project.rglob("*"))
    monkeypatch.chdir(other)
    conclude = farm.drive._Driver.conclude

    def elsewhere(self: farm.drive._Driver, search: None) -> object:
        os.chdir("/")
        return conclude(self, search)

    monkeypatch.setattr(farm.drive._Driver, "conclude", elsewhere)
    go()
    assert sorted(project.rglob("*")) == before
    assert sorted(path.name for path in other.parent.iterdir()) == sorted([other.name, project.name])
    assert len(pictures(other)) == len(STEMS)
    there, parent = sweeps_run(other)
    files = {file.path for file in there.list_artifacts(parent)}
    assert "report.html" in files
    assert (
        Path(there.download_artifacts(parent, "report.html")).read_bytes()
        == (other / "results" / "two" / "report.html").read_bytes()
    )
    for path in (other / "mlruns").rglob("*"):
        assert path.is_relative_to(other)


def test_a_sweep_file_that_leaves_the_folder_moves_nothing(project: Path) -> None:
    (project / "two.py").write_text(f"import os\nos.chdir('/')\n{FILE}")
    go()
    assert Path.cwd() == project
    assert (project / "mlruns").is_dir()


@pytest.mark.parametrize("moved", [True, False], ids=["mv", "cp -r"])
def test_a_project_that_was_moved_or_copied_stays_whole(
    logged: Path, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    go()  # it is a copy itself
    here = logged.with_name(ODD)
    _, parent = sweeps_run(logged)
    (shutil.move if moved else shutil.copytree)(logged, here)
    before = sorted(logged.rglob("*"))
    monkeypatch.chdir(here)
    go(variants=["shrunk"])
    assert logged.exists() is not moved
    assert sorted(logged.rglob("*")) == before
    there, latest = sweeps_run(here)
    assert latest != parent
    for run_id in (parent, latest):
        assert Path(there.download_artifacts(run_id, "table.csv")).stat().st_size
        root = there.get_run(run_id).info.artifact_uri.replace("%25", "%")
        assert Path(root).is_relative_to(here)
        (model,) = there.search_logged_models(
            [there.get_run(run_id).info.experiment_id], f"source_run_id = '{run_id}'"
        )
        assert Path(model.artifact_location.replace("%25", "%")).is_relative_to(here)
        with _fluent(absolute("sqlite:///mlflow.db", here)):
            served = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
            assert len(served.predict(served.input_example)) == 1


def test_an_experiment_of_somebody_else_is_left_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = client(project)
    own = there.create_experiment("two", tags={"mlflow.note.content": "my own notes"})
    there.create_run(own)
    with pytest.raises(UserError, match="--experiment NAME") as refused:
        go()
    assert "\n" not in str(refused.value)
    found = there.get_experiment(own)
    assert found.tags == {"mlflow.note.content": "my own notes"}
    assert len(there.search_runs([own])) == 1
    assert not (project / "results").exists()
    outcome = go(experiment="two of the farm")
    assert outcome.sentence in there.get_experiment_by_name("two of the farm").tags["mlflow.note.content"]
    assert vars(there.get_experiment(own)) == vars(found)
    monkeypatch.setattr(
        sys, "argv", ["farm.sweep", "two.py", "--data", "panel.parquet", "--experiment", "two of the farm"]
    )
    with pytest.raises(SystemExit) as ended:
        farm.sweep.main()
    assert ended.value.code == 0
    assert len(there.search_experiments()) == 3


def test_it_is_refused_before_a_trial_is_run(project: Path) -> None:
    client(project).create_experiment("two")
    with pytest.raises(UserError, match="--experiment NAME"):
        go(storage="empty")
    assert Store("empty").configs() == {}


def test_the_way_out_of_the_trash_is_the_one_told(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What another test has set in this process would count before the variable.
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    there, parent = sweeps_run(logged)
    experiment = there.get_run(parent).info.experiment_id
    there.delete_experiment(experiment)
    with pytest.raises(UserError, match="in the trash") as refused:
        go()
    command = str(refused.value).split("`")[1]
    arguments = command.removeprefix("mlflow experiments ").split()
    done = CliRunner().invoke(
        commands,
        arguments,
        env={"MLFLOW_TRACKING_URI": f"sqlite:///{Path.cwd() / 'mlflow.db'}"},
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    go()


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 501])
def test_a_name_of_no_experiment(name: str, project: Path) -> None:
    with pytest.raises(UserError, match="expected a name of 1 to 500"):
        check_experiment(name)


def test_places_that_cannot_be_written_are_told_at_once(project: Path) -> None:
    (project / "results").write_text("no folder")
    with pytest.raises(UserError, match=r"results folder .* cannot be written"):
        go(storage="empty")
    (project / "results").unlink()
    (project / "mlflow.db").write_text("no database, but as long as the header of one of SQLite " * 9)
    with pytest.raises(UserError, match=r"tracking database .*/mlflow.db' cannot be written"):
        go(storage="empty")
    assert sorted(path.name for path in project.iterdir()) == [
        "farm_store", "mlflow.db", "panel.parquet", "two.py",
    ]  # fmt: skip


def test_addresses_of_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for uri in (
        "postgresql+psycopg2://host/db", "mysql+pymysql://host/db", "mssql+pyodbc://host/db", "databricks",
        "databricks://profile",
    ):  # fmt: skip
        check_uri(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    with pytest.raises(UserError, match="of MLFLOW_TRACKING_URI: expected sqlite"):
        check_uri("file:./mlruns")
    for typed, whole in (
        ("sqlite:///m.db", f"sqlite:///{tmp_path}/m.db"),
        ("sqlite:///a%20b/m.db?timeout=3", f"sqlite:///{tmp_path}/a b/m.db?timeout=3"),
        ("sqlite:////x/m.db", "sqlite:////x/m.db"),
        ("sqlite:///~/m.db", f"sqlite:///{Path.home()}/m.db"),
        ("http://host:5000", "http://host:5000"),
    ):
        assert absolute(typed, tmp_path) == whole


def test_what_was_tried_before_counts_whichever_row_is_looked_at(project: Path) -> None:
    both = go()
    assert "best of 2 tried" in both.sentence
    alone = go(variants="shrunk")
    assert "best of 2 tried" in alone.sentence
    column = "linear_p_selected"
    of_both, of_one = (found.table.set_index("model").loc["shrunk", column] for found in (both, alone))
    assert of_one == of_both
    assert list(alone.table["model"]) == [name for name in both.table["model"] if name != "longer"]
    assert "tried" not in go(variants="shrunk", end="2011-06-30").sentence, "of other test days"
    (project / "farm_store" / "tried" / "two.json").write_text("torn")
    assert "tried" not in go(variants="shrunk").sentence


def test_a_metric_that_is_added_is_there_after_the_second_run_without_a_fit(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    go()
    monkeypatch.setattr(farm.drive, "execute", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(METRICS, "_entries", dict(METRICS._entries))

        @metric("test", direction="min", optimum=0.0, unit="target", reads="point")
        def median_error(forecast, truth):
            return float(np.median(np.abs(forecast.point - truth)))

        outcome = go()
        assert "1 metric computed for 3 stored trials: median_error" in capsys.readouterr().out
        go()
        assert "computed for" not in capsys.readouterr().out
    predictions = outcome.predictions.assign(error=lambda x: (x["predicted"] - x["actual"]).abs())
    expected = predictions.groupby("model")["error"].median()
    there, parent = sweeps_run(project)
    experiment = [there.get_run(parent).info.experiment_id]
    for kind in ("trial", "variant", "baseline"):
        for found in there.search_runs(experiment, f"tags.`farm.role` = '{kind}'"):
            row = found.data.tags["farm.variant"]
            assert found.data.metrics["test/median_error"] == pytest.approx(expected[row])


def test_a_metric_that_fails_is_a_line_and_an_exit_code(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))

    @metric("test", direction="min", optimum=0.0, unit="1", reads="point")
    def broken(forecast, truth):
        return 1 / 0

    outcome = go()
    assert outcome.failures["metrics of shrunk AR seed 0"] == "ZeroDivisionError: division by zero"
    assert len(outcome.table) == 3
    assert (
        "failed: metrics of shrunk AR seed 0: ZeroDivisionError: division by zero" in capsys.readouterr().out
    )


def test_a_trial_has_one_skill_everywhere(project: Path) -> None:
    """A ridge that looks back 40 days has other test days than a regression on 5."""
    text = FILE.replace('"model.name": "ridge"', '"model.name": "ridge", "study.lookback": 40')
    (project / "far.py").write_text(text)
    outcome = farm.run("far.py", data="panel.parquet")
    days = outcome.predictions.groupby("model")["date"].agg(set)
    assert days["shrunk"] != days["linear"]
    shared = sorted(days["shrunk"] & days["linear"])
    wide = outcome.predictions[outcome.predictions["date"].isin(shared)].assign(
        squared=lambda x: (x["predicted"] - x["actual"]) ** 2
    )
    squared = wide.groupby("model")["squared"].mean()
    skill = 1 - np.sqrt(squared["shrunk"] / squared["linear"])
    row = outcome.table.set_index("model").loc["shrunk"]
    assert row["linear_rmse_skill"] == pytest.approx(skill, rel=1e-9)
    there, parent = sweeps_run(project, "far")
    experiment = [there.get_run(parent).info.experiment_id]
    for kind in ("trial", "variant"):
        query = f"tags.`farm.role` = '{kind}' AND tags.`farm.variant` = 'shrunk'"
        (found,) = there.search_runs(experiment, query)
        assert found.data.metrics["vs/linear_rmse_skill"] == pytest.approx(skill, rel=1e-9)
    page = (project / "results" / "far" / "report.html").read_text()
    charts = json.loads(re.search(r"^const CHARTS = (.*);$", page, re.MULTILINE)[1])
    for name in ("baselines", "places"):
        heat = json.loads(charts[name])["data"][0]
        place = heat["y"].index("shrunk")
        across = heat["x"].index("linear" if name == "baselines" else "AR")
        assert _numbers(heat["z"])[place][across] == pytest.approx(100 * skill, rel=1e-6)


def _numbers(z):
    """Read a matrix of a plotly chart, which may be packed."""
    if isinstance(z, dict):
        values = np.frombuffer(base64.b64decode(z["bdata"]), dtype=z["dtype"])
        return values.reshape([int(n) for n in z["shape"].split(",")])
    return np.array(z, dtype=float)


def test_a_reference_that_fails_leaves_a_table_without_skill(project: Path) -> None:
    shutil.rmtree("farm_store")
    name, declared = load_sweep("two.py")
    source = read_source(declared, Path("panel.parquet"))
    store = Store("farm_store").open()
    for trial in make_plan(name, declared, source, Options()).trials:
        if trial.row == "linear":
            store.put_failure(trial.signature, "it has no rank")
        else:
            store.put(trial.signature, trial.config, run(trial.config, source, device="cpu"))
    done = subprocess.run(
        [sys.executable, "-m", "farm.report", "two.py", "--data", "panel.parquet"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout
    assert done.returncode == 0, done.stderr
    assert "linear did not finish: nothing to compare the variants with." in said
    assert "nan" not in said.lower()
    assert " inf" not in said
    assert (project / "results" / "two" / "table.csv").exists()
    assert "failed: linear AR seed 0: it has no rank" in said
