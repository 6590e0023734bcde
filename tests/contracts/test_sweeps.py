"""What every sweep file must hold to; a new file is tested without a line here."""

import subprocess
import sys
from functools import cache

import pytest

from farm.experiment import TrialConfig
from farm.plan import Options, make_plan
from farm.studies.study import Source
from farm.sweep import load_sweep, read_source, sweeps

pytestmark = pytest.mark.parametrize("name", list(sweeps()))


@pytest.fixture
def source(name: str) -> Source:
    return _source(sweeps()[name].replicate, sweeps()[name].panel, name)


@cache
def _source(replicate: str, table: str, name: str) -> Source:
    return read_source(sweeps()[name])


@pytest.mark.parametrize("quick", [True, False])
def test_resolves_and_repeats_no_signature(name: str, quick: bool, source: Source) -> None:
    plan = make_plan(*load_sweep(name), source, Options(quick=quick))
    signatures = [trial.signature for trial in plan.trials]
    assert len(set(signatures)) == len(signatures) > 0
    assert plan.rows("variant")
    assert set(plan.sweep.references) <= set(plan.rows("baseline"))
    roles = [trial.role for trial in plan.trials]
    assert roles == sorted(roles), "baselines come first, since variants are compared with them"


def test_quick_is_smaller(name: str, source: Source) -> None:
    quick, full = (make_plan(*load_sweep(name), source, Options(quick=q)) for q in (True, False))
    assert len(quick.trials) < len(full.trials)


def test_configs_survive_json_with_their_signature(name: str, source: Source) -> None:
    plan = make_plan(*load_sweep(name), source, Options(quick=True))
    for trial in plan.trials:
        again = TrialConfig.model_validate_json(trial.config.model_dump_json())
        assert again == trial.config
        assert again.signature(plan.source) == trial.signature


def test_loads_without_the_heavy_packages(name: str) -> None:
    code = (
        f"import sys, search_spaces.{name} as s; s.SWEEP;"
        "sys.exit(','.join({'torch', 'ray', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
