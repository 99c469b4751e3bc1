"""The queue of waiting parts: which part is sent next, and when. No I/O; the caller passes the time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator

from gatepay_async.protocol.bulk import AttemptError, Chunk, ChunkOutcome
from gatepay_async.protocol.progress import Progress, Resend


class Parts:
    """
    The queue of one task. It holds chunks at first, and halves of them if ``Progress`` says so.

    Args:
        progress: The state of the whole upload, which other tasks share.
        chunks: The chunks, the next one first.
    """

    def __init__(self, progress: Progress, chunks: Iterable[Chunk]) -> None:
        self._progress = progress
        self._waiting = deque(chunks)

    def __bool__(self) -> bool:
        return bool(self._waiting) and self._progress.ended is None

    def seconds_to_wait(self, *, now: float, in_flight: int) -> float:
        """
        Return how long the next part must wait if nothing else happens. 0: send it now.

        Args:
            now: The time on the caller's clock.
            in_flight: The number of calls in flight. If the next part must wait for one of them, infinity is returned.
        """
        if self._progress.asks_one_by_one and in_flight:
            return math.inf
        return max(0.0, max(self._waiting[0].not_before, self._progress.held_until) - now)

    def take(self) -> Chunk:
        """Remove the next part, to send it now."""
        return self._waiting.popleft()

    def failed(
        self, part: Chunk, error: AttemptError, *, began: float, now: float, jitter: float, others: int
    ) -> ChunkOutcome | None:
        """
        Handle a failed call for *part*. The arguments are those of ``Progress.failed``.

        Returns:
            The outcome of the part; None: all of it is waiting again.
        """
        verdict = self._progress.failed(part, error, began=began, now=now, jitter=jitter, others=others)
        if not isinstance(verdict, Resend):
            return verdict
        if verdict.later:
            self._waiting.extend(verdict.parts)
        else:
            self._waiting.extendleft(reversed(verdict.parts))
        return None

    def give_up(self) -> Iterator[ChunkOutcome]:
        """Yield the outcomes of all waiting parts, which are not sent, or not sent again."""
        while self._waiting:
            yield self._progress.abandoned(self._waiting.popleft())
