"""Draw the experiment on the number of factors: results/latent/dimensions.png.

    python docs/factor_numbers.py

A thousand rows of a hundred columns and rank ten, once with equal noise and once with unequal noise, and
how likely held-out rows are under probabilistic PCA and factor analysis with 1 to 60 factors. `make study
NAME=latent` does it; a page takes its pictures from ``results/``.
"""

from __future__ import annotations

from pathlib import Path

from farm.evaluation.dimension import held_out_likelihoods, low_rank_rows
from farm.report.latent_figures import dimension_choice

COUNTS = (1, 2, 4, 6, 8, 9, 10, 11, 12, 14, 17, 20, 25, 30, 40, 50, 60)


def main() -> None:
    """Draw it."""
    scores = {}
    for kind, equal in (("Equal noise", True), ("Unequal noise", False)):
        rows = low_rank_rows(1000, 100, 10, equal, seed=0)
        scores[kind] = {
            "probabilistic PCA": held_out_likelihoods(rows, COUNTS, "equal"),
            "factor analysis": held_out_likelihoods(rows, COUNTS, "own"),
        }
    target = Path("results") / "latent" / "dimensions.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    dimension_choice(COUNTS, scores, planted=10).savefig(target, dpi=150)


if __name__ == "__main__":
    main()
