"""One batch, chunk after chunk. What an answer means is ``Progress``'s to say, as in a plain upload."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import anyio

from gatepay_async.durable.records import results
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Chunk
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.progress import Patience, Progress, Resend
from gatepay_async.protocol.retrying import Sent

# Two calls in a row in vain, each tried several times: the rest waits for another run. One alone may be at fault.
# No part waits here for a server that is away: the queue does that, for much longer.
_PATIENCE = Patience(seconds=0, seconds_at_first=0, attempts=5, attempts_at_first=5, holds=False)

Send = Callable[[KaCreate], Awaitable[Sent[Stored]]]


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

    async def send_chunks(self, chunks: Sequence[Chunk]) -> BatchResult:
        """An outcome for each part of *chunks*; ``follows`` if another run may do better."""
        result = BatchResult()
        parts = deque(chunks)  # the next one first
        while parts and result.stopped is None and not result.follows:
            if self._progress.away is None and await self._may_go_on():
                again = await self._send_part(parts.popleft(), result)
                if again.later:
                    parts.extend(again.parts)
                else:
                    parts.extendleft(reversed(again.parts))
            else:
                result.follows = True
        result.outcomes += (bulk.left(part, error=result.stopped) for part in parts)
        result.follows = result.stopped is None and (result.follows or result.unanswered)
        return result

    async def _send_part(self, part: Chunk, result: BatchResult) -> Resend:
        """Send *part* and enter what became of it, or return what is to be sent again."""
        began = anyio.current_time()
        try:
            answer = await self._send(KaCreate(self._product_id, part.keys))
        except InvalidRequestError as error:
            result.stopped = error
            result.outcomes.append(bulk.left(part, error=error))
        except bulk.ATTEMPTED as error:
            verdict = self._progress.failed(part, error, began=began, now=anyio.current_time())
            result.stopped = self._progress.stopped
            if isinstance(verdict, Resend):
                return verdict
            result.outcomes.append(verdict)
            result.unanswered = result.unanswered or not results.settled(verdict)
        else:
            result.outcomes.append(self._progress.answered(part, answer, now=anyio.current_time()))
        return Resend(())
