"""Uncertainty of the next day's return: heads, dropout and ensembles against GARCH and simulation."""

from typing import Any

from farm.base.search_space import Float, Int, Sweep, Variant

_NETWORKS = {"LSTM": "lstm", "Transformer": "transformer"}
_FEATURES = {"Raw": "raw", "OHLCV": "ohlcv", "Feat": "feat"}
# Dropout passes and members of an ensemble stand on the Student-t head, so that each adds one thing.
_HEADS: dict[str, dict[str, Any]] = {
    "quantile": {"model.head": "quantile"},
    "gaussian": {"model.head": "gaussian"},
    "student-t": {"model.head": "student_t"},
    "dropout": {"model.head": "student_t", "model.passes": 20},
    "ensemble": {"model.head": "student_t", "model.members": 5},
}

SWEEP = Sweep(
    title="How uncertain is tomorrow's return: network heads against GARCH and historical simulation",
    question=(
        "Does a network know better than GARCH how uncertain the next day's return is, on all days and on"
        " the most volatile quarter, and are its Value-at-Risk forecasts right?"
    ),
    common={
        "study.name": "forecast",
        "study.split.name": "calibrated",
        "study.calibrators": ({"name": "cqr"}, {"name": "cqr_scaled"}, {"name": "aci"}),
    },
    variants=tuple(
        Variant(
            name=f"{network}-{features} {head}",
            values={"model.name": model, "study.features": wanted, **values},
        )
        for network, model in _NETWORKS.items()
        for features, wanted in _FEATURES.items()
        for head, values in _HEADS.items()
    ),
    baselines=(
        Variant(name="linear", values={"model.name": "linear", "model.intervals": "residuals"}),
        Variant(name="econometric", values={"model.name": "ar_garch"}),
        Variant(name="garch-normal", values={"model.name": "ar_garch", "model.dist": "normal"}),
        Variant(name="gjr-garch", values={"model.name": "ar_garch", "model.asymmetric": True}),
        Variant(name="filtered-historical", values={"model.name": "ar_garch", "model.dist": "empirical"}),
        Variant(name="historical-simulation", values={"model.name": "historical_simulation"}),
    ),
    references=("linear", "econometric"),
    tickers=("AAPL", "AMZN", "GOOG", "META", "MSFT", "NFLX", "NVDA"),
    market="SP500",
    panel_days=("2013-01-02", "2020-11-20"),
    seeds=3,
    quick={"tickers": ("AAPL",), "seeds": 1, "training.epochs": 2},
    ranges={
        "training.learning_rate": Float(1e-4, 1e-2, log=True),
        "model.dropout": Float(0.05, 0.5),
        "model.tail_weight": Float(0.25, 4.0, log=True),
        "model.hidden_size": Int(8, 128, log=True),
    },
)
