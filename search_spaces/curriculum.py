"""Which phases of the surface curriculum matter."""

from farm.base.search_space import Sweep, Variant
from search_spaces.surface import BASELINES, PLAN, QUICK

SWEEP = Sweep(
    title="Which phases of the surface curriculum matter",
    question=(
        "Which of teacher forcing, several horizons and the two autoregressive phases does a year of"
        " surfaces need?"
    ),
    common=PLAN,
    variants=tuple(
        Variant(
            name=f"phases {phases.replace(',', '+')}",
            values={"model.name": "surface_cvae", "curriculum.name": phases},
        )
        for phases in ("1", "1,2", "1,2,3", "1,2,3,4", "1,2,4", "1,4", "4")
    ),
    baselines=BASELINES,
    references=("econometric", "linear"),
    replicate="surfaces",
    seeds=3,
    quick=QUICK,
)
