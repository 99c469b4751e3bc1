"""Event loops in virtual time: their clocks jump to the next timer, so an hour of waiting takes a moment."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trio.testing


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that advances the clock instead of waiting for timers. It waits only for other threads."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0 if timeout is not None else None)
        if not events and timeout:
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop in virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(work: Callable[..., Awaitable[Any]], *arguments: Any, backend: str) -> Any:
    """Run *work* on *backend* in virtual time, starting at 0."""
    options: dict[str, Any] = {"loop_factory": VirtualLoop}
    if backend == "trio":
        options = {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return anyio.run(work, *arguments, backend=backend, backend_options=options)
