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

MAX_RUNS = 100_000  # runs of a batch; each one looks at those before it
_MAX_FAILURES = 100  # runs
# In this order: rows of 0.1 hold values without names, and workers of both versions may share a queue.
_COLUMNS = ("product_id", "failures", "offset", "length", "digest", "count", "first_line", "last_line")
QUEUED_STATUSES = ("ENQUEUED", "DELAYED")
OPEN_STATUSES = (*QUEUED_STATUSES, "PENDING")


@frozen
class JobRow:
    """
    A job's own row.

    Attributes:
        submitted: What telemetry has noted of its submission; it may be any text.
    """

    id: str
    active: bool
    created: datetime
    manifest: JobManifest
    submitted: str = ""


@frozen
class Task:
    """
    A run of a batch, as the queue gives it.

    Attributes:
        job: Whose batch it is.
        turn: Which run; the first is 0.
        product_id: What the card keys are for.
        failures: Runs in a row before it that nobody answered.
        batch: What is to be sent.
    """

    job: str
    turn: int
    product_id: int
    failures: int
    batch: Batch

    @property
    def id(self) -> str:
        """The name of its row."""
        return batch_id(self.job, self.batch.number, self.turn)

    def to_row(self) -> tuple[str | int, ...]:
        """What stands in its row, besides its name."""
        facts = {"product_id": self.product_id, "failures": self.failures, **asdict(self.batch)}
        return tuple(facts[column] for column in _COLUMNS)

    @classmethod
    def from_row(cls, name: str, values: Sequence[Any]) -> Task:
        """
        From the database.

        Raises:
            ValueError, TypeError, LookupError: No version wrote that.
        """
        job, number, turn = name.rsplit(".", 2)
        facts: dict[str, Any] = dict(zip(_COLUMNS, values, strict=True))
        product_id, failures = whole(facts.pop("product_id")), whole(facts.pop("failures"), most=_MAX_FAILURES)
        batch = Batch(number=whole(int(number)), **facts)
        return cls(job, whole(int(turn), most=MAX_RUNS), product_id, failures, batch)


@frozen
class BatchRow:
    """
    What is known of a run of a batch.

    Attributes:
        task: What was queued.
        status: DBOS's.
        begun: Calls for it may have been made. A run that was only taken, and then cancelled, has sent nothing.
        result: What became of it, if it has ended by itself.
        updated: When its row was last written: once it has ended, its end.
    """

    task: Task
    status: str
    begun: bool
    result: BatchResult | None
    updated: datetime

    @property
    def open(self) -> bool:
        """It is queued, or being worked at."""
        return self.status in OPEN_STATUSES

    @property
    def queued(self) -> bool:
        """Nobody works at it yet."""
        return self.status in QUEUED_STATUSES


def batch_id(job: str, number: int, turn: int) -> str:
    """The name of a batch's run number *turn*, from 0."""
    return f"{job}.{number}.{turn}"
