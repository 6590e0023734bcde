"""What a sweep would run: its trials, and the stages that they share."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from farm.base.search_space import Choice
from farm.plan import Plan
from farm.space import SearchPlan
from farm.store import Store
from farm.tuning.stage_tree import Node, stage_nodes


def show_plan(plan: Plan, store: Store, console: Console) -> None:
    """Print the resolved trials and, where there are curricula, the tree of their stages.

    Parameters
    ----------
    plan
        The sweep.
    store
        Where results are; it need not exist.
    console
        Where to print.
    """
    head = ("signature", "row", "ticker", "seed", "in the store")
    cells = [
        (t.signature, t.row, t.ticker, str(t.config.seed), "yes" if store.get(t.signature) else "no")
        for t in plan.trials
    ]
    widths = [max(map(cell_len, column)) for column in zip(head, *cells, strict=True)]
    # A table of rich takes seconds over ten thousand rows.
    lines = ["  ".join(map(set_cell_size, row, widths)).rstrip() for row in (head, *cells)]
    console.print(lines[0], style="bold", highlight=False, soft_wrap=True)
    console.file.write("\n".join([*lines[1:], ""]))
    nodes = stage_nodes(plan.trials, plan.source, store)
    if nodes:
        console.print(_tree(nodes))
        console.print(_totals(nodes), highlight=False)
    for note in plan.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{len(plan.trials)} trials", highlight=False)


def show_search(search: SearchPlan, console: Console) -> None:
    """Print what a search would try, and for what."""
    table = Table("searched", "range", "only where", box=None)
    for parameter in search.space.parameters:
        where = "" if parameter.given is None else f"{parameter.given[0]} is {Choice(parameter.given[1])}"
        table.add_row(parameter.key, str(parameter.range), where)
    console.print(table)
    goals = " and ".join(objective.label for objective in search.objectives)
    console.print(
        f"{search.samples} configs by each of {', '.join(search.samplers)}, for {goals}", highlight=False
    )


def _tree(nodes: Mapping[str, Node]) -> Tree:
    """Draw the stages below those that they go on from, with the rows that end with them."""
    root = Tree("stages, if no gate is missed")
    branches = {"": root}
    for node in nodes.values():
        epochs = "epoch" if node.epochs == 1 else "epochs"
        label = Text.assemble(
            (node.name, "bold"), f": {node.epochs} {epochs}  ", (node.signature, "dim"),
            ("  in the store" if node.stored else "", "green"),
            (f"  {len(node.trials)} trials" if len(node.trials) > 1 else "", "dim"),
        )  # fmt: skip
        branches[node.signature] = branches[node.before].add(label)
        for trial in node.last:
            branches[node.signature].add(Text(trial.name, "cyan"))
    return root


def _totals(nodes: Mapping[str, Node]) -> str:
    """Say how many epochs the tree saves."""
    scratch = sum(node.epochs * len(node.trials) for node in nodes.values())
    tree = sum(node.epochs for node in nodes.values())
    stored = sum(node.epochs for node in nodes.values() if node.stored)
    known = f", {stored} of them in the store" if stored else ""
    return f"{scratch} epochs from scratch, {tree} as a tree ({scratch / tree:.2f} times fewer){known}"
