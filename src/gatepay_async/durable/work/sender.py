"""Sends one batch, with the same loop as a plain upload. It gives up sooner, because the queue retries the batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import anyio
from attrs import evolve

from gatepay_async.cancelling import is_task_cancelled
from gatepay_async.durable.errors import DurableError
from gatepay_async.durable.records import results
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Fate
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.errors import GatePayError, InvalidRequestError, RefusedError, StorageFailedError
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.patience import Patience
from gatepay_async.protocol.progress import Progress
from gatepay_async.protocol.retrying import Sent
from gatepay_async.sending import PartSender, SendChunk
from gatepay_async.words.problem import Problem

# A run gives up after five failed attempts in a row. That is more than one call makes, because a single call may fail
# for its own card keys. No part waits here while the server is down: the queue delays the next run, for much longer.
BATCH_PATIENCE = Patience(
    seconds=0,
    seconds_before_first_reply=0,
    attempts=5,
    attempts_before_first_reply=5,
    first_wait=0,
    retry_after_limit=0,
    waits=False,
)


async def send_batch(
    send: SendChunk,
    product_id: int,
    chunks: Iterable[Chunk],
    progress: Progress,
    *,
    may_send: Callable[[], Awaitable[bool]],
    on_sent: Callable[[], None] = lambda: None,
) -> BatchResult:
    """
    Send the chunks of a batch, one at a time.

    Args:
        send: Sends a call, and retries it where that helps.
        product_id: The product that the card keys belong to.
        chunks: The chunks.
        progress: A new ``Progress`` with ``BATCH_PATIENCE``.
        may_send: Awaited before each call. If it returns False, nothing more is sent in this run.
        on_sent: Called after each call that ``may_send`` allowed.

    Returns:
        The result. It has an outcome for each part, and ``has_next_run`` if another run is worth it.
    """
    outcomes: list[ChunkOutcome] = []
    refused: set[tuple[str, ...]] = set()  # the card keys of each part that GatePay has refused

    async def send_part(call: KaCreate) -> Sent[Stored]:
        try:
            return await send(call)
        except RefusedError as error:
            if not isinstance(error, StorageFailedError):  # GatePay's database may be down
                refused.add(call.keys)
            raise

    sender = PartSender(send_part, product_id, progress, outcomes.append, may_send=may_send, on_sent=on_sent)
    try:
        await sender.send_chunks(chunks)
    except anyio.get_cancelled_exc_class() as error:
        if is_task_cancelled():
            raise
        sender.end_with(error)  # the transport's own CancelledError; it stops the job, like other errors
    stopped = progress.stopped
    if sender.error is not None:
        stopped = sender.error if isinstance(sender.error, InvalidRequestError) else _without_text(sender.error)
        outcomes = [_with_error(outcome, stopped) for outcome in outcomes]
    # GatePay would refuse a refused part in each further run, too. If it is in doubt, it stays in doubt.
    to_retry = [outcome for outcome in outcomes if not results.is_settled(outcome) and outcome.keys not in refused]
    return BatchResult(
        outcomes,
        stopped,
        has_next_run=stopped is None and bool(to_retry),
        unanswered=any(outcome.attempts for outcome in to_retry),
    )


def _without_text(error: BaseException) -> DurableError:
    """Return a ``DurableError`` with the class of a transport's *error*, but not its text, which may hold secrets."""
    return DurableError(problem=Problem("sending_failed", kind=type(error).__name__))


def _with_error(outcome: ChunkOutcome, error: GatePayError) -> ChunkOutcome:
    """Return *outcome*, with *error* if the outcome is not "stored" and has no error of its own."""
    return outcome if outcome.fate is Fate.STORED else evolve(outcome, error=outcome.error or error)
