"""Limits how many files and functions of the package a call runs through; `python tests/paths.py` prints the counts."""

import sys
from pathlib import Path

import paths
import pytest

pytestmark = [pytest.mark.sockets]

# The largest number of files and of functions. 5 of the files and 21 of the functions are the connection pool's. If a
# change needs fewer, lower these numbers. A durable batch has no limit: its threads poll, so its numbers vary.
LIMITS = {paths.pay: (17, 44), paths.await_page: (17, 40), paths.iterate_over_page: (21, 71)}
MAX_OPENS = 1


@pytest.fixture(autouse=True)
def without_the_pytest_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide our pytest plugin: with it, each call checks whether the test may make it, which production doesn't do."""
    monkeypatch.delitem(sys.modules, "_gatepay_async_pytest", raising=False)


@pytest.mark.asyncio  # on trio, the pool uses other code
@pytest.mark.parametrize(("call", "limits"), LIMITS.items())
async def test_calls_run_through_few_functions(call: paths.ClientCall, limits: tuple[int, int]) -> None:
    """A payment, and a page of a listing, run through at most this many files and functions of the package."""
    assert_within(await paths.entered_by(call), limits)


def test_the_command_opens_the_uploaded_file_once(tmp_path: Path) -> None:
    """`gatepay keys upload` opens its file once."""
    assert paths.count_opens(tmp_path) <= MAX_OPENS


def test_no_import_cycles() -> None:
    """No modules import each other in a cycle, including imports for type checkers."""
    assert paths.import_cycles() == []


def assert_within(entered: paths.Entered, limits: tuple[int, int]) -> None:
    counts = (len(entered.files), len(entered.functions))
    assert all(count <= limit for count, limit in zip(counts, limits, strict=True)), "\n".join(entered.functions)
