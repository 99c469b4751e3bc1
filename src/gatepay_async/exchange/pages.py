"""``gatepay.http``: an httpx client over the connections of the calls, for web pages and other requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import httpx

from gatepay_async.event_loop import run_in_thread
from gatepay_async.exchange.headers import HEADERS
from gatepay_async.exchange.libraries import library_of
from gatepay_async.exchange.network import network_settings_for
from gatepay_async.exchange.permission import check_permitted
from gatepay_async.exchange.port import NotPermittedError
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.web_addresses import DEFAULT_PORTS

if TYPE_CHECKING:
    from gatepay_async.exchange.libraries import AnyTransport


class LazyClient:
    """
    Creates the httpx client when it is used for the first time.

    Args:
        make: Creates the client.
        owns_client: Whether ``aclose()`` closes the client. False: *make* returns the user's client.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], *, owns_client: bool) -> None:
        self._make = make
        self._owns_client = owns_client
        self._client: httpx.AsyncClient | None = None

    def client(self) -> httpx.AsyncClient:
        """Return the client, always the same one."""
        if self._client is None:
            self._client = self._make()
        return self._client

    async def aclose(self) -> None:
        """Close the client, unless it is the user's."""
        if self._owns_client and self._client is not None:
            await self._client.aclose()


def open_client(transport: SharedTransport, timeout: float | None, *, library: Any = httpx) -> httpx.AsyncClient:
    """Return a client over *transport*. It shares no cookies and no settings with GatePay's calls."""
    headers = {"user-agent": HEADERS["user-agent"]}
    client = library.AsyncClient(transport=transport, timeout=timeout, headers=headers, trust_env=False)
    return cast("httpx.AsyncClient", client)


def open_sharing_client(transport: AnyTransport, timeout: float | None) -> httpx.AsyncClient:
    """Return a client over a user's *transport*, from the same library."""
    library = library_of(transport, "AsyncBaseTransport")
    return open_client(SharedTransport(transport), timeout, library=library)


class SharedTransport(httpx.AsyncBaseTransport):
    """Sends requests over *transport*, which stays open when this is closed."""

    def __init__(self, transport: AnyTransport) -> None:
        self._transport: Any = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request*."""
        return cast("httpx.Response", await self._transport.handle_async_request(request))


class AnyOriginTransport(SharedTransport):
    """
    Uses the client's own connections for the origin of ``base_url``, and httpx's transports for all other origins.

    Requests to other origins use the environment's proxy and certificates. Each of them gets a new connection, because
    httpx's pool reuses a connection even if bytes of an earlier reply are left in it.

    Args:
        transport: The transport to *origin*.
        origin: A URL with the scheme, host and port of the origin.
        trust_env: Whether to use the environment; see ``network_settings_for``.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, origin: httpx.URL, *, trust_env: bool) -> None:
        super().__init__(transport)
        self._origin = _origin_of(origin)
        self._trust_env = trust_env
        self._others: dict[tuple[str, str], httpx.AsyncHTTPTransport] = {}  # by the URL's scheme and the proxy's URL

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send *request*.

        Raises:
            InvalidRequestError: A test may not call that host, or the environment names an invalid proxy or invalid
                certificates.
        """
        _check_permitted(request.url.host)
        if _origin_of(request.url) == self._origin:
            return await super().handle_async_request(request)
        transport = await run_in_thread(self._transport_to, request.url)
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections to other origins."""
        for transport in self._others.values():
            await transport.aclose()

    def _transport_to(self, url: httpx.URL) -> httpx.AsyncHTTPTransport:
        """Return the transport for another origin. Called in a thread, because this may read files."""
        network = network_settings_for(url, trust_env=self._trust_env)
        key = (url.scheme, "" if network.proxy is None else str(network.proxy.url))
        if key not in self._others:
            limits = httpx.Limits(max_keepalive_connections=0)
            self._others[key] = httpx.AsyncHTTPTransport(verify=network.tls, proxy=network.httpx_proxy(), limits=limits)
        return self._others[key]


def _origin_of(url: httpx.URL) -> tuple[str, bytes, int | None]:
    """Return the scheme, the host and the port."""
    return url.scheme, url.raw_host, url.port or DEFAULT_PORTS.get(url.scheme)


def _check_permitted(host: str) -> None:
    """Do what ``check_permitted`` does, but raise the public error."""
    try:
        check_permitted(host)
    except NotPermittedError as error:
        problem = error.problem
    else:
        return
    raise InvalidRequestError(field="http", problem=problem)
