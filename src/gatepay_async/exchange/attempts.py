"""
Makes one attempt of a call: sends the request, enforces the time limit and returns the ``Reply``.

If that fails, it raises a ``TransportError``, which says whether a byte of the request may have left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import anyio
import httpx
from attrs import define

from gatepay_async.event_loop import current_clock
from gatepay_async.exchange.logs import hide_queries_from_logs
from gatepay_async.exchange.pages import LazyClient
from gatepay_async.exchange.port import (
    BadReplyError,
    Exchange,
    ForeignError,
    NotPermittedError,
    OutOfTimeError,
    UnansweredError,
)
from gatepay_async.protocol.errors import DeadlineExceededError, InvalidRequestError, ProtocolError, TransportError
from gatepay_async.protocol.masking import hide_keys
from gatepay_async.protocol.messages import Reply
from gatepay_async.protocol.observing import Connections
from gatepay_async.protocol.raw import Outgoing
from gatepay_async.words.problem import Problem


@define
class _Attempt:
    """
    The state and the time limit of one attempt. The exchange reports to it, as its ``Watch``.

    Attributes:
        ends_at: The attempt's deadline, on the event loop's clock.
        call_ends_at: The deadline of the whole call, on the same clock.
        timeout: Seconds for the attempt, from connect to last byte.
        now: Returns the time on that clock.
        cancel_scope: Cancels the attempt at ``ends_at``. None: the exchange enforces the deadline itself.
        sent: Whether a byte of the request has left or is about to leave.
        reports_sending: See ``Watch`` in ``exchange/port.py``.
    """

    ends_at: float
    call_ends_at: float
    timeout: float
    now: Callable[[], float]
    cancel_scope: anyio.CancelScope | None = None
    sent: bool = False
    reports_sending: bool = False

    def deadline_scope(self) -> anyio.CancelScope:
        """Return a scope that cancels the attempt at its deadline, even if the deadline moves."""
        self.cancel_scope = anyio.CancelScope(deadline=self.ends_at)
        return self.cancel_scope

    def note_wait(self) -> None:
        self._set_deadline(self.call_ends_at)  # waiting for a connection doesn't count towards the time-out

    def note_connection(self) -> None:
        self._set_deadline(min(self.call_ends_at, self.now() + self.timeout))

    def note_cancellation(self) -> None:
        # Only our own deadline keeps the reports complete; see Watch.note_cancellation.
        self.reports_sending = self.cancel_scope is not None and self.cancel_scope.cancel_called

    def note_sending(self) -> None:
        self.sent = True

    def _set_deadline(self, end: float) -> None:
        self.ends_at = end
        if self.cancel_scope is not None:
            self.cancel_scope.deadline = end


class Attempts:
    """
    Makes attempts at one base URL.

    Args:
        base_url: The URL, with a slash at its end.
        timeout: Seconds for one attempt, from connect to last byte.
        open_exchange: Opens the exchange for calls, and the ``LazyClient`` for ``gatepay.http``. Called on the
            event loop.

    Attributes:
        now: The event loop's clock, after ``open``.
    """

    def __init__(
        self, base_url: str, *, timeout: float, open_exchange: Callable[[], Awaitable[tuple[Exchange, LazyClient]]]
    ) -> None:
        self._base_url = base_url
        self._timeout = timeout
        self._open_exchange = open_exchange
        self._exchange: Exchange | None = None
        self._lazy_client: LazyClient | None = None
        self._opening = anyio.Lock()
        self.now: Callable[[], float] = anyio.current_time

    async def open(self) -> None:
        """
        Open the exchange, unless it is open.

        Raises:
            InvalidRequestError: The exchange can't be opened.
        """
        self.now = current_clock()
        async with self._opening:
            if self._exchange is None:
                self._exchange, self._lazy_client = await self._open_exchange()

    async def aclose(self) -> None:
        """Close the exchange and the httpx client, if they are open."""
        try:
            if self._lazy_client is not None:
                await self._lazy_client.aclose()
        finally:
            if self._exchange is not None:
                await self._exchange.aclose()

    def http(self) -> httpx.AsyncClient:
        """Return the httpx client for ``gatepay.http``."""
        return cast("LazyClient", self._lazy_client).client()

    def connections(self) -> Connections | None:
        """Count the connections, after ``open``. None: the exchange can't count them."""
        return cast("Exchange", self._exchange).connections()

    async def make(self, call: Outgoing, form: bytes, *, ends_at: float) -> Reply:
        """
        Make one attempt.

        Args:
            call: The call, which has the path and the method.
            form: The body of a POST, the query of a GET.
            ends_at: The whole call's deadline, on the event loop's clock.

        Raises:
            TransportError: There is no reply. ``DeadlineExceededError`` if the whole call's deadline has passed.
            ProtocolError: The reply ends too early, or a hook has already consumed it.
            ForeignError: The user's code raised an error of its own. ``.sent`` is set.
            InvalidRequestError: A test must not call that host.
        """
        exchange = cast("Exchange", self._exchange)  # open() has set it
        now = self.now()
        if now >= ends_at:  # the wait before this attempt took too long
            raise DeadlineExceededError(endpoint=call.path, sent=False, problem=Problem("deadline_passed"))
        attempt = _Attempt(
            ends_at=min(ends_at, now + self._timeout), call_ends_at=ends_at, timeout=self._timeout, now=self.now
        )
        failure: Exception | None = None
        url, body = self._base_url + call.path, form
        try:
            if call.method == "GET":
                hide_queries_from_logs()
                url, body = f"{url}?{form.decode('ascii')}", b""
            elif exchange.post_at_once is not None and (reply := await exchange.post_at_once(url, form, attempt)):
                return reply
            with attempt.deadline_scope():
                return await exchange.send(call.method, url, body, attempt)
        except OutOfTimeError:
            pass
        except (UnansweredError, ForeignError, BadReplyError, NotPermittedError) as error:
            failure = error
        if failure is None:
            raise self._timeout_error(call, attempt)
        if isinstance(failure, UnansweredError):
            sent = attempt.sent or not failure.unsent_if_unreported
            hide = partial(hide_keys, keys=call.secrets())
            problem, cause = failure.problem.with_facts(hide), failure.cause
            if cause is not None:
                cause.args = (hide(str(cause)),)
            del failure  # its traceback would keep the form, with its secrets, in memory
            raise TransportError(endpoint=call.path, sent=sent, problem=problem) from cause
        raise _to_public_error(call, failure, attempt)

    def _timeout_error(self, call: Outgoing, attempt: _Attempt) -> TransportError:
        """Return the error for an attempt, or a whole call, that reached its deadline."""
        sent = attempt.sent or not attempt.reports_sending
        # Not only now(): a timer may fire a little before its time.
        if max(self.now(), attempt.ends_at) >= attempt.call_ends_at:
            return DeadlineExceededError(endpoint=call.path, sent=sent, problem=Problem("deadline_passed"))
        problem = Problem("no_whole_reply", seconds=self._timeout)
        return TransportError(endpoint=call.path, sent=sent, problem=problem)


def _to_public_error(call: Outgoing, failure: Exception, attempt: _Attempt) -> Exception:
    """Return the public error for *failure*. A ``ForeignError`` is returned itself, with ``.sent`` set."""
    if isinstance(failure, ForeignError):
        failure.sent = attempt.sent or not failure.unsent_if_unreported
    if isinstance(failure, BadReplyError):
        return ProtocolError(
            endpoint=call.path,
            http_status=failure.status,
            problem=failure.problem,
            path="reply",
            retry_after=failure.retry_after,
        )
    if isinstance(failure, NotPermittedError):
        return InvalidRequestError(field="base_url", problem=failure.problem)
    return failure
