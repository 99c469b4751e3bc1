"""Semaphores for the calls of an upload: one of a fixed size, and one whose size ``AutoConcurrency`` changes."""

from __future__ import annotations

from collections import deque

import anyio
import anyio.lowlevel

from gatepay_async.protocol.auto_concurrency import AttemptEnd, AutoConcurrency
from gatepay_async.protocol.errors import ProtocolError, RefusedError, TransportError
from gatepay_async.protocol.observing import EndAttempt
from gatepay_async.protocol.raw import Outgoing

_OVERLOAD_STATUSES = frozenset({429, 503})  # Too Many Requests, Service Unavailable


class Permits:
    """
    A fair semaphore. A call keeps its permit while it waits for a retry.

    Args:
        size: The number of permits.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._waiting: deque[anyio.Event] = deque()

    def size(self) -> int:
        """Return how many permits there are now."""
        return self._size

    async def acquire(self) -> None:
        """Wait for a permit, and take it. Even if one is free, let other tasks run first."""
        if self._taken < self.size() and not self._waiting:
            self._taken += 1
            try:
                await anyio.lowlevel.checkpoint()
            except BaseException:
                self.release()
                raise
            return
        turn = anyio.Event()
        self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.release()
            else:
                self._waiting.remove(turn)
            raise

    def release(self) -> None:
        """Release a permit."""
        self._taken -= 1
        self._admit()

    def _admit(self) -> None:
        """Give free permits to waiting tasks, first come, first served."""
        while self._waiting and self._taken < self.size():
            self._taken += 1
            self._waiting.popleft().set()


class AutoPermits(Permits):
    """
    A fair semaphore whose size follows the results of the attempts that it observes.

    Args:
        max_size: The largest size.
    """

    def __init__(self, max_size: int) -> None:
        super().__init__(max_size)
        self._auto = AutoConcurrency(max_size)

    def size(self) -> int:
        """Implement ``Permits.size``."""
        return self._auto.limit

    def observe(self, call: Outgoing, attempt: int, /) -> EndAttempt:  # noqa: ARG002 -- required by Observer
        """Record an attempt, and adjust the size to its result. Implements ``Observer``."""
        counted_attempt = self._auto.record_begin(anyio.current_time())

        def end_attempt(error: BaseException | None, http_status: int | None) -> None:  # noqa: ARG001 -- required by EndAttempt
            self._auto.record_end(counted_attempt, _classify_end(error), anyio.current_time())
            self._admit()

        return end_attempt


def _classify_end(error: BaseException | None) -> AttemptEnd:
    """Return what the end of an attempt means for the size. GatePay's own refusals count as answers."""
    if error is None or isinstance(error, RefusedError):
        return AttemptEnd.ANSWERED
    if isinstance(error, ProtocolError) and error.http_status in _OVERLOAD_STATUSES:
        return AttemptEnd.REFUSED
    return AttemptEnd.UNANSWERED if isinstance(error, TransportError) else AttemptEnd.OTHER
