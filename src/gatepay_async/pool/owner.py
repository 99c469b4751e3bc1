"""Which process and event loop own a connection. Only those that opened it may use it."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

import sniffio
from anyio.lowlevel import current_token


class _Process:
    """
    This process.

    Attributes:
        forks: How often the process was forked since this module was imported. An object that has stored another
            number was created in a parent process.
    """

    def __init__(self) -> None:
        self.forks = 0

    def note_fork(self) -> None:
        self.forks += 1


PROCESS: Final = _Process()
# Windows has no register_at_fork. There, dict() accepts the argument and does nothing with it.
getattr(os, "register_at_fork", dict)(after_in_child=PROCESS.note_fork)


class Owner:
    """The process and the event loop that created this object."""

    __slots__ = ("_forks", "_token")

    def __init__(self) -> None:
        self._forks = PROCESS.forks
        self._token: Any = current_token()  # stands for the running event loop

    def is_current(self) -> bool:
        """Whether the caller runs in the same process and on the same event loop."""
        return self._forks == PROCESS.forks and self._token == current_token()


# Returns the event loop of asyncio that runs in this thread, or None. asyncio documents it for authors of event loops.
loop_of_asyncio: Final[Callable[[], asyncio.AbstractEventLoop | None]] = asyncio._get_running_loop  # noqa: SLF001 -- see above


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return asyncio's running event loop; None outside of one, and on trio, even if trio runs within asyncio's."""
    return None if sniffio.thread_local.name not in (None, "asyncio") else loop_of_asyncio()  # set while trio runs
