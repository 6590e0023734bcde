"""The verdict in Markdown, for the note of an MLflow experiment."""

from __future__ import annotations

import math

import pandas as pd

_LONGEST = 4900  # MLflow takes 5000 characters
_MOST_ROWS = 20  # of the verdict in a note, which MLflow cuts off after 5000 characters
_HOW_TO_READ = (
    "The runs named like a row are its means over tickers and seeds, with `ci/lo`, `ci/hi` (95 % interval of"
    " the skill against the first reference) and `dm/p`; the trials are below the run of the sweep, which has"
    " the report page. *Views*"
    " above has two: *Verdict*, rows side by side, and *Trials*, with learning curves. The run tagged"
    " `farm.reference` is the one to beat: choose it as the baseline of a difference view."
)


def verdict_note(question: str, sentence: str, table: pd.DataFrame, reference: str) -> str:
    """Write the verdict and how to read it in Markdown, for the note of an experiment.

    Parameters
    ----------
    question, sentence
        The sweep's, and the verdict in words.
    table
        The verdict, best first.
    reference
        The baseline to beat.

    Returns
    -------
    str
        Under 5000 characters, which is what MLflow takes.
    """
    lines = [
        f"**{question}**",
        "",
        sentence,
        "",
        _HOW_TO_READ,  # before the rows, which are what a cut may take
        "",
        f"| model | beats {reference} | RMSE | 95 % | skill, % | DM p | p after selection |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in table.iloc[:_MOST_ROWS].to_dict("records"):
        cells = [row["model"], row["beats"] or ("reference" if row["model"] == reference else "–")]
        low, high = (_cell(row[f"rmse_{end}"], "#.4g") for end in ("lo", "hi"))
        cells += [_cell(row["rmse"], "#.4g"), f"{low} to {high}"]
        cells += [_cell(100 * row[f"{reference}_rmse_skill"], "+.2f"), _cell(row["dm_p"], ".3f")]
        cells += [_cell(row[f"{reference}_p_selected"], ".3f")]
        lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    if len(table) > _MOST_ROWS:
        lines.append(f"\n{len(table) - _MOST_ROWS} more rows are in `table.csv`.")
    return "\n".join(lines)[:_LONGEST]


def _cell(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"
