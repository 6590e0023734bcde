"""A made-up sweep with the sizes of a real one: returns spread 1.8 %, forecasts a tenth of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from farm.evaluation.verdict import replicate_scores, verdict

VARIANTS = ("LSTM-Raw", "LSTM-OHLCV", "LSTM-Feat", "Transformer-Feat")
BASELINES = ("linear", "econometric", "zero", "historical-mean", "persistence", "gradient-boosting")
REFERENCES = ("linear", "econometric")
TICKERS = ("AAPL", "AMZN", "GOOG", "META", "MSFT", "NFLX", "NVDA")


@dataclass(frozen=True)
class Sweep:
    """The frames that a report is made from."""

    table: pd.DataFrame
    scores: pd.DataFrame
    predictions: pd.DataFrame
    curves: pd.DataFrame
    references: tuple[str, ...] = REFERENCES


def make_sweep(
    tickers: tuple[str, ...] = TICKERS,
    variants: tuple[str, ...] = VARIANTS,
    baselines: tuple[str, ...] = BASELINES,
    seeds: int = 3,
    days: int = 390,
    seed: int = 0,
) -> Sweep:
    """Draw returns and forecasts; all networks and regressions have the same small skill."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2019-05-06", periods=days)
    spread = {ticker: 0.013 + 0.012 * rng.random() for ticker in tickers}
    actual = {ticker: spread[ticker] * rng.standard_t(4, days) / np.sqrt(2) for ticker in tickers}
    forecasts, curves = [], []
    for model in (*variants, *baselines):
        for ticker in tickers:
            for number in range(seeds if model in variants else 1):
                forecasts.append(
                    pd.DataFrame(
                        {
                            "date": dates,
                            "ticker": ticker,
                            "model": model,
                            "seed": number,
                            "actual": actual[ticker],
                            "predicted": _forecast(model, actual[ticker], rng),
                        }
                    )
                )
                if model in variants:
                    curves.append(_curve(model, ticker, number, spread[ticker], rng))
    predictions = pd.concat(forecasts, ignore_index=True)
    columns = ["model", "ticker", "seed", "epoch", "train_loss", "val_loss", "best_epoch"]
    learnt = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=columns)
    return judge(predictions, learnt, variants, baselines)


def judge(
    predictions: pd.DataFrame,
    curves: pd.DataFrame,
    variants: tuple[str, ...] = VARIANTS,
    baselines: tuple[str, ...] = BASELINES,
) -> Sweep:
    """Score and rank forecasts."""
    table = verdict(predictions, REFERENCES, variants, baselines, resamples=100)
    return Sweep(table, replicate_scores(predictions, REFERENCES), predictions, curves)


def _forecast(
    model: str, actual: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    if model == "zero":
        return np.zeros(len(actual))
    if model == "historical-mean":
        return np.full(len(actual), 0.0008)
    if model == "persistence":
        return np.concatenate([[0.0], actual[:-1]])
    size = 0.005 if model == "gradient-boosting" else 0.002
    return 0.0005 + size * rng.standard_normal(len(actual)) + 0.01 * actual


def _curve(model: str, ticker: str, seed: int, spread: float, rng: np.random.Generator) -> pd.DataFrame:
    epochs = int(rng.integers(12, 40))
    epoch = np.arange(1, epochs + 1)
    noise = 1 + 0.03 * rng.standard_normal((2, epochs))
    start = 0.004 * rng.random() * np.exp(-1.2 * (epoch - 1))
    train = (spread**2 * (1 - 0.004 * epoch) + start) * noise[0]
    val = (1.2 * spread**2 * (1 + 0.0004 * (epoch - 8) ** 2) + 0.5 * start) * noise[1]
    return pd.DataFrame(
        {
            "model": model,
            "ticker": ticker,
            "seed": seed,
            "epoch": epoch,
            "train_loss": train,
            "val_loss": val,
            "best_epoch": epoch[val.argmin()],
        }
    )


@pytest.fixture(scope="session")
def sweep() -> Sweep:
    """Seven tickers, four variants, six baselines, three seeds, 390 days."""
    return make_sweep()
