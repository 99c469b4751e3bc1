"""Runs the batches that a worker takes from the queue, on the event loop on which the worker was opened."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
from attrs import define, evolve, field

from gatepay_async.durable.errors import (
    QueueUnavailableError,
    SourceChangedError,
    UnreadableRowError,
)
from gatepay_async.durable.records import batches, results
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.records.rows import BatchTask, JobManifest, run_id
from gatepay_async.durable.spool.folder import Spool
from gatepay_async.durable.storage.database import in_thread
from gatepay_async.durable.storage.job_store import JobStore
from gatepay_async.durable.work.rate_limiter import RateLimiter
from gatepay_async.durable.work.sender import BATCH_PATIENCE, send_batch
from gatepay_async.permits import AutoPermits
from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Chunk, Fate
from gatepay_async.protocol.observing import Telemetry
from gatepay_async.protocol.progress import Progress
from gatepay_async.sending import SendChunk
from gatepay_async.words.problem import Problem

T = TypeVar("T")

MAX_RUN_S = 30.0  # after that, a run starts no more calls; the next run of the batch sends the rest
LOCK_POLL_S = 0.2  # between two checks whether the worker has its lock again
RETRY_INTERVAL_S = 1.0  # between two attempts to reach the database
READ_BYTES = 2**20  # how much of a spool file is read at a time to check it
MAX_UNANSWERED_RUNS = 12  # retries in a row after runs that got no reply; with their delays, they take 24 minutes
MAX_BACKOFF_S = 300.0  # the longest delay of the next run, after runs that got no reply


@define
class _JobState:
    """A job of which this worker runs at least one batch."""

    active: bool  # neither cancelled nor stopped
    manifest: JobManifest
    trace_context: str = ""
    runs: int = 0  # runs in progress
    check_lock: anyio.Lock = field(factory=anyio.Lock)  # held while the spool file is checked


class Runner:
    """
    Runs batches.

    Args:
        store: The rows of jobs and batches.
        spool: Holds their card keys.
        send: Sends a call, and retries it where that helps.
        rate_limiter: Delays each call until the rate allows it.
        executor: The executor ID with which this worker takes batches.
        telemetry: Observes each batch.
        permits: Limits the calls in flight; None: each batch may have one.

    Attributes:
        idle_jobs: Jobs of which this worker runs no batch any more. They may have ended.
        lock_lost: Whether this worker has lost its lock, so that other workers may take its batches.
        closing: Whether the worker is being closed, so that no further call starts.
    """

    def __init__(
        self,
        store: JobStore,
        spool: Spool,
        send: SendChunk,
        rate_limiter: RateLimiter,
        *,
        executor: str,
        permits: AutoPermits | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._store = store
        self._executor = executor
        self._spool = spool
        self._send = send
        self._rate_limiter = rate_limiter
        self._permits = permits
        self._telemetry = telemetry
        self._jobs: dict[str, _JobState] = {}
        self._checked_jobs: set[str] = set()  # their spool files have not changed since they were submitted
        # The task object most recently passed to run(), by run ID. The worker may lose a run and take it again while
        # the first execution is still in progress. Then only the second one may go on.
        self._latest_tasks: dict[str, BatchTask] = {}
        self._spool_secret = b""  # read once, before the first check
        self._accepted = False  # GatePay has accepted a call with this worker's appsecret
        self.idle_jobs: set[str] = set()
        self.lock_lost = False
        self.closing = False

    async def run(self, task: BatchTask, *, taken_before_open: bool = False) -> dict[str, Any]:
        """
        Run *task*, and queue the next run of its batch if one is needed. Never raises.

        Args:
            task: The run to carry out.
            taken_before_open: Whether DBOS took the task while no worker was open here. If another worker has it by
                now, nothing is sent.

        Returns:
            The result as the database stores it, without card keys.
        """
        if taken_before_open and not await self._retry_until_available(self._store.is_taken, task.id, self._executor):
            return BatchResult().to_row()
        deadline = anyio.current_time() + MAX_RUN_S
        while self.lock_lost and not self.closing and anyio.current_time() < deadline:  # noqa: ASYNC110 -- a short wait
            await anyio.sleep(LOCK_POLL_S)
        job = await self._load_job(task.job)
        if job is None:
            return BatchResult().to_row()
        job.runs += 1
        self._latest_tasks[task.id] = task
        try:
            result = await self._send_observed(task, job, deadline)
        finally:
            job.runs -= 1
            if not job.runs:
                del self._jobs[task.job]
                self.idle_jobs.add(task.job)
        if not job.active:
            result.has_next_run = False
        if (result.has_next_run or result.stopped is not None) and await self._is_still_ours(task):
            await self._queue_next_run(task, job, result)
        if self._latest_tasks.get(task.id) is task:
            del self._latest_tasks[task.id]
        return result.to_row()

    @property
    def busy(self) -> bool:
        """Whether any batch is running."""
        return bool(self._jobs)

    async def refresh_active_jobs(self) -> None:
        """Look up which of the running jobs were cancelled or stopped, and mark them as inactive."""
        running = dict(self._jobs)  # a copy: runs begin and end while we wait for the database
        active = await in_thread(self._store.active_jobs, list(running))
        for job_id, job in running.items():
            job.active = job.active and job_id in active  # False stays: _load_job() may have set it while we waited

    async def _send_observed(self, task: BatchTask, job: _JobState, deadline: float) -> BatchResult:
        """Send the batch, and report it to the telemetry, if there is any."""
        if self._telemetry is None:
            return await self._check_and_send(task, job, deadline)
        queue = task.job.rpartition(":")[0]
        with self._telemetry.batch(queue, task.id, job.trace_context) as record:
            result = await self._check_and_send(task, job, deadline)
            record(result.columns(), result.stopped)
        return result

    async def _check_and_send(self, task: BatchTask, job: _JobState, deadline: float) -> BatchResult:
        """Check the batch, then send its card keys that are not settled yet. Return the result of this run."""
        if self.closing:
            return BatchResult(has_next_run=True)
        try:
            chunks = await self._remaining_chunks(task, job)
        except (SourceChangedError, UnreadableRowError) as error:
            return BatchResult(stopped=error)
        except Exception:  # noqa: BLE001 -- a shared folder or a bucket may be unavailable for a while
            return BatchResult(has_next_run=True, unanswered=True)
        if not chunks or not job.active:
            return BatchResult([bulk.abandoned(chunk) for chunk in chunks])
        if await self._retry_until_available(self._store.mark_begun, task.id):
            # An earlier execution of this run ended without a result: any of its card keys may be on the server.
            chunks = [evolve(chunk, in_doubt=True) for chunk in chunks]
        # Check this after mark_begun. If the run is cancelled before it is marked, its row says that nothing was
        # sent, so nothing may be sent.
        if not await self._is_still_ours(task):
            return BatchResult([bulk.abandoned(chunk) for chunk in chunks])
        progress = Progress(BATCH_PATIENCE, accepted=self._accepted)
        may_send = partial(self._may_send, job, deadline)
        try:
            return await send_batch(
                self._send, task.product_id, chunks, progress, may_send=may_send, on_sent=self._release_permit
            )
        finally:
            self._accepted = self._accepted or progress.accepted

    async def _may_send(self, job: _JobState, deadline: float) -> bool:
        """Wait for a permit, and until the rate allows a call. Return whether to make it; if not, we hold no permit."""
        # Take the permit first. Otherwise, calls that the rate allows would wait for permits, and then be sent in a
        # burst.
        if self._permits is not None:
            with anyio.move_on_after(deadline - anyio.current_time()) as waiting:
                await self._permits.acquire()
            if waiting.cancelled_caught:
                return False
        allowed = False
        try:
            await self._rate_limiter.acquire()
            allowed = job.active and not self.lock_lost and not self.closing and anyio.current_time() < deadline
        finally:
            if not allowed:
                self._release_permit()
        return allowed

    def _release_permit(self) -> None:
        if self._permits is not None:
            self._permits.release()

    async def _remaining_chunks(self, task: BatchTask, job: _JobState) -> list[Chunk]:
        """
        Read the chunks of the batch that earlier runs have left to send.

        Raises:
            SourceChangedError: The card keys in the spool differ from those submitted.
            UnreadableRowError: The row of an earlier run can't be read.
        """
        batch, source = task.batch, batches.spool_name(task.job)
        earlier_results: list[BatchResult] = []
        if task.run_number:
            earlier_ids = [run_id(task.job, batch.number, earlier) for earlier in range(task.run_number)]
            rows = await self._retry_until_available(self._store.runs_by_id, earlier_ids)
            earlier_results = [rows[row_id].result or BatchResult() for row_id in earlier_ids if row_id in rows]
            if results.all_settled(batch, earlier_results):
                return []  # don't read the spool: the card keys may be deleted already
        async with job.check_lock:
            if task.job not in self._checked_jobs:
                await self._check_spool_file(source, job.manifest)
                self._checked_jobs.add(task.job)
        data = await self._spool.read(source, batch.offset, batch.length)
        batches.check_unchanged(data, batch, product_id=task.product_id, secret=self._spool_secret, source=source)
        chunks = batches.chunks_of(data, batch)
        return results.unsettled_chunks(chunks, earlier_results) if earlier_results else chunks

    async def _check_spool_file(self, source: str, manifest: JobManifest) -> None:
        """
        Check that the whole spool file is as it was submitted. This is done once per job, before anything is sent.

        Raises:
            SourceChangedError: The file has changed.
        """
        self._spool_secret = self._spool_secret or await self._spool.secret()
        digest = batches.keyed_digest(self._spool_secret)
        for offset in range(0, manifest.size, READ_BYTES):
            piece = await self._spool.read(source, offset, min(READ_BYTES, manifest.size - offset))
            if not piece:
                break  # the file is shorter than the manifest says; the digests will differ
            digest.update(piece)
        if digest.hexdigest() != manifest.digest:
            raise SourceChangedError(source=source, problem=Problem("source_changed"))

    async def _load_job(self, job_id: str) -> _JobState | None:
        """Read the job's row, and update and return its state. None: the job was deleted."""
        # Read the row even if the job is in self._jobs. JobStore.stop() first writes the job's row, and then cancels
        # the queued batches. If a batch is taken in between, this read shows that the job isn't active.
        row = await self._retry_until_available(self._store.job, job_id)
        if row is None:
            return None
        job = self._jobs.setdefault(job_id, _JobState(row.active, row.manifest, row.trace_context))
        job.active = row.active
        return job

    async def _queue_next_run(self, task: BatchTask, job: _JobState, result: BatchResult) -> None:
        """
        Queue the next run, or stop the job.

        DBOS stores *result* only after that. If this process crashes in between, the run is repeated, and nothing is
        lost.
        """
        if result.stopped is not None:
            # Only first runs are cancelled in the queue. A later run sends nothing once it finds the job inactive.
            first_run_ids = [run_id(task.job, number, 0) for number in range(job.manifest.batches)]
            await self._retry_until_available(self._store.stop, task.job, first_run_ids)
            return
        any_stored = any(outcome.fate is Fate.STORED for outcome in result.outcomes)
        failures = task.failures + 1 if result.unanswered and not any_stored else 0
        if failures > MAX_UNANSWERED_RUNS:
            result.has_next_run = False
            return
        delay = min(2.0 ** (failures - 1), MAX_BACKOFF_S) if result.unanswered else 0.0
        next_task = evolve(task, run_number=task.run_number + 1, failures=failures)
        await self._retry_until_available(partial(self._store.enqueue_run, next_task, delay=delay))

    async def _is_still_ours(self, task: BatchTask) -> bool:
        """Whether *task* is still assigned to this run: neither cancelled nor requeued since we took it."""
        return self._latest_tasks.get(task.id) is task and await self._retry_until_available(
            self._store.is_taken, task.id, self._executor
        )

    async def _retry_until_available(self, query: Callable[..., T], *arguments: Any) -> T:
        """Run the blocking *query* in a thread. Retry it until the database is available."""
        while True:
            try:
                return await in_thread(query, *arguments)
            except QueueUnavailableError:
                await anyio.sleep(RETRY_INTERVAL_S)
