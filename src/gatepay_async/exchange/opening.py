"""What carries a client's calls: its own connections, or what it was given."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, cast

import anyio.to_thread
import httpx
import sniffio

from gatepay_async.exchange.own import OverPool, Preparing
from gatepay_async.exchange.pages import AnyOrigin, Pages, open_client, share
from gatepay_async.exchange.port import Exchange
from gatepay_async.exchange.way import Way, open_transport, way_to
from gatepay_async.exchange.yours import OverClient, OverTransport
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

if TYPE_CHECKING:
    from gatepay_async.exchange.libraries import AnyClient, AnyTransport
    from gatepay_async.over_aiohttp import OverAiohttp


async def open_exchange(
    base_url: str,
    *,
    max_connections: int,
    http_client: AnyClient | None,
    transport: AnyTransport | Literal["aiohttp"] | None,
    trust_env: bool,
    page_timeout: float | None,
) -> tuple[Exchange, Pages]:
    """
    Make the pool of its own, or the session, if it was not given what carries; and what ``gatepay.http`` gives.

    Raises:
        InvalidRequestError: aiohttp is not installed, or this is not asyncio; or the environment names a proxy or
            certificates that there are not.
    """
    if http_client is not None:
        return OverClient(http_client), Pages(lambda: cast("Any", http_client), ours=False)
    if transport is not None and not isinstance(transport, str):
        return over(transport, ours=False), Pages(lambda: share(transport, page_timeout), ours=True)
    url = httpx.URL(base_url)
    open_own = _open_own if transport is None else _open_aiohttp
    own = await open_own(url, max_connections, trust_env)
    any_origin = AnyOrigin(own, url, trust_env=trust_env)
    return over(own, ours=True), Pages(lambda: open_client(any_origin, page_timeout), ours=True)


def over(transport: AnyTransport, *, ours: bool) -> Exchange:
    """The adapter for *transport*: ours can do more than httpx asks for."""
    # One of yours may have a `prepare` of its own, or pass on what it doesn't know; nothing says when that one sends.
    if type(transport).__module__.partition(".")[0] == "gatepay_async" and isinstance(transport, Preparing):
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
