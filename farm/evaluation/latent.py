"""What a latent variable knows: distance from its prior, live dimensions, and whose returns it carries.

Shape letters: B samples, D latent dimensions, A assets.
"""

from __future__ import annotations

import numpy as np

from farm.base.types import Floats, Latents
from farm.evaluation.metric import metric_name

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016, section 5.3
EXPLAINED = 0.99
COLLAPSED_KL = 0.1  # nats over all dimensions, a seventh of a bit


def kl_per_dimension(latents: Latents) -> Floats:
    """Give the mean Kullback-Leibler divergence of the posterior from the prior, (D,), in nats.

    For two normals in each dimension (Kingma & Welling 2014, Auto-Encoding Variational Bayes,
    appendix B; with a prior of any mean and variance).
    """
    mean, logvar = latents.mean.astype(np.float64), latents.logvar.astype(np.float64)
    prior_mean, prior_logvar = np.zeros_like(mean), np.zeros_like(logvar)
    if latents.prior_mean is not None and latents.prior_logvar is not None:
        prior_mean, prior_logvar = latents.prior_mean.astype(float), latents.prior_logvar.astype(float)
    ratio = (np.exp(logvar) + (mean - prior_mean) ** 2) / np.exp(prior_logvar)
    kl: Floats = 0.5 * (prior_logvar - logvar + ratio - 1).mean(axis=0)
    return kl


def active_units(mean: Floats) -> int:
    """Count the dimensions whose posterior mean moves with the input: variance above 0.01.

    Burda, Grosse & Salakhutdinov 2016, Importance Weighted Autoencoders, section 5.3.

    Parameters
    ----------
    mean
        Posterior means, (B, D).
    """
    return int(np.sum(mean.astype(np.float64).var(axis=0) > ACTIVE_VARIANCE))


def effective_dimension(mean: Floats) -> int:
    """Count the principal components that hold 99 % of the variance of the posterior means.

    Of the means and not of the draws: the noise of a collapsed posterior fills every dimension
    evenly, and would make it look rich.

    Parameters
    ----------
    mean
        Posterior means, (B, D).

    Returns
    -------
    int
        Between 1 and D; 0 where the means do not move at all.
    """
    centred = mean.astype(np.float64) - mean.mean(axis=0, dtype=np.float64)
    power = np.linalg.svd(centred, compute_uv=False) ** 2
    if power.sum() <= np.finfo(np.float32).eps ** 2 * np.sum(mean.astype(np.float64) ** 2):
        return 0
    return int(np.searchsorted(np.cumsum(power) / power.sum(), EXPLAINED - 1e-12) + 1)


def correlations(sample: Floats, returns: Floats) -> Floats:
    """Correlate each dimension with each asset's return.

    Parameters
    ----------
    sample
        Latents, (B, D).
    returns
        Of the assets on the same days, (B, A).

    Returns
    -------
    Floats
        Pearson correlations, (D, A); 0 where a dimension or a return is constant.
    """
    parts = []
    for values in (sample.astype(np.float64), returns.astype(np.float64)):
        centred = values - values.mean(axis=0)
        size = np.linalg.norm(centred, axis=0)
        # What rounding leaves of a constant is no movement.
        still = size <= 1e-12 * np.linalg.norm(values, axis=0)
        parts.append(np.where(still, 0.0, centred / np.where(still, 1.0, size)))
    product: Floats = parts[0].T @ parts[1]
    return product


def mutual_information(sample: Floats, returns: Floats) -> Floats:
    """Estimate the mutual information of each dimension with each asset's return.

    By nearest neighbours (Kraskov, Stoegbauer & Grassberger 2004, Physical Review E 69, 066138;
    scikit-learn's `mutual_info_regression`, 3 neighbours, seeded).

    Parameters
    ----------
    sample
        Latents, (B, D).
    returns
        Of the assets on the same days, (B, A).

    Returns
    -------
    Floats
        (D, A), in nats, never negative.

    Raises
    ------
    ValueError
        If there are fewer than 4 samples.
    """
    from sklearn.feature_selection import mutual_info_regression  # slow to import

    if len(sample) < 4:
        raise ValueError(f"{len(sample)} samples, expected at least 4: each needs 3 neighbours")
    columns = [
        mutual_info_regression(sample.astype(np.float64), asset.astype(np.float64), random_state=0)
        for asset in returns.T
    ]
    return np.stack(columns, axis=1)


def latent_metrics(
    latents: Latents, returns: Floats, assets: tuple[str, ...], part: str = ""
) -> dict[str, float]:
    """Describe a latent space in numbers.

    Parameters
    ----------
    latents
        Of B samples.
    returns
        Of the A assets on the days of the samples, (B, A), finite.
    assets
        Their names.
    part
        Name of the evaluation, such as ``"oracle"``; it stands after ``latent/``.

    Returns
    -------
    dict
        By MLflow name, after ``latent/`` or ``latent/{part}/``:

        - ``kl``: divergence from the prior over all dimensions, in nats; ``kl_dim00``, ...: of each.
        - ``active_units``, ``effective_dim``: see `active_units`, `effective_dimension`.
        - ``corr_{asset}``: largest absolute correlation of a dimension with the asset's return.
        - ``mi_{asset}``: mutual information with the asset's return, summed over dimensions. What
          several dimensions tell alike is counted for each, so it may exceed the information of z.
        - ``mi_max_{asset}``: of the one dimension that tells most, in nats; z tells at least this.

    Raises
    ------
    ValueError
        If the returns do not fit the latents or the names.
    """
    if returns.shape != (len(latents.sample), len(assets)) or not np.isfinite(returns).all():
        expected = (len(latents.sample), len(assets))
        raise ValueError(f"returns have shape {returns.shape}, expected {expected}, all finite")
    kl = kl_per_dimension(latents)
    correlation = np.abs(correlations(latents.sample, returns)).max(axis=0)
    information = mutual_information(latents.sample, returns)
    scores = {
        "kl": float(kl.sum()),
        "active_units": float(active_units(latents.mean)),
        "effective_dim": float(effective_dimension(latents.mean)),
    }
    scores |= {f"kl_dim{d:02d}": float(value) for d, value in enumerate(kl)}
    for a, asset in enumerate(assets):
        scores[f"corr_{asset}"] = float(correlation[a])
        scores[f"mi_{asset}"] = float(information[:, a].sum())
        scores[f"mi_max_{asset}"] = float(information[:, a].max())
    return {metric_name("latent", part, name): value for name, value in scores.items()}


def compare_latents(
    realistic: Latents, oracle: Latents, returns: Floats, assets: tuple[str, ...]
) -> dict[str, float]:
    """Describe the latents without the target beside those that saw it.

    Parameters
    ----------
    realistic, oracle
        Latents of the same B samples, encoded with the target hidden and shown.
    returns, assets
        See `latent_metrics`.

    Returns
    -------
    dict
        The metrics of the realistic latents (``latent/...``), of the oracle's
        (``latent/oracle/...``), and ``latent/kept_{asset}``: the share of the oracle's summed
        mutual information that is left without the target; NaN where the oracle has none.
    """
    scores = latent_metrics(realistic, returns, assets)
    scores |= latent_metrics(oracle, returns, assets, part="oracle")
    for asset in assets:
        told = scores[f"latent/oracle/mi_{asset}"]
        scores[f"latent/kept_{asset}"] = scores[f"latent/mi_{asset}"] / told if told > 0 else float("nan")
    return scores


def collapse(latents: Latents) -> str:
    """Say whether a latent space has collapsed, and how.

    Parameters
    ----------
    latents
        Best those of the encoder as it was trained, which saw the target.

    Returns
    -------
    str
        Empty for a sound one. Else why, the first that holds:

        - no unit is active: no mean moves with the input;
        - the KL over all dimensions is below 0.1 nats, so z tells next to nothing; only against
          the standard normal, as a learnt prior may well have reached the posterior;
        - of several dimensions one is active, or one holds 99 % of the variance of the means.
    """
    units, effective, dimensions = (
        active_units(latents.mean),
        effective_dimension(latents.mean),
        latents.mean.shape[1],
    )
    kl = float(kl_per_dimension(latents).sum())
    if units == 0:
        return f"no active unit of {dimensions}"
    if latents.prior_mean is None and kl < COLLAPSED_KL:
        return f"KL {kl:.2g} below {COLLAPSED_KL} nats"
    if dimensions > 1 and min(units, effective) <= 1:
        return f"{units} active units of {dimensions}, effective dimension {effective}"
    return ""
