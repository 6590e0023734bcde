"""One page over many sweeps: what each comes to, with a link to its own page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from farm.plan import Plan
from farm.report.conclusion import Conclusion

_BEATS = {"yes": "yes", "no": "no", "not shown": "open"}


@dataclass(frozen=True)
class SweepLine:
    """What a sweep gives to the page.

    Parameters
    ----------
    name, plan, end
        The sweep, its rows and what it comes to.
    failures
        Why trials failed, by their names.
    searched
        Whether a search was part of it.
    """

    name: str
    plan: Plan
    end: Conclusion
    failures: Mapping[str, str]
    searched: bool


def index_page(
    lines: Sequence[SweepLine], left_out: Mapping[str, str], asked: int, distinct: int, command: str
) -> str:
    """Write the page; it is self-contained but for the links to the sweeps' own pages beside it.

    Parameters
    ----------
    lines
        The sweeps that were concluded.
    left_out
        Why others were not, by name.
    asked, distinct
        Trials that the sweeps ask for, and those of them that are not the same.
    command
        That repeats it.

    Returns
    -------
    str
        HTML, light or dark as the reader's system is.
    """
    facts = {
        "sweeps": f"{len(lines)}" + (f" of {len(lines) + len(left_out)}" if left_out else ""),
        "trials asked for": str(asked),
        "distinct trials": str(distinct),
        "failed trials": str(sum(len(line.failures) for line in lines)),
    }
    items = "".join(f"<li><b>{value}</b><span>{name}</span></li>" for name, value in facts.items())
    body = [f'<h1>all sweeps</h1><ul class="facts">{items}</ul>', *map(_section, lines), _left_out(left_out)]
    body.append(f"<section><h2>Repeat it</h2><pre>{escape(command)}</pre></section>")
    template = Template((files("farm.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title="all sweeps", body="\n".join(filter(None, body)), plotly="", dark="{}", charts="{}"
    )


def _section(line: SweepLine) -> str:
    first = line.plan.sweep.references[0]
    verdict, _, more = line.end.sentence.split("\n")[0].partition(". ")
    done = f"{len(line.end.trials)} of {len(line.plan.trials)} trials finished"
    notes = [done, f"{len(line.failures)} failed" if line.failures else "", "with a search" * line.searched]
    rows = []
    for row in line.end.table.to_dict("records"):
        beats = "reference" if row["model"] == first else str(row["beats"]) or "–"
        skill = row[f"{first}_rmse_skill"]
        cells = (
            escape(str(row["model"])),
            f'<span class="{_BEATS.get(beats, "")}">{beats}</span>',
            _number(row["rmse"], "#.4g"),
            "–" if row["model"] == first else _number(100 * skill, "+.2f"),
        )
        rows.append(f'<tr class="{row["role"]}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = f"<tr><th>model</th><th>beats {escape(first)}</th><th>RMSE</th><th>% vs {escape(first)}</th></tr>"
    more = f'<p class="note">{escape(more)}</p>' if more else ""
    return (
        f'<section><h2><a href="../{escape(line.name)}/report.html">{escape(line.name)}</a></h2>'
        f'<p class="note">{escape(line.plan.sweep.question)}</p>'
        f"<p><b>{escape(verdict.rstrip('.'))}.</b></p>{more}"
        f'<p class="note">{"; ".join(filter(None, notes))}</p>'
        f"<details><summary>all {len(rows)} rows, best first</summary>"
        f'<div class="scroll"><table>{head}{"".join(rows)}</table></div></details></section>'
    )


def _left_out(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="wide">{escape(reason)}</td></tr>'
        for name, reason in reasons.items()
    )
    head = '<tr><th>sweep</th><th class="text">why</th></tr>'
    return f'<section><h2>Left out</h2><div class="scroll"><table>{head}{rows}</table></div></section>'


def _number(value: float, form: str) -> str:
    return format(value, form).replace("-", "−") if math.isfinite(value) else "–"
