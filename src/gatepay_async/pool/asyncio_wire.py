"""
One connection on asyncio: HTTP over an `asyncio_link`.

A reply must never be taken for the reply to a later request. So a byte that arrives between two requests closes the
connection. The event loop may not have delivered that byte yet: just before a request is sent, the system is asked
whether the socket is readable.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from typing import Final

import httpx

from gatepay_async.pool.asyncio_link import Link
from gatepay_async.pool.port import Head, NotAvailableError, Request, TooLateError, WholeResponse
from gatepay_async.pool.requests import Framing, encode
from gatepay_async.pool.responses import ResponseReader
from gatepay_async.words.problem import Problem

# The most bytes of one write.
MAX_WRITE_BYTES: Final = 64 * 1024
# With more unread bytes of a reply than this, the connection stops receiving. It goes on when at most RESUME_BYTES are
# unread.
MAX_UNREAD_BYTES: Final = 256 * 1024
RESUME_BYTES: Final = 64 * 1024

NO_TIMEOUT: Final[dict[str, float | None]] = {}
TOO_EARLY: Final = Problem("spoke_too_early")


class Wire(Link):
    """A `port.Connection` that connects for its first request and carries one request after the other."""

    __slots__ = ("_closes_connection", "_is_new", "_is_paused", "_is_sent", "_read_timeout", "_reader")

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, uds: str | None) -> None:
        super().__init__(host, port, tls=tls, uds=uds)
        self._reader = ResponseReader()
        self._is_new = True  # not connected yet
        self._closes_connection = False  # the request has `Connection: close`
        self._is_sent = False  # the whole request was written to the transport
        self._is_paused = False  # reading is paused
        self._read_timeout: float | None = None

    # -- called by the pool ------------------------------------------------------------------------------------------

    def is_reusable(self) -> bool:
        """Whether another request can be sent. `send` and `try_exchange` also check the socket for unread bytes."""
        return self._is_usable and not self._is_exchanging and (self._tls is None or self._tls.at_record_end)

    async def try_exchange(
        self, outgoing: bytes, *, on_send: Callable[[], object], deadline: float, max_bytes: int
    ) -> WholeResponse | None:
        """Implement `port.Connection.try_exchange`. Also return None for a request too long for one write."""
        is_ready = self.is_on_this_loop() and self.is_reusable() and len(outgoing) <= MAX_WRITE_BYTES
        if not is_ready or self._is_readable():
            return None
        on_send()
        reader = self._reader
        reader.start()
        self._is_exchanging, self._is_sent, self._closes_connection = True, False, False
        self._wake_at(deadline)
        try:
            self._write_out(outgoing)
            self._is_sent = True
            body = bytearray()  # not a list of parts, because a server may send many tiny ones
            while not reader.complete and len(body) <= max_bytes:
                self._raise_if_lost()
                await self._wait()
                body += reader.take_all()
                if self._is_paused:
                    self._resume_if_possible()
            return WholeResponse(reader.status, reader.headers, reader.fields, bytes(body))
        finally:
            self._exchange_deadline, self._is_late = math.inf, False
            await self.finish()

    async def send(self, request: Request) -> Head:
        """
        Connect if need be, send *request*, and read the head of its response.

        Raises:
            NotAvailableError: The connection has ended, or the server sent bytes before the request. Nothing was sent.
            httpx.ConnectError: Connecting failed. Nothing was sent.
            httpx.LocalProtocolError: *request* is not valid HTTP.
            httpx.TransportError: Any other failure.
        """
        timeout = request.extensions.get("timeout") or NO_TIMEOUT
        outgoing = encode(request)
        if self._is_new:
            self._is_new = False
            request.hooks.on_connect()
            await self._open(timeout.get("connect"), request.extensions.get("sni_hostname") or self._host)
        elif self._is_readable():
            self._is_usable = False
        if not self._is_usable:
            raise NotAvailableError(TOO_EARLY, body_unread=True)
        reader = self._reader
        reader.start(answers_head_request=request.method == b"HEAD")
        self._read_timeout = timeout.get("read")
        self._is_exchanging, self._is_sent, self._closes_connection = True, False, request.closes_connection
        request.hooks.on_send()
        if len(outgoing) <= MAX_WRITE_BYTES and isinstance(request.body, bytes):
            self._write_out(outgoing)
        else:
            await self._write_long(outgoing, request, timeout.get("write"))
        self._is_sent = True
        while not reader.status:
            self._raise_if_lost()
            await (self._wait() if self._read_timeout is None else self._wait_to_read(self._read_timeout))
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": reader.reason, "network_stream": self}
        return Head(reader.status, reader.headers, reader.fields, extensions)

    async def read(self) -> bytes:
        """
        Read the next part of the body. At the end of the body the part is empty.

        Raises:
            httpx.TransportError: The body broke off.
        """
        reader = self._reader
        while not reader.parts:
            if reader.complete:
                return b""
            self._raise_if_lost()
            await (self._wait() if self._read_timeout is None else self._wait_to_read(self._read_timeout))
        part = reader.take()
        self._resume_if_possible()
        return part

    async def finish(self) -> None:
        """End the exchange. The connection stays reusable if the reply was read to its end and nothing followed it."""
        reader = self._reader
        if not (reader.complete and reader.reusable) or reader.surplus or reader.parts or self._closes_connection:
            self._is_usable = False
        reader.forget()
        self._is_exchanging = False

    # -- called by the event loop ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read *data* as part of the reply; close the connection if no request is running."""
        if self._tls is not None:
            data = self._decrypt_received(self._tls, data)
            if not data:
                return
        reader = self._reader
        if not self._is_exchanging:
            self._drop_connection()
            return
        if not self._is_sent or (self._transport is not None and self._transport.get_write_buffer_size()):
            # The reply came before the whole request was sent. It may be valid. But the server may read the rest of
            # the request as another request and answer that too.
            self._is_usable = False
        reader.feed(data)
        if reader.problem is not None:
            self._drop_connection()
        elif reader.held_bytes > MAX_UNREAD_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def end_received(self) -> None:
        """End a response that has no length."""
        # Over TLS only the server's close_notify ends it (RFC 9112, 9.8): anybody on the network can close TCP.
        if self._is_exchanging and self._failure is None and (self._tls is None or self._tls.ended):
            self._reader.end()

    # -- reading and writing -----------------------------------------------------------------------------------------

    async def _write_long(self, outgoing: bytes, request: Request, seconds: float | None) -> None:
        """Write, in parts, a request whose body is long or a stream. Each part may take *seconds*."""
        view = memoryview(outgoing)
        for start in range(0, len(view), MAX_WRITE_BYTES):
            if start and not await self._should_write_more():
                return
            await self._write_part(view[start : start + MAX_WRITE_BYTES], seconds)
        if not isinstance(request.body, bytes):
            framing = Framing(request.headers)
            async for part in request.body:
                if not await self._should_write_more():
                    return
                await self._write_part(framing.frame(part), seconds)
            await self._write_part(framing.end(), seconds)
        if self._is_readable():
            self._is_usable = False  # as in data_received()

    async def _should_write_more(self) -> bool:
        """Whether to write the rest of the request: False once the reply is complete or the connection has ended."""
        await asyncio.sleep(0)  # lets the event loop deliver what has arrived
        return not self._is_answered()

    async def _write_part(self, data: bytes | memoryview, seconds: float | None) -> None:
        """Write *data*, then wait at most *seconds* until the write buffer has room or the reply is complete."""
        if data:
            self._write_out(data)
        try:
            async with asyncio.timeout(seconds):
                while self._is_full and not self._is_answered():
                    await self._wait()
        except TimeoutError as error:
            raise httpx.WriteTimeout(Problem("nothing_written", seconds=seconds)) from error

    async def _wait_to_read(self, seconds: float) -> None:
        """Wait for the next event, at most *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                await self._wait()
        except TimeoutError as error:
            raise httpx.ReadTimeout(Problem("nothing_to_read", seconds=seconds)) from error

    def _resume_if_possible(self) -> None:
        """Receive again after a pause, once few bytes are unread."""
        few_unread = self._reader.held_bytes <= RESUME_BYTES
        if self._is_paused and few_unread and self._transport is not None and not self._is_over:
            self._is_paused = False
            self._transport.resume_reading()

    def _is_answered(self) -> bool:
        """Whether the reply is complete or can't arrive any more."""
        return self._is_over or self._reader.complete

    def _raise_if_lost(self) -> None:
        """
        Raise if the reply can't arrive any more.

        Raises:
            TooLateError: The deadline has passed.
            httpx.TransportError: The connection has ended, or the reply is invalid.
        """
        reader = self._reader
        if reader.problem is not None:
            raise httpx.RemoteProtocolError(reader.problem)
        if self._is_over and not reader.complete:
            if self._failure is not None:
                raise self._failure
            has_head = bool(reader.status)
            raise httpx.RemoteProtocolError(Problem("half_a_response") if has_head else Problem("no_response"))
        if self._is_late:
            raise TooLateError
