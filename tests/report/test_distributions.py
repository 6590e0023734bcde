"""The distributions' table, from records whose answer is known."""

import numpy as np
import pytest
from scipy import stats

from farm.base.types import RISK_LEVELS, Forecast
from farm.evaluation.distribution import pit
from farm.evaluation.metric import METRICS
from farm.evaluation.scores import Block, Evaluation, score
from farm.experiment import Result, TrialConfig
from farm.report.distributions import distribution_table, distributions
from farm.store import Store

N, SCALE = 400, 0.01
CALIBRATORS = [{"name": "cqr"}]


def stored(store, model, ticker, seed, width, levels=RISK_LEVELS, **fields):
    """Put a trial whose quantiles are `width` times the right ones, and right after cqr."""
    rng = np.random.default_rng(sum(map(ord, ticker)))
    truth = rng.normal(0, SCALE, N)
    parts = {"": width, "cqr": 1.0}
    forecasts, arrays = {}, {}
    for part, factor in parts.items():
        quantiles = np.tile(factor * SCALE * stats.norm.ppf(levels), (N, 1))
        forecasts[part] = Forecast(np.zeros(N), quantiles, levels)
        arrays[f"pit/{part}"] = pit(forecasts[part], truth)
    study = {"name": "forecast", "ticker": ticker, "market": "M", "split": {"name": "calibrated"}}
    study["calibrators"] = CALIBRATORS
    values = {"study": study, "model": {"name": model, **fields}, "seed": seed}
    if model == "lstm":
        values["training"] = {}
    config = TrialConfig.make(values, "trial")
    times = np.datetime64("2019-01-01") + np.arange(N)
    evaluation = Evaluation(
        {"test": Block(times, truth, forecasts, calibrated=frozenset({"cqr"}))}, arrays=arrays
    )
    scores = score(evaluation, lambda: 1 / 0, "forecast", [*METRICS, "value_at_risk"])
    signature = f"{model}-{ticker}-{seed}-{width}"
    store.put(signature, config, Result(evaluation, scores, {}, None, {"w": np.zeros(1)}))
    return store.get(signature)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("store"))).open()
    rows = []
    for ticker in ("A", "B"):
        rows.append(
            ({"model": "econometric", "ticker": ticker, "seed": 0}, stored(store, "ar_garch", ticker, 0, 1.0))
        )
        for seed in (0, 1):
            for name, width in (("narrow", 0.5), ("near", 0.98)):
                record = stored(store, "lstm", ticker, seed, width, head="gaussian")
                rows.append(({"model": name, "ticker": ticker, "seed": seed}, record))
        some = stored(store, "lstm", ticker, 7, 1.0, RISK_LEVELS[2:7], head="quantile")
        rows.append(({"model": "bolt", "ticker": ticker, "seed": 7}, some))
    return rows


def test_the_table_holds_the_means_and_a_paired_test(trials):
    table = distribution_table(trials, "econometric").set_index(["model", "evaluation"])
    assert set(table.index) == {
        (m, e) for m in ("econometric", "narrow", "near", "bolt") for e in ("raw", "cqr")
    }
    narrow, right = table.loc["narrow", "raw"], table.loc["narrow", "cqr"]
    assert narrow["coverage"] < 0.65 < 0.85 < right["coverage"] < 0.95
    assert right["pinball_skill"] == pytest.approx(0, abs=1e-12)
    assert np.isnan(right["dm_p"])  # equal on each day
    assert narrow["pinball_skill"] < -0.05
    assert narrow["dm_p"] < 1e-6
    assert narrow["dm_statistic"] > 0
    assert narrow["var1_kupiec_p"] == 1.0  # rejected on every replicate
    assert narrow["width"] == pytest.approx(right["width"] / 2)
    assert narrow["log_score"] < right["log_score"]
    assert (table["replicates"].loc[["narrow", "near"]] == 4).all()


def test_fewer_levels_are_compared_on_those_alone(trials):
    table = distribution_table(trials, "econometric").set_index(["model", "evaluation"])
    bolt = table.loc["bolt", "raw"]
    assert bolt["pinball_skill"] == pytest.approx(0, abs=1e-12)  # the same quantiles as the reference
    assert bolt["nominal"] == pytest.approx(0.8)
    assert np.isnan(bolt["var1_hits"])
    assert bolt["pinball"] > table.loc["near", "raw"]["pinball"]  # the tails' loss is small, and left out


def test_sentence_and_figures(trials):
    found = distributions(trials, ("linear", "econometric"), ("narrow", "near", "bolt"), 2)
    assert found.sentence.startswith("Distributions: 0 of 3 variants, raw or calibrated, have a pinball loss")
    assert "below that of econometric" in found.sentence
    assert found.sentence.endswith("; fewer than 3 seeds: too few to trust.")
    assert set(found.figures()) == {"pit", "coverage_against_width", "pinball_skill", "intervals", "coverage"}
    assert distributions(trials, ("econometric",), ("absent",), 2) is None
    assert distributions(trials, ("linear",), ("narrow",), 2) is None
