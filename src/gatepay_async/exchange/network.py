"""TLS and proxy settings for a URL, from the environment. The client, ``doctor`` and ``callback send`` use them."""

from __future__ import annotations

import ssl

import httpx
from attrs import frozen

from gatepay_async.event_loop import run_in_thread
from gatepay_async.exchange.proxies import Bypass, Proxy, proxy_for
from gatepay_async.exchange.trust import trusted


@frozen
class NetworkSettings:
    """
    How to connect to a URL.

    Attributes:
        tls: The TLS context. For a URL without TLS, only an https proxy uses it.
        proxy: The proxy, or None.
    """

    tls: ssl.SSLContext
    proxy: Proxy | None

    def httpx_proxy(self) -> httpx.Proxy | None:
        """The proxy as an httpx object. For an https proxy, the same certificates are trusted."""
        if self.proxy is None:
            return None
        url = self.proxy.url
        return httpx.Proxy(url, ssl_context=self.tls if url.scheme == "https" else None)


def network_settings_for(url: httpx.URL, *, trust_env: bool = True) -> NetworkSettings:
    """
    Return the settings for *url*. This reads files, so call it in a thread.

    Args:
        url: A URL with the scheme and host.
        trust_env: Whether to use HTTPS_PROXY and similar variables, SSL_CERT_FILE and SSL_CERT_DIR.

    Raises:
        InvalidRequestError: The environment names an invalid proxy or missing certificates. ``.field`` is the variable.
    """
    route = proxy_for(url) if trust_env else Bypass(host_excluded=False)
    proxy = route if isinstance(route, Proxy) else None
    needs_tls = url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
    # A context that nothing uses stays empty, because loading certificates is slow.
    return NetworkSettings(
        trusted(trust_env=trust_env) if needs_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), proxy
    )


async def open_transport(
    url: httpx.URL, *, max_connections: int = 100, trust_env: bool = True
) -> httpx.AsyncBaseTransport:
    """
    Open the client's own transport to *url*: our connection pool, or httpx's transport if there is a proxy.

    Raises:
        InvalidRequestError: The environment names an invalid proxy or invalid certificates.
    """
    return await run_in_thread(_build_transport, url, max_connections, trust_env)


# Run in a worker thread, because importing the pool takes as long as importing the rest of the package.
def _build_transport(url: httpx.URL, max_connections: int, trust_env: bool) -> httpx.AsyncBaseTransport:  # noqa: FBT001 -- private
    from gatepay_async.pool import OriginPool  # noqa: PLC0415 -- see above

    network = network_settings_for(url, trust_env=trust_env)
    if network.proxy is None:
        return OriginPool(url, max_connections=max_connections, ssl_context=network.tls)
    # Our pool can't use a proxy. httpx's pool reuses a connection even if bytes of an earlier reply are left in it, so
    # here each request gets a new connection.
    limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=0)
    return httpx.AsyncHTTPTransport(proxy=network.httpx_proxy(), limits=limits, verify=network.tls)
