"""
Over your own objects of httpx or httpx2, by what the two document alike and nothing else. Imports neither.

Hooks, ``auth`` and transports are code that isn't ours, and run in the middle of a call. What they raise is told from
what the network does: a network error of this call becomes an ``UnansweredError``, all else a ``ForeignError``.
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

Request = TypeVar("Request")
Outcome = Reply | BadReplyError | ForeignError | UnansweredError
Classify = Callable[[Exception, Any, Trace], Awaitable[Outcome]]


class OverClient:
    """Over a client of yours, used as it is: its hooks, ``auth``, mounts and cookies included."""

    post_at_once = None

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
        """None: they are yours."""

    async def aclose(self) -> None:
        """Leave it open: it is yours."""

    async def _send_with_client(self, request: Any) -> Any:
        # Never followed: a signed form must not travel elsewhere.
        return await self._client.send(request, stream=True, follow_redirects=False)

    async def _classify_in_hooks(self, error: Exception, request: Any, trace: Trace) -> Outcome:
        hooks = self._client.event_hooks
        if _is_raised_in(error, hooks["response"]):
            trace.reply_received()
            # The connection may break while the hook reads the reply.
            if not isinstance(error, classes("HTTPError")) or not _is_about(error, request):
                return ForeignError(error)
        elif _is_raised_in(error, hooks["request"]):
            # Before it is sent; but an `auth` may send several times, and be in the middle of it.
            return ForeignError(error, proven=self._client.auth is None)
        elif isinstance(error, classes("HTTPError")) and not _is_about(error, request):
            return ForeignError(error)  # of another request, which an `auth` has made
        return await _classify(error, request, trace)


class OverTransport:
    """
    Over a transport of yours, or httpx's own to a proxy, without a client in between.

    There is nothing to redirect, to log in to, or to keep cookies for.

    Args:
        ours: It is the client's own: closed with it, and kept from calling elsewhere in a test.
    """

    post_at_once = None

    def __init__(self, transport: AnyTransport, *, ours: bool) -> None:
        self._transport: Any = transport
        self._library = library_of(transport, "AsyncBaseTransport")
        self._ours = ours
        self._is_guarded = ours and in_pytest()

    async def send(self, method: str, url: str, body: bytes, watch: Watch) -> Reply:
        """Make one attempt."""
        permit = partial(check_permitted, self._library.URL(url).host) if self._is_guarded else None
        trace = Trace(watch, permit=permit)
        request = self._library.Request(
            method, url, headers=HEADERS_OF[method], content=body or None, extensions={"trace": trace.on_event}
        )
        return await _make_attempt(self._transport.handle_async_request, request, trace, _classify)

    def connections(self) -> None:
        """None: httpx doesn't say."""

    async def aclose(self) -> None:
        """Close it, if it is the client's own."""
        if self._ours:
            await self._transport.aclose()


async def _make_attempt(
    send: Callable[[Request], Awaitable[Any]], request: Request, trace: Trace, classify: Classify
) -> Reply:
    try:
        return await read_reply(await send(request))
    except (BadReplyError, NotPermittedError):
        raise
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is sorted
        outcome = await classify(error, request, trace)
    except BaseException as error:
        if not _is_stray_cancellation(error):
            raise
        problem = Problem("foreign_cancellation")
        outcome = UnansweredError(problem, cause=None, proven=False)
    # Not within the `except`: what is raised there would be chained, and httpx's errors hold the request.
    if isinstance(outcome, Reply):
        return outcome
    raise outcome


async def _classify(error: Any, request: Any, trace: Trace) -> Outcome:
    if isinstance(error, classes("HTTPStatusError")):
        return await _reply_of_error(error) if _is_about(error, request) else ForeignError(error)
    # SOCKS proxies that hang up make httpcore fail in ways of its own; the trace has seen them.
    traced = trace.has_traced(error)
    if traced or is_unanswered(error):
        return unanswered_error(error, proven=traced)
    return ForeignError(error)


async def _reply_of_error(error: Any) -> Outcome:
    """The reply whose status was raised (``raise_for_status()`` in a hook): it is known, if it was read."""
    try:
        return await read_reply(error.response)
    except BadReplyError as bad:
        return bad
    except errors("HTTPError") as broken:
        return unanswered_error(broken, proven=False)
    except Exception as other:  # noqa: BLE001 -- of a response that isn't httpx's
        return ForeignError(other)


def _is_about(error: Any, request: Any) -> bool:
    """Whether *error* is about *request*, or what an ``auth`` has made of it."""
    try:
        about = error.request
    except RuntimeError:  # it says nothing
        return False
    return bool(about.extensions.get("trace") == request.extensions["trace"])


def _is_raised_in(error: Exception, hooks: Iterable[Callable[..., Any]]) -> bool:
    """Whether *error* has come through one of *hooks*; where that can't be told, it hasn't."""
    codes = {_code_of(hook) for hook in hooks}
    return any(frame.f_code in codes for frame, _ in walk_tb(error.__traceback__))


def _code_of(hook: Callable[..., Any]) -> CodeType | None:
    while isinstance(hook, partial):
        hook = hook.func
    code = getattr(hook, "__code__", None) or getattr(type(hook).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _is_stray_cancellation(error: BaseException) -> bool:
    """Whether *error* is a cancellation that nobody asked of this task: asyncio's, out of a task that was awaited."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and not task.cancelling()
