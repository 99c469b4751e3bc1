"""The protocols of observers of calls. An observer limits the calls of an upload, or reports telemetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from attrs import frozen

from gatepay_async.protocol.errors import OutcomeUnknownError, RefusedError
from gatepay_async.protocol.raw import Outgoing

# Called at the end of an attempt, with two arguments: the exception (possibly a cancellation), or None after a success;
# and the HTTP status of the reply, or None if no complete reply arrived.
EndAttempt: TypeAlias = Callable[[BaseException | None, int | None], None]

# Called with the result of an upload or a batch: card keys by column of the report, and what stopped it, or None.
RecordResult: TypeAlias = Callable[[Mapping[str, int], BaseException | None], None]


class Observer(Protocol):
    """Called when an attempt begins. It must not raise, and must not keep the call or the error."""

    def __call__(self, call: Outgoing, attempt: int, /) -> EndAttempt:
        """
        Record that an attempt begins.

        Args:
            call: The call.
            attempt: The number of the attempt within the call, from 1.

        Returns:
            A function to call at the end of the attempt.
        """
        ...


class ClientObserver(Protocol):
    """
    Observes the calls and uploads of a client. It must not raise, and must not keep calls or errors.

    The returned context managers are entered and left in the same task.
    """

    def call(self, call: Outgoing, /) -> AbstractContextManager[Observer | None]:
        """Return a context for a call, around all its attempts. Entering it returns the observer of the attempts."""
        ...

    def upload(self) -> AbstractContextManager[RecordResult]:
        """Return a context for an upload. Entering it returns the function that records the result."""
        ...


class Telemetry(Protocol):
    """Observes clients, callbacks and durable uploads. It must not raise, and must not keep calls or errors."""

    def client(self, client: ClientFacts, /) -> ClientObserver:
        """Return the observer of *client*."""
        ...

    def callback(self, event: str, error: BaseException | None, /) -> None:
        """Record the *event* of a callback's delivery."""
        ...

    def submission(self, queue: str, /) -> AbstractContextManager[str]:
        """Return a context for submitting a job. Entering it returns a text to store with the job, for ``batch``."""
        ...

    def batch(self, queue: str, batch: str, trace_context: str, /) -> AbstractContextManager[RecordResult]:
        """
        Return a context for running a batch. Entering it returns the function that records the result.

        Args:
            queue: The name of the queue.
            batch: The name of the batch.
            trace_context: The text that ``submission`` returned. It comes from the database, so it may be invalid.
        """
        ...


@frozen
class Connections:
    """
    The connections of a client at one moment.

    Attributes:
        busy: The number of connections in use, including those that are being opened or closed.
        idle: The number of open, unused connections.
        waiting: The number of calls that wait for a connection.
    """

    busy: int
    idle: int
    waiting: int


@frozen
class ClientFacts:
    """
    The facts about a client for its observer.

    Attributes:
        base_url: The base URL.
        cloud_base_url: The base URL of the cloud, or None.
        connections: Counts the connections; any thread may call it. Returns None if they can't be counted.
    """

    base_url: str
    cloud_base_url: str | None
    connections: Callable[[], Connections | None]


def combine_observers(first: Observer | None, second: Observer) -> Observer:
    """Return an observer that calls *first* and *second*. *second* begins after *first* and ends before it."""
    if first is None:
        return second

    def observer(call: Outgoing, attempt: int, /) -> EndAttempt:
        end_first, end_second = first(call, attempt), second(call, attempt)

        def ended(error: BaseException | None, http_status: int | None) -> None:
            end_second(error, http_status)
            end_first(error, http_status)

        return ended

    return observer


def outcome_label(error: BaseException | None) -> str:
    """Return the result of a call as one word: success, refused, unknown, failed or cancelled."""
    if error is None:
        return "success"
    if isinstance(error, RefusedError):
        return "refused"
    if isinstance(error, OutcomeUnknownError):
        return "unknown"
    return "failed" if isinstance(error, Exception) else "cancelled"
