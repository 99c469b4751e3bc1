"""A job that was submitted: how far it is, what became of it, and how to stop it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from attrs import frozen
from sqlalchemy.exc import SQLAlchemyError

from gatepay_async.durable import batches
from gatepay_async.durable.batches import Batch, Run
from gatepay_async.durable.book import BatchRow, Book, JobRow, batch_id
from gatepay_async.durable.errors import DurableError, SourceChangedError
from gatepay_async.durable.spool import Spool
from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Fate, Ledger, UploadProgress, UploadReport
from gatepay_async.protocol.errors import GatePayError, InvalidRequestError

T = TypeVar("T")


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
    """

    id: str
    name: str
    product_id: int
    created: datetime
    count: int
    state: JobState
    progress: UploadProgress


class _Tally:
    """What is known of the batches of a job; what has ended is not asked for again."""

    def __init__(self, job: JobRow) -> None:
        self._job = job
        self._runs: dict[int, list[BatchRow]] = {}

    def wanted(self) -> list[str]:
        """The names of the rows whose end isn't known."""
        names = []
        for number in range(self._job.facts.batches):
            runs = self._runs.get(number, [])
            if not self.ended(number):
                names += [row.id for row in runs if row.open] or [batch_id(self._job.id, number, len(runs))]
        return names

    def enter(self, rows: dict[str, BatchRow]) -> bool:
        """What was asked for; True if more must be asked for at once."""
        more = False
        for name, row in rows.items():
            _, number, turn = name.rsplit(".", 2)
            runs = self._runs.setdefault(int(number), [])
            runs[int(turn) :] = [row]
            more = more or bool(row.run and row.run.follows)
        return more

    def ended(self, number: int) -> bool:
        """Whether batch *number* is as it will be."""
        runs = self._runs.get(number, [])
        return bool(runs) and not runs[-1].open and not (runs[-1].run and runs[-1].run.follows)

    def all_ended(self) -> bool:
        """Whether all are."""
        return all(self.ended(number) for number in range(self._job.facts.batches))

    def runs(self, number: int) -> list[BatchRow]:
        """The runs of batch *number*, the first one first."""
        return self._runs.get(number, [])

    def rows(self) -> Iterator[BatchRow]:
        """All of them."""
        for number in range(self._job.facts.batches):
            yield from self.runs(number)


class Job:
    """
    A job; made by a ``Submitter``, and usable as long as that is open.

    Attributes:
        id: What ``Submitter.job`` finds it by; the same for the same input and product.
    """

    def __init__(self, row: JobRow, book: Book, spool: Spool) -> None:
        self.id = row.id
        self._row = row
        self._book = book
        self._spool = spool
        self._tally = _Tally(row)

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self._row.facts.name!r}>"

    async def info(self) -> JobInfo:
        """Where it stands."""
        await self._look()
        facts = self._row.facts
        state = JobState.WORKING
        if self._tally.all_ended():
            state = JobState.DONE if self._row.active else self._ended_as()
        return JobInfo(
            id=self.id, name=facts.name, product_id=facts.product_id, created=self._row.created, count=facts.count,
            state=state, progress=self._progress(),
        )  # fmt: skip

    def _ended_as(self) -> JobState:
        return JobState.STOPPED if self._stop() else JobState.CANCELLED

    async def progress(self, *, every: float = 0.5) -> AsyncIterator[UploadProgress]:
        """
        How far it is, whenever that has changed; ends with the job.

        Args:
            every: Seconds between two looks.
        """
        last: UploadProgress | None = None
        while True:
            try:
                await self._look()
            except SQLAlchemyError:
                await anyio.sleep(every)  # the database is away; it will be back
                continue
            now = self._progress()
            if now != last:
                yield now
            last = now
            if self._tally.all_ended():
                return
            await anyio.sleep(every)

    async def wait(self, *, every: float = 0.5) -> UploadReport:
        """
        Wait until nothing more is to be sent, or it is cancelled.

        Returns:
            The ledger, as of a plain upload. After a crash, what was sent twice counts as ``already_there``.
        """
        async for _ in self.progress(every=every):
            pass
        return await self._report()

    async def cancel(self) -> None:
        """Send nothing more of it: calls in flight end, what is queued is not sent. Once it has ended: nothing."""
        await self._look()
        if self._tally.all_ended():
            return
        await _in_thread(self._book.stop, self.id, [row.id for row in self._tally.rows() if row.queued])

    async def resume(self) -> None:
        """Send what was not sent, or of which that isn't known; what GatePay refused is left. Where all is: nothing."""
        await self._look()
        if not self._tally.all_ended():
            return
        await _in_thread(self._book.go_on, self.id)
        for number in range(self._row.facts.batches):
            runs = self._tally.runs(number)
            if runs[-1].status == "CANCELLED":
                await _in_thread(self._book.requeue, [runs[-1].id])
            elif runs[-1].run is None or _unsettled([row.run for row in runs if row.run]):
                await _in_thread(self._follow, runs)
        self._tally = _Tally(self._row)

    async def forget(self) -> None:
        """
        Remove all that is kept of it, the card keys in the spool first; the same input is then a new job.

        Raises:
            DurableError: It has not ended: cancel it first.
        """
        await self._look()
        if not self._tally.all_ended():
            raise DurableError(problem=f"{self.id} is being worked at; cancel it first")
        await self._spool.delete(f"{self._row.digest}.keys")
        await _in_thread(self._book.delete, [*(row.id for row in self._tally.rows()), self.id])

    def _follow(self, runs: list[BatchRow]) -> None:
        facts = self._row.facts
        self._book.follow(self.id, facts.product_id, runs[-1].batch, turn=len(runs), failures=0, delay=0)

    async def _look(self) -> None:
        """Ask what has changed."""
        row = await _in_thread(self._book.job, self.id)
        if row is None:
            raise DurableError(problem=f"{self.id} is gone; somebody has cleaned it away")
        self._row = row
        more = True
        while more and (wanted := self._tally.wanted()):
            more = self._tally.enter(await _in_thread(self._book.batches, wanted))

    def _progress(self) -> UploadProgress:
        ledger = self._ledger()
        for outcomes in self._known():
            for outcome in outcomes:
                ledger.add(outcome)
        return ledger.progress()

    def _ledger(self) -> Ledger:
        """What was settled at submission, but for the lines that were refused."""
        ledger, facts = Ledger(), self._row.facts
        ledger.read, ledger.blank, ledger.duplicates = facts.read, facts.blank, facts.duplicates
        return ledger

    def _known(self) -> Iterator[list[ChunkOutcome]]:
        for number in range(self._row.facts.batches):
            yield from batches.merged([row.run for row in self._tally.runs(number) if row.run]).values()

    async def _report(self) -> UploadReport:
        ledger = self._ledger()
        await self._enter_refused(ledger)
        for number in range(self._row.facts.batches):
            for outcome in await self._outcomes(self._tally.runs(number)):
                ledger.add(outcome)
        report = ledger.report(stopped=self._stopped())
        if report.ok:
            await self._spool.delete(f"{self._row.digest}.keys")  # nobody needs them any more
        return report

    def _stop(self) -> GatePayError | None:
        """What stopped it."""
        return next((row.run.stopped for row in self._tally.rows() if row.run and row.run.stopped), None)

    def _stopped(self) -> GatePayError | None:
        """Why it has ended early."""
        if self._row.active:
            return None
        return self._stop() or DurableError(problem="it was cancelled; resume() goes on")

    async def _outcomes(self, runs: list[BatchRow]) -> list[ChunkOutcome]:
        """What became of a batch, with the card keys that are not known to be on the server."""
        known = batches.merged([row.run for row in runs if row.run])
        flat = [outcome for outcomes in known.values() for outcome in outcomes]
        if flat and runs[-1].run and all(outcome.fate is Fate.STORED for outcome in flat):
            return flat
        batch, fate = runs[-1].batch, Fate.UNKNOWN if runs[-1].taken else Fate.NOT_SENT
        chunks = await self._chunks(batch)
        if chunks is None:
            return flat or [_lost(batch, fate)]
        if runs[-1].run is None:
            for chunk in batches.to_do(chunks, [row.run for row in runs if row.run]):
                known[chunk.index] = [bulk.failed(chunk, fate, error=self._stopped())]
        return [_with_keys(outcome, chunks) for outcomes in known.values() for outcome in outcomes]

    async def _chunks(self, batch: Batch) -> list[Chunk] | None:
        """The chunks of *batch*, or None where the spool has lost them."""
        data = await self._read(batch)
        return None if data is None else batches.chunks_of(data, batch)

    async def _read(self, batch: Batch) -> bytes | None:
        try:
            data = await self._spool.read(f"{self._row.digest}.keys", batch.offset, batch.length)
            batches.check(data, batch, secret=await self._spool.secret(), source=self._row.digest)
        except SourceChangedError:
            return None
        return data

    async def _enter_refused(self, ledger: Ledger) -> None:
        """The lines that can't be card keys."""
        refused, problems = self._row.facts.refused, self._row.facts.problems
        if refused is None or problems is None:
            return
        chunks, said = await self._chunks(refused), await self._read(problems)
        if chunks is None or said is None:
            ledger.add(_lost(refused, Fate.REFUSED))
            return
        pairs = ((line, key) for chunk in chunks for line, key in zip(chunk.lines, chunk.keys, strict=True))
        for count, problem in json.loads(said):
            lines, keys = zip(*islice(pairs, count), strict=True)
            error = InvalidRequestError(field="keys", problem=problem)
            ledger.add(bulk.failed(Chunk(-1, lines, keys), Fate.REFUSED, error=error))


def _unsettled(runs: list[Run]) -> bool:
    flat = [outcome for outcomes in batches.merged(runs).values() for outcome in outcomes]
    return any(outcome.fate in (Fate.UNKNOWN, Fate.NOT_SENT) for outcome in flat)


def _lost(batch: Batch, fate: Fate) -> ChunkOutcome:
    """The whole of *batch*, where the spool has lost it."""
    return ChunkOutcome(
        index=batch.first_chunk, first_line=batch.first_line, last_line=batch.last_line, count=batch.count, fate=fate
    )


def _with_keys(outcome: ChunkOutcome, chunks: list[Chunk]) -> ChunkOutcome:
    """*outcome* with its card keys, unless it is stored."""
    if outcome.fate is Fate.STORED:
        return outcome
    keys = tuple(
        key
        for chunk in chunks
        if outcome.index <= chunk.index
        for line, key in zip(chunk.lines, chunk.keys, strict=True)
        if outcome.first_line <= line <= outcome.last_line
    )
    return ChunkOutcome(
        index=outcome.index, first_line=outcome.first_line, last_line=outcome.last_line, count=outcome.count,
        fate=outcome.fate, attempts=outcome.attempts, error=outcome.error, keys=keys,
    )  # fmt: skip


async def _in_thread(do: Callable[..., T], *arguments: Any) -> T:
    return await anyio.to_thread.run_sync(do, *arguments)
