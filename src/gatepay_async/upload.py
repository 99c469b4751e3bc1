"""Uploading any number of card keys. Knows no client: it is given ``send``."""

from __future__ import annotations

import inspect
import random
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from itertools import chain, islice
from os import PathLike
from typing import Any, cast

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from gatepay_async.cancelling import CancellationWatch, stray_cancellation
from gatepay_async.dedup import SpillingDeduplicator
from gatepay_async.protocol import bulk, checks
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Fate, UploadProgress, UploadReport
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.chunking import Chunker
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.progress import Patience, Progress, Resend
from gatepay_async.protocol.retrying import Sent
from gatepay_async.words.problem import Problem

Send = Callable[[KaCreate], Awaitable[Sent[Stored]]]
Lines = Iterable[str | bytes] | AsyncIterable[str | bytes]
OnProgress = Callable[[UploadProgress], object]

_LINES_PER_BATCH = 2000  # lines read at a time; from a file in a worker thread
PATIENCE = Patience()


async def upload(
    send: Send,
    product_id: int,
    keys: Lines,
    *,
    concurrency: int = 4,
    on_progress: OnProgress | None = None,
    max_keys_in_memory: int | None = None,
) -> UploadReport:
    """
    Upload *keys*; ``AsyncGatePay.upload_card_keys`` says how.

    Past *max_keys_in_memory* different card keys (by default a million) repetitions are looked for in a private
    temporary file, in a worker thread: memory grows no further. From then on up to 2,000 lines are read ahead. Those
    being looked up when the upload is cancelled, or the file fails, count as not sent, repetitions among them included.

    Raises:
        InvalidRequestError: *keys* is no iterable of lines, a number is out of range, or the text file is
            in another encoding than it was opened with (what became of the lines before is its ``.report``).
        sqlite3.Error: The temporary file can't be written: the disk is full, say. It has a ``.report``, too.
        BaseException: What *keys* or *on_progress* raised, or a cancellation; each has a ``.report``.
    """
    checks.check("product_id", product_id, checks.positive)
    checks.check("concurrency", concurrency, checks.positive)
    if on_progress is not None and not callable(on_progress):
        raise InvalidRequestError(field="on_progress", problem=Problem("not_callable", kind=type(on_progress).__name__))
    work = _Upload(send, product_id, concurrency, on_progress, max_keys_in_memory)
    return await work.run(_read_lines(keys, work.read_late_lines))


class _Upload:
    """One upload: reads, sends side by side, keeps the ledger. What an answer means is ``Progress``'s to say."""

    def __init__(
        self,
        send: Send,
        product_id: int,
        concurrency: int,
        on_progress: OnProgress | None,
        max_keys_in_memory: int | None = None,
    ) -> None:
        self._send = send
        self._product_id = product_id
        self._on_progress = on_progress
        self._slots = anyio.Semaphore(concurrency)
        self._progress_lock = anyio.Lock()
        self._ledger = bulk.Ledger()
        self._deduplicator = SpillingDeduplicator(max_keys_in_memory=max_keys_in_memory)
        self._chunker = Chunker(self._ledger, self._deduplicator)
        self._waiting_chunks: deque[Chunk] = deque()  # several came from one look-up; they wait to be started
        self._progress = Progress(PATIENCE)
        self._error: BaseException | None = None  # by the input, by on_progress, or by a client that is closed
        self._in_flight = 0  # calls that are not answered yet
        self._answered = anyio.Event()  # by the next answer; there is a new one after each
        self._stopping = anyio.Event()  # nothing more is to be sent: wakes up who waits to send again
        self._read_to_its_end = False
        self._whole = False  # the input has no more lines
        self._task_cancelled = False  # a task was cancelled
        self._starting: dict[int, Chunk] = {}  # their tasks have not begun; asyncio may cancel a task before that

    async def run(self, batches: AsyncGenerator[Iterable[object]]) -> UploadReport:
        """Read, send, and settle every line that was read."""
        failure: Exception | None = None
        watch = CancellationWatch()
        try:
            async with aclosing(batches), anyio.create_task_group() as group:
                failure = await self._read_and_start(batches, group, watch)
                self._read_to_its_end = True
            # A task group of anyio's takes a CancelledError out of a child for a cancellation of its own, and comes
            # here without a word, its work undone.
            if self._task_cancelled or not self._read_to_its_end:
                self._end_with(stray_cancellation("a task of the upload"))
            if failure is not None:
                self._end_with(failure)
            self._record_rest_not_sent()
            if self._error is None or isinstance(self._error, Exception):
                await self._report_last_progress(group, watch)
        except BaseException as error:
            self._record_rest_not_sent()
            _attach_report(error, self._report())
            raise
        finally:
            self._close_deduplicator()
        if self._error is not None:
            _attach_report(self._error, self._report())
            raise self._error
        return self._report()

    def read_late_lines(self, lines: list[object]) -> None:
        """Enter *lines* that were read while the upload was cancelled."""
        self._chunker.read_lines(lines)

    def _report(self) -> UploadReport:
        return self._ledger.report(stopped=self._progress.ended, whole=self._whole)

    def _has_ended(self) -> bool:
        return self._progress.ended is not None or self._error is not None

    def _end_with(self, error: BaseException) -> None:
        """Have run() raise *error*; of several, the first."""
        if self._error is None:
            self._error = error
        self._stopping.set()

    def _stop_for(self, error: BaseException, group: TaskGroup, watch: CancellationWatch, *, where: str) -> bool:
        """
        Have run() raise what *where* has raised.

        Returns:
            False: it is a cancellation of ours, and must go its way.
        """
        if watch.is_cancellation(error):
            if watch.is_ours():
                return False
            error = stray_cancellation(where)
        self._end_with(error)
        if not isinstance(error, Exception):
            group.cancel_scope.cancel()  # Ctrl-C, say: nobody wants to wait for what is in flight
        return True

    def _record_rest_not_sent(self) -> None:
        """What was read and never sent, after an end that came too early."""
        while self._starting:
            self._record_not_sent(self._starting.popitem()[1])
        while self._waiting_chunks:
            self._record_not_sent(self._waiting_chunks.popleft())
        rest = self._chunker.last_chunk()
        if rest is not None:
            self._record_not_sent(rest)

    def _record_not_sent(self, chunk: Chunk) -> None:
        self._ledger.add(bulk.left(chunk, error=self._progress.ended))

    def _close_deduplicator(self) -> None:
        if not self._deduplicator.fits_in_memory(_LINES_PER_BATCH):
            # Giving a large file back takes a while; a thread of its own can't be cancelled before it has begun.
            threading.Thread(target=self._deduplicator.close).start()

    async def _read_and_start(
        self, batches: AsyncIterator[Iterable[object]], group: TaskGroup, watch: CancellationWatch
    ) -> Exception | None:
        """Start one chunk after the other; gives what the input raised. What was started by then is sent."""
        failure: Exception | None = None
        encoding = ""
        try:
            async for lines in batches:
                await self._start_full_chunks(lines, group)
                if self._has_ended():
                    break  # also where blanks, repetitions or a slow input leave the next chunk far away
            else:
                self._whole = True
        except UnicodeDecodeError as error:
            encoding = error.encoding  # not the error itself: it holds what it could not read
        except Exception as error:  # noqa: BLE001 -- raised by run(), when nothing is in flight any more
            failure = error
        except BaseException as error:
            if not self._stop_for(error, group, watch, where="keys"):
                raise
        if encoding:
            problem = Problem("wrong_encoding", line=self._ledger.read, encoding=encoding)
            failure = InvalidRequestError(field="keys", problem=problem)
        await self._find_repeated(group)
        if failure is None and not self._has_ended():
            rest = self._chunker.last_chunk()
            if rest is not None:
                await self._start_chunk(rest, group)
        return failure

    async def _start_full_chunks(self, lines: Iterable[object], group: TaskGroup) -> None:
        """Start what chunks are full with *lines*, until the upload has ended."""
        if not self._deduplicator.fits_in_memory(_LINES_PER_BATCH):
            self._chunker.read_lines(lines)
            if len(self._chunker.pending_keys) >= checks.MAX_KEYS_PER_CALL:
                await self._find_repeated(group)
            return
        for chunk in self._chunker.chunks(lines):
            await self._start_chunk(chunk, group)
            if self._has_ended():
                return

    async def _find_repeated(self, group: TaskGroup) -> None:
        """Look for repetitions in a worker thread: a file may be asked. Start what is full then."""
        keys = self._chunker.pending_keys
        if not keys:
            return
        try:
            # The thread sees the card keys and nothing else of ours. Cancelled, and on asyncio also left behind, it
            # leaves them where they are, and they count as not sent.
            repeated = await anyio.to_thread.run_sync(self._deduplicator.find_repeated, keys)
        except Exception as error:  # noqa: BLE001 -- SQLite's own; raised by run(), when nothing is in flight any more
            self._chunker.give_up_pending()  # and never ask again: some of it may have been entered
            self._end_with(error)
            return
        self._waiting_chunks.extend(self._chunker.full_chunks(repeated))
        while self._waiting_chunks and not self._has_ended():
            await self._start_chunk(self._waiting_chunks.popleft(), group)

    async def _start_chunk(self, chunk: Chunk, group: TaskGroup) -> None:
        """Take a slot, then start: while none is free nothing more is read."""
        try:
            await self._slots.acquire()
        except BaseException:
            self._record_not_sent(chunk)
            raise
        self._starting[chunk.index] = chunk
        group.start_soon(self._process_chunk, chunk, group)

    async def _process_chunk(self, chunk: Chunk, group: TaskGroup) -> None:
        """In the slot until its progress is reported: a slow *on_progress* slows the reading, too."""
        watch = CancellationWatch()
        try:
            await self._send_chunk(chunk)
            await self._report_progress()
        except BaseException as error:
            if not self._stop_for(error, group, watch, where="the transport, or on_progress"):
                self._task_cancelled = True
                raise
        finally:
            self._slots.release()

    async def _report_last_progress(self, group: TaskGroup, watch: CancellationWatch) -> None:
        try:
            await self._report_progress()
        except BaseException as error:
            if not self._stop_for(error, group, watch, where="on_progress"):
                raise

    async def _send_chunk(self, chunk: Chunk) -> None:
        """Send *chunk*, in parts if it must be; each part of it ends in the ledger, whatever happens."""
        del self._starting[chunk.index]
        parts = deque([chunk])  # the next one first
        try:
            while parts and not self._has_ended():
                if self._progress.asks_one_by_one and self._in_flight:
                    await self._answered.wait()
                    continue
                wait = max(parts[0].not_before, self._progress.held_until) - anyio.current_time()
                if wait > 0:
                    with anyio.move_on_after(wait):
                        await self._stopping.wait()
                    continue
                again = await self._send_part(parts.popleft())
                if again.later:
                    parts.extend(again.parts)
                else:
                    parts.extendleft(reversed(again.parts))
        finally:
            for part in parts:
                self._record_not_sent(part)

    async def _send_part(self, part: Chunk) -> Resend:
        """Send *part* and enter what became of it, or return what is to be sent again."""
        verdict: ChunkOutcome | Resend = bulk.failed(part, Fate.UNKNOWN)  # until we know better: cancelled, or a bug
        began = anyio.current_time()
        try:
            answer = await self._send_call(part)
            verdict = self._progress.answered(part, answer, now=anyio.current_time())
        except InvalidRequestError as error:
            self._end_with(error)
            verdict = bulk.left(part, error=error)
        except bulk.ATTEMPTED as error:
            jitter = random.random()  # noqa: S311 -- spreads calls, guards nothing
            now, others = anyio.current_time(), self._in_flight
            verdict = self._progress.failed(part, error, began=began, now=now, jitter=jitter, others=others)
            if self._has_ended():
                self._stopping.set()
        except Exception as error:  # noqa: BLE001 -- a transport's own; raised by run()
            self._end_with(error)
        finally:
            if isinstance(verdict, ChunkOutcome):
                self._ledger.add(verdict)
        return verdict if isinstance(verdict, Resend) else Resend(())

    async def _send_call(self, part: Chunk) -> Sent[Stored]:
        self._in_flight += 1
        try:
            return await self._send(KaCreate(self._product_id, part.keys))
        finally:
            self._in_flight -= 1
            self._answered.set()
            self._answered = anyio.Event()

    async def _report_progress(self) -> None:
        if self._on_progress is None:
            return
        async with self._progress_lock:  # one after the other, and so in order
            try:
                result = self._on_progress(self._ledger.progress())
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001 -- raised by run(), when nothing is in flight any more
                self._end_with(error)


def _read_lines(keys: Lines, on_late_lines: Callable[[list[object]], None]) -> AsyncGenerator[Iterable[object]]:
    """*keys*, whatever they are, as batches of lines."""
    if isinstance(keys, str | bytes | bytearray | PathLike):
        problem = Problem("keys_not_iterable")
        raise InvalidRequestError(field="keys", problem=problem)
    if isinstance(keys, AsyncIterable):
        return _read_async(keys)
    if isinstance(keys, Iterable):
        return _read_file(keys, on_late_lines) if hasattr(keys, "readline") else _read_all(keys)
    raise InvalidRequestError(field="keys", problem=Problem("not_iterable", kind=type(keys).__name__))


async def _read_async(keys: AsyncIterable[object]) -> AsyncGenerator[Iterable[object]]:
    async for key in keys:
        # One by one: a line that waits in a batch of ours would be in no ledger.
        yield (key,)


async def _read_all(keys: Iterable[object]) -> AsyncGenerator[Iterable[object]]:
    lines = iter(keys)
    for line in lines:
        # Not taken out before the chunker asks for them: a line that waits here would be in no ledger.
        yield chain((line,), islice(lines, _LINES_PER_BATCH - 1))
        await anyio.lowlevel.checkpoint()  # blanks and repetitions alone would never wait for a slot


async def _read_file(
    file: Iterable[object], on_late_lines: Callable[[list[object]], None]
) -> AsyncGenerator[Iterable[object]]:
    """Reading a disk, or a pipe, would block the event loop: it is done in a worker thread."""
    while True:
        lines: list[object] = []
        try:
            error = await anyio.to_thread.run_sync(_read_some, file, lines, abandon_on_cancel=True)
        except BaseException:
            on_late_lines(list(lines))  # a pipe may never give the rest; what it gave is not lost
            raise
        yield lines
        if error is not None:
            raise error
        if len(lines) < _LINES_PER_BATCH:
            return


def _read_some(file: Iterable[object], lines: list[object]) -> Exception | None:
    """Append the next lines to *lines*; the error that ended them: what was read before it must not be lost."""
    try:
        lines.extend(islice(file, _LINES_PER_BATCH))
    except Exception as error:  # noqa: BLE001 -- raised by the caller, after the lines
        return error
    return None


def _attach_report(error: BaseException, report: UploadReport) -> None:
    """Give *error* the report; what it is we can't choose."""
    with suppress(Exception):  # an exception with slots, or frozen
        cast("Any", error).report = report
