"""Static arbitrage: known answers of the papers, prices as the referee, hand-made faults."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from farm.data.surface import MATURITIES, MONEYNESS
from farm.evaluation import arbitrage as arbitrage_module
from farm.evaluation.arbitrage import butterfly_g, calendar_rise, static_arbitrage

T, M = np.array(MATURITIES), np.array(MONEYNESS)
DELTAS = np.array([0.1, 0.25, 0.5, 0.75, 0.9])


def flat(level: float = 0.2, days: int = 3) -> np.ndarray:
    return np.full((days, 5, 5), level)


def svi(k: np.ndarray) -> np.ndarray:
    """Vogt's smile, Gatheral and Jacquier (2014), example 5.1: g < 0 around k = 0.9."""
    a, b, m, rho, sigma = -0.0410, 0.1331, 0.3586, 0.3060, 0.4153
    return a + b * (rho * (k - m) + np.sqrt((k - m) ** 2 + sigma**2))


def call(k: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Black's price with forward 1."""
    d1 = -k / np.sqrt(w) + np.sqrt(w) / 2
    return norm.cdf(d1) - np.exp(k) * norm.cdf(d1 - np.sqrt(w))


@pytest.mark.parametrize(("axis", "strikes"), [("moneyness", M), ("delta", DELTAS)])
def test_a_flat_surface_has_none(axis, strikes):
    found = static_arbitrage(flat(), T, strikes, axis)
    assert found.summary() == dict.fromkeys(
        ("surfaces", "calendar", "calendar_depth", "butterfly", "butterfly_depth"), 0.0
    )
    np.testing.assert_allclose(butterfly_g(flat(), T, strikes, axis), 1.0, atol=1e-9)


def test_vogts_smile_has_its_butterfly_where_the_paper_shows_it():
    k = np.linspace(-1.5, 1.5, 601)
    w = svi(k)
    iv = np.sqrt(np.stack([w, 2 * w]) / np.array([[1.0], [2.0]]))[None]
    g = butterfly_g(iv, np.array([1.0, 2.0]), np.exp(k), "moneyness")[0, 0]
    inner = k[1:-1]
    root = np.sqrt((inner - 0.3586) ** 2 + 0.4153**2)
    first = 0.1331 * (0.3060 + (inner - 0.3586) / root)
    second = 0.1331 * 0.4153**2 / root**3
    exact = (1 - inner * first / (2 * svi(inner))) ** 2 - first**2 / 4 * (1 / svi(inner) + 0.25) + second / 2
    np.testing.assert_allclose(g, exact, atol=1e-4)
    assert (g[(inner > 0.75) & (inner < 1.0)] < 0).all()
    assert (g[inner < 0.5] > 0).all()
    # The same as prices: the density exp(-k) (C_kk - C_k) turns negative in the same places.
    price, step = call(k, w), k[1] - k[0]
    density = (price[2:] - 2 * price[1:-1] + price[:-2]) / step**2 - (price[2:] - price[:-2]) / (2 * step)
    clear = np.abs(exact) > 0.01
    assert (np.sign(density[clear]) == np.sign(g[clear])).all()


def test_g_is_exact_for_a_parabola_on_the_uneven_grid():
    k = np.log(M)
    a, b, c = 0.05, -0.04, 0.06
    w = a + b * k + c * k**2
    got = butterfly_g(np.sqrt(w / T[:, None])[None], T, M, "moneyness")[0]
    first, w, k = b + 2 * c * k[1:-1], w[1:-1], k[1:-1]
    exact = (1 - k * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + 0.25) + c
    np.testing.assert_allclose(got, np.tile(exact, (5, 1)), atol=1e-12)


def test_a_hand_made_calendar_fault_is_counted_and_measured():
    iv = flat()
    iv[1, 2, 0] = 0.1  # w falls from 0.25 * 0.04 to 0.5 * 0.01 at one strike
    iv[2, 4] = 0.1  # w falls from 0.04 to 0.02 at all five
    found = static_arbitrage(iv, T, M, "moneyness")
    assert found.calendar.tolist() == [0, 1, 5]
    np.testing.assert_allclose(found.calendar_depth, [0, 0.005, 0.1], atol=1e-12)
    assert found.calendar_checks.tolist() == [20, 20, 20]
    summary = found.summary()
    assert summary["surfaces"] == pytest.approx(2 / 3)
    assert summary["calendar"] == pytest.approx(6 / 60)
    assert summary["calendar_depth"] == pytest.approx(0.105 / 6)


def test_a_hand_made_butterfly_fault_is_counted_and_measured():
    iv = flat()
    iv[1, 3, 2] = 0.3  # a hump at the money: the butterfly around it has a negative price
    found = static_arbitrage(iv, T, M, "moneyness")
    prices = call(np.log(M), iv[1, 3] ** 2)
    left, right = M[2] - M[1], M[3] - M[2]
    assert (prices[1] * right + prices[3] * left) / (left + right) < prices[2]
    assert (found.butterfly[0], found.butterfly[2]) == (0, 0)
    g = butterfly_g(iv, T, M, "moneyness")
    assert found.butterfly[1] == (g[1] < 0).sum() >= 1
    assert g[1, 3, 1] < -1
    assert found.butterfly_depth[1] == pytest.approx(-g[1][g[1] < 0].sum())
    assert found.butterfly_checks.tolist() == [15, 15, 15]


def test_tolerance_forgives_what_is_smaller():
    iv = flat()
    iv[:, 2] = np.sqrt(0.25 * 0.04 * (1 - 1e-3) / 0.5)  # w falls by a thousandth
    assert static_arbitrage(iv, T, M, "moneyness").calendar.tolist() == [5, 5, 5]
    assert static_arbitrage(iv, T, M, "moneyness", tolerance=2e-3).calendar.sum() == 0


def test_leading_axes_and_chunks_change_nothing(monkeypatch):
    iv = np.random.default_rng(0).uniform(0.1, 0.4, (4, 3, 5, 5))
    whole = static_arbitrage(iv, T, M, "moneyness")
    monkeypatch.setattr(arbitrage_module, "CHUNK", 5)
    parts = static_arbitrage(iv, T, M, "moneyness")
    one = static_arbitrage(iv[2, 1], T, M, "moneyness")
    for name in ("calendar", "butterfly", "calendar_depth", "butterfly_depth", "butterfly_checks"):
        assert getattr(whole, name).shape == (4, 3)
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
        assert getattr(one, name) == getattr(whole, name)[2, 1]
    assert whole.calendar.sum() > 0
    assert whole.butterfly.sum() > 0


# ---------------------------------------------------------------- delta grids


def quoted_by_delta(smile, t: float) -> np.ndarray:
    """Volatility at each delta of a smile w(k), by finding the strike whose delta it is."""

    def short(k: float, delta: float) -> float:
        w = smile(k)
        return norm.cdf(-k / np.sqrt(w) + np.sqrt(w) / 2) - delta

    return np.array([np.sqrt(smile(brentq(short, -3, 3, args=(delta,))) / t) for delta in DELTAS])


def test_deltas_lead_back_to_their_strikes():
    years = np.array([0.5, 1.0])

    def smile(k, scale=1.0):
        return scale * (0.02 - 0.01 * k + 0.03 * k**2)

    iv = np.stack([quoted_by_delta(smile, 0.5), quoted_by_delta(lambda k: smile(k, 1.5), 1.0)])[None]
    g = butterfly_g(iv, years, DELTAS, "delta")[0, 0]
    w = iv[0, 0] ** 2 * 0.5
    k = w / 2 - norm.ppf(DELTAS) * np.sqrt(w)
    first, w, k = -0.01 + 0.06 * k[1:-1], w[1:-1], k[1:-1]
    np.testing.assert_allclose(
        g, (1 - k * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + 0.25) + 0.03, atol=1e-9
    )
    # The wider slice reaches every strike of the shorter; linear between its cells, and convex.
    rise, _ = calendar_rise(iv, years, DELTAS, "delta")
    w = iv[0, 0] ** 2 * 0.5
    assert (rise[0, 0] >= 0.5 * w - 1e-9).all()
    np.testing.assert_allclose(rise[0, 0], 0.5 * w, atol=0.15 * w.max())


def test_a_calendar_fault_on_deltas_is_found():
    iv = flat()
    iv[1, 3] = 0.12  # w falls from 0.02 to 0.0144 and its cells draw together
    found = static_arbitrage(iv, T, DELTAS, "delta")
    assert found.calendar[[0, 2]].tolist() == [0, 0]
    rise, _ = calendar_rise(iv, T, DELTAS, "delta")
    reached = ~np.isnan(rise[1, 2])
    assert found.calendar[1] == reached.sum() > 0
    np.testing.assert_allclose(rise[1, 2][reached], 0.0144 - 0.02)
    assert found.calendar_checks[1] < found.calendar_checks[0]


def test_deltas_whose_strikes_come_out_of_order_count():
    iv = flat(days=1)
    iv[0, 4] = [0.2, 1.5, 0.2, 0.2, 0.2]
    found = static_arbitrage(iv, T, DELTAS, "delta")
    g = butterfly_g(iv, T, DELTAS, "delta")
    assert (g[0, 4] == -1.0).any()
    assert np.isfinite(g).all()
    assert found.butterfly[0] == (g < 0).sum()


@pytest.mark.parametrize("value", [np.nan, 0.0, -0.1])
def test_what_is_no_volatility_is_refused(value):
    iv = flat()
    iv[0, 0, 0] = value
    with pytest.raises(ValueError, match="finite and above 0"):
        static_arbitrage(iv, T, M, "moneyness")


def test_a_wrong_grid_is_refused():
    with pytest.raises(ValueError, match="expected"):
        static_arbitrage(flat(), T[:4], M, "moneyness")
