"""What models must hold to on back-filling windows, of a market whose right answer is known."""

import dataclasses

import numpy as np
import pytest

import farm.baselines
import farm.models  # noqa: F401
from farm.base.model import MODELS, Estimator, Model
from farm.base.types import Dataset
from farm.models.network import Network
from farm.training.fit import TrainingConfig, fit, reproducible
from tests.backfill_world import BETA, CALM, CONTEXT, HIDDEN, NOISE, WILD, market_dataset

TRAINING = TrainingConfig(epochs=40, patience=8, learning_rate=2e-3)
# How far the forecast's slope on a peer may be from the truth, and whether the width follows the day's
# noise. Least squares has a standard error of 0.02 here; trees step, and shrink to the middle. A forest
# splits where means differ, not spreads, so its widths follow only in part.
ALTERNATIVES = {
    "peer_regression": (0.08, False),
    "garch_regression": (0.08, False),
    "linear_quantile": (0.08, True),
    "gradient_boosted_quantiles": (0.2, True),
    "quantile_forest": (0.2, False),
    "gaussian_process": (0.12, False),
    "quantile_network": (0.15, True),
    "cross_asset_transformer": (0.15, True),
}
_CACHE: dict[str, Model] = {}


def taught(name: str, data: Dataset, epochs: int = 40) -> Model:
    with reproducible(0):
        model = MODELS[name].make({"name": name}, name).build(data.inputs)
        if isinstance(model, Network):
            # Of the others nothing is asked that more training would change.
            training = TRAINING.model_copy(update={"epochs": epochs if name in ALTERNATIVES else 2})
            fit(model, data.train, data.val, training, 0)
        else:
            assert isinstance(model, Estimator)
            model.fit(data.train, data.val)
    return model


@pytest.fixture(scope="module")
def world() -> tuple[Dataset, np.ndarray]:
    return market_dataset(3600)


@pytest.fixture
def model(name: str, world: tuple[Dataset, np.ndarray]) -> Model:
    if name not in _CACHE:
        _CACHE[name] = taught(name, world[0])
    return _CACHE[name]


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_recovers_the_planted_beta(name, model, world):
    data, _ = world
    windows = data._test
    raw = windows.x[:, -1].astype(float) * data.inputs.scale + data.inputs.mean
    peers = np.column_stack([np.ones(len(windows)), raw[:, 4], raw[:, 8]])
    slopes = np.linalg.lstsq(peers, model.predict(windows).point, rcond=None)[0][1:]
    np.testing.assert_allclose(slopes, BETA, atol=ALTERNATIVES[name][0])


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_comes_close_to_the_least_possible_error(name, model, world):
    data, sigma = world
    windows = data._test
    least = np.sqrt(np.mean(sigma[windows.position] ** 2))
    rmse = np.sqrt(np.mean((model.predict(windows).point - windows.truth) ** 2))
    assert 0.9 * least < rmse < 1.2 * least


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_intervals_hold_what_they_say(name, model, world):
    data, sigma = world
    windows = data._test
    forecast = model.predict(windows)
    assert forecast.levels == (0.05, 0.5, 0.95)
    outside = (windows.truth < forecast.quantiles[:, 0]) | (windows.truth > forecast.quantiles[:, 2])
    width = forecast.quantiles[:, 2] - forecast.quantiles[:, 0]
    wild = sigma[windows.position] > NOISE
    follows = ALTERNATIVES[name][1]
    for days in [slice(None), wild, ~wild] if follows else [slice(None)]:
        n = len(outside[days])
        # Four standard errors, and as much again as a block learnt from a few thousand days may miss.
        assert abs(outside[days].mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / n) + 0.02
    if follows:
        assert 0.6 * WILD / CALM < width[wild].mean() / width[~wild].mean() < 1.4 * WILD / CALM


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].study in ("", "backfill")])
def test_the_hidden_truth_changes_no_forecast(name, model, world):
    windows = world[0].calibration
    assert windows is not None
    assert not windows.x[:, -1, :HIDDEN].any()
    lied = dataclasses.replace(
        windows,
        hidden=np.full_like(windows.hidden, 9.0),
        y=np.full_like(windows.y, 9.0),
        series=np.concatenate([windows.series[: windows.position[0]], np.full(len(windows), 9.0)]),
    )
    honest, blind = model.predict(windows), model.predict(lied)
    # The first sample's series is untouched before its target; later samples may read what came before.
    assert honest.point[0] == blind.point[0]
    only_hidden = model.predict(dataclasses.replace(windows, hidden=lied.hidden, y=lied.y))
    np.testing.assert_array_equal(only_hidden.point, honest.point)
    if honest.quantiles is not None:
        np.testing.assert_array_equal(only_hidden.quantiles, honest.quantiles)
        np.testing.assert_array_equal(blind.quantiles[0], honest.quantiles[0])


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_same_fit_and_stored_model_forecast_alike_to_the_bit(name, model, world):
    data, _ = world
    if isinstance(model, Network):  # two fits, but short ones
        model = taught(name, data, epochs=3)
    again = taught(name, data, epochs=3)
    stored = MODELS[name].make({"name": name}, name).build(data.inputs)
    stored.load_state({key: np.array(value) for key, value in model.state().items()})
    expected = model.predict(data._test)
    for other in (again, stored):
        forecast = other.predict(data._test)
        np.testing.assert_array_equal(forecast.point, expected.point)
        np.testing.assert_array_equal(forecast.quantiles, expected.quantiles)


def test_the_world_hides_what_it_should(world):
    data, _ = world
    for block in (data.train, data.val, data.calibration, data._test):
        scaled = (block.truth - data.inputs.mean[0]) / data.inputs.scale[0]
        np.testing.assert_allclose(block.hidden[:, 0], scaled, rtol=1e-5, atol=1e-6)
        assert block.x.shape[1:] == (CONTEXT + 1, 12)
