"""
An `asyncio.Protocol` that sends and receives bytes over TCP, TLS or a Unix socket.

`asyncio_wire` adds HTTP.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

import httpx

from gatepay_async.pool.connecting import connect_tcp
from gatepay_async.pool.owner import PROCESS, loop_of_asyncio
from gatepay_async.pool.tls import Tls
from gatepay_async.pool.watching import make_readable_check, never_readable
from gatepay_async.words.problem import Problem, message_of

# A new connection gives the event loop at most this many turns to deliver the bytes that have arrived. Two are normally
# enough; if bytes are still undelivered after the last turn, the connection is not used.
MAX_LOOP_TURNS: Final = 100

CLOSED_HERE: Final = Problem("closed_at_this_end")
NO_TLS: Final = Problem("closed_before_tls")

# httpcore's names for facts about a connection, and asyncio's names for the same.
_ASYNCIO_NAMES: Final = {"client_addr": "sockname", "server_addr": "peername", "socket": "socket"}
# The errors that connecting can raise. A host name that can't be encoded for DNS or TLS raises ValueError.
_UNREACHABLE: Final = (OSError, ValueError)


class Link(asyncio.Protocol):
    """
    A connection's socket and TLS. The subclass reads the bytes, in `data_received` and `end_received`.

    Args:
        host: The host to connect to; its certificate must have this name.
        port: The port to connect to.
        tls: The TLS context, or None for a connection without TLS.
        uds: The path of a Unix socket to connect to instead of *host* and *port*, or None.
    """

    __slots__ = (
        "_context", "_exchange_deadline", "_failure", "_forks", "_handshake_done", "_host", "_is_exchanging",
        "_is_full", "_is_late", "_is_over", "_is_readable", "_is_usable", "_loop", "_port", "_timer", "_timer_at",
        "_tls", "_transport", "_uds", "_waiter",
    )  # fmt: skip

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, uds: str | None) -> None:
        self._host, self._port, self._uds = host, port, uds
        self._context = tls
        self._loop = asyncio.get_running_loop()
        self._forks = PROCESS.forks  # to notice later that this is a forked child process
        self._transport: asyncio.Transport | None = None
        self._is_readable: Callable[[], object] = never_readable  # whether the socket has unread bytes
        self._tls: Tls | None = None
        self._handshake_done = tls is None
        self._waiter: asyncio.Future[None] | None = None  # awaited by the task that uses the connection
        self._exchange_deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf  # when the timer fires, if there is one
        self._is_late = False  # the deadline has passed
        self._is_exchanging = False  # from sending a request to the end of its reply
        self._is_usable = False  # may carry a request, when no exchange is running
        self._is_full = False  # the transport's write buffer is full
        self._is_over = False  # no more bytes will arrive
        self._failure: Exception | None = None  # why the connection ended, if it didn't end normally

    # -- called by the pool ------------------------------------------------------------------------------------------

    def is_on_this_loop(self) -> bool:
        """Whether the connection was opened in this process, on the running event loop."""
        return self._loop is loop_of_asyncio() and self._forks == PROCESS.forks

    async def aclose(self) -> None:
        """Close the socket. This never waits, so a cancellation can't interrupt it."""
        self._is_usable = False
        self._is_over = True
        if self._failure is None:
            self._failure = httpx.ReadError(CLOSED_HERE)
        self._abort()
        self._wake()

    def get_extra_info(self, info: str) -> Any:
        """Return the value that httpcore's streams return for the name *info*; None for an unknown name."""
        if info == "ssl_object":
            return None if self._tls is None else self._tls.object
        if info == "is_readable":
            return self._is_over or bool(self._is_readable())
        if self._transport is None or info not in _ASYNCIO_NAMES:
            return None
        return self._transport.get_extra_info(_ASYNCIO_NAMES[info])

    # -- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of the new connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._is_readable = make_readable_check(transport.get_extra_info("socket").fileno())
        if self._is_over:  # aclose() was called while it was connecting
            self._abort()

    def eof_received(self) -> None:
        """Note that the server sends no more. The event loop then closes the transport."""
        self._note_end()

    def end_received(self) -> None:
        """Handle the end of the received bytes, for whatever reason."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the transport is closed, and why."""
        if exc is not None and not self._is_over:
            self._failure = httpx.ReadError(_reason(exc))
            self._is_over = True
        self._is_readable = never_readable
        self._is_full = False
        self._note_end()

    def pause_writing(self) -> None:
        """Note that the write buffer is full."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Note that there is room in the write buffer again."""
        self._is_full = False
        self._wake()

    # -- connecting --------------------------------------------------------------------------------------------------

    async def _open(self, seconds: float | None, hostname: str) -> None:
        """Connect; then perform the TLS handshake for *hostname*, if there is TLS. Each may take *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                await self._connect()
        except TimeoutError as error:
            raise httpx.ConnectTimeout(Problem("not_connected", seconds=seconds)) from error
        except _UNREACHABLE as error:
            raise httpx.ConnectError(_reason(error)) from error
        if self._context is None:
            self._is_usable = await self._check_before_use()
        else:
            await self._start_tls(self._context, hostname, seconds)

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
                await self._do_handshake(tls)
                # Within the same time limit: a record after the handshake may have arrived only in part.
                self._is_usable = await self._check_before_use()
        except TimeoutError as error:
            raise httpx.ConnectTimeout(Problem("no_tls", seconds=seconds)) from error
        except _UNREACHABLE as error:  # ssl.SSLError is an OSError
            raise httpx.ConnectError(_reason(error)) from error

    async def _do_handshake(self, tls: Tls) -> None:
        try:
            while not tls.shake_hands():
                self._send_encrypted(tls)
                await self._wait()
                if self._is_over:
                    raise ConnectionResetError(NO_TLS if self._failure is None else message_of(self._failure))
        finally:
            self._send_encrypted(tls)  # after an error, this sends the TLS alert
        self._handshake_done = True
        self._read_decrypted(tls)

    async def _check_before_use(self) -> bool:
        """
        Let the event loop deliver the bytes that have arrived already: TLS session tickets, for example.

        Returns:
            Whether all of them were read and none belongs to a reply.
        """
        for _ in range(MAX_LOOP_TURNS):
            if self._is_over:
                break
            if self._tls is not None and not self._tls.at_record_end:
                await self._wait()
            elif self._is_readable():
                await asyncio.sleep(0)
            else:
                return True
        return False

    # -- reading and writing -----------------------------------------------------------------------------------------

    def _decrypt_received(self, tls: Tls, data: bytes) -> bytes:
        """Decrypt *data*, as received from the network. During the handshake, the result is empty."""
        tls.feed(data)
        if not self._handshake_done:
            self._wake()
            return b""
        return self._read_decrypted(tls)

    def _read_decrypted(self, tls: Tls) -> bytes:
        """Return the bytes that TLS has decrypted. Close the connection if they are unexpected."""
        decrypted = tls.read()
        has_output = self._send_encrypted(tls)
        if not self._is_exchanging and (decrypted or (has_output and self._is_usable)):
            # The server sent bytes without a request, or wants to renegotiate TLS. Until the renegotiation is complete,
            # no request can be encrypted.
            self._drop_connection()
            return b""
        if tls.ended:
            self._is_usable = False
            self._loop.call_soon(self._end_tls, tls)  # after the caller has read *decrypted*
        elif not decrypted:
            self._wake()  # _check_before_use() may be waiting for the rest of a record
        return decrypted

    def _end_tls(self, tls: Tls) -> None:
        """Close the connection, because the server has ended TLS or sent an invalid record."""
        if tls.failure is not None and self._failure is None:
            self._failure = httpx.ReadError(_reason(tls.failure))
        self._drop_connection()

    def _send_encrypted(self, tls: Tls) -> bool:
        """Send the encrypted bytes that TLS has produced. Return whether there were any."""
        encrypted = tls.drain()
        if encrypted and self._transport is not None:
            self._transport.write(encrypted)
        return bool(encrypted)

    def _write_out(self, data: bytes | memoryview) -> None:
        """Give *data* to the transport, encrypted if there is TLS."""
        transport = self._transport
        if transport is None or self._is_over:
            return  # waiting for the reply raises the error
        if self._tls is None:
            transport.write(data)
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as error:  # an earlier failure, or the server wants to renegotiate
            raise httpx.WriteError(_reason(error)) from error
        transport.write(self._tls.drain())

    def _wait(self) -> asyncio.Future[None]:
        """
        Return a future for the next event: bytes, the end of the connection, room to write, or the deadline.

        Raises:
            RuntimeError: Another task is waiting already.
        """
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("another task is using this response already")
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake_at(self, until: float) -> None:
        """
        Wake the waiting task at *until*, on the event loop's clock.

        One timer serves many exchanges, because creating a timer is slow. When an exchange ends, its timer keeps
        running. If it fires too early for a later exchange, it is set again.
        """
        self._exchange_deadline, self._is_late = until, False
        timer = self._timer
        if timer is not None and self._timer_at > until:
            timer.cancel()
            timer = None
        if timer is None and until < math.inf:
            self._timer_at = until  # stored, because uvloop's timer has no when() if *until* is now
            self._timer = self._loop.call_at(until, self._on_timer)

    def _on_timer(self) -> None:
        """Wake the waiting task, or set the timer again if the current exchange has a later deadline."""
        self._timer = None
        self._is_late = self._loop.time() >= self._exchange_deadline
        if self._is_late:
            self._wake()
        else:
            self._wake_at(self._exchange_deadline)

    def _wake(self) -> None:
        """Wake the task that waits for the next event, if there is one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _note_end(self) -> None:
        """Note that no more bytes will arrive, and wake the waiting task."""
        self._is_over = True
        self._is_usable = False
        self.end_received()
        self._wake()

    def _drop_connection(self) -> None:
        """Close the connection, because the server has sent invalid bytes, or bytes without a request."""
        self._abort()
        self._note_end()

    def _abort(self) -> None:
        """Close the socket at once. Bytes that were not sent yet are lost."""
        transport = self._transport
        if transport is None:
            return
        if self.is_on_this_loop():
            if self._timer is not None:
                self._timer.cancel()
            transport.abort()
            return
        # Only the transport's own event loop may close it. After a fork, the socket belongs to the parent process.
        self._transport = None
        if self._forks == PROCESS.forks:
            with suppress(RuntimeError):  # that event loop is closed; dropping the transport closes the socket
                self._loop.call_soon_threadsafe(transport.abort)


def _reason(error: Exception) -> str:
    """Return the message of *error*, or its class if it has no message."""
    return message_of(error) or type(error).__name__
