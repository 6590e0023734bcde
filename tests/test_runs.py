"""What MLflow is told of trials and rows, and what its saved views show first."""

import base64
import json
import zlib
from dataclasses import dataclass, field

import pytest

from farm.runs import row_metrics, trial_metrics
from farm.training.fit import Epoch, History
from farm.views import TAG, TRIALS, VERDICT, metric_name, saved_views


@dataclass(frozen=True)
class FakeRecord:
    metrics: dict[str, float]
    history: History | None = None
    tags: dict[str, str] = field(default_factory=dict)


ROW = {
    "rmse": 0.0191, "rmse_lo": 0.018, "rmse_hi": 0.02, "mae": 0.012, "direction_accuracy": 0.53,
    "dm_statistic": -1.4, "dm_p": 0.16, "mcs_p": 0.4,
    "linear_rmse_skill": 0.0123, "linear_rmse_skill_lo": -0.01, "linear_rmse_skill_hi": 0.03,
    "best_rmse_skill": 0.002, "best_p_selected": 0.8, "linear_p_selected": 0.3,
    "zero_rmse_skill": -0.04, "zero_p_selected": 1.0,
}  # fmt: skip


def test_a_rows_skill_in_percent_is_a_hundred_times_its_skill() -> None:
    records = [FakeRecord({"val/rmse": value, "cost/epochs": 3.0}) for value in (0.1, 0.3)]
    records[0].metrics["only/here"] = 1.0
    found = row_metrics(ROW, records, ("linear", "zero"))
    assert found["vs/linear_skill_percent"] == pytest.approx(1.23)
    assert found["vs/zero_skill_percent"] == pytest.approx(-4.0)
    assert found["vs/linear_rmse_skill"] == 0.0123
    assert (found["ci/lo"], found["ci/hi"]) == (-0.01, 0.03), "of the skill"
    assert (found["vs/best_rmse_skill"], found["vs/best_p_selected"]) == (0.002, 0.8)
    assert (found["test/rmse"], found["vs/zero_p_selected"]) == (0.0191, 1.0)
    assert found["val/rmse"] == pytest.approx(0.2)
    assert "only/here" not in found


def test_the_best_epoch_and_loss_stand_beside_the_curve() -> None:
    """The curve's last value is that of its last epoch, which need not be the best."""
    curve = [(1, 0.9, 0.8), (2, 0.7, 0.5), (3, 0.6, 0.65)]
    history = History(tuple(Epoch(e, train, val, 0.1) for e, train, val in curve), best_epoch=2)
    metrics = {"train/best_epoch": 2.0, "val/best_loss": 0.5, "test/rmse": 0.02}
    found = trial_metrics(FakeRecord(metrics, history), {"vs/linear_rmse_skill": 0.01})
    assert ("best/epoch", 2.0, 0) in found
    assert ("best/val_loss", 0.5, 0) in found
    assert ("vs/linear_rmse_skill", 0.01, 0) in found
    assert [row for row in found if row[0] == "val/loss"] == [("val/loss", val, e) for e, _, val in curve]
    assert [row for row in found if row[0] == "train/loss"] == [("train/loss", t, e) for e, t, _ in curve]
    bare = trial_metrics(FakeRecord({"test/rmse": 0.02}), {})
    assert bare == [("test/rmse", 0.02, 0)]


def state(tags: dict[str, str], view: str) -> dict:
    packed = json.loads(tags[TAG + view])["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_the_verdict_opens_on_the_most_skilful_row_and_the_trials_on_the_least_error() -> None:
    tags = saved_views("run1", ("linear", "zero"), "test/rmse", 0)
    verdict, trials = state(tags, VERDICT), state(tags, TRIALS)
    assert (verdict["orderByKey"], verdict["orderByAsc"]) == ("metrics.`vs/linear_skill_percent`", False)
    assert (trials["orderByKey"], trials["orderByAsc"]) == ("metrics.`test/rmse`", True)
    assert verdict["searchFilter"] == "tags.farm.role != 'trial' AND tags.farm.sweep = 'run1'"
    assert trials["searchFilter"] == "tags.farm.role = 'trial' AND tags.mlflow.parentRunId = 'run1'"


@pytest.mark.parametrize("references", [("linear", "zero"), ("AR+GARCH", "zero")])
def test_what_a_view_shows_is_what_a_run_is_told(references) -> None:
    """A column or chart of a name that no run has would stay empty."""
    row_of = {name.replace("linear", references[0]): value for name, value in ROW.items()}
    metrics = {"train/best_epoch": 2.0, "val/best_loss": 0.5, "cost/fit_seconds": 1.0, "test/rmse": 0.02}
    history = History((Epoch(1, 0.9, 0.8, 0.1),), best_epoch=1)
    row = row_metrics(row_of, [FakeRecord(metrics)], references)
    skill = {f"vs/{name}_rmse_skill": 0.1 for name in references}
    trial = [name for name, _, _ in trial_metrics(FakeRecord(metrics, history), skill)]
    tags = saved_views("run1", references, "test/rmse", 0)
    for view, told in ((VERDICT, row), (TRIALS, trial)):
        known = {f"metrics.`{metric_name(name)}`" for name in told}
        shown = state(tags, view)
        asked = {name for name in shown["selectedColumns"] if name.startswith("metrics.")}
        asked |= {f"metrics.`{chart['metricKey']}`" for chart in shown["compareRunCharts"]}
        assert asked | {shown["orderByKey"]} <= known
