from pathlib import Path

import pytest
from ray import cloudpickle

from farm.base.errors import UserError
from farm.store import Store
from farm.tracking import check_for_cluster
from farm.tuning import nodes
from farm.tuning.engine import _searcher


def test_an_equal_node_that_shares_the_store_is_taken() -> None:
    here = nodes.fingerprint()
    assert {"farm", "python", "torch"} <= here.keys()
    assert nodes.objection("10.0.0.2", here, dict(here), "s3://b/f", shared=True) == ""


@pytest.mark.parametrize(
    ("name", "there", "said"),
    [
        ("torch", "1.0", "torch 1.0 instead of"),
        ("farm", "0123456789ab", "farm 0123456789ab instead of"),
        ("python", None, "python missing instead of"),
    ],
)
def test_what_differs_is_named(name: str, there: str | None, said: str) -> None:
    here = nodes.fingerprint()
    other = {**here, name: there} if there else {k: v for k, v in here.items() if k != name}
    found = nodes.objection("10.0.0.2", here, other, "s3://b/f", shared=True)
    assert said in found
    assert "10.0.0.2" in found
    assert "\n" not in found


def test_the_code_is_part_of_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(*files: tuple[str, str]) -> str:
        for name, text in files:
            (tmp_path / name).write_text(text)
        nodes.fingerprint.cache_clear()
        return nodes.fingerprint()["farm"]

    monkeypatch.setattr(nodes, "_CODE", tmp_path)
    try:
        first = digest(("__init__.py", ""), ("a.py", "x = 1\n"))
        assert digest() == first
        assert digest(("a.py", "x = 2\n")) != first
        assert digest(("a.py", "x = 1\n")) == first
        assert digest(("b.py", "")) != first
    finally:
        nodes.fingerprint.cache_clear()


def test_a_store_of_another_machine_is_told_from_a_shared_one(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "a")).open()
    mark = store.leave_mark()
    assert Store(str(tmp_path / "a")).sees_mark(mark)
    assert not Store(str(tmp_path / "b")).sees_mark(mark)
    store.remove_mark(mark)
    assert not store.sees_mark(mark)
    assert not store.configs()
    here = nodes.fingerprint()
    assert "is not shared" in nodes.objection("10.0.0.2", here, here, store.root, shared=False)


def test_a_cluster_logs_to_a_server() -> None:
    check_for_cluster("http://127.0.0.1:5000")
    check_for_cluster("postgresql://db/mlflow")
    with pytest.raises(UserError, match="file of one machine"):
        check_for_cluster("sqlite:///mlflow.db")


def test_what_tune_saves_of_a_sweep_holds_none_of_its_data() -> None:
    data = bytes(10**6)
    searcher = _searcher(lambda trial_id, finished: data)
    assert searcher.suggest("a") is data
    assert len(cloudpickle.dumps(searcher)) < 10_000
