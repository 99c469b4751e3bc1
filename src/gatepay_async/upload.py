"""Uploading any number of card keys. Independent of the client: the caller passes ``send``."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, suppress
from typing import Any, cast

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from gatepay_async.cancelling import CancellationWatch, stray_cancellation
from gatepay_async.dedup import SpillingDeduplicator
from gatepay_async.lines import LINES_PER_BATCH, Lines, read_lines
from gatepay_async.permits import Permits
from gatepay_async.protocol import bulk, checks
from gatepay_async.protocol.bulk import Chunk, OnProgress, UploadReport
from gatepay_async.protocol.chunking import Chunker
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.patience import Patience
from gatepay_async.protocol.progress import Progress
from gatepay_async.sending import PartSender, SendChunk
from gatepay_async.words.problem import Problem

PATIENCE = Patience()  # how long the upload goes on without a success


async def upload(
    send: SendChunk,
    product_id: int,
    keys: Lines,
    *,
    concurrency: int | Permits = 4,
    on_progress: OnProgress | None = None,
    max_keys_in_memory: int | None = None,
) -> UploadReport:
    """
    Upload *keys*, as ``AsyncGatePay.upload_card_keys`` documents.

    Beyond *max_keys_in_memory* different card keys (by default a million), duplicates are looked up in a private
    temporary file, in a worker thread, so that memory grows no further. From then on, up to 2,000 lines are read
    ahead. If the upload is cancelled or the file fails during a look-up, the lines of that look-up count as not sent,
    duplicates included.

    Raises:
        InvalidRequestError: *keys* is no iterable of lines, a number is out of range, or the text file is
            in another encoding than it was opened with (``.report`` has the result of the lines before).
        sqlite3.Error: The temporary file can't be written, because the disk is full, for example. The error has a
            ``.report``, too.
        BaseException: An error of *keys* or *on_progress*, or a cancellation; each has a ``.report``.
    """
    checks.check("product_id", product_id, checks.positive)
    if not isinstance(concurrency, Permits):
        checks.check("concurrency", concurrency, checks.concurrency)
    if on_progress is not None and not callable(on_progress):
        raise InvalidRequestError(field="on_progress", problem=Problem("not_callable", kind=type(on_progress).__name__))
    permits = concurrency if isinstance(concurrency, Permits) else Permits(concurrency)
    this_upload = _Upload(send, product_id, permits, on_progress, max_keys_in_memory)
    return await this_upload.run(read_lines(keys, this_upload.read_late_lines))


class _Upload:
    """One upload: reads chunks and sends them concurrently. ``PartSender`` sends each chunk and handles the replies."""

    def __init__(
        self,
        send: SendChunk,
        product_id: int,
        permits: Permits,
        on_progress: OnProgress | None,
        max_keys_in_memory: int | None = None,
    ) -> None:
        self._on_progress = on_progress
        self._permits = permits
        self._on_progress_lock = anyio.Lock()
        self._ledger = bulk.Ledger()
        self._deduplicator = SpillingDeduplicator(max_keys_in_memory=max_keys_in_memory)
        self._chunker = Chunker(self._ledger, self._deduplicator)
        self._waiting_chunks: deque[Chunk] = deque()  # not started yet: one look-up can fill several chunks
        self._progress = Progress(PATIENCE)
        self._sender = PartSender(send, product_id, self._progress, self._ledger.add)
        self._is_reading_finished = False
        self._is_input_complete = False  # the input has no more lines
        self._task_cancelled = False  # the task of a chunk was cancelled
        # By index: chunks whose tasks have not run yet. asyncio may cancel a task before it runs.
        self._starting: dict[int, Chunk] = {}

    async def run(self, batches: AsyncGenerator[Iterable[object]]) -> UploadReport:
        """Read and send. In the report, every line that was read has a result."""
        failure: Exception | None = None
        watch = CancellationWatch()
        try:
            async with aclosing(batches), anyio.create_task_group() as group:
                failure = await self._read_and_start(batches, group, watch)
                self._is_reading_finished = True
            # If a task of the group raises CancelledError, anyio takes that for a cancellation of the whole group. The
            # group then ends without an error, although the work is not done.
            if self._task_cancelled or not self._is_reading_finished:
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
        """Add *lines*, which a read returned that was cancelled with the upload, so that the report counts them."""
        self._chunker.read_lines(lines)

    def _report_so_far(self) -> UploadReport:
        return self._ledger.report(stopped=self._progress.ended, whole=self._is_input_complete)

    def _end_unless_cancelled(
        self, error: BaseException, group: TaskGroup, watch: CancellationWatch, *, where: str
    ) -> bool:
        """
        End the upload with *error*, unless this task was cancelled. At its end, run() raises *error*.

        Args:
            error: The error.
            group: The task group of the upload.
            watch: The ``CancellationWatch`` of the calling task.
            where: What raised *error*, for the message about a stray cancellation.

        Returns:
            Whether the upload was ended. If not, *error* is a cancellation of this task: the caller must re-raise it.
        """
        if watch.is_cancellation(error):
            if watch.task_was_cancelled():
                return False
            error = stray_cancellation(where)
        self._sender.end_with(error)
        if not isinstance(error, Exception):
            group.cancel_scope.cancel()  # such as Ctrl-C: don't wait for the chunks in flight
        return True

    def _record_rest_not_sent(self) -> None:
        """When the upload ends early, record the card keys that were read and not sent."""
        while self._starting:
            self._record_not_sent(self._starting.popitem()[1])
        while self._waiting_chunks:
            self._record_not_sent(self._waiting_chunks.popleft())
        rest = self._chunker.last_chunk()
        if rest is not None:
            self._record_not_sent(rest)

    def _record_not_sent(self, chunk: Chunk) -> None:
        self._ledger.add(self._progress.abandoned(chunk))

    def _close_deduplicator(self) -> None:
        if not self._deduplicator.fits_in_memory(LINES_PER_BATCH):
            # There may be a file. Deleting a large one takes a while, so a thread does it. It is not a worker thread of
            # anyio, because the task that waits for such a thread may be cancelled before the thread starts.
            threading.Thread(target=self._deduplicator.close).start()

    async def _read_and_start(
        self, batches: AsyncIterator[Iterable[object]], group: TaskGroup, watch: CancellationWatch
    ) -> Exception | None:
        """
        Start one chunk after another, until the input or the upload ends.

        Returns:
            The error that the input raised, or None. Chunks that were started before are still sent.
        """
        failure: Exception | None = None
        encoding = ""
        try:
            async for lines in batches:
                await self._start_full_chunks(lines, group)
                if self._sender.has_ended:
                    break  # even if *lines* filled no chunk: otherwise, the input would be read on
            else:
                self._is_input_complete = True
        except UnicodeDecodeError as error:
            encoding = error.encoding  # the error itself isn't kept: it holds the bytes, which may be card keys
        except Exception as error:  # noqa: BLE001 -- raised by run(), when no chunk is in flight any more
            failure = error
        except BaseException as error:
            if not self._end_unless_cancelled(error, group, watch, where="keys"):
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
        """Start the chunks that *lines* fill, until the upload has ended."""
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
        """Look for duplicates in a worker thread, because that may read a file. Then start the chunks that are full."""
        keys = self._chunker.pending_keys
        if not keys:
            return
        try:
            # The thread only reads the card keys. After a cancellation (asyncio may abandon the thread) they stay
            # pending, and count as not sent.
            repeated = await anyio.to_thread.run_sync(self._deduplicator.find_repeated, keys)
        except Exception as error:  # noqa: BLE001 -- SQLite's own; raised by run(), when no chunk is in flight any more
            self._chunker.give_up_pending()  # not looked up again, because some may be in the file already
            self._sender.end_with(error)
            return
        self._waiting_chunks.extend(self._chunker.full_chunks(repeated))
        while self._waiting_chunks and not self._sender.has_ended:
            await self._start_chunk(self._waiting_chunks.popleft(), group)

    async def _start_chunk(self, chunk: Chunk, group: TaskGroup) -> None:
        """Wait for a free permit, then start the chunk. Meanwhile no more input is read."""
        try:
            await self._permits.acquire()
        except BaseException:
            self._record_not_sent(chunk)
            raise
        self._starting[chunk.index] = chunk
        group.start_soon(self._process_chunk, chunk, group)

    async def _process_chunk(self, chunk: Chunk, group: TaskGroup) -> None:
        """
        Send a chunk.

        It keeps its permit until *on_progress* returns. So a slow *on_progress* slows down the reading, too.
        """
        watch = CancellationWatch()
        try:
            del self._starting[chunk.index]
            await self._sender.send_chunks([chunk])
            await self._report_progress()
        except BaseException as error:
            if not self._end_unless_cancelled(error, group, watch, where="the transport, or on_progress"):
                self._task_cancelled = True
                raise
        finally:
            self._permits.release()

    async def _report_last_progress(self, group: TaskGroup, watch: CancellationWatch) -> None:
        try:
            await self._report_progress()
        except BaseException as error:
            if not self._end_unless_cancelled(error, group, watch, where="on_progress"):
                raise

    async def _report_progress(self) -> None:
        if self._on_progress is None:
            return
        async with self._on_progress_lock:  # one at a time, in order
            try:
                result = self._on_progress(self._ledger.progress())
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001 -- raised by run(), when no chunk is in flight any more
                self._sender.end_with(error)


def _attach_report(error: BaseException, report: UploadReport) -> None:
    """Set ``.report`` on *error*, which may be of any class."""
    with suppress(Exception):  # some classes don't allow new attributes
        cast("Any", error).report = report
