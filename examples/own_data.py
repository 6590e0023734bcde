"""Your own prices: a CSV of daily bars, which names what is wrong with it, and a sweep over a DataFrame."""

import numpy as np
import pandas as pd

import farm

# Stands for your file: two years of two stocks and their index.
rng = np.random.default_rng(0)
days = pd.bdate_range("2021-01-04", periods=500)
market = rng.normal(0, 0.01, len(days))
bars = []
for ticker, beta in (("MINE", 1.2), ("YOURS", 0.7), ("INDEX", 1.0)):
    returns = beta * market + (0.01 * rng.normal(size=len(days)) if ticker != "INDEX" else 0)
    close = 100 * np.exp(np.cumsum(returns))
    columns = {"date": days, "ticker": ticker, "open": close, "high": close * 1.01, "low": close * 0.99}
    bars.append(pd.DataFrame(columns | {"close": close, "volume": 1e6}))
prices = pd.concat(bars)

prices.assign(high=prices["low"] / 2).to_csv("wrong.csv", index=False)
try:
    farm.run("ablation", data="wrong.csv", market="INDEX", quick=True)
except farm.UserError as error:
    print(error)

outcome = farm.run(
    "ablation",
    data=prices,
    market="INDEX",
    variants=["LSTM-Raw"],
    seeds=1,
    settings={"training.epochs": 2},
)
print(outcome.table[["model", "role", "rmse", "linear_rmse_skill", "beats"]].to_string(index=False))
