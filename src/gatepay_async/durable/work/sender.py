"""One batch, chunk after chunk. What an answer means is ``Progress``'s to say, as in a plain upload."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import anyio

from gatepay_async.durable.records import results
from gatepay_async.durable.records.results import Run
from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Chunk
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.progress import Again, Patience, Progress
from gatepay_async.protocol.retrying import Answer

# Two calls in a row in vain, each tried several times: the rest waits for another run. One alone may be at fault.
# No part waits here for a server that is away: the queue does that, for much longer.
_PATIENCE = Patience(seconds=0, seconds_at_first=0, attempts=5, attempts_at_first=5, holds=False)

Send = Callable[[KaCreate], Awaitable[Answer[Stored]]]


class Sender:
    """
    Sends the chunks of a batch, one at a time.

    Args:
        send: Sends a call, again where that helps.
        product_id: What the card keys are for.
        may_go_on: Awaited before each call; False: no more calls, for now.
        accepted: Something was stored with the same secret before.
    """

    def __init__(
        self, send: Send, product_id: int, may_go_on: Callable[[], Awaitable[bool]], *, accepted: bool = False
    ) -> None:
        self._send = send
        self._product_id = product_id
        self._may_go_on = may_go_on
        self._progress = Progress(_PATIENCE, accepted=accepted)

    @property
    def accepted(self) -> bool:
        """Whether something was stored with this secret."""
        return self._progress.accepted

    async def run(self, chunks: Sequence[Chunk]) -> Run:
        """An outcome for each part of *chunks*; ``follows`` if another run may do better."""
        run = Run()
        parts = deque(chunks)  # the next one first
        while parts and run.stopped is None and not run.follows:
            if self._progress.away is None and await self._may_go_on():
                again = await self._send_part(parts.popleft(), run)
                if again.later:
                    parts.extend(again.parts)
                else:
                    parts.extendleft(reversed(again.parts))
            else:
                run.follows = True
        run.outcomes += (bulk.left(part, error=run.stopped) for part in parts)
        run.follows = run.stopped is None and (run.follows or run.unanswered)
        return run

    async def _send_part(self, part: Chunk, run: Run) -> Again:
        """Send *part* and enter what became of it, or return what is to be sent again."""
        began = anyio.current_time()
        try:
            answer = await self._send(KaCreate(self._product_id, part.keys))
        except InvalidRequestError as error:
            run.stopped = error
            run.outcomes.append(bulk.left(part, error=error))
        except bulk.ATTEMPTED as error:
            verdict = self._progress.failed(part, error, began=began, now=anyio.current_time())
            run.stopped = self._progress.stopped
            if isinstance(verdict, Again):
                return verdict
            run.outcomes.append(verdict)
            run.unanswered = run.unanswered or not results.settled(verdict)
        else:
            run.outcomes.append(self._progress.answered(part, answer, now=anyio.current_time()))
        return Again(())
