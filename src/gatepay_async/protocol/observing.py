"""The protocols of what is told of calls: it limits the calls of uploads, or reports them as telemetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from attrs import frozen

from gatepay_async.protocol.errors import OutcomeUnknownError, RefusedError
from gatepay_async.protocol.raw import Outgoing

# Called at the end of an attempt: with None after a success, or with the exception, which may be a cancellation; and
# with the HTTP status of the reply, or None if no whole reply came.
Ended: TypeAlias = Callable[[BaseException | None, int | None], None]

# Called with the result of an upload or a batch: card keys by column of the report, and what stopped it, or None.
Recorded: TypeAlias = Callable[[Mapping[str, int], BaseException | None], None]


class Observer(Protocol):
    """Called when an attempt begins. It must not raise, and must not keep the call or the error."""

    def __call__(self, call: Outgoing, attempt: int, /) -> Ended:
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
    Is told of the calls and uploads of a client. It must not raise, and keep neither calls nor errors.

    What a method returns is entered and left in the same task.
    """

    def call(self, call: Outgoing, /) -> AbstractContextManager[Observer | None]:
        """Note a call, from before its first attempt to its end. Entering returns what is told of its attempts."""
        ...

    def upload(self) -> AbstractContextManager[Recorded]:
        """Note an upload."""
        ...


class Telemetry(Protocol):
    """Is told of clients, callbacks and durable uploads. It must not raise, and keep neither calls nor errors."""

    def client(self, client: ClientFacts, /) -> ClientObserver:
        """Return what is told of the calls of *client*."""
        ...

    def callback(self, event: str, error: BaseException | None, /) -> None:
        """Note the *event* that a delivery of a callback has led to."""
        ...

    def submission(self, queue: str, /) -> AbstractContextManager[str]:
        """Note that a job is submitted. Entering returns text that is stored with it; ``batch`` gets it."""
        ...

    def batch(self, queue: str, batch: str, submitted: str, /) -> AbstractContextManager[Recorded]:
        """Note that a worker runs the batch of that name. *submitted* may be any text: it comes from a database."""
        ...


@frozen
class Connections:
    """
    The connections of a client at one moment.

    Attributes:
        busy: In use: connecting, talking, closing.
        idle: Open and at rest.
        waiting: Calls that wait for a connection.
    """

    busy: int
    idle: int
    waiting: int


@frozen
class ClientFacts:
    """
    What an observer may know of a client.

    Attributes:
        base_url: Where its calls go.
        cloud_base_url: Where those go that are for the cloud; None: nowhere.
        connections: Counts the connections, in any thread; None where they can't be counted.
    """

    base_url: str
    cloud_base_url: str | None
    connections: Callable[[], Connections | None]


def both(first: Observer | None, second: Observer) -> Observer:
    """Tell both of them. What *second* notes lies within what *first* does."""
    if first is None:
        return second

    def observer(call: Outgoing, attempt: int, /) -> Ended:
        end_first, end_second = first(call, attempt), second(call, attempt)

        def ended(error: BaseException | None, http_status: int | None) -> None:
            end_second(error, http_status)
            end_first(error, http_status)

        return ended

    return observer


def outcome_of(error: BaseException | None) -> str:
    """How a call has ended."""
    if error is None:
        return "success"
    if isinstance(error, RefusedError):
        return "refused"
    if isinstance(error, OutcomeUnknownError):
        return "unknown"
    return "failed" if isinstance(error, Exception) else "cancelled"
