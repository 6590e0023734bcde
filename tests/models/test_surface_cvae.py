import itertools
import math

import numpy as np
import pytest
import torch

from farm.base.errors import UserError
from farm.base.types import Inputs
from farm.data.day_vectors import SHAPES_5X5, day_vectors, surface_inputs
from farm.models.network import Batch, Sequences
from farm.models.objectives import butterfly_gap, calendar_gap
from farm.models.surface_cvae import LEVELS, SurfaceCVAEConfig
from farm.training.curriculum import MultiHorizon, TeacherForcing
from farm.training.fit import TrainingConfig, fit, reproducible
from tests.surface_world import CONTEXT, MATURITIES, MONEYNESS, network, surfaces, world

HORIZONS, WEIGHTS = (1, 3, 4, 9), (1.0, 0.9, 0.6, 0.3)


@pytest.fixture(scope="module")
def days_and_inputs():
    days, inputs = world()
    return torch.from_numpy(days), inputs


def next_level(net, contexts):
    with torch.no_grad():
        return net.forecast(contexts)


def sequences(days, length, count=7):
    return torch.stack([days[5 * i : 5 * i + length] for i in range(count)])


def test_the_defaults_are_the_plans():
    config = SurfaceCVAEConfig()
    assert (config.surface_hidden, config.hidden_size, config.num_layers) == ((5, 5, 5), 100, 2)
    assert (config.dropout, config.latent_dim, config.kl_weight) == (0.3, 5, 1e-5)
    assert (config.quantile_weights, config.extra_weight) == ((5.0, 1.0, 5.0), 1.0)
    assert (config.extra_loss, config.extra_return_only) == ("l2", True)
    assert (config.calendar_weight, config.butterfly_weight) == (0.0, 0.0)
    assert SurfaceCVAEConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("variant", ["no_ex", "ex_no_loss", "ex_loss"])
@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize("encoder", ["dense", "convolution"])
@pytest.mark.parametrize("output", ["change", "revert", "level"])
def test_quantiles_are_ordered_and_volatilities_positive(days_and_inputs, variant, prior, encoder, output):
    days, inputs = days_and_inputs
    net = network(inputs, variant=variant, prior=prior, encoder=encoder, output=output)
    x = 3 * torch.randn(5, CONTEXT, days.shape[1], generator=torch.Generator().manual_seed(1))
    memory = net.remember(x)
    ahead = net.decode(memory, net.prior(memory, 4).mean + 5)
    assert ahead.surface.shape == (5, 4, 25, 3)
    assert ahead.extra.shape == (5, 4, 0 if variant == "no_ex" else 3, 3)
    assert (ahead.surface.diff(dim=-1) >= 0).all()
    assert (ahead.extra.diff(dim=-1) >= 0).all()
    assert (net.volatility(ahead.surface.movedim(-1, -2)) > 0).all()
    assert net.median_days(ahead).shape == (5, 4, days.shape[1])
    forecast = next_level(net, x)
    assert forecast.levels == LEVELS
    assert (forecast.point > 0).all()


def test_untaught_it_is_a_random_walk(days_and_inputs):
    days, inputs = days_and_inputs
    net = network(inputs, stirred=False)
    x = sequences(days, CONTEXT)
    memory = net.remember(x)
    ahead = net.decode(memory, net.prior(memory, 5).mean)
    torch.testing.assert_close(ahead.surface[..., 1], x[:, -1:, :25].expand(-1, 5, -1))
    surface, _ = surfaces(120)
    last = [surface[5 * i + CONTEXT - 1][inputs.level] for i in range(7)]
    np.testing.assert_allclose(next_level(net, x).point, last, rtol=1e-5)


@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize("latent", ["posterior", "prior"])
def test_several_horizons_in_one_pass_are_a_pass_for_each(days_and_inputs, prior, latent):
    """Losses and gradients of one encoder and one decoder pass, against a forward for each horizon."""
    days, inputs = days_and_inputs
    net = network(inputs, prior=prior, calendar_weight=0.5, butterfly_weight=0.5, kl_weight=0.1)
    x = sequences(days, CONTEXT + HORIZONS[-1])
    noise = torch.randn(len(x), HORIZONS[-1], 3, generator=torch.Generator().manual_seed(0))
    phase = MultiHorizon(horizons=HORIZONS, weights=WEIGHTS)

    costs, ahead = net.costs(x, latent, noise)
    single = {h: costs[:h].mean() for h in HORIZONS}
    (sum(w * single[h] for h, w in zip(HORIZONS, WEIGHTS, strict=True)) / sum(WEIGHTS)).backward()
    one = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    net.zero_grad(set_to_none=True)
    total = torch.zeros(())
    for horizon, weight in zip(HORIZONS, WEIGHTS, strict=True):
        own, shorter = net.costs(x[:, : CONTEXT + horizon], latent, noise[:, :horizon])
        torch.testing.assert_close(own.mean(), single[horizon], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(shorter.surface, ahead.surface[:, :horizon], rtol=1e-5, atol=1e-6)
        total = total + weight / sum(WEIGHTS) * own.mean()
    total.backward()
    for name, parameter in net.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(one[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)

    net.eval()  # the phase's own objective, without noise
    mean = float(phase.objective(net)(x).detach())
    by_hand = sum(
        w * float(net.costs(x[:, : CONTEXT + h])[0].mean().detach())
        for h, w in zip(HORIZONS, WEIGHTS, strict=True)
    )
    assert mean == pytest.approx(by_hand / sum(WEIGHTS), rel=1e-5)


def test_the_loss_is_the_sum_of_its_parts(days_and_inputs):
    """Weighted pinball, squared error of the median return, KL: by hand, in loops."""
    days, inputs = days_and_inputs
    net = network(inputs, kl_weight=0.01, extra_weight=0.7, quantile_weights=(5.0, 1.0, 5.0))
    x = sequences(days, CONTEXT + 4)
    with torch.no_grad():
        costs, ahead = net.costs(x, noise=torch.zeros(7, 4, 3))
    truth = x[:, CONTEXT:].numpy()
    surface, extra = ahead.surface.detach().numpy(), ahead.extra.detach().numpy()
    posterior = net.posterior(x)
    mean, log_variance = posterior.mean.detach().numpy(), posterior.log_variance.detach().numpy()
    for day in range(4):
        pinball = 0.0
        for b, g in itertools.product(range(7), range(25)):
            for level, weight, q in zip(LEVELS, (5, 1, 5), range(3), strict=True):
                error = truth[b, day, g] - surface[b, day, g, q]
                pinball += weight / 11 * max(level * error, (level - 1) * error) / (7 * 25)
        squared = np.mean((extra[:, day, 0, 1] - truth[:, day, 25]) ** 2)
        m, v = mean[:, day], log_variance[:, day]
        kl = np.mean(np.sum(0.5 * (np.exp(v) + m**2 - 1 - v), axis=1))
        assert float(costs[day]) == pytest.approx(pinball + 0.7 * squared + 0.01 * kl, rel=1e-4)
    with torch.no_grad():
        assert float(net.eval().loss(Batch(x, x[:, -1, 0]))) == pytest.approx(float(costs.mean()), rel=1e-5)


def test_a_latent_sees_no_later_day_and_the_prior_no_truth(days_and_inputs):
    days, inputs = days_and_inputs
    net = network(inputs, prior="learned")
    x = sequences(days, CONTEXT + 5)
    changed = x.clone()
    changed[:, CONTEXT + 3 :] += 1
    one, other = net.posterior(x), net.posterior(changed)
    torch.testing.assert_close(one.mean[:, :3], other.mean[:, :3])
    assert (one.mean[:, 3] - other.mean[:, 3]).abs().max() > 1e-4
    _, ahead = net.eval().costs(x, "prior")
    changed[:, CONTEXT:] += 1
    _, blind = net.costs(changed, "prior")
    torch.testing.assert_close(ahead.surface, blind.surface, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("fields", "taught"),
    [
        ({"variant": "ex_no_loss"}, []),
        ({"variant": "ex_loss"}, [1]),
        ({"variant": "ex_loss", "extra_loss": "pinball"}, [0, 1, 2]),
        ({"variant": "ex_loss", "extra_return_only": False}, [1, 4, 7]),
    ],
)
def test_which_extra_outputs_are_taught(days_and_inputs, fields, taught):
    days, inputs = days_and_inputs
    net = network(inputs, **fields)
    net.costs(sequences(days, CONTEXT + 3))[0].mean().backward()
    bias = net.extra_head.linear.bias.grad
    moved = [] if bias is None else [int(i) for i in torch.nonzero(bias.abs() > 0)]
    assert moved == taught


def test_without_extras_they_are_not_read(days_and_inputs):
    days, inputs = days_and_inputs
    x = sequences(days, CONTEXT)
    changed = x.clone()
    changed[..., 25:] += 1
    blind, seeing = network(inputs, variant="no_ex"), network(inputs, variant="ex_no_loss")
    np.testing.assert_array_equal(next_level(blind, x).point, next_level(blind, changed).point)
    assert not np.array_equal(next_level(seeing, x).point, next_level(seeing, changed).point)


def test_generated_days_have_the_skew_and_slope_of_their_surface(days_and_inputs):
    days, inputs = days_and_inputs
    net = network(inputs)
    surface, extra = surfaces(120)
    made = net.as_days(days[None, :, :25], days[None, :, 25])
    torch.testing.assert_close(made[0], days, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(net.volatility(days[:, :25]).reshape(-1, 5, 5), surface, rtol=1e-5)
    np.testing.assert_allclose(net.raw_extras(days[:, 25:]), extra, rtol=1e-3, atol=1e-6)
    untaught = network(inputs, variant="ex_no_loss").as_days(days[None, :, :25], days[None, :, 25])
    assert (untaught[..., 25] == 0).all()
    wild = net.as_days(torch.full((1, 1, 25), 1e9), torch.full((1, 1), -1e9))
    assert wild.abs().max() <= 8
    assert torch.isfinite(wild).all()


def test_arbitrage_gaps_of_known_surfaces():
    k = torch.tensor(MONEYNESS, dtype=torch.float64)
    years = torch.tensor(MATURITIES, dtype=torch.float64)
    flat = (0.2**2 * years)[:, None].expand(5, 5)
    assert float(calendar_gap(flat)) == 0
    assert float(butterfly_gap(flat, k)) == 0
    inverted = flat.flip(0)
    steps = 0.04 * np.diff(MATURITIES)
    assert float(calendar_gap(inverted)) == pytest.approx(steps.mean(), rel=1e-9)
    # A parabola in k: the finite differences are exact, so g is that of calculus.
    a, b, c = 0.5, -0.05, -2.5
    w = (a + b * k + c * k**2).expand(1, 5)
    inner = k[1:-1]
    w0, w1, w2 = a + b * inner + c * inner**2, b + 2 * c * inner, torch.tensor(2 * c)
    g = (1 - inner * w1 / (2 * w0)) ** 2 - w1**2 / 4 * (1 / w0 + 0.25) + w2 / 2
    # On an uneven grid the parabola's three-point slope is exact at the middle point.
    assert float(butterfly_gap(w, k)) == pytest.approx(float(g.neg().clamp(min=0).mean()), rel=1e-9)
    assert float(g.min()) < 0


def test_penalties_push_arbitrage_out(days_and_inputs):
    days, inputs = days_and_inputs
    x = sequences(days, CONTEXT + 3)
    plain, held = network(inputs), network(inputs, calendar_weight=10.0, butterfly_weight=10.0)
    extra = held.costs(x, noise=torch.zeros(7, 3, 3))[0] - plain.costs(x, noise=torch.zeros(7, 3, 3))[0]
    assert (extra >= -1e-6).all()
    assert extra.max() > 0, "a stirred network makes surfaces with arbitrage"
    optimizer = torch.optim.Adam(held.parameters(), lr=1e-2)
    gaps = []
    for _step in range(60):
        optimizer.zero_grad()
        _, ahead = held.costs(x, noise=torch.zeros(7, 3, 3))
        w = held.volatility(ahead.surface[..., 1]).unflatten(-1, (5, 5)) ** 2 * held.maturities[:, None]
        gap = calendar_gap(w).mean() + butterfly_gap(w, held.log_moneyness).mean()
        gaps.append(float(gap.detach()))
        gap.backward()
        optimizer.step()
    assert gaps[-1] < 0.2 * gaps[0]


def test_it_learns_that_the_level_reverts(days_and_inputs):
    """A world whose deviations halve every day: a taught network beats the random walk."""
    surface, extra = surfaces(500, seed=3, phi=0.5)
    inputs = surface_inputs(surface[:400], extra[:400], CONTEXT, MATURITIES, MONEYNESS)
    days = torch.from_numpy(day_vectors(surface, extra, inputs))
    train, val = Sequences(days[:300], CONTEXT + 1), Sequences(days[300:400], CONTEXT + 1)
    net = network(inputs, stirred=False, kl_weight=1.0, latent_dim=1)
    with reproducible(0):
        fit(
            net,
            train,
            val,
            TrainingConfig(epochs=20, learning_rate=5e-3, batch_size=32),
            0,
            objective=TeacherForcing().objective(net),
        )
    rows = torch.arange(400, 500 - CONTEXT)
    contexts = torch.stack([days[i : i + CONTEXT] for i in rows])
    truth = surface[rows.numpy() + CONTEXT][:, inputs.level[0], inputs.level[1]]
    last = surface[rows.numpy() + CONTEXT - 1][:, inputs.level[0], inputs.level[1]]
    rmse = np.sqrt(np.mean((next_level(net, contexts).point - truth) ** 2))
    assert rmse < 0.92 * np.sqrt(np.mean((last - truth) ** 2))


def test_bad_input_is_one_line():
    surface, extra = surfaces(20)
    bad = surface.copy()
    bad[3, 1, 1] = -0.1
    bad[7, 0, 0] = np.nan
    with pytest.raises(UserError, match=r"2 of 20 surfaces hold a volatility that is not positive.*row 3"):
        surface_inputs(bad, extra, CONTEXT, MATURITIES, MONEYNESS)
    lost = extra.copy()
    lost[4, 0] = np.inf
    with pytest.raises(UserError, match=r"1 of 20 rows of extra features.*row 4"):
        surface_inputs(surface, lost, CONTEXT, MATURITIES, MONEYNESS)
    with pytest.raises(UserError, match=r"surfaces of shape \(4, 5\)"):
        surface_inputs(surface[:, :4], extra, CONTEXT, MATURITIES[:4], MONEYNESS, SHAPES_5X5)
    windows = Inputs(("a", "b"), 5, np.zeros(2), np.ones(2))
    with pytest.raises(UserError, match="expected days of surfaces, got the features a, b"):
        SurfaceCVAEConfig().build(windows)
    in_delta = surface_inputs(surface, extra, CONTEXT, MATURITIES, None)
    with pytest.raises(UserError, match="needs a grid of at least 3 strikes in moneyness"):
        SurfaceCVAEConfig(butterfly_weight=1.0).build(in_delta)
    SurfaceCVAEConfig(calendar_weight=1.0).build(in_delta)


def test_an_untaught_network_is_a_regression_to_the_mean():
    days, inputs = world()
    net = network(inputs, stirred=False, output="revert")
    context = torch.from_numpy(days[None, :CONTEXT])
    ahead = net.decode(net.remember(context), torch.zeros(1, 40, net.config.latent_dim))
    last, mean = context[0, -1, : net.cells].double(), context[0, :, : net.cells].double().mean(dim=0)
    for k in (1, 7, 40):
        fast, slow = math.exp(-k / 20), math.exp(-k / 250)
        expected = slow * (fast * last + (1 - fast) * mean)
        torch.testing.assert_close(ahead.surface[0, k - 1, :, 1].double(), expected, atol=1e-5, rtol=1e-4)
