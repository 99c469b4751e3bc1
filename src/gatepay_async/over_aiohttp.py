"""
[extra: aiohttp] aiohttp's connections in the place of the pool: faster, on asyncio only.

``AsyncGatePay(transport="aiohttp")``. The work is httpx-aiohttp's; what stands here makes it tell when a call has its
connection and when the first byte is about to leave, and puts its errors right.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, cast

import aiohttp
import httpx
from aiohttp.connector import Connection
from attrs import define
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict

from gatepay_async.words.problem import Problem

Post = Callable[[bytes, dict[str, Any]], Awaitable[httpx.Response]]


class OverAiohttp(AiohttpTransport):
    """
    An httpx transport over an aiohttp session of its own.

    Like ``OriginPool`` it calls a request's extensions ``on_wait`` and ``on_turn``, when the waiting for a connection
    begins and when it is over, ``on_connect``, if it is there, before it connects or looks a name up, and ``on_send``
    when the first byte is about to leave. Closing it cuts off the calls under way, too.

    Args:
        max_connections: Open at once.
        ssl_context: What to believe of certificates.
        proxy: The address of a proxy, or None.
    """

    tells_sending = True

    def __init__(self, *, max_connections: int, ssl_context: ssl.SSLContext, proxy: str | None) -> None:
        super().__init__(verify=ssl_context, proxy=httpx.Proxy(proxy) if proxy else None, client=self._session)
        self._max_connections = max_connections

    def prepare(self, method: str, url: httpx.URL, headers: httpx.Headers) -> Post:
        """
        Put in aiohttp's form, once, what is the same for all requests of a kind.

        Returns:
            What sends a body with extensions as ``handle_async_request`` does, without an httpx request.
        """
        address, lines = str(url), CIMultiDict(headers)

        def post(body: bytes, extensions: dict[str, Any]) -> Awaitable[httpx.Response]:
            outgoing = _Outgoing(method, address, lines, aiohttp.BytesPayload(body), extensions)
            return self.handle_async_request(cast("httpx.Request", outgoing))

        return post

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send *request* and read the head of its response.

        Raises:
            httpx.ConnectError: There is no connection to be had. Nothing was sent.
            httpx.TransportError: Any other failure.
        """
        state = _RequestState(request.extensions)
        token = _current_request.set(state)
        try:
            response = await super().handle_async_request(request)
        except httpx.TransportError as error:
            # httpx-aiohttp calls nearly every error a ConnectTimeout; the cause is aiohttp's own word.
            if isinstance(error.__cause__, aiohttp.ClientConnectorError):
                raise httpx.ConnectError(str(error)) from error.__cause__
            raise httpx.RemoteProtocolError(str(error)) from error.__cause__
        except aiohttp.ClientError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        except asyncio.CancelledError:
            # A session that is closed cancels those who wait for a connection, without their task being cancelled.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise httpx.ConnectError(Problem("client_closed")) from None
        finally:
            _current_request.reset(token)
        response.stream = _AiohttpBody(cast("_Reply", state.reply))
        return response

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # Without reuse: aiohttp keeps what a server sends between two calls, and takes it for the next reply.
            connector=_Connector(limit=self._max_connections, ssl=self.ssl_context, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),  # what one call was given is nothing to the next
            response_class=_Reply,
        )


@define
class _Outgoing:
    """What httpx-aiohttp reads of a request; to make one of httpx costs a quarter of what sending it does."""

    method: str
    url: str
    headers: CIMultiDict[str]
    content: aiohttp.BytesPayload
    extensions: dict[str, Any]


@define
class _RequestState:
    """A request under way: whom to tell of it, and aiohttp's reply, once that begins."""

    hooks: dict[str, Callable[[], None]]
    reply: _Reply | None = None


_current_request: ContextVar[_RequestState] = ContextVar("the request under way")


class _Connector(aiohttp.TCPConnector):
    """Tells how a request gets its connection. aiohttp's tracing could, but costs as much as sending it does."""

    async def connect(self, *request: Any, **options: Any) -> Connection:
        """Give a connection; what comes next is writing."""
        on_connect = _current_request.get().hooks.get("on_connect")
        if on_connect is not None:
            on_connect()
        connection = await super().connect(*request, **options)
        _current_request.get().hooks.get("on_send", _do_nothing)()
        return connection

    # Not for overriding, by its name. Should it go away, the clock of an attempt runs while it waits, and a test fails.
    async def _wait_for_available_connection(self, key: Any, traces: Any) -> None:
        hooks = _current_request.get().hooks
        hooks.get("on_wait", _do_nothing)()
        await super()._wait_for_available_connection(key, traces)
        hooks.get("on_turn", _do_nothing)()


def _do_nothing() -> None:
    """Stand in for a hook that a request doesn't have: `gatepay.http` sends others than calls."""


class _Reply(aiohttp.ClientResponse):
    """A reply that the state of its request knows."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the head."""
        _current_request.get().reply = self
        return await super().start(connection)


class _AiohttpBody(httpx.AsyncByteStream):
    """A response's body, read from aiohttp's reply itself; whatever goes wrong there becomes httpx's error."""

    def __init__(self, reply: _Reply) -> None:
        self._reply = reply

    # An iterator and no generator: nothing is left half-way.
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._reply.content.at_eof():
            raise StopAsyncIteration
        try:
            part = await self._reply.content.readany()
        except (aiohttp.ClientError, RuntimeError) as error:  # RuntimeError: the session was closed meanwhile
            raise httpx.ReadError(str(error)) from error
        if not part:
            raise StopAsyncIteration
        return part

    async def aclose(self) -> None:
        """Give the connection back, or close it."""
        self._reply.release()
        await self._reply.wait_for_close()
