"""``python -m farm.data``: as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from farm.data.__main__ import main
from farm.data.sources import TICKERS


def test_describe_lists_the_bundled_panel(capsys):
    assert main(["describe"]) == 0
    printed = capsys.readouterr().out
    for cells in (
        ("SP500", "1999-01-04", "2020-11-20", "5508"),
        ("NVDA", "2013-01-02", "2023-09-21", "2699"),
    ):
        assert any(all(cell in line for cell in cells) for line in printed.splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["describe", "nothing.csv"], "no file 'nothing.csv'"),
        (["describ"], "No such command 'describ'"),
        (["fetch", "--ticker", "A"], "No such option: --ticker"),
        (["fetch", "--start", "now"], "--start 'now'"),
        (["fetch", "--tickers", ",", "--out", "x.parquet"], "no ticker"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert words in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_is_the_answer_to_nothing(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["farm.data", *arguments])
    assert main() == 0
    assert {"fetch", "describe"} <= set(capsys.readouterr().out.split())


def test_help_is_complete(capsys):
    assert main(["fetch", "--help"]) == 0
    printed = "".join(capsys.readouterr().out.split())
    assert ",".join(TICKERS) in printed
    for option in ("--tickers", "--start", "--end", "--out"):
        assert option in printed


def test_help_waits_for_no_slow_import():
    code = (
        "import sys\nfrom farm.data.__main__ import main\nmain(['fetch', '--help'])\n"
        "sys.exit(sorted({'pandas', 'pandera', 'numpy', 'yfinance'} & set(sys.modules)).__repr__()"
        " if {'pandas', 'pandera', 'numpy', 'yfinance'} & set(sys.modules) else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_process_exits_with_2_and_no_traceback(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "farm.data", "describe", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert len(run.stderr.splitlines()) == 1
    assert "a directory" in run.stderr
    assert Path(tmp_path).is_dir()
