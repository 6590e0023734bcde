"""Every forecaster of the study on the same walk-forward: what is left of it all."""

from farm.base.search_space import Sweep, Variant
from search_spaces.ablation import SWEEP as ABLATION
from search_spaces.pretrained import SWEEP as PRETRAINED
from search_spaces.probabilistic import SWEEP as PROBABILISTIC

# Of the probabilistic rows some on the engineered features: all of them, seven tickers and five seeds
# would take hours of two cores. A Transformer costs about as much as three LSTMs, an ensemble as five.
_HEADS = (
    "LSTM-Feat quantile",
    "LSTM-Feat gaussian",
    "LSTM-Feat student-t",
    "LSTM-Feat ensemble",
    "Transformer-Feat student-t",
)
_BASELINES = {row.name: row for row in (*ABLATION.baselines, *PROBABILISTIC.baselines)}

SWEEP = Sweep(
    title="Every forecaster of the study, walk-forward: networks, heads, GARCH, regressions, and nothing",
    question=(
        "Refitted every year on all that came before, does any forecaster of the next day's return beat"
        " linear regression and an econometric model, on which stocks, in which years, after which costs?"
    ),
    # Four fits a trial, with half the patience of the other sweeps and batches of twice the size: with
    # theirs it took an hour and a half of two cores.
    common={
        "study.name": "forecast",
        "study.split.name": "walk_forward",
        "training.patience": 5,
        "training.batch_size": 128,
    },
    variants=(
        *(row for row in ABLATION.variants if row.name.startswith("LSTM")),
        *(
            Variant(name=f"Transformer-{name}", values={"model.name": "transformer", "study.features": which})
            for name, which in (("Raw", "raw"), ("Feat", "feat"))
        ),
        *(row for row in PROBABILISTIC.variants if row.name in _HEADS),
    ),
    baselines=tuple(_BASELINES.values()),
    references=("linear", "econometric"),
    tickers=ABLATION.tickers,
    market=ABLATION.market,
    panel_days=ABLATION.panel_days,
    seeds=5,
    quick={"tickers": ("AAPL", "MSFT"), "seeds": 1, "training.epochs": 2},
    ranges=ABLATION.ranges,
)

# The same with models pretrained on other series, where their weights can be had.
STUDIES = {
    "forecast": SWEEP,
    "pretrained": SWEEP.model_copy(
        update={
            "title": f"{SWEEP.title}, and Chronos",
            "variants": (*SWEEP.variants, *(row for row in PRETRAINED.variants if "Chronos" in row.name)),
        }
    ),
}
