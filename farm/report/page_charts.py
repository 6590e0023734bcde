"""The charts of a report page, with plotly, in the colours of the figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from farm.base.types import Floats
from farm.report.looks import GREY, INK, PALE, looks_of

_MIDDLE = "#f7f7f7"  # of a map of skill: nothing gained, nothing lost
_DIVERGING = [[0.0, "#d55e00"], [0.5, _MIDDLE], [1.0, "#0173b2"]]
# Each colour of a chart in the dark theme; texts of charts hold no other colours.
DARK = {
    INK: "#e8eaed",
    GREY: "#a3abb5",
    PALE: "#3a4048",
    _MIDDLE: "#23282e",
    "#4d4d4d": "#b9c0c8",
    "#8c8c8c": "#868e97",
    "#0173b2": "#4da9e6",
    "#de8f05": "#f0a830",
    "#029e73": "#35c49a",
    "#d55e00": "#f0834a",
    "#cc78bc": "#dc98cf",
    "#882255": "#d8709f",
    "#56b4e9": "#86cbf3",
    "#ca9161": "#dcae88",
}
_MOST_NUMBERS = 200  # cells of a map that still have room for numbers
_MOST_CURVES = 12


def ranking(table: pd.DataFrame, reference: str) -> go.Figure:
    """Draw the skill of every model against the reference with its 95 % interval, best on top.

    Parameters
    ----------
    table
        The verdict; see `farm.evaluation.verdict.verdict`.
    reference
        The baseline to beat.
    """
    looks = looks_of(table)
    rows = table[table["rmse"].notna()].iloc[::-1]
    skill = 100 * rows[f"{reference}_rmse_skill"]
    low, high = (100 * rows[f"{reference}_rmse_skill_{end}"] for end in ("lo", "hi"))
    figure = _figure(len(rows), f"skill against {reference}, %")
    variant = (rows["role"] == "variant").to_numpy()
    for role, mask in (("variant", variant), ("baseline", ~variant)):
        colours = [looks[name].colour for name in rows.loc[mask, "model"]]
        figure.add_scatter(
            x=skill[mask],
            y=rows.loc[mask, "model"],
            mode="markers",
            name=role,
            marker={
                "color": colours,
                "size": 10,
                "symbol": "circle" if role == "variant" else "circle-open",
                "line": {"width": 2, "color": colours},
            },
            error_x={
                "type": "data",
                "array": (high - skill)[mask],
                "arrayminus": (skill - low)[mask],
                "color": GREY,
                "thickness": 1.4,
                "width": 4,
            },
            customdata=np.stack([low[mask], high[mask], rows.loc[mask, "rmse"]], axis=1),
            hovertemplate="%{y}: %{x:+.2f} %<br>95 %: %{customdata[0]:+.2f} to %{customdata[1]:+.2f} %"
            "<br>RMSE %{customdata[2]:.4g}<extra></extra>",
        )
    figure.update_yaxes(categoryorder="array", categoryarray=list(rows["model"]))
    figure.add_vline(x=0, line={"color": INK, "dash": "dash", "width": 1})
    span = _middling(skill.to_numpy(float), low.to_numpy(float), high.to_numpy(float))
    figure.update_xaxes(range=span)
    for name, value in zip(rows["model"], skill, strict=True):
        if value < span[0]:  # far off: said at the edge, so that the others keep their scale
            text = f"\u2190 {value:.1f}".replace("-", "\u2212")
            figure.add_annotation(x=span[0], y=name, text=text, xanchor="left", showarrow=False)
    figure.update_layout(showlegend=False)
    return figure


def _middling(value: Floats, low: Floats, high: Floats) -> list[float]:
    """Choose a range that one model far off does not stretch beyond reading."""
    known = value[np.isfinite(value)]
    quarter, half, top = np.quantile(known, [0.25, 0.5, 1.0]) if len(known) else (0.0, 0.0, 0.0)
    floor = half - 6 * max(half - quarter, 1.0)
    kept = np.isfinite(value) & (value >= floor)
    ends = np.concatenate([value[kept], low[kept], high[kept], [0.0]])
    ends = ends[np.isfinite(ends)]
    margin = 0.06 * max(float(ends.max() - ends.min()), 0.1)
    return [max(float(ends.min()), 2 * floor - half) - margin, max(float(ends.max()), float(top)) + margin]


def skill_map(skill: pd.DataFrame, across: str) -> go.Figure:
    """Draw skill as a map.

    Parameters
    ----------
    skill
        Shares, one row for each model, best first, and a column for each of what is `across`.
    across
        What the columns are, such as ``"ticker"``.
    """
    percent = 100 * skill.to_numpy(float)
    known = np.abs(percent[np.isfinite(percent)])
    limit = max(3 * float(np.median(known)) if len(known) else 1.0, 0.1)  # wild cells hide no others
    numbers = percent.size <= _MOST_NUMBERS
    figure = _figure(len(skill), "")
    figure.add_heatmap(
        z=percent,
        x=[str(column) for column in skill.columns],
        y=list(skill.index),
        zmin=-limit,
        zmax=limit,
        colorscale=_DIVERGING,
        xgap=1,
        ygap=1,
        texttemplate="%{z:+.1f}" if numbers else None,
        showscale=not numbers,
        colorbar={"title": {"text": "%"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate=f"%{{y}}<br>{across}: %{{x}}<br>%{{z:+.2f}} %<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(type="category", side="top", showgrid=False)
    return figure


def learning_curves(curves: pd.DataFrame, table: pd.DataFrame) -> go.Figure:
    """Draw the mean loss of each variant over epochs: validation solid, training dotted.

    Parameters
    ----------
    curves
        One row for each epoch of each trained network; see `farm.report.figures.figures`.
    table
        The verdict, whose order decides which are drawn.
    """
    looks = looks_of(table)
    names = [name for name in table["model"] if name in set(curves["model"])][:_MOST_CURVES]
    figure = _figure(13, "epoch")
    for name in names:
        own = curves[curves["model"] == name]
        for column, dash in (("val_loss", "solid"), ("train_loss", "dot")):
            # A replicate that has stopped is held at its last loss, or the mean would jump.
            mean = own.pivot_table(index="epoch", columns=["ticker", "seed"], values=column).ffill()
            figure.add_scatter(
                x=mean.index,
                y=mean.mean(axis=1),
                mode="lines+markers" if len(mean) < 8 else "lines",
                name=name,
                legendgroup=name,
                showlegend=dash == "solid",
                line={"color": looks[name].colour, "dash": dash, "width": 2},
                hovertemplate=f"{name}, {column.replace('_', ' ')}<br>"
                "epoch %{x}: %{y:.4g}<extra></extra>",
            )
    figure.update_xaxes(dtick=1 if curves["epoch"].max() <= 10 else None)
    positive = len(curves) and bool((curves[["train_loss", "val_loss"]] > 0).all(axis=None))
    figure.update_yaxes(title="loss", type="log" if positive else "linear", exponentformat="e")
    return figure


def calibration(observed: pd.DataFrame, table: pd.DataFrame) -> go.Figure:
    """Draw how far the share of days below each quantile is from what it should be.

    Parameters
    ----------
    observed
        Columns model, level, share (both in 0..1) and days.
    table
        The verdict.
    """
    looks = looks_of(table)
    figure = _figure(13, "level of the quantile, %")
    for name in [name for name in table["model"] if name in set(observed["model"])][:_MOST_CURVES]:
        own = observed[observed["model"] == name].sort_values("level")
        figure.add_scatter(
            x=100 * own["level"],
            y=100 * (own["share"] - own["level"]),
            mode="lines+markers",
            name=name,
            line={"color": looks[name].colour, "width": 2},
            customdata=100 * own["share"],
            hovertemplate=f"{name}<br>%{{customdata:.1f}} % of days below the %{{x:~g}} % quantile"
            "<extra></extra>",
        )
    figure.update_layout(showlegend=True)
    figure.update_yaxes(title="days below it − level, points", zeroline=True, zerolinecolor=INK)
    return figure


def _figure(rows: int, below: str) -> go.Figure:
    """Make an empty figure whose every colour has its counterpart in `DARK`."""
    figure = go.Figure()
    axis = {"gridcolor": PALE, "linecolor": PALE, "zeroline": False, "automargin": True}
    figure.update_layout(
        template=None,
        height=110 + 28 * max(rows, 3),
        margin={"l": 10, "r": 20, "t": 20, "b": 45},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 13, "family": "system-ui, DejaVu Sans, sans-serif"},
        hoverlabel={"align": "left"},
        xaxis={**axis, "title": {"text": below}},
        yaxis=axis,
    )
    return figure
