"""The notebook's fits through Ray Tune as it comes, with Ray's own MLflow callback.

    python -m benchmarks.peers.tune_defaults --data PANEL.parquet --market SPY --epochs 15 --folder DIR

One trial a fit, one core a trial, one report an epoch. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def fit(config: dict[str, Any]) -> None:
    """Fit one network as the notebook does, and report each epoch."""
    import numpy as np
    import pandas as pd
    import torch
    from ray import tune
    from sklearn.preprocessing import StandardScaler
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.peers import notebook_lstm as notebook

    torch.set_num_threads(1)
    torch.manual_seed(notebook.SEED)
    panel = pd.read_parquet(config["data"])
    market = np.log(panel[panel.ticker == config["market"]].set_index("date").close).diff()
    table = notebook.features(panel[panel.ticker == config["ticker"]].set_index("date"), market)
    x, y = notebook.sequences(table[notebook.VARIANTS[config["variant"]]].values, table["log_return"].values)
    first, second, width = int(len(x) * 0.7), int(len(x) * 0.8), x.shape[-1]
    scaler = StandardScaler().fit(x[:first].reshape(-1, width))
    parts = [scaler.transform(p.reshape(-1, width)).reshape(p.shape) for p in (x[:first], x[first:second])]
    sets = [
        TensorDataset(torch.FloatTensor(p), torch.FloatTensor(t))
        for p, t in zip(parts, (y[:first], y[first:second]), strict=True)
    ]
    train, val = DataLoader(sets[0], notebook.BATCH, shuffle=True), DataLoader(sets[1], notebook.BATCH)
    network = notebook.LSTMForecaster(width)
    loss_fn, adam = torch.nn.MSELoss(), torch.optim.Adam(network.parameters(), lr=notebook.LR)
    for epoch in range(config["epochs"]):
        network.train()
        for inputs, target in train:
            adam.zero_grad()
            loss = loss_fn(network(inputs), target)
            loss.backward()
            adam.step()
        network.eval()
        with torch.no_grad():
            total = sum(loss_fn(network(inputs), target).item() * len(inputs) for inputs, target in val)
        tune.report({"epoch": epoch + 1, "train_loss": loss.item(), "val_loss": total / len(val.dataset)})


def main() -> None:
    """Run every ticker and variant."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--data", required=True)
    asked.add_argument("--market", required=True)
    asked.add_argument("--tickers", required=True)
    asked.add_argument("--epochs", type=int, default=15)
    asked.add_argument("--folder", required=True)
    given = asked.parse_args()

    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    from benchmarks.peers.notebook_lstm import VARIANTS

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    callback = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{Path(given.folder) / 'mlflow.db'}", experiment_name="lstm"
    )
    found = tune.Tuner(
        tune.with_resources(fit, {"cpu": 1}),
        param_space={
            "data": given.data,
            "market": given.market,
            "epochs": given.epochs,
            "variant": tune.grid_search(list(VARIANTS)),
            "ticker": tune.grid_search(given.tickers.split(",")),
        },
        run_config=tune.RunConfig(storage_path=given.folder, verbose=0, callbacks=[callback]),
    ).fit()
    json.dump({"fits": len(found), "errors": found.num_errors}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
