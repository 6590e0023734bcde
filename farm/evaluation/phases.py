"""How a network does after a phase of its curriculum, at that phase's own horizons.

Errors are in volatility, of the median surface, its latent the mean of the prior: nothing has seen the
days that are scored. Quantiles are those of a day given the forecast before it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from farm.base.errors import UserError
from farm.base.types import Floats
from farm.models.network import Sequences
from farm.models.objectives import gaussian_kl
from farm.models.surface_cvae import MEDIAN, Ahead, SurfaceCVAE
from farm.training.curriculum import Autoregressive, MultiHorizon, Phase, TeacherForcing
from farm.training.fit import History
from farm.training.rollout import roll

SEQUENCES = 256  # of a block, evenly spread


def phase_scores(
    network: SurfaceCVAE,
    name: str,
    phase: Phase,
    train_days: Floats,
    val_days: Floats,
    history: History | None = None,
) -> dict[str, float]:
    """Score a network on both blocks at the horizons of the phase that it has just gone through.

    Parameters
    ----------
    network
        Left as it was.
    name
        Of the phase, such as ``"phase 2"``; scores begin with ``phase2``.
    phase
        What was gone through.
    train_days, val_days
        Scaled days, (N, F) each, as for `farm.training.curriculum.teach`.
    history
        Its learning curve.

    Returns
    -------
    dict
        For ``train`` and ``val``, such as ``phase2/val/rmse``:

        - ``rmse``: over all days of the longest horizon, or of the rollout with the largest offset;
        - ``violations``: share of days and cells outside the 90 % interval, at the horizon where it is
          largest, or over the passes of that rollout;
        - ``kl``: KL divergence of the posterior from the prior, summed over dimensions, mean over days;
        - without passes ``rmse_hH`` and ``violations_hH``, over the first H days, for each horizon;
        - with passes ``pass1_rmse`` and so on; ``degradation``, the last of them over the first;
          ``rmse_offsetO``, of the rollout with offset O (overlaps averaged) on the days that every
          offset reaches; ``offset_gap``, by how much the largest of these exceeds the smallest, as a
          share.

        With a history ``phase2/epochs``, how many were trained, and ``phase2/val/loss_rise``: by how
        much the last validation loss exceeds the best one, as a share of it.

    Raises
    ------
    UserError
        If a block holds no sequence of the phase.
    """
    stem = name.replace(" ", "")
    was_training = network.training
    network.eval()
    scores: dict[str, float] = {}
    with torch.no_grad():
        for block, days in (("train", train_days), ("val", val_days)):
            chosen = _spread(days, phase.days(network.context_days), f"{name}, {block}")
            chosen = chosen.to(next(network.parameters()).device)
            if isinstance(phase, Autoregressive):
                found = _passes(network, chosen, phase)
            else:
                found = _horizons(network, chosen, _own_horizons(phase))
            found["kl"] = _divergence(network, chosen)
            scores |= {f"{stem}/{block}/{key}": value for key, value in found.items()}
    network.train(was_training)
    if history is not None:
        losses = [epoch.val_loss for epoch in history.epochs]
        scores[f"{stem}/epochs"] = float(len(losses))
        scores[f"{stem}/val/loss_rise"] = losses[-1] / min(losses) - 1 if min(losses) > 0 else float("nan")
    return scores


def _spread(days: Floats, length: int, what: str) -> Tensor:
    """Take sequences that are spread evenly over a block, (at most `SEQUENCES`, length, F)."""
    sequences = Sequences(torch.from_numpy(days), length)
    if sequences.size < 1:
        raise UserError(
            f"{what}: got {len(days)} days, expected at least {length}: give more days or leave the phase out"
        )
    rows = np.unique(np.linspace(0, sequences.size - 1, SEQUENCES).round().astype(np.int64))
    return sequences.take(torch.from_numpy(rows))


def _own_horizons(phase: Phase) -> tuple[int, ...]:
    if isinstance(phase, MultiHorizon):
        return phase.horizons
    assert isinstance(phase, TeacherForcing)  # the third kind rolls
    return (phase.horizon,)


def _horizons(network: SurfaceCVAE, days: Tensor, horizons: tuple[int, ...]) -> dict[str, float]:
    """Score one pass from a real context; the first days of a pass are the pass to a shorter horizon."""
    truth = days[:, network.context_days :]
    ahead = _forecast(network, days[:, : network.context_days], truth.shape[1])
    error, outside = _errors(network, ahead, truth)
    scores = {}
    for horizon in horizons:
        scores[f"rmse_h{horizon}"] = _rmse(error[:, :horizon])
        scores[f"violations_h{horizon}"] = float(outside[:, :horizon].double().mean())
    scores["rmse"] = scores[f"rmse_h{horizons[-1]}"]
    scores["violations"] = max(scores[f"violations_h{horizon}"] for horizon in horizons)
    return scores


def _passes(network: SurfaceCVAE, days: Tensor, phase: Autoregressive) -> dict[str, float]:
    """Score rollouts at each offset of the phase, and pass by pass at the largest."""
    known, largest = network.context_days, max(phase.offsets)
    reached = (phase.steps - 1) * min(phase.offsets) + phase.horizon  # by every offset
    truth = network.volatility(days[:, known:, : network.cells])
    scores: dict[str, float] = {}
    common = {}
    for offset in phase.offsets:
        total = torch.zeros_like(truth)
        times = torch.zeros(truth.shape[1], device=days.device)
        errors, outside = [], []
        for number, ahead in enumerate(_roll(network, days[:, :known], phase, offset)):
            some = slice(number * offset, number * offset + phase.horizon)
            error, beyond = _errors(network, ahead, days[:, known:][:, some])
            errors.append(error)
            outside.append(beyond)
            total[:, some] += network.volatility(network.bounded(ahead.surface[..., MEDIAN]))
            times[some] += 1
        made = total / times.clamp(min=1)[:, None] - truth
        common[offset] = _rmse(made[:, :reached])
        scores[f"rmse_offset{offset}"] = common[offset]
        if offset != largest:
            continue
        by_pass = [_rmse(error) for error in errors]
        scores |= {f"pass{number}_rmse": value for number, value in enumerate(by_pass, 1)}
        scores["degradation"] = by_pass[-1] / by_pass[0]
        scores["rmse"] = _rmse(made[:, times > 0])
        scores["violations"] = float(torch.cat(outside, dim=1).double().mean())
    scores["offset_gap"] = max(common.values()) / min(common.values()) - 1
    return scores


def _roll(network: SurfaceCVAE, context: Tensor, phase: Autoregressive, offset: int) -> list[Ahead]:
    """Roll out, medians fed back; give what each pass forecast."""
    made: list[Ahead] = []

    def step(number: int, past: Tensor) -> Tensor:
        made.append(_forecast(network, past, phase.horizon))
        return network.median_days(made[-1])

    roll(context, step, phase.horizon, offset, phase.steps)
    return made


def _forecast(network: SurfaceCVAE, context: Tensor, horizon: int) -> Ahead:
    """Forecast with the mean of the prior as latent."""
    memory = network.remember(context)
    return network.decode(memory, network.prior(memory, horizon).mean)


def _errors(network: SurfaceCVAE, ahead: Ahead, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Give median less truth in volatility and what lies outside the interval, (B, H, G) each."""
    cells = truth[..., : network.cells]
    error = network.volatility(network.bounded(ahead.surface[..., MEDIAN])) - network.volatility(cells)
    return error, (cells < ahead.surface[..., 0]) | (cells > ahead.surface[..., -1])


def _divergence(network: SurfaceCVAE, days: Tensor) -> float:
    """Give the mean KL divergence of a day's posterior from its prior, summed over dimensions."""
    posterior = network.posterior(days)
    prior = network.prior(network.remember(days[:, : network.context_days]), posterior.mean.shape[1])
    return float(gaussian_kl(*posterior, *prior).sum(dim=-1).mean())


def _rmse(error: Tensor) -> float:
    return float(error.double().square().mean().sqrt())
