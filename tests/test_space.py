"""What a search may try."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from farm.base.errors import UserError
from farm.base.search_space import Choice, Float, Int, When
from farm.plan import parse_setting
from farm.space import Objective, make_space, parse_objective
from farm.tuning.studies import distribution
from tests.tuning import bowl

RANGES = {
    "model.x": Float(-1.0, 1.0),
    "model.kind": Choice(("flat", "deep")),
    "model.depth": When("model.kind", ("deep",), Int(1, 9)),
    "model.weights.1": Float(0.5, 5.0, log=True),
}


def space(settings: tuple[str, ...] = (), **ranges):
    made = bowl.plan(ranges={**RANGES, **ranges})
    return make_space(made, dict(parse_setting(text) for text in settings))


SPACE = space()


def test_optuna_draws_on_the_scale_of_a_range() -> None:
    for log in (False, True):
        assert distribution(Float(0.5, 5.0, log)) == FloatDistribution(0.5, 5.0, log=log)
        assert distribution(Int(1, 9, log)) == IntDistribution(1, 9, log=log)


@given(x=st.floats(-1, 1), deep=st.booleans(), depth=st.integers(1, 9), weight=st.floats(0.5, 5))
def test_a_config_is_made_of_values_and_gives_them_back(x, deep, depth, weight) -> None:
    answers = {
        "model.x": x,
        "model.kind": "deep" if deep else "flat",
        "model.depth": depth,
        "model.weights.1": weight,
    }
    values = SPACE.draw(lambda key, _: answers[key])
    assert set(values) == set(answers) - (set() if deep else {"model.depth"})
    (trial,) = SPACE.trials("row", values)
    model = trial.config.model
    assert (model.x, model.kind, model.weights) == (x, answers["model.kind"], (1.0, weight))
    assert model.depth == (depth if deep else 1), "a key that does not exist keeps the base's value"
    stored = json.loads(json.dumps(trial.config.model_dump(mode="json")))
    assert SPACE.values_of(stored) == values


@pytest.mark.parametrize(
    "change",
    [
        {"x": 1.5},  # out of the range
        {"kind": "flat", "depth": 5},  # a key that does not exist has another value than the base
        {"fails_above": 0.0},  # what is not searched differs
        {"weights": [2.0, 1.0]},
        {"weights": [1.0]},
    ],
)
def test_a_stored_config_of_another_space_is_refused(change: dict) -> None:
    (trial,) = SPACE.trials("row", {"model.x": 0.0, "model.kind": "deep", "model.depth": 5})
    stored = json.loads(trial.config.model_dump_json())
    assert SPACE.values_of(stored) is not None
    stored["model"] |= change
    assert SPACE.values_of(stored) is None
    stored["model"] = {"name": "zero"}
    assert SPACE.values_of(stored) is None


def test_the_user_narrows_adds_and_fixes() -> None:
    made = space(("x=0..0.5", "weights.1=1..2", "model.depth=2..3"))
    ranges = {p.key: (p.range, p.given) for p in made.parameters}
    assert ranges["model.x"] == (Float(0.0, 0.5), None)
    assert ranges["model.weights.1"] == (Float(1.0, 2.0, log=True), None), "the scale stays"
    assert ranges["model.depth"] == (Int(2, 3), ("model.kind", ("deep",))), "and so does the condition"
    added = space(("fails_above=0..1",))
    assert added.parameters[-1].key == "model.fails_above"
    fixed = space(("x=0.25",))
    assert "model.x" not in [p.key for p in fixed.parameters]
    assert len({SPACE.digest, made.digest, added.digest, fixed.digest}) == 4
    assert SPACE.digest == space().digest


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ({"model.xx": Float(0, 1)}, "unknown key: did you mean 'model.x'"),
        ({"model.x": Float(0, 3)}, "expected a range within -1.0..1.0"),
        ({"model.x": Choice((0.0, 2.0))}, "unknown option 2.0"),
        ({"model.kind": Float(0, 1)}, "expected a choice of flat, deep"),
        ({"model.depth": Float(1, 3)}, "expected whole numbers within 1..9"),
        ({"model.kind": Choice(("flat", "dep"))}, "unknown option 'dep': did you mean 'deep'"),
        ({"model.weights": Float(1, 2)}, "declares no range to search"),
        ({"model.weights.2": Float(1, 2)}, "no such place"),
        ({"study.lookback": Int(1, 3)}, "decide the days that are scored"),
        ({"seed": Int(1, 3)}, "unknown key"),
        ({"model.depth": When("model.king", ("deep",), Int(1, 9))}, "expected a key that is searched before"),
        ({"model.depth": When("model.kind", ("steep",), Int(1, 9))}, "over these values among others"),
    ],
)
def test_a_bad_declaration_ends_in_one_line(ranges: dict, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        make_space(bowl.plan(ranges={"model.kind": Choice(("flat", "deep")), **ranges}), {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("y=0..1",), "unknown key 'y'"),
        (("x=0..9",), "expected a range within -1.0..1.0"),
        (("depth=1.5..3",), "expected whole numbers"),
        (("name=a",), "unknown key 'name'"),
        (("lookback=2..5",), "decide the test days"),
        (("features=1..2",), "decide the test days"),
        (("x=0", "kind=deep", "depth=3", "weights.1=1"), "fixes every key"),
    ],
)
def test_bad_settings_end_in_one_line(settings: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        space(settings)
    assert "\n" not in str(caught.value)


def test_a_range_upside_down_is_refused() -> None:
    with pytest.raises(UserError, match="expected the low end below the high"):
        space(("x=0.5..0",))


def test_a_sweep_says_where_its_search_sets_out_from() -> None:
    with pytest.raises(UserError, match="the search sets out from 'bowls'"):
        bowl.sweep(variant="bowls", ranges=RANGES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("val/rmse", Objective("val/rmse", "min")),
        ("val/direction_accuracy", Objective("val/direction_accuracy", "max")),
        ("val/violations", Objective("val/violations", "optimum")),
        ("val/r2:min", Objective("val/r2", "min")),
    ],
)
def test_an_objective_takes_the_direction_of_its_metric(text: str, expected: Objective) -> None:
    assert parse_objective(text) == expected


def test_the_distance_from_the_optimum_is_what_counts() -> None:
    objective = parse_objective("val/violations")
    assert objective.of({"val/violations": 0.13}, (0.05, 0.5, 0.95)) == pytest.approx(0.03)
    assert objective.of({"val/violations": 0.13}, (0.1, 0.9)) == pytest.approx(0.07)
    assert math.isnan(objective.of({}, (0.1, 0.9)))
    assert parse_objective("val/violations:max").of({"val/violations": 0.13}, ()) == 0.13


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test/rmse", "test block is never an objective"),
        ("interval/violations", "test block is never an objective"),
        ("val/rsme", "unknown objective 'val/rsme': did you mean 'val/rmse'"),
        ("rmse", "did you mean 'val/rmse'"),
        ("val/rmse:down", "unknown direction 'down'"),
        ("val/rmse:", "unknown direction ''"),
    ],
)
def test_a_bad_objective_ends_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        parse_objective(text)
    assert "\n" not in str(caught.value)
