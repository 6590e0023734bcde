"""What the suite holds its own tests to: processor time, groups, another order, and word of what did not run.

A test takes at most `BOUND` seconds of processor time, its children's included; one under ``e2e`` states a
bound of its own, ``@pytest.mark.e2e(60)``. What several tests share (a fixture of a module or of the session)
counts for none of them. No bound is one of wall time, which other work on the machine decides.

Tests of a file run in one process, one after the other, so that what they share is made once; so do those
of the files of one of `GROUPS`. A process that has ended a group takes the next one. ``--shuffle SEED`` puts
the groups, and the tests within them, in another order. (Marks of ``xdist_group`` count for nothing with
xdist 3.8 and pytest 9.2, which keeps the name of a test elsewhere.)
"""

import os
import random
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

BOUND = 20.0
# Groups that take longest begin first, so that no process is left alone with one at the end.
FIRST = (
    "ray_here",
    "quick_sweep",
    "tests/e2e",
    "tests/docs",
    "tests/tuning",
    "tests/contracts",
    "tests/models",
)
# Files that share a fixture of the session, by its name: one start of Ray, one sweep that others look at.
GROUPS = {
    "ray_here": (
        "tests/cluster/test_s3.py",
        "tests/e2e/test_ablation.py",
        "tests/e2e/test_all.py",
        "tests/e2e/test_examples.py",
        "tests/e2e/test_weights.py",
        "tests/tuning/test_memory.py",
        "tests/test_stale.py",
        "tests/tuning/test_search.py",
    ),
    "quick_sweep": ("tests/e2e/test_first_sweep.py", "tests/e2e/test_pages.py", "tests/e2e/test_secrets.py",
              "tests/e2e/test_served.py"),
}  # fmt: skip
# Marks that `make test` leaves out, and what runs them.
NAMED = {
    "slow": "make test-all",
    "browser": "make browser",
    "chaos": "make chaos",
    "cluster": "make cluster",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", metavar="SEED", help="run the tests in another order")
    parser.addoption("--needed", action="store_true", help="fail if every test is skipped")


def group_of(nodeid: str) -> str:
    """Return the name of the group that a test runs in."""
    file = nodeid.split("::")[0]
    return next((name for name, files in GROUPS.items() if file in files), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        if mark := item.get_closest_marker("e2e"):
            assert mark.args, f"{item.nodeid}: @pytest.mark.e2e(SECONDS) states a bound of processor time"
        groups.setdefault(group := group_of(item.nodeid), []).append(item)
        for shared in GROUPS.keys() & set(getattr(item, "fixturenames", ())) - {group}:
            raise pytest.UsageError(
                f"{item.nodeid} asks for {shared}: add its file to GROUPS in tests/bounds.py"
            )
    ordered = list(groups.values())
    if seed := config.getoption("shuffle"):
        order = random.Random(seed)
        order.shuffle(ordered)
        for group in ordered:
            order.shuffle(group)
    else:
        ordered.sort(key=_late)
    items[:] = [item for group in ordered for item in group]


def _late(group: list[pytest.Item]) -> int:
    name = group_of(group[0].nodeid)
    return next((i for i, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))


class _Clock:
    """Processor time of this process and of the children that have ended, shared fixtures left out."""

    def __init__(self) -> None:
        self.shared = 0.0
        self.began = 0.0

    @staticmethod
    def now() -> float:
        spent = os.times()
        return spent.user + spent.system + spent.children_user + spent.children_system

    def spent(self) -> float:
        return self.now() - self.began - self.shared


_CLOCK = _Clock()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _CLOCK.began, _CLOCK.shared = _CLOCK.now(), 0.0
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Take what is made once for several tests out of the account of the test that comes first."""
    if fixturedef.scope == "function":
        return (yield)
    began, before = _CLOCK.now(), _CLOCK.shared
    try:
        return (yield)
    finally:
        _CLOCK.shared = before + _CLOCK.now() - began


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "teardown":
        spent = _CLOCK.spent()
        report.user_properties.append(("processor", (spent, _CLOCK.shared)))
        mark = item.get_closest_marker("e2e")
        named = any(item.get_closest_marker(name) for name in NAMED)
        bound = mark.args[0] if mark else BOUND
        if report.passed and not named and spent > bound:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: {spent:.1f} s of processor time, expected at most {bound:g}"
    return report


_LEFT_OUT: Counter[str] = Counter()  # tests by the mark for which they are left out


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        _LEFT_OUT[next((name for name in NAMED if item.get_closest_marker(name)), "as asked")] += 1


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from a process of xdist what it left out, which is the same in each."""
    _LEFT_OUT.update(Counter(getattr(node, "workeroutput", {}).get("left_out", {})) - _LEFT_OUT)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name the costliest tests and what did not run."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    found = [(report, dict(getattr(report, "user_properties", ())).get("processor")) for report in reports]
    spent = [(*times, report.nodeid) for report, times in found if times]
    own, shared = sum(each[0] for each in spent), sum(each[1] for each in spent)
    say = terminalreporter.write_line
    say(f"processor time: {own:.0f} s in tests, {shared:.0f} s in what they share; the most:")
    for seconds, _, nodeid in sorted(spent, reverse=True)[:8]:
        say(f"{seconds:6.1f} s  {nodeid}")
    for _, seconds, nodeid in sorted(spent, key=lambda each: -each[1])[:4]:
        say(f"{seconds:6.1f} s  shared, made for {nodeid}")
    skipped = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in skipped.most_common():
        say(f"skipped, {count}: {reason.removeprefix('Skipped: ')}")
    for name, count in _LEFT_OUT.items():
        say(f"left out, {count}: {f'marked {name}: {NAMED[name]}' if name in NAMED else name}")
    if config.getoption("needed") and _nothing_ran(terminalreporter):
        say("nothing was run, for want of what is named above", red=True)
    if file := os.environ.get("FARM_TEST_TIMES"):
        lines = [f"{mine:.2f}\t{apart:.2f}\t{test}\n" for mine, apart, test in sorted(spent, reverse=True)]
        Path(file).write_text("".join(lines))


def _nothing_ran(reporter: Any) -> bool:
    return not any(reporter.stats.get(kind) for kind in ("passed", "failed", "error"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a target that was asked for by name where all that it runs was skipped."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(_LEFT_OUT)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("needed") and reporter is not None and _nothing_ran(reporter):
        session.exitstatus = 1
