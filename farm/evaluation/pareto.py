"""Which of several compromises are worth a look, and the one that is picked of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from farm.base.types import Floats, Ints

RULE = "nearest to the ideal point, each objective scaled to 0..1 over the front"


def front(costs: Floats) -> npt.NDArray[np.bool_]:
    """Mark the points that no other point is at least as good as in everything, and better in something.

    Parameters
    ----------
    costs
        (n, M), M objectives of n points, less is better; finite.

    Returns
    -------
    ndarray
        (n,) of bool. Equal points are on the front together.
    """
    no_worse = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
    better = (costs[:, None, :] < costs[None, :, :]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0))


def best_first(costs: Floats) -> Ints:
    """Order points: those of the front first, nearest to the ideal point first.

    The ideal point has the least of each objective that any point of the front has. Objectives are
    scaled with their range over the front, so their units do not matter; the distance is Euclidean. One
    objective is thus ordered by its value.

    Parameters
    ----------
    costs
        As for `front`.

    Returns
    -------
    Ints
        Places of the n points, (n,), the pick first; ties in the order given.
    """
    if len(costs) == 0:
        return np.empty(0, dtype=np.int64)
    marks = front(costs)
    ideal, reach = costs[marks].min(axis=0), np.ptp(costs[marks], axis=0)
    scale = np.where(reach > 0, reach, np.where(ideal != 0, np.abs(ideal), 1.0))
    distance = np.sqrt((((costs - ideal) / scale) ** 2).sum(axis=1))
    return np.lexsort((distance, ~marks))
