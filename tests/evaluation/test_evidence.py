"""What days can show: variances known ahead, memory, stretches, and worlds without a true gain."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import binom

from benchmarks.worlds import noise, returns, run, too_many
from farm.evaluation.evidence import detectable_gain, memory, variance_known
from farm.evaluation.selection import common_block
from farm.evaluation.significance import cosine_variance, cosines, diebold_mariano
from farm.evaluation.verdict import pair_skill, verdict

LEADS = 21


def paths(starts: int, spacing: int, seed: int, models=("variant", "reference")) -> pd.DataFrame:
    """Forecasts of a random walk on `starts` days, each as good as any other by symmetry."""
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2001-01-01", periods=starts * spacing + LEADS + 1)
    walk = np.cumsum(rng.standard_normal(len(days)))
    rows = []
    for start in range(0, starts * spacing, spacing):
        truth = walk[start + 1 : start + 1 + LEADS] - walk[start]
        for model in models:
            drift = rng.normal(0, 2) + np.cumsum(rng.normal(0, 0.3, LEADS))
            rows.append(
                pd.DataFrame(
                    {
                        "date": days[start + 1 : start + 1 + LEADS], "start": days[start],
                        "lead": np.arange(1, LEADS + 1), "ticker": "cell", "model": model, "seed": 0,
                        "actual": truth, "predicted": drift,
                    }
                )
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def row_of(predictions: pd.DataFrame, **options) -> pd.Series:
    table = verdict(predictions, ("reference",), ("variant",), ("reference",), **{"resamples": 50} | options)
    return table.set_index("model").loc["variant"]


@pytest.mark.parametrize("starts", [1, 2, 5, 7])
def test_a_few_starting_days_are_no_evidence(starts):
    for seed in range(8):
        row = row_of(paths(starts, LEADS, seed))
        assert row["beats"] == row["beats_best"] == "no test"
        assert row[["dm_p", "reference_p_selected", "best_p_selected", "mcs_p", "detectable"]].isna().all()
        assert row[["rmse_lo", "rmse_hi", "reference_rmse_skill_lo"]].isna().all()
        assert (row["starts"], row["stretches"]) == (starts, starts)
        assert math.isfinite(row["reference_rmse_skill"])


def test_starts_that_overlap_are_not_counted_twice():
    row = row_of(paths(100, 1, 0))
    assert (row["starts"], row["stretches"]) == (100, 5)
    assert row["beats"] == "no test"
    assert row_of(paths(100, 3, 0))["stretches"] == 15


def test_the_loss_of_a_start_is_the_mean_over_its_leads():
    predictions = paths(40, LEADS, 3)
    row = row_of(predictions)
    squared = predictions.assign(loss=(predictions["predicted"] - predictions["actual"]) ** 2)
    daily = squared.pivot_table("loss", "start", "model")
    test = diebold_mariano(daily["variant"].to_numpy(), daily["reference"].to_numpy(), stretches=40)
    assert row["dm_p"] == pytest.approx(test.p_value)
    ratio = math.sqrt(daily["variant"].mean() / daily["reference"].mean())
    assert row["reference_rmse_skill"] == pytest.approx(1 - ratio)
    own, other = (predictions[predictions["model"] == name] for name in ("variant", "reference"))
    assert pair_skill(own, other) == pytest.approx(1 - ratio)


def test_paths_that_are_as_good_are_seldom_called_better():
    worlds = 60
    shown = sum(row_of(paths(40, LEADS, seed), resamples=100)["dm_p"] < 0.05 for seed in range(worlds))
    assert shown <= binom.ppf(0.999, worlds, 0.05)


def test_a_variance_reads_nothing_of_its_day_after_the_first_ones():
    rng = np.random.default_rng(0)
    squared = rng.standard_normal((120, 3)) ** 2 * np.exp(rng.normal(0, 1, (120, 1)))
    squared[40:50, 1] = np.nan
    squared[:, 2] = 0.0
    known = variance_known(squared)
    changed = squared.copy()
    changed[80:, :2] *= 100
    np.testing.assert_array_equal(variance_known(changed)[:81], known[:81])
    assert (variance_known(changed)[81:, :2] > known[81:, :2]).all()
    assert np.isnan(known[:, 2]).all(), "never wrong, so nothing to be divided by"
    assert known[45, 1] == known[41, 1], "a day without an error changes nothing"


def test_the_memory_of_forecasts_is_found():
    rng = np.random.default_rng(1)
    for r, days in ((0.0, 1.0), (0.9, 9.5), (0.97, 33)):
        assert memory(noise(rng, (4000, 5), r)) == pytest.approx(days, rel=0.25)
    assert memory(np.ones((50, 2))) == 1.0
    assert memory(np.linspace(0, 1, 50)[:, None]) > 40


def test_blocks_are_as_long_as_the_days_and_forecasts_ask():
    rng = np.random.default_rng(2)
    gains = {days: rng.standard_normal((days, 3)) for days in (60, 390, 1000)}
    assert [common_block(gain) for gain in gains.values()] == [6, 20, 40]
    assert common_block(gains[390], overlap=60) == 60
    assert common_block(noise(rng, (390, 3), 0.97)) > 30
    assert common_block(gains[60], overlap=30) == 30


def test_the_cosine_variance_is_that_of_a_mean_with_memory():
    rng = np.random.default_rng(3)
    series = noise(rng, (400, 2000), 0.8)
    estimated = cosine_variance(series - series.mean(axis=0), cosines(400)).mean()
    assert estimated == pytest.approx(400 * series.mean(axis=0).var(), rel=0.25)
    assert [cosines(n) for n in (20, 60, 390, 1000)] == [2, 6, 21, 40]
    assert cosines(390, stretches=8) == 4


def standardised(share: float, world: int) -> tuple[np.ndarray, np.ndarray]:
    """Daily losses of zero and of a forecast that explains a share of the variance, (390,) each."""
    rng = np.random.default_rng(world)
    rest, sd = returns(rng, 390, 3)
    signal = math.sqrt(share) * sd * noise(rng, rest.shape, 0.5)
    zero, knows = (math.sqrt(1 - share) * rest + signal) ** 2, (1 - share) * rest**2
    known = variance_known(zero)
    return (zero / known).mean(axis=1), (knows / known).mean(axis=1)


def test_a_gain_of_the_size_that_is_said_is_found_half_the_time():
    """The share whose gain is what is said of its own spread, planted in 100 other worlds."""

    def beyond(share: float) -> float:
        pairs = [standardised(share, world) for world in range(1000, 1012)]
        said = np.mean([detectable_gain(zero, zero - knows) for zero, knows in pairs])
        return 1 - math.sqrt(1 - share) - said

    share = brentq(beyond, 1e-3, 0.2, xtol=1e-3)
    tests = [diebold_mariano(*reversed(standardised(share, world))) for world in range(100)]
    found = sum(test.statistic < 0 and test.p_value < 0.05 for test in tests)
    assert 35 <= found <= 65, found


@pytest.mark.parametrize("cell", [(1, 20, 0.97, 390), (7, 5, 0.9, 60)])
def test_worlds_without_a_gain_have_few_winners(cell):
    worlds = 60
    row = run(cell, worlds)
    assert row["false"] <= binom.ppf(0.999, worlds, 0.05), row
    assert not too_many(pd.DataFrame([row])).any()


def test_a_cell_with_too_many_winners_is_named():
    rows = [{"false": found, "worlds": 400} for found in (20, 24, 45)]
    assert too_many(pd.DataFrame(rows)).tolist() == [False, False, True]
