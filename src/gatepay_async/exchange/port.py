"""What the client asks of whoever carries its calls, and is told meanwhile."""

from __future__ import annotations

from typing import Protocol

from gatepay_async.protocol.messages import Reply
from gatepay_async.words.problem import Problem


class Watch(Protocol):
    """
    One attempt, as an exchange sees it: what to report, when.

    Attributes:
        reports_sending: ``sending`` is called before the first byte of the request leaves. Only then does it prove
            anything that ``sending`` was not called.
    """

    reports_sending: bool

    def waiting(self) -> None:
        """All connections are busy; the waiting begins."""

    def connected(self) -> None:
        """The waiting is over."""

    def interrupted(self) -> None:
        """
        A cancellation has cut the request off.

        If it wasn't the attempt's own, someone else's code goes on now, and may send without a report.
        """

    def sending(self) -> None:
        """The first byte of the request is about to leave."""


class Exchange(Protocol):
    """Posts bytes to a URL, or gets what is there, and reads the reply."""

    async def send(self, method: str, url: str, body: bytes, watch: Watch) -> Reply:
        """
        Make one attempt.

        Args:
            method: ``GET`` or ``POST``.
            url: Where to, with the query of a GET.
            body: Of a POST.
            watch: Is told how it goes.

        Raises:
            UnansweredError: Nobody answered.
            BadReplyError: The reply has no end, or a hook has used it up.
            ForeignError: Code that isn't ours raised something of its own.
            NotPermittedError: A test must not call there.
        """
        ...

    async def aclose(self) -> None:
        """Close what this exchange has opened itself."""


class UnansweredError(Exception):
    """
    Nobody answered.

    Attributes:
        problem: What happened, with nothing in it that a reply may have said.
        cause: The exception to chain, or None: it may quote a reply.
        proven: ``Watch.sending`` would have been called; if it was not, no byte has left.
    """

    def __init__(self, problem: Problem, *, cause: Exception | None, proven: bool) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cause = cause
        self.proven = proven


class ForeignError(Exception):
    """
    Code that isn't ours (a hook, an ``auth``, a transport) raised an error that is no network error of this call.

    Attributes:
        error: What it raised.
        proven: As above.
        sent: Whether a byte of the request may have left; who watches fills it in.
    """

    def __init__(self, error: Exception, *, proven: bool = False) -> None:
        super().__init__(type(error).__name__)
        self.error = error
        self.proven = proven
        self.sent = True


class BadReplyError(Exception):
    """
    There is a reply, and it can't be had.

    Attributes:
        status: HTTP's.
        problem: Why.
        retry_after: Seconds that the server asks to be left alone for, or None.
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
