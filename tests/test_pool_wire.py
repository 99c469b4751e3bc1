"""Our own connection on asyncio: the table of odd replies over real sockets, and what only this connection does."""

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
from gatepay_async.pool.asyncio_wire import MOST_HELD, Wire
from gatepay_async.pool.over_httpcore import HttpcoreConnection

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

MOMENT = 0.01  # only what never comes takes longer
SHORT = 300  # so many bytes may come one by one
PLAIN = http(b"hello")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


uvloop_too = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": wanted}) for wanted in ((False, True) if sys.platform != "win32" else (False,))],
)


@asynccontextmanager
async def pool_of(server: OddServer, **options: Any) -> AsyncIterator[OriginPool]:
    with anyio.fail_after(PATIENCE):
        async with OriginPool(server.base_url, ssl_context=server.client_tls, **options) as pool:
            yield pool


def post(
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


def wire_of(pool: OriginPool) -> Wire:
    """The only connection of *pool*."""
    (slot,) = [*pool._slots._idle, *pool._slots._busy]
    assert isinstance(slot.connection, Wire)
    return slot.connection


def wire_to(server: OddServer) -> Wire:
    """A connection by itself, not open yet."""
    return Wire("127.0.0.1", httpx.URL(server.base_url).port or 0, tls=None, uds=None)


def plain(connection: Connection, request: Request) -> None:
    connection.raw.sendall(connection.encrypt(PLAIN))


# -- the table ------------------------------------------------------------------------------------------------


@uvloop_too
@pytest.mark.parametrize(
    ("how", "tls"),
    [
        pytest.param("whole", False, id="whole-tcp"),
        pytest.param("byte by byte", False, id="byte by byte-tcp"),
        pytest.param("whole", True, id="whole-tls"),
        pytest.param("byte by byte", True, id="byte by byte-tls", marks=pytest.mark.slow),
    ],
)
async def test_odd_replies(how: str, *, tls: bool) -> None:
    """Each reply of the table is read as it must be; and the next call has its own reply."""
    sent = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        place = request.path.rpartition("/")[2]
        if place == "next":
            plain(connection, request)
            return
        row = REPLIES[int(place)]
        try:
            for piece in [row.sent] if how == "whole" else [bytes((byte,)) for byte in row.sent]:
                connection.raw.sendall(connection.encrypt(piece))
        finally:
            sent.set()
        if row.ends:
            connection.end()
            raise ConnectionAbortedError

    wrong: list[str] = []
    with OddServer(answer, tls=tls) as server:
        async with pool_of(server, max_connections=1) as pool:
            for place, row in enumerate(REPLIES):
                if how != "whole" and len(row.sent) > SHORT:
                    continue
                sent.clear()
                try:
                    came = await call(pool, post(server, str(place), row.method))
                except (httpx.RemoteProtocolError, httpx.ReadError):
                    came = 0, b""
                await until(sent.is_set)
                before = len(server.connections)
                following = await call(pool, post(server, "next"))
                kept = len(server.connections) == before
                if (*came, kept, following) != (row.status, row.body, row.kept, (200, b"hello")):
                    wrong.append(f"{row.name}: {came}, {kept}, {following}")
    assert not wrong, "\n".join(wrong)


# -- which connection -----------------------------------------------------------------------------------------


async def test_without_httptools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where httptools can't be imported, httpcore's connections serve asyncio, too."""
    monkeypatch.setitem(sys.modules, "httptools", None)
    for name in ("asyncio_wire", "responses"):
        monkeypatch.delitem(sys.modules, f"gatepay_async.pool.{name}")
    with OddServer(plain, tls=False) as server:
        async with pool_of(server) as pool:
            for _ in range(2):
                assert await call(pool, post(server)) == (200, b"hello")
            assert isinstance(pool._slots._idle[0].connection, HttpcoreConnection)
        assert len(server.connections) == 1


async def test_whoever_traces_is_given_httpcores() -> None:
    """Whoever wants httpcore's events is given its connection; the next call has one of ours again."""

    async def trace(name: str, info: dict[str, Any]) -> None:
        seen.append(name)

    seen: list[str] = []
    with OddServer(plain, tls=False) as server:
        async with pool_of(server, max_connections=1) as pool:
            kinds: list[type[object]] = []
            wishes: list[dict[str, Any]] = [{}, {"trace": trace}, {"trace": trace}, {}]
            for extensions in wishes:
                assert await call(pool, post(server, **extensions)) == (200, b"hello")
                kinds.append(type(pool._slots._idle[0].connection))
        assert kinds == [Wire, HttpcoreConnection, HttpcoreConnection, Wire]
        assert len(server.connections) == 3
        assert "http11.send_request_headers.started" in seen


async def test_a_patch_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a patched connection raises costs neither the slot nor the connection that rests in it."""

    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with OddServer(plain, tls=False) as server:
        async with pool_of(server, max_connections=1) as pool:
            await call(pool, post(server))
            with monkeypatch.context() as patch:
                patch.setattr(HttpcoreConnection, "handle_async_request", fail)
                patch.setattr("gatepay_async.pool.transport.is_patched", lambda: True)
                with pytest.raises(ZeroDivisionError):
                    await call(pool, post(server))
            assert await call(pool, post(server)) == (200, b"hello")
        assert len(server.connections) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_on_connect() -> None:
    """`on_connect` is called before each connection is opened, and what it raises ends the call."""
    events: list[str] = []

    def forbid() -> None:
        raise ZeroDivisionError

    with OddServer(plain, tls=False) as server:
        async with pool_of(server) as pool:
            with pytest.raises(ZeroDivisionError):
                await call(pool, post(server, on_connect=forbid))
            assert server.connections == []
            for _ in range(2):
                await call(pool, post(server, on_connect=lambda: events.append("connect")))
            assert events == ["connect"]


# -- connecting -----------------------------------------------------------------------------------------------


async def test_slow_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not being connected in time is ConnectTimeout."""

    async def never(*_: Any) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(asyncio_link, "connect_tcp", never)
    async with OriginPool("http://gatepay.example") as pool:
        with pytest.raises(httpx.ConnectTimeout, match="not connected"):
            await pool.handle_async_request(
                httpx.Request("POST", "http://gatepay.example", extensions={"timeout": {"connect": MOMENT}})
            )


async def test_slow_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not getting to TLS in time is ConnectTimeout."""

    async def at_once(self: Wire) -> None:
        pass

    async def never(*_: Any) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(Wire, "_connect", at_once)
    monkeypatch.setattr(Wire, "_agree", never)
    async with OriginPool("https://gatepay.example", ssl_context=ssl.create_default_context()) as pool:
        with pytest.raises(httpx.ConnectTimeout, match="no TLS within"):
            await pool.handle_async_request(
                httpx.Request("POST", "https://gatepay.example", extensions={"timeout": {"connect": MOMENT}})
            )


@pytest.mark.parametrize(
    ("said", "match"), [(b"", "before there was TLS"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "SSL")]
)
async def test_no_tls(said: bytes, match: str) -> None:
    """Another end that hangs up, or speaks something else, fails the call before it is sent."""
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def refuse(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(said)

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, refuse)
        url = f"https://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"  # noqa: S610 -- anyio's
        async with OriginPool(url, ssl_context=ssl.create_default_context()) as pool:
            with pytest.raises(httpx.ConnectError, match=match):
                await pool.handle_async_request(httpx.Request("POST", url))
            assert (pool._slots.busy, pool._slots.idle) == (0, 0)
        group.cancel_scope.cancel()


async def test_closed_before_the_request() -> None:
    """A server that closes a connection at once is told from one that has got the request: nothing was sent."""
    with OddServer(plain, tls=False) as server:
        wire = wire_to(server)
        await wire._connect()
        await until(lambda: server.connections)
        server.connections[0].close()
        assert select.select([wire.get_extra_info("socket")], [], [], PATIENCE)[0]
        assert not await wire._look_before_use()
        await wire.aclose()


async def test_another_name_for_tls() -> None:
    """`sni_hostname` says for whom the certificate must be."""
    with OddServer(plain, tls=True) as server:
        async with pool_of(server) as pool:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await call(pool, post(server, sni_hostname="gatepay.example"))
            assert await call(pool, post(server, sni_hostname="localhost")) == (200, b"hello")


async def test_half_a_session_ticket() -> None:
    """A new connection on which half a record of TLS has come waits for the rest before it carries a request."""
    wire = Wire("x", 1, tls=None, uds=None)
    tls = SimpleNamespace(at_record_end=False)
    wire._tls = cast("Any", tls)
    async with anyio.create_task_group() as group:
        group.start_soon(wire._look_before_use)
        await anyio.wait_all_tasks_blocked()
        wire._wake()
        await anyio.wait_all_tasks_blocked()
        assert wire._waiter is not None
        tls.at_record_end = True
        wire._wake()


async def test_never_at_rest() -> None:
    """A new connection on which something keeps coming that the event loop doesn't tell of carries no request."""
    wire = Wire("x", 1, tls=None, uds=None)
    wire._is_readable = lambda: True
    assert not await wire._look_before_use()


async def test_nothing_is_written_at_the_end() -> None:
    """To a connection that has ended nothing is written; whoever waits for the reply is told."""
    with OddServer(plain, tls=False) as server:
        async with pool_of(server) as pool:
            await call(pool, post(server))
            wire = wire_of(pool)
            await wire.aclose()
            wire._write_out(b"x")
            wire._reader.start()
            with pytest.raises(httpx.ReadError, match="at this end"):
                wire._raise_if_lost()


async def test_closed_while_it_connects() -> None:
    """A connection that was closed before it was there is cut off when it is."""
    with OddServer(plain, tls=False) as server:
        wire = wire_to(server)
        await wire.aclose()
        await wire._connect()
        await until(lambda: wire._transport is not None and wire._transport.is_closing())


async def test_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the system has no poll(), as Windows hasn't."""
    monkeypatch.delattr(select, "poll")
    with OddServer(plain, tls=False) as server:
        async with pool_of(server) as pool:
            assert [await call(pool, post(server)) for _ in range(2)] == [(200, b"hello")] * 2
        assert len(server.connections) == 1


async def test_what_it_knows() -> None:
    """A connection answers the questions that httpcore's streams do, and None to any other."""
    with OddServer(plain, tls=True) as server:
        async with pool_of(server) as pool:
            response = await pool.handle_async_request(post(server))
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
async def test_nothing_taken(*, tls: bool) -> None:
    """Another end that takes nothing in time is WriteTimeout."""
    done = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        if request.path.endswith("stop"):
            done.wait(PATIENCE)

    with OddServer(answer, tls=tls) as server:
        async with pool_of(server) as pool:

            async def parts() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 1_000_000

            headers = {"x-content-length": "0"}  # taken for the length by the odd server, which so reads no body
            extensions = {"timeout": {"write": MOMENT}}
            request = httpx.Request(
                "POST", server.base_url + "stop", content=parts(), headers=headers, extensions=extensions
            )
            with pytest.raises(httpx.WriteTimeout, match="nothing written"):
                await call(pool, request)
            done.set()
            assert pool._slots.busy == 0


async def test_a_body_of_the_wrong_length() -> None:
    """A body that is longer or shorter than its head says fails the call; the connection is given up."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"hello"

    with OddServer(plain, tls=False) as server:
        async with pool_of(server) as pool:
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


async def test_no_request_of_http() -> None:
    """What is no request of HTTP is refused before anything is sent, and the connection stays."""
    with OddServer(plain, tls=False) as server:
        async with pool_of(server) as pool:
            await call(pool, post(server))
            with pytest.raises(httpx.LocalProtocolError):
                await call(pool, httpx.Request("POST", server.base_url, headers={"x": "a\r\nb: c"}))
            assert await call(pool, post(server)) == (200, b"hello")
        assert len(server.connections) == 1


# -- replies --------------------------------------------------------------------------------------------------


@uvloop_too
@pytest.mark.parametrize("tls", [False, True])
async def test_no_more_is_read_than_can_be_held(*, tls: bool) -> None:
    """A long reply that nobody reads stays with the server; whoever reads it gets it whole."""
    body = b"0123456789" * 2_000_000
    done = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        for start in range(0, len(body), 100_000):
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) if not start else b""
            connection.raw.sendall(connection.encrypt(head + body[start : start + 100_000]))
        done.set()

    with OddServer(answer, tls=tls) as server:
        async with pool_of(server) as pool:
            response = await pool.handle_async_request(post(server))
            wire = wire_of(pool)
            await until(lambda: wire._is_paused)
            assert not done.is_set()
            assert wire._reader.held < MOST_HELD + 500_000
            assert await response.aread() == body
            assert pool._slots.idle == 1


@pytest.mark.parametrize("tls", [False, True])
async def test_reset_in_the_middle(*, tls: bool) -> None:
    """A connection that breaks in the middle of a reply says why."""

    def answer(connection: Connection, request: Request) -> None:
        connection.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed, it breaks
        connection.raw.sendall(connection.encrypt(PLAIN[:-2]))
        raise ConnectionAbortedError

    with OddServer(answer, tls=tls) as server:
        async with pool_of(server) as pool:
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError), match=r"reset|complete"):
                await call(pool, post(server))
            assert (pool._slots.busy, pool._slots.idle) == (0, 0)


async def test_no_record_in_the_middle() -> None:
    """A reply over TLS that goes on as no record is ReadError."""

    def answer(connection: Connection, request: Request) -> None:
        connection.raw.sendall(connection.encrypt(PLAIN[:-2]) + b"\x17\3\3\0\x20" + b"x" * 32)

    with OddServer(answer, tls=True) as server:
        async with pool_of(server) as pool:
            with pytest.raises(httpx.ReadError, match="SSL"):
                await call(pool, post(server))


async def test_two_readers() -> None:
    """A response has one reader at a time."""
    done = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        connection.raw.sendall(PLAIN[:-5])
        done.wait(PATIENCE)

    with OddServer(answer, tls=False) as server:
        async with pool_of(server) as pool:
            response = await pool.handle_async_request(post(server))
            stream = cast("httpx.AsyncByteStream", response.stream)
            first = asyncio.ensure_future(anext(aiter(stream)))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await anext(aiter(stream))
            with pytest.raises(httpx.ReadError):
                await first
            done.set()
            assert pool._slots.busy == 0


async def test_early_end_of_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that comes before the request has left makes a connection unfit, though all of it is right."""
    with OddServer(plain, tls=False) as server:
        async with pool_of(server) as pool:
            await call(pool, post(server))
            monkeypatch.setattr(Wire, "_has_unsent", lambda _: True)
            assert await call(pool, post(server)) == (200, b"hello")
            assert (pool._slots.busy, pool._slots.idle) == (0, 0)


async def test_early_reply_that_the_system_holds() -> None:
    """The same where the event loop hasn't told of the reply yet when the last byte of a long request has left."""
    with OddServer(plain, tls=False) as server:
        async with pool_of(server) as pool:
            await call(pool, post(server))
            wire = wire_of(pool)

            def hold() -> None:
                wire._is_readable = lambda: True

            request = httpx.Request("POST", server.base_url, content=b"x" * 100_000, extensions={"on_send": hold})
            assert await call(pool, request) == (200, b"hello")
            assert (pool._slots.busy, pool._slots.idle) == (0, 0)
