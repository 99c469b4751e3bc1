"""``Submitter``: submits jobs, and finds them again. It doesn't send card keys; workers do."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO, Final, Self

from gatepay_async.durable.errors import DurableError
from gatepay_async.durable.jobs import Job
from gatepay_async.durable.records import batches
from gatepay_async.durable.records.rows import QueueInfo
from gatepay_async.durable.spool.folder import Source, Spool
from gatepay_async.durable.spool.writer import Spooled, spool_file
from gatepay_async.durable.storage.database import QueueDatabase, client_of, in_thread
from gatepay_async.durable.storage.job_store import JobStore
from gatepay_async.protocol import checks
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.frames import clear_frames
from gatepay_async.protocol.observing import Telemetry
from gatepay_async.words.problem import Problem

SUBMITTER_CONNECTIONS = 3
_NO_CONTEXT: Final[AbstractContextManager[str]] = nullcontext("")  # "": no trace context


class Submitter:
    """Submits jobs, and finds them again. ``DurableUploads.submitter`` creates it."""

    def __init__(
        self, database: QueueDatabase, queue: str, spool: Spool, version: str, *, telemetry: Telemetry | None
    ) -> None:
        """
        Store the settings; nothing is opened yet.

        Args:
            database: The database that holds the queue.
            queue: The queue's name.
            spool: Holds the card keys.
            version: The application version of queued batches.
            telemetry: Observes each submission, or None.
        """
        self._database = database
        self._queue = queue
        self._spool = spool
        self._version = version
        self._telemetry = telemetry

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await in_thread(self._database.migrate)
            # FULL: a submitted job survives a power cut.
            engine = self._database.engine(connections=SUBMITTER_CONNECTIONS, sync="FULL")
            stack.callback(engine.dispose)
            client = await in_thread(client_of, engine)
            stack.callback(client.destroy)
            self._store = JobStore(client, engine, self._queue, self._version)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def file(self, path: str | os.PathLike[str] | Source, *, product_id: int) -> Job:
        """
        Submit a file with one card key on each line. It is read, cleaned, deduplicated, copied to the spool and queued.

        If you submit the same file for the same product again, you get the existing job, in whatever state it is.

        Args:
            path: The file, in UTF-8, or a ``Source``.
            product_id: The product that the card keys belong to.

        Raises:
            InvalidRequestError: *product_id* is not a product's number, or *path* is no path and no ``Source``.
            OSError: The file can't be read, or the spool or a temporary file can't be written.
            sqlite3.Error: The temporary file of digests, which finds duplicates in a large input, can't be written.
            SourceChangedError: The file changed while it was read. Nothing is submitted.
            QueueUnavailableError: The database can't be used. Submit again.
        """
        checks.check("product_id", product_id, checks.positive)
        _check_source(path)
        try:
            with _NO_CONTEXT if self._telemetry is None else self._telemetry.submission(self._queue) as trace_context:
                return await self._submit_file(path, product_id, trace_context)
        except BaseException as error:  # a full disk, for example: the frames may hold card keys
            clear_frames(error)
            raise

    async def _submit_file(self, path: str | os.PathLike[str] | Source, product_id: int, trace_context: str) -> Job:
        """Convert the input to a spool file, and submit that."""
        secret = await self._spool.secret()
        with ExitStack() as stack:
            # Temporary files without names leave no card key behind, even if this process is killed.
            target = stack.enter_context(await in_thread(_temporary_file))
            source, input_name = await _open_input(path, stack)
            name = batches.short_name(input_name)
            spooled = await in_thread(
                lambda: spool_file(source, target, name=name, product_id=product_id, secret=secret)
            )
            return await self._submit(spooled, target, trace_context)

    async def job(self, job_id: str) -> Job:
        """
        Return the job with the ID *job_id*.

        Raises:
            DurableError: There is no such job.
        """
        row = await in_thread(self._store.job, job_id)
        if row is None:
            raise DurableError(problem=Problem("no_job", job=job_id))
        return Job(row, self._store, self._spool)

    async def jobs(self) -> list[Job]:
        """Return all jobs, the newest first."""
        return [Job(row, self._store, self._spool) for row in await in_thread(self._store.jobs)]

    async def queue(self) -> QueueInfo:
        """Count the batches in the queue, of all jobs together, up to 10,000."""
        return await in_thread(self._store.queue_info)

    async def _submit(self, spooled: Spooled, file: BinaryIO, trace_context: str) -> Job:
        """Put *file* into the spool, and insert the job, if it doesn't exist."""
        job_id = f"{self._queue}:{spooled.digest}"
        row = await in_thread(self._store.job, job_id)
        # If the job exists, its spool file may have been lost. Writing the same file again does no harm.
        if row is None or not await Job(row, self._store, self._spool).all_stored():
            await self._spool.put(batches.spool_name(job_id), file)
        if row is None:
            await in_thread(self._store.insert_job, job_id, spooled.manifest, spooled.batches, trace_context)
        job = await self.job(job_id)
        await job.tidy()  # its last batch may have ended just before put() wrote the card keys again
        return job


async def _open_input(path: str | os.PathLike[str] | Source, stack: ExitStack) -> tuple[BinaryIO, str]:
    """Open the input until *stack* ends. Return the file and its name."""
    if isinstance(path, str | os.PathLike):
        return stack.enter_context(await in_thread(_open_binary, path)), Path(path).name
    copy = stack.enter_context(await in_thread(_temporary_file))
    await path.copy_to(copy)
    return copy, path.name


def _temporary_file() -> BinaryIO:
    return TemporaryFile()


def _open_binary(path: str | os.PathLike[str]) -> BinaryIO:
    return Path(path).open("rb")


def _check_source(path: object) -> None:
    if not isinstance(path, str | os.PathLike | Source):
        problem = Problem("not_path", kind=type(path).__name__)
        raise InvalidRequestError(field="path", problem=problem)
