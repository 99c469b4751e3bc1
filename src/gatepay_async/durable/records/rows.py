"""The rows of the database: one for each job, and one for each run of a batch. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import asdict, field, frozen

from gatepay_async.durable.records import batches
from gatepay_async.durable.records.batches import DIGEST_BYTES, MAX_BATCHES, MAX_NAME_CHARS, Batch
from gatepay_async.durable.records.bounds import check_number, number_field, text_field
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.protocol.bulk import MAX_INVISIBLE_LINES
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL

MAX_RUNS = 100_000  # per batch; each run reads the rows of all earlier ones
_MAX_FAILURES = 100  # the largest valid value of BatchTask.failures in a row
# The values of a run's row. They are stored without names, and workers of several versions may share a queue: this
# order must not change.
_RUN_VALUES = ("product_id", "failures", "offset", "length", "digest", "count", "first_line", "last_line")
# DBOS's statuses of rows that no worker has taken, and of rows that have not ended.
QUEUED_STATUSES = ("ENQUEUED", "DELAYED")
OPEN_STATUSES = (*QUEUED_STATUSES, "PENDING")


@frozen
class JobManifest:
    """
    The facts about a submitted input: the part of the report that sending doesn't change.

    Attributes:
        product_id: The product that the card keys belong to.
        name: The name of the input, to show to people.
        read: Lines of the input.
        blank: Lines without visible characters.
        duplicates: Lines that repeat an earlier card key.
        count: Card keys to send.
        batches: The number of batches.
        size: The size of the spool file in bytes.
        digest: The ``keyed_digest()`` of the spool file, in hexadecimal.
        refused: Where the spool file has the lines that can't be card keys; None: there are none.
        problems: Where the spool file has the problems of those lines; None: there are none.
        invisible: Lines whose card key holds an invisible character, as in ``UploadReport``.
    """

    product_id: int = number_field()
    name: str = text_field(MAX_NAME_CHARS)
    read: int = number_field()
    blank: int = number_field()
    duplicates: int = number_field()
    count: int = number_field()
    batches: int = number_field(maximum=MAX_BATCHES)
    size: int = number_field()
    digest: str = text_field(2 * DIGEST_BYTES)
    refused: Batch | None = None
    problems: Batch | None = None
    invisible: tuple[int, ...] = field(default=(), converter=tuple[int, ...])

    def __attrs_post_init__(self) -> None:
        """Check ``invisible``, and that the numbers add up: the report contains them."""
        check_number(len(self.invisible), maximum=MAX_INVISIBLE_LINES)
        for line in self.invisible:
            check_number(line)
        refused = 0 if self.refused is None else self.refused.count
        batches_needed = -(-self.count // (batches.CHUNKS_PER_BATCH * MAX_KEYS_PER_CALL))
        if (self.read, self.batches) != (self.blank + self.duplicates + refused + self.count, batches_needed):
            raise ValueError("does not add up")

    def to_row(self) -> dict[str, Any]:
        """Convert to the row that the database stores."""
        return {**asdict(self), "invisible": list(self.invisible)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> JobManifest:
        """
        Convert from the row that the database stores.

        Raises:
            ValueError, TypeError, LookupError: No version of this package wrote such a row.
        """
        refused, problems = row["refused"], row["problems"]
        values: dict[str, Any] = {**row, "refused": refused and Batch(**refused)}
        values["problems"] = problems and Batch(**problems)
        return cls(**values)


@frozen
class JobRow:
    """
    The row of a job.

    Attributes:
        active: The job is neither cancelled nor stopped.
        trace_context: The ``traceparent`` of the span that submitted the job, or "". It isn't validated.
    """

    id: str
    active: bool
    created: datetime
    manifest: JobManifest
    trace_context: str = ""


@frozen(kw_only=True)
class QueueInfo:
    """
    How many batches of a queue are unfinished.

    Attributes:
        waiting: Batches that wait for a free worker.
        delayed: Batches that are retried later, because GatePay gave no final answer or the spool couldn't be read.
        running: Batches that workers are running.
        oldest_waiting: When the oldest waiting batch was queued (with a time zone), or None.
    """

    waiting: int
    delayed: int
    running: int
    oldest_waiting: datetime | None


@frozen
class BatchTask:
    """
    One run of a batch, to be done by a worker.

    Attributes:
        job: The ID of the batch's job.
        run_number: The number of the run, from 0.
        product_id: The product that the card keys belong to.
        failures: How many of the previous runs, in a row, got no reply.
        batch: The batch to send.
    """

    job: str
    run_number: int
    product_id: int
    failures: int
    batch: Batch

    @property
    def id(self) -> str:
        """The ID of the run's row."""
        return run_id(self.job, self.batch.number, self.run_number)

    def to_row(self) -> tuple[str | int, ...]:
        """Return the values of the run's row, without the ID."""
        fields = {"product_id": self.product_id, "failures": self.failures, **asdict(self.batch)}
        return tuple(fields[name] for name in _RUN_VALUES)

    @classmethod
    def from_row(cls, row_id: str, values: Sequence[Any]) -> BatchTask:
        """
        Create a task from the ID and the values of its row.

        Raises:
            ValueError, TypeError, LookupError: The row wasn't written by any version of this package.
        """
        job, batch_number, run_number = row_id.rsplit(".", 2)
        fields: dict[str, Any] = dict(zip(_RUN_VALUES, values, strict=True))
        product_id = check_number(fields.pop("product_id"))
        failures = check_number(fields.pop("failures"), maximum=_MAX_FAILURES)
        batch = Batch(number=check_number(int(batch_number)), **fields)
        return cls(job, check_number(int(run_number), maximum=MAX_RUNS), product_id, failures, batch)


@frozen
class RunRow:
    """
    The row of a run of a batch.

    Attributes:
        task: The run that was queued.
        status: DBOS's status of the workflow.
        begun: Whether the run may have sent anything.
        result: The result, if the run has ended and was not cancelled.
        updated: When the row was last written. For a run that has ended, this is its end.
    """

    task: BatchTask
    status: str
    begun: bool
    result: BatchResult | None
    updated: datetime

    @property
    def open(self) -> bool:
        """Whether the run is queued or running."""
        return self.status in OPEN_STATUSES

    @property
    def queued(self) -> bool:
        """Whether no worker has taken the run yet."""
        return self.status in QUEUED_STATUSES


def run_id(job: str, batch_number: int, run_number: int) -> str:
    """Return the ID of a run: the job's ID, the batch's number, and the run's number within the batch, from 0."""
    return f"{job}.{batch_number}.{run_number}"
