import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farm.base.errors import UserError
from farm.base.types import Forecast
from farm.evaluation.scores import Evaluation, Scores
from farm.experiment import TrialConfig
from farm.store import FORECAST, MODEL, RECORD, SCORES, Store, sealed, shares_of_warnings, unsealed


def test_gives_back_what_was_put(finished, tmp_path: Path) -> None:
    config, result = finished
    store = Store(str(tmp_path / "store")).open()
    assert store.get("abc") is None
    store.put("abc", config, result)
    record = store.get("abc")
    assert record is not None
    assert record.metrics == result.metrics
    assert TrialConfig.model_validate(record.config | {"study": config.study}) == config
    frame = record.forecast()
    forecast = result.evaluation.test.forecasts[""]
    np.testing.assert_array_equal(frame["predicted"], forecast.point)
    np.testing.assert_array_equal(frame["actual"], result.evaluation.test.actual)
    np.testing.assert_array_equal(
        frame[["q01", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99"]].to_numpy(), forecast.quantiles
    )
    np.testing.assert_array_equal(
        frame["date"].to_numpy().astype("datetime64[D]"), result.evaluation.test.times
    )
    state = store.model_state("abc")
    assert set(state) == set(result.state)
    assert all(np.array_equal(state[name], result.state[name]) for name in state)


def test_a_warning_says_how_many_trials_and_how_far_a_look_ahead_moves_them(finished, tmp_path: Path) -> None:
    config, result = finished
    store = Store(str(tmp_path)).open()
    records = []
    for i, moved in enumerate((0.0, 2e-4, 3.14159e-3)):
        tags = {"sees the future": "...", "latent collapsed": "..."} if moved else {}
        seen = {"probe/causality/targets": 0.0, "probe/causality/future": moved}
        scores = {**result.scores, "probes": Scores(1, seen, {}, tags)}
        store.put(f"t{i}", config, replace(result, scores=scores))
        records.append(store.get(f"t{i}"))
    assert shares_of_warnings(records) == {
        "sees the future": "2/3 (moved by 0.0031)", "latent collapsed": "2/3"
    }  # fmt: skip


def test_holds_several_evaluations(finished, tmp_path: Path) -> None:
    config, result = finished
    test = result.evaluation.test
    doubled = replace(test, forecasts={"": test.forecasts[""], "s1": Forecast(point=test.actual)})
    store = Store(str(tmp_path)).open()
    store.put("abc", config, replace(result, evaluation=Evaluation({"test": doubled})))
    record = store.get("abc")
    assert record is not None
    np.testing.assert_array_equal(record.forecast("s1")["predicted"], result.evaluation.test.actual)
    assert "q05" not in record.forecast("s1")


def test_keeps_what_each_sample_is_about(finished, tmp_path: Path) -> None:
    config, result = finished
    items = tuple(["b", "a", "c"][i % 3] for i in range(len(result.evaluation.test.actual)))
    store = Store(str(tmp_path)).open()
    block = replace(result.evaluation.test, items=items)
    store.put("abc", config, replace(result, evaluation=Evaluation({"test": block})))
    record = store.get("abc")
    assert record is not None
    assert tuple(record.forecast()["item"]) == items
    with pytest.raises(ValueError, match="2 items"):
        replace(block, items=("a", "b"))


@pytest.mark.parametrize("name", [FORECAST, MODEL, RECORD])
@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "flipped"])
def test_a_torn_trial_is_no_trial(finished, tmp_path: Path, name: str, damage: str) -> None:
    store = Store(str(tmp_path)).open()
    store.put("abc", *finished)
    path = tmp_path / "trials" / "abc" / name
    content = bytearray(path.read_bytes())
    if damage == "absent":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[3 if name == RECORD else len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    assert store.get("abc") is None
    store.put("abc", *finished)
    assert store.get("abc") is not None


def test_leaves_nothing_beside_its_files(finished, tmp_path: Path) -> None:
    store = Store(str(tmp_path)).open()
    store.put("abc", *finished)
    store.put("abc", *finished)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["format", *sorted(f"trials/abc/{name}" for name in (FORECAST, MODEL, RECORD, SCORES))]


def test_an_unusable_root_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), "nowhere://x"):
        with pytest.raises(UserError, match="cannot be used") as caught:
            Store(root).open()
        assert "\n" not in str(caught.value)


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert Store(str(tmp_path / "absent")).get("abc") is None
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"files": []}'])
def test_a_file_that_is_no_record_is_no_trial(finished, tmp_path: Path, content: str) -> None:
    store = Store(str(tmp_path)).open()
    store.put("abc", *finished)
    (tmp_path / "trials" / "abc" / RECORD).write_text(content)
    assert store.get("abc") is None
    assert store.configs() == {}


@pytest.mark.parametrize("record", [{}, {"files": []}, {"files": {}, "history": 3}])
def test_a_record_of_something_else_is_no_trial(finished, tmp_path: Path, record: dict[str, object]) -> None:
    store = Store(str(tmp_path)).open()
    store.put("abc", *finished)
    (tmp_path / "trials" / "abc" / RECORD).write_bytes(sealed(record))
    assert store.get("abc") is None


def test_a_record_is_json_and_any_change_of_it_is_seen(finished, tmp_path: Path) -> None:
    store = Store(str(tmp_path)).open()
    store.put("abc", *finished)
    path = tmp_path / "trials" / "abc" / RECORD
    content = path.read_bytes()
    read = json.loads(content)
    assert len(read.pop("sha256")) == 64
    assert read == unsealed(content)
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert store.get("abc") is None, at


def test_lists_the_configs_of_finished_trials_alone(finished, tmp_path: Path) -> None:
    config, result = finished
    store = Store(str(tmp_path / "store"))
    assert store.configs() == {}
    for signature in ("abc", "def", "torn"):
        store.put(signature, config, result)
    torn = tmp_path / "store" / "trials" / "torn" / RECORD
    torn.write_bytes(torn.read_bytes()[:50])
    assert store.configs() == {name: config.model_dump(mode="json") for name in ("abc", "def")}


def test_keeps_why_a_trial_failed_until_it_finishes(finished, tmp_path: Path) -> None:
    config, result = finished
    store = Store(str(tmp_path)).open()
    assert store.failure("abc") is None
    store.put_failure("abc", "the loss diverged")
    store.put_failure("abc", "the worker died")
    assert store.failure("abc") == "the worker died"
    assert store.get("abc") is None
    assert store.configs() == {}
    store.put("abc", config, result)
    assert store.failure("abc") is None


def test_says_what_code_a_result_comes_from(finished, tmp_path: Path) -> None:
    store = Store(str(tmp_path)).open()
    store.put("abc", *finished)
    record = store.get("abc")
    assert record is not None
    assert {"revision", "lock", "python", "torch"} <= set(record.origin)
    assert len(record.origin["lock"]) == 16
