from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import MCS
from rich.console import Console

from farm.evaluation.selection import common_block, judge_tickers, spa_p_value
from farm.evaluation.trading import HOLD
from farm.report.walk_forward import POOLED, WARNING, walk_forward, walk_forward_tables
from farm.report.walk_forward_figures import walk_forward_figures
from tests.report.conftest import BASELINES, REFERENCES, VARIANTS, Sweep, make_sweep


@dataclass(frozen=True)
class FakeRecord:
    metrics: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="module")
def small() -> Sweep:
    return make_sweep(tickers=("AAPL", "MSFT"), seeds=2, days=520)


@pytest.fixture(scope="module")
def found(small):
    cost = {"cost/fit_seconds": 4.0, "cost/evaluate_seconds": 1.0}
    trials = [
        (
            {"model": row.model, "ticker": row.ticker, "seed": row.seed},
            FakeRecord(cost | ({"cost/epochs": 30.0 + row.seed} if row.model in VARIANTS else {})),
        )
        for row in small.scores.itertuples()
    ]
    return walk_forward(small.table, small.predictions, trials, REFERENCES)


def of_ticker(predictions, ticker):
    """Squared errors of one ticker, mean over seeds, the slow way: models by name, days in order."""
    own = predictions[predictions["ticker"] == ticker]
    losses = {}
    for row in own.itertuples():
        losses.setdefault(row.model, {}).setdefault(row.date, []).append((row.predicted - row.actual) ** 2)
    return {m: np.array([np.mean(v) for _, v in sorted(days.items())]) for m, days in losses.items()}


def test_the_sets_of_each_ticker_are_those_of_arch(small):
    confidence, ability = judge_tickers(small.predictions, REFERENCES, VARIANTS, resamples=200, seed=3)
    assert list(confidence.columns) == ["AAPL", "MSFT"]
    for ticker in confidence:
        losses = of_ticker(small.predictions, ticker)
        names = list(confidence.index)
        table = np.stack([losses[name] for name in names], axis=1)
        block = common_block(losses["linear"][:, None] - table)
        test = MCS(
            pd.DataFrame(table, columns=names),
            0.05,
            reps=200,
            block_size=block,
            method="max",
            seed=np.random.default_rng(3),
        )
        test.compute()
        expected = test.pvalues["Pvalue"].reindex(names)
        np.testing.assert_allclose(confidence[ticker], expected, atol=1e-12)
        variants = np.stack([losses[name] for name in VARIANTS], axis=1)
        for name in REFERENCES:
            gains = losses[name][:, None] - variants
            p = spa_p_value(losses[name], variants, block=common_block(gains), resamples=200, seed=3)
            assert ability.loc[name, ticker] == p


def test_a_model_that_failed_on_a_ticker_is_judged_on_the_other(small):
    gone = (small.predictions["model"] == "LSTM-Raw") & (small.predictions["ticker"] == "MSFT")
    confidence, _ = judge_tickers(small.predictions[~gone], REFERENCES, VARIANTS, resamples=100)
    assert np.isnan(confidence.loc["LSTM-Raw", "MSFT"])
    assert 0 <= confidence.loc["LSTM-Raw", "AAPL"] <= 1
    assert confidence.drop(index="LSTM-Raw").notna().all(axis=None)


def test_persistence_is_worst_everywhere(found):
    assert (found.confidence.loc["persistence", ["AAPL", "MSFT"]] < 0.05).all()
    assert found.regimes.loc["persistence"].max() < 0


def test_the_tests_of_all_tickers_are_those_of_the_verdict(small, found):
    table = small.table.set_index("model")
    pd.testing.assert_series_equal(
        found.confidence[POOLED], table["mcs_p"].reindex(found.confidence.index), check_names=False
    )
    selected = table.loc[list(VARIANTS), "linear_p_selected"]
    assert found.ability.loc["linear", POOLED] == selected.min()


def test_columns_are_regimes_then_years_and_the_cost_is_a_mean_over_trials(found):
    assert list(found.regimes.columns[:2]) == ["volatile", "calm"]
    assert list(found.regimes.columns[2:]) == ["2019", "2020", "2021"]
    assert found.regimes.loc["linear"].tolist() == [0.0] * 5
    assert found.cost.loc["LSTM-Raw"].tolist() == [4, 30.5, 4.0, 1.0]
    assert found.cost.loc["zero"].tolist() == [2, 0.0, 4.0, 1.0]


def test_the_sentence_counts_what_the_tables_hold(found):
    trading = found.trading[found.trading["model"] != HOLD]
    models = len(VARIANTS) + len(BASELINES)
    ahead = [int((trading[f"over_hold_{cost}bp"] > 0).sum()) for cost in (0, 1, 5)]
    clear = [int((trading[f"over_hold_{cost}bp_lo"] > 0).sum()) for cost in (0, 1, 5)]
    assert "with {}, {} and {} of {} models (".format(*ahead, models) in found.sentence
    assert "above 0 with {}, {} and {} of them.".format(*clear) in found.sentence
    assert "better than linear on all tickers together (SPA p = " in found.sentence
    assert found.sentence.endswith(WARNING)


def test_tables_have_their_row_names_and_metrics_their_rows(found):
    assert set(found.tables) == {"confidence", "ability", "regimes", "cost", "trading"}
    assert all(str(t.columns[0]) in ("model", "reference") for t in found.tables.values())
    metrics = found.metrics()
    assert set(metrics) == {*VARIANTS, *BASELINES}
    assert metrics["LSTM-Raw"]["trading/return_1bp"] == pytest.approx(
        found.trading.set_index("model").loc["LSTM-Raw", "return_1bp"]
    )
    assert "regime/volatile_skill" in metrics["zero"]
    assert "mcs/AAPL_p" in metrics["zero"]


def test_the_terminal_shows_every_model_on_one_line_of_100_columns(found):
    console = Console(width=100, record=True)
    with console.capture() as shown:
        console.print(walk_forward_tables(found, "linear"))
    lines = shown.get().splitlines()
    for name in (*VARIANTS, *(b for b in BASELINES if b != "linear")):
        assert sum(line.strip().startswith(f"{name} ") for line in lines) == 2, name
    assert sum(line.strip().startswith(HOLD) for line in lines) == 1


def test_tests_of_single_tickers_are_adjusted_for_their_number(small, found):
    _, alone = judge_tickers(small.predictions, REFERENCES, VARIANTS)
    for reference in REFERENCES:
        p_values = found.ability.loc[reference, ["AAPL", "MSFT"]].to_numpy()
        own = alone.loc[reference, ["AAPL", "MSFT"]].to_numpy()
        expected = [min(1.0, 2 * own.min()), max(own.max(), min(1.0, 2 * own.min()))]
        np.testing.assert_allclose(np.sort(p_values), expected)
    count = int((found.ability.loc["linear", ["AAPL", "MSFT"]] < 0.05).sum())
    assert f"is on {count} of 2 by themselves, by SPA tests that are adjusted" in found.sentence


def test_three_figures_are_drawn(found):
    figures = dict(walk_forward_figures(found, "linear", VARIANTS))
    assert set(figures) == {"confidence", "regimes", "trading"}
    labels = [label.get_text() for label in figures["trading"].axes[0].get_yticklabels()]
    assert HOLD not in labels
    assert len(labels) == len(VARIANTS) + len(BASELINES)
