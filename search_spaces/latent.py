"""Latent-variable and generative models of daily returns: 20 stocks and their index, 1990 to 2022."""

from farm.base.search_space import Float, Int, Sweep, Variant

_VAE = {"model.name": "vae"}
_TIMEVAE = {"model.name": "timevae", "training.learning_rate": 1e-3}
_REGIME = {"model.name": "regime"}
_HALF_YEAR = {"study.recent": 126}  # where there are few days, structure may pay
_ALL = {"model.tell_from": "all"}

SWEEP = Sweep(
    title="Latent variables behind daily returns: factors, regimes, structural series, VAEs, and baselines",
    question=(
        "Which latent-variable model fills hidden returns better than one normal law with the sample"
        " covariance, and which knows more of density, risk and new windows?"
    ),
    common={"study.name": "generate", "training.epochs": 60, "training.patience": 10},
    variants=(
        # A few continuous latents.
        Variant(
            name="factor-analysis", values={"model.name": "factor", "model.factors": 12, "model.choose": True}
        ),
        Variant(name="factor-analysis-5", values={"model.name": "factor"}),
        Variant(name="factor-analysis-half-year", values={"model.name": "factor"} | _HALF_YEAR),
        Variant(name="factor-analysis-holes", values={"model.name": "factor", "model.missing": 0.3}),
        Variant(
            name="ppca",
            values={
                "model.name": "factor",
                "model.noise": "equal",
                "model.factors": 12,
                "model.choose": True,
            },
        ),
        Variant(name="ppca-5", values={"model.name": "factor", "model.noise": "equal"}),
        Variant(name="ppca-mixture", values={"model.name": "ppca_mixture"}),
        Variant(name="structural", values={"model.name": "structural"}),
        # One discrete latent, told from the index or from all.
        Variant(name="gmm-2", values=_REGIME | {"model.memory": False}),
        Variant(name="gmm-4", values=_REGIME | {"model.memory": False, "model.regimes": 4}),
        Variant(name="hmm-2", values=_REGIME),
        Variant(name="hmm-4", values=_REGIME | {"model.regimes": 4}),
        Variant(name="gmm-4-all", values=_REGIME | _ALL | {"model.memory": False, "model.regimes": 4}),
        Variant(name="hmm-2-all", values=_REGIME | _ALL),
        Variant(name="hmm-4-all", values=_REGIME | _ALL | {"model.regimes": 4}),
        # A latent through a network: of a day, then of a window.
        Variant(name="vae-linear", values=_VAE | {"model.hidden_sizes": ()}),
        Variant(name="vae", values=_VAE),
        Variant(name="vae-decoded-noise", values=_VAE | {"model.noise": "decoded"}),
        Variant(
            name="vae-score-function", values=_VAE | {"model.gradient": "score_function", "model.draws": 8}
        ),
        Variant(name="vrae", values={"model.name": "vrae", "model.noise": "decoded"}),
        Variant(name="timevae", values=_TIMEVAE | {"model.noise": "decoded"}),
        Variant(
            name="timevae-interpretable",
            values=_TIMEVAE | {"model.noise": "decoded", "model.decoder": "interpretable"},
        ),
    ),
    baselines=(
        Variant(name="gaussian", values={"model.name": "sample_normal"}),
        Variant(name="ledoit-wolf", values={"model.name": "sample_normal", "model.shrinkage": "ledoit_wolf"}),
        Variant(name="gaussian-half-year", values={"model.name": "sample_normal"} | _HALF_YEAR),
        Variant(
            name="ledoit-wolf-half-year",
            values={"model.name": "sample_normal", "model.shrinkage": "ledoit_wolf"} | _HALF_YEAR,
        ),
        Variant(name="bootstrap", values={"model.name": "bootstrap"}),
        Variant(name="block-bootstrap", values={"model.name": "bootstrap", "model.block": 20}),
        Variant(name="garch-ccc", values={"model.name": "garch_ccc"}),
    ),
    references=("gaussian", "bootstrap"),
    replicate="panel",
    tickers=(
        *("AAPL", "AMD", "BAC", "BBY", "CVX", "GE", "HD", "JNJ", "JPM", "KO"),
        *("LLY", "MRK", "MSFT", "PEP", "PFE", "PG", "RRC", "UNH", "WMT", "XOM"),
    ),
    market="SP500",
    panel="sp500_20_adjclose",
    seeds=3,
    quick={"seeds": 1, "training.epochs": 3},
    ranges={
        "training.learning_rate": Float(1e-4, 1e-2, log=True),
        "model.latent_dim": Int(1, 20, log=True),
        "model.kl_weight": Float(0.1, 4.0),
        "model.factors": Int(1, 12),
        "model.regimes": Int(1, 8),
    },
)
