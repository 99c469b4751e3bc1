"""Uploading any number of card keys. Knows no client: it is given ``send``."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any, cast

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from gatepay_async.cancelling import CancellationWatch, stray_cancellation
from gatepay_async.dedup import SpillingDeduplicator
from gatepay_async.lines import LINES_PER_BATCH, Lines, read_lines
from gatepay_async.places import AutoPlaces
from gatepay_async.protocol import bulk, checks
from gatepay_async.protocol.bulk import Chunk, UploadProgress, UploadReport
from gatepay_async.protocol.chunking import Chunker
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.progress import Patience, Progress
from gatepay_async.sending import PartSender, Send
from gatepay_async.words.problem import Problem

OnProgress = Callable[[UploadProgress], object]

PATIENCE = Patience()


async def upload(
    send: Send,
    product_id: int,
    keys: Lines,
    *,
    concurrency: int | AutoPlaces = 4,
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
    if not isinstance(concurrency, AutoPlaces):
        checks.check("concurrency", concurrency, checks.concurrency)
    if on_progress is not None and not callable(on_progress):
        raise InvalidRequestError(field="on_progress", problem=Problem("not_callable", kind=type(on_progress).__name__))
    places = concurrency if isinstance(concurrency, AutoPlaces) else anyio.Semaphore(concurrency)
    work = _Upload(send, product_id, places, on_progress, max_keys_in_memory)
    return await work.run(read_lines(keys, work.read_late_lines))


class _Upload:
    """One upload: has chunks read, and sent side by side. What is sent, and what an answer means, others decide."""

    def __init__(
        self,
        send: Send,
        product_id: int,
        places: anyio.Semaphore | AutoPlaces,
        on_progress: OnProgress | None,
        max_keys_in_memory: int | None = None,
    ) -> None:
        self._on_progress = on_progress
        self._places = places
        self._progress_lock = anyio.Lock()
        self._ledger = bulk.Ledger()
        self._deduplicator = SpillingDeduplicator(max_keys_in_memory=max_keys_in_memory)
        self._chunker = Chunker(self._ledger, self._deduplicator)
        self._waiting_chunks: deque[Chunk] = deque()  # several came from one look-up; they wait to be started
        self._progress = Progress(PATIENCE)
        self._sender = PartSender(send, product_id, self._progress, self._ledger.add)
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
                self._sender.end_with(stray_cancellation("a task of the upload"))
            if failure is not None:
                self._sender.end_with(failure)
            self._record_rest_not_sent()
            if self._sender.error is None or isinstance(self._sender.error, Exception):
                await self._report_last_progress(group, watch)
        except BaseException as error:
            self._record_rest_not_sent()
            _attach_report(error, self._report_so_far())
            raise
        finally:
            self._close_deduplicator()
        if self._sender.error is not None:
            _attach_report(self._sender.error, self._report_so_far())
            raise self._sender.error
        return self._report_so_far()

    def read_late_lines(self, lines: list[object]) -> None:
        """Enter *lines* that were read while the upload was cancelled."""
        self._chunker.read_lines(lines)

    def _report_so_far(self) -> UploadReport:
        return self._ledger.report(stopped=self._progress.ended, whole=self._whole)

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
        self._sender.end_with(error)
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
        self._ledger.add(self._progress.left(chunk))

    def _close_deduplicator(self) -> None:
        if not self._deduplicator.fits_in_memory(LINES_PER_BATCH):
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
                if self._sender.has_ended:
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
        if failure is None and not self._sender.has_ended:
            rest = self._chunker.last_chunk()
            if rest is not None:
                await self._start_chunk(rest, group)
        return failure

    async def _start_full_chunks(self, lines: Iterable[object], group: TaskGroup) -> None:
        """Start what chunks are full with *lines*, until the upload has ended."""
        if not self._deduplicator.fits_in_memory(LINES_PER_BATCH):
            self._chunker.read_lines(lines)
            if len(self._chunker.pending_keys) >= checks.MAX_KEYS_PER_CALL:
                await self._find_repeated(group)
            return
        for chunk in self._chunker.chunks(lines):
            await self._start_chunk(chunk, group)
            if self._sender.has_ended:
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
            self._sender.end_with(error)
            return
        self._waiting_chunks.extend(self._chunker.full_chunks(repeated))
        while self._waiting_chunks and not self._sender.has_ended:
            await self._start_chunk(self._waiting_chunks.popleft(), group)

    async def _start_chunk(self, chunk: Chunk, group: TaskGroup) -> None:
        """Take a place, then start: while none is free nothing more is read."""
        try:
            await self._places.acquire()
        except BaseException:
            self._record_not_sent(chunk)
            raise
        self._starting[chunk.index] = chunk
        group.start_soon(self._process_chunk, chunk, group)

    async def _process_chunk(self, chunk: Chunk, group: TaskGroup) -> None:
        """In its place until its progress is reported: a slow *on_progress* slows the reading, too."""
        watch = CancellationWatch()
        try:
            del self._starting[chunk.index]
            await self._sender.send_chunks([chunk])
            await self._report_progress()
        except BaseException as error:
            if not self._stop_for(error, group, watch, where="the transport, or on_progress"):
                self._task_cancelled = True
                raise
        finally:
            self._places.release()

    async def _report_last_progress(self, group: TaskGroup, watch: CancellationWatch) -> None:
        try:
            await self._report_progress()
        except BaseException as error:
            if not self._stop_for(error, group, watch, where="on_progress"):
                raise

    async def _report_progress(self) -> None:
        if self._on_progress is None:
            return
        async with self._progress_lock:  # one after the other, and so in order
            try:
                result = self._on_progress(self._ledger.progress())
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001 -- raised by run(), when nothing is in flight any more
                self._sender.end_with(error)


def _attach_report(error: BaseException, report: UploadReport) -> None:
    """Give *error* the report; what it is we can't choose."""
    with suppress(Exception):  # an exception with slots, or frozen
        cast("Any", error).report = report
