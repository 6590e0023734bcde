"""The surface baselines: what all of them hold to, and known answers of each."""

import dataclasses

import numpy as np
import pytest

import farm.baselines  # noqa: F401
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.surfaces import Past, SurfaceWindows
from farm.baselines.surface_cointegration import CointegrationRegression, SurfaceCointegrationConfig
from farm.baselines.surface_factors import SurfacePcaVarConfig
from farm.baselines.surface_paths import SLOWEST, SurfaceConfig, SurfaceEstimator, stationary
from farm.data.day_vectors import day_vectors, surface_inputs
from farm.data.simulate import simulate
from farm.data.surface import MAX_VOLATILITY, MIN_VOLATILITY
from farm.data.volatility import ewma_volatility
from tests.surface_world import MATURITIES, MONEYNESS, surfaces, world

CONTEXT = 6
BASELINES = [name for name, config in MODELS._entries.items() if issubclass(config, SurfaceConfig)]
each = pytest.mark.parametrize("name", BASELINES)


def known(surface: np.ndarray, extra: np.ndarray) -> Past:
    days = np.datetime64("2001-01-01") + np.arange(len(surface))
    inputs = surface_inputs(surface, extra, CONTEXT, MATURITIES, MONEYNESS)
    return Past(days, surface, extra, day_vectors(surface, extra, inputs))


def windows(past: Past, first: int, end: int) -> SurfaceWindows:
    """Windows over rows `first` to `end` of a longer record, as a study cuts them."""
    cut = Past(*(getattr(past, field.name)[:end] for field in dataclasses.fields(Past)))
    position = np.arange(max(first, CONTEXT), end)
    level = cut.surface[:, 3, 2]
    views = np.lib.stride_tricks.sliding_window_view(cut.vectors, CONTEXT, axis=0).transpose(0, 2, 1)
    return SurfaceWindows(
        x=views[position - CONTEXT],
        y=level[position].astype(np.float32),
        times=cut.days[position],
        features=tuple(map(str, range(28))),
        series=level,
        position=position,
        past=cut,
        first=first,
    )


def build(name: str, **fields: object) -> SurfaceEstimator:
    return MODELS[name].make({"name": name, **fields}, name).build(world(40)[1])


def taught(name: str, past: Past, first: int = 20, end: int = 320, **fields: object) -> SurfaceEstimator:
    model = build(name, **fields)
    block = windows(past, first, end)
    model.fit(block, block)
    return model


@pytest.fixture(scope="module")
def record() -> Past:
    return known(*surfaces(420))


@pytest.fixture(scope="module")
def simulation() -> Past:
    s = simulate().surfaces
    return known(s.iv.astype(np.float64), s.extra.astype(np.float64))


def altered(past: Past, rows: slice) -> Past:
    """Another history on some rows."""
    surface, extra, vectors = past.surface.copy(), past.extra.copy(), past.vectors.copy()
    surface[rows] *= np.exp(np.random.default_rng(1).normal(0.5, 0.3, surface[rows].shape))
    extra[rows] *= -3.0
    vectors[rows] += 5.0
    return Past(past.days, surface, extra, vectors)


def test_there_are_four():
    assert set(BASELINES) == {
        "surface_random_walk",
        "surface_block_bootstrap",
        "surface_pca_var",
        "surface_cointegration",
    }


@each
@pytest.mark.parametrize(("days", "samples"), [(1, 1), (30, 300)])
def test_paths_are_whole_and_seeds_decide_them(name, record, days, samples):
    model, past = taught(name, record), windows(record, 20, 320).before(310)
    paths = model.generate(past, days, samples, seed=3)
    assert paths.samples.shape == (samples, days, 5, 5)  # Paths holds them to signs itself
    assert paths.returns.shape == (samples, days)
    assert paths.oracle == ""
    again, other = model.generate(past, days, samples, seed=3), model.generate(past, days, samples, seed=4)
    np.testing.assert_array_equal(again.samples, paths.samples)
    np.testing.assert_array_equal(again.returns, paths.returns)
    assert not np.array_equal(other.samples, paths.samples)
    assert len(np.unique(paths.samples[:, -1, 3, 2])) > 0.9 * samples


@each
def test_what_comes_after_changes_nothing(name, record):
    later = altered(record, slice(320, None))
    one, other = taught(name, record), taught(name, later)
    for key, value in one.state().items():
        np.testing.assert_array_equal(other.state()[key], value)
    past, same = windows(record, 20, 420).before(320), windows(later, 20, 420).before(320)
    np.testing.assert_array_equal(one.generate(past, 5, 20, 0).samples, one.generate(same, 5, 20, 0).samples)
    before, after = one.predict(windows(record, 300, 420)), one.predict(windows(later, 300, 420))
    np.testing.assert_array_equal(before.quantiles[:21], after.quantiles[:21])  # row 320 is forecast from 319
    assert not np.allclose(before.point[21:], after.point[21:])


@each
def test_fit_reads_no_day_outside_its_block(name, record):
    outside = altered(altered(record, slice(0, 20)), slice(320, None))
    # The block's own days end where the block does, so the past is cut at 320 by the windows too.
    for key, value in taught(name, record).state().items():
        np.testing.assert_array_equal(taught(name, outside).state()[key], value)
    inside = altered(record, slice(200, 220))
    changed = taught(name, inside).state()
    assert any(not np.array_equal(changed[key], value) for key, value in taught(name, record).state().items())


@each
def test_state_round_trip_to_the_bit(name, record):
    model, other = taught(name, record), build(name)
    other.load_state({key: np.array(value) for key, value in model.state().items()})
    block = windows(record, 320, 420)
    np.testing.assert_array_equal(other.predict(block).quantiles, model.predict(block).quantiles)
    past = block.before(330)
    np.testing.assert_array_equal(
        other.generate(past, 9, 7, 1).samples, model.generate(past, 9, 7, 1).samples
    )


@each
def test_one_day_paths_and_forecasts_agree(name, record):
    model, block = taught(name, record), windows(record, 320, 420)
    forecast = model.predict(block)
    assert forecast.levels == (0.05, 0.5, 0.95)
    for sample in (0, 50):
        row = int(block.position[sample])
        level = model.generate(block.before(row), 1, 20_000, seed=0).samples[:, 0, 3, 2]
        spread = level.std()
        assert forecast.point[sample] == pytest.approx(level.mean(), abs=4 * spread / np.sqrt(20_000))
        np.testing.assert_allclose(
            forecast.quantiles[sample], np.quantile(level, forecast.levels), atol=0.06 * spread
        )


@each
def test_forecasts_of_the_next_day_hold_what_they_say(name, simulation):
    model = taught(name, simulation, 1000, 5000)
    block = windows(simulation, 5200, 8312)
    forecast = model.predict(block)
    outside = (block.truth < forecast.quantiles[:, 0]) | (block.truth > forecast.quantiles[:, 2])
    assert 0.05 < outside.mean() < 0.15
    rmse = np.sqrt(np.mean((forecast.point - block.truth) ** 2))
    naive = np.sqrt(np.mean((block.series[block.position - 1] - block.truth) ** 2))
    assert rmse < 1.1 * naive


# What a year's change spreads, as standard deviation of log volatility relative to that in training, of
# the shortest and the longest maturity: a random walk of daily changes knows no reversion, blocks know
# 21 days of it.
SPREAD = {
    "surface_random_walk": (2.5, 1.0),
    "surface_block_bootstrap": (2.1, 1.1),
    "surface_pca_var": (0.9, 1.0),
    "surface_cointegration": (0.9, 0.75),
}


@each
def test_a_year_spreads_as_history_did(name, simulation):
    model = taught(name, simulation, 1000, 5000)
    history = np.log(simulation.surface[1252:5000, :, 2] / simulation.surface[1000:4748, :, 2]).std(axis=0)
    paths = model.generate(windows(simulation, 1000, 8312).before(6000), 252, 400, seed=0)
    spread = np.log(paths.samples[:, -1, :, 2]).std(axis=0)
    np.testing.assert_allclose((spread / history)[[0, -1]], SPREAD[name], rtol=0.2)
    assert ((paths.samples <= MIN_VOLATILITY) | (paths.samples >= MAX_VOLATILITY)).mean() < 1e-3
    drop = np.corrcoef(paths.returns[:, 1:].ravel(), np.diff(paths.samples[..., 3, 2], axis=1).ravel())[0, 1]
    assert drop == pytest.approx(-0.66, abs=0.15)  # the leverage effect, as in the simulation


def test_other_inputs_and_short_blocks_are_one_line(record):
    _, inputs = world(40)
    with pytest.raises(UserError, match=r"factors=26 for 25 cells, expected at most 25"):
        SurfacePcaVarConfig(factors=26).build(inputs)
    plain = dataclasses.make_dataclass("Inputs", ["features"])(("close", "volume"))
    for name in BASELINES:
        with pytest.raises(UserError, match=r"expected days of surfaces, got the features close, volume"):
            MODELS[name].make({"name": name}, name).build(plain)
    for name in BASELINES:
        with pytest.raises(UserError, match=r"got 2 training days, expected at least \d+"):
            taught(name, record, 318, 320)


# --- bootstrap of changes ---


@pytest.mark.parametrize(
    ("name", "fields"), [("surface_random_walk", {}), ("surface_block_bootstrap", {"block": 7})]
)
def test_the_expected_surface_is_the_last_one(name, fields, record):
    trend = np.exp(np.linspace(-3, 0, len(record)))[:, None, None]  # which must not be carried forward
    rising = dataclasses.replace(record, surface=record.surface * trend)
    model, past = taught(name, rising, **fields), windows(rising, 20, 320).before(320)
    samples = model.generate(past, 20, 40_000, seed=0).samples.astype(np.float64)
    error = samples.std(axis=0) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(axis=0) - past.surface[-1]) < 5 * error).all()


@pytest.mark.parametrize(("name", "block"), [("surface_random_walk", 1), ("surface_block_bootstrap", 5)])
def test_a_bootstrapped_path_is_made_of_the_blocks_of_history(name, block, record):
    fields = {} if block == 1 else {"block": block}
    model, past = taught(name, record, **fields), windows(record, 20, 320).before(320)
    paths = model.generate(past, 12, 50, seed=5)
    logs = np.log(np.concatenate([np.broadcast_to(past.surface[-1], (50, 1, 5, 5)), paths.samples], axis=1))
    moves = np.diff(logs, axis=1).reshape(50, 12, 25)
    history = np.diff(np.log(record.surface[20:320]), axis=0).reshape(-1, 25)
    returns = record.extra[21:320, 0]
    rows = np.array([[np.abs(returns - r).argmin() for r in path] for path in paths.returns])
    np.testing.assert_allclose(paths.returns, returns[rows], rtol=1e-6)
    inside = np.arange(1, 12) % block != 0
    np.testing.assert_array_equal(np.diff(rows, axis=1)[:, inside], 1)  # days in a block are consecutive
    # What is subtracted makes the mean growth over the first j days of any block 1: by the plain formula.
    starts = range(len(history) - block + 1)
    grown = [
        np.log(np.mean([np.exp(history[s : s + j].sum(axis=0)) for s in starts], axis=0))
        for j in range(block + 1)
    ]
    correction = np.diff(grown, axis=0)
    for day in range(12):
        np.testing.assert_allclose(moves[:, day], history[rows[:, day]] - correction[day % block], atol=2e-5)


# --- principal components ---


def planted(transition: np.ndarray, days: int = 4000, noise: float = 1e-6) -> tuple[Past, np.ndarray]:
    """Surfaces that three factors make; also their loadings, (3, 25), orthonormal."""
    rng = np.random.default_rng(0)
    loadings = np.linalg.qr(rng.normal(size=(25, 3)))[0].T
    factors = np.zeros((days, 3))
    shocks = rng.normal(size=(days, 3)) * (0.1, 0.07, 0.05)
    for t in range(1, days):
        factors[t] = factors[t - 1] @ transition + shocks[t]
    logs = np.log(0.2) + factors @ loadings + noise * rng.normal(size=(days, 25))
    return known(np.exp(logs).reshape(days, 5, 5), rng.normal(0, 0.01, (days, 3))), loadings


@pytest.mark.parametrize("dynamics", ["var", "ar"])
def test_planted_dynamics_are_recovered(dynamics):
    transition = np.array([[0.95, 0.1, 0.0], [0.0, 0.8, -0.1], [0.05, 0.0, 0.5]])
    if dynamics == "ar":
        transition = np.diag(np.diag(transition))
    past, loadings = planted(transition)
    model = taught("surface_pca_var", past, 0, 4000, dynamics=dynamics)
    state = model.state()
    # Components are a rotation of the planted factors, so the dynamics are compared between cells.
    found = state["loadings"].T @ state["transition"] @ state["loadings"]
    np.testing.assert_allclose(found, loadings.T @ transition @ loadings, atol=0.04)
    # And a path without shocks decays as the planted dynamics do.
    model.load_state({**state, **{key: 0 * state[key] for key in ("residuals", "left_out")}})
    path = np.log(model.generate(windows(past, 0, 4000).before(3000), 5, 1, 0).samples[0].reshape(5, 25))
    last = np.log(past.surface[2999].reshape(25)) - state["mean"]
    for day in range(5):
        expected = last @ loadings.T @ np.linalg.matrix_power(transition, day + 1) @ loadings
        np.testing.assert_allclose(path[day] - state["mean"], expected, atol=0.03)


def test_shocks_of_factors_leave_outs_and_returns_come_from_one_day(record):
    model, past = taught("surface_pca_var", record), windows(record, 20, 320).before(320)
    state = model.state()
    day = 17
    model.load_state({**state, **{key: state[key][[day]] for key in ("residuals", "left_out", "returns")}})
    paths = model.generate(past, 3, 2, seed=0)
    logs = np.log(past.surface[-1].reshape(25))
    scores = (logs - state["mean"]) @ state["loadings"].T
    for t in range(3):
        scores = scores @ state["transition"] + state["residuals"][day]
        expected = state["mean"] + scores @ state["loadings"] + state["left_out"][day]
        np.testing.assert_allclose(np.log(paths.samples[1, t].reshape(25)), expected, atol=1e-5)
    np.testing.assert_allclose(paths.returns, record.extra[20 + 1 + day, 0], rtol=1e-6)


@pytest.mark.parametrize("root", [1.0, 1.02, -1.3])
def test_no_root_reaches_one(root):
    assert np.abs(stationary(np.array([root, 0.5]))).max() == pytest.approx(SLOWEST)
    matrix = np.array([[root, 0.3], [0.0, 0.5]])
    assert np.abs(np.linalg.eigvals(stationary(matrix))).max() == pytest.approx(SLOWEST)
    calm = np.array([[0.9, 0.3], [-0.3, 0.5]])
    np.testing.assert_array_equal(stationary(calm), calm)


def test_an_exploding_record_gives_paths_that_do_not(record):
    rising = dataclasses.replace(
        record, surface=record.surface * np.exp(1.012 ** np.arange(len(record)) / 50)[:, None, None]
    )
    model, past = taught("surface_pca_var", rising), windows(rising, 20, 320).before(320)
    assert np.abs(np.linalg.eigvals(model.state()["transition"])).max() <= SLOWEST + 1e-12
    paths = model.generate(past, 2000, 20, seed=0)
    assert np.log(paths.samples[:, -1]).std() < 1.5 * np.log(rising.surface[20:320]).std()


# --- cointegration ---


def tied(days: int = 3000) -> tuple[Past, dict[str, np.ndarray]]:
    """Cells that are lines of the EWMA volatility of GARCH-like returns, with AR(1) residuals."""
    rng = np.random.default_rng(2)
    truth = {
        "a": rng.uniform(0.05, 0.1, 25),
        "b": rng.uniform(0.5, 1.0, 25),
        "rho": rng.uniform(0.5, 0.95, 25),
    }
    returns, variance = np.zeros(days), 1e-4
    for t in range(days):
        returns[t] = np.sqrt(0.15 * 1e-4 + 0.85 * variance) * rng.standard_normal()
        variance = 0.94 * variance + 0.06 * returns[t] ** 2
    residual = np.zeros((days, 25))
    shocks = 0.002 * rng.standard_normal((days, 25))
    for t in range(1, days):
        residual[t] = truth["rho"] * residual[t - 1] + shocks[t]
    iv = truth["a"] + truth["b"] * ewma_volatility(returns)[:, None] + residual
    extra = np.column_stack([returns, np.zeros((days, 2))])
    return known(iv.reshape(days, 5, 5), extra), truth


@pytest.fixture(scope="module")
def tied_world() -> tuple[Past, dict[str, np.ndarray]]:
    return tied()


def cointegration(past: Past) -> CointegrationRegression:
    model = taught("surface_cointegration", past, 0, 3000)
    assert isinstance(model, CointegrationRegression)
    return model


def test_planted_lines_and_persistence_are_recovered(tied_world):
    past, truth = tied_world
    state = cointegration(past).state()
    np.testing.assert_allclose(state["line"][1], truth["b"], atol=0.03)
    np.testing.assert_allclose(state["line"][0], truth["a"], atol=0.006)
    np.testing.assert_allclose(state["persistence"], truth["rho"], atol=0.05)
    np.testing.assert_allclose(state["innovations"].std(axis=0), 0.002, rtol=0.06)
    assert state["variance"][1] == pytest.approx(0.85, abs=0.1)
    assert (state["shocks"] ** 2).mean() == pytest.approx(1.0)


def test_knowing_the_returns_gives_the_planted_path(tied_world):
    past, truth = tied_world
    model, whole = cointegration(past), windows(past, 0, 3000)
    future = past.extra[2000:2060, 0]
    paths = model.generate_knowing(whole.before(2000), future, 2000, seed=0)
    assert paths.oracle == "the returns"
    np.testing.assert_allclose(paths.returns, np.tile(future, (2000, 1)), rtol=1e-6)
    ewma = ewma_volatility(past.extra[:, 0])
    residual = past.surface[1999].reshape(25) - truth["a"] - truth["b"] * ewma[1999]
    for day in (0, 9, 59):
        line = truth["a"] + truth["b"] * ewma[2000 + day]
        expected = line + truth["rho"] ** (day + 1) * residual
        np.testing.assert_allclose(paths.samples[:, day].mean(axis=0).reshape(25), expected, atol=0.004)
        spread = 0.002 * np.sqrt((1 - truth["rho"] ** (2 * day + 2)) / (1 - truth["rho"] ** 2))
        np.testing.assert_allclose(paths.samples[:, day].std(axis=0).reshape(25), spread, rtol=0.15)
    again = model.generate_knowing(whole.before(2000), future, 2000, seed=0)
    np.testing.assert_array_equal(again.samples, paths.samples)
    honest = model.generate(whole.before(2000), 60, 500, seed=0)
    assert honest.oracle == ""
    assert honest.samples[:, -1].std() > 1.5 * paths.samples[:, -1].std()  # the returns are most of the risk


def test_simulated_paths_are_the_explicit_recursion(tied_world):
    past, _ = tied_world
    model = cointegration(past)
    state, known_days = model.state(), windows(past, 0, 3000).before(2500)
    one = {**state, "innovations": state["innovations"][[7]], "shocks": state["shocks"][[7]]}
    model.load_state(one)
    paths = model.generate(known_days, 4, 1, seed=0)
    (a, b), rho = state["line"], state["persistence"]
    mean, kappa = state["variance"]
    ewma = ewma_volatility(known_days.extra[:, 0])[-1]
    residual = known_days.surface[-1].reshape(25) - a - b * ewma
    variance = ewma**2 / 252
    for day in range(4):
        move = state["shocks"][7] * np.sqrt((1 - kappa) * mean + kappa * variance)
        variance = 0.94 * variance + 0.06 * move**2
        residual = rho * residual + state["innovations"][7]
        assert paths.returns[0, day] == pytest.approx(move, rel=1e-5)
        np.testing.assert_allclose(
            paths.samples[0, day].reshape(25), a + b * np.sqrt(252 * variance) + residual, rtol=1e-5
        )


def test_the_variance_neither_explodes_nor_dies_in_ten_years(simulation):
    model = taught("surface_cointegration", simulation, 1000, 5000)
    mean, kappa = model.state()["variance"]
    assert 0.94 + 0.06 * kappa <= SLOWEST
    paths = model.generate(windows(simulation, 1000, 8312).before(5000), 2520, 60, seed=0)
    late = (paths.returns[:, 1260:] ** 2).mean(axis=1)
    assert 0.5 * mean < np.median(late) < 1.5 * mean
    assert 0.6 * mean < late.mean() < 1.5 * mean


def test_paths_below_zero_are_held_at_the_floor(tied_world):
    past, _ = tied_world
    model = cointegration(past)
    state = model.state()
    model.load_state({**state, "innovations": state["innovations"] - 0.5})
    paths = model.generate(windows(past, 0, 3000).before(2500), 50, 5, seed=0)
    np.testing.assert_allclose(
        paths.samples[:, -1].reshape(5, 25), np.tile(state["floor"], (5, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(state["floor"], 0.5 * past.surface.reshape(-1, 25).min(axis=0))


def test_returns_that_do_not_move_are_one_line(record):
    still = dataclasses.replace(record, extra=np.zeros_like(record.extra))
    with pytest.raises(UserError, match="with returns that move"):
        taught("surface_cointegration", still)
    assert SurfaceCointegrationConfig().trained is False
