"""The back-filling CVAE: what each part may see, and that its redesigns find a planted beta."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch

from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.types import Dataset, Windows
from farm.models.backfill_cvae import BackfillCVAE, BackfillCVAEConfig
from farm.models.network import Batch
from farm.models.objectives import gaussian_kl, kl_penalty, warm_up
from farm.training.fit import TrainingConfig, fit, reproducible
from search_spaces.backfill import SWEEP
from tests.backfill_world import BETA, HIDDEN, market_dataset

VARIANTS = {
    row.name: {
        key.removeprefix("model."): value for key, value in row.values.items() if key.startswith("model.")
    }
    for row in SWEEP.variants
    if row.values["model.name"] == "backfill_cvae"
}
EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(scope="module")
def world() -> Dataset:
    return market_dataset(3000)[0]


def untaught(variant: str, data: Dataset, **fields: object) -> BackfillCVAE:
    """Make a variant whose weights are large, so that whatever it sees it shows."""
    with reproducible(1):
        model = MODELS["backfill_cvae"].make({**VARIANTS[variant], **fields}, variant).build(data.inputs)
        assert isinstance(model, BackfillCVAE)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.4 * torch.randn_like(parameter))
    return model


def with_last_day(windows: Windows, columns: slice, value: float) -> Windows:
    x = windows.x.copy()
    x[:, -1, columns] = value
    return dataclasses.replace(windows, x=x)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other))


# ---------------------------------------------------------------- what may be seen


@EVERY_VARIANT
def test_realistic_scenarios_cannot_see_the_target(variant: str, world: Dataset) -> None:
    model, honest = untaught(variant, world), world.val
    lied = dataclasses.replace(
        with_last_day(honest, slice(0, HIDDEN), 7.0), hidden=np.full_like(honest.hidden, 3.0), y=honest.y + 1
    )
    for name in ("s3", "s4"):
        before, after = model.scenario(honest, name), model.scenario(lied, name)
        np.testing.assert_array_equal(after.quantiles, before.quantiles)
        np.testing.assert_array_equal(model.latent(honest, name).mean, model.latent(lied, name).mean)
    np.testing.assert_array_equal(model.predict(lied).point, model.predict(honest).point)
    assert not same(model.scenario(lied, "s1").point, model.scenario(honest, "s1").point)


@EVERY_VARIANT
def test_only_s3_leaves_the_peers_last_day_out_of_the_latent(variant: str, world: Dataset) -> None:
    model, honest = untaught(variant, world), world.val
    other = with_last_day(honest, slice(HIDDEN, None), 2.0)
    np.testing.assert_array_equal(model.latent(other, "s3").mean, model.latent(honest, "s3").mean)
    for name in ("s1", "s4"):
        assert not same(model.latent(other, name).mean, model.latent(honest, name).mean)
    moved = not same(model.scenario(other, "s3").point, model.scenario(honest, "s3").point)
    assert moved == model.config.cointegration, "only betas bring the peers to a latent of yesterday"


@EVERY_VARIANT
def test_predict_is_s4(variant: str, world: Dataset) -> None:
    model = untaught(variant, world)
    np.testing.assert_array_equal(
        model.predict(world.val).quantiles, model.scenario(world.val, "s4").quantiles
    )


@EVERY_VARIANT
def test_the_prior_cannot_see_the_target(variant: str, world: Dataset) -> None:
    """In training the whole window is at hand; the prior of a latent must not depend on the truth."""
    model = untaught(variant, world)
    latents = [
        model.latent(dataclasses.replace(world.val, hidden=hidden), "s1")
        for hidden in (world.val.hidden, np.full_like(world.val.hidden, 3.0))
    ]
    np.testing.assert_array_equal(latents[0].prior_mean, latents[1].prior_mean)
    assert not same(latents[0].mean, latents[1].mean)


@EVERY_VARIANT
def test_quantiles_never_cross(variant: str, world: Dataset) -> None:
    model = untaught(variant, world)
    wild = dataclasses.replace(world.val, x=20 * world.val.x)
    for name in model.scenarios:
        quantiles = model.scenario(wild, name).quantiles
        assert quantiles is not None
        assert (np.diff(quantiles, axis=1) >= 0).all()


def test_an_absent_peer_is_hidden_from_the_latent(world: Dataset) -> None:
    """Adversarial masking: what is reconstructed cannot be read off."""
    model = untaught("cointegration+adversarial", world)
    x = torch.from_numpy(world.val.x)
    for absent in range(3):
        other = x.clone()
        other[:, -1, 4 * absent : 4 * absent + 4] = 5.0
        covered = [model._cover(given, absent) for given in (x, other)]
        assert torch.equal(covered[0], covered[1])


def test_scenarios_want_what_they_need(world: Dataset) -> None:
    model = untaught("original", world)
    blind = dataclasses.replace(world.val, hidden=None)
    assert len(model.scenario(blind, "s4").point) == len(world.val)
    with pytest.raises(ValueError, match="hidden inputs"):
        model.scenario(blind, "s1")
    with pytest.raises(ValueError, match="hidden inputs"):
        model.loss(Batch.of(blind, torch.device("cpu")))
    with pytest.raises(ValueError, match="mixed"):
        model.latent(world.val, "s2")


# ---------------------------------------------------------------- learning


def taught(variant: str, data: Dataset, epochs: int) -> BackfillCVAE:
    with reproducible(0):
        model = MODELS["backfill_cvae"].make(VARIANTS[variant], variant).build(data.inputs)
        assert isinstance(model, BackfillCVAE)
        fit(
            model,
            data.train,
            data.val,
            TrainingConfig(epochs=epochs, patience=epochs, learning_rate=3e-3),
            seed=0,
        )
    return model


def slopes(model: BackfillCVAE, data: Dataset, scenario: str = "s4") -> np.ndarray:
    """Regress the forecast on the peers' returns of the missing day."""
    raw = data._test.x[:, -1].astype(float) * data.inputs.scale + data.inputs.mean
    design = np.column_stack([np.ones(len(raw)), raw[:, 4], raw[:, 8]])
    point = model.scenario(data._test, scenario).point
    return np.asarray(np.linalg.lstsq(design, point, rcond=None)[0][1:])


SLOW = [
    pytest.param(variant, marks=pytest.mark.slow)
    for variant in ("per-asset", "learned-prior", "cointegration+sees-peers", "all")
]


@pytest.mark.parametrize("variant", ["sees-peers", *SLOW])
def test_redesigns_recover_the_planted_beta(variant: str, world: Dataset) -> None:
    np.testing.assert_allclose(slopes(taught(variant, world, epochs=25), world), BETA, atol=0.15)


def test_the_original_recipe_does_not(world: Dataset) -> None:
    """The report's finding: the oracle knows the answer, and realistic forecasts ignore the peers."""
    model = taught("original", world, epochs=25)
    truth, test = world._test.truth, world._test

    def rmse(name: str) -> float:
        return float(np.sqrt(np.mean((model.scenario(test, name).point - truth) ** 2)))

    assert rmse("s1") < 0.4 * rmse("s3")
    for name in ("s3", "s4"):
        assert np.abs(slopes(model, world, name)).max() < 0.3
        assert rmse(name) > 0.95 * truth.std()


def test_validation_loss_draws_nothing(world: Dataset) -> None:
    model = untaught("all", world)
    model.eval()
    batch = Batch.of(world.val, torch.device("cpu"))
    assert float(model.loss(batch)) == float(model.loss(batch))
    model.begin_epoch(1)
    early = float(model.loss(batch))
    model.begin_epoch(1000)
    assert early == float(model.loss(batch)), "epochs compare: the full KL weight at all times"


def test_masked_share_and_warm_up_reach_the_loss(world: Dataset) -> None:
    batch = Batch.of(world.val, torch.device("cpu"))
    parts = {}
    for share in (0.0, 0.3, 1.0):
        model = untaught("original", world, masked_share=share)
        model.eval()
        parts[share] = float(model.loss(batch).detach())
    assert parts[0.3] == pytest.approx(0.7 * parts[0.0] + 0.3 * parts[1.0], rel=1e-5)
    losses = []
    for epoch in (1, 100):
        model = untaught("original", world, masked_share=0.0, kl_weight=10.0, kl_warmup=9, dropout=0.0)
        model.begin_epoch(epoch)
        with reproducible(0):
            losses.append(float(model.loss(batch).detach()))
    model = untaught("original", world, masked_share=0.0, kl_weight=0.0, dropout=0.0)
    with reproducible(0):
        free = float(model.loss(batch).detach())
    assert losses[0] - free == pytest.approx(0.1 * (losses[1] - free), rel=1e-4)


# ---------------------------------------------------------------- configs and objectives


def test_parts_that_disagree_are_refused(world: Dataset) -> None:
    with pytest.raises(UserError, match="masked_latent"):
        BackfillCVAEConfig(prior="learned")
    with pytest.raises(UserError, match="use the backfill study"):
        BackfillCVAEConfig().build(dataclasses.replace(world.inputs, features=("a/log_return", "a/vol")))


def test_every_field_declares_its_range() -> None:
    from farm.base.search_space import Choice, Float

    for name, info in BackfillCVAEConfig.model_fields.items():
        metadata = get_args(get_args(info.annotation)[0]) if name == "quantile_weights" else info.metadata
        assert name == "name" or any(isinstance(m, Float | Choice) for m in metadata), name


def test_quantile_weights_count_in_training_alone_and_by_their_ratios(world: Dataset) -> None:
    batch = Batch.of(world.val, torch.device("cpu"))

    def losses(*weights: float) -> tuple[float, float]:
        model = untaught("sees-peers", world, quantile_weights=weights, masked_share=1.0, kl_weight=0.0)
        with reproducible(1):
            taught = float(model.train().loss(batch).detach())
        return taught, float(model.eval().loss(batch).detach())

    equal, doubled, tails, lower = (losses(*w) for w in ((1, 1, 1), (2, 2, 2), (5, 1, 5), (1e3, 1e-3, 1e-3)))
    assert equal == doubled
    assert tails[0] != pytest.approx(equal[0], rel=1e-3)
    assert tails[1] == equal[1] == lower[1], "the validation loss compares between weights"
    upper, middle = losses(1e-3, 1e-3, 1e3)[0], losses(1e-3, 1e3, 1e-3)[0]
    assert (lower[0] + middle + upper) / 3 == pytest.approx(equal[0], rel=1e-4), (
        "the mean of the three levels"
    )


def test_gaussian_kl_against_torch() -> None:
    torch.manual_seed(0)
    values = [torch.randn(40, 5) for _ in range(4)]
    q, p = (torch.distributions.Normal(m, (0.5 * v).exp()) for m, v in (values[:2], values[2:]))
    torch.testing.assert_close(gaussian_kl(*values), torch.distributions.kl_divergence(q, p))


def test_free_bits_are_free() -> None:
    kl = torch.tensor([[0.01, 2.0, 0.3], [0.03, 4.0, 0.1]], requires_grad=True)
    penalty = kl_penalty(kl, free_bits=0.1)
    assert float(penalty.detach()) == pytest.approx(0.1 + 3.0 + 0.2)
    penalty.backward()
    assert kl.grad is not None
    assert (kl.grad[:, 0] == 0).all()
    assert (kl.grad[:, 1:] > 0).all()


def test_warm_up_rises_to_one() -> None:
    assert [warm_up(epoch, 0) for epoch in (1, 2)] == [1.0, 1.0]
    assert [warm_up(epoch, 3) for epoch in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
