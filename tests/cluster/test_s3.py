"""Results in a bucket, as moto serves it on loopback, are as good as results on a disk."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

from farm.base.errors import UserError
from farm.base.search_space import Sweep, Variant
from farm.data.panel import Panel
from farm.experiment import Result, run
from farm.plan import Options, Plan, make_plan
from farm.store import RECORD, Store
from tests.conftest import call

pytest.importorskip("moto")


def row(name: str) -> Variant:
    return Variant(name=name, values={"model.name": name.replace("-", "_"), "study.features": "feat"})


@pytest.fixture(scope="module")
def plan(ar1_panel: Panel) -> Plan:
    sweep = Sweep(
        title="Three baselines",
        question="Does a regression find the autoregression?",
        common={"study.name": "forecast"},
        variants=(row("linear"),),
        baselines=(row("zero"), row("historical-mean")),
        references=("zero",),
        tickers=("AR",),
        market="MKT",
    )
    return make_plan("three", sweep, ar1_panel, Options())


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URI of an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    import boto3

    where = f"http://{host}:{port}"
    told = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=where, **told).create_bucket(Bucket="farm")
    place = quote(f"{host}:{port}", safe="")
    yield f"s3://testing:testing@farm/{{}}?scheme=http&endpoint_override={place}&region=us-east-1"
    server.stop()


@pytest.fixture(scope="module")
def results(plan: Plan) -> list[Result]:
    return [run(trial.config, plan.source) for trial in plan.trials]


@pytest.fixture(scope="module")
def fill(plan: Plan, results: list[Result]) -> Callable[[str], Store]:
    def filled(root: str) -> Store:
        store = Store(root).open()
        for trial, result in zip(plan.trials, results, strict=True):
            store.put(trial.signature, trial.config, result)
        return store

    return filled


def test_what_comes_back_is_what_a_disk_gives(fill, bucket: str, plan: Plan, tmp_path: Path) -> None:
    far, near = fill(bucket.format("same")), fill(str(tmp_path))
    assert far.configs() == near.configs()
    assert len(far.configs()) == len(plan.trials)
    for trial in plan.trials:
        there, here = far.get(trial.signature), near.get(trial.signature)
        assert there is not None
        assert here is not None
        np.testing.assert_equal(there.metrics, here.metrics)  # NaN included
        pd.testing.assert_frame_equal(there.forecast(), here.forecast())
        far_state, near_state = far.model_state(trial.signature), near.model_state(trial.signature)
        assert far_state.keys() == near_state.keys()
        assert all(np.array_equal(far_state[name], near_state[name]) for name in near_state)


def test_a_torn_trial_is_no_trial(fill, bucket: str, plan: Plan) -> None:
    store = fill(bucket.format("torn"))
    torn, whole = plan.trials[0], plan.trials[1]
    store._files.delete_file(f"{store._base}/trials/{torn.signature}/{RECORD}")
    again = Store(bucket.format("torn")).open()
    assert again.get(torn.signature) is None
    assert again.get(whole.signature) is not None
    assert torn.signature not in again.configs()


def test_another_machine_sees_the_mark(bucket: str) -> None:
    mark = Store(bucket.format("mark")).open().leave_mark()
    assert Store(bucket.format("mark")).sees_mark(mark)
    assert not Store(bucket.format("elsewhere")).sees_mark(mark)
    Store(bucket.format("mark")).remove_mark(mark)
    assert not Store(bucket.format("mark")).sees_mark(mark)


def test_a_bucket_that_is_not_there_is_refused_in_one_line(bucket: str) -> None:
    with pytest.raises(UserError, match="cannot be used") as caught:
        Store(bucket.format("x").replace("@farm/", "@absent/")).open()
    assert "\n" not in str(caught.value)


SWEEP = """
from farm.base.search_space import Sweep, Variant


def row(name: str) -> Variant:
    return Variant(name=name, values={"model.name": name.replace("-", "_"), "study.features": "feat"})


SWEEP = Sweep(
    title="Three baselines", question="Does ridge beat zero?", common={"study.name": "forecast"},
    variants=(row("ridge"),), baselines=(row("linear"), row("zero")), references=("linear", "zero"),
    tickers=("AAPL", "MSFT"), market="SP500", start="2018-01-02", end="2020-11-20",
)
"""
TRIALS = 2 * 3


def sweep(folder: Path, storage: str, tracking: str = "mlflow.db") -> str:
    """Run the sweep in a folder of its own; give what it printed."""
    folder.mkdir(exist_ok=True)
    (folder / "three.py").write_text(SWEEP)
    places = ("--storage", storage, "--tracking-uri", f"sqlite:///{folder / tracking}")
    done = call(folder, "three.py", "--concurrency", "1", *places)
    assert done.code == 0, done.err
    return done.out


def logged(folder: Path, tracking: str) -> list[str]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / tracking}")
    experiment = client.get_experiment_by_name("three")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`farm.role` = 'trial'")
    return [run.data.tags["farm.signature"] for run in runs]


@pytest.mark.e2e(100)
def test_a_sweep_in_a_bucket_resumes_and_is_logged_as_on_a_disk(
    ray_here: None, bucket: str, tmp_path: Path
) -> None:
    far = bucket.format("sweep")
    assert f"{TRIALS} of {TRIALS} trials to run" in sweep(tmp_path / "far", far)
    sweep(tmp_path / "near", "farm_store")
    for name in ("table.csv", "results.csv"):
        there, here = (pd.read_csv(tmp_path / place / "results/three" / name) for place in ("far", "near"))
        pd.testing.assert_frame_equal(there, here, check_exact=True)
    store = Store(far)
    lost = sorted(store.configs())[0]
    store._files.delete_file(f"{store._base}/trials/{lost}/{RECORD}")  # torn, as a crash leaves it
    assert f"1 of {TRIALS} trials to run" in sweep(tmp_path / "far", far)
    # Elsewhere it trains nothing, and a tracking server that knows nothing hears of everything, once.
    assert f"all {TRIALS} trials are in the store" in sweep(tmp_path / "other", far, "new.db")
    for folder, tracking in (("far", "mlflow.db"), ("other", "new.db")):
        assert sorted(logged(tmp_path / folder, tracking)) == sorted(store.configs())
