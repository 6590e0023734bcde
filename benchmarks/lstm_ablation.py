"""The three LSTMs of the sweep `ablation`, with the two cheapest of its baselines, for 15 epochs."""

from search_spaces.ablation import SWEEP as ABLATION

_KEPT = ("linear", "zero")

SWEEP = ABLATION.model_copy(
    update={
        "title": "LSTM on raw returns, OHLCV or engineered features",
        "common": {**ABLATION.common, "training.epochs": 15, "training.patience": 15},
        "variants": tuple(row for row in ABLATION.variants if row.values["model.name"] == "lstm"),
        "baselines": tuple(row for row in ABLATION.baselines if row.name in _KEPT),
        "references": ("linear",),
        "seeds": 1,
    }
)
