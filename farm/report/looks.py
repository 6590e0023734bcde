"""The colour and the marker of each model, the same in every figure, page and run."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

INK, GREY, PALE = "#222222", "#6b6b6b", "#dddddd"
# Colour-blind safe: seaborn's "colorblind" without its grey, yellow and pink, which are pale on white,
# and the wine of Paul Tol's "muted".
COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#882255", "#56b4e9", "#ca9161")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")  # nine on eight colours: 72 pairs
BASELINE_GREYS = ("#4d4d4d", "#8c8c8c")


@dataclass(frozen=True)
class Look:
    """How one model is drawn everywhere."""

    colour: str
    marker: str
    face: str
    variant: bool


def looks_of(table: pd.DataFrame) -> dict[str, Look]:
    """Return the look of each model, by the order of names, so that a new ranking changes no colour."""
    looks = {}
    for i, name in enumerate(sorted(table.loc[table["role"] == "variant", "model"])):
        colour = COLOURS[i % len(COLOURS)]
        looks[name] = Look(colour, MARKERS[i % len(MARKERS)], colour, variant=True)
    for i, name in enumerate(sorted(table.loc[table["role"] != "variant", "model"])):
        grey = BASELINE_GREYS[i % len(BASELINE_GREYS)]
        looks[name] = Look(grey, MARKERS[i % len(MARKERS)], "white", variant=False)
    return looks
