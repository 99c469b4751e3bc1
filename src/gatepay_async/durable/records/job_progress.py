"""The state of a job, computed from the rows of its batches. No I/O; doesn't read the clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from gatepay_async.durable.errors import DurableError
from gatepay_async.durable.records import results
from gatepay_async.durable.records.batches import Batch
from gatepay_async.durable.records.rows import JobRow, RunRow, run_id
from gatepay_async.protocol.bulk import ChunkOutcome, Fate, Ledger, UploadProgress
from gatepay_async.protocol.errors import GatePayError
from gatepay_async.words.problem import Problem


class JobProgress:
    """
    Collects the runs of a job's batches. Rows of runs that have ended are read only once.

    Args:
        job: The job's row.
    """

    def __init__(self, job: JobRow) -> None:
        self._job = job
        self._runs: list[list[RunRow]] = [[] for _ in range(job.manifest.batches)]

    @property
    def batch_numbers(self) -> range:
        """The numbers of the job's batches."""
        return range(len(self._runs))

    def pending_ids(self) -> list[str]:
        """
        Return the IDs of the rows to read next.

        These are the runs that have not ended as far as we know, and, after each run that left card keys unsettled, the
        next run.
        """
        return [
            self._pending_id(number)
            for number in self.batch_numbers
            if not self.ended(number) or self.has_unsettled(number)
        ]

    def record_rows(self, rows: dict[str, RunRow]) -> bool:
        """Record the rows that were read for ``pending_ids()``. Return whether more rows must be read at once."""
        must_read_more = False
        for row in rows.values():
            number = row.task.batch.number
            self._runs[number][row.task.run_number :] = [row]  # replaces the row of this run, or appends it
            must_read_more = must_read_more or (self.ended(number) and self.has_unsettled(number)) or _has_next_run(row)
        return must_read_more

    def ended(self, number: int) -> bool:
        """Whether the last run of batch *number* has ended, and no run follows it."""
        runs = self._runs[number]
        return bool(runs) and not runs[-1].open and not _has_next_run(runs[-1])

    def all_ended(self) -> bool:
        """Whether all batches have ended."""
        return all(self.ended(number) for number in self.batch_numbers)

    def ended_at(self) -> datetime | None:
        """Return when the last batch ended. None: not all have ended, or there are no batches."""
        if not self.all_ended():
            return None
        return max((self.latest_run(number).updated for number in self.batch_numbers), default=None)

    def latest_run(self, number: int) -> RunRow:
        """Return the latest run of batch *number*."""
        return self._runs[number][-1]

    def rows(self) -> list[RunRow]:
        """Return the rows of all runs."""
        return [row for runs in self._runs for row in runs]

    def merged_outcomes(self, number: int) -> dict[int, list[ChunkOutcome]]:
        """Return the outcomes of batch *number* by chunk number, without card keys."""
        return results.merge_runs([row.result for row in self._runs[number] if row.result])

    def outcomes(self, number: int) -> list[ChunkOutcome]:
        """Return the outcomes of batch *number*. Once the batch has ended, they cover all of its card keys."""
        flat = [outcome for outcomes in self.merged_outcomes(number).values() for outcome in outcomes]
        if self.ended(number):
            batch = self.latest_run(number).task.batch
            missing = batch.count - sum(outcome.count for outcome in flat)
            if missing:
                flat.append(outcome_within(batch, missing, self.fate_without_outcome(number)))
        return flat

    def fate_without_outcome(self, number: int) -> Fate:
        """Return the fate of those card keys of batch *number* for which no run has an outcome."""
        run = self.latest_run(number)
        return Fate.UNKNOWN if run.begun and run.result is None else Fate.NOT_SENT

    def has_unsettled(self, number: int) -> bool:
        """Whether ``resume()`` would send some card keys of batch *number* again."""
        return not all(map(results.is_settled, self.outcomes(number)))

    def all_stored(self) -> bool:
        """Whether all card keys are on the server, and no line was refused."""
        return all(outcome.fate is Fate.STORED for outcome in self._all_outcomes())

    def stop_error(self) -> GatePayError | None:
        """Return the error that has stopped the job since it was last resumed, or None. It applies to every chunk."""
        latest_results = (runs[-1].result for runs in self._runs if runs)
        return next((result.stopped for result in latest_results if result is not None and result.stopped), None)

    def early_end_error(self, job: JobRow) -> GatePayError | None:
        """Return why the job ended early, or None. *job* is the job's current row."""
        if job.active:
            return None
        return self.stop_error() or DurableError(problem=Problem("job_cancelled"))

    def ledger(self) -> Ledger:
        """Return a new ledger with the counts of the submission, without the refused lines."""
        ledger, manifest = Ledger(), self._job.manifest
        ledger.read, ledger.blank, ledger.duplicates = manifest.read, manifest.blank, manifest.duplicates
        ledger.invisible = list(manifest.invisible)
        return ledger

    def progress(self) -> UploadProgress:
        """Return the columns of the report so far."""
        ledger = self.ledger()
        for outcome in self._all_outcomes():
            ledger.add(outcome)
        return ledger.progress()

    def _all_outcomes(self) -> Iterator[ChunkOutcome]:
        """Yield the final outcomes: one for the refused lines, and all that no later run of their batch replaces."""
        refused = self._job.manifest.refused
        if refused is not None:
            yield outcome_within(refused, refused.count, Fate.REFUSED)
        for number in self.batch_numbers:
            ended = self.ended(number)  # if not, a later run replaces the outcomes that aren't settled
            yield from (outcome for outcome in self.outcomes(number) if ended or results.is_settled(outcome))

    def _pending_id(self, number: int) -> str:
        """Return the ID of the open run of batch *number*, or of its next run."""
        runs = self._runs[number]
        if runs and runs[-1].open:
            return runs[-1].task.id
        return run_id(self._job.id, number, len(runs))


def outcome_within(batch: Batch, count: int, fate: Fate) -> ChunkOutcome:
    """Return an outcome for *count* card keys of *batch*, without knowing which ones."""
    return ChunkOutcome(
        index=batch.first_chunk, first_line=batch.first_line, last_line=batch.last_line, count=count, fate=fate
    )


def _has_next_run(row: RunRow) -> bool:
    return row.result is not None and row.result.has_next_run
