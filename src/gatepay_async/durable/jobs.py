"""A job that was submitted: how far it is, what became of it, and how to stop it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum

import anyio
from attrs import evolve, frozen

from gatepay_async.durable.errors import DurableError, QueueUnavailableError
from gatepay_async.durable.records import batches
from gatepay_async.durable.records.job_progress import JobProgress
from gatepay_async.durable.records.rows import BatchRow, JobRow
from gatepay_async.durable.spool.folder import Spool
from gatepay_async.durable.storage.database import in_thread
from gatepay_async.durable.storage.job_store import JobStore
from gatepay_async.durable.work.reports import Reporter
from gatepay_async.protocol.bulk import UploadProgress, UploadReport
from gatepay_async.protocol.durations import Seconds, to_seconds
from gatepay_async.words.problem import Problem


class JobState(StrEnum):
    """Where a job stands."""

    WORKING = "working"  # batches are queued, or being sent
    DONE = "done"  # nothing more is to be sent; the report says what became of it
    STOPPED = "stopped"  # by a refusal that would meet every chunk; once that is mended, resume() goes on
    CANCELLED = "cancelled"  # resume() goes on


@frozen(kw_only=True)
class JobInfo:
    """
    A job, for a list.

    Attributes:
        id: What ``Submitter.job`` finds it by.
        name: What the input was called.
        product_id: What the card keys are for.
        created: When it was submitted (aware).
        count: Card keys to send.
        state: Where it stands.
        progress: How far it is.
        ended: When its last batch ended (aware); None: it is at work, or had nothing to send.
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
    A job; made by a ``Submitter``, and usable as long as that is open.

    Attributes:
        id: What ``Submitter.job`` finds it by; the same for the same input and product.
    """

    def __init__(self, row: JobRow, book: JobStore, spool: Spool) -> None:
        self.id = row.id
        self._row = row
        self._store = book
        self._spool = spool
        self._job_progress = JobProgress(row)

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self._row.manifest.name!r}>"

    async def info(self) -> JobInfo:
        """Where it stands."""
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
        How far it is, whenever that has changed; ends with the job.

        Args:
            every: Seconds between two looks, or a ``timedelta``.
        """
        pause = to_seconds("every", every)
        last: UploadProgress | None = None
        while True:
            try:
                await self._refresh()
            except QueueUnavailableError:
                await anyio.sleep(pause)  # the database is away; it will be back
                continue
            now = self._job_progress.progress()
            if now != last:
                yield now
            last = now
            if self._job_progress.all_ended():
                return
            await anyio.sleep(pause)

    async def wait(self, *, every: Seconds = 0.5) -> UploadReport:
        """
        Wait until nothing more is to be sent, or it is cancelled.

        Returns:
            The ledger, as of a plain upload. After a crash, what was sent twice counts as ``already_there``.
        """
        async for _ in self.progress(every=every):
            pass
        report = await Reporter(self._row, self._job_progress, self._spool).report()
        await self._delete_if_stored()  # as is known: the database, which may just be away again, isn't asked
        return report

    async def cancel(self) -> None:
        """Send nothing more of it: calls in flight end, what is queued is not sent. Once it has ended: nothing."""
        await self._refresh()
        if self._job_progress.all_ended():
            return
        await in_thread(self._store.stop, self.id, [row.task.id for row in self._job_progress.rows() if row.queued])

    async def resume(self) -> None:
        """
        Send what was not sent, or of which that isn't known, or what met a refusal that every chunk would meet.

        What GatePay refused for its content is left. Where nothing is to be sent: nothing.
        """
        await self._refresh()
        if not self._job_progress.all_ended():
            return
        await in_thread(self._store.reopen_job, self.id)
        for number in self._job_progress.numbers:
            last = self._job_progress.last(number)
            if last.status == "CANCELLED":
                await in_thread(self._store.requeue, [last.task.id])
            elif self._job_progress.unsettled(number):
                await in_thread(self._enqueue_next_run, last)
        self._job_progress = JobProgress(self._row)

    async def all_stored(self) -> bool:
        """Whether all of it is on the server, and nothing was refused."""
        await self._refresh()
        return self._job_progress.all_ended() and self._job_progress.all_stored()

    async def tidy(self) -> bool:
        """
        Delete the card keys in the spool, if all of them are on the server; at a job's end, workers do so, too.

        Returns:
            Whether it has ended, or is gone: then there will be no more to delete.
        """
        if not await self._refresh_if_exists():
            return True  # whoever has cleaned it away has deleted them
        await self._delete_if_stored()
        return self._job_progress.all_ended()

    async def delete(self) -> None:
        """
        Remove all that is kept of it, the card keys in the spool first; the same input is then a new job.

        Raises:
            DurableError: It has not ended: cancel it first.
        """
        await self._refresh()
        if not self._job_progress.all_ended():
            raise DurableError(problem=Problem("job_in_work", job=self.id))
        await self._spool.delete(batches.spool_name(self.id))
        await in_thread(self._store.delete, [*await in_thread(self._store.runs_of, self.id), self.id])

    async def _delete_if_stored(self) -> None:
        if self._job_progress.all_ended() and self._job_progress.all_stored():
            await self._spool.delete(batches.spool_name(self.id))

    def _enqueue_next_run(self, last: BatchRow) -> None:
        self._store.enqueue_run(evolve(last.task, turn=last.task.turn + 1, failures=0))

    def _state(self) -> JobState:
        if not self._job_progress.all_ended():
            return JobState.WORKING
        if self._row.active:
            return JobState.DONE
        return JobState.STOPPED if self._job_progress.stop() else JobState.CANCELLED

    async def _refresh(self) -> None:
        """Ask what has changed."""
        if not await self._refresh_if_exists():
            raise DurableError(problem=Problem("job_gone", job=self.id))

    async def _refresh_if_exists(self) -> bool:
        """Ask what has changed, unless somebody has cleaned it away."""
        more = True
        while more and (pending_ids := self._job_progress.pending_ids()):
            more = self._job_progress.record_rows(await in_thread(self._store.batches, pending_ids))
        # Last: who stops a job writes its own row before those of its batches, and these have ended, if so, by that.
        row = await in_thread(self._store.job, self.id)
        if row is not None:
            self._row = row
        return row is not None
