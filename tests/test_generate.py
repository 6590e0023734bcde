"""Generation from stored trials: the files, what is in them, and what a user gets wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import farm.generate
from farm.base.surfaces import SurfaceWindows
from farm.base.types import Forecast
from farm.data.simulate import simulate
from farm.data.surface import Surfaces, read_surfaces
from farm.evaluation.scores import Block, Evaluation
from farm.experiment import Result, TrialConfig
from farm.generate import GeneratedDays, generate_days, restore
from farm.store import Store, sealed, unsealed
from farm.training.rollout import generate_paths

STUDY = {
    "name": "surface",
    "context": 6,
    "horizon": 30,
    "offset": 30,
    "overlap": 15,
    "split": {"least_val": 40, "least_calibration": 40, "least_test": 40, "least_train": 120, "gap": 30},
}
MODELS = {
    "surface_random_walk": {},
    "surface_pca_var": {"factors": 2},
    "surface_cointegration": {},
    "surface_cvae": {"hidden_size": 8, "latent_dim": 2},
    "surface_cvae no_ex": {"hidden_size": 8, "latent_dim": 2, "variant": "no_ex"},
}
CVAE, WALK = "surface_cvae", "surface_random_walk"


def config(model: str) -> TrialConfig:
    name = model.split()[0]
    taught = {"training": {}, "curriculum": {}} if name == CVAE else {}
    values = {"study": STUDY, "model": {"name": name, **MODELS[model]}, **taught}
    return TrialConfig.model_validate_json(json.dumps(values))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Surfaces, dict[str, str]]:
    """A folder with 600 days of surfaces and a store of one trial of each model; signatures by model."""
    folder = tmp_path_factory.mktemp("generate")
    s = simulate().surfaces
    part = slice(4700, 5300)
    np.savez(
        folder / "surfaces.npz", surface=s.iv[part], dates=s.dates[part].astype(str), ret=s.returns[part]
    )
    surfaces = read_surfaces(folder / "surfaces.npz")
    (folder / "folder.npz").mkdir()
    store = Store(str(folder / "store")).open()
    signatures = {}
    for name in MODELS:
        trial = config(name)
        data = trial.study.dataset(surfaces)
        model = trial.model.build(data.inputs)
        if name not in (CVAE, "surface_cvae no_ex"):
            model.fit(data.train, data.val)
        state = {f"model.{key}": np.asarray(value) for key, value in model.state().items()}
        state |= {"inputs.mean": data.inputs.mean, "inputs.scale": data.inputs.scale}
        nothing = Evaluation({"test": Block(surfaces.dates[:1], np.zeros(1), {"": Forecast(np.zeros(1))})})
        signatures[name] = trial.signature(surfaces)
        store.put(signatures[name], trial, Result(nothing, {}, {}, None, state))
    return folder, surfaces, signatures


@pytest.fixture
def call(world, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in this process, in the folder of the world."""
    monkeypatch.chdir(world[0])
    (world[0] / "days.npz").unlink(missing_ok=True)  # another test's

    def run(model: str, *arguments: str, surface: str = "surfaces.npz") -> tuple[int, str, str]:
        signature = world[2].get(model, model)
        argv = ["farm.generate", "--run", signature, "--storage", "store", "--surface", surface, *arguments]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            farm.generate.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def made(
    world, model: str, days: int = 40, samples: int = 7, row: int | None = None, **fields
) -> GeneratedDays:
    folder, _, signatures = world
    taught = restore(Store(str(folder / "store")), signatures[model], folder / "surfaces.npz")
    return generate_days(taught, taught.deployment(days, **fields), samples, row=row)


@pytest.mark.parametrize("model", MODELS)
def test_a_file_holds_the_days_after_the_last_one(call, world, model):
    out = "days.npz"
    arguments = ["--days", "40", "--samples", "9", "--offset", "15", "--horizon", "20", "--out", out]
    code, printed, complaint = call(model, *arguments)
    assert (code, complaint) == (0, "")
    assert "days.npz: 9 paths of 40 days, 2011-01-11 to 2011-03-07" in printed
    with np.load(world[0] / out) as file:  # nothing in it is pickled
        arrays = dict(file)
    facts = json.loads(str(arrays["facts"]))
    assert arrays["samples"].shape == (9, 40, 5, 5)
    assert (arrays["samples"] > 0).all()
    assert ("returns" in arrays) == (model != "surface_cvae no_ex")
    assert arrays.get("returns", np.zeros((9, 40))).shape == (9, 40)
    np.testing.assert_allclose(
        arrays["quantiles"], np.quantile(arrays["samples"], arrays["levels"], axis=0), rtol=1e-6
    )
    np.testing.assert_array_equal(arrays["levels"], [0.05, 0.5, 0.95])
    np.testing.assert_array_equal(arrays["maturities"], world[1].maturities)
    np.testing.assert_array_equal(arrays["strikes"], world[1].strikes)
    days = arrays["dates"]
    assert days[0] > world[1].dates[-1]
    assert np.is_busday(days).all()
    assert len(np.unique(days)) == 40
    assert facts["signature"] == world[2][model]
    assert (facts["data"], facts["axis"], facts["seed"]) == ("surfaces.npz", "moneyness", 0)
    rolls = (20, 15, 3, "fan") if model.startswith(CVAE) else (None, None, None, None)
    assert tuple(facts[name] for name in ("horizon", "offset", "passes", "spread")) == rolls
    assert facts["in_sample"] is False
    call(model, *arguments, "--force")
    with np.load(world[0] / out) as again:
        np.testing.assert_array_equal(again["samples"], arrays["samples"])
    call(model, *arguments, "--seed", "1", "--force")
    with np.load(world[0] / out) as other:
        assert not np.array_equal(other["samples"], arrays["samples"])
    assert sorted(path.name for path in world[0].iterdir()) == sorted(
        ["folder.npz", "store", "surfaces.npz", out]
    )
    (world[0] / out).unlink()


def test_a_stored_network_generates_as_the_one_that_was_stored(world):
    folder, surfaces, signatures = world
    trial = config(CVAE)
    data = trial.study.dataset(surfaces)
    network = trial.model.build(data.inputs)
    learnt = Store(str(folder / "store")).model_state(signatures[CVAE])
    network.load_state(
        {key.removeprefix("model."): v for key, v in learnt.items() if key.startswith("model.")}
    )
    test = data.open_test()
    assert isinstance(test, SurfaceWindows)
    taught = restore(Store(str(folder / "store")), signatures[CVAE], folder / "surfaces.npz")
    deployment = taught.deployment(40, horizon=20, offset=10, spread="latent")
    expected = generate_paths(network, test.before(500), deployment, 5, 3)
    got = taught.draw(test.before(500), deployment, 5, 3)
    np.testing.assert_array_equal(got.samples, expected.samples)
    np.testing.assert_array_equal(taught.past.vectors, test.past.vectors)


def test_the_runs_own_deployment_is_the_default(world):
    facts = made(world, CVAE).facts
    assert (facts["horizon"], facts["offset"], facts["passes"], facts["spread"]) == (30, 30, 2, "fan")


@pytest.mark.parametrize("model", [CVAE, "surface_cointegration"])
def test_what_lies_after_the_start_is_not_read(call, world, model):
    folder, surfaces, _ = world
    row = 580
    start = str(surfaces.dates[row])
    assert call(model, "--days", "30", "--samples", "5", "--start", start, "--out", "from.npz")[0] == 0
    with np.load(folder / "from.npz") as file:
        dates, samples = file["dates"], file["samples"]
    (folder / "from.npz").unlink()
    np.testing.assert_array_equal(dates[:20], surfaces.dates[row:])  # real days as far as they go
    assert (np.diff(dates) > np.timedelta64(0)).all()
    taught = restore(Store(str(folder / "store")), world[2][model], folder / "surfaces.npz")
    for array in (taught.past.surface, taught.past.extra, taught.past.vectors):
        array[row:] = 0.7
    blind = generate_days(taught, taught.deployment(30), 5, row=row)
    np.testing.assert_array_equal(blind.samples, samples)


def test_days_that_were_learnt_from_are_called_in_sample(call, world):
    start = str(world[1].dates[200])
    code, printed, _ = call(WALK, "--days", "5", "--samples", "3", "--start", start, "--out", "in.npz")
    assert code == 0
    assert printed.splitlines()[-1].endswith("this is in-sample")
    with np.load(world[0] / "in.npz") as file:
        assert json.loads(str(file["facts"]))["in_sample"] is True
    (world[0] / "in.npz").unlink()


@pytest.mark.parametrize("model", [WALK, "surface_cvae no_ex"])
def test_parquet_holds_the_same_and_each_sample_is_a_file_of_surfaces(call, world, model, monkeypatch):
    monkeypatch.setattr(farm.generate, "ROWS", 3)  # several row groups
    folder = world[0]
    arguments = ["--days", "10", "--samples", "7", "--out"]
    assert call(model, *arguments, "all.npz")[0] == call(model, *arguments, "all.parquet")[0] == 0
    frame = pd.read_parquet(folder / "all.parquet")
    with np.load(folder / "all.npz") as file:
        np.testing.assert_array_equal(frame["iv"].to_numpy().reshape(7, 10, 5, 5), file["samples"])
        one = frame[frame["sample"] == 4]
        for i, name in enumerate(("q05", "q50", "q95")):
            np.testing.assert_array_equal(one[name].to_numpy().reshape(10, 5, 5), file["quantiles"][i])
        if "return" not in frame:
            assert "returns" not in file
            one = one.assign(**{"return": 0.0})
        one.to_parquet(folder / "one.parquet")
        surfaces = read_surfaces(folder / "one.parquet")
        np.testing.assert_array_equal(surfaces.iv, file["samples"][4])
        np.testing.assert_array_equal(surfaces.dates, file["dates"])
        if "returns" in file:
            np.testing.assert_allclose(surfaces.returns, file["returns"][4])
    for name in ("all.npz", "all.parquet", "one.parquet"):
        (folder / name).unlink()


def test_samples_are_drawn_a_few_at_a_time_with_draws_of_their_own(world, monkeypatch):
    monkeypatch.setattr(farm.generate, "PIECE", 4 * 60 * 25)
    for model in (CVAE, WALK):
        samples = made(world, model, days=60, samples=9).samples
        assert len(np.unique(samples[:, -1, 0, 0])) == 9


BAD = {
    "unknown run": ("0123456789abcdef", [], "--dry-run lists the signatures"),
    "offset beyond horizon": (CVAE, ["--offset", "45", "--horizon", "30"], "expected an offset of 1 to 30"),
    "offset beyond the run's horizon": (CVAE, ["--offset", "31"], "expected an offset of 1 to 30"),
    "unknown spread": (CVAE, ["--spread", "fanned"], "got 'fanned', expected 'latent' or 'fan'"),
    "no such day": (WALK, ["--start", "yesterday"], "expected a day as YYYY-MM-DD"),
    "not a day": (WALK, ["--start", "NaT"], "expected a day up to 2011-01-10"),
    "after the end": (WALK, ["--start", "2015-01-01"], "expected a day up to 2011-01-10"),
    "too early": (WALK, ["--start", "2008-08-25"], "begin on 2008-"),
    "too many": (WALK, ["--samples", "10000000", "--days", "100000"], "GiB of memory"),
    "no samples": (WALK, ["--samples", "0"], "--samples"),
    "other suffix": (WALK, ["--out", "days.csv"], "ends in .npz or .parquet"),
    "no folder": (WALK, ["--out", "nowhere/days.npz"], "its folder does not exist"),
    "a folder": (WALK, ["--out", "folder.npz"], "it is a folder"),
    "storage": (WALK, ["--storage", "ftp://x/y"], "cannot be used"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_ends_in_one_line(call, world, case):
    model, arguments, expected = BAD[case]
    before = sorted(world[0].rglob("*"))
    code, printed, complaint = call(model, *(["--out", "days.npz", *arguments]))
    assert (code, printed) == (2, "")
    assert complaint.startswith("farm: ")
    assert complaint.count("\n") == 1
    assert expected in complaint
    assert sorted(world[0].rglob("*")) == before


def test_an_output_is_never_an_input_and_replaces_nothing_unasked(call, world):
    folder = world[0]
    links = {"link.npz": "symlink_to", "hard.npz": "hardlink_to"}
    for name, link in links.items():
        getattr(folder / name, link)(folder / "surfaces.npz")
    (folder / "there.npz").write_bytes(b"somebody's")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    asked = ("--days", "5", "--samples", "2")
    for out in ("surfaces.npz", "link.npz", "hard.npz", str(folder / "surfaces.npz"), "store/new.npz"):
        for force in ((), ("--force",)):
            code, _, complaint = call(WALK, *asked, "--out", out, *force)
            assert code == 2
            assert "is the file that --surface reads" in complaint or "which --storage reads" in complaint
    code, _, complaint = call(WALK, *asked, "--out", "there.npz")
    assert code == 2
    assert "there is a file 'there.npz' already: choose another name, or add --force" in complaint
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert call(WALK, *asked, "--out", "there.npz", "--force")[0] == 0
    assert (folder / "there.npz").read_bytes() != b"somebody's"
    for name in (*links, "there.npz"):
        (folder / name).unlink()


def test_other_surfaces_are_refused(call, world):
    folder = world[0]
    s = world[1]
    np.savez(folder / "other.npz", surface=s.iv * 1.01, dates=s.dates.astype(str), ret=s.returns)
    code, _, complaint = call(WALK, "--out", "days.npz", surface="other.npz")
    (folder / "other.npz").unlink()
    assert code == 2
    assert f"run {world[2][WALK]} has read other surfaces than other.npz" in complaint
    assert complaint.count("\n") == 1


def test_a_run_of_another_study_is_refused(call, world):
    store = Store(str(world[0] / "store"))
    file = Path(store.root) / "trials" / world[2][WALK] / "result.json"
    was = file.read_bytes()
    record = unsealed(was)
    record["config"]["study"]["name"] = "forecast"
    file.write_bytes(sealed(record))
    try:
        code, _, complaint = call(WALK, "--out", "days.npz")
    finally:
        file.write_bytes(was)
    assert code == 2
    assert "is of the study forecast, expected surface" in complaint


def test_help_waits_for_no_slow_import():
    code = (
        "import sys\nimport farm.generate\nfrom farm.base.command_line import run\n"
        "run(farm.generate.app, 'x', ['--help'])\n"
        "assert not {'torch', 'ray', 'mlflow', 'pandas', 'scipy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
