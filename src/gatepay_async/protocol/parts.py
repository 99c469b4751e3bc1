"""The parts of some chunks: which one is sent next, and when. Pure: times come in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator

from gatepay_async.protocol.bulk import Attempted, Chunk, ChunkOutcome
from gatepay_async.protocol.progress import Progress, Resend


class Parts:
    """
    Chunks on their way to the server. Each of them is sent whole at first, and in parts where ``Progress`` says so.

    Args:
        progress: How the whole upload goes; also of chunks that are sent beside these.
        chunks: The next one first.
    """

    def __init__(self, progress: Progress, chunks: Iterable[Chunk]) -> None:
        self._progress = progress
        self._waiting = deque(chunks)

    def __bool__(self) -> bool:
        return bool(self._waiting) and self._progress.ended is None

    def seconds_to_wait(self, *, now: float, in_flight: int) -> float:
        """
        How long the next part must wait, if nothing else happens; 0: it may be sent now.

        Args:
            now: The caller's clock.
            in_flight: Calls that are not answered yet. Infinity is returned where one of their answers is needed.
        """
        if self._progress.asks_one_by_one and in_flight:
            return math.inf
        return max(0.0, max(self._waiting[0].not_before, self._progress.held_until) - now)

    def take(self) -> Chunk:
        """The next part, which is sent now."""
        return self._waiting.popleft()

    def failed(
        self, part: Chunk, error: Attempted, *, began: float, now: float, jitter: float, others: int
    ) -> ChunkOutcome | None:
        """
        Take in that the call for *part* has failed. The arguments are those of ``Progress.failed``.

        Returns:
            What became of it; None: all of it waits to be sent again.
        """
        verdict = self._progress.failed(part, error, began=began, now=now, jitter=jitter, others=others)
        if not isinstance(verdict, Resend):
            return verdict
        if verdict.later:
            self._waiting.extend(verdict.parts)
        else:
            self._waiting.extendleft(reversed(verdict.parts))
        return None

    def leave(self) -> Iterator[ChunkOutcome]:
        """What became of the parts that are still here: they are not sent, or not sent again."""
        while self._waiting:
            yield self._progress.left(self._waiting.popleft())
