"""Every speed-up keeps the numbers: the loss curves of all networks against those that are kept."""

from __future__ import annotations

import json

from benchmarks.measure import Line


def rows(quick: bool) -> list[Line]:
    """Compare them; ``quick`` changes nothing."""
    from tests.golden import FILE, curves, machine

    golden, found = json.loads(FILE.read_text()), curves()
    apart = [
        abs(value - kept) / max(abs(kept), 1e-3)
        for name, losses in golden["curves"].items()
        for value, kept in zip(found[name], losses, strict=True)
    ]
    same = machine() == golden["machine"]
    return [
        Line(
            "largest relative difference of a loss",
            max(apart),
            "<=",
            0.0 if same else 1e-6,
            f"{len(apart)} losses of {len(found)} networks, written on"
            f" {'this' if same else 'another'} type of machine",
        )
    ]
