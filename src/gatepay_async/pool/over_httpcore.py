"""
A connection of httpcore over our own `stream`: used on trio, and where httptools is not installed.

On asyncio it is also used for a request with httpcore's ``trace`` extension, and where httpcore's connections are
patched, as respx does.
"""

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final, cast

import httpcore
import httpx

from gatepay_async.pool.port import Head, NotAvailableError, Request, RequestBody
from gatepay_async.pool.stream import NetworkStream
from gatepay_async.words.problem import Problem, message_of

# From httpcore's errors to httpx's. A subclass comes before its base class.
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
    # httpcore raises this before it has written a byte of the request.
    httpcore.ConnectionNotAvailable: httpx.ConnectError,
}
HTTPCORE_ERRORS: Final = tuple(TRANSLATIONS)

# The private attribute in which httpcore's connection keeps its h11 parser.
_PARSER_ATTRIBUTE: Final = "_h11_state"
_STATUSES_WITHOUT_BODY: Final = (204, 205, 304)
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}


class HttpcoreConnection(httpcore.AsyncHTTPConnection):
    """
    A `port.Connection`: a connection of httpcore and its stream.

    Only closing `network` closes the connection. httpcore's own state can be wrong after a cancellation: it may stay
    "connecting" or "new" for ever (encode/httpcore#1093).
    """

    def __init__(self, origin: httpcore.Origin, ssl_context: ssl.SSLContext | None, uds: str | None) -> None:
        self.network = NetworkStream()
        self._destination = origin
        self._response: httpcore.Response | None = None
        self._ends_with_connection = False  # the response has no length
        self._parts: AsyncIterator[bytes] = _BytesBody(b"")
        # No keepalive_expiry: the pool closes connections that have been idle for too long.
        super().__init__(origin, ssl_context=ssl_context, uds=uds, network_backend=self.network)

    def is_on_this_loop(self) -> bool:
        """Whether the connection was opened in this process, on the running event loop."""
        return self.network.is_on_this_loop()

    def is_reusable(self) -> bool:
        """Whether the connection can carry another request: it is idle and open, and no byte is left unread."""
        return self.is_available() and self.network.is_open_without_unread_bytes() and self._has_read_all()

    def _has_read_all(self) -> bool:
        """Whether httpcore has read no bytes after the end of the last response."""
        # The parser is a private attribute. If httpcore renames it, no connection is reused, and a test fails.
        parser = getattr(self._connection, _PARSER_ATTRIBUTE, None)
        return parser is not None and not parser.trailing_data[0]

    async def try_exchange(self, outgoing: bytes, *, on_send: object, deadline: float, max_bytes: int) -> None:
        """Send nothing and return None: httpcore may wait at any step, which `try_exchange` must not."""

    async def send(self, request: Request) -> Head:
        """Send *request* and read the head of the response."""
        self.network.on_connect = request.hooks.on_connect
        self.network.on_send = request.hooks.on_send
        self.network.request_begun = False
        try:
            # This method must be called by this name: respx patches it.
            response = await self.handle_async_request(self._to_httpcore(request))
        except HTTPCORE_ERRORS as error:
            raise _to_httpx_error(error) from error
        fields = {name.lower(): value for name, value in response.headers}
        if {b"content-length", b"transfer-encoding"} <= fields.keys():
            # The response has two lengths, and a proxy may have used another one than httpcore (RFC 9112, 6.3).
            self.network.not_reusable = True
        if response.status in _STATUSES_WITHOUT_BODY:
            # A server may send a forbidden body late, while the next call is running.
            self.network.not_reusable = True
        self._response = response
        self._ends_with_connection = not fields.keys() & {b"content-length", b"transfer-encoding"}
        # httpcore's type also allows a synchronous stream.
        self._parts = aiter(cast(AsyncIterable[bytes], response.stream))
        # httpcore types an empty default as dict[Unknown, Unknown].
        return Head(response.status, response.headers, fields, cast(Any, response).extensions)

    async def read(self) -> bytes:
        """Read the next part of the body. At the end of the body the part is empty."""
        try:
            async for part in self._parts:
                if part:
                    return part
        except HTTPCORE_ERRORS as error:
            raise _to_httpx_error(error) from error
        if self._ends_with_connection and self.network.is_cut_off():
            raise httpx.RemoteProtocolError(Problem("half_a_response"))
        return b""

    async def finish(self) -> None:
        """End the exchange. httpcore closes the stream if the exchange is not complete."""
        await cast(httpcore.Response, self._response).aclose()
        await self._exhaust_parts()

    async def aclose(self) -> None:
        """Close the socket."""
        await self.network.aclose()

    async def _exhaust_parts(self) -> None:
        """
        Run httpcore's generators to their end.

        The garbage collector would have to finish a suspended generator, and trio warns about that. This never waits:
        the generators are at their end, or the stream is closed and reading from it fails at once. If another task is
        reading at this moment (RuntimeError), that task finishes them.
        """
        with suppress(*HTTPCORE_ERRORS, RuntimeError):
            async for _ in self._parts:
                pass

    def _to_httpcore(self, request: Request) -> httpcore.Request:
        """Convert *request* to httpcore's class."""
        origin = self._destination
        port = None if origin.port == _DEFAULT_PORTS[origin.scheme] else origin.port
        url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=port, target=request.target)
        headers = request.headers
        if request.encoded_head:
            headers = [*headers, (b"Content-Length", b"%d" % len(cast(bytes, request.body)))]
        return httpcore.Request(
            method=request.method,
            url=url,
            headers=headers,
            content=_stream(request.body),
            extensions=request.extensions,
        )


def _stream(body: RequestBody) -> AsyncIterable[bytes]:
    """Return *body* as a stream, as httpcore requires."""
    return _BytesBody(body) if isinstance(body, bytes) else body


class _BytesBody:
    """
    A request's body of known bytes. It can be iterated over several times.

    It is no generator: httpcore leaves a generator suspended when it is cancelled while writing. The garbage collector
    would have to finish it, and trio warns about that.
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
    """Return the httpx error for an error of httpcore, with the same text."""
    if isinstance(error, httpcore.ConnectionNotAvailable):
        # Some of the caller's stream may have been read.
        return NotAvailableError(message_of(error), body_unread=False)
    return next(kind(message_of(error)) for base, kind in TRANSLATIONS.items() if isinstance(error, base))
