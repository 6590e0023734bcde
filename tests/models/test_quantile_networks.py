import dataclasses

import numpy as np
import pytest
import torch

import farm.models  # noqa: F401  registers the models
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.models.cross_asset_transformer import columns_by_asset
from farm.models.network import Batch
from tests.backfill_world import FEATURES, market_dataset

SETTINGS = [
    ("quantile_network", {"encoder": "mlp"}),
    ("quantile_network", {"encoder": "lstm"}),
    ("cross_asset_transformer", {}),
]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    return market_dataset(400)[0]


def built(name, values, inputs, seed=0):
    torch.manual_seed(seed)
    return MODELS[name].make({"name": name, **values}, name).build(inputs).eval()


@pytest.mark.parametrize(("name", "values"), SETTINGS)
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_quantiles_never_cross_even_untaught_and_far_from_home(name, values, size, data):
    windows = dataclasses.replace(data._test, x=(size * data._test.x).astype(np.float32))
    forecast = built(name, values, data.inputs).predict(windows)  # a crossing raises
    assert (np.diff(forecast.quantiles, axis=1) >= 0).all()
    np.testing.assert_array_equal(forecast.point, forecast.quantiles[:, 1])


@pytest.mark.parametrize(("name", "values"), SETTINGS)
def test_the_unit_of_the_target_changes_the_forecast_alone(name, values, data):
    """In percent, the loss is the same and the forecast is a hundred times as large."""
    percent = dataclasses.replace(data.inputs, mean=100 * data.inputs.mean, scale=100 * data.inputs.scale)
    windows = data.val
    loss = built(name, values, data.inputs).loss(Batch.of(windows, CPU))
    network = built(name, values, percent)
    other = network.loss(Batch.of(dataclasses.replace(windows, y=100 * windows.y), CPU))
    assert other.item() == pytest.approx(loss.item(), rel=1e-5)
    expected = 100 * built(name, values, data.inputs).predict(windows).quantiles
    np.testing.assert_allclose(network.predict(windows).quantiles, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "values"), SETTINGS)
def test_every_visible_day_of_every_asset_is_read(name, values, data):
    network = built(name, values, data.inputs)
    x = torch.from_numpy(data.val.x[:4].copy()).requires_grad_()
    network(x).sum().backward()
    assert (x.grad != 0).any(dim=0).all()


def test_columns_are_grouped_by_asset():
    assert columns_by_asset(FEATURES) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert columns_by_asset(("log_return", "roll_vol")) == [[0, 1]]
    assert columns_by_asset(("A/x", "B/x", "A/y")) == [[0, 2], [1]]


def test_the_target_attends_to_its_peers(data):
    """With its peers' tokens out of the keys, the forecast no longer moves with the peers."""
    network = built("cross_asset_transformer", {}, data.inputs)
    x = torch.from_numpy(data.val.x[:8].copy())
    moved = x.clone()
    moved[:, :, 4:] += 1.0
    assert not torch.allclose(network(moved), network(x))
    with torch.no_grad():
        for layer in network.layers:
            layer.attention.out_proj.weight.zero_()
    torch.testing.assert_close(network(moved), network(x), rtol=0, atol=0)


def test_heads_must_divide_the_width(data):
    with pytest.raises(UserError, match="got width 10 with 4 heads, expected a multiple of heads"):
        built("cross_asset_transformer", {"width": 10}, data.inputs)
