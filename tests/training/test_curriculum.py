import json
import random

import numpy as np
import pytest
import torch

from farm.base.errors import UserError
from farm.models.network import Sequences
from farm.training.checkpoint import Checkpoint
from farm.training.curriculum import (
    CURRICULA,
    Autoregressive,
    CurriculumConfig,
    GateMissed,
    MultiHorizon,
    Stage,
    TeacherForcing,
    prefix_loss,
    teach,
)
from farm.training.fit import TrainingConfig, fit, reproducible
from farm.training.rollout import pass_costs
from tests.surface_world import CONTEXT, network, tiny_curriculum, world

TRAINING = TrainingConfig(learning_rate=3e-3, batch_size=16, patience=50)


def tiny(name: str, **fields: object) -> CurriculumConfig:
    return CurriculumConfig.make(tiny_curriculum(name, **fields), "curriculum")


@pytest.fixture(scope="module")
def blocks():
    days, inputs = world(150)
    return days[:100], days[100:], inputs


def test_the_defaults_are_the_plans():
    plan = CurriculumConfig()
    assert [stage.phase.days(60) for stage in plan.stages()] == [61, 150, 240, 330]
    assert [stage.phase.epochs for stage in plan.stages()] == [200, 150, 125, 125]
    assert plan.phase2.horizons == (1, 7, 14, 30, 60, 90)
    assert plan.phase2.weights == (1.0, 0.9, 0.8, 0.6, 0.4, 0.3)
    assert (plan.phase3.horizon, plan.phase3.offsets, plan.phase3.steps) == (60, (30, 60), 3)
    assert (plan.phase4.horizon, plan.phase4.offsets, plan.phase4.steps) == (90, (45, 90), 3)
    assert set(CURRICULA) == {"1", "1,2", "1,2,3", "1,2,3,4", "1,2,4", "1,4", "4"}
    for name, numbers in CURRICULA.items():
        stages = CurriculumConfig(name=name).stages()
        assert [stage.name for stage in stages] == [f"phase {number}" for number in numbers]


def test_a_curriculum_is_data():
    plan = CurriculumConfig.make({"name": "1,4", "phase4": {"offsets": [45]}}, "curriculum")
    assert (plan.phase4.horizon, plan.phase4.offsets, plan.phase4.epochs) == (90, (45,), 125)
    again = CurriculumConfig.make(json.loads(plan.model_dump_json()), "curriculum")
    assert again == plan
    reduced = CurriculumConfig(epoch_share=0.1)
    assert [stage.phase.epochs for stage in reduced.stages()] == [20, 15, 13, 13]
    for percent in range(1, 101):
        plan = CurriculumConfig().stages()
        share = CurriculumConfig(epoch_share=percent / 100).stages()
        for whole, part in zip(plan, share, strict=True):
            assert 0 <= 100 * part.phase.epochs - percent * whole.phase.epochs < 100
    assert [stage.phase.epochs for stage in CurriculumConfig(epoch_share=1e-4).stages()] == [1, 1, 1, 1]


def stages(curriculum: CurriculumConfig, missed: tuple[str, ...] = ()) -> list[tuple]:
    return [
        (stage.name, stage.phase.epochs, getattr(stage.phase, "horizon", None))
        for stage in curriculum.stages(missed)
    ]


def test_a_missed_gate_is_followed_by_what_the_curriculum_says():
    plan = [("phase 1", 200, 1), ("phase 2", 150, None), ("phase 3", 125, 60), ("phase 4", 125, 90)]
    two, three = ("", "gate 1 missed"), ("", "", "gate 2 missed")
    for policy in ("mark", "stop", "extend", "fall_back"):
        assert stages(CurriculumConfig(gates=policy), ("", "", "")) == plan
    assert stages(CurriculumConfig(gates="mark"), two) == plan
    with pytest.raises(GateMissed, match="stopped after phase 2: gate 1 missed"):
        CurriculumConfig(gates="stop").stages(two)
    longer = CurriculumConfig(gates="extend", gate_epochs=30)
    more = [*plan[:2], ("phase 2 extended", 30, None), *plan[2:]]
    assert stages(longer, two) == more
    assert stages(longer, (*two, "gate 1 missed")) == more, "a phase is extended once"
    assert stages(longer, (*two, "", "gate 2 missed"))[4:] == [("phase 3 extended", 30, 60), plan[3]]
    shorter = CurriculumConfig(gates="fall_back", gate_horizon=40)
    assert stages(shorter, two) == [*plan[:2], ("phase 3", 125, 40), ("phase 4", 125, 40)]
    assert stages(shorter, three) == [*plan[:3], ("phase 4", 125, 40)]
    assert shorter.stages(three)[3].phase.offsets == (40,)
    assert CurriculumConfig(gates="fall_back").stages(three)[3].phase.offsets == (45, 60)
    assert stages(CurriculumConfig(gates="fall_back", name="1"), ("gate 1 missed",)) == plan[:1]
    reduced = CurriculumConfig(gates="extend", epoch_share=0.1)
    assert stages(reduced, two)[2] == ("phase 2 extended", 5, None)


def test_a_phase_up_to_a_horizon_is_still_a_phase():
    assert MultiHorizon().up_to(30).horizons == (1, 7, 14, 30)
    assert MultiHorizon().up_to(30).weights == (1.0, 0.9, 0.8, 0.6)
    assert MultiHorizon(horizons=(7, 90), weights=(1.0, 0.3)).up_to(3).horizons == (7,)
    assert TeacherForcing(horizon=5).up_to(1) == TeacherForcing(horizon=5)
    assert Autoregressive(horizon=30, offsets=(30,)).up_to(60) == Autoregressive(horizon=30, offsets=(30,))


def test_bad_input_is_one_line():
    with pytest.raises(UserError, match=r"autoregressive phase H=60: offset 61 with horizon 60"):
        Autoregressive(horizon=60, offsets=(30, 61))
    with pytest.raises(UserError, match=r"curriculum '2,1': expected one of 1 \| 1,2 \|"):
        CurriculumConfig(name="2,1")
    with pytest.raises(UserError, match=r"got horizons .* expected increasing horizons, each with a weight"):
        MultiHorizon(horizons=(1, 7), weights=(1.0,))
    with pytest.raises(UserError, match=r"training block: got 329 days, expected at least 330.*phase 4"):
        CurriculumConfig().require_days(60, {"training": 329})
    with pytest.raises(UserError, match=r"validation block: got 239 days.*240.*phase 3"):
        CurriculumConfig(name="1,2,3").require_days(60, {"training": 5000, "validation": 239})
    CurriculumConfig().require_days(60, {"training": 330, "validation": 330})


def test_horizons_weigh_by_prefixes():
    costs = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    horizons, weights = (1, 3, 6), (1.0, 0.9, 0.3)
    expected = sum(w * float(costs[:h].mean()) for h, w in zip(horizons, weights, strict=True)) / 2.2
    assert float(prefix_loss(costs, horizons, weights)) == pytest.approx(expected, rel=1e-6)


def test_sequences_are_every_run_of_days():
    days = torch.arange(20.0).reshape(10, 2)
    runs = Sequences(days, 4)
    assert runs.size == 7
    taken = runs.take(torch.tensor([6, 0, 3]))
    for row, first in zip(taken, (6, 0, 3), strict=True):
        assert torch.equal(row, days[first : first + 4])


def test_an_offset_is_drawn_for_each_batch_and_averaged_in_validation(blocks):
    train, _, inputs = blocks
    net = network(inputs)
    phase = Autoregressive(horizon=4, offsets=(2, 4), steps=3)
    x = Sequences(torch.from_numpy(train), phase.days(CONTEXT)).take(torch.arange(6))
    loss = phase.objective(net)
    net.eval()
    each = [float(pass_costs(net, x, 4, offset, 3, "prior").mean()) for offset in (2, 4)]
    assert float(loss(x)) == pytest.approx(np.mean(each), rel=1e-6)
    assert float(loss(x)) == float(loss(x))
    net.train()
    drawn = set()
    with reproducible(0):
        for _ in range(20):
            state = torch.get_rng_state()
            offset = (2, 4)[int(torch.randint(2, ()))]
            expected = float(pass_costs(net, x, 4, offset, 3, "prior").mean().detach())
            torch.set_rng_state(state)
            assert float(loss(x).detach()) == expected
            drawn.add(offset)
    assert drawn == {2, 4}


def weights(net) -> dict[str, np.ndarray]:
    return net.state()


def assert_equal_bits(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def checkpoints(blocks) -> tuple[list[Checkpoint], Stage]:
    train, val, inputs = blocks
    kept: list[Checkpoint] = []
    stage = tiny("1").stages()[0]
    with reproducible(5):
        teach(network(inputs), train, val, stage, TRAINING, 5, keep=kept.append)
    return kept, stage


def test_checkpoints_are_kept_as_often_as_asked(blocks):
    train, val, inputs = blocks
    kept: list[Checkpoint] = []
    stage = tiny("1", phase1={"epochs": 3}).stages()[0]
    for seconds, expected in ((0.0, 3), (3600.0, 0)):
        kept.clear()
        teach(network(inputs), train, val, stage, TRAINING, 5, keep=kept.append, keep_every=seconds)
        assert [len(checkpoint.record["epochs"]) for checkpoint in kept] == list(range(1, expected + 1))


def test_a_damaged_checkpoint_is_no_checkpoint(blocks):
    kept, _ = checkpoints(blocks)
    content = kept[-1].to_bytes()
    changed = bytearray(content)
    changed[-3] ^= 1
    for broken in [content[:-1], content[:100], b"", bytes(changed), b"\x00" * 64]:
        with pytest.raises(ValueError, match="checkpoint"):
            Checkpoint.from_bytes(broken)
    edited = content.replace(b"best_loss", b"Best_loss")
    assert edited != content
    with pytest.raises(ValueError, match="checksum"):
        Checkpoint.from_bytes(edited)


def test_the_generators_of_numpy_and_python_go_on(blocks):
    """What a third party draws from the global generators belongs to the run as well."""
    train, val, inputs = blocks

    def noisy(net):
        plain = TeacherForcing().objective(net)

        def loss(days):
            noise = 1 + 0.1 * np.random.rand() + 0.1 * random.random() if net.training else 1.0  # noqa: NPY002
            return noise * plain(days)

        return loss

    kept: list[Checkpoint] = []
    runs = [Sequences(torch.from_numpy(block), CONTEXT + 1) for block in (train, val)]
    config = TRAINING.model_copy(update={"epochs": 3})
    results = []
    for resume in (None, "first"):
        np.random.seed(1 if resume is None else 2)  # noqa: NPY002
        random.seed(1 if resume is None else 2)
        with reproducible(0):
            net = network(inputs)
            checkpoint = None if resume is None else Checkpoint.from_bytes(kept[0].to_bytes())
            fit(net, *runs, config, 0, objective=noisy(net), resume=checkpoint, keep=kept.append)
        results.append(weights(net))
    assert_equal_bits(*results)


def test_a_batch_without_room_is_taken_in_parts(blocks):
    """A device with room for five sequences gives the gradients of one with room for all."""
    train, val, inputs = blocks
    runs = [Sequences(torch.from_numpy(block), CONTEXT + 2) for block in (train, val)]
    config = TRAINING.model_copy(update={"epochs": 2})
    results = []
    for room in (1000, 5):
        with reproducible(0):
            net = network(inputs)

            def loss(days, net=net, room=room):
                if net.training and len(days) > room:
                    raise torch.cuda.OutOfMemoryError("no room")
                return net.costs(days, noise=torch.zeros(len(days), 2, 3))[0].mean()

            history = fit(net, *runs, config, 0, objective=loss)
        results.append((weights(net), history))
    for name, value in results[0][0].items():
        np.testing.assert_allclose(results[1][0][name], value, rtol=1e-3, atol=2e-4, err_msg=name)
    for one, other in zip(results[0][1].epochs, results[1][1].epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)

    def never(days):
        raise torch.cuda.OutOfMemoryError("no room at all")

    with pytest.raises(torch.cuda.OutOfMemoryError, match="at all"):
        fit(network(inputs), *runs, config, 0, objective=never)


def test_a_checkpoint_may_hold_an_empty_tensor() -> None:
    """Such as the moneyness of a grid in delta."""
    tensors = {"empty": torch.zeros(0), "row": torch.arange(3.0)}
    again = Checkpoint.from_bytes(Checkpoint(tensors, {"n": 1}).to_bytes())
    assert again.record == {"n": 1}
    assert all(torch.equal(again.tensors[name], value) for name, value in tensors.items())
