"""From the command line to the event loop and back; Ctrl-C on the way."""

import signal
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, NoReturn

import anyio
import typer

from gatepay_async.cli.output import complain
from gatepay_async.cli.speech import say
from gatepay_async.cli.status import Status

# What a shell, a service manager or a closed terminal ends a program with: here it ends as with Ctrl-C.
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_SIGNALLED = 128


def start(work: Callable[..., Coroutine[Any, Any, Status]], *arguments: object) -> NoReturn:
    """
    Run *work* to its end.

    Raises:
        typer.Exit: Always, with the status: that of *work*, or 128 and the signal's number. What *work* raises
            comes through.
    """
    with _ended_by() as signals:
        try:
            status = int(anyio.run(work, *arguments))
        except KeyboardInterrupt:
            number = signals[0] if signals else signal.SIGINT
            status = _SIGNALLED + number
            complain(say("running.interrupted"))
    raise typer.Exit(status)


@contextmanager
def _ended_by() -> Generator[list[int]]:
    """Have other signals do what Ctrl-C does; gives those that came."""
    came: list[int] = []

    def end(number: int, _: object) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    before = {each: signal.signal(each, end) for each in _ENDING}
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
