"""Chooses the kind of a new connection, and makes the TLS context when the first one is opened."""

import os
import ssl
from collections.abc import Callable
from typing import Final, cast

import anyio
import anyio.to_thread
import httpcore
import httpx

from gatepay_async.pool.over_httpcore import HttpcoreConnection
from gatepay_async.pool.owner import running_loop
from gatepay_async.pool.port import Connection
from gatepay_async.words.arguments import InvalidArgumentError, check_instance
from gatepay_async.words.problem import Problem

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Opener:
    """
    Makes the connections of one pool. A connection opens itself when it is first used.

    Args:
        origin: Where to connect to.
        ssl_context: The TLS context. None: httpx's default.
        uds: The path of a Unix socket to connect to, whatever the host.

    Attributes:
        own_class: The class of our own connections. None before the first connection, on trio and without httptools.
    """

    def __init__(
        self, origin: httpcore.Origin, ssl_context: ssl.SSLContext | None, uds: str | os.PathLike[str] | None
    ) -> None:
        self.own_class: Callable[..., Connection] | None = None
        self._origin = origin
        self._ssl_context = ssl_context
        self._uds = None if uds is None else os.fspath(uds)
        self._ssl_context_lock = anyio.Lock()

    async def new_connection(self, *, needs_httpcore: bool) -> Connection:
        """Return a new connection; with *needs_httpcore*, one of httpcore."""
        context = await self._get_ssl_context()
        self.own_class = own_class()  # set for each connection, because the next event loop may be trio's
        if needs_httpcore or self.own_class is None:
            return HttpcoreConnection(self._origin, context, self._uds)
        return self.own_class(self._origin.host.decode("ascii"), self._origin.port, tls=context, uds=self._uds)

    def forget_tasks(self) -> None:
        """Forget tasks that are making the TLS context: after a fork, they exist in the parent process only."""
        self._ssl_context_lock = anyio.Lock()

    async def _get_ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context, which is made at the first call; None for an `http://` origin."""
        if self._origin.scheme == b"http":
            return None
        if self._ssl_context is not None:
            return self._ssl_context
        async with self._ssl_context_lock:
            if self._ssl_context is None:
                # In a thread, since reading all the certificates takes tens of milliseconds.
                self._ssl_context = await anyio.to_thread.run_sync(httpx.create_ssl_context)
            return self._ssl_context


def own_class() -> Callable[..., Connection] | None:
    """Return the class of our own connections, or None on trio and without httptools."""
    if running_loop() is None:
        return None
    try:
        from gatepay_async.pool.asyncio_wire import Wire  # noqa: PLC0415 -- trio doesn't need it
    except ImportError:
        return None
    return Wire


def check_origin(origin: object) -> httpcore.Origin:
    """
    Return the origin that a user passes as a URL.

    Raises:
        InvalidArgumentError: *origin* is no URL, or not `http://` or `https://` with a host.
    """
    check_instance("origin", origin, str, httpx.URL)
    try:
        return origin_of(httpx.URL(cast("httpx.URL | str", origin)))
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError):  # idna's errors are ValueErrors
        problem = Problem("no_origin")
    raise InvalidArgumentError(field="origin", problem=problem)


def origin_of(url: httpx.URL) -> httpcore.Origin:
    """
    Return the origin of *url*.

    Raises:
        httpx.UnsupportedProtocol: *url* is not `http://` or `https://` with a host.
    """
    if url.scheme not in DEFAULT_PORTS or not url.raw_host:
        raise httpx.UnsupportedProtocol(Problem("not_an_origin", scheme=url.scheme))
    return httpcore.Origin(url.raw_scheme, url.raw_host, url.port or DEFAULT_PORTS[url.scheme])
