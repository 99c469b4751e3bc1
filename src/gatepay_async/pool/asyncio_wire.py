"""
One connection on asyncio: a protocol of its own, with nothing between it and the event loop.

The event loop tells at once when a byte comes, or the connection's end. One that comes while no request is under way
closes the connection. And in the last moment before a request leaves, the system is asked whether there is one that the
event loop hasn't told of yet: what has come by then is no reply to it.
"""

import asyncio
import select
import ssl
from functools import partial
from typing import Any, Final, cast

import httpx

from gatepay_async.pool.connecting import connect_tcp
from gatepay_async.pool.port import Head, NotAvailableError, Request
from gatepay_async.pool.requests import Framing, encode
from gatepay_async.pool.responses import ResponseReader
from gatepay_async.pool.tls import Tls
from gatepay_async.words.problem import Problem, message_of

# How much is handed to the system at a time, and how much of a reply may wait for its reader before no more is read.
AT_A_TIME: Final = 64 * 1024
MOST_HELD: Final = 256 * 1024
# Turns of the event loop for it to tell what the system holds. It takes two.
TURNS: Final = 100

NO_TIMEOUT: Final[dict[str, float | None]] = {}
CLOSED_HERE: Final = Problem("closed_at_this_end")
NO_TLS: Final = Problem("closed_before_tls")
TOO_EARLY: Final = Problem("spoke_too_early")

# httpcore's names for what can be asked about a connection; asyncio's names for the same.
_ASYNCIO_NAMES: Final = {"client_addr": "sockname", "server_addr": "peername", "socket": "socket"}


class Wire(asyncio.Protocol):
    """
    A connection that opens itself for its first request, and carries one after the other: a `port.Connection`.

    Args:
        host: To connect to, and to be named by the certificate.
        port: Likewise.
        tls: What to believe of certificates; None: no TLS.
        uds: The path of a Unix socket to connect to instead.
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, uds: str | None) -> None:
        self._host, self._port, self._uds = host, port, uds
        self._context = tls
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_readable = _never
        self._tls: Tls | None = None
        self._agreed = tls is None
        self._reader = ResponseReader()
        self._waiter: asyncio.Future[None] | None = None
        self._is_new = True
        self._is_asked = False  # a request is under way
        self._is_sent = False  # all of it was handed to the event loop
        self._is_usable = False
        self._is_paused = False  # nothing is read
        self._is_full = False  # nothing can be written
        self._is_over = False  # nothing more comes
        self._failure: Exception | None = None
        self._read_timeout: float | None = None

    # -- what the pool asks ------------------------------------------------------------------------------------------

    def is_fit(self) -> bool:
        """Whether it may carry another request; the system is asked when one is sent."""
        return self._is_usable and not self._is_asked and (self._tls is None or self._tls.at_rest)

    async def send(self, request: Request) -> Head:
        """
        Connect if need be, send *request*, and read the head of its response.

        Raises:
            NotAvailableError: The connection has ended, or the server spoke before it was asked. Nothing was sent.
            httpx.ConnectError: There is no connection to be had. Nothing was sent.
            httpx.LocalProtocolError: It is no request of HTTP.
            httpx.TransportError: Any other failure.
        """
        extensions = request.extensions
        timeout = extensions.get("timeout") or NO_TIMEOUT
        outgoing = encode(request)
        if self._is_new:
            self._is_new = False
            await self._open(timeout.get("connect"), extensions)
        elif self._is_readable():
            self._is_usable = False
        if not self._is_usable:
            raise NotAvailableError(TOO_EARLY, untouched=True)
        reader = self._reader
        reader.start(to_head=request.method == b"HEAD")
        self._read_timeout = timeout.get("read")
        self._is_asked, self._is_sent = True, False
        on_send = extensions.get("on_send")
        if on_send is not None:
            on_send()
        if len(outgoing) <= AT_A_TIME and isinstance(request.body, bytes):
            self._write(outgoing)
        else:
            await self._write_long(outgoing, request, timeout.get("write"))
        self._is_sent = True
        while not reader.status:
            self._check()
            await self._wait_to_read()
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": reader.reason, "network_stream": self}
        return Head(reader.status, reader.headers, reader.fields, extensions)

    async def read(self) -> bytes:
        """
        Read some of the body; nothing at its end.

        Raises:
            httpx.TransportError: It broke off.
        """
        reader = self._reader
        while not reader.parts:
            if reader.complete:
                return b""
            self._check()
            await self._wait_to_read()
        part = reader.take()
        if self._is_paused and reader.held <= AT_A_TIME and self._transport is not None and not self._is_over:
            self._is_paused = False
            self._transport.resume_reading()
        return part

    async def finish(self) -> None:
        """End the exchange; the connection stays fit if the reply was read to its end and nothing came behind it."""
        reader = self._reader
        if not (reader.complete and reader.reusable) or reader.surplus or reader.parts:
            self._is_usable = False
        self._is_asked = False

    async def aclose(self) -> None:
        """Close the socket. Never waits, so nothing can come between."""
        self._is_usable = False
        self._is_over = True
        if self._failure is None:
            self._failure = httpx.ReadError(CLOSED_HERE)
        self._abort()
        self._wake()

    def get_extra_info(self, info: str) -> Any:
        """Answer the questions that httpcore's streams do: `ssl_object`, `client_addr`, `server_addr`, `socket`."""
        if info == "ssl_object":
            return None if self._tls is None else self._tls.object
        if info == "is_readable":
            return self._is_over or bool(self._is_readable())
        if self._transport is None or info not in _ASYNCIO_NAMES:
            return None
        return self._transport.get_extra_info(_ASYNCIO_NAMES[info])

    # -- what the event loop tells -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._is_readable = _watch(transport.get_extra_info("socket").fileno())
        if self._is_over:  # it was closed before it was there
            self._abort()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._tls is not None:
            data = self._open_records(self._tls, data)
            if not data:
                return
        reader = self._reader
        if not self._is_asked:
            self._give_up()
            return
        if not self._is_sent or self._has_unsent():
            # It may be right, but then the server may take the rest of the request for another one and answer it, too.
            self._is_usable = False
        reader.feed(data)
        if reader.problem is not None:
            self._give_up()
        elif reader.held > MOST_HELD and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Nothing more will come; the event loop closes the transport."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if exc is not None and not self._is_over:
            self._failure = httpx.ReadError(_reason(exc))
            self._is_over = True
        self._is_readable = _never
        self._is_full = False
        self._end()

    def pause_writing(self) -> None:
        """The other end takes nothing."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It takes more."""
        self._is_full = False
        self._wake()

    # -- connecting --------------------------------------------------------------------------------------------------

    async def _open(self, seconds: float | None, extensions: dict[str, Any]) -> None:
        on_connect = extensions.get("on_connect")
        if on_connect is not None:
            on_connect()
        try:
            async with asyncio.timeout(seconds):
                await self._connect()
        except TimeoutError as error:
            raise httpx.ConnectTimeout(Problem("not_connected", seconds=seconds)) from error
        except OSError as error:
            raise httpx.ConnectError(_reason(error)) from error
        if self._context is not None:
            await self._start_tls(self._context, extensions.get("sni_hostname") or self._host, seconds)
        self._is_usable = await self._look_before_use()

    async def _connect(self) -> None:
        if self._uds is not None:
            await self._loop.create_unix_connection(lambda: self, self._uds)
            return
        connected = await connect_tcp(self._host, self._port)
        try:
            await self._loop.create_connection(lambda: self, sock=connected)
        except BaseException:
            connected.close()
            raise

    async def _start_tls(self, context: ssl.SSLContext, hostname: str, seconds: float | None) -> None:
        context.set_alpn_protocols(["http/1.1"])
        self._tls = tls = Tls(context, hostname)
        try:
            async with asyncio.timeout(seconds):
                await self._agree(tls)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(Problem("no_tls", seconds=seconds)) from error
        except OSError as error:  # ssl.SSLError is one
            raise httpx.ConnectError(_reason(error)) from error

    async def _agree(self, tls: Tls) -> None:
        try:
            while not tls.shake_hands():
                self._pass_on(tls)
                await self._wait()
                if self._is_over:
                    raise ConnectionResetError(NO_TLS if self._failure is None else message_of(self._failure))
        finally:
            self._pass_on(tls)  # an alert, too
        self._agreed = True
        self._receive_opened(tls)

    async def _look_before_use(self) -> bool:
        """
        Have the event loop tell what has come already: TLS's session tickets, for example.

        Returns:
            Whether it is at rest now, and no byte of a reply has come.
        """
        for _ in range(TURNS):
            if self._is_over:
                break
            if self._tls is not None and not self._tls.at_rest:
                await self._wait()
            elif self._is_readable():
                await asyncio.sleep(0)
            else:
                return True
        return False

    # -- reading and writing -----------------------------------------------------------------------------------------

    def _open_records(self, tls: Tls, data: bytes) -> bytes:
        tls.feed(data)
        if not self._agreed:
            self._wake()
            return b""
        return self._receive_opened(tls)

    def _receive_opened(self, tls: Tls) -> bytes:
        opened = tls.read()
        self._pass_on(tls)
        if opened and not self._is_asked:
            self._give_up()
            return b""
        if tls.ended:
            self._is_usable = False
            self._loop.call_soon(self._end_tls, tls)  # once what came before it is read
        elif not opened:
            self._wake()  # who waits for the rest of a record
        return opened

    def _end_tls(self, tls: Tls) -> None:
        if tls.failure is not None and self._failure is None:
            self._failure = httpx.ReadError(_reason(tls.failure))
        self._give_up()

    def _pass_on(self, tls: Tls) -> None:
        sealed = tls.drain()
        if sealed and self._transport is not None:
            self._transport.write(sealed)

    def _write(self, data: bytes | memoryview) -> None:
        transport = self._transport
        if transport is None or self._is_over:
            return  # whoever waits for the reply is told
        if self._tls is None:
            transport.write(data)
        else:
            self._tls.write(data)
            transport.write(self._tls.drain())

    async def _write_long(self, outgoing: bytes, request: Request, seconds: float | None) -> None:
        view = memoryview(outgoing)
        for start in range(0, len(view), AT_A_TIME):
            await self._write_part(view[start : start + AT_A_TIME], seconds)
        if not isinstance(request.body, bytes):
            framing = Framing(request.headers)
            async for part in request.body:
                await self._write_part(framing.frame(part), seconds)
            await self._write_part(framing.end(), seconds)
        if self._is_readable():
            self._is_usable = False  # as in data_received()

    async def _write_part(self, data: bytes | memoryview, seconds: float | None) -> None:
        if data:
            self._write(data)
        try:
            async with asyncio.timeout(seconds):
                while self._is_full and not self._is_over:
                    await self._wait()
        except TimeoutError as error:
            raise httpx.WriteTimeout(Problem("nothing_written", seconds=seconds)) from error

    async def _wait_to_read(self) -> None:
        seconds = self._read_timeout
        if seconds is None:
            await self._wait()
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wait()
        except TimeoutError as error:
            raise httpx.ReadTimeout(Problem("nothing_to_read", seconds=seconds)) from error

    async def _wait(self) -> None:
        """Wait until something has happened, whatever it is."""
        if self._waiter is not None:
            raise RuntimeError("another task is using this response already")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check(self) -> None:
        """
        See whether the reply can still come.

        Raises:
            httpx.TransportError: It can't.
        """
        reader = self._reader
        if reader.problem is not None:
            raise httpx.RemoteProtocolError(reader.problem)
        if self._is_over and not reader.complete:
            if self._failure is not None:
                raise self._failure
            half = bool(reader.status)
            raise httpx.RemoteProtocolError(Problem("half_a_response") if half else Problem("no_response"))

    def _has_unsent(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _end(self) -> None:
        """Nothing more comes."""
        self._is_over = True
        self._is_usable = False
        if self._is_asked and self._failure is None:
            self._reader.end()
        self._wake()

    def _give_up(self) -> None:
        """Close it: it has said what nobody asked for, or what nobody understands."""
        self._abort()
        self._end()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _never() -> bool:
    """What is not there can't be read from."""
    return False


def _watch(descriptor: int) -> Any:
    """Give a function that asks the system whether something has come there, the end included."""
    if not hasattr(select, "poll"):  # Windows, where select() takes any number of descriptor
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return partial(poll.poll, 0)  # what has happened there: nothing, mostly


def _reason(error: Exception) -> str:
    return message_of(error) or type(error).__name__
