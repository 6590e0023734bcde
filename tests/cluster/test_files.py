"""The cluster files: Ray reads them, and AWS, as moto plays it, is asked for what they say."""

import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = {name: ROOT / name for name in ("cluster.yaml", "clusters/gcp.yaml", "clusters/onprem.yaml")}


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILES[name].read_text())
    return found


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    ready: dict[str, Any] = prepare_config(config)
    validate_config(ready)
    return ready


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_the_file(name: str) -> None:
    ready = prepared(read(name))
    assert ready["max_workers"] > 0
    assert ready["setup_commands"], "nothing installs the project"
    assert not any("pip install" in command for command in ready["setup_commands"]), (
        "only the lock files install"
    )


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", ["max_worker", "provider.head_ipp", "auth.ssh_usr"])
def test_a_typo_is_found(name: str, place: str) -> None:
    config = read(name)
    *path, key = place.split(".")
    part = config
    for step in path:
        part = part[step]
    part[key] = 3 if key == "max_worker" else "x"
    if path == ["provider"]:  # Ray lets unknown keys of a provider pass, so a wrong type stands for it here
        del part[key]
        part["type"] = 5
    with pytest.raises((jsonschema.ValidationError, ValueError, TypeError, NotImplementedError)):
        prepared(config)


@pytest.mark.parametrize("name", FILES)
def test_what_it_mounts_is_there(name: str) -> None:
    local = [path for path in read(name)["file_mounts"].values() if not path.startswith("~")]
    assert all((ROOT / path).exists() for path in local)
    needed = {"farm", "search_spaces", "clusters", "pyproject.toml", "requirements.lock", "Makefile"}
    assert needed <= set(local)


@pytest.mark.parametrize("name", FILES)
def test_what_must_be_changed_stands_at_the_top(name: str) -> None:
    text = FILES[name].read_text()
    top, rest = text.rsplit("# ---", 1)
    assert "CHANGE-ME" in top
    assert "CHANGE-ME" not in rest


def test_the_lock_of_a_node_only_adds_to_that_of_the_project() -> None:
    def pins(path: Path) -> dict[str, str]:
        lines = [line for line in path.read_text().splitlines() if "==" in line]
        return {name.lower(): version for name, version in (line.split()[0].split("==") for line in lines)}

    of_project, of_node = pins(ROOT / "requirements.lock"), pins(ROOT / "clusters/requirements.lock")
    both = of_project.keys() & of_node.keys()
    assert not both
    assert {"boto3", "google-api-python-client", "prometheus_client"} <= of_project.keys() | of_node.keys()


@pytest.mark.parametrize(
    ("storage", "token", "complaint"),
    [
        ("s3://CHANGE-ME/farm", "t", "set the storage at the top"),
        ("farm_store", "t", "expected s3://BUCKET/PREFIX"),
        ("s3://bucket/farm", "", "get-auth-token --generate"),
    ],
)
def test_a_node_refuses_what_cannot_work(tmp_path: Path, storage: str, token: str, complaint: str) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(token)
    done = subprocess.run(
        ["bash", str(ROOT / "clusters/node.sh"), "install", storage],
        env={"HOME": str(tmp_path), "PATH": "/nowhere:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert complaint in done.stderr
