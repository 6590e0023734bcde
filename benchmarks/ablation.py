"""The LSTM ablation from the command to the verdict, against three ways to do the same fits."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

from benchmarks.measure import ROOT, Line, NotHere, peak_gflops, python, told
from benchmarks.peers import notebook_lstm
from farm.store import Record, Store

EPOCHS, WORKERS = 15, 2
PEERS = ROOT / "benchmarks" / "peers"
NEURALFORECAST = ("torch==2.13.0", "neuralforecast==3.3.0", "scikit-learn")


def rows(data: Path | None, market: str, neuralforecast: Path | None, quick: bool) -> list[Line]:
    """Run the farm and each peer once, one after the other, on as many cores.

    Parameters
    ----------
    data
        The panel, long, with its market.
    market
        Its market's ticker.
    neuralforecast
        Python of an environment that has it; None leaves that peer out.
    quick
        Two tickers alone.
    """
    if data is None:
        raise NotHere("it reads a panel that is not bundled: give --data PANEL.parquet and --market")
    names = sorted(set(pd.read_parquet(data, columns=["ticker"]).ticker) - {market})
    tickers = ",".join(names[:2] if quick else names)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        own = _farm(data, market, tickers, scratch / "farm")
        notebook = _sharded(partial(_notebook, data, market, tickers, scratch, stop=False))
        tune = _tune(data, market, tickers, scratch / "tune")
        fits = 3 * len(tickers.split(","))
        lines = [
            Line("times faster than the notebook", notebook / own, ">=", 1.7, _seconds(own, notebook)),
            Line("times faster than Ray Tune as it comes", tune / own, ">=", 1.5, _seconds(own, tune)),
        ]
        if neuralforecast is not None:
            other = _sharded(partial(_neuralforecast, neuralforecast, data, market, tickers))
            lines.append(
                Line("times faster than neuralforecast", other / own, ">=", 2.0, _seconds(own, other))
            )
        lines.append(_fits_alone(scratch))
        lines.append(_not_worse(data, market, tickers, scratch))
        lines.append(_share_of_peak(scratch / "farm", own, fits))
    return lines


def _seconds(own: float, other: float) -> str:
    return f"{own:.0f} s instead of {other:.0f} s"


def _farm(data: Path, market: str, tickers: str, folder: Path, *settings: str) -> float:
    """Run the command in an empty folder; give its seconds."""
    folder.mkdir(exist_ok=True)
    seconds, _ = python(
        "-m", "farm.sweep", str(ROOT / "benchmarks" / "lstm_ablation.py"), "--data", str(data),
        "--market", market, "--tickers", tickers, "--concurrency", str(WORKERS), *settings,
        folder=folder,
    )  # fmt: skip
    return seconds


def _sharded(one: Callable[[str], None]) -> float:
    """Run a peer as one process for each core, which share its fits: its best setting."""
    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, [f"{number}/{WORKERS}" for number in range(WORKERS)]))
    return time.perf_counter() - began


def _notebook(data: Path, market: str, tickers: str, scratch: Path, shard: str, *, stop: bool) -> None:
    arguments = ["--epochs", "100"] if stop else ["--epochs", str(EPOCHS), "--no-early-stop"]
    out = scratch / f"notebook-{stop}-{shard.partition('/')[0]}.json"
    python(
        str(PEERS / "notebook_lstm.py"), "--data", str(data), "--market", market, "--tickers", tickers,
        "--threads", "1", "--shard", shard, "--out", str(out), *arguments,
    )  # fmt: skip


def _tune(data: Path, market: str, tickers: str, folder: Path) -> float:
    folder.mkdir()
    seconds, said = python(
        "-m", "benchmarks.peers.tune_defaults", "--data", str(data), "--market", market,
        "--tickers", tickers, "--epochs", str(EPOCHS), "--folder", str(folder),
    )  # fmt: skip
    if told(said)["errors"]:
        raise RuntimeError(f"Ray Tune as it comes: {said}")
    return seconds


def _neuralforecast(interpreter: Path, data: Path, market: str, tickers: str, shard: str) -> None:
    python(
        str(PEERS / "neuralforecast_lstm.py"), "--data", str(data), "--market", market,
        "--tickers", tickers, "--epochs", str(EPOCHS), "--shard", shard,
        interpreter=str(interpreter), PYTHONPATH="",
    )  # fmt: skip


def _not_worse(data: Path, market: str, tickers: str, scratch: Path) -> Line:
    """Compare the best validation errors with early stopping on, over all fits."""
    _farm(
        data, market, tickers, scratch / "stopped",
        "--set", "training.epochs=100", "--set", "training.patience=10",
    )  # fmt: skip
    _sharded(partial(_notebook, data, market, tickers, scratch, stop=True))
    zero = {
        record.config["study"]["ticker"]: record.metrics["val/rmse"] ** 2
        for record in _records(scratch / "stopped")
        if record.config["model"]["name"] == "zero"
    }
    notebooks_zero = _notebooks_zero(data, market)
    own = {
        (name := _fit_of(record)): record.metrics["val/rmse"] ** 2 / zero[name[1]]
        for record in _networks(scratch / "stopped")
    }
    pairs = np.array(
        [
            (own[row["variant"], row["ticker"]], row["best_val_mse"] / notebooks_zero[row["ticker"]])
            for row in _rows(scratch, stop=True)
        ]
    )
    mean, notebook = pairs.mean(axis=0)
    return Line(
        "best validation error over the notebook's, early stopping on",
        mean / notebook,
        "<=",
        1.0,
        f"{mean:.4f} instead of {notebook:.4f} of the squared error of forecasting zero on the same days"
        f" (the notebook has a day more, next to the training days), {len(pairs)} fits each;"
        f" paired t-test p = {ttest_rel(*pairs.T).pvalue:.2f}",
    )


def _notebooks_zero(data: Path, market: str) -> dict[str, float]:
    """Give the mean squared error of forecasting zero on the notebook's validation days, by ticker."""
    panel = pd.read_parquet(data).set_index("date")
    index = np.log(panel[panel.ticker == market].close).diff()
    errors = {}
    for ticker, table in panel.groupby("ticker"):
        if ticker != market:
            returns = notebook_lstm.features(table, index)["log_return"].to_numpy()[notebook_lstm.LOOKBACK :]
            first, end = (
                int(len(returns) * s) for s in (notebook_lstm.TRAIN, notebook_lstm.TRAIN + notebook_lstm.VAL)
            )
            errors[str(ticker)] = float(np.mean(returns[first:end] ** 2))
    return errors


def _fits_alone(scratch: Path) -> Line:
    """Compare the fits without what goes before and after them."""
    own = sum(record.metrics["cost/fit_seconds"] for record in _networks(scratch / "farm"))
    other = sum(_report(path)["seconds"] for path in scratch.glob("notebook-False-*.json"))
    return Line(
        "times faster than the notebook, the fits alone",
        other / own,
        note=f"{own / WORKERS:.0f} s instead of {other / WORKERS:.0f} s on each of {WORKERS} cores",
    )


def _records(folder: Path) -> list[Record]:
    """Read what a sweep has finished."""
    store = Store(str(folder / "farm_store"))
    return [record for record in map(store.get, store.configs()) if record is not None]


def _networks(folder: Path) -> list[Record]:
    """Read the trials that were taught."""
    return [record for record in _records(folder) if record.history is not None]


def _fit_of(record: Record) -> tuple[str, str]:
    """Name a trial as the notebook does, by variant and ticker."""
    study = record.config["study"]
    named = {1: "LSTM-Raw", 6: "LSTM-OHLCV", 5: "LSTM-Feat"}
    return named[len(study["features"])], study["ticker"]


def _report(path: Path) -> Any:
    return json.loads(path.read_text())


def _rows(scratch: Path, *, stop: bool) -> list[Any]:
    """Read what the notebook says of its fits."""
    return [row for path in scratch.glob(f"notebook-{stop}-*.json") for row in _report(path)["rows"]]


def _share_of_peak(folder: Path, seconds: float, fits: int) -> Line:
    """Say how far the whole command is from the machine's matrix products."""
    operations = 0.0
    for record in _networks(folder):
        study, model = record.config["study"], record.config["model"]
        width, rows = model["hidden_size"], _training_rows(record.forecast().shape[0])
        layers, days = model["num_layers"], study["lookback"]
        gates = 4 * width * (len(study["features"]) + width + (layers - 1) * 2 * width)
        # A multiplication and an addition each; backwards costs twice what forwards does.
        operations += 3 * 2 * gates * days * rows * len(record.history.epochs)
    reached = operations / seconds / 1e9
    peak = peak_gflops(1) * WORKERS
    return Line(
        "share of the peak of float32 matrix products, start-up included",
        reached / peak,
        note=f"{reached:.1f} of {peak:.0f} Gflop/s on {WORKERS} cores, {fits} fits",
    )


def _training_rows(test: int) -> float:
    """Give the size of the training block, which has 70 % of the samples where the test block has 20."""
    return test * 0.7 / 0.2
