"""Two sweeps or runs side by side: the numbers, and what a user gets wrong."""

import subprocess
import sys

import numpy as np
import pytest

import farm.compare
from farm.compare import differences, paired_rows, paired_test, read_side
from farm.data.door import load_panel
from farm.evaluation.significance import diebold_mariano
from farm.experiment import run
from farm.plan import Options, make_plan
from farm.store import Store
from farm.sweep import load_sweep

SWEEP = """
from farm.base.search_space import Sweep, Variant

SWEEP = Sweep(
    title="{name}",
    question="?",
    common={{"study.name": "{study}", "study.lookback": {lookback}}},
    variants=({variants}),
    baselines=(
        Variant(name="linear", values={{"model.name": "linear"}}),
        Variant(name="zero", values={{"model.name": "zero"}}),
    ),
    references=("linear",),
    tickers={tickers},
    market="SP500",
    start="2012-01-03",
    end="2014-12-31",
    quick={{"tickers": ("NVDA",)}},
)
"""
RIDGE = 'Variant(name="shrunk", values={"model.name": "ridge"}),'
STEADY = 'Variant(name="steady", values={"model.name": "persistence"}),'
NARROW = 'Variant(name="shrunk", values={"model.name": "ridge", "study.features": "raw"}),'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sweeps that share a ticker, and a store with their results, but for one trial of `long`."""
    folder = tmp_path_factory.mktemp("compare")
    texts = {
        "short": {"lookback": 5, "variants": RIDGE, "tickers": ("AAPL", "MSFT")},
        "long": {"lookback": 20, "variants": NARROW + STEADY, "tickers": ("AAPL", "GOOG")},
    }
    store = Store(str(folder / "store")).open()
    for name, values in texts.items():
        path = folder / f"{name}.py"
        path.write_text(SWEEP.format(name=name, study="forecast", **values))
        plan = make_plan(*load_sweep(str(path)), load_panel(), Options())
        for trial in plan.trials:
            if (trial.row, trial.ticker) != ("steady", "GOOG"):
                store.put(trial.signature, trial.config, run(trial.config, plan.source, device="cpu"))
    return folder


@pytest.fixture
def call(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["farm.compare", *arguments, "--storage", "store"])
        with pytest.raises(SystemExit) as end:
            farm.compare.main()
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run_command


@pytest.fixture(scope="module")
def sides(folder):
    store = Store(str(folder / "store"))
    return [read_side(str(folder / f"{name}.py"), store) for name in ("short", "long")]


def test_rows_of_one_name_are_tested_on_the_days_that_both_have(sides):
    test, change = paired_test(*(side.row("shrunk") for side in sides))
    forecasts = [side.row("shrunk")["AAPL", 0].forecast().set_index("date") for side in sides]
    days = forecasts[0].index.intersection(forecasts[1].index)
    assert 0 < len(days) < len(forecasts[0])
    losses = [(f.loc[days, "predicted"] - f.loc[days, "actual"]).to_numpy() ** 2 for f in forecasts]
    assert test == pytest.approx(diebold_mariano(*losses))
    assert change == pytest.approx(np.sqrt(losses[1].mean() / losses[0].mean()) - 1)
    # A model against itself, and the other way round.
    zero = sides[0].row("zero")
    all_days = set().union(*(record.forecast()["date"] for record in zero.values()))
    assert paired_test(zero, zero) == ((0.0, 1.0, 0.0, len(all_days)), 0.0)
    back, _ = paired_test(*(side.row("shrunk") for side in reversed(sides)))
    assert back.statistic == pytest.approx(-test.statistic)


def test_seeds_are_averaged_and_other_truths_are_not_compared(sides):
    records = sides[0].row("shrunk")
    twice = {**records, ("AAPL", 1): records["AAPL", 0]}
    other = sides[1].row("zero")
    assert paired_test(twice, other)[0] == pytest.approx(paired_test(records, other)[0])
    mixed = {("AAPL", 0): records["MSFT", 0]}
    test, change = paired_test(mixed, {("AAPL", 0): records["AAPL", 0]})
    assert test is None
    assert np.isnan(change)
    apart, change = paired_test({("MSFT", 0): records["MSFT", 0]}, other)
    assert apart.n == 0
    assert np.isnan(change)


def test_what_differs_is_said_once_where_it_differs_everywhere(sides):
    pairs = paired_rows(*sides)
    assert set(pairs) == {
        ("shrunk", "shrunk"), (None, "steady"), ("linear", "linear"), ("zero", "zero")
    }  # fmt: skip
    lines = differences(*sides, pairs)
    assert lines[0] == "all rows: study.lookback: 5 | 20"
    assert len(lines) == 2
    assert lines[1].startswith("shrunk: study.features: log_return roll_vol")
    assert lines[1].endswith("| log_return")
    assert differences(sides[0], sides[0], paired_rows(sides[0], sides[0])) == ["the configs are equal"]


def test_the_command_shows_both(call):
    code, out, err = call("short.py", "long.py")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    steady = next(line for line in lines if line.startswith("steady")).split()
    assert steady[1:3] == ["-", "-"]
    assert "(1/2)" in steady
    assert steady[-3:] == ["-", "-", "-"]
    linear = next(line for line in lines if line.startswith("linear")).split()
    assert linear[2] == "+0.00"
    assert "all rows: study.lookback: 5 | 20" in out


def test_runs_are_compared_by_signature(call, sides):
    signatures = [sides[0].row(row)["AAPL", 0].signature for row in ("shrunk", "zero")]
    code, out, err = call(*signatures)
    assert (code, err) == (0, "")
    line = next(line for line in out.splitlines() if line.startswith("ridge | zero"))
    test, change = paired_test(*({("AAPL", 0): sides[0].row(row)["AAPL", 0]} for row in ("shrunk", "zero")))
    assert line.split()[-3:] == [f"{100 * change:+.2f}", f"{test.p_value:.3f}", str(test.n)]
    assert "model.name: ridge | zero" in out
    of_msft = sides[0].row("zero")["MSFT", 0].signature
    assert "study.ticker: AAPL | MSFT" in call(signatures[0], of_msft)[1]
    code, out, _ = call("short.py", signatures[1])  # a sweep against a run: every row
    assert code == 0
    assert "shrunk | zero" in out
    assert "linear | zero" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("short.py", "0123456789abcdef"), "run '0123456789abcdef' is not in storage"),
        (("short.py", "ablatoin"), "did you mean 'ablation'"),
        (("short.py", "nowhere.py"), "does not exist"),
        (("short.py", "long.py", "--quick"), "sweep 'short.py' --quick has no finished trial in storage"),
        (("short.py",), "Missing argument 'B'"),
    ],
)
def test_mistakes_are_one_line(call, arguments, said):
    code, out, err = call(*arguments)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_help_needs_neither_torch_nor_ray():
    program = (
        "import sys\nimport farm.compare\nfrom farm.base.command_line import run\n"
        "run(farm.compare.app, 'x', ['--help'])\n"
        "assert not {'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules), 'slow'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
