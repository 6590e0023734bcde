"""The rollout against a slow reference that keeps a value for each absolute day."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.base.errors import UserError
from farm.training.rollout import FAST, HIGH_QUALITY, DeploymentConfig, Noise, generate, pass_costs, roll
from tests.surface_world import CONTEXT, network, world


def reference(context: list[float], forecast, horizon: int, offset: int, passes: int):
    """Keep day -> value; later passes overwrite. Gives contexts and days of each pass, or a missing day."""
    known = dict(enumerate(context))
    seen, made = [], []
    for number in range(passes):
        past = [known[day] for day in range(number * offset, number * offset + len(context))]  # KeyError: gap
        days = forecast(number, past)
        seen.append(past)
        made.append(days)
        for ahead in range(horizon):
            known[len(context) + number * offset + ahead] = days[ahead]
    return seen, made


@settings(max_examples=300, deadline=None)
@given(
    known=st.integers(1, 12),
    horizon=st.integers(1, 12),
    offset=st.integers(1, 16),
    passes=st.integers(1, 6),
)
def test_rollout_is_the_reference(known, horizon, offset, passes):
    def forecast(number: int, past: list[float]) -> list[float]:
        mixed = sum((i + 1) * value for i, value in enumerate(past)) % 1009
        return [1000.0 * (number + 1) + ahead + mixed / 1009 for ahead in range(horizon)]

    seen = []

    def step(number: int, context: torch.Tensor) -> torch.Tensor:
        assert context.shape == (1, known, 1)
        seen.append(context.flatten().tolist())
        return torch.tensor(forecast(number, seen[-1]), dtype=torch.float64).reshape(1, -1, 1)

    real = [float(-1 - day) for day in range(known)]
    start = torch.tensor(real, dtype=torch.float64).reshape(1, -1, 1)
    if offset > horizon:
        with pytest.raises(UserError, match=f"offset {offset} with horizon {horizon}"):
            roll(start, step, horizon, offset, passes)
        if passes > 1:  # and rightly so: the calendar has a hole
            with pytest.raises(KeyError):
                reference(real, forecast, horizon, offset, passes)
        return
    made = roll(start, step, horizon, offset, passes)
    contexts, days = reference(real, forecast, horizon, offset, passes)
    assert seen == contexts
    assert [value.flatten().tolist() for value in made] == days


# (horizon, offset) -> for each pass the source of its 60 context days, as (first day, end, pass that made
# them; None for real days), and the days that it forecasts. From section 2 of the plan, which writes the
# third context of (90, 45) as the 90 days [60, 150): its last 60 are meant, [90, 150).
PLAN = {
    (60, 30): [
        ([(0, 60, None)], (60, 120)),
        ([(30, 60, None), (60, 90, 0)], (90, 150)),
        ([(60, 90, 0), (90, 120, 1)], (120, 180)),
    ],
    (60, 60): [
        ([(0, 60, None)], (60, 120)),
        ([(60, 120, 0)], (120, 180)),
        ([(120, 180, 1)], (180, 240)),
    ],
    (90, 45): [
        ([(0, 60, None)], (60, 150)),
        ([(45, 60, None), (60, 105, 0)], (105, 195)),
        ([(90, 105, 0), (105, 150, 1)], (150, 240)),
    ],
    (90, 90): [
        ([(0, 60, None)], (60, 150)),
        ([(90, 150, 0)], (150, 240)),
        ([(180, 240, 1)], (240, 330)),
    ],
}


@pytest.mark.parametrize(("horizon", "offset"), PLAN)
def test_the_plans_own_examples(horizon, offset):
    """Each day carries its number and the pass that made it, -1 for a real one."""
    start = torch.stack([torch.arange(60.0), torch.full((60,), -1.0)], dim=-1).unsqueeze(0)
    seen = []

    def step(number: int, context: torch.Tensor) -> torch.Tensor:
        seen.append(context[0])
        days = torch.arange(60.0 + number * offset, 60.0 + number * offset + horizon)
        return torch.stack([days, torch.full((horizon,), float(number))], dim=-1).unsqueeze(0)

    made = roll(start, step, horizon, offset, 3)
    for (sources, (first, end)), context, days in zip(PLAN[horizon, offset], seen, made, strict=True):
        expected = [(d, -1 if by is None else by) for a, b, by in sources for d in range(a, b)]
        assert [(int(day), int(by)) for day, by in context.tolist()] == expected
        assert days[0, :, 0].tolist() == list(range(first, end))


def test_gradients_flow_through_what_was_forecast():
    start = torch.ones(1, 3, 1)
    growth = torch.tensor(2.0, requires_grad=True)
    made = roll(start, lambda _, context: growth * context[:, -1:].expand(-1, 3, -1), 3, 3, 3)
    made[-1].sum().backward()
    assert float(growth.grad) == pytest.approx(3 * 3 * 2.0**2)  # the last pass holds growth^3


@pytest.mark.parametrize(("horizon", "offset"), [(5, 2), (5, 5), (8, 7)])
@pytest.mark.parametrize("latent", ["prior", "posterior"])
def test_training_passes_are_forwards_on_the_calendar(horizon, offset, latent):
    days, inputs = world()
    net = network(inputs).eval()
    x = torch.stack([torch.from_numpy(days[7 * i : 7 * i + CONTEXT + 3 * horizon]) for i in range(4)])
    costs = pass_costs(net, x, horizon, offset, 3, latent)
    calendar = {day: x[:, day] for day in range(CONTEXT)}
    for number in range(3):
        first = CONTEXT + number * offset
        past = torch.stack([calendar[day] for day in range(first - CONTEXT, first)], dim=1)
        cost, ahead = net.costs(torch.cat([past, x[:, first : first + horizon]], dim=1), latent)
        assert float(costs[number]) == pytest.approx(float(cost.mean()), rel=1e-5)
        for k, day in enumerate(net.median_days(ahead).unbind(1)):
            calendar[first + k] = day
    # The extra features of a generated day are generated too.
    assert not torch.allclose(calendar[CONTEXT][:, 25:], x[:, CONTEXT, 25:], atol=1e-3)


def test_training_passes_may_feed_on_drawn_paths():
    days, inputs = world(40)
    net = network(inputs)
    batch = torch.from_numpy(np.stack([days[i : i + CONTEXT + 11] for i in range(6)]))
    net.eval()
    medians, drawn = (pass_costs(net, batch, 5, 3, 3, "prior", feed) for feed in ("median", "fan"))
    assert torch.equal(medians, drawn), "evaluation draws nothing"
    net.train()
    runs = []
    for feed in ("median", "fan"):
        torch.manual_seed(0)
        runs.append(pass_costs(net, batch, 5, 3, 3, "prior", feed))
    assert torch.equal(runs[0][0], runs[1][0]), "the first pass reads real days alone"
    assert not torch.equal(runs[0][1:], runs[1][1:])


def test_deployments_are_the_plans():
    assert (FAST.passes, FAST.generated, FAST.days) == (3, 270, 252)
    assert (HIGH_QUALITY.passes, HIGH_QUALITY.generated, HIGH_QUALITY.days) == (6, 315, 252)
    assert DeploymentConfig(days=126).passes == 2
    with pytest.raises(UserError, match="offset 91 with horizon 90"):
        DeploymentConfig(offset=91)
    for days in range(1, 300):
        for offset in (30, 45, 90):
            assert DeploymentConfig(days=days, offset=offset).generated >= days


DEPLOYMENTS = [
    DeploymentConfig(days=20, horizon=8, offset=offset, spread=spread)
    for offset in (3, 4, 8)
    for spread in ("latent", "fan")
]


@pytest.mark.parametrize("config", DEPLOYMENTS, ids=lambda c: f"{c.offset}-{c.spread}")
@pytest.mark.parametrize(
    "fields", [{"prior": "learned", "extra_loss": "pinball"}, {"variant": "no_ex"}], ids=str
)
def test_batched_generation_is_one_at_a_time(config, fields):
    days, inputs = world()
    net = network(inputs, **fields)
    context = torch.from_numpy(days[:CONTEXT])
    noise = Noise.draw(5, config, 3, seed=1)
    together = generate(net, context, config, noise)
    assert together.samples.shape == (5, 20, 5, 5)
    assert together.extra.shape == (5, 20, 3)
    assert together.passes.shape == (config.passes, 5, 8, 5, 5)
    assert together.quantiles.shape == (config.passes, 5, 8, 5, 5, 3)
    assert (together.samples > 0).all()
    assert (np.diff(together.quantiles, axis=-1) >= 0).all()
    assert not together.oracle
    in_twos = generate(net, context, config, noise, batch=2)
    for sample in range(5):
        alone = generate(net, context, config, noise.take(slice(sample, sample + 1)))
        for name in ("samples", "extra", "passes", "quantiles"):
            axis = 0 if name in ("samples", "extra") else 1
            expected = np.take(getattr(alone, name), 0, axis)
            for result in (together, in_twos):
                found = np.take(getattr(result, name), sample, axis)
                np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)
    assert not np.allclose(together.samples[0], together.samples[1])


def test_threads_change_no_bit():
    days, inputs = world()
    net = network(inputs)
    noise = Noise.draw(9, DEPLOYMENTS[0], 3, seed=1)
    before, made = torch.get_num_threads(), []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        try:
            made.append(generate(net, torch.from_numpy(days[:CONTEXT]), DEPLOYMENTS[0], noise, batch=2))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    for name in ("samples", "extra", "passes", "quantiles"):
        np.testing.assert_array_equal(getattr(made[0], name), getattr(made[1], name))


def test_overlaps_are_averaged_by_day():
    days, inputs = world()
    config = DeploymentConfig(days=20, horizon=8, offset=3)
    made = generate(network(inputs), torch.from_numpy(days[:CONTEXT]), config, Noise.draw(2, config, 3, 0))
    assert made.starts == tuple(range(0, 3 * config.passes, 3))
    for day in range(20):
        on_day = [
            made.passes[number, :, day - start]
            for number, start in enumerate(made.starts)
            if 0 <= day - start < 8
        ]
        assert len(on_day) == sum(0 <= day - 3 * number < 8 for number in range(config.passes))
        np.testing.assert_allclose(made.samples[:, day], np.mean(on_day, axis=0), rtol=1e-5)


def test_the_fan_has_the_spread_that_is_forecast():
    """With a latent that is ignored, the samples of the first pass follow the quantiles of each day."""
    days, inputs = world()
    net = network(inputs, output="level")
    with torch.no_grad():  # the decoder hears neither context nor latent: a fan that is known
        net.surface_head.linear.weight.zero_()
    config = DeploymentConfig(days=8, horizon=8, offset=8)
    made = generate(net, torch.from_numpy(days[:CONTEXT]), config, Noise.draw(4000, config, 3, 0))
    fan = made.quantiles[0, 0]
    for level, column in zip((0.05, 0.5, 0.95), range(3), strict=True):
        below = (made.samples <= fan[None, ..., column]).mean(axis=0)
        np.testing.assert_allclose(below, level, atol=0.025)
    path = np.log(made.samples[:, :, 2, 2])
    assert np.corrcoef(path[:, 3], path[:, 7])[0, 1] == pytest.approx(math.sqrt(4 / 8), abs=0.05)
    narrow = DeploymentConfig(days=8, horizon=8, offset=8, spread="latent")
    alike = generate(net, torch.from_numpy(days[:CONTEXT]), narrow, Noise.draw(3, narrow, 3, 0)).samples
    np.testing.assert_allclose(alike[0], alike[1], rtol=1e-6)


def test_an_oracle_is_flagged_and_reads_the_truth():
    days, inputs = world()
    net = network(inputs, output="level")
    net.posterior_head.weight.data *= 100  # an untaught latent hardly hears the days
    config = DeploymentConfig(days=16, horizon=8, offset=8, spread="latent")
    noise = Noise.draw(2, config, 3, 0)
    context, truth = torch.from_numpy(days[:CONTEXT]), torch.from_numpy(days[CONTEXT : CONTEXT + 16])
    seen, other = (
        generate(net, context, config, noise, truth=truth),
        generate(net, context, config, noise, truth=truth + 1),
    )
    assert seen.oracle
    assert other.oracle
    assert not np.allclose(seen.samples, other.samples, rtol=1e-3)
    np.testing.assert_allclose(seen.samples[0], seen.samples[1], rtol=1e-5)
