"""What a trial asks for of a cluster, and where Ray then puts it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.base.errors import UserError
from farm.base.search_space import Resources
from farm.tuning.engine import bundle, room
from farm.tuning.nodes import BOOTSTRAP

LAPTOP = {"CPU": 2.0, "memory": 4.0 * 2**30}
HEAD = {"CPU": 0.0, "memory": 16.0 * 2**30}
AUTOSCALED = """
available_node_types:
  head: {resources: {CPU: 0}, max_workers: 0}
  gpu_spot: {resources: {CPU: 8, GPU: 1}, max_workers: 8}
  huge: {resources: {CPU: 64}, max_workers: 0}
"""


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Say which nodes are up and what the launcher has left on the head."""
    import ray
    from ray._private.state import state

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(state, "get_cluster_config", lambda: None)

    def told(*nodes: dict[str, float], launcher: str = "") -> None:
        alive = [{"Alive": True, "Resources": node} for node in nodes]
        monkeypatch.setattr(ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"GPU": 8.0}}])
        total: dict[str, float] = {}
        for node in nodes:
            total = {name: total.get(name, 0) + node.get(name, 0) for name in {*total, *node}}
        monkeypatch.setattr(ray, "cluster_resources", lambda: total)
        if launcher:
            Path(BOOTSTRAP).expanduser().write_text(launcher)

    return told


def test_a_gpu_is_asked_for_only_where_there_is_one(up) -> None:
    up(LAPTOP)
    assert bundle(Resources(), None) == {"cpu": 1.0, "gpu": 0.0}
    up(LAPTOP, {**LAPTOP, "GPU": 1.0})
    assert bundle(Resources(gpu=0.5, memory=2), None) == {"cpu": 1.0, "gpu": 0.5, "memory": 2.0 * 2**30}


def test_a_gpu_that_the_cluster_can_launch_counts(up) -> None:
    up(HEAD, launcher=AUTOSCALED)
    assert bundle(Resources(), "auto") == {"cpu": 1.0, "gpu": 0.25}
    up(HEAD, launcher=AUTOSCALED.replace(", GPU: 1", ""))
    assert bundle(Resources(), "auto") == {"cpu": 1.0, "gpu": 0.0}


def test_ray_on_this_machine_launches_nothing(up) -> None:
    up(LAPTOP, launcher=AUTOSCALED)
    assert bundle(Resources(), None)["gpu"] == 0.0


def test_ray_s_own_record_of_what_can_be_launched_comes_first(up, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.state import state
    from ray.core.generated.autoscaler_pb2 import ClusterConfig

    up(HEAD, launcher=AUTOSCALED.replace(", GPU: 1", ""))
    record = ClusterConfig()
    group = record.node_group_configs.add(max_count=4)
    group.resources["CPU"], group.resources["GPU"] = 4, 1
    monkeypatch.setattr(state, "get_cluster_config", lambda: record)
    assert bundle(Resources(), "auto")["gpu"] == 0.25
    group.max_count = 0
    with pytest.raises(UserError, match="no node"):
        bundle(Resources(), "auto")


@pytest.mark.parametrize("asked", [{"cpu": 3}, {"memory": 5}, {"gpu": 2}, {"cpu": 65}])
def test_what_no_node_has_is_refused_at_once(up, asked: dict[str, float]) -> None:
    up({**LAPTOP, "GPU": 1.0}, launcher=AUTOSCALED)
    with pytest.raises(UserError, match="lower the sweep's Resources") as caught:
        bundle(Resources(**asked), None)
    assert "\n" not in str(caught.value)


def test_what_a_node_to_come_has_is_unknown_until_it_is_up(up) -> None:
    """Of machines of one's own the launcher knows nothing."""
    up(LAPTOP, launcher="available_node_types: {local.cluster.node: {resources: {}, max_workers: 2}}")
    assert bundle(Resources(memory=5), "auto")["memory"] == 5 * 2**30
    with pytest.raises(UserError, match="no node"):
        bundle(Resources(memory=5), None)


def test_the_scarcest_resource_decides_how_many_run(up) -> None:
    up({"CPU": 8.0, "GPU": 1.0, "memory": 16.0 * 2**30})
    assert room(bundle(Resources(gpu=0.25), None)) == 4
    assert room(bundle(Resources(gpu=0.25, memory=6), None)) == 2
    assert room(bundle(Resources(cpu=2, gpu=0), None)) == 4


@pytest.fixture
def logical() -> Iterator[None]:
    """Ray with two GPUs that are not there."""
    import ray

    ray.shutdown()  # where another test's is up
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    ray.init(num_cpus=4, num_gpus=2, **quiet)
    yield
    ray.shutdown()


@pytest.mark.e2e(100)
def test_trials_share_gpus_and_none_is_shared_beyond_its_whole(logical: None, tmp_path: Path) -> None:
    from ray import tune

    needs = bundle(Resources(cpu=0.5, gpu=0.5), None)
    assert room(needs) == 4

    def trial(setting: dict[str, int]) -> None:
        import os
        import time

        import ray

        began = time.time()
        time.sleep(1.5)
        (gpu,) = ray.get_gpu_ids()
        seen = os.environ["CUDA_VISIBLE_DEVICES"]
        tune.report({"gpu": int(gpu), "seen": seen, "began": began, "left": time.time()})

    tuner = tune.Tuner(
        tune.with_resources(trial, needs),
        tune_config=tune.TuneConfig(reuse_actors=True),
        param_space={"number": tune.grid_search(list(range(8)))},
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    runs = [result.metrics for result in tuner.fit()]
    assert len(runs) == 8
    assert {run["gpu"] for run in runs} == {0, 1}
    assert all(run["seen"] == str(run["gpu"]) for run in runs), "a trial sees its own GPU alone"
    for run in runs:
        together = [
            other for other in runs
            if other["gpu"] == run["gpu"] and other["began"] <= run["began"] < other["left"]
        ]  # fmt: skip
        assert len(together) <= 2
    assert any(
        len([o for o in runs if o["gpu"] == run["gpu"] and o["began"] <= run["began"] < o["left"]]) == 2
        for run in runs
    ), "two trials did share a GPU"
