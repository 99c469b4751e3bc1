"""The report of a job: like a plain upload's, with the card keys that are not known to be on the server."""

from __future__ import annotations

import json
from itertools import islice

from attrs import evolve

from gatepay_async.durable.errors import SourceChangedError
from gatepay_async.durable.records import batches
from gatepay_async.durable.records.batches import Batch
from gatepay_async.durable.records.job_progress import JobProgress, outcome_within
from gatepay_async.durable.records.rows import JobRow
from gatepay_async.durable.spool.folder import Spool
from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Fate, Ledger, UploadReport
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem


class Reporter:
    """
    Makes the report of a job.

    Args:
        job: The job's row.
        job_progress: The results of its batches.
        spool: Holds the card keys. If they are deleted or changed, the report leaves them out.
    """

    def __init__(self, job: JobRow, job_progress: JobProgress, spool: Spool) -> None:
        self._job = job
        self._job_progress = job_progress
        self._spool = spool
        self._stopped = job_progress.early_end_error(job)

    async def report(self) -> UploadReport:
        """Read the card keys from the spool, and return the complete report."""
        ledger = self._job_progress.ledger()
        await self._add_refused_lines(ledger)
        for number in self._job_progress.batch_numbers:
            for outcome in await self._outcomes(number):
                ledger.add(outcome)
        return ledger.report(stopped=self._stopped)

    async def _outcomes(self, number: int) -> list[ChunkOutcome]:
        """Return the outcomes of batch *number*, with the card keys that are not known to be on the server."""
        by_chunk = self._job_progress.merged_outcomes(number)
        without_keys = self._job_progress.outcomes(number)
        if all(outcome.fate is Fate.STORED for outcome in without_keys):
            return without_keys
        chunks = await self._read_chunks(self._job_progress.latest_run(number).task.batch)
        if chunks is None:
            return [self._with_reason(outcome) for outcome in without_keys]
        for chunk in chunks:
            if chunk.index not in by_chunk:
                by_chunk[chunk.index] = [
                    bulk.failed(chunk, self._job_progress.fate_without_outcome(number), error=self._stopped)
                ]
        chunks_by_index = {chunk.index: chunk for chunk in chunks}
        return [
            self._with_reason(_with_keys(outcome, chunks_by_index[outcome.index]))
            for outcomes in by_chunk.values()
            for outcome in outcomes
        ]

    def _with_reason(self, outcome: ChunkOutcome) -> ChunkOutcome:
        """Return *outcome*, with the reason why the job ended early if the outcome has no error of its own."""
        return outcome if outcome.fate is Fate.STORED else evolve(outcome, error=outcome.error or self._stopped)

    async def _read_chunks(self, batch: Batch) -> list[Chunk] | None:
        """Return the chunks of *batch*. None: they were deleted from the spool, or changed there."""
        data = await self._read_batch(batch)
        return None if data is None else batches.chunks_of(data, batch)

    async def _read_batch(self, batch: Batch) -> bytes | None:
        """Return the bytes of *batch* in the spool file. None: they were deleted or changed."""
        try:
            source = batches.spool_name(self._job.id)
            data = await self._spool.read(source, batch.offset, batch.length)
            secret = await self._spool.secret()
            batches.check_unchanged(data, batch, product_id=self._job.manifest.product_id, secret=secret, source=source)
        except SourceChangedError:
            return None
        return data

    async def _add_refused_lines(self, ledger: Ledger) -> None:
        """Add the lines that can't be card keys."""
        refused, problems = self._job.manifest.refused, self._job.manifest.problems
        if refused is None or problems is None:
            return
        chunks, stored_problems = await self._read_chunks(refused), await self._read_batch(problems)
        if chunks is None or stored_problems is None:
            ledger.add(outcome_within(refused, refused.count, Fate.REFUSED))
            return
        # An iterator: each problem belongs to the next *count* lines.
        pairs = ((line, key) for chunk in chunks for line, key in zip(chunk.lines, chunk.keys, strict=True))
        for count, stored in json.loads(stored_problems):
            lines, keys = zip(*islice(pairs, count), strict=True)
            error = InvalidRequestError(field="keys", problem=Problem.of_json(stored))
            ledger.add(bulk.failed(Chunk(-1, lines, keys), Fate.REFUSED, error=error))


def _with_keys(outcome: ChunkOutcome, chunk: Chunk) -> ChunkOutcome:
    """Return *outcome* with its card keys from *chunk*, unless they are on the server."""
    if outcome.fate is Fate.STORED:
        return outcome
    pairs = zip(chunk.lines, chunk.keys, strict=True)
    return evolve(outcome, keys=tuple(key for line, key in pairs if outcome.first_line <= line <= outcome.last_line))
