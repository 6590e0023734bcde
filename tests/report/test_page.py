import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from farm.evaluation.regimes import skill_by_regime
from farm.report.note import verdict_note
from farm.report.page import observed_levels
from farm.report.page_charts import DARK, learning_curves, ranking, skill_map
from tests.report.conftest import Sweep, make_sweep


@pytest.fixture(scope="module")
def small() -> Sweep:
    return make_sweep(tickers=("AAPL", "MSFT"), seeds=2, days=120)


def test_every_colour_of_a_chart_has_a_dark_one(small: Sweep) -> None:
    charts = [
        ranking(small.table, "linear"),
        learning_curves(small.curves, small.table),
        skill_map(pd.DataFrame({"a": [0.1, -0.2]}, index=["x", "y"]), "ticker"),
    ]
    # The blue and the orange of a map are read on both grounds, and are in the palette too.
    colours = set(re.findall(r"#[0-9a-f]{6}", " ".join(chart.to_json() for chart in charts)))
    assert colours
    assert colours <= set(DARK)
    assert not set(DARK.values()) & set(DARK), "or one replacement would undo another"


def test_the_ranking_shows_each_finished_model_once_with_its_interval(small: Sweep) -> None:
    table = small.table.copy()
    table.loc[table.index[-1], ["rmse", "linear_rmse_skill"]] = np.nan
    traces = json.loads(ranking(table, "linear").to_json())["data"]
    shown = [name for trace in traces for name in trace["y"]]
    assert sorted(shown) == sorted(table["model"][:-1])


def test_regimes_against_the_explicit_loop() -> None:
    rng = np.random.default_rng(5)
    days = pd.bdate_range("2019-11-01", periods=90)
    frames = []
    for ticker in ("A", "B"):
        actual = rng.normal(size=90) * np.where(np.arange(90) > 45, 3.0, 1.0)
        for model, seeds in (("m", 2), ("r", 1)):
            for seed in range(seeds):
                forecast = {"date": days, "ticker": ticker, "model": model, "seed": seed, "actual": actual}
                frames.append(pd.DataFrame(forecast | {"predicted": rng.normal(size=90)}))
    predictions = pd.concat(frames, ignore_index=True)
    found = skill_by_regime(predictions, "r").set_index(["model", "regime"])
    squared: dict[str, dict[str, list[float]]] = {}
    for ticker in ("A", "B"):
        own = predictions[predictions["ticker"] == ticker]
        truth = own[(own["model"] == "r")].sort_values("date")["actual"].to_numpy()
        past = [np.std(truth[i - 20 : i], ddof=1) if i >= 20 else math.nan for i in range(90)]
        limit = np.nanquantile(past, 0.75)
        for i, day in enumerate(days):
            names = [str(day.year)]
            if i >= 20:
                names.append("volatile" if past[i] > limit else "calm")
            for model in ("m", "r"):
                rows = own[(own["date"] == day) & (own["model"] == model)]
                loss = float(((rows["predicted"] - rows["actual"]) ** 2).mean())
                for name in names:
                    squared.setdefault(name, {}).setdefault(model, []).append(loss)
    assert set(squared) == {"volatile", "calm", "2019", "2020"}
    for name, losses in squared.items():
        rmse, reference = (math.sqrt(np.mean(losses[model])) for model in ("m", "r"))
        assert found.loc[("m", name), "days"] == len(losses["m"])
        assert found.loc[("m", name), "rmse"] == pytest.approx(rmse)
        assert found.loc[("m", name), "skill"] == pytest.approx(1 - rmse / reference)
        assert found.loc[("r", name), "skill"] == 0.0


def test_counts_what_fell_below_each_quantile() -> None:
    actual = np.arange(10.0)
    frame = pd.DataFrame({"model": "m", "actual": actual, "q05": 0.5, "q95": 8.5})
    none = pd.DataFrame({"model": "n", "actual": actual, "q05": np.nan, "q95": np.nan})
    found = observed_levels(pd.concat([frame, none]), (0.95, 0.05, 0.05))
    assert found["model"].unique().tolist() == ["m"]
    assert dict(zip(found["level"], found["share"], strict=True)) == {0.05: 0.1, 0.95: 0.9}
    assert found["days"].tolist() == [10, 10]


def test_a_note_says_the_verdict_and_fits_into_mlflow(small: Sweep) -> None:
    note = verdict_note("Which?", "No variant beats linear.", small.table, "linear")
    assert note.index("Which?") < note.index("No variant beats linear.") < note.index("| LSTM-Raw |")
    assert "farm.reference" in note
    long = pd.concat([small.table.assign(model=small.table["model"] + f" {'x' * 60} {i}") for i in range(9)])
    assert len(verdict_note("Which?", "None.", long, "linear")) < 5000


def test_a_long_note_is_cut_to_what_mlflow_takes_and_says_what_is_left_out(small: Sweep) -> None:
    """MLflow refuses 5,000 characters and more."""
    rows = pd.concat([small.table.assign(model=f"{'x' * 70} {i}") for i in range(3)])
    assert len(rows) == 30
    shown = verdict_note("Which?", "None.", rows, "linear")
    assert sum(line.startswith("| xxx") for line in shown.splitlines()) == 20
    assert shown.endswith("10 more rows are in `table.csv`.")
    whole = verdict_note("Which?", "y" * 3000, rows, "linear")
    assert len(whole) == 4900
    assert whole.startswith("**Which?**")
    assert "farm.reference" in whole  # how to read it stands before what is cut
    assert len(verdict_note("Which?", "y" * 9000, rows, "linear")) == 4900
