"""What a user gets wrong ends in one line and exit code 2, with nothing half-written."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import tomllib
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import farm
import farm.sweep
from farm.data.door import load_panel


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["farm.sweep", *arguments])
        with pytest.raises(SystemExit) as ended:
            farm.sweep.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def long_panel() -> pd.DataFrame:
    panel = load_panel().select(("AAPL", "MSFT", "SP500"), "2013-01-02", "2014-06-30")
    return panel.frame()


BAD = {
    "unknown sweep": (["ablaton", "--quick"], "did you mean 'ablation'"),
    "unknown file": (["mine.py"], "does not exist"),
    "unknown ticker": (["ablation", "--tickers", "APPL"], "did you mean 'AAPL'"),
    "unknown market": (["ablation", "--market", "SP5000"], "did you mean 'SP500'"),
    "unknown variant": (["ablation", "--variants", "LSTM-Raw,LSTM-Fate"], "did you mean 'LSTM-Feat'"),
    "unknown key": (["ablation", "--set", "hidden_sise=3"], "hidden_size"),
    "no value": (["ablation", "--set", "hidden_size"], "expected key=value"),
    "out of range": (["ablation", "--set", "hidden_size=0"], "got 0"),
    "no epochs": (["ablation", "--epochs", "0"], "epochs"),
    "no seeds": (["ablation", "--seeds", "-1"], "seeds"),
    "not a number": (["ablation", "--seeds", "three"], "seeds"),
    "empty list": (["ablation", "--tickers", " , "], "empty list"),
    "unknown option": (["ablation", "--sedes", "3"], "--sed"),
    "missing panel": (["ablation", "--data", "nowhere.parquet"], "nowhere.parquet"),
    "bad address": (["ablation", "--address", "here"], "expected auto"),
    "bad uri": (["ablation", "--tracking-uri", "ftp://x"], "expected sqlite"),
    "no folder": (["ablation", "--tracking-uri", "sqlite:///no/such/folder/m.db"], "folder does not exist"),
    "unknown study": (["weights", "--study", "backfil"], "did you mean 'backfill'"),
    "study of a sweep about one": (["ablation", "--study", "forecast"], "leave --study out"),
    "unknown sampler": (["weights", "--sampler", "tpe,tpa"], "unknown sampler 'tpa': did you mean 'tpe'"),
    "sampler without a search": (["ablation", "--sampler", "tpe"], "searches for nothing"),
    "unknown objective": (["weights", "--objective", "val/pinbal"], "did you mean 'val/pinball'"),
    "objective on test": (["weights", "--objective", "test/rmse"], "never an objective"),
    "unknown direction": (["weights", "--objective", "val/rmse:up"], "unknown direction 'up'"),
    "objective twice": (["weights", "--objective", "val/rmse", "--objective", "val/rmse:max"], "there twice"),
    "range upside down": (["weights", "--set", "kl_weight=1..1e-4"], "swap them"),
    "range too wide": (["weights", "--set", "kl_weight=1e-4..1e4"], "expected a range within 0.0..100.0"),
    "not searchable": (["weights", "--set", "context=3..9"], "decide the test days"),
    "no range": (["weights", "--set", "masked_latent=1..2"], "no range to draw from"),
    "row left out": (["weights", "--variants", "original"], "known: default-weights"),
    "storage": (["ablation", "--storage", "/dev/null/x"], "cannot be used"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_ends_in_one_line(run, tmp_path: Path, case: str) -> None:
    arguments, expected = BAD[case]
    code, out, err = run(*arguments)
    assert code == 2
    assert err.startswith("farm: ")
    assert err.count("\n") == 1
    assert expected in err
    assert out == ""
    assert list(tmp_path.iterdir()) == [], "nothing is half-written"


def spoilt(frame: pd.DataFrame, case: str) -> pd.DataFrame:
    frame = frame.copy()
    if case == "duplicate rows":
        return pd.concat([frame, frame.iloc[[5]]])
    if case == "no column":
        return frame.drop(columns="volume")
    if case == "high < low":
        frame.loc[7, "high"] = frame.loc[7, "low"] * 0.9
    elif case == "bad date":
        frame["date"] = frame["date"].astype(str)
        frame.loc[7, "date"] = "yesterday"
    elif case == "short ticker":
        return frame[(frame["ticker"] != "AAPL") | (frame["date"] < "2013-05-01")]
    elif case == "no overlap":
        return frame[(frame["ticker"] == "SP500") == (frame["date"] < "2013-09-01")]
    else:
        frame.loc[7, "close"] = float(case.split()[-1])
    return frame


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("duplicate rows", "AAPL"),
        ("no column", "volume"),
        ("high < low", "high"),
        ("bad date", "yesterday"),
        ("price nan", "close"),
        ("price inf", "close"),
        ("price 0", "close"),
        ("price -3", "close"),
        ("short ticker", "too few rows for the"),
        ("no overlap", "shares 0 days"),
    ],
)
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_bad_panel_ends_in_one_line(run, tmp_path: Path, case: str, expected: str, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    frame = spoilt(long_panel(), case)
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    code, _, err = run("ablation", "--data", str(path), "--market", "SP500")
    assert code == 2, err
    assert err.count("\n") == 1
    assert expected in err
    assert list(tmp_path.iterdir()) == [path]


def test_an_input_is_never_where_a_sweep_writes(run, tmp_path: Path) -> None:
    """A panel under the name of a table would be replaced by that table, whatever leads to it."""
    out = tmp_path / "results" / "ablation"
    out.mkdir(parents=True)
    long_panel().to_parquet(out / "predictions.parquet")
    (tmp_path / "link").symlink_to(out)
    before = (out / "predictions.parquet").read_bytes()
    for path in (out / "predictions.parquet", tmp_path / "link" / "predictions.parquet"):
        code, _, err = run("ablation", "--data", str(path), "--market", "SP500", "--quick")
        assert code == 2
        assert "whose files the sweep replaces: move it" in err
        with pytest.raises(farm.UserError, match=r"data=: .*whose files the sweep replaces: move it"):
            farm.run("ablation", data=path, market="SP500", quick=True)
    assert (out / "predictions.parquet").read_bytes() == before
    assert not (tmp_path / "farm_store").exists()


def before_long(call):
    """Call something that must not wait for ever; without a bound that other work on the machine decides."""
    ends = []
    thread = threading.Thread(target=lambda: ends.append(call()), daemon=True)
    thread.start()
    thread.join(timeout=300)
    assert ends, "it waits and waits"
    return ends[0]


def test_a_server_that_is_not_there_is_told_and_not_waited_for(run, tmp_path: Path, closed_port: int) -> None:
    for option, value in (
        ("--tracking-uri", f"http://user:secret@127.0.0.1:{closed_port}"),
        ("--address", f"127.0.0.1:{closed_port}"),
    ):
        code, _, err = before_long(
            lambda option=option, value=value: run("ablation", "--quick", option, value)
        )
        assert code == 2
        assert err.count("\n") == 1
        assert "cannot be reached" in err
        assert "secret" not in err
        assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_answers_is_told_and_not_waited_for(run, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        for option, value in (
            ("--tracking-uri", f"http://127.0.0.1:{port}"),
            ("--address", f"127.0.0.1:{port}"),
        ):
            code, _, err = before_long(partial(run, "ablation", "--quick", option, value))
            assert code == 2
            assert err.count("\n") == 1
            assert list(tmp_path.iterdir()) == []


def test_a_server_that_answers_with_an_error_is_told(run) -> None:
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, _, err = run("ablation", "--quick", "--tracking-uri", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert code == 2
    assert "500" in err


def test_without_a_name_it_lists_the_sweeps(run) -> None:
    code, out, _ = run()
    assert code == 0
    assert "ablation" in out


def test_help_names_every_option_at_once(tmp_path: Path) -> None:
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "farm.sweep", "--help"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    after = os.times()
    assert after.children_user - before.children_user < 2, "seconds of the processor"
    assert done.returncode == 0
    for option in (
        "tickers", "market", "data", "seeds", "epochs", "variants", "set", "samples", "concurrency",
        "storage", "tracking-uri", "address", "dry-run", "rerun", "quick",
    ):  # fmt: skip
        assert f"--{option}" in done.stdout


def test_dry_run_lists_the_trials_and_makes_nothing(run, tmp_path: Path) -> None:
    code, out, _ = run("ablation", "--quick", "--dry-run")
    assert code == 0
    assert "22 trials" in out
    assert list(tmp_path.iterdir()) == []


def test_a_command_looks_for_no_garbage_at_its_end(tmp_path: Path) -> None:
    program = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count(), gc.get_threshold()[0]))\n"  # is called last
        "import farm.sweep\nsys.argv = ['farm.sweep']\nfarm.sweep.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    frozen, threshold = map(int, done.stdout.splitlines()[-1].split())
    assert frozen > 10_000
    assert threshold > 10_000


def test_a_dry_run_imports_nothing_that_fits_draws_or_logs(tmp_path: Path) -> None:
    program = (
        "import sys, farm.sweep\nsys.argv = ['farm.sweep', 'ablation', '--quick', '--dry-run']\n"
        "try:\n    farm.sweep.main()\nexcept SystemExit:\n    pass\n"
        "slow = {'ray', 'mlflow', 'optuna', 'sklearn', 'matplotlib', 'plotly', 'scipy.stats'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_version_is_said_at_once(tmp_path: Path) -> None:
    program = (
        "import sys, farm.sweep\nsys.argv = ['farm.sweep', '--version', 'no-such-sweep']\n"
        "try:\n    farm.sweep.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "slow = {'torch', 'ray', 'mlflow', 'pandas', 'numpy'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert done.stdout == f"{declared['name']} {farm.__version__}\n"


def test_a_file_of_ones_own_is_a_sweep(run, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from farm.base.search_space import Sweep, Variant\n"
        "SWEEP = Sweep(title='t', question='q', common={'study.name': 'forecast'}, market='SP500',\n"
        "  tickers=('AAPL',), references=('base',),\n"
        "  variants=(Variant(name='v', values={'model.name': 'ridge'}),),\n"
        "  baselines=(Variant(name='base', values={'model.name': 'linear'}),))\n"
    )
    code, out, _ = run(str(path), "--dry-run")
    assert code == 0
    assert "2 trials" in out
    for text, expected in (
        ("x = 1", "declares no SWEEP"),
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
    ):
        path.write_text(text)
        code, _, err = run(str(path), "--dry-run")
        assert code == 2
        assert expected in err
        assert err.count("\n") == 1
