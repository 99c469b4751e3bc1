"""
Runs DBOS in this process. A process has only one DBOS: the application's own, or one that we launch.

DBOS takes batches from the queue in its own threads and runs ``_batch_workflow`` on its own event loop. The workflow
passes each batch to the loop on which the worker was opened, because the worker's client belongs to that loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

import sqlalchemy as sa
from attrs import define
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, WorkflowSerializationFormat
from dbos import error as dbos_error

from gatepay_async.durable.errors import DurableError
from gatepay_async.durable.records.rows import BatchTask
from gatepay_async.durable.storage import pickle_guard
from gatepay_async.durable.storage.database import APPLICATION
from gatepay_async.durable.storage.job_store import BATCH
from gatepay_async.durable.work.rate_limiter import Rate
from gatepay_async.durable.work.runner import Runner
from gatepay_async.words.problem import Problem

POLL_INTERVAL_S = 0.1  # between two polls of the queue
OPENING_POLL_S = 0.2  # between two checks whether a worker has opened
SHUTDOWN_TIMEOUT_S = 15  # for calls in flight when a worker is closed; DBOS checks once a second

# Without a handler on its logger, DBOS would write to standard error, bypassing the application's handlers.
_NULL_HANDLER = logging.NullHandler()


@define
class _OpenWorker:
    """An open worker, to which DBOS's threads pass batches. ``hosted``: it uses the application's own DBOS."""

    runner: Runner
    loop: asyncio.AbstractEventLoop
    hosted: bool


_OPEN_WORKERS: dict[str, _OpenWorker] = {}  # by the name of the queue


@DBOS.workflow(name=BATCH, max_recovery_attempts=None, serialization_type=WorkflowSerializationFormat.PORTABLE)
async def _batch_workflow(*arguments: Any) -> dict[str, Any]:
    """Run a batch, on DBOS's event loop. *arguments* are the values of ``BatchTask.to_row()``."""
    try:
        row_id = str(DBOS.workflow_id)
        with pickle_guard.wrap_row_errors(row_id):
            task = BatchTask.from_row(row_id, arguments)
        return await _dispatch(task)
    except DurableError as error:
        problem = error.problem
    except Exception as error:  # noqa: BLE001 -- its text may contain secrets
        problem = Problem("worker_failed", kind=type(error).__name__)
    # DBOS logs the traceback of this error and stores its text, so don't chain the original error: its frames may
    # hold card keys.
    raise DurableError(problem=problem)


async def _dispatch(task: BatchTask) -> dict[str, Any]:
    """
    Pass *task* to the open worker of its queue, and wait for the result.

    Raises:
        DurableError: The row isn't a batch of this package.
    """
    queue = task.job.rpartition(":")[0]
    taken_before_open = queue not in _OPEN_WORKERS
    if taken_before_open:
        # Check that the row is in our queue. A row that was cancelled meanwhile has no queue (None), and the runner
        # handles it.
        queue_of_row = await asyncio.get_running_loop().run_in_executor(None, _queue_of, task.id)
        if queue_of_row not in {queue, None}:
            # There may never be a worker for the other queue, and waiting would block one of DBOS's slots.
            raise DurableError(problem=Problem("no_job_in_queue", job=task.job))
    # An application's DBOS also takes batches before the worker opens and after it closes.
    while queue not in _OPEN_WORKERS:  # noqa: ASYNC110 -- the worker opens on another loop
        await asyncio.sleep(OPENING_POLL_S)
    worker = _OPEN_WORKERS[queue]
    run = worker.runner.run(task, taken_before_open=taken_before_open)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run, worker.loop))


def _queue_of(row_id: str) -> str | None:
    """Return the queue of a row. Call this in a thread without DBOS's context, or DBOS records the query as a step."""
    rows = DBOS.list_workflows(workflow_ids=[row_id], load_input=False, load_output=False)
    return rows[0].queue_name if rows else None


class DBOSHost:
    """
    Starts and stops DBOS for one worker. All methods but ``open_to`` block.

    Args:
        queue: The name of the worker's queue.
        version: The application version of the batches in the queue.

    Attributes:
        hosted: Whether the DBOS is the application's own.
        launched: Whether we have launched the DBOS.
        executor: The executor ID with which DBOS takes batches.
    """

    def __init__(self, queue: str, version: str) -> None:
        self._queue = queue
        self._version = version
        self.hosted = False
        self.launched = False
        self.executor = f"gatepay-{token_hex(4)}"

    def detect_application_dbos(self) -> None:
        """
        Check whether the application runs DBOS itself. If so, the worker joins it.

        Raises:
            DurableError: This process has a worker already, or the application's DBOS has another version.
        """
        if self._queue in _OPEN_WORKERS or any(not worker.hosted for worker in _OPEN_WORKERS.values()):
            raise DurableError(problem=Problem("worker_open"))
        try:
            DBOS.list_queues()
        except dbos_error.DBOSException:
            return
        self.hosted = True
        self.executor = DBOS.executor_id
        if DBOS.application_version != self._version:
            problem = Problem("application_version", version=DBOS.application_version)
            raise DurableError(problem=problem)

    @contextmanager
    def open_to(self, runner: Runner) -> Generator[None]:
        """Pass batches to *runner*, on the event loop of the caller."""
        _OPEN_WORKERS[self._queue] = _OpenWorker(runner, asyncio.get_running_loop(), hosted=self.hosted)
        try:
            yield
        finally:
            del _OPEN_WORKERS[self._queue]

    def launch(
        self,
        client: DBOSClient,
        engine: sa.Engine,
        *,
        concurrency: int,
        global_concurrency: int | None,
        rate: Rate | None,
    ) -> None:
        """
        Start to take batches, within these limits.

        Raises:
            DurableError: The application's DBOS is not launched yet, or uses another database.
        """
        client.register_queue(
            self._queue,
            worker_concurrency=concurrency,
            global_concurrency=global_concurrency,
            limiter=_claim_limit(rate),
            polling_interval_sec=POLL_INTERVAL_S,
        )
        if self.hosted:
            if DBOS.retrieve_queue(self._queue) is None:
                raise DurableError(problem=Problem("databases_differ"))
            return
        config = DBOSConfig(
            name=APPLICATION,
            system_database_engine=engine,
            serializer=DBOSPortableJSONSerializer(),
            executor_id=self.executor,
            application_version=self._version,
            log_level="ERROR",  # otherwise each thread logs a traceback every second while the database is down
            run_migrations=False,  # QueueDatabase.migrate() has run them
            # We use no notifications. But closing waits until the listener's thread wakes, so it must poll often.
            notification_listener_polling_interval_sec=POLL_INTERVAL_S,
        )
        logging.getLogger("dbos").addHandler(_NULL_HANDLER)
        DBOS(config=config)
        # If the application has a DBOS that isn't launched, DBOS() returns that one instead of a new one.
        if DBOS.executor_id != self.executor:
            raise DurableError(problem=Problem("dbos_not_launched"))
        self.launched = True
        DBOS.listen_queues([self._queue])
        DBOS.launch()

    def shut_down(self) -> None:
        """Take no more batches and let running ones finish. The application's own DBOS is left as it is."""
        if self.launched:
            DBOS.destroy(workflow_completion_timeout_sec=SHUTDOWN_TIMEOUT_S)


def _claim_limit(rate: Rate | None) -> Any:
    """
    Return DBOS's limit on taking batches: as many batches as *rate* allows calls, since each has at least one call.

    The period is short, to avoid bursts.
    """
    if rate is None:
        return None
    limit = max(1, round(rate.limit * POLL_INTERVAL_S / rate.per))
    return {"limit": limit, "period": limit * rate.per / rate.limit}
