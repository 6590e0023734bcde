"""Feature engineering for an LSTM, and whether any network beats linear regression."""

from farm.base.search_space import Float, Sweep, Variant

SWEEP = Sweep(
    title="LSTM on raw returns, OHLCV or engineered features, and a Transformer, against seven baselines",
    question=(
        "Does feature engineering help a network forecast the next day's return,"
        " and does any of them beat linear regression?"
    ),
    common={"study.name": "forecast"},
    variants=(
        Variant(name="LSTM-Raw", values={"model.name": "lstm", "study.features": "raw"}),
        Variant(name="LSTM-OHLCV", values={"model.name": "lstm", "study.features": "ohlcv"}),
        Variant(name="LSTM-Feat", values={"model.name": "lstm", "study.features": "feat"}),
        Variant(name="Transformer-Feat", values={"model.name": "transformer", "study.features": "feat"}),
    ),
    baselines=(
        Variant(name="linear", values={"model.name": "linear", "study.features": "feat"}),
        Variant(name="econometric", values={"model.name": "ar_garch", "study.features": "feat"}),
        Variant(name="zero", values={"model.name": "zero", "study.features": "feat"}),
        Variant(name="historical-mean", values={"model.name": "historical_mean", "study.features": "feat"}),
        Variant(name="persistence", values={"model.name": "persistence", "study.features": "feat"}),
        Variant(name="ridge", values={"model.name": "ridge", "study.features": "feat"}),
        Variant(
            name="gradient-boosting", values={"model.name": "gradient_boosting", "study.features": "feat"}
        ),
    ),
    references=("linear", "econometric"),
    tickers=("AAPL", "AMZN", "GOOG", "META", "MSFT", "NFLX", "NVDA"),
    market="SP500",
    panel_days=("2013-01-02", "2020-11-20"),
    seeds=3,
    quick={"tickers": ("AAPL", "MSFT"), "seeds": 1, "training.epochs": 3},
    ranges={
        "training.learning_rate": Float(1e-4, 1e-2, log=True),
        "model.dropout": Float(0.0, 0.5),
    },
)
