"""
Exchanges over the user's own client or transport of httpx or httpx2.

They use only what both libraries document. This module imports neither of the libraries.

The user's hooks, ``auth`` and transports run in the middle of a call and may raise any error. A network error of this
call becomes an ``UnansweredError``, every other error a ``ForeignError``.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from traceback import walk_tb
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar

from gatepay_async.exchange.failures import is_unanswered, unanswered_error
from gatepay_async.exchange.headers import HEADERS_OF
from gatepay_async.exchange.libraries import classes, errors, library_of
from gatepay_async.exchange.permission import check_permitted, in_pytest
from gatepay_async.exchange.port import BadReplyError, ForeignError, NotPermittedError, UnansweredError, Watch
from gatepay_async.exchange.replies import read_reply
from gatepay_async.exchange.tracing import Trace
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.messages import Reply
from gatepay_async.words.problem import Problem

if TYPE_CHECKING:
    from gatepay_async.exchange.libraries import AnyClient, AnyTransport

AnyRequest = TypeVar("AnyRequest")
# The reply of an attempt, or the error to raise.
AttemptOutcome = Reply | BadReplyError | ForeignError | UnansweredError
# Turns the error that ended an attempt, with its request and trace, into an outcome.
Classify = Callable[[Exception, Any, Trace], Awaitable[AttemptOutcome]]


class OverClient:
    """An exchange over the user's client, with its hooks, ``auth``, mounts and cookies."""

    post_at_once = None  # not supported; see ``Exchange``

    def __init__(self, client: AnyClient) -> None:
        self._client: Any = client

    async def send(self, method: str, url: str, body: bytes, watch: Watch) -> Reply:
        """Make one attempt."""
        if self._client.is_closed:
            raise InvalidRequestError(field="http_client", problem=Problem("closed"))
        trace = Trace(watch)
        request = self._client.build_request(
            method, url, headers=HEADERS_OF[method], content=body or None, extensions={"trace": trace.on_event}
        )
        return await _make_attempt(self._send_with_client, request, trace, self._classify_in_hooks)

    def connections(self) -> None:
        """Return None: the user's client doesn't report its connections."""

    async def aclose(self) -> None:
        """Do nothing: the user closes the client."""

    async def _send_with_client(self, request: Any) -> Any:
        # Redirects are never followed: a signed form must not reach another host.
        return await self._client.send(request, stream=True, follow_redirects=False)

    async def _classify_in_hooks(self, error: Exception, request: Any, trace: Trace) -> AttemptOutcome:
        """Decide as ``_classify`` does, but also detect errors of the user's hooks and ``auth``."""
        hooks = self._client.event_hooks
        if _is_raised_in(error, hooks["response"]):
            trace.reply_received()
            # The connection may break while the hook reads the reply.
            if not isinstance(error, classes("HTTPError")) or not _is_about(error, request):
                return ForeignError(error)
        elif _is_raised_in(error, hooks["request"]):
            # Request hooks run before the request is sent. But an `auth` may send several requests, so an earlier
            # request may have left.
            return ForeignError(error, unsent_if_unreported=self._client.auth is None)
        elif isinstance(error, classes("HTTPError")) and not _is_about(error, request):
            return ForeignError(error)  # the error of another request, which an `auth` has sent
        return await _classify(error, request, trace)


class OverTransport:
    """
    An exchange over the user's transport, or over httpx's transport to a proxy.

    It needs no httpx client: GatePay's calls use no redirects, ``auth`` or cookies.

    Args:
        transport: The transport.
        owns_transport: Whether our client created the transport. If so, ``aclose`` closes the transport, and tests may
            call only permitted hosts.
    """

    post_at_once = None  # not supported; see ``Exchange``

    def __init__(self, transport: AnyTransport, *, owns_transport: bool) -> None:
        self._transport: Any = transport
        self._library = library_of(transport, "AsyncBaseTransport")
        self._owns_transport = owns_transport
        self._is_guarded = owns_transport and in_pytest()  # whether to check that a test may call the host

    async def send(self, method: str, url: str, body: bytes, watch: Watch) -> Reply:
        """Make one attempt."""
        check_host = partial(check_permitted, self._library.URL(url).host) if self._is_guarded else None
        trace = Trace(watch, check_host=check_host)
        request = self._library.Request(
            method, url, headers=HEADERS_OF[method], content=body or None, extensions={"trace": trace.on_event}
        )
        return await _make_attempt(self._transport.handle_async_request, request, trace, _classify)

    def connections(self) -> None:
        """Return None: httpx doesn't report its connections."""

    async def aclose(self) -> None:
        """Close the transport, if our client made it."""
        if self._owns_transport:
            await self._transport.aclose()


async def _make_attempt(
    send: Callable[[AnyRequest], Awaitable[Any]], request: AnyRequest, trace: Trace, classify: Classify
) -> Reply:
    """Send *request* and return its reply, or raise the error that *classify* returns."""
    try:
        return await read_reply(await send(request))
    except (BadReplyError, NotPermittedError):
        raise
    except Exception as error:  # noqa: BLE001 -- the function classify handles every error
        outcome = await classify(error, request, trace)
    except BaseException as error:
        if not _is_stray_cancellation(error):
            raise
        problem = Problem("foreign_cancellation")
        outcome = UnansweredError(problem, cause=None, unsent_if_unreported=False)
    # Raised outside the `except`, so that httpx's error is not chained: it holds the request.
    if isinstance(outcome, Reply):
        return outcome
    raise outcome


async def _classify(error: Any, request: Any, trace: Trace) -> AttemptOutcome:
    """Decide whether *error* contains a reply, means that there is no reply, or is an error of the user's code."""
    if isinstance(error, classes("HTTPStatusError")):
        return await _reply_of_error(error) if _is_about(error, request) else ForeignError(error)
    # If a SOCKS proxy closes the connection, httpcore raises errors that httpx doesn't translate. The trace has
    # recorded them.
    traced = trace.has_traced(error)
    if traced or is_unanswered(error):
        return unanswered_error(error, unsent_if_unreported=traced)
    return ForeignError(error)


async def _reply_of_error(error: Any) -> AttemptOutcome:
    """Return the reply in the error of a hook's ``raise_for_status()``, or the error if that reply can't be read."""
    try:
        return await read_reply(error.response)
    except BadReplyError as bad:
        return bad
    except errors("HTTPError") as broken:
        return unanswered_error(broken, unsent_if_unreported=False)
    except Exception as other:  # noqa: BLE001 -- the response may not be httpx's
        return ForeignError(other)


def _is_about(error: Any, request: Any) -> bool:
    """Whether *error* is about *request*, or about a copy of it that an ``auth`` has made."""
    try:
        failed_request = error.request
    except RuntimeError:  # httpx raises this if the error has no request
        return False
    # A copy has the same extensions.
    return bool(failed_request.extensions.get("trace") == request.extensions["trace"])


def _is_raised_in(error: Exception, hooks: Iterable[Callable[..., Any]]) -> bool:
    """Whether the traceback of *error* goes through one of *hooks*. False for a hook without Python code."""
    codes = {_code_of(hook) for hook in hooks}
    return any(frame.f_code in codes for frame, _ in walk_tb(error.__traceback__))


def _code_of(hook: Callable[..., Any]) -> CodeType | None:
    """Return the code object that a traceback shows for *hook*. None: it has no Python code."""
    while isinstance(hook, partial):
        hook = hook.func
    code = getattr(hook, "__code__", None) or getattr(type(hook).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _is_stray_cancellation(error: BaseException) -> bool:
    """Whether *error* comes from another asyncio task, which was cancelled while this task awaited it."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and not task.cancelling()  # this task itself was not cancelled
