"""How the intervals of a taught model are mended afterwards; each file registers what it holds."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
