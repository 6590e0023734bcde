"""What the states of trained networks come to: what can be read from them, and how alike they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from farm.base.types import Floats
from farm.evaluation.representation import States, alignment, centred_kernels, linear_probe
from farm.report.pictures import Group, Pictures
from farm.report.tables import FEWEST_SEEDS, save_files

FOUND = 0.05  # p-value of a probe below which a quantity is there
STABLE = 0.8  # alignment between seeds from which their states count as the same
MOST_MAPS = 6
_MOST_DAYS = 800  # of an alignment or a map: taken at equal distances
_SHIFTS = 9


@dataclass(frozen=True)
class LatentSpaces:
    """What the states come to: tables for a terminal, a sentence, what was written and what to draw."""

    shown: tuple[Table, ...]
    sentence: str
    files: tuple[Path, ...]
    pictures: Group


def conclude_states(found: Sequence[States], out: Path) -> LatentSpaces:
    """Probe and compare states, and write the tables.

    Parameters
    ----------
    found
        Of at least one network.
    out
        Folder for the files.
    """
    each, pairs = probe_replicates(found), alignments(found)
    probes, alike = probe_table(each), alignment_table(pairs)
    shown = {row: next(s for s in found if s.row == row) for row in dict.fromkeys(s.row for s in found)}
    maps = {row: _thin(s.tested) for row, s in list(shown.items())[:MOST_MAPS]}
    wild = {row: _thin(shown[row].targets["volatility"][shown[row].chosen :]) for row in maps}

    def drawn() -> Pictures:
        from farm.report.latent_space_figures import alignment_figure, map_figure, probe_figure

        return Pictures(
            {
                "latent_maps": lambda: map_figure(maps, wild, found[0].ticker),
                "latent_probes": lambda: probe_figure(probes),
                "latent_alignment": lambda: alignment_figure(alike),
            }
        )

    tables = {"latent_probes": probes, "latent_alignment": alike.rename_axis("variant").reset_index()}
    tables |= {"latent_pairs": pairs}
    contents = {f"{stem}.csv": table.to_csv(index=False).encode() for stem, table in tables.items()}
    sentence = f"{probe_sentence(probes)} {stability_sentence(pairs)}"
    contents["latent_space.txt"] = f"{sentence}\n".encode()
    files = save_files(out, contents)
    return LatentSpaces((_probes_shown(probes), _alignment_shown(alike)), sentence, tuple(files), drawn)


def _thin(values: Floats) -> Floats:
    return values[:: -(-len(values) // _MOST_DAYS)]


def probe_replicates(found: Sequence[States]) -> pd.DataFrame:
    """Probe each network for each quantity: variant, ticker, seed, quantity and `Probe`."""
    rows = []
    for one in found:
        for quantity, target in one.targets.items():
            probe = linear_probe(one.hidden, target, one.learnt, one.chosen, one.gap)
            key = {"variant": one.row, "ticker": one.ticker, "seed": one.seed, "quantity": quantity}
            rows.append(key | probe._asdict())
    return pd.DataFrame(rows)


def probe_table(each: pd.DataFrame) -> pd.DataFrame:
    """Put the probes of tickers and seeds together.

    A state that has never been so wild before may be read far off, so one ticker decides a mean.

    Returns
    -------
    DataFrame
        One row for each ``variant`` and ``quantity``: ``r2``, the median over tickers, mean over seeds,
        with ``r2_lo`` and ``r2_hi`` of the lowest and the highest seed; ``chance``, a mean; ``found``, the
        share of networks with a p-value below 0.05 and an R2 above 0; ``there``, whether these are most and
        so is `r2`; ``seeds``.
    """
    rows: list[dict[str, Any]] = []
    for (variant, quantity), own in each.groupby(["variant", "quantity"], sort=False):
        seeds = own.groupby("seed")["r2"].median()
        row = {"variant": variant, "quantity": quantity, "r2": seeds.mean(), "r2_lo": seeds.min()}
        row |= {"r2_hi": seeds.max(), "chance": own["chance"].mean()}
        # A probe that is further off than the mean reads nothing, however far chance would be off.
        share = ((own["p_value"] < FOUND) & (own["r2"] > 0)).mean()
        there = bool(share > 0.5 and row["r2"] > 0)
        rows.append(row | {"found": share, "there": there, "seeds": len(seeds)})
    return pd.DataFrame(rows)


def alignments(found: Sequence[States]) -> pd.DataFrame:
    """Align the states of each pair of networks of a ticker, on its test days.

    Returns
    -------
    DataFrame
        One row for each pair: ``ticker``, ``first``, ``first_seed``, ``second``, ``second_seed``, ``cka`` and
        ``chance``, what 95 % of the pairs of the ticker stay below when the days of one are shifted.
    """
    rows = []
    for ticker in dict.fromkeys(one.ticker for one in found):
        own = [one for one in found if one.ticker == ticker]
        days = min(len(one.tested) for one in own)
        # Test blocks end on one day; a longer window makes one begin later.
        kernels = centred_kernels([_thin(one.tested[-days:]) for one in own])
        pairs, n = alignment(kernels), kernels.shape[1]
        moved = [
            alignment(kernels, shift) for shift in (n * (k + 1) // (_SHIFTS + 1) for k in range(_SHIFTS))
        ]
        chance = float(np.quantile(np.stack(moved), 0.95))
        for i, j in combinations(range(len(own)), 2):
            rows.append(
                {
                    "ticker": ticker,
                    "first": own[i].row,
                    "first_seed": own[i].seed,
                    "second": own[j].row,
                    "second_seed": own[j].seed,
                    "cka": float(pairs[i, j]),
                    "chance": chance,
                }
            )
    columns = ["ticker", "first", "first_seed", "second", "second_seed", "cka", "chance"]
    names = list(dict.fromkeys(one.row for one in found))
    return pd.DataFrame(rows, columns=columns).assign(
        first=lambda t: pd.Categorical(t["first"], names), second=lambda t: pd.Categorical(t["second"], names)
    )


def alignment_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Average the alignment over tickers and pairs of seeds: a row and a column for each variant.

    On the diagonal are different seeds of one variant; NaN where there is one seed.
    """
    names = list(pairs["first"].cat.categories)
    table = pd.DataFrame(math.nan, index=names, columns=names)
    for one, other in combinations_with_replacement(names, 2):
        mine = pairs[(pairs["first"] == one) & (pairs["second"] == other)]
        if len(mine):
            table.loc[one, other] = table.loc[other, one] = mine["cka"].mean()
    return table


def probe_sentence(probes: pd.DataFrame) -> str:
    """Say which quantities can be read from the states of most networks, and which cannot."""
    parts = []
    for quantity, own in probes.groupby("quantity", sort=False):
        there = own[own["there"]]
        if there.empty:
            parts.append(f"{quantity} from none")
            continue
        low, high = there["r2"].min(), there["r2"].max()
        which = "all" if len(there) == len(own) else f"{len(there)} of {len(own)}"
        size = f"{low:.2f}" if len(there) == 1 else f"{low:.2f} to {high:.2f}"
        parts.append(f"{quantity} from {which} variants (R2 {size})")
    return f"A linear probe reads beyond chance, in more than half of the networks: {', '.join(parts)}."


def stability_sentence(pairs: pd.DataFrame) -> str:
    """Say whether seeds of a variant come to the same states, and how alike variants are."""
    same = pairs[(pairs["first"] == pairs["second"])]
    other = pairs[(pairs["first"] != pairs["second"])]
    if same.empty:
        return "One seed: whether the states are stable over seeds cannot be said."
    median = same.groupby("first", observed=True)["cka"].median()
    stable = [f"{name} ({cka:.2f})" for name, cka in median.items() if cka >= STABLE]
    loose = [f"{name} ({cka:.2f})" for name, cka in median.items() if cka < STABLE]
    parts = [f"stable over seeds are the states of {', '.join(stable)}"] if stable else []
    parts += [f"not stable are those of {', '.join(loose)}"] if loose else []
    text = "; ".join(parts)
    seeds = len(set(pairs["first_seed"]) | set(pairs["second_seed"]))
    few = "; fewer than 3 seeds: too few to trust" if seeds < FEWEST_SEEDS else ""
    between = f"; between variants the median is {other['cka'].median():.2f}" if len(other) else ""
    return (
        f"By their median alignment between seeds (CKA, {STABLE:g} or more is called stable) {text}{between};"
        f" chance stays below {pairs['chance'].max():.2f}{few}."
    )


def _probes_shown(probes: pd.DataFrame) -> Table:
    table = _table("Linear probes: R2 on the test days (chance); bold where most networks have it")
    quantities = list(dict.fromkeys(probes["quantity"]))
    for quantity in quantities:
        table.add_column(quantity, justify="right")
    for variant, own in probes.groupby("variant", sort=False):
        by = own.set_index("quantity")
        cells = []
        for quantity in quantities:
            text = f"{by.loc[quantity, 'r2']:+.2f} ({by.loc[quantity, 'chance']:+.2f})"
            cells.append(f"[bold]{text}[/bold]" if by.loc[quantity, "there"] else text)
        table.add_row(str(variant), *cells)
    return table


def _alignment_shown(alike: pd.DataFrame) -> Table:
    table = _table("Alignment of states (CKA): between seeds, and with the most and least alike variant")
    for column in ("between seeds", "most alike", "least alike"):
        table.add_column(column, justify="right")
    for variant, values in alike.iterrows():
        others = values.drop(index=variant).dropna().sort_values()
        own = values[str(variant)]
        ends = [f"{others.index[k]} {others.iloc[k]:.2f}" if len(others) else "-" for k in (-1, 0)]
        table.add_row(str(variant), "-" if math.isnan(own) else f"{own:.2f}", *ends)
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("variant", overflow="fold")
    return table
