"""How far the context should move between the passes of the autoregressive phases."""

from farm.base.search_space import Sweep, Variant
from search_spaces.surface import BASELINES, PLAN, QUICK

SWEEP = Sweep(
    title="Offsets between autoregressive passes: overlapping, adjoining or both, in training and deployed",
    question=(
        "Which offsets should the autoregressive phases be trained with, and does a deployment with"
        " overlapping passes beat one whose passes adjoin?"
    ),
    common=PLAN,
    variants=tuple(
        Variant(
            name=f"H60 {'+'.join(map(str, third))} H90 {'+'.join(map(str, fourth))}",
            values={
                "model.name": "surface_cvae",
                "curriculum.phase3.offsets": third,
                "curriculum.phase4.offsets": fourth,
            },
        )
        for third in ((30,), (60,), (30, 60))
        for fourth in ((45,), (90,), (45, 90))
    ),
    baselines=BASELINES,
    references=("econometric", "linear"),
    replicate="surfaces",
    seeds=3,
    quick=QUICK,
)
