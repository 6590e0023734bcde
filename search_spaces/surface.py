"""Implied-volatility surfaces a year ahead: the CVAE with memory, its variants and its baselines."""

from farm.base.search_space import Choice, Float, Sweep, Variant

BASELINES = (
    Variant(name="econometric", values={"model.name": "surface_cointegration"}),
    Variant(name="linear", values={"model.name": "surface_pca_var"}),
    Variant(name="random-walk", values={"model.name": "surface_random_walk"}),
    Variant(name="block-bootstrap", values={"model.name": "surface_block_bootstrap"}),
)
# The plan's optimizer and batches; each phase is trained for as long as the plan says.
PLAN = {
    "study.name": "surface",
    "training.learning_rate": 1e-5,
    "training.batch_size": 32,
    "training.patience": 1000,
    "training.mixed_precision": True,
}
# One epoch of each phase. So few steps need longer ones.
QUICK = {
    "seeds": 1,
    "study.samples": 50,
    "curriculum.epoch_share": 0.005,
    "training.learning_rate": 1e-3,
}

# Not the plan's: a start from a regression to the mean in place of the random walk, and autoregressive
# phases that feed on drawn paths, as the deployment does, in place of medians. On validation and
# calibration days both helped a network that was taught phase 4 alone.
REVERTING = {
    "model.name": "surface_cvae",
    "model.variant": "no_ex",
    "model.output": "revert",
    "curriculum.phase3.feed": "fan",
    "curriculum.phase4.feed": "fan",
}

SWEEP = Sweep(
    title="Implied-volatility surfaces a year ahead: a CVAE taught in four phases, against its baselines",
    question=(
        "Does a CVAE with memory, taught in four phases, generate a year of surfaces better than a"
        " regression on volatility, and with honest intervals?"
    ),
    common=PLAN,
    variants=(
        *(
            Variant(
                name=f"{variant} {prior}",
                values={"model.name": "surface_cvae", "model.variant": variant, "model.prior": prior},
            )
            for variant in ("ex_loss", "ex_no_loss", "no_ex")
            for prior in ("standard", "learned")
        ),
        Variant(name="no_ex reverting", values=REVERTING),
    ),
    baselines=BASELINES,
    references=("econometric", "linear"),
    replicate="surfaces",
    seeds=3,
    quick=QUICK,
    ranges={
        "training.learning_rate": Float(1e-5, 1e-2, log=True),
        "model.kl_weight": Float(1e-6, 1e-1, log=True),
        "model.dropout": Float(0.0, 0.5),
        "model.latent_dim": Choice((2, 5, 10)),
    },
)
