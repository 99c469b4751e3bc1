"""The interface between the client and an exchange, which sends one request and reads its reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gatepay_async.protocol.messages import Reply
from gatepay_async.protocol.observing import Connections
from gatepay_async.words.problem import Problem


class Watch(Protocol):
    """
    Receives reports of an exchange about the progress of an attempt.

    Attributes:
        reports_sending: Whether the exchange always calls ``note_sending`` before the first byte of the request leaves.
            If not, a missing call of ``note_sending`` doesn't prove that nothing was sent.
        ends_at: The attempt's deadline, on the event loop's clock.
    """

    reports_sending: bool
    ends_at: float

    def note_wait(self) -> None:
        """All connections are busy: the attempt starts to wait for one."""

    def note_connection(self) -> None:
        """The attempt has a connection and waits no longer."""

    def note_cancellation(self) -> None:
        """
        The request was cancelled.

        If the attempt's own deadline didn't cancel it, ``reports_sending`` must become False: the user's code (a hook,
        a transport) may have cancelled it, and may send it again in a way that doesn't call ``note_sending``.
        """

    def note_sending(self) -> None:
        """The first byte of the request is about to leave."""


class Exchange(Protocol):
    """Sends one GET or POST request and reads the reply."""

    @property
    def post_at_once(self) -> Callable[[str, bytes, Watch], Awaitable[Reply | None]] | None:
        """
        A function that sends a POST over an open connection, or None if the exchange doesn't support that.

        The function enforces the deadline itself: at ``watch.ends_at`` it raises ``OutOfTimeError``. Its other errors
        are those of ``send``. If it can't send at once, for example because a connection has to be opened first, it
        sends nothing and returns None. Then the caller has to use ``send``.
        """
        ...

    async def send(self, method: str, url: str, body: bytes, watch: Watch) -> Reply:
        """
        Make one attempt. The caller enforces the deadline by cancelling this.

        Args:
            method: ``GET`` or ``POST``.
            url: The full URL; for a GET, with its query.
            body: The body of a POST.
            watch: Receives the reports.

        Raises:
            UnansweredError: There is no reply.
            BadReplyError: The reply ends too early, or a hook has already consumed it.
            ForeignError: The user's code (a hook, an ``auth``, a transport) raised an error of its own.
            NotPermittedError: A test must not call that host.
        """
        ...

    def connections(self) -> Connections | None:
        """Count the connections. Any thread may call this. None: they can't be counted."""
        ...

    async def aclose(self) -> None:
        """Close what this exchange has opened itself, and nothing that the user passed in."""


class OutOfTimeError(Exception):
    """The attempt was not complete at ``Watch.ends_at``."""


class UnansweredError(Exception):
    """
    There is no reply.

    Attributes:
        problem: Why there is none. It never quotes a reply.
        cause: The exception to chain, or None if that exception may quote a reply.
        unsent_if_unreported: Whether a missing call of ``Watch.note_sending`` proves that no byte has left. True
            if the code that failed always calls it before the first byte leaves.
    """

    def __init__(self, problem: Problem, *, cause: Exception | None, unsent_if_unreported: bool) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cause = cause
        self.unsent_if_unreported = unsent_if_unreported


class ForeignError(Exception):
    """
    Code that isn't ours (a hook, an ``auth``, a transport) raised an error that is no network error of this call.

    Attributes:
        error: The error that the code raised.
        unsent_if_unreported: See ``UnansweredError``.
        sent: Whether a byte of the request may have left. The code that made the attempt sets it (``attempts.py``).
    """

    def __init__(self, error: Exception, *, unsent_if_unreported: bool = False) -> None:
        super().__init__(type(error).__name__)
        self.error = error
        self.unsent_if_unreported = unsent_if_unreported
        self.sent = True


class BadReplyError(Exception):
    """
    A reply has begun to arrive, but it can't be read to its end.

    Attributes:
        status: The HTTP status.
        problem: Why it can't be read.
        retry_after: Seconds from the server's ``Retry-After``, or None.
    """

    def __init__(self, status: int, problem: Problem, *, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


class NotPermittedError(Exception):
    """
    A test must not call that host; nothing was sent.

    Attributes:
        problem: Why, and how to allow it.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
