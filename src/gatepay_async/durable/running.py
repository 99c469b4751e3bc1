"""What a worker does with a batch that it has taken; on the event loop of the one who opened the worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from attrs import define, frozen
from sqlalchemy.exc import SQLAlchemyError

from gatepay_async.durable import batches
from gatepay_async.durable.batches import Batch, Run
from gatepay_async.durable.book import Book, batch_id
from gatepay_async.durable.errors import DurableError, SourceChangedError
from gatepay_async.durable.pace import Pace
from gatepay_async.durable.sending import Send, Sender
from gatepay_async.durable.spool import Spool
from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Fate

T = TypeVar("T")

LONGEST_RUN = 30.0  # seconds; what is left then is another run's
_MOST_FAILURES = 12  # runs in a row that nobody answered
_LONGEST_PAUSE = 300.0  # seconds between two of them; 24 minutes altogether


@frozen
class Task:
    """A run of a batch, as the queue gives it."""

    job: str
    product_id: int
    turn: int
    failures: int
    batch: Batch

    @classmethod
    def of_arguments(cls, job: str, product_id: int, turn: int, failures: int, *batch: Any) -> Task:
        """From the database."""
        return cls(job, product_id, turn, failures, Batch(*batch))

    @property
    def id(self) -> str:
        """The name of its row."""
        return batch_id(self.job, self.batch.number, self.turn)


@define
class _Job:
    """What a worker knows of a job that it works at."""

    active: bool
    runs: int = 0


class Runner:
    """
    Runs batches.

    Args:
        book: Where they are written.
        spool: Where their card keys lie.
        send: Sends a call, again where that helps.
        pace: When the next call may be made.
    """

    def __init__(self, book: Book, spool: Spool, send: Send, pace: Pace) -> None:
        self._book = book
        self._spool = spool
        self._send = send
        self._pace = pace
        self._jobs: dict[str, _Job] = {}
        self.paused = False  # others may take what we have: not there any more, or about to leave

    async def run(self, task: Task) -> dict[str, Any]:
        """What became of *task*, for the database. Never raises; what it tells holds no card key."""
        ends = anyio.current_time() + LONGEST_RUN
        job = await self._job(task.job)
        if job is None:
            return Run(_left(task.batch, Fate.NOT_SENT)).as_json()
        job.runs += 1
        try:
            run = await self._run(task, job, ends)
        finally:
            job.runs -= 1
            if not job.runs:
                del self._jobs[task.job]
        if not job.active:
            run.follows = False
        await self._settle(task, run)
        return run.as_json()

    @property
    def jobs(self) -> list[str]:
        """Those being worked at now."""
        return list(self._jobs)

    def keep(self, active: set[str]) -> None:
        """Of the jobs being worked at, only *active* ones are to go on."""
        for name, job in self._jobs.items():
            job.active = name in active

    async def _run(self, task: Task, job: _Job, ends: float) -> Run:
        async def may_go_on() -> bool:
            await self._pace.turn()
            return job.active and not self.paused and anyio.current_time() < ends

        try:
            chunks = await self._chunks(task)
        except SourceChangedError as error:
            return Run(_left(task.batch, Fate.NOT_SENT, error), stopped=error)
        try:
            if not job.active:
                return Run([bulk.failed(chunk, Fate.NOT_SENT) for chunk in chunks])
            return await Sender(self._send, task.product_id, may_go_on).run(chunks)
        except Exception as error:  # noqa: BLE001 -- a transport's own; its text may hold anything
            problem = DurableError(problem=f"{type(error).__name__} while sending; the worker's log may say more")
            return Run([bulk.failed(chunk, Fate.UNKNOWN, error=problem) for chunk in chunks], stopped=problem)

    async def _chunks(self, task: Task) -> list[Chunk]:
        """What is left to send of the batch, after the runs before this one."""
        batch, source = task.batch, task.job.rpartition(":")[2]
        data = await self._spool.read(f"{source}.keys", batch.offset, batch.length)
        secret = await self._spool.secret()
        chunks = batches.chunks_of(data, batch, secret=secret, source=source)
        if not task.turn:
            return chunks
        names = [batch_id(task.job, batch.number, turn) for turn in range(task.turn)]
        rows = await self._ask(self._book.batches, names)
        return batches.to_do(chunks, [rows[name].run or Run() for name in names if name in rows])

    async def _job(self, name: str) -> _Job | None:
        if name not in self._jobs:
            row = await self._ask(self._book.job, name)
            if row is None:
                return None  # cleaned away
            self._jobs.setdefault(name, _Job(row.active))
        return self._jobs[name]

    async def _settle(self, task: Task, run: Run) -> None:
        """Queue what follows, or stop the job; before the run itself is written, so that a crash between loses nothing."""
        if run.stopped is not None:
            await self._ask(self._book.stop, task.job)
        elif run.follows:
            done = any(outcome.fate is Fate.STORED for outcome in run.outcomes)
            failures = task.failures + 1 if run.unanswered and not done else 0
            if failures > _MOST_FAILURES:
                run.follows = False
                return
            delay = min(2.0 ** (failures - 1), _LONGEST_PAUSE) if run.unanswered else 0.0

            def follow() -> None:
                self._book.follow(
                    task.job, task.product_id, task.batch, turn=task.turn + 1, failures=failures, delay=delay
                )

            await self._ask(follow)

    async def _ask(self, ask: Callable[..., T], *arguments: Any) -> T:
        """Ask the database in a worker thread, until it answers."""
        while True:
            try:
                return await anyio.to_thread.run_sync(ask, *arguments)
            except SQLAlchemyError:
                await anyio.sleep(1)


def _left(batch: Batch, fate: Fate, error: DurableError | None = None) -> list[ChunkOutcome]:
    """The whole of *batch*, where its chunks can't be read."""
    return [
        ChunkOutcome(
            index=batch.first_chunk,
            first_line=batch.first_line,
            last_line=batch.last_line,
            count=batch.count,
            fate=fate,
            error=error,
        )
    ]


