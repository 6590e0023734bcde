"""Static arbitrage of volatility surfaces, by Gatheral's conditions.

In total variance w = iv**2 T against log-moneyness k = log(K/F), a surface has no static arbitrage
[1]_ where

- calendar: w does not fall with maturity at fixed k;
- butterfly: g(k) = (1 - k w' / (2 w))**2 - w'**2 / 4 (1/w + 1/4) + w'' / 2 is not below 0.

The forward is taken as the spot: files carry no rates or dividends, and both conditions hold in K/F.

What a grid can show is limited. The calendar condition is checked at the grid's own k, exactly. For g,
w' and w'' are second-order differences over three neighbouring strikes, so there is one g for each
inner strike: on the default grid three a maturity, each an average over some +-0.15 of k. A dip
between strikes, or at the outermost ones, is not seen, and a smile that bends much within one step of
the grid (a month's at the money) is only seen as a chord. So a count is comparable between surfaces of
one grid, the data's own rate first of all, and not between grids.

On a grid of forward deltas each cell has a k of its own, from delta = N(d1), d1 = -k / sqrt(w) +
sqrt(w) / 2. Premium-adjusted or spot deltas, which currencies are quoted in, differ a little. There the
calendar condition compares w with the next maturity's, linear in k between its cells and only where it
reaches; and as d1 must fall with k where there is no arbitrage [2]_, cells of one maturity whose k come
out of order count as butterflies, with g = -1 by convention.

References
----------
.. [1] Gatheral and Jacquier (2014), Arbitrage-free SVI volatility surfaces, Quantitative Finance
   14(1), section 2.
.. [2] Fukasawa (2012), The normalizing transformation of the implied volatility smile, Mathematical
   Finance 22(4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from farm.base.types import Floats, Ints
from farm.data.surface import Axis

TOLERANCE = 1e-6  # of w, and of g: above what float32 volatility loses on a grid of some ten strikes
CHUNK = 16_384  # surfaces at a time, so that a thousand samples of a year fit in memory


@dataclass(frozen=True)
class Arbitrage:
    """Violations of each surface; the shapes are those of the surfaces without their grid.

    Parameters
    ----------
    calendar, butterfly
        Number of violations, (...,).
    calendar_checks, butterfly_checks
        Number of checks, (...,); the calendar's differ between surfaces on a delta grid alone.
    calendar_depth
        By how much w falls in total, over the violations, (...,), in units of total variance; 0 where
        there is none.
    butterfly_depth
        By how much g is below 0 in total, over the violations, (...,); a flat surface has g = 1.
    """

    calendar: Ints
    butterfly: Ints
    calendar_checks: Ints
    butterfly_checks: Ints
    calendar_depth: Floats
    butterfly_depth: Floats

    def summary(self) -> dict[str, float]:
        """Give shares and mean depths.

        Returns
        -------
        dict
            ``surfaces``: share of the surfaces with any violation. For either condition its share of
            violated checks, as ``calendar``, and mean depth of a violation, as ``calendar_depth``;
            0 where nothing is violated or there was nothing to check.
        """
        scores = {"surfaces": float(((self.calendar + self.butterfly) > 0).mean())}
        for name in ("calendar", "butterfly"):
            count = int(getattr(self, name).sum())
            checks = int(getattr(self, f"{name}_checks").sum())
            depth = float(getattr(self, f"{name}_depth").sum())
            scores[name] = count / max(checks, 1)
            scores[f"{name}_depth"] = depth / max(count, 1)
        return scores


def static_arbitrage(
    iv: Floats, maturities: Floats, strikes: Floats, axis: Axis, tolerance: float = TOLERANCE
) -> Arbitrage:
    """Count and measure violations of the two conditions.

    Parameters
    ----------
    iv
        Implied volatility, (..., W, H), per square root of a year, above 0, no NaN; days, or samples
        and days, in front.
    maturities
        Years, (W,), increasing.
    strikes
        K/S or forward call delta, (H,), increasing, H at least 3.
    axis
        What `strikes` holds.
    tolerance
        A fall of w by less than this share of it, or a g above minus this, is no violation. Volatility
        in float32 on strikes closer than some 0.05 needs more, or float64.

    Returns
    -------
    Arbitrage
        One entry for each surface.

    Raises
    ------
    ValueError
        If the grid is not that of `iv`, or a volatility is not finite and above 0.
    """
    lead, grid = iv.shape[:-2], iv.shape[-2:]
    if grid != (len(maturities), len(strikes)) or len(strikes) < 3:
        raise ValueError(
            f"surfaces {iv.shape} on {len(maturities)} maturities x {len(strikes)} strikes, expected"
            " (..., W, H) with H at least 3"
        )
    flat = iv.reshape(-1, *grid)
    out = np.zeros((6, len(flat)))
    for start in range(0, len(flat), CHUNK):
        part = flat[start : start + CHUNK].astype(np.float64)
        if not (np.isfinite(part).all() and (part > 0).all()):
            raise ValueError("volatility must be finite and above 0")
        rise, scale = calendar_rise(part, maturities, strikes, axis)
        g = butterfly_g(part, maturities, strikes, axis)
        falls, dips = rise < -tolerance * scale, g < -tolerance  # NaN, where nothing reaches, is neither
        sums = (falls, dips, ~np.isnan(rise), ~np.isnan(g), -np.where(falls, rise, 0), -np.where(dips, g, 0))
        for row, values in zip(out, sums, strict=True):
            row[start : start + CHUNK] = values.sum(axis=(1, 2))
    calendar, butterfly, *checks = (row.reshape(lead).astype(np.int64) for row in out[:4])
    return Arbitrage(calendar, butterfly, checks[0], checks[1], out[4].reshape(lead), out[5].reshape(lead))


def calendar_rise(iv: Floats, maturities: Floats, strikes: Floats, axis: Axis) -> tuple[Floats, Floats]:
    """Give by how much total variance rises to the next maturity at fixed k.

    Parameters
    ----------
    iv, maturities, strikes, axis
        As for `static_arbitrage`; `iv` is (N, W, H).

    Returns
    -------
    rise
        (N, W - 1, H) at the k of the shorter maturity's cells; on a delta grid NaN where the longer
        one has no cell on either side.
    scale
        Total variance there, (N, W - 1, H), that a tolerance is a share of.
    """
    w = _total_variance(iv, maturities)
    if axis == "moneyness":
        return np.diff(w, axis=1), w[:, :-1]
    k = _log_moneyness(w, strikes, axis)[..., ::-1]  # a call's delta falls with its strike
    w = w[..., ::-1]
    at, beyond, above = k[:, :-1], k[:, 1:], w[:, 1:]
    # One linear piece of the longer maturity after another: H is small, N is not.
    there = np.full(at.shape, np.nan)
    for j in range(k.shape[-1] - 1):
        left, right = beyond[..., j, None], beyond[..., j + 1, None]
        inside = (at >= left) & (at <= right) & (right > left)
        share = np.divide(at - left, right - left, out=np.zeros_like(at), where=inside)
        value = above[..., j, None] + share * (above[..., j + 1, None] - above[..., j, None])
        there = np.where(inside, value, there)
    return (there - w[:, :-1])[..., ::-1], w[:, :-1, ::-1]


def butterfly_g(iv: Floats, maturities: Floats, strikes: Floats, axis: Axis) -> Floats:
    """Give Gatheral's g at the inner strikes, from differences over three neighbours.

    Parameters
    ----------
    iv, maturities, strikes, axis
        As for `static_arbitrage`; `iv` is (N, W, H).

    Returns
    -------
    Floats
        (N, W, H - 2); -1 where the k of three neighbours on a delta grid are out of order.
    """
    w = _total_variance(iv, maturities)
    k = np.broadcast_to(_log_moneyness(w, strikes, axis), w.shape)
    if axis == "delta":
        k, w = k[..., ::-1], w[..., ::-1]
    steps = np.diff(k, axis=-1)
    ordered = (steps[..., :-1] > 0) & (steps[..., 1:] > 0)
    safe = np.where(steps > 0, steps, 1.0)
    left, right = safe[..., :-1], safe[..., 1:]
    chord = np.diff(w, axis=-1) / safe
    # The parabola through three points: exact for a quadratic w on any spacing.
    first = (right * chord[..., :-1] + left * chord[..., 1:]) / (left + right)
    second = 2 * (chord[..., 1:] - chord[..., :-1]) / (left + right)
    k, w = k[..., 1:-1], w[..., 1:-1]
    g = (1 - k * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + 0.25) + second / 2
    g = np.where(ordered, g, -1.0)
    return g[..., ::-1] if axis == "delta" else g


def _total_variance(iv: Floats, maturities: Floats) -> Floats:
    """Give w = iv**2 T, (N, W, H)."""
    return iv.astype(np.float64) ** 2 * maturities[:, None]


def _log_moneyness(w: Floats, strikes: Floats, axis: Axis) -> Floats:
    """Give k of each cell: (H,) on a moneyness grid, (N, W, H) on one of deltas."""
    if axis == "moneyness":
        return np.log(strikes)
    k: Floats = w / 2 - ndtri(strikes) * np.sqrt(w)
    return k
