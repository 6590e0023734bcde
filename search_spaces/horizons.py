"""How far the surface model should look back, and how far ahead in one pass."""

from farm.base.search_space import Sweep, Variant
from search_spaces.surface import BASELINES, PLAN, QUICK


def _reaching(context: int, horizon: int) -> dict[str, object]:
    """Stretch the plan to another context and longest horizon.

    Phase 2 keeps the plan's horizons below the longest one and their weights, and gives that one the
    weight of the plan's longest; phase 3 goes two thirds of the way; offsets are half and whole horizons.
    """
    weights = {1: 1.0, 7: 0.9, 14: 0.8, 30: 0.6, 60: 0.4, 90: 0.3}
    kept = {days: weight for days, weight in weights.items() if days < horizon}
    kept[horizon] = weights.get(horizon, 0.3)
    medium = horizon * 2 // 3
    return {
        "model.name": "surface_cvae",
        "study.context": context,
        "study.horizon": horizon,
        "study.offset": horizon,
        "study.overlap": horizon // 2,
        "curriculum.phase2.horizons": tuple(kept),
        "curriculum.phase2.weights": tuple(kept.values()),
        "curriculum.phase3.horizon": medium,
        "curriculum.phase3.offsets": (medium // 2, medium),
        "curriculum.phase4.horizon": horizon,
        "curriculum.phase4.offsets": (horizon // 2, horizon),
    }


SWEEP = Sweep(
    title="Contexts and horizons of the surface model: 20 and 30 days up to 60 and 120",
    question=(
        "Do a shorter or a longer context and horizon serve a year of surfaces better than the plan's 60"
        " and 90 days?"
    ),
    common=PLAN,
    variants=tuple(
        Variant(name=f"context {context} horizon {horizon}", values=_reaching(context, horizon))
        for context, horizon in ((20, 30), (30, 60), (60, 90), (60, 120))
    ),
    baselines=BASELINES,
    references=("econometric", "linear"),
    replicate="surfaces",
    seeds=3,
    quick=QUICK,
)
