"""Results by signature: written once, whole or not at all, on a disk or an object store."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
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
from farm.base.density import Density
from farm.base.errors import StaleError, UserError
from farm.base.files import held, write_atomically
from farm.base.model import State
from farm.base.origin import FORMAT, origin
from farm.base.types import Forecast, quantile_name
from farm.evaluation.scores import Block, Evaluation, Scores, lacking, names_of, undefined, warnings_of
from farm.experiment import Result, TrialConfig, metrics_of, rescore
from farm.studies.study import Source
from farm.training.checkpoint import Checkpoint
from farm.training.fit import Epoch, History

FORECAST, MODEL, RECORD = "forecast.safetensors", "model.safetensors", "result.json"
SCORES = "scores.json"  # what is computed from the forecasts, anew where a metric changes
FAILURE = "failure.txt"
PARTS = ("trials", "stages")
DENSITY = ("location", "scale", "freedom")
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
    facts
        Numbers that no forecast has, such as costs.
    scores
        By metric; see `farm.evaluation.scores.score`.
    notes
        What a reader should be warned of, by name, beside what `scores` find.
    oracles
        Evaluations that have seen the truth.
    history
        Its learning curve; None for a model that fits itself.
    finished
        When it ended, seconds since 1970.
    blocks
        Of each block its different items, whether it has leads, and of each part the quantile levels and
        the subsets; see `farm.evaluation.scores.Block`.
    stages
        Signatures of the stages of its curriculum, by their names.
    origin
        What code and libraries it comes from; see `farm.base.origin.origin`. Empty where that was not kept.
    """

    signature: str
    config: dict[str, Any]
    facts: dict[str, float]
    scores: Mapping[str, Scores]
    notes: dict[str, str]
    oracles: tuple[str, ...]
    history: History | None
    finished: float
    blocks: dict[str, dict[str, Any]]
    stages: dict[str, str]
    origin: dict[str, str]
    content: bytes = dataclasses.field(repr=False)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Return all numbers by full name."""
        return metrics_of(self.facts, self.scores, self.stages)

    @property
    def undefined(self) -> dict[str, str]:
        """Return why numbers are not there, by full name."""
        return undefined(self.scores)

    @property
    def tags(self) -> dict[str, str]:
        """Return what a reader should be warned of, by name."""
        return {**self.notes, **warnings_of(self.scores)}

    @property
    def levels(self) -> dict[str, tuple[float, ...]]:
        """Return the quantile levels of each part of the test block."""
        return {part: tuple(found["levels"]) for part, found in self.blocks["test"]["parts"].items()}

    @property
    def items(self) -> tuple[str, ...]:
        """Return the different items of the test block."""
        return tuple(self.blocks["test"]["items"])

    @property
    def scored(self) -> str:
        """Return a digest of the versions of its metrics."""
        versions = {name: one.version for name, one in self.scores.items()}
        return hashlib.sha256(canonical_json(versions).encode()).hexdigest()[:16]

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

    def forecast(self, name: str = "", block: str = "test") -> pd.DataFrame:
        """Return the forecasts of one part of a block: date, actual, predicted and ``q05`` for each level.

        See `farm.base.types.quantile_name`; the levels themselves are in `levels`.

        Where samples have items, they are in the column ``item``; where they are of several days ahead,
        ``start`` is the last day known to them and ``lead`` the days after it.

        Parameters
        ----------
        name
            The part; ``""`` is the one that is ranked.
        block
            See `farm.evaluation.scores.Evaluation`.
        """
        found = self._block(block)
        forecast = found.forecasts[name]
        columns: dict[str, Any] = {
            # Seconds, since nanoseconds end in 2262 and begin anew in 1677 without a word.
            "date": found.times.astype("datetime64[s]"),
            "actual": found.actual,
            "predicted": forecast.point,
        }
        if found.items:
            columns["item"] = np.array(found.items)
        if found.starts is not None:
            columns |= {"start": found.starts.astype("datetime64[s]"), "lead": found.leads}
        for i, level in enumerate(forecast.levels):
            assert forecast.quantiles is not None
            columns[quantile_name(level)] = forecast.quantiles[:, i]
        return pd.DataFrame(columns)

    def evaluation(self) -> Evaluation:
        """Return all that the trial forecast, as it was scored."""
        mark = "array:"
        arrays = {name.removeprefix(mark): v for name, v in self._arrays.items() if name.startswith(mark)}
        blocks = {name: self._block(name) for name in self.blocks}
        return Evaluation(blocks, self.oracles, arrays, self.notes)

    def _block(self, name: str) -> Block:
        facts = self.blocks[name]
        start = f"{name}|"
        arrays = {key[len(start) :]: value for key, value in self._arrays.items() if key.startswith(start)}
        forecasts = {}
        for part, about in facts["parts"].items():
            density = [arrays.get(f"{what}:{part}") for what in DENSITY]
            forecasts[part] = Forecast(
                arrays[f"point:{part}"],
                arrays.get(f"quantiles:{part}"),
                tuple(about["levels"]),
                None if density[0] is None else Density(*density),  # type: ignore[arg-type]
            )
        items = np.array(facts["items"])
        return Block(
            arrays["times"].astype("datetime64[D]"),
            arrays["actual"],
            forecasts,
            tuple(items[arrays["items"]].tolist()) if len(items) else (),
            arrays["starts"].astype("datetime64[D]") if "starts" in arrays else None,
            arrays.get("leads"),
            {subset: arrays[f"subset:{subset}"] for subset in facts["subsets"]},
            {part: tuple(names) for part, names in facts["subsets_of"].items()},
            frozenset(facts["calibrated"]),
            {
                what: {part: arrays[f"sampled:{what}:{part}"] for part in parts}
                for what, parts in facts["sampled"].items()
            },
        )


def _block_arrays(name: str, block: Block) -> tuple[State, dict[str, Any]]:
    """Lay a block out as arrays and as facts for JSON; `Record._block` reads them."""
    arrays: State = {"times": block.times.astype("datetime64[D]").astype(np.int64), "actual": block.actual}
    items = tuple(dict.fromkeys(block.items))
    if items:
        code = {item: i for i, item in enumerate(items)}
        arrays["items"] = np.array([code[item] for item in block.items], dtype=np.int32)
    if block.starts is not None and block.leads is not None:
        arrays["starts"] = block.starts.astype("datetime64[D]").astype(np.int64)
        arrays["leads"] = np.asarray(block.leads, dtype=np.int32)
    for part, forecast in block.forecasts.items():
        arrays[f"point:{part}"] = forecast.point
        if forecast.quantiles is not None:
            arrays[f"quantiles:{part}"] = forecast.quantiles
        if forecast.density is not None:
            arrays |= {f"{what}:{part}": getattr(forecast.density, what) for what in DENSITY}
    for what, parts in block.sampled.items():
        arrays |= {f"sampled:{what}:{part}": values for part, values in parts.items()}
    arrays |= {f"subset:{subset}": mask for subset, mask in block.subsets.items()}
    facts = {
        "items": items,
        "parts": {part: {"levels": forecast.levels} for part, forecast in block.forecasts.items()},
        "subsets": sorted(block.subsets),
        "subsets_of": block.subsets_of,
        "calibrated": sorted(block.calibrated),
        "sampled": {what: sorted(parts) for what, parts in block.sampled.items()},
    }
    return {f"{name}|{key}": value for key, value in arrays.items()}, facts


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
        arrays: State = {f"array:{name}": value for name, value in evaluation.arrays.items()}
        blocks = {}
        for name, block in evaluation.blocks.items():
            laid_out, blocks[name] = _block_arrays(name, block)
            arrays |= laid_out
        files = {FORECAST: _tensors(arrays), MODEL: _tensors(result.state)}
        record = {
            "signature": signature,
            "config": config.model_dump(mode="json"),
            "facts": result.facts,
            "notes": result.notes,
            "oracles": evaluation.oracles,
            "history": None if result.history is None else dataclasses.asdict(result.history),
            "blocks": blocks,
            "finished": datetime.now(UTC).timestamp(),
            "origin": origin(),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        if result.stages:
            record["stages"] = result.stages
        folder = self._folder("trials", signature)
        for name, content in files.items():
            self._write(f"{folder}/{name}", content)
        digest = hashlib.sha256(files[FORECAST]).hexdigest()
        self._write(f"{folder}/{SCORES}", _sealed_scores(result.scores, digest))
        self._write(f"{folder}/{RECORD}", sealed(record))
        self._forget_progress(folder)

    def put_scores(self, record: Record, scores: Mapping[str, Scores]) -> Record:
        """Write scores of a finished trial in place of those that it has; return the trial with them."""
        folder = self._folder("trials", record.signature)
        self._write(f"{folder}/{SCORES}", _sealed_scores(scores, hashlib.sha256(record.content).hexdigest()))
        return dataclasses.replace(record, scores=scores)

    def fill_scores(self, record: Record, source: Source) -> tuple[Record, list[str]]:
        """Compute the metrics that a finished trial lacks, or has of another version, without a fit.

        Parameters
        ----------
        record
            The trial.
        source
            What its study reads.

        Returns
        -------
        record
            With all its metrics, as they are now in the store.
        names
            Of the metrics that were computed.
        """
        names = lacking(record.scores, record.config["study"]["name"])
        if not names:
            return record, []
        config = TrialConfig.model_validate_json(json.dumps(record.config))
        found = rescore(
            config, source, record.evaluation(), lambda: self.model_state(record.signature), names
        )
        kept = {name: record.scores[name] for name in names_of(config.study.name) if name not in found}
        return self.put_scores(record, kept | found), names

    def _scores(self, folder: str, forecast: str) -> dict[str, Scores]:
        """Read the scores of a trial; none where they are torn or of other forecasts."""
        try:
            stored = unsealed(self._read(f"{folder}/{SCORES}"))
            if stored["forecast"] != forecast:
                return {}
            return {name: Scores(**one) for name, one in stored["scores"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return {}

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
                facts=stored["facts"],
                scores=self._scores(folder, stored["files"][FORECAST]),
                notes=stored["notes"],
                oracles=tuple(stored["oracles"]),
                history=history,
                finished=stored["finished"],
                blocks=stored["blocks"],
                stages=stored.get("stages", {}),
                origin=stored.get("origin", {}),
                content=content[FORECAST],
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put_tried(self, sweep: str, tried: Mapping[str, tuple[str, str]]) -> None:
        """Write which trials of variants a sweep has ever finished: row and ticker by signature."""
        self._folder("tried", "")
        self._write(f"{self._base}/tried/{sweep}.json", sealed({"trials": dict(tried)}))

    def tried(self, sweep: str) -> dict[str, tuple[str, str]]:
        """Read what `put_tried` wrote; nothing where there is nothing, or it is torn."""
        try:
            found = unsealed(self._read(f"{self._base}/tried/{sweep}.json"))["trials"]
            return {str(name): (str(row), str(ticker)) for name, (row, ticker) in found.items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return {}

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


def _sealed_scores(scores: Mapping[str, Scores], forecast: str) -> bytes:
    """Write scores as JSON, beside the digest of the forecasts that they are of."""
    return sealed(
        {"forecast": forecast, "scores": {name: dataclasses.asdict(one) for name, one in scores.items()}}
    )


def _tensors(arrays: State) -> bytes:
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    content: bytes = safetensors.numpy.save(contiguous)
    return content
