"""Names that are made of values: no two values share one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.base.errors import UserError
from farm.base.search_space import Float
from farm.base.types import Forecast, quantile_name
from farm.data.door import load_panel
from farm.data.splits import Blocks
from farm.data.surface_windows import cell_names, surface_dataset
from farm.evaluation.scores import Evaluation
from farm.plan import Options, make_plan, parse_setting
from farm.report.page import observed_levels
from farm.report.studies import forecast_of
from farm.space import make_space
from farm.store import Store
from farm.sweep import load_sweep
from farm.views import metric_name
from tests.surface_world import record as surfaces
from tests.tuning import bowl

NEAR = (0.005, 0.02, 0.025, 0.05, 0.5, 0.975, 0.98, 0.995)
BLOCKS = Blocks(slice(6, 20), slice(20, 30), slice(30, 40), slice(40, 60))
LEVELS = st.floats(0, 1, exclude_min=True, exclude_max=True)


@given(LEVELS)
def test_a_level_is_told_by_its_name(level) -> None:
    """Every digit is in it, so two names are alike where two levels are."""
    name = quantile_name(level)
    assert name[0] == "q"
    assert float(name[1:]) == pytest.approx(100 * level, rel=1e-15)
    for other in (np.nextafter(level, 0), np.nextafter(level, 1)):
        assert quantile_name(other) != name


def test_usual_levels_have_short_names() -> None:
    assert [quantile_name(level) for level in NEAR] == [
        *("q00.5", "q02", "q02.5", "q05", "q50", "q97.5", "q98", "q99.5"),
    ]
    assert quantile_name(np.float64(0.1)) == "q10"
    assert quantile_name(1e-7) == "q00.00001"


def test_near_levels_keep_their_quantiles_through_store_and_page(finished, tmp_path) -> None:
    config, result = finished
    test = result.evaluation.test
    days = len(test.actual)
    quantiles = test.actual[:, None] + np.linspace(-1, 1, len(NEAR))
    forecasts = {"": Forecast(test.actual, quantiles, NEAR)}
    store = Store(str(tmp_path)).open()
    store.put(
        "abc", config, replace(result, evaluation=Evaluation({"test": replace(test, forecasts=forecasts)}))
    )
    record = store.get("abc")
    assert record is not None
    np.testing.assert_array_equal(forecast_of(record, "").quantiles, quantiles)
    assert forecast_of(record, "").levels == NEAR
    observed = observed_levels(record.forecast().assign(model="m"), record.levels[""])
    assert tuple(observed["level"]) == NEAR
    assert tuple(observed["share"]) == (0.0,) * 4 + (1.0,) * 4
    assert (observed["days"] == days).all()


@given(st.text(max_size=12), st.text(max_size=12))
def test_two_metrics_are_two_in_mlflow(one, other) -> None:
    assert (metric_name(one) == metric_name(other)) == (one == other)


def test_a_ticker_of_an_index_is_told_from_one_without_its_mark() -> None:
    assert metric_name("asset/^GSPC/kl") == "asset/:5e:GSPC/kl"
    assert metric_name("vs/linear_rmse_skill") == "vs/linear_rmse_skill"


def test_near_cells_have_names_of_their_own() -> None:
    inputs = surface_dataset(surfaces(60), 6, BLOCKS).inputs
    near = replace(inputs, maturities=(1.0, 1.01), log_moneyness=None, delta=(0.25, 0.250001))
    assert cell_names(near) == ("1.0y 0.25d", "1.0y 0.250001d", "1.01y 0.25d", "1.01y 0.250001d")
    far = replace(near, maturities=(1.0, 1.1), delta=(0.25, 0.3))
    assert cell_names(far) == ("1y 0.25d", "1y 0.3d", "1.1y 0.25d", "1.1y 0.3d")


def test_a_row_is_not_called_as_what_a_search_tries() -> None:
    plan = bowl.plan(ranges={"model.x": Float(-1.0, 1.0)})
    zero = plan.sweep.baselines[0]
    named = plan.sweep.model_copy(update={"baselines": (zero, zero.model_copy(update={"name": "tpe-3"}))})
    with pytest.raises(UserError, match="the row 'tpe-3' is called as what the search tries: rename it"):
        make_space(replace(plan, sweep=named), {})


def test_a_row_is_not_called_as_a_sample_of_another() -> None:
    name, sweep = load_sweep("ablation")
    twin = sweep.baselines[-1].model_copy(update={"name": "LSTM-Raw sample 1"})
    named = sweep.model_copy(update={"baselines": (*sweep.baselines[:-1], twin), "references": ("linear",)})
    asked = dict([parse_setting("training.learning_rate=1e-4..1e-2")])
    with pytest.raises(UserError, match="got a row 'LSTM-Raw sample 1', which is also the name of a sample"):
        make_plan(name, named, load_panel(), Options(quick=True, samples=1, settings=asked))
