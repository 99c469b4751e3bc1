"""
One attempt: the bytes of a call go out, a ``Reply`` comes back.

Or a ``TransportError``, which knows whether a byte had left.

Here httpx's errors become ours, and nowhere else; here the attempt's clock runs.
"""

from __future__ import annotations

import ipaddress
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.request import getproxies, proxy_bypass

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import sniffio
from attrs import define

from gatepay_async.protocol.calls import Call
from gatepay_async.protocol.errors import DeadlineExceededError, InvalidRequestError, ProtocolError, TransportError
from gatepay_async.protocol.masking import mask
from gatepay_async.protocol.retrying import read_retry_after
from gatepay_async.protocol.wire import CONTENT_TYPE, Reply
from gatepay_async.version import __version__

if TYPE_CHECKING:
    from gatepay_async.over_aiohttp import OverAiohttp
    from gatepay_async.pool import OriginPool

Post = Callable[[bytes, dict[str, Any]], Awaitable[httpx.Response]]

_LARGEST_REPLY = 32 * 2**20  # bytes; a page of 50 card keys has some 10,000
_HEADERS = httpx.Headers(
    {
        "accept": "application/json",
        "accept-encoding": "identity",  # a reply is small, and one that unpacks to a gigabyte is no reply
        "content-type": CONTENT_TYPE,
        "user-agent": f"gatepay-async/{__version__}",
    }
)
# Raised before the first byte of a request is written.
_NEVER_SENT = (httpx.ConnectError, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
# Likewise, from a transport that tells when it sends. Others (httpx-aiohttp is one) call so what happened later.
_NEVER_SENT_IF_TOLD = (*_NEVER_SENT, httpx.ConnectTimeout)
# What these say comes from the system, or from the client's own pool; the others may quote a reply, or a proxy's.
_QUOTE_NOBODY = (httpx.NetworkError, httpx.TimeoutException, OSError, anyio.BrokenResourceError)
# What a transport may raise: httpx's errors, and what lies below them where a transport forgot to translate.
_NOBODY_ANSWERED = (
    httpx.HTTPError,
    httpx.StreamError,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)


@define
class _Trip:
    """
    What is known of one attempt, and its clock.

    Attributes:
        told: Whoever carries it tells what becomes of it, so that ``sent`` can be believed when it says no.
        clock: Cancels the attempt at its deadline.
        sent: A byte of the request is about to leave, or has left.
    """

    told: bool
    clock: anyio.CancelScope
    sent: bool = False

    def on_send(self) -> None:
        """The pool's word."""
        self.sent = True

    async def trace(self, event: str, _: object) -> None:
        """The word of httpx's own transport: ``http11.send_request_headers.started``, and others before it."""
        self.told = True
        self.sent = self.sent or event.endswith("send_request_headers.started")


class Carrier:
    """
    Posts bytes to one base URL, over what it was given or over a pool of its own.

    Args:
        base_url: With a slash at its end.
        timeout: Seconds for one attempt, from connect to last byte.
        max_connections: Of the pool of its own.
        http_client: Used as it is, not closed here.
        transport: Likewise; or ``"aiohttp"``, for a session of its own.

    Attributes:
        now: The event loop's clock, once open.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float,
        max_connections: int,
        http_client: httpx.AsyncClient | None,
        transport: httpx.AsyncBaseTransport | Literal["aiohttp"] | None,
    ) -> None:
        self._base_url = base_url
        self._timeout = timeout
        self._max_connections = max_connections
        self._posts: dict[str, Post] = {}  # by path; reading an address costs more than signing a form
        self._own: httpx.AsyncBaseTransport | None = None
        self._http_client = http_client
        self._transport = transport
        self._prepare: Callable[[httpx.URL], Post] | None = None
        self._tells = False
        self.now: Callable[[], float] = anyio.current_time

    async def open(self) -> None:
        """
        Make the pool of its own, or the session, if it was not given what carries.

        Raises:
            InvalidRequestError: aiohttp is not installed, or this is not asyncio.
        """
        # asyncio's own clock is anyio's too; asking it spares asking each time which loop it is.
        self.now = getattr(running(), "time", anyio.current_time)
        if self._http_client is not None:
            self._prepare = partial(_through_client, self._http_client)
            return
        transport = self._transport
        if transport is None:
            transport = self._own = await _open_pool(self._base_url, self._max_connections)
        elif isinstance(transport, str):
            transport = self._own = await _open_aiohttp(self._base_url, self._max_connections)
        self._tells = bool(getattr(transport, "tells_sending", False))
        self._prepare = partial(_through_transport, transport)

    async def aclose(self) -> None:
        """Close what ``open`` has made."""
        if self._own is not None:
            await self._own.aclose()

    async def post(self, call: Call[Any], body: bytes, *, ends: float) -> Reply:
        """
        Make one attempt.

        Args:
            call: Whose path it is posted to.
            body: The form.
            ends: When the whole call must have ended, on the event loop's clock.

        Raises:
            TransportError: Nobody answered; ``DeadlineExceededError`` if it is the call's time that is over.
            ProtocolError: The reply has no end.
        """
        trip = _Trip(self._tells, anyio.CancelScope(deadline=self._by(ends)))
        failure: Exception | None = None
        with trip.clock:
            try:
                return await self._exchange(call, body, trip, ends)
            except _NOBODY_ANSWERED as error:
                failure = error
        if failure is None:
            raise self._out_of_time(call, trip, ends)
        sent = trip.sent or not isinstance(failure, _NEVER_SENT_IF_TOLD if trip.told else _NEVER_SENT)
        quotes = not isinstance(failure, _QUOTE_NOBODY)
        said = mask(str(failure), keys=call.secrets(), strict=quotes)
        problem = f"{type(failure).__name__}: {said}".removesuffix(": ")
        cause = None if quotes else _bare(failure)
        del failure
        raise TransportError(endpoint=call.path, sent=sent, problem=problem) from cause

    def _by(self, ends: float) -> float:
        """When an attempt that starts now must be over."""
        return min(ends, self.now() + self._timeout)

    async def _exchange(self, call: Call[Any], body: bytes, trip: _Trip, ends: float) -> Reply:
        def on_wait() -> None:
            trip.clock.deadline = ends  # waiting for a connection is no part of the attempt

        def on_turn() -> None:
            trip.clock.deadline = self._by(ends)

        extensions: dict[str, Any] = {"on_send": trip.on_send, "on_wait": on_wait, "on_turn": on_turn}
        if not self._tells:
            extensions = {"trace": trip.trace}
        post = self._posts.get(call.path) or self._post_to(call.path)
        response = await post(body, extensions)
        try:
            content = await _read(call, response)
        finally:
            # Not the response's own aclose(), which would only ask once more whose it is.
            await cast("httpx.AsyncByteStream", response.stream).aclose()
        content_type = response.headers.get("content-type", "")
        if response.status_code < 300:  # noqa: PLR2004 -- HTTP's own line
            return Reply(response.status_code, content, content_type=content_type)
        wait = read_retry_after(response.headers.get("retry-after"), now=datetime.now(UTC))
        return Reply(response.status_code, content, wait, content_type)

    def _post_to(self, path: str) -> Post:
        prepare = cast("Callable[[httpx.URL], Post]", self._prepare)  # open() has seen to it
        self._posts[path] = prepare(httpx.URL(self._base_url + path))
        return self._posts[path]

    def _out_of_time(self, call: Call[Any], trip: _Trip, ends: float) -> TransportError:
        sent = trip.sent or not trip.told
        if self.now() >= ends:
            return DeadlineExceededError(endpoint=call.path, sent=sent, problem="the call's deadline has passed")
        problem = f"no whole reply within {self._timeout:g} s"
        return TransportError(endpoint=call.path, sent=sent, problem=problem)


def running() -> object:
    """The event loop that this runs on, for comparing."""
    # Where asyncio runs it is there; who runs trio need not import it.
    try:
        return sys.modules["asyncio"].get_running_loop()
    except (KeyError, AttributeError, RuntimeError):
        return anyio.lowlevel.current_token()


def _through_transport(transport: httpx.AsyncBaseTransport, url: httpx.URL) -> Post:
    # Without a client in between: there is nothing to redirect, to log in to, or to keep cookies for.
    prepare = getattr(transport, "prepare", None)
    if prepare is not None:
        prepared: Post = prepare("POST", url, _HEADERS)
        return prepared

    async def post(body: bytes, extensions: dict[str, Any]) -> httpx.Response:
        request = httpx.Request("POST", url, headers=_HEADERS, content=body, extensions=extensions)
        return await transport.handle_async_request(request)

    return post


def _through_client(client: httpx.AsyncClient, url: httpx.URL) -> Post:
    async def post(body: bytes, extensions: dict[str, Any]) -> httpx.Response:
        request = client.build_request("POST", url, headers=_HEADERS, content=body, extensions=extensions)
        # Never followed: a signed form must not travel elsewhere.
        return await client.send(request, stream=True, follow_redirects=False)

    return post


async def _read(call: Call[Any], response: httpx.Response) -> bytes:
    # Asked for identity, hardly anybody packs; then httpx need not look for what to unpack.
    packed = "content-encoding" in response.headers
    chunks = aiter(response.aiter_bytes() if packed else cast("httpx.AsyncByteStream", response.stream))
    parts: list[bytes] = []
    size = 0
    whole = False
    try:
        async for part in chunks:
            parts.append(part)
            size += len(part)
            if size > _LARGEST_REPLY:
                break
        else:
            whole = True
    finally:
        # A generator of httpx's, left half-way, would be for the garbage collector; trio warns of that.
        if not whole and isinstance(chunks, AsyncGeneratorType):
            with anyio.CancelScope(shield=True):
                await chunks.aclose()
    if not whole:
        problem = f"is larger than {_LARGEST_REPLY} bytes"
        raise ProtocolError(endpoint=call.path, http_status=response.status_code, problem=problem, path="reply")
    return b"".join(parts)


def _bare(failure: Exception) -> Exception:
    """*failure* without what hangs on it: the request with the signed form in its body, other errors, and notes."""
    if isinstance(failure, httpx.RequestError):
        failure.request = httpx.Request("POST", "https://request.invalid/")
    failure.__cause__ = failure.__context__ = None
    return failure


async def _open_pool(base_url: str, max_connections: int) -> httpx.AsyncBaseTransport:
    url = httpx.URL(base_url)
    pool, tls, proxy = await anyio.to_thread.run_sync(_prepare_pool, url)
    if proxy is None:
        return pool(url, max_connections=max_connections, ssl_context=tls)
    # The pool is for one origin; through a proxy it steps aside.
    return httpx.AsyncHTTPTransport(proxy=proxy, limits=httpx.Limits(max_connections=max_connections), verify=tls)


async def _open_aiohttp(base_url: str, max_connections: int) -> httpx.AsyncBaseTransport:
    problem = "runs on asyncio only; leave transport out"
    if sniffio.current_async_library() == "asyncio":
        problem = "needs the extra: pip install 'gatepay-async[aiohttp]'"
        with suppress(ImportError):
            session, tls, proxy = await anyio.to_thread.run_sync(_prepare_aiohttp, httpx.URL(base_url))
            return session(max_connections=max_connections, ssl_context=tls, proxy=proxy)
    raise InvalidRequestError(field="transport", problem=f"aiohttp {problem}")


# In a worker thread: importing what connects takes as long as importing all the rest, reading certificates 26 ms.


def _prepare_pool(url: httpx.URL) -> tuple[type[OriginPool], ssl.SSLContext, str | None]:
    from gatepay_async.pool import OriginPool  # noqa: PLC0415 -- see above

    return OriginPool, _trusted(url), _proxy_for(url)


def _prepare_aiohttp(url: httpx.URL) -> tuple[type[OverAiohttp], ssl.SSLContext, str | None]:
    from gatepay_async.over_aiohttp import OverAiohttp  # noqa: PLC0415 -- see above; and it may not be there

    return OverAiohttp, _trusted(url), _proxy_for(url)


def _trusted(url: httpx.URL) -> ssl.SSLContext:
    """What to believe of certificates; without TLS, a context that costs nothing and is never asked."""
    return _tls_context() if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def _tls_context() -> ssl.SSLContext:
    """Made once, for all clients."""
    return httpx.create_ssl_context()


def _proxy_for(url: httpx.URL) -> str | None:
    """
    What HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say of *url*; nothing, if it is on this machine.

    Raises:
        InvalidRequestError: It is no HTTP proxy.
    """
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or is_loopback(url.host) or proxy_bypass(url.host):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"  # as curl takes it
    if not proxy.startswith(("http://", "https://")):
        # Not repeated here: there may be a password in it.
        problem = "the environment names a proxy that is not http or https; set NO_PROXY, or pass a transport"
        raise InvalidRequestError(field="transport", problem=problem)
    return proxy


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
