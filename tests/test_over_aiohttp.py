"""transport="aiohttp": what is different about it. `nox -s aiohttp` runs the other tests over it."""

import asyncio
import ssl
import sys
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import MagicMock

import aiohttp
import anyio
import httpx
import pytest
from anyio.abc import SocketStream
from httpx_aiohttp import AiohttpTransport
from servers import http, raw_server
from waiting import until

from gatepay_async import (
    AsyncGatePay,
    GatePayError,
    InvalidRequestError,
    OutcomeUnknownError,
    RetryPolicy,
    TransportError,
    over_aiohttp,
)
from gatepay_async.over_aiohttp import OverAiohttp
from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

QUICK = RetryPolicy(first_wait=0, longest_wait=0)
EMPTY_CATALOG = b'{"code": 100, "msg": "", "time": "1", "data": {"category": []}}'
ORDER: dict[str, Any] = {
    "product_id": 8,
    "product_num": 1,
    "pay_type": "alipay",
    "out_order_id": "T-1001-X",
    "custom": "terry@example.com",
}


async def never(*_: object) -> None:
    await anyio.sleep_forever()


async def die(stream: SocketStream, _: int) -> None:
    raise ConnectionAbortedError


@pytest.mark.asyncio
async def test_it_works(sandbox: Sandbox) -> None:
    """Payments, card keys and walks go over aiohttp, and its session is closed with the client."""
    async with sandbox.serve() as url:
        async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url, transport="aiohttp") as gatepay:
            await gatepay.create_payment(**ORDER)
            assert (await gatepay.upload_card_keys(8, map(str, range(2000)))).stored == 2000
            assert len([key async for key in gatepay.list_card_keys(8, prefetch=4)]) == 2089
            own = cast("Any", gatepay._caller._attempts._exchange)._transport
            assert isinstance(own, OverAiohttp)
        assert vars(own)["client"].closed


@pytest.mark.asyncio
async def test_a_server_that_dies() -> None:
    """An order whose answer is lost is sent once, although httpx-aiohttp calls that a ConnectTimeout."""
    async with raw_server(die) as server:
        async with AsyncGatePay("a", "b", base_url=server.base_url, transport="aiohttp", retry=QUICK) as gatepay:
            with pytest.raises(OutcomeUnknownError) as caught:
                await gatepay.create_payment(**ORDER)
            assert "RemoteProtocolError" in str(caught.value.__cause__)
        assert len(server.bodies) == 1
        yours = AiohttpTransport()
        async with AsyncGatePay("a", "b", base_url=server.base_url, transport=yours, retry=QUICK) as gatepay:
            with pytest.raises(OutcomeUnknownError) as caught:
                await gatepay.create_payment(**ORDER)
        await yours.aclose()
        assert "ConnectTimeout" in str(caught.value.__cause__)
        assert len(server.bodies) == 2


@pytest.mark.asyncio
async def test_nobody_listens(sandbox: Sandbox) -> None:
    """Without a connection no byte has left, and an order is tried again."""
    async with sandbox.serve() as url:
        pass
    async with AsyncGatePay("a", "b", base_url=url, transport="aiohttp", retry=QUICK) as gatepay:
        with pytest.raises(TransportError, match="ConnectError") as caught:
            await gatepay.create_payment(**ORDER)
    assert (caught.value.sent, caught.value.attempts) == (False, 4)


@pytest.mark.asyncio
async def test_no_http() -> None:
    """What is no HTTP at all is nobody's answer."""

    async def gibberish(stream: SocketStream, _: int) -> None:
        await stream.send(b"220 mail.example ESMTP\r\n\r\n")

    async with (
        raw_server(gibberish) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, transport="aiohttp", retry=QUICK) as gatepay,
    ):
        with pytest.raises(TransportError, match="RemoteProtocolError") as caught:
            await gatepay.list_products()
    assert caught.value.sent


@pytest.mark.asyncio
async def test_waiting_is_not_the_attempt() -> None:
    """The clock of an attempt starts when it has its connection; until then nothing of it has left."""
    async with (
        raw_server(never) as server,
        AsyncGatePay(
            "a", "b", base_url=server.base_url, transport="aiohttp", timeout=30, deadline=2, max_connections=1
        ) as gatepay,
    ):
        errors: list[GatePayError] = []

        async def call() -> None:
            try:
                await gatepay.list_products()
            except GatePayError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            gatepay._caller._deadline = 0.1  # over before the first call's, which has the one connection
            await call()
            group.cancel_scope.cancel()
    assert [vars(error)["sent"] for error in errors] == [False]


@pytest.mark.asyncio
async def test_cancelled() -> None:
    """A task that is cancelled is cancelled, in the queue as well."""
    async with (
        raw_server(never) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, transport="aiohttp", max_connections=1) as gatepay,
    ):
        tasks = [asyncio.create_task(gatepay.list_products()) for _ in range(2)]
        await anyio.wait_all_tasks_blocked()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2


@pytest.mark.asyncio
async def test_closed_while_waiting() -> None:
    """Whoever waits for a connection when the client is closed is told so, and that nothing was sent."""
    errors: list[GatePayError] = []

    async def call() -> None:
        try:
            await gatepay.list_products()
        except GatePayError as error:
            errors.append(error)

    async with raw_server(never) as server, anyio.create_task_group() as group:
        gatepay = AsyncGatePay("a", "b", base_url=server.base_url, transport="aiohttp", max_connections=1)
        async with gatepay:
            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
    [waiting] = [error for error in errors if "the client was closed; nothing was sent" in str(error)]
    assert not vars(waiting)["sent"]
    assert len(errors) == 2


@pytest.mark.asyncio
async def test_closed_while_reading() -> None:
    """A reply whose connection is closed under it is nobody's answer."""
    reading = asyncio.Event()

    async def half(stream: SocketStream, _: int) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await reading.wait()
        await anyio.sleep_forever()

    async with raw_server(half) as server, anyio.create_task_group() as group:
        gatepay = AsyncGatePay("a", "b", base_url=server.base_url, transport="aiohttp", retry=QUICK)
        errors: list[GatePayError] = []

        async def call() -> None:
            try:
                await gatepay.list_products()
            except GatePayError as error:
                errors.append(error)

        async with gatepay:
            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
        reading.set()
    assert [type(error) for error in errors] == [TransportError]


@pytest.mark.asyncio
async def test_on_wait_on_turn_on_send() -> None:
    """A call is told when its waiting begins, when it is over, and when its first byte leaves: each once."""
    events: list[str] = []

    def tell(event: str) -> Callable[[], None]:
        return lambda: events.append(event)

    answering = asyncio.Event()

    async def answer(stream: SocketStream, _: int) -> None:
        await answering.wait()
        await stream.send(http(EMPTY_CATALOG))

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    transport = OverAiohttp(max_connections=1, ssl_context=tls, proxy=None)
    async with raw_server(answer) as server, transport:
        post = transport.prepare("POST", httpx.URL(server.base_url), httpx.Headers())
        extensions = {f"on_{event}": tell(event) for event in ("wait", "turn", "send")}

        async def caller() -> None:
            assert await (await post(b"a=1", extensions)).aread() == EMPTY_CATALOG

        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await until(lambda: server.bodies)
            group.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            assert events == ["send", "wait"]
            answering.set()
        assert events == ["send", "wait", "turn", "send"]


@pytest.mark.asyncio
async def test_the_end_comes_late() -> None:
    """A body whose end comes by itself, after all its bytes, ends there."""
    reply = MagicMock()
    reply.content = aiohttp.StreamReader(MagicMock(), 1024, loop=asyncio.get_running_loop())
    reply.content.feed_data(b"{}")
    parts: list[bytes] = []

    async def read() -> None:
        parts.extend([part async for part in over_aiohttp._AiohttpBody(reply)])

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        reply.content.feed_eof()
    assert parts == [b"{}"]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [RuntimeError("Connection closed."), aiohttp.ClientPayloadError("cut")], ids=repr)
async def test_torn_while_reading(error: Exception) -> None:
    """Whatever aiohttp raises in the middle of a body is an error of httpx."""
    reply = MagicMock()
    reply.content = aiohttp.StreamReader(MagicMock(), 1024, loop=asyncio.get_running_loop())
    reply.content.feed_data(b"{")
    body = over_aiohttp._AiohttpBody(reply)
    assert await anext(body) == b"{"
    reply.content.set_exception(error)
    with pytest.raises(httpx.ReadError, match=str(error)) as caught:
        await anext(body)
    assert caught.value.__cause__ is error


@pytest.mark.asyncio
@pytest.mark.gatepay_live  # the plugin takes the name for somebody else's shop
async def test_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is used."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(EMPTY_CATALOG))

    async with raw_server(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url)
        monkeypatch.setenv("no_proxy", "")
        shop = "http://gatepay.example/api/"
        async with AsyncGatePay("a", "b", base_url=shop, allow_http=True, transport="aiohttp") as gatepay:
            await gatepay.list_products()
    assert proxy.heads[0].startswith(b"POST http://gatepay.example/api/product/show ")


@pytest.mark.asyncio
async def test_each_call_has_a_connection_of_its_own() -> None:
    """No connection is used twice: aiohttp would take what was left over in it for the next reply."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(EMPTY_CATALOG))

    async with (
        raw_server(answer) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, transport="aiohttp") as gatepay,
    ):
        for _ in range(2):
            await gatepay.list_products()
        assert server.connections == 2


@pytest.mark.asyncio
async def test_no_cookies() -> None:
    """What one call was given as a cookie is not sent with the next."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(EMPTY_CATALOG, headers="set-cookie: a=b\r\n"))

    async with (
        raw_server(answer) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, transport="aiohttp") as gatepay,
    ):
        await gatepay.list_products()
        await gatepay.list_products()
    assert not any(b"cookie" in head.lower() for head in server.heads)


def test_trio() -> None:
    """On trio the error says that aiohttp runs on asyncio only."""

    async def enter() -> None:
        await AsyncGatePay("a", "b", transport="aiohttp").__aenter__()

    with pytest.raises(InvalidRequestError, match="runs on asyncio only") as caught:
        anyio.run(enter, backend="trio")
    assert caught.value.field == "transport"


@pytest.mark.asyncio
async def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error says what to install."""
    monkeypatch.delitem(sys.modules, "gatepay_async.over_aiohttp", raising=False)
    monkeypatch.setitem(sys.modules, "httpx_aiohttp", None)
    with pytest.raises(InvalidRequestError, match=r"pip install 'gatepay-async\[aiohttp\]'"):
        await AsyncGatePay("a", "b", transport="aiohttp").__aenter__()


def test_other_names() -> None:
    """Another name is none."""
    other: Any = "requests"
    with pytest.raises(InvalidRequestError, match="must be a AsyncBaseTransport"):
        AsyncGatePay("a", "b", transport=other)
    with pytest.raises(InvalidRequestError, match="not both"):
        AsyncGatePay("a", "b", transport="aiohttp", http_client=httpx.AsyncClient())
