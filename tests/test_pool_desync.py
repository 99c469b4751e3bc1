"""A reply belongs to its request: odd replies, over TCP and TLS, on every loop, and the next call."""

import random
import select
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from attrs import frozen
from odd_server import Connection, OddServer, Request, chunked, event_loops, http, success_reply
from waiting import PATIENCE, until

from gatepay_async import AsyncGatePay, GatePayError, RetryPolicy
from gatepay_async.pool import OriginPool, opener, over_httpcore
from gatepay_async.pool.asyncio_wire import Wire
from gatepay_async.pool.over_httpcore import HttpcoreConnection
from gatepay_async.pool.stream import NetworkStream

pytestmark = pytest.mark.sockets

CATALOGUE = success_reply("product/show", {})
FORGED = http(success_reply("ka/show", {"product_id": "666"}))
# httpcore reads so much at a time; asyncio has taken more from the socket by then.
AT_A_TIME = 64 * 1024


def filled(size: int) -> bytes:
    """A catalogue whose reply is *size* bytes long."""
    short = http(CATALOGUE + b" " * 60_000)
    return http(CATALOGUE + b" " * (60_000 + size - len(short)))


@frozen
class Row:
    """
    What a server does, and what must come of it.

    Attributes:
        now: Its reply to the first request of its first connection: pieces in one segment, each a record of TLS.
        then: What it sends once the client has the reply, before the second call.
        half: What begins in the segment of the reply, and ends after the next request.
        raw: What is behind the reply in its segment, as it is, where the next record of TLS is due.
        first: What the first call gives: ``"ok"`` or an error's name.
        connections: How many there are after the second call, which must be answered rightly.
    """

    name: str
    now: tuple[bytes, ...]
    then: bytes = b""
    half: bytes = b""
    raw: bytes = b""
    first: str = "ok"
    connections: int = 2
    tls_only: bool = False


OK = http(CATALOGUE)
ROWS = (
    Row("as it should be", (OK,), connections=1),
    Row("in two records", (OK[:50], OK[50:]), connections=1),
    Row("a line break too many", (OK + b"\r\n",)),
    Row("one byte too many", (OK + b"\n",)),
    Row("a line break too many, in a record of its own", (OK, b"\r\n")),
    Row("another reply behind it", (OK + FORGED,)),
    Row("another reply in a record of its own", (OK, FORGED)),
    Row("the same reply twice", (OK, OK)),
    Row("the same reply twice, in one record", (OK + OK,)),
    Row("half a reply behind it", (OK + FORGED[:40],)),
    Row("half a record behind it", (OK,), half=FORGED, tls_only=True),
    Row("a record behind it that can't be read", (OK,), raw=b"\x17\3\3\0\x20" + b"x" * 32, tls_only=True),
    Row("204 with a body", (http(CATALOGUE, start="HTTP/1.1 204 No Content"),), first="ProtocolError"),
    Row("304 with a body", (http(CATALOGUE, start="HTTP/1.1 304 Not Modified"),), first="ProtocolError"),
    Row("204, whose body may come late", (b"HTTP/1.1 204 No Content\r\n\r\n",), first="ProtocolError"),
    Row("205, likewise", (b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",), first="ProtocolError"),
    Row("304, likewise", (b"HTTP/1.1 304 Not Modified\r\n\r\n",), first="ProtocolError"),
    Row("chunked", (chunked(CATALOGUE),), connections=1),
    Row("chunked, with trailers", (chunked(CATALOGUE, end=b"0\r\nx-check: 1\r\n\r\n"),), connections=1),
    Row("chunked, with more behind its end", (chunked(CATALOGUE) + b"0\r\n\r\n",)),
    Row("chunked, with another reply behind its end", (chunked(CATALOGUE), FORGED)),
    Row("chunked and with a length", (chunked(CATALOGUE, headers="content-length: 5\r\n"),)),
    Row("two lengths", (http(CATALOGUE, headers="content-length: 5\r\n"),), first="TransportError"),
    Row("100 before it", (b"HTTP/1.1 100 Continue\r\n\r\n" + OK,), connections=1),
    Row("103 before it", (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", OK), connections=1),
    Row("100 behind it", (OK, b"HTTP/1.1 100 Continue\r\n\r\n")),
    Row("HTTP/1.0", (http(CATALOGUE, start="HTTP/1.0 200 OK"),)),
    Row("HTTP/1.0, kept", (http(CATALOGUE, start="HTTP/1.0 200 OK", headers="connection: keep-alive\r\n"), FORGED)),
    Row("connection: close, with more behind it", (http(CATALOGUE, headers="connection: close\r\n"), FORGED)),
    Row("long, and whole", (filled(AT_A_TIME),), connections=1),
    Row("long, with a byte that stays in asyncio's queue", (filled(AT_A_TIME) + b"\n",)),
    Row("long, with a reply that stays in asyncio's queue", (filled(AT_A_TIME) + FORGED,)),
    Row("408 while it rests", (OK,), then=http(b"{}", start="HTTP/1.1 408 Request Timeout")),
    Row("a byte while it rests", (OK,), then=b"\n"),
    Row("another reply while it rests", (OK,), then=FORGED),
    Row("not HTTP", (b"\0\1\2\r\n\r\n",), first="TransportError"),
)


def serve(row: Row, *, tls: bool) -> tuple[OddServer, threading.Event, threading.Event]:
    """A server that answers by *row*; may be told to send the rest, and tells that it has."""
    more, sent = threading.Event(), threading.Event()
    rest: list[bytes] = []

    def answer(connection: Connection, request: Request) -> None:
        if connection.number > 1 or request.number > 1:
            raw = rest.pop() if rest and connection.number == 1 else b""
            connection.raw.sendall(raw + connection.encrypt(http(success_reply(request.path, request.form))))
            return
        raw = b"".join(map(connection.encrypt, row.now)) + row.raw
        if row.half:
            sealed = connection.encrypt(row.half)
            raw += sealed[: len(sealed) // 2]
            rest.append(sealed[len(sealed) // 2 :])
        connection.raw.sendall(raw)
        if row.then:
            more.wait()
            connection.raw.sendall(connection.encrypt(row.then))
        sent.set()

    return OddServer(answer, tls=tls), more, sent


@asynccontextmanager
async def client(server: OddServer, **options: Any) -> AsyncGenerator[AsyncGatePay]:
    pool = OriginPool(server.base_url, ssl_context=server.client_tls, **options)
    async with (
        pool,
        AsyncGatePay("k", "s", base_url=server.base_url, transport=pool, retry=RetryPolicy(attempts=1)) as gatepay,
    ):
        yield gatepay


async def outcome(call: Callable[[], Any]) -> str:
    """``"ok"``, the first card key, or the name of the error."""
    try:
        result = await call()
    except GatePayError as error:
        return type(error).__name__
    keys = getattr(result, "keys", None)
    return keys[0].content if keys else "ok"


async def play(row: Row, tls: bool) -> tuple[str, str, int]:  # noqa: FBT001 -- anyio.run() passes no keywords
    """What two calls give, and how many connections they took."""
    server, more, sent = serve(row, tls=tls)
    with server:
        async with client(server) as gatepay:
            first = await outcome(gatepay.list_products)
            more.set()
            await until(sent.is_set)
            second = await outcome(lambda: gatepay.list_card_keys(8))
        return first, second, len(server.connections)


@pytest.mark.slow
def test_odd_replies() -> None:
    """After an odd reply the next call is answered with its own, over TCP and TLS, on every loop."""
    wrong: list[str] = []
    for loop, options in event_loops():
        for tls in (False, True):
            for row in ROWS:
                if row.tls_only and not tls:
                    continue
                came = anyio.run(play, row, tls, backend=loop, backend_options=options)
                if came != (row.first, "KEY-8", row.connections):
                    wrong.append(f"{loop} {options} {'tls' if tls else 'tcp'} {row.name}: {came}")
    assert not wrong, "\n".join(wrong)


def hold_first_write(monkeypatch: pytest.MonkeyPatch, ready: Callable[[NetworkStream | Wire], object]) -> None:
    """Have the first write wait until *ready*; what comes meanwhile comes before the request."""
    write, look, waited = NetworkStream.write, Wire._look_before_use, list[bool]()

    async def late(self: NetworkStream, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's
        if not waited:
            waited.append(True)
            ready(self)
        await write(self, buffer, timeout)

    async def late_look(self: Wire) -> bool:
        if not waited:
            waited.append(True)
            ready(self)
        return await look(self)

    monkeypatch.setattr(NetworkStream, "write", late)
    monkeypatch.setattr(Wire, "_look_before_use", late_look)


def right(connection: Connection, request: Request) -> None:
    connection.raw.sendall(connection.encrypt(http(success_reply(request.path, request.form))))


async def two_calls(server: OddServer) -> tuple[str, str, int]:
    async with client(server) as gatepay:
        first = await outcome(gatepay.list_products)
        return first, await outcome(lambda: gatepay.list_card_keys(8)), len(server.connections)


@pytest.mark.parametrize("tls", [False, True])
def test_a_reply_before_the_request(monkeypatch: pytest.MonkeyPatch, *, tls: bool) -> None:
    """What a new connection says before it was asked is no reply, and the connection is not used."""
    for loop, options in event_loops():
        with monkeypatch.context() as patch, OddServer(right, tls=tls, greeting=OK) as server:
            hold_first_write(patch, partial(OddServer.wait, server))
            came = anyio.run(two_calls, server, backend=loop, backend_options=options)
        assert came == ("TransportError", "KEY-8", 2), (loop, options)


def test_session_tickets_before_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """What TLS itself sends on a new connection, unasked, is no reason not to use it."""
    for loop, options in event_loops():
        with monkeypatch.context() as patch, OddServer(right, tls=True) as server:
            hold_first_write(patch, lambda stream: select.select([stream.get_extra_info("socket")], [], [], PATIENCE))
            came = anyio.run(two_calls, server, backend=loop, backend_options=options)
        assert came == ("ok", "KEY-8", 1), (loop, options)


@pytest.mark.parametrize("tls", [False, True])
def test_a_reply_while_the_request_is_on_its_way(monkeypatch: pytest.MonkeyPatch, *, tls: bool) -> None:
    """What comes between taking a connection and writing to it is seen, and another connection is used."""
    for loop, options in event_loops():
        kind: type[HttpcoreConnection | Wire] = Wire if loop == "asyncio" else HttpcoreConnection
        with monkeypatch.context() as patch, OddServer(right, tls=tls) as server:

            async def late(self: Any, request: Any, *, server: OddServer = server, send: Any = kind.send) -> Any:
                if server.connections and server.connections[0].requests:
                    await until(lambda: server.send_unasked(FORGED, random.Random(0)))  # noqa: S311 -- no secret
                    server.connections[0].requests = 0
                return await send(self, request)

            patch.setattr(kind, "send", late)
            came = anyio.run(two_calls, server, backend=loop, backend_options=options)
        assert came == ("ok", "KEY-8", 2), (loop, options)


def right_but_first(connection: Connection, request: Request) -> None:
    if connection.number > 1:
        right(connection, request)


async def long_call(server: OddServer) -> tuple[str, str, int]:
    async with client(server) as gatepay:
        keys = [f"{number}-" + "x" * 20_000 for number in range(500)]
        first = await outcome(lambda: gatepay.create_card_keys(8, keys))
        return first, await outcome(lambda: gatepay.list_card_keys(8)), len(server.connections)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.slow
def test_a_reply_to_half_a_request(*, tls: bool) -> None:
    """A connection whose reply came before the request had left is not used again: the rest may be answered, too."""
    stored = http(success_reply("ka/create", {"content": "x"}))
    for loop, options in event_loops():
        with OddServer(right_but_first, tls=tls, hasty=stored) as server:
            came = anyio.run(long_call, server, backend=loop, backend_options=options)
        assert came == ("ok", "KEY-8", 2), (loop, options)


async def count_connections() -> int:
    with OddServer(right, tls=False) as server:
        assert await two_calls(server) == ("ok", "KEY-8", len(server.connections))
        return len(server.connections)


@pytest.mark.anyio
async def test_without_httpcores_insides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where httpcore doesn't let itself be looked into, no connection is used twice."""
    monkeypatch.setattr(opener, "own_kind", lambda: None)
    assert await count_connections() == 1
    monkeypatch.setattr(over_httpcore, "_H11", "_renamed")
    assert await count_connections() == 2
