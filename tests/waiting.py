"""How tests wait for what other tasks, threads and processes do."""

import time
from collections.abc import Callable

import anyio

# Seconds. Nothing takes that long, on a busy machine either; it only ends a test that would hang, with a better message
# than hanging._LIMIT, which is above it.
PATIENCE = 45


async def until(condition: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    """Wait until *condition()* holds.

    The pause is not there for its length. A loop of mere checkpoints would keep the interpreter's lock, and a thread
    that is waited for would get it only for a moment every five milliseconds.
    """
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.005)


def wait_until(
    condition: Callable[[], object], *, seconds: float = PATIENCE, every: float = 0.005, why: Callable[[], str] = str
) -> None:
    """The same, where there is no event loop; *why* tells what is known when it was in vain."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, why()
        time.sleep(every)  # another process or thread is polled, against a deadline
