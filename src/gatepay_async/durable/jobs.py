"""``Job``, a submitted upload: its progress and report, and how to cancel, resume or delete it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum

import anyio
from attrs import evolve, frozen

from gatepay_async.durable.errors import DurableError, QueueUnavailableError
from gatepay_async.durable.records import batches
from gatepay_async.durable.records.job_progress import JobProgress
from gatepay_async.durable.records.rows import JobRow, RunRow
from gatepay_async.durable.spool.folder import Spool
from gatepay_async.durable.storage.database import in_thread
from gatepay_async.durable.storage.job_store import JobStore
from gatepay_async.durable.work.reports import Reporter
from gatepay_async.protocol.bulk import UploadProgress, UploadReport
from gatepay_async.protocol.durations import Seconds, to_seconds
from gatepay_async.words.problem import Problem


class JobState(StrEnum):
    """The state of a job."""

    WORKING = "working"  # batches are queued or being sent
    DONE = "done"  # nothing more is sent; the report has the results
    STOPPED = "stopped"  # it met an error that every chunk would get; fix its cause, then call resume()
    CANCELLED = "cancelled"  # resume() continues it


@frozen(kw_only=True)
class JobInfo:
    """
    The facts about a job at one moment.

    Attributes:
        id: The ID that ``Submitter.job`` takes.
        name: The name of the input.
        product_id: The product that the card keys belong to.
        created: When the job was submitted (with a time zone).
        count: The number of card keys to send.
        state: The state of the job.
        progress: The columns of the report so far.
        ended: When the last batch ended (with a time zone). None: not all have ended, or there was nothing to send.
    """

    id: str
    name: str
    product_id: int
    created: datetime
    count: int
    state: JobState
    progress: UploadProgress
    ended: datetime | None


class Job:
    """
    A submitted upload. A ``Submitter`` creates it; it can be used while that submitter is open.

    Attributes:
        id: The ID that ``Submitter.job`` takes. The same input and product always give the same ID.
    """

    def __init__(self, row: JobRow, store: JobStore, spool: Spool) -> None:
        self.id = row.id
        self._row = row
        self._store = store
        self._spool = spool
        self._job_progress = JobProgress(row)

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self._row.manifest.name!r}>"

    async def info(self) -> JobInfo:
        """Query the database, and return the current state and progress."""
        await self._refresh()
        manifest = self._row.manifest
        return JobInfo(
            id=self.id,
            name=manifest.name,
            product_id=manifest.product_id,
            created=self._row.created,
            count=manifest.count,
            state=self._state(),
            progress=self._job_progress.progress(),
            ended=self._job_progress.ended_at(),
        )

    async def progress(self, *, every: Seconds = 0.5) -> AsyncIterator[UploadProgress]:
        """
        Yield the progress each time it has changed, until the job ends.

        Args:
            every: Seconds between two queries, or a ``timedelta``.
        """
        pause = to_seconds("every", every)
        previous: UploadProgress | None = None
        while True:
            try:
                await self._refresh()
            except QueueUnavailableError:
                await anyio.sleep(pause)
                continue
            current = self._job_progress.progress()
            if current != previous:
                yield current
            previous = current
            if self._job_progress.all_ended():
                return
            await anyio.sleep(pause)

    async def wait(self, *, every: Seconds = 0.5) -> UploadReport:
        """
        Wait until the job ends: everything is settled, or the job is stopped or cancelled.

        Args:
            every: Seconds between two queries, or a ``timedelta``.

        Returns:
            The same report as that of a plain upload. Card keys sent twice after a crash count as ``already_there``.
        """
        async for _ in self.progress(every=every):
            pass
        report = await Reporter(self._row, self._job_progress, self._spool).report()
        await self._delete_if_stored()  # not tidy(), which queries the database: that could fail after all the waiting
        return report

    async def cancel(self) -> None:
        """Cancel the job. Calls in flight finish; queued batches are not sent. A job that has ended stays as it is."""
        await self._refresh()
        if self._job_progress.all_ended():
            return
        await in_thread(self._store.stop, self.id, [row.task.id for row in self._job_progress.rows() if row.queued])

    async def resume(self) -> None:
        """
        Send what is left: card keys not sent, with unknown outcome, or refused for a reason that is fixed by now.

        Card keys that GatePay refused individually are skipped. If the job is still working, or nothing is left to
        send, this does nothing.
        """
        await self._refresh()
        if not self._job_progress.all_ended():
            return
        await in_thread(self._store.reopen_job, self.id)
        for number in self._job_progress.batch_numbers:
            run = self._job_progress.latest_run(number)
            if run.status == "CANCELLED":
                await in_thread(self._store.requeue, [run.task.id])
            elif self._job_progress.has_unsettled(number):
                await in_thread(self._enqueue_run_after, run)
        self._job_progress = JobProgress(self._row)  # forgets the rows: the next refresh reads them all

    async def all_stored(self) -> bool:
        """Whether the job has ended, all card keys are on the server, and none was refused."""
        await self._refresh()
        return self._job_progress.all_ended() and self._job_progress.all_stored()

    async def tidy(self) -> bool:
        """
        Delete the card keys in the spool if all of them are on the server. Workers call this when a job ends.

        Returns:
            Whether the job has ended or was deleted: then this need not be called again.
        """
        if not await self._refresh_if_exists():
            return True  # delete() has deleted the card keys, too
        await self._delete_if_stored()
        return self._job_progress.all_ended()

    async def delete(self) -> None:
        """
        Delete the card keys in the spool, then the job's rows. After that, the same input makes a new job.

        Raises:
            DurableError: The job has not ended. Cancel it first.
        """
        await self._refresh()
        if not self._job_progress.all_ended():
            raise DurableError(problem=Problem("job_in_work", job=self.id))
        await self._spool.delete(batches.spool_name(self.id))
        await in_thread(self._store.delete, [*await in_thread(self._store.run_ids, self.id), self.id])

    async def _delete_if_stored(self) -> None:
        """Delete the card keys in the spool if the job has ended and all of them are on the server."""
        if self._job_progress.all_ended() and self._job_progress.all_stored():
            await self._spool.delete(batches.spool_name(self.id))

    def _enqueue_run_after(self, run: RunRow) -> None:
        self._store.enqueue_run(evolve(run.task, run_number=run.task.run_number + 1, failures=0))

    def _state(self) -> JobState:
        """Return the state as of the last refresh."""
        if not self._job_progress.all_ended():
            return JobState.WORKING
        if self._row.active:
            return JobState.DONE
        return JobState.STOPPED if self._job_progress.stop_error() else JobState.CANCELLED

    async def _refresh(self) -> None:
        """
        Read the rows that may have changed.

        Raises:
            DurableError: The job was deleted.
        """
        if not await self._refresh_if_exists():
            raise DurableError(problem=Problem("job_gone", job=self.id))

    async def _refresh_if_exists(self) -> bool:
        """Read the rows that may have changed. Return False if the job was deleted."""
        must_read_more = True
        while must_read_more and (pending_ids := self._job_progress.pending_ids()):
            rows = await in_thread(self._store.runs_by_id, pending_ids)
            must_read_more = self._job_progress.record_rows(rows)
        # Read the job's row last. JobStore.stop() writes it before it cancels batches, so if we have read cancelled
        # batches, this row shows that the job isn't active.
        row = await in_thread(self._store.job, self.id)
        if row is not None:
            self._row = row
        return row is not None
