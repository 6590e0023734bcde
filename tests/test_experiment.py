import random

import numpy as np
import pytest
import torch

import farm.experiment
from farm.data.panel import Panel
from farm.evaluation import checklist
from farm.evaluation.checklist import Criterion
from farm.evaluation.stages import Taught
from farm.experiment import Result, TrialConfig, advance, conclude, run
from farm.models.heads import HeadedNetwork
from farm.models.network import Sequences
from farm.studies.forecast import ForecastStudy
from farm.training.checkpoint import Checkpoint, Progress
from farm.training.curriculum import GateMissed
from farm.training.fit import fit, reproducible
from tests.surface_world import tiny_record, tiny_trial


@pytest.fixture(scope="module")
def source():
    return tiny_record()


@pytest.fixture(scope="module")
def alone(source) -> Result:
    return run(tiny_trial(seed=3), source)


def metrics(result: Result) -> dict[str, float]:
    """Scores without seconds, which differ from run to run."""
    return {k: v for k, v in result.metrics.items() if not k.endswith("_seconds")}


def losses(result: Result) -> list[tuple]:
    return [(e.phase, e.epoch, e.train_loss, e.val_loss) for e in result.history.epochs]


def assert_equal_bits(one: Result, other: Result) -> None:
    assert one.state.keys() == other.state.keys()
    for name in one.state:
        np.testing.assert_array_equal(one.state[name], other.state[name], err_msg=name)
    assert metrics(one) == metrics(other)
    assert losses(one) == losses(other)
    assert one.history.best_epoch == other.history.best_epoch
    for name, forecast in one.evaluation.test.forecasts.items():
        np.testing.assert_array_equal(forecast.point, other.evaluation.test.forecasts[name].point)


def elsewhere(checkpoint: Checkpoint) -> Checkpoint:
    """Give what another process reads, after this one has drawn from every generator."""
    torch.rand(7), np.random.rand(7), random.random()  # noqa: NPY002
    return Checkpoint.from_bytes(checkpoint.to_bytes())


def test_a_chain_of_stages_is_one_loop_of_fits(source, alone) -> None:
    """The slow and obvious way: one network, one fit after the other, no checkpoint between them."""
    config = tiny_trial(seed=3)
    data = config.study.dataset(source)
    with reproducible(3):
        network = config.model.build(data.inputs)
        blocks = [torch.from_numpy(block) for block in (data.train.block, data.val.with_context)]
        for stage in config.curriculum.stages():
            fit(
                network,
                *(Sequences(block, stage.phase.days(network.context_days)) for block in blocks),
                config.training.model_copy(update={"epochs": stage.phase.epochs}),
                3 + 1_000_003 * stage.number,
                objective=stage.phase.objective(network),
            )
    for name, value in network.state().items():
        np.testing.assert_array_equal(alone.state[f"model.{name}"], value, err_msg=name)


def test_the_learning_curve_counts_on(alone) -> None:
    assert [(epoch.epoch, epoch.phase) for epoch in alone.history.epochs] == [
        (number, f"phase {(number + 1) // 2}") for number in range(1, 9)
    ]
    assert alone.history.best_epoch in (7, 8), "of the last phase"
    best = alone.history.epochs[alone.history.best_epoch - 1]
    assert alone.metrics["val/best_loss"] == best.val_loss
    assert alone.metrics["cost/epochs"] == 8
    assert len(set(alone.stages.values())) == 4


@pytest.mark.parametrize("boundary", [1, 2, 3, 4])
def test_what_stops_between_stages_and_goes_on_elsewhere_is_equal_to_the_bit(source, alone, boundary) -> None:
    config, after = tiny_trial(seed=3), None
    for number in range(4):
        after = advance(config, source, after)
        if number + 1 == boundary:
            after = elsewhere(after)
    assert_equal_bits(conclude(config, source, after), alone)


def test_what_stops_within_a_stage_and_goes_on_elsewhere_is_equal_to_the_bit(source, alone) -> None:
    config, after = tiny_trial(seed=3), None
    for number in range(4):
        kept: list[Checkpoint] = []
        whole = advance(config, source, after, keep=kept.append)
        assert len(kept) == 2
        for epoch, checkpoint in enumerate(kept, start=1):
            reported = []
            resumed = advance(
                config,
                source,
                after,
                resume=elsewhere(checkpoint),
                report=lambda e, to=reported: to.append(e),
            )
            assert [e.epoch for e in reported] == list(range(2 * number + epoch + 1, 2 * number + 3))
            assert resumed.tensors.keys() == whole.tensors.keys()
            for name, value in resumed.tensors.items():
                assert torch.equal(value, whole.tensors[name]), name
        after = whole
    assert_equal_bits(conclude(config, source, after), alone)


def of_networks(ar1_panel: Panel, name: str) -> TrialConfig:
    """A trial of one fit, of an ensemble's, of a walk-forward's, and of both."""
    study = {"name": "forecast", "ticker": "AR", "market": "MKT", "features": "feat", "lookback": 5}
    model = {"name": "lstm", "hidden_size": 4, "num_layers": 2, "dropout": 0.3}
    if "walk" in name:
        study["split"] = {"name": "walk_forward", "windows": 2}
    if "ensemble" in name:
        model |= {"head": "student_t", "members": 2}
    return TrialConfig.make(
        {"study": study, "model": model, "training": {"epochs": 3, "patience": 1}, "seed": 2}, "trial"
    )


@pytest.mark.parametrize("name", ["one", "ensemble", "walk", "walk, ensemble"])
def test_a_killed_trial_goes_on_from_any_checkpoint_to_the_bit(ar1_panel: Panel, name: str) -> None:
    config = of_networks(ar1_panel, name)
    whole = run(config, ar1_panel)
    moments: list[dict[int, Checkpoint]] = [{}]

    def save(number: int, checkpoint: Checkpoint) -> None:
        moments.append({**moments[-1], number: checkpoint})

    assert_equal_bits(run(config, ar1_panel, progress=Progress(lambda number: None, save, 0.0)), whole)
    assert len(moments) == 1 + len(whole.history.epochs)
    for done, moment in enumerate(moments):
        seen: list[int] = []
        left = {number: elsewhere(checkpoint) for number, checkpoint in moment.items()}
        again = run(
            config,
            ar1_panel,
            report=lambda epoch, seen=seen: seen.append(epoch.epoch),
            progress=Progress(left.get, lambda number, checkpoint: None, 0.0),
        )
        assert_equal_bits(again, whole)
        assert seen == list(range(done + 1, len(whole.history.epochs) + 1)), (
            "only what was missing is trained"
        )


def test_the_interval_counts_over_all_fits(ar1_panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits that are shorter than the interval are kept all the same, once it has passed."""
    clock = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    config, kept = of_networks(ar1_panel, "walk, ensemble"), []
    run(config, ar1_panel, progress=Progress(lambda number: None, lambda n, c: kept.append(n), 4.0, kept=0.0))
    assert len(set(kept)) > 1
    assert 0 < len(kept) < len(run(config, ar1_panel).history.epochs)


def test_trials_that_begin_alike_share_the_beginning_to_the_bit(source) -> None:
    short, branch = tiny_trial("1,2", gates="extend"), tiny_trial("1,2,4")
    shared = advance(short, source, advance(short, source))
    assert_equal_bits(
        conclude(branch, source, advance(branch, source, elsewhere(shared))), run(branch, source)
    )
    digest = short.study.data_digest(source)
    names = [
        config.stage_signature(digest, config.stages()[:2]) for config in (short, branch, tiny_trial("1,2,3"))
    ]
    assert len(set(names)) == 1


def test_a_stages_signature_has_all_that_decides_its_weights(source) -> None:
    base = tiny_trial()
    digest = base.study.data_digest(source)

    def name(config: TrialConfig, digest: str = digest) -> str:
        return config.stage_signature(digest, config.stages()[:2])

    others = [
        tiny_trial(seed=1),
        tiny_trial(phase1={"epochs": 3}),
        tiny_trial(phase2={"horizons": (1, 2), "weights": (1.0, 0.5)}),
        tiny_trial(study={"context": 7}),
        base.model_copy(update={"model": base.model.model_copy(update={"dropout": 0.1})}),
        base.model_copy(update={"training": base.training.model_copy(update={"learning_rate": 1e-3})}),
    ]
    names = [name(base), name(base, "other data"), *map(name, others)]
    assert len(set(names)) == len(names)
    assert name(tiny_trial(phase3={"epochs": 9}, gates="stop")) == name(base), "what comes later does not"
    assert len({base.stage_signature(digest, base.stages()[:n]) for n in (1, 2, 3, 4)}) == 4


def test_gates_are_the_plans(alone) -> None:
    def gate(number: int, scores: dict[str, float]) -> str:
        return Taught(number, f"phase {number}", alone.history, scores, 0.0).missed

    assert gate(2, {"phase2/train/rmse": 0.069}) == ""
    assert gate(2, {"phase2/train/rmse": 0.08}) == "Gate 1: in-sample RMSE at H=90 is 0.08, limit 0.07"
    assert gate(3, {"phase3/val/degradation": 1.6}).startswith("Gate 2:")
    assert gate(3, {"phase2/train/rmse": 0.5}) == "", "a gate stands after its own phase"
    assert gate(2, {}) == "", "what was not measured is not missed"


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate after phase 2 that nothing passes."""
    shut = Criterion("Gate 1", "here", "phase2/val/loss", "less", 0.0, kind="gate", after="phase 2")
    monkeypatch.setattr(checklist, "CHECKLIST", (shut,))


def test_a_missed_gate_marks_the_result(source, alone, closed) -> None:
    marked = run(tiny_trial(seed=3), source)
    assert marked.stages == alone.stages
    assert losses(marked) == losses(alone)
    assert marked.tags["gate after phase 2 missed"].endswith("limit 0")


def test_a_missed_gate_stops_the_trial(source, closed) -> None:
    with pytest.raises(GateMissed, match=r"stopped after phase 2: Gate 1 is .*, limit 0"):
        run(tiny_trial(gates="stop"), source)


def test_a_missed_gate_adds_epochs_or_shortens_the_rest(source, closed) -> None:
    longer = run(tiny_trial("1,2,3", gates="extend", gate_epochs=3), source)
    phases = [epoch.phase for epoch in longer.history.epochs]
    assert phases == ["phase 1"] * 2 + ["phase 2"] * 2 + ["phase 2 extended"] * 3 + ["phase 3"] * 2
    assert list(longer.stages) == ["phase 1", "phase 2", "phase 2 extended", "phase 3"]
    shorter = run(tiny_trial("1,2,4", gates="fall_back", gate_horizon=2), source)
    direct = run(tiny_trial("1,2,4", phase4={"horizon": 2, "offsets": (2,)}), source)
    assert_equal_bits(shorter, direct)
    assert shorter.stages == direct.stages


def test_a_trial_without_a_curriculum_is_run_as_before(ar1_panel: Panel, study: ForecastStudy) -> None:
    """The bits of a network's weights must not depend on what other trials need."""
    config = TrialConfig.make(
        {"study": study, "model": {"name": "lstm"}, "training": {"epochs": 2}, "seed": 4}, "trial"
    )
    data = config.study.dataset(ar1_panel)
    with reproducible(4):
        network = config.model.build(data.inputs)
        fit(network, data.train, data.val, config.training, 4)
    result = farm.experiment.run(config, ar1_panel)
    for name, value in network.state().items():
        np.testing.assert_array_equal(result.state[f"model.{name}"], value)
    assert result.stages == {}


def test_a_gpu_without_room_is_noted_on_the_run(ar1_panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "study": {"name": "forecast", "ticker": "AR", "market": "MKT", "features": "raw"},
        "model": {"name": "lstm", "hidden_size": 4, "dropout": 0.0},  # which draws by the shape of a part
        "training": {"epochs": 2, "batch_size": 64},
    }
    config = TrialConfig.make(values, "crowded")
    roomy = run(config, ar1_panel)
    assert "cost/batch_parts" not in roomy.metrics
    loss = HeadedNetwork.loss

    def crowded(network, batch):
        if network.training and batch.size > 40:
            raise torch.cuda.OutOfMemoryError("no room")
        return loss(network, batch)

    monkeypatch.setattr(HeadedNetwork, "loss", crowded)
    result = run(config, ar1_panel)
    assert result.metrics["cost/batch_parts"] == 2
    assert result.tags["out of memory"] == "batches taken in 2 parts"
    assert result.metrics["test/rmse"] == pytest.approx(roomy.metrics["test/rmse"], rel=1e-3)
