"""What can be read out of the states of networks, and whether two networks have come to the same states.

Shape letters: B samples, D width of a state, R networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from farm.base.types import Floats

PENALTIES = tuple(10.0**k for k in range(-2, 6))
SHIFTS = 99


@dataclass(frozen=True)
class States:
    """The hidden states of one trained network, and what might be read from them.

    Parameters
    ----------
    row, ticker, seed
        Of the trial.
    hidden
        (B, D), the training, validation and test days in order.
    learnt, chosen
        Rows on which the validation and the test days begin.
    targets
        By name, (B,) each.
    gap
        Days that a state or a target looks back and ahead.
    """

    row: str
    ticker: str
    seed: int
    hidden: Floats
    learnt: int
    chosen: int
    targets: Mapping[str, Floats]
    gap: int

    @property
    def tested(self) -> Floats:
        """Give the states of the test days."""
        return self.hidden[self.chosen :]


class Probe(NamedTuple):
    """What a linear probe finds.

    Parameters
    ----------
    r2
        Share of the target's variance on the scored days that the probe explains; below 0 where the mean
        of those days would do better.
    chance
        What 95 % of the shifted targets stay below.
    p_value
        Share of targets, the true one among them, that are explained as well as the true one.
    """

    r2: float
    chance: float
    p_value: float


def linear_probe(
    states: Floats,
    target: Floats,
    learnt: int,
    chosen: int,
    gap: int,
    *,
    shifts: int = SHIFTS,
    seed: int = 0,
) -> Probe:
    """Ask how much of a quantity a ridge regression reads out of states (Alain & Bengio 2017, ICLR workshop).

    It learns on the first days, chooses its penalty on later ones and is scored on the last. Chance is what
    the same states explain of the target shifted in a circle: a shift keeps the memory of the target, which
    lets two slow series that have nothing to do with each other look alike; a permutation would not.

    Parameters
    ----------
    states
        (B, D), in time order, finite.
    target
        (B,), finite.
    learnt, chosen
        Rows ``[0, learnt)`` teach, ``[learnt, chosen)`` choose the penalty, the rest are scored.
    gap
        Rows dropped at the beginning of the two later blocks (purging): as many days as a state and a
        target look back.
    shifts
        Targets that chance is drawn from.
    seed
        Of the shifts.

    Raises
    ------
    ValueError
        If a block has fewer than two rows beside its gap.
    """
    from sklearn.linear_model import Ridge  # slow to import

    n = len(states)
    blocks = slice(0, learnt), slice(learnt + gap, chosen), slice(chosen + gap, n)
    if min(block.stop - block.start for block in blocks) < 2:
        raise ValueError(f"{n} rows cut at {learnt} and {chosen} with gaps of {gap} leave a block too short")
    train, val, test = blocks
    x = states.astype(np.float64)
    spread = x[train].std(axis=0)
    x = (x - x[train].mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0)
    least = min(max(gap, 1), n // 4)
    moved = np.random.default_rng(seed).integers(least, n - least, size=shifts)
    y = np.stack([target, *(np.roll(target, k) for k in moved)], axis=1).astype(np.float64)
    on_val, on_test = [], []
    for penalty in PENALTIES:
        ridge = Ridge(alpha=penalty, solver="svd").fit(x[train], y[train])
        on_val.append(_r2(y[val], ridge.predict(x[val])))
        on_test.append(_r2(y[test], ridge.predict(x[test])))
    best = np.argmax(on_val, axis=0)
    r2 = np.array(on_test)[best, np.arange(y.shape[1])]
    rank = float((r2 >= r2[0]).sum()) / (shifts + 1)
    return Probe(float(r2[0]), float(np.quantile(r2[1:], 0.95)), rank)


def _r2(truth: Floats, forecast: Floats) -> Floats:
    """Give the share of variance explained of each column; 0 where a truth does not vary."""
    total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    error = ((truth - forecast) ** 2).sum(axis=0)
    share: Floats = np.where(total > 0, 1 - error / np.where(total > 0, total, 1.0), 0.0)
    return share


def centred_kernels(representations: Sequence[Floats]) -> Floats:
    """Give the linear kernel of each representation of the same B samples, ready for `alignment`.

    Centred so that the inner product of two is an unbiased estimate of their Hilbert-Schmidt independence
    criterion (Song et al. 2012, JMLR 13; U-centring of Szekely & Rizzo 2014, Annals of Statistics 42), and
    of length 1.

    Parameters
    ----------
    representations
        R of them, each (B, D) with a D of its own, B > 3.

    Returns
    -------
    Floats
        (R, B, B) float32; 0 for one that does not vary.
    """
    kernels = []
    for states in representations:
        x = states.astype(np.float64) - states.mean(axis=0, dtype=np.float64)
        n = len(x)
        kernel = x @ x.T
        np.fill_diagonal(kernel, 0.0)
        rows = kernel.sum(axis=0)
        kernel += rows.sum() / ((n - 1) * (n - 2)) - (rows[:, None] + rows[None, :]) / (n - 2)
        np.fill_diagonal(kernel, 0.0)
        size = np.linalg.norm(kernel)
        kernels.append((kernel / size if size > 0 else kernel).astype(np.float32))
    return np.stack(kernels)


def alignment(kernels: Floats, shift: int = 0) -> Floats:
    """Give the centred kernel alignment of every pair of representations.

    Linear CKA (Kornblith et al. 2019, ICML) in its debiased form, which is about 0 for independent states
    however wide they are, and may be below: 1 for states that are equal up to a rotation and a scale.

    Parameters
    ----------
    kernels
        See `centred_kernels`, (R, B, B).
    shift
        Days by which the second of each pair is moved in a circle: what is left is chance.

    Returns
    -------
    Floats
        (R, R).
    """
    moved = np.roll(kernels, (shift, shift), axis=(1, 2)) if shift else kernels
    count = len(kernels)
    pairs: Floats = kernels.reshape(count, -1) @ moved.reshape(count, -1).T
    return pairs.astype(np.float64)
