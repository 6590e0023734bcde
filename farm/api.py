"""The farm from Python: what ``python -m farm.sweep`` does, as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from farm.base.command_line import EXIT_INTERRUPTED
from farm.base.errors import UserError
from farm.base.search_space import Sweep
from farm.drive import Runtime, drive
from farm.plan import Options, parse_setting
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
        ``predicted``, and ``q05`` and the like where there are quantiles; NaN where a model has none.
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
    name: str = "sweep",
    quick: bool = False,
    tickers: Sequence[str] | None = None,
    market: str | None = None,
    peers: Sequence[str] | None = None,
    data: str | Path | None = None,
    surface: str | Path | None = None,
    seeds: int | None = None,
    variants: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    samples: int | None = None,
    study: str | None = None,
    samplers: Sequence[str] = (),
    objectives: Sequence[str] = (),
    storage: str = "farm_store",
    tracking_uri: str = "sqlite:///mlflow.db",
    experiment: str | None = None,
    concurrency: int | None = None,
    address: str | None = None,
    rerun: bool = False,
    checkpoint_every: float = 30.0,
) -> Outcome:
    """Run a sweep to its verdict; what is in the store already is not run again.

    It shows its progress, logs to MLflow and writes ``results/NAME/`` under the working directory, as the
    command does. The arguments are those of the command line, which ``--help`` explains.

    Parameters
    ----------
    sweep
        The name of one of the farm's sweeps, a ``.py`` file that declares one, or the declaration itself.
    name
        How a declaration is to be called; a named sweep or a file has its own name.
    quick
        The small version that the sweep declares.
    tickers, market, peers
        Which assets; None for the sweep's.
    data, surface
        Your own panel or surfaces, instead of what is bundled.
    seeds, variants, settings, samples
        As ``--seeds``, ``--variants``, ``--set`` (values by dotted or bare key; a text such as
        ``"1e-4..1e-2"`` is a range) and ``--samples``.
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
    given = {key: value for key, value in locals().items() if key not in ("sweep", "name")}
    if isinstance(sweep, Sweep):
        if study is not None:
            raise UserError(f"study: got {study!r} beside a declaration, which has no other: leave it out")
        called, declared = name, sweep
    else:
        called, declared = load_sweep(str(sweep), study)
    source = read_source(declared, *(None if file is None else Path(file) for file in (data, surface)))
    asked = Options(
        tickers=None if tickers is None else tuple(tickers),
        market=market,
        peers=None if peers is None else tuple(peers),
        seeds=seeds,
        variants=None if variants is None else tuple(variants),
        settings={key: _value(key, value) for key, value in (settings or {}).items()},
        samples=samples,
        quick=quick,
    )
    plan, search = resolve(called, declared, source, asked, ",".join(samplers) or None, list(objectives))
    runtime = Runtime(
        storage,
        tracking_uri,
        concurrency,
        address,
        dry_run=False,
        rerun=rerun,
        checkpoint_every=checkpoint_every,
        command=_call(called if isinstance(sweep, Sweep) else str(sweep), given),
        experiment=experiment,
    )
    driven = drive(plan, search, runtime, plain_or_terminal())
    if driven.code == EXIT_INTERRUPTED or driven.end is None:
        raise KeyboardInterrupt
    end = driven.end
    return Outcome(
        plan.name,
        end.sentence,
        end.table,
        end.predictions,
        {trial.name: trial.signature for trial in end.trials},
        dict(driven.failures),
    )


def load(signature: str, storage: str = "farm_store") -> Record:
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
    record = Store(storage).get(signature)
    if record is None:
        raise UserError(
            f"no finished trial {signature!r} in {storage!r}: --dry-run lists the signatures of a sweep"
        )
    return record


def _value(key: str, value: Any) -> Any:
    """Read a setting as the command line does if it is text."""
    return parse_setting(f"{key}={value}")[1] if isinstance(value, str) else value


def _call(sweep: str, given: Mapping[str, Any]) -> str:
    """Write down the call, without what is as ever."""
    defaults = run.__kwdefaults__ or {}
    said = [f"{key}={value!r}" for key, value in given.items() if value != defaults.get(key)]
    return f"farm.run({', '.join([repr(sweep), *said])})"
