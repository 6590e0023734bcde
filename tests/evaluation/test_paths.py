"""Scores of generated paths against slow loops over stretches, days and cells."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scoringrules

from farm.base.surfaces import Paths
from farm.data.volatility import ewma_volatility
from farm.evaluation import paths
from farm.evaluation.paths import (
    Stretch,
    arbitrage_scores,
    cointegration_scores,
    correlation_score,
    energy_score,
    flatten,
    pass_scores,
    path_block,
    path_subsets,
)
from farm.evaluation.scores import Evaluation, numbers, score
from tests.surface_world import record, world

CELLS = ("a", "b", "c", "d", "e", "f")
DAYS = np.arange("2001-01-01", "2003-01-01", dtype="datetime64[D]")


def stretch(row: int, days: int, seed: int, samples: int = 9, extra: int = 0) -> Stretch:
    """Random days on a 2 x 3 grid, generated for `extra` days more than came."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.1, 0.4, (days, 2, 3))
    made = rng.uniform(0.1, 0.4, (samples, days + extra, 2, 3)).astype(np.float32)
    return Stretch(
        row, DAYS[row : row + days], DAYS[row - 1], rng.uniform(0.1, 0.4, (2, 3)), truth, Paths(made)
    )


@pytest.fixture(scope="module")
def stretches() -> list[Stretch]:
    return [stretch(10, 20, 0), stretch(30, 14, 1, extra=6)]


def loops(stretches: list[Stretch], keep) -> float:
    """RMSE of the mean path over the entries that `keep(row, lead, cell)` takes."""
    errors = []
    for one in stretches:
        for day, cell in itertools.product(range(len(one.truth)), range(6)):
            if keep(one.row + day, day + 1, cell):
                draws = one.paths.samples[:, day].reshape(-1, 6)[:, cell].astype(float)
                errors.append(draws.mean() - one.truth[day].ravel()[cell])
    return float(np.sqrt(np.mean(np.square(errors))))


def test_a_flat_forecast_is_the_change_since_the_last_known_day(stretches):
    flat = flatten(stretches)
    assert len(flat.truth) == (20 + 14) * 6
    place = 0
    for one in stretches:
        for day, cell in itertools.product(range(len(one.truth)), range(6)):
            row, column = divmod(cell, 3)
            last = one.last[row, column]
            draws = np.sort(one.paths.samples[:, day, row, column].astype(float))
            assert flat.truth[place] == pytest.approx(one.truth[day, row, column] - last)
            assert flat.forecast.point[place] == pytest.approx(draws.mean() - last)
            assert flat.forecast.quantiles[place, 1] == pytest.approx(draws[4] - last, abs=1e-7)  # of nine
            assert (flat.lead[place], flat.cell[place]) == (day + 1, cell)
            assert flat.dates[place] == one.dates[day] == DAYS[flat.row[place]]
            assert flat.starts[place] == one.known
            place += 1


def scores_of(stretches, cells, regimes) -> dict[str, float]:
    """Scores from what a trial stores, in passes of eight days; beside the ranked part there is ``way``."""
    flat = flatten(stretches)
    block = path_block({"": flat}, cells, path_subsets(flat, 8, regimes))
    noise = dict.fromkeys(("", "way"), flat.noise)
    sampled = {"crps": block.sampled["crps"], "noise": noise}
    block = replace(block, forecasts={**block.forecasts, "way": flat.forecast}, sampled=sampled)
    evaluation = Evaluation({"test": block})
    return numbers(score(evaluation, lambda: 1 / 0, "", ["rmse", "crps"])) | paths.paths(evaluation)


def slow_crps(draws, truth) -> float:
    """The fair estimator by its definition: every pair of different samples."""
    near = np.mean([abs(draw - truth) for draw in draws])
    apart = [abs(a - b) for a, b in itertools.permutations(draws.tolist(), 2)]
    return float(near - np.mean(apart) / 2)


def test_the_crps_of_paths_is_that_of_every_pair_of_samples(stretches, monkeypatch):
    crisis = np.zeros(60, dtype=bool)
    crisis[15:33] = True
    entries = [
        (one.row + day, slow_crps(one.paths.samples[:, day].reshape(9, 6)[:, cell].astype(float), truth))
        for one in stretches
        for day in range(len(one.truth))
        for cell, truth in enumerate(one.truth[day].ravel())
    ]
    slow = np.array([score for _, score in entries])
    for chunk in (1, 200, 1_000_000):
        monkeypatch.setattr(paths, "CHUNK", chunk)
        np.testing.assert_allclose(flatten(stretches).crps, slow, atol=1e-12)
    scores = scores_of(stretches, CELLS, {"crisis": crisis})
    assert scores["interval/crps"] == pytest.approx(slow.mean())
    inside = [score for row, score in entries if crisis[row]]
    assert scores["interval/crisis/crps"] == pytest.approx(np.mean(inside))
    assert not [name for name in scores if "way" in name and name.endswith("crps")], "it has no samples"


def test_the_crps_does_not_hang_on_the_number_of_samples():
    """Of a standard normal at 0.5 it is 0.3313, with two samples as with many."""
    rng = np.random.default_rng(0)
    law = scoringrules.crps_normal(0.5, 0.0, 1.0)
    for count in (2, 5, 50):
        drawn = rng.normal(size=(count, 20_000))
        error = paths.fair_crps(drawn, np.full(20_000, 0.5)) - law
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(20_000)
        fair = scoringrules.crps_ensemble(np.full(20_000, 0.5), drawn.T, estimator="fair")
        np.testing.assert_allclose(error + law, fair, atol=1e-12)


def test_the_error_that_comes_from_the_number_of_samples():
    """The mean of 9 samples of a law of variance v is off by v / 9 more than its mean."""
    rng = np.random.default_rng(1)
    truth = rng.normal(1.0, 0.03, (4000, 1, 1))
    made = rng.normal(1.0, 0.06, (9, 4000, 1, 1))
    days = np.datetime64("2001-01-01") + np.arange(4000)
    scores = scores_of([Stretch(0, days, days[0] - 1, np.zeros((1, 1)), truth, Paths(made))], (), {})
    assert scores["test/monte_carlo_rmse"] == pytest.approx(0.06 / 3, rel=0.02)
    exact = np.sqrt(scores["test/rmse"] ** 2 - scores["test/monte_carlo_rmse"] ** 2)
    assert exact == pytest.approx(0.03, rel=0.03)


def test_scores_by_pass_lead_cell_and_regime_are_those_of_loops(stretches):
    crisis = np.zeros(60, dtype=bool)
    crisis[15:33] = True
    scores = scores_of(stretches, CELLS, {"crisis": crisis, "normal": ~crisis})
    expected = {
        "test/way/rmse": lambda row, lead, cell: True,
        "test/way/pass1/rmse": lambda row, lead, cell: lead <= 8,
        "test/way/pass2/rmse": lambda row, lead, cell: 9 <= lead <= 16,
        "test/way/pass3/rmse": lambda row, lead, cell: lead >= 17,
        "test/way/crisis/rmse": lambda row, lead, cell: 15 <= row < 33,
        "test/way/normal/rmse": lambda row, lead, cell: not 15 <= row < 33,
        "test/way/lead/1/rmse": lambda row, lead, cell: lead == 1,
        "test/way/lead/5/rmse": lambda row, lead, cell: lead == 5,
        "test/way/grid/e/rmse": lambda row, lead, cell: cell == 4,
    }
    for name, keep in expected.items():
        assert scores[name] == pytest.approx(loops(stretches, keep)), name
    ratio = scores["test/way/pass3/rmse"] / scores["test/way/pass1/rmse"]
    assert scores["test/way/degradation"] == pytest.approx(ratio)
    assert "test/way/lead/21/rmse" not in scores  # nobody looked so far ahead
    assert "test/way/pass4/rmse" not in scores


def test_a_regime_without_a_day_has_no_score(stretches):
    scores = scores_of(stretches, (), {"crisis": np.zeros(60, dtype=bool)})
    assert not [name for name in scores if "crisis" in name]


def test_true_passes_are_scored_before_overlaps_are_averaged():
    rng = np.random.default_rng(3)
    one = stretch(0, 14, 5)
    passes = tuple((start, rng.uniform(0.1, 0.4, (9, 8, 2, 3))) for start in (0, 4, 8, 12))
    rolled = replace(one, paths=Paths(one.paths.samples, passes=passes))
    scores = pass_scores([rolled], "overlap")
    for number, (start, made) in enumerate(passes, 1):
        days = min(8, 14 - start)  # later days have not come
        error = made[:, :days].mean(axis=0) - one.truth[start : start + days]
        assert scores[f"test/overlap/pass{number}/rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    third, first = scores["test/overlap/pass3/rmse"], scores["test/overlap/pass1/rmse"]
    assert scores["test/overlap/degradation"] == pytest.approx(third / first)


def test_energy_score_by_its_definition(stretches):
    total, days = 0.0, 0
    for one in stretches:
        for day, truth in enumerate(one.truth):
            draws = one.samples[:, day].reshape(9, 6).astype(float)
            near = np.mean([np.linalg.norm(draw - truth.ravel()) for draw in draws])
            apart = sum(np.linalg.norm(a - b) for a in draws for b in draws) / (9 * 8)
            total, days = total + near - apart / 2, days + 1
    assert energy_score(stretches) == pytest.approx(total / days)


@pytest.fixture(scope="module")
def copied() -> tuple[list[Stretch], np.ndarray]:
    """Two stretches that follow one another and generate the truth itself, with its EWMA volatility."""
    real = record(400)
    iv = real.iv.astype(float)
    made = [
        Stretch(
            row,
            real.dates[row : row + 100],
            real.dates[row - 1],
            iv[row - 1],
            iv[row : row + 100],
            Paths(iv[None, row : row + 100]),
        )
        for row in (150, 250)
    ]
    return made, ewma_volatility(real.returns)


def test_the_truth_preserves_its_own_cointegration_and_correlation(copied):
    stretches, volatility = copied
    crisis = np.zeros(400, dtype=bool)
    crisis[150:230] = True
    scores = cointegration_scores(stretches, volatility, {"crisis": crisis, "normal": ~crisis})
    for where in ("", "stretch/"):
        for regime in ("crisis", "normal", "all"):
            real = scores[f"cointegration/{where}real/{regime}"]
            assert scores[f"cointegration/{where}generated/{regime}"] == real
            if real > 0:
                assert scores[f"cointegration/{where}kept/{regime}"] == 1.0
    assert correlation_score(stretches) == pytest.approx(0.0, abs=1e-12)


def test_only_stretches_that_follow_one_another_are_joined(copied):
    stretches, volatility = copied
    apart = cointegration_scores([stretches[0].cut(80), stretches[1]], volatility, {})
    assert "cointegration/stretch/real/all" in apart
    assert "cointegration/real/all" not in apart


def test_too_short_a_regime_is_not_tested(copied):
    stretches, volatility = copied
    brief = np.zeros(400, dtype=bool)
    brief[160:190] = True
    assert not [n for n in cointegration_scores(stretches, volatility, {"brief": brief}) if "brief" in n]


def test_arbitrage_of_generated_surfaces_is_held_against_the_real_ones(copied):
    stretches, _ = copied
    _, inputs = world()
    clean = arbitrage_scores(stretches, inputs)
    assert clean["arbitrage/excess"] == 0.0
    broken = stretches[0].paths.samples.copy()
    broken[:, :50, 4] = 0.3 * broken[:, :50, 3]  # two years worth less than one, on half the days
    one = stretches[0]
    scores = arbitrage_scores([replace(one, paths=Paths(broken))], inputs)
    real = arbitrage_scores([one], inputs)
    assert scores["arbitrage/real/calendar_rate"] == real["arbitrage/real/calendar_rate"]
    # One of four steps in maturity, on half the days, at every strike.
    added = scores["arbitrage/generated/calendar_rate"] - real["arbitrage/generated/calendar_rate"]
    assert added == pytest.approx(1 / 8, abs=0.02)
    assert scores["arbitrage/excess"] == pytest.approx(added, abs=1e-12)
