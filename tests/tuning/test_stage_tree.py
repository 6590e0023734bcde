"""The tree's order and bookkeeping, its jobs done one after the other in this process."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import farm.experiment
from farm.evaluation import checklist
from farm.evaluation.checklist import Criterion
from farm.experiment import run
from farm.plan import Trial
from farm.report.dry_run import show_plan
from farm.store import CHECKPOINT, PROGRESS, STAGE, Store
from farm.tuning.engine import Job, Outcome, _work
from farm.tuning.stage_tree import Forest, StageTree, stage_nodes
from tests.surface_world import TINY_STUDY, tiny_record, tiny_trial

SOURCE = tiny_record()
ROWS = {"1": "1", "12": "1,2", "123": "1,2,3", "1234": "1,2,3,4", "124": "1,2,4", "14": "1,4", "4": "4"}


def trial(row: str, config=None, role: str = "variant") -> Trial:
    config = tiny_trial(ROWS[row]) if config is None else config
    return Trial(row, role, "world", config, config.signature(SOURCE))


def baseline() -> Trial:
    config = farm.experiment.TrialConfig.make(
        {"study": TINY_STUDY, "model": {"name": "surface_random_walk"}}, "baseline"
    )
    return trial("random-walk", config, "baseline")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store")).open()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The phases that are trained, in order."""
    names: list[str] = []
    teach = farm.experiment.teach

    def told(network, train, val, stage, *rest, **more):
        names.append(stage.name)
        return teach(network, train, val, stage, *rest, **more)

    monkeypatch.setattr(farm.experiment, "teach", told)
    return names


def do(job: Job, store: Store, again: int = 0) -> None:
    _work(job, SOURCE, store, lambda epoch: None, 0.0)


def drive(tree: StageTree, store: Store, failing: str = "") -> tuple[list[Job], dict[str, str]]:
    """Do every job at once; a job whose name begins with `failing` fails. Give jobs and outcomes."""
    jobs, ended = [], tree.stopped()
    while not tree.finished:
        job = tree.next()
        assert job is not None, "a job is always ready when none is running"
        jobs.append(job)
        error = "RuntimeError: planned" if failing and job.name.startswith(failing) else ""
        if not error:
            do(job, store)
        ended += tree.ended(job, error)
    assert tree.next() is None
    assert len({outcome.trial.signature for outcome in ended}) == len(ended)
    return jobs, {outcome.trial.row: outcome.error for outcome in ended}


def test_what_trials_share_is_trained_once_and_to_the_bit(store: Store, trained: list[str]) -> None:
    trials = [trial(row) for row in ROWS] + [baseline()]
    jobs, ended = drive(StageTree(trials, SOURCE, store), store)
    assert ended == dict.fromkeys([*ROWS, "random-walk"], "")
    stages = [job.signature for job in jobs if job.kind == "stage"]
    assert len(stages) == len(set(stages)) == len(trained) == 1 + 1 + 1 + 1 + 1 + 1 + 1
    assert sorted(trained) == ["phase 1", "phase 2", "phase 3", *["phase 4"] * 4]
    for row in ("12", "1234", "14", "4"):
        alone = run(tiny_trial(ROWS[row]), SOURCE)
        stored = store.get(trial(row).signature)
        assert stored is not None
        state = store.model_state(stored.signature)
        assert state.keys() == alone.state.keys()
        for name, value in state.items():
            np.testing.assert_array_equal(value, alone.state[name], err_msg=name)
        skip = ("cost/fit_seconds", "cost/evaluate_seconds")
        expected = {k: v for k, v in alone.metrics.items() if k not in skip}
        assert {k: v for k, v in stored.metrics.items() if k not in skip} == expected
        assert stored.stages == alone.stages
        curve = [(e.epoch, e.phase, e.val_loss) for e in stored.history.epochs]
        assert curve == [(e.epoch, e.phase, e.val_loss) for e in alone.history.epochs]
        assert stored.stage_epochs == dict.fromkeys(alone.stages.values(), 2)


def test_baselines_go_first_then_the_longest_way(store: Store) -> None:
    trials = [trial(row) for row in ("4", "1", "14", "12", "1234")] + [baseline()]
    jobs, _ = drive(StageTree(trials, SOURCE, store), store)
    assert [job.name for job in jobs] == [
        "random-walk world seed 0",
        "phase 1 of 1 world seed 0 and 3 more",
        "phase 2 of 12 world seed 0 and 1 more",
        "phase 3 of 1234 world seed 0",
        "phase 4 of 4 world seed 0",
        "phase 4 of 14 world seed 0",
        "phase 4 of 1234 world seed 0",
        *(f"evaluation of {row} world seed 0" for row in ("1", "12", "4", "14", "1234")),
    ]
    before = {job.name.split(" world")[0]: job.before for job in jobs}
    assert before["phase 1 of 1"] == before["phase 4 of 4"] == ""
    assert before["phase 3 of 1234"] != before["phase 4 of 14"] != ""


def test_a_job_waits_for_what_it_goes_on_from(store: Store) -> None:
    tree = StageTree([trial("1234"), trial("4")], SOURCE, store)
    first, other = tree.next(), tree.next()
    assert (first.name.split()[1], other.name.split()[1]) == ("1", "4")
    assert tree.next() is None
    assert not tree.finished
    do(first, store)
    assert tree.ended(first, "") == []
    assert tree.next().name.startswith("phase 2")
    assert tree.next() is None


def test_a_failed_stage_fails_what_comes_after_it_and_no_more(store: Store, trained: list[str]) -> None:
    trials = [trial(row) for row in ("1", "1234", "124", "14", "4")]
    _, ended = drive(StageTree(trials, SOURCE, store), store, failing="phase 2")
    reason = "phase 2: RuntimeError: planned"
    assert ended == {"1": "", "1234": reason, "124": reason, "14": "", "4": ""}
    trained.clear()
    missing = [one for one in trials if store.get(one.signature) is None]
    _, ended = drive(StageTree(missing, SOURCE, store), store)
    assert ended == {"1234": "", "124": ""}
    assert trained == ["phase 2", "phase 3", "phase 4", "phase 4"], "phase 1 is in the store"


def test_a_later_sweep_goes_on_from_stored_stages(store: Store, trained: list[str]) -> None:
    drive(StageTree([trial("12")], SOURCE, store), store)
    trained.clear()
    drive(StageTree([trial("123"), trial("124")], SOURCE, store), store)
    assert sorted(trained) == ["phase 3", "phase 4"]
    trained.clear()
    drive(StageTree([trial("123"), trial("124")], SOURCE, store, again=True), store)
    assert sorted(trained) == ["phase 1", "phase 2", "phase 3", "phase 4"]


@pytest.mark.parametrize("name", [CHECKPOINT, STAGE])
@pytest.mark.parametrize("damage", ["absent", "cut", "flipped"])
def test_a_torn_stage_is_trained_again(store: Store, trained: list[str], name: str, damage: str) -> None:
    two = trial("12", tiny_trial("1,2", phase1={"epochs": 1}, phase2={"epochs": 1}))
    jobs, _ = drive(StageTree([two], SOURCE, store), store)
    path = Path(store.root) / "stages" / jobs[1].signature / name
    content = bytearray(path.read_bytes())
    if damage == "absent":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[3 if name == STAGE else len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    assert store.get_stage(jobs[1].signature) is None
    trained.clear()
    drive(StageTree([two], SOURCE, store), store)
    assert trained == ["phase 2"], "the one before is whole"
    assert store.get_stage(jobs[1].signature) is not None


def test_an_interrupted_stage_goes_on_from_its_last_checkpoint(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_trial("1", phase1={"epochs": 4})
    alone = run(config, SOURCE)
    tree = StageTree([trial("1", config)], SOURCE, store)
    job = tree.next()

    def killed(epoch) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _work(job, SOURCE, store, killed, 0.0)
    folder = Path(store.root) / "stages" / job.signature
    assert {path.name for path in folder.iterdir()} == {f"{PROGRESS}{turn}.safetensors" for turn in (0, 1)}
    seen = []
    _work(job, SOURCE, store, lambda epoch: seen.append(epoch.epoch), 0.0)
    assert seen == [3, 4], "the third epoch was not kept"
    assert {path.name for path in folder.iterdir()} == {CHECKPOINT, STAGE}
    weights = store.get_stage(job.signature).under("weights/")
    for name, value in weights.items():
        np.testing.assert_array_equal(value.numpy(), alone.state[f"model.{name}"], err_msg=name)
    for turn in (0, 1):
        (folder / f"{PROGRESS}{turn}.safetensors").write_bytes(b"torn")
    (folder / STAGE).unlink()
    seen.clear()
    _work(job, SOURCE, store, lambda epoch: seen.append(epoch.epoch), 0.0)
    assert seen == [1, 2, 3, 4], "damaged files are none"


def test_of_a_torn_checkpoint_the_one_before_is_used(store: Store) -> None:
    config = tiny_trial("1", phase1={"epochs": 4})
    job = StageTree([trial("1", config)], SOURCE, store).next()
    for turn in (0, 1):

        def tear(epoch, turn=turn) -> None:
            if epoch.epoch == 4:
                file = Path(store.root) / "stages" / job.signature / f"{PROGRESS}{turn}.safetensors"
                content = bytearray(file.read_bytes())
                content[-1] ^= 1
                file.write_bytes(content)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _work(job, SOURCE, store, tear, 0.0)
        left = store.get_progress(job.signature)
        assert len(left.record["epochs"]) == {0: 3, 1: 2}[turn], "epochs 2 and 3 were kept last"
        shutil.rmtree(Path(store.root) / "stages")


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    shut = Criterion("Gate 1", "here", "phase2/val/loss", "less", 0.0, kind="gate", after="phase 2")
    monkeypatch.setattr(checklist, "CHECKLIST", (shut,))


def test_gates_make_nodes_of_their_own(store: Store, trained: list[str], closed: None) -> None:
    policies = {
        policy: trial(policy, tiny_trial("1,2,4", gates=policy, gate_epochs=1, gate_horizon=2))
        for policy in ("mark", "stop", "extend", "fall_back")
    }
    _, ended = drive(StageTree(list(policies.values()), SOURCE, store), store)
    assert ended.pop("stop").startswith("stopped after phase 2: Gate 1 is")
    assert ended == dict.fromkeys(["mark", "extend", "fall_back"], "")
    assert sorted(trained) == ["phase 1", "phase 2", "phase 2 extended", *["phase 4"] * 3]
    stages = {policy: store.get(one.signature).stages for policy, one in policies.items() if policy != "stop"}
    assert list(stages["extend"]) == ["phase 1", "phase 2", "phase 2 extended", "phase 4"]
    assert len({names["phase 2"] for names in stages.values()}) == 1
    assert len({names["phase 4"] for names in stages.values()}) == 3
    tree = StageTree([policies["stop"]], SOURCE, store)
    assert tree.finished, "stopped by what is stored"
    assert [outcome.trial.row for outcome in tree.stopped()] == ["stop"]
    assert tree.stopped() == []


def test_a_lost_stage_is_a_failure_and_no_endless_loop(store: Store) -> None:
    tree = StageTree([trial("12")], SOURCE, store)
    job = tree.next()
    assert tree.ended(job, "") == [Outcome(trial("12"), "phase 1: the store has lost it")]
    assert tree.finished
    with pytest.raises(LookupError, match="not whole in the store any more"):
        do(Job("stage", "x", "0" * 16, tiny_trial("1,2"), before="f" * 16), store)


def test_what_two_sweeps_do_at_once_is_done_once(store: Store, trained: list[str]) -> None:
    stage = StageTree([trial("12")], SOURCE, store).next()
    assert stage is not None
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: do(stage, store), range(2)))
    assert trained == ["phase 1"]


def test_what_another_sweep_has_done_is_not_done_again_unless_asked(store: Store) -> None:
    job = StageTree([baseline()], SOURCE, store).next()
    assert job is not None

    def finished() -> float:
        record = store.get(job.signature)
        assert record is not None
        return record.finished

    do(job, store)
    first = finished()
    do(job, store)
    assert finished() == first
    do(replace(job, again=True), store)
    assert finished() > first


def test_the_nodes_and_both_totals(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from farm.plan import Plan

    trials = (baseline(), *(trial(row) for row in ROWS))
    drive(StageTree([trial("12")], SOURCE, store), store)
    nodes = stage_nodes(trials, SOURCE, store)
    assert len(nodes) == 7
    assert sum(node.epochs * len(node.trials) for node in nodes.values()) == 2 * (1 + 2 + 3 + 4 + 3 + 2 + 1)
    assert [node.stored for node in nodes.values()] == [True, True, False, False, False, False, False]
    plan = Plan("x", None, trials, SOURCE)
    show_plan(plan, store, Console(width=110))
    text = capsys.readouterr().out
    assert "32 epochs from scratch, 14 as a tree (2.29 times fewer), 4 of them in the store" in text
    assert text.count("phase 4: 2 epochs") == 4
    assert "8 trials" in text


def test_of_several_trees_the_most_urgent_job_goes_first(store: Store) -> None:
    """Baselines, then the longest chain, whichever data it reads; each job says which that is."""
    deeper = tiny_record(seed=1)
    long, short = trial("1234"), trial("14")
    other = Trial("long", "variant", "other", long.config, long.config.signature(deeper))
    trees = [StageTree([short], SOURCE, store), StageTree([other, baseline()], deeper, store)]
    forest = Forest(trees)
    first, second, third = forest.next(), forest.next(), forest.next()
    assert first is not None
    assert second is not None
    assert third is not None
    assert [job.source for job in (first, second, third)] == [1, 1, 0]
    assert first.kind == "trial"
    assert second.signature != third.signature, "the same stage on other data is another one"
    assert forest.next() is None
    assert not forest.finished
    assert [outcome.trial.row for outcome in forest.ended(first, "")] == ["random-walk"]
    assert [outcome.trial.row for outcome in forest.ended(third, "RuntimeError: planned")] == ["14"]
    assert [outcome.trial.row for outcome in forest.ended(second, "RuntimeError: planned")] == ["long"]
    assert forest.finished
