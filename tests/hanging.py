"""
A pytest plugin that ends a hanging test within a minute, and prints its name and all stacks.

It has two layers:

1. An alarm fails the test. It repeats every few seconds, so that it also fails a hanging teardown. The run goes on.
2. If the test ignores the alarm, a thread that doesn't need the GIL ends the process. pytest-xdist prints the test's
   name and goes on with another worker. Without pytest-xdist the run ends.

pytest-timeout has the first layer only. It stops counting once a test has failed, leaves a broken event loop that fails
the next tests, and prints no tasks.
"""

import asyncio
import faulthandler
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from inspect import iscoroutinefunction
from types import FrameType, FunctionType
from typing import Any

import anyio
import pytest

# In seconds. The limit is above waiting.PATIENCE; limit and grace together are below a minute.
_LIMIT = 48
_GRACE = 8  # from the first alarm until the process is ended
_REPEAT_AFTER = 3  # until the next alarm
_HAS_ALARM = hasattr(signal, "setitimer")
_PYTEST_FRAMES = (f"{os.sep}_pytest{os.sep}", f"{os.sep}pluggy{os.sep}")  # frames that are left out of the stacks


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hang-limit", type=float, default=_LIMIT, help="seconds that a test may take; 0: no limit")
    parser.addoption("--hang-grace", type=float, default=_GRACE, help="seconds after which its process is ended")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "hang_limit(seconds): this test may take longer than the others")
    if config.getoption("usepdb"):
        config.option.hang_limit = 0  # no limit in the debugger
    config.pluginmanager.register(_Guard(config), "hang-guard")


class _Guard:
    """Sets the alarm and the thread's timer for each test."""

    def __init__(self, config: pytest.Config) -> None:
        self._runner = config.pluginmanager.getplugin("runner")
        self._is_worker = hasattr(config, "workerinput")
        try:
            self._stderr = os.dup(2)  # a test's output is captured
        except OSError:  # standard error is closed
            self._stderr = os.open(os.devnull, os.O_WRONLY)
        self._grace: float = config.getoption("hang_grace")
        self._end_timeout: float = max(config.getoption("hang_limit"), self._grace)
        self._ends_at = 0.0  # when the process is ended; 0: never
        self._cancel: Callable[[], object] | None = None  # cancels the running async test
        self._in_phase = False  # whether the alarm may raise an exception

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Allow the alarm to fail the setup. Between the phases pytest writes reports, and the alarm must not raise."""
        return (yield from self._phase())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Allow the alarm to fail the test."""
        return (yield from self._phase())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Allow the alarm to fail the teardown."""
        return (yield from self._phase())

    def _phase(self) -> Generator[None, object, object]:
        self._in_phase = True
        try:
            return (yield)
        finally:
            self._in_phase = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run the test as pytest does, within both layers."""
        marker = item.get_closest_marker("hang_limit")
        limit: float = item.config.getoption("hang_limit")
        if marker and limit:
            limit = max(limit, marker.args[0])
        if not limit:
            return bool(self._runner.pytest_runtest_protocol(item, nextitem))
        self._ends_at = time.monotonic() + limit + self._grace
        self._arm()
        previous_handler = self._set_alarm(item, limit)
        try:
            return bool(_named(item.nodeid, self._runner.pytest_runtest_protocol)(item, nextitem))
        finally:
            _remove_alarm(previous_handler)
            faulthandler.cancel_dump_traceback_later()
            self._ends_at = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Run a test on an event loop in a cancel scope, so that cancelling it doesn't break the loop."""
        test = pyfuncitem.obj
        if not iscoroutinefunction(test) or hasattr(test, "hypothesis"):
            return (yield)

        async def limited(**arguments: object) -> None:
            with anyio.CancelScope() as scope:
                call_on_loop = _loop_scheduler()
                self._cancel = lambda: call_on_loop(scope.cancel)
                try:
                    await test(**arguments)
                finally:
                    self._cancel = None
            if scope.cancelled_caught:
                pytest.fail("hung, and was cancelled; the stacks are below", pytrace=False)

        pyfuncitem.obj = limited
        try:
            return (yield)
        finally:
            pyfuncitem.obj = test

    @pytest.hookimpl(trylast=True)
    def pytest_exception_interact(self) -> None:
        """Set the timer again: pytest's faulthandler plugin stops it after a failure, and the teardown may hang."""
        if self._ends_at:
            self._arm()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Set the timer for the end of the run: a thread that a test has left would keep the process alive."""
        if self._is_worker:
            return  # a worker waits for the others, and pytest-xdist ends them together
        self._ends_at = time.monotonic() + self._end_timeout
        self._arm()

    def _arm(self) -> None:
        """Set the timer, which ends the process at ``_ends_at``."""
        seconds = max(0.1, self._ends_at - time.monotonic())
        faulthandler.dump_traceback_later(seconds, file=self._stderr, exit=True)

    def _set_alarm(self, item: pytest.Item, limit: float) -> Any:
        """Fail the test after *limit* seconds, and again every few seconds. Return the previous handler."""
        if not _HAS_ALARM or threading.current_thread() is not threading.main_thread():
            return None
        started = time.monotonic()

        def fail(_number: int, frame: FrameType | None) -> None:
            __tracebackhide__ = True
            if not self._in_phase:
                return  # an exception here would end the whole run; the alarm repeats
            item.add_report_section("call", "stacks", stacks(frame))
            if not _is_loop_idle():
                pytest.fail(f"{item.nodeid} hung: {time.monotonic() - started:.0f} s; the stacks are below")
            cancel, self._cancel = self._cancel, None
            if cancel is not None:
                cancel()
            else:
                self._end_loop(item)

        previous_handler = signal.signal(signal.SIGALRM, fail)
        signal.setitimer(signal.ITIMER_REAL, limit, _REPEAT_AFTER)
        return previous_handler

    def _end_loop(self, item: pytest.Item) -> None:
        """Raise an exception in a loop that can't be cancelled, such as a fixture's. The next tests on it fail too."""
        __tracebackhide__ = True
        if self._is_worker:
            os.write(self._stderr, f"\n{item.nodeid} hung:\n".encode(errors="replace"))
            faulthandler.dump_traceback(self._stderr)
            os._exit(1)
        pytest.fail(f"{item.nodeid} hung, and can't be cancelled; the stacks are below")


def _loop_scheduler() -> Callable[[Callable[[], object]], object]:
    """Return a function that schedules a call on the running event loop and wakes the loop."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        return loop.call_soon_threadsafe
    token: Any = sys.modules["trio"].lowlevel.current_trio_token()
    return token.run_sync_soon  # type: ignore[no-any-return]  # trio may not be installed


def _is_loop_idle() -> bool:
    """Whether the main thread runs an event loop, but none of its tasks. An exception would then end the loop."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        return asyncio.current_task(loop) is None
    trio = sys.modules.get("trio")
    return bool(trio and trio.lowlevel.in_trio_run() and not trio.lowlevel.in_trio_task())


def _named(name: str, run: Callable[..., object]) -> Callable[..., object]:
    """
    Wrap *run* in a function with the test's *name*.

    faulthandler prints only names of functions, so the test's name must be one of them. pytest's tracebacks of a
    failure don't contain this function.
    """

    def call(item: pytest.Item, nextitem: pytest.Item | None) -> object:
        return run(item, nextitem)

    code = call.__code__.replace(co_name=f"<test {name}>")
    return FunctionType(code, globals(), closure=call.__closure__)


def _remove_alarm(previous_handler: Any) -> None:
    if previous_handler is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)


def stacks(main: FrameType | None) -> str:
    """Return the stacks of all threads and tasks. *main* is the interrupted frame of the main thread."""
    out = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        current = main if ident == threading.get_ident() and main is not None else frame
        lines = [line for line in traceback.format_stack(current) if not any(place in line for place in _PYTEST_FRAMES)]
        print(f"Thread {names.get(ident, ident)}:\n{''.join(lines)}", file=out)
    for name, coroutine in _tasks():
        print(f"Task {name}:\n{''.join(_lines_of(coroutine))}", file=out)
    return out.getvalue()


def _tasks() -> Iterator[tuple[str, Any]]:
    """Yield the name and the coroutine of each task of this thread's event loop."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        yield from ((task.get_name(), task.get_coro()) for task in asyncio.all_tasks(loop))
    trio = sys.modules.get("trio")
    root = trio.lowlevel.current_root_task() if trio and trio.lowlevel.in_trio_run() else None
    remaining = [] if root is None else [root]
    while remaining:
        task = remaining.pop()
        yield task.name, task.coro
        remaining.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)


def _lines_of(awaited: Any) -> Iterator[str]:
    """Yield the lines of the stack, from the coroutine down to what it awaits."""
    while awaited is not None:
        # Coroutines, generators and async generators have the same attributes with different prefixes.
        prefix = next((prefix for prefix in ("cr", "gi", "ag") if hasattr(awaited, f"{prefix}_frame")), None)
        frame = getattr(awaited, f"{prefix}_frame", None)
        if frame is None:
            return
        yield from traceback.format_list(traceback.extract_stack(frame, limit=1))
        awaited = getattr(awaited, "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await")
