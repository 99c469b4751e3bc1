"""
One connection's way to the network, as httpcore asks for it, over anyio.

httpcore brings network code of its own. This stands in its place for three reasons:

* A connection that is cancelled between TCP and the end of TLS is known to nobody in httpcore, and its socket
  stays open. A `NetworkStream` knows it from the first moment, and closing the stream closes it.
* Closing can't hang and can't be cancelled away: see `NetworkStream.aclose`.
* It is lighter: reading without a time-out arms no timer, and a request's head and body leave in one write.

And it knows whether a byte that nobody has read lies anywhere between the socket and httpcore: see
`NetworkStream.is_quiet`.
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

from gatepay_async.pool.home import Home
from gatepay_async.pool.records import RecordStream
from gatepay_async.pool.watching import count_waiting, is_readable
from gatepay_async.words.problem import Problem

# What is held back of a request until the rest joins it. Past that, a larger write gains nothing.
CORK: Final = 64 * 1024

TOO_EARLY: Final = Problem("spoke_too_early")

# What a stream raises once it can't be used; ssl.SSLError comes from a record that can't be read.
BROKEN: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)

# httpcore's names for what can be asked about a stream (httpcore: docs/network-backends.md).
ATTRIBUTES: Final[dict[str, object]] = {
    "ssl_object": TLSAttribute.ssl_object,
    "client_addr": SocketAttribute.local_address,
    "server_addr": SocketAttribute.remote_address,
    "socket": SocketAttribute.raw_socket,
}


class NetworkStream(httpcore.AsyncNetworkBackend, httpcore.AsyncNetworkStream):
    """
    A backend that connects once, and the stream it has connected.

    Attributes:
        on_connect: Called with nothing before anything is connected or looked up. None: nobody wants to know.
        on_send: Called with nothing just before the first byte of a request is handed to the system, then
            forgotten. None: nobody wants to know.
        request_begun: Whether a byte of the current request has left. Set it to False before each request.
        not_reusable: The connection must not carry another request: a write failed, or a reply came too early.
    """

    def __init__(self) -> None:
        self.on_connect: Callable[[], None] | None = None
        self.on_send: Callable[[], None] | None = None
        self.request_begun = False
        self.not_reusable = False
        self._home = Home()
        self._stream: ByteStream | None = None
        self._socket: socket.socket | None = None
        self._queue: Collection[bytes] = ()
        self._tls: ssl.SSLObject | None = None
        self._records: RecordStream | None = None
        self._used = False
        self._corked = b""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 -- the pool sets none
    ) -> httpcore.AsyncNetworkStream:
        """
        Connect to *host*, trying its addresses side by side (RFC 8305).

        Raises:
            httpcore.ConnectTimeout: *timeout* seconds were not enough.
            httpcore.ConnectError: No address answered.
        """
        if self.on_connect is not None:
            self.on_connect()
        try:
            with anyio.fail_after(timeout):
                self._use_stream(await anyio.connect_tcp(host, port, local_host=local_address))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(Problem("not_connected", seconds=timeout)) from error
        except (OSError, UnicodeError) as error:  # a name that isn't one is the latter
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
            httpcore.ConnectError: Nobody listens there.
        """
        if self.on_connect is not None:
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
        Go on in TLS.

        Raises:
            httpcore.ConnectTimeout: *timeout* seconds were not enough.
            httpcore.ConnectError: No agreement, or a certificate that is not to be believed.
        """
        try:
            with anyio.fail_after(timeout):
                self._records = RecordStream(self._open_stream())
                self._stream = await TLSStream.wrap(
                    self._records,
                    server_side=False,
                    hostname=server_hostname,
                    ssl_context=ssl_context,
                    # HTTP/1.1 says itself where a message ends (RFC 9112, 9.8), and a closing handshake
                    # would be one more place to hang.
                    standard_compatible=False,
                )
                self._tls = self._stream.extra(TLSAttribute.ssl_object)  # noqa: S610 -- anyio's extra(), not Django's
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(Problem("no_tls", seconds=timeout)) from error
        except (*BROKEN, anyio.EndOfStream, ValueError) as error:  # the last: no name that a certificate could have
            raise httpcore.ConnectError(_reason(error)) from error
        return self

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- as above
        """
        Read what has come, at most *max_bytes*; nothing at all: the other end has closed.

        Raises:
            httpcore.ReadTimeout: Nothing came for *timeout* seconds.
            httpcore.ReadError: The connection is broken, or closed at this end.
        """
        if self._corked:
            # The end of a chunked body. Not being able to write it is no reason not to read (httpcore holds
            # it so for every other write): the server may have answered before it closed.
            with contextlib.suppress(httpcore.WriteError):
                await self.write(b"", timeout)
        early = 0 if self._records is None else self._records.early
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
        if early and self._records is not None and self._records.only_early:
            raise httpcore.ReadError(TOO_EARLY)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- as above
        """
        Write *buffer*, or hold it back until the rest of the request joins it.

        httpcore writes a request's head, each part of its body, and its end, which has no bytes of its own
        unless the body is chunked. An empty write therefore lets everything go; so does reading.

        Raises:
            httpcore.ConnectionNotAvailable: The server spoke before it was asked. Nothing was sent.
            httpcore.WriteTimeout: The other end took nothing for *timeout* seconds.
            httpcore.WriteError: The connection is broken, or closed at this end.
        """
        self._corked += buffer
        if buffer and len(self._corked) < CORK:
            return
        try:
            await self._flush(timeout)
        except TimeoutError as error:
            self.not_reusable = True
            if self._records is None and (self._queue or is_readable(self._socket)):
                # httpcore goes on to read: there may be a reply, from a server that wants no more of the request. Over
                # TLS there can't be: anyio reads nothing after a record that has left by half.
                raise httpcore.WriteError(_reason(error)) from error
            raise httpcore.WriteTimeout(Problem("nothing_written", seconds=timeout)) from error
        except BROKEN as error:
            self.not_reusable = True
            raise httpcore.WriteError(_reason(error)) from error

    def is_quiet(self) -> bool:
        """
        Whether nothing has come that nobody has read, not even the connection's end.

        It looks into the socket, into what anyio has taken from it, and into TLS, where bytes wait decrypted, not yet
        decrypted, or as the beginning of a record. A byte in any of them belongs to no request to come, so the
        connection must not carry one.
        """
        if self.not_reusable or self._queue or is_readable(self._socket):
            return False
        return self._records is None or (self._records.at_rest and self._is_tls_empty(self._records))

    def is_here(self) -> bool:
        """Whether this is the process and the event loop that opened it."""
        return self._home.is_here()

    def is_cut_off(self) -> bool:
        """Whether it has ended over TCP and TLS hasn't said so (RFC 9112, 9.8): anybody can end TCP's part."""
        return self._records is not None and self._records.ended

    async def aclose(self) -> None:
        """
        Close the socket, if it is open. That of another event loop is only let go: nothing of theirs may be touched.

        Never waits for the other end. What closes the socket runs before the first moment at which a
        cancellation can arrive, so it happens whatever comes; after one turn of the event loop it is done.
        """
        stream, self._stream, self._socket = self._stream, None, None
        if stream is not None and self.is_here():
            await anyio.aclose_forcefully(stream)

    def get_extra_info(self, info: str) -> Any:
        """Answer httpcore's questions: the names in `ATTRIBUTES`, and `is_readable`; None for any other."""
        if info == "is_readable":
            return is_readable(self._socket)
        if self._stream is None or info not in ATTRIBUTES:
            return None
        return self._stream.extra(ATTRIBUTES[info], None)  # noqa: S610 -- anyio's extra(), not Django's

    def _use_stream(self, stream: ByteStream) -> None:
        self._stream = stream
        # Kept, since asking a stream for it builds a dictionary, and it is looked at before every reuse.
        self._socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 -- as above
        # What asyncio has read and anyio has not given yet. There is no public way to ask; should it move away, a test
        # fails. On trio, and over a Unix socket, nothing is read before it is asked for.
        self._queue = getattr(getattr(stream, "_protocol", None), "read_queue", ())

    def _open_stream(self) -> ByteStream:
        if self._stream is None:
            raise anyio.ClosedResourceError
        return self._stream

    async def _flush(self, timeout: float | None) -> None:  # noqa: ASYNC109 -- as above
        """Write what was held back; the errors are anyio's."""
        buffer, self._corked = self._corked, b""
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
        if len(buffer) >= CORK and not self.is_quiet():
            # A reply that came while a long request was being sent. It may be right, but then the server may take the
            # rest of the request for another one and answer that, too.
            self.not_reusable = True

    def _begin_request(self) -> None:
        """Look once more, at the last moment: what has come by now is no reply to a request that has not left."""
        if not (self.is_quiet() if self._used else self._is_new()):
            raise httpcore.ConnectionNotAvailable(TOO_EARLY)
        self.request_begun = self._used = True
        if self.on_send is not None:
            on_send, self.on_send = self.on_send, None
            on_send()

    def _is_new(self) -> bool:
        """
        Whether nothing has come on a connection that has not carried a request yet.

        That it has been closed doesn't count: what is written to it may arrive all the same.
        """
        waiting = sum(map(len, self._queue)) + count_waiting(self._socket)
        if self._records is None:
            return not waiting
        # The session tickets of TLS 1.3 come unasked, and only TLS can tell them from a reply.
        self._records.early = waiting
        return self._records.at_rest and self._is_tls_empty(self._records)

    def _is_tls_empty(self, records: RecordStream) -> bool:
        """Whether TLS, given all that has come, has nothing to read."""
        if not records.fed:  # asking costs more than all the rest
            return True
        try:
            cast("ssl.SSLObject", self._tls).read(1)
        except ssl.SSLWantReadError:
            records.fed = False
            return True
        except ssl.SSLError:  # it has been closed, or can't be read
            pass
        return False


def _reason(error: Exception) -> str:
    """What to tell of *error*: anyio keeps what the system said in the cause, and may say nothing itself."""
    return str(error.__cause__ or error) or type(error).__name__
