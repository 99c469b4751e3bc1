"""Exchanges that end in another way than they should: by whom, when, and what comes of it; on every loop."""

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

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

SHORT = 0.3  # seconds; only what would never end takes as long
PLAIN = http(b"hello")
NO_LENGTH = {"x-content-length": "0", "transfer-encoding": "chunked"}  # the odd server reads the former, and no body
TOO_LARGE = http(b"", start="HTTP/1.1 413 Content Too Large", headers="connection: close\r\n")
both = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


def plain(connection: Connection, request: Request) -> None:
    connection.raw.sendall(connection.encrypt(PLAIN))


class Parts(httpx.AsyncByteStream):
    """A body in parts, that counts how many were asked for. No generator: trio complains of one that is left."""

    def __init__(self, count: int) -> None:
        self.count, self.given = count, 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.given == self.count:
            raise StopAsyncIteration
        self.given += 1
        return b"x" * 100_000


async def call(server: OddServer, pool: OriginPool | None = None, **options: Any) -> tuple[int, bytes]:
    """Post over *pool*, or over one of its own."""
    headers = {"host": "localhost", **options.pop("headers", {"content-length": "0"})}
    request = httpx.Request("POST", server.base_url, headers=headers, **options)
    async with OriginPool(server.base_url, ssl_context=server.client_tls) as own:
        with anyio.fail_after(PATIENCE):
            response = await (pool or own).handle_async_request(request)
            try:
                return response.status_code, await response.aread()
            finally:
                await response.aclose()


@both
@pytest.mark.parametrize("says_so", [False, True])
async def test_a_reply_that_goes_on_to_the_end(*, says_so: bool, tls: bool) -> None:
    """A reply without a length is whole at the end of the connection; over TLS only if the server says so in TLS."""

    def answer(connection: Connection, request: Request) -> None:
        connection.raw.sendall(connection.encrypt(b"HTTP/1.1 200 OK\r\n\r\nhello"))
        if says_so:
            connection.end()
        raise ConnectionAbortedError

    with OddServer(answer, tls=tls) as server:
        if tls and not says_so:
            with pytest.raises(httpx.RemoteProtocolError, match="complete"):
                await call(server)
        else:
            assert await call(server) == (200, b"hello")


async def test_half_a_record_behind_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose handshake goes on with half a record holds nobody longer than connecting may take."""
    sent: list[bytes] = []

    def pass_on(connection: Connection) -> None:
        data = connection.outgoing.read()
        if data and not sent:
            sent.append(data)
            connection.raw.sendall(data + b"\x17\3\3\0\x50")

    monkeypatch.setattr(Connection, "_pass_on", pass_on)
    with OddServer(plain, tls=True) as server:
        with pytest.raises((httpx.ConnectTimeout, httpx.ConnectError), match=r"no TLS|before the request"):
            await call(server, extensions={"timeout": {"connect": SHORT}})
        assert sent


@both
async def test_a_body_for_nobody(*, tls: bool) -> None:
    """Of a body that comes in parts no more is read once the connection has gone."""
    parts = Parts(3_000)

    def refuse(connection: Connection, request: Request) -> None:
        connection.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed, it breaks
        raise ConnectionAbortedError

    with OddServer(refuse, tls=tls) as server:
        with pytest.raises(httpx.TransportError):
            await call(server, stream=parts, headers=NO_LENGTH)
        assert parts.given < parts.count / 3


@both
@pytest.mark.parametrize("in_parts", [False, True])
async def test_an_answer_to_half_a_request(*, in_parts: bool, tls: bool) -> None:
    """A server that refuses a long request, and reads no more of it, is heard; but for trio over TLS, see `stream`."""
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
async def test_a_server_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing goes on once the server takes more."""
    full = threading.Event()
    receive = Connection.receive

    def pause(wire: Wire) -> None:
        wire._is_full = True
        full.set()

    def receive_late(connection: Connection) -> bytes:
        full.wait(PATIENCE)
        return receive(connection)

    monkeypatch.setattr(Wire, "pause_writing", pause)
    monkeypatch.setattr(Connection, "receive", receive_late)
    with OddServer(plain, tls=False) as server:
        assert await call(server, content=b"x" * 5_000_000, headers={}) == (200, b"hello")
        assert full.is_set()


async def test_names_that_are_none() -> None:
    """A host that no name can have, and a name that no certificate can have, are not connected to."""
    name = f"{'x' * 64}.example"
    async with OriginPool(f"http://{name}") as pool:
        with pytest.raises(httpx.ConnectError):
            await pool.handle_async_request(httpx.Request("GET", f"http://{name}"))
    with OddServer(plain, tls=True) as server:
        for sni in (name, ".example"):
            with pytest.raises(httpx.ConnectError):
                await call(server, extensions={"sni_hostname": sni})


async def test_connection_close_in_a_request() -> None:
    """A request may say that its connection ends with it; none follows on that."""
    with OddServer(plain, tls=False) as server:
        async with OriginPool(server.base_url) as pool:
            for value in ("keep-alive", "x, Close", "x-close", "close"):
                await call(server, pool, headers={"connection": value, "content-length": "0"})
            assert [connection.requests for connection in server.connections] == [2, 2]
            prepared = pool.prepare(httpx.URL(server.base_url), httpx.Headers({"connection": "close"}))
            for _ in range(2):
                exchange = await pool.post(prepared, b"", {})
                while await exchange.read():
                    pass
            assert len(server.connections) == 4


# -- TLS that wants something at the wrong time; Python's own server can't ask for it ---------------------------------


class Renegotiating:
    """TLS that has been asked to agree anew."""

    at_rest, ended = True, False

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
async def test_agreeing_anew() -> None:
    """A connection on which TLS begins anew carries no request; writing to it fails, in httpx's terms."""
    for at_rest in (True, False):
        wire = Wire("x", 1, tls=None, uds=None)
        wire._tls, wire._transport = cast("Any", Renegotiating()), cast("Any", SimpleNamespace(write=len, abort=dict))
        wire._is_usable, wire._is_asked = True, not at_rest
        wire.data_received(b"x")
        assert wire.is_fit() is False
        assert wire._is_over is at_rest
    with pytest.raises(httpx.WriteError, match="complete"):
        wire._write_out(b"x")
