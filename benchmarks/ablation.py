"""The LSTM ablation from the command to the verdict, against three ways to do the same fits."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.measure import ROOT, Line, NotHere, peak_gflops, python, told
from farm.store import Store

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
    store = Store(str(scratch / "stopped" / "farm_store"))
    own = [
        record.metrics["val/rmse"] ** 2
        for record in map(store.get, store.configs())
        if record is not None and record.history is not None
    ]
    other = [
        row["best_val_mse"]
        for path in scratch.glob("notebook-True-*.json")
        for row in json.loads(path.read_text())["rows"]
    ]
    ratio = statistics.mean(own) / statistics.mean(other)
    return Line(
        "best validation error over the notebook's, early stopping on",
        ratio,
        "<=",
        1.0,
        f"mean squared error {statistics.mean(own):.4g} instead of {statistics.mean(other):.4g},"
        f" {len(own)} and {len(other)} fits",
    )


def _share_of_peak(folder: Path, seconds: float, fits: int) -> Line:
    """Say how far the whole command is from the machine's matrix products."""
    store = Store(str(folder / "farm_store"))
    records = [record for record in map(store.get, store.configs()) if record is not None]
    operations = 0.0
    for record in records:
        if record.history is None:
            continue
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
