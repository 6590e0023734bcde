"""What is typed or declared is what runs, or is refused: from the command line and from Python alike."""

import datetime
import itertools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import farm
from farm.base.errors import UserError
from farm.base.options import Options, parse_settings, spelled
from farm.base.search_space import Choice, Float, Int, Search, Sweep, Variant, When
from farm.data.door import load_panel
from farm.data.panel import Panel
from farm.data.simulate import simulate
from farm.plan import Plan, make_plan
from farm.space import SearchPlan
from farm.sweep import app, ask, load_sweep, read_source, resolve
from search_spaces.ablation import SWEEP as ABLATION

COMMON = {"study.name": "forecast", "study.features": "feat", "study.lookback": 5}
DECLARED: dict[str, Any] = {
    "title": "Two networks",
    "question": "Which [raw/ohlcv] of [/feat]?",
    "common": COMMON,
    "variants": (
        Variant(name="lstm", values={"model.name": "lstm"}),
        Variant(name="ridge", values={"model.name": "ridge"}),
    ),
    "baselines": (Variant(name="linear", values={"model.name": "linear"}),),
    "references": ("linear",),
    "tickers": ("AR",),
    "market": "MKT",
    "start": "2010-02-01",
    "end": "2012-12-31",
    "ranges": {"training.learning_rate": Float(1e-4, 1e-2, log=True), "model.hidden_size": Int(8, 64)},
    "quick": {"seeds": 1, "training.epochs": 3},
}
FILE = f"""from farm.base.search_space import Float, Int, Sweep, Variant

SWEEP = Sweep(**{DECLARED!r})
"""
MINE = Sweep(**DECLARED)


@pytest.fixture
def frame(ar1_panel: Panel) -> pd.DataFrame:
    return ar1_panel.frame()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame) -> Path:
    monkeypatch.chdir(tmp_path)
    frame.to_parquet(tmp_path / "mine.parquet")
    (tmp_path / "two.py").write_text(FILE)
    return tmp_path


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Plan, SearchPlan | None, Any]]:
    """`farm.run` up to what would be run."""

    class Resolved(Exception):
        pass

    def stop(*resolved: Any) -> None:
        raise Resolved(*resolved[:3])

    monkeypatch.setattr("farm.api.drive", stop)

    def run(sweep: Any, **options: Any) -> Any:
        try:
            farm.run(sweep, **options)
        except Resolved as resolved:
            return resolved.args
        raise AssertionError("nothing was resolved")

    return run


def complaint(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the command says to arguments that it refuses."""
    arguments = shlex.split(line)
    monkeypatch.setattr(sys, "argv", ["farm.sweep", *arguments])
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UserError), (line, done.exception, done.output)
    return str(done.exception)


def plan(panel: Panel, *settings: str, **options: Any) -> Plan:
    return make_plan("two", MINE, panel, Options(settings=parse_settings(settings), **options))


REFUSED: dict[str, list[Any]] = {
    "seeds": [-1, 0, True, 2.0, [0, 1], "3", 10**9, np.float64(2.0), np.bool_(True)],
    "epochs": [-1, 0, True, 2.0, 10**9],
    "samples": [-2, 0, True, 1.5, 10**9],
    "variants": [[], "", " , ", [""], [1], {"lstm"}, {"lstm": 1}, 3],
    "tickers": [[], "", " , ", [None], {"AR"}, 3],
    "peers": [[], ""],
    "samplers": [[], ""],
    "objectives": [[], ""],
    "market": [["MKT"], "", 3],
    "study": ["", 3],
    "quick": ["no", 1, None],
    "start": ["", "2012-02-30", "20120101", "2012-1-1", "1000-01-01", "9999-12-31", 2012, "yesterday"],
    "end": ["", "0001-01-01", "3016-12-30", pd.NaT],
    "settings": [
        {3: 4}, {"": 4}, [("a", 1)], "hidden_size=3", {"hidden_size": "8..x"}, {"hidden_size": "8...16"},
        {"hidden_size": object()}, {"hidden_size": [8]}, {"hiden_size": 8}, {"dropout": float("nan")},
        {"hidden_size": (16, 8)},
    ],
    "name": ["../../x", "a/b", "", "x[/y]", "/x", "x" * 300, "贵" * 100, "..", " a", "a\nb", 3, "~", "a\\b"],
    "data": [3, ["a"], {"a": 1}, np.zeros(3)],
    "surface": [3, pd.DataFrame()],
    "concurrency": [0, -1, True, 1.5, 10**9],
    "checkpoint_every": [-1, float("nan"), float("inf"), "30", True],
    "storage": ["", 3, None],
    "tracking_uri": ["", 3, None],
    "rerun": ["no", 1],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_python_refuses_what_is_no_option_in_one_line_that_names_it(name: str, folder: Path) -> None:
    before = set(folder.iterdir())
    for value in REFUSED[name]:
        given = {"data": "mine.parquet", "seeds": 1, name: value}
        with pytest.raises(UserError) as caught:
            farm.run(MINE, **given)
        text = str(caught.value)
        assert "\n" not in text
        assert f"{name}=" in text or "hid" in text or "dropout" in text or name == "settings", (value, text)
        assert "--" not in text, (value, text)
    assert set(folder.iterdir()) == before, "nothing is left by a mistake"


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("--seeds 0", {"seeds": 0}),
        ("--seeds -1", {"seeds": -1}),
        ("--seeds 10001", {"seeds": 10_001}),
        ("--epochs 0", {"epochs": 0}),
        ("--samples 0", {"samples": 0}),
        ("--samples -2", {"samples": -2}),
        ("--tickers ' , '", {"tickers": " , "}),
        ("--variants ''", {"variants": ""}),
        ("--market ''", {"market": ""}),
        ("--start 2012-02-30", {"start": "2012-02-30"}),
        ("--end 9999-12-31", {"end": "9999-12-31"}),
        ("--start 2012-01-02 --end 2011-01-03", {"start": "2012-01-02", "end": "2011-01-03"}),
        ("--concurrency 0", {"concurrency": 0}),
        ("--checkpoint-every -1", {"checkpoint_every": -1.0}),
        ("--checkpoint-every nan", {"checkpoint_every": float("nan")}),
        ("--storage ''", {"storage": ""}),
        ("--sampler tpe", {"samplers": "tpe"}),
        ("--objective val/rmse", {"objectives": ["val/rmse"]}),
        ("--study other", {"study": "other"}),
        ("--peers AR", {"peers": ["AR"]}),
        ("--surface x.npz", {"surface": "x.npz"}),
        ("--variants rigde", {"variants": ["rigde"]}),
        ("--tickers MKT", {"tickers": ["MKT"]}),
        ("--epochs 2 --set training.epochs=5", {"epochs": 2, "settings": {"training.epochs": 5}}),
        ("--epochs 2 --set epochs=5", {"epochs": 2, "settings": {"epochs": 5}}),
        (
            "--set hidden_size=16 --set model.hidden_size=32",
            {"settings": {"hidden_size": 16, "model.hidden_size": 32}},
        ),
        ("--set training.learning_rate=1e-4..1e-2", {"settings": {"training.learning_rate": (1e-4, 1e-2)}}),
    ],
)
def test_both_doors_refuse_alike(
    line: str, options: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = complaint(f"two.py --data mine.parquet {line}", monkeypatch)
    with pytest.raises(UserError) as caught:
        farm.run("two.py", data="mine.parquet", **options)
    given = str(caught.value)
    for name in (*options, *("study", "data", "surface", "market", "samples", "epochs", "start", "end")):
        typed = typed.replace(spelled("command line", name), spelled("Python", name))
    for key in options.get("settings", {}):
        typed = typed.replace(f"--set {key}", f"settings[{key!r}]").replace(
            f"settings= {key}", f"settings[{key!r}]"
        )
    assert typed == given


def test_numbers_of_numpy_texts_paths_and_dates_are_taken(folder: Path, python: Callable[..., Any]) -> None:
    plain = python("two.py", data="mine.parquet", seeds=2, settings={"hidden_size": 16, "dropout": 0.25})[0]
    odd, _, runtime = python(
        Path("two.py"),
        data=Path("mine.parquet"),
        seeds=np.int64(2),
        tickers="AR",
        variants=pd.Index(["lstm", "ridge"]),
        start=datetime.date(2010, 2, 1),
        end=pd.Timestamp("2012-12-31"),
        settings={"hidden_size": np.int32(16), "dropout": np.float64(0.25)},
        concurrency=np.int64(2),
        checkpoint_every=5,
        storage=Path("elsewhere"),
    )
    assert [t.signature for t in odd.trials] == [t.signature for t in plain.trials]
    assert runtime.root == str(folder / "elsewhere")
    assert python("two.py", data="mine.parquet", variants="ridge")[0].rows("variant") == ("ridge",)
    assert python(MINE, data="mine.parquet", name="own name-1.b")[0].name == "own name-1.b"
    assert python(MINE, data="mine.parquet")[0].name == "sweep"
    with pytest.raises(UserError, match="has its own name"):
        farm.run("two.py", name="mine", data="mine.parquet")


@pytest.mark.parametrize("layout", ["long", "wide", "indexed"])
def test_a_table_is_read_as_a_file_of_the_same_content(
    layout: str, folder: Path, frame: pd.DataFrame, python: Callable[..., Any]
) -> None:
    table = frame
    if layout == "wide":
        table = frame.pivot_table(index="date", columns="ticker").rename_axis(columns=["Price", "Ticker"])
    if layout == "indexed":
        table = frame.set_index(["date", "ticker"])
    before = table.copy(deep=True)
    of_file = python("two.py", data="mine.parquet")[0]
    of_table, _, runtime = python("two.py", data=table)
    assert [t.signature for t in of_table.trials] == [t.signature for t in of_file.trials]
    assert runtime.command == f"farm.run('two.py', data=<DataFrame of {len(table)} rows>)"
    pd.testing.assert_frame_equal(table, before)
    with pytest.raises(UserError, match="without rows"):
        farm.run("two.py", data=frame.iloc[:0])
    with pytest.raises(UserError, match=r"DataFrame: AR row 3: .*3016"):
        farm.run("two.py", data=frame.astype({"date": str}).replace({"date": {"2010-01-06": "3016-01-06"}}))


def drawn(made: Plan, key: str) -> set[Any]:
    """The values of a key over a plan's variants that have it."""
    found = set()
    for trial in made.trials:
        value: Any = trial.config
        for part in key.split("."):
            value = getattr(value, part, None)
        if trial.role == "variant" and value is not None:
            found.add(value)
    return found


# What a setting can stand beside: every option that decides the same key, a range, the small version.
@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("samples", [None, 2])
@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("training.learning_rate=0.05", "training.learning_rate", 0.05),
        ("learning_rate=0.05", "training.learning_rate", 0.05),
        ("hidden_size=7", "model.hidden_size", 7),
        ("model.hidden_size=7", "model.hidden_size", 7),
        ("epochs=9", "training.epochs", 9),
        ("dropout=0.125", "model.dropout", 0.125),
    ],
)
def test_what_is_typed_is_what_runs(
    text: str, key: str, value: Any, samples: int | None, small: bool, ar1_panel: Panel
) -> None:
    made = plan(ar1_panel, text, samples=samples, quick=small)
    assert drawn(made, key) == {value}


def test_a_value_fixes_what_the_sweep_has_a_range_for(ar1_panel: Panel) -> None:
    for bad in ("banana", "1e-4-1e-2", "1e-4…1e-2", "-3"):
        with pytest.raises(UserError, match=r"learning_rate: got .*, expected"):
            plan(ar1_panel, f"training.learning_rate={bad}", samples=2)
    with pytest.raises(UserError, match="nothing is left to draw"):
        plan(ar1_panel, "learning_rate=0.01", "hidden_size=8", samples=2)
    with pytest.raises(UserError, match="ranges to draw from"):
        plan(ar1_panel, variants=("ridge",), samples=2)
    with pytest.raises(UserError, match="no variant has this key"):
        plan(ar1_panel, "lags=1..3", samples=2)
    within = drawn(plan(ar1_panel, "learning_rate=1e-3..2e-3", samples=3), "training.learning_rate")
    assert len(within) == 3
    assert all(1e-3 <= rate <= 2e-3 for rate in within)
    pair = Options(settings={"training.learning_rate": (1e-3, 2e-3)}, samples=3)
    assert drawn(make_plan("two", MINE, ar1_panel, pair), "training.learning_rate") == within


def test_a_range_is_drawn_from_for_the_variants_that_take_it() -> None:
    name, declared = load_sweep("probabilistic")
    made = make_plan(name, declared, load_panel(), Options(quick=True, samples=2))
    tails = {trial.row: trial.config.model_dump()["model"].get("tail_weight") for trial in made.trials}
    by_row = {row.rsplit(" sample", 1)[0] for row, tail in tails.items() if tail not in (None, 1.0)}
    assert by_row, "some rows draw it"
    assert by_row < {row.name for row in declared.variants}, "and rows of another head do not"


SAME = (
    "hidden_size=16",
    "model.hidden_size=32",
    "hidden_size=8..9",
    "model.hidden_size=8..16",
    "hidden_size=x",
)


@pytest.mark.parametrize(("one", "other"), itertools.permutations(SAME, 2))
def test_two_values_of_one_key_are_refused(one: str, other: str, ar1_panel: Panel) -> None:
    with pytest.raises(UserError, match="decide the same") as caught:
        plan(ar1_panel, one, other, samples=2)
    assert "hidden_size" in str(caught.value)


def test_one_value_twice_is_one_value(ar1_panel: Panel) -> None:
    twice = plan(ar1_panel, "hidden_size=16", "model.hidden_size=16", "hidden_size=16")
    assert drawn(twice, "model.hidden_size") == {16}
    both = make_plan("two", MINE, ar1_panel, Options(epochs=4, settings={"epochs": 4}))
    assert drawn(both, "training.epochs") == {4}


def searching(**changes: Any) -> Sweep:
    search = Search(
        variant="lstm",
        ranges={
            "training.learning_rate": Float(1e-4, 1e-2, log=True),
            "model.hidden_size": Int(8, 64),
        },
        objectives=("val/rmse",),
    )
    return Sweep(**{**DECLARED, "ranges": {}, "search": search, **changes})


def search_of(panel: Panel, declared: Sweep, *settings: str, **options: Any) -> tuple[Plan, SearchPlan]:
    made, search = resolve("s", declared, panel, ask(settings=list(settings), **options))
    assert search is not None
    return made, search


def test_a_search_runs_what_is_typed(ar1_panel: Panel) -> None:
    made, search = search_of(ar1_panel, searching(), "hidden_size=7")
    assert [parameter.key for parameter in search.space.parameters] == ["training.learning_rate"]
    assert drawn(made, "model.hidden_size") == {7}
    (trial,) = search.space.trials("row", {"training.learning_rate": 0.001})
    assert trial.config.model_dump()["model"]["hidden_size"] == 7
    _, search = search_of(ar1_panel, searching(), "learning_rate=1e-3..2e-3", samples=5)
    assert (search.samples, str(search.space.parameters[0].range)) == (5, "0.001..0.002, log")
    pair = Options(settings={"learning_rate": (1e-3, 2e-3)})
    _, by_pair = resolve("s", searching(), ar1_panel, pair)
    assert by_pair is not None
    assert by_pair.space.parameters[0] == search.space.parameters[0]
    for bad, expected in (
        (("hidden_size=7", "model.hidden_size=9"), "decide the same"),
        (("hidden_size=7", "model.hidden_size=8..9"), "decide the same"),
        (("learning_rate=banana",), "got 'banana'"),
        (("hidden_size=7", "learning_rate=0.1"), "fixes every key"),
    ):
        with pytest.raises(UserError, match=expected):
            search_of(ar1_panel, searching(), *bad)
    models = Search(
        variant="lstm",
        ranges={
            "model.name": Choice(("lstm", "transformer")),
            "training.learning_rate": Float(1e-4, 1e-2),
            "model.hidden_size": When("model.name", ("lstm",), Int(8, 64)),
        },
        objectives=("val/rmse",),
    )
    with pytest.raises(UserError, match="does not reach them all"):
        search_of(ar1_panel, searching(search=models), "hidden_size=7")


# Each field of what is declared or asked, at a value that is not its own. A new field must be added here.
ABSURD: dict[str, Any] = {
    "common": {**COMMON, "study.lookback": 7},
    "variants": MINE.variants[:1],
    "baselines": (*MINE.baselines, Variant(name="zero", values={"model.name": "zero"})),
    "references": ("nobody",),
    "replicate": "surfaces",
    "tickers": ("ZZZ",),
    "market": "ZZZ",
    "peers": ("ZZZ",),
    "panel": "ZZZ",
    "panel_days": ("2014-01-02", None),
    "start": "2025-01-01",
    "end": "1900-01-01",
    "seeds": 17,
    "quick": {"epochs": 3},
    "ranges": {"model.nothing": Float(0, 1)},
    "search": Search(variant="nobody", ranges={"model.dropout": Float(0, 1)}, objectives=("val/rmse",)),
}
WORDS_OR_PLACES = {"title", "question", "resources"}  # decide no trial


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("field", sorted(set(Sweep.model_fields) - WORDS_OR_PLACES))
def test_what_a_sweep_declares_is_used_or_refused(
    field: str, own: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`own`: with data of one's own, and without."""
    if own and field == "panel_days":
        return  # of the bundled table, which is not read then
    declared = dict(DECLARED) if own else {**DECLARED, "tickers": ("AAPL",), "market": "SP500"}
    declared |= {} if own else {"start": "2013-01-02", "end": "2016-12-30"}
    data = Path("mine.parquet") if own else None

    def made(fields: dict[str, Any]) -> tuple[list[str], tuple[str, ...]]:
        sweep = Sweep(**fields)
        found, _ = resolve("two", sweep, read_source(sweep, data), Options())
        return [f"{trial.row} {trial.signature}" for trial in found.trials], found.notes

    before = made(declared)
    try:
        after = made({**declared, field: ABSURD[field]})
    except UserError:
        return
    assert after != before, f"{field} is declared and not read"


SEARCH_FIELDS = {
    "variant": "nobody",
    "ranges": {"model.dropout": Float(0, 0.5)},
    "objectives": ("val/mae",),
    "stopped_on": "val/nothing",
    "samplers": ("nobody",),
    "samples": 3,
    "top": 17,
}


@pytest.mark.parametrize("field", Search.model_fields)
def test_what_a_search_declares_is_used_or_refused(field: str, ar1_panel: Panel) -> None:
    base = searching().search
    assert base is not None

    def made(**changes: Any) -> str:
        search = Search(**{**dict(base), **changes})
        _, found = search_of(ar1_panel, searching(search=search))
        return repr(
            (found.space.digest, found.variant, found.objectives, found.samplers, found.samples, found.top)
        )

    try:
        after = made(**{field: SEARCH_FIELDS[field]})
    except UserError:
        return
    assert after != made(), f"{field} is declared and not read"


ASKED = {
    "name": "other",
    "quick": True,
    "tickers": "ZZZ",
    "market": "ZZZ",
    "peers": "ZZZ",
    "start": "2011-01-03",
    "end": "2011-12-30",
    "seeds": 17,
    "epochs": 17,
    "variants": "ridge",
    "settings": {"hidden_size": 17},
    "samples": 2,
    "study": "other",
    "samplers": "random",
    "objectives": "val/mae",
}


@pytest.mark.parametrize("sweep", ["two.py", "declared"])
@pytest.mark.parametrize("field", sorted(set(Options.model_fields) - {"door"}))
def test_what_is_asked_is_used_or_refused(
    field: str, sweep: str, folder: Path, python: Callable[..., Any]
) -> None:
    what = MINE if sweep == "declared" else sweep
    name_of_file = field == "name" and sweep != "declared"
    before = python(what, data="mine.parquet")[0]
    try:
        after = python(what, data="mine.parquet", **{field: ASKED[field]})[0]
    except UserError:
        refused = True
    else:
        refused = False
        assert after.signature != before.signature, f"{field} is asked and not read"
    assert refused == (
        field in {"market", "peers", "study", "samplers", "objectives", "tickers"} or name_of_file
    )


def days_of(made: Plan) -> tuple[str, str]:
    assert isinstance(made.source, Panel)
    dates = made.source.bars["AR"].dates
    return str(dates[0]), str(dates[-1])


def test_declared_days_and_tickers_hold_for_data_of_ones_own(ar1_panel: Panel) -> None:
    made = make_plan("two", MINE, ar1_panel, Options())
    assert days_of(made) == ("2010-02-01", "2012-12-31")
    assert made.notes == (
        "days: from 2010-02-01 to 2012-12-31, as the sweep declares, of synthetic: --start and --end choose"
        " others",
    )
    asked = make_plan("two", MINE, ar1_panel, Options(start="2011-01-03", end="2012-06-29"))
    assert (days_of(asked), asked.notes) == (("2011-01-03", "2012-06-29"), ())
    for start, end, expected in (
        ("2026-01-01", None, "expected them in order"),
        ("2012-12-20", None, "shares 8 days"),
    ):
        with pytest.raises(UserError, match=expected):
            make_plan("two", MINE, ar1_panel, Options(start=start, end=end))
    whole = MINE.model_copy(update={"start": None, "end": None})
    with pytest.raises(UserError, match="has no day from 2026-01-01"):
        make_plan("two", whole, ar1_panel, Options(start="2026-01-01"))
    bars = {**ar1_panel.bars, "MORE": ar1_panel.bars["AR"]}
    more = make_plan("two", MINE, Panel(bars, "more.csv"), Options())
    assert {trial.ticker for trial in more.trials} == {"AR"}
    assert more.notes[0] == (
        "tickers: the 1 that the sweep declares, of 2 in more.csv: --tickers chooses others"
    )
    other = Panel({"MORE": bars["AR"], "MKT": bars["MKT"]}, "other.csv")
    lacking = make_plan("two", MINE, other, Options())
    assert {trial.ticker for trial in lacking.trials} == {"MORE"}
    assert lacking.notes[0] == (
        "tickers: all 1 of other.csv, which lacks AR of those that the sweep declares: --tickers chooses some"
    )
    with pytest.raises(UserError, match="unknown ticker 'AR' in bundled"):
        make_plan("two", MINE, Panel(other.bars, "bundled"), Options())


def test_the_farms_own_sweeps_read_data_of_ones_own_whole_and_say_so(ar1_panel: Panel) -> None:
    made = make_plan(
        "ablation", ABLATION, ar1_panel, Options(market="MKT", quick=True, variants=("LSTM-Raw",))
    )
    assert days_of(made) == tuple(str(ar1_panel.bars["AR"].dates[i]) for i in (0, -1))
    assert made.notes == (
        "tickers: all 1 of synthetic, which lacks AAPL, MSFT of those that the sweep declares:"
        " --tickers chooses some",
        "days: all of synthetic, since 2013-01-02 to 2020-11-20 are those of the bundled table:"
        " --start and --end choose others",
    )
    bundled = make_plan("ablation", ABLATION, load_panel(), Options(quick=True, variants=("LSTM-Raw",)))
    assert isinstance(bundled.source, Panel)
    assert [str(bundled.source.bars["AAPL"].dates[i]) for i in (0, -1)] == ["2013-01-02", "2020-11-20"]
    assert bundled.notes == ()
    later = make_plan(
        "ablation", ABLATION, load_panel(), Options(quick=True, start="2016-01-04", end="2019-12-31")
    )
    assert isinstance(later.source, Panel)
    assert [str(later.source.bars["AAPL"].dates[i]) for i in (0, -1)] == ["2016-01-04", "2019-12-31"]


def test_days_hold_for_surfaces() -> None:
    name, declared = load_sweep("surface")
    surfaces = simulate().surfaces
    first, last = str(surfaces.dates[100]), str(surfaces.dates[-50])
    one = make_plan(name, declared, surfaces, Options(quick=True, start=first, end=last))
    by_sweep = declared.model_copy(update={"start": first, "end": last})
    other = make_plan(name, by_sweep, surfaces, Options(quick=True))
    whole = make_plan(name, declared, surfaces, Options(quick=True))
    assert len(one.source) == len(surfaces) - 149  # type: ignore[arg-type]
    assert one.signature == other.signature != whole.signature
    with pytest.raises(UserError, match="simulated has no day from 1900-01-01"):
        make_plan(name, declared, surfaces, Options(start="1900-01-01", end="1900-12-31"))


def test_a_file_called_bundled_is_ones_own(folder: Path) -> None:
    (folder / "mine.parquet").rename(folder / "bundled")
    made = make_plan("two", ABLATION, load_panel(Path("bundled")), Options(market="MKT"))
    assert {trial.ticker for trial in made.trials} == {"AR"}


def test_declarations_with_what_is_never_read_are_refused() -> None:
    for changes, expected in (
        ({"start": "2013-01-02", "end": "2012-01-02"}, "after the last one"),
        ({"quick": {"samples": 3}}, "without a search"),
        ({"search": searching().search}, "ranges of its own"),
    ):
        with pytest.raises(UserError, match=expected):
            Sweep(**{**DECLARED, **changes})


def test_brackets_are_shown_as_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farm.sweep import _list_sweeps, plain_or_terminal

    titled = MINE.model_copy(update={"title": "Is [raw] better than [/feat]?"})
    monkeypatch.setattr("farm.sweep.sweeps", lambda: {"mine": titled})
    console = plain_or_terminal()
    with console.capture() as shown:
        _list_sweeps(console)
    assert "Is [raw] better than [/feat]?" in shown.get()


@pytest.mark.parametrize("command", ["compare", "generate", "latent_space", "sweep", "publish"])
def test_every_command_reads_where_results_are_kept(command: str) -> None:
    from importlib import import_module

    from typer.main import get_command

    module = import_module(f"farm.{command}")
    storage = next(p for p in get_command(module.app).params if p.name == "storage")
    assert storage.envvar == "FARM_STORAGE"
