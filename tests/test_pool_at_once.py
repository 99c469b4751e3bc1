"""`OriginPool.post_at_once`: a whole exchange over an idle connection, which waits only for the reply."""

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
from gatepay_async.pool.asyncio_wire import MAX_WRITE_BYTES, Wire
from gatepay_async.pool.port import Hooks, TooLateError, WholeResponse

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

HELLO = http(b"hello")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class IdlePool:
    """A pool for calls of `post_at_once`; `open_connection` gives it an idle connection."""

    def __init__(self, server: OddServer, **options: Any) -> None:
        self.pool = OriginPool(server.base_url, ssl_context=server.client_tls, **options)
        self._prepared = self.pool.prepare(httpx.URL(server.base_url + "x"), httpx.Headers())
        self.sent_count = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.aclose()

    async def open_connection(self) -> None:
        """Make a call that opens the connection."""
        exchange = await self.pool.post(self._prepared, b"", Hooks())
        assert (await exchange.read_whole(max_bytes=100)).body == b"hello"

    async def post_at_once(
        self, body: bytes = b"", *, seconds: float = math.inf, max_bytes: int = 2**20
    ) -> WholeResponse | None:
        """Call `OriginPool.post_at_once` with a deadline *seconds* from now."""
        deadline = asyncio.get_running_loop().time() + seconds
        return await self.pool.post_at_once(
            self._prepared, body, on_send=self._count_sent, deadline=deadline, max_bytes=max_bytes
        )

    def _count_sent(self) -> None:
        self.sent_count += 1

    @property
    def slots(self) -> tuple[int, int]:
        return self.pool._slots.busy, self.pool._slots.idle

    @property
    def wire(self) -> Wire:
        connection = self.pool._slots._idle[0].connection
        assert isinstance(connection, Wire)
        return connection


def reply_hello(connection: Connection, _: Request) -> None:
    connection.raw.sendall(connection.encrypt(HELLO))


def reply_to_the_first_only(connection: Connection, request: Request) -> None:
    """Reply to the first request on each connection, and to no other one."""
    if request.number == 1:
        reply_hello(connection, request)


@pytest.mark.parametrize("tls", [False, True])
async def test_idle_connection_is_used_and_idle_again(*, tls: bool) -> None:
    """The idle connection is used and kept. A long reply is read in pieces, and only up to the limit."""
    piece = b"x" * MAX_WRITE_BYTES

    def answer(connection: Connection, request: Request) -> None:
        size = {b"": 0, b"long": 9 * MAX_WRITE_BYTES}.get(request.body)
        if size:
            connection.raw.sendall(connection.encrypt(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size))
            for _ in range(size // len(piece)):
                connection.raw.sendall(connection.encrypt(piece))
        else:
            reply_hello(connection, request)

    with OddServer(answer, tls=tls) as server, anyio.fail_after(PATIENCE):
        async with IdlePool(server) as idle_pool:
            assert await idle_pool.post_at_once() is None  # no connection yet
            await idle_pool.open_connection()
            for body, length in ((b"", 5), (b"long", 9 * MAX_WRITE_BYTES), (b"", 5)):
                reply = await idle_pool.post_at_once(body)
                assert reply is not None
                assert (reply.status, len(reply.body), reply.fields[b"content-length"]) == (200, length, b"%d" % length)
            assert (idle_pool.sent_count, idle_pool.slots, len(server.connections)) == (3, (0, 1), 1)
            reply = await idle_pool.post_at_once(b"long", max_bytes=MAX_WRITE_BYTES)
            assert reply is not None
            assert MAX_WRITE_BYTES < len(reply.body) < 9 * MAX_WRITE_BYTES
            assert idle_pool.slots == (0, 0)  # closed: the unread rest must not be taken for the next reply


@pytest.mark.parametrize("anyio_backend", [loop for loop in event_loops() if loop[0] == "asyncio"], ids=repr)
async def test_due_timer_can_be_replaced() -> None:
    """A timer that is due now can be replaced by a later one. On uvloop, such a timer has no ``when()``."""
    with OddServer(reply_hello, tls=False) as server, anyio.fail_after(PATIENCE):
        async with IdlePool(server) as idle_pool:
            await idle_pool.open_connection()
            idle_pool.wire._wake_at(asyncio.get_running_loop().time())
            assert await idle_pool.post_at_once(seconds=PATIENCE) is not None


async def ignore_event(*_: object) -> None: ...


async def test_returns_none_and_sends_nothing_if_sending_must_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If `post_at_once` can't send the request at once, it returns None and sends nothing."""
    now = [0.0]
    with OddServer(reply_hello, tls=False) as server, anyio.fail_after(PATIENCE):
        async with IdlePool(server, clock=lambda: now[0]) as idle_pool:
            await idle_pool.open_connection()
            assert await idle_pool.post_at_once(b"x" * MAX_WRITE_BYTES) is None  # too long for one write
            with monkeypatch.context() as patch:
                patch.setattr("gatepay_async.pool.transport.is_patched", lambda: True)
                assert await idle_pool.post_at_once() is None  # the request has to go to the patched httpcore
            with monkeypatch.context() as patch:
                patch.setattr(idle_pool.wire, "_is_readable", lambda: True)
                assert await idle_pool.post_at_once() is None  # bytes have arrived before the request
            now[0] = 15.0
            assert await idle_pool.post_at_once() is None  # expired: the default keepalive_expiry is 15 seconds
            now[0] = 14.0
            assert await idle_pool.post_at_once() is not None
            assert (idle_pool.sent_count, len(server.connections)) == (1, 1)
            trace: dict[str, Any] = {"trace": ignore_event}
            response = await idle_pool.pool.handle_async_request(
                httpx.Request("POST", server.base_url, extensions=trace)
            )
            await response.aread()
            assert await idle_pool.post_at_once() is None  # httpcore's connection


async def test_exception_in_on_send_keeps_the_connection() -> None:
    """If `on_send` raises, the call raises that exception, nothing is sent and the connection stays idle."""

    def fail() -> None:
        raise ZeroDivisionError

    with OddServer(reply_hello, tls=False) as server, anyio.fail_after(PATIENCE):
        async with IdlePool(server) as idle_pool:
            await idle_pool.open_connection()
            with pytest.raises(ZeroDivisionError):
                await idle_pool.pool.post_at_once(
                    idle_pool._prepared, b"", on_send=fail, deadline=math.inf, max_bytes=1
                )
            assert idle_pool.slots == (0, 1)
            assert await idle_pool.post_at_once() is not None


@pytest.mark.parametrize("tls", [False, True])
async def test_deadline_ends_the_call_and_closes_the_connection(*, tls: bool) -> None:
    """At the deadline the call raises TooLateError, the slot is released and the connection is closed."""
    with OddServer(reply_to_the_first_only, tls=tls) as server, anyio.fail_after(PATIENCE):
        async with IdlePool(server) as idle_pool:
            await idle_pool.open_connection()
            with pytest.raises(TooLateError):
                await idle_pool.post_at_once(seconds=0.01)
            assert idle_pool.slots == (0, 0)


async def test_timer_outlives_its_exchange_until_the_pool_closes() -> None:
    """An exchange with an earlier deadline replaces the timer of the last one. One that fires early is set again."""
    may_reply = threading.Event()

    def answer(connection: Connection, request: Request) -> None:
        if request.number == 3:
            may_reply.wait(PATIENCE)
        reply_hello(connection, request)

    with OddServer(answer, tls=False) as server, anyio.fail_after(PATIENCE):
        async with IdlePool(server) as idle_pool:
            await idle_pool.open_connection()
            assert await idle_pool.post_at_once(seconds=60) is not None
            wire = idle_pool.wire
            timer_of_60_s = wire._timer
            assert timer_of_60_s is not None
            running_call = asyncio.ensure_future(idle_pool.post_at_once(seconds=30))
            await asyncio.sleep(0)
            timer_of_30_s = wire._timer
            assert timer_of_30_s is not None
            assert (timer_of_60_s.cancelled(), timer_of_30_s.cancelled()) == (True, False)
            wire._on_timer()  # as if the timer of an earlier exchange fired
            assert wire._timer is not timer_of_30_s
            may_reply.set()
            assert await running_call is not None
            timer = wire._timer
            assert timer is not None
            await idle_pool.pool.aclose()
            assert timer.cancelled()


async def test_cancelled_call_releases_its_slot() -> None:
    """A cancelled call releases its slot and closes the connection."""
    with OddServer(reply_to_the_first_only, tls=False) as server, anyio.fail_after(PATIENCE):
        async with IdlePool(server) as idle_pool:
            await idle_pool.open_connection()
            task = asyncio.ensure_future(idle_pool.post_at_once())
            await asyncio.sleep(0)
            assert idle_pool.slots == (1, 0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert idle_pool.slots == (0, 0)


# -- AsyncGatePay over a pool ---------------------------------------------------------------------------------------


async def test_clients_time_limits_hold_on_an_idle_connection() -> None:
    """The client's time-out and deadline hold on an idle connection. The error says that the request was sent."""
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


@pytest.mark.parametrize("chunked", [False, True])
async def test_connection_is_used_again_after_a_reply_above_the_limit(
    monkeypatch: pytest.MonkeyPatch, *, chunked: bool
) -> None:
    """A whole reply that exceeds the limit is read, so the next reply on the connection arrives, too."""
    monkeypatch.setattr("gatepay_async.pool.asyncio_wire.MAX_UNREAD_BYTES", 1000)  # so that receiving pauses
    long = b"x" * 300_000
    head = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(long)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(long), long) if chunked else long

    def answer(connection: Connection, request: Request) -> None:
        is_long = request.body == b"long"
        connection.raw.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (head, body) if is_long else HELLO)

    with OddServer(answer, tls=False) as server, anyio.fail_after(PATIENCE):
        async with IdlePool(server) as idle_pool:
            await idle_pool.open_connection()
            reply = await idle_pool.post_at_once(b"long", max_bytes=len(long) - 1)
            assert reply is not None
            assert reply.body == long
            reply = await idle_pool.post_at_once()
            assert reply is not None
            assert reply.body == b"hello"
            assert len(server.connections) == 1


async def test_client_handles_odd_replies_on_an_idle_connection() -> None:
    """On an idle connection, HTTP errors are raised, encoded replies decoded, and too large replies rejected."""
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
