"""The rows of the database: one for each job, one for each run of each batch. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import asdict, frozen

from gatepay_async.durable.records.batches import Batch
from gatepay_async.durable.records.bounds import whole
from gatepay_async.durable.records.manifest import JobManifest
from gatepay_async.durable.records.results import BatchResult

MAX_RUNS = 100_000  # per batch; each run reads the rows of all earlier ones
_MAX_FAILURES = 100  # runs
# Rows hold values without names, and workers of several versions may share a queue: this order must not change.
_COLUMNS = ("product_id", "failures", "offset", "length", "digest", "count", "first_line", "last_line")
QUEUED_STATUSES = ("ENQUEUED", "DELAYED")
OPEN_STATUSES = (*QUEUED_STATUSES, "PENDING")


@frozen
class JobRow:
    """
    The row of a job.

    Attributes:
        active: The job is neither cancelled nor stopped.
        submitted: What telemetry has noted of its submission. It may be any text.
    """

    id: str
    active: bool
    created: datetime
    manifest: JobManifest
    submitted: str = ""


@frozen(kw_only=True)
class QueueInfo:
    """
    The batches of a queue that have not ended.

    Attributes:
        waiting: Batches that the next free worker takes.
        delayed: Batches that are retried later, because GatePay didn't answer.
        running: Batches that workers run.
        oldest_waiting: When the oldest waiting batch was queued (aware), or None.
    """

    waiting: int
    delayed: int
    running: int
    oldest_waiting: datetime | None


@frozen
class Task:
    """
    A run of a batch, as the queue holds it.

    Attributes:
        job: The ID of its job.
        turn: The number of the run, from 0.
        product_id: The product that the card keys belong to.
        failures: How many runs in a row before it got no reply.
        batch: The batch to send.
    """

    job: str
    turn: int
    product_id: int
    failures: int
    batch: Batch

    @property
    def id(self) -> str:
        """The ID of its row."""
        return batch_id(self.job, self.batch.number, self.turn)

    def to_row(self) -> tuple[str | int, ...]:
        """The values of its row, without the ID."""
        facts = {"product_id": self.product_id, "failures": self.failures, **asdict(self.batch)}
        return tuple(facts[column] for column in _COLUMNS)

    @classmethod
    def from_row(cls, name: str, values: Sequence[Any]) -> Task:
        """
        Convert from what the database stores.

        Raises:
            ValueError, TypeError, LookupError: No version of this package wrote that.
        """
        job, number, turn = name.rsplit(".", 2)
        facts: dict[str, Any] = dict(zip(_COLUMNS, values, strict=True))
        product_id, failures = whole(facts.pop("product_id")), whole(facts.pop("failures"), most=_MAX_FAILURES)
        batch = Batch(number=whole(int(number)), **facts)
        return cls(job, whole(int(turn), most=MAX_RUNS), product_id, failures, batch)


@frozen
class BatchRow:
    """
    The row of a run of a batch.

    Attributes:
        task: What was queued.
        status: DBOS's status of the workflow.
        begun: Whether calls for it may have been made. A run that was cancelled before that has sent nothing.
        result: The result, if the run has ended and was not cancelled.
        updated: When the row was last written. For a run that has ended, this is its end.
    """

    task: Task
    status: str
    begun: bool
    result: BatchResult | None
    updated: datetime

    @property
    def open(self) -> bool:
        """Whether it is queued or running."""
        return self.status in OPEN_STATUSES

    @property
    def queued(self) -> bool:
        """Whether no worker has taken it yet."""
        return self.status in QUEUED_STATUSES


def batch_id(job: str, number: int, turn: int) -> str:
    """The ID of the row for run *turn* (from 0) of batch *number*."""
    return f"{job}.{number}.{turn}"
