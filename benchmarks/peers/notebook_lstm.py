"""The seed's LSTM ablation notebook, as it reads: the peer to be measured against.

Sequential, one fit after the other, DataLoader batches, default Adam. Used by benchmarks only.

    python notebook_lstm.py --data PANEL.parquet --market SPY --epochs 15 --no-early-stop --out r.json

PANEL: long table date,ticker,open,high,low,close,volume. Prints seconds and, per (ticker, variant),
the best validation loss and the test MAE, RMSE and direction accuracy.
`--shard I/N` runs every N-th fit only, so that N processes can share the job.
"""

import argparse
import json
import time

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

LOOKBACK, TRAIN, VAL, HIDDEN, LAYERS, DROPOUT, LR, BATCH, SEED = 20, 0.70, 0.10, 64, 2, 0.2, 1e-3, 64, 42
VARIANTS = {
    "LSTM-Raw": ["log_return"],
    "LSTM-OHLCV": ["log_return", "oc_return", "hl_range", "close_pos", "log_vol", "vol_change"],
    "LSTM-Feat": ["log_return", "roll_vol", "range_norm", "vol_zscore", "mkt_return"],
}


def features(bars: pd.DataFrame, market: pd.Series) -> pd.DataFrame:
    o, h, low, c, v = (bars[k].astype(float) for k in ("open", "high", "low", "close", "volume"))
    f = pd.DataFrame(index=bars.index)
    f["log_return"] = np.log(c).diff()
    f["oc_return"] = (c - o) / o
    f["hl_range"] = (h - low) / c
    f["close_pos"] = ((c - low) / (h - low)).where(h > low, 0.5)
    f["log_vol"] = np.log1p(v)
    f["vol_change"] = np.log(v.clip(lower=1)).diff()
    f["roll_vol"] = f["log_return"].rolling(20).std()
    f["range_norm"] = f["hl_range"] / f["hl_range"].rolling(20).mean()
    f["vol_zscore"] = (v - v.rolling(20).mean()) / v.rolling(20).std()
    f["mkt_return"] = market.reindex(bars.index)
    return f.dropna()


class LSTMForecaster(nn.Module):
    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, HIDDEN, LAYERS, batch_first=True, dropout=DROPOUT)
        self.head = nn.Sequential(nn.Linear(HIDDEN, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(x)
        return self.head(out[:, -1, :]).squeeze(-1)


def sequences(feats: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = [], []
    for i in range(len(feats) - LOOKBACK):
        x.append(feats[i : i + LOOKBACK])
        y.append(target[i + LOOKBACK])
    return np.array(x), np.array(y)


def fit(
    model: nn.Module, train: DataLoader, val: DataLoader, epochs: int, patience: int | None
) -> list[float]:
    opt, loss_fn, losses, best, wait = (
        torch.optim.Adam(model.parameters(), lr=LR),
        nn.MSELoss(),
        [],
        np.inf,
        0,
    )
    for _ in range(epochs):
        model.train()
        for xb, yb in train:
            opt.zero_grad()
            loss = loss_fn(model(xb), yb)
            loss.backward()
            opt.step()
        model.eval()
        total = 0.0
        with torch.no_grad():
            for xb, yb in val:
                total += loss_fn(model(xb), yb).item() * len(xb)
        losses.append(total / len(val.dataset))
        if losses[-1] < best:
            best, wait = losses[-1], 0
        else:
            wait += 1
            if patience is not None and wait >= patience:
                break
    return losses


def main() -> None:
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--market", required=True)
    ap.add_argument("--tickers", default="")
    ap.add_argument("--start", default=None)
    ap.add_argument("--end", default=None)
    ap.add_argument("--epochs", type=int, default=100)
    ap.add_argument("--no-early-stop", action="store_true")
    ap.add_argument("--threads", type=int, default=0)
    ap.add_argument("--shard", default="0/1")
    ap.add_argument("--out", default="")
    a = ap.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    shard, shards = map(int, a.shard.split("/"))
    panel = pd.read_parquet(a.data)
    panel = panel[(panel.date >= (a.start or panel.date.min())) & (panel.date <= (a.end or panel.date.max()))]
    market = np.log(panel[panel.ticker == a.market].set_index("date").close).diff()
    tickers = a.tickers.split(",") if a.tickers else sorted(set(panel.ticker) - {a.market})
    rows, steps, started = [], 0, time.perf_counter()
    for i, (variant, ticker) in enumerate((v, t) for v in VARIANTS for t in tickers):
        if i % shards != shard:
            continue
        torch.manual_seed(SEED)
        f = features(panel[panel.ticker == ticker].set_index("date"), market)
        x, y = sequences(f[VARIANTS[variant]].values, f["log_return"].values)
        s1, s2, d = int(len(x) * TRAIN), int(len(x) * (TRAIN + VAL)), x.shape[-1]
        scaler = StandardScaler().fit(x[:s1].reshape(-1, d))
        parts = [scaler.transform(p.reshape(-1, d)).reshape(p.shape) for p in (x[:s1], x[s1:s2], x[s2:])]
        ys = [y[:s1], y[s1:s2], y[s2:]]
        sets = [
            TensorDataset(torch.FloatTensor(p), torch.FloatTensor(t)) for p, t in zip(parts, ys, strict=True)
        ]
        train, val = DataLoader(sets[0], BATCH, shuffle=True), DataLoader(sets[1], BATCH)
        model = LSTMForecaster(d)
        losses = fit(model, train, val, a.epochs, None if a.no_early_stop else 10)
        steps += len(losses) * len(train)
        with torch.no_grad():
            pred = model.eval()(torch.FloatTensor(parts[2])).numpy()
        rows.append(
            {
                "ticker": ticker,
                "variant": variant,
                "epochs": len(losses),
                "best_val_mse": min(losses),
                "mae": mean_absolute_error(ys[2], pred),
                "rmse": mean_squared_error(ys[2], pred) ** 0.5,
                "direction_accuracy": float(np.mean(np.sign(ys[2]) == np.sign(pred))),
            }
        )
    report = {"seconds": time.perf_counter() - started, "fits": len(rows), "steps": steps, "rows": rows}
    if a.out:
        with open(a.out, "w") as out:
            json.dump(report, out, indent=1)
    print(f"{report['fits']} fits, {steps} steps, {report['seconds']:.1f} s")


if __name__ == "__main__":
    main()
