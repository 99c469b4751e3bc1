"""``Worker``: sends batches from the queue, and requeues the batches of workers that have died."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Literal, Self

import anyio

from gatepay_async.client import AsyncGatePay
from gatepay_async.durable.errors import DurableError, QueueUnavailableError, SourceChangedError, UnreadableRowError
from gatepay_async.durable.jobs import Job
from gatepay_async.durable.records import batches
from gatepay_async.durable.spool.folder import Spool
from gatepay_async.durable.storage import pickle_guard
from gatepay_async.durable.storage.database import QueueDatabase, client_of, in_thread
from gatepay_async.durable.storage.job_store import JobStore
from gatepay_async.durable.work import dbos_host
from gatepay_async.durable.work.dbos_host import DBOSHost
from gatepay_async.durable.work.rate_limiter import Rate, RateLimiter
from gatepay_async.durable.work.runner import MAX_RUN_S, Runner
from gatepay_async.permits import AutoPermits
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.observing import Telemetry
from gatepay_async.words.problem import Problem

HOUSEKEEPING_INTERVAL_S = 1.0  # between two rounds of `Worker._housekeep`
JOIN_DELAY_S = 3.0  # within this time, all other workers notice a new worker, and share the rate with it
LEASE_MARGIN_S = 5.0  # the part of the lease for what a run does besides sending
MAX_SILENCE_S = 15.0  # after so long without reaching the database, the worker counts as not ready
BUSY_POLL_S = 0.05  # between two checks whether batches are still running, while the worker is being closed
# Batches run at once with concurrency="auto". More would leave none to other workers, and need more connections to the
# database.
AUTO_BATCHES = 32
DBOS_CONNECTIONS = 6  # database connections that DBOS needs besides one per batch


LOGGER = logging.getLogger("gatepay_async.durable")


class Worker:
    """Sends batches from the queue until it is closed. ``DurableUploads.worker`` creates it."""

    def __init__(
        self,
        database: QueueDatabase,
        queue: str,
        spool: Spool,
        connect: Callable[[], AsyncGatePay],
        *,
        version: str,
        concurrency: int | Literal["auto"],
        global_concurrency: int | None,
        rate: Rate | None,
        telemetry: Telemetry | None,
    ) -> None:
        """
        Store the settings; nothing is opened yet.

        Args:
            database: The database that holds the queue.
            queue: The queue's name.
            spool: Holds the card keys.
            connect: Creates the client.
            version: The application version of queued batches.
            concurrency: How many batches this worker runs at once, each with one call in flight. ``"auto"``: up to 32
                batches, with as many calls in flight as ``AutoPermits`` allows.
            global_concurrency: Calls in flight in all workers together; None: no limit.
            rate: Calls of all workers together; None: no limit.
            telemetry: Observes each batch and the client's calls, or None.
        """
        self._database = database
        self._queue = queue
        self._spool = spool
        self._connect = connect
        self._version = version
        self._is_auto = concurrency == "auto"
        self._concurrency = AUTO_BATCHES if concurrency == "auto" else concurrency
        if global_concurrency is not None:
            self._concurrency = min(self._concurrency, global_concurrency)
        self._global_concurrency = global_concurrency
        self._rate = rate
        self._telemetry = telemetry
        self._rate_limiter = RateLimiter(rate)
        self._dbos = DBOSHost(queue, version)
        self._lease = math.inf  # until the number of workers is known
        self._reached_at = -math.inf  # the time of the last successful query
        self._housekeeping = anyio.CancelScope()
        self._jobs_to_tidy: dict[str, Job] = {}

    async def __aenter__(self) -> Self:
        stack = AsyncExitStack()
        try:
            await self._open_all(stack)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stack.aclose()
            raise
        self._stack = stack
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):  # a cancellation here would leave DBOS's threads running
            await self._stack.__aexit__(kind, error, traceback)

    @property
    def ready(self) -> bool:
        """
        Whether the worker takes batches.

        It is open, holds its lock and has reached the database within the last 15 seconds.
        """
        reached = anyio.current_time() - self._reached_at < MAX_SILENCE_S
        return reached and not self._runner.lock_lost and not self._runner.closing

    @property
    def lease(self) -> float:
        """The seconds after which a batch is requeued even though its worker still holds its lock."""
        return self._lease

    async def _open_all(self, stack: AsyncExitStack) -> None:
        """Open the client, the database, the lock and DBOS. *stack* closes them in reverse order."""
        gatepay = await stack.enter_async_context(self._connect())
        if self._telemetry is not None:
            gatepay._instrument(self._telemetry)  # noqa: SLF001 -- as `gatepay_async.otel.instrument` does
        self._set_max_call_seconds(gatepay)
        send, permits = gatepay._send_card_keys, None  # noqa: SLF001 -- as a plain upload does
        if self._is_auto:
            self._concurrency = min(self._concurrency, gatepay._max_connections)  # noqa: SLF001 -- there is no public attribute
            permits = AutoPermits(self._concurrency)
            send = partial(send, observer=permits.observe)
        self._engine = self._database.engine(connections=self._concurrency + DBOS_CONNECTIONS)
        stack.callback(self._engine.dispose)
        await in_thread(self._database.migrate)
        client = await in_thread(client_of, self._engine)
        stack.callback(client.destroy)
        await in_thread(self._dbos.detect_application_dbos)
        self._store = JobStore(client, self._engine, self._queue, self._version)
        self._locks = self._database.worker_locks(self._engine, self._queue)
        stack.push_async_callback(in_thread, self._locks.release)
        if not await in_thread(self._locks.acquire, self._dbos.executor):
            problem = Problem("executor_taken", name=self._dbos.executor)
            raise DurableError(problem=problem)
        self._runner = Runner(
            self._store,
            self._spool,
            send,
            self._rate_limiter,
            executor=self._dbos.executor,
            permits=permits,
            telemetry=self._telemetry,
        )
        if await self._requeue_and_share_rate() > 1:
            self._rate_limiter.delay_next(JOIN_DELAY_S)
        stack.enter_context(self._dbos.open_to(self._runner))
        stack.push_async_callback(self._drain)
        if not self._dbos.hosted:
            stack.enter_context(pickle_guard.refuse_in_process())
        launch = partial(
            self._dbos.launch,
            client,
            self._engine,
            concurrency=self._concurrency,
            global_concurrency=self._global_concurrency,
            rate=self._rate,
        )
        await in_thread(launch)
        self._reached_at = anyio.current_time()
        # Not a task group, which would wrap the exceptions of the user's block in an exception group.
        housekeeping = asyncio.create_task(self._housekeep())
        stack.push_async_callback(self._stop_housekeeping, housekeeping)

    def _set_max_call_seconds(self, gatepay: AsyncGatePay) -> None:
        """
        Store how long a call of *gatepay* can take. The lease depends on it.

        Raises:
            InvalidRequestError: *gatepay* has no timeout, so a call can take forever.
        """
        if math.isinf(gatepay.max_call_seconds):
            problem = Problem("client_without_timeout")
            raise InvalidRequestError(field="connect", problem=problem)
        self._max_call_seconds = gatepay.max_call_seconds

    async def _drain(self) -> None:
        """
        Finish the calls in flight, and requeue the rest.

        No more batches are taken. Each running batch ends after its current call, and its result is stored before DBOS
        shuts down. Batches that have not begun, or don't end in time, are requeued.
        """
        self._runner.closing = True
        await in_thread(self._dbos.shut_down)
        with anyio.move_on_after(dbos_host.SHUTDOWN_TIMEOUT_S):
            while self._runner.busy:  # noqa: ASYNC110 -- a short wait, when the worker is closed
                await anyio.sleep(BUSY_POLL_S)
        try:
            if self._dbos.launched:
                await in_thread(self._requeue_own)
            await self._tidy()
        except Exception as error:  # noqa: BLE001 -- the database or the spool is unavailable; another worker does it
            LOGGER.warning("can't requeue this worker's batches: %s", _error_name(error))

    def _requeue_own(self) -> None:
        """Requeue the batches that this worker has taken and not finished."""
        self._store.requeue([row.workflow_id for row in self._store.taken() if row.executor_id == self._dbos.executor])

    async def _housekeep(self) -> None:
        """Keep the lock, requeue orphaned batches, notice cancelled jobs and delete stored card keys, until closed."""
        reachable = True
        tidied_all = False
        with self._housekeeping:
            while True:
                await anyio.sleep(HOUSEKEEPING_INTERVAL_S)
                try:
                    await self._keep_lock()
                    await self._requeue_and_share_rate()
                    await self._runner.refresh_active_jobs()
                    await self._tidy()
                    if not tidied_all:
                        await self._tidy_all_jobs()
                        tidied_all = True
                except Exception as error:  # noqa: BLE001 -- the database is down, or the disk full: try again later
                    if reachable:
                        LOGGER.warning(
                            "can't reach the queue (%s); the worker continues once it can", _error_name(error)
                        )
                    reachable = False
                else:
                    self._reached_at = anyio.current_time()
                    if not reachable:
                        LOGGER.warning("the queue is available again")
                    reachable = True

    async def _tidy(self) -> None:
        """For each job that has ended with all its card keys on the server, delete them from the spool."""
        for job_id in list(self._runner.idle_jobs):
            with suppress(UnreadableRowError):
                row = await in_thread(self._store.job, job_id)
                if row is not None:
                    self._jobs_to_tidy[job_id] = Job(row, self._store, self._spool)
            self._runner.idle_jobs.remove(job_id)
        last_error: Exception | None = None
        for job_id, job in list(self._jobs_to_tidy.items()):
            try:
                if await job.tidy():  # False: other workers run its batches, or its last result isn't stored yet
                    del self._jobs_to_tidy[job_id]
            except UnreadableRowError:  # trying again would not help
                del self._jobs_to_tidy[job_id]
            except Exception as error:  # noqa: BLE001 -- the database or the spool failed; tidy the other jobs first
                last_error = error
        if last_error is not None:
            raise last_error

    async def _tidy_all_jobs(self) -> None:
        """Delete card keys that are still in the spool because a worker died just after the job's end."""
        for row in await in_thread(self._store.jobs):
            with suppress(SourceChangedError, UnreadableRowError):
                # If the spool file is deleted already, this raises SourceChangedError.
                await self._spool.read(batches.spool_name(row.id), 0, 1)
                await Job(row, self._store, self._spool).tidy()

    async def _stop_housekeeping(self, task: asyncio.Task[None]) -> None:
        self._housekeeping.cancel()  # not task.cancel(), which would leave a thread running that uses the database
        await asyncio.wait([task])

    async def _keep_lock(self) -> None:
        """If we have lost our lock, try to acquire it again. Until that succeeds, the runner sends nothing."""
        if not await in_thread(self._locks.is_held):
            self._runner.lock_lost = True
            # This may fail at first: for a few seconds, PostgreSQL may consider our broken connection alive.
            self._runner.lock_lost = not await in_thread(self._locks.acquire, self._dbos.executor)

    async def _requeue_and_share_rate(self) -> int:
        """Requeue orphaned batches, and divide the rate among the live workers. Return the number of live workers."""
        workers = await in_thread(self._requeue_orphans)
        self._rate_limiter.set_workers(workers)
        self._lease = (
            MAX_RUN_S + self._max_call_seconds + self._rate_limiter.longest_wait(self._concurrency) + LEASE_MARGIN_S
        )
        return workers

    def _requeue_orphans(self) -> int:
        """Requeue the batches of dead workers, and those held longer than the lease. Return the number of workers."""
        executors = {str(row.executor_id) for row in self._store.taken()}
        workers, dead = self._locks.check_workers(executors)
        if self._dbos.launched and self._global_concurrency is not None:
            self._store.cancel_foreign_rows(self._dbos.executor)
        # min(): a timedelta can't be infinite.
        lease_start = self._database.now(self._engine) - timedelta(seconds=min(self._lease, 1e9))
        with self._locks.reaper_lock() as locked:
            if locked and dead:
                self._store.requeue([row.workflow_id for row in self._store.taken() if row.executor_id in dead])
            if locked:
                self._store.requeue([row.workflow_id for row in self._store.taken_before(lease_start)])
        return workers


def _error_name(error: Exception) -> str:
    """Return the class of *error*, for the log. Its text isn't logged, because it may contain secrets."""
    if isinstance(error, QueueUnavailableError):
        return error._kind  # noqa: SLF001 -- for our log, not for users
    return type(error).__name__
