"""A stock that did not trade: its missing returns from those of its peers, with calibrated intervals."""

import matplotlib.pyplot as plt

from farm.experiment import run
from farm.plan import Options, make_plan
from farm.sweep import load_sweep, read_source

name, sweep = load_sweep("backfill")
plan = make_plan(name, sweep, read_source(sweep), Options(seeds=1, variants=("linear-quantile",)))
trial = next(trial for trial in plan.trials if trial.row == "linear-quantile")
result = run(trial.config, plan.source)

test = result.evaluation.test
said = test.forecasts[""]
low, high = said.quantiles[:, 0], said.quantiles[:, -1]
missed = (test.actual < low) | (test.actual > high)
print(f"{trial.ticker}: RMSE {result.metrics['test/rmse']:.4f}; outside the interval: {missed.mean():.1%}")

last = slice(-120, None)
days, actual = test.times[last], 100 * test.actual[last]
figure, axes = plt.subplots(figsize=(9, 3.5), layout="constrained")
axes.fill_between(days, 100 * low[last], 100 * high[last], color="#0173b2", alpha=0.25, linewidth=0)
axes.plot(days, 100 * said.point[last], color="#0173b2", label="filled in from the peers")
axes.plot(days, actual, ".", color="black", markersize=4, label="what it was")
out = missed[last]
axes.plot(days[out], actual[out], "o", color="#d55e00", fillstyle="none", label="outside the interval")
axes.set_ylabel(f"{trial.ticker}, daily return, %")
axes.legend(loc="lower left", frameon=False)
figure.savefig("backfill.png", dpi=120)
