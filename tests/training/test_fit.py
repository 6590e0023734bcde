import contextlib
import copy
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from farm.base.types import Dataset, Forecast, Windows
from farm.models.network import Batch, ForecastNetwork, on_device
from farm.models.recurrent import LSTMConfig
from farm.training.adam import Adam
from farm.training.fit import MOST_PARTS, Epoch, TrainingConfig, _precision, fit, reproducible


class Slope(ForecastNetwork):
    """y = w * x: its whole state is one number, so that every epoch's state can be told apart."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([start]))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1, 0] * self.w

    def loss(self, batch: Batch) -> Tensor:
        return nn.functional.mse_loss(self(batch.x), batch.y)

    def forecast(self, x: Tensor) -> Forecast:
        return Forecast(point=self(x).numpy())


def block(x: np.ndarray, slope: float) -> Windows:
    n = len(x)
    y = (slope * x).astype(np.float32)
    days = np.datetime64("2020-01-01") + np.arange(n)
    return Windows(x.astype(np.float32).reshape(n, 1, 1), y, days, ("x",), y.astype(float), np.arange(n))


def test_the_best_epoch_is_restored_and_not_the_last() -> None:
    # Training pulls w towards 1 while validation wants 0.3: its loss falls, then rises.
    x = np.random.default_rng(0).normal(size=64)
    train, val = block(x, 1.0), block(x, 0.3)
    seen: list[tuple[float, float]] = []
    network = Slope()
    history = fit(
        network,
        train,
        val,
        TrainingConfig(epochs=200, patience=12, learning_rate=0.05, batch_size=64),
        seed=0,
        report=lambda epoch: seen.append((epoch.val_loss, float(network.w.detach()))),
    )
    best = min(range(len(seen)), key=lambda i: seen[i][0])
    assert history.best_epoch == best + 1
    assert float(network.w.detach()) == seen[best][1]
    assert float(network.w.detach()) == pytest.approx(0.3, abs=0.06)
    assert seen[-1][1] > 0.4, "training went on past the best epoch, so restoring it did something"
    assert len(history.epochs) == history.best_epoch + 12, "patience counts epochs without a better loss"


def test_the_gradient_is_clipped() -> None:
    # With plain x of 1e6 the raw gradient is astronomic; Adam's first step hides that, so look at .grad.
    x = np.full(8, 1e3)
    network = Slope(start=0.0)
    norms = []
    network.w.register_post_accumulate_grad_hook(lambda p: norms.append(float(p.grad.norm())))
    clipped = []
    original = Adam.step

    def step(self, *args, **kwargs):
        clipped.append(float(network.w.grad.norm()))
        return original(self, *args, **kwargs)

    Adam.step = step
    try:
        fit(network, block(x, 1.0), block(x, 1.0), TrainingConfig(epochs=1, gradient_clip=0.5), seed=0)
    finally:
        Adam.step = original
    assert norms[0] > 1e5
    assert clipped[0] == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("clip", [1e-2, 1e6])
def test_steps_are_those_of_torch_to_the_bit(clip: float) -> None:
    """So are its moments and their names, which checkpoints hold."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 1).double()]
    networks = [nn.ModuleList(layers), copy.deepcopy(nn.ModuleList(layers))]
    ours = Adam(networks[0].parameters(), 0.01)
    theirs = torch.optim.Adam(networks[1].parameters(), lr=0.01, fused=True)
    for number in range(20):
        x = torch.randn(16, 5)
        for network in networks:
            network[1].requires_grad_(number > 5)  # what is frozen at first has a count of its own
            network.zero_grad()
            first, norm, last = network
            last(torch.tanh(norm(first(x))).double()).square().mean().backward()
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        ours.step()
        theirs.step()
        for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
            assert torch.equal(one, other)
    expected = theirs.state_dict()["state"]
    assert set(ours.moments) == set(expected)
    for index, moments in ours.moments.items():
        assert moments.keys() == expected[index].keys()
        assert all(torch.equal(value, expected[index][name]) for name, value in moments.items())
        assert all(value.dtype == expected[index][name].dtype for name, value in moments.items())


def test_a_diverging_loss_says_where() -> None:
    x = np.random.default_rng(0).normal(size=64) * 1e30
    with pytest.raises(FloatingPointError, match=r"epoch 1, learning rate 0\.5"):
        fit(Slope(1.0), block(x, -1.0), block(x, -1.0), TrainingConfig(learning_rate=0.5), seed=0)


def test_seeds_decide_everything_and_threads_nothing(dataset: Dataset) -> None:
    def weights(seed: int, threads: int) -> dict[str, np.ndarray]:
        torch.set_num_threads(threads)
        torch.manual_seed(int(np.random.default_rng().integers(1000)))  # what ran before must not matter
        with reproducible(seed):
            network = LSTMConfig(hidden_size=8, dropout=0.5).build(dataset.inputs)
            fit(network, dataset.train, dataset.val, TrainingConfig(epochs=2), seed)
        return network.state()

    before = torch.get_num_threads()
    try:
        one, same, other = weights(3, 1), weights(3, 2), weights(4, 1)
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_reproducible_leaves_the_outside_as_it_was() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    threads = torch.get_num_threads()
    with reproducible(5):
        torch.rand(100)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_libraries_that_come_with_the_first_fit_are_held_to_one_thread_too() -> None:
    """Torch's compiler, a second of processor time in each worker, does not come with it."""
    program = (
        "import farm.experiment\nfrom farm.training.fit import reproducible\n"
        "with reproducible(0):\n"
        "    import quantile_forest, scipy.optimize, sklearn.linear_model, statsmodels.api\n"
        "    from threadpoolctl import threadpool_info\n"
        "    print([pool['num_threads'] for pool in threadpool_info()])\n"
        "print([pool['num_threads'] for pool in threadpool_info()])\n"
        "import sys\nfrom farm.base.types import Inputs\n"
        "from tests.training.test_fit import LSTMConfig, TrainingConfig, block, fit, np\n"
        "blocks, inputs = [block(np.arange(64.0), 1.0)] * 2, Inputs(('x',), 1, np.zeros(1), np.ones(1))\n"
        "fit(LSTMConfig(hidden_size=4).build(inputs), *blocks, TrainingConfig(epochs=2), 0)\n"
        "print([name for name in sys.modules if name.startswith('torch._dynamo')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    inside, outside, compiler = (json.loads(line) for line in said)
    assert len(inside) >= 4
    assert set(inside) == {1}
    assert 2 in outside, "or the test sees nothing"
    assert compiler == []


def test_one_pass_is_the_loop_it_replaces(dataset: Dataset) -> None:
    """Index batching gives the numbers of a plain loop over copied batches."""
    config = TrainingConfig(epochs=2, batch_size=64)
    with reproducible(1):
        network = LSTMConfig(hidden_size=8, dropout=0.0).build(dataset.inputs)
        twin = copy.deepcopy(network)
        history = fit(network, dataset.train, dataset.val, config, seed=1)
        order = torch.Generator().manual_seed(1)
        optimizer = torch.optim.Adam(twin.parameters(), lr=config.learning_rate, fused=True)
        x, y = np.array(dataset.train.x), np.array(dataset.train.y)
        for epoch in history.epochs:
            twin.train()
            total = 0.0
            rows = torch.randperm(len(x), generator=order).numpy()
            for start in range(0, len(x), 64):
                batch = rows[start : start + 64]
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(
                    twin(torch.tensor(x[batch])).squeeze(-1), torch.tensor(y[batch])
                )
                loss.backward()
                nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
                optimizer.step()
                total += loss.item() * len(batch)
            assert total / len(x) == pytest.approx(epoch.train_loss, rel=1e-5)
            twin.eval()
            with torch.no_grad():
                val = float(twin.loss(Batch.of(dataset.val, torch.device("cpu"))))
            assert val == pytest.approx(epoch.val_loss, rel=1e-6)


def test_reports_each_epoch_once(dataset: Dataset) -> None:
    seen: list[Epoch] = []
    with reproducible(0):
        network = LSTMConfig(hidden_size=4).build(dataset.inputs)
        history = fit(network, dataset.train, dataset.val, TrainingConfig(epochs=3), 0, seen.append)
    assert tuple(seen) == history.epochs
    assert [epoch.epoch for epoch in seen] == [1, 2, 3]
    assert all(math.isfinite(epoch.train_loss) and epoch.seconds > 0 for epoch in seen)


class Crowded(Slope):
    """A network on a device that has room for so many samples at a time."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.refused = 0

    def loss(self, batch: Batch) -> Tensor:
        if self.training and batch.size > self.room:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError("no room")
        return super().loss(batch)


def test_a_batch_without_room_is_halved_and_the_run_says_so() -> None:
    x = np.random.default_rng(0).normal(size=256)
    train, val = block(x, 1.0), block(x[:32], 1.0)
    config = TrainingConfig(epochs=3, learning_rate=0.05, batch_size=64)
    roomy, crowded = Crowded(64), Crowded(20)
    one, other = (fit(network, train, val, config, seed=0) for network in (roomy, crowded))
    assert [epoch.parts for epoch in one.epochs] == [1, 1, 1]
    assert [epoch.parts for epoch in other.epochs] == [4, 4, 4]
    assert crowded.refused == 2, "once it is known, no later batch or epoch tries what has no room"
    assert float(crowded.w.detach()) == pytest.approx(float(roomy.w.detach()), rel=1e-5)
    for a, b in zip(one.epochs, other.epochs, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-5)


def test_halving_has_a_limit() -> None:
    x = np.random.default_rng(0).normal(size=512)
    network = Crowded(3)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        fit(network, block(x, 1.0), block(x, 1.0), TrainingConfig(epochs=1, batch_size=512), seed=0)
    assert network.refused == 1 + int(math.log2(MOST_PARTS))


def test_a_gpu_computes_in_bfloat16_where_the_config_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, torch.dtype, bool]] = []

    def autocast(kind: str, dtype: torch.dtype, enabled: bool) -> contextlib.nullcontext[None]:
        asked.append((kind, dtype, enabled))
        return contextlib.nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    for mixed in (False, True):
        for kind in ("cpu", "cuda"):
            _precision(TrainingConfig(mixed_precision=mixed), torch.device(kind))
    assert [enabled for *_, enabled in asked] == [False, False, False, True]
    assert asked[-1] == ("cuda", torch.bfloat16, True)


def test_training_survives_bfloat16(monkeypatch: pytest.MonkeyPatch, dataset: Dataset) -> None:
    """What autocast does on a GPU it does on a CPU too, if told: weights stay float32, and it learns."""
    mixed = []

    def on_cpu(config: TrainingConfig, device: torch.device) -> torch.autocast:
        mixed.append(config.mixed_precision)
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.mixed_precision)

    monkeypatch.setattr("farm.training.fit._precision", on_cpu)
    losses = []
    for enabled in (False, True):
        with reproducible(0):
            network = LSTMConfig(hidden_size=8, num_layers=1).build(dataset.inputs)
            config = TrainingConfig(epochs=3, mixed_precision=enabled)
            losses.append(fit(network, dataset.train, dataset.val, config, seed=0).epochs[-1].val_loss)
        assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert any(mixed)
    assert losses[0] != losses[1], "bfloat16 rounds"
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_blocks_go_to_a_gpu_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    to = Tensor.to

    def pin(tensor: Tensor) -> Tensor:
        steps.append("pinned")
        assert tensor.is_contiguous(), "only what is contiguous can be pinned"
        return tensor

    def moved(tensor: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        steps.append(f"to {device} {'beside' if non_blocking else 'waiting'}")
        return to(tensor, "cpu")

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", moved)
    values = np.arange(12, dtype=np.float32).reshape(4, 3)[:, 1:]  # strided, as windows are
    np.testing.assert_array_equal(on_device(values, torch.device("cuda")).numpy(), values)
    assert steps == ["pinned", "to cuda beside"]
    steps.clear()
    on_device(values, torch.device("cpu"))
    assert steps == ["to cpu waiting"], "a CPU has nothing to copy"
