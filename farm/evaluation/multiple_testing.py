"""What is left of p-values once it is counted how many tests there were."""

from __future__ import annotations

import numpy as np

from farm.base.types import Floats


def holm(p_values: Floats) -> Floats:
    """Return p-values adjusted for their number (Holm 1979, Scandinavian Journal of Statistics 6(2)).

    However the tests hang together, the chance that one or more true hypotheses end below 0.05 is at most
    0.05.

    Parameters
    ----------
    p_values
        (K,); NaN where there was no test, which stays NaN and does not count.
    """
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: int(np.sum(~np.isnan(p_values)))]  # NaN is sorted last
    steps = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
