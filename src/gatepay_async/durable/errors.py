"""What can go wrong with a durable upload, besides what can with a plain one."""

from __future__ import annotations

from gatepay_async.protocol.errors import GatePayError
from gatepay_async.words.problem import Problem


class DurableError(GatePayError):
    """
    A durable upload can't be run, or found, as things are; the text says what to do.

    Attributes:
        problem: What is wrong. Never repeats a card key.
    """

    def __init__(self, *, problem: str) -> None:
        self.problem = Problem.of(problem)
        super().__init__(problem)


class SourceChangedError(DurableError):
    """
    The card keys that were put aside for an upload are not there any more, or not as they were: none of them is sent.

    Attributes:
        source: Which file, or object.
    """

    def __init__(self, *, source: str, problem: str) -> None:
        self.source = source
        super().__init__(problem=Problem("source_lost", source=source, problem=problem))


class UnreadableRowError(DurableError):
    """A row of the database holds what this version would not write; nothing of it is quoted."""

    def __init__(self, *, problem: str) -> None:
        super().__init__(problem=problem)


class QueueUnavailableError(DurableError):
    """
    The queue's database can't be reached, or does not do what it is asked; what was submitted is safe in it.

    Workers, and who waits for a job, go on by themselves when it is back.
    """

    _kind: str = "QueueUnavailableError"  # what has happened in one word, for the log

    def __init__(self, *, reason: str) -> None:
        self.reason = reason
        super().__init__(problem=Problem("queue_unavailable", reason=reason))
