"""What is known of a job's batches: rows to a ledger that adds up. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from gatepay_async.durable.errors import DurableError
from gatepay_async.durable.records import results
from gatepay_async.durable.records.batches import Batch
from gatepay_async.durable.records.rows import BatchRow, JobRow, batch_id
from gatepay_async.protocol.bulk import ChunkOutcome, Fate, Ledger, UploadProgress
from gatepay_async.protocol.errors import GatePayError
from gatepay_async.words.problem import Problem


class JobProgress:
    """
    The runs of each batch of a job. What has ended is not asked for again.

    Args:
        job: Its row.
    """

    def __init__(self, job: JobRow) -> None:
        self._job = job
        self._runs: list[list[BatchRow]] = [[] for _ in range(job.manifest.batches)]

    @property
    def numbers(self) -> range:
        """Of its batches."""
        return range(len(self._runs))

    def pending_ids(self) -> list[str]:
        """The names of the rows whose end isn't known; after a run that has left something, of the next one."""
        return [self._pending_id(number) for number in self.numbers if not self.ended(number) or self.unsettled(number)]

    def record_rows(self, rows: dict[str, BatchRow]) -> bool:
        """What was asked for; True if more must be asked for at once."""
        more = False
        for row in rows.values():
            number = row.task.batch.number
            self._runs[number][row.task.turn :] = [row]
            more = more or (self.ended(number) and self.unsettled(number)) or _goes_on(row)
        return more

    def ended(self, number: int) -> bool:
        """Whether batch *number* is as it will be."""
        runs = self._runs[number]
        return bool(runs) and not runs[-1].open and not _goes_on(runs[-1])

    def all_ended(self) -> bool:
        """Whether all are."""
        return all(self.ended(number) for number in self.numbers)

    def ended_at(self) -> datetime | None:
        """When the last batch ended; None: one hasn't, or there are none."""
        if not self.all_ended():
            return None
        return max((self.last(number).updated for number in self.numbers), default=None)

    def last(self, number: int) -> BatchRow:
        """The latest run of batch *number*, of which there is one."""
        return self._runs[number][-1]

    def rows(self) -> list[BatchRow]:
        """All of them."""
        return [row for runs in self._runs for row in runs]

    def merged_outcomes(self, number: int) -> dict[int, list[ChunkOutcome]]:
        """What became of the chunks of batch *number*, by theirs; without card keys."""
        return results.merged([row.result for row in self._runs[number] if row.result])

    def outcomes(self, number: int) -> list[ChunkOutcome]:
        """The same in a row; what is missing, once it has ended, as one."""
        flat = [outcome for outcomes in self.merged_outcomes(number).values() for outcome in outcomes]
        if self.ended(number):
            batch = self.last(number).task.batch
            missing = batch.count - sum(outcome.count for outcome in flat)
            if missing:
                flat.append(left(batch, missing, self.fate(number)))
        return flat

    def fate(self, number: int) -> Fate:
        """Of the chunks of batch *number* that no run tells of."""
        last = self.last(number)
        return Fate.UNKNOWN if last.begun and last.result is None else Fate.NOT_SENT

    def unsettled(self, number: int) -> bool:
        """Whether something of batch *number* may be sent again, when the job is resumed."""
        return not all(map(results.settled, self.outcomes(number)))

    def all_stored(self) -> bool:
        """Whether all that there was is on the server, and nothing was refused."""
        return all(outcome.fate is Fate.STORED for outcome in self._all())

    def stop(self) -> GatePayError | None:
        """The refusal, or fault, that would meet every chunk; none that was met before a job was resumed."""
        last = (runs[-1].result for runs in self._runs if runs)
        return next((result.stopped for result in last if result is not None and result.stopped), None)

    def stopped(self, job: JobRow) -> GatePayError | None:
        """Why it has ended early, *job* being its row by now."""
        if job.active:
            return None
        return self.stop() or DurableError(problem=Problem("job_cancelled"))

    def ledger(self) -> Ledger:
        """What was settled at submission, but for the lines that were refused."""
        ledger, manifest = Ledger(), self._job.manifest
        ledger.read, ledger.blank, ledger.duplicates = manifest.read, manifest.blank, manifest.duplicates
        ledger.invisible = list(manifest.invisible)
        return ledger

    def progress(self) -> UploadProgress:
        """The columns so far."""
        ledger = self.ledger()
        for outcome in self._all():
            ledger.add(outcome)
        return ledger.progress()

    def _all(self) -> Iterator[ChunkOutcome]:
        refused = self._job.manifest.refused
        if refused is not None:
            yield left(refused, refused.count, Fate.REFUSED)
        for number in self.numbers:
            ended = self.ended(number)  # until then, what is to be tried again is to come
            yield from (outcome for outcome in self.outcomes(number) if ended or results.settled(outcome))

    def _pending_id(self, number: int) -> str:
        runs = self._runs[number]
        if runs and runs[-1].open:
            return runs[-1].task.id
        return batch_id(self._job.id, number, len(runs))


def left(batch: Batch, count: int, fate: Fate) -> ChunkOutcome:
    """*count* card keys somewhere in *batch*."""
    return ChunkOutcome(
        index=batch.first_chunk, first_line=batch.first_line, last_line=batch.last_line, count=count, fate=fate
    )


def _goes_on(row: BatchRow) -> bool:
    return row.result is not None and row.result.follows
