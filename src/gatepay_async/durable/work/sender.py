"""Sends one batch, with the same loop as a plain upload. It gives up sooner, because the queue retries the batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from attrs import evolve

from gatepay_async.cancelling import CancellationWatch
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
_PATIENCE = Patience(
    seconds=0, seconds_at_first=0, attempts=5, attempts_at_first=5, first_wait=0, longest_hold=0, waits=False
)


class BatchSender:
    """
    Sends the chunks of a batch, one at a time.

    Args:
        send: Sends a call, and retries it where that helps.
        product_id: The product that the card keys belong to.
        may_send: Awaited before each call. If it returns False, nothing more is sent in this run.
        on_sent: Called after each call that ``may_send`` allowed.
        accepted: Whether GatePay has accepted a call with the same appsecret before.
    """

    def __init__(
        self,
        send: SendChunk,
        product_id: int,
        may_send: Callable[[], Awaitable[bool]],
        *,
        on_sent: Callable[[], None] = lambda: None,
        accepted: bool = False,
    ) -> None:
        self._send = send
        self._progress = Progress(_PATIENCE, accepted=accepted)
        self._outcomes: list[ChunkOutcome] = []
        self._refused: set[tuple[str, ...]] = set()  # the card keys of each part that GatePay has refused
        self._sender = PartSender(
            self._send_noting_refusals,
            product_id,
            self._progress,
            self._outcomes.append,
            may_send=may_send,
            on_sent=on_sent,
        )

    @property
    def accepted(self) -> bool:
        """Whether GatePay has accepted a call with this appsecret."""
        return self._progress.accepted

    async def send_chunks(self, chunks: Iterable[Chunk]) -> BatchResult:
        """Send *chunks*. The result has an outcome for each part, and ``has_next_run`` if another run is worth it."""
        watch = CancellationWatch()
        try:
            await self._sender.send_chunks(chunks)
        except BaseException as error:
            # A CancelledError without a cancellation comes from the transport. It stops the job, like other errors.
            if not watch.is_cancellation(error) or watch.task_was_cancelled():
                raise
            self._sender.end_with(error)
        return self._result()

    async def _send_noting_refusals(self, call: KaCreate) -> Sent[Stored]:
        try:
            return await self._send(call)
        except RefusedError as error:
            if not isinstance(error, StorageFailedError):  # GatePay's database may be down
                self._refused.add(call.keys)
            raise

    def _result(self) -> BatchResult:
        """Return the result of the run, after its last call."""
        result = BatchResult(self._outcomes, self._progress.stopped)
        error = self._sender.error
        if error is not None:
            result.stopped = error if isinstance(error, InvalidRequestError) else _without_text(error)
            result.outcomes = [_with_error(outcome, result.stopped) for outcome in result.outcomes]
        # GatePay would refuse a refused part in each further run, too. If it is in doubt, it stays in doubt.
        to_retry = [
            outcome
            for outcome in result.outcomes
            if not results.is_settled(outcome) and outcome.keys not in self._refused
        ]
        result.unanswered = any(outcome.attempts for outcome in to_retry)
        result.has_next_run = result.stopped is None and bool(to_retry)
        return result


def _without_text(error: BaseException) -> DurableError:
    """Return a ``DurableError`` with the class of a transport's *error*, but not its text, which may hold secrets."""
    return DurableError(problem=Problem("sending_failed", kind=type(error).__name__))


def _with_error(outcome: ChunkOutcome, error: GatePayError) -> ChunkOutcome:
    """Return *outcome*, with *error* if the outcome is not "stored" and has no error of its own."""
    return outcome if outcome.fate is Fate.STORED else evolve(outcome, error=outcome.error or error)
