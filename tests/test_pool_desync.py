"""After an odd reply, the next call gets its own reply: over TCP and TLS, on every event loop."""

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
# The size of httpcore's reads. asyncio reads ahead more than that.
READ_SIZE = 64 * 1024


def reply_of_size(size: int) -> bytes:
    """Return a complete reply with *size* bytes. Spaces after the JSON fill it up."""
    short = http(CATALOGUE + b" " * 60_000)
    return http(CATALOGUE + b" " * (60_000 + size - len(short)))


@frozen
class Row:
    """
    What the server sends, and the expected results of two calls.

    Attributes:
        first_reply: The reply to the first request: parts in one TCP segment, each in its own TLS record.
        while_idle: What the server sends between the two calls.
        split_record: The content of a TLS record. One half is sent after the first reply, the other just before the
            second reply.
        raw: Unencrypted bytes after the first reply, in the same TCP segment.
        first_result: The result of the first call: ``"ok"`` or the name of an error.
        connections: The number of connections after the second call, which must get its own reply.
        tls_only: Whether to test this over TLS only.
    """

    name: str
    first_reply: tuple[bytes, ...]
    while_idle: bytes = b""
    split_record: bytes = b""
    raw: bytes = b""
    first_result: str = "ok"
    connections: int = 2
    tls_only: bool = False


VALID = http(CATALOGUE)
ROWS = (
    Row("valid", (VALID,), connections=1),
    Row("in two records", (VALID[:50], VALID[50:]), connections=1),
    Row("a surplus line break", (VALID + b"\r\n",)),
    Row("a surplus byte", (VALID + b"\n",)),
    Row("a surplus line break in its own record", (VALID, b"\r\n")),
    Row("followed by another reply", (VALID + FORGED,)),
    Row("followed by another reply in its own record", (VALID, FORGED)),
    Row("the same reply twice", (VALID, VALID)),
    Row("the same reply twice, in one record", (VALID + VALID,)),
    Row("followed by half a reply", (VALID + FORGED[:40],)),
    Row("followed by half a record", (VALID,), split_record=FORGED, tls_only=True),
    Row("followed by an invalid record", (VALID,), raw=b"\x17\3\3\0\x20" + b"x" * 32, tls_only=True),
    Row("204 with a body", (http(CATALOGUE, start="HTTP/1.1 204 No Content"),), first_result="ProtocolError"),
    Row("304 with a body", (http(CATALOGUE, start="HTTP/1.1 304 Not Modified"),), first_result="ProtocolError"),
    Row("204 without a body: it may arrive late", (b"HTTP/1.1 204 No Content\r\n\r\n",), first_result="ProtocolError"),
    Row(
        "205 without a body: it may arrive late",
        (b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",),
        first_result="ProtocolError",
    ),
    Row(
        "304 without a body: it may arrive late", (b"HTTP/1.1 304 Not Modified\r\n\r\n",), first_result="ProtocolError"
    ),
    Row("chunked", (chunked(CATALOGUE),), connections=1),
    Row("chunked, with trailers", (chunked(CATALOGUE, end=b"0\r\nx-check: 1\r\n\r\n"),), connections=1),
    Row("chunked, with a second last chunk", (chunked(CATALOGUE) + b"0\r\n\r\n",)),
    Row("chunked, followed by another reply", (chunked(CATALOGUE), FORGED)),
    Row("chunked and with a length", (chunked(CATALOGUE, headers="content-length: 5\r\n"),)),
    Row("two lengths", (http(CATALOGUE, headers="content-length: 5\r\n"),), first_result="TransportError"),
    Row("100 before it", (b"HTTP/1.1 100 Continue\r\n\r\n" + VALID,), connections=1),
    Row("103 before it", (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", VALID), connections=1),
    Row("followed by 100", (VALID, b"HTTP/1.1 100 Continue\r\n\r\n")),
    Row("HTTP/1.0", (http(CATALOGUE, start="HTTP/1.0 200 OK"),)),
    Row(
        "HTTP/1.0 with keep-alive",
        (http(CATALOGUE, start="HTTP/1.0 200 OK", headers="connection: keep-alive\r\n"), FORGED),
    ),
    Row("connection: close, followed by another reply", (http(CATALOGUE, headers="connection: close\r\n"), FORGED)),
    Row("long, with nothing after it", (reply_of_size(READ_SIZE),), connections=1),
    Row("long, with a surplus byte in asyncio's read queue", (reply_of_size(READ_SIZE) + b"\n",)),
    Row("long, with another reply in asyncio's read queue", (reply_of_size(READ_SIZE) + FORGED,)),
    Row("408 while the connection is idle", (VALID,), while_idle=http(b"{}", start="HTTP/1.1 408 Request Timeout")),
    Row("a byte while the connection is idle", (VALID,), while_idle=b"\n"),
    Row("another reply while the connection is idle", (VALID,), while_idle=FORGED),
    Row("not HTTP", (b"\0\1\2\r\n\r\n",), first_result="TransportError"),
)


def make_server(row: Row, *, tls: bool) -> tuple[OddServer, threading.Event, threading.Event]:
    """Return a server for *row*, an event that lets it send `while_idle`, and an event that it sets at the end."""
    may_send_more, all_sent = threading.Event(), threading.Event()
    second_half: list[bytes] = []

    def answer(connection: Connection, request: Request) -> None:
        if connection.number > 1 or request.number > 1:
            raw = second_half.pop() if second_half and connection.number == 1 else b""
            connection.raw.sendall(raw + connection.encrypt(http(success_reply(request.path, request.form))))
            return
        raw = b"".join(map(connection.encrypt, row.first_reply)) + row.raw
        if row.split_record:
            encrypted = connection.encrypt(row.split_record)
            raw += encrypted[: len(encrypted) // 2]
            second_half.append(encrypted[len(encrypted) // 2 :])
        connection.raw.sendall(raw)
        if row.while_idle:
            may_send_more.wait()
            connection.raw.sendall(connection.encrypt(row.while_idle))
        all_sent.set()

    return OddServer(answer, tls=tls), may_send_more, all_sent


@asynccontextmanager
async def client(server: OddServer, **options: Any) -> AsyncGenerator[AsyncGatePay]:
    """Open a client without retries over a new pool."""
    pool = OriginPool(server.base_url, ssl_context=server.client_tls, **options)
    async with (
        pool,
        AsyncGatePay("k", "s", base_url=server.base_url, transport=pool, retry=RetryPolicy(attempts=1)) as gatepay,
    ):
        yield gatepay


async def result_of(call: Callable[[], Any]) -> str:
    """Return ``"ok"``, the content of the first card key, or the name of the error."""
    try:
        result = await call()
    except GatePayError as error:
        return type(error).__name__
    keys = getattr(result, "keys", None)
    return keys[0].content if keys else "ok"


async def make_two_calls(row: Row, tls: bool) -> tuple[str, str, int]:  # noqa: FBT001 -- anyio.run() passes no keywords
    """Return the results of two calls, and the number of connections they used."""
    server, may_send_more, all_sent = make_server(row, tls=tls)
    with server:
        async with client(server) as gatepay:
            first_result = await result_of(gatepay.list_products)
            may_send_more.set()
            await until(all_sent.is_set)
            second_result = await result_of(lambda: gatepay.list_card_keys(8))
        return first_result, second_result, len(server.connections)


@pytest.mark.slow
def test_next_call_gets_its_own_reply() -> None:
    """After each reply of the table, the next call gets its own reply, over TCP and TLS, on every event loop."""
    wrong: list[str] = []
    for loop, options in event_loops():
        for tls in (False, True):
            for row in ROWS:
                if row.tls_only and not tls:
                    continue
                results = anyio.run(make_two_calls, row, tls, backend=loop, backend_options=options)
                if results != (row.first_result, "KEY-8", row.connections):
                    wrong.append(f"{loop} {options} {'tls' if tls else 'tcp'} {row.name}: {results}")
    assert not wrong, "\n".join(wrong)


def delay_first_write(monkeypatch: pytest.MonkeyPatch, wait: Callable[[NetworkStream | Wire], object]) -> None:
    """Call *wait* before the first write, so that bytes of the server arrive before the request is sent."""
    original_write, original_check, has_waited = NetworkStream.write, Wire._check_before_use, list[bool]()

    async def delayed_write(self: NetworkStream, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's
        if not has_waited:
            has_waited.append(True)
            wait(self)
        await original_write(self, buffer, timeout)

    async def delayed_check(self: Wire) -> bool:
        if not has_waited:
            has_waited.append(True)
            wait(self)
        return await original_check(self)

    monkeypatch.setattr(NetworkStream, "write", delayed_write)
    monkeypatch.setattr(Wire, "_check_before_use", delayed_check)


def reply_normally(connection: Connection, request: Request) -> None:
    connection.raw.sendall(connection.encrypt(http(success_reply(request.path, request.form))))


async def call_twice(server: OddServer) -> tuple[str, str, int]:
    """Make two calls. Return their results and the number of connections."""
    async with client(server) as gatepay:
        first_result = await result_of(gatepay.list_products)
        return first_result, await result_of(lambda: gatepay.list_card_keys(8)), len(server.connections)


@pytest.mark.parametrize("tls", [False, True])
def test_reply_before_the_first_request_is_not_used(monkeypatch: pytest.MonkeyPatch, *, tls: bool) -> None:
    """If a new connection sends a reply before any request, the call fails and the connection isn't used."""
    for loop, options in event_loops():
        with monkeypatch.context() as patch, OddServer(reply_normally, tls=tls, greeting=VALID) as server:
            delay_first_write(patch, partial(OddServer.wait_for_greeting, server))
            results = anyio.run(call_twice, server, backend=loop, backend_options=options)
        assert results == ("TransportError", "KEY-8", 2), (loop, options)


def test_session_tickets_do_not_prevent_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS session tickets, which a server sends unasked on a new connection, don't prevent its use."""
    for loop, options in event_loops():
        with monkeypatch.context() as patch, OddServer(reply_normally, tls=True) as server:
            delay_first_write(patch, lambda stream: select.select([stream.get_extra_info("socket")], [], [], PATIENCE))
            results = anyio.run(call_twice, server, backend=loop, backend_options=options)
        assert results == ("ok", "KEY-8", 1), (loop, options)


@pytest.mark.parametrize("tls", [False, True])
def test_reply_just_before_the_write_is_not_used(monkeypatch: pytest.MonkeyPatch, *, tls: bool) -> None:
    """If bytes arrive after an idle connection is chosen and before the write, another connection is used."""
    for loop, options in event_loops():
        connection_class: type[HttpcoreConnection | Wire] = Wire if loop == "asyncio" else HttpcoreConnection
        with monkeypatch.context() as patch, OddServer(reply_normally, tls=tls) as server:

            async def delayed_write(
                self: Any, request: Any, *, server: OddServer = server, send: Any = connection_class.send
            ) -> Any:
                if server.connections and server.connections[0].requests:
                    await until(lambda: server.send_unasked(FORGED, random.Random(0)))  # noqa: S311 -- no secret
                    server.connections[0].requests = 0
                return await send(self, request)

            patch.setattr(connection_class, "send", delayed_write)
            results = anyio.run(call_twice, server, backend=loop, backend_options=options)
        assert results == ("ok", "KEY-8", 2), (loop, options)


def reply_except_on_first(connection: Connection, request: Request) -> None:
    """Reply on every connection except the first one."""
    if connection.number > 1:
        reply_normally(connection, request)


async def make_long_call(server: OddServer) -> tuple[str, str, int]:
    """Make a call with a body of 10 MB, then a short one. Return the results and the number of connections."""
    async with client(server) as gatepay:
        keys = [f"{number}-" + "x" * 20_000 for number in range(500)]
        first_result = await result_of(lambda: gatepay.create_card_keys(8, keys))
        return first_result, await result_of(lambda: gatepay.list_card_keys(8)), len(server.connections)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.slow
def test_early_reply_prevents_reuse(*, tls: bool) -> None:
    """After a reply to a half-sent request the connection isn't reused: the server may reply to the rest, too."""
    stored = http(success_reply("ka/create", {"content": "x"}))
    for loop, options in event_loops():
        with OddServer(reply_except_on_first, tls=tls, early_reply=stored) as server:
            results = anyio.run(make_long_call, server, backend=loop, backend_options=options)
        assert results == ("ok", "KEY-8", 2), (loop, options)


async def count_connections() -> int:
    """Return the number of connections that two calls use."""
    with OddServer(reply_normally, tls=False) as server:
        assert await call_twice(server) == ("ok", "KEY-8", len(server.connections))
        return len(server.connections)


@pytest.mark.anyio
async def test_no_reuse_without_httpcores_private_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """If httpcore renames the private attribute with its parser, no connection is reused."""
    monkeypatch.setattr(opener, "own_class", lambda: None)  # use httpcore's connections on asyncio, too
    assert await count_connections() == 1
    monkeypatch.setattr(over_httpcore, "_PARSER_ATTRIBUTE", "_renamed")
    assert await count_connections() == 2
