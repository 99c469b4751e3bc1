"""Exchanges that end abnormally: closed, reset or stalled connections, on every event loop."""

import errno
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import anyio
import httpx
import pytest
import sniffio
from odd_server import Connection, OddServer, Request, http
from waiting import PATIENCE

from gatepay_async.pool import OriginPool
from gatepay_async.pool.asyncio_wire import Wire
from gatepay_async.pool.port import Hooks

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

SHORT = 0.3  # seconds: a time-out for operations that would never end
HELLO = http(b"hello")
# The odd server takes the first header for the length, and reads no body.
NO_LENGTH = {"x-content-length": "0", "transfer-encoding": "chunked"}
TOO_LARGE = http(b"", start="HTTP/1.1 413 Content Too Large", headers="connection: close\r\n")
tcp_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


def reply_hello(connection: Connection, request: Request) -> None:
    connection.raw.sendall(connection.encrypt(HELLO))


class Parts(httpx.AsyncByteStream):
    """A streamed body that counts the parts read. It is no generator: trio warns about an unfinished one."""

    def __init__(self, count: int) -> None:
        self.count, self.parts_read = count, 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.parts_read == self.count:
            raise StopAsyncIteration
        self.parts_read += 1
        return b"x" * 100_000


async def call(server: OddServer, pool: OriginPool | None = None, **options: Any) -> tuple[int, bytes]:
    """Post over *pool*, or over a new pool."""
    headers = {"host": "localhost", **options.pop("headers", {"content-length": "0"})}
    request = httpx.Request("POST", server.base_url, headers=headers, **options)
    async with OriginPool(server.base_url, ssl_context=server.client_tls) as new_pool:
        with anyio.fail_after(PATIENCE):
            response = await (pool or new_pool).handle_async_request(request)
            try:
                return response.status_code, await response.aread()
            finally:
                await response.aclose()


@tcp_and_tls
@pytest.mark.parametrize("with_close_notify", [False, True])
async def test_reply_without_length_ends_with_the_connection(*, with_close_notify: bool, tls: bool) -> None:
    """A reply without a length ends when the connection does; over TLS only with a close_notify."""

    def answer(connection: Connection, request: Request) -> None:
        connection.raw.sendall(connection.encrypt(b"HTTP/1.1 200 OK\r\n\r\nhello"))
        if with_close_notify:
            connection.end()
        raise ConnectionAbortedError

    with OddServer(answer, tls=tls) as server:
        if tls and not with_close_notify:
            with pytest.raises(httpx.RemoteProtocolError, match="complete"):
                await call(server)
        else:
            assert await call(server) == (200, b"hello")


async def test_half_a_record_after_the_handshake_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """If half a TLS record follows the handshake, the call waits for the rest until the connect time-out."""
    sent: list[bytes] = []

    def send_half_a_record_too(connection: Connection) -> None:
        data = connection.outgoing.read()
        if data and not sent:
            sent.append(data)
            connection.raw.sendall(data + b"\x17\3\3\0\x50")  # the head of a record of 80 bytes

    monkeypatch.setattr(Connection, "_send_outgoing", send_half_a_record_too)
    with OddServer(reply_hello, tls=True) as server:
        with pytest.raises((httpx.ConnectTimeout, httpx.ConnectError), match=r"no TLS|before the request"):
            await call(server, extensions={"timeout": {"connect": SHORT}})
        assert sent


@tcp_and_tls
async def test_streamed_body_is_not_read_on_after_a_reset(*, tls: bool) -> None:
    """After the connection is reset, no more parts of a streamed body are read."""
    parts = Parts(3_000)  # 300 MB: far more than the system's buffers hold

    def refuse(connection: Connection, request: Request) -> None:
        connection.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends a reset
        raise ConnectionAbortedError

    with OddServer(refuse, tls=tls) as server:
        with pytest.raises(httpx.TransportError):
            await call(server, stream=parts, headers=NO_LENGTH)
        assert parts.parts_read < parts.count / 3  # only what was buffered before the reset arrived


@tcp_and_tls
@pytest.mark.parametrize("in_parts", [False, True])
async def test_reply_to_half_a_request_is_received(*, in_parts: bool, tls: bool) -> None:
    """If the server rejects half a request, its reply is received; on trio over TLS that is impossible."""
    done = threading.Event()

    def refuse(connection: Connection, request: Request) -> None:
        connection.raw.sendall(connection.encrypt(TOO_LARGE))
        done.wait(PATIENCE)

    options: dict[str, Any] = {"extensions": {"timeout": {"write": SHORT}}}
    if in_parts:
        options |= {"stream": Parts(300), "headers": NO_LENGTH}
    else:
        options |= {"content": b"x" * 30_000_000, "headers": {"x-content-length": "0"}}
    with OddServer(refuse, tls=tls) as server:
        try:
            assert await call(server, **options) == (413, b"")
        except httpx.WriteTimeout:
            assert (tls, sniffio.current_async_library()) == (True, "trio")
        finally:
            done.set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_writing_continues_when_the_server_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    full = threading.Event()
    receive = Connection.receive

    def pause_writing(wire: Wire) -> None:
        wire._is_full = True
        full.set()

    def receive_once_full(connection: Connection) -> bytes:
        full.wait(PATIENCE)
        return receive(connection)

    monkeypatch.setattr(Wire, "pause_writing", pause_writing)
    monkeypatch.setattr(Connection, "receive", receive_once_full)
    with OddServer(reply_hello, tls=False) as server:
        assert await call(server, content=b"x" * 5_000_000, headers={}) == (200, b"hello")
        assert full.is_set()


async def test_invalid_host_names_raise_connect_error() -> None:
    """A host name that is invalid in DNS, or a server name that is invalid in TLS, raises ConnectError."""
    name = f"{'x' * 64}.example"
    async with OriginPool(f"http://{name}") as pool:
        with pytest.raises(httpx.ConnectError):
            await pool.handle_async_request(httpx.Request("GET", f"http://{name}"))
    with OddServer(reply_hello, tls=True) as server:
        for sni in (name, ".example"):
            with pytest.raises(httpx.ConnectError):
                await call(server, extensions={"sni_hostname": sni})


async def test_connection_close_in_request_prevents_reuse() -> None:
    with OddServer(reply_hello, tls=False) as server:
        async with OriginPool(server.base_url) as pool:
            for value in ("keep-alive", "x, Close", "x-close", "close"):
                await call(server, pool, headers={"connection": value, "content-length": "0"})
            # The second and the fourth value end a connection.
            assert [connection.requests for connection in server.connections] == [2, 2]
            prepared = pool.prepare(httpx.URL(server.base_url), httpx.Headers({"connection": "close"}))
            for _ in range(2):
                exchange = await pool.post(prepared, b"", Hooks())
                while await exchange.read():
                    pass
            assert len(server.connections) == 4


# -- TLS renegotiation, which Python's own server can't request -------------------------------------------------------


class RenegotiatingTls:
    """Replaces `Tls` after the server has requested a renegotiation."""

    at_record_end, ended = True, False

    def __init__(self) -> None:
        self.object = SimpleNamespace()
        self.answer = b"hello again"

    def feed(self, data: bytes) -> None:
        pass

    def read(self) -> bytes:
        return b""

    def drain(self) -> bytes:
        data, self.answer = self.answer, b""
        return data

    def write(self, _: bytes) -> None:
        raise ssl.SSLWantReadError(errno.ENOENT, "The operation did not complete")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tls_renegotiation_prevents_reuse_and_writing() -> None:
    """A connection whose server wants to renegotiate TLS isn't reused, and writing to it raises httpx.WriteError."""
    for is_idle in (True, False):
        wire = Wire("x", 1, tls=None, uds=None)
        wire._tls = cast("Any", RenegotiatingTls())
        wire._transport = cast("Any", SimpleNamespace(write=len, abort=dict))
        wire._is_usable, wire._is_exchanging = True, not is_idle
        wire.data_received(b"x")
        assert wire.is_reusable() is False
        assert wire._is_over is is_idle
    with pytest.raises(httpx.WriteError, match="complete"):
        wire._write_out(b"x")
