"""
A connection of httpcore's over a `stream` of ours: on trio, and where there is no httptools.

On asyncio it serves, too, whoever asks for httpcore's own events (``trace``) or has patched its connections, as respx
does.
"""

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final, cast

import httpcore
import httpx

from gatepay_async.pool.port import Body, Head, NotAvailableError, Request
from gatepay_async.pool.stream import NetworkStream
from gatepay_async.words.problem import Problem, message_of

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

# Where httpcore's connection keeps what it has read of the stream.
_H11: Final = "_h11_state"
_WITHOUT_BODY: Final = (204, 205, 304)
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}


class HttpcoreConnection(httpcore.AsyncHTTPConnection):
    """
    A connection and its stream: a `port.Connection`.

    Only closing its `network` closes it: what httpcore believes of a connection after a cancellation (it may say
    "connecting" or "new" for ever, encode/httpcore#1093) then doesn't matter.
    """

    def __init__(self, origin: httpcore.Origin, ssl_context: ssl.SSLContext | None, uds: str | None) -> None:
        self.network = NetworkStream()
        self._to = origin
        self._response: httpcore.Response | None = None
        self._is_to_the_end = False
        self._parts: AsyncIterator[bytes] = _BytesBody(b"")
        # No keepalive_expiry: how long it has been idle is for the slots to say, by their one clock.
        super().__init__(origin, ssl_context=ssl_context, uds=uds, network_backend=self.network)

    def is_here(self) -> bool:
        """Whether it was opened in this process, on the event loop that runs now."""
        return self.network.is_here()

    def is_fit(self) -> bool:
        """Whether a request may be written to it: at rest, not closed by the server, and no byte left over anywhere."""
        return self.is_available() and self.network.is_quiet() and self._has_read_all()

    def _has_read_all(self) -> bool:
        """Whether the last response ended where what httpcore has read of the stream ends."""
        # Not public. Without it no connection is used twice, which a test would see.
        parser = getattr(self._connection, _H11, None)
        return parser is not None and not parser.trailing_data[0]

    async def ask(self, outgoing: bytes, *, on_send: object, until: float, most: int) -> None:
        """Nothing: httpcore may wait anywhere."""

    async def send(self, request: Request) -> Head:
        """Send *request* and read the head of the response."""
        extensions = request.extensions
        self.network.on_connect = extensions.get("on_connect")
        self.network.on_send = extensions.get("on_send")
        self.network.request_begun = False
        try:
            # By this very method and no shorter way: it is where respx steps in.
            response = await self.handle_async_request(self._to_httpcore(request))
        except FOREIGN as error:
            raise _to_httpx_error(error) from error
        fields = {name.lower(): value for name, value in response.headers}
        if {b"content-length", b"transfer-encoding"} <= fields.keys():
            # Two lengths: whoever forwarded it may have read the other one (RFC 9112, 6.3).
            self.network.not_reusable = True
        if response.status in _WITHOUT_BODY:
            # A server that sends one all the same may send it late, when the next call is under way.
            self.network.not_reusable = True
        self._response = response
        self._is_to_the_end = not fields.keys() & {b"content-length", b"transfer-encoding"}
        # httpcore's type allows for its synchronous half.
        self._parts = aiter(cast(AsyncIterable[bytes], response.stream))
        # httpcore types an empty default as dict[Unknown, Unknown].
        return Head(response.status, response.headers, fields, cast(Any, response).extensions)

    async def read(self) -> bytes:
        """Read some of the body; nothing at its end."""
        try:
            async for part in self._parts:
                if part:
                    return part
        except FOREIGN as error:
            raise _to_httpx_error(error) from error
        if self._is_to_the_end and self.network.is_cut_off():
            raise httpx.RemoteProtocolError(Problem("half_a_response"))
        return b""

    async def finish(self) -> None:
        """End the exchange: httpcore finds out whether it is complete, and closes the stream if it isn't."""
        await cast(httpcore.Response, self._response).aclose()
        await self._exhaust_parts()

    async def aclose(self) -> None:
        """Close the socket."""
        await self.network.aclose()

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

    def _to_httpcore(self, request: Request) -> httpcore.Request:
        origin = self._to
        port = None if origin.port == _DEFAULT_PORTS[origin.scheme] else origin.port
        url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=port, target=request.target)
        headers = request.headers
        if request.start:
            headers = [*headers, (b"Content-Length", b"%d" % len(cast(bytes, request.body)))]
        return httpcore.Request(
            method=request.method,
            url=url,
            headers=headers,
            content=_stream(request.body),
            extensions=request.extensions,
        )


def _stream(body: Body) -> AsyncIterable[bytes]:
    return _BytesBody(body) if isinstance(body, bytes) else body


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


def _to_httpx_error(error: Exception) -> httpx.TransportError:
    """Put an error of httpcore in httpx's terms, its text kept."""
    if isinstance(error, httpcore.ConnectionNotAvailable):
        # Who knows how much of a stream of the caller's has been read.
        return NotAvailableError(message_of(error), untouched=False)
    return next(kind(message_of(error)) for foreign, kind in TRANSLATIONS.items() if isinstance(error, foreign))
