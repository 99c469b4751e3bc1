"""Event loops whose clocks jump to the next thing that is due: an hour of waiting takes a moment."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trio.testing


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing but threads: where the loop would wait for a time, the time comes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0 if timeout is not None else None)
        if not events and timeout:
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's, in virtual time."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(work: Callable[..., Awaitable[Any]], *arguments: Any, backend: str) -> Any:
    """Run *work* on *backend*, in virtual time from 0 on."""
    options: dict[str, Any] = {"loop_factory": VirtualLoop}
    if backend == "trio":
        options = {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return anyio.run(work, *arguments, backend=backend, backend_options=options)
