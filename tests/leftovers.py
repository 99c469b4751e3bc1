"""
A pytest plugin that deletes what a failed test has left open, so that it doesn't fail another test.

The traceback of a failed test keeps its local variables alive. When they are deleted later, an open file, connection or
process warns, and pytest fails the test that is running then, which has nothing to do with them.
"""

import gc
import sys
import warnings
from collections.abc import Generator
from contextlib import suppress

import pytest

# The attributes of ``sys`` in which Python keeps the last error for debuggers.
_LAST_ERROR_ATTRIBUTES = ("last_exc", "last_type", "last_value", "last_traceback")
_failed: list[str] = []  # the names of failed tests whose leftovers are not deleted yet


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember that a test has failed."""
    if report.failed:
        _failed.append(report.nodeid)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """After a failed test, delete its local variables. Its own failure is reported, so their warnings are ignored."""
    try:
        return (yield)
    finally:
        if _failed:
            _failed.clear()
            _delete_leftovers()


def _delete_leftovers() -> None:
    for name in _LAST_ERROR_ATTRIBUTES:
        with suppress(AttributeError):
            delattr(sys, name)
    hook = sys.unraisablehook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.unraisablehook = _ignore
        try:
            gc.collect()
        finally:
            sys.unraisablehook = hook


def _ignore(_: object) -> None:
    pass
