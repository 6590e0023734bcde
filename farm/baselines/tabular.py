"""From windows to tables: what the baselines that learn from a table of rows share."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.base.errors import UserError
from farm.base.types import Floats, Ints, Windows

RETURN = "log_return"  # the name of a return among the features, after the asset's name if there is one
TRUSTED = ("sklearn.", "numpy.", "quantile_forest.")


def design(windows: Windows, lags: int) -> Floats:
    """Lay the last days of each window out in one row.

    What a back-filling window hides on its last day is 0 there, so it says nothing.

    Parameters
    ----------
    windows
        B samples of F features.
    lags
        Days to take, counted from the end of the window.

    Returns
    -------
    Floats
        (B, lags * F) float64, oldest day first, a day's features side by side.
    """
    return windows.x[:, -lags:, :].reshape(len(windows), -1).astype(np.float64)


def target(windows: Windows) -> Floats:
    """Give the targets, (B,) float64."""
    return windows.y.astype(np.float64)


def check_lags(model: str, lags: int, lookback: int) -> int:
    """Hold the number of lags to the length of the window.

    Raises
    ------
    UserError
        If the window is too short.
    """
    if lags > lookback:
        raise UserError(
            f"model {model}: lags: got {lags}, expected at most the lookback of {lookback}; lower it"
        )
    return lags


def return_columns(model: str, features: tuple[str, ...]) -> Ints:
    """Find the returns among the features.

    On the last day of a back-filling window the target's own return is hidden and its peers' are
    seen; on the last day of a forecasting window the own return is seen.

    Raises
    ------
    UserError
        If there is none.
    """
    columns = [f for f, name in enumerate(features) if name.rsplit("/", 1)[-1] == RETURN]
    if not columns:
        raise UserError(
            f"model {model}: got features {', '.join(features)}, expected a {RETURN!r} among them; add it"
        )
    return np.array(columns)


def freeze(estimator: Any) -> npt.NDArray[np.uint8]:
    """Give a fitted estimator as the bytes of a skops archive, (n,) uint8.

    The archive holds times of writing, so two equal fits forecast alike but differ in bytes.
    """
    from skops import io  # slow to import

    return np.frombuffer(io.dumps(estimator, compression=zipfile.ZIP_DEFLATED), dtype=np.uint8)


def thaw(archive: npt.NDArray[np.uint8]) -> Any:
    """Take back what `freeze` gave.

    Raises
    ------
    ValueError
        If the archive holds any but the types of the libraries that fitted it.
    """
    from skops import io  # slow to import

    data = archive.tobytes()
    types = io.get_untrusted_types(data=data)
    foreign = [kind for kind in types if not kind.startswith(TRUSTED)]
    if foreign:
        raise ValueError(
            f"the stored model holds {foreign[0]!r},"
            " expected types of sklearn, numpy and quantile_forest only"
        )
    return io.loads(data, trusted=types)
