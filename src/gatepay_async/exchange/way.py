"""The way to a URL: TLS and proxy, as the environment says. The client, ``doctor`` and ``callback send`` ask here."""

from __future__ import annotations

import ssl

import anyio.to_thread
import httpx
from attrs import frozen

from gatepay_async.exchange.proxies import Bypass, Proxy, proxy_for
from gatepay_async.exchange.trust import trusted


@frozen
class Way:
    """
    How to reach a URL.

    Attributes:
        tls: What to trust; for a URL without TLS a context that is never used, unless by an https proxy.
        proxy: What to go through, or None.
    """

    tls: ssl.SSLContext
    proxy: Proxy | None

    def httpx_proxy(self) -> httpx.Proxy | None:
        """The proxy in httpx's terms. An https proxy is held to the same certificates."""
        if self.proxy is None:
            return None
        url = self.proxy.url
        return httpx.Proxy(url, ssl_context=self.tls if url.scheme == "https" else None)


def way_to(url: httpx.URL, *, trust_env: bool = True) -> Way:
    """
    Find the way to *url*. Reads files: call it from a thread.

    Args:
        url: Its scheme and host decide.
        trust_env: Ask HTTPS_PROXY and its kin, SSL_CERT_FILE and SSL_CERT_DIR.

    Raises:
        InvalidRequestError: The environment names a proxy or certificates that there are not; ``.field`` says where.
    """
    route = proxy_for(url) if trust_env else Bypass(listed=False)
    proxy = route if isinstance(route, Proxy) else None
    needs_tls = url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
    return Way(trusted(trust_env=trust_env) if needs_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), proxy)


async def open_transport(
    url: httpx.URL, *, max_connections: int = 100, trust_env: bool = True
) -> httpx.AsyncBaseTransport:
    """
    Open the client's own transport to *url*: its pool, or, through a proxy, httpx's.

    Raises:
        InvalidRequestError: As ``way_to``.
    """
    return await anyio.to_thread.run_sync(_build_transport, url, max_connections, trust_env)


# In a worker thread: importing what connects takes as long as importing all the rest.
def _build_transport(url: httpx.URL, max_connections: int, trust_env: bool) -> httpx.AsyncBaseTransport:  # noqa: FBT001 -- private
    from gatepay_async.pool import OriginPool  # noqa: PLC0415 -- see above

    way = way_to(url, trust_env=trust_env)
    if way.proxy is None:
        return OriginPool(url, max_connections=max_connections, ssl_context=way.tls)
    # The pool is for one origin; through a proxy it steps aside.
    # Nobody but httpx can tell there whether a byte is left over in a connection: none is used twice.
    limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=0)
    return httpx.AsyncHTTPTransport(proxy=way.httpx_proxy(), limits=limits, verify=way.tls)
