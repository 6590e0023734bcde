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
    MultiHorizon,
    TeacherForcing,
    prefix_loss,
    teach,
)
from farm.training.fit import TrainingConfig, fit, reproducible
from farm.training.rollout import pass_costs
from tests.surface_world import CONTEXT, network, world

TINY = {
    "phase1": {"epochs": 2},
    "phase2": {"epochs": 2, "horizons": (1, 2, 4), "weights": (1.0, 0.9, 0.5)},
    "phase3": {"epochs": 2, "horizon": 3, "offsets": (1, 3), "steps": 2},
    "phase4": {"epochs": 2, "horizon": 4, "offsets": (2, 4), "steps": 2},
}
TRAINING = TrainingConfig(learning_rate=3e-3, batch_size=16, patience=50)


def tiny(name: str, **fields: object) -> CurriculumConfig:
    return CurriculumConfig.make({"name": name, **TINY, **fields}, "curriculum")


@pytest.fixture(scope="module")
def blocks():
    days, inputs = world(150)
    return days[:100], days[100:], inputs


def test_the_defaults_are_the_plans():
    plan = CurriculumConfig()
    assert [phase.days(60) for _, phase in plan.phases()] == [61, 150, 240, 330]
    assert [phase.epochs for _, phase in plan.phases()] == [200, 150, 125, 125]
    assert plan.phase2.horizons == (1, 7, 14, 30, 60, 90)
    assert plan.phase2.weights == (1.0, 0.9, 0.8, 0.6, 0.4, 0.3)
    assert (plan.phase3.horizon, plan.phase3.offsets, plan.phase3.steps) == (60, (30, 60), 3)
    assert (plan.phase4.horizon, plan.phase4.offsets, plan.phase4.steps) == (90, (45, 90), 3)
    assert set(CURRICULA) == {"1", "1,2", "1,2,3", "1,2,3,4", "1,2,4", "1,4", "4"}
    for name, numbers in CURRICULA.items():
        phases = CurriculumConfig(name=name).phases()
        assert [label for label, _ in phases] == [f"phase {number}" for number in numbers]


def test_a_curriculum_is_data():
    plan = CurriculumConfig.make({"name": "1,4", "phase4": {"offsets": [45]}}, "curriculum")
    assert (plan.phase4.horizon, plan.phase4.offsets, plan.phase4.epochs) == (90, (45,), 125)
    again = CurriculumConfig.make(json.loads(plan.model_dump_json()), "curriculum")
    assert again == plan
    reduced = CurriculumConfig(epoch_share=0.1)
    assert [phase.epochs for _, phase in reduced.phases()] == [20, 15, 12, 12]
    assert [phase.epochs for _, phase in CurriculumConfig(epoch_share=1e-4).phases()] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("horizon", "horizons", "medium", "long"),
    [
        (30, (1, 7, 14, 30), (20, (10, 20)), (30, (15, 30))),
        (60, (1, 7, 14, 30, 60), (40, (20, 40)), (60, (30, 60))),
        (120, (1, 7, 14, 30, 60, 90, 120), (80, (40, 80)), (120, (60, 120))),
    ],
)
def test_other_horizons_scale_the_plan(horizon, horizons, medium, long):
    plan = CurriculumConfig.reaching(horizon)
    assert plan.phase2.horizons == horizons
    assert (plan.phase3.horizon, plan.phase3.offsets) == medium
    assert (plan.phase4.horizon, plan.phase4.offsets) == long
    assert CurriculumConfig.reaching(90) == CurriculumConfig()


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


def test_short_blocks_are_refused_before_anything_is_taught(blocks):
    train, val, inputs = blocks
    with pytest.raises(UserError, match=r"validation block: got 13 days, expected at least 14.*phase 4"):
        teach(network(inputs), train, val[:13], tiny("1,2,3,4"), TRAINING, 0)


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


def run(blocks, name, kept=None, resume=None, stir=0, **fields):
    train, val, inputs = blocks
    seen = []
    with reproducible(5):
        torch.rand(stir)  # a process that resumes has drawn other numbers before
        net = network(inputs, seed=stir, dropout=0.4, prior="learned")
        histories = teach(
            net,
            train,
            val,
            tiny(name, **fields),
            TRAINING,
            5,
            lambda phase, epoch: seen.append((phase, epoch.epoch)),
            resume=resume,
            keep=None if kept is None else kept.append,
        )
    return net, histories, seen


def losses(histories):
    return {
        name: [(epoch.epoch, epoch.train_loss, epoch.val_loss) for epoch in history.epochs]
        for name, history in histories.items()
    }


def test_a_checkpoint_restored_continues_to_the_bit(blocks, tmp_path):
    """After every epoch of every phase, the last ones included, through a file."""
    kept: list[Checkpoint] = []
    whole, histories, seen = run(blocks, "1,2,3,4", kept)
    assert seen == [(f"phase {phase}", epoch) for phase in (1, 2, 3, 4) for epoch in (1, 2)]
    assert len(kept) == 8
    for number, checkpoint in enumerate(kept):
        path = tmp_path / f"{number}.safetensors"
        checkpoint.save(path)
        loaded = Checkpoint.load(path)
        again, resumed, reported = run(blocks, "1,2,3,4", resume=loaded, stir=number + 1)
        assert reported == seen[number + 1 :], "only what is missing is trained"
        assert_equal_bits(weights(again), weights(whole))
        assert losses(resumed) == losses(histories)


def test_curricula_share_their_first_phases_to_the_bit(blocks):
    short, long = [], []
    run(blocks, "1,2", short)
    run(blocks, "1,2,3,4", long)
    assert short[-1].record["phases"] == long[3].record["phases"]
    assert short[-1].tensors.keys() == long[3].tensors.keys()
    for name, value in short[-1].tensors.items():
        assert torch.equal(value, long[3].tensors[name]), name
    whole, _, _ = run(blocks, "1,2,4")
    branch, histories, reported = run(blocks, "1,2,4", resume=short[-1], stir=9)
    assert_equal_bits(weights(branch), weights(whole))
    assert list(histories) == ["phase 1", "phase 2", "phase 4"]
    assert reported == [("phase 4", 1), ("phase 4", 2)]
    with pytest.raises(ValueError, match="the checkpoint is of the phases"):
        run(blocks, "1,4", resume=short[-1])
    with pytest.raises(ValueError, match="the checkpoint is of the phases"):
        run(blocks, "1,2", resume=short[-1], phase1={"epochs": 3})


def test_each_phase_begins_with_the_best_weights_of_the_one_before(blocks):
    kept: list[Checkpoint] = []
    _, val, inputs = blocks
    _, histories, _ = run(blocks, "1,2", kept, phase1={"epochs": 4})
    phase, best = TeacherForcing(), histories["phase 1"].best_epoch
    assert kept[3].record["best_epoch"] == best
    net = network(inputs, dropout=0.4, prior="learned").eval()
    net.load_state_dict({k[5:]: v for k, v in kept[3].tensors.items() if k.startswith("best/")})
    held_out = Sequences(torch.from_numpy(val), phase.days(CONTEXT))
    loss = float(phase.objective(net)(held_out.take(torch.arange(held_out.size))).detach())
    assert loss == pytest.approx(histories["phase 1"].epochs[best - 1].val_loss, rel=1e-6)


def test_a_damaged_checkpoint_is_no_checkpoint(blocks, tmp_path):
    kept: list[Checkpoint] = []
    run(blocks, "1", kept)
    content = kept[-1].to_bytes()
    assert Checkpoint.load(tmp_path / "none") is None
    changed = bytearray(content)
    changed[-3] ^= 1
    for number, broken in enumerate([content[:-1], content[:100], b"", bytes(changed), b"\x00" * 64]):
        path = tmp_path / str(number)
        path.write_bytes(broken)
        assert Checkpoint.load(path) is None, number
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
