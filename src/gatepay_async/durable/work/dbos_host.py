"""
The DBOS of this process, of which there is one: an application's own, or one of ours.

It takes batches from the queue in threads of its own, and runs ``_batch_workflow`` on a loop of its own. That hands
each batch over to the loop on which the worker was opened, for that is where its client lives.
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
from gatepay_async.durable.records.rows import Task
from gatepay_async.durable.storage import pickle_guard
from gatepay_async.durable.storage.database import APPLICATION
from gatepay_async.durable.storage.job_store import BATCH
from gatepay_async.durable.work.rate_limiter import Rate
from gatepay_async.durable.work.runner import Runner
from gatepay_async.words.problem import Problem

POLL_INTERVAL_S = 0.1  # seconds between two looks into the queue
OPENING_POLL_S = 0.2  # seconds
SHUTDOWN_TIMEOUT_S = 15  # seconds that a worker which is closed gives its calls in flight; DBOS looks once a second

# Without one, DBOS has its logger write to standard error, and keeps its records from the application's handlers.
_NULL_HANDLER = logging.NullHandler()


@define
class _OpenWorker:
    """A worker of this process, as DBOS's threads find it."""

    runner: Runner
    loop: asyncio.AbstractEventLoop
    hosted: bool


_OPEN_WORKERS: dict[str, _OpenWorker] = {}  # by queue


@DBOS.workflow(name=BATCH, max_recovery_attempts=None, serialization_type=WorkflowSerializationFormat.PORTABLE)
async def _batch_workflow(*arguments: Any) -> dict[str, Any]:
    try:
        name = str(DBOS.workflow_id)
        with pickle_guard.one_row_error(name):
            task = Task.from_row(name, arguments)
        return await _dispatch(task)
    except DurableError as error:
        problem = error.problem
    except Exception as error:  # noqa: BLE001 -- what it says may be anybody's
        problem = Problem("worker_failed", kind=type(error).__name__)
    # A fresh one: DBOS logs its traceback and keeps its text. The other one's frames may hold card keys.
    raise DurableError(problem=problem)


async def _dispatch(task: Task) -> dict[str, Any]:
    """
    Have the worker of *task* run it.

    Raises:
        DurableError: It is no batch of ours.
    """
    queue = task.job.rpartition(":")[0]
    late = queue not in _OPEN_WORKERS
    # A row that was cancelled in the meantime is in no queue any more; its run ends by itself.
    if late and await asyncio.get_running_loop().run_in_executor(None, _queue_of, task.id) not in {queue, None}:
        # Somebody else's row: there may never be a worker for it, and to wait for one takes a slot.
        raise DurableError(problem=Problem("no_job_in_queue", job=task.job))
    # An application's DBOS takes batches also before its worker is open, and after.
    while queue not in _OPEN_WORKERS:  # noqa: ASYNC110 -- it opens on another loop
        await asyncio.sleep(OPENING_POLL_S)
    worker = _OPEN_WORKERS[queue]
    run = worker.runner.run(task, late=late)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run, worker.loop))


def _queue_of(identity: str) -> str | None:
    """In which queue that row is; in a thread without DBOS's context, or the question would be a step of the run."""
    rows = DBOS.list_workflows(workflow_ids=[identity], load_input=False, load_output=False)
    return rows[0].queue_name if rows else None


class DBOSHost:
    """
    DBOS, for one worker. Blocking, but for ``open_to``.

    Args:
        queue: Its name.
        version: Of what is queued.

    Attributes:
        hosted: It is the application's own.
        launched: It is one of ours, and works.
        executor: As which it takes batches.
    """

    def __init__(self, queue: str, version: str) -> None:
        self._queue = queue
        self._version = version
        self.hosted = False
        self.launched = False
        self.executor = f"gatepay-{token_hex(4)}"

    def find(self) -> None:
        """
        See whether the application runs DBOS itself. Then we work in that.

        Raises:
            DurableError: There is no room for another worker, or the application's DBOS is of another version.
        """
        if self._queue in _OPEN_WORKERS or any(not each.hosted for each in _OPEN_WORKERS.values()):
            raise DurableError(problem=Problem("worker_open"))
        try:
            DBOS.list_queues()
        except dbos_error.DBOSException:
            return
        self.hosted = True
        self.executor = DBOS.executor_id
        if DBOS.application_version != self._version:
            mine = DBOS.application_version
            problem = Problem("application_version", version=mine)
            raise DurableError(problem=problem)

    @contextmanager
    def open_to(self, runner: Runner) -> Generator[None]:
        """Hand batches over to *runner*, on the loop that this is called from."""
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
        Have batches taken from now on, within these limits.

        Raises:
            DurableError: The application's DBOS is not launched yet, or has another database.
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
            log_level="ERROR",  # of a database that is away, each of its threads would tell every second, at length
            run_migrations=False,
            # Nothing is sent to us, but closing waits for that thread.
            notification_listener_polling_interval_sec=POLL_INTERVAL_S,
        )
        logging.getLogger("dbos").addHandler(_NULL_HANDLER)
        DBOS(config=config)
        if DBOS.executor_id != self.executor:  # it was not made: there is one
            raise DurableError(problem=Problem("dbos_not_launched"))
        self.launched = True
        DBOS.listen_queues([self._queue])
        DBOS.launch()

    def shut_down(self) -> None:
        """Take no more batches; what is in work may end. An application's own DBOS is left as it is."""
        if self.launched:
            DBOS.destroy(workflow_completion_timeout_sec=SHUTDOWN_TIMEOUT_S)


def _claim_limit(rate: Rate | None) -> Any:
    """How many batches may be taken: each is one call or more. In small periods, or they come in bursts."""
    if rate is None:
        return None
    limit = max(1, round(rate.limit * POLL_INTERVAL_S / rate.per))
    return {"limit": limit, "period": limit * rate.per / rate.limit}
