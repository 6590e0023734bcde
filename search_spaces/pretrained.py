"""Models pretrained on other series, as they come, against networks taught on the ticker itself."""

from farm.base.search_space import Sweep, Variant
from search_spaces.probabilistic import SWEEP as PROBABILISTIC

_CHRONOS = {"model.name": "chronos", "study.features": "raw"}
_TAUGHT = ("LSTM-Raw student-t", "LSTM-Feat student-t", "Transformer-Feat student-t")

# Only the data, the blocks and the calibrators are shared; nothing here is searched.
SWEEP = Sweep(
    title="Chronos zero-shot against networks taught on the ticker, GARCH and historical simulation",
    question=(
        "Can a model pretrained on other series forecast the next day's return and its uncertainty as well as"
        " one taught on the ticker?"
    ),
    common=PROBABILISTIC.common,
    variants=(
        Variant(name="Chronos-T5", values={**_CHRONOS, "model.weights": "amazon/chronos-t5-small"}),
        Variant(name="Chronos-Bolt", values={**_CHRONOS, "model.weights": "amazon/chronos-bolt-small"}),
        Variant(name="Chronos-2", values={**_CHRONOS, "model.weights": "amazon/chronos-2"}),
        *(row for row in PROBABILISTIC.variants if row.name in _TAUGHT),
    ),
    baselines=PROBABILISTIC.baselines,
    references=PROBABILISTIC.references,
    tickers=PROBABILISTIC.tickers,
    market=PROBABILISTIC.market,
    panel_days=PROBABILISTIC.panel_days,
    seeds=3,
    quick=PROBABILISTIC.quick,
)
