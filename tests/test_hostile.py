"""Whatever is given: what was asked for, or one line; never another error, never a long wait.

`make fuzz` gives these tests ten thousand examples, the suite a few.
"""

import contextlib
import json
import os
import string
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from farm.base.config import canonical_json
from farm.base.errors import UserError
from farm.base.search_space import Sweep, Variant
from farm.data.door import load_panel
from farm.data.panel import Panel
from farm.data.surface import read_surfaces
from farm.plan import Options, make_plan, parse_setting
from farm.store import Store
from farm.sweep import load_sweep
from farm.training.checkpoint import Checkpoint

FUZZ = settings(
    max_examples=int(os.environ.get("FARM_FUZZ_EXAMPLES", "25")),
    deadline=timedelta(seconds=15),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Damage = Callable[[bytes], bytes]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Cut a piece out, put one in, or both, at any place; or several times."""
    cuts = draw(
        st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=3)
    )

    def damage(content: bytes) -> bytes:
        for place, length, new in cuts:
            at = int(place * len(content))
            content = content[:at] + new + content[at + length :]
        return content

    return damage


def one_line(error: UserError) -> None:
    text = str(error)
    assert text.strip()
    assert len(text.splitlines()) == 1
    assert len(text) < 3000


def complains_or(make: Callable[[], Any]) -> Any:
    """Give what is made, or None and the complaint is one line."""
    try:
        return make()
    except UserError as error:
        one_line(error)
        return None


# ---------------------------------------------------------------- --set and sweep files

FIELDS = st.sampled_from(
    [
        "hidden_size", "model.hidden_size", "training.epochs", "training.learning_rate", "lookback", "lags",
        "study.features", "study.split.train", "model", "study", "training", "study.split", "model.name",
        "study.name", "study.split.name", "curriculum", "seed", "study.ticker",
    ]
) | st.text(max_size=12)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["lstm", "ridge", "feat", "walk_forward", "forecast", "backfill"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=6,
)
SETTINGS = st.builds(
    lambda key, value: f"{key}={value}",
    FIELDS,
    VALUES.map(json.dumps)
    | st.text(max_size=30)
    | st.builds("{}..{}".format, st.floats(), st.floats())
    | st.sampled_from(["1e999", "-0", "9" * 5000, "[" * 3000, "NaN", "1..", "..", "\x00", "\ud800"]),
)


@pytest.fixture(scope="module")
def bundled() -> Panel:
    return load_panel()


@FUZZ
@given(texts=st.lists(SETTINGS, max_size=2))
@example(texts=["hidden_size=" + "9" * 5000])
@example(texts=["hidden_size=1e400"])
def test_settings(texts: list[str], bundled: Panel) -> None:
    def plan() -> Any:
        told = dict(parse_setting(text) for text in texts)
        return make_plan(
            *load_sweep("ablation"), bundled, Options(quick=True, tickers=("AAPL",), settings=told)
        )

    made = complains_or(plan)
    assert made is None or made.trials


DECLARED = """from farm.base.search_space import Float, Sweep, Variant

SWEEP = Sweep(
    title="mine",
    question="Which?",
    common={"study.name": "forecast", "study.features": "raw"},
    variants=(
        Variant(name="a", values={"model.name": "lstm"}),
        Variant(name="b", values={"model.name": "ridge"}),
    ),
    baselines=(Variant(name="linear", values={"model.name": "linear"}),),
    references=("linear",),
    tickers=("AAPL", "MSFT"),
    market="SP500",
    seeds=2,
    quick={"seeds": 1, "training.epochs": 1},
    ranges={"training.learning_rate": Float(1e-4, 1e-2, log=True)},
)
"""
# What replaces a piece of it: no text that could do harm when it is run as Python.
TOKENS = st.sampled_from(
    [
        "", '"', "'", "(", ")", "{", "}", ",", "=", "None", "0", "-1", "1e999", "[]", "Float", "name",
        "\n", "\t", "\x00", "#", "SWEEP", '"model.name"', '"lstm"', '"garch"', "\ud800", "é", "...", "1 / 0",
        "Sweep", "lambda: 0", "exit(1)",
    ]
)  # fmt: skip


@FUZZ
@given(data=st.data())
def test_sweep_files(data: st.DataObject, bundled: Panel, tmp_path: Path) -> None:
    text = DECLARED
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(TOKENS) + text[at + data.draw(st.integers(0, 12)) :]
    path = tmp_path / "mine.py"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))

    def plan() -> Any:
        with contextlib.redirect_stdout(None):
            name, sweep = load_sweep(str(path))
        return make_plan(name, sweep, bundled, Options(quick=True))

    made = complains_or(plan)
    assert made is None or made.name == "mine"


@FUZZ
@given(
    common=st.dictionaries(FIELDS, VALUES, max_size=2),
    values=st.dictionaries(FIELDS, VALUES, max_size=3),
    quick=st.dictionaries(FIELDS | st.sampled_from(["tickers", "seeds"]), VALUES, max_size=2),
    with_setting=st.booleans(),
)
def test_values_of_sweeps(
    common: dict[str, Any],
    values: dict[str, Any],
    quick: dict[str, Any],
    with_setting: bool,
    bundled: Panel,
) -> None:
    def plan() -> Any:
        sweep = Sweep(
            title="mine",
            question="Which?",
            common={"study.name": "forecast", "study.features": "raw", **common},
            variants=(Variant(name="a", values={"model.name": "lstm", **values}),),
            baselines=(Variant(name="linear", values={"model.name": "linear"}),),
            references=("linear",),
            tickers=("AAPL",),
            market="SP500",
            quick=quick,
        )
        told = {"lookback": 7} if with_setting else {}
        return make_plan("mine", sweep, bundled, Options(quick=True, settings=told))

    made = complains_or(plan)
    assert made is None or made.trials


@FUZZ
@given(
    name=st.text(max_size=40) | st.text(string.ascii_letters + "./\\~%$ ", max_size=40).map("{}.py".format)
)
def test_names_of_sweeps(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = complains_or(lambda: load_sweep(name))
    assert made is None or Path(made[0]).name == made[0]


# ---------------------------------------------------------------- panels and surfaces


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("panels")
    days = pd.date_range("2020-01-01", periods=30).strftime("%Y-%m-%d")
    bars = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0}
    frame = pd.concat(pd.DataFrame({"date": days, "ticker": ticker, **bars}) for ticker in ("A", "B"))
    frame.to_parquet(folder / "p.parquet", index=False)
    frame.to_csv(folder / "p.csv", index=False)
    frame.to_csv(folder / "p.csv.gz", index=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@FUZZ
@given(name=st.sampled_from(["p.parquet", "p.csv", "p.csv.gz"]), damage=damages())
def test_panels(name: str, damage: Damage, panels: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(damage(panels[name]))
    panel = complains_or(lambda: load_panel(path))
    if panel is not None:
        for ticker, bars in panel.bars.items():
            assert "/" not in ticker
            assert np.isfinite(bars.values).all()


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("surfaces")
    rng = np.random.default_rng(0)
    days = pd.date_range("2020-01-01", periods=8).strftime("%Y-%m-%d").to_numpy(dtype=str)
    iv = rng.uniform(0.1, 0.4, (8, 5, 5))
    np.savez(folder / "s.npz", surface=iv, dates=days, ret=rng.normal(0, 0.01, 8))
    np.savez_compressed(folder / "c.npz", surface=iv, dates=days, ret=rng.normal(0, 0.01, 8))
    index = pd.MultiIndex.from_product(
        [days, (1 / 12, 0.25, 0.5, 1, 2), (0.7, 0.85, 1, 1.15, 1.3)], names=["date", "maturity", "moneyness"]
    )
    long = pd.DataFrame({"iv": iv.ravel()}, index=index).reset_index()
    long["ret"] = 0.01
    long.to_parquet(folder / "s.parquet", index=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@FUZZ
@given(name=st.sampled_from(["s.npz", "c.npz", "s.parquet"]), damage=damages())
def test_surfaces(name: str, damage: Damage, surfaces: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(surfaces[name])
    assert len(read_surfaces(path)) >= 7, "the file is good before it is damaged"
    path.write_bytes(damage(surfaces[name]))
    found = complains_or(lambda: read_surfaces(path))
    assert found is None or np.isfinite(found.iv).all()


# ---------------------------------------------------------------- checkpoints and the store


@FUZZ
@given(damage=damages())
def test_checkpoints(damage: Damage) -> None:
    whole = Checkpoint({"w": torch.arange(6.0), "n": torch.tensor(3)}, {"epochs": [{"epoch": 1}], "best": 1})
    content = whole.to_bytes()
    try:
        read = Checkpoint.from_bytes(damage(content))
    except ValueError:
        return
    assert canonical_json(read.record) == canonical_json(whole.record)
    assert all(torch.equal(read.tensors[name], value) for name, value in whole.tensors.items())


@FUZZ
@given(file=st.sampled_from(["forecast.safetensors", "model.safetensors", "result.json"]), damage=damages())
def test_the_store(file: str, damage: Damage, finished, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store")).open()
    store.put("abc", *finished)
    before = store.get("abc")
    path = tmp_path / "store" / "trials" / "abc" / file
    content = path.read_bytes()
    path.write_bytes(damage(content))
    after = store.get("abc")
    assert before is not None
    if path.read_bytes() == content:
        assert after is not None
    else:
        assert after is None
