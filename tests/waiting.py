"""Waits for other tasks, threads and processes."""

import time
from collections.abc import Callable

import anyio

# In seconds. Ends a test that would wait forever; successful waits are much shorter, even on a busy machine. It must be
# below hanging._LIMIT, because this time-out has the clearer message.
PATIENCE = 45


async def until(condition: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    """Wait until *condition()* is true.

    It sleeps because a loop without sleeps would hold the GIL, and another thread would get the GIL only for a moment
    every five milliseconds.
    """
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.005)


def wait_until(
    condition: Callable[[], object], *, seconds: float = PATIENCE, every: float = 0.005, why: Callable[[], str] = str
) -> None:
    """Wait without an event loop until *condition()* is true. After *seconds*, fail with the text of *why()*."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, why()
        time.sleep(every)  # polls another process or thread until the deadline
