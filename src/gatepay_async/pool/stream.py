"""
The network stream of one connection, over anyio, with the interface that httpcore requires.

It replaces httpcore's own network code for four reasons:

* httpcore leaks the socket if connecting is cancelled after TCP and before the end of the TLS handshake. A
  `NetworkStream` holds the socket from the start, and closing the stream closes it.
* Closing can't hang, and a cancellation can't interrupt it: see `NetworkStream.aclose`.
* It is faster: a read without a time-out sets no timer, and a request's head and body are sent in one write.
* It knows whether there are unread bytes between the socket and httpcore: see
  `NetworkStream.is_open_without_unread_bytes`.
"""

import contextlib
import socket
import ssl
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, cast

import anyio
import httpcore
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from gatepay_async.pool.owner import Owner
from gatepay_async.pool.port import do_nothing
from gatepay_async.pool.records import RecordStream
from gatepay_async.pool.watching import count_unread_bytes, is_readable
from gatepay_async.words.problem import Problem

# Collect a request's bytes up to this size, then write them. Larger writes are no faster.
MAX_COLLECTED_BYTES: Final = 64 * 1024

TOO_EARLY: Final = Problem("spoke_too_early")

# The errors of a broken or closed stream. An invalid TLS record raises ssl.SSLError.
BROKEN: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)

# httpcore's names for facts about a stream (httpcore: docs/network-backends.md).
ATTRIBUTES: Final[dict[str, object]] = {
    "ssl_object": TLSAttribute.ssl_object,
    "client_addr": SocketAttribute.local_address,
    "server_addr": SocketAttribute.remote_address,
    "socket": SocketAttribute.raw_socket,
}


class NetworkStream(httpcore.AsyncNetworkBackend, httpcore.AsyncNetworkStream):
    """
    httpcore's backend and its stream in one object. It connects once.

    Attributes:
        on_connect: Called without arguments before the host name is looked up.
        on_send: Called once without arguments, just before the first byte of a request is sent.
        request_begun: Whether any byte of the current request was sent. Set it to False before each request.
        not_reusable: Whether the connection can't carry another request: a write failed, or a reply came too early.
    """

    def __init__(self) -> None:
        self.on_connect: Callable[[], object] = do_nothing
        self.on_send: Callable[[], object] = do_nothing
        self.request_begun = False
        self.not_reusable = False
        self._owner = Owner()
        self._stream: ByteStream | None = None
        self._socket: socket.socket | None = None
        self._queue: Collection[bytes] = ()  # the bytes that anyio has read ahead
        self._tls: ssl.SSLObject | None = None
        self._records: RecordStream | None = None
        self._used = False  # a request was sent on this connection
        self._collected = b""  # kept for the next write

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 -- the pool sets none
    ) -> httpcore.AsyncNetworkStream:
        """
        Connect to *host*, trying its addresses concurrently (RFC 8305).

        Raises:
            httpcore.ConnectTimeout: *timeout* seconds were not enough.
            httpcore.ConnectError: No address answered.
        """
        self.on_connect()
        try:
            with anyio.fail_after(timeout):
                self._use_stream(await anyio.connect_tcp(host, port, local_host=local_address))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(Problem("not_connected", seconds=timeout)) from error
        except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name
            raise httpcore.ConnectError(_reason(error)) from error
        return self

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's interface
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 -- the pool sets none
    ) -> httpcore.AsyncNetworkStream:
        """
        Connect to the Unix socket at *path*.

        Raises:
            httpcore.ConnectTimeout: *timeout* seconds were not enough.
            httpcore.ConnectError: Connecting failed.
        """
        self.on_connect()
        try:
            with anyio.fail_after(timeout):
                self._use_stream(await anyio.connect_unix(path))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(Problem("not_connected", seconds=timeout)) from error
        except OSError as error:
            raise httpcore.ConnectError(_reason(error)) from error
        return self

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's interface
    ) -> httpcore.AsyncNetworkStream:
        """
        Perform the TLS handshake.

        Raises:
            httpcore.ConnectTimeout: *timeout* seconds were not enough.
            httpcore.ConnectError: The handshake failed, or the certificate is not trusted.
        """
        try:
            with anyio.fail_after(timeout):
                self._records = RecordStream(self._open_stream())
                self._stream = await TLSStream.wrap(
                    self._records,
                    server_side=False,
                    hostname=server_hostname,
                    ssl_context=ssl_context,
                    # HTTP/1.1 marks the end of a message itself (RFC 9112, 9.8), and a closing handshake could hang.
                    standard_compatible=False,
                )
                self._tls = self._stream.extra(TLSAttribute.ssl_object)  # noqa: S610 -- anyio's extra(), not Django's
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(Problem("no_tls", seconds=timeout)) from error
        except (*BROKEN, anyio.EndOfStream, ValueError) as error:  # ValueError: an invalid host name
            raise httpcore.ConnectError(_reason(error)) from error
        return self

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- as above
        """
        Read at most *max_bytes*. The result is empty if the server has closed the connection.

        Raises:
            httpcore.ReadTimeout: Nothing was received for *timeout* seconds.
            httpcore.ReadError: The connection is broken, or closed at this end.
        """
        if self._collected:
            # The end of a chunked body. If writing it fails, still read, as httpcore does after every other failed
            # write: the server may have replied before it closed the connection.
            with contextlib.suppress(httpcore.WriteError):
                await self.write(b"", timeout)
        # The number of bytes that arrived before the request was sent.
        early_bytes = 0 if self._records is None else self._records.early_bytes
        try:
            if timeout is None:
                data = await self._open_stream().receive(max_bytes)
            else:
                with anyio.fail_after(timeout):
                    data = await self._open_stream().receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except TimeoutError as error:
            raise httpcore.ReadTimeout(Problem("nothing_to_read", seconds=timeout)) from error
        except BROKEN as error:
            raise httpcore.ReadError(_reason(error)) from error
        if early_bytes and self._records is not None and self._records.last_were_early:  # *data* can't be the reply
            raise httpcore.ReadError(TOO_EARLY)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- as above
        """
        Write *buffer*, or keep it for the next write.

        httpcore writes a request's head, each part of its body, and its end. The end is empty unless the body is
        chunked. So an empty write sends everything that was kept; reading does so too.

        Raises:
            httpcore.ConnectionNotAvailable: The server sent bytes before the request. Nothing was sent.
            httpcore.WriteTimeout: The server received nothing for *timeout* seconds.
            httpcore.WriteError: The connection is broken, or closed at this end.
        """
        self._collected += buffer
        if buffer and len(self._collected) < MAX_COLLECTED_BYTES:
            return
        try:
            await self._flush(timeout)
        except TimeoutError as error:
            self.not_reusable = True
            if self._records is None and (self._queue or is_readable(self._socket)):
                # After a WriteError httpcore reads: the server may have sent its reply before the end of the request.
                # Over TLS that is impossible: anyio can't read after it has written part of a record.
                raise httpcore.WriteError(_reason(error)) from error
            raise httpcore.WriteTimeout(Problem("nothing_written", seconds=timeout)) from error
        except BROKEN as error:
            self.not_reusable = True
            raise httpcore.WriteError(_reason(error)) from error

    def is_open_without_unread_bytes(self) -> bool:
        """
        Whether the connection is open and has no unread bytes.

        Bytes may be unread in the socket, in anyio's buffer, or in TLS: decrypted, encrypted, or as part of a record.
        The next request would take them for its reply. So a connection with unread bytes must not be reused.
        """
        if self.not_reusable or self._queue or is_readable(self._socket):
            return False
        return self._records is None or (self._records.at_record_end and self._is_tls_empty(self._records))

    def is_on_this_loop(self) -> bool:
        """Whether the stream was opened in this process, on the running event loop."""
        return self._owner.is_current()

    def is_cut_off(self) -> bool:
        """Whether TCP ended without TLS's close_notify (RFC 9112, 9.8). An attacker can close TCP, but not TLS."""
        return self._records is not None and self._records.ended

    async def aclose(self) -> None:
        """
        Close the socket, if it is open. On another event loop, or in another process, only forget it.

        This never waits for the server. The socket is closed before the first await, so a cancellation can't prevent
        it.
        """
        stream, self._stream, self._socket = self._stream, None, None
        if stream is not None and self.is_on_this_loop():
            await anyio.aclose_forcefully(stream)

    def get_extra_info(self, info: str) -> Any:
        """Return the value for a name in `ATTRIBUTES` or for `is_readable`; None for any other name."""
        if info == "is_readable":
            return is_readable(self._socket)
        if self._stream is None or info not in ATTRIBUTES:
            return None
        return self._stream.extra(ATTRIBUTES[info], None)  # noqa: S610 -- anyio's extra(), not Django's

    def _use_stream(self, stream: ByteStream) -> None:
        """Store *stream*, its socket, and the queue of the bytes that anyio has read ahead."""
        self._stream = stream
        # Stored, because extra() builds a dictionary and the socket is needed before every reuse.
        self._socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 -- as above
        # The bytes that anyio's asyncio backend has read ahead. The attribute is private; if anyio moves it, a test
        # fails. On trio, and over a Unix socket, nothing is read ahead.
        self._queue = getattr(getattr(stream, "_protocol", None), "read_queue", ())

    def _open_stream(self) -> ByteStream:
        """Return the stream. If it is closed, raise the error that anyio would raise."""
        if self._stream is None:
            raise anyio.ClosedResourceError
        return self._stream

    async def _flush(self, timeout: float | None) -> None:  # noqa: ASYNC109 -- as above
        """Write the collected bytes. Errors are anyio's, not httpcore's."""
        buffer, self._collected = self._collected, b""
        if not buffer:
            return
        stream = self._open_stream()
        if not self.request_begun:
            self._begin_request()
        if timeout is None:
            await stream.send(buffer)
        else:
            with anyio.fail_after(timeout):
                await stream.send(buffer)
        if len(buffer) >= MAX_COLLECTED_BYTES and not self.is_open_without_unread_bytes():
            # The reply came before the whole request was sent. It may be valid. But the server may parse the rest of
            # this request as a second request, and reply to that too.
            self.not_reusable = True

    def _begin_request(self) -> None:
        """
        Check that there are no unread bytes, then call `on_send`. Call this just before the first byte is sent.

        Raises:
            httpcore.ConnectionNotAvailable: Bytes are unread. They can't be the reply to this request.
        """
        if not (self.is_open_without_unread_bytes() if self._used else self._has_no_unread_http()):
            raise httpcore.ConnectionNotAvailable(TOO_EARLY)
        self.request_begun = self._used = True
        on_send, self.on_send = self.on_send, do_nothing
        on_send()

    def _has_no_unread_http(self) -> bool:
        """
        Whether this new connection has received no bytes of HTTP.

        Unlike `is_open_without_unread_bytes`, this is True even if the server has closed the connection: a request may
        still arrive.
        """
        unread = sum(map(len, self._queue)) + count_unread_bytes(self._socket)
        if self._records is None:
            return not unread
        # A TLS 1.3 server sends session tickets unasked. Only decryption can distinguish them from a reply.
        self._records.early_bytes = unread
        return self._records.at_record_end and self._is_tls_empty(self._records)

    def _is_tls_empty(self, records: RecordStream) -> bool:
        """Whether TLS has no decrypted bytes to read."""
        if not records.has_new_bytes:  # skips the read, which costs more than the other checks together
            return True
        try:
            cast("ssl.SSLObject", self._tls).read(1)
        except ssl.SSLWantReadError:
            records.has_new_bytes = False
            return True
        except ssl.SSLError:  # closed, or an invalid record
            pass
        return False


def _reason(error: Exception) -> str:
    """Return the message of *error*. anyio's errors may have none; then their cause has the system's message."""
    return str(error.__cause__ or error) or type(error).__name__
