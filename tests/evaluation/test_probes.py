"""Models whose reliance is planted, and models that peek."""

import numpy as np
import pytest

from farm.base.generative import Imputation, Imputer
from farm.base.model import Model
from farm.base.surfaces import Paths
from farm.base.types import Forecast, Windows
from farm.data.splits import SurfaceSplit
from farm.evaluation.probes import (
    asset_groups,
    causality,
    channel_groups,
    ignores_peers,
    imputation_causality,
    path_causality,
    probe,
    reliance,
)
from farm.studies.surface import SurfaceStudy
from tests.return_world import return_data
from tests.surface_world import record

ASSETS = ("AMZN", "MSFT", "SP500")
CHANNELS = ("log_return", "roll_vol", "vol_change", "log_range")
FEATURES = tuple(f"{asset}/{channel}" for asset in ASSETS for channel in CHANNELS)
DAYS = 6
GROUPS = asset_groups(FEATURES, DAYS, "AMZN")
SURFACE_STUDY = SurfaceStudy(
    context=6, horizon=8, offset=8, overlap=4, days=24, samples=6,
    split=SurfaceSplit(
        val=0, calibration=0, test=0, least_val=40, least_calibration=50, least_test=54,
        least_train=30, gap=10,
    ),
)  # fmt: skip


class Formula(Model):
    """Forecasts by a rule of the windows."""

    def __init__(self, rule, spread=None):
        self.rule, self.spread = rule, spread

    def predict(self, windows: Windows) -> Forecast:
        point = self.rule(windows)
        if self.spread is None:
            return Forecast(point)
        half = self.spread(windows)
        return Forecast(point, np.stack([point - half, point, point + half], axis=1), (0.05, 0.5, 0.95))

    def state(self):
        return {}

    def load_state(self, state):
        pass


def linear(**weights):
    """Weights by ``asset__channel`` on the last day, or by ``asset__channel__day``."""
    cells = []
    for name, weight in weights.items():
        asset, channel, *day = name.split("__")
        cells.append((int(day[0]) if day else -1, FEATURES.index(f"{asset}/{channel}"), weight))
    return Formula(lambda w: sum(weight * w.x[:, t, f].astype(float) for t, f, weight in cells))


@pytest.fixture(scope="module")
def windows() -> Windows:
    rng = np.random.default_rng(0)
    count = 3000
    x = rng.standard_normal((count, DAYS, 12)).astype(np.float32)
    x[:, -1, :4] = 0
    truth = 0.6 * x[:, -1, 4] + 0.8 * rng.standard_normal(count)
    series = np.concatenate([rng.standard_normal(30), truth])
    return Windows(
        x=x,
        y=truth.astype(np.float32),
        times=np.arange(count).astype("datetime64[D]"),
        features=FEATURES,
        series=series,
        position=np.arange(30, 30 + count),
        hidden=rng.standard_normal((count, 4)).astype(np.float32),
    )


def test_groups_hold_what_they_are_named_after():
    assert set(GROUPS) == {"own", "peers", "peers_last", *ASSETS, *FEATURES}
    assert all(cells.shape == (DAYS, 12) for cells in GROUPS.values())
    assert GROUPS["own"].sum() == GROUPS["AMZN"].sum() == 4 * DAYS
    np.testing.assert_array_equal(GROUPS["peers"], GROUPS["MSFT"] | GROUPS["SP500"])
    np.testing.assert_array_equal(GROUPS["peers"], ~GROUPS["own"])
    assert GROUPS["peers_last"][-1].tolist() == [False] * 4 + [True] * 8
    assert not GROUPS["peers_last"][:-1].any()
    np.testing.assert_array_equal(np.argwhere(GROUPS["MSFT/roll_vol"])[:, 1], np.full(DAYS, 5))


def test_reliance_is_the_planted_share(windows):
    model = linear(MSFT__log_return=0.6, SP500__log_return=-0.3, AMZN__roll_vol__2=0.2)
    scores = reliance(model, windows, GROUPS)
    total = np.sqrt(0.36 + 0.09 + 0.04)
    planted = {
        "MSFT": 0.6,
        "MSFT/log_return": 0.6,
        "SP500/log_return": 0.3,
        "AMZN/roll_vol": 0.2,
        "own": 0.2,
        "peers": np.sqrt(0.45),
        "peers_last": np.sqrt(0.45),
    }
    for name, weight in planted.items():
        assert scores[f"probe/reliance/{name}"] == pytest.approx(weight / total, rel=0.06), name
    for name in ("AMZN/log_return", "MSFT/roll_vol", "SP500/log_range"):
        assert scores[f"probe/reliance/{name}"] == 0
        assert scores[f"probe/reliance_rmse/{name}"] == 0


def test_the_error_grows_where_the_input_was_needed_and_shrinks_where_it_was_noise(windows):
    # With the true weight: variance 0.64 grows by 2 * 0.36; a weight on noise costs and goes on costing.
    scores = reliance(linear(MSFT__log_return=0.6, SP500__log_return=0.5), windows, GROUPS)
    before = 0.64 + 0.25
    expected = np.sqrt((before + 0.72) / before) - 1
    assert scores["probe/reliance_rmse/MSFT"] == pytest.approx(expected, abs=0.04)
    assert scores["probe/reliance_rmse/SP500"] == pytest.approx(0, abs=0.03)


def test_a_group_moves_together(windows):
    twins = windows.x.copy()
    twins[:, -1, 8] = twins[:, -1, 4]
    both = Windows(**{**vars(windows), "x": twins})
    # The difference of equal channels is zero on every day, and stays so when they move together.
    scores = reliance(linear(MSFT__log_return=1, SP500__log_return=-1, AMZN__roll_vol__0=1), both, GROUPS)
    assert scores["probe/reliance/peers"] == 0
    assert scores["probe/reliance/MSFT"] == pytest.approx(1, rel=0.06)


def test_the_same_seed_gives_the_same_numbers_under_the_name_of_the_part(windows):
    model = linear(MSFT__log_return=0.6, AMZN__log_return__4=0.1)
    one, again = reliance(model, windows, GROUPS), reliance(model, windows, GROUPS, part="s4")
    assert again == {name.replace("probe/", "probe/s4/"): score for name, score in one.items()}
    assert one != reliance(model, windows, GROUPS, seed=1)
    assert all(type(score) is float for score in one.values())


@pytest.mark.parametrize(
    ("model", "ignores"),
    [
        (linear(AMZN__log_return__4=1.0), True),
        (linear(AMZN__log_return__4=1.0, MSFT__log_return=0.08), True),
        (linear(AMZN__log_return__4=1.0, MSFT__log_return__4=1.0), True),  # their past is not the point
        (linear(AMZN__log_return__4=1.0, MSFT__log_return=0.13), False),
        (linear(SP500__log_range=0.1), False),
        (Formula(lambda w: np.full(len(w), 0.001)), True),
    ],
)
def test_a_forecast_that_ignores_the_peers_is_called_so(model, ignores, windows):
    for part in ("", "s4"):
        said = ignores_peers(reliance(model, windows, GROUPS, part), part)
        assert bool(said) == ignores
        assert "\n" not in said


def test_a_model_is_handed_what_it_always_gets(windows):
    seen = []

    def rule(w):
        seen.append(
            (w.x.dtype, w.x.flags.c_contiguous, (w.x[:, -1, :4] == 0).all(), w.series is windows.series)
        )
        return w.x[:, 0, 0].astype(float)

    original = windows.x.copy()
    reliance(Formula(rule), windows, GROUPS)
    assert set(seen) == {(np.dtype(np.float32), True, True, True)}
    np.testing.assert_array_equal(windows.x, original)


def test_a_perfect_forecast_and_bad_groups(windows):
    scores = reliance(Formula(lambda w: w.truth), windows, GROUPS)
    assert np.isnan(scores["probe/reliance_rmse/peers"])
    with pytest.raises(ValueError, match=r"group own: shape \(5, 12\)"):
        reliance(linear(MSFT__log_return=1), windows, asset_groups(FEATURES, 5, "AMZN"))
    with pytest.raises(ValueError, match="at least 2"):
        reliance(linear(MSFT__log_return=1), windows.take(slice(0, 1)), GROUPS)


HONEST = {
    "window": Formula(lambda w: w.x[:, -1, 4].astype(float), lambda w: np.abs(w.x[:, 0, 1]) + 1.0),
    "last return": Formula(lambda w: w.series[w.position - 1]),
    "all returns": Formula(lambda w: np.array([w.series[:p].mean() for p in w.position])),
}
CHEATS = {
    "truth": Formula(lambda w: 0.01 * w.truth),
    "target": Formula(lambda w: 0.01 * w.y.astype(float)),
    "hidden": Formula(lambda w: w.hidden[:, 2].astype(float)),
    "width": Formula(lambda w: np.zeros(len(w)), lambda w: np.abs(w.hidden[:, 1]).astype(float)),
    "mean of the whole series": Formula(lambda w: np.full(len(w), w.series.mean())),
    "next day": Formula(lambda w: w.series[np.minimum(w.position + 1, len(w.series) - 1)]),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_model_sees_no_future(name, windows):
    assert causality(HONEST[name], windows) == (0.0, 0.0)


@pytest.mark.parametrize("name", CHEATS)
def test_a_model_that_peeks_is_caught(name, windows):
    seen = causality(CHEATS[name], windows)
    assert max(seen) > 1e-3
    # What the model was handed as targets, or what came later: each is told apart.
    assert (seen.targets > 0) == (name in ("target", "hidden", "width"))


def rounded(size):
    """A forecast of 0.1 and some, into which the batch's last window rounds by a share of it."""
    return Formula(lambda w: 0.1 + 0.01 * w.x[:, -1, 4].astype(float) + 0.1 * size * w.x[-1, 0, 0])


def test_rounding_is_no_look_into_the_future_and_a_thousandth_is(windows):
    assert causality(rounded(4e-8), windows) == (0.0, 0.0)  # an ulp of single precision is 6e-8 of it
    assert guilty(rounded(4e-8), windows) == (
        {"probe/causality/targets": 0.0, "probe/causality/future": 0.0}, {}
    )  # fmt: skip
    seen = causality(rounded(1e-3), windows)
    assert seen.targets == 0
    assert seen.future > 1e-5
    said = guilty(rounded(1e-3), windows)[1]["sees the future"]
    assert said == f"future move it by {seen.future:.2g}"


def test_windows_that_hide_nothing_can_be_probed(windows):
    plain = Windows(**{**vars(windows), "hidden": None})
    assert causality(HONEST["window"], plain) == (0.0, 0.0)
    assert causality(CHEATS["target"], plain).targets > 0
    flat = Windows(
        **{**vars(windows), "y": np.zeros_like(windows.y), "series": np.zeros_like(windows.series)}
    )
    assert causality(CHEATS["target"], flat).targets > 0
    one = windows.take(slice(7, 8))
    assert causality(HONEST["last return"], one) == (0.0, 0.0)
    assert causality(CHEATS["truth"], one).future > 0


def guilty(model, windows, limit=0.5):
    found = probe(model, windows, model.predict(windows), {}, limit)
    return found.values, found.warnings


def test_a_forecast_too_good_to_be_true_is_flagged_with_the_likely_reason(windows):
    def reason(model, block=windows):
        return guilty(model, block)[1].get("too good to be true", "")

    assert "reads the targets" in reason(Formula(lambda w: w.y.astype(float)))
    assert "reads days after" in reason(Formula(lambda w: w.truth))
    x = windows.x.copy()
    x[:, -1, 6] = 5 * windows.truth + 1
    leaky = Windows(**{**vars(windows), "x": x})
    told = reason(Formula(lambda w: (w.x[:, -1, 6].astype(float) - 1) / 5), leaky)
    assert "MSFT/vol_change is nearly the target (correlation 1.00)" in told
    assert "100 % of the variance" in told
    x[:, 0, 6], x[:, -1, 6] = windows.truth, 0
    spread = Formula(lambda w: w.x[:, 0, 6].astype(float))
    assert "no single input" in reason(spread, Windows(**{**vars(windows), "x": x}))
    # The best honest forecast explains 0.36, and its input is no leak.
    honest = linear(MSFT__log_return=0.6)
    assert guilty(honest, windows) == (
        {"probe/causality/targets": 0.0, "probe/causality/future": 0.0}, {}
    )  # fmt: skip
    assert "MSFT/log_return is nearly" in guilty(honest, windows, limit=0.3)[1]["too good to be true"]


def test_a_peeking_model_is_named_though_it_scores_badly(windows):
    metrics, tags = guilty(CHEATS["next day"], windows)
    assert set(tags) == {"sees the future"}
    assert metrics["probe/causality/future"] > 1e-3
    flat = Windows(**{**vars(windows), "series": np.zeros_like(windows.series)})
    assert guilty(Formula(lambda w: np.zeros(len(w))), flat)[1] == {}


def test_channels_are_groups_of_any_window(windows):
    groups = channel_groups(("a", "b"), 3)
    assert {name: cells.tolist() for name, cells in groups.items()} == {
        "a": [[True, False]] * 3,
        "b": [[False, True]] * 3,
    }
    metrics = probe(HONEST["window"], windows, HONEST["window"].predict(windows), GROUPS, 1.0).values
    assert metrics["probe/reliance/MSFT/log_return"] == pytest.approx(1, rel=0.06)


class Fill(Imputer):
    """Fills with zero, plus what a cheat peeks at: a number for each day, (N,), from the rows."""

    def __init__(self, peek=lambda rows: 0.0 * rows[:, 0]):
        self.peek = peek

    def impute(self, rows, first):
        known = np.nan_to_num(rows)
        block = np.repeat(self.peek(known)[first:, None], rows.shape[1], axis=1)
        return Imputation(np.where(np.isnan(rows[first:]), block, rows[first:]))

    def state(self):
        return {}

    def load_state(self, state):
        pass


class Unmasked(Fill):
    """Forgets to hide: it reads the entries that it is to fill."""

    def forecast_hidden(self, windows, mask):
        return Forecast(0.1 * windows.hidden_returns(mask))


def test_entries_are_filled_from_their_own_day_and_those_before_it():
    block = return_data(200).open_test()
    honest = Fill(lambda rows: np.concatenate([[0.0], rows[:-1].mean(axis=1)]))
    assert imputation_causality(honest, block) == (0.0, 0.0)
    assert imputation_causality(Fill(lambda rows: rows.mean(axis=1)), block) == (0.0, 0.0)
    smoother = imputation_causality(Fill(lambda rows: np.append(rows[1:, 0], 0.0)), block)
    assert smoother.targets == 0
    assert smoother.future > 1e-3
    overall = imputation_causality(Fill(lambda rows: np.full(len(rows), rows.std())), block)
    assert overall.future > 1e-3
    assert imputation_causality(Unmasked(), block).targets > 1e-3


def test_the_noise_of_a_probe_stands_in_rows_and_windows_alike():
    block = return_data(200).open_test()
    seen = []

    class Looks(Fill):
        def predict(self, windows):
            seen.append(windows)
            return super().predict(windows)

    imputation_causality(Looks(), block)
    for windows in seen[1:]:
        np.testing.assert_allclose(windows.x[3], windows.block[3 : 3 + windows.x.shape[1]], rtol=1e-6)
        np.testing.assert_allclose(windows.truth, windows.y, rtol=1e-6)
        np.testing.assert_array_equal(windows.rows[: windows.first], block.rows[: block.first])
        assert (windows.block != block.block).any()


class Walk:
    """Generates surfaces by a rule of the whole record and of the row."""

    def __init__(self, rule, level=lambda windows: windows.series[windows.position - 1]):
        self.rule, self.level = rule, level

    def predict(self, windows):
        return Forecast(self.level(windows))

    def __call__(self, windows, row):
        return Paths(np.repeat(self.rule(windows.past, row)[None, None], 2, axis=0))


def test_paths_hang_on_the_days_before_them_alone():
    block = SURFACE_STUDY.dataset(record(300)).open_test()

    def seen(walk):
        return path_causality(walk, walk, block)

    assert seen(Walk(lambda past, row: past.surface[row - 1])) == (0.0, 0.0)
    assert seen(Walk(lambda past, row: past.surface[:row].mean(axis=0))) == (0.0, 0.0)
    for rule in (
        lambda past, row: past.surface[row],
        lambda past, row: past.surface.mean(axis=0),
        lambda past, row: past.surface[row - 1] * np.exp(0.1 * past.extra[row + 1, 0]),
        lambda past, row: past.surface[row - 1] * np.exp(0.1 * past.vectors[-1, 0]),
    ):
        assert seen(Walk(rule)).future > 1e-3
    last = lambda past, row: past.surface[row - 1]  # noqa: E731
    assert seen(Walk(last, lambda w: w.truth)).future > 1e-3
    assert seen(Walk(last, lambda w: w.x[np.minimum(np.arange(len(w)) + 1, len(w) - 1), -1, 0])).future > 1e-3
    assert seen(Walk(last, lambda w: w.y.astype(float))).targets > 1e-3
