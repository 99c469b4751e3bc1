"""
Bytes over TCP, TLS or a Unix socket on asyncio: a protocol of its own, with nothing between it and the event loop.

What the bytes mean is for `asyncio_wire`.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

import httpx

from gatepay_async.pool.connecting import connect_tcp
from gatepay_async.pool.home import PROCESS, running_loop
from gatepay_async.pool.tls import Tls
from gatepay_async.pool.watching import never, watch
from gatepay_async.words.problem import Problem, message_of

# Turns of the event loop for it to tell what the system holds. It takes two.
TURNS: Final = 100

CLOSED_HERE: Final = Problem("closed_at_this_end")
NO_TLS: Final = Problem("closed_before_tls")

# httpcore's names for what can be asked about a connection; asyncio's names for the same.
_ASYNCIO_NAMES: Final = {"client_addr": "sockname", "server_addr": "peername", "socket": "socket"}
# Not connected. A name that can't be written in a certificate's or the system's way is a ValueError.
_UNREACHABLE: Final = (OSError, ValueError)


class Link(asyncio.Protocol):
    """
    A connection that somebody opens, writes to and waits for. `data_received` and `end_received` are for who reads it.

    Args:
        host: To connect to, and to be named by the certificate.
        port: Likewise.
        tls: What to believe of certificates; None: no TLS.
        uds: The path of a Unix socket to connect to instead.
    """

    __slots__ = (
        "_agreed", "_context", "_failure", "_forks", "_host", "_is_asked", "_is_full", "_is_late", "_is_over",
        "_is_readable", "_is_usable", "_loop", "_port", "_timer", "_tls", "_transport", "_uds", "_until", "_waiter",
    )  # fmt: skip

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, uds: str | None) -> None:
        self._host, self._port, self._uds = host, port, uds
        self._context = tls
        self._loop = asyncio.get_running_loop()
        self._forks = PROCESS.forks
        self._transport: asyncio.Transport | None = None
        self._is_readable: Callable[[], object] = never
        self._tls: Tls | None = None
        self._agreed = tls is None
        self._waiter: asyncio.Future[None] | None = None
        self._until = math.inf  # nobody waits any longer
        self._timer: asyncio.TimerHandle | None = None
        self._is_late = False
        self._is_asked = False  # a request is under way
        self._is_usable = False
        self._is_full = False  # nothing can be written
        self._is_over = False  # nothing more comes
        self._failure: Exception | None = None

    # -- what the pool asks ------------------------------------------------------------------------------------------

    def is_here(self) -> bool:
        """Whether it was opened in this process, on the event loop that runs now."""
        return self._loop is running_loop() and self._forks == PROCESS.forks

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
        self._is_readable = watch(transport.get_extra_info("socket").fileno())
        if self._is_over:  # it was closed before it was there
            self._abort()

    def eof_received(self) -> None:
        """Nothing more will come; the event loop closes the transport."""
        self._end()

    def end_received(self) -> None:
        """Nothing more will come, for whatever reason."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if exc is not None and not self._is_over:
            self._failure = httpx.ReadError(_reason(exc))
            self._is_over = True
        self._is_readable = never
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
        except _UNREACHABLE as error:
            raise httpx.ConnectError(_reason(error)) from error
        if self._context is None:
            self._is_usable = await self._look_before_use()
        else:
            await self._start_tls(self._context, extensions.get("sni_hostname") or self._host, seconds)

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
        try:
            self._tls = tls = Tls(context, hostname)
            async with asyncio.timeout(seconds):
                await self._agree(tls)
                # In the same time: what follows may have come by half.
                self._is_usable = await self._look_before_use()
        except TimeoutError as error:
            raise httpx.ConnectTimeout(Problem("no_tls", seconds=seconds)) from error
        except _UNREACHABLE as error:  # ssl.SSLError is an OSError
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
        has_answered = self._pass_on(tls)
        if not self._is_asked and (opened or (has_answered and self._is_usable)):
            # TLS itself has answered where the server wants to agree anew: no request can be sealed until that is done.
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

    def _pass_on(self, tls: Tls) -> bool:
        sealed = tls.drain()
        if sealed and self._transport is not None:
            self._transport.write(sealed)
        return bool(sealed)

    def _write_out(self, data: bytes | memoryview) -> None:
        transport = self._transport
        if transport is None or self._is_over:
            return  # whoever waits for the reply is told
        if self._tls is None:
            transport.write(data)
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as error:  # a failure that hasn't been told yet, or the other end wants to agree anew
            raise httpx.WriteError(_reason(error)) from error
        transport.write(self._tls.drain())

    def _wait(self) -> asyncio.Future[None]:
        """Give what is done when something has happened, whatever it is."""
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("another task is using this response already")
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake_at(self, until: float) -> None:
        """
        Wake whoever waits at *until*, on the event loop's clock.

        One timer serves many exchanges: it isn't set back when one ends, but looks when it rings whether it is time.
        """
        self._until, self._is_late = until, False
        timer = self._timer
        if timer is not None and timer.when() > until:
            timer.cancel()
            timer = None
        if timer is None and until < math.inf:
            self._timer = self._loop.call_at(until, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._is_late = self._loop.time() >= self._until
        if self._is_late:
            self._wake()
        else:
            self._wake_at(self._until)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _has_unsent(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _end(self) -> None:
        """Nothing more comes."""
        self._is_over = True
        self._is_usable = False
        self.end_received()
        self._wake()

    def _give_up(self) -> None:
        """Close it: it has said what nobody asked for, or what nobody understands."""
        self._abort()
        self._end()

    def _abort(self) -> None:
        transport = self._transport
        if transport is None:
            return
        if self.is_here():
            if self._timer is not None:
                self._timer.cancel()
            transport.abort()
            return
        # Only its own event loop may touch it. Of a process that has forked this one, nothing may be touched at all.
        self._transport = None
        if self._forks == PROCESS.forks:
            with suppress(RuntimeError):  # that event loop is closed: nothing but this has held the socket
                self._loop.call_soon_threadsafe(transport.abort)


def _reason(error: Exception) -> str:
    return message_of(error) or type(error).__name__
