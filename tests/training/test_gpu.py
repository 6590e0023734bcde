"""What a GPU does that the tests elsewhere only inject; skipped where there is none."""

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from farm.base.types import Dataset
from farm.data.panel import Panel
from farm.experiment import TrialConfig, advance, conclude, run
from farm.models.network import Batch
from farm.models.recurrent import LSTMConfig
from farm.store import Store
from farm.training.checkpoint import Checkpoint
from farm.training.fit import TrainingConfig, fit, reproducible
from tests.surface_world import tiny_record, tiny_trial

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def taught(dataset: Dataset, device: str, dropout: float = 0.0, mixed: bool = False) -> list[float]:
    """Teach a small LSTM on a device; give its validation losses."""
    config = TrainingConfig(epochs=4, mixed_precision=mixed)
    with reproducible(0):
        network = LSTMConfig(hidden_size=16, dropout=dropout).build(dataset.inputs).to(device)
        return [epoch.val_loss for epoch in fit(network, dataset.train, dataset.val, config, seed=0).epochs]


def test_learns_as_on_a_cpu(dataset: Dataset) -> None:
    assert taught(dataset, "cuda") == pytest.approx(taught(dataset, "cpu"), rel=1e-3)


def test_equal_seeds_give_equal_bits(dataset: Dataset) -> None:
    assert taught(dataset, "cuda", 0.3) == taught(dataset, "cuda", 0.3)


def test_mixed_precision_rounds_and_learns(dataset: Dataset) -> None:
    mixed, full = taught(dataset, "cuda", mixed=True), taught(dataset, "cuda")
    assert mixed != full
    assert mixed == pytest.approx(full, rel=0.05)


def test_a_batch_that_has_no_room_is_halved_until_it_fits(dataset: Dataset) -> None:
    """A real shortage: this process may have a sliver of the memory, the rest of which is taken."""
    device = torch.device("cuda")
    block = Batch.of(dataset.train, device)
    wide = block.take(torch.arange(2**16, device=device) % block.size)
    config = TrainingConfig(epochs=1, batch_size=wide.size)

    def epoch(fraction: float) -> tuple[int, float]:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(fraction)
        try:
            with reproducible(0):
                network = LSTMConfig(hidden_size=64, num_layers=1).build(dataset.inputs).to("cuda")
                (only,) = fit(network, wide, dataset.val, config, seed=0).epochs
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return only.parts, only.train_loss

    torch.cuda.reset_peak_memory_stats()
    parts, loss = epoch(1.0)
    assert parts == 1
    needed = torch.cuda.max_memory_allocated() / torch.cuda.get_device_properties(0).total_memory
    halved, same = epoch(needed / 2)
    assert halved > 1
    assert same == pytest.approx(loss, rel=1e-3)


def test_a_curriculum_goes_on_from_a_checkpoint_to_the_bit() -> None:
    config, source = tiny_trial(), tiny_record()
    whole: Checkpoint | None = None
    for _ in config.stages(()):
        whole = advance(config, source, whole, device="cuda")
    kept: list[Checkpoint] = []
    first = advance(config, source, None, device="cuda", keep=kept.append)
    again = advance(config, source, None, device="cuda", resume=Checkpoint.from_bytes(kept[0].to_bytes()))
    assert again.tensors.keys() == first.tensors.keys()
    for name, value in first.tensors.items():
        assert torch.equal(value, again.tensors[name]), name
    assert whole is not None
    assert math.isfinite(conclude(config, source, whole, device="cuda").evaluation.metrics["test/rmse"])


def test_a_trial_scores_as_on_a_cpu(ar1_panel: Panel) -> None:
    values = {
        "study": {"name": "forecast", "ticker": "AR", "market": "MKT", "features": "feat", "lookback": 5},
        "model": {"name": "transformer", "width": 16, "heads": 2},
        "training": {"epochs": 3},
    }
    config = TrialConfig.make(values, "trial")
    there, here = (run(config, ar1_panel, device=name).evaluation.metrics for name in ("cuda", "cpu"))
    assert there["test/rmse"] == pytest.approx(here["test/rmse"], rel=1e-2)


@pytest.mark.e2e(100)
def test_trials_of_a_sweep_share_the_gpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "farm.sweep", "ablation", "--quick", "--epochs", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(str(tmp_path / "farm_store"))
    records = [store.get(signature) for signature in store.configs()]
    networks = [record for record in records if record is not None and record.history is not None]
    assert len(networks) == 2 * 4
    assert {record.origin["gpu"] for record in networks} == {torch.cuda.get_device_name(0)}
    assert len(pd.read_csv(tmp_path / "results" / "ablation" / "results.csv")) == 2 * (4 + 7)
