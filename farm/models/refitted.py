"""A model that is fitted anew for each window of a walk-forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from farm.base.model import Model, State
from farm.base.types import Forecast, Windows


@final
class Refitted(Model):
    """One model in several fits, of which each sample is forecast by its own; see `Windows.refit`.

    Parameters
    ----------
    fits
        Taught, in order of time.
    """

    def __init__(self, fits: Sequence[Model]) -> None:
        self.fits = tuple(fits)

    def predict(self, windows: Windows) -> Forecast:
        """Forecast each sample by the fit that knew all before its block.

        Raises
        ------
        ValueError
            If the windows do not say whose they are.
        """
        if windows.refit is None:
            raise ValueError("windows of a walk-forward say which fit forecasts each of them; these do not")
        edges = np.searchsorted(windows.refit, np.arange(len(self.fits) + 1))
        return Forecast.join(
            [
                fit.predict(windows.take(slice(int(start), int(stop))))
                for fit, start, stop in zip(self.fits, edges[:-1], edges[1:], strict=True)
                if stop > start
            ]
        )

    def state(self) -> State:
        """Give what the fits learnt, named ``0.NAME`` and so on."""
        return {
            f"{k}.{name}": value for k, fit in enumerate(self.fits) for name, value in fit.state().items()
        }

    def load_state(self, state: State) -> None:
        """Take back what `state` gave."""
        for k, fit in enumerate(self.fits):
            mine = f"{k}."
            fit.load_state({n.removeprefix(mine): v for n, v in state.items() if n.startswith(mine)})
