"""What a worker does with a batch that it has taken; on the event loop of the one who opened the worker."""

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
from gatepay_async.durable.records.batches import Digest
from gatepay_async.durable.records.manifest import JobManifest
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.records.rows import Task, batch_id
from gatepay_async.durable.spool.folder import Spool
from gatepay_async.durable.storage.database import in_thread
from gatepay_async.durable.storage.job_store import JobStore
from gatepay_async.durable.work.rate_limiter import RateLimiter
from gatepay_async.durable.work.sender import BatchSender
from gatepay_async.places import AutoPlaces
from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Chunk, Fate
from gatepay_async.protocol.observing import Telemetry
from gatepay_async.sending import Send
from gatepay_async.words.problem import Problem

T = TypeVar("T")

MAX_RUN_S = 30.0  # seconds; what is left then is another run's
AWAY_POLL_S = 0.2  # seconds
RETRY_INTERVAL_S = 1.0  # seconds between two questions to a database that is away
READ_BYTES = 2**20  # bytes read at a time, to check the whole
MAX_UNANSWERED_RUNS = 12  # runs in a row that nobody answered
MAX_BACKOFF_S = 300.0  # seconds between two of them; 24 minutes altogether


@define
class _JobState:
    """What a worker knows of a job that it works at."""

    active: bool
    manifest: JobManifest
    submitted: str = ""
    runs: int = 0
    checking: anyio.Lock = field(factory=anyio.Lock)


class Runner:
    """
    Runs batches.

    Args:
        store: Where they are written.
        spool: Where their card keys lie.
        send: Sends a call, again where that helps.
        rate_limiter: When the next call may be made.
        places: For the calls in flight, where they may be fewer than the batches in work; None: one for each batch.
        executor: As which this worker takes batches.
        telemetry: Is told of each batch.
    """

    def __init__(
        self,
        store: JobStore,
        spool: Spool,
        send: Send,
        rate_limiter: RateLimiter,
        *,
        executor: str,
        places: AutoPlaces | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._store = store
        self._executor = executor
        self._spool = spool
        self._send = send
        self._rate_limiter = rate_limiter
        self._places = places
        self._telemetry = telemetry
        self._jobs: dict[str, _JobState] = {}
        self._checked_jobs: set[str] = set()
        self._latest: dict[str, Task] = {}  # taken from us, and by us again: of the two the later one has the row
        self.idle_jobs: set[str] = set()  # jobs that were worked at, and are not any more: they may have ended
        self._cached_secret = b""
        self._accepted = False  # something was stored with this worker's secret
        self.away = False  # others may take what we have
        self.closing = False

    async def run(self, task: Task, *, late: bool = False) -> dict[str, Any]:
        """
        What became of *task*, for the database. Never raises; what it tells holds no card key.

        Args:
            task: What to run.
            late: It was taken a while ago, and may be another worker's by now; that one's word is what counts then.
        """
        if late and not await self._ask_until_answered(self._store.is_taken, task.id, self._executor):
            return BatchResult().to_row()
        ends = anyio.current_time() + MAX_RUN_S
        while self.away and not self.closing and anyio.current_time() < ends:  # noqa: ASYNC110 -- for a moment
            await anyio.sleep(AWAY_POLL_S)
        job = await self._job(task.job)
        if job is None:
            return BatchResult().to_row()
        job.runs += 1
        self._latest[task.id] = task
        try:
            result = await self._send_observed(task, job, ends)
        finally:
            job.runs -= 1
            if not job.runs:
                del self._jobs[task.job]
                self.idle_jobs.add(task.job)
        if not job.active:
            result.follows = False
        if (result.follows or result.stopped is not None) and await self._is_task_ours(task):
            await self._queue_next_run(task, job, result)
        if self._latest.get(task.id) is task:
            del self._latest[task.id]
        return result.to_row()

    @property
    def busy(self) -> bool:
        """Whether something is being run."""
        return bool(self._jobs)

    async def refresh_active_jobs(self) -> None:
        """Ask which of the jobs being worked at are to go on."""
        running = dict(self._jobs)  # by the time of the answer there may be others, or other runs of the same
        active = await in_thread(self._store.active_jobs, list(running))
        for name, job in running.items():
            job.active = job.active and name in active  # who has asked later than this knows better

    async def _send_observed(self, task: Task, job: _JobState, ends: float) -> BatchResult:
        if self._telemetry is None:
            return await self._send_batch(task, job, ends)
        with self._telemetry.batch(task.job.rpartition(":")[0], task.id, job.submitted) as record:
            result = await self._send_batch(task, job, ends)
            record(result.columns(), result.stopped)
        return result

    async def _send_batch(self, task: Task, job: _JobState, ends: float) -> BatchResult:
        async def may_send() -> bool:
            # A place first: calls whose turn has come by the rate would leave in a burst once places are free.
            return await self._take_place(ends) and await self._wait_for_turn(job, ends)

        if self.closing:
            return BatchResult(follows=True)
        try:
            chunks = await self._remaining_chunks(task, job)
        except (SourceChangedError, UnreadableRowError) as error:
            return BatchResult(stopped=error)
        except Exception:  # noqa: BLE001 -- a shared folder, or a store, is away for a while
            return BatchResult(follows=True, unanswered=True)
        if not job.active:
            return BatchResult([bulk.left(chunk) for chunk in chunks])
        begun = bool(chunks) and await self._ask_until_answered(self._store.mark_begun, task.id)
        if begun:
            # Whoever ran it before has not said what became of it: any of it may be on the server.
            chunks = [evolve(chunk, in_doubt=True) for chunk in chunks]
        # Asked after that was noted: who cancels it in between, and is told that nothing of it was begun, is right.
        if chunks and not await self._is_task_ours(task):
            return BatchResult([bulk.left(chunk) for chunk in chunks])
        sender = BatchSender(
            self._send, task.product_id, may_send, on_sent=self._release_place, accepted=self._accepted
        )
        try:
            return await sender.send_chunks(chunks)
        finally:
            self._accepted = self._accepted or sender.accepted

    async def _take_place(self, ends: float) -> bool:
        """Wait for a place until *ends*; whether there was one."""
        if self._places is None:
            return True
        with anyio.move_on_after(ends - anyio.current_time()):
            await self._places.acquire()
            return True
        return False

    async def _wait_for_turn(self, job: _JobState, ends: float) -> bool:
        """Wait until the rate allows a call; whether it may still be made. If not, the place is given back."""
        may = False
        try:
            await self._rate_limiter.acquire()
            may = job.active and not self.away and not self.closing and anyio.current_time() < ends
        finally:
            if not may:
                self._release_place()
        return may

    def _release_place(self) -> None:
        if self._places is not None:
            self._places.release()

    async def _remaining_chunks(self, task: Task, job: _JobState) -> list[Chunk]:
        """What is left to send of the batch, after the runs before this one; as it was submitted."""
        batch, source = task.batch, batches.spool_name(task.job)
        names = [batch_id(task.job, batch.number, turn) for turn in range(task.turn)]
        rows = await self._ask_until_answered(self._store.batches, names)
        before = [rows[name].result or BatchResult() for name in names if name in rows]
        if results.all_settled(batch, before):
            return []  # by the worker that it was taken from; its card keys may be gone by now
        async with job.checking:
            if task.job not in self._checked_jobs:
                await self._check_spool_file(task.job, job.manifest)
        data = await self._spool.read(source, batch.offset, batch.length)
        secret = await self._spool_secret()
        batches.check(data, batch, product_id=task.product_id, secret=secret, source=source)
        return results.to_do(batches.chunks_of(data, batch), before)

    async def _spool_secret(self) -> bytes:
        self._cached_secret = self._cached_secret or await self._spool.secret()
        return self._cached_secret

    async def _check_spool_file(self, name: str, manifest: JobManifest) -> None:
        """Hold the whole spool file to be as it was submitted; once for each job, before anything of it is sent."""
        source = batches.spool_name(name)
        whole = Digest(await self._spool_secret())
        for offset in range(0, manifest.size, READ_BYTES):
            piece = await self._spool.read(source, offset, min(READ_BYTES, manifest.size - offset))
            if not piece:
                break  # whatever size was written down
            whole.update(piece)
        if whole.text() != manifest.digest:
            raise SourceChangedError(source=source, problem=Problem("source_changed"))
        self._checked_jobs.add(name)

    async def _job(self, name: str) -> _JobState | None:
        # Also of one that is worked at already: who stops a job writes its own row before he looks which batches are
        # queued, so that of one which is taken after that look it is known here.
        row = await self._ask_until_answered(self._store.job, name)
        if row is None:
            return None  # cleaned away
        job = self._jobs.setdefault(name, _JobState(row.active, row.manifest, row.submitted))
        job.active = row.active
        return job

    async def _queue_next_run(self, task: Task, job: _JobState, result: BatchResult) -> None:
        """Queue what follows, or stop the job; before the run itself is written: a crash between loses nothing."""
        if result.stopped is not None:
            names = [batch_id(task.job, number, 0) for number in range(job.manifest.batches)]
            await self._ask_until_answered(self._store.stop, task.job, names)
            return
        done = any(outcome.fate is Fate.STORED for outcome in result.outcomes)
        failures = task.failures + 1 if result.unanswered and not done else 0
        if failures > MAX_UNANSWERED_RUNS:
            result.follows = False
            return
        delay = min(2.0 ** (failures - 1), MAX_BACKOFF_S) if result.unanswered else 0.0

        following = evolve(task, turn=task.turn + 1, failures=failures)
        await self._ask_until_answered(partial(self._store.enqueue_run, following, delay=delay))

    async def _is_task_ours(self, task: Task) -> bool:
        """Whether it has not been taken from us: what comes next is then the other's to say, who may have ended it."""
        return self._latest.get(task.id) is task and await self._ask_until_answered(
            self._store.is_taken, task.id, self._executor
        )

    async def _ask_until_answered(self, ask: Callable[..., T], *arguments: Any) -> T:
        """Ask the database in a worker thread, until it answers."""
        while True:
            try:
                return await in_thread(ask, *arguments)
            except QueueUnavailableError:
                await anyio.sleep(RETRY_INTERVAL_S)
