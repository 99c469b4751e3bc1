"""
The rows of jobs, through DBOS's public API: one row per job, and one per run of each batch. Blocking: call in threads.

The rows of jobs are in a queue of their own, which has no workers. A job's row is ENQUEUED while the job is active. It
is CANCELLED after the job was cancelled, or stopped by an error that every chunk would get.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient, EnqueueOptions, WorkflowStatus
from dbos import error as dbos_error

from gatepay_async.durable.errors import DurableError, UnreadableRowError
from gatepay_async.durable.records import results
from gatepay_async.durable.records.batches import Batch
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.records.rows import (
    OPEN_STATUSES,
    QUEUED_STATUSES,
    BatchTask,
    JobManifest,
    JobRow,
    QueueInfo,
    RunRow,
)
from gatepay_async.durable.storage import pickle_guard
from gatepay_async.words.problem import Problem

LOGGER = logging.getLogger("gatepay_async.durable")

# The names of the workflows in DBOS.
JOB = "gatepay_job"
BATCH = "gatepay_batch"
_BEGUN = "gatepay_begun"  # a workflow attribute: some of the run's card keys may be on the server
_TRACE_CONTEXT = "gatepay_submitted"  # a workflow attribute: the trace context of the submission
_MAX_COUNTED = 10_000  # the rows that queue_info() counts at most
ROWS_PER_STATEMENT = 500  # the most IDs in one query
_METADATA_ONLY: dict[str, Any] = {"load_input": False, "load_output": False}  # options of DBOSClient.list_workflows()


class JobStore:
    """
    The rows of one queue.

    Args:
        client: A DBOS client that uses *engine*.
        engine: For inserting a job in one transaction.
        queue: The queue's name.
        version: The application version of the workers that may take the batches.
    """

    def __init__(self, client: DBOSClient, engine: sa.Engine, queue: str, version: str) -> None:
        self._client = client
        self._engine = engine
        self._queue = queue
        self._version = version

    def insert_job(self, job: str, manifest: JobManifest, batches: Iterable[Batch], trace_context: str = "") -> None:
        """
        Insert the job and all its batches in one transaction. If the job exists, do nothing.

        Args:
            job: The job's ID.
            manifest: The facts about its input.
            batches: Its batches.
            trace_context: The ``traceparent`` of the submission, or "". Earlier versions of this package ignore it.
        """
        with self._engine.begin() as connection:
            options = self._options(JOB, job, f"{self._queue}.jobs")
            if trace_context:
                options["attributes"] = {_TRACE_CONTEXT: trace_context}
            self._client.enqueue_in_transaction(connection, options, manifest.to_row())
            for batch in batches:
                task = BatchTask(job, run_number=0, product_id=manifest.product_id, failures=0, batch=batch)
                options = self._options(BATCH, task.id, self._queue)
                self._client.enqueue_in_transaction(connection, options, *task.to_row())

    def enqueue_run(self, task: BatchTask, *, delay: float = 0) -> None:
        """Queue *task*, which workers may take after *delay* seconds. If it is queued already, do nothing."""
        options = self._options(BATCH, task.id, self._queue)
        if delay:
            options["delay_seconds"] = delay
        self._client.enqueue(options, *task.to_row())

    def job(self, job: str) -> JobRow | None:
        """
        Read the row of *job*; None: there is no such job.

        Raises:
            UnreadableRowError: The row can't be read.
        """
        rows = self._list(workflow_ids=[job], name=JOB, load_output=False)
        return _job_row(rows[0]) if rows else None

    def jobs(self) -> list[JobRow]:
        """Return the rows of all jobs of this queue, the newest first. Unreadable rows are logged and left out."""
        rows = self._list_readable(name=JOB, sort_desc=True, load_output=False)
        ours = (row for row in rows if row.workflow_id.startswith(f"{self._queue}:"))
        return [row for row in map(_readable_job, ours) if row is not None]

    def active_jobs(self, jobs: Iterable[str]) -> set[str]:
        """Return those of *jobs* that are neither cancelled nor stopped."""
        rows = [
            row for id_slice in _slices(jobs) for row in self._list_readable(workflow_ids=id_slice, **_METADATA_ONLY)
        ]
        return {row.workflow_id for row in rows if row.status in OPEN_STATUSES}

    def runs_by_id(self, ids: Iterable[str]) -> dict[str, RunRow]:
        """
        Read the rows of the runs *ids*. Runs that don't exist are left out.

        Raises:
            UnreadableRowError: One of the rows can't be read.
        """
        return {row.workflow_id: _run_row(row) for row in self._list_by_ids(ids, name=BATCH)}

    def run_ids(self, job: str) -> list[str]:
        """Return the IDs of all runs of the job's batches."""
        rows = self._list_readable(workflow_id_prefix=f"{job}.", name=BATCH, **_METADATA_ONLY)
        return [row.workflow_id for row in rows]

    def taken(self) -> list[WorkflowStatus]:
        """Return the rows of runs that workers, live or dead, have taken and not finished."""
        return self._list_readable(name=BATCH, queue_name=self._queue, status="PENDING", **_METADATA_ONLY)

    def queue_info(self) -> QueueInfo:
        """Count the batches of this queue that have not ended, up to 10,000."""
        rows = self._list_readable(
            name=BATCH, queue_name=self._queue, status=list(OPEN_STATUSES), limit=_MAX_COUNTED, **_METADATA_ONLY
        )
        states = Counter(str(row.status) for row in rows)
        queued = [row.created_at for row in rows if row.status == "ENQUEUED" and row.created_at is not None]
        oldest = _time(min(queued)) if queued else None
        return QueueInfo(
            waiting=states["ENQUEUED"], delayed=states["DELAYED"], running=states["PENDING"], oldest_waiting=oldest
        )

    def cancel_foreign_rows(self, executor: str) -> None:
        """
        Cancel rows that *executor* has taken and that aren't batches.

        DBOS counts them against ``global_concurrency``, the limit for all workers together.
        """
        rows = self._list_readable(queue_name=self._queue, status="PENDING", executor_id=executor, **_METADATA_ONLY)
        foreign = [
            row.workflow_id for row in rows if (row.name, row.class_name, row.config_name) != (BATCH, None, None)
        ]
        if foreign:
            LOGGER.warning("the queue %s held rows that are no batches; they are cancelled: %a", self._queue, foreign)
            self.cancel(foreign)

    def is_taken(self, run: str, executor: str) -> bool:
        """Whether the run with the ID *run* is assigned to *executor*."""
        rows = self._list(workflow_ids=[run], status="PENDING", **_METADATA_ONLY)
        return any(row.executor_id == executor for row in rows)

    def mark_begun(self, run: str) -> bool:
        """
        Mark the run with the ID *run* as begun, before its first call.

        Returns:
            Whether the run was marked before. If so, another worker may have sent some of its card keys.
        """
        begun_before = any(map(_is_begun, self._list(workflow_ids=[run], **_METADATA_ONLY)))
        if not begun_before:
            self._client.update_workflow_attributes(run, {_BEGUN: True}, merge=True)
        return begun_before

    def taken_before(self, when: datetime) -> list[WorkflowStatus]:
        """Return the rows of runs that were taken before *when* and are not finished."""
        before = when.isoformat()
        return self._list_readable(
            name=BATCH, queue_name=self._queue, status="PENDING", dequeued_before=before, **_METADATA_ONLY
        )

    def stop(self, job: str, runs: Iterable[str]) -> None:
        """Cancel *job*, and those of its *runs* (IDs) that are still queued."""
        self._client.cancel_workflow(job)
        self.cancel(row.workflow_id for row in self._list_by_ids(runs, status=list(QUEUED_STATUSES), **_METADATA_ONLY))

    def cancel(self, ids: Iterable[str]) -> None:
        """Cancel the rows *ids*."""
        for id_slice in _slices(list(ids)):
            self._client.cancel_workflows(id_slice)

    def reopen_job(self, job: str) -> None:
        """
        Make a cancelled or stopped *job* active again.

        Raises:
            DurableError: The job was deleted.
        """
        try:
            self._client.resume_workflow(job, queue_name=f"{self._queue}.jobs")
        except dbos_error.DBOSNonExistentWorkflowError:
            raise DurableError(problem=Problem("job_gone", job=job)) from None

    def requeue(self, ids: Sequence[str]) -> None:
        """Put runs that were cancelled, or that a worker has taken, back into the queue."""
        for id_slice in _slices(ids):
            self._client.resume_workflows(id_slice, queue_name=self._queue)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the rows *ids*."""
        for id_slice in _slices(ids):
            self._client.delete_workflows(id_slice)

    def _list_by_ids(self, ids: Iterable[str], **options: Any) -> Iterator[WorkflowStatus]:
        for id_slice in _slices(ids):
            yield from self._list(workflow_ids=id_slice, **options)

    def _list_readable(self, **options: Any) -> list[WorkflowStatus]:
        """List rows. If DBOS can't load one of them, list them one by one, and leave the unreadable ones out."""
        with suppress(UnreadableRowError):
            return self._list(**options)
        return list(self._list_row_by_row(**options))

    def _list_row_by_row(self, **options: Any) -> Iterator[WorkflowStatus]:
        """List rows with one query for each. Unreadable rows are logged and left out."""
        offset = -1
        while True:
            offset += 1
            try:
                rows = self._list(limit=1, offset=offset, **options)
            except UnreadableRowError as error:
                LOGGER.warning("%s", error)
                continue
            if not rows:
                return
            yield rows[0]

    def _list(self, **options: Any) -> list[WorkflowStatus]:
        with pickle_guard.refuse_in_thread(), pickle_guard.wrap_row_errors(None):
            return self._client.list_workflows(**options)

    def _options(self, name: str, row_id: str, queue: str) -> EnqueueOptions:
        """Return the options to enqueue the workflow *name* in a row with the ID *row_id*."""
        return EnqueueOptions(workflow_name=name, workflow_id=row_id, queue_name=queue, app_version=self._version)


def _is_begun(row: WorkflowStatus) -> bool:
    return bool((row.attributes or {}).get(_BEGUN))


def _slices(ids: Iterable[str]) -> Iterator[list[str]]:
    """Split *ids* into lists that are short enough for one query."""
    rest = iter(ids)
    while id_slice := list(islice(rest, ROWS_PER_STATEMENT)):
        yield id_slice


def _readable_job(row: WorkflowStatus) -> JobRow | None:
    """Return the row of a job; None: it is unreadable, which is logged."""
    try:
        return _job_row(row)
    except UnreadableRowError as error:
        LOGGER.warning("%s", error)
        return None


def _job_row(row: WorkflowStatus) -> JobRow:
    """Check and convert the row of a job."""
    with pickle_guard.wrap_row_errors(row.workflow_id):
        manifest = JobManifest.from_row(_arguments(row)[0])
        trace_context = str((row.attributes or {}).get(_TRACE_CONTEXT, ""))
        return JobRow(row.workflow_id, row.status in OPEN_STATUSES, _time(row.created_at), manifest, trace_context)


def _run_row(row: WorkflowStatus) -> RunRow:
    """Check and convert the row of a run."""
    with pickle_guard.wrap_row_errors(row.workflow_id):
        task = BatchTask.from_row(row.workflow_id, _arguments(row))
        result = BatchResult.from_row(row.output or {}) if row.status == "SUCCESS" else None
        if result is not None:
            results.check_result(result, task.batch)
        return RunRow(task, row.status, _is_begun(row), result, _time(row.updated_at))


def _time(milliseconds: int | None) -> datetime:
    """Convert a time of DBOS, in milliseconds since 1970."""
    return datetime.fromtimestamp((milliseconds or 0) / 1000).astimezone()


def _arguments(row: WorkflowStatus) -> tuple[Any, ...]:
    """Return the arguments of the row's workflow, from DBOS's portable JSON."""
    workflow_input: Any = row.input
    return tuple(workflow_input["args"])
