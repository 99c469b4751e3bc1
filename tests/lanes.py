"""
The lanes of the tests: selects the files to run, and lists tests that are slower than their lane allows.

    pytest --lane fast                     no sockets, no processes
    pytest --lane fast --lane sockets      also real HTTP on loopback, SQLite, the command
    pytest --lane fast --and-module PATH   the fast lane, and one module of the sockets lane
    pytest                                 all lanes; slow: killed processes, PostgreSQL, Redis, terminals

Each test module names its lane in `pytestmark`. A single test of a faster module may be marked as slow.
"""

import os
import re
from collections.abc import Generator
from pathlib import Path

import pytest

# The seconds that a test of each lane may take on an idle machine with two cores.
LANES = {"fast": 2, "sockets": 10, "slow": 60}
_LANE = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.(\w+)", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lane", action="append", choices=list(LANES), help="run only the tests of this lane; repeatable")
    parser.addoption("--and-module", action="append", default=[], help="also run the tests of this file; repeatable")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't import the files of other lanes: the imports would take longer than the fast lane."""
    if not collection_path.name.startswith("test_") or collection_path.suffix != ".py":
        return None
    lane = lane_of_module(collection_path)
    # Tests over PostgreSQL are slow parameters of modules in `sockets`.
    lanes = [lane, "slow"] if lane == "sockets" else [lane]
    return None if lane is None or any(is_selected(name, collection_path, config) for name in lanes) else True


def is_selected(lane: str | None, path: Path, config: pytest.Config) -> bool:
    """Whether the options select the tests of *lane* in a module."""
    if lane in (config.getoption("--lane") or LANES):
        return True
    return lane == "sockets" and any(path == config.rootpath / module for module in config.getoption("--and-module"))


def lane_of_module(path: Path) -> str | None:
    """Return the lane in the module's `pytestmark`: its first mark, which test_source_tree.py checks."""
    match = _LANE.search(path.read_text("utf-8"))
    return match[1] if match and match[1] in LANES else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect single tests of other lanes. Sort the tests, because workers import the modules in different orders."""
    items.sort(key=lambda item: item.path)
    selected = [item for item in items if is_selected(lane_of(item), item.path, config)]
    if len(selected) < len(items):
        config.hook.pytest_deselected(
            items=[item for item in items if not is_selected(lane_of(item), item.path, config)]
        )
        items[:] = selected


def lane_of(item: pytest.Item) -> str:
    """Return the slowest lane that the test is marked with."""
    marked = {mark.name for mark in item.iter_markers()}
    return next((lane for lane in reversed(LANES) if lane in marked), "sockets")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the lane to the report, which xdist sends from a worker to the process that prints."""
    report = yield
    report.lane = lane_of(item)  # type: ignore[attr-defined]  # plugins may add attributes to reports
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the tests that took longer than their lane allows. They don't fail: the machine may be busy."""
    seconds: dict[str, float] = {}
    lanes: dict[str, str] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid] = seconds.get(report.nodeid, 0) + report.duration
                lanes[report.nodeid] = getattr(report, "lane", "slow")
    slower = sorted(
        (name for name in seconds if seconds[name] > LANES[lanes[name]]), key=seconds.__getitem__, reverse=True
    )
    if slower:
        terminalreporter.section("slower than their lane allows")
        for name in slower:
            terminalreporter.write_line(f"{seconds[name]:6.1f} s  ({lanes[name]}: {LANES[lanes[name]]} s)  {name}")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """
    Import the modules in another order in each of xdist's workers.

    In a fresh clone pytest compiles each test module when a worker first imports it. With different orders the workers
    share that work.
    """
    report = yield
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and isinstance(collector, pytest.Directory):
        workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        offset = len(report.result) * int(worker.removeprefix("gw")) // workers
        report.result = report.result[offset:] + report.result[:offset]
    return report
