"""Farm: a Ray-distributed hyperparameter and ablation farm for financial time-series models.

`run` runs a sweep to its verdict, `Sweep` and `Variant` declare one, `load` reads a finished trial. What
they need is imported when they are first asked for, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm.api import Outcome, load, run
    from farm.base.errors import UserError
    from farm.base.search_space import Sweep, Variant

__all__ = ["Outcome", "Sweep", "UserError", "Variant", "load", "run"]

_HOMES = {
    "UserError": "farm.base.errors",
    "Sweep": "farm.base.search_space",
    "Variant": "farm.base.search_space",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name == "__version__":
        return import_module("farm.base.origin").VERSION
    if name not in __all__:
        raise AttributeError(f"module 'farm' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "farm.api")), name)
