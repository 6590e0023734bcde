"""What a walk-forward adds to a verdict: tests on each ticker, years, cost, what it might have earned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich import box
from rich.console import Group
from rich.table import Table

from farm.base.types import Floats
from farm.evaluation.regimes import skill_by_regime
from farm.evaluation.selection import LEVEL, judge_tickers
from farm.evaluation.trading import COSTS, HOLD, sign_strategy
from farm.report.marks import (
    AROUND,
    COLOURS,
    GREY,
    INK,
    MARKERS,
    PALE,
    PERCENT,
    heat_map,
    new_figure,
    tidy,
    titled,
)
from farm.report.tables import Trials

POOLED = "all"
WARNING = (
    "This is no backtest of a strategy: it knows neither slippage nor the price of borrowing stock nor taxes,"
    " the tickers were picked with hindsight, they mostly rose, and the intervals are not adjusted for the"
    " number of models."
)


@dataclass(frozen=True)
class WalkForward:
    """What a walk-forward comes to beside its verdict.

    Parameters
    ----------
    confidence
        p-values of the model confidence sets: a row for each model, best first, a column for each
        ticker and ``all``.
    ability
        p-values of the SPA test, a row for each reference, columns as above.
    regimes
        RMSE skill against the first reference: a row for each model, columns ``calm``, ``volatile`` and
        the years; see `farm.evaluation.regimes.skill_by_regime`.
    cost
        A row for each model: ``trials``, and per trial (all its windows) ``epochs``, ``fit_seconds`` and
        ``evaluate_seconds``.
    trading
        See `farm.evaluation.trading.sign_strategy`.
    sentence
        All of it in plain sentences.
    figures
        By file stem.
    """

    confidence: pd.DataFrame
    ability: pd.DataFrame
    regimes: pd.DataFrame
    cost: pd.DataFrame
    trading: pd.DataFrame
    sentence: str
    figures: dict[str, Figure]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Give the tables by file stem, each with its row names in the first column."""
        named = {"confidence": self.confidence, "regimes": self.regimes, "cost": self.cost}
        tables = {stem: table.rename_axis("model").reset_index() for stem, table in named.items()}
        ability = self.ability.rename_axis("reference").reset_index()
        return tables | {"ability": ability, "trading": self.trading}

    def metrics(self) -> dict[str, dict[str, float]]:
        """Give what a tracking server keeps of each model, by its name and the full name of the metric."""
        found: dict[str, dict[str, float]] = {}
        for model, values in self.confidence.iterrows():
            found[str(model)] = {f"mcs/{ticker}_p": float(p) for ticker, p in values.items()}
        for model, values in self.regimes.iterrows():
            found[str(model)] |= {f"regime/{name}_skill": float(skill) for name, skill in values.items()}
        for row in self.trading.to_dict("records"):
            own = found.get(str(row.pop("model")), {})
            own |= {f"trading/{name}": float(value) for name, value in row.items()}
        return found


def walk_forward(
    table: pd.DataFrame,
    predictions: pd.DataFrame,
    trials: Trials,
    references: Sequence[str],
) -> WalkForward:
    """Draw up what a walk-forward comes to.

    Parameters
    ----------
    table
        The verdict, best first; see `farm.evaluation.verdict.verdict`. Its tests are those of all tickers.
    predictions
        One row for each test day: date, ticker, model, seed, actual, predicted.
    trials
        What names each finished trial (model, ticker, seed), and its result.
    references
        The baselines that the variants are tested against; the first one is the one to beat.
    """
    models = [name for name in table["model"] if name in set(predictions["model"])]
    variants = [name for name in table.loc[table["role"] == "variant", "model"] if name in models]
    confidence, ability = judge_tickers(predictions, references, variants)
    confidence = confidence.reindex(models)
    confidence[POOLED] = table.set_index("model")["mcs_p"].reindex(models)
    selected = table.set_index("model").reindex(variants)
    ability[POOLED] = [selected[f"{name}_p_selected"].min() for name in ability.index]
    skill = skill_by_regime(predictions, references[0]).pivot_table(
        index="model", columns="regime", values="skill", sort=False
    )
    regimes = skill.reindex(models)
    trading = sign_strategy(predictions)
    figures = {
        "confidence": _confidence_figure(confidence),
        "regimes": _regimes_figure(regimes.drop(index=references[0]), references[0]),
        "trading": _trading_figure(trading, variants),
    }
    sentence = " ".join(
        [_ability_sentence(ability, confidence, len(variants)), _trading_sentence(trading, variants), WARNING]
    )
    return WalkForward(confidence, ability, regimes, _cost(trials, models), trading, sentence, figures)


def _cost(trials: Trials, models: Sequence[str]) -> pd.DataFrame:
    names = ("epochs", "fit_seconds", "evaluate_seconds")
    rows = pd.DataFrame(
        [
            {"model": key["model"], **{name: record.metrics.get(f"cost/{name}", 0.0) for name in names}}
            for key, record in trials
        ]
    )
    grouped = rows.groupby("model")
    return pd.concat([grouped.size().rename("trials"), grouped.mean()], axis=1).reindex(list(models))


def _ability_sentence(ability: pd.DataFrame, confidence: pd.DataFrame, tried: int) -> str:
    tickers = [str(name) for name in ability if name != POOLED]
    said = []
    for reference, p_values in ability.iterrows():
        count = int((p_values[tickers] < LEVEL).sum())
        p = "< 0.001" if p_values[POOLED] < 0.001 else f"= {p_values[POOLED]:.2g}"
        verb = "is shown to be" if p_values[POOLED] < LEVEL else "is not shown to be"
        said.append(
            f"the best of the {tried} variants {verb} better than {reference} on all tickers together"
            f" (SPA p {p}) and is on {count} of {len(tickers)} by themselves"
        )
    inside = confidence[tickers] > LEVEL
    everywhere = int(inside.all(axis=1).sum())
    text = "; ".join(said)
    return (
        f"{text[0].upper()}{text[1:]}. {everywhere} of {len(confidence)} models are in the 95 % model"
        f" confidence set of every ticker; of a ticker it holds {int(inside.sum().min())} to"
        f" {int(inside.sum().max())}."
    )


def _trading_sentence(trading: pd.DataFrame, variants: Sequence[str]) -> str:
    hold = trading[trading["model"] == HOLD].iloc[0]
    models = trading[trading["model"] != HOLD]
    ahead = [models[models[f"over_hold_{cost}bp"] > 0] for cost in COSTS]
    own = [int(rows["model"].isin(list(variants)).sum()) for rows in ahead]
    clear = [int((models[f"over_hold_{cost}bp_lo"] > 0).sum()) for cost in COSTS]
    return (
        f"Trading the sign of the forecast would have earned more than holding the stocks"
        f" ({100 * hold[f'return_{COSTS[0]}bp']:.0f} % a year) with {_listed(map(len, ahead))} of"
        f" {len(models)} models ({_listed(own)} of the {len(variants)} variants) after"
        f" {_listed(COSTS)} basis points of cost; the 95 % interval of the difference is above 0 with"
        f" {_listed(clear)} of them."
    )


def _listed(numbers: Iterable[int]) -> str:
    *some, last = map(str, numbers)
    return f"{', '.join(some)} and {last}"


def walk_forward_tables(found: WalkForward, reference: str) -> Group:
    """Lay it out for a terminal: years and regimes, then sets, cost and trading."""
    years = _table(f"RMSE skill against {reference}, %")
    for name in found.regimes:
        years.add_column(str(name), justify="right", no_wrap=True)
    for model, values in found.regimes.iterrows():
        if model != reference:
            years.add_row(str(model), *(_percent(value) for value in values))
    rest = _table("In how many confidence sets, cost of a trial, and a year of trading the sign, %")
    for column in ("sets", "epochs", "fit, s", "trades\na year", *(f"after\n{cost} bp" for cost in COSTS)):
        rest.add_column(column, justify="right", no_wrap=True)
    trading = found.trading.set_index("model")
    tickers = [name for name in found.confidence if name != POOLED]
    inside = (found.confidence[tickers] > LEVEL).sum(axis=1)
    for model in (*found.confidence.index, HOLD):
        trade = trading.loc[model]
        cells = ["", "", ""]
        if model != HOLD:
            cost = found.cost.loc[model]
            cells = [f"{inside[model]}/{len(tickers)}", f"{cost['epochs']:.0f}", f"{cost['fit_seconds']:.1f}"]
        earned = (_percent(trade[f"return_{cost}bp"], ".1f") for cost in COSTS)
        rest.add_row(str(model), *cells, f"{trade['turnover']:.0f}", *earned)
    return Group(years, rest)


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    return table


def _percent(share: float, form: str = "+.1f") -> str:
    return format(100 * share, form) if math.isfinite(share) else "-"


def _confidence_figure(confidence: pd.DataFrame) -> Figure:
    """Draw in which sets each model is: a filled cell is in, with its p-value."""
    figure = new_figure(2.8 + 0.95 * confidence.shape[1], 1.5 + 0.3 * len(confidence))
    axis = figure.subplots()
    in_or_out = ListedColormap(("#ffffff", "#a6cbe3"))
    highest = 2 * np.nextafter(LEVEL, 1)  # the colour changes right above the level
    heat_map(axis, confidence, in_or_out, 0, highest, _p_value)
    for text, p in zip(axis.texts, confidence.to_numpy(np.float64).ravel(), strict=True):
        text.set_color(INK if p > LEVEL else GREY)
    axis.xaxis.tick_top()
    return titled(
        figure,
        "Model confidence sets: who may be the best",
        "p-values of the 95 % sets by squared error; blue is in the set. Right: all tickers together.",
    )


def _p_value(p: float) -> str:
    return "–" if math.isnan(p) else "<0.01" if p < 0.01 else f"{p:.2f}"


def _regimes_figure(regimes: pd.DataFrame, reference: str) -> Figure:
    percent: Floats = 100 * regimes.to_numpy(np.float64)
    known = np.abs(percent[np.isfinite(percent)])
    limit = max(3 * float(np.median(known)) if len(known) else 1.0, 0.1)
    figure = new_figure(3.2 + 0.85 * regimes.shape[1], 1.5 + 0.3 * len(regimes))
    axis = figure.subplots()
    heat_map(axis, 100 * regimes, AROUND, -limit, limit, lambda v: f"{v:+.1f}" if math.isfinite(v) else "")
    axis.xaxis.tick_top()
    return titled(
        figure,
        f"RMSE skill against {reference}, %, by regime and year",
        "Volatile: the quarter of a ticker's test days after the wildest 20. Strong colours end at"
        f" ±{limit:.1f} %.\nA description, not a test.",
    )


def _trading_figure(trading: pd.DataFrame, variants: Sequence[str]) -> Figure:
    """Draw the yearly return of each model after each cost beside that of holding."""
    hold = trading[trading["model"] == HOLD].iloc[0]
    rows = trading[trading["model"] != HOLD].reset_index(drop=True)
    figure = new_figure(9.5, 1.9 + 0.28 * len(rows))
    axis = figure.subplots()
    for place, row in enumerate(rows.to_dict("records")):
        ends = [row[f"return_{cost}bp"] for cost in COSTS]
        axis.hlines(place, min(ends), max(ends), color=PALE, linewidth=2.0, zorder=2)
        for k, value in enumerate(ends):
            axis.plot(value, place, MARKERS[k], color=COLOURS[k], markersize=6, markeredgewidth=0, zorder=3)
    axis.axvline(0, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    axis.axvline(hold[f"return_{COSTS[0]}bp"], color=INK, linestyle="--", linewidth=1.2, zorder=1)
    axis.set_yticks(range(len(rows)), rows["model"])
    tidy(axis, grid="x")
    for label, model in zip(axis.get_yticklabels(), rows["model"], strict=True):
        label.set_color(INK if model in variants else GREY)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.xaxis.set_major_formatter(PERCENT)
    axis.set_xlabel("mean return a year, %", color=INK, fontsize=10)
    handles = [
        Line2D([], [], color=COLOURS[k], marker=MARKERS[k], markersize=6, linestyle="", label=f"after {c} bp")
        for k, c in enumerate(COSTS)
    ]
    handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label=HOLD))
    note = (
        "Long on a positive forecast, short on a negative one; mean over tickers and seeds. Grey: baselines."
        "\nNo slippage, no borrowing, no taxes, tickers picked with hindsight: no evidence of profit."
    )
    return titled(figure, "What trading the sign would have earned", note, handles)


def of_walk_forward(study: Mapping[str, object]) -> bool:
    """Say whether a study, as a config's values, was cut as a walk-forward."""
    split = study.get("split")
    return isinstance(split, Mapping) and split.get("name") == "walk_forward"
