"""Two sweeps or runs side by side: ``python -m farm.compare A B``."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farm.base.command_line import PLAIN_WIDTH
from farm.base.command_line import run as run_command
from farm.base.errors import UserError
from farm.sweep import StorageOption, load_sweep, read_source

if TYPE_CHECKING:  # imported where they are used, so that --help is immediate
    import pandas as pd

    from farm.evaluation.significance import DieboldMariano
    from farm.store import Record, Store

_SIGNATURE = re.compile(r"[0-9a-f]{16}")
_PLACE = {"study.ticker", "study.tickers", "seed"}  # what makes a replicate, not a row
_MOST_KEYS = 12  # differences of one row that are listed

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Side:
    """What is compared: the finished trials of a sweep, or one run.

    Parameters
    ----------
    name
        Of the sweep, or the run's signature.
    records
        Results by row, ticker and seed; a run has one row.
    trials
        How many trials each row was to have, by row in the order of the sweep.
    references
        Baselines that skill is measured against; none for a run.
    """

    name: str
    records: Mapping[tuple[str, str, int], Record]
    trials: Mapping[str, int]
    references: tuple[str, ...] = ()

    def row(self, name: str) -> dict[tuple[str, int], Record]:
        """Give the results of a row by ticker and seed."""
        return {(ticker, seed): r for (row, ticker, seed), r in self.records.items() if row == name}


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A sweep by name, or a run by signature.")],
    second: Annotated[str, typer.Argument(metavar="B", help="What A is compared with.")],
    quick: Annotated[bool, typer.Option("--quick", help="The small versions of the sweeps.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="The panel that the sweeps read.", show_default="the bundled panel")
    ] = None,
    storage: StorageOption = "farm_store",
) -> None:
    """Put two sweeps or runs side by side: errors, a paired test for each row, what differs in config.

    Nothing is run: it shows what is in the store.
    """
    from farm.store import Store

    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    store = Store(storage)
    one, other = (read_side(name, store, quick, data) for name in (first, second))
    pairs = paired_rows(one, other)
    console.print(comparison_table(one, other, pairs))
    console.print(
        Text("DM p: of equal errors on the days that both have, averaged over tickers and seeds", style="dim")
    )
    for line in differences(one, other, pairs):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def read_side(name: str, store: Store, quick: bool = False, data: Path | None = None) -> Side:
    """Read what is finished of a sweep, by name or ``.py`` file, or of a run, by signature.

    Parameters
    ----------
    name
        Sixteen hexadecimal digits are a signature.
    store
        Where results are.
    quick, data
        Of a sweep; as for ``python -m farm.sweep``.

    Returns
    -------
    Side
        With one record or more.

    Raises
    ------
    UserError
        If there is no such sweep, or nothing of it is finished.
    """
    if _SIGNATURE.fullmatch(name):
        record = store.get(name)
        if record is None:
            raise UserError(
                f"run {name!r} is not in storage {store.root!r}: expected the signature of a finished trial,"
                " as `python -m farm.sweep NAME --dry-run` lists them"
            )
        study = record.config["study"]
        place = str(study.get("ticker", study["name"]))
        row = str(record.config["model"]["name"])
        return Side(name, {(row, place, record.config["seed"]): record}, {row: 1})
    from farm.base.options import Options
    from farm.plan import make_plan

    known, declared = load_sweep(name)
    source = read_source(declared, data if declared.replicate != "surfaces" else None)
    plan = make_plan(known, declared, source, Options(quick=quick))
    records, trials = {}, dict.fromkeys((*plan.rows("variant"), *plan.rows("baseline")), 0)
    for trial in plan.trials:
        trials[trial.row] += 1
        if (record := store.get(trial.signature)) is not None:
            records[trial.row, trial.ticker, trial.config.seed] = record
    if not records:
        raise UserError(
            f"sweep {name!r}{' --quick' if quick else ''} has no finished trial in storage {store.root!r}:"
            f" run `python -m farm.sweep {name}` first, or give its --storage"
        )
    return Side(known, records, trials, plan.sweep.references)


def paired_rows(one: Side, other: Side) -> list[tuple[str | None, str | None]]:
    """Pair rows of one name; a run, whose row has the name of its model, with every row of a sweep.

    Returns
    -------
    list of tuple
        Names in the order of the first side; None where a side has no such row.
    """
    alone = [side for side in (one, other) if not side.references]
    if len(alone) == 2:
        return [(next(iter(one.trials)), next(iter(other.trials)))]
    if len(alone) == 1:
        run = next(iter(alone[0].trials))
        return [
            (run, row) if alone[0] is one else (row, run)
            for row in (other if alone[0] is one else one).trials
        ]
    rows = dict.fromkeys((*one.trials, *other.trials))
    return [(row if row in one.trials else None, row if row in other.trials else None) for row in rows]


def comparison_table(one: Side, other: Side, pairs: Sequence[tuple[str | None, str | None]]) -> Table:
    """Lay the two out: a line for each pair of rows, with the test of the pair."""
    sides = (one, other)
    scores = [_scores(side) for side in sides]
    shown = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    shown.add_column("row", overflow="fold")
    for letter, side in zip("AB", sides, strict=True):
        shown.add_column(Text(f"{letter}: {side.name}\nRMSE"), justify="right")
        if side.references:
            shown.add_column(Text(f"% vs\n{side.references[0]}"), justify="right")
    for heading in ("RMSE: B\n% vs A", "DM\np", "\ndays"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for names in pairs:
        label = " | ".join(dict.fromkeys(filter(None, names)))
        cells: list[str] = []
        for side, name, found in zip(sides, names, scores, strict=True):
            cells.append(_rmse(side, name, found))
            if side.references:
                skill = found["skill"].get(name) if name else None
                cells.append("-" if skill is None or skill != skill else f"{100 * skill:+.2f}")
        shown.add_row(label, *cells, *_paired_cells(one, other, names))
    return shown


def _rmse(side: Side, row: str | None, scores: pd.DataFrame) -> str:
    if row is None or row not in scores.index:
        return "-"
    done, wanted = len(side.row(row)), side.trials[row]
    return f"{scores['rmse'][row]:#.4g}" + (f" ({done}/{wanted})" if done < wanted else "")


def _paired_cells(one: Side, other: Side, names: tuple[str | None, str | None]) -> tuple[str, str, str]:
    if names[0] is None or names[1] is None:
        return "-", "-", "-"
    test, change = paired_test(one.row(names[0]), other.row(names[1]))
    if test is None:
        return "other truth", "-", "-"
    p = "-" if test.p_value != test.p_value else "<0.001" if test.p_value < 0.001 else f"{test.p_value:.3f}"
    return "-" if change != change else f"{100 * change:+.2f}", p, str(test.n)


def _scores(side: Side) -> pd.DataFrame:
    """Give RMSE and skill by row, as in the verdict of a sweep."""
    from farm.evaluation.verdict import replicate_scores

    finished = {row for row, _, _ in side.records}
    references = tuple(name for name in side.references[:1] if name in finished)
    scores = replicate_scores(_forecasts(side.records), references)
    scores["skill"] = scores[f"vs/{references[0]}_rmse_skill"] if references else float("nan")
    return scores.groupby("model")[["rmse", "skill"]].mean()


def _forecasts(records: Mapping[tuple[str, str, int], Record]) -> pd.DataFrame:
    """Gather the ranked forecasts into one long table; an item stands for its ticker."""
    import pandas as pd

    forecasts = []
    for (row, ticker, seed), record in records.items():
        forecast = record.forecast().assign(model=row, seed=seed, ticker=ticker)
        if record.items:
            forecast["ticker"] = forecast.pop("item")
        forecasts.append(forecast)
    return pd.concat(forecasts, ignore_index=True)


def paired_test(
    one: Mapping[tuple[str, int], Record], other: Mapping[tuple[str, int], Record]
) -> tuple[DieboldMariano | None, float]:
    """Test two rows on the tickers and days that both have.

    Parameters
    ----------
    one, other
        Results by ticker and seed.

    Returns
    -------
    test : DieboldMariano or None
        Of the squared errors of each day, averaged over seeds, then over tickers; None where the two
        disagree on what came to pass, so that they were not of one question.
    change : float
        RMSE of the second / RMSE of the first - 1 on those cells; NaN without any.
    """
    import numpy as np

    from farm.evaluation.selection import FEWEST_STRETCHES
    from farm.evaluation.significance import DieboldMariano, diebold_mariano
    from farm.evaluation.verdict import stretches_of

    sides = []
    for records in (one, other):
        cells = _forecasts({("", *key): record for key, record in records.items()})
        cells["squared"] = (cells["predicted"] - cells["actual"]) ** 2
        keys = ["ticker", "start", "lead"] if "lead" in cells else ["ticker", "date"]
        sides.append(cells.dropna(subset="squared").groupby(keys)[["squared", "actual"]].mean())
        stretches = stretches_of(cells)
    both = sides[0].add_suffix("_one").join(sides[1].add_suffix("_other"), how="inner")
    truths = both[["actual_one", "actual_other"]].to_numpy()
    apart = np.abs(truths[:, 0] - truths[:, 1]) > 1e-6 * np.abs(truths).max(axis=1, initial=0.0)
    if apart.any():
        return None, float("nan")
    daily = both.groupby(keys[1])[["squared_one", "squared_other"]].mean()
    errors = both[["squared_one", "squared_other"]].mean()
    change = (errors["squared_other"] / errors["squared_one"]) ** 0.5 - 1 if len(both) else float("nan")
    own, theirs = (daily[name].to_numpy() for name in ("squared_one", "squared_other"))
    if stretches < FEWEST_STRETCHES:  # no test, but so many days
        return DieboldMariano(math.nan, math.nan, float(np.mean(own - theirs)), len(daily)), float(change)
    return diebold_mariano(own, theirs, stretches=stretches), float(change)


def differences(one: Side, other: Side, pairs: Sequence[tuple[str | None, str | None]]) -> list[str]:
    """Say what differs in the configs of paired rows: first what differs in all, then row by row."""
    found = {}
    of_sweeps = bool(one.references or other.references)
    for first, second in pairs:
        configs = [side.row(name) if name else {} for side, name in ((one, first), (other, second))]
        if all(configs):
            flat = [_flat(next(iter(records.values())).config) for records in configs]
            keys = [key for key in dict.fromkeys((*flat[0], *flat[1])) if not (of_sweeps and key in _PLACE)]
            label = " | ".join(dict.fromkeys((str(first), str(second))))
            found[label] = {
                key: f"{key}: {flat[0].get(key, '-')} | {flat[1].get(key, '-')}"
                for key in keys
                if flat[0].get(key) != flat[1].get(key)
            }
    if not found:
        return ["no row is in both"]
    everywhere = [line for line in next(iter(found.values())).values() if len(found) > 1]
    everywhere = [line for line in everywhere if all(line in lines.values() for lines in found.values())]
    lines = [f"all rows: {line}" for line in everywhere]
    for label, own in found.items():
        rest = [line for line in own.values() if line not in everywhere]
        if rest:
            more = f"; and {len(rest) - _MOST_KEYS} more" if len(rest) > _MOST_KEYS else ""
            lines.append(f"{label}: {'; '.join(rest[:_MOST_KEYS])}{more}")
    return lines or ["the configs are equal"]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    sys.exit(run_command(app, "python -m farm.compare"))


if __name__ == "__main__":
    main()
