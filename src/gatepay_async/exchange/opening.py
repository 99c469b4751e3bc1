"""Chooses how a client sends its calls: over its own connections, or over the user's client or transport."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import httpx

from gatepay_async.exchange.network import open_transport
from gatepay_async.exchange.over_httpx import OverClient, OverTransport
from gatepay_async.exchange.over_pool import OverPool
from gatepay_async.exchange.pages import AnyOrigin, Pages, open_client, share
from gatepay_async.exchange.port import Exchange

if TYPE_CHECKING:
    from gatepay_async.exchange.libraries import AnyClient, AnyTransport


async def open_exchange(
    base_url: str,
    *,
    max_connections: int,
    http_client: AnyClient | None,
    transport: AnyTransport | None,
    trust_env: bool,
    page_timeout: float | None,
) -> tuple[Exchange, Pages]:
    """
    Open the connections, unless the user has passed a client or transport. Also return the client for ``gatepay.http``.

    Raises:
        InvalidRequestError: The environment names an invalid proxy or invalid certificates.
    """
    if http_client is not None:
        return OverClient(http_client), Pages(lambda: cast("Any", http_client), ours=False)
    if transport is not None:
        return over(transport, ours=False), Pages(lambda: share(transport, page_timeout), ours=True)
    url = httpx.URL(base_url)
    own_transport = await open_transport(url, max_connections=max_connections, trust_env=trust_env)
    any_origin = AnyOrigin(own_transport, url, trust_env=trust_env)
    return over(own_transport, ours=True), Pages(lambda: open_client(any_origin, page_timeout), ours=True)


def over(transport: AnyTransport, *, ours: bool) -> Exchange:
    """Return the adapter for *transport*. Our own pool gets one that uses more than httpx's interface."""
    # Not isinstance(): a subclass may forward requests to another transport, which doesn't report when it sends.
    pool = sys.modules.get("gatepay_async.pool")
    if pool is not None and type(transport) is pool.OriginPool:
        return OverPool(cast("Any", transport), ours=ours)
    return OverTransport(transport, ours=ours)
