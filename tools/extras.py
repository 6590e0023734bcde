"""Install each extra of a wheel into an environment of its own, and import what it brings.

``python tools/extras.py WHEEL``; ``requirements.lock`` says which release of torch is taken.
"""

import re
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"
# Run in the environment: import the packages that an extra asks for, and those that extras of theirs ask for.
IMPORT = r"""
import importlib, sys
from importlib.metadata import distribution
from packaging.requirements import Requirement

def asked(name, extra):
    for each in map(Requirement, distribution(name).requires):
        if each.marker and each.marker.evaluate({"extra": extra}) and not each.marker.evaluate({"extra": ""}):
            yield each.name
            for nested in each.extras:
                yield from asked(each.name, nested)

for name in dict.fromkeys(asked(*sys.argv[1:])):
    found = distribution(name)
    tops = {path.parts[0] for path in found.files if len(path.parts) == 2 and path.name == "__init__.py"}
    tops = sorted(top for top in tops if top.isidentifier())
    for top in tops:
        importlib.import_module(top)
    print(f"{sys.argv[2]}: {found.name} {found.version}, imported: {', '.join(tops) or '-'}", flush=True)
"""


def main() -> None:
    """Try every extra; exit with 1 if one cannot be installed or imported."""
    wheel = Path(sys.argv[1]).resolve()
    (release,) = distributions(path=[str(wheel)])
    (torch,) = re.findall(r"^torch==\S+", LOCK.read_text(), re.MULTILINE)
    failed = []
    for extra in release.metadata.get_all("Provides-Extra"):
        with tempfile.TemporaryDirectory() as folder:
            python, constraints = Path(folder) / "bin" / "python", Path(folder) / "constraints"
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            constraints.write_text(f"{torch}\n")
            install = ("-m", "pip", "install", "--quiet", "-c", str(constraints), f"{wheel}[{extra}]")
            done = all(
                subprocess.run([python, *arguments], cwd=folder, check=False).returncode == 0
                for arguments in (install, ("-c", IMPORT, release.name, extra))
            )
        if not done:
            failed.append(extra)
    sys.exit(f"cannot be installed or imported: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
