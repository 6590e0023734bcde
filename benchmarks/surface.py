"""Surface phases: several horizons from one pass, and many paths at once, each against one at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Line, alternately
from farm.base.surfaces import SurfaceWindows
from farm.models.surface_cvae import SurfaceCVAE
from farm.plan import Options, make_plan
from farm.sweep import load_sweep, read_source
from farm.training.curriculum import MultiHorizon
from farm.training.fit import reproducible
from farm.training.rollout import FAST, HIGH_QUALITY, DeploymentConfig, Noise, generate

PATHS, BATCH = 1000, 64
ALONE = 20  # paths that are timed one by one; the rest would take as long each


def rows(quick: bool) -> list[Line]:
    """Measure both on the curriculum's own network, on one thread, untaught: weights cost no time."""
    declared = load_sweep("curriculum")[1]
    plan = make_plan("curriculum", declared, read_source(declared), Options(seeds=1))
    config = next(trial.config for trial in plan.trials if trial.role == "variant")
    data = config.study.dataset(plan.source)
    network = config.model.build(data.inputs)
    assert isinstance(network, SurfaceCVAE)
    assert isinstance(data.train, SurfaceWindows)
    days = torch.from_numpy(data.train.block)
    ways = (("fast, offset 90", FAST), ("high quality, offset 45", HIGH_QUALITY))
    times = 1 if quick else 3
    with reproducible(0):
        lines = [_horizons(network, days, 1 if quick else 5)]
        alone = [
            _paths(network, days, way, f"{name}, one thread", times, time.process_time) for name, way in ways
        ]
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        for name, way in ways:
            line = _paths(network, days, way, f"{name}, all cores", times, time.perf_counter)
            lines.append(replace(line, sign=">=", target=5.0))
    finally:
        torch.set_num_threads(threads)
    return lines + alone


def _horizons(network: SurfaceCVAE, days: Tensor, times: int) -> Line:
    """Time a training step over the plan's six horizons, from one pass and from one pass each."""
    phase, known = MultiHorizon(), network.context_days
    rows = torch.arange(BATCH)[:, None] + torch.arange(phase.days(known))
    batch = days[rows]
    together = phase.objective(network)

    def one_pass() -> None:
        network.zero_grad()
        together(batch).backward()

    def one_each() -> None:
        network.zero_grad()
        total = batch.new_zeros(())
        for horizon, weight in zip(phase.horizons, phase.weights, strict=True):
            cost = network.costs(batch[:, : known + horizon])[0].mean()
            total = total + weight / sum(phase.weights) * cost
        total.backward()

    network.train()
    shared, apart = alternately([one_pass, one_each], times, time.process_time)
    return Line(
        "times faster: six horizons from one pass",
        apart / shared,
        ">=",
        4.0,
        f"{1000 * shared:.0f} ms a step of {BATCH} sequences instead of {1000 * apart:.0f} ms",
    )


def _paths(
    network: SurfaceCVAE,
    days: Tensor,
    way: DeploymentConfig,
    name: str,
    times: int,
    clock: Callable[[], float],
) -> Line:
    """Time paths of a year together and one by one, on as many threads as torch has now."""
    noise = Noise.draw(PATHS, way, network.config.latent_dim, seed=0)
    context = days[: network.context_days]
    made = partial(generate, network, context, way)

    def one_by_one() -> None:
        for number in range(ALONE):
            made(noise.take(slice(number, number + 1)))

    together, alone = alternately([lambda: made(noise), one_by_one], times, clock)
    alone *= PATHS / ALONE
    return Line(
        f"times faster: {PATHS} paths of {way.days} days together, {name}",
        alone / together,
        note=f"{together:.2f} s instead of {alone:.1f} s, which is {ALONE} paths times {PATHS // ALONE}",
    )
