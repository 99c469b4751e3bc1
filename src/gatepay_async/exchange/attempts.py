"""
One attempt: the bytes of a call go out, a ``Reply`` comes back.

Or a ``TransportError``, which knows whether a byte had left. Here the attempt's clock runs.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import anyio
import anyio.lowlevel
import httpx
from attrs import define

from gatepay_async.exchange.logs import hide_queries_from_logs
from gatepay_async.exchange.pages import Pages
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
    What is known of one attempt, and its clock: a ``Watch``.

    Attributes:
        ends: When it must have ended.
        call_ends: When the whole call must have ended.
        clock: Cancels the attempt then; None: whoever carries it keeps the time itself.
        sent: A byte of the request is about to leave, or has left.
        reports_sending: Whoever carries it would have said so.
    """

    ends: float
    call_ends: float
    timeout: float
    now: Callable[[], float]
    clock: anyio.CancelScope | None = None
    sent: bool = False
    reports_sending: bool = False

    def keep_time(self) -> anyio.CancelScope:
        self.clock = anyio.CancelScope(deadline=self.ends)
        return self.clock

    def waiting(self) -> None:
        self._put_end_at(self.call_ends)  # waiting for a connection is no part of the attempt

    def connected(self) -> None:
        self._put_end_at(min(self.call_ends, self.now() + self.timeout))

    def interrupted(self) -> None:
        self.reports_sending = self.clock is not None and self.clock.cancel_called

    def sending(self) -> None:
        self.sent = True

    def _put_end_at(self, end: float) -> None:
        self.ends = cast("anyio.CancelScope", self.clock).deadline = end


class Attempts:
    """
    Makes attempts at one base URL.

    Args:
        base_url: With a slash at its end.
        timeout: Seconds for one attempt, from connect to last byte.
        open_exchange: Gives what carries them and other requests, once the event loop runs.

    Attributes:
        now: The event loop's clock, once open.
    """

    def __init__(
        self, base_url: str, *, timeout: float, open_exchange: Callable[[], Awaitable[tuple[Exchange, Pages]]]
    ) -> None:
        self._base_url = base_url
        self._timeout = timeout
        self._open_exchange = open_exchange
        self._exchange: Exchange | None = None
        self._pages: Pages | None = None
        self._opening = anyio.Lock()
        self.now: Callable[[], float] = anyio.current_time

    async def open(self) -> None:
        """
        Open what carries the attempts, unless it is open.

        Raises:
            InvalidRequestError: It can't be opened.
        """
        # asyncio's own clock is anyio's too; asking it spares asking each time which loop it is.
        self.now = getattr(current_loop(), "time", anyio.current_time)
        async with self._opening:
            if self._exchange is None:
                self._exchange, self._pages = await self._open_exchange()

    async def aclose(self) -> None:
        """Close what ``open`` has opened, if it has."""
        try:
            if self._pages is not None:
                await self._pages.aclose()
        finally:
            if self._exchange is not None:
                await self._exchange.aclose()

    def http(self) -> httpx.AsyncClient:
        """An httpx client over what carries the attempts."""
        return cast("Pages", self._pages).client()

    def connections(self) -> Connections | None:
        """Count the connections of what carries the attempts, once it is open; None: it can't say."""
        return cast("Exchange", self._exchange).connections()

    async def make(self, call: Outgoing, form: bytes, *, ends: float) -> Reply:
        """
        Make one attempt.

        Args:
            call: Whose path it is sent to, and by which method.
            form: The body of a POST, the query of a GET.
            ends: When the whole call must have ended, on the event loop's clock.

        Raises:
            TransportError: Nobody answered; ``DeadlineExceededError`` if it is the call's time that is over.
            ProtocolError: The reply has no end, or a hook has used it up.
            ForeignError: Code that isn't ours raised something of its own; ``.sent`` is filled in.
            InvalidRequestError: A test must not call there.
        """
        exchange = cast("Exchange", self._exchange)  # open() has seen to it
        attempt = _Attempt(min(ends, self.now() + self._timeout), ends, self._timeout, self.now)
        failure: Exception | None = None
        url, body = self._base_url + call.path, form
        try:
            if call.method == "GET":
                hide_queries_from_logs()
                url, body = f"{url}?{form.decode('ascii')}", b""
            elif exchange.post_at_once is not None and (reply := await exchange.post_at_once(url, form, attempt)):
                return reply
            with attempt.keep_time():
                return await exchange.send(call.method, url, body, attempt)
        except OutOfTimeError:
            pass
        except (UnansweredError, ForeignError, BadReplyError, NotPermittedError) as error:
            failure = error
        if failure is None:
            raise self._timeout_error(call, attempt)
        if isinstance(failure, UnansweredError):
            sent = attempt.sent or not failure.proven
            hide = partial(hide_keys, keys=call.secrets())
            problem, cause = failure.problem.with_facts(hide), failure.cause
            if cause is not None:
                cause.args = (hide(str(cause)),)
            del failure  # its frames hold the form
            raise TransportError(endpoint=call.path, sent=sent, problem=problem) from cause
        raise _to_public_error(call, failure, attempt)

    def _timeout_error(self, call: Outgoing, attempt: _Attempt) -> TransportError:
        sent = attempt.sent or not attempt.reports_sending
        if self.now() >= attempt.call_ends:
            return DeadlineExceededError(endpoint=call.path, sent=sent, problem=Problem("deadline_passed"))
        problem = Problem("no_whole_reply", seconds=self._timeout)
        return TransportError(endpoint=call.path, sent=sent, problem=problem)


def _to_public_error(call: Outgoing, failure: Exception, attempt: _Attempt) -> Exception:
    if isinstance(failure, ForeignError):
        failure.sent = attempt.sent or not failure.proven
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


def current_loop() -> object:
    """The event loop that this runs on, for comparing."""
    # Where asyncio runs it is there; who runs trio need not import it.
    try:
        return sys.modules["asyncio"].get_running_loop()
    except (KeyError, AttributeError, RuntimeError):
        return anyio.lowlevel.current_token()
