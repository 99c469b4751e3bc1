"""What carries a client's calls: its own connections, or what it was given."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import anyio.to_thread
import httpx
import sniffio

from gatepay_async.exchange.own import OverPool, Preparing
from gatepay_async.exchange.port import Exchange
from gatepay_async.exchange.way import Way, open_transport, way_to
from gatepay_async.exchange.yours import OverClient, OverTransport
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

if TYPE_CHECKING:
    from gatepay_async.over_aiohttp import OverAiohttp


async def open_exchange(
    base_url: str,
    *,
    max_connections: int,
    http_client: httpx.AsyncClient | None,
    transport: httpx.AsyncBaseTransport | Literal["aiohttp"] | None,
    trust_env: bool,
) -> Exchange:
    """
    Make the pool of its own, or the session, if it was not given what carries.

    Raises:
        InvalidRequestError: aiohttp is not installed, or this is not asyncio; or the environment names a proxy or
            certificates that there are not.
    """
    if http_client is not None:
        return OverClient(http_client)
    url = httpx.URL(base_url)
    if transport is None:
        return over(await _open_own(url, max_connections, trust_env), ours=True)
    if isinstance(transport, str):
        return over(await _open_aiohttp(url, max_connections, trust_env), ours=True)
    return over(transport, ours=False)


def over(transport: httpx.AsyncBaseTransport, *, ours: bool) -> Exchange:
    """The adapter for *transport*: ours can do more than httpx asks for."""
    if isinstance(transport, Preparing):
        return OverPool(transport, ours=ours)
    return OverTransport(transport, ours=ours)


async def _open_own(url: httpx.URL, max_connections: int, trust_env: bool) -> httpx.AsyncBaseTransport:  # noqa: FBT001 -- private
    return await open_transport(url, max_connections=max_connections, trust_env=trust_env)


async def _open_aiohttp(url: httpx.URL, max_connections: int, trust_env: bool) -> httpx.AsyncBaseTransport:  # noqa: FBT001 -- private
    problem = Problem("asyncio_only")
    if sniffio.current_async_library() == "asyncio":
        problem = Problem("needs_aiohttp")
        with suppress(ImportError):
            session, way = await anyio.to_thread.run_sync(_prepare_aiohttp, url, trust_env)
            proxy = None if way.proxy is None else str(way.proxy.url)
            return session(max_connections=max_connections, ssl_context=way.tls, proxy=proxy)
    raise InvalidRequestError(field="transport", problem=Problem("aiohttp_transport", problem=problem))


# In a worker thread, as in `way`.
def _prepare_aiohttp(url: httpx.URL, trust_env: bool) -> tuple[type[OverAiohttp], Way]:  # noqa: FBT001 -- private
    from gatepay_async.over_aiohttp import OverAiohttp  # noqa: PLC0415 -- see above; and it may not be there

    return OverAiohttp, way_to(url, trust_env=trust_env)
