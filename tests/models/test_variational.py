"""The variational autoencoders: bounds against an exact likelihood, and imputations against brute force."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from farm.base.errors import UserError
from farm.base.generative import ReturnWindows
from farm.base.model import MODELS
from farm.base.types import Inputs
from farm.models import variational
from farm.models.network import Batch
from farm.models.vae import VAE, VAEConfig
from farm.models.variational import Gaussian, VariationalNetwork
from farm.training.fit import TrainingConfig, fit, reproducible

DAYS, ASSETS, FACTORS = 5, 6, 2
NAMES = tuple("ABCDEF")
INPUTS = Inputs(NAMES, DAYS, np.zeros(ASSETS), np.ones(ASSETS))
KINDS = {
    "vae": {"name": "vae", "latent_dim": 2, "hidden_sizes": (16,), "noise": "diagonal"},
    "score": {
        "name": "vae",
        "latent_dim": 2,
        "hidden_sizes": (16,),
        "gradient": "score_function",
        "draws": 8,
    },
    "vrae": {"name": "vrae", "latent_dim": 10, "hidden_size": 48, "noise": "diagonal"},
    "timevae": {"name": "timevae", "latent_dim": 10, "filters": (24, 32), "noise": "diagonal"},
    "interpretable": {
        "name": "timevae",
        "latent_dim": 10,
        "filters": (24, 32),
        "decoder": "interpretable",
        "seasons": (2,),
        "noise": "decoded",
    },
}
EPOCHS = {"vae": 25, "score": 25, "vrae": 30}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
LOADINGS = np.random.default_rng(1).normal(0, 1, (ASSETS, FACTORS))
OWN = np.linspace(0.2, 0.5, ASSETS)
COVARIANCE = LOADINGS @ LOADINGS.T + np.diag(OWN)


def built(**fields: object) -> VariationalNetwork:
    with reproducible(0):
        network = MODELS[str(fields["name"])].make(fields, "model").build(INPUTS)
    assert isinstance(network, VariationalNetwork)
    return network.eval()


def windows_of(rows: np.ndarray, first: int, share: float = 0.3) -> ReturnWindows:
    x = np.lib.stride_tricks.sliding_window_view(
        rows[first:].astype(np.float32), DAYS, axis=0, writeable=True
    )
    days = np.arange(len(rows)).astype("datetime64[D]")
    position = np.arange(first + DAYS - 1, len(rows))
    return ReturnWindows(
        x=x.transpose(0, 2, 1),
        y=rows[position, 0].astype(np.float32),
        times=days[position],
        features=NAMES,
        series=rows[:, 0],
        position=position,
        rows=rows,
        days=days,
        first=first,
        mask=np.random.default_rng(5).random((len(rows) - first, ASSETS)) < share,
        mean=np.zeros(ASSETS),
        scale=np.ones(ASSETS),
    )


def factor_days(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, FACTORS)) @ LOADINGS.T + rng.normal(size=(count, ASSETS)) * np.sqrt(OWN)


@pytest.fixture(scope="module")
def world() -> tuple[ReturnWindows, ReturnWindows, ReturnWindows]:
    rows = factor_days(2000, 0)
    return windows_of(rows[:1400], 0), windows_of(rows[:1700], 1400), windows_of(rows, 1700)


def taught(kind: str, world, seed: int = 0, epochs: int | None = None, **fields) -> VariationalNetwork:
    train, val, _ = world
    with reproducible(seed):
        network = MODELS[str(KINDS[kind]["name"])].make({**KINDS[kind], **fields}, kind).build(INPUTS)
        epochs = epochs or EPOCHS.get(kind, 12)
        rate = 1e-2 if kind == "vrae" else 5e-3  # a recurrent memory is slow to learn
        training = TrainingConfig(epochs=epochs, learning_rate=rate, batch_size=128)
        fit(network, train, val, training, seed)
    return network


_CACHE: dict[str, VariationalNetwork] = {}


@pytest.fixture
def network(kind: str, world) -> VariationalNetwork:
    if kind not in _CACHE:
        _CACHE[kind] = taught(kind, world)
    return _CACHE[kind]


# --- a linear VAE whose likelihood is known ---------------------------------------------------------


def linear(loadings: np.ndarray = LOADINGS, widen: float = 1.0, shift: float = 0.0) -> VAE:
    """Factor analysis as a VAE: the encoder has the exact mean, plus a shift, and the exact precisions."""
    network = built(name="vae", latent_dim=FACTORS, hidden_sizes=(), noise="diagonal")
    assert isinstance(network, VAE)
    precision = np.eye(FACTORS) + loadings.T @ (loadings / OWN[:, None])
    to_mean = np.linalg.solve(precision, (loadings / OWN[:, None]).T)
    variance = widen / np.diag(precision)
    with torch.no_grad():
        decoder, encoder = network.decoder[0], network.encoder[0]
        decoder.weight.copy_(torch.tensor(loadings))
        decoder.bias.zero_()
        network.log_noise.copy_(torch.tensor(np.log(OWN)))
        encoder.weight.copy_(torch.tensor(np.vstack([to_mean, np.zeros_like(to_mean)])))
        encoder.bias.copy_(torch.tensor(np.concatenate([np.full(FACTORS, shift), np.log(variance)])))
    return network


def exact(windows: np.ndarray) -> np.ndarray:
    return stats.multivariate_normal(np.zeros(ASSETS), COVARIANCE).logpdf(windows).sum(axis=1)


def test_bounds_stand_below_the_exact_likelihood_in_order():
    windows = factor_days(600 * DAYS, 3).reshape(-1, DAYS, ASSETS)
    network, truth = linear(widen=1.5, shift=0.3), exact(windows)
    few = network.bound(windows, samples=5, seed=0)
    many = network.bound(windows, samples=500, seed=1)
    for elbo, weighted in (few, many):
        assert (elbo <= weighted + 1e-9).all()
        # An estimate may pass what it bounds by chance, its mean may not.
        gap = truth - weighted
        assert gap.mean() > -3 * gap.std() / np.sqrt(len(gap))
    assert few[0].mean() < few[1].mean() < many[1].mean()
    assert truth.mean() - many[1].mean() < 0.02


def test_the_gap_of_the_elbo_is_the_divergence_from_the_true_posterior():
    windows = factor_days(200 * DAYS, 3).reshape(-1, DAYS, ASSETS)
    elbo, _ = linear(widen=1.5, shift=0.3).bound(windows, samples=400, seed=0)
    precision = np.eye(FACTORS) + LOADINGS.T @ (LOADINGS / OWN[:, None])
    own = 1.5 / np.diag(precision)
    shift = np.full(FACTORS, 0.3)
    kl = 0.5 * (
        own @ np.diag(precision)
        + shift @ precision @ shift
        - FACTORS
        - np.log(own).sum()
        - np.linalg.slogdet(precision)[1]
    )
    gap = exact(windows) - elbo
    assert gap.mean() == pytest.approx(DAYS * kl, abs=4 * gap.std() / np.sqrt(len(gap)))
    assert kl > 0.1


def test_an_exact_posterior_leaves_no_gap():
    # Columns that are orthogonal in the noise's own metric make the posterior diagonal.
    root = np.linalg.qr(np.random.default_rng(2).normal(size=(ASSETS, FACTORS)))[0] * np.array([2.0, 1.0])
    loadings = root * np.sqrt(OWN)[:, None]
    windows = factor_days(20 * DAYS, 3).reshape(-1, DAYS, ASSETS)
    covariance = loadings @ loadings.T + np.diag(OWN)
    truth = stats.multivariate_normal(np.zeros(ASSETS), covariance).logpdf(windows).sum(axis=1)
    for bound in linear(loadings).bound(windows, samples=3, seed=0):
        np.testing.assert_allclose(bound, truth, atol=2e-3)


def test_draws_have_the_covariance_of_the_model():
    drawn = linear().draw(4000, seed=0)
    assert drawn.shape == (4000, DAYS, ASSETS)
    np.testing.assert_allclose(np.cov(drawn.reshape(-1, ASSETS).T), COVARIANCE, atol=0.1)
    # Days are independent.
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 1, 0])[0, 1]) < 0.06


def test_an_imputation_is_the_gaussian_conditional(monkeypatch):
    monkeypatch.setattr(variational, "PROPOSALS", 8192)
    rows = factor_days(60, 4)
    hidden = np.random.default_rng(0).random(rows.shape) < 0.4
    hidden[0] = True  # a day of which nothing is known
    # The proposal is wrong on purpose: the weights must mend it.
    found = linear(widen=1.3, shift=0.2).impute(np.where(hidden, np.nan, rows), 0)
    for day in range(len(rows)):
        h, v = hidden[day], ~hidden[day]
        weights = COVARIANCE[np.ix_(h, v)] @ np.linalg.inv(COVARIANCE[np.ix_(v, v)])
        variance = COVARIANCE[np.ix_(h, h)] - weights @ COVARIANCE[np.ix_(v, h)]
        np.testing.assert_allclose(found.mean[day, h], weights @ rows[day, v], atol=0.12)
        np.testing.assert_allclose(found.sd[day, h], np.sqrt(np.diag(variance)), rtol=0.06)
        np.testing.assert_array_equal(found.mean[day, v], rows[day, v])
        assert (found.sd[day, v] == 0).all()


# --- the estimators of the gradient -----------------------------------------------------------------


def test_every_estimator_has_the_exact_gradient_for_its_mean():
    network = linear(widen=1.5, shift=0.3)
    x = factor_days(4, 6)[:, None]
    # Of a linear decoder the expected fit is known: the fit at the mean, less the spread of the mean.
    tensor = torch.tensor(x, dtype=torch.float32)
    posterior = network.posterior(tensor)
    fit = network.likelihood(posterior.mean).log_density(tensor).sum(dim=(-2, -1))
    power = torch.tensor((LOADINGS**2 / OWN[:, None]).sum(axis=0), dtype=torch.float32)
    fit = fit - 0.5 * (posterior.log_variance.exp() * power).sum(dim=-1)
    kl = 0.5 * (posterior.log_variance.exp() + posterior.mean**2 - 1 - posterior.log_variance).sum(dim=-1)
    loss = (kl - fit).mean() / ASSETS
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.encoder.parameters()))])
    found = network.gradient_moments(x, repeats=400, seed=0)
    assert set(found) == {"reparameterised", "score_function", "score_function_plain"}
    for moments in found.values():
        error = np.sqrt(moments.variance / 400)
        assert (np.abs(moments.mean - gradient.numpy()) < 4.5 * error + 1e-5).all()
    noise = {name: moments.variance.sum() for name, moments in found.items()}
    assert noise["reparameterised"] < noise["score_function"] < noise["score_function_plain"]


def test_the_score_function_leaves_value_and_decoder_gradient_alone():
    x = torch.tensor(factor_days(50, 6)[:, None], dtype=torch.float32)
    network = linear()
    posterior = Gaussian(*(value.detach() for value in network.posterior(x)))
    noise = torch.randn(4, 50, FACTORS, generator=torch.Generator().manual_seed(0))
    gradients, values = [], []
    for estimator in ("reparameterised", "score_function"):
        fit = network._fit_by(estimator, x, posterior, noise).mean()
        values.append(float(fit.detach()))
        gradients.append(torch.autograd.grad(fit, list(network.decoder.parameters())))
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


# --- what each network must hold to -----------------------------------------------------------------


@EVERY_KIND
def test_imputation_beats_filling_in_the_mean(kind, network, world):
    test = world[2]
    filled = network.impute(test.hide(test.mask), test.first)
    error = np.square(filled.mean - test.block)[test.mask] - np.square(test.block)[test.mask]
    assert stats.ttest_1samp(error, 0.0, alternative="less").pvalue < 1e-3
    if kind in ("vae", "score"):
        # What the planted covariance itself leaves.
        best = []
        for day, hidden in zip(test.block, test.mask, strict=True):
            weights = COVARIANCE[np.ix_(hidden, ~hidden)] @ np.linalg.pinv(
                COVARIANCE[np.ix_(~hidden, ~hidden)]
            )
            best.append(day[hidden] - weights @ day[~hidden])
        least = np.sqrt(np.mean(np.concatenate(best) ** 2))
        assert np.sqrt(np.mean((filled.mean - test.block)[test.mask] ** 2)) < 1.1 * least
    z = ((filled.mean - test.block) / np.where(filled.sd > 0, filled.sd, 1))[test.mask]
    assert 0.8 < z.std() < 1.25


@EVERY_KIND
def test_the_future_never_changes_an_imputation(kind, network, world):
    test, cut = world[2], 100
    rows = test.hide(test.mask)
    before = network.impute(rows, test.first)
    rows[test.first + cut :] *= -3.0
    after = network.impute(rows, test.first)
    np.testing.assert_array_equal(after.mean[:cut], before.mean[:cut])
    np.testing.assert_array_equal(after.sd[:cut], before.sd[:cut])
    assert not np.array_equal(after.mean[cut:], before.mean[cut:])


@EVERY_KIND
def test_the_first_days_of_a_record_can_be_filled(kind, network):
    rows = factor_days(3, 8)
    rows[0] = np.nan
    rows[2, 0] = np.nan
    filled = network.impute(rows, 0)
    assert (filled.sd[0] > 0).all()
    assert filled.mean[1] == pytest.approx(rows[1])


@EVERY_KIND
def test_bounds_improve_on_the_untaught_and_keep_their_order(kind, network, world):
    windows = world[2].apart
    elbo, weighted = network.bound(windows, samples=16, seed=0)
    assert elbo.shape == weighted.shape == (len(windows),)
    assert (elbo <= weighted + 1e-9).all()
    assert elbo.mean() > built(**KINDS[kind]).bound(windows, 16, 0)[0].mean() + 1.0


@EVERY_KIND
def test_equal_seeds_give_equal_bits(kind, network, world):
    one, other = taught(kind, world, epochs=2), taught(kind, world, epochs=2)
    for name, value in one.state().items():
        np.testing.assert_array_equal(other.state()[name], value)
    windows = world[2].apart
    for a, b in zip(one.bound(windows, 4, 7), other.bound(windows, 4, 7), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.draw(3, 7), other.draw(3, 7))
    assert not np.array_equal(network.draw(3, 7), network.draw(3, 8))
    assert not np.array_equal(network.encode(windows, 1).sample, network.encode(windows, 2).sample)


@EVERY_KIND
def test_a_stored_network_is_the_same_network(kind, network, world):
    with reproducible(99):
        other = MODELS[str(KINDS[kind]["name"])].make(KINDS[kind], kind).build(INPUTS)
    other.load_state({key: np.array(value) for key, value in network.state().items()})
    test = world[2]
    np.testing.assert_array_equal(other.predict(test).point, network.predict(test).point)


@EVERY_KIND
def test_a_validation_loss_draws_nothing_and_is_the_bound(kind, network, world):
    batch = Batch.of(world[2], torch.device("cpu"))
    before = torch.random.get_rng_state()
    with torch.no_grad():
        loss = float(network.eval().loss(batch))
        assert float(network.loss(batch)) == loss
    assert torch.equal(torch.random.get_rng_state(), before)
    elbo, _ = network.bound(world[2].x[:, -network.days :], samples=200, seed=0)
    assert loss == pytest.approx(-elbo.mean() / (network.days * ASSETS), abs=0.02)


@EVERY_KIND
def test_latents_decode_to_windows(kind, network, world):
    windows = world[2].apart
    latents = network.encode(windows, 0)
    decoded = network.decode(latents.mean)
    assert decoded.shape == (len(windows), network.days, ASSETS)
    assert network.spread(latents.mean).shape == decoded.shape
    error = decoded - windows[:, -network.days :]
    assert np.square(error).mean() < 0.9 * np.square(windows).mean()


def test_the_weight_of_the_divergence_is_felt_in_training_alone(world):
    light, heavy = built(**KINDS["vae"]), built(**KINDS["vae"], kl_weight=5.0)
    batch = Batch.of(world[0], torch.device("cpu"))
    with torch.no_grad():
        assert float(light.loss(batch)) == float(heavy.loss(batch))
        losses = []
        for network in (light, heavy):
            torch.manual_seed(0)
            losses.append(float(network.train().loss(batch)))
        warming = built(**KINDS["vae"], kl_weight=5.0, kl_warmup=3).train()
        warming.begin_epoch(1)
        torch.manual_seed(0)
        losses.append(float(warming.loss(batch)))
    assert losses[1] > losses[0]
    assert losses[2] == pytest.approx(losses[0] + (losses[1] - losses[0]) / 16, rel=1e-4)


def test_a_decoded_variance_finds_wild_days(world):
    rng = np.random.default_rng(0)
    rows = factor_days(2000, 0) * np.where(rng.random(2000) < 0.2, 3.0, 0.6)[:, None]
    mixed = windows_of(rows[:1400], 0), windows_of(rows[:1700], 1400), windows_of(rows, 1700)
    ends = {}
    for noise in ("diagonal", "decoded"):
        network = taught("vae", mixed, epochs=20, noise=noise, latent_dim=4)
        kurtosis = stats.kurtosis(network.draw(2000, 0).reshape(-1, ASSETS)).mean()
        ends[noise] = network.bound(mixed[2].apart, 64, 0)[1].mean(), kurtosis
    # The latents of wild days are decoded with more spread, those of calm days with less.
    latents = network.encode(mixed[2].x, 0)
    spread = network.spread(latents.mean).mean(axis=(1, 2))
    size = np.abs(mixed[2].x[:, -1]).mean(axis=1)
    assert stats.spearmanr(spread, size).statistic > 0.6
    assert ends["decoded"][0] > ends["diagonal"][0] + 1.0
    assert ends["decoded"][1] > ends["diagonal"][1] + 1.0
    assert built(name="vae", noise="scalar").log_noise.shape == (1,)


def test_the_parts_of_timevae_are_what_they_say_and_add_up():
    kind = {**KINDS["interpretable"], "trend_degree": 1}
    network = built(**kind)
    z = np.random.default_rng(0).normal(size=(7, 10))
    parts = network.components(z)
    assert list(parts) == ["trend", "season 2", "residual"]
    np.testing.assert_allclose(sum(parts.values()), network.decode(z), atol=1e-5)
    np.testing.assert_allclose(np.diff(parts["trend"], n=2, axis=1), 0.0, atol=1e-5)
    np.testing.assert_array_equal(parts["season 2"][:, 0], parts["season 2"][:, 2])
    assert np.abs(np.diff(parts["trend"], axis=1)).max() > 1e-3
    assert np.abs(np.diff(parts["season 2"], axis=1)).max() > 1e-3
    assert built(**KINDS["timevae"]).components(z) == {}


@pytest.mark.parametrize("filters", [(8,), (8, 8), (8, 8, 8, 8)])
@pytest.mark.parametrize("days", [3, 5, 8, 24])
def test_timevae_takes_windows_of_any_length(filters, days):
    inputs = dataclasses.replace(INPUTS, lookback=days)
    network = MODELS["timevae"].make({"name": "timevae", "filters": filters}, "timevae").build(inputs)
    assert network.draw(2, 0).shape == (2, days, ASSETS)
    assert network.encode(np.zeros((2, days, ASSETS)), 0).mean.shape == (2, 32)


def test_bad_settings_are_told_in_one_line():
    with pytest.raises(UserError, match="got draws=1, expected at least 2: set draws=8"):
        VAEConfig(gradient="score_function")
    with pytest.raises(UserError, match="season of 20 days does not fit a window of 5"):
        MODELS["timevae"].make(
            {"name": "timevae", "decoder": "interpretable", "seasons": (20,)}, "timevae"
        ).build(INPUTS)
    with pytest.raises(UserError, match="expected each once"):
        MODELS["timevae"].make({"name": "timevae", "seasons": (5, 5)}, "timevae")
