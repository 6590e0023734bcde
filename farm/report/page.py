"""One self-contained HTML page of what a sweep comes to."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from farm.base.origin import UNKNOWN
from farm.base.types import quantile_name
from farm.data.panel import Panel
from farm.evaluation.regimes import skill_by_regime
from farm.evaluation.selection import LEVEL
from farm.evaluation.trading import COSTS, HOLD
from farm.evaluation.verdict import mean_skill
from farm.plan import Plan
from farm.report.conclusion import Conclusion
from farm.report.page_charts import DARK, calibration, learning_curves, ranking, skill_map
from farm.report.tables import FEWEST_SEEDS
from farm.report.walk_forward import WARNING
from farm.store import Record, epochs_of_stages

_BEATS = {"yes": "yes", "no": "no", "not shown": "open"}
_MOST_COLUMNS = 40  # of a map
# What the page draws itself.
_DRAWN = {"ablation_bars", "rmse_per_ticker", "curves", "direction_heatmap", "full_comparison"}


@dataclass(frozen=True)
class Sources:
    """What a page says beside the verdict.

    Parameters
    ----------
    command
        That repeats the sweep.
    failures
        Why trials failed, by their names.
    attempts
        How many configs a search tried, by how they ended; empty without one.
    """

    command: str
    failures: Mapping[str, str]
    attempts: Mapping[str, int]


def report_page(plan: Plan, end: Conclusion, records: Mapping[str, Record], sources: Sources) -> str:
    """Write the page: everything is inside, so it opens anywhere, without a network.

    Parameters
    ----------
    plan
        The sweep.
    end
        What it comes to.
    records
        Results by signature.
    sources
        What else is told.

    Returns
    -------
    str
        HTML, light or dark as the reader's system is.
    """
    done = [records[trial.signature] for trial in end.trials]
    charts: dict[str, str] = {}
    body = [
        _opening(plan, end, done, sources),
        _ranking(plan, end, charts),
        _baselines(plan, end, charts),
        _places(plan, end, charts),
        _regimes(plan, end, charts),
        _confidence(end),
        _trading(end),
        _curves(end, charts),
        _calibration(end, done, charts),
        _tried(plan, end, sources),
        _cost(plan, end, records),
        _repeat(done, sources),
        _pictures(end.files),
    ]
    template = Template((files("farm.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{plan.name}: {plan.sweep.title}"),
        body="\n".join(filter(None, body)),
        plotly=get_plotlyjs(),
        dark=json.dumps(DARK),
        charts=json.dumps(charts).replace("</", "<\\/"),
    )


def _section(title: str, note: str, *parts: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{"".join(parts)}</section>'


def _chart(charts: dict[str, str], name: str, figure: go.Figure) -> str:
    charts[name] = str(figure.to_json())
    return f'<div class="chart" id="{name}" style="min-height:{figure.layout.height}px"></div>'


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] = ()) -> str:
    """Lay out cells of ready HTML."""
    line = "".join(f"<th>{cell}</th>" for cell in head)
    lines = []
    for i, row in enumerate(rows):
        cells = "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row)
        lines.append(f'<tr class="{classes[i] if classes else ""}">{cells}</tr>')
    return f'<div class="scroll"><table><tr>{line}</tr>{"".join(lines)}</table></div>'


def _opening(plan: Plan, end: Conclusion, done: Sequence[Record], sources: Sources) -> str:
    first, *rest = end.sentence.split("\n")
    verdict, _, more = first.partition(". ")
    more = "\n".join(filter(None, (more, *rest)))
    dates = end.predictions["date"]
    drawn = end.table.loc[(end.table["role"] == "variant") & ~end.table["settled"], "seeds"]
    facts = {
        "variants": str(len(plan.rows("variant"))),
        "baselines": str(len(plan.rows("baseline"))),
        "trials finished": f"{len(end.trials)} of {len(plan.trials)}",
        "test days": f"{dates.min():%d %b %Y} – {dates.max():%d %b %Y}",
        "tickers" if isinstance(plan.source, Panel) else "cells": str(end.predictions["ticker"].nunique()),
        "seeds": "–" if drawn.empty else f"{drawn.max()}",
    }
    if len(drawn) and drawn.min() < FEWEST_SEEDS:
        facts["seeds"] += " (too few)"
    items = "".join(f"<li><b>{escape(value)}</b><span>{name}</span></li>" for name, value in facts.items())
    return (
        f"<h1>{escape(plan.name)}: {escape(plan.sweep.title)}</h1>"
        f'<p class="question">{escape(plan.sweep.question)}</p>'
        f'<div class="verdict">{escape(verdict.rstrip("."))}.'
        + (f'<p class="more">{escape(more)}</p>' if more else "")
        + f'</div><ul class="facts">{items}</ul>'
    )


def _ranking(plan: Plan, end: Conclusion, charts: dict[str, str]) -> str:
    first = plan.sweep.references[0]
    chart = _chart(charts, "ranking", ranking(end.table, first))
    head = ["model", f"beats {escape(first)}", "RMSE"]
    head += [f"% vs {escape(name)}" for name in plan.sweep.references]
    head += ["direction %", "DM p", "p after selection", "in MCS", "replicates"]
    rows, classes = [], []
    for row in end.table.to_dict("records"):
        beats = "reference" if row["model"] == first else str(row["beats"]) or "–"
        warnings = f"<small>{escape(str(row['warnings']))}</small>" if row["warnings"] else ""
        cells = [
            f"{escape(str(row['model']))}{warnings}",
            f'<span class="{_BEATS.get(beats, "")}">{beats}</span>',
            _value(row["rmse"]) + _between(row["rmse_lo"], row["rmse_hi"], _value),
        ]
        for name in plan.sweep.references:
            low, high = (row.get(f"{name}_rmse_skill_{side}", math.nan) for side in ("lo", "hi"))
            own = row["model"] == name
            cells.append("–" if own else _percent(row[f"{name}_rmse_skill"]) + _between(low, high, _percent))
        inside = "–" if math.isnan(row["mcs_p"]) else "in" if row["mcs_p"] > LEVEL else "out"
        cells += [_number(100 * row["direction_accuracy"], ".1f"), _p(row["dm_p"])]
        cells += [_p(row[f"{first}_p_selected"]), inside, f"{row['replicates']}/{row['expected']}"]
        rows.append(cells)
        classes.append(row["role"])
    note = (
        f"Skill is 1 − RMSE / RMSE of {first}, over the same test days, tickers and seeds: right of 0 is"
        " better. Filled are variants, hollow are baselines; bars and small figures are 95 % bootstrap"
        " intervals. A variant beats the reference only if its skill is above 0"
        " and both p-values, Diebold-Mariano and after selection among all that was tried, are below 0.05;"
        " with fewer than eight stretches of days over which forecasts do not hang together there is no test."
        " What has seen the truth is never ranked."
    )
    return _section("Ranking", note, chart, _rows(head, rows, classes))


def _baselines(plan: Plan, end: Conclusion, charts: dict[str, str]) -> str:
    """Draw the skill of each variant against each baseline, on tickers that both finished."""
    names = [name for name in end.table["model"] if name in set(end.scores["model"])]
    variants = [name for name in names if name in plan.rows("variant")]
    baselines = [name for name in names if name in plan.rows("baseline")]
    if not variants or not baselines:
        return ""
    rows = end.scores.groupby("model")
    skill = pd.DataFrame({name: rows[f"vs/{name}_rmse_skill"].agg(mean_skill) for name in baselines})
    figure = skill_map(skill.loc[variants], "baseline")
    note = "RMSE skill of each variant (rows) against each baseline (columns), %, over tickers and seeds."
    return _section("Against each baseline", note, _chart(charts, "baselines", figure))


def _places(plan: Plan, end: Conclusion, charts: dict[str, str]) -> str:
    first = plan.sweep.references[0]
    values = f"vs/{first}_rmse_skill"
    found = end.scores.pivot_table(values, "model", "ticker", aggfunc=mean_skill, sort=False)
    names = [name for name in end.table["model"] if name in found.index and name != first]
    if first not in found.index or not names:
        return ""
    skill = found.loc[names].iloc[:, :_MOST_COLUMNS]
    left = found.shape[1] - skill.shape[1]
    note = f"RMSE skill against {first} on each ticker, %, over seeds."
    note += f" {left} more are in results.csv." if left else ""
    return _section("On each ticker", note, _chart(charts, "places", skill_map(skill, "ticker")))


def _regimes(plan: Plan, end: Conclusion, charts: dict[str, str]) -> str:
    first = plan.sweep.references[0]
    scores = skill_by_regime(end.predictions, first)
    skill = scores.pivot_table(index="model", columns="regime", values="skill", sort=False)
    names = [name for name in end.table["model"] if name in skill.index and name != first]
    if not names:
        return ""
    note = (
        f"RMSE skill against {first}, %, where it comes from. Volatile is the quarter of a ticker's test days"
        " with the most movement in the 20 days before; then the years. A description, not a test."
    )
    return _section("In each regime", note, _chart(charts, "regimes", skill_map(skill.loc[names], "regime")))


def _confidence(end: Conclusion) -> str:
    """Lay out the tests on each ticker of a walk-forward."""
    if end.walk_forward is None:
        return ""
    found = end.walk_forward
    head = ["", *map(escape, map(str, found.confidence.columns))]
    sets = [
        [escape(str(model)), *(f'<span class="{"yes" if p > LEVEL else ""}">{_p(p)}</span>' for p in values)]
        for model, values in found.confidence.iterrows()
    ]
    ability = [
        [f"any variant better than {escape(str(reference))}", *map(_p, values)]
        for reference, values in found.ability.iterrows()
    ]
    note = (
        "Above: p-values of Hansen's SPA test, of the hypothesis that no variant is better than a baseline;"
        " those of single tickers are adjusted for their number (Holm)."
        " Below: of the 95 % model confidence set; a model with p above 0.05 (green) may be the best. Both by"
        " squared error, on each ticker by itself and on all together."
    )
    return _section("Tests on each ticker", note, _rows(head, ability), _rows(head, sets))


def _trading(end: Conclusion) -> str:
    """Lay out what trading the sign of the forecasts of a walk-forward would have earned."""
    if end.walk_forward is None:
        return ""
    head = ["model", "units traded a year", "days long, %"]
    head += [f"% a year after {cost} bp" for cost in COSTS] + [f"Sharpe after {cost} bp" for cost in COSTS]
    rows = []
    for row in end.walk_forward.trading.to_dict("records"):
        cells = [escape(row["model"]), f"{row['turnover']:.0f}", f"{100 * row['long']:.0f}"]
        for cost in COSTS:
            beside = "" if row["model"] == HOLD else f"over_hold_{cost}bp"
            low, high = (row.get(f"{beside}_{end}", math.nan) for end in ("lo", "hi"))
            cells.append(_number(100 * row[f"return_{cost}bp"], "+.1f") + _between(low, high, _percent))
        rows.append(cells + [_number(row[f"sharpe_{cost}bp"], ".2f") for cost in COSTS])
    note = (
        "Long on days with a positive forecast, short on days with a negative one; the cost is paid on each"
        " unit traded, a turn is two. Money is spread evenly over the tickers. Small: the 95 % bootstrap"
        f" interval of the return less that of holding. {WARNING}"
    )
    return _section("If one had traded the sign", note, _rows(head, rows))


def _curves(end: Conclusion, charts: dict[str, str]) -> str:
    if end.curves.empty:
        return ""
    note = "Mean over tickers and seeds; solid is validation, dotted is training. Losses of different models"
    note += " need not compare."
    note += " Of a walk-forward, the last window." if end.walk_forward is not None else ""
    return _section("Learning curves", note, _chart(charts, "curves", learning_curves(end.curves, end.table)))


def observed_levels(predictions: pd.DataFrame, levels: Iterable[float]) -> pd.DataFrame:
    """Count how often the truth fell below each quantile of the ranked forecasts.

    Parameters
    ----------
    predictions
        With columns model, actual and ``q05`` and the like, NaN where a model has no such quantile.
    levels
        Of all of them.

    Returns
    -------
    DataFrame
        Columns model, level, share (both in 0..1) and days.
    """
    rows = []
    for level in sorted(set(levels)):
        column = quantile_name(level)
        kept = predictions.dropna(subset=[column, "actual"])
        below = (kept["actual"] < kept[column]).groupby(kept["model"]).agg(["mean", "size"])
        rows += [
            {"model": name, "level": level, "share": float(one["mean"]), "days": int(one["size"])}
            for name, one in below.iterrows()
        ]
    return pd.DataFrame(rows, columns=["model", "level", "share", "days"])


def _calibration(end: Conclusion, done: Sequence[Record], charts: dict[str, str]) -> str:
    observed = observed_levels(end.predictions, [level for record in done for level in record.levels[""]])
    if observed.empty:
        return ""
    note = (
        "Of models that forecast quantiles: share of test days below each, less its level. 0 is calibrated;"
    )
    note += " above 0 on the left and below 0 on the right is too narrow."
    return _section("Calibration", note, _chart(charts, "calibration", calibration(observed, end.table)))


def _tried(plan: Plan, end: Conclusion, sources: Sources) -> str:
    """List what did not work: what failed, what is missing, and how many variants beat nothing."""
    variants = end.table[end.table["role"] == "variant"]
    counts = variants["beats"].value_counts()
    said = [f"{counts.get(word, 0)} {word}" for word in ("yes", "not shown", "no")]
    lines = [f"{len(variants)} variants in the table, beating the reference: {', '.join(said)}."]
    if sources.attempts:
        ended = ", ".join(f"{count} {state}" for state, count in sources.attempts.items())
        lines.append(f"A search tried configs beside them: {ended}.")
    if end.judged != len(variants):
        lines.append(f"The p-values after selection account for {end.judged} variants.")
    finished = {trial.name for trial in end.trials}
    missing = [t.name for t in plan.trials if t.name not in finished and t.name not in sources.failures]
    if missing:
        lines.append(f"{len(missing)} trials have not been run, such as {missing[0]}.")
    if not sources.failures:
        lines.append("No trial failed.")
    rows = [
        [escape(name), f'<td class="wide">{escape(reason)}</td>'] for name, reason in sources.failures.items()
    ]
    table = _rows(["failed trial", '<span class="text">why</span>'], rows) if rows else ""
    return _section("Tried and failed", " ".join(lines), table)


def _cost(plan: Plan, end: Conclusion, records: Mapping[str, Record]) -> str:
    rows = []
    for name in end.table["model"]:
        mine = [records[trial.signature] for trial in end.trials if trial.row == name]
        rows.append([escape(str(name)), str(len(mine)), *_cost_cells(mine)])
    done = [records[trial.signature] for trial in end.trials]
    rows.append(["<b>all</b>", str(len(done)), *_cost_cells(done)])
    scratch, trained = epochs_of_stages(done)
    note = "Seconds of fitting and of evaluating, each trial by itself as if nothing were shared."
    if scratch > trained:
        note += f" Trials share curriculum stages: {trained} epochs were trained in place of {scratch},"
        note += f" {100 * (1 - trained / scratch):.0f} % saved."
    elif plan.tried:
        note += f" {len(plan.tried)} more trials of the search are not in this table."
    return _section("Cost", note, _rows(["model", "trials", "epochs", "fit, s", "evaluate, s"], rows))


def _cost_cells(records: Sequence[Record]) -> list[str]:
    def total(name: str) -> float:
        return sum(record.metrics.get(f"cost/{name}", 0.0) for record in records)

    epochs = total("epochs")
    seconds = (f"{total(name):,.1f}" for name in ("fit_seconds", "evaluate_seconds"))
    return [f"{epochs:,.0f}" if epochs else "–", *seconds]


def _repeat(done: Sequence[Record], sources: Sources) -> str:
    revisions = list(dict.fromkeys(record.origin.get("revision", UNKNOWN) for record in done))
    made = max(done, key=lambda record: record.finished).origin or {"revision": UNKNOWN}
    rows = [[escape(name), f'<td class="wide">{escape(value)}</td>'] for name, value in made.items()]
    if len(revisions) > 1:
        listed = escape(", ".join(revisions))
        rows.append(["revisions of all trials", f'<td class="wide">{listed}</td>'])
    last = max(record.finished for record in done)
    note = f"The last trial finished on {pd.Timestamp(last, unit='s'):%d %b %Y, %H:%M} UTC."
    return _section(
        "Repeat it", note, f"<pre>{escape(sources.command)}</pre>", _rows(["made with", ""], rows)
    )


def _pictures(paths: Sequence[Path]) -> str:
    """Embed the pictures that the charts above do not replace."""
    shown = [path for path in paths if path.suffix == ".png" and path.stem not in _DRAWN]
    if not shown:
        return ""
    figures = "".join(
        f'<figure><img loading="lazy" alt="{escape(path.stem)}" src="data:image/png;base64,'
        f'{base64.b64encode(path.read_bytes()).decode()}"><figcaption>{escape(path.name)}</figcaption></figure>'
        for path in shown
    )
    note = "As they lie beside this page, for papers."
    return _section("Figures", note, f"<details><summary>show {len(shown)}</summary>{figures}</details>")


def _number(value: float, form: str) -> str:
    return format(value, form).replace("-", "−") if math.isfinite(value) else "–"


def _value(value: float) -> str:
    return _number(value, "#.4g")


def _percent(share: float) -> str:
    return _number(100 * share, "+.2f")


def _between(low: float, high: float, write: Any) -> str:
    known = math.isfinite(low) and math.isfinite(high)
    return f"<small>{write(low)} to {write(high)}</small>" if known else ""


def _p(value: float) -> str:
    return "&lt;0.001" if value < 0.001 else _number(value, ".3f")
