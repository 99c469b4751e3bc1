"""A reply belongs to its request: odd replies over every transport, on every loop, and what becomes of the next call."""

import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from attrs import frozen
from odd_server import Connection, OddServer, Request, chunked, http, loops, right_reply
from waiting import until

from gatepay_async import AsyncGatePay, GatePayError, RetryPolicy
from gatepay_async.pool import OriginPool
from gatepay_async.pool.transport import _Line

pytestmark = pytest.mark.sockets

CATALOGUE = right_reply("product/show", {})
FORGED = http(right_reply("ka/show", {"product_id": "666"}))
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
        first: What the first call gives: ``"ok"`` or an error's name.
        connections: How many there are after the second call, which must be answered rightly.
    """

    name: str
    now: tuple[bytes, ...]
    then: bytes = b""
    half: bytes = b""
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
    Row("204 with a body", (http(CATALOGUE, start="HTTP/1.1 204 No Content"),), first="ProtocolError"),
    Row("304 with a body", (http(CATALOGUE, start="HTTP/1.1 304 Not Modified"),), first="ProtocolError"),
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
            connection.raw.sendall(raw + connection.seal(http(right_reply(request.path, request.form))))
            return
        raw = b"".join(map(connection.seal, row.now))
        if row.half:
            sealed = connection.seal(row.half)
            raw += sealed[: len(sealed) // 2]
            rest.append(sealed[len(sealed) // 2 :])
        connection.raw.sendall(raw)
        if row.then:
            more.wait()
            connection.raw.sendall(connection.seal(row.then))
        sent.set()

    return OddServer(answer, tls=tls), more, sent


@asynccontextmanager
async def client(server: OddServer, **options: Any) -> AsyncIterator[AsyncGatePay]:
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


def test_odd_replies() -> None:
    """After an odd reply the next call is answered with its own, over TCP and TLS, on every loop."""
    wrong: list[str] = []
    for loop, options in loops():
        for tls in (False, True):
            for row in ROWS:
                if row.tls_only and not tls:
                    continue
                came = anyio.run(play, row, tls, backend=loop, backend_options=options)
                if came != (row.first, "KEY-8", row.connections):
                    wrong.append(f"{loop} {options} {'tls' if tls else 'tcp'} {row.name}: {came}")
    assert not wrong, "\n".join(wrong)
