"""What must stay secret is in no file that a sweep leaves, and in nothing that it says."""

from pathlib import Path

import pytest

from tests.conftest import call
from tests.e2e.conftest import PASSWORD, SECRETS, Sweep, holding

pytestmark = pytest.mark.e2e(10)


# That of a server is looked for in tests/e2e/test_served.py.
def test_what_the_environment_holds_is_in_nothing_that_a_sweep_leaves(quick_sweep: Sweep) -> None:
    assert (quick_sweep.folder / "mlflow.db").stat().st_size > 100_000
    for secret in SECRETS.values():
        assert secret not in quick_sweep.output
        assert holding(quick_sweep.folder, secret) == []


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
def test_a_message_has_no_password(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    done = call(tmp_path, "ablation", "--quick", *arguments)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert PASSWORD not in done.out + done.err
