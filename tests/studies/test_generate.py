"""The generative study end to end on a small market: which scores come, and that they mean what they say."""

import numpy as np
import pytest

from farm.base.config import canonical_json
from farm.base.errors import UserError
from farm.data.splits import Chronological
from farm.experiment import TrialConfig, run
from farm.plan import Options, make_plan
from farm.studies.generate import GenerateStudy
from farm.sweep import read_source
from search_spaces.latent import SWEEP
from tests.return_world import ASSETS, draw_days, return_panel
from tests.scoring import of

SPLIT = Chronological(train=0.6, val=0.15)
STUDY = GenerateStudy(market="IDX", assets=ASSETS[1:], lookback=5, split=SPLIT)
SMALL = {"name": "generate", "market": "IDX", "assets": list(ASSETS[1:]), "lookback": 5}


def result(days=900, **model):
    return of(run(TrialConfig(study=STUDY, model=model), return_panel(days), device="cpu"))


@pytest.fixture(scope="module")
def gaussian():
    return result(name="sample_normal")


@pytest.fixture(scope="module")
def regimes():
    return result(name="regime", regimes=2, tell_from="all")


def test_the_ranked_truth_is_the_hidden_returns_unscaled(gaussian):
    returns, _ = draw_days(900)
    days = return_panel(900).bars["IDX"].dates[1:]
    for i in (0, 17, len(gaussian.actual) - 1):
        row = int(np.searchsorted(days, gaussian.times[i]))
        assert gaussian.actual[i] == pytest.approx(returns[row, ASSETS.index(gaussian.items[i])], abs=1e-12)
    share = len(gaussian.actual) / (len(np.unique(gaussian.times)) * 5)
    assert share == pytest.approx(0.3, abs=0.09)
    pairs = set(zip(gaussian.times.tolist(), gaussian.items, strict=True))
    assert len(pairs) == len(gaussian.actual), "an asset has one sample a day"


def test_every_model_fills_the_same_entries(gaussian, regimes):
    np.testing.assert_array_equal(gaussian.actual, regimes.actual)
    np.testing.assert_array_equal(gaussian.times, regimes.times)
    assert gaussian.items == regimes.items


def test_scores_by_what_a_model_can_do(gaussian, regimes):
    for name in (
        "test/rmse",
        "val/rmse",
        "test/hidden10/rmse",
        "test/hidden50/rmse",
        "interval/violations",
        "density/log_likelihood",
        "train/log_likelihood",
        "val/log_likelihood",
        "covariance/error",
        "portfolio/risk",
        "generated/discriminative",
        "generated/memorised",
    ):
        assert np.isfinite(gaussian.metrics[name]), name
    assert not [name for name in gaussian.metrics if name.startswith(("bound", "latent", "factors"))]
    assert "regimes" not in gaussian.arrays
    bootstrap = result(name="bootstrap").metrics
    assert not [name for name in bootstrap if name.startswith("density")]
    assert bootstrap["portfolio/risk"] == pytest.approx(gaussian.metrics["portfolio/risk"])


def test_knowing_the_regimes_is_worth_likelihood(gaussian, regimes):
    ahead = regimes.arrays["density"] - gaussian.arrays["density"]
    assert ahead.mean() > 3 * ahead.std() / np.sqrt(len(ahead))
    assert regimes.metrics["density/log_likelihood"] == pytest.approx(regimes.arrays["density"].mean())
    chances, days = regimes.arrays["regimes"], regimes.arrays["regime_days"]
    assert chances.shape == (900, 2)
    assert len(days) == len(regimes.arrays["market"]) == 900


def test_factors_are_scored_by_asset():
    found = result(name="factor", factors=1)
    share = found.metrics["factors/systematic_IDX"]
    assert share == pytest.approx(1 / 1.01, abs=0.03)
    assert found.metrics["factors/systematic_C"] == pytest.approx(0.36 / 0.45, abs=0.06)
    assert found.arrays["loadings"].shape == (5, 1)


def test_the_market_is_held_by_no_portfolio(gaussian):
    returns, _ = draw_days(900)
    test = returns[-len(gaussian.arrays["portfolio"]) :, 1:]
    weights = np.linalg.lstsq(test, gaussian.arrays["portfolio"], rcond=None)
    assert weights[0].sum() == pytest.approx(1)
    np.testing.assert_allclose(test @ weights[0], gaussian.arrays["portfolio"], atol=1e-9)


def test_the_digest_follows_the_bars_it_reads():
    panel, other = return_panel(900), return_panel(900, seed=1)
    assert STUDY.data_digest(panel) == STUDY.data_digest(return_panel(900))
    assert STUDY.data_digest(panel) != STUDY.data_digest(other)
    beside = {**panel.bars, "UNREAD": other.bars["A"]}
    assert STUDY.data_digest(type(panel)(beside, "")) == STUDY.data_digest(panel)


def test_a_config_survives_json():
    again = GenerateStudy.model_validate_json(canonical_json(STUDY.model_dump(mode="json")))
    assert again == STUDY


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"assets": ["A", "IDX"]}, "asset IDX is there twice"),
        ({"assets": ["A", "B", "A"]}, "asset A is there twice"),
        ({"assets": ["A"]}, "got the assets A beside the market, expected at least 2"),
        ({"hidden": 0.95}, "hidden: got 0.95"),
        ({"lookback": 1}, "lookback: got 1"),
        ({"hiden": 0.3}, "unknown key 'hiden': did you mean 'hidden'"),
    ],
)
def test_bad_settings_are_one_line(change, expected):
    with pytest.raises(UserError, match=expected) as error:
        GenerateStudy.make({**SMALL, **change}, "study generate")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"peers": ("MSFT",)}, "--peers: this sweep reads a market, not peers"),
        ({"tickers": ("SP500", "AAPL")}, "ticker 'SP500' is the market itself"),
        ({"tickers": ("AAPL",)}, "got the assets AAPL beside the market, expected at least 2"),
        ({"tickers": ("AAPL", "MSFTT")}, "unknown ticker 'MSFTT' in bundled: did you mean 'MSFT'"),
        ({"market": "SPY"}, "unknown ticker 'SPY' in bundled: did you mean 'SP500'"),
        ({"tickers": ("AAPL", "GE", "KO")}, "got 5 factors for 4 assets, expected fewer factors than assets"),
        ({"settings": {"regimes": 0}}, "regimes: got 0, expected greater than or equal to 1"),
    ],
)
def test_bad_options_of_the_sweep_are_one_line(options, expected):
    with pytest.raises(UserError, match=expected) as error:
        make_plan("latent", SWEEP, read_source(SWEEP), Options(**options))
    assert "\n" not in str(error.value)


def test_a_short_panel_is_refused_in_one_line():
    with pytest.raises(UserError, match="too few rows for the validation block"):
        STUDY.dataset(return_panel(60))
