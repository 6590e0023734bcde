"""The distributions' table, from records whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from farm.base.types import RISK_LEVELS, Forecast
from farm.evaluation.distribution import pit
from farm.evaluation.metric import METRICS
from farm.evaluation.scores import Block, Evaluation, score
from farm.experiment import Result, TrialConfig
from farm.report.distributions import distribution_sentence, distribution_table, distributions
from farm.store import Store

N, SCALE = 400, 0.01
VARIANTS = ("narrow", "near", "bolt")
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
    table = distribution_table(trials, "econometric", VARIANTS).set_index(["model", "evaluation"])
    assert set(table.index) == {
        (m, e) for m in ("econometric", "narrow", "near", "bolt") for e in ("raw", "cqr")
    }
    narrow, right = table.loc["narrow", "raw"], table.loc["narrow", "cqr"]
    assert narrow["coverage"] < 0.65 < 0.85 < right["coverage"] < 0.95
    assert right["pinball_skill"] == pytest.approx(0, abs=1e-12)
    assert right["dm_p"] == 1  # equal on each day
    assert narrow["pinball_skill"] < -0.05
    assert narrow["dm_p"] < 1e-6
    assert narrow["dm_statistic"] > 0
    assert narrow["var1_kupiec_rejects"] == 1.0  # rejected on every replicate
    assert narrow["width"] == pytest.approx(right["width"] / 2)
    assert narrow["log_score_9_quantiles"] < right["log_score_9_quantiles"]
    assert (table["replicates"].loc[["narrow", "near"]] == 4).all()


def narrow_of(table):
    return table.loc["narrow", "raw"]


def test_fewer_levels_are_compared_on_those_alone(trials):
    table = distribution_table(trials, "econometric", VARIANTS).set_index(["model", "evaluation"])
    bolt = table.loc["bolt", "raw"]
    assert bolt["pinball_skill"] == pytest.approx(0, abs=1e-12)  # the same quantiles as the reference
    assert bolt["nominal"] == pytest.approx(0.8)
    assert np.isnan(bolt["log_score_9_quantiles"])
    assert np.isnan(narrow_of(table)["log_score_5_quantiles"])
    assert np.isfinite([bolt["log_score_5_quantiles"], narrow_of(table)["log_score_9_quantiles"]]).all()
    assert np.isnan(bolt["var1_hits"])
    assert bolt["pinball"] > table.loc["near", "raw"]["pinball"]  # the tails' loss is small, and left out


def worse(width):
    """Pinball loss of quantiles that are too narrow by a factor, per day, by the explicit formula."""
    truth = np.concatenate([np.random.default_rng(ord(t)).normal(0, SCALE, N) for t in ("A", "B")])
    loss = np.zeros(len(truth))
    for level in RISK_LEVELS:
        error = truth - width * SCALE * stats.norm.ppf(level)
        loss += np.where(error > 0, level * error, (level - 1) * error) / len(RISK_LEVELS)
    return loss.reshape(2, N)


def test_like_is_compared_with_like_and_with_the_best_baseline(trials):
    table = distribution_table(trials, "econometric", VARIANTS).set_index(["model", "evaluation"])
    for name, width in (("narrow", 0.5), ("near", 0.98)):
        expected = np.mean(1 - worse(width).mean(axis=1) / worse(1.0).mean(axis=1))
        assert table.loc[(name, "raw"), "pinball_skill"] == pytest.approx(expected)
        assert table.loc[(name, "cqr"), "pinball_skill"] == pytest.approx(0, abs=1e-12)


def test_a_calibration_that_the_reference_lacks_is_not_compared(trials):

    def raw(record):
        block = record.blocks["test"]
        return replace(record, blocks={"test": {**block, "parts": {"": block["parts"][""]}}})

    bare = [(key, raw(record) if key["model"] == "econometric" else record) for key, record in trials]
    table = distribution_table(bare, "econometric", VARIANTS)
    own = table.set_index(["model", "evaluation"])
    assert own.loc[("near", "cqr"), ["pinball_skill", "dm_p", "p_selected"]].isna().all()
    assert own.loc[("near", "raw"), ["pinball_skill", "dm_p", "p_selected"]].notna().all()
    assert own.loc[("near", "cqr"), "best_reference"] == "econometric as it comes"
    assert own.loc[("near", "cqr"), "best_pinball_skill"] == pytest.approx(0, abs=1e-12)
    alone = table[table["evaluation"] == "cqr"]
    said = distribution_sentence(alone, "econometric", VARIANTS, 3)
    assert "has no econometric after cqr to compare with and 0.0 % higher loss than econometric as" in said


def noisy(record, seed, size):
    """Return a record whose quantiles are off by noise of its own, days apart."""
    arrays = dict(record._arrays)
    noise = np.random.default_rng(seed).normal(0, size, N)[:, None]
    for part in record.levels:
        arrays[f"test|quantiles:{part}"] = arrays[f"test|quantiles:{part}"] + noise
    copy = replace(record)
    copy.__dict__["_arrays"] = arrays
    return copy


def test_the_best_of_many_that_are_as_good_is_not_shown(trials):
    """Of 60 that are off by as much noise as the reference six are below 5 % alone, none after selection."""
    reference = trials[0][1]
    key = {"ticker": "A", "seed": 0}
    rows = [({**key, "model": "econometric"}, noisy(reference, 310, 0.3 * SCALE))]
    names = [f"v{i}" for i in range(60)]
    seeds = range(32_000, 32_060)
    rows += [
        ({**key, "model": n}, noisy(reference, s, 0.3 * SCALE)) for n, s in zip(names, seeds, strict=True)
    ]
    table = distribution_table(rows, "econometric", names)
    ahead = table[(table["pinball_skill"] > 0) & (table["dm_p"] < 0.05)]
    assert len(ahead) == 6
    assert (table["p_selected"].dropna() >= 0.05).all()
    assert (table["p_selected"].dropna() >= table["dm_p"].loc[table["p_selected"].dropna().index] / 2).all()
    said = distribution_sentence(table, "econometric", names, 3)
    assert said.startswith("Distributions: 0 of 60 variants")
    named = table[table["model"].isin(names)].iloc[0]
    assert f"the best, {named['model']} " in said
    assert f"(DM p = {named['dm_p']:.2g}; p after selection = {named['p_selected']:.2g})" in said
    own = [row for row in rows if row[0]["model"] in ("econometric", named["model"])]
    rest = [row for row in rows if row not in own]
    alone, counted = (distribution_table(own, "econometric", names, tried) for tried in ((), rest))
    assert list(alone["model"]) == list(counted["model"])
    at = (named["model"], "raw")
    one, of_many = (t.set_index(["model", "evaluation"]).loc[at] for t in (alone, counted))
    assert one["p_selected"] < of_many["p_selected"]
    assert one["dm_p"] == of_many["dm_p"]


def test_one_that_is_better_is_shown_and_its_own_p_is_printed(trials):
    reference = trials[0][1]
    key = {"ticker": "A", "seed": 0}
    rows = [({**key, "model": "econometric"}, noisy(reference, 0, 0.9 * SCALE))]
    rows += [({**key, "model": name}, noisy(reference, i, 0.9 * SCALE)) for i, name in enumerate("abc", 1)]
    rows += [({**key, "model": "good"}, reference)]
    names = ("a", "b", "c", "good")
    table = distribution_table(rows, "econometric", names)
    good = table.set_index(["model", "evaluation"]).loc[("good", "raw")]
    assert good["p_selected"] < 0.01
    said = distribution_sentence(table, "econometric", names, 3)
    assert said.startswith(
        "Distributions: 1 of 4 variants, raw or calibrated, has a pinball loss shown to be"
    )
    assert "the best, good " in said
    assert "DM p < 0.001; p after selection < 0.001" in said


def test_the_best_baseline_need_not_be_the_reference(trials):
    reference, key = trials[0][1], {"ticker": "A", "seed": 0}
    rows = [({**key, "model": "econometric"}, noisy(reference, 0, 0.9 * SCALE))]
    rows += [({**key, "model": "garch"}, reference)]
    rows += [({**key, "model": "a"}, noisy(reference, 1, 0.1 * SCALE))]
    table = distribution_table(rows, "econometric", ("a",)).set_index(["model", "evaluation"])
    own = table.loc[("a", "raw")]
    assert own["best_reference"].startswith("garch ")
    assert own["best_pinball_skill"] < 0 < own["pinball_skill"]
    assert own["p_selected"] < 0.05
    assert own["best_p_selected"] == 1
    assert np.isnan(table.loc[("garch", "raw"), "p_selected"])  # baselines are not tried
    said = distribution_sentence(table.reset_index(), "econometric", ("a",), 3)
    assert (
        "1 of 1 variants, raw or calibrated, has a pinball loss shown to be below that of econometric" in said
    )
    assert "and 0 below that of the best baseline, garch" in said


def test_sentence_and_figures(trials):
    found = distributions(trials, ("linear", "econometric"), ("narrow", "near", "bolt"), 2)
    assert found.sentence.startswith("Distributions: 0 of 3 variants, raw or calibrated, have a pinball loss")
    assert "below that of econometric" in found.sentence
    assert found.sentence.endswith("; fewer than 3 seeds: too few to trust.")
    assert set(found.figures()) == {"pit", "coverage_against_width", "pinball_skill", "intervals", "coverage"}
    assert distributions(trials, ("econometric",), ("absent",), 2) is None
    assert distributions(trials, ("linear",), ("narrow",), 2) is None
