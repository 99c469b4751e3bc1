"""The rows of the database: one for each job, one for each run of each batch. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from gatepay_async.durable.records.batches import Batch
from gatepay_async.durable.records.bounds import whole
from gatepay_async.durable.records.manifest import JobManifest
from gatepay_async.durable.records.results import BatchResult

MAX_RUNS = 100_000  # runs of a batch; each one looks at those before it
QUEUED_STATUSES = ("ENQUEUED", "DELAYED")
OPEN_STATUSES = (*QUEUED_STATUSES, "PENDING")


@frozen
class JobRow:
    """A job's own row."""

    id: str
    active: bool
    created: datetime
    manifest: JobManifest


@frozen
class BatchRow:
    """
    A run of a batch.

    Attributes:
        turn: The first is 0.
        status: DBOS's.
        begun: Calls for it may have been made. A run that was only taken, and then cancelled, has sent nothing.
        result: What became of it, if it has ended by itself.
    """

    id: str
    turn: int
    batch: Batch
    status: str
    begun: bool
    result: BatchResult | None

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


def batch_of(identity: str, fields: Sequence[Any]) -> tuple[str, int, Batch]:
    """The job, the number of the run, and the batch that a row stands for."""
    job, number, turn = identity.rsplit(".", 2)
    return job, whole(int(turn), most=MAX_RUNS), Batch(int(number), *fields)
