"""
[extra: aiohttp] aiohttp's connections in the place of the pool: faster, on asyncio only.

``AsyncGatePay(transport="aiohttp")``. The work is httpx-aiohttp's; what stands here makes it tell when a call has its
connection and when the first byte is about to leave, and puts its errors right.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

_extensions: ContextVar[dict[str, Any]] = ContextVar("the extensions of the request under way")


class OverAiohttp(AiohttpTransport):
    """
    An httpx transport over an aiohttp session of its own.

    Like ``OriginPool`` it calls a request's extensions ``on_slot`` and ``on_send``: when the waiting for a
    connection is over, and when the first byte is about to leave. Closing it cuts off the calls under way, too.

    Args:
        max_connections: Open at once.
        ssl_context: What to believe of certificates.
        proxy: The address of a proxy, or None.
    """

    tells_sending = True

    def __init__(self, *, max_connections: int, ssl_context: ssl.SSLContext, proxy: str | None) -> None:
        super().__init__(verify=ssl_context, proxy=httpx.Proxy(proxy) if proxy else None, client=self._session)
        self._max_connections = max_connections

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send *request* and read the head of its response.

        Raises:
            httpx.ConnectError: There is no connection to be had. Nothing was sent.
            httpx.TransportError: Any other failure.
        """
        token = _extensions.set(request.extensions)
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
            raise httpx.ConnectError("the client was closed; nothing was sent") from None
        finally:
            _extensions.reset(token)
        response.stream = _Body(cast("httpx.AsyncByteStream", response.stream))
        return response

    def _session(self) -> aiohttp.ClientSession:
        tell = aiohttp.TraceConfig()
        tell.on_connection_create_start.append(_has_slot)
        tell.on_connection_create_end.append(_is_sending)
        tell.on_connection_reuseconn.append(_has_slot)
        tell.on_connection_reuseconn.append(_is_sending)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, ssl=self.ssl_context),
            cookie_jar=aiohttp.DummyCookieJar(),  # what one call was given is nothing to the next
            trace_configs=[tell],
        )


class _Body(httpx.AsyncByteStream):
    """A response's body; what aiohttp raises when its session was closed meanwhile becomes httpx's error."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except RuntimeError as error:  # "Connection closed."
            raise httpx.ReadError(str(error)) from error

    async def aclose(self) -> None:
        """Give the connection back, or close it."""
        await self._stream.aclose()


async def _has_slot(*_: object) -> None:
    _extensions.get()["on_slot"]()


async def _is_sending(*_: object) -> None:
    _extensions.get()["on_send"]()
