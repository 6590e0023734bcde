"""The verdict as a table, as a sentence and as files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farm.base.errors import UserError
from farm.base.files import write_atomically
from farm.evaluation.selection import LEVEL
from farm.store import Record

APART = "judged apart: it lacks tickers or days of {}"
FEWEST_SEEDS = 3  # with fewer, the luck of one initialisation may decide
_BEATS_STYLE = {"yes": "bold green", "no": "red", "not shown": "yellow", "no test": "yellow"}
Trials = Sequence[tuple[Mapping[str, Any], Record]]  # what names a trial (model, ticker, seed), its result
_SCORED = ("test", "interval", "risk")  # sections of the scores of an evaluation
_VALUE = "#.4g"  # errors: four significant digits, trailing zeros kept


def verdict_table(table: pd.DataFrame, references: tuple[str, ...], width: int = 100) -> Table:
    """Lay out the verdict for a terminal.

    Parameters
    ----------
    table
        One row for each model, best first: columns model, role ("variant" or "baseline"), beats
        ("yes", "no", "not shown" or empty), rmse, rmse_lo, rmse_hi, direction_accuracy,
        ``REFERENCE_rmse_skill`` for each reference, ``FIRST_rmse_skill_lo`` and ``_hi`` for the
        first one, dm_p, ``FIRST_p_selected``, mcs_p, replicates, expected; see
        `farm.evaluation.verdict.verdict`. A NaN shows as a dash, an interval with a NaN end not at all,
        a model with missing replicates as ``NAME 3/21``. What stands in a column ``warnings`` goes
        below the model's name.
    references
        The baselines that skill is measured against; the first one is the one to beat.
    width
        Columns of the terminal. Where it is too narrow for one line a model, intervals go below
        their value and the p-value after selection below that of the Diebold-Mariano test; where that
        is still too wide, the interval of the RMSE and the confidence set go.

    Returns
    -------
    rich.table.Table
        The first column says whether the variant beats the first reference, the last one whether the
        model is in the 95 % model confidence set.
    """
    layouts = [_lay_out(table, references, between, brief=False) for between in (" ", "\n")]
    ruler = Console(width=10_000)
    for layout in layouts:
        if ruler.measure(layout).maximum <= width:
            return layout
    return _lay_out(table, references, "\n", brief=True)


def _lay_out(table: pd.DataFrame, references: tuple[str, ...], between: str, brief: bool) -> Table:
    first, *others = references
    twins = equal_references(table, references)
    others = [name for name in others if name not in twins]
    stacked = between == "\n"
    shown = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0 if brief else 1, 0, 0), header_style="bold"
    )
    shown.add_column(f"beats\n{first}", no_wrap=True)
    shown.add_column("\nmodel", overflow="fold")
    shown.add_column("\nRMSE" if brief else "RMSE\n[95 %]", justify="right", no_wrap=True)
    shown.add_column(f"% vs {' = '.join((first, *twins))}\n[95 %]", justify="right", no_wrap=True)
    for name in others:
        shown.add_column(f"% vs\n{name}", justify="right", overflow="fold")
    shown.add_column("dir.\nacc. %", justify="right", no_wrap=True)
    for heading in ("DM p\n[sel. p]",) if stacked else ("DM\np", "sel.\np"):
        shown.add_column(Text(heading), justify="right", no_wrap=True)
    if not brief:
        shown.add_column("\nMCS", justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        beats = str(row["beats"])
        notes = [row.get("warnings"), APART.format(first) if row.get("apart") else ""]
        warnings = "".join(f"\n  {note}" for note in notes if note)
        reference = row["model"] == first
        missing = row["replicates"] < row["expected"]
        model = f"{row['model']} {row['replicates']}/{row['expected']}" if missing else str(row["model"])
        rmse = _number(row["rmse"], _VALUE)
        if not brief:
            rmse += _interval(row, "rmse", lambda end: f"{end:#.3g}", between)
        skill = f"{first}_rmse_skill"
        p_values = [_p_value(row["dm_p"]), _p_value(row[f"{first}_p_selected"])]
        if stacked:
            p_values = [p_values[0] + (f"\n[{p_values[1]}]" if p_values[1] != "-" else "")]
        p_of_set = row["mcs_p"]
        in_set = "-" if math.isnan(p_of_set) else "in" if p_of_set > LEVEL else "out"
        shown.add_row(
            Text("reference" if reference else beats, style=_BEATS_STYLE.get(beats, "")),
            Text.assemble((model, "bold" if reference else ""), (warnings, "yellow")),
            Text(rmse),
            Text("-" if reference else _percent(row[skill]) + _interval(row, skill, _percent, between)),
            *("-" if row["model"] == name else _percent(row[f"{name}_rmse_skill"]) for name in others),
            _number(100 * row["direction_accuracy"], ".1f"),
            *map(Text, p_values),
            *(() if brief else (in_set,)),
            style="dim" if row["role"] == "baseline" else "",
        )
    return shown


def equal_references(table: pd.DataFrame, references: tuple[str, ...]) -> list[str]:
    """Return the references whose forecasts are those of the first one, to the bit."""
    skill = table.set_index("model")[f"{references[0]}_rmse_skill"]
    rmse = table.set_index("model")["rmse"]
    return [
        name
        for name in references[1:]
        if name in skill and skill[name] == 0 and rmse[name] == rmse[references[0]]
    ]


def verdict_sentence(table: pd.DataFrame, references: tuple[str, ...], tried: int = 0) -> str:
    """Say in one plain sentence whether the variants beat the first reference.

    Parameters
    ----------
    table, references
        As for `verdict_table`; also the column seeds, the number of seeds behind each row.
    tried
        Variants beside those of the table that the p-values after selection account for.

    Returns
    -------
    str
        The count, the best variant with its distance and p-values, before and after accounting for
        all variants that were tried; how it does against the best baseline, and against the first
        reference's twins; the gain that these days could have shown; and a warning if a variant has fewer
        than three seeds. Where there are too few days for a test, that and the distance alone.
    """
    first = references[0]
    skill = f"{first}_rmse_skill"
    variants = table[table["role"] == "variant"]
    judged = variants[variants[skill].notna()].sort_values(skill, ascending=False, kind="stable")
    if variants["rmse"].notna().sum() == 0:
        return f"No variant finished: nothing to compare with {first}."
    if len(judged) == 0:
        return f"{first} did not finish: nothing to compare the variants with."
    if (judged["beats"] == "no test").all():
        return _without_test(judged.iloc[0].to_dict(), first)
    winners = judged[judged["beats"] == "yes"]
    best = (judged if len(winners) == 0 else winners).iloc[0].to_dict()
    name, distance = best["model"], _distance(best, first, len(judged) + tried)
    count = f"{len(winners)} of {len(judged)} variants {'beats' if len(winners) == 1 else 'beat'} {first}"
    if len(winners) > 0 and len(judged) == 1:
        sentence = f"{name} beats {first}: it has {distance}"
    elif len(winners) == 1:
        sentence = f"{count}: {name} has {distance}"
    elif len(winners) > 1:
        every = f"All {len(judged)} variants beat {first}"
        sentence = f"{every if len(winners) == len(judged) else count}: the best, {name}, has {distance}"
    elif len(judged) == 1:
        verb = "is not shown to beat" if best["beats"] == "not shown" else "does not beat"
        sentence = f"{name} {verb} {first}: it has {distance}"
    else:
        verb = "is shown to beat" if "not shown" in set(judged["beats"]) else "beats"
        sentence = f"No variant {verb} {first}: the closest, {name}, has {distance}"
    drawn = judged.loc[~judged["settled"], "seeds"]
    few = "; fewer than 3 seeds: too few to trust" if drawn.min() < FEWEST_SEEDS else ""
    twins = equal_references(table, references)
    are = f"{' and '.join(twins)} {'is' if len(twins) == 1 else 'are'}"
    same = f"{are} {first} here, to the bit" if twins else ""
    more = filter(None, (_against_the_best(best, first), _found_half_the_time(best), same))
    return " ".join(f"{text}." for text in (f"{sentence}{few}", *more))


def evaluation_table(records: Trials) -> pd.DataFrame:
    """Lay out every evaluation of trials: scenarios, calibrations, subsets of the days.

    Parameters
    ----------
    records
        What names a trial (such as model, ticker and seed), and its result.

    Returns
    -------
    DataFrame
        One row for each trial, ``evaluation`` (empty for the ranked one) and ``days`` (``all``, or
        ``volatile``, ``crisis`` and ``normal`` where they were scored): ``oracle``, whether it has seen
        the truth, and a column for each score, NaN where it was not measured.
    """
    rows = []
    for key, record in records:
        by_part: dict[str, dict[str, float]] = {}
        for full, value in record.metrics.items():
            section, *part, name = full.split("/")
            if section in _SCORED:
                by_part.setdefault("/".join(part), {})[name] = value
        for evaluation in record.levels:
            for days in ("all", "volatile", "crisis", "normal"):
                wanted = "/".join(filter(None, (evaluation, days if days != "all" else "")))
                if scores := by_part.get(wanted):
                    oracle = evaluation in record.oracles
                    rows.append({**key, "evaluation": evaluation, "days": days, "oracle": oracle, **scores})
    return pd.DataFrame(rows)


def write_results(
    out: Path,
    table: pd.DataFrame,
    scores: pd.DataFrame,
    predictions: pd.DataFrame,
    evaluations: pd.DataFrame,
    metrics: pd.DataFrame,
    more: Mapping[str, pd.DataFrame] | None = None,
    beside: pd.DataFrame | None = None,
) -> list[Path]:
    """Write everything a sweep ends with, each file whole or not at all.

    Parameters
    ----------
    out
        Folder for the files, made where missing; what else is in it stays.
    table
        The verdict, written as ``table.csv`` in full.
    scores
        One row for each model, ticker and seed; ``results.csv`` has its ticker, model, seed, MAE,
        RMSE and DirAcc.
    predictions
        Every test day, written as ``predictions.parquet``.
    evaluations
        One row for each evaluation of each trial, written as ``evaluations.csv``.
    metrics
        One row for each trial with every metric it has, written as ``metrics.csv``.
    more
        Further tables by file stem, each written as ``STEM.csv``.
    beside
        The test days of all evaluations beside the ranked ones, such as calibrated forecasts, written as
        ``evaluations.parquet``.

    Returns
    -------
    list of Path
        The files, in the order written.

    Raises
    ------
    UserError
        If the folder cannot be made or written to.
    """
    results = scores.rename(columns={"mae": "MAE", "rmse": "RMSE", "direction_accuracy": "DirAcc"})
    results = results[["ticker", "model", "seed", "MAE", "RMSE", "DirAcc"]]
    contents = {
        "results.csv": results.to_csv(index=False).encode(),
        "table.csv": table.to_csv(index=False).encode(),
        "predictions.parquet": predictions.to_parquet(index=False),
        "evaluations.csv": evaluations.to_csv(index=False).encode(),
        "metrics.csv": metrics.to_csv(index=False).encode(),
        **({} if beside is None or beside.empty else {"evaluations.parquet": beside.to_parquet(index=False)}),
        **{f"{stem}.csv": extra.to_csv(index=False).encode() for stem, extra in (more or {}).items()},
    }
    return save_files(out, contents)


def save_files(out: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files by name, each whole or not at all; see `write_results`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(out / name, content)
    except OSError as error:
        raise unwritable(out, error.strerror) from error
    return [out / name for name in contents]


def unwritable(out: Path, reason: object) -> UserError:
    """Say that results cannot be kept."""
    return UserError(
        f"results folder {str(out)!r} cannot be written ({reason}):"
        " expected a folder that you may write to; free it or work in another folder"
    )


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"


def _p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else _number(p, ".3f")


def _percent(share: float) -> str:
    return _number(100 * share, "+.2f" if abs(share) < 0.1 else "+.1f")


def _interval(row: dict[Any, Any], column: str, write: Callable[[float], str], between: str) -> str:
    low, high = (float(row.get(f"{column}{end}", math.nan)) for end in ("_lo", "_hi"))
    return f"{between}[{write(low)}, {write(high)}]" if math.isfinite(low) and math.isfinite(high) else ""


def _without_test(row: Mapping[Any, Any], first: str) -> str:
    """Say that nothing was tested, and how far the best variant is from the reference."""
    stretches, starts = row["stretches"], row["starts"]
    why = (
        f"{stretches} stretch{'es' * (stretches != 1)} of days over which forecasts do not hang together"
        if stretches < starts
        else f"{starts} starting day{'s' * (starts != 1)}"
    )
    return f"{why}: no test. The best variant, {row['model']}, has {_distance(row, first, 1)} than {first}."


def _against_the_best(row: Mapping[Any, Any], first: str) -> str:
    """Say how a row does against the best baseline, where that is another one than the reference."""
    best = row.get("best", first)
    if best == first:
        return ""
    word = {"yes": "beats", "no": "is no better than", "no test": "is not tested against"}
    verb = word.get(row["beats_best"], "is not shown to beat")
    apart = _distance(row, "best", 1, "best_dm_p")
    return f"{row['model']} {verb} {best}, the best baseline on these days: {apart}"


def _found_half_the_time(row: Mapping[Any, Any]) -> str:
    gain = 100 * row.get("detectable", math.nan)
    return f"With these days a gain of {gain:.2g} % in RMSE is found half the time" if gain == gain else ""


def _distance(row: Mapping[Any, Any], reference: str, tried: int, dm_p: str = "dm_p") -> str:
    """Say how far a row is from the reference, such as ``0.3 % higher RMSE (DM p = 0.41)``."""
    percent = 100 * row[f"{reference}_rmse_skill"]
    size = f"{abs(percent):.1f}" if abs(percent) >= 0.095 else f"{abs(percent):.1g}"
    apart = "the same RMSE" if percent == 0 else f"{size} % {'lower' if percent > 0 else 'higher'} RMSE"
    selected = f"best of {tried} tried, p after selection" if tried > 1 else "bootstrap p"
    named = {"DM p": row[dm_p], selected: row[f"{reference}_p_selected"]}
    p_values = [
        f"{name} {'< 0.001' if p < 0.001 else f'= {p:.2g}'}" for name, p in named.items() if math.isfinite(p)
    ]
    return f"{apart} ({'; '.join(p_values)})" if p_values else apart
