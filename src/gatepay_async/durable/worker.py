"""A worker: sends what is taken from the queue, and looks after what dead workers have left."""

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
from gatepay_async.durable.storage.database import Database, client_of, in_thread
from gatepay_async.durable.storage.job_store import JobStore
from gatepay_async.durable.work import dbos_host
from gatepay_async.durable.work.dbos_host import DBOSHost
from gatepay_async.durable.work.rate_limiter import Rate, RateLimiter
from gatepay_async.durable.work.runner import MAX_RUN_S, Runner
from gatepay_async.places import AutoPlaces
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.observing import Telemetry
from gatepay_async.words.problem import Problem

HOUSEKEEPING_INTERVAL_S = 1.0  # seconds between two looks at the other workers
JOIN_DELAY_S = 3.0  # seconds until the others know of a new worker, and leave it its share of the rate
LEASE_MARGIN_S = 5.0  # seconds for what a run does besides sending
BUSY_POLL_S = 0.05  # seconds
AUTO_BATCHES = 32  # in work at once under "auto": other workers want some, and each may need a connection
DBOS_CONNECTIONS = 6  # of DBOS's that use the database, besides one for each batch


_log = logging.getLogger("gatepay_async.durable")


class Worker:
    """Opened by ``DurableUploads.worker``; works until it is closed."""

    def __init__(
        self,
        database: Database,
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
        Hold what opening it needs.

        Args:
            database: Where the queue is.
            queue: Its name.
            spool: Where the card keys lie.
            connect: Makes the client.
            version: Of what is queued.
            concurrency: Batches, and so calls, in flight in this worker. ``"auto"``: calls as many as ``AutoPlaces``
                has places for, of up to 32 batches.
            global_concurrency: In flight in all workers together; None: no limit.
            rate: Calls of all workers together; None: no limit.
            telemetry: Is told of each batch, and of the client's calls.
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
        self._lease = math.inf
        self._housekeeping = anyio.CancelScope()
        self._ending: dict[str, Job] = {}

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
        with anyio.CancelScope(shield=True):  # in threads of others, much would go on if this were cut short
            await self._stack.__aexit__(kind, error, traceback)

    @property
    def lease(self) -> float:
        """Seconds after which a batch is taken from a worker that still seems to be there."""
        return self._lease

    async def _open_all(self, stack: AsyncExitStack) -> None:
        gatepay = await stack.enter_async_context(self._connect())
        if self._telemetry is not None:
            gatepay._instrument(self._telemetry)  # noqa: SLF001 -- as `instrument` does
        self._check_deadline(gatepay)
        send, places = gatepay._send_card_keys, None  # noqa: SLF001 -- as an upload does
        if self._is_auto:
            self._concurrency = min(self._concurrency, gatepay._max_connections)  # noqa: SLF001 -- likewise
            places = AutoPlaces(self._concurrency)
            send = partial(send, observer=places.observe)
        self._engine = self._database.engine(connections=self._concurrency + DBOS_CONNECTIONS)
        stack.callback(self._engine.dispose)
        await in_thread(self._database.migrate)
        client = await in_thread(client_of, self._engine)
        stack.callback(client.destroy)
        await in_thread(self._dbos.find)
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
            places=places,
            telemetry=self._telemetry,
        )
        if await self._reap_and_share() > 1:
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
        keeping = asyncio.create_task(self._housekeep())  # no task group: that would wrap what the block raises
        stack.push_async_callback(self._stop_housekeeping, keeping)

    def _check_deadline(self, gatepay: AsyncGatePay) -> None:
        if math.isinf(gatepay.max_call_seconds):
            problem = Problem("client_without_timeout")
            raise InvalidRequestError(field="connect", problem=problem)
        self._max_call_seconds = gatepay.max_call_seconds

    async def _drain(self) -> None:
        """
        Let the calls in flight end, and give back what is left.

        No more batches are taken from the start; each one in work ends with the call that it is at, and is written down
        before DBOS goes. What was taken and not begun, or did not end in time, is queued again.
        """
        self._runner.closing = True
        await in_thread(self._dbos.shut_down)
        with anyio.move_on_after(dbos_host.SHUTDOWN_TIMEOUT_S):
            while self._runner.busy:  # noqa: ASYNC110 -- for a moment, at the end
                await anyio.sleep(BUSY_POLL_S)
        try:
            if self._dbos.launched:
                await in_thread(self._give_back)
            await self._tidy()
        except Exception as error:  # noqa: BLE001 -- the database or the spool is away; others will see to it
            _log.warning("can't give back what was taken: %s", _error_name(error))

    def _give_back(self) -> None:
        self._store.requeue([row.workflow_id for row in self._store.taken() if row.executor_id == self._dbos.executor])

    async def _housekeep(self) -> None:
        """As long as the worker is open: be there, look after the others, ask which jobs go on."""
        reachable = True
        tidied = False
        with self._housekeeping:
            while True:
                await anyio.sleep(HOUSEKEEPING_INTERVAL_S)
                try:
                    await self._keep_lock()
                    await self._reap_and_share()
                    await self._runner.refresh_active_jobs()
                    await self._tidy()
                    if not tidied:
                        await self._tidy_after_others()
                        tidied = True
                except Exception as error:  # noqa: BLE001 -- the database is away, or the disk full: until it is not
                    if reachable:
                        _log.warning("can't reach the queue (%s); going on when it is back", _error_name(error))
                    reachable = False
                else:
                    if not reachable:
                        _log.warning("the queue is back")
                    reachable = True

    async def _tidy(self) -> None:
        """Card keys that are all on the server needn't lie about."""
        for name in list(self._runner.idle_jobs):
            with suppress(UnreadableRowError):
                row = await in_thread(self._store.job, name)
                if row is not None:
                    self._ending[name] = Job(row, self._store, self._spool)
            self._runner.idle_jobs.remove(name)
        failed: Exception | None = None
        for name, job in list(self._ending.items()):
            try:
                if await job.tidy():  # until then others may work at it; or its last outcome is just being written down
                    del self._ending[name]
            except UnreadableRowError:  # it stays so
                del self._ending[name]
            except Exception as error:  # noqa: BLE001 -- the spool's own; the other jobs' card keys needn't lie about
                failed = error
        if failed is not None:
            raise failed

    async def _tidy_after_others(self) -> None:
        """Card keys that a worker has left which died between the end of a job and its tidying up."""
        for row in await in_thread(self._store.jobs):
            with suppress(SourceChangedError, UnreadableRowError):
                await self._spool.read(batches.spool_name(row.id), 0, 1)
                await Job(row, self._store, self._spool).tidy()

    async def _stop_housekeeping(self, task: asyncio.Task[None]) -> None:
        self._housekeeping.cancel()  # not the task: that would leave a thread behind, which uses the database
        await asyncio.wait([task])

    async def _keep_lock(self) -> None:
        if not await in_thread(self._locks.is_held):
            self._runner.away = True
            # Not at once: PostgreSQL may take our last connection, which was cut, for alive for a few seconds more.
            self._runner.away = not await in_thread(self._locks.acquire, self._dbos.executor)

    async def _reap_and_share(self) -> int:
        """Queue again what dead workers had; how many we are."""
        workers = await in_thread(self._reap)
        self._rate_limiter.set_workers(workers)
        self._lease = (
            MAX_RUN_S + self._max_call_seconds + self._rate_limiter.longest_wait(self._concurrency) + LEASE_MARGIN_S
        )
        return workers

    def _reap(self) -> int:
        taken = {str(row.executor_id) for row in self._store.taken()}
        workers, dead = self._locks.count_and_dead(taken)
        if self._dbos.launched and self._global_concurrency is not None:
            self._store.refuse_strangers(self._dbos.executor)
        overdue = self._database.now(self._engine) - timedelta(seconds=min(self._lease, 1e9))
        with self._locks.reaper_lock() as locked:
            if locked and dead:
                self._store.requeue([row.workflow_id for row in self._store.taken() if row.executor_id in dead])
            if locked:
                self._store.requeue([row.workflow_id for row in self._store.taken_before(overdue)])
        return workers


def _error_name(error: Exception) -> str:
    """What it is; what it says may be anybody's."""
    if isinstance(error, QueueUnavailableError):
        return error._kind  # noqa: SLF001 -- for our log, not for users
    return type(error).__name__
