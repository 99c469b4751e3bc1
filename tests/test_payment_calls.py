"""The later endpoints through the client, over sockets: what leaves, what comes back, and what is never sent twice."""

import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from hashlib import md5
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from anyio.abc import SocketStream
from servers import RawServer, http, raw_server

from gatepay_async import (
    AsyncGatePay,
    OrderNotFoundError,
    OrderStatus,
    RetryPolicy,
    TransportError,
)

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

QUICK = RetryPolicy(first_wait=0, longest_wait=0)
STATUS = {"order_id": 522, "order_name": "x", "order_price": "1.88", "order_type": "alipay", "order_status": "expired"}
NUMBER = "T-1 中&+/X"


def body(code: int = 100, data: object = None) -> bytes:
    return json.dumps({"code": code, "msg": "", "time": "1557056209", "data": data}).encode()


@asynccontextmanager
async def server_of(*replies: bytes) -> AsyncGenerator[RawServer]:
    """A server that gives these replies in turn, the last for ever; an empty one cuts the connection."""

    async def answer(stream: SocketStream, number: int) -> None:
        reply = replies[min(number, len(replies)) - 1]
        if not reply:
            raise ConnectionAbortedError
        await stream.send(reply)

    async with raw_server(answer) as server:
        yield server


def signed(*parts: str) -> str:
    inner = md5("".join(("K", *parts)).encode()).hexdigest()  # noqa: S324 -- md5 is the vendor's choice
    return md5(f"{inner}S".encode()).hexdigest()  # noqa: S324 -- likewise


def target_of(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path and query of a request."""
    method, target, _ = head.split(b"\r\n")[0].decode("ascii").split(" ")
    url = urlsplit(target)
    return method, url.path, dict(parse_qsl(url.query, strict_parsing=True))


# -- order/check ---------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[], dict[str, Any]]] = {
    "own": dict,
    "client": lambda: {"http_client": httpx.AsyncClient()},
    "transport": lambda: {"transport": httpx.AsyncHTTPTransport()},
}


@pytest.mark.parametrize("way", WAYS)
async def test_check_order(way: str) -> None:
    """The check is a GET with a signed query and no body, over whatever carries it."""
    async with server_of(http(body(data=STATUS))) as server:
        given = WAYS[way]()
        async with AsyncGatePay("K", "S", base_url=server.base_url, **given) as gatepay:
            status = await gatepay.check_order(NUMBER)
        for each in given.values():
            await each.aclose()
    assert (type(status), status.order_id, status.order_status) == (OrderStatus, 522, "expired")
    [head] = server.heads
    query = {"appkey": "K", "out_order_id": NUMBER, "sign": signed(NUMBER)}
    assert target_of(head) == ("GET", "/api/order/check", query)
    assert server.bodies == [b""]
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert not names & {b"content-type", b"content-length", b"transfer-encoding"}
    assert {b"accept", b"accept-encoding", b"user-agent"} <= names


async def test_a_check_is_repeated() -> None:
    """It only reads: after a lost or a cut answer it is sent again."""
    replies = [b"", http(body(data=STATUS))[:-5], http(b"", status="502 Bad Gateway"), http(body(data=STATUS))]
    replies[1] = replies[1].replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")

    async def answer(stream: SocketStream, number: int) -> None:
        if replies[number - 1]:
            await stream.send(replies[number - 1])
        if number < 3:
            raise ConnectionAbortedError

    async with (
        raw_server(answer) as server,
        AsyncGatePay("K", "S", base_url=server.base_url, retry=QUICK) as gatepay,
    ):
        assert (await gatepay.check_order("T-1-X")).order_id == 522
    assert len(server.heads) == 4


async def test_a_refused_check() -> None:
    """An order that isn't found is a refusal, under either status, and is not asked twice."""
    for status in ("200 OK", "201 Created"):
        async with server_of(http(body(201), status=status)) as server:
            async with AsyncGatePay("K", "S", base_url=server.base_url, retry=QUICK) as gatepay:
                with pytest.raises(OrderNotFoundError) as caught:
                    await gatepay.check_order("T-1-X")
            assert (caught.value.code, caught.value.endpoint, len(server.heads)) == (201, "order/check", 1)


async def test_no_signature_in_errors_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    """The query holds a signature: httpx's log of a client of yours shows none, nor does an error."""
    caplog.set_level(logging.DEBUG)
    async with (
        server_of(http(body(data=STATUS)), b"") as server,
        httpx.AsyncClient() as own,
        AsyncGatePay("K", "S", base_url=server.base_url, retry=QUICK, http_client=own) as gatepay,
    ):
        await gatepay.check_order("T-1-X")
        with pytest.raises(TransportError) as caught:
            await gatepay.check_order("T-1-X")
    said = [record.getMessage() for record in caplog.records if record.name == "httpx"]
    assert [message for message in said if "/api/order/check?*** " in message] == said
    assert said
    assert signed("T-1-X") not in caplog.text
    assert signed("T-1-X") not in "".join(map(str, (caught.value, caught.value.__cause__)))
