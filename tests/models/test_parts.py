import numpy as np
import pytest
import torch

from farm.base.types import Forecast
from farm.evaluation.intervals import pinball
from farm.models.layers import LSTM, OrderedQuantiles
from farm.models.objectives import pinball_loss

LEVELS = (0.05, 0.5, 0.95)


def test_pinball_loss_is_the_metric():
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.normal(size=(50, 3)), axis=1)
    y = rng.normal(size=50)
    expected = pinball(Forecast(quantiles[:, 1], quantiles, LEVELS), y)
    loss = pinball_loss(torch.from_numpy(quantiles), torch.from_numpy(y), LEVELS)
    assert float(loss) == pytest.approx(expected, rel=1e-6)  # the metric holds its levels in double precision


def test_weights_count_by_their_ratios():
    rng = np.random.default_rng(1)
    quantiles, y = torch.from_numpy(rng.normal(size=(20, 3))), torch.from_numpy(rng.normal(size=20))
    alone = [float(pinball_loss(quantiles[:, q : q + 1], y, LEVELS[q : q + 1])) for q in range(3)]
    loss = float(pinball_loss(quantiles, y, LEVELS, (2.0, 4.0, 6.0)))
    assert loss == pytest.approx((alone[0] + 2 * alone[1] + 3 * alone[2]) / 6, rel=1e-6)
    assert float(pinball_loss(quantiles, y, LEVELS, (7.0, 7.0, 7.0))) == pytest.approx(
        sum(alone) / 3, rel=1e-6
    )


@pytest.mark.parametrize("levels", [(0.5,), LEVELS, (0.01, 0.1, 0.45, 0.9), (0.6, 0.7)])
def test_quantiles_are_ordered_whatever_comes_in(levels):
    torch.manual_seed(0)
    head = OrderedQuantiles(8, levels)
    for size in (1e-3, 1.0, 1e4):
        out = head(size * torch.randn(500, 3, 8))
        assert out.shape == (500, 3, len(levels))
        assert (out.diff(dim=-1) >= 0).all()


def test_every_quantile_can_be_moved_on_its_own_side():
    """The middle output shifts all; an outer one moves only what lies beyond it."""
    head = OrderedQuantiles(2, (0.05, 0.25, 0.5, 0.75, 0.95))
    x = torch.randn(1, 2)
    before = head(x)
    moved = []
    for output in range(5):
        with torch.no_grad():
            head.linear.bias[output] += 1
            moved.append([int(i) for i in torch.nonzero((head(x) - before)[0].abs() > 1e-6)])
            head.linear.bias[output] -= 1
    assert moved == [[0], [0, 1], [0, 1, 2, 3, 4], [3, 4], [4]]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("taught", [False, True])
def test_an_lstm_taken_layer_by_layer_is_the_same_lstm(given: bool, taught: bool):
    """A GPU takes that path while it is taught."""
    torch.manual_seed(0)
    lstm = LSTM(5, 7, 3, dropout=0.4).train(taught)
    x = torch.randn(4, 6, 5)
    state = (torch.randn(3, 4, 7), torch.randn(3, 4, 7)) if given else None
    results = []
    for way in (lstm.forward, lstm.layer_by_layer):
        torch.manual_seed(1)
        lstm.zero_grad()
        out, ends = way(x, state)
        (out.square().sum() + ends[1].sum()).backward()
        results.append([out, *ends, *(weight.grad for weight in lstm.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
