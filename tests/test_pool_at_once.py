"""The short way over a connection at rest: a whole exchange with no wait but the one for its reply."""

import asyncio
import math
import threading
from typing import Any, Self

import anyio
import httpx
import pytest
from odd_server import Connection, OddServer, Request, event_loops, http
from waiting import PATIENCE

from gatepay_async import AsyncGatePay, DeadlineExceededError, OutcomeUnknownError, ProtocolError, TransportError
from gatepay_async.exchange.replies import MAX_REPLY_BYTES
from gatepay_async.pool import OriginPool
from gatepay_async.pool.asyncio_wire import AT_A_TIME, Wire
from gatepay_async.pool.port import Answer, TooLateError

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

HELLO = http(b"hello")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Asked:
    """A pool with one connection at rest, asked the short way; an asynchronous context manager."""

    def __init__(self, server: OddServer, **options: Any) -> None:
        self.pool = OriginPool(server.base_url, ssl_context=server.client_tls, **options)
        self._form = self.pool.prepare(httpx.URL(server.base_url + "x"), httpx.Headers())
        self.sent = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.aclose()

    async def rest(self) -> None:
        exchange = await self.pool.post(self._form, b"", {})
        assert (await exchange.read_whole(most=100)).body == b"hello"

    async def ask(self, body: bytes = b"", *, within: float = math.inf, most: int = 2**20) -> Answer | None:
        until = asyncio.get_running_loop().time() + within
        return await self.pool.post_at_once(self._form, body, on_send=self._note, until=until, most=most)

    def _note(self) -> None:
        self.sent += 1

    @property
    def slots(self) -> tuple[int, int]:
        return self.pool._slots.busy, self.pool._slots.idle

    @property
    def wire(self) -> Wire:
        connection = self.pool._slots._idle[0].connection
        assert isinstance(connection, Wire)
        return connection


def hello(connection: Connection, _: Request) -> None:
    connection.raw.sendall(connection.encrypt(HELLO))


def silent(connection: Connection, request: Request) -> None:
    if request.number == 1:
        hello(connection, request)


@pytest.mark.parametrize("tls", [False, True])
async def test_asked_at_once(*, tls: bool) -> None:
    """The connection at rest is used, and rests again; a reply may come in pieces, and only so much of it is read."""
    piece = b"x" * AT_A_TIME

    def answer(connection: Connection, request: Request) -> None:
        sizes = {b"": 0, b"long": 9 * AT_A_TIME}.get(request.body)
        if sizes:
            connection.raw.sendall(connection.encrypt(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % sizes))
            for _ in range(sizes // len(piece)):
                connection.raw.sendall(connection.encrypt(piece))
        else:
            hello(connection, request)

    with OddServer(answer, tls=tls) as server, anyio.fail_after(PATIENCE):
        async with Asked(server) as asked:
            assert await asked.ask() is None  # nothing rests yet
            await asked.rest()
            for body, length in ((b"", 5), (b"long", 9 * AT_A_TIME), (b"", 5)):
                reply = await asked.ask(body)
                assert reply is not None
                assert (reply.status, len(reply.body), reply.fields[b"content-length"]) == (200, length, b"%d" % length)
            assert (asked.sent, asked.slots, len(server.connections)) == (3, (0, 1), 1)
            reply = await asked.ask(b"long", most=AT_A_TIME)
            assert reply is not None
            assert AT_A_TIME < len(reply.body) < 9 * AT_A_TIME
            assert asked.slots == (0, 0)  # what is left of the reply must not become the next one's


@pytest.mark.parametrize("anyio_backend", [loop for loop in event_loops() if loop[0] == "asyncio"], ids=repr)
async def test_two_deadlines_at_once() -> None:
    """A timer that is due now can be replaced before it rings, also on uvloop, where it doesn't know its time."""
    with OddServer(hello, tls=False) as server, anyio.fail_after(PATIENCE):
        async with Asked(server) as asked:
            await asked.rest()
            asked.wire._wake_at(asyncio.get_running_loop().time())
            assert await asked.ask(within=PATIENCE) is not None


async def ignore(*_: object) -> None: ...


async def test_what_is_not_for_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent where another way must do it, and the connection goes on resting."""
    now = [0.0]
    with OddServer(hello, tls=False) as server, anyio.fail_after(PATIENCE):
        async with Asked(server, clock=lambda: now[0]) as asked:
            await asked.rest()
            assert await asked.ask(b"x" * AT_A_TIME) is None  # too long to leave at once
            with monkeypatch.context() as patch:
                patch.setattr("gatepay_async.pool.transport.is_patched", lambda: True)
                assert await asked.ask() is None
            with monkeypatch.context() as patch:
                patch.setattr(asked.wire, "_is_readable", lambda: True)
                assert await asked.ask() is None
            now[0] = 15.0
            assert await asked.ask() is None  # it has rested for too long
            now[0] = 14.0
            assert await asked.ask() is not None
            assert (asked.sent, len(server.connections)) == (1, 1)
            trace: dict[str, Any] = {"trace": ignore}
            response = await asked.pool.handle_async_request(httpx.Request("POST", server.base_url, extensions=trace))
            await response.aread()
            assert await asked.ask() is None  # httpcore's connection


async def test_a_hook_that_fails() -> None:
    """What `on_send` raises comes out, and neither a byte nor the connection has gone."""

    def forbid() -> None:
        raise ZeroDivisionError

    with OddServer(hello, tls=False) as server, anyio.fail_after(PATIENCE):
        async with Asked(server) as asked:
            await asked.rest()
            with pytest.raises(ZeroDivisionError):
                await asked.pool.post_at_once(asked._form, b"", on_send=forbid, until=math.inf, most=1)
            assert asked.slots == (0, 1)
            assert await asked.ask() is not None


@pytest.mark.parametrize("tls", [False, True])
async def test_time_is_up(*, tls: bool) -> None:
    """The wait ends when it must; the slot is free again, and the connection closed."""
    with OddServer(silent, tls=tls) as server, anyio.fail_after(PATIENCE):
        async with Asked(server) as asked:
            await asked.rest()
            with pytest.raises(TooLateError):
                await asked.ask(within=0.01)
            assert asked.slots == (0, 0)


async def test_one_timer_for_many_exchanges() -> None:
    """The timer of one exchange serves those that follow: it is set again when it rings, and earlier if need be."""
    over = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        if request.number == 3:
            over.wait(PATIENCE)
        hello(connection, request)

    with OddServer(answer, tls=False) as server, anyio.fail_after(PATIENCE):
        async with Asked(server) as asked:
            await asked.rest()
            assert await asked.ask(within=60) is not None
            wire = asked.wire
            first = wire._timer
            assert first is not None
            asking = asyncio.ensure_future(asked.ask(within=30))
            await asyncio.sleep(0)
            second = wire._timer
            assert second is not None
            assert (first.cancelled(), second.cancelled()) == (True, False)
            wire._ring()  # as if it had been set for an exchange before
            assert wire._timer is not second
            over.set()
            assert await asking is not None
            timer = wire._timer
            assert timer is not None
            await asked.pool.aclose()
            assert timer.cancelled()


async def test_cancelled() -> None:
    """Whoever is cancelled while waiting for the reply gives the slot back, and the connection is closed."""
    with OddServer(silent, tls=False) as server, anyio.fail_after(PATIENCE):
        async with Asked(server) as asked:
            await asked.rest()
            task = asyncio.ensure_future(asked.ask())
            await asyncio.sleep(0)
            assert asked.slots == (1, 0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asked.slots == (0, 0)


# -- what the client makes of it --------------------------------------------------------------------------------------


async def test_a_calls_time_is_up() -> None:
    """An attempt over a connection at rest ends in time, and says that the request has left."""
    reply = http(b'{"code": 100, "data": {"category": []}}')

    def answer(connection: Connection, request: Request) -> None:
        if request.number == 1:
            connection.raw.sendall(reply)

    cases: list[tuple[dict[str, Any], type[TransportError]]] = [
        ({"timeout": 0.05}, TransportError),
        ({"deadline": 0.05}, DeadlineExceededError),
    ]
    for limits, kind in cases:
        with OddServer(answer, tls=False) as server, anyio.fail_after(PATIENCE):
            async with AsyncGatePay("a", "b", base_url=server.base_url, **limits) as gatepay:
                await gatepay.list_products()
                with pytest.raises(OutcomeUnknownError) as raised:
                    await gatepay.create_payment(
                        product_id=1, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="c"
                    )
        cause = raised.value.__cause__
        assert isinstance(cause, TransportError)
        assert (type(cause), cause.sent) == (kind, True)


async def test_a_calls_odd_replies() -> None:
    """Over a connection at rest, too, an HTTP error is one, what is packed is unpacked, and too much is refused."""
    catalog = b'{"code": 100, "data": {"category": []}}'
    replies = iter(
        (
            http(catalog),
            http(b"busy", start="HTTP/1.1 500 Oh", headers="retry-after: 99\r\n"),
            http(catalog, headers="content-encoding: identity\r\n"),
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * MAX_REPLY_BYTES) + b" " * (MAX_REPLY_BYTES + 2**20),
        )
    )

    def answer(connection: Connection, _: Request) -> None:
        connection.raw.sendall(next(replies))

    with OddServer(answer, tls=False) as server, anyio.fail_after(PATIENCE):
        async with AsyncGatePay("a", "b", base_url=server.base_url) as gatepay:
            await gatepay.list_products()
            with pytest.raises(ProtocolError) as raised:
                await gatepay.list_products()
            assert (raised.value.http_status, raised.value.retry_after) == (500, 99)
            assert not (await gatepay.list_products()).categories
            with pytest.raises(ProtocolError) as raised:
                await gatepay.list_products()
            assert raised.value.problem.name == "reply_too_large"
        assert len(server.connections) == 1
