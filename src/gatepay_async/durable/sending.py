"""One batch, chunk after chunk; each ends in an outcome, as in a plain upload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gatepay_async.durable.batches import Run
from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Chunk, Fate
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.errors import (
    InvalidRequestError,
    ProtocolError,
    RefusedError,
    StorageFailedError,
    TransportError,
)
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.retrying import Answer

# Chunks in a row that nobody answered, or whose storage failed, each tried several times: the rest waits for another
# run. One alone may be at fault itself.
_MOST_UNANSWERED = 2

Send = Callable[[KaCreate], Awaitable[Answer[Stored]]]


class Sender:
    """
    Sends the chunks of a batch, one at a time.

    Args:
        send: Sends a call, again where that helps.
        product_id: What the card keys are for.
        may_go_on: Awaited before each call; False: no more calls, for now.
    """

    def __init__(self, send: Send, product_id: int, may_go_on: Callable[[], Awaitable[bool]]) -> None:
        self._send = send
        self._product_id = product_id
        self._may_go_on = may_go_on
        self._unanswered = 0

    async def run(self, chunks: Sequence[Chunk]) -> Run:
        """An outcome for each of *chunks*; ``follows`` if another run may do better."""
        run = Run()
        self._unanswered = 0
        parts = list(reversed(chunks))  # the next one last
        while parts:
            part = parts.pop()
            if run.stopped is None and not run.follows:
                run.follows = self._unanswered >= _MOST_UNANSWERED or not await self._may_go_on()
            if run.stopped is not None or run.follows:
                run.outcomes.append(bulk.failed(part, Fate.NOT_SENT, error=run.stopped))
            else:
                parts += await self._send_part(part, run)
        run.follows = run.stopped is None and (run.follows or run.unanswered)
        return run

    async def _send_part(self, part: Chunk, run: Run) -> tuple[Chunk, ...]:
        """Send *part* and enter what became of it; or return its halves, the first one last."""
        try:
            answer = await self._send(KaCreate(self._product_id, part.keys))
        except InvalidRequestError as error:
            run.stopped = error
            run.outcomes.append(bulk.failed(part, Fate.NOT_SENT, error=error))
        except bulk.ATTEMPTED as error:
            if isinstance(error, bulk.MEETS_THIS_CONTENT) and len(part.keys) > 1:
                return part.halves()[::-1]
            self._note(error, run)
            run.outcomes.append(bulk.outcome_of(part, error))
        else:
            self._unanswered = 0
            run.outcomes.append(bulk.stored(part, count=answer.value.stored, attempts=answer.attempts))
        return ()

    def _note(self, error: RefusedError | ProtocolError | TransportError, run: Run) -> None:
        """What *error* means for the job, and for the chunks after it."""
        nothing_done = isinstance(error, TransportError | ProtocolError | StorageFailedError)
        self._unanswered = self._unanswered + 1 if nothing_done else 0
        run.unanswered = run.unanswered or nothing_done
        if isinstance(error, bulk.MEETS_EVERY_CHUNK):
            run.stopped = error
