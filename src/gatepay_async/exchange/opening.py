"""What carries a client's calls: its own connections, or what it was given."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import httpx

from gatepay_async.exchange.own import OverPool
from gatepay_async.exchange.pages import AnyOrigin, Pages, open_client, share
from gatepay_async.exchange.port import Exchange
from gatepay_async.exchange.way import open_transport
from gatepay_async.exchange.yours import OverClient, OverTransport

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
    Make the pool of its own, if it was not given what carries; and what ``gatepay.http`` gives.

    Raises:
        InvalidRequestError: The environment names a proxy or certificates that there are not.
    """
    if http_client is not None:
        return OverClient(http_client), Pages(lambda: cast("Any", http_client), ours=False)
    if transport is not None:
        return over(transport, ours=False), Pages(lambda: share(transport, page_timeout), ours=True)
    url = httpx.URL(base_url)
    own = await open_transport(url, max_connections=max_connections, trust_env=trust_env)
    any_origin = AnyOrigin(own, url, trust_env=trust_env)
    return over(own, ours=True), Pages(lambda: open_client(any_origin, page_timeout), ours=True)


def over(transport: AnyTransport, *, ours: bool) -> Exchange:
    """The adapter for *transport*: ours can do more than httpx asks for."""
    # Its very class: one derived from it may pass on what it doesn't know, and nothing says when that one sends.
    pool = sys.modules.get("gatepay_async.pool")
    if pool is not None and type(transport) is pool.OriginPool:
        return OverPool(cast("Any", transport), ours=ours)
    return OverTransport(transport, ours=ours)
