"""
The lanes, read before anything is imported: `pytest -m fast` imports the modules of that lane alone.

pytest imports every module before it leaves out tests by their marks. Half of that time goes into what only other lanes
need: DBOS, SQLAlchemy, moto.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

# What -m asks for -> the lanes that may hold it. Tests over PostgreSQL are slow parameters of modules in `sockets`.
MODULES_FOR = {
    "fast": {"fast"},
    "sockets": {"sockets"},
    "slow": {"sockets", "slow"},
    "not slow": {"fast", "sockets"},
    "fast or sockets": {"fast", "sockets"},
}
LANE = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.(\w+)", re.MULTILINE)


class OfAnotherLane(pytest.Module):
    """A module that has nothing for this run, and is not imported."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """No test."""
        return ()


def lane_of(path: Path) -> str | None:
    """The lane that a module says it is in; a guard sees to it that each says one, and says it first."""
    found = LANE.search(path.read_text("utf-8"))
    return found[1] if found else None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> OfAnotherLane | None:
    """Leave out a module of another lane; pytest itself makes the others."""
    wanted = MODULES_FOR.get(parent.config.option.markexpr)
    lane = lane_of(module_path)
    if wanted is None or lane is None or lane in wanted:
        return None
    module: OfAnotherLane = OfAnotherLane.from_parent(parent, path=module_path)
    return module
