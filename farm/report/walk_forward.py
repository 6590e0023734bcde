"""What a walk-forward adds to a verdict: tests on each ticker, years, cost, what it might have earned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table

from farm.evaluation.multiple_testing import holm
from farm.evaluation.regimes import skill_by_regime
from farm.evaluation.selection import LEVEL, judge_tickers
from farm.evaluation.trading import COSTS, HOLD, sign_strategy
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
        p-values of the SPA test, a row for each reference, columns as above; those of single tickers are
        adjusted for their number (`farm.evaluation.multiple_testing.holm`).
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
    """

    confidence: pd.DataFrame
    ability: pd.DataFrame
    regimes: pd.DataFrame
    cost: pd.DataFrame
    trading: pd.DataFrame
    sentence: str

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
    for name in ability.index:  # of seven tests one is below 5 % by luck in 30 % of cases
        ability.loc[name] = holm(ability.loc[name].to_numpy(np.float64))
    confidence[POOLED] = table.set_index("model")["mcs_p"].reindex(models)
    selected = table.set_index("model").reindex(variants)
    ability[POOLED] = [selected[f"{name}_p_selected"].min() for name in ability.index]
    skill = skill_by_regime(predictions, references[0]).pivot_table(
        index="model", columns="regime", values="skill", sort=False
    )
    regimes = skill.reindex(models)
    trading = sign_strategy(predictions)
    sentence = " ".join(
        [_ability_sentence(ability, confidence, len(variants)), _trading_sentence(trading, variants), WARNING]
    )
    return WalkForward(confidence, ability, regimes, _cost(trials, models), trading, sentence)


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
            f" (SPA p {p}) and is on {count} of {len(tickers)} by themselves, by SPA tests that are adjusted"
            " for their number (Holm)"
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


def of_walk_forward(study: Mapping[str, object]) -> bool:
    """Say whether a study, as a config's values, was cut as a walk-forward."""
    split = study.get("split")
    return isinstance(split, Mapping) and split.get("name") == "walk_forward"
