"""Where this runs. A connection is good for the process and the event loop that have opened it, and for no other."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from anyio.lowlevel import current_token


class _Process:
    """
    This process.

    Attributes:
        forks: How often it was forked since this was imported: what has noted another number came with the fork.
    """

    def __init__(self) -> None:
        self.forks = 0

    def note_fork(self) -> None:
        self.forks += 1


PROCESS: Final = _Process()
getattr(os, "register_at_fork", dict)(after_in_child=PROCESS.note_fork)  # Windows forks nothing


class Home:
    """The process and the event loop that are running when it is made."""

    __slots__ = ("_forks", "_token")

    def __init__(self) -> None:
        self._forks = PROCESS.forks
        self._token: Any = current_token()

    def is_here(self) -> bool:
        """Whether they are running now."""
        return self._forks == PROCESS.forks and self._token == current_token()


# The event loop of asyncio; None: another library's runs, or none. asyncio names it for whoever writes an event loop.
running_loop: Final[Callable[[], asyncio.AbstractEventLoop | None]] = asyncio._get_running_loop  # noqa: SLF001 -- see above
