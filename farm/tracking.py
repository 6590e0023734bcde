"""MLflow: finished results in batches, each exactly once; the only importer of mlflow.

An experiment for each sweep; in it a run for the sweep with one for each trial below, and one for each
variant and each baseline beside it, where the table of the UI shows them. What is finished is not
written again: runs are found by their tags. A run that an interrupted driver left half-written is
completed, which is idempotent, since every metric carries the time at which its trial finished.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import os
import re
import sqlite3
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from farm import serving
from farm.base.errors import UserError, of_one_line, shown
from farm.base.files import write_atomically
from farm.base.origin import DISTRIBUTION, FORMAT, VERSION
from farm.plan import Plan, Trial
from farm.runs import (
    PRIMARY_METRIC,
    against,
    defined,
    flat,
    labels,
    row_metrics,
    tree_metrics,
    trial_metrics,
    trial_tags,
)
from farm.store import Record, shares_of_warnings
from farm.views import metric_name, saved_views

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

_LONGEST_DIGEST = 36  # that MLflow takes
_BATCH = 1000  # metrics that MLflow takes at once
_MARKS = ("farm.pareto", "farm.pick")  # tags of what a search has tried
_SHOWN, _NONE = "farm.shown", "none"  # tag of an experiment: the sweep that its table shows; one is at work
_FORMAT = "farm.format"  # tag of a run: which versions of the farm read it; see `farm.base.origin.FORMAT`
_SWEEP = "farm.sweep"  # tag of an experiment that is the farm's
_DATABASES = ("postgresql", "mysql", "mssql", "databricks")
_FORBIDDEN = re.compile(r"[^\w-]")  # in the name of a folder of artifacts
_ARTIFACTS = "mlruns"  # folder beside a database, as MLflow names it
_LONGEST_NAME = 500  # of an experiment
_SERVED_BY = ("mlflow", "torch", "numpy", "pandas", "scikit-learn", "safetensors", "pydantic")


class Unreachable(UserError):
    """MLflow cannot be read or written."""


class NotOurs(UserError):
    """An experiment of that name is not one to log to."""


def absolute(uri: str, folder: Path) -> str:
    """Make a tracking URI mean the same from every folder: a database of SQLite by its whole path.

    Parameters
    ----------
    uri
        As it was typed.
    folder
        That a relative path is meant from.
    """
    path = _path(uri)
    if path is None:
        return uri
    whole = str((folder / path.expanduser()).resolve())
    quoted = whole.replace("%", "%25").replace("?", "%3F")
    # MLflow takes what follows this scheme for a path, and makes a folder of the quoted name.
    scheme = "sqlite" if quoted == whole else "sqlite+pysqlite"
    _, mark, query = uri.partition("?")
    return f"{scheme}:///{quoted}{mark}{query}"


def _path(uri: str) -> Path | None:
    """Return the file of a database of SQLite; None of anything else."""
    scheme, separator, rest = uri.partition(":///")
    if not separator or scheme not in ("sqlite", "sqlite+pysqlite"):
        return None
    file = unquote(rest.partition("?")[0])
    return None if file in ("", ":memory:") else Path(file)


def check_experiment(name: str) -> None:
    """See that an experiment can have this name.

    Raises
    ------
    UserError
        If not.
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise UserError(
            f"experiment {shown(name)}: expected a name of 1 to {_LONGEST_NAME} printable characters:"
            " correct it, or leave it out for one named like the sweep"
        )


def check_uri(uri: str) -> None:
    """See that a tracking server answers, or a database's file can be written, within ten seconds.

    Raises
    ------
    UserError
        If not.
    """
    parts = urlsplit(uri)
    login, _, host = parts.netloc.rpartition("@")
    shown = parts._replace(netloc=host).geturl()
    variable = os.environ.get("MLFLOW_TRACKING_URI", "")
    origin = " of MLFLOW_TRACKING_URI" if uri in (variable, absolute(variable, Path.cwd())) else ""
    if parts.scheme in ("http", "https"):
        asked = urllib.request.Request(f"{shown.rstrip('/')}/health")
        if login:
            token = base64.b64encode(unquote(login).encode()).decode()
            asked.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(asked, timeout=8) as answer:
                answer.read(64)
        except (OSError, ValueError) as error:
            reason = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
            raise UserError(
                f"tracking server {shown!r}{origin} cannot be reached ({reason}): start it with `mlflow"
                " server`, or give --tracking-uri sqlite:///mlflow.db"
            ) from error
    elif (path := _path(uri)) is not None:
        if not path.parent.is_dir() or path.is_dir():
            raise UserError(
                f"tracking database {shown!r}{origin}: its folder does not exist:"
                " make it, or choose another --tracking-uri"
            )
        try:
            _try_to_write(path)
        except (OSError, sqlite3.Error) as error:
            raise UserError(
                f"tracking database {str(path)!r}{origin} cannot be written ({error}):"
                " expected a database of SQLite, or no file, in a folder that you may write to; choose"
                " another --tracking-uri"
            ) from error
    elif parts.scheme.partition("+")[0] not in _DATABASES and uri != "databricks":
        raise UserError(
            f"tracking URI {shown!r}{origin}: expected sqlite:///FILE, http(s)://HOST:PORT or a database URI"
            " such as postgresql://"
        )


def _try_to_write(path: Path) -> None:
    """Ask a database of SQLite for its lock; MLflow would try for two minutes."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write to {str(path.parent)!r}")
    if not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:  # another sweep writes at this moment
                raise


def check_for_cluster(uri: str) -> None:
    """See that a tracking URI means the same on every node, so that a sweep finds what another logged.

    Raises
    ------
    UserError
        If it is a file of one machine.
    """
    if _path(uri) is not None:
        raise UserError(
            f"tracking URI {uri!r} is a file of one machine: on a cluster give --tracking-uri the server"
            " on its head, such as http://127.0.0.1:5000, or set MLFLOW_TRACKING_URI"
        )


@contextmanager
def _told() -> Iterator[None]:
    """Turn what MLflow, its database and its store of artifacts raise into one line."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        raise Unreachable(
            f"MLflow cannot be written ({of_one_line(error)}): results that are in the store stay there;"
            " the same command logs what is missing"
        ) from error


def _pragma(uri: str, statement: str) -> None:
    """Tell a database of SQLite something; one that refuses stays as it is, and MLflow says what ails it."""
    if (path := _path(uri)) is not None:
        with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1.0)) as database:
            database.execute(f"PRAGMA {statement}")


@contextmanager
def _fluent(uri: str) -> Iterator[None]:
    """Have MLflow's functions without a client write to a URI, and leave no trace of it.

    MLflow puts the URI into the environment too, where sweeps that this process starts would read it.
    """
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        with _use_tracking_uri(uri):
            yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _artifacts(uri: str, folder: Path) -> str | None:
    """Return the folder of artifacts beside a database; None where a server keeps them."""
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https") or scheme.startswith("databricks") or uri == "databricks":
        return None
    path = _path(uri)
    return str((folder if path is None else path.parent) / _ARTIFACTS).replace("%", "%25")


def _move(path: Path, artifacts: str) -> None:
    """Have the experiments of a database that was moved or copied keep their artifacts beside it.

    MLflow writes down whole paths. Where the new place holds the runs of an experiment, its runs and models
    are looked for there. Where it does not, they stay where they were, apart from runs that have not
    finished, and only what is logged from now on goes to the new place.
    """
    with closing(sqlite3.connect(path, timeout=10.0)) as database, database:  # one transaction
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'logged_models'").fetchall():
            return  # MLflow has not been here, or has yet to bring it up to date
        for experiment, old in database.execute(
            "SELECT e.experiment_id, e.artifact_location FROM experiments e JOIN experiment_tags t"
            " ON t.experiment_id = e.experiment_id AND t.key = ?",
            (_SWEEP,),
        ).fetchall():
            head, _, tail = str(old).rpartition("/")
            new = f"{artifacts}/{tail}"
            if old == new or not head.startswith("/") or not head.endswith(f"/{_ARTIFACTS}"):
                continue
            runs = database.execute("SELECT run_uuid FROM runs WHERE experiment_id = ?", (experiment,))
            whole = any((Path(unquote(new)) / run).is_dir() for (run,) in runs.fetchall())
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, experiment)
            )
            for table, column, which in (
                ("runs", "artifact_uri", "1" if whole else "status != 'FINISHED'"),
                ("logged_models", "artifact_location", "1" if whole else "0"),
            ):
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE experiment_id = ?"
                    f" AND substr({column}, 1, ?) = ? AND {which}",
                    (new, len(old) + 1, experiment, len(old) + 1, f"{old}/"),
                )


@dataclass(frozen=True)
class _Logged:
    """What need be known of a trial's run that is there: a sweep may have thousands.

    Parameters
    ----------
    run_id, parent
        Its id and that of the sweep's run that shows it.
    whole
        Whether all of it was written.
    scores
        Names of its ``vs/`` metrics.
    scored
        A digest of the versions of its other metrics.
    params
        Names of those that it has; none of one that is whole, to which none is added.
    tags
        Marks of a search.
    """

    run_id: str
    parent: str
    whole: bool
    scores: frozenset[str]
    scored: str
    params: frozenset[str]
    tags: Mapping[str, str]

    @classmethod
    def of(cls, run: Any) -> Self:
        """Take what is needed from MLflow's run."""
        whole, tags = run.info.status == "FINISHED", run.data.tags
        return cls(
            run.info.run_id,
            tags.get("mlflow.parentRunId", ""),
            whole,
            frozenset(name for name in run.data.metrics if name.startswith("vs/")),
            tags.get("farm.scored", ""),
            frozenset(() if whole else run.data.params),
            {name: tags[name] for name in _MARKS if name in tags},
        )


@_told()
def check_experiments(uri: str, names: Iterable[str]) -> None:
    """See that experiments of these names are the farm's, or not there yet.

    Raises
    ------
    UserError
        If one is somebody else's or in the trash, or MLflow cannot be read.
    """
    client = _client(uri)
    for name in names:
        _experiment(client, name)


def _client(uri: str) -> MlflowClient:
    """Open MLflow, which then says nothing of its own."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    from mlflow.tracking import MlflowClient

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    _create(uri)
    # A commit then waits for the disk once and not three times, and the UI reads while a sweep writes.
    _pragma(uri, "journal_mode=WAL")
    return MlflowClient(tracking_uri=uri)


def _create(uri: str) -> None:
    """Make a new database of SQLite with MLflow's empty tables, at once.

    MLflow's migrations take seconds to make them, so their outcome is kept for each version of MLflow.
    Where anything fails, nothing has been made, and MLflow makes the tables itself.
    """
    from mlflow.version import VERSION

    with suppress(Exception):
        path = _path(uri)
        if path is None or (path.exists() and path.stat().st_size):
            return
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "farm"
        kept = cache / f"mlflow-{VERSION}.sql"
        if kept.exists():
            script = kept.read_text()
        else:
            script = _empty_tables()
            with suppress(OSError):
                cache.mkdir(parents=True, exist_ok=True)
                write_atomically(kept, script.encode())
        with closing(sqlite3.connect(path, timeout=10.0)) as database:
            database.executescript(script)  # one transaction, which fails where another has made them


def _empty_tables() -> str:
    """Return the statements that make MLflow's tables: what its migrations leave in a database in memory."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    engine = create_engine("sqlite://")
    try:
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
        with closing(engine.raw_connection()) as connection:
            database: Any = connection.driver_connection
            return "\n".join(database.iterdump()).replace("BEGIN TRANSACTION;", "BEGIN IMMEDIATE;", 1)
    finally:
        engine.dispose()


def _experiment(client: MlflowClient, name: str) -> Experiment | None:
    """Find an experiment to log to; a name alone does not make it the farm's."""
    found = client.get_experiment_by_name(name)
    way_on = "name another one with --experiment NAME (experiment= in Python)"
    if found is not None and _SWEEP not in found.tags:
        raise NotOurs(
            f"MLflow experiment {name!r} is not one of the farm's, which leaves it as it is: {way_on}"
        )
    if found is not None and found.lifecycle_stage != "active":
        raise NotOurs(
            f"MLflow experiment {name!r} is in the trash: restore it with `mlflow experiments restore"
            f" --experiment-id {found.experiment_id}` (MLFLOW_TRACKING_URI says where), or {way_on}"
        )
    return found


class Tracking:
    """The runs of one plan.

    Parameters
    ----------
    uri
        Where MLflow keeps its runs.
    plan
        Whose runs they are.
    colours
        Of the runs of each row, such as ``"#0173b2"``.
    experiment
        Its name; None for that of the plan.
    folder
        Where artifacts are kept beside a database that is no file; None for the working directory.

    Raises
    ------
    NotOurs
        If an experiment of that name is not the farm's, or in the trash; nothing of it is changed.
    Unreachable
        If MLflow cannot be opened.
    """

    @_told()
    def __init__(
        self,
        uri: str,
        plan: Plan,
        colours: Mapping[str, str],
        experiment: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self._uri = uri
        self._plan = plan
        self._colours = colours
        self._labels = labels(plan)
        artifacts = _artifacts(uri, folder or Path.cwd())
        if (path := _path(uri)) is not None and artifacts is not None:
            _move(path, artifacts)
        self._client = _client(uri)
        self.name = name = experiment or plan.name
        found = _experiment(self._client, name)
        if found is None:
            self._experiment = self._client.create_experiment(
                name,
                None if artifacts is None else f"{artifacts}/{_FORBIDDEN.sub('_', name)[:100]}",
                tags={
                    _SWEEP: plan.name,
                    "mlflow.experimentKind": "custom_model_development",  # the UI opens on the runs
                    "mlflow.experiment.primaryMetric.name": PRIMARY_METRIC,
                    "mlflow.note.content": f"{plan.sweep.title}\n\n{plan.sweep.question}",
                },
            )
        else:
            self._experiment = found.experiment_id
        self.parent = self._parent()
        shown = found.tags.get(_SHOWN, _NONE) if found is not None else _NONE
        self._last = shown == self.parent
        if shown not in (_NONE, self.parent):  # trials that both ask for go below this one from now on
            self._client.set_experiment_tag(self._experiment, _SHOWN, _NONE)

    @property
    def experiment(self) -> str:
        """Give the id of the sweep's experiment."""
        return str(self._experiment)

    @cached_property
    def stale(self) -> bool:
        """Return whether the experiment has sweeps of another version, which stay as they are."""
        sweeps = self._client.search_runs(
            [self._experiment], "tags.`farm.role` = 'sweep'", max_results=1000, order_by=["start_time ASC"]
        )
        return any(run.data.tags.get(_FORMAT) != FORMAT for run in sweeps)

    @cached_property
    def _trials(self) -> dict[str, _Logged]:
        """Read the runs of trials that are there, which takes seconds where they are thousands."""
        runs = {run.data.tags.get("farm.signature", ""): _Logged.of(run) for run in self._runs("trial")}
        return {signature: run for signature, run in runs.items() if signature}  # tags can be taken off

    def _runs(self, role: str, **tags: str) -> list[Any]:
        tags = {"farm.role": role, _FORMAT: FORMAT, **tags}
        conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                " AND ".join(conditions),
                max_results=5000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found

    def _parent(self) -> str:
        """Find the sweep's run or make it; the same set of trials has one."""
        earlier = self._runs("sweep", **{"farm.signature": self._plan.signature})
        if earlier:
            return str(earlier[0].info.run_id)
        tags = {"farm.role": "sweep", "farm.signature": self._plan.signature}
        return str(self._create(f"{self._plan.name} sweep", tags, int(1000 * time.time())).info.run_id)

    @_told()
    def log_trial(self, trial: Trial, record: Record, skill: Mapping[str, float]) -> None:
        """Log a finished trial below the sweep, unless that has been done.

        Parameters
        ----------
        trial, record
            The trial and its result.
        skill
            Its ``vs/`` metrics, against the references that have finished.

        Raises
        ------
        UserError
            If MLflow cannot be written; the next run of the sweep logs what is missing.
        """
        scores = {metric_name(name) for name in defined(skill)}
        run = self._trials.get(trial.signature)
        if run is not None and run.whole and scores <= run.scores and run.scored == record.scored:
            if run.parent != self.parent:  # the latest sweep that asks for a trial shows it
                self._client.set_tag(run.run_id, "mlflow.parentRunId", self.parent)
            return
        when = int(record.finished * 1000)
        if run is None:
            seconds = record.metrics["cost/fit_seconds"] + record.metrics["cost/evaluate_seconds"]
            tags = self._tags("trial", trial.row) | trial_tags(trial, record)
            tags["mlflow.parentRunId"] = self.parent
            run = _Logged.of(self._create(trial.name, tags, when - int(1000 * seconds)))
            self._log_data(run.run_id, trial)
        params = self._params({"variant": trial.row, **flat(record.config)})
        # What is there may be numbered as another plan had it, and a param is never changed.
        missing = {name: value for name, value in params.items() if name not in run.params}
        self._finish(run.run_id, trial_metrics(record, skill), missing, when)
        self._client.set_tag(run.run_id, "farm.scored", record.scored)
        self._trials[trial.signature] = replace(
            run, whole=True, scores=run.scores | scores, scored=record.scored, params=frozenset()
        )

    @_told()
    def log_results(
        self,
        trials: Sequence[Trial],
        records: Mapping[str, Record],
        skills: Mapping[str, Mapping[str, float]],
        table: pd.DataFrame,
        note: str,
        files: Sequence[Path],
        failed: int,
        seconds: float = 0.0,
        more: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Log what is missing of the trials, the verdict's rows and the sweep itself.

        Parameters
        ----------
        trials
            The finished trials.
        records, skills
            Their results and ``vs/`` metrics, by signature.
        table, note
            The verdict, and what a reader is told of it in Markdown.
        files
            Artifacts of the sweep's run.
        failed
            How many trials failed.
        seconds
            Wall time that the trials took; 0 if none was run.
        more
            Further metrics of a row, by its name and their full name.

        Raises
        ------
        UserError
            If MLflow cannot be written.
        """
        shown = sorted(f"{trial.signature} {records[trial.signature].scored}" for trial in trials)
        digest = hashlib.sha256(" ".join(shown).encode()).hexdigest()[:16]
        when = int(1000 * max(record.finished for record in records.values()))
        sweep = self._client.get_run(self.parent)
        finished = sweep.info.status == "FINISHED" and sweep.data.tags.get("farm.digest") == digest
        if finished and self._last:
            return
        for trial in trials:
            self.log_trial(trial, records[trial.signature], skills[trial.signature])
        if finished:
            self._show(when)  # another sweep has been run since
            return
        for rank, row in enumerate(table.to_dict("records")):
            mine = [trial for trial in trials if trial.row == row["model"]]
            if mine:  # not so where every trial of a row failed
                # The table of the UI has the latest run on top: that is the best.
                further = (more or {}).get(row["model"], {})
                self._log_summary(row, mine, records, when - rank, further)
        self._show(when)
        counts: dict[str, float] = {"cost/trials": len(trials), "cost/failed_trials": failed}
        counts |= tree_metrics([records[trial.signature] for trial in trials], seconds)
        for path in files:
            self._client.log_artifact(self.parent, str(path), "figures" if path.suffix == ".png" else None)
        self._client.set_tag(self.parent, "mlflow.note.content", note)
        self._client.set_experiment_tag(self._experiment, "mlflow.note.content", note)
        best = table[table["role"] == "variant"].iloc[:1].to_dict("records")
        for row in best:
            self._client.set_tag(self.parent, "farm.best", row["model"])
            counts |= {f"best/{name}": row[name] for name in ("rmse", "direction_accuracy", "dm_p")}
            counts |= {f"best/{column}": row[column] for column in against(self._plan.sweep.references)}
        self._client.set_tag(self.parent, "farm.digest", digest)
        when = max(when, sweep.info.start_time)  # of trials that were there before it
        self._finish(self.parent, [(name, value, 0) for name, value in counts.items()], {}, when)

    @_told()
    def log_model(self, row: str, trials: Sequence[Trial], folder: Path, example: pd.DataFrame) -> None:
        """Log a row's models as one that MLflow loads and serves, unless that has been done.

        Parameters
        ----------
        row
            The variant.
        trials
            Whose models they are.
        folder
            What `farm.serving.save` wrote.
        example
            A request.

        Raises
        ------
        UserError
            If MLflow cannot be written.
        """
        import mlflow
        from mlflow.models import Model, infer_signature

        named = " ".join(sorted(trial.signature for trial in trials))
        if self._client.get_run(self.parent).data.tags.get("farm.model") == named:
            return
        with _fluent(self._uri):
            Model.log(
                None,
                mlflow.pyfunc,
                name="model",
                run_id=self.parent,
                model_id=self._client.create_logged_model(
                    self._experiment, "model", self.parent, tags={"farm.variant": row}
                ).model_id,
                loader_module=serving.__name__,
                data_path=str(folder),
                signature=infer_signature(example, serving.load(folder).predict(example)),
                input_example=example,
                # Named, since to infer them would load the model in another process. Without what a release
                # was built for, such as +cpu, which the index does not have.
                pip_requirements=[
                    f"{DISTRIBUTION}=={VERSION}",
                    *(f"{name}=={version(name).partition('+')[0]}" for name in _SERVED_BY),
                ],
            )
        self._client.set_tag(self.parent, "farm.model", named)

    @_told()
    def log_page(self, page: Path) -> None:
        """Put the report page on the sweep's run, in place of an older one.

        Raises
        ------
        UserError
            If MLflow cannot be written.
        """
        self._client.log_artifact(self.parent, str(page))

    @_told()
    def log_search(self, marks: Mapping[str, Mapping[str, str]], metrics: Mapping[str, float]) -> None:
        """Mark the runs of what a search has tried, and put its figures on the sweep's run.

        Parameters
        ----------
        marks
            Tags by signature, such as ``{"farm.pareto": "front"}``.
        metrics
            Of the sweep's run, by full name.

        Raises
        ------
        UserError
            If MLflow cannot be written.
        """
        for signature, tags in marks.items():
            run = self._trials.get(signature)
            for name, value in tags.items():
                if run is not None and run.tags.get(name, "") != value:
                    self._client.set_tag(run.run_id, name, value)
        for name, score in defined(metrics).items():
            self._client.log_metric(self.parent, metric_name(name), score, step=0)

    def close(self) -> None:
        """Bring what a database of SQLite holds in its log to its own file, so that a copy of it is whole."""
        _pragma(self._uri, "wal_checkpoint(TRUNCATE)")

    def _log_summary(
        self,
        row: Mapping[Any, Any],
        trials: Sequence[Trial],
        known: Mapping[str, Record],
        when: int,
        more: Mapping[str, float],
    ) -> None:
        """Log one row of the verdict, in place of an older one."""
        records = [known[trial.signature] for trial in trials]
        tags = self._tags(row["role"], row["model"]) | {
            "farm.beats": row["beats"],
            "farm.beats_best": row["beats_best"],
            "farm.best_baseline": row["best"],
            "farm.sweep": self.parent,
        }
        if row["model"] == self._plan.sweep.references[0]:
            tags["farm.reference"] = "the one to beat"
        tags |= shares_of_warnings(records)
        for earlier in self._runs(row["role"], **{k: tags[k] for k in ("farm.sweep", "farm.variant")}):
            self._client.delete_run(earlier.info.run_id)
        metrics = row_metrics(row, records, self._plan.sweep.references) | dict(more)
        params = dict(set.intersection(*(set(flat(record.config).items()) for record in records)))
        run = self._create(row["model"], tags, when)
        for some in {trial.ticker: trial for trial in trials}.values():
            self._log_data(run.info.run_id, some)
        self._finish(
            run.info.run_id,
            [(k, v, 0) for k, v in metrics.items()],
            self._params({"variant": row["model"], **params}),
            when,
        )

    def _show(self, when: int) -> None:
        """Put the rows of this sweep into the table and the views, and fold those of others below theirs."""
        for name, view in saved_views(self.parent, self._plan.sweep.references, PRIMARY_METRIC, when).items():
            self._client.set_experiment_tag(self._experiment, name, view)
        for role in ("variant", "baseline"):
            for run in self._runs(role):
                below = run.data.tags.get("mlflow.parentRunId")
                sweep = run.data.tags.get("farm.sweep", below)
                if sweep == self.parent and below:
                    self._client.delete_tag(run.info.run_id, "mlflow.parentRunId")
                elif sweep != self.parent and below != sweep:
                    self._client.set_tag(run.info.run_id, "mlflow.parentRunId", sweep)
        self._client.set_experiment_tag(self._experiment, _SHOWN, self.parent)

    def _params(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: self._labels.get((name, value), value) for name, value in values.items()}

    def _log_data(self, run_id: str, trial: Trial) -> None:
        """Say which data a run has read, by name and digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        study, source = trial.config.study, self._plan.source
        digest = study.data_digest(source)[:_LONGEST_DIGEST]
        told = Dataset(f"{source.source} {trial.ticker}", digest, "local", source.source)
        context = InputTag("mlflow.data.context", study.name)
        self._client.log_inputs(run_id, [DatasetInput(told, [context])])

    def _tags(self, role: str, row: str) -> dict[str, str]:
        tags = {
            "farm.role": role,
            "farm.variant": row,
            "mlflow.source.name": f"farm.sweep {self._plan.name}",
            "mlflow.source.type": "LOCAL",
        }
        return tags | ({"mlflow.runColor": self._colours[row]} if row in self._colours else {})

    def _create(self, name: str, tags: Mapping[str, str], start: int) -> Any:
        tags = {_FORMAT: FORMAT, **tags}
        return self._client.create_run(self._experiment, start_time=start, tags=tags, run_name=name)

    def _finish(
        self, run_id: str, metrics: Sequence[tuple[str, float, int]], params: Mapping[str, str], when: int
    ) -> None:
        """Write everything of a run in as few requests as MLflow takes, and end the run."""
        from mlflow.entities import Metric, Param

        rows = [
            Metric(metric_name(name), float(value), when, step)
            for name, value, step in metrics
            if math.isfinite(value)
        ]
        for start in range(0, max(len(rows), 1), _BATCH):
            first = [Param(name, value) for name, value in params.items()] if start == 0 else []
            self._client.log_batch(run_id, metrics=rows[start : start + _BATCH], params=first)
        self._client.set_terminated(run_id, "FINISHED", end_time=when)
