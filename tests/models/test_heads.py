import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

import farm.models  # noqa: F401  registers the models
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.types import RISK_LEVELS, Inputs, Windows
from farm.models.heads import Ensemble
from farm.models.network import Batch
from farm.training.fit import TrainingConfig, fit, reproducible

FREEDOM, CALM, WILD, MEAN = 4.0, 0.005, 0.02, 0.002
INPUTS = Inputs(("log_return", "wild"), 2, np.array([MEAN, 0.0]), np.array([0.015, 1.0]))
SMALL = {"lstm": {"hidden_size": 8, "num_layers": 1}, "transformer": {"width": 8, "heads": 2, "dropout": 0.0}}
TRAINING = TrainingConfig(epochs=40, patience=6, learning_rate=1e-2, batch_size=128)
HEADS = ("quantile", "gaussian", "student_t")


def world(n, seed, law="t"):
    """The second feature says whether the day is calm or wild; a return is Student t around MEAN."""
    rng = np.random.default_rng(seed)
    wild = rng.random(n) < 0.5
    error = rng.standard_t(FREEDOM, n) if law == "t" else rng.normal(size=n)
    y = MEAN + np.where(wild, WILD, CALM) * error
    x = np.zeros((n, 2, 2), np.float32)
    x[:, :, 0] = rng.normal(size=(n, 2))
    x[:, 1, 1] = wild
    days = np.arange(n)
    windows = Windows(x, y.astype(np.float32), np.datetime64("2000-01-01") + days, INPUTS.features, y, days)
    return windows, wild


def built(name, **values):
    return MODELS[name].make({"name": name, **SMALL[name], **values}, name).build(INPUTS)


@pytest.fixture(scope="module")
def taught():
    cache = {}

    def teach(name, head):
        if (name, head) not in cache:
            law = "normal" if head == "gaussian" else "t"
            with reproducible(0):
                model = built(name, head=head)
                fit(model, world(3000, 0, law)[0], world(1500, 1, law)[0], TRAINING, 0)
            cache[name, head] = model, law
        return cache[name, head]

    return teach


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("head", HEADS)
def test_a_known_distribution_is_recovered(name, head, taught):
    model, law = taught(name, head)
    windows, wild = world(4000, 2, law)
    forecast = model.predict(windows)
    known = stats.norm if law == "normal" else stats.t(FREEDOM)
    for days, scale in ((wild, WILD), (~wild, CALM)):
        expected = MEAN + scale * known.ppf(RISK_LEVELS)
        found = forecast.quantiles[days].mean(axis=0)
        # The 1 % quantiles of 1500 days have a standard error of 0.3 of the scale.
        tolerance = np.where(np.abs(np.array(RISK_LEVELS) - 0.5) > 0.46, 1.0, 0.4)
        assert (np.abs(found - expected) < tolerance * scale).all(), (found - expected) / scale
        for q, level in enumerate(RISK_LEVELS):
            below = np.mean(windows.truth[days] < forecast.quantiles[days, q])
            assert abs(below - level) < 4 * np.sqrt(level * (1 - level) / 1500) + 0.03


@pytest.mark.parametrize("name", SMALL)
def test_scale_and_freedom_are_recovered(name, taught):
    windows, wild = world(2000, 3)
    density = taught(name, "student_t")[0].predict(windows).density
    assert np.median(density.scale[wild]) == pytest.approx(WILD, rel=0.15)
    assert np.median(density.scale[~wild]) == pytest.approx(CALM, rel=0.15)
    assert 2.8 < np.median(density.freedom) < 7
    assert np.isinf(taught(name, "gaussian")[0].predict(windows).density.freedom).all()


@pytest.mark.parametrize("head", HEADS)
def test_the_unit_of_the_target_changes_the_forecast_alone(head):
    windows, _ = world(50, 4)
    percent = Inputs(INPUTS.features, 2, INPUTS.mean * [100, 1], INPUTS.scale * [100, 1])
    config = MODELS["lstm"].make({"name": "lstm", **SMALL["lstm"], "head": head}, "lstm")
    pair = []
    for inputs, unit in ((INPUTS, 1.0), (percent, 100.0)):
        torch.manual_seed(0)
        model = config.build(inputs).eval()
        loss = model.loss(Batch.of(dataclasses.replace(windows, y=unit * windows.y), torch.device("cpu")))
        pair.append((loss.item(), model.predict(windows).quantiles / unit))
    assert pair[0][0] == pytest.approx(pair[1][0], rel=1e-4)
    np.testing.assert_allclose(pair[1][1], pair[0][1], rtol=1e-4, atol=1e-8)


def test_heavier_tails_in_the_loss_move_the_quantile_head_alone():
    windows, _ = world(50, 5)
    batch = Batch.of(windows, torch.device("cpu"))
    losses = []
    for weight in (1.0, 4.0):
        torch.manual_seed(0)
        losses.append(built("lstm", head="quantile", tail_weight=weight).loss(batch).item())
    assert losses[0] != losses[1]
    with pytest.raises(
        UserError, match="got tail_weight 4 with the head gaussian, expected the head quantile"
    ):
        built("lstm", head="gaussian", tail_weight=4.0)


DROPPING = {"num_layers": 2, "dropout": 0.5, "head": "gaussian"}


def test_passes_differ_and_are_the_same_for_every_sample():
    windows, _ = world(30, 6)
    torch.manual_seed(1)
    once = built("lstm", **DROPPING)
    many = built("lstm", **DROPPING, passes=8)
    many.load_state(once.state())
    before = torch.get_rng_state()
    forecast = many.predict(windows)
    assert torch.equal(torch.get_rng_state(), before)
    assert forecast.density.location.shape == (30, 8)
    assert (np.ptp(forecast.density.location, axis=1) > 0).all()
    np.testing.assert_array_equal(many.predict(windows.take(slice(7, 9))).quantiles, forecast.quantiles[7:9])
    assert once.predict(windows).density.location.shape == (30, 1)
    mean = many.predict(windows).density.location.mean(axis=1)
    assert np.abs(mean - once.predict(windows).point).max() < 0.2 * INPUTS.scale[0]


def test_passes_without_dropout_are_refused():
    for values in ({"num_layers": 1, "dropout": 0.5}, {"num_layers": 2, "dropout": 0.0}):
        with pytest.raises(UserError, match="4 passes of a network without dropout"):
            built("lstm", **values, passes=4)


@pytest.mark.parametrize("head", ["point", *HEADS])
def test_an_ensemble_is_its_members(head):
    windows, _ = world(20, 7)
    torch.manual_seed(0)
    ensemble = built("transformer", head=head, members=3)
    assert isinstance(ensemble, Ensemble)
    forecast = ensemble.predict(windows)
    alone = [member.predict(windows) for member in ensemble.members]
    assert len({float(one.point[0]) for one in alone}) == 1 or head == "point"
    points = np.mean([one.point for one in alone], axis=0)
    np.testing.assert_allclose(forecast.point, points, rtol=1e-5, atol=1e-9)
    if head == "quantile":
        expected = np.mean([one.quantiles for one in alone], axis=0)
        np.testing.assert_allclose(forecast.quantiles, expected, rtol=1e-5, atol=1e-9)
    if head in ("gaussian", "student_t"):
        y = windows.truth
        expected = np.mean([one.density.cdf(y) for one in alone], axis=0)
        np.testing.assert_allclose(forecast.density.cdf(y), expected, rtol=1e-6)
    other = built("transformer", head=head, members=3)
    other.load_state({key: np.array(value) for key, value in ensemble.state().items()})
    np.testing.assert_array_equal(other.predict(windows).point, forecast.point)
    assert len(set(ensemble.seeds(0))) == 3
    assert not set(ensemble.seeds(0)) & set(ensemble.seeds(1))


def test_a_head_needs_the_targets_own_return():
    blind = Inputs(("roll_vol", "wild"), 2, np.zeros(2), np.ones(2))
    config = MODELS["lstm"].make({"name": "lstm", "head": "gaussian"}, "lstm")
    with pytest.raises(UserError, match=r"got features roll_vol, wild, expected a 'log_return'"):
        config.build(blind)
    MODELS["lstm"].make({"name": "lstm"}, "lstm").build(blind)  # a point needs no unit
