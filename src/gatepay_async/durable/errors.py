"""The errors that only durable uploads raise."""

from __future__ import annotations

from gatepay_async.protocol.errors import GatePayError
from gatepay_async.words.problem import Problem


class DurableError(GatePayError):
    """
    A durable upload can't be run, or its job doesn't exist. The message says what to do.

    Attributes:
        problem: What is wrong. Never repeats a card key.
    """

    def __init__(self, *, problem: str) -> None:
        self.problem = Problem.of(problem)
        super().__init__(problem)


class SourceChangedError(DurableError):
    """
    The card keys in the spool were deleted or changed, or an input changed while it was read.

    No changed card key is sent.

    Attributes:
        source: The name of the file or object.
    """

    def __init__(self, *, source: str, problem: str) -> None:
        self.source = source
        super().__init__(problem=Problem("source_lost", source=source, problem=problem))


class UnreadableRowError(DurableError):
    """A row of the database holds something that no version of this package writes. The message doesn't quote it."""

    def __init__(self, *, problem: str) -> None:
        super().__init__(problem=problem)


class QueueUnavailableError(DurableError):
    """
    The queue's database can't be reached, or fails. Nothing that was submitted is lost.

    Workers, and ``Job.wait()`` and ``Job.progress()``, continue by themselves when the database is available again.
    """

    _kind: str = "QueueUnavailableError"  # the class of the database's error, for the log

    def __init__(self, *, reason: str) -> None:
        self.reason = reason
        super().__init__(problem=Problem("queue_unavailable", reason=reason))
