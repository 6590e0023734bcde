"""The farm from Python: what ``python -m farm.sweep`` does, as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from farm.base.command_line import EXIT_INTERRUPTED
from farm.base.errors import UserError
from farm.base.files import check_inputs
from farm.base.options import Options, options_of
from farm.base.search_space import Sweep
from farm.drive import Runtime, drive
from farm.store import Record, Store
from farm.sweep import load_sweep, plain_or_terminal, read_source, resolve


@dataclass(frozen=True)
class Outcome:
    """What a sweep came to.

    Parameters
    ----------
    name
        Of the sweep: its files are in ``results/NAME/``.
    sentence
        The verdict in plain words.
    table
        The verdict, a row for each variant and baseline, best first; see `farm.evaluation.verdict.verdict`.
    predictions
        Every forecast of the test days: ``date``, ``ticker``, ``model``, ``seed``, ``actual``,
        ``predicted``, and ``q05`` and the like where there are quantiles; NaN where a model has none. Of
        paths also ``start``, the last day that was known, and ``lead``, the days ahead of it.
    signatures
        Of the finished trials, by their names, such as ``"linear AAPL seed 0"``; `load` takes one.
    failures
        Why trials failed, by their names; empty if none did.
    """

    name: str
    sentence: str
    table: pd.DataFrame
    predictions: pd.DataFrame
    signatures: Mapping[str, str]
    failures: Mapping[str, str]


def run(
    sweep: str | Path | Sweep,
    *,
    name: str | None = None,
    quick: bool = False,
    tickers: Sequence[str] | str | None = None,
    market: str | None = None,
    peers: Sequence[str] | str | None = None,
    data: str | Path | pd.DataFrame | None = None,
    surface: str | Path | None = None,
    start: str | date | None = None,
    end: str | date | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    variants: Sequence[str] | str | None = None,
    settings: Mapping[str, Any] | None = None,
    samples: int | None = None,
    study: str | None = None,
    samplers: Sequence[str] | str | None = None,
    objectives: Sequence[str] | str | None = None,
    storage: str | Path = "farm_store",
    tracking_uri: str | Path = "sqlite:///mlflow.db",
    experiment: str | None = None,
    concurrency: int | None = None,
    address: str | None = None,
    rerun: bool = False,
    checkpoint_every: float = 30.0,
) -> Outcome:
    """Run a sweep to its verdict; what is in the store already is not run again.

    It shows its progress, logs to MLflow and writes ``results/NAME/`` under the working directory, as the
    command does. The arguments are those of the command line, which ``--help`` explains, with its limits.
    Names are a list of texts, or one text with commas.

    Parameters
    ----------
    sweep
        The name of one of the farm's sweeps, a ``.py`` file that declares one, or the declaration itself.
    name
        How a declaration is to be called, ``"sweep"`` by default; a named sweep or a file has its own name.
    quick
        The small version that the sweep declares.
    tickers, market, peers
        Which assets; None for the sweep's.
    data
        Your own panel instead of the bundled one: a file, or a pandas DataFrame with the same columns.
    surface
        A file of your own surfaces.
    start, end
        First and last day that is read, both included: ``"2013-01-02"`` or a date; None for the sweep's.
    seeds, epochs, variants, samples
        As ``--seeds``, ``--epochs``, ``--variants`` and ``--samples``.
    settings
        As ``--set``: values by dotted or bare key. A text such as ``"1e-4..1e-2"`` and a tuple of two numbers
        are ranges, a list stands for several values.
    study, samplers, objectives
        Of a sweep that searches.
    storage, tracking_uri, experiment, concurrency, address, rerun, checkpoint_every
        Where and how it runs; none of it changes a number.

    Returns
    -------
    Outcome
        Also if some trials failed: see its `failures`.

    Raises
    ------
    UserError
        If something given is not as expected; the message is one line.
    KeyboardInterrupt
        If it was interrupted; the same call goes on.

    Examples
    --------
    >>> outcome = farm.run("ablation", quick=True)  # doctest: +SKIP
    >>> outcome.table[["model", "beats", "rmse"]]  # doctest: +SKIP
    """
    given = {key: value for key, value in locals().items() if key != "sweep"}
    with options_of("Python"):
        asked = Options(
            door="Python", **{key: given[key] for key in given.keys() & Options.model_fields.keys()}
        )
    if isinstance(sweep, Sweep):
        if study is not None:
            raise UserError(f"study=: got {study!r} beside a declaration, which has no other: leave it out")
        called, declared, what = asked.name or "sweep", sweep, "SWEEP"
    else:
        if name is not None:
            raise UserError(
                f"name=: got {name!r} beside {str(sweep)!r}, which has its own name: leave it out"
            )
        called, declared = load_sweep(str(sweep), study, "Python")
        what = repr(str(sweep))
    with options_of("Python"):
        runtime = Runtime(
            storage=storage,  # type: ignore[arg-type]  # a path becomes text
            tracking_uri=tracking_uri,  # type: ignore[arg-type]
            concurrency=concurrency,
            address=address,
            dry_run=False,
            rerun=rerun,
            checkpoint_every=checkpoint_every,
            command=_call(what, given),
            experiment=experiment,
        )
    files = {"data": _file("data", data), "surface": _file("surface", surface)}
    source = read_source(declared, files["data"], files["surface"], "Python")
    plan, search = resolve(called, declared, source, asked)
    check_inputs(runtime.results(plan.name), {f"{name}=": file for name, file in files.items()})
    driven = drive(plan, search, runtime, plain_or_terminal())
    if driven.code == EXIT_INTERRUPTED or driven.end is None:
        raise KeyboardInterrupt
    came_to = driven.end
    return Outcome(
        plan.name,
        came_to.sentence,
        came_to.table,
        came_to.predictions,
        {trial.name: trial.signature for trial in came_to.trials},
        dict(driven.failures),
    )


def load(signature: str, storage: str | Path = "farm_store") -> Record:
    """Read a finished trial.

    Parameters
    ----------
    signature
        Its name in the store; in MLflow the tag ``farm.signature``.
    storage
        Where results are kept: a folder or a URI.

    Returns
    -------
    Record
        Its config, metrics, learning curve and, by ``forecast()``, its forecasts of the test days.

    Raises
    ------
    UserError
        If there is no such trial, or what is there is not whole.
    """
    record = Store(str(storage)).get(signature)
    if record is None:
        raise UserError(
            f"no finished trial {signature!r} in {str(storage)!r}: --dry-run lists the signatures of a sweep"
        )
    return record


def _file(name: str, value: Any) -> Any:
    """Return a path or, of prices, a table."""
    if value is None or (name == "data" and isinstance(value, pd.DataFrame)):
        return value
    if not isinstance(value, str | Path):
        expected = "a path, or a pandas DataFrame" if name == "data" else "a path"
        raise UserError(f"{name}=: got a {type(value).__name__}, expected {expected}")
    return Path(value)


def _call(sweep: str, given: Mapping[str, Any]) -> str:
    """Write down the call, without what is as ever."""
    defaults = run.__kwdefaults__ or {}
    said = [
        f"{key}=<DataFrame of {len(value)} rows>"
        if isinstance(value, pd.DataFrame)
        else f"{key}={str(value)!r}"
        if isinstance(value, Path)
        else f"{key}={value!r}"
        for key, value in given.items()
        if value is not defaults.get(key) and repr(value) != repr(defaults.get(key))
    ]
    return f"farm.run({', '.join([sweep, *said])})"
