"""The report's own protocol, so that its figures can be set beside ours."""

from farm.base.search_space import Sweep, Variant

_CVAE = {"model.name": "backfill_cvae"}
_SEES_PEERS = {
    **_CVAE,
    "model.reconstruct": "day",
    "model.masked_latent": "current",
    "model.mask_fill": "flag",
    "model.masked_share": 0.5,
    "model.stop_on": "realistic",
}
# The report's baselines have learnt from the first half of the test block, and its network from what
# lies before the block. All are scored on the second half here; the report's network seems to have been
# scored on the whole block.
_FIRST_HALF = {"study.split.teach": "first_half"}

SWEEP = Sweep(
    title="The failed back-filling CVAE under its report's protocol: closes 2000-2022, last 381 days",
    question="Do the report's figures for its network and its baselines come out again?",
    common={
        "study.name": "backfill",
        "study.split.name": "report",
        "training.epochs": 100,
        "training.patience": 20,
    },
    variants=(
        Variant(name="original", values=_CVAE),
        Variant(name="sees-peers", values=_SEES_PEERS),
        Variant(name="cointegration+sees-peers", values={**_SEES_PEERS, "model.cointegration": True}),
    ),
    baselines=(
        Variant(name="linear", values={"model.name": "peer_regression", **_FIRST_HALF}),
        Variant(name="econometric", values={"model.name": "garch_regression", **_FIRST_HALF}),
        Variant(name="zero", values={"model.name": "zero", **_FIRST_HALF}),
        Variant(name="historical-mean", values={"model.name": "historical_mean", **_FIRST_HALF}),
        Variant(name="persistence", values={"model.name": "persistence", **_FIRST_HALF}),
        Variant(name="linear-before", values={"model.name": "peer_regression"}),
    ),
    references=("linear", "econometric"),
    tickers=("AMZN",),
    peers=("MSFT", "SP500"),
    panel="amzn_msft_sp500_close",  # closes alone: two of the four channels are constant
    panel_days=("2000-01-03", None),
    seeds=5,
    quick={"seeds": 1, "training.epochs": 3},
)
