"""Wire, our own connection on asyncio: the table of odd replies over real sockets, and Wire's own behaviour."""

import asyncio
import select
import socket
import ssl
import struct
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import anyio
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream
from odd_replies import REPLIES
from odd_server import Connection, OddServer, Request, http
from waiting import PATIENCE, until

from gatepay_async.pool import OriginPool, asyncio_link
from gatepay_async.pool.asyncio_wire import MAX_UNREAD_BYTES, Wire
from gatepay_async.pool.over_httpcore import HttpcoreConnection

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

SHORT = 0.01  # seconds: a time-out for operations that would never end
MAX_BYTE_BY_BYTE_LENGTH = 300  # longer replies are not sent byte by byte, which would be slow
HELLO = http(b"hello")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


with_and_without_uvloop = pytest.mark.parametrize(
    "anyio_backend",
    [
        ("asyncio", {"use_uvloop": use_uvloop})
        for use_uvloop in ((False, True) if sys.platform != "win32" else (False,))
    ],
)


@asynccontextmanager
async def open_pool(server: OddServer, **options: Any) -> AsyncIterator[OriginPool]:
    """Open a pool for *server*. Fail the test if it takes too long."""
    with anyio.fail_after(PATIENCE):
        async with OriginPool(server.base_url, ssl_context=server.client_tls, **options) as pool:
            yield pool


def request_for(
    server: OddServer, path: str = "x", method: str = "POST", content: Any = b"", **extensions: Any
) -> httpx.Request:
    length = {} if content else {"content-length": "0"}
    return httpx.Request(method, server.base_url + path, content=content, headers=length, extensions=extensions)


async def call(pool: OriginPool, request: httpx.Request) -> tuple[int, bytes]:
    response = await pool.handle_async_request(request)
    try:
        return response.status_code, await response.aread()
    finally:
        await response.aclose()


def only_connection(pool: OriginPool) -> Wire:
    """Return the only connection of *pool*."""
    (slot,) = [*pool._slots._idle, *pool._slots._busy]
    assert isinstance(slot.connection, Wire)
    return slot.connection


def unopened_connection(server: OddServer) -> Wire:
    """Return a connection that is not open yet."""
    return Wire("127.0.0.1", httpx.URL(server.base_url).port or 0, tls=None, uds=None)


def reply_hello(connection: Connection, request: Request) -> None:
    connection.raw.sendall(connection.encrypt(HELLO))


# -- the table ------------------------------------------------------------------------------------------------


@with_and_without_uvloop
@pytest.mark.parametrize(
    ("delivery", "tls"),
    [
        pytest.param("whole", False, id="whole-tcp"),
        pytest.param("byte by byte", False, id="byte by byte-tcp"),
        pytest.param("whole", True, id="whole-tls"),
        pytest.param("byte by byte", True, id="byte by byte-tls", marks=pytest.mark.slow),
    ],
)
async def test_odd_replies_are_read_as_expected(delivery: str, *, tls: bool) -> None:
    """Each reply of the table gives the expected result, and the next call gets its own reply."""
    sent = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        index = request.path.rpartition("/")[2]
        if index == "next":
            reply_hello(connection, request)
            return
        row = REPLIES[int(index)]
        try:
            for piece in [row.sent] if delivery == "whole" else [bytes((byte,)) for byte in row.sent]:
                connection.raw.sendall(connection.encrypt(piece))
        finally:
            sent.set()
        if row.ends:
            connection.end()
            raise ConnectionAbortedError

    wrong: list[str] = []
    with OddServer(answer, tls=tls) as server:
        async with open_pool(server, max_connections=1) as pool:
            for index, row in enumerate(REPLIES):
                if delivery != "whole" and len(row.sent) > MAX_BYTE_BY_BYTE_LENGTH:
                    continue
                sent.clear()
                try:
                    result = await call(pool, request_for(server, str(index), row.method))
                except (httpx.RemoteProtocolError, httpx.ReadError):
                    result = 0, b""
                await until(sent.is_set)
                connections_before = len(server.connections)
                next_result = await call(pool, request_for(server, "next"))
                was_kept = len(server.connections) == connections_before
                if (*result, was_kept, next_result) != (row.status, row.body, row.kept, (200, b"hello")):
                    wrong.append(f"{row.name}: {result}, {was_kept}, {next_result}")
    assert not wrong, "\n".join(wrong)


# -- choosing the class of a connection -----------------------------------------------------------------------


async def test_httpcore_is_used_without_httptools(monkeypatch: pytest.MonkeyPatch) -> None:
    """If httptools can't be imported, httpcore's connections are used on asyncio, too."""
    monkeypatch.setitem(sys.modules, "httptools", None)
    for name in ("asyncio_wire", "responses"):
        monkeypatch.delitem(sys.modules, f"gatepay_async.pool.{name}")
    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server) as pool:
            for _ in range(2):
                assert await call(pool, request_for(server)) == (200, b"hello")
            assert isinstance(pool._slots._idle[0].connection, HttpcoreConnection)
        assert len(server.connections) == 1


async def test_trace_extension_uses_httpcores_connection() -> None:
    """A request with the `trace` extension uses a connection of httpcore. The next one uses our own again."""

    async def trace(name: str, info: dict[str, Any]) -> None:
        event_names.append(name)

    event_names: list[str] = []
    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server, max_connections=1) as pool:
            kinds: list[type[object]] = []
            requests_extensions: list[dict[str, Any]] = [{}, {"trace": trace}, {"trace": trace}, {}]
            for extensions in requests_extensions:
                assert await call(pool, request_for(server, **extensions)) == (200, b"hello")
                kinds.append(type(pool._slots._idle[0].connection))
        assert kinds == [Wire, HttpcoreConnection, HttpcoreConnection, Wire]
        assert len(server.connections) == 3
        assert "http11.send_request_headers.started" in event_names


async def test_exception_in_a_patch_keeps_the_idle_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a patched httpcore raises, the slot is released and its idle connection is kept."""

    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server, max_connections=1) as pool:
            await call(pool, request_for(server))
            with monkeypatch.context() as patch:
                patch.setattr(HttpcoreConnection, "handle_async_request", fail)
                patch.setattr("gatepay_async.pool.transport.is_patched", lambda: True)
                with pytest.raises(ZeroDivisionError):
                    await call(pool, request_for(server))
            assert await call(pool, request_for(server)) == (200, b"hello")
        assert len(server.connections) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_on_connect_is_called_before_connecting() -> None:
    """`on_connect` is called before each connection is opened. If it raises, the call raises that exception."""
    events: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError

    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server) as pool:
            with pytest.raises(ZeroDivisionError):
                await call(pool, request_for(server, on_connect=fail))
            assert server.connections == []
            for _ in range(2):
                await call(pool, request_for(server, on_connect=lambda: events.append("connect")))
            assert events == ["connect"]


# -- connecting -----------------------------------------------------------------------------------------------


async def test_slow_connect_raises_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:

    async def never(*_: Any) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(asyncio_link, "connect_tcp", never)
    async with OriginPool("http://gatepay.example") as pool:
        with pytest.raises(httpx.ConnectTimeout, match="not connected"):
            await pool.handle_async_request(
                httpx.Request("POST", "http://gatepay.example", extensions={"timeout": {"connect": SHORT}})
            )


async def test_slow_tls_handshake_raises_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:

    async def connect_at_once(self: Wire) -> None:
        pass

    async def never(*_: Any) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(Wire, "_connect", connect_at_once)
    monkeypatch.setattr(Wire, "_do_handshake", never)
    async with OriginPool("https://gatepay.example", ssl_context=ssl.create_default_context()) as pool:
        with pytest.raises(httpx.ConnectTimeout, match="no TLS within"):
            await pool.handle_async_request(
                httpx.Request("POST", "https://gatepay.example", extensions={"timeout": {"connect": SHORT}})
            )


@pytest.mark.parametrize(
    ("sent", "match"), [(b"", "before there was TLS"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "SSL")]
)
async def test_failed_tls_handshake_raises_connect_error(sent: bytes, match: str) -> None:
    """If the server closes the connection or doesn't use TLS, the call raises ConnectError."""
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def refuse(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(sent)

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, refuse)
        url = f"https://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"  # noqa: S610 -- anyio's
        async with OriginPool(url, ssl_context=ssl.create_default_context()) as pool:
            with pytest.raises(httpx.ConnectError, match=match):
                await pool.handle_async_request(httpx.Request("POST", url))
            assert (pool._slots.busy, pool._slots.idle) == (0, 0)
        group.cancel_scope.cancel()


async def test_connection_closed_before_the_request_is_not_used() -> None:
    """If the server closes a new connection before the request, it isn't used: nothing was sent."""
    with OddServer(reply_hello, tls=False) as server:
        wire = unopened_connection(server)
        await wire._connect()
        await until(lambda: server.connections)
        server.connections[0].close()
        assert select.select([wire.get_extra_info("socket")], [], [], PATIENCE)[0]
        assert not await wire._check_before_use()
        await wire.aclose()


async def test_sni_hostname_is_checked() -> None:
    """The `sni_hostname` extension is the name that the certificate must have."""
    with OddServer(reply_hello, tls=True) as server:
        async with open_pool(server) as pool:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await call(pool, request_for(server, sni_hostname="gatepay.example"))
            assert await call(pool, request_for(server, sni_hostname="localhost")) == (200, b"hello")


async def test_new_connection_waits_for_the_rest_of_a_record() -> None:
    """If half a TLS record has arrived on a new connection, the check before its use waits for the rest."""
    wire = Wire("x", 1, tls=None, uds=None)
    tls = SimpleNamespace(at_record_end=False)
    wire._tls = cast("Any", tls)
    async with anyio.create_task_group() as group:
        group.start_soon(wire._check_before_use)
        await anyio.wait_all_tasks_blocked()
        wire._wake()
        await anyio.wait_all_tasks_blocked()
        assert wire._waiter is not None
        tls.at_record_end = True
        wire._wake()


async def test_new_connection_with_undelivered_bytes_is_not_used() -> None:
    """If the event loop never delivers the bytes that the system holds, the new connection isn't used."""
    wire = Wire("x", 1, tls=None, uds=None)
    wire._is_readable = lambda: True
    assert not await wire._check_before_use()


async def test_closed_connection_writes_nothing_and_raises() -> None:
    """A closed connection writes nothing. Waiting for a reply raises ReadError."""
    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server) as pool:
            await call(pool, request_for(server))
            wire = only_connection(pool)
            await wire.aclose()
            wire._write_out(b"x")
            wire._reader.start()
            with pytest.raises(httpx.ReadError, match="at this end"):
                wire._raise_if_lost()


async def test_connection_closed_while_connecting_is_aborted() -> None:
    """If a connection is closed while it connects, it is aborted once connected."""
    with OddServer(reply_hello, tls=False) as server:
        wire = unopened_connection(server)
        await wire.aclose()
        await wire._connect()
        await until(lambda: wire._transport is not None and wire._transport.is_closing())


async def test_connection_is_reused_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without ``select.poll()``, such as Windows, connections are reused as well."""
    monkeypatch.delattr(select, "poll")
    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server) as pool:
            assert [await call(pool, request_for(server)) for _ in range(2)] == [(200, b"hello")] * 2
        assert len(server.connections) == 1


async def test_extra_info_has_httpcores_names() -> None:
    """A connection returns the same extra info as httpcore's streams, and None for unknown names."""
    with OddServer(reply_hello, tls=True) as server:
        async with open_pool(server) as pool:
            response = await pool.handle_async_request(request_for(server))
            wire = response.extensions["network_stream"]
            assert await response.aread() == b"hello"
            assert wire.get_extra_info("ssl_object").version().startswith("TLS")
            assert wire.get_extra_info("server_addr")[0] == "127.0.0.1"
            assert wire.get_extra_info("client_addr")[0] == "127.0.0.1"
            assert wire.get_extra_info("socket").fileno() >= 0
            assert wire.get_extra_info("weather") is None
            assert wire.get_extra_info("is_readable") is False
        assert wire.get_extra_info("is_readable") is True
        assert Wire("x", 1, tls=None, uds=None).get_extra_info("socket") is None


# -- requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_slow_receiver_raises_write_timeout(*, tls: bool) -> None:
    """If the server doesn't read the request, the call raises WriteTimeout."""
    done = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        if request.path.endswith("stop"):
            done.wait(PATIENCE)

    with OddServer(answer, tls=tls) as server:
        async with open_pool(server) as pool:

            async def parts() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 1_000_000

            headers = {"x-content-length": "0"}  # the odd server takes this for the length, and reads no body
            extensions = {"timeout": {"write": SHORT}}
            request = httpx.Request(
                "POST", server.base_url + "stop", content=parts(), headers=headers, extensions=extensions
            )
            with pytest.raises(httpx.WriteTimeout, match="nothing written"):
                await call(pool, request)
            done.set()
            assert pool._slots.busy == 0


async def test_body_that_differs_from_content_length_fails_the_call() -> None:
    """If the body is longer or shorter than its Content-Length, the call fails and the connection is closed."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"hello"

    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server) as pool:
            for length in ("4", "6", "5"):
                request = httpx.Request(
                    "POST", server.base_url, content=parts(), headers={"content-length": length, "host": "x"}
                )
                if length == "5":
                    assert await call(pool, request) == (200, b"hello")
                    break
                with pytest.raises(httpx.LocalProtocolError, match="Content-Length"):
                    await call(pool, request)
                assert (pool._slots.busy, pool._slots.idle) == (0, 0)


async def test_invalid_request_is_rejected_before_sending() -> None:
    """An invalid request raises LocalProtocolError before anything is sent, and the connection stays idle."""
    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server) as pool:
            await call(pool, request_for(server))
            with pytest.raises(httpx.LocalProtocolError):
                await call(pool, httpx.Request("POST", server.base_url, headers={"x": "a\r\nb: c"}))
            assert await call(pool, request_for(server)) == (200, b"hello")
        assert len(server.connections) == 1


# -- replies --------------------------------------------------------------------------------------------------


@with_and_without_uvloop
@pytest.mark.parametrize("tls", [False, True])
async def test_reading_pauses_at_the_limit(*, tls: bool) -> None:
    """If nobody reads a long reply, the connection stops receiving it. A reader gets all of it."""
    body = b"0123456789" * 2_000_000
    done = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        for start in range(0, len(body), 100_000):
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) if not start else b""
            connection.raw.sendall(connection.encrypt(head + body[start : start + 100_000]))
        done.set()

    with OddServer(answer, tls=tls) as server:
        async with open_pool(server) as pool:
            response = await pool.handle_async_request(request_for(server))
            wire = only_connection(pool)
            await until(lambda: wire._is_paused)
            assert not done.is_set()
            assert wire._reader.held_bytes < MAX_UNREAD_BYTES + 500_000
            assert await response.aread() == body
            assert pool._slots.idle == 1


@pytest.mark.parametrize("tls", [False, True])
async def test_reset_during_a_reply_raises(*, tls: bool) -> None:
    """If the connection is reset during a reply, the call raises the reason."""

    def answer(connection: Connection, request: Request) -> None:
        connection.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends a reset
        connection.raw.sendall(connection.encrypt(HELLO[:-2]))
        raise ConnectionAbortedError

    with OddServer(answer, tls=tls) as server:
        async with open_pool(server) as pool:
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError), match=r"reset|complete"):
                await call(pool, request_for(server))
            assert (pool._slots.busy, pool._slots.idle) == (0, 0)


async def test_invalid_tls_record_raises_read_error() -> None:
    """An invalid TLS record in the middle of a reply raises ReadError."""

    def answer(connection: Connection, request: Request) -> None:
        connection.raw.sendall(connection.encrypt(HELLO[:-2]) + b"\x17\3\3\0\x20" + b"x" * 32)

    with OddServer(answer, tls=True) as server:
        async with open_pool(server) as pool:
            with pytest.raises(httpx.ReadError, match="SSL"):
                await call(pool, request_for(server))


async def test_second_concurrent_reader_raises() -> None:
    """A second task that reads the same response gets RuntimeError."""
    done = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        connection.raw.sendall(HELLO[:-5])
        done.wait(PATIENCE)

    with OddServer(answer, tls=False) as server:
        async with open_pool(server) as pool:
            response = await pool.handle_async_request(request_for(server))
            stream = cast("httpx.AsyncByteStream", response.stream)
            first = asyncio.ensure_future(anext(aiter(stream)))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await anext(aiter(stream))
            with pytest.raises(httpx.ReadError):
                await first  # the second reader's error has closed the connection
            done.set()
            assert pool._slots.busy == 0


class FullTransport:
    """Wraps a transport, and says that some bytes are not sent yet."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def get_write_buffer_size(self) -> int:
        return 1


async def test_early_reply_prevents_reuse() -> None:
    """A valid reply that arrives before the request is fully sent prevents the reuse of the connection."""
    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server) as pool:
            await call(pool, request_for(server))
            wire: Any = only_connection(pool)
            wire._transport = FullTransport(wire._transport)
            assert await call(pool, request_for(server)) == (200, b"hello")
            assert (pool._slots.busy, pool._slots.idle) == (0, 0)


async def test_undelivered_early_reply_prevents_reuse() -> None:
    """An early reply prevents reuse even if the event loop hasn't delivered it when the long request ends."""
    with OddServer(reply_hello, tls=False) as server:
        async with open_pool(server) as pool:
            await call(pool, request_for(server))
            wire = only_connection(pool)

            def pretend_readable() -> None:
                wire._is_readable = lambda: True

            request = httpx.Request(
                "POST", server.base_url, content=b"x" * 100_000, extensions={"on_send": pretend_readable}
            )
            assert await call(pool, request) == (200, b"hello")
            assert (pool._slots.busy, pool._slots.idle) == (0, 0)
