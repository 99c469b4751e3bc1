"""``MemoryStore``: records handled callbacks in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from attrs import frozen

from gatepay_async.callbacks.store import Claim, Standing
from gatepay_async.protocol.durations import Seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.arguments import check_callable


@frozen
class _Entry:
    """The latest claim of a callback, and whether the callback was handled."""

    claim: Claim
    recorded_at: float
    handled: bool


class MemoryStore:
    """
    Records handled callbacks in memory, for tests and for a single process.

    Guarantee: each payment is handled once within one process, until the process ends. Other processes don't share the
    record. After a restart, a callback that is retried or replayed is handled again.

    Args:
        keep: How long a handled callback is remembered, in seconds or as a ``timedelta``. ``CallbackApp`` then requires
            a ``max_age`` that is at least 300 seconds smaller, so that older callbacks can't be replayed. None: until
            the process ends (some 500 bytes each).
        clock: Returns the time in seconds; replace it in tests.

    Raises:
        InvalidRequestError: *keep* is not a valid duration, or *clock* can't be called.
    """

    def __init__(self, *, keep: Seconds | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.keep = to_seconds_or_none("keep", keep)
        check_callable("clock", clock, error=InvalidRequestError)
        self._clock = clock
        # By Claim.key, ordered by time: an entry that is claimed or committed moves to the end.
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()  # for event loops in several threads; nothing is awaited while it is held

    async def claim(self, claim: Claim) -> Standing:
        """Implement ``Store.claim``."""
        now = self._clock()
        with self._lock:
            entry = self._entries.get(claim.key)
            if entry is not None and entry.handled and not self._is_expired(entry, now):
                return Standing.HANDLED if entry.claim.facts == claim.facts else Standing.CONFLICT
            if entry is not None and self._is_held(entry, now):
                return Standing.TAKEN
            self._record(claim, now, handled=False)
            return Standing.MINE

    async def commit(self, claim: Claim) -> bool:
        """Implement ``Store.commit``."""
        now = self._clock()
        with self._lock:
            entry = self._entries.get(claim.key)
            if entry is not None and entry.claim.token != claim.token:
                return False
            self._record(claim, now, handled=True)
            self._drop_expired(now)
            return True

    async def release(self, claim: Claim) -> None:
        """Implement ``Store.release``."""
        with self._lock:
            entry = self._entries.get(claim.key)
            if entry is not None and not entry.handled and entry.claim.token == claim.token:
                del self._entries[claim.key]

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""

    def _record(self, claim: Claim, now: float, *, handled: bool) -> None:
        self._entries.pop(claim.key, None)
        self._entries[claim.key] = _Entry(claim, now, handled)

    def _is_held(self, entry: _Entry, now: float) -> bool:
        return not entry.handled and now < entry.recorded_at + entry.claim.lease

    def _is_expired(self, entry: _Entry, now: float) -> bool:
        return self.keep is not None and now > entry.recorded_at + self.keep

    def _drop_expired(self, now: float) -> None:
        """Drop expired entries, from the oldest on. Stop at the first one that is not expired or is claimed now."""
        # The loop never empties the dict: the caller has just recorded an entry, which is not expired.
        while self._is_expired(oldest := next(iter(self._entries.values())), now) and not self._is_held(oldest, now):
            del self._entries[oldest.claim.key]
