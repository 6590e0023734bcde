"""How good a covariance matrix is for later days: its error, and the risk of what is built on it."""

from __future__ import annotations

import numpy as np

from farm.base.types import Floats

TRADING_DAYS = 252


def minimum_variance_weights(covariance: Floats) -> Floats:
    """Give the fully invested portfolio of least variance, (A,), short positions allowed.

    Markowitz 1952: ``w = inv(S) 1 / (1' inv(S) 1)``.
    """
    raw: Floats = np.linalg.solve(covariance, np.ones(len(covariance)))
    weights: Floats = raw / raw.sum()
    return weights


def correlation(covariance: Floats) -> Floats:
    """Turn a covariance into a correlation, (A, A)."""
    sd = np.sqrt(np.diag(covariance))
    scaled: Floats = covariance / np.outer(sd, sd)
    return scaled


def covariance_scores(covariance: Floats, days: Floats) -> dict[str, float]:
    """Score a covariance against the days that follow.

    Parameters
    ----------
    covariance
        Estimated from earlier days, (A, A).
    days
        Returns in the same units, (N, A), N > A, no NaN.

    Returns
    -------
    dict
        - ``error``: Frobenius distance from the sample covariance of the days, as a share of its norm;
        - ``correlation_error``: root mean square difference of the correlations off the diagonal.
    """
    realised = np.cov(days, rowvar=False)
    apart = (correlation(covariance) - correlation(realised))[~np.eye(len(realised), dtype=bool)]
    return {
        "error": float(np.linalg.norm(covariance - realised) / np.linalg.norm(realised)),
        "correlation_error": float(np.sqrt(np.mean(apart**2))),
    }


def portfolio_scores(covariance: Floats, returns: Floats) -> tuple[dict[str, float], Floats]:
    """Hold the portfolio of least variance, as a covariance sees it, through the days that follow.

    The weights are set once and held; sums of log returns stand for the portfolio's return.

    Parameters
    ----------
    covariance
        Of the returns, (A, A).
    returns
        Daily log returns, (N, A), of the A assets.

    Returns
    -------
    scores
        - ``risk``: annualised standard deviation of the portfolio's daily return;
        - ``promised_risk``: what the covariance says of it;
        - ``leverage``: sum of the absolute weights, 1 without short positions.
    daily
        The portfolio's daily returns, (N,).
    """
    weights = minimum_variance_weights(covariance)
    daily: Floats = returns @ weights
    scores = {
        "risk": float(daily.std(ddof=1) * np.sqrt(TRADING_DAYS)),
        "promised_risk": float(np.sqrt(weights @ covariance @ weights * TRADING_DAYS)),
        "leverage": float(np.abs(weights).sum()),
    }
    return scores, daily
