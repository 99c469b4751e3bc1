"""The running event loop, asyncio's or trio's. This module imports neither, since a program needs only one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple, Unpack, cast

import anyio
import anyio.lowlevel
import anyio.to_thread
import sniffio

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Raised if asyncio isn't imported, is being imported in another thread, or has no running event loop.
_NOT_ASYNCIO = (KeyError, AttributeError, RuntimeError)


def current_asyncio_task() -> asyncio.Task[Any] | None:
    """Return asyncio's current task; None on trio, also if trio runs within asyncio's event loop or task."""
    if sniffio.thread_local.name not in (None, "asyncio"):  # set while trio runs
        return None
    try:
        return cast("asyncio.Task[Any] | None", sys.modules["asyncio"].current_task())
    except _NOT_ASYNCIO:
        return None


def current_loop() -> object:
    """Return the running event loop (on trio, anyio's token of it), to compare it with another."""
    task = current_asyncio_task()
    return anyio.lowlevel.current_token() if task is None else task.get_loop()


def loop_getter() -> Callable[[], object]:
    """
    Return a faster function than ``current_loop``, with the same result.

    The program may call the function later under the other library, for example on trio if asyncio runs now. Then the
    result differs from each event loop of the first library, so comparing event loops still gives the right answer.
    """
    if current_asyncio_task() is None:
        return anyio.lowlevel.current_token
    return cast("Callable[[], object]", sys.modules["asyncio"]._get_running_loop)  # noqa: SLF001 -- documented


def current_clock() -> Callable[[], float]:
    """Return the clock of the running event loop. It is ``anyio.current_time``, but on asyncio ten times as fast."""
    return getattr(current_loop(), "time", anyio.current_time)


async def run_in_thread(function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Run *function* in a thread, even if the program's own calls use all threads of anyio's default limiter."""
    return await anyio.to_thread.run_sync(function, *args, limiter=anyio.CapacityLimiter(1))


class Signal(Protocol):
    """An event for one task, which waits for it once."""

    def set(self) -> None:
        """Wake the task, if it still waits."""

    async def wait(self) -> None:
        """Wait until ``set`` is called."""


class _AsyncioSignal:
    """A ``Signal`` that only uses an asyncio future."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        await self._future


def new_signal() -> Signal:
    """Return a signal for the running event loop. It is an ``anyio.Event``, but on asyncio five times as fast."""
    loop = current_loop()
    is_asyncio = hasattr(loop, "create_future")
    return _AsyncioSignal(cast("asyncio.AbstractEventLoop", loop)) if is_asyncio else anyio.Event()
