"""The event loop that runs: asyncio's or trio's. This module imports neither, since a program needs only one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    import asyncio

# A missing or half-imported module, and one whose event loop doesn't run.
_NOT_ASYNCIO = (KeyError, AttributeError, RuntimeError)


def current_loop() -> object:
    """Return the running event loop (on trio, anyio's token of it), to compare it with another."""
    try:
        return sys.modules["asyncio"].get_running_loop()
    except _NOT_ASYNCIO:
        return anyio.lowlevel.current_token()


def current_clock() -> Callable[[], float]:
    """Return the clock of the running event loop. It is ``anyio.current_time``, but on asyncio ten times as fast."""
    return getattr(current_loop(), "time", anyio.current_time)


def current_asyncio_task() -> asyncio.Task[Any] | None:
    """Return asyncio's current task; None on trio."""
    try:
        return cast("asyncio.Task[Any] | None", sys.modules["asyncio"].current_task())
    except _NOT_ASYNCIO:
        return None
