"""What every model and baseline must hold to; one added to the registry is tested without a line here."""

import dataclasses
import math

import numpy as np
import pytest

import farm.baselines
import farm.models  # noqa: F401
from farm.base.model import MODELS, Estimator, Model
from farm.base.types import Dataset, Forecast, Windows
from farm.data.panel import Bars, Panel
from farm.data.splits import Calibrated, Chronological
from farm.models.network import Network
from farm.models.pretrained import PretrainedConfig
from farm.studies.backfill import BackfillStudy
from farm.studies.forecast import ForecastStudy
from farm.studies.study import StudyConfig
from farm.training.fit import TrainingConfig, fit, reproducible
from tests.conftest import NOISE, PHI

TRAINING = TrainingConfig(epochs=60, patience=60, learning_rate=3e-3, batch_size=64)
BRIEF = TRAINING.model_copy(update={"epochs": 4})
SMALL = {
    "lstm": {"hidden_size": 16, "dropout": 0.0},
    "transformer": {"width": 16, "heads": 2, "dropout": 0.0},
    "quantile_network": {"hidden_size": 16, "dropout": 0.0},
    "cross_asset_transformer": {"width": 16, "heads": 2, "dropout": 0.0},
    # Always masked: the row `original` is known not to learn the answer.
    "backfill_cvae": {
        "hidden_size": 16,
        "num_layers": 1,
        "dropout": 0.0,
        "reconstruct": "day",
        "masked_latent": "current",
        "mask_fill": "flag",
        "masked_share": 1.0,
    },
}
SD = NOISE / math.sqrt(1 - PHI**2)  # of an AR(1)
# RMSE that a model must reach where tomorrow is 0.9 of today plus noise; the rest must come within
# a quarter of the noise.
KNOWN = {
    "zero": SD,
    "historical_mean": SD,
    "historical_simulation": SD,
    "persistence": SD * math.sqrt(2 * (1 - PHI)),
}

# A model of surfaces has days, not windows, and is taught in phases: tests/models/test_surface_cvae.py.
# A pretrained one is not taught at all: tests/models/test_chronos.py.
pytestmark = pytest.mark.parametrize(
    "name",
    [
        name
        for name in MODELS
        if MODELS[name].study not in ("surface", "generate")
        and not issubclass(MODELS[name], PretrainedConfig)
    ],
)


def taught(
    name: str, data: Dataset, seed: int = 0, training: TrainingConfig = TRAINING, **fields: object
) -> Model:
    with reproducible(seed):
        model = MODELS[name].make({"name": name, **SMALL.get(name, {}), **fields}, name).build(data.inputs)
        if isinstance(model, Network):
            fit(model, data.train, data.val, training, seed)
        else:
            assert isinstance(model, Estimator)
            model.fit(data.train, data.val)
    return model


_CACHE: dict[str, Model] = {}


@pytest.fixture
def study(name: str) -> StudyConfig:
    """Give the study whose windows the model reads; the past tells the answer in either."""
    if MODELS[name].study == "backfill":
        return BackfillStudy(ticker="AR", peers=("MKT",), split=Calibrated(train=0.6, val=0.15))
    return ForecastStudy(
        ticker="AR", market="MKT", features="feat", lookback=5, split=Chronological(train=0.6, val=0.2)
    )


@pytest.fixture
def dataset(ar1_panel: Panel, study: StudyConfig) -> Dataset:
    return study.dataset(ar1_panel)


@pytest.fixture
def model(name: str, ar1_panel: Panel, study: StudyConfig) -> Model:
    if name not in _CACHE:
        _CACHE[name] = taught(name, study.dataset(ar1_panel))
    return _CACHE[name]


def assert_same(one: Forecast, other: Forecast, rows: slice = slice(None)) -> None:
    np.testing.assert_array_equal(one.point[rows], other.point[rows])
    if one.quantiles is not None:
        assert other.quantiles is not None
        np.testing.assert_array_equal(one.quantiles[rows], other.quantiles[rows])


def test_learns_a_known_answer(name: str, model: Model, dataset: Dataset) -> None:
    test = dataset.open_test()
    forecast = model.predict(test)
    rmse = float(np.sqrt(np.mean((forecast.point - test.y) ** 2)))
    if name in KNOWN:
        assert rmse == pytest.approx(KNOWN[name], rel=0.25)
    else:
        assert rmse < 1.25 * NOISE


def test_forecast_has_the_shape_of_the_block(name: str, model: Model, dataset: Dataset) -> None:
    forecast = model.predict(dataset.val)
    assert forecast.point.shape == (len(dataset.val),)
    assert forecast.levels == MODELS[name].quantile_levels


def test_same_seed_same_forecast(name: str, model: Model, dataset: Dataset) -> None:
    one, other = (taught(name, dataset, training=BRIEF).predict(dataset.val) for _ in range(2))
    assert_same(one, other)


def test_state_round_trip(name: str, model: Model, dataset: Dataset) -> None:
    with reproducible(99):
        other = MODELS[name].make({"name": name, **SMALL.get(name, {})}, name).build(dataset.inputs)
    state = {key: np.array(value) for key, value in model.state().items()}
    assert all(isinstance(value, np.ndarray) and value.dtype != object for value in state.values())
    other.load_state(state)
    assert_same(other.predict(dataset.val), model.predict(dataset.val))


def with_bars(panel: Panel, ticker: str, values: np.ndarray) -> Panel:
    return Panel({**panel.bars, ticker: Bars(panel.bars[ticker].dates, values)}, panel.source)


def test_changing_the_future_never_changes_a_past_forecast(
    name: str, model: Model, ar1_panel: Panel, study: StudyConfig
) -> None:
    before = study.dataset(ar1_panel)
    windows = before.open_test()
    cut = 60  # the first test sample whose own day is changed
    days = ar1_panel.bars["AR"].dates
    moves = np.exp(np.random.default_rng(3).normal(0.05, 0.1, len(days)))
    panel = ar1_panel
    for ticker in ("AR", "MKT"):
        # Back-filling knows the peers' bars of the target's own day.
        known = windows.hidden is not None and ticker == "MKT"
        changed = days > windows.times[cut] if known else days >= windows.times[cut]
        factor = np.where(changed, moves, 1.0)
        values = panel.bars[ticker].values.copy()
        values[:, :4] *= factor[:, None]
        values[changed, 4] *= 3
        panel = with_bars(panel, ticker, values)
    after = study.dataset(panel).open_test()
    assert not np.array_equal(after.y, windows.y)
    one, other = model.predict(windows), model.predict(after)
    assert_same(one, other, slice(0, cut + 1))
    if name != "zero":  # and the test would notice: the forecast after the change does change
        assert one.point[cut + 1] != other.point[cut + 1]


def test_a_forecast_ignores_the_targets_it_is_handed(name: str, model: Model, dataset: Dataset) -> None:
    honest = dataset.val
    hidden = None if honest.hidden is None else np.full_like(honest.hidden, 5.0)
    blind = dataclasses.replace(honest, y=np.full_like(honest.y, 0.5), hidden=hidden)
    assert_same(model.predict(blind), model.predict(honest))


def test_a_forecast_does_not_depend_on_the_samples_beside_it(
    name: str, model: Model, dataset: Dataset
) -> None:
    whole = model.predict(dataset.val)
    part = model.predict(dataset.val.take(slice(10, 30)))
    np.testing.assert_allclose(part.point, whole.point[10:30], rtol=1e-5, atol=1e-9)


def test_networks_overfit_one_batch(name: str, dataset: Dataset) -> None:
    if not MODELS[name].trained:
        pytest.skip("fits itself; it has no training loss")
    few: Windows = dataset.train.take(slice(0, 16))
    noise = np.random.default_rng(1).normal(0, 1, 16).astype(np.float32)
    hidden = None if few.hidden is None else np.column_stack([noise, few.hidden[:, 1:]])
    few = dataclasses.replace(few, y=noise, hidden=hidden)
    plain = dataclasses.replace(  # the unit of the noise is 1, also to a network that scales its target
        dataset.inputs, mean=np.zeros_like(dataset.inputs.mean), scale=np.ones_like(dataset.inputs.scale)
    )
    training = TrainingConfig(epochs=400, patience=400, learning_rate=1e-2, batch_size=16)
    with reproducible(0):
        calm = {"dropout": 0.0} if "dropout" in MODELS[name].model_fields else {}
        network = MODELS[name].make({"name": name, **SMALL.get(name, {}), **calm}, name).build(plain)
        assert isinstance(network, Network)
        fit(network, few, few, training, seed=0)
        point = network.predict(few).point
    assert np.mean((point - noise) ** 2) < 0.02 * float(np.var(noise))
