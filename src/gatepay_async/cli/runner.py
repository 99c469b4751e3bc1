"""Runs a command's coroutine on an event loop, and handles Ctrl-C and other signals."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn, ParamSpec, cast

import anyio
import typer
from attrs import define, field

from gatepay_async.cli.language import text
from gatepay_async.cli.output import warn, warn_interrupted
from gatepay_async.cli.status import Status

P = ParamSpec("P")

# The signals by which a service manager or a closed terminal ends a program. The command handles them like Ctrl-C.
_END_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_SIGNAL_STATUS = 128  # the exit status is this plus the number of the signal, as in shells
_WORKER_STOP_S = 45.0  # the time for a worker to stop; it normally takes at most 35 s


def run_and_exit(work: Callable[P, Coroutine[Any, Any, Status]], *args: P.args, **kwargs: P.kwargs) -> NoReturn:
    """
    Run *work*, and end the command with its status.

    Raises:
        typer.Exit: Always, with the status of *work*, or with 128 plus the number of the signal. Errors of *work* are
            not caught.
    """
    status, interrupted = _run_to_end(partial(work, *args, **kwargs))
    if interrupted:
        warn_interrupted(text("running.interrupted"))
    raise typer.Exit(status)


def serve_and_exit(work: Callable[P, Coroutine[Any, Any, Status]], *args: P.args, **kwargs: P.kwargs) -> NoReturn:
    """
    Run *work* until Ctrl-C, which is the normal end of this command and exits with 0.

    Raises:
        typer.Exit: Always: with 0 after Ctrl-C, otherwise with the same status as in ``run_and_exit``.
    """
    status, _ = _run_to_end(partial(work, *args, **kwargs))
    raise typer.Exit(Status.DONE if status == Status.INTERRUPTED else status)


def run_worker_and_exit(work: Callable[P, Coroutine[Any, Any, Status]], *args: P.args, **kwargs: P.kwargs) -> NoReturn:
    """
    Run the *work* of a worker. After the first signal, ignore others: the worker first finishes its calls in flight.

    If the worker can't stop, for example because its database hangs, the process ends after ``_WORKER_STOP_S``.

    Raises:
        typer.Exit: Always, with the same status as in ``run_and_exit``.
    """
    signals = _Signals(time_limit_s=_WORKER_STOP_S)
    status, interrupted = _run_to_end(partial(work, *args, **kwargs), (signal.SIGINT, *_END_SIGNALS), signals)
    if interrupted:
        warn_interrupted(text("running.interrupted"))
    raise typer.Exit(status)


def _run_to_end(
    work: Callable[[], Coroutine[Any, Any, Status]],
    signal_numbers: tuple[int, ...] | None = None,
    signals: _Signals | None = None,
) -> tuple[int, bool]:
    """
    Run *work* to its end. Return the status, and whether a signal has interrupted the command.

    Of the signals *signal_numbers*, only the first one that arrives counts. If SIGINT is not among them, asyncio
    handles it, and a second Ctrl-C ends the command immediately, even if something blocks the event loop.
    """
    signals = _Signals() if signals is None else signals
    with _handling_signals(signals, _END_SIGNALS if signal_numbers is None else signal_numbers):
        try:
            return int(anyio.run(_run_cancellable, signals, work)), False
        except (KeyboardInterrupt, asyncio.CancelledError):
            return _SIGNAL_STATUS + (signals.received[0] if signals.received else signal.SIGINT), True


@define
class _Signals:
    """
    The handled and the received signals of a run.

    ``cancel`` does nothing until there is a task to cancel. With a ``time_limit_s``, the process ends this many
    seconds after the first signal.
    """

    time_limit_s: float | None = None
    handled: list[int] = field(factory=list[int])
    received: list[int] = field(factory=list[int])
    cancel: Callable[[], object] = bool  # calling it has no effect

    def handle(self, number: int, _: object) -> None:
        """Handle a signal. Python calls this on the main thread, between any two instructions."""
        self.received.append(number)
        if len(self.received) == 1:  # another cancellation would interrupt the cleanup
            self.cancel()
            if self.time_limit_s is not None:
                watchdog = threading.Timer(self.time_limit_s, _end_process, [number])
                watchdog.daemon = True
                watchdog.start()


def _end_process(number: int) -> None:
    """End the process even if threads still wait for a database, because such threads can't be stopped."""
    try:
        warn(text("running.not_stopped"))
    finally:
        os._exit(_SIGNAL_STATUS + number)


async def _run_cancellable(signals: _Signals, work: Callable[[], Coroutine[Any, Any, Status]]) -> Status:
    """Run *work* on the event loop, so that a signal cancels it."""
    loop, task = asyncio.get_running_loop(), cast("asyncio.Task[Any]", asyncio.current_task())
    signals.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
    with suppress(NotImplementedError):  # event loops on Windows have no handlers; signal.signal() suffices there
        for number in signals.handled:
            # Needed to wake the loop if it is about to sleep, or if another thread receives the signal.
            loop.add_signal_handler(number, signals.handle, number, None)
    if signals.received:  # a signal that arrived before there was a task to cancel
        task.cancel()
    return await work()


@contextmanager
def _handling_signals(signals: _Signals, signal_numbers: tuple[int, ...]) -> Generator[None]:
    """
    Handle the signals *signal_numbers* like Ctrl-C. asyncio handles SIGINT unless it is one of *signal_numbers*.

    A signal that is ignored when the command starts (``nohup``, a background job) stays ignored. The others are still
    handled: SIGTERM ends a command that ignores Ctrl-C.
    """
    before = {number: signal.getsignal(number) for number in signal_numbers}
    handled = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    signals.handled = list(handled)
    for number in handled:
        signal.signal(number, signals.handle)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
