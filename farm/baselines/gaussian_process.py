"""A multi-output Gaussian process over the returns of all assets, conditioned on those that are seen."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np

from farm.base.errors import UserError
from farm.base.model import MODELS, Estimator, ModelConfig, State
from farm.base.registry import component
from farm.base.search_space import Float, Int
from farm.base.types import Floats, Forecast, Inputs, Ints, Windows
from farm.baselines.tabular import return_columns, target


def rbf(one: Floats, other: Floats, length: float) -> Floats:
    """Give the squared-exponential kernel of rows (n, F) and (m, F), (n, m)."""
    from scipy.spatial.distance import cdist  # slow to import

    kernel: Floats = np.exp(-cdist(one, other, "sqeuclidean") / (2 * length**2))
    return kernel


def negative_log_likelihood(theta: Floats, rotated: Floats, eigenvalues: Floats) -> tuple[float, Floats]:
    """Give minus the log marginal likelihood and its gradient, both divided by n.

    The n rows of outputs, turned into the kernel's eigenbasis, are independent:
    ``y_n ~ N(0, A diag(1 + d e_n) A^T)``. With ``W = A^-1`` that is, up to a constant,
    ``-log|det W| + mean_n sum_p [log(1 + d_p e_n) + (W y_n)_p^2 / (1 + d_p e_n)] / 2``.

    Parameters
    ----------
    theta
        W, (P, P), row by row, then log d, (P,).
    rotated
        Outputs in the eigenbasis, (n, P).
    eigenvalues
        Of the kernel matrix, (n,), not negative.

    Returns
    -------
    value, gradient
        A number and its gradient, (P * P + P,).
    """
    n, p = rotated.shape
    W, d = theta[: p * p].reshape(p, p), np.exp(theta[p * p :])
    latent = rotated @ W.T
    variance = 1 + eigenvalues[:, None] * d
    weighted = latent / variance
    value = -np.linalg.slogdet(W)[1] + np.sum(np.log(variance) + latent * weighted) / (2 * n)
    by_W = -np.linalg.inv(W).T + weighted.T @ rotated / n
    by_log_d = np.sum((1 / variance - weighted**2) * eigenvalues[:, None] * d, axis=0) / (2 * n)
    return float(value), np.concatenate([by_W.ravel(), by_log_d])


class CoregionalizedProcess(Estimator):
    """Intrinsic coregionalisation model with correlated noise, conditioned on the outputs that are seen.

    The outputs of a day are the target's return and the returns seen on the last row of its window;
    the inputs are the features of the row before. Over rows and outputs the covariance is
    ``B (x) K + S (x) I``: what the past tells is shared through B (Bonilla, Chai and Williams 2007,
    NeurIPS 20), and what it does not, nearly all of a daily return, is correlated through S (Rakitsch
    et al. 2013, It is all in the noise, NeurIPS 26). Both are estimated without constraint, by
    maximum likelihood. A forecast is the target's distribution given the past and the peers' returns
    of the day: a Gaussian, whose mean leans on the peers by S and B.

    One eigendecomposition of K makes this exact for the cost of a single output: B and S are
    diagonal together, ``S = A A^T`` and ``B = A diag(d) A^T``, so the outputs are a mix by A of P
    independent processes.

    Parameters
    ----------
    columns
        The returns among the features, (P',). Those that are hidden in every window are left out.
    levels
        The Q quantile levels.
    max_rows
        Most training samples; the latest are used.
    lengths
        Length scales to choose from by marginal likelihood, in units of the root of F.
    """

    _STATE = ("used", "centre", "length", "rows", "basis", "eigenvalues", "mixing", "signal", "latent")

    _used: Ints  # columns whose last row is seen, (P - 1,)
    _centre: Floats  # means of the outputs, (P,)
    _length: Floats  # of the kernel, (1,)
    _rows: Floats  # training inputs, (n, F)
    _basis: Floats  # eigenvectors of K, (n, n)
    _eigenvalues: Floats  # (n,)
    _mixing: Floats  # A, (P, P)
    _signal: Floats  # d, (P,)
    _latent: Floats  # training outputs, unmixed and rotated, (n, P)

    def __init__(
        self, columns: Ints, levels: tuple[float, ...], max_rows: int, lengths: tuple[float, ...]
    ) -> None:
        self._columns = columns
        self._levels = levels
        self._max_rows = max_rows
        self._lengths = lengths

    def fit(self, train: Windows, val: Windows) -> None:
        """Choose the length scale, and B and S for it, by marginal likelihood on the latest rows.

        Parameters
        ----------
        train
            Samples with finite features and targets.
        val
            Not read.
        """
        from scipy.linalg import eigh  # slow to import
        from scipy.optimize import minimize

        train = train.take(slice(max(len(train) - self._max_rows, 0), len(train)))
        seen = train.x[:, -1, self._columns]
        self._used = self._columns[np.ptp(seen, axis=0) > 0]
        outputs = np.column_stack([target(train), train.x[:, -1, self._used]]).astype(np.float64)
        self._centre, self._rows = outputs.mean(axis=0), _past(train)
        centred, p = outputs - self._centre, outputs.shape[1]
        # Start where the outputs are white and the past explains a twentieth of them.
        whitening = np.linalg.inv(np.linalg.cholesky(np.cov(centred.T, bias=True).reshape(p, p)))
        start = np.concatenate([whitening.ravel(), np.full(p, np.log(0.05))])
        best = np.inf
        for length in self._lengths:
            scaled = length * np.sqrt(self._rows.shape[1])
            eigenvalues, basis = eigh(rbf(self._rows, self._rows, scaled))
            eigenvalues = eigenvalues.clip(min=0.0)  # rounding leaves some a little below
            rotated = basis.T @ centred
            found = minimize(
                negative_log_likelihood, start, (rotated, eigenvalues), jac=True, method="L-BFGS-B"
            )
            if found.fun < best:
                best, unmixing = found.fun, found.x[: p * p].reshape(p, p)
                self._length, self._eigenvalues, self._basis = np.array([scaled]), eigenvalues, basis
                self._mixing, self._signal = np.linalg.inv(unmixing), np.exp(found.x[p * p :])
                self._latent = rotated @ unmixing.T

    def _joint(self, windows: Windows) -> tuple[Floats, Floats]:
        """Give mean, (B, P), and covariance, (B, P, P), of the outputs given the past alone."""
        across = rbf(_past(windows), self._rows, float(self._length[0])) @ self._basis
        precision = 1 / (1 + self._eigenvalues[:, None] * self._signal)  # of each rotated row, (n, P)
        mean = self._signal * (across @ (self._latent * precision))
        variance = 1 + self._signal - self._signal**2 * (across**2 @ precision)  # the 1 is the noise
        covariance = np.einsum("ip,bp,jp->bij", self._mixing, variance, self._mixing)
        return self._centre + mean @ self._mixing.T, covariance

    def predict(self, windows: Windows) -> Forecast:
        """Condition the target's return on the past and on the returns seen on the last row.

        Parameters
        ----------
        windows
            B samples.

        Returns
        -------
        Forecast
            Means, (B,), and quantiles of the normal predictive distribution, (B, Q), both float64.
        """
        from scipy.stats import norm  # slow to import

        mean, covariance = self._joint(windows)
        surprise = windows.x[:, -1, self._used].astype(np.float64) - mean[:, 1:]
        weights = np.linalg.solve(covariance[:, 1:, 1:], covariance[:, 1:, :1])[..., 0]
        point = mean[:, 0] + (weights * surprise).sum(axis=1)
        variance = covariance[:, 0, 0] - (weights * covariance[:, 0, 1:]).sum(axis=1)
        quantiles = point[:, None] + np.sqrt(variance)[:, None] * norm.ppf(self._levels)
        return Forecast(point=point, quantiles=quantiles, levels=self._levels)

    def state(self) -> State:
        """Give what was learnt and the training rows it needs; the largest is the basis, (n, n)."""
        return {name: getattr(self, f"_{name}") for name in self._STATE}

    def load_state(self, state: State) -> None:
        """Take back what `state` gave."""
        for name in self._STATE:
            setattr(self, f"_{name}", state[name])


def _past(windows: Windows) -> Floats:
    """Give the features of the row before the last, the latest that is seen whole, (B, F)."""
    return windows.x[:, -2, :].astype(np.float64)


@component(MODELS)
class GaussianProcessConfig(ModelConfig):
    """Multi-output Gaussian process over the returns of target and peers.

    Parameters
    ----------
    max_rows
        Most training samples, the latest; the cost grows with its cube.
    shortest
        The shortest of three length scales to choose from, in units of the root of the number of
        features; the others are 3 and 9 times as long.
    """

    name: Literal["gaussian_process"] = "gaussian_process"
    quantile_levels: ClassVar[tuple[float, ...]] = (0.05, 0.5, 0.95)
    max_rows: Annotated[int, Int(50, 4000, log=True)] = 1000
    shortest: Annotated[float, Float(0.1, 10.0, log=True)] = 1.0

    def build(self, inputs: Inputs) -> CoregionalizedProcess:
        """Make the model.

        Raises
        ------
        UserError
            If no feature is a return, or the window has no row before the last.
        """
        if inputs.lookback < 2:
            raise UserError(
                f"model {self.name}: got windows of {inputs.lookback} day, expected at least 2;"
                " raise study.lookback"
            )
        lengths = tuple(self.shortest * factor for factor in (1.0, 3.0, 9.0))
        columns = return_columns(self.name, inputs.features)
        return CoregionalizedProcess(columns, self.quantile_levels, self.max_rows, lengths)
