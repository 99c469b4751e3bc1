"""The later endpoints through the client, over sockets: what leaves, what comes back, and what is never sent twice."""

import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from hashlib import md5
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.lowlevel
import httpx
import httpx2
import pytest
from anyio.abc import SocketStream
from servers import RawServer, http, raw_server

from gatepay_async import (
    AsyncGatePay,
    EndpointClosedError,
    InvalidRequestError,
    OrderNotFoundError,
    OrderStatus,
    OutcomeUnknownError,
    PaymentLink,
    ProtocolError,
    RefusedError,
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


@pytest.mark.uncounted
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


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_no_signature_in_errors_and_logs(caplog: pytest.LogCaptureFixture, library: ModuleType) -> None:
    """The query holds a signature: the log of a client of yours shows none, nor does an error."""
    caplog.set_level(logging.DEBUG)
    async with (
        server_of(http(body(data=STATUS)), b"") as server,
        library.AsyncClient() as own,
        AsyncGatePay("K", "S", base_url=server.base_url, retry=QUICK, http_client=own) as gatepay,
    ):
        await gatepay.check_order("T-1-X")
        with pytest.raises(TransportError) as caught:
            await gatepay.check_order("T-1-X")
    said = [record.getMessage() for record in caplog.records if record.name == library.__name__]
    assert [message for message in said if "/api/order/check?*** " in message] == said
    assert said
    assert signed("T-1-X") not in caplog.text
    assert signed("T-1-X") not in "".join(map(str, (caught.value, caught.value.__cause__)))


@pytest.mark.parametrize("way", ["own", "yours"])
async def test_no_signature_of_a_redirect_in_logs(caplog: pytest.LogCaptureFixture, way: str) -> None:
    """A server that redirects repeats the query in a header, and httpcore logs the headers of replies."""
    caplog.set_level(logging.DEBUG)
    elsewhere = f"location: /elsewhere?appkey=K&sign={signed('T-1-X')}\r\n"
    async with (
        server_of(http(b"", status="301 Moved Permanently", headers=elsewhere)) as server,
        httpx.AsyncClient() as client,
        AsyncGatePay("K", "S", base_url=server.base_url, http_client=client if way == "yours" else None) as gatepay,
    ):
        with pytest.raises(ProtocolError):
            await gatepay.check_order("T-1-X")
    assert signed("T-1-X") not in caplog.text


# -- the creations -------------------------------------------------------------------------------------------------

LINK = {"pay_url": "https://h/pay/api?id=1", "qrcode_url": "", "params": {"sign": "0" * 32}}
ORDER: dict[str, Any] = {"pay_type": "alipay", "out_order_id": "T-1001-X", "custom": "c"}
# Method, its arguments, and what is sent of them, in the signed order.
CREATIONS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "anypay": ({"price": "10.2"}, {"price": "10.20"}),
    "stablepay": ({"product_id": 8}, {"product_id": "8"}),
    "grouppay": ({"items": {8: 2, 7: 3}}, {"fields": "8:2,7:3"}),
    "cloudpay": ({"price": Decimal(1)}, {"price": "1.00"}),
}
every = pytest.mark.parametrize("kind", CREATIONS)


async def create(gatepay: AsyncGatePay, kind: str, **more: str) -> PaymentLink:
    method: Any = getattr(gatepay, f"create_{kind}")
    link: PaymentLink = await method(**ORDER, **CREATIONS[kind][0], **more)
    return link


def client_of(server: RawServer, **options: Any) -> AsyncGatePay:
    """A client of *server*, whose cloud it is, too."""
    urls = {"base_url": server.base_url, "cloud_base_url": server.base_url.replace("/api/", "/cloud/")}
    return AsyncGatePay("K", "S", **{"retry": QUICK, **urls, **options})


@pytest.mark.uncounted
@every
async def test_a_creation(kind: str) -> None:
    """Each is one POST of what was asked for and its signature, to its own host; what comes back is a link."""
    async with server_of(http(body(data=LINK))) as server, client_of(server) as gatepay:
        link = await create(gatepay, kind)
    assert link == PaymentLink("https://h/pay/api?id=1", "", None, "T-1001-X")
    [head], [form] = server.heads, server.bodies
    path = f"/{'cloud' if kind == 'cloudpay' else 'api'}/{kind}/create"
    assert head.split(b" ")[:2] == [b"POST", path.encode()]
    fields = {**CREATIONS[kind][1], "type": "alipay", "out_order_id": "T-1001-X", "custom": "c"}
    assert parse_qsl(form.decode("ascii"), strict_parsing=True) == [
        ("appkey", "K"), *fields.items(), ("sign", signed(*fields.values())),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["anypay", "stablepay", "grouppay"])
async def test_urls_of_one_order(kind: str) -> None:
    """The two URLs are sent where they are given, unsigned."""
    urls = {"notify_url": "https://shop.example/paid?a=b", "return_url": "https://shop.example/back"}
    async with server_of(http(body(data=LINK))) as server, client_of(server) as gatepay:
        await create(gatepay, kind)
        await create(gatepay, kind, **urls)
    plain, more = (dict(parse_qsl(form.decode("ascii"))) for form in server.bodies)
    assert more == {**plain, **urls}


@every
async def test_an_answer_lost_at_any_byte(kind: str) -> None:
    """However much of the answer comes, an order whose answer is lost was sent once, and its outcome is unknown."""
    # Every byte: test_lost_answers_long.py.
    whole = http(b'{"code":100,"data":{"pay_url":"https://h/1"}}')
    lost = {"at": 0}

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(whole[: lost["at"]])
        raise ConnectionAbortedError

    async with raw_server(answer) as server, client_of(server) as gatepay:
        steps = range(0, len(whole), 17)
        for lost["at"] in steps:
            with pytest.raises(OutcomeUnknownError) as caught:
                await create(gatepay, kind)
            assert (caught.value.endpoint, caught.value.out_order_id) == (f"{kind}/create", "T-1001-X")
        lost["at"] = len(whole)
        await create(gatepay, kind)
    assert len(server.bodies) == len(steps) + 1


@pytest.mark.uncounted
@every
async def test_a_creation_before_a_byte_has_left(kind: str) -> None:
    """While no byte has left it is tried again, and made once."""
    tries: list[str] = []

    class Flaky(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            tries.append(str(request.url))
            if len(tries) < 3:
                raise httpx.ConnectError("no route")
            return httpx.Response(200, content=body(data=LINK))

    async with AsyncGatePay("K", "S", transport=Flaky(), retry=QUICK) as gatepay:
        await create(gatepay, kind)
    host = "cloud.gatepay.io" if kind == "cloudpay" else "gatepay.io"
    assert tries == 3 * [f"https://{host}/api/{kind}/create"]


@every
@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content"])
async def test_a_refusal_without_a_body(kind: str, status: str) -> None:
    """A status that is the code, with no body, is the refusal: the order was not made, and isn't tried again."""
    async with server_of(http(b"", status=status)) as server, client_of(server) as gatepay:
        with pytest.raises(RefusedError) as caught:
            await create(gatepay, kind)
    assert (caught.value.code, len(server.bodies)) == (int(status[:3]), 1)


async def test_the_clouds_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cloud's host comes from the environment where it isn't given; one that can't be right is refused."""
    async with server_of(http(body(data=LINK))) as server:
        monkeypatch.setenv("GATEPAY_CLOUD_BASE_URL", server.base_url)
        async with AsyncGatePay("K", "S") as gatepay:
            await create(gatepay, "cloudpay")
            await create(gatepay, "cloudpay")
    assert (len(server.bodies), server.connections) == (2, 1)
    monkeypatch.setenv("GATEPAY_CLOUD_BASE_URL", "http://10.0.0.1/")
    for url, field in ((None, "GATEPAY_CLOUD_BASE_URL"), ("", "cloud_base_url")):
        with pytest.raises(InvalidRequestError) as caught:
            AsyncGatePay("K", "S", cloud_base_url=url)
        assert caught.value.field == field


async def test_a_cloud_that_is_not_set() -> None:
    """With another base URL than GatePay's, no order is made at the real cloud by default: the setting is named."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=body(data=LINK))

    for base_url in ("http://127.0.0.1:1/api/", "https://gatepay.io/other/"):
        async with AsyncGatePay("K", "S", base_url=base_url, transport=httpx.MockTransport(answer)) as gatepay:
            with pytest.raises(InvalidRequestError, match="GATEPAY_CLOUD_BASE_URL") as caught:
                await create(gatepay, "cloudpay")
        assert (caught.value.field, requests) == ("cloud_base_url", [])
    for same in (None, "https://GATEPAY.io:443/api"):
        async with AsyncGatePay("K", "S", base_url=same, transport=httpx.MockTransport(answer)) as gatepay:
            await create(gatepay, "cloudpay")
    assert {str(each.url) for each in requests} == {"https://cloud.gatepay.io/api/cloudpay/create"}


async def test_a_cloud_of_another_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's cloud is no cloud of a base URL that a program passes; of the same one, or GatePay's, it is."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=body(data=LINK))

    monkeypatch.setenv("GATEPAY_CLOUD_BASE_URL", "https://cloud.gatepay.io/api/")
    sandbox = "http://127.0.0.1:1/api/"
    for variable, passed, sent in (
        ("", sandbox, 0),
        ("https://gatepay.io/api/", sandbox, 0),
        ("http://127.0.0.1:1/api", sandbox, 1),
        (sandbox, None, 1),
        ("", "https://gatepay.io/api/", 1),
        (sandbox, "https://gatepay.io/api/", 1),
    ):
        requests.clear()
        monkeypatch.setenv("GATEPAY_BASE_URL", variable)
        async with AsyncGatePay("K", "S", base_url=passed, transport=httpx.MockTransport(answer)) as gatepay:
            if sent:
                await create(gatepay, "cloudpay")
            else:
                with pytest.raises(InvalidRequestError, match="cloud_base_url"):
                    await create(gatepay, "cloudpay")
        assert len(requests) == sent, (variable, passed)


async def test_closed_while_the_cloud_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is closed in that very moment leaves nothing open, and sends nothing."""
    opening, go_on = anyio.Event(), anyio.Event()
    closed: list[str] = []

    class Slow:
        async def aclose(self) -> None:
            closed.append("cloud")

    async def open_slowly(*_: object, **__: object) -> Any:
        opening.set()
        await go_on.wait()
        return Slow(), Slow()

    gatepay = AsyncGatePay("K", "S")
    monkeypatch.setattr(gatepay._caller._cloud_attempts, "_open_exchange", open_slowly)
    async with anyio.create_task_group() as group:

        async def call() -> None:
            with pytest.raises(InvalidRequestError, match="has been closed"):
                await create(gatepay, "cloudpay")

        async with gatepay:
            group.start_soon(call)
            await opening.wait()
        go_on.set()
    assert closed == ["cloud", "cloud"]  # its connections, and the client over them


# -- unknown outcomes ----------------------------------------------------------------------------------------------

UNKNOWN = OutcomeUnknownError(endpoint="anypay/create", out_order_id="T-1001-X")
NOT_FOUND, FOUND, AWAY = http(body(201)), http(body(data=STATUS)), http(b"", status="502 Bad Gateway")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it has waited, instead of waiting."""
    seconds: list[float] = []

    async def sleep(delay: float) -> None:
        seconds.append(delay)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", sleep)
    return seconds


@pytest.mark.parametrize(
    ("replies", "found", "waited"),
    [
        ([FOUND], True, [0]),
        ([NOT_FOUND, NOT_FOUND, FOUND], True, [0, 1, 2]),
        ([NOT_FOUND], False, [0, 1, 2, 4, 8]),
        ([AWAY, NOT_FOUND], False, [0, 1, 2, 4, 8]),
        ([AWAY, AWAY, FOUND], True, [0, 1, 2]),
    ],
)
async def test_settling(waits: list[float], replies: list[bytes], found: bool, waited: list[float]) -> None:  # noqa: FBT001 -- a row
    """It asks a few times with growing waits, until the order is found; then None."""
    once = RetryPolicy(attempts=1)
    async with server_of(*replies) as server, client_of(server, retry=once) as gatepay:
        status = await gatepay.settle(UNKNOWN)
    assert (status is not None) == found
    assert waits == waited
    assert {target_of(head)[2]["out_order_id"] for head in server.heads} == {"T-1001-X"}


async def test_settling_in_vain(waits: list[float]) -> None:
    """Where GatePay isn't reached in the end, that is no None; a refusal ends it at once."""
    async with server_of(NOT_FOUND, AWAY) as server, client_of(server, retry=RetryPolicy(attempts=1)) as gatepay:
        with pytest.raises(ProtocolError):
            await gatepay.settle(UNKNOWN)
    assert len(server.heads) == 5
    async with server_of(http(body(107))) as server, client_of(server) as gatepay:
        with pytest.raises(EndpointClosedError):
            await gatepay.settle(UNKNOWN)
    assert len(server.heads) == 1


async def test_settling_something_else() -> None:
    """Only an unknown outcome of an order can be settled."""
    raw: Any = OutcomeUnknownError(endpoint="some/path", out_order_id="")
    async with AsyncGatePay("K", "S") as gatepay:
        wrong: Any = ValueError("x")
        for error, field in ((raw, "out_order_id"), (wrong, "error")):
            with pytest.raises(InvalidRequestError) as caught:
                await gatepay.settle(error)
            assert caught.value.field == field
