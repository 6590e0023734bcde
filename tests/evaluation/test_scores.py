"""Scores come from what a trial stored, whoever computes them and whenever."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import farm.experiment
from farm.base.errors import UserError
from farm.base.types import Dataset
from farm.data.panel import Panel
from farm.evaluation.metric import MEASURES, METRICS, direction_of, measure, metric, objectives
from farm.evaluation.scores import lacking, names_of
from farm.experiment import TrialConfig, require_number, rescore, run, validation_number
from farm.models.network import Network
from farm.space import check_objectives, parse_objective
from farm.store import SCORES, Record, Store
from farm.training.fit import TrainingConfig, fit, reproducible
from tests.return_world import ASSETS, return_panel
from tests.surface_world import record, tiny_trial

FORECAST = {"name": "forecast", "ticker": "AR", "market": "MKT", "features": "raw", "lookback": 5}
BACKFILL = {"name": "backfill", "ticker": "AR", "peers": ["MKT"], "calibrators": [{"name": "cqr"}]}
RETURNS = {"name": "generate", "market": "IDX", "assets": list(ASSETS[1:]), "lookback": 5}
RETURNS |= {"split": {"train": 0.6, "val": 0.15}}
TRAINING = {"epochs": 2, "patience": 2}
CVAE = {"name": "backfill_cvae", "hidden_size": 8, "latent_dim": 2}
VAE = {"name": "vae", "hidden_sizes": [4], "latent_dim": 2}
TRIALS = {
    "quantiles": {"study": FORECAST, "model": {"name": "ar_garch"}},
    "ensemble of a walk-forward": {
        "study": {**FORECAST, "split": {"name": "walk_forward", "windows": 2}},
        "model": {"name": "lstm", "hidden_size": 4, "head": "gaussian", "members": 2},
        "training": TRAINING,
    },
    "latents": {"study": BACKFILL, "model": CVAE, "training": TRAINING, "seed": 3},
    "likelihood": {"study": RETURNS, "model": {"name": "sample_normal"}},
    "bound": {"study": RETURNS, "model": VAE, "training": TRAINING},
    "paths": tiny_trial(seed=3),
}  # fmt: skip


def trial_of(name: str) -> TrialConfig:
    values = TRIALS[name]
    return values if isinstance(values, TrialConfig) else TrialConfig.make(values, name)


@pytest.fixture
def sources(ar1_panel: Panel) -> dict[str, object]:
    return {
        "forecast": ar1_panel,
        "backfill": ar1_panel,
        "generate": return_panel(700),
        "surface": record(600),
    }


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget metrics that a test registers."""
    before = [dict(registry._entries) for registry in (METRICS, MEASURES)]
    yield
    for registry, entries in zip((METRICS, MEASURES), before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)


def median_error(version: int = 1, factor: float = 1.0) -> None:
    """Register a metric of a user's own."""
    METRICS._entries.pop("median_error", None)

    @metric("test", direction="min", optimum=0.0, unit="target", reads="point", version=version)
    def median_error(forecast, truth):
        return factor * float(np.median(np.abs(forecast.point - truth)))


@pytest.fixture
def stored(finished, tmp_path: Path) -> tuple[Store, Record]:
    store = Store(str(tmp_path / "store")).open()
    store.put("abc", *finished)
    record = store.get("abc")
    assert record is not None
    return store, record


@pytest.mark.parametrize("name", TRIALS)
def test_a_stored_trial_is_scored_as_it_was_in_its_worker(name, sources, tmp_path, monkeypatch) -> None:
    config = trial_of(name)
    source = sources[config.study.name]
    result = run(config, source, device="cpu")
    store = Store(str(tmp_path)).open()
    store.put("abc", config, result)
    (tmp_path / "trials" / "abc" / SCORES).write_bytes(b"torn")
    record = store.get("abc")
    assert record is not None
    assert lacking(record.scores, config.study.name) == names_of(config.study.name)
    monkeypatch.setattr(farm.experiment, "fit", None)  # nothing is fitted
    filled, names = store.fill_scores(record, source)
    assert names == names_of(config.study.name)
    assert filled.scores == dict(result.scores)
    assert (filled.metrics, filled.tags) == (result.metrics, result.tags)
    assert store.get("abc").metrics == result.metrics
    assert store.fill_scores(filled, source)[1] == []


def test_a_new_metric_is_computed_from_stored_forecasts_alone(stored, own, ar1_panel, monkeypatch) -> None:
    store, record = stored
    monkeypatch.setattr(store, "model_state", None)
    median_error()
    filled, names = store.fill_scores(record, ar1_panel)
    assert names == ["median_error"]
    frame, val = record.forecast(), record.forecast(block="val")
    expected = (frame["predicted"] - frame["actual"]).abs().median()
    assert filled.metrics["test/median_error"] == pytest.approx(expected, rel=1e-12)
    assert filled.metrics["val/median_error"] == pytest.approx(
        (val["predicted"] - val["actual"]).abs().median()
    )
    assert {n: v for n, v in filled.metrics.items() if "median_error" not in n} == record.metrics
    assert (
        filled.scored != record.scored == store.get("abc").scored or filled.scored == store.get("abc").scored
    )
    again, names = store.fill_scores(store.get("abc"), ar1_panel)
    assert names == []
    median_error(version=2, factor=100.0)
    changed, names = store.fill_scores(again, ar1_panel)
    assert names == ["median_error"]
    assert changed.metrics["test/median_error"] == pytest.approx(100 * expected)
    METRICS._entries.pop("median_error")
    assert "test/median_error" in store.fill_scores(changed, ar1_panel)[0].metrics, (
        "nothing is computed, or lost"
    )


def test_a_measure_of_the_model_costs_its_weights_and_no_fit(stored, own, ar1_panel, monkeypatch) -> None:
    store, record = stored
    read = []
    monkeypatch.setattr(
        store, "model_state", lambda name: read.append(name) or Store.model_state(store, name)
    )

    @measure("model")
    def largest_forecast(fitted, evaluation):
        found = np.abs(fitted.model.predict(fitted.test).point).max()
        return {
            "test/largest": found,
            "test/same": float(found == np.abs(evaluation.test.forecasts[""].point).max()),
        }

    filled, names = store.fill_scores(record, ar1_panel)
    assert (names, read) == (["largest_forecast"], ["abc"])
    assert filled.metrics["test/same"] == 1.0


def test_a_number_that_is_not_finite_has_its_reason(stored, own, ar1_panel) -> None:
    store, record = stored

    @metric("test", direction="min", optimum=0.0, unit="1", reads="point", undefined="it divides by zero")
    def broken(forecast, truth):
        return float("inf")

    filled, _ = store.fill_scores(record, ar1_panel)
    assert "test/broken" not in filled.metrics
    assert filled.undefined["val/broken"] == "it divides by zero"
    with pytest.raises(ValueError, match="val/broken is not a finite number: it divides by zero"):
        require_number(filled.metrics, filled.undefined, "val/broken")
    with pytest.raises(
        ValueError, match="val/elbo is not a finite number: this model and study have no such"
    ):
        require_number(filled.metrics, filled.undefined, "val/elbo")


def test_what_a_search_may_look_for() -> None:
    assert {"val/rmse", "val/crps", "val/log_score", "val/violations", "val/log_likelihood", "val/elbo"} <= {
        *objectives()
    }
    assert parse_objective("val/log_likelihood").direction == "max"
    assert parse_objective("val/violations").direction == "optimum"
    assert direction_of("test/rmse") is None
    with pytest.raises(UserError, match="expected min or max"):
        parse_objective("val/elbo:optimum")


@pytest.mark.parametrize(
    ("name", "given", "refused"),
    [
        ("quantiles", ("val/pinball", "val/log_score"), "val/log_likelihood"),
        ("quantiles", ("val/rmse",), "val/s4/rmse"),
        ("likelihood", ("val/log_likelihood", "val/rmse"), "val/elbo"),
        ("bound", ("val/elbo",), "val/log_likelihood"),
        ("paths", ("val/pass1/rmse", "val/violations"), "val/elbo"),
    ],
)
def test_an_objective_that_a_model_cannot_have_is_refused_before_a_trial(
    name, given, refused, sources
) -> None:
    config = trial_of(name)
    source = sources[config.study.name]
    check_objectives([parse_objective(text) for text in given], [config], source)
    with pytest.raises(UserError, match=f"objective '{refused}': {config.model.name} in the study"):
        check_objectives([parse_objective(refused)], [config], source)


@pytest.mark.parametrize(
    ("name", "metric_name", "sign"),
    [("ensemble of a walk-forward", "val/crps", 1), ("bound", "val/elbo", -1), ("bound", "val/rmse", 1)],
)
def test_early_stopping_keeps_the_epoch_that_is_best_by_the_metric(name, metric_name, sign, sources) -> None:
    values = {
        **TRIALS[name],
        "training": {"epochs": 5, "patience": 5, "learning_rate": 0.05, "stopping_metric": metric_name},
    }
    values["model"] = {key: value for key, value in values["model"].items() if key != "members"}
    values["study"] = {**values["study"], "split": RETURNS["split"]}
    config = TrialConfig.make(values, name)
    data = config.study.dataset(sources[config.study.name])
    states: list[dict[str, np.ndarray]] = []

    def fitted(training: TrainingConfig) -> tuple[Network, int]:
        with reproducible(0):
            network = config.model.build(data.inputs)
            judged = farm.experiment.judge(config.model_copy(update={"training": training}), network, data)
            keep = {"report": lambda epoch: states.append({n: v.copy() for n, v in network.state().items()})}
            history = fit(network, data.train, data.val, training, 0, **keep, judge=judged)
        return network, history.best_epoch

    # The slow way: score what each epoch leaves.
    other, _ = fitted(config.training.model_copy(update={"stopping_metric": "loss"}))
    found = []
    for state in states:
        other.load_state(state)
        found.append(sign * validation_number(config.study, other, data, metric_name))
    network, best = fitted(config.training)
    assert best == 1 + int(np.argmin(found))
    assert sign * validation_number(config.study, network, data, metric_name) == min(found)


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("bound", "test/rmse", "expected loss or a metric of the validation"),
        ("bound", "val/rsme", "did you mean 'val/rmse'"),
        ("paths", "val/rmse", "on which each phase stops"),
    ],
)
def test_a_stopping_metric_that_cannot_be_is_refused(name, asked, said) -> None:
    values = trial_of(name).model_dump(mode="json")
    values["training"]["stopping_metric"] = asked
    with pytest.raises(UserError, match=said):
        TrialConfig.make(values, "trial")


def test_a_stopping_metric_that_the_model_lacks_fails_the_trial_with_a_reason(sources) -> None:
    values = {
        **TRIALS["ensemble of a walk-forward"],
        "study": FORECAST,
        "model": {"name": "lstm", "hidden_size": 4},
    }
    values["training"] = {**TRAINING, "stopping_metric": "val/crps"}
    with pytest.raises(UserError, match="gives no val/crps after an epoch"):
        run(TrialConfig.make(values, "trial"), sources["forecast"], device="cpu")


def test_the_test_block_is_opened_once_though_many_measures_read_it(sources) -> None:
    config = trial_of("likelihood")
    opened = []
    before = Dataset.open_test
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "open_test", lambda self: opened.append(1) or before(self))
        result = run(config, sources["generate"], device="cpu")
        assert opened == [1]
        again = rescore(
            config, sources["generate"], result.evaluation, lambda: result.state, ["covariance", "rmse"]
        )
    assert opened == [1, 1]
    assert again["rmse"] == result.scores["rmse"]
