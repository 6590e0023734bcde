"""A made-up sweep with the sizes of a real one: returns spread 1.8 %, forecasts a tenth of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

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
    """Draw returns and forecasts, and score them as a sweep does."""
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
    scores = _score(predictions, variants)
    columns = ["model", "ticker", "seed", "epoch", "train_loss", "val_loss", "best_epoch"]
    learnt = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=columns)
    return Sweep(make_table(scores, rng), scores, predictions, learnt)


def _forecast(model: str, actual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
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


def _score(predictions: pd.DataFrame, variants: tuple[str, ...]) -> pd.DataFrame:
    rows = []
    for (model, ticker, seed), group in predictions.groupby(["model", "ticker", "seed"], sort=False):
        error = group["predicted"] - group["actual"]
        called = (np.sign(group["predicted"]) * np.sign(group["actual"]) + 1) / 2
        rows.append(
            {
                "model": model,
                "role": "variant" if model in variants else "baseline",
                "ticker": ticker,
                "seed": seed,
                "rmse": float(np.sqrt((error**2).mean())),
                "mae": float(error.abs().mean()),
                "direction_accuracy": float(called.mean()),
            }
        )
    return pd.DataFrame(rows)


def make_table(scores: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Rank the models; the intervals have a plausible width, no meaning."""
    table = (
        scores.groupby(["model", "role"], sort=False)[["rmse", "mae", "direction_accuracy"]]
        .mean()
        .reset_index()
    )
    rmse = scores.groupby(["model", "ticker"])["rmse"].mean()
    for name in REFERENCES:
        if name in set(table["model"]):
            table[f"{name}_rmse_skill"] = [
                float((1 - rmse[model] / rmse[name]).mean()) for model in table["model"]
            ]
        else:
            table[f"{name}_rmse_skill"] = np.nan
    width = 0.004 + 0.004 * rng.random(len(table))
    skill = table[f"{REFERENCES[0]}_rmse_skill"]
    table[f"{REFERENCES[0]}_rmse_skill_lo"] = skill - width
    table[f"{REFERENCES[0]}_rmse_skill_hi"] = skill + width
    table["rmse_lo"], table["rmse_hi"] = table["rmse"] * 0.93, table["rmse"] * 1.09
    table["dm_statistic"] = -skill * 300
    table["dm_p"] = np.where(table["model"] == REFERENCES[0], np.nan, np.exp(-skill.abs() * 300))
    lower = np.where(skill > width, "yes", np.where(skill > 0, "not shown", "no"))
    table["beats"] = np.where((table["role"] == "variant") & skill.notna(), lower, "")
    table["seeds"] = scores.groupby("model")["seed"].nunique().reindex(table["model"]).to_numpy()
    table["replicates"] = scores.groupby("model").size().reindex(table["model"]).to_numpy()
    return table.sort_values("rmse", ignore_index=True)


@pytest.fixture(scope="session")
def sweep() -> Sweep:
    return make_sweep()
