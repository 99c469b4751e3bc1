"""Chooses how a client sends its calls: over its own connections, or over the user's client or transport."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import httpx

from gatepay_async.exchange.network import open_transport
from gatepay_async.exchange.over_httpx import OverClient, OverTransport
from gatepay_async.exchange.pages import AnyOriginTransport, LazyClient, open_client, open_sharing_client
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
    lazy_client_timeout: float | None,
) -> tuple[Exchange, LazyClient]:
    """
    Return the exchange for the calls, and the client for ``gatepay.http``.

    Connections of our own are opened only if *http_client* and *transport* are None. *lazy_client_timeout* is the
    time-out of the client for ``gatepay.http``, unless that is the user's *http_client*.

    Raises:
        InvalidRequestError: The environment names an invalid proxy or invalid certificates.
    """
    if http_client is not None:
        return OverClient(http_client), LazyClient(lambda: cast("Any", http_client), owns_client=False)
    if transport is not None:
        return exchange_over(transport, owns_transport=False), LazyClient(
            lambda: open_sharing_client(transport, lazy_client_timeout), owns_client=True
        )
    url = httpx.URL(base_url)
    own_transport = await open_transport(url, max_connections=max_connections, trust_env=trust_env)
    any_origin = AnyOriginTransport(own_transport, url, trust_env=trust_env)
    return exchange_over(own_transport, owns_transport=True), LazyClient(
        lambda: open_client(any_origin, lazy_client_timeout), owns_client=True
    )


def exchange_over(transport: AnyTransport, *, owns_transport: bool) -> Exchange:
    """
    Return an exchange over *transport*. For our own pool, it uses more than httpx's interface of transports.

    Args:
        transport: The transport.
        owns_transport: Whether our client created the transport, and the exchange closes it.
    """
    if "gatepay_async.pool" in sys.modules:  # importing the pool takes as long as importing everything else
        from gatepay_async.exchange.over_pool import OverPool  # noqa: PLC0415 -- see above
        from gatepay_async.pool import OriginPool  # noqa: PLC0415 -- see above

        # Not isinstance(): a subclass may forward requests to another transport, which doesn't report when it sends.
        if type(transport) is OriginPool:
            return OverPool(transport, owns_transport=owns_transport)
    return OverTransport(transport, owns_transport=owns_transport)
