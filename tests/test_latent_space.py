"""The states of stored networks: recomputed from their weights, probed and compared."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from farm.base.errors import UserError
from farm.base.search_space import Sweep, Variant
from farm.experiment import run
from farm.latent_space import QUANTITIES, all_states, summarise
from farm.plan import Options, Plan, make_plan
from farm.report.latent_space import (
    alignments,
    conclude_states,
    probe_sentence,
    probe_table,
    stability_sentence,
)
from farm.report.pictures import save_pictures
from farm.store import Store
from tests.return_world import return_panel

BASELINE = Variant(name="zero", values={"model.name": "zero"})
FORECAST = Sweep(
    title="small",
    question="?",
    common={"study.name": "forecast", "study.lookback": 5, "training.epochs": 1},
    variants=(
        Variant(name="lstm", values={"model.name": "lstm", "model.hidden_size": 6}),
        Variant(
            name="transformer",
            values={"model.name": "transformer", "model.width": 8, "model.heads": 2, "model.num_layers": 1},
        ),
        Variant(name="linear", values={"model.name": "linear"}),
    ),
    baselines=(BASELINE,),
    references=("zero",),
    tickers=("AR",),
    market="MKT",
    seeds=2,
)


def filled(plan: Plan, folder: Path) -> Store:
    store = Store(str(folder)).open()
    for trial in plan.trials:
        store.put(trial.signature, trial.config, run(trial.config, plan.source, device="cpu"))
    return store


@pytest.fixture(scope="module")
def forecast(ar1_panel, tmp_path_factory):
    plan = make_plan("small", FORECAST, ar1_panel, Options())
    return plan, filled(plan, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def states(forecast):
    return all_states(*forecast)


def test_a_probe_that_is_further_off_than_the_mean_reads_nothing():
    """Beyond chance (p), and yet an R2 below zero: neither found nor bold nor said."""
    each = pd.DataFrame(
        [
            {
                "variant": v,
                "ticker": t,
                "seed": s,
                "quantity": q,
                "r2": r2,
                "p_value": 0.01,
                "chance": -0.5,
            }
            for v, q, r2 in (
                ("a", "volatility", -0.1),
                ("b", "volatility", 0.4),
                ("a", "trend", -0.2),
                ("b", "trend", -0.01),
            )
            for t in "XY"
            for s in (0, 1)
        ]
    )
    table = probe_table(each).set_index(["variant", "quantity"])
    assert table["there"].to_dict() == {key: key == ("b", "volatility") for key in table.index}
    assert table.loc[("a", "volatility"), "found"] == 0
    said = probe_sentence(table.reset_index())
    assert "volatility from 1 of 2 variants (R2 0.40), trend from none" in said
    third = each[each["seed"] == 0].assign(seed=2)
    one_seed_off = pd.concat([each, third]).assign(r2=lambda t: np.where(t["seed"] == 0, -5.0, 0.3))
    assert (probe_table(one_seed_off)["found"] == 2 / 3).all()
    assert not probe_table(one_seed_off)["there"].any()


def test_every_network_and_seed_has_states_of_all_its_days(states):
    assert [(one.row, one.seed) for one in states] == [
        ("lstm", 0), ("lstm", 1), ("transformer", 0), ("transformer", 1)
    ]  # fmt: skip
    assert [one.hidden.shape[1] for one in states] == [6, 6, 8, 8]
    assert {len(one.hidden) for one in states} == {len(states[0].targets["momentum"])}
    assert 0 < states[0].learnt < states[0].chosen < len(states[0].hidden)


def test_a_state_is_what_the_stored_forecast_was_read_from(forecast):
    plan, store = forecast
    trial = next(trial for trial in plan.trials if trial.row == "lstm")
    data = trial.config.study.dataset(plan.source)
    model = trial.config.model.build(data.inputs)
    state = store.model_state(trial.signature)
    model.load_state({k[6:]: v for k, v in state.items() if k.startswith("model.")})
    test = data.open_test()
    with torch.no_grad():
        out = model.head(torch.from_numpy(summarise(model, test)))[:, 0].numpy()
    np.testing.assert_allclose(out, store.get(trial.signature).forecast()["predicted"], atol=1e-6)


def test_quantities_are_of_the_days_that_a_state_has_read(states, ar1_panel, forecast):
    """Counted by hand on the last test day: it is forecast from the days before it."""
    one = states[0]
    bars, market = ar1_panel.bars["AR"], ar1_panel.bars["MKT"]
    returns = np.diff(np.log(bars.close))
    assert one.targets["size of the next return"][-1] == pytest.approx(abs(returns[-1]))
    past = returns[-21:-1]
    assert one.targets["momentum"][-1] == pytest.approx(past.sum())
    assert one.targets["volatility"][-1] == pytest.approx(np.log(past.std()))
    assert one.targets["market return"][-1] == pytest.approx(np.log(market.close[-2] / market.close[-3]))
    assert tuple(one.targets) == QUANTITIES


def test_tables_pictures_and_a_sentence_come_of_it(states, tmp_path):
    told = conclude_states(states, tmp_path)
    files = (*told.files, *save_pictures(tmp_path, [told.pictures], Console()))
    assert {path.name for path in files} == {
        "latent_probes.csv", "latent_alignment.csv", "latent_pairs.csv",
        "latent_maps.png", "latent_probes.png", "latent_alignment.png", "latent_space.txt",
    }  # fmt: skip
    probes = pd.read_csv(tmp_path / "latent_probes.csv")
    assert len(probes) == 2 * len(QUANTITIES)
    assert (probes["r2_lo"] <= probes["r2"]).all()
    pairs = pd.read_csv(tmp_path / "latent_pairs.csv")
    assert len(pairs) == 6
    assert pairs["cka"].max() <= 1 + 1e-6
    alike = pd.read_csv(tmp_path / "latent_alignment.csv", index_col="variant")
    between = pairs[(pairs["first"] == "lstm") & (pairs["second"] == "lstm")]["cka"].mean()
    assert alike.loc["lstm", "lstm"] == pytest.approx(between)
    assert alike.loc["lstm", "transformer"] == alike.loc["transformer", "lstm"]
    assert "between seeds (CKA, 0.8 or more is called stable)" in told.sentence
    assert "fewer than 3 seeds" in told.sentence


def test_one_seed_says_nothing_of_stability_and_twins_are_stable(states):
    assert "One seed" in stability_sentence(alignments([one for one in states if one.seed == 0]))
    names = pd.Categorical(["a"])
    row = {"ticker": "T", "first": names, "first_seed": 0, "second": names, "second_seed": 1, "chance": 0.1}
    assert "stable over seeds are the states of a (0.95)" in stability_sentence(
        pd.DataFrame(row | {"cka": 0.95})
    )
    assert "not stable are those of a (0.50)" in stability_sentence(pd.DataFrame(row | {"cka": 0.5}))


def test_latents_of_a_vae_are_states_too(tmp_path):
    sweep = Sweep(
        title="vae",
        question="?",
        common={"study.name": "generate", "study.lookback": 6, "training.epochs": 1},
        variants=(Variant(name="vae", values={"model.name": "vae", "model.latent_dim": 3}),),
        baselines=(Variant(name="gaussian", values={"model.name": "sample_normal"}),),
        references=("gaussian",),
        replicate="panel",
        tickers=("A", "B", "C", "D"),
        market="IDX",
        seeds=1,
    )
    panel = return_panel()
    plan = make_plan("vae", sweep, panel, Options())
    (one,) = all_states(plan, filled(plan, tmp_path))
    assert one.hidden.shape[1] == 3
    returns = np.diff(np.log(panel.bars["IDX"].close))
    # The last window has no next day; the one before ends on the last day but one.
    assert one.targets["size of the next return"][-1] == pytest.approx(abs(returns[-1]))
    assert one.targets["market return"][-1] == pytest.approx(returns[-2])
    assert one.targets["momentum"][-1] == pytest.approx(returns[-21:-1].sum())


def test_what_cannot_be_looked_at_is_one_line(forecast, ar1_panel, tmp_path):
    plan, _ = forecast
    with pytest.raises(UserError, match="none of its 4 networks is in storage"):
        all_states(plan, Store(str(tmp_path)).open())
    without = FORECAST.model_copy(update={"variants": FORECAST.variants[2:]})
    with pytest.raises(UserError, match="no model of it has a hidden state"):
        all_states(make_plan("small", without, ar1_panel, Options()), Store(str(tmp_path)))
    walked = FORECAST.model_copy(update={"common": {**FORECAST.common, "study.split.name": "walk_forward"}})
    with pytest.raises(UserError, match="no one latent space"):
        all_states(make_plan("small", walked, ar1_panel, Options()), Store(str(tmp_path)))
