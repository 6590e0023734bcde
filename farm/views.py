"""What the MLflow UI opens on: saved views of an experiment, as tags that the UI reads.

MLflow 3 keeps a saved view in the experiment tag ``mlflow.sharedViewState.KEY``; ``?viewStateShareKey=KEY``
opens it, and the menu *Views* lists it by its name.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Sequence
from typing import Any

TAG = "mlflow.sharedViewState."
VERDICT, TRIALS = "farm-verdict", "farm-trials"
SKILL = "vs/{}_skill_percent"  # of a row's run; the UI writes two digits after the point
_FORBIDDEN = re.compile(r"[^/\w.\- ]")  # in a metric's name, which may hold a ticker such as ^GSPC
_MOST_BARS = 20  # that a chart has
_CURVE = {"xAxisKey": "step", "scaleType": "linear", "lineSmoothness": 0, "xAxisScaleType": "linear"}


def saved_views(sweep: str, references: Sequence[str], primary: str, created: int) -> dict[str, str]:
    """Give the views of a sweep's experiment, tag by tag.

    Parameters
    ----------
    sweep
        Id of the sweep's run.
    references
        The baselines that variants are measured by, the first one first.
    primary
        Metric that rows are ranked by.
    created
        When, in milliseconds since 1970.

    Returns
    -------
    dict
        ``Verdict``: a run for each variant and baseline, best first, with bars of skill, error and
        p-value. ``Trials``: every trial, with its learning curves.
    """
    skills = [metric_name(SKILL.format(reference)) for reference in references]
    selected, first = (metric_name(f"vs/{references[0]}_{name}") for name in ("p_selected", "rmse_skill"))
    shown = [*skills, primary, "ci/lo", "ci/hi", "dm/p", selected]
    # Sorted by time, the UI would fold runs below their parents.
    verdict = _state(
        f"tags.farm.role != 'trial' AND tags.farm.sweep = '{sweep}'",
        (skills[0], False),
        ["tags.`farm.beats`", *(f"metrics.`{name}`" for name in shown)],
        {"Verdict": [*skills, primary, "dm/p"]},
    )
    trials = _state(
        f"tags.farm.role = 'trial' AND tags.mlflow.parentRunId = '{sweep}'",
        (primary, True),
        [f"metrics.`{primary}`", "metrics.`best/epoch`", "metrics.`cost/fit_seconds`", "params.`seed`"],
        {"Learning": ["val/loss", "train/loss"], "Error": [primary, first]},
    )
    return {
        TAG + VERDICT: _tag("Verdict", verdict, created),
        TAG + TRIALS: _tag("Trials", trials, created),
    }


def metric_name(name: str) -> str:
    """Return a metric's name as MLflow takes it: ``:5e:GSPC`` for ``^GSPC``, so that none is another's."""
    return _FORBIDDEN.sub(lambda found: f":{ord(found[0]):x}:", name)


def address(base: str, experiment: str, view: str = VERDICT, mode: str = "CHART") -> str:
    """Give the page of a view under the address of a server."""
    query = f"workflowType=machine_learning&compareRunsMode={mode}&viewStateShareKey={view}"
    return f"{base.rstrip('/')}/#/experiments/{experiment}/runs?{query}"


def _state(
    search: str, order: tuple[str, bool], columns: list[str], sections: dict[str, list[str]]
) -> dict[str, Any]:
    """Say what the UI shows: which runs, in which order (ascending or not), with what charts."""
    charts, headings = [], []
    for section, metrics in sections.items():
        headings.append(
            {
                "uuid": f"farm-{section}",
                "name": section,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        )
        for metric in metrics:
            curve = metric.endswith("/loss")
            chart = {
                "uuid": f"farm-{section}-{metric}",
                "type": "LINE" if curve else "BAR",
                "runsCountToCompare": _MOST_BARS,
                "metricSectionId": f"farm-{section}",
                "deleted": False,
                "isGenerated": False,
                "metricKey": metric,
            }
            charts.append(chart | (_CURVE | {"selectedMetricKeys": [metric]} if curve else {}))
    return {
        "searchFilter": search,
        "orderByKey": f"metrics.`{order[0]}`",
        "orderByAsc": order[1],
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOWALL",
        "compareRunCharts": charts,
        "compareRunSections": headings,
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _tag(name: str, state: dict[str, Any], created: int) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    return json.dumps(
        {"name": name, "createdAt": created, "updatedAt": created, "state": f"deflate;{packed}"}
    )
