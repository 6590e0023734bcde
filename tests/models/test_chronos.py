"""A pretrained model, here one without any sense: weights cannot be had, so the test makes them."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest
import torch

import farm.models
from farm.base.errors import UserError
from farm.base.model import MODELS
from farm.base.types import RISK_LEVELS, Inputs, Windows
from farm.models.pretrained import Pretrained, PretrainedConfig
from farm.studies.forecast import ForecastStudy
from tests.scoring import evaluate

pytest.importorskip("chronos", reason="the extra 'pretrained' is not installed")

INPUTS = Inputs(("log_return",), 20, np.zeros(1), np.ones(1))
TINY = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 16,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}


def tiny_t5(folder):
    from transformers import T5Config, T5ForConditionalGeneration

    chronos = {
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
        "context_length": 64,
        "prediction_length": 4,
        "n_tokens": 64,
        "n_special_tokens": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "use_eos_token": True,
        "model_type": "seq2seq",
        "num_samples": 20,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    config = T5Config(**TINY, chronos_pipeline_class="ChronosPipeline", chronos_config=chronos)
    T5ForConditionalGeneration(config).save_pretrained(folder)


def tiny_bolt(folder):
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    chronos = {
        "context_length": 64,
        "prediction_length": 4,
        "input_patch_size": 8,
        "input_patch_stride": 8,
        "quantiles": [level / 10 for level in range(1, 10)],
        "use_reg_token": True,
    }
    config = T5Config(
        **TINY,
        chronos_pipeline_class="ChronosBoltPipeline",
        architectures=["ChronosBoltModelForForecasting"],
        chronos_config=chronos,
    )
    ChronosBoltModelForForecasting(config).save_pretrained(folder)


def tiny_two(folder):
    from chronos import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    forecasting = {
        "context_length": 64,
        "output_patch_size": 8,
        "input_patch_size": 8,
        "input_patch_stride": 8,
        "quantiles": [0.01, 0.05, *(level / 10 for level in range(1, 10)), 0.95, 0.99],
        "use_reg_token": True,
        "use_arcsinh": True,
        "max_output_patches": 1,
    }
    sizes = {key: TINY[key] for key in ("d_model", "d_kv", "d_ff", "num_layers", "num_heads")}
    config = Chronos2CoreConfig(
        **sizes,
        chronos_pipeline_class="Chronos2Pipeline",
        architectures=["Chronos2Model"],
        chronos_config=forecasting,
    )
    Chronos2Model(config).save_pretrained(folder)


KINDS = {"t5": tiny_t5, "bolt": tiny_bolt, "two": tiny_two}
LEVELS = {"t5": RISK_LEVELS, "bolt": RISK_LEVELS[2:7], "two": RISK_LEVELS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind, make in KINDS.items():
        torch.manual_seed(0)
        made[kind] = tmp_path_factory.mktemp(kind)
        make(made[kind])
    return made


def chronos(folder, **values):
    return MODELS["chronos"].make({"name": "chronos", "weights": str(folder), **values}, "model chronos")


def block(n=12, first=40):
    series = np.random.default_rng(0).normal(0, 0.01, 200)
    position = np.arange(first, first + n)
    x = np.zeros((n, 20, 1), np.float32)
    times = np.datetime64("2015-01-01") + position
    return Windows(x, series[position].astype(np.float32), times, ("log_return",), series, position)


@pytest.mark.parametrize("kind", KINDS)
def test_forecasts_at_the_levels_that_the_weights_know(kind, folders):
    model = chronos(folders[kind], samples=20).build(INPUTS)
    windows = block()
    model.fit(windows, windows)
    forecast = model.predict(windows)
    assert forecast.levels == LEVELS[kind]
    assert forecast.quantiles.shape == (12, len(LEVELS[kind]))
    assert forecast.point.dtype == forecast.quantiles.dtype == np.float64
    again = chronos(folders[kind], samples=20).build(INPUTS)
    again.load_state(model.state())
    np.testing.assert_array_equal(again.predict(windows).quantiles, forecast.quantiles)
    if kind != "t5":  # which draws its paths for all samples together
        part = model.predict(windows.take(slice(5, 8)))
        np.testing.assert_allclose(part.quantiles, forecast.quantiles[5:8], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_forecast_reads_its_own_past_alone(kind, folders):
    model = chronos(folders[kind], samples=20, context=24).build(INPUTS)
    windows = block()
    forecast = model.predict(windows)
    later = windows.series.copy()
    later[windows.position[5] :] = 0.3
    changed = model.predict(dataclasses.replace(windows, series=later, y=windows.y + 1))
    np.testing.assert_array_equal(changed.quantiles[:6], forecast.quantiles[:6])
    assert (changed.quantiles[6:] != forecast.quantiles[6:]).any(axis=1).all()
    earlier = windows.series.copy()
    earlier[: windows.position[0] - 24] = 0.3  # before the context
    beyond = model.predict(dataclasses.replace(windows, series=earlier))
    np.testing.assert_array_equal(beyond.quantiles, forecast.quantiles)


def test_a_series_shorter_than_the_context(folders):
    model = chronos(folders["bolt"], context=512).build(INPUTS)
    forecast = model.predict(block(n=4, first=1))
    assert np.isfinite(forecast.quantiles).all()


def test_the_study_warns_that_the_test_days_may_be_known(folders, ar1_panel):
    study = ForecastStudy(ticker="AR", market="MKT", features="raw")
    data = study.dataset(ar1_panel)
    evaluation = evaluate(study, chronos(folders["bolt"]).build(data.inputs), data)
    assert evaluation.tags == {
        "may have seen the test days": "the pretraining data may contain the test days"
    }
    assert evaluation.metrics["interval/violations"] <= 1


def test_a_folder_is_named_by_what_is_in_it(folders, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(folders["bolt"], copy)
    one, two = chronos(folders["bolt"]), chronos(copy)
    assert one.weights != two.weights
    assert one.versioned() == two.versioned()
    assert one.versioned() != chronos(folders["t5"]).versioned()
    assert chronos("amazon/chronos-2").versioned()["weights"] == "amazon/chronos-2"


def test_weights_that_cannot_be_had_are_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    model = chronos(tmp_path).build(INPUTS)
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"weights '.*' cannot be had \(.*\): give model.weights a local"
        ) as e:
            model.fit(block(), block())
        assert "\n" not in str(e.value)
    with pytest.raises(UserError, match="there is no such folder"):
        chronos(tmp_path / "nowhere")


def test_without_the_package_the_line_says_what_to_install(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "chronos", None)
    with pytest.raises(
        UserError, match=r"chronos-forecasting is not installed: pip install 'ablation-farm\[pretrained\]'"
    ):
        chronos(folders["bolt"]).build(INPUTS).fit(block(), block())


def test_no_pretrained_model_can_be_searched():
    from farm.base.search_space import Float

    for name in MODELS:
        if issubclass(MODELS[name], PretrainedConfig):
            fields = MODELS[name].model_fields.values()
            assert not any(isinstance(mark, Float) for field in fields for mark in field.metadata)
            assert not MODELS[name].trained
    assert issubclass(farm.models.chronos.Chronos, Pretrained)
