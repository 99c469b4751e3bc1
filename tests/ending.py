"""
A pytest plugin that makes SIGTERM end a test run at once, with every process that it has started.

It also works in the workers of pytest-xdist. By default SIGTERM ends only the Python process itself: its xdist workers
would run for up to 15 more seconds, and the tests' servers and programs for ever.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_PROC = Path("/proc")
_set_handler = signal.signal  # the original function; pytest_configure replaces it
# A supervisor sends SIGTERM, a closed terminal sends SIGHUP.
_END_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_stderr = [2]  # file descriptor; pytest_configure replaces it by a copy, because pytest captures a test's output


def pytest_configure() -> None:
    """Handle SIGTERM, and SIGHUP unless it is ignored. Later calls of ``signal.signal`` don't replace the handler."""
    if not hasattr(signal, "SIGKILL"):  # Windows has no such signals
        return
    with suppress(OSError):  # standard error is closed
        _stderr[0] = os.dup(2)
    for number in _END_SIGNALS:
        if number == signal.SIGTERM or signal.getsignal(number) is signal.SIG_DFL:
            _set_handler(number, _end)
    vars(signal)["signal"] = _set_unless_ours


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Kill the programs that the tests of a dead worker have started."""
    if error:
        worker, run = node.workerinput["workerid"], node.workerinput["testrunuid"]
        orphans = set(_processes_with(f"PYTEST_XDIST_WORKER={worker}", f"PYTEST_XDIST_TESTRUNUID={run}"))
        _kill(lambda: orphans.union(*map(_descendants, orphans)))


def _set_unless_ours(number: int, handler: Any) -> Any:
    """
    Replace ``signal.signal`` during a test run: set the handler, except for a signal that this plugin handles.

    A command or a server that runs in a test's process would otherwise handle the signal, and the run would go on.
    """
    current = signal.getsignal(number)
    return current if current is _end else _set_handler(number, handler)


def _end(number: int, _frame: object) -> None:
    test = os.environ.get("PYTEST_CURRENT_TEST", "no test")
    with suppress(OSError):
        os.write(_stderr[0], f"\nended by {signal.Signals(number).name} during {test}\n".encode(errors="replace"))
    _kill(lambda: _descendants(os.getpid()))
    _set_handler(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _kill(find: Callable[[], set[int]]) -> None:
    """Kill the processes that *find* returns. Stop all of them first, so that none starts another one."""
    stopped: set[int] = set()
    while new := find() - stopped:
        for pid in new:
            with suppress(OSError):  # the process has ended
                os.kill(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> set[int]:
    parents = dict(_parents())
    descendants, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        descendants |= new
    return descendants


def _parents() -> Iterator[tuple[int, int]]:
    """Yield the ID of each process with its parent's."""
    if not (_PROC / "self" / "stat").exists():
        command = ["ps", "-A", "-o", "pid=,ppid="]  # the options of POSIX
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        yield from ((int(pid), int(parent)) for pid, parent in map(str.split, listed.splitlines()))
        return
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                # "12 (any name) S 7 …": a name may contain spaces and parentheses.
                yield int(folder.name), int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])


def _processes_with(*settings: str) -> Iterator[int]:
    """Yield the IDs of the processes that were started with these environment variables; none without /proc."""
    required = {setting.encode() for setting in settings}
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if folder.name.isdecimal():
            with suppress(OSError):  # another user's process, or one that has ended
                if required <= set((folder / "environ").read_bytes().split(b"\0")):
                    yield int(folder.name)
