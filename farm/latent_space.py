"""What the networks of a sweep have inside, from the store: ``python -m farm.latent_space NAME``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farm.base.command_line import run
from farm.base.errors import UserError
from farm.sweep import (
    DataOption,
    EndOption,
    EpochsOption,
    MarketOption,
    QuickOption,
    SeedsOption,
    SettingsOption,
    StartOption,
    StorageOption,
    StudyOption,
    TickersOption,
    VariantsOption,
    ask,
    load_sweep,
    plain_or_terminal,
    read_source,
)

if TYPE_CHECKING:  # imported where they are used, so that --help is immediate
    import numpy as np
    import numpy.typing as npt

    from farm.base.model import Model
    from farm.base.types import Dataset, Floats, Windows
    from farm.evaluation.representation import States
    from farm.plan import Plan, Trial
    from farm.store import Store

PAST = 20  # days behind volatility and momentum
QUANTITIES = ("volatility", "momentum", "market return", "size of the next return")

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Give the same options as the sweep was run with. Nothing is trained.",
)
def latent_space(
    name: Annotated[str, typer.Argument(help="A sweep of search_spaces/, or a .py file of your own.")],
    quick: QuickOption = False,
    tickers: TickersOption = None,
    market: MarketOption = None,
    data: DataOption = None,
    start: StartOption = None,
    end: EndOption = None,
    seeds: SeedsOption = None,
    epochs: EpochsOption = None,
    variants: VariantsOption = None,
    settings: SettingsOption = None,
    study: StudyOption = None,
    storage: StorageOption = "farm_store",
) -> None:
    """Look into the networks that a sweep has trained: pictures, linear probes, and how alike they are.

    Hidden states of LSTMs and Transformers, latents of VAEs. Tables and pictures go to
    [bold]results/NAME/[/bold] under the working directory.
    """
    from farm.plan import make_plan
    from farm.report.latent_space import conclude_states
    from farm.report.pictures import save_pictures
    from farm.store import Store

    declared_name, declared = load_sweep(name, study)
    if declared.replicate == "surfaces":
        raise UserError(f"sweep {declared_name}: reads surfaces, expected one of prices, such as ablation")
    asked = ask(
        quick=quick,
        tickers=tickers,
        market=market,
        start=start,
        end=end,
        seeds=seeds,
        epochs=epochs,
        variants=variants,
        settings=settings,
        study=study,
    )
    plan = make_plan(declared_name, declared, read_source(declared, data), asked)
    console = plain_or_terminal()
    found = all_states(plan, Store(storage))
    out = Path("results") / plan.name
    told = conclude_states(found, out)
    for table in told.shown:
        console.print(table)
    console.print(told.sentence, highlight=False, markup=False)
    files = (*told.files, *save_pictures(out, [told.pictures], console))
    console.print(f"[dim]{', '.join(map(str, files))}[/dim]", soft_wrap=True)


def all_states(plan: Plan, store: Store) -> list[States]:
    """Compute the states of every stored trial whose model has some."""
    from farm.data.splits import WalkForward
    from farm.models.heads import HeadedConfig
    from farm.models.variational import VariationalConfig

    able = [
        trial
        for trial in plan.trials
        if isinstance(trial.config.model, HeadedConfig | VariationalConfig)
        and getattr(trial.config.model, "members", 1) == 1
    ]
    if not able:
        raise UserError(
            f"sweep {plan.name}: no model of it has a hidden state to look at, expected an LSTM, a"
            " Transformer or a VAE: give ablation, probabilistic or latent"
        )
    if any(isinstance(getattr(trial.config.study, "split", None), WalkForward) for trial in able):
        raise UserError(
            f"sweep {plan.name}: each window of its walk-forward has a network of its own, so there is no one"
            " latent space: give ablation, probabilistic or latent"
        )
    found = [states for trial in able if (states := _states(trial, plan, store)) is not None]
    if not found:
        raise UserError(
            f"sweep {plan.name}: none of its {len(able)} networks is in storage {store.root!r}: run"
            f" `python -m farm.sweep {plan.name}` first, or give its --storage and options"
        )
    return found


def _states(trial: Trial, plan: Plan, store: Store) -> States | None:
    """Compute the states of one trial from its stored weights; None if it has not finished."""
    import numpy as np

    from farm.evaluation.representation import States
    from farm.training.fit import reproducible

    if store.get(trial.signature) is None:
        return None
    data = trial.config.study.dataset(plan.source)
    with reproducible(trial.config.seed):
        model = trial.config.model.build(data.inputs)
        state = store.model_state(trial.signature)
        model.load_state({name[6:]: value for name, value in state.items() if name.startswith("model.")})
        blocks = (data.train, data.val, data.open_test())
        values = [summarise(model, block) for block in blocks]
    targets, known = _targets(trial, plan, data, blocks)
    kept = [np.concatenate(values)[known], *(target[known] for target in targets.values())]
    learnt, chosen = (int(known[:rows].sum()) for rows in np.cumsum([len(value) for value in values])[:2])
    return States(
        trial.row,
        trial.ticker,
        trial.config.seed,
        kept[0],
        learnt,
        chosen,
        dict(zip(targets, kept[1:], strict=True)),
        max(data.inputs.lookback, PAST) + 1,
    )


def summarise(model: Model, windows: Windows) -> Floats:
    """Give the state that a model makes of each window, (B, D): a hidden state, or posterior means."""
    import numpy as np
    import torch

    from farm.base.generative import LatentSpace
    from farm.models.heads import HeadedNetwork

    if isinstance(model, LatentSpace):
        return model.encode(windows.x, 0).mean
    assert isinstance(model, HeadedNetwork)  # what `all_states` takes
    model.eval()
    with torch.no_grad():
        parts = [model.summary(torch.from_numpy(windows.x[i : i + 512])) for i in range(0, len(windows), 512)]
    return np.concatenate([part.numpy() for part in parts])


def _targets(
    trial: Trial, plan: Plan, data: Dataset, blocks: tuple[Windows, Windows, Windows]
) -> tuple[dict[str, Floats], npt.NDArray[np.bool_]]:
    """Give what might be read from each state, and which samples have a full past and a next day.

    Volatility and momentum are of the 20 returns that end with the last day a state has read: of the
    ticker, or of the index where a model reads many assets.
    """
    import numpy as np

    from farm.data.features import daily_features
    from farm.data.panel import Panel
    from farm.studies.forecast import ForecastStudy

    study, own = trial.config.study, blocks[-1].series
    position = np.concatenate([block.position for block in blocks])
    market = own
    if isinstance(study, ForecastStudy):  # its windows end on the day before the target
        assert isinstance(plan.source, Panel)
        bars = plan.source.bars
        market = daily_features(bars[study.ticker], bars[study.market])["mkt_return"].to_numpy()
        position = position - 1
    known = (position + 1 >= PAST) & (position + 1 < len(own))
    last = np.clip(position, PAST - 1, len(own) - 2)
    past = np.lib.stride_tricks.sliding_window_view(own, PAST)[last - PAST + 1]
    values = (np.log(past.std(axis=1) + 1e-12), past.sum(axis=1), market[last], np.abs(own[last + 1]))
    return dict(zip(QUANTITIES, values, strict=True)), known


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    sys.exit(run(app, "python -m farm.latent_space"))


if __name__ == "__main__":
    main()
