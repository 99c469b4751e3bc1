"""
The connection pool: an httpx transport for one origin.

Which connection to use is decided in `slots`, synchronously. Talking is httpcore's (`AsyncHTTPConnection`,
over a `stream`). What stands here joins the two, and sees to it that a slot always comes back: whoever has one
ends in `_return_slot()`, which gives it back at once, or closes its connection and gives it back in a `finally`.

Proxies are not for this transport: who needs one uses `httpx.AsyncHTTPTransport(proxy=…)` in its place.
"""

import math
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Final, cast

import anyio
import anyio.to_thread
import httpcore
import httpx

from gatepay_async.pool.slots import Slot, Slots
from gatepay_async.pool.stream import NetworkStream
from gatepay_async.words.problem import Problem, message_of

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

# How many connections that have been idle for too long one call closes before it sets off. All at once would
# make the first call after a burst pay for the burst; the rest is for the calls after it.
MAX_EXPIRED_CLOSED_PER_CALL: Final = 4

# From httpcore's errors to httpx's, the most special one first wherever one is a kind of another.
TRANSLATIONS: Final[Mapping[type[Exception], type[httpx.TransportError]]] = {
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.TimeoutException: httpx.TimeoutException,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.NetworkError: httpx.NetworkError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
    httpcore.ProtocolError: httpx.ProtocolError,
    httpcore.ProxyError: httpx.ProxyError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    # A connection that says so has written nothing of the request.
    httpcore.ConnectionNotAvailable: httpx.ConnectError,
}
FOREIGN: Final = tuple(TRANSLATIONS)

Post = Callable[[bytes, dict[str, Any]], Awaitable[httpx.Response]]

# Where httpcore's connection keeps what it has read of the stream.
_H11: Final = "_h11_state"

CLOSED: Final = Problem("client_closed")


class PoolClosedError(httpx.ConnectError):
    """The client was closed before this request got a connection. No byte of it has left; don't try again."""


class OriginPool(httpx.AsyncBaseTransport):
    """
    A pool of HTTP/1.1 connections to one origin.

    Callers wait first come, first served; the connection that was used last is used next; one that the server
    has closed meanwhile is replaced before anything is written to it. A request of which a byte may have left
    is never sent again. Under asyncio and trio alike, whoever is cancelled leaves the pool whole.

    A response holds its connection until it is read to its end or closed. Close every response that isn't
    read: httpx does so for the callers of its client.

    Besides `timeout` (whose `pool` bounds the waiting; None: wait for ever) and `trace`, a request's
    `extensions` may hold plain functions, called with nothing:

    `on_wait`: all connections are busy, the waiting begins; `on_turn`: it is over.
    `on_send`: the first byte of the request is about to leave. If it wasn't called, none has.

    Args:
        origin: Scheme, host and port, as an URL; its path doesn't matter.
        max_connections: How many may be open at once, those being opened or closed included.
        keepalive_expiry: Seconds that a connection may rest before it is closed instead of used. There is no
            task in the background: it is closed by the calls that follow.
        ssl_context: What to believe of certificates. None: what httpx believes by default, made once, in a
            thread, when the first connection is opened.
        uds: The path of a Unix socket to connect to, whatever the host.
        clock: Seconds, never going back.

    Raises:
        httpx.UnsupportedProtocol: *origin* is not `http://` or `https://` with a host.
        ValueError: *max_connections* is below 1.
    """

    tells_sending = True

    def __init__(
        self,
        origin: httpx.URL | str,
        *,
        max_connections: int = 100,
        keepalive_expiry: float = 15.0,
        ssl_context: ssl.SSLContext | None = None,
        uds: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, not {max_connections}")
        self._origin = _origin(httpx.URL(origin))
        self._keepalive_expiry = keepalive_expiry
        self._ssl_context = ssl_context
        self._making_ssl_context = anyio.Lock()
        self._uds = uds
        self._clock = clock
        self._slots: Slots[_Connection] = Slots(max_connections)

    def __repr__(self) -> str:
        slots = self._slots
        return (
            f"<OriginPool {self._origin}: {slots.busy} busy, {slots.idle} idle, limit {slots.limit}; "
            f"{slots.waiting} waiting{'; closed' if slots.closed else ''}>"
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send *request* and read the head of its response.

        Raises:
            PoolClosedError: The pool is closed. Nothing was sent.
            httpx.PoolTimeout: No connection came free in time. Nothing was sent.
            httpx.ConnectError: There is no connection to be had. Nothing was sent.
            httpx.ConnectTimeout: As above, in time.
            httpx.UnsupportedProtocol: *request* is for another origin. Nothing was sent.
            httpx.TransportError: Any other failure; some of the request may have been sent.
        """
        return await self.exchange(self._outgoing(request))

    def prepare(self, method: str, url: httpx.URL, headers: httpx.Headers) -> "Post":
        """
        Do once what is the same for all requests of a kind: reading the address, putting headers in form.

        Returns:
            What sends a body with extensions as ``handle_async_request`` does, without an httpx request.
        """
        form = self._outgoing(httpx.Request(method, url, headers=headers))
        heads = [(name, value) for name, value in form.headers if name.lower() != b"content-length"]

        async def post(body: bytes, extensions: dict[str, Any]) -> httpx.Response:
            lines = [*heads, (b"Content-Length", b"%d" % len(body))]
            # _BytesBody: httpcore's own stream is a generator.
            return await self.exchange(
                httpcore.Request(form.method, form.url, headers=lines, content=_BytesBody(body), extensions=extensions)
            )

        return post

    async def exchange(self, outgoing: httpcore.Request) -> httpx.Response:
        """As `handle_async_request`, for those who speak httpcore; *outgoing* is for this origin."""
        extensions: dict[str, Any] = cast("Any", outgoing).extensions  # httpcore leaves open what is in it
        slot = await self._acquire(extensions)
        try:
            response = await self._send_request(slot, outgoing, on_send=extensions.get("on_send"))
        except FOREIGN as error:
            await self._return_slot(slot)
            raise _to_httpx_error(error) from error
        except BaseException:
            await self._return_slot(slot)
            raise
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_ResponseBody(response, partial(self._return_slot, slot)),
            # httpcore types an empty default as dict[Unknown, Unknown].
            extensions=cast(Any, response).extensions,
        )

    async def aclose(self) -> None:
        """
        Close the idle connections and send waiting callers away with `PoolClosedError`.

        Calls under way end as they would have; their connections are closed then. Closing twice is harmless.
        """
        self._slots.close()
        async with AsyncExitStack() as stack:
            # The stack runs every one of them, also when cancelled in the middle.
            while (slot := self._slots.acquire_idle(kept_by=math.inf)) is not None:
                stack.push_async_callback(self._discard, slot)

    def _outgoing(self, request: httpx.Request) -> httpcore.Request:
        """Put *request* in httpcore's terms, or refuse it because it is for another origin."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        if request.url.scheme not in DEFAULT_PORTS or url.origin != self._origin:
            raise httpx.UnsupportedProtocol(Problem("other_origin", origin=str(self._origin), host=request.url.host))
        body: object = request.stream
        if isinstance(body, httpx.ByteStream):
            body = _BytesBody(b"".join(body))
        if not isinstance(body, AsyncIterable):
            raise TypeError("an asynchronous transport can't send a body that is read synchronously")
        return httpcore.Request(
            method=request.method,
            url=url,
            headers=request.headers.raw,
            content=body,
            extensions=request.extensions,
        )

    async def _acquire(self, extensions: dict[str, Any]) -> "Slot[_Connection]":
        """Take a slot, after closing a few of the connections that have been idle for too long."""
        for _ in range(MAX_EXPIRED_CLOSED_PER_CALL):
            slot = self._slots.acquire_idle(kept_by=self._clock() - self._keepalive_expiry)
            if slot is None:
                break
            await self._discard(slot)
        slot = self._slots.acquire()
        if slot is not None:
            return slot
        if self._slots.closed:
            raise PoolClosedError(CLOSED)
        extensions.get("on_wait", _do_nothing)()
        slot = await self._wait_for_slot(extensions.get("timeout", {}).get("pool"))
        try:
            extensions.get("on_turn", _do_nothing)()
        except BaseException:
            await self._return_slot(slot)
            raise
        return slot

    async def _wait_for_slot(self, seconds: float | None) -> "Slot[_Connection]":
        """Wait for a slot, *seconds* at most. One that is given too late is passed on."""
        turn = anyio.Event()
        ticket = self._slots.enqueue(turn.set)
        try:
            with anyio.move_on_after(seconds):
                await turn.wait()
        except BaseException:
            # The slot may have been given in the very moment of the cancellation.
            await self._return_slot(self._slots.leave_queue(ticket))
            raise
        slot = self._slots.leave_queue(ticket)
        if self._slots.closed:
            await self._return_slot(slot)
            raise PoolClosedError(CLOSED)
        if slot is None:
            raise httpx.PoolTimeout(Problem("no_connection_free", seconds=seconds))
        return slot

    async def _send_request(
        self, slot: "Slot[_Connection]", outgoing: httpcore.Request, *, on_send: Callable[[], None] | None
    ) -> httpcore.Response:
        """Send *outgoing* on the connection in *slot*, or on a new one if that is no longer fit."""
        connection = slot.connection
        # Still too old where there were more of them than MAX_EXPIRED_CLOSED_PER_CALL.
        if connection is not None and connection.is_fit() and slot.kept > self._clock() - self._keepalive_expiry:
            try:
                return await connection.send(outgoing, on_send=on_send)
            except httpcore.ConnectionNotAvailable:
                # It has written nothing: what follows is no second sending. But who knows how much of a stream of
                # the caller's has been read.
                if not isinstance(outgoing.stream, _BytesBody):
                    raise
        if connection is not None:
            slot.connection = None
            await connection.network.aclose()
        slot.connection = connection = _Connection(self._origin, await self._get_ssl_context(), self._uds)
        return await connection.send(outgoing, on_send=on_send)

    async def _get_ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context, made on first need; None: the origin has no TLS."""
        if self._origin.scheme == b"http":
            return None
        async with self._making_ssl_context:
            if self._ssl_context is None:
                # In a thread, since reading all the certificates takes tens of milliseconds.
                self._ssl_context = await anyio.to_thread.run_sync(httpx.create_ssl_context)
            return self._ssl_context

    async def _return_slot(self, slot: "Slot[_Connection] | None") -> None:
        """Give *slot*, if any, back: with its connection if that can be used again, closing it otherwise."""
        if slot is None:
            return
        connection = slot.connection
        if connection is None or not connection.is_fit() or not self._slots.release_open(slot, now=self._clock()):
            await self._discard(slot)

    async def _discard(self, slot: "Slot[_Connection]") -> None:
        """Close the connection in *slot* and give the slot back, whatever comes between."""
        try:
            if slot.connection is not None:
                await slot.connection.network.aclose()
        finally:
            self._slots.release_empty(slot)


class _Connection(httpcore.AsyncHTTPConnection):
    """
    A connection and its stream.

    Only `network.aclose()` closes it: what httpcore believes of a connection after a cancellation (it may say
    "connecting" or "new" for ever, encode/httpcore#1093) then doesn't matter.
    """

    def __init__(self, origin: httpcore.Origin, ssl_context: ssl.SSLContext | None, uds: str | None) -> None:
        self.network = NetworkStream()
        # No keepalive_expiry: how long it has been idle is for the slots to say, by their one clock.
        super().__init__(origin, ssl_context=ssl_context, uds=uds, network_backend=self.network)

    def is_fit(self) -> bool:
        """Whether a request may be written to it: at rest, not closed by the server, and no byte left over anywhere."""
        return self.is_available() and self.network.is_quiet() and self._has_read_all()

    def _has_read_all(self) -> bool:
        """Whether the last response ended where what httpcore has read of the stream ends."""
        # Not public. Without it no connection is used twice, which a test would see.
        parser = getattr(self._connection, _H11, None)
        return parser is not None and not parser.trailing_data[0]

    async def send(self, outgoing: httpcore.Request, *, on_send: Callable[[], None] | None) -> httpcore.Response:
        """Send *outgoing* and read the head of the response."""
        self.network.on_send = on_send
        self.network.request_begun = False
        # By this very method and no shorter way: it is where respx steps in.
        response = await self.handle_async_request(outgoing)
        if {b"content-length", b"transfer-encoding"} <= {name.lower() for name, _ in response.headers}:
            # Two lengths: whoever forwarded it may have read the other one (RFC 9112, 6.3).
            self.network.not_reusable = True
        if response.status in _WITHOUT_BODY:
            # A server that sends one all the same may send it late, when the next call is under way.
            self.network.not_reusable = True
        return response


_WITHOUT_BODY = (204, 205, 304)


class _BytesBody:
    """
    A request's body that is there already; each iteration gives all of it.

    An iterator and no generator, as httpx's is: httpcore leaves that half-way when it is cancelled while it
    writes, and the garbage collector has to finish it, which trio complains of.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._parts = iter((content,))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _BytesBody(self._content)

    async def __anext__(self) -> bytes:
        for part in self._parts:
            return part
        raise StopAsyncIteration


class _ResponseBody(httpx.AsyncByteStream):
    """
    A response's body. Its slot comes back when the body has been read to the end, has failed, or is closed.

    Args:
        response: Whose body it is.
        return_slot: Gives the slot back; called once.
    """

    def __init__(self, response: httpcore.Response, return_slot: Callable[[], Awaitable[None]]) -> None:
        self._response = response
        self._return_slot: Callable[[], Awaitable[None]] | None = return_slot
        # httpcore's type allows for its synchronous half.
        self._parts = aiter(cast(AsyncIterable[bytes], response.stream))

    # An iterator and no generator, as above.
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._parts)
        except FOREIGN as error:
            await self.aclose()
            raise _to_httpx_error(error) from error
        except BaseException:  # its end, StopAsyncIteration, among them
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end; close it otherwise."""
        return_slot, self._return_slot = self._return_slot, None
        if return_slot is None:
            return
        try:
            # Here httpcore finds out whether the exchange is complete, and closes the stream if it isn't.
            await self._response.aclose()
            await self._exhaust_parts()
        finally:
            await return_slot()

    async def _exhaust_parts(self) -> None:
        """
        Let httpcore's generators come to their end.

        Left half-way they would wait for the garbage collector, which trio complains of. At their end
        already, they say so; otherwise the stream is closed, and reading from it fails without waiting. A task
        that is reading at this moment (RuntimeError) is told so too, and finishes them itself.
        """
        with suppress(*FOREIGN, RuntimeError):
            async for _ in self._parts:
                pass


def _do_nothing() -> None:
    """Nobody wants to know."""


def _origin(url: httpx.URL) -> httpcore.Origin:
    """Reduce *url* to its origin, which must be one to be reached over HTTP."""
    if url.scheme not in DEFAULT_PORTS or not url.raw_host:
        raise httpx.UnsupportedProtocol(Problem("not_an_origin", scheme=url.scheme))
    return httpcore.Origin(url.raw_scheme, url.raw_host, url.port or DEFAULT_PORTS[url.scheme])


def _to_httpx_error(error: Exception) -> httpx.TransportError:
    """Put an error of httpcore in httpx's terms, its text kept."""
    return next(kind(message_of(error)) for foreign, kind in TRANSLATIONS.items() if isinstance(error, foreign))
