"""How often the verdict calls a variant better that is not: simulated worlds without a true gain.

Each world has GARCH(1,1) returns with Student-t shocks of several assets that move together, and a reference
and variants whose forecasts are exchangeable: noise with a memory, 4 % of the variance. In none is anybody
better. A row of the table is a cell of worlds; a cell that is there is not run again.
"""

from __future__ import annotations

import argparse
import re
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.signal import lfilter

from farm.base.files import write_atomically
from farm.base.origin import origin
from farm.base.types import Floats
from farm.evaluation.evidence import memory, variance_known
from farm.evaluation.selection import (
    FEWEST_DAYS,
    FEWEST_STRETCHES,
    LEVEL,
    common_block,
    stepwise_p_values,
)
from farm.evaluation.significance import diebold_mariano

OUT = Path("docs/results/worlds/size.csv")
ITEMS, VARIANTS, MEMORY, DAYS = (1, 7), (5, 20, 64), (0.0, 0.9, 0.97, 0.99), (20, 60, 390, 1000)
WORLDS, RESAMPLES = 400, 200
NOISE = 0.04  # of a day's variance that forecasts add
BURN_IN = 300


def returns(rng: np.random.Generator, days: int, items: int) -> tuple[Floats, Floats]:
    """Simulate returns and their standard deviations, (D, N) each: GARCH(1,1), t shocks, correlation 0.5."""
    total = days + BURN_IN
    common, own = rng.standard_normal((total, 1)), rng.standard_normal((total, items))
    heavy = np.sqrt(6 / rng.chisquare(8, (total, items)))  # Student t with 8 degrees of freedom, variance 1
    shocks = heavy * (np.sqrt(0.5) * common + np.sqrt(0.5) * own)
    variance, made, sd = np.ones(items), np.empty((total, items)), np.empty((total, items))
    for day in range(total):
        sd[day] = np.sqrt(variance)
        made[day] = sd[day] * shocks[day]
        variance = 0.03 + 0.05 * made[day] ** 2 + 0.92 * variance
    return made[BURN_IN:], sd[BURN_IN:]


def noise(rng: np.random.Generator, shape: tuple[int, ...], memory: float) -> Floats:
    """Simulate autoregressions of variance 1 along the first axis."""
    shocks = rng.standard_normal((shape[0] + BURN_IN, *shape[1:]))
    made: Floats = lfilter([np.sqrt(1 - memory**2)], [1, -memory], shocks, axis=0)[BURN_IN:]
    return made


def winners(forecasts: Floats, truth: Floats, seed: int, resamples: int = RESAMPLES) -> int:
    """Count the variants that the verdict would call better than the first column, by the same steps.

    Parameters
    ----------
    forecasts, truth
        (D, N, 1 + K) and (D, N).
    seed, resamples
        Of the bootstrap.
    """
    days, columns = len(truth), np.arange(1, forecasts.shape[2])
    losses = (forecasts - truth[:, :, None]) ** 2
    reach = np.array([memory(forecasts[:, :, k] - forecasts[:, :, 0]) for k in columns])
    stretches = (days / reach).astype(int)
    judged = stretches >= FEWEST_STRETCHES
    if days < FEWEST_DAYS or not judged.any():
        return 0
    losses, stretches = losses[:, :, np.r_[0, columns[judged]]], stretches[judged]
    scaled = losses / variance_known(losses[:, :, 0])[:, :, None]
    daily = np.nanmean(scaled, axis=1)
    gains = daily[:, :1] - daily[:, 1:]
    skill = np.log(losses.mean(axis=0)[:, :1] / losses.mean(axis=0)[:, 1:]).mean(axis=0)
    selected = stepwise_p_values(
        daily[:, 0],
        daily[:, 1:],
        block=common_block(gains, int(np.median(-(-days // stretches)))),
        resamples=resamples,
        seed=seed,
    )
    found = 0
    for column in np.flatnonzero((selected < LEVEL) & (skill > 0)):
        test = diebold_mariano(daily[:, 1 + column], daily[:, 0], stretches=int(stretches[column]))
        found += test.statistic < 0 and test.p_value < LEVEL
    return found


def run(cell: tuple[int, int, float, int], worlds: int) -> dict[str, Any]:
    """Simulate the worlds of a cell."""
    items, variants, memory, days = cell
    started, false = time.process_time(), 0
    for world in range(worlds):
        rng = np.random.default_rng([world, items, variants, int(100 * memory), days])
        truth, sd = returns(rng, days, items)
        forecasts = np.sqrt(NOISE) * sd[:, :, None] * noise(rng, (days, items, 1 + variants), memory)
        false += winners(forecasts, truth, world) > 0
    return {
        "items": items, "variants": variants, "memory": memory, "days": days, "worlds": worlds,
        "false": false, "share": false / worlds, "seconds": round(time.process_time() - started, 1),
        "commit": origin()["revision"][:12], "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def too_many(table: pd.DataFrame) -> pd.Series:
    """Return which cells have significantly more than 5 % false winners: exact binomial at 1 %, Holm."""
    p_values = stats.binom.sf(table["false"] - 1, table["worlds"], LEVEL)
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate(p_values[order] * (len(table) - np.arange(len(table))))
    found = np.empty(len(table), dtype=bool)
    found[order] = adjusted < 0.01
    return pd.Series(found, index=table.index)


def main() -> None:
    """Run the cells that are missing, the short ones first, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=OUT)
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--cells", default="", help="a pattern of ITEMS/VARIANTS/MEMORY/DAYS")
    asked = parser.parse_args()
    keys = ["items", "variants", "memory", "days"]
    table = pd.read_csv(asked.out) if asked.out.exists() else pd.DataFrame(columns=[*keys, "worlds"])
    done = {tuple(row) for row in table.loc[table["worlds"] >= asked.worlds, keys].to_numpy().tolist()}
    every = sorted(product(ITEMS, VARIANTS, MEMORY, DAYS), key=lambda cell: cell[0] * cell[1] * cell[3])
    cells = [c for c in every if c not in done and re.search(asked.cells, "/".join(map(str, c)))]
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as pool:
        for row in pool.map(run, cells, [asked.worlds] * len(cells)):
            same = (table[keys] == [row[key] for key in keys]).all(axis=1)
            table = pd.concat([table[~same], pd.DataFrame([row])], ignore_index=True).sort_values(keys)
            write_atomically(asked.out, table.to_csv(index=False).encode())
            print(*row.values(), flush=True)
    print(table.pivot_table(index=keys[:3], columns="days", values="share").to_string())
    over = table[too_many(table)]
    print(f"mean {table['share'].mean():.3f}; significantly above 5 %: {len(over)} of {len(table)} cells")


if __name__ == "__main__":
    main()
