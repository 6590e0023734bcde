"""The same windows and steps through neuralforecast's LSTM; run in an environment that has it.

    python neuralforecast_lstm.py --data PANEL.parquet --market SPY --tickers A,B --epochs 15 --shard 0/2

One fit for each ticker and variant, on one thread, as many Adam steps on batches of 64 windows of 20 days
as the notebook takes. Prints one line of JSON.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, __file__.rpartition("/")[0])
import notebook_lstm as notebook
from neuralforecast import NeuralForecast
from neuralforecast.models import LSTM

warnings.filterwarnings("ignore")
for name in ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric", "neuralforecast"):
    logging.getLogger(name).setLevel(logging.ERROR)


def main() -> None:
    """Fit them one after the other."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--data", required=True)
    asked.add_argument("--market", required=True)
    asked.add_argument("--tickers", required=True)
    asked.add_argument("--epochs", type=int, default=15)
    asked.add_argument("--shard", default="0/1")
    given = asked.parse_args()
    torch.set_num_threads(1)
    shard, shards = map(int, given.shard.split("/"))
    panel = pd.read_parquet(given.data)
    market = np.log(panel[panel.ticker == given.market].set_index("date").close).diff()
    began, fits, steps = time.perf_counter(), 0, 0
    for i, (variant, ticker) in enumerate(
        (v, t) for v in notebook.VARIANTS for t in given.tickers.split(",")
    ):
        if i % shards != shard:
            continue
        table = notebook.features(panel[panel.ticker == ticker].set_index("date"), market)
        past = [name for name in notebook.VARIANTS[variant] if name != "log_return"]
        days = len(table)
        frame = table[past].assign(unique_id=ticker, ds=np.arange(days), y=table["log_return"])
        windows = int((days - notebook.LOOKBACK) * notebook.TRAIN)
        each = given.epochs * -(-windows // notebook.BATCH)
        model = LSTM(
            h=1,
            input_size=notebook.LOOKBACK,
            hist_exog_list=past or None,
            encoder_hidden_size=notebook.HIDDEN,
            encoder_n_layers=notebook.LAYERS,
            encoder_dropout=notebook.DROPOUT,
            decoder_hidden_size=32,
            max_steps=each,
            learning_rate=notebook.LR,
            batch_size=1,
            windows_batch_size=notebook.BATCH,
            scaler_type=None,
            num_lr_decays=0,
            val_check_steps=max(1, each // given.epochs),
            random_seed=notebook.SEED,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tempfile.gettempdir(),
        )
        NeuralForecast([model], freq=1).fit(frame, val_size=int((days - notebook.LOOKBACK) * notebook.VAL))
        fits, steps = fits + 1, steps + each
    json.dump({"seconds": time.perf_counter() - began, "fits": fits, "steps": steps}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
