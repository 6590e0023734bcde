"""A small world of surfaces: one level that reverts to its mean, a term structure and a smile."""

import numpy as np

from farm.base.surfaces import SurfaceInputs
from farm.base.types import Floats
from farm.data.day_vectors import day_vectors, surface_inputs
from farm.data.surface import Surfaces
from farm.experiment import TrialConfig
from farm.models.surface_cvae import SurfaceCVAEConfig
from farm.training.fit import reproducible

MATURITIES = (1 / 12, 1 / 4, 1 / 2, 1.0, 2.0)
MONEYNESS = tuple(np.log([0.7, 0.85, 1.0, 1.15, 1.3]))
CONTEXT = 6
SMALL = {"hidden_size": 8, "num_layers": 2, "latent_dim": 3}


def surfaces(days: int, seed: int = 0, phi: float = 0.9) -> tuple[Floats, Floats]:
    """Surfaces (N, 5, 5) and extra features (N, 3) whose skew and slope are the surfaces' own."""
    rng = np.random.default_rng(seed)
    level, tilt = np.zeros(days), np.zeros(days)
    shocks = rng.normal(size=(days, 2))
    for t in range(1, days):
        level[t] = phi * level[t - 1] + 0.1 * shocks[t, 0]
        tilt[t] = phi * tilt[t - 1] + 0.05 * shocks[t, 1]
    k, years = np.array(MONEYNESS), np.array(MATURITIES)
    smile = 0.3 * k**2 - 0.2 * k
    log_iv = np.log(0.2) + level[:, None, None] + tilt[:, None, None] * np.log(years)[:, None] / 3 + smile
    surface = np.exp(log_iv + 0.01 * rng.normal(size=(days, 5, 5)))
    skew = (surface[:, 3, 1] + surface[:, 3, 3]) / 2 - surface[:, 3, 2]
    slope = surface[:, 4, 2] - surface[:, 1, 2]
    returns = -0.01 * shocks[:, 0] + 0.005 * rng.normal(size=days)
    return surface, np.stack([returns, skew, slope], axis=1)


def world(days: int = 120, context: int = CONTEXT, seed: int = 0) -> tuple[Floats, SurfaceInputs]:
    surface, extra = surfaces(days, seed)
    inputs = surface_inputs(surface, extra, context, MATURITIES, MONEYNESS)
    return day_vectors(surface, extra, inputs), inputs


def network(inputs: SurfaceInputs, seed: int = 0, stirred: bool = True, **fields: object):
    """An untaught network; stirred, so that no head is at its neutral start."""
    config = SurfaceCVAEConfig.make({**SMALL, "dropout": 0.0, **fields}, "model")
    with reproducible(seed):
        built = config.build(inputs)
        if stirred:
            for parameter in built.surface_head.parameters():
                parameter.data.normal_(0, 0.3)
    return built


def record(days: int, seed: int = 0, start: str = "2004-01-01") -> Surfaces:
    """The same world as a record of surfaces, on business days."""
    surface, extra = surfaces(days, seed)
    dates = np.arange(start, "2060-01-01", dtype="datetime64[D]")
    dates = dates[np.is_busday(dates)][:days]
    grid = np.array(MATURITIES), np.exp(MONEYNESS)
    return Surfaces(dates, surface.astype(np.float32), extra[:, 0], *grid, "moneyness", "synthetic")


def tiny_record(seed: int = 0) -> Surfaces:
    """Days for `TINY_STUDY`, before all crises."""
    return record(260, seed, start="1992-01-01")


TINY_STUDY = {
    "name": "surface",
    "context": CONTEXT,
    "horizon": 4,
    "offset": 4,
    "overlap": 2,
    "days": 10,
    "samples": 3,
    "split": {
        "val": 0.1, "calibration": 0.1, "test": 0.1, "least_val": 20, "least_calibration": 12,
        "least_test": 12, "least_train": 30, "gap": 4,
    },
}  # fmt: skip
TINY_PHASES = {
    "phase1": {"epochs": 2},
    "phase2": {"epochs": 2, "horizons": (1, 2, 4), "weights": (1.0, 0.9, 0.5)},
    "phase3": {"epochs": 2, "horizon": 3, "offsets": (1, 3), "steps": 2},
    "phase4": {"epochs": 2, "horizon": 4, "offsets": (2, 4), "steps": 2},
}


def tiny_curriculum(name: str = "1,2,3,4", **fields: object) -> dict[str, object]:
    """Values of a curriculum of seconds; a phase may be given in part."""
    phases = {key: {**value, **fields.pop(key, {})} for key, value in TINY_PHASES.items()}
    return {"name": name, **phases, **fields}


def tiny_trial(name: str = "1,2,3,4", seed: int = 0, study: object = None, **fields: object) -> TrialConfig:
    """A trial of the surface study that takes a second; `fields` are those of its curriculum."""
    values = {
        "study": {**TINY_STUDY, **(study or {})},
        "model": {"name": "surface_cvae", **SMALL, "dropout": 0.4, "prior": "learned"},
        "training": {"learning_rate": 3e-3, "batch_size": 64, "patience": 50},
        "curriculum": tiny_curriculum(name, **fields),
        "seed": seed,
    }
    return TrialConfig.make(values, "trial")
