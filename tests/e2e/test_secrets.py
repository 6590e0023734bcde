"""What must stay secret is in no file that a sweep leaves, and in nothing that it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e(100)

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret-4f1c",
    "AWS_SESSION_TOKEN": "planted-session-token-8d2e",
    "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/planted-google-77aa.json",
    "HF_TOKEN": "planted-hub-token-19bd",
}
PASSWORD = "planted-password-c0de"


def farm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "farm.sweep", *arguments],
        cwd=folder,
        env={**os.environ, **SECRETS},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def holding(folder: Path, secret: str) -> list[Path]:
    """Find the files that hold a text, plain or in the way that an HTTP header has it."""
    return [p for p in folder.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


def test_planted_secrets_are_nowhere(tmp_path: Path, serve) -> None:
    server, work = tmp_path / "server", tmp_path / "work"
    server.mkdir()
    work.mkdir()
    command = ["server", "--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "./art",
               "--workers", "1"]  # fmt: skip
    with serve(command, "health", server) as url:
        uri = url.replace("://", f"://planted-user:{PASSWORD}@")
        done = farm(
            work, "ablation", "--quick", "--epochs", "1", "--tickers", "AAPL", "--variants", "LSTM-Raw",
            "--tracking-uri", uri,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (server / "server.db").stat().st_size > 100_000
    assert "://***@127.0.0.1" in (work / "results" / "ablation" / "report.html").read_text()
    for secret in (*SECRETS.values(), PASSWORD):
        assert secret not in done.stdout + done.stderr
        assert holding(tmp_path, secret) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tracking-uri", f"http://planted-user:{PASSWORD}@127.0.0.1:1"),
        ("--tracking-uri", f"ftp://planted-user:{PASSWORD}@127.0.0.1/x"),
        ("--tracking-uri", f"sqlite:///no/such/folder/{PASSWORD[:3]}?x=://u:{PASSWORD}@h"),
        ("--storage", f"s3://planted:{PASSWORD}@no-such-bucket/x?endpoint_override=127.0.0.1:1&scheme=http"),
        ("--storage", f"nonsense://planted:{PASSWORD}@host/x"),
    ],
)
def test_a_message_has_no_password(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = farm(tmp_path, "ablation", "--quick", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert PASSWORD not in done.stdout + done.stderr
