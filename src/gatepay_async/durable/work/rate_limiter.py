"""How often the server may be asked: a limit for all workers, and each one's share of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
from attrs import field, frozen

from gatepay_async.protocol import checks
from gatepay_async.protocol.durations import above_0, without_timedelta


@frozen
class Rate:
    """
    So many calls in so many seconds, over all workers of a shop together.

    Attributes:
        limit: Calls.
        per: Seconds, or a ``timedelta``.
    """

    limit: int = field(validator=checks.positive)
    per: float = field(default=1.0, converter=without_timedelta, validator=above_0, kw_only=True)


class RateLimiter:
    """
    One worker's share of a rate: calls evenly spaced, never in a burst.

    Args:
        rate: Of all workers; None: no limit.
        now: A clock, in seconds.
    """

    def __init__(self, rate: Rate | None, now: Callable[[], float] = anyio.current_time) -> None:
        self._interval = 0.0 if rate is None else rate.per / rate.limit
        self._workers = 1
        self._now = now
        self._next_at = -math.inf
        self._lock = anyio.Lock()

    def set_workers(self, workers: int) -> None:
        """So many *workers* are there, this one included."""
        self._workers = max(1, workers)

    def delay_next(self, seconds: float) -> None:
        """The next call is made in so many *seconds* at the earliest."""
        self._next_at = self._now() + seconds

    def longest_wait(self, callers: int) -> float:
        """Seconds that a call may wait for its turn, *callers* being in line."""
        return self._interval * self._workers * callers

    async def acquire(self) -> None:
        """Wait until the next call may be made."""
        if not self._interval:
            return
        async with self._lock:  # one by one: a loop that was held up for a while must not let several out at once
            await anyio.sleep(max(0.0, self._next_at - self._now()))
            self._next_at = self._now() + self._interval * self._workers
