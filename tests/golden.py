"""Loss curves that every speed-up must reproduce: ``python -m tests.golden`` writes them anew.

They are to change with a component's VERSION and for no other reason.
"""

import json
import platform
import re
from pathlib import Path

import torch

from farm.data.door import load_panel
from farm.experiment import TrialConfig, run
from farm.training.fit import fit, reproducible
from tests.return_world import ASSETS, return_panel
from tests.surface_world import tiny_record, tiny_trial

FILE = Path(__file__).with_name("golden.json")
EPOCHS = {"epochs": 3, "patience": 3, "batch_size": 64}
FORECAST = {"name": "forecast", "ticker": "AAPL", "market": "SP500", "features": "feat", "lookback": 10}
BACKFILL = {"name": "backfill", "ticker": "AAPL", "peers": ["MSFT", "SP500"]}
GENERATE = {"name": "generate", "market": "IDX", "assets": list(ASSETS[1:]), "lookback": 5}
TRIALS = {
    "lstm": (FORECAST, {"hidden_size": 16}),
    "transformer": (FORECAST, {"width": 16, "heads": 2}),
    "quantile_network": (FORECAST, {"hidden_size": 16}),
    "cross_asset_transformer": (BACKFILL, {"width": 16, "heads": 2}),
    "backfill_cvae": (BACKFILL, {"hidden_size": 16, "num_layers": 1}),
    "vae": (GENERATE, {}),
    "vrae": (GENERATE, {}),
    "timevae": (GENERATE, {}),
}


def machine() -> str:
    """Name what decides the last bits of a sum: the processor's make and model, and torch."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    found = re.findall(r"^(?:vendor_id|cpu family|model)\s*:\s*(.*)$", text, re.MULTILINE)[:3]
    which = " ".join(found) or platform.machine()
    return f"{which} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def curves() -> dict[str, list[float]]:
    """Teach each network for a few epochs; give its losses on the training and validation block in turn."""
    panel = load_panel().select(("AAPL", "MSFT", "SP500"), "2018-01-02", "2019-12-31")
    sources = {"forecast": panel, "backfill": panel, "generate": return_panel(400)}
    found = {}
    for name, (study, settings) in TRIALS.items():
        values = {"study": study, "model": {"name": name, **settings}, "training": EPOCHS}
        found[name] = (TrialConfig.make(values, name), sources[study["name"]])
    found["surface_cvae"] = (tiny_trial(), tiny_record())
    made = {}
    for name, (config, source) in found.items():
        if config.curriculum is not None:
            history = run(config, source, device="cpu").history
        else:
            data = config.study.dataset(source)
            with reproducible(config.seed):
                network = config.model.build(data.inputs)
                history = fit(network, data.train, data.val, config.training, config.seed)
        made[name] = [loss for epoch in history.epochs for loss in (epoch.train_loss, epoch.val_loss)]
    return made


if __name__ == "__main__":
    FILE.write_text(json.dumps({"machine": machine(), "curves": curves()}, indent=1) + "\n")
