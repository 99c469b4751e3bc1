"""The rate limit that all workers share, and the share of one worker."""

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
    A rate limit: at most ``limit`` calls in ``per`` seconds, over all workers of a queue together.

    Attributes:
        limit: The number of calls.
        per: Seconds, or a ``timedelta``.
    """

    limit: int = field(validator=checks.positive)
    per: float = field(default=1.0, converter=without_timedelta, validator=above_0, kw_only=True)


class RateLimiter:
    """
    One worker's share of a rate. Its calls are evenly spaced, without bursts.

    Args:
        rate: The rate of all workers together; None: no limit.
        now: A clock, in seconds.
    """

    def __init__(self, rate: Rate | None, now: Callable[[], float] = anyio.current_time) -> None:
        self._interval = 0.0 if rate is None else rate.per / rate.limit
        self._workers = 1
        self._now = now
        self._next_at = -math.inf
        self._lock = anyio.Lock()

    def set_workers(self, workers: int) -> None:
        """Set the number of workers that share the rate, this one included."""
        self._workers = max(1, workers)

    def delay_next(self, seconds: float) -> None:
        """Make no call for *seconds*."""
        self._next_at = self._now() + seconds

    def longest_wait(self, callers: int) -> float:
        """Return the maximum seconds that a call waits if *callers* calls are waiting, including this one."""
        return self._interval * self._workers * callers

    async def acquire(self) -> None:
        """Wait until the next call may be made."""
        if not self._interval:
            return
        async with self._lock:  # without it, callers that wait together would all read the same _next_at
            await anyio.sleep(max(0.0, self._next_at - self._now()))
            self._next_at = self._now() + self._interval * self._workers
