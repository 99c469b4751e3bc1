"""From the command line to the event loop and back; Ctrl-C on the way."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn, ParamSpec, cast

import anyio
import typer
from attrs import define, field

from gatepay_async.cli.language import text
from gatepay_async.cli.output import warn
from gatepay_async.cli.status import Status

P = ParamSpec("P")

# What a shell, a service manager or a closed terminal ends a program with: here it ends as with Ctrl-C.
_END_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_SIGNAL_STATUS = 128


def start(work: Callable[P, Coroutine[Any, Any, Status]], *args: P.args, **kwargs: P.kwargs) -> NoReturn:
    """
    Run *work* to its end.

    Raises:
        typer.Exit: Always, with the status: that of *work*, or 128 and the signal's number. What *work* raises
            comes through.
    """
    status, interrupted = _run_to_end(partial(work, *args, **kwargs))
    if interrupted:
        warn(text("running.interrupted"))
    raise typer.Exit(status)


def serve(work: Callable[P, Coroutine[Any, Any, Status]], *args: P.args, **kwargs: P.kwargs) -> NoReturn:
    """
    As start(), for what is meant to end with Ctrl-C: that is a success then, and nothing is said.

    Raises:
        typer.Exit: Always, as start() does; with 0 after Ctrl-C.
    """
    status, _ = _run_to_end(partial(work, *args, **kwargs))
    raise typer.Exit(Status.DONE if status == Status.INTERRUPTED else status)


def _run_to_end(work: Callable[[], Coroutine[Any, Any, Status]]) -> tuple[int, bool]:
    """The status, and whether it was interrupted."""
    with _handling_signals() as signals:
        try:
            return int(anyio.run(_run_cancellable, signals, work)), False
        except (KeyboardInterrupt, asyncio.CancelledError):
            return _SIGNAL_STATUS + (signals.received[0] if signals.received else signal.SIGINT), True


@define
class _Signals:
    """Those that are heard, those that came, and what they do: nothing, as long as there is nothing to cancel."""

    handled: list[int] = field(factory=list[int])
    received: list[int] = field(factory=list[int])
    cancel: Callable[[], object] = bool

    def handle(self, number: int, _: object) -> None:
        """As a signal's handler: on the main thread, between any two of its steps."""
        self.received.append(number)
        self.cancel()


async def _run_cancellable(signals: _Signals, work: Callable[[], Coroutine[Any, Any, Status]]) -> Status:
    loop, task = asyncio.get_running_loop(), cast("asyncio.Task[Any]", asyncio.current_task())
    signals.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
    with suppress(NotImplementedError):  # Windows, where a loop takes no handlers; those set before serve there
        for each in signals.handled:
            # A loop that is just going to sleep, or whose thread isn't the one that the system picks, must wake up.
            loop.add_signal_handler(each, signals.handle, each, None)
    return await work()


@contextmanager
def _handling_signals() -> Generator[_Signals]:
    """
    Have other signals do what Ctrl-C does, which asyncio sees to.

    What is ignored when the command begins (``nohup``, a job in the background) stays so: each by itself, so that
    what ignores Ctrl-C still ends with SIGTERM.
    """
    signals = _Signals()
    before = {each: signal.getsignal(each) for each in _END_SIGNALS}
    handled = {each: handler for each, handler in before.items() if handler is not signal.SIG_IGN}
    signals.handled = list(handled)
    for each in handled:
        signal.signal(each, signals.handle)
    try:
        yield signals
    finally:
        for each, handler in handled.items():
            signal.signal(each, handler)
