"""Which weights of a loss, and which settings beside, a search finds; for each of the studies."""

from farm.base.search_space import Choice, Float, Int, Search, Variant, When
from search_spaces.ablation import SWEEP as ABLATION
from search_spaces.backfill import SWEEP as BACKFILL
from search_spaces.latent import SWEEP as LATENT
from search_spaces.surface import SWEEP as SURFACE

_BACKFILL_VALUES = next(row.values for row in BACKFILL.variants if row.name == "sees-peers")

SWEEP = BACKFILL.model_copy(
    update={
        "title": "Searched weights: KL, quantile and multi-task weights by Optuna, and what they are worth",
        "question": (
            "Do searched KL, quantile and multi-task weights beat the defaults (KL 1e-4, the rest equal),"
            " and is that more than the luck of the best of many?"
        ),
        "variants": (Variant(name="default-weights", values=_BACKFILL_VALUES),),
        "quick": {"seeds": 2, "training.epochs": 6, "samples": 8, "top": 2},
        "ranges": {},
        "search": Search(
            variant="default-weights",
            ranges={
                "model.kl_weight": Float(1e-6, 1.0, log=True),
                "model.kl_warmup": Int(0, 30),
                "model.free_bits": Float(0.0, 0.2),
                "model.quantile_weights.0": Float(0.2, 20.0, log=True),
                "model.quantile_weights.2": Float(0.2, 20.0, log=True),
                "model.peer_loss": Float(0.0, 1.0),
                "model.masked_share": Float(0.1, 0.9),
                "model.dropout": Float(0.0, 0.5),
                "training.learning_rate": Float(1e-4, 1e-2, log=True),
            },
            objectives=("val/pinball",),
            # `stop_on` of these configs is "realistic": their validation loss is that pinball loss.
            stopped_on="val/pinball",
        ),
    }
)

_FORECAST = ABLATION.model_copy(
    update={
        "title": "Searched networks for the next day's return",
        "question": "Does a searched network beat linear regression, once all that was tried is counted?",
        "variants": tuple(row for row in ABLATION.variants if row.name == "LSTM-Feat"),
        "quick": {**ABLATION.quick, "samples": 4, "top": 1},
        "ranges": {},
        "search": Search(
            variant="LSTM-Feat",
            ranges={
                "model.name": Choice(("lstm", "transformer")),
                "model.hidden_size": When("model.name", ("lstm",), Int(8, 128, log=True)),
                "model.width": When("model.name", ("transformer",), Choice((16, 32, 64))),
                "model.heads": When("model.name", ("transformer",), Choice((2, 4, 8))),
                "model.num_layers": Int(1, 3),
                "model.dropout": Float(0.0, 0.5),
                "training.learning_rate": Float(1e-4, 1e-2, log=True),
                "training.batch_size": Choice((32, 64, 128, 256)),
            },
            objectives=("val/rmse",),
            stopped_on="val/rmse",
            samples=24,
            top=3,
        ),
    }
)

_SURFACE = SURFACE.model_copy(
    update={
        "title": "Searched KL, quantile and extra-feature weights of the surface CVAE",
        "question": "Which weights give a year of surfaces the best compromise of error and intervals?",
        "variants": (
            Variant(
                name="plan-weights",
                values={"model.name": "surface_cvae", "model.variant": "ex_loss", "model.prior": "learned"},
            ),
        ),
        "quick": {**SURFACE.quick, "samples": 2, "top": 1},
        "ranges": {},
        "search": Search(
            variant="plan-weights",
            ranges={
                "model.kl_weight": Float(1e-6, 1e-1, log=True),
                "model.quantile_weights.0": Float(0.5, 20.0, log=True),
                "model.quantile_weights.2": Float(0.5, 20.0, log=True),
                "model.variant": Choice(("no_ex", "ex_no_loss", "ex_loss")),
                "model.extra_weight": When("model.variant", ("ex_loss",), Float(0.1, 10.0, log=True)),
                "model.dropout": Float(0.0, 0.5),
                "training.learning_rate": Float(1e-5, 1e-2, log=True),
            },
            objectives=("val/rmse", "val/violations"),
            samples=24,
            top=3,
        ),
    }
)

_GENERATE = LATENT.model_copy(
    update={
        "title": "Searched autoencoders of daily returns",
        "question": "Does a searched autoencoder fill hidden returns better than one normal law?",
        "variants": tuple(row for row in LATENT.variants if row.name == "vae"),
        "quick": {**LATENT.quick, "samples": 4, "top": 1},
        "ranges": {},
        "search": Search(
            variant="vae",
            ranges={
                "model.name": Choice(("vae", "vrae", "timevae")),
                "model.latent_dim": Int(2, 32, log=True),
                "model.kl_weight": Float(0.1, 4.0, log=True),
                "model.noise": Choice(("diagonal", "decoded")),
                "model.kl_warmup": Int(0, 30),
                "model.hidden_size": When("model.name", ("vrae",), Int(16, 96, log=True)),
                "model.decoder": When("model.name", ("timevae",), Choice(("base", "interpretable"))),
                "training.learning_rate": Float(1e-4, 1e-2, log=True),
            },
            objectives=("val/rmse",),
            samples=24,
            top=3,
        ),
    }
)

STUDIES = {"backfill": SWEEP, "forecast": _FORECAST, "surface": _SURFACE, "generate": _GENERATE}
