import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from farm.base.errors import UserError
from farm.report.tables import (
    equal_references,
    evaluation_table,
    verdict_sentence,
    verdict_table,
    write_results,
)
from farm.store import Record
from tests.report.conftest import REFERENCES, Sweep, make_sweep

METRICS = pd.DataFrame({"model": ["m"], "test/rmse": [0.01]})
EVALUATIONS = pd.DataFrame({"evaluation": ["", "s1"]})


def rendered(sweep: Sweep, width: int) -> list[str]:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(verdict_table(sweep.table, REFERENCES, width))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 100, 120, 140])
def test_table_fits_and_cuts_nothing(sweep, width):
    lines = rendered(sweep, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    body = lines[3:]
    assert "…" not in text
    for row in sweep.table.to_dict("records"):
        line = next(line for line in body if f" {row['model']} " in line)
        first = "reference" if row["model"] == "linear" else row["beats"]
        assert line.strip().startswith(first or row["model"])
        assert f"{row['rmse']:#.4g}" in line
        assert f"{100 * row['direction_accuracy']:.1f}" in line
        if row["model"] != "econometric":
            assert f"{100 * row['econometric_rmse_skill']:+.1f}"[:-2] in line
        low, high = 100 * row["linear_rmse_skill_lo"], 100 * row["linear_rmse_skill_hi"]
        if row["model"] not in ("linear", "persistence"):
            assert f"[{low:+.2f}, {high:+.2f}]" in text
        if row["role"] == "variant":
            selected = f"{row['linear_p_selected']:.3f}"
            assert (selected in line) if width >= 120 else (f"[{selected}]" in text)
        if width >= 100:
            assert line.split()[-1] == ("in" if row["mcs_p"] > 0.05 else "out")
    if width >= 100:
        assert f"[{sweep.table['rmse_lo'].iloc[0]:#.3g}, {sweep.table['rmse_hi'].iloc[0]:#.3g}]" in text


def test_table_takes_one_line_a_model_where_there_is_room(sweep):
    heading, ruler, blank = 2, 1, 1
    assert len([line for line in rendered(sweep, 120) if line.strip()]) == heading + ruler + len(sweep.table)
    assert len(rendered(sweep, 120)) == heading + ruler + len(sweep.table) + 2 * blank


def test_table_names_missing_numbers_and_replicates(sweep):
    table = sweep.table.copy()
    last = len(table) - 1
    table.loc[last, ["rmse", "mae", "direction_accuracy", "dm_p", "rmse_lo", "linear_rmse_skill"]] = np.nan
    table.loc[last, ["linear_rmse_skill_lo", "econometric_rmse_skill", "mcs_p"]] = np.nan
    table.loc[last, "replicates"] = 3
    line = next(
        line for line in rendered(replace(sweep, table=table), 140) if table.loc[last, "model"] in line
    )
    assert "nan" not in line
    assert f"3/{table.loc[last, 'expected']}" in line
    assert line.count(" -") == 7


def test_baselines_are_dim_and_verdicts_coloured(sweep):
    table = sweep.table.copy()
    variants = table.index[table["role"] == "variant"]
    table.loc[variants[:3], "beats"] = ["yes", "no", "not shown"]
    console = Console(width=140)
    by_style = {
        segment.text.strip(): segment.style
        for segment in console.render(verdict_table(table, REFERENCES, 140))
        if segment.style
    }
    assert by_style["yes"].color.name == "green"
    assert by_style["no"].color.name == "red"
    assert by_style["not shown"].color.name == "yellow"
    assert by_style["persistence"].dim
    assert by_style["linear"].bold
    assert not by_style.get("LSTM-Raw") or not by_style["LSTM-Raw"].dim


def rows(*variants: tuple[str, str, float, float, float], seeds: int = 3) -> pd.DataFrame:
    """A table of variants (name, beats, skill in percent, DM p, p after selection) and the reference."""
    columns = ["model", "beats", "linear_rmse_skill", "dm_p", "linear_p_selected"]
    table = pd.DataFrame(variants, columns=columns)
    table = table.assign(role="variant", seeds=seeds, rmse=0.018, settled=False)
    table["linear_rmse_skill"] /= 100
    linear = {"model": "linear", "role": "baseline", "beats": "", "seeds": 1, "rmse": 0.018, "settled": False}
    return pd.concat([table, pd.DataFrame([{**linear, "linear_rmse_skill": 0.0}])], ignore_index=True)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            rows(("Raw", "no", -1.2, 0.02, 1.0), ("Feat", "no", -0.3, 0.41, 1.0)),
            "No variant beats linear: the closest, Feat, has 0.3 % higher RMSE"
            " (DM p = 0.41; best of 2 tried, p after selection = 1).",
        ),
        (
            rows(("Raw", "no", -1.2, 0.02, 1.0), ("Feat", "not shown", 0.25, 0.021, 0.09)),
            "No variant is shown to beat linear: the closest, Feat, has 0.2 % lower RMSE"
            " (DM p = 0.021; best of 2 tried, p after selection = 0.09).",
        ),
        (
            rows(
                ("A", "yes", 1.0, 0.03, 0.04),
                ("B", "yes", 2.0, 0.0001, 0.0),
                ("C", "not shown", 3.0, 0.2, 0.3),
                ("D", "no", -1, 0, 1.0),
            ),
            "2 of 4 variants beat linear: the best, B, has 2.0 % lower RMSE"
            " (DM p < 0.001; best of 4 tried, p after selection < 0.001).",
        ),
        (
            rows(("A", "yes", 1.0, 0.01, 0.03), ("B", "no", -2.0, 0.5, 1.0)),
            "1 of 2 variants beats linear: A has 1.0 % lower RMSE"
            " (DM p = 0.01; best of 2 tried, p after selection = 0.03).",
        ),
        (
            rows(("A", "yes", 1.0, 0.03, 0.02), ("B", "yes", 2.0, 0.012, 0.01)),
            "All 2 variants beat linear: the best, B, has 2.0 % lower RMSE"
            " (DM p = 0.012; best of 2 tried, p after selection = 0.01).",
        ),
        (
            rows(("A", "yes", 1.0, 0.03, 0.012)),
            "A beats linear: it has 1.0 % lower RMSE (DM p = 0.03; bootstrap p = 0.012).",
        ),
        (
            rows(("A", "no", -1.0, 0.3, 1.0)),
            "A does not beat linear: it has 1.0 % higher RMSE (DM p = 0.3; bootstrap p = 1).",
        ),
        (
            rows(("A", "not shown", 0.021, 0.9, 0.4)),
            "A is not shown to beat linear: it has 0.02 % lower RMSE (DM p = 0.9; bootstrap p = 0.4).",
        ),
        (
            rows(("A", "no", 0.0, 1.0, 1.0)),
            "A does not beat linear: it has the same RMSE (DM p = 1; bootstrap p = 1).",
        ),
        (rows(("A", "no", -1.0, np.nan, np.nan)), "A does not beat linear: it has 1.0 % higher RMSE."),
        (
            rows(("A", "yes", 1.0, 0.03, 0.012), seeds=2),
            "A beats linear: it has 1.0 % lower RMSE (DM p = 0.03; bootstrap p = 0.012);"
            " fewer than 3 seeds: too few to trust.",
        ),
        (
            rows(("A", "no", -1.0, 0.3, 1.0), ("B", "not shown", np.nan, np.nan, np.nan)),
            "A does not beat linear: it has 1.0 % higher RMSE (DM p = 0.3; bootstrap p = 1).",
        ),
        (
            rows(("A", "not shown", np.nan, np.nan, np.nan)),
            "linear did not finish: nothing to compare the variants with.",
        ),
        (rows(), "No variant finished: nothing to compare with linear."),
        (
            rows(("A", "not shown", np.nan, np.nan, np.nan)).assign(rmse=[np.nan, 0.018]),
            "No variant finished: nothing to compare with linear.",
        ),
    ],
)
def test_sentence(table, expected):
    assert verdict_sentence(table, REFERENCES) == expected


def test_a_variant_that_draws_nothing_needs_one_seed():
    table = rows(("A", "yes", 1.0, 0.03, 0.03), ("B", "no", -1.0, 0.03, 1.0))
    table.loc[0, ["seeds", "settled"]] = [1, True]
    assert "too few" not in verdict_sentence(table, REFERENCES)
    table.loc[1, "seeds"] = 2
    assert "too few" in verdict_sentence(table, REFERENCES)


def test_warnings_stand_below_the_model(sweep):
    table = sweep.table.assign(warnings="")
    table.loc[0, "warnings"] = "ignores the peers 2/3"
    lines = rendered(replace(sweep, table=table), 140)[3:]
    at = next(i for i, line in enumerate(lines) if f" {table.loc[0, 'model']} " in line)
    assert "ignores the peers 2/3" in lines[at + 1]
    assert sum("ignores" in line for line in lines) == 1


def judged(**values):
    row = {
        "model": "A", "role": "variant", "beats": "not shown", "rmse": 0.02, "linear_rmse_skill": 0.015,
        "dm_p": 0.3, "linear_p_selected": 0.4, "seeds": 3, "settled": False, "starts": 390,
        "stretches": 390, "best": "zero", "beats_best": "no", "best_rmse_skill": -0.001, "best_dm_p": 0.8,
        "best_p_selected": 1.0, "detectable": 0.0132,
    }  # fmt: skip
    linear = row | {"model": "linear", "role": "baseline", "rmse": 0.0203, "linear_rmse_skill": 0.0}
    return pd.DataFrame([row | values, linear])


def test_the_sentence_names_the_best_baseline_and_what_could_have_been_found():
    said = verdict_sentence(judged(), ("linear",))
    assert said == (
        "A is not shown to beat linear: it has 1.5 % lower RMSE (DM p = 0.3; bootstrap p = 0.4). A is no"
        " better than zero, the best baseline on these days: 0.1 % higher RMSE (DM p = 0.8; bootstrap p ="
        " 1). With these days a gain of 1.3 % in RMSE is found half the time."
    )
    assert "zero" not in verdict_sentence(judged(best="linear"), ("linear",))


def test_too_few_days_are_said_and_nothing_is_tested():
    nothing = {"beats": "no test", "dm_p": np.nan, "linear_p_selected": np.nan, "detectable": np.nan}
    said = verdict_sentence(judged(**nothing, starts=5, stretches=5), ("linear",))
    assert said == "5 starting days: no test. The best variant, A, has 1.5 % lower RMSE than linear."
    slow = verdict_sentence(judged(**nothing, starts=100, stretches=3), ("linear",))
    assert slow.startswith("3 stretches of days over which forecasts do not hang together: no test.")


def test_references_that_are_equal_to_the_bit_are_one():
    table = judged(best="linear", econometric_rmse_skill=0.015)
    table = pd.concat([table, table.iloc[1:].assign(model="econometric")], ignore_index=True)
    assert equal_references(table, ("linear", "econometric")) == ["econometric"]
    assert "econometric is linear here, to the bit." in verdict_sentence(table, ("linear", "econometric"))


def test_evaluations_are_laid_out_and_oracles_flagged():
    metrics = {
        "test/rmse": 3.0,
        "interval/width": 4.0,
        "test/volatile/rmse": 5.0,
        "test/s1/rmse": 1.0,
        "interval/cqr/width": 6.0,
        "interval/cqr/volatile/width": 7.0,
        "latent/kl": 9.0,
        "val/rmse": 8.0,
    }
    levels = {"": (), "s1": (), "cqr": ()}
    blocks = {"test": {"items": (), "parts": {part: {"levels": some} for part, some in levels.items()}}}
    record = Record("x", {}, metrics, {}, {}, ("s1",), None, 0.0, blocks, {}, {}, b"")
    table = evaluation_table([({"model": "A", "ticker": "T", "seed": 0}, record)])
    assert set(table["model"]) == {"A"}
    found = {(row["evaluation"], row["days"]): row for row in table.to_dict("records")}
    assert found.keys() == {("", "all"), ("", "volatile"), ("s1", "all"), ("cqr", "all"), ("cqr", "volatile")}
    assert (found["", "all"]["rmse"], found["", "all"]["width"]) == (3.0, 4.0)
    assert found["", "volatile"]["rmse"] == 5.0
    assert found["cqr", "volatile"]["width"] == 7.0
    assert [key for key, row in found.items() if row["oracle"]] == [("s1", "all")]


def test_files_hold_what_was_found(tmp_path):
    sweep = make_sweep(tickers=("AAPL", "MSFT"), seeds=2, days=40)
    out = tmp_path / "results" / "ablation"
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    (out / "table.csv").write_text("old")
    paths = write_results(out, sweep.table, sweep.scores, sweep.predictions, EVALUATIONS, METRICS)
    assert paths == [
        out / name
        for name in (
            "results.csv",
            "table.csv",
            "predictions.parquet",
            "evaluations.csv",
            "metrics.csv",
        )
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(path.name for path in paths), "notes.txt"]
    )
    results = pd.read_csv(out / "results.csv")
    assert list(results.columns) == ["ticker", "model", "seed", "MAE", "RMSE", "DirAcc"]
    assert len(results) == len(sweep.scores)
    for row in results.to_dict("records"):
        mine = sweep.predictions.query(
            "model == @row['model'] and ticker == @row['ticker'] and seed == @row['seed']"
        )
        error = mine["predicted"] - mine["actual"]
        assert row["RMSE"] == pytest.approx(np.sqrt((error**2).mean()))
        assert row["MAE"] == pytest.approx(error.abs().mean())
    pd.testing.assert_frame_equal(pd.read_parquet(out / "predictions.parquet"), sweep.predictions)
    pd.testing.assert_frame_equal(
        pd.read_csv(out / "table.csv", keep_default_na=False, na_values={"rmse": [""], "dm_p": [""]})[
            ["model", "rmse"]
        ],
        sweep.table[["model", "rmse"]],
    )


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    sweep = make_sweep(tickers=("AAPL",), seeds=1, days=40)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_results(tmp_path / "file", sweep.table, sweep.scores, sweep.predictions, EVALUATIONS, METRICS)
    (tmp_path / "out" / "table.csv").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be written"):
        write_results(tmp_path / "out", sweep.table, sweep.scores, sweep.predictions, EVALUATIONS, METRICS)
    assert not list((tmp_path / "out").glob(".*"))
