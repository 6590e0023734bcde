"""What the suite holds its own tests to: processor time, groups, another order, and word of what did not run.

A test takes at most `BOUND` seconds of processor time, its children's included; one under ``e2e`` states a
bound of its own, ``@pytest.mark.e2e(60)``. What several tests share (a fixture of a module or of the session)
counts for none of them. No bound is one of wall time, which other work on the machine decides.

Tests of a file run in one process, one after the other, so that what they share is made once; those that ask
for one of `SHARED` run in another, and a mark ``xdist_group`` makes other groups. ``--shuffle SEED`` puts the
groups, and the tests within them, in another order.
"""

import os
import random
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

BOUND = 20.0
# Groups that take longest begin first, so that no process is left alone with one at the end.
FIRST = ("tests/e2e", "tests/docs", "tests/test_examples", "tests/tuning", "tests/contracts", "tests/models")
SHARED = ("ray_here", "quick")  # fixtures that are made in one process for all that ask for them
NAMED = ("slow", "browser", "chaos", "cluster")  # marks that `make test` leaves out


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", metavar="SEED", help="run the tests in another order")
    parser.addoption("--needed", action="store_true", help="fail if every test is skipped")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        if mark := item.get_closest_marker("e2e"):
            assert mark.args, f"{item.nodeid}: @pytest.mark.e2e(SECONDS) states a bound of processor time"
        mark = item.get_closest_marker("xdist_group")
        shared = (name for name in SHARED if name in getattr(item, "fixturenames", ()))
        group = mark.args[0] if mark else next(shared, item.location[0])
        if mark is None:
            item.add_marker(pytest.mark.xdist_group(group))
        groups.setdefault(group, []).append(item)
    ordered = list(groups.values())
    if seed := config.getoption("shuffle"):
        order = random.Random(seed)
        order.shuffle(ordered)
        for group in ordered:
            order.shuffle(group)
    ordered.sort(key=_late)
    items[:] = [item for group in ordered for item in group]


def _late(group: list[pytest.Item]) -> int:
    place = group[0].location[0]
    return next((i for i, first in enumerate(FIRST) if place.startswith(first)), len(FIRST))


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


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name the costliest tests and what was left out."""
    spent: list[tuple[float, float, str]] = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "processor":
                    spent.append((*value, report.nodeid))
    own, shared = sum(each[0] for each in spent), sum(each[1] for each in spent)
    terminalreporter.write_line(
        f"processor time: {own:.0f} s in tests, {shared:.0f} s in what they share; the most:"
    )
    for seconds, _, nodeid in sorted(spent, reverse=True)[:8]:
        terminalreporter.write_line(f"{seconds:6.1f} s  {nodeid}")
    for _, seconds, nodeid in sorted(spent, key=lambda each: -each[1])[:4]:
        terminalreporter.write_line(f"{seconds:6.1f} s  shared, made for {nodeid}")
    if file := os.environ.get("FARM_TEST_TIMES"):
        lines = [
            f"{own:.2f}\t{shared:.2f}\t{nodeid}\n" for own, shared, nodeid in sorted(spent, reverse=True)
        ]
        Path(file).write_text("".join(lines))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Fail a target that was asked for by name where all that it runs was skipped."""
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("needed") and reporter is not None:
        skipped = {report.longrepr[2] for report in reporter.stats.get("skipped", ())}
        if not any(reporter.stats.get(kind) for kind in ("passed", "failed", "error")):
            reasons = "; ".join(sorted(reason.removeprefix("Skipped: ") for reason in skipped))
            reporter.write_line(f"nothing was run: {reasons or 'no test was collected'}", red=True)
            session.exitstatus = 1
    return result
