"""The figures of the surface study say what is in the results of its trials."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from farm.evaluation.checklist import CHECKLIST, hold
from farm.experiment import TrialConfig, run
from farm.report.conclusion import other_forecasts
from farm.report.looks import looks_of
from farm.report.studies import study_figures
from farm.report.surface_figures import (
    checklist_picture,
    cointegration_shares,
    deployments,
    errors_ahead,
    phase_curves,
)
from farm.report.tables import write_results
from farm.store import Record, Store
from tests.report.test_backfill_figures import drawn, words
from tests.studies.test_surface import STUDY
from tests.surface_world import SMALL, record

PHASE = {"epochs": 1, "horizon": 4, "offsets": (2, 4)}
NETWORK = {
    "model": {"name": "surface_cvae", **SMALL},
    "training": {"learning_rate": 1e-3},
    "curriculum": {
        "phase1": {"epochs": 2},
        "phase2": {"epochs": 1, "horizons": (1, 4), "weights": (1.0, 0.5)},
        "phase3": PHASE,
        "phase4": PHASE,
    },
}
ROWS = {
    "cvae": NETWORK,
    "walk": {"model": {"name": "surface_random_walk"}},
    "econometric": {"model": {"name": "surface_cointegration"}},
}
TABLE = pd.DataFrame(
    {
        "model": list(ROWS),
        "role": ["variant", "baseline", "baseline"],
        "dm_p": [0.2, 0.3, np.nan],  # the reference has none
        "econometric_rmse_skill": [0.06, -0.1, 0.0],
    }
)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """Trials as the store gives them back; the network's with what its phases would have measured."""
    store = Store(str(tmp_path_factory.mktemp("store"))).open()
    surfaces, found = record(600), {}
    for name, values in ROWS.items():
        config = TrialConfig.make({"study": STUDY.model_dump(), **values}, name)
        result = run(config, surfaces, device="cpu")
        if name == "cvae":
            phases = {"phase1/epochs": 2.0, "phase2/epochs": 1.0, "phase3/epochs": 1.0, "phase4/epochs": 1.0}
            result = replace(result, facts={**result.facts, **phases, "phase2/train/rmse": 0.0789})
        store.put(name, config, result)
        kept = store.get(name)
        assert kept is not None
        found[name] = kept
    return found


@pytest.fixture(scope="module")
def figures(records: dict[str, Record]):
    trials = [({"model": name, "ticker": "x", "seed": 0}, kept) for name, kept in records.items()]
    return study_figures("surface", TABLE, pd.DataFrame(), trials)


def test_forecasts_of_paths_say_from_which_day_and_how_far_ahead(records: dict[str, Record]):
    """Stretches of 24 days, the last of 6, that begin on rows 546, 570 and 594 of the record."""
    dates, cells = record(600).dates, 25
    for part in ("", "conformal"):
        frame = records["cvae"].forecast(part)
        place = 0
        for first, stop in ((546, 570), (570, 594), (594, 600)):
            for row in range(first, stop):
                own = frame.iloc[place : place + cells]
                assert (own["date"].to_numpy().astype("datetime64[D]") == dates[row]).all()
                assert (own["start"].to_numpy().astype("datetime64[D]") == dates[first - 1]).all()
                assert (own["lead"] == row - first + 1).all()
                place += cells
        assert place == len(frame)


def test_calibrated_forecasts_are_exported(records: dict[str, Record], tmp_path: Path):
    key = {"model": "cvae", "ticker": "x", "seed": 0}
    beside = other_forecasts([(key, records["cvae"])])
    assert set(beside["evaluation"]) == {"overlap", "conformal", "oracle"}
    assert set(beside.loc[beside["oracle"], "evaluation"]) == {"oracle"}
    nothing = pd.DataFrame(columns=["ticker", "model", "seed", "mae", "rmse", "direction_accuracy"])
    write_results(tmp_path, TABLE, nothing, nothing, nothing, nothing, beside=beside)
    kept = pd.read_parquet(tmp_path / "evaluations.parquet")
    mended = kept[kept["evaluation"] == "conformal"]
    expected = records["cvae"].forecast("conformal")
    for column in ("start", "lead", "date", "predicted", "q05", "q95"):
        np.testing.assert_array_equal(mended[column], expected[column])
    assert (mended["model"] == "cvae").all()


def test_the_pictures_of_a_sweep(figures, tmp_path: Path):
    expected = {
        "year_ahead",
        "errors_ahead",
        "cells",
        "cointegration",
        "deployments",
        "phases",
        "checklist_cvae",
    }
    assert set(figures) == expected
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png", dpi=40)


def test_the_fans_are_of_the_level(figures, records: dict[str, Record]):
    surfaces = record(600)
    level = surfaces.iv[546:600, 3, 2].astype(float)
    top, bottom = figures["year_ahead"].axes
    for axis, name in ((top, "cvae"), (bottom, "econometric")):
        came = next(line for line in axis.lines if len(line.get_xdata()) == 54)
        np.testing.assert_allclose(came.get_ydata(), level, rtol=1e-5)
        frame = records[name].forecast()
        own = frame[frame["item"] == "1y 1"]
        rmse = np.sqrt(np.mean((own["predicted"] - own["actual"]) ** 2))
        assert f"RMSE {rmse:.3f}" in axis.get_title(loc="left")


def test_errors_cells_and_deployments_are_those_measured(figures, records: dict[str, Record]):
    metrics = records["cvae"].metrics
    left, right = figures["errors_ahead"].axes
    points = np.concatenate([line.get_ydata() for line in left.lines])
    for number in (1, 2, 3):
        assert np.isclose(points, metrics[f"test/pass{number}/rmse"]).any()
    longest = max(right.lines, key=lambda line: len(line.get_ydata()))
    assert len(longest.get_ydata()) == STUDY.days
    text = words(figures["cells"])
    for cell in ("1m 0.7", "1y 1", "2y 1.3"):
        assert f"{metrics[f'test/grid/{cell}/rmse']:.3f}" in text
    text = words(figures["deployments"])
    assert f"{metrics['test/rmse']:.4f}" in text
    assert f"{metrics['test/overlap/rmse']:.4f}" in text


def test_each_phase_has_its_part_of_the_learning_curve(figures, records: dict[str, Record]):
    axes = figures["phases"].axes
    assert [axis.get_title(loc="left") for axis in axes] == ["phase 1", "phase 2", "phase 3", "phase 4"]
    history = records["cvae"].history
    assert history is not None
    first = next(line for line in axes[0].lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2)
    np.testing.assert_array_equal(first.get_ydata(), [epoch.val_loss for epoch in history.epochs[:2]])


def test_the_checklist_stands_beside_its_limits(figures):
    text = words(figures["checklist_cvae"])
    for criterion in CHECKLIST:
        assert criterion.name in text
    assert "0.0789" in text  # over the gate's 0.07
    assert "≤ 0.07" in text
    assert "0.0600" in text  # the skill against the econometric baseline, from the table
    picture = checklist_picture(hold({"test/rmse": 0.3, "phase1/val/kl": 2.0}), "one")
    assert "fall back" in picture._suptitle.get_text()
    assert f"{len(CHECKLIST) - 4} not measured" in words(picture)  # three rows hold the RMSE


def test_what_is_missing_is_said():
    looks = looks_of(TABLE)
    assert "No network was trained" in words(phase_curves({}, looks))
    assert "No network rolled out" in words(deployments(pd.DataFrame(), looks))
    nothing = pd.DataFrame(columns=["model", "regime", "generated", "real"])
    assert "long enough to be tested" in words(cointegration_shares(nothing, looks))


def test_models_keep_their_marks():
    looks = looks_of(TABLE)
    figure = errors_ahead({n: np.array([0.1, 0.2]) for n in looks}, {n: np.ones(5) for n in looks}, looks)
    for look in looks.values():
        assert len(drawn(figure.axes[0], look.marker)) >= 2
    shares = pd.DataFrame({"model": list(ROWS), "regime": "all", "generated": [0.2, 0.5, 0.97], "real": 0.68})
    assert "all: real 68 %" in words(cointegration_shares(shares, looks))
