"""Results by signature: written once, whole or not at all, on a disk or an object store."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow.fs
import safetensors.numpy

from farm.base.config import canonical_json
from farm.base.errors import StaleError, UserError
from farm.base.files import held, write_atomically
from farm.base.model import State
from farm.base.origin import FORMAT, origin
from farm.base.types import quantile_name
from farm.experiment import Result, TrialConfig
from farm.training.checkpoint import Checkpoint
from farm.training.fit import Epoch, History

FORECAST, MODEL, RECORD = "forecast.safetensors", "model.safetensors", "result.json"
FAILURE = "failure.txt"
PARTS = ("trials", "stages")
CHECKPOINT, STAGE = "checkpoint.safetensors", "stage.json"
FORMAT_FILE = "format"  # in the root: what wrote the store
PEEKS = ("probe/causality/targets", "probe/causality/future")  # see `farm.evaluation.probes.Causality`
PROGRESS = "progress-"  # begins the name of a file that says where a fit stands


@dataclass(frozen=True)
class Record:
    """A finished trial as the store holds it.

    Parameters
    ----------
    signature
        The trial's name.
    config
        Its resolved config, JSON-ready.
    metrics
        Scores by their full names.
    tags
        What a reader should be warned of.
    oracles
        Evaluations that have seen the truth.
    history
        Its learning curve; None for a model that fits itself.
    finished
        When it ended, seconds since 1970.
    levels
        Quantile levels of each evaluation.
    items
        The different items of the samples; see `farm.studies.study.Evaluation`.
    stages
        Signatures of the stages of its curriculum, by their names.
    origin
        What code and libraries it comes from; see `farm.base.origin.origin`. Empty where that was not kept.
    """

    signature: str
    config: dict[str, Any]
    metrics: dict[str, float]
    tags: dict[str, str]
    oracles: tuple[str, ...]
    history: History | None
    finished: float
    levels: dict[str, tuple[float, ...]]
    items: tuple[str, ...]
    stages: dict[str, str]
    origin: dict[str, str]
    content: bytes = dataclasses.field(repr=False)

    @property
    def stage_epochs(self) -> dict[str, int]:
        """Count the epochs of each stage, by its signature."""
        epochs = self.history.epochs if self.history is not None else ()
        return {
            signature: sum(epoch.phase == name for epoch in epochs) for name, signature in self.stages.items()
        }

    @cached_property
    def _arrays(self) -> State:
        return dict(safetensors.numpy.load(self.content))

    def array(self, name: str) -> Any:
        """Give one of the arrays that an evaluation keeps for pictures."""
        return self._arrays[f"array:{name}"]

    def has(self, name: str) -> bool:
        """Say whether the evaluation kept an array of that name."""
        return f"array:{name}" in self._arrays

    def forecast(self, name: str = "") -> pd.DataFrame:
        """Give the test block of one evaluation: date, actual, predicted and ``q05`` for each level.

        See `farm.base.types.quantile_name`; the levels themselves are in `levels`.

        Where samples have items, they are in the column ``item``; of paths ``start`` is the last day that was
        known and ``lead`` counts the days ahead of it, from 1.

        Parameters
        ----------
        name
            The evaluation; ``""`` is the one that is ranked.
        """
        arrays = self._arrays
        columns = {
            # Seconds, since nanoseconds end in 2262 and begin anew in 1677 without a word.
            "date": arrays["times"].astype("datetime64[D]").astype("datetime64[s]"),
            "actual": arrays["actual"],
            "predicted": arrays[f"point:{name}"],
        }
        if self.items:
            columns["item"] = np.array(self.items)[arrays["items"]]
        if self.has("starts"):
            days = self.array("lengths").astype(int)
            start = self.array("starts").astype(int).astype("datetime64[D]").astype("datetime64[s]")
            columns["start"] = np.repeat(start, days * len(self.items))
            lead = np.concatenate([np.arange(1, count + 1) for count in days])
            columns["lead"] = np.repeat(lead, len(self.items))
        for i, level in enumerate(self.levels[name]):
            columns[quantile_name(level)] = arrays[f"quantiles:{name}"][:, i]
        return pd.DataFrame(columns)


def epochs_of_stages(records: Sequence[Record]) -> tuple[int, int]:
    """Count the epochs of all stages of these trials: each for itself, and those that trials share once."""
    each = [record.stage_epochs for record in records if record.stages]
    shared = {signature: n for epochs in each for signature, n in epochs.items()}
    return sum(sum(epochs.values()) for epochs in each), sum(shared.values())


def shares_of_warnings(records: Sequence[Record]) -> dict[str, str]:
    """Return how many trials carry each warning, such as ``{"latent collapsed": "3/5"}``.

    Of a model that sees the future also by how much that moves its forecasts at most.
    """
    found = {}
    for name in dict.fromkeys(name for record in records for name in record.tags):
        warned = [record for record in records if name in record.tags]
        found[name] = f"{len(warned)}/{len(records)}"
        if name == "sees the future":
            moved = max(record.metrics.get(peek, 0.0) for record in warned for peek in PEEKS)
            found[name] += f" (moved by {moved:.2g})"
    return found


def sealed(record: dict[str, Any]) -> bytes:
    """Write a record as JSON whose first field is the checksum of all that follows it."""
    rest = canonical_json(record)[1:]
    return f'{{"sha256":"{hashlib.sha256(rest.encode()).hexdigest()}",{rest}'.encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """Read a record back.

    Raises
    ------
    ValueError
        If it is cut short or changed.
    """
    found = re.fullmatch(rb'{"sha256":"([0-9a-f]{64})",(.*)', content, re.DOTALL)
    if not found or hashlib.sha256(found[2]).hexdigest().encode() != found[1]:
        raise ValueError("the record does not match its checksum")
    record: dict[str, Any] = json.loads(b"{" + found[2])
    return record


class Store:
    """Results by signature under one root.

    A trial is a folder ``trials/SIGNATURE``. Its ``result.json`` is written last and holds the
    checksums of the other files and its own, so a folder without it, or that disagrees with it, is
    no result. So is a stage of a curriculum, ``stages/SIGNATURE`` with ``stage.json``; while it is
    trained, its folder holds where training stands. The file ``format`` says which version of Farm writes
    here; a root that another one wrote is refused, so that nothing in it is misread or overwritten.

    Parameters
    ----------
    root
        A local folder, or a URI such as ``s3://bucket/prefix``.

    Raises
    ------
    UserError
        If the root cannot be used, or another version of Farm wrote it (`StaleError`).
    """

    def __init__(self, root: str) -> None:
        self.root = root if "://" in root else str(Path(root).expanduser().resolve())
        try:
            self._files, base = pyarrow.fs.FileSystem.from_uri(self.root)
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error
        self._base = base.rstrip("/")
        self._local = isinstance(self._files, pyarrow.fs.LocalFileSystem)
        self._stamped = self._has_stamp()

    def _has_stamp(self) -> bool:
        """Return whether the root says which version writes it; one without is new."""
        try:
            if self._read(f"{self._base}/{FORMAT_FILE}") == FORMAT.encode():
                return True
        except FileNotFoundError:
            parts = [pyarrow.fs.FileSelector(f"{self._base}/{part}", allow_not_found=True) for part in PARTS]
            if not any(self._files.get_file_info(part) for part in parts):
                return False
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error
        raise StaleError(f"storage {self.root!r}", "move it away, or choose another storage")

    def _folder(self, part: str, signature: str) -> str:
        """Make the folder of a trial or stage, in a root that says which version writes it."""
        if not self._stamped:
            self._files.create_dir(self._base, recursive=True)
            self._write(f"{self._base}/{FORMAT_FILE}", FORMAT.encode())
            self._stamped = True
        folder = f"{self._base}/{part}/{signature}".rstrip("/")
        self._files.create_dir(folder, recursive=True)
        return folder

    def open(self) -> Self:
        """Make the root if it is not there, and see that it can be written to.

        Raises
        ------
        UserError
            If it cannot.
        """
        probe = f"{self._base}/.probe-{uuid.uuid4().hex[:8]}"
        try:
            self._folder("trials", "")
            self._write(probe, b"")
            self._files.delete_file(probe)
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error
        return self

    def _unusable(self, error: Exception) -> UserError:
        reason = str(error).splitlines()[0]
        return UserError(
            f"storage {self.root!r} cannot be used ({reason}):"
            " give a folder you may write to, or an s3:// or gs:// URI"
        )

    def claim(
        self, name: str, waiting: Callable[[], None] = lambda: None
    ) -> contextlib.AbstractContextManager[None]:
        """Hold a signature, or a sweep by its name, for this process alone; see `farm.base.files.held`.

        In a bucket, which has no locks, nothing is held: two sweeps at once may do the same trial there,
        and write the same result.
        """
        if not self._local:
            return contextlib.nullcontext()
        return held(Path(self._base) / "claims" / name, waiting)

    def leave_mark(self) -> str:
        """Leave an empty file in the root, by which another machine sees that it has the same store."""
        mark = f".mark-{uuid.uuid4().hex}"
        self._write(f"{self._base}/{mark}", b"")
        return mark

    def sees_mark(self, mark: str) -> bool:
        """Say whether a mark that was left elsewhere is here."""
        found = self._files.get_file_info(f"{self._base}/{mark}")
        return bool(found.type == pyarrow.fs.FileType.File)

    def remove_mark(self, mark: str) -> None:
        """Take a mark away."""
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_file(f"{self._base}/{mark}")

    def put(self, signature: str, config: TrialConfig, result: Result) -> None:
        """Write a finished trial; the last step makes it visible, all of it at once."""
        evaluation = result.evaluation
        arrays: State = {
            "times": evaluation.times.astype("datetime64[D]").astype(np.int64),
            "actual": evaluation.actual,
        }
        items = tuple(dict.fromkeys(evaluation.items))
        if items:
            code = {item: i for i, item in enumerate(items)}
            arrays["items"] = np.array([code[item] for item in evaluation.items], dtype=np.int32)
        for name, forecast in evaluation.forecasts.items():
            arrays[f"point:{name}"] = forecast.point
            if forecast.quantiles is not None:
                arrays[f"quantiles:{name}"] = forecast.quantiles
        arrays |= {f"array:{name}": value for name, value in evaluation.arrays.items()}
        files = {FORECAST: _tensors(arrays), MODEL: _tensors(result.state)}
        record = {
            "signature": signature,
            "config": config.model_dump(mode="json"),
            "metrics": evaluation.metrics,
            "tags": evaluation.tags,
            "oracles": evaluation.oracles,
            "history": None if result.history is None else dataclasses.asdict(result.history),
            "levels": {name: forecast.levels for name, forecast in evaluation.forecasts.items()},
            "items": items,
            "finished": datetime.now(UTC).timestamp(),
            "origin": origin(),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        if result.stages:
            record["stages"] = result.stages
        folder = self._folder("trials", signature)
        for name, content in files.items():
            self._write(f"{folder}/{name}", content)
        self._write(f"{folder}/{RECORD}", sealed(record))
        self._forget_progress(folder)

    def get(self, signature: str) -> Record | None:
        """Read a finished trial; None if there is none, or what is there is torn or not a result."""
        folder = f"{self._base}/trials/{signature}"
        try:
            stored = unsealed(self._read(f"{folder}/{RECORD}"))
            content = {name: self._read(f"{folder}/{name}") for name in (FORECAST, MODEL)}
            if any(hashlib.sha256(content[name]).hexdigest() != stored["files"][name] for name in content):
                return None
            history = stored["history"]
            if history is not None:
                epochs = tuple(Epoch(**epoch) for epoch in history["epochs"])
                history = History(epochs, history["best_epoch"])
            return Record(
                signature=signature,
                config=stored["config"],
                metrics=stored["metrics"],
                tags=stored["tags"],
                oracles=tuple(stored["oracles"]),
                history=history,
                finished=stored["finished"],
                levels={name: tuple(levels) for name, levels in stored["levels"].items()},
                items=tuple(stored["items"]),
                stages=stored.get("stages", {}),
                origin=stored.get("origin", {}),
                content=content[FORECAST],
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put_failure(self, signature: str, reason: str) -> None:
        """Keep why a trial failed, until it fails otherwise; a result, when there is one, counts instead."""
        folder = self._folder("trials", signature)
        self._write(f"{folder}/{FAILURE}", reason.encode())

    def failure(self, signature: str) -> str | None:
        """Say why a trial failed when it was last run; None if it did not, or has finished since."""
        folder = f"{self._base}/trials/{signature}"
        try:
            reason = self._read(f"{folder}/{FAILURE}").decode()
        except (FileNotFoundError, ValueError):
            return None
        return None if self.get(signature) else reason

    def put_stage(self, signature: str, checkpoint: Checkpoint) -> None:
        """Write a finished stage; the last step makes it visible, and its progress goes."""
        content = checkpoint.to_bytes()
        record = {
            "signature": signature,
            "stages": checkpoint.record["stages"],
            "finished": datetime.now(UTC).timestamp(),
            "files": {CHECKPOINT: hashlib.sha256(content).hexdigest()},
        }
        folder = self._folder("stages", signature)
        self._write(f"{folder}/{CHECKPOINT}", content)
        self._write(f"{folder}/{STAGE}", sealed(record))
        self._forget_progress(folder)

    def get_stage(self, signature: str) -> Checkpoint | None:
        """Read a finished stage; None if there is none, or what is there is torn."""
        folder = f"{self._base}/stages/{signature}"
        try:
            stored = unsealed(self._read(f"{folder}/{STAGE}"))
            content = self._read(f"{folder}/{CHECKPOINT}")
            if hashlib.sha256(content).hexdigest() != stored["files"][CHECKPOINT]:
                return None
            return Checkpoint.from_bytes(content, f"{folder}/{CHECKPOINT}")
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def put_progress(self, signature: str, checkpoint: Checkpoint, fit: int | None = None) -> None:
        """Write where a fit stands, in place of its last checkpoint but one.

        Parameters
        ----------
        signature
            Of the stage, or of the trial.
        checkpoint
            With ``epochs`` in its record.
        fit
            Which of the trial's; None for the one of a stage.
        """
        part, place = self._progress(fit)
        folder = self._folder(part, signature)
        # Two take turns, so that one is whole whatever becomes of the other.
        turn = len(checkpoint.record["epochs"]) % 2
        self._write(f"{folder}/{place}{turn}.safetensors", checkpoint.to_bytes())

    def get_progress(self, signature: str, fit: int | None = None) -> Checkpoint | None:
        """Read where a fit stood: its newest checkpoint that is whole; None if there is none."""
        part, place = self._progress(fit)
        found = []
        for turn in (0, 1):
            path = f"{self._base}/{part}/{signature}/{place}{turn}.safetensors"
            try:
                found.append(Checkpoint.from_bytes(self._read(path), path))
            except (FileNotFoundError, ValueError):
                continue
        return max(found, key=lambda checkpoint: len(checkpoint.record["epochs"]), default=None)

    @staticmethod
    def _progress(fit: int | None) -> tuple[str, str]:
        """Return where a fit's checkpoints are, trials or stages, and how their names begin."""
        return ("stages", PROGRESS) if fit is None else ("trials", f"{PROGRESS}{fit}-")

    def _forget_progress(self, folder: str) -> None:
        """Delete the checkpoints of what has ended."""
        for file in self._files.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True)):
            if file.base_name.startswith(PROGRESS):
                with contextlib.suppress(FileNotFoundError):
                    self._files.delete_file(file.path)

    def configs(self) -> dict[str, dict[str, Any]]:
        """Give the resolved config of every finished trial, by signature; see `get` for the results."""
        found = {}
        root = pyarrow.fs.FileSelector(f"{self._base}/trials", allow_not_found=True)
        for folder in self._files.get_file_info(root):
            try:
                found[folder.base_name] = unsealed(self._read(f"{folder.path}/{RECORD}"))["config"]
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                continue  # torn, or not a result
        return found

    def model_state(self, signature: str) -> State:
        """Read what a trial's model learnt.

        Raises
        ------
        FileNotFoundError
            If there is no such trial.
        """
        return dict(safetensors.numpy.load(self._read(f"{self._base}/trials/{signature}/{MODEL}")))

    def _read(self, path: str) -> bytes:
        with self._files.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def _write(self, path: str, content: bytes) -> None:
        """Write a file so that it is there whole or not at all, also after a power cut."""
        if not self._local:  # an object appears when its upload is complete
            with self._files.open_output_stream(path) as stream:
                stream.write(content)
            return
        write_atomically(Path(path), content)


def _tensors(arrays: State) -> bytes:
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    content: bytes = safetensors.numpy.save(contiguous)
    return content
