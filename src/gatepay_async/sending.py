"""Sending chunks of card keys: the loop that plain uploads and durable workers share. The caller passes ``send``."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import anyio

from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Fate
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.progress import NextStep, Progress, Resend
from gatepay_async.protocol.retrying import Sent

SendChunk = Callable[[KaCreate], Awaitable[Sent[Stored]]]


async def _always_allow() -> bool:
    return True


def _ignore_sent() -> None:
    pass


class PartSender:
    """
    Sends the parts of one upload. ``Progress`` decides what each reply means.

    Args:
        send: Sends a call, and retries it where that helps.
        product_id: The product that the card keys belong to.
        progress: The state of the whole upload.
        record: Called with the result of each part. Together, these parts contain all card keys of the chunks.
        may_send: Awaited before each call. If it returns False, nothing more is sent.
        on_sent: Called at the end of each call that ``may_send`` allowed.

    Attributes:
        error: The first error that ended the upload, other than those that ``Progress`` handles.
    """

    def __init__(
        self,
        send: SendChunk,
        product_id: int,
        progress: Progress,
        record: Callable[[ChunkOutcome], None],
        *,
        may_send: Callable[[], Awaitable[bool]] = _always_allow,
        on_sent: Callable[[], None] = _ignore_sent,
    ) -> None:
        self.error: BaseException | None = None
        self._send = send
        self._product_id = product_id
        self._progress = progress
        self._record = record
        self._may_send = may_send
        self._on_sent = on_sent
        self._in_flight = 0  # calls that are not answered yet
        self._changed: anyio.Event | None = None  # set when a call or the upload ends; None: nobody waits

    @property
    def has_ended(self) -> bool:
        """Whether the upload has ended, so that nothing more is sent."""
        return self._progress.ended is not None or self.error is not None

    def end_with(self, error: BaseException) -> None:
        """Send nothing more, because of *error*."""
        if self.error is None:
            self.error = error
        self._wake_all()

    async def send_chunks(self, chunks: Iterable[Chunk]) -> None:
        """Send *chunks*, one call at a time; other tasks may send other chunks. Record each part, even after errors."""
        waiting = deque(chunks)  # parts to send, the next one first: chunks, and later also halves of them
        try:
            while waiting and not self.has_ended:
                now = anyio.current_time()
                seconds = self._progress.seconds_to_wait(waiting[0], now=now, in_flight=self._in_flight)
                if seconds > 0:
                    if self._changed is None:
                        self._changed = anyio.Event()
                    with anyio.move_on_after(seconds):
                        await self._changed.wait()
                elif await self._may_send():
                    try:
                        await self._send_next(waiting)
                    finally:
                        self._on_sent()
                else:
                    break
        finally:
            while waiting:
                self._record(self._progress.abandoned(waiting.popleft()))

    async def _send_next(self, waiting: deque[Chunk]) -> None:
        """Send the next part. Record its outcome, or put it back into *waiting*, whole or in halves."""
        part = waiting.popleft()
        next_step: NextStep | None = None  # it stays None after a cancellation or a bug
        began = anyio.current_time()
        self._in_flight += 1
        try:
            sent = await self._send(KaCreate(self._product_id, part.keys))
            next_step = self._progress.succeeded(part, sent, now=anyio.current_time())
        except InvalidRequestError as error:
            self.end_with(error)
            next_step = bulk.abandoned(part, error=error)
        except bulk.ATTEMPT_ERRORS as error:
            jitter = random.random()  # noqa: S311 -- spreads the calls of many clients; protects no secret
            now, others = anyio.current_time(), self._in_flight - 1
            next_step = self._progress.failed(part, error, began=began, now=now, jitter=jitter, others=others)
        except Exception as error:  # noqa: BLE001 -- a user's transport may raise anything; the upload raises it, too
            self.end_with(error)
        finally:
            self._in_flight -= 1
            self._wake_all()
            if not isinstance(next_step, Resend):
                self._record(next_step or bulk.failed(part, Fate.UNKNOWN))
            elif next_step.later:
                waiting.extend(next_step.parts)
            else:
                waiting.extendleft(reversed(next_step.parts))

    def _wake_all(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
