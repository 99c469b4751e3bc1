"""The payment endpoints that GatePay added later: requests, results and retries of the client, over real sockets."""

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
ORDER_NUMBER = "T-1 中&+/X"


def reply_body(code: int = 100, data: object = None) -> bytes:
    return json.dumps({"code": code, "msg": "", "time": "1557056209", "data": data}).encode()


@asynccontextmanager
async def serve(*replies: bytes) -> AsyncGenerator[RawServer]:
    """Run a server that sends *replies* in turn, then repeats the last one. An empty reply cuts the connection."""

    async def answer(stream: SocketStream, number: int) -> None:
        reply = replies[min(number, len(replies)) - 1]
        if not reply:
            raise ConnectionAbortedError
        await stream.send(reply)

    async with raw_server(answer) as server:
        yield server


def signature_of(*parts: str) -> str:
    inner = md5("".join(("K", *parts)).encode()).hexdigest()  # noqa: S324 -- md5 is the vendor's choice
    return md5(f"{inner}S".encode()).hexdigest()  # noqa: S324 -- md5 is the vendor's choice


def parse_target(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Return the method, path and query of a request."""
    method, target, _ = head.split(b"\r\n")[0].decode("ascii").split(" ")
    url = urlsplit(target)
    return method, url.path, dict(parse_qsl(url.query, strict_parsing=True))


# -- order/check ---------------------------------------------------------------------------------------------------

# Options of AsyncGatePay for each way to send requests.
CLIENT_OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "own pool": dict,
    "client": lambda: {"http_client": httpx.AsyncClient()},
    "transport": lambda: {"transport": httpx.AsyncHTTPTransport()},
}


@pytest.mark.without_coverage
@pytest.mark.parametrize("transport", CLIENT_OPTIONS)
async def test_check_order_sends_a_get_with_a_signed_query(transport: str) -> None:
    """The request has no body. It is the same over our own pool and over the user's client or transport."""
    async with serve(http(reply_body(data=STATUS))) as server:
        options = CLIENT_OPTIONS[transport]()
        async with AsyncGatePay("K", "S", base_url=server.base_url, **options) as gatepay:
            status = await gatepay.check_order(ORDER_NUMBER)
        for resource in options.values():
            await resource.aclose()
    assert (type(status), status.order_id, status.order_status) == (OrderStatus, 522, "expired")
    [head] = server.heads
    query = {"appkey": "K", "out_order_id": ORDER_NUMBER, "sign": signature_of(ORDER_NUMBER)}
    assert parse_target(head) == ("GET", "/api/order/check", query)
    assert server.bodies == [b""]
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert not names & {b"content-type", b"content-length", b"transfer-encoding"}
    assert {b"accept", b"accept-encoding", b"user-agent"} <= names


async def test_check_order_is_retried_after_a_lost_or_broken_response() -> None:
    """``order/check`` only reads, so a retry is safe."""
    replies = [
        b"",
        http(reply_body(data=STATUS), headers="connection: close\r\n")[:-5],
        http(b"", status="502 Bad Gateway"),
        http(reply_body(data=STATUS)),
    ]

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


async def test_order_not_found_is_a_refusal_and_is_not_retried() -> None:
    """The code 201 raises OrderNotFoundError, whether the HTTP status is 200 or equals the code."""
    for status in ("200 OK", "201 Created"):
        async with serve(http(reply_body(201), status=status)) as server:
            async with AsyncGatePay("K", "S", base_url=server.base_url, retry=QUICK) as gatepay:
                with pytest.raises(OrderNotFoundError) as caught:
                    await gatepay.check_order("T-1-X")
            assert (caught.value.code, caught.value.endpoint, len(server.heads)) == (201, "order/check", 1)


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_signature_in_the_query_is_neither_logged_nor_in_errors(
    caplog: pytest.LogCaptureFixture, library: ModuleType
) -> None:
    """The user's own httpx client logs the URL of the GET, whose query holds the signature."""
    caplog.set_level(logging.DEBUG)
    async with (
        serve(http(reply_body(data=STATUS)), b"") as server,
        library.AsyncClient() as http_client,
        AsyncGatePay("K", "S", base_url=server.base_url, retry=QUICK, http_client=http_client) as gatepay,
    ):
        await gatepay.check_order("T-1-X")
        with pytest.raises(TransportError) as caught:
            await gatepay.check_order("T-1-X")
    messages = [record.getMessage() for record in caplog.records if record.name == library.__name__]
    assert messages
    assert all("/api/order/check?*** " in message for message in messages)
    assert signature_of("T-1-X") not in caplog.text
    assert signature_of("T-1-X") not in "".join(map(str, (caught.value, caught.value.__cause__)))


@pytest.mark.parametrize("client_kind", ["own", "user's"])
async def test_signature_in_a_redirect_is_not_logged(caplog: pytest.LogCaptureFixture, client_kind: str) -> None:
    """A redirect repeats the query in its ``location`` header, and httpcore logs response headers."""
    caplog.set_level(logging.DEBUG)
    location = f"location: /elsewhere?appkey=K&sign={signature_of('T-1-X')}\r\n"
    async with (
        serve(http(b"", status="301 Moved Permanently", headers=location)) as server,
        httpx.AsyncClient() as client,
        AsyncGatePay(
            "K", "S", base_url=server.base_url, http_client=client if client_kind == "user's" else None
        ) as gatepay,
    ):
        with pytest.raises(ProtocolError):
            await gatepay.check_order("T-1-X")
    assert signature_of("T-1-X") not in caplog.text


# -- creating orders -------------------------------------------------------------------------------------------------

LINK = {"pay_url": "https://h/pay/api?id=1", "qrcode_url": "", "params": {"sign": "0" * 32}}
ORDER: dict[str, Any] = {"pay_type": "alipay", "out_order_id": "T-1001-X", "custom": "c"}
# For each method create_…: its arguments, and the fields that are sent for them, in the signed order.
CREATIONS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "anypay": ({"price": "10.2"}, {"price": "10.20"}),
    "stablepay": ({"product_id": 8}, {"product_id": "8"}),
    "grouppay": ({"items": {8: 2, 7: 3}}, {"fields": "8:2,7:3"}),
    "cloudpay": ({"price": Decimal(1)}, {"price": "1.00"}),
}
each_kind = pytest.mark.parametrize("kind", CREATIONS)


async def create(gatepay: AsyncGatePay, kind: str, **urls: str) -> PaymentLink:
    method: Any = getattr(gatepay, f"create_{kind}")
    link: PaymentLink = await method(**ORDER, **CREATIONS[kind][0], **urls)
    return link


def make_client(server: RawServer, **options: Any) -> AsyncGatePay:
    """Return a client that uses *server* as GatePay and as the cloud server."""
    urls = {"base_url": server.base_url, "cloud_base_url": server.base_url.replace("/api/", "/cloud/")}
    return AsyncGatePay("K", "S", **{"retry": QUICK, **urls, **options})


@pytest.mark.without_coverage
@each_kind
async def test_create_sends_one_signed_post_and_returns_a_link(kind: str) -> None:
    """Each method sends one signed POST: for a cloud payment to the cloud server, otherwise to GatePay's."""
    async with serve(http(reply_body(data=LINK))) as server, make_client(server) as gatepay:
        link = await create(gatepay, kind)
    assert link == PaymentLink(pay_url="https://h/pay/api?id=1", qrcode_url="", qrcode=None, out_order_id="T-1001-X")
    [head], [form] = server.heads, server.bodies
    path = f"/{'cloud' if kind == 'cloudpay' else 'api'}/{kind}/create"
    assert head.split(b" ")[:2] == [b"POST", path.encode()]
    fields = {**CREATIONS[kind][1], "type": "alipay", "out_order_id": "T-1001-X", "custom": "c"}
    assert parse_qsl(form.decode("ascii"), strict_parsing=True) == [
        ("appkey", "K"), *fields.items(), ("sign", signature_of(*fields.values())),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["anypay", "stablepay", "grouppay"])
async def test_urls_of_an_order_are_sent_unsigned(kind: str) -> None:
    """``notify_url`` and ``return_url`` are sent only if they are set."""
    urls = {"notify_url": "https://shop.example/paid?a=b", "return_url": "https://shop.example/back"}
    async with serve(http(reply_body(data=LINK))) as server, make_client(server) as gatepay:
        await create(gatepay, kind)
        await create(gatepay, kind, **urls)
    without_urls, with_urls = (dict(parse_qsl(form.decode("ascii"))) for form in server.bodies)
    assert with_urls == {**without_urls, **urls}


@each_kind
async def test_order_is_not_sent_again_when_its_response_is_cut_off(kind: str) -> None:
    """Wherever the response is cut, the order is sent once, and ``OutcomeUnknownError`` is raised."""
    # This test cuts at every 17th byte, to be quick. test_lost_answers_long.py cuts at every byte.
    whole = http(b'{"code":100,"data":{"pay_url":"https://h/1"}}')
    sent_length = 0

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(whole[:sent_length])
        raise ConnectionAbortedError

    async with raw_server(answer) as server, make_client(server) as gatepay:
        steps = range(0, len(whole), 17)
        for sent_length in steps:  # noqa: B007 -- answer() uses it
            with pytest.raises(OutcomeUnknownError) as caught:
                await create(gatepay, kind)
            assert (caught.value.endpoint, caught.value.out_order_id) == (f"{kind}/create", "T-1001-X")
        sent_length = len(whole)
        await create(gatepay, kind)
    assert len(server.bodies) == len(steps) + 1


@pytest.mark.without_coverage
@each_kind
async def test_create_is_retried_if_no_byte_was_sent(kind: str) -> None:
    """Several attempts fail to connect. The order is created once."""
    attempts: list[str] = []

    class FlakyTransport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            attempts.append(str(request.url))
            if len(attempts) < 3:
                raise httpx.ConnectError("no route")
            return httpx.Response(200, content=reply_body(data=LINK))

    async with AsyncGatePay("K", "S", transport=FlakyTransport(), retry=QUICK) as gatepay:
        await create(gatepay, kind)
    host = "cloud.gatepay.io" if kind == "cloudpay" else "gatepay.io"
    assert attempts == 3 * [f"https://{host}/api/{kind}/create"]


@each_kind
@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content"])
async def test_status_without_a_body_is_a_refusal(kind: str, status: str) -> None:
    """GatePay sends some codes as the HTTP status without a body. The order wasn't created, and isn't sent again."""
    async with serve(http(b"", status=status)) as server, make_client(server) as gatepay:
        with pytest.raises(RefusedError) as caught:
            await create(gatepay, kind)
    assert (caught.value.code, len(server.bodies)) == (int(status[:3]), 1)


async def test_cloud_base_url_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``GATEPAY_CLOUD_BASE_URL`` is used if the argument is missing. An invalid URL raises ``InvalidRequestError``."""
    async with serve(http(reply_body(data=LINK))) as server:
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


async def test_cloudpay_requires_a_cloud_base_url_with_another_base_url() -> None:
    """If the base URL isn't GatePay's, no order goes to the real cloud by default. The error names the setting."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=reply_body(data=LINK))

    for base_url in ("http://127.0.0.1:1/api/", "https://gatepay.io/other/"):
        async with AsyncGatePay("K", "S", base_url=base_url, transport=httpx.MockTransport(answer)) as gatepay:
            with pytest.raises(InvalidRequestError, match="GATEPAY_CLOUD_BASE_URL") as caught:
                await create(gatepay, "cloudpay")
        assert (caught.value.field, requests) == ("cloud_base_url", [])
    for gatepay_url in (None, "https://GATEPAY.io:443/api"):  # GatePay's own URL: the default, and another spelling
        async with AsyncGatePay("K", "S", base_url=gatepay_url, transport=httpx.MockTransport(answer)) as gatepay:
            await create(gatepay, "cloudpay")
    assert {str(request.url) for request in requests} == {"https://cloud.gatepay.io/api/cloudpay/create"}


async def test_cloud_base_url_of_the_environment_needs_a_matching_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's cloud URL is used only if the base URL is the environment's or GatePay's."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=reply_body(data=LINK))

    monkeypatch.setenv("GATEPAY_CLOUD_BASE_URL", "https://cloud.gatepay.io/api/")
    sandbox = "http://127.0.0.1:1/api/"
    # GATEPAY_BASE_URL, the argument base_url, and whether the order is sent to the cloud URL
    for environment, argument, is_sent in (
        ("", sandbox, False),
        ("https://gatepay.io/api/", sandbox, False),
        ("http://127.0.0.1:1/api", sandbox, True),
        (sandbox, None, True),
        ("", "https://gatepay.io/api/", True),
        (sandbox, "https://gatepay.io/api/", True),
    ):
        requests.clear()
        monkeypatch.setenv("GATEPAY_BASE_URL", environment)
        async with AsyncGatePay("K", "S", base_url=argument, transport=httpx.MockTransport(answer)) as gatepay:
            if is_sent:
                await create(gatepay, "cloudpay")
            else:
                with pytest.raises(InvalidRequestError, match="cloud_base_url"):
                    await create(gatepay, "cloudpay")
        assert len(requests) == is_sent, (environment, argument)


async def test_closing_the_client_closes_a_cloud_connection_that_opens_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the client is closed while a cloud connection opens, the connection is closed and the call fails."""
    opening, may_continue = anyio.Event(), anyio.Event()
    closed: list[str] = []

    class Closable:
        async def aclose(self) -> None:
            closed.append("cloud")

    async def open_slowly(*_: object, **__: object) -> Any:
        opening.set()
        await may_continue.wait()
        return Closable(), Closable()

    gatepay = AsyncGatePay("K", "S")
    monkeypatch.setattr(gatepay._caller._cloud_attempts, "_open_exchange", open_slowly)
    async with anyio.create_task_group() as group:

        async def call() -> None:
            with pytest.raises(InvalidRequestError, match="has been closed"):
                await create(gatepay, "cloudpay")

        async with gatepay:
            group.start_soon(call)
            await opening.wait()
        may_continue.set()
    assert closed == ["cloud", "cloud"]  # both objects that open_slowly() returned


# -- unknown outcomes ----------------------------------------------------------------------------------------------

UNKNOWN = OutcomeUnknownError(endpoint="anypay/create", out_order_id="T-1001-X")
NOT_FOUND, FOUND, UNAVAILABLE = (
    http(reply_body(201)),
    http(reply_body(data=STATUS)),
    http(b"", status="502 Bad Gateway"),
)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace ``anyio.sleep``. Return the list of requested waits, in seconds."""
    seconds: list[float] = []

    async def sleep(delay: float) -> None:
        seconds.append(delay)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", sleep)
    return seconds


@pytest.mark.parametrize(
    ("replies", "is_found", "expected_waits"),
    [
        ([FOUND], True, [0]),
        ([NOT_FOUND, NOT_FOUND, FOUND], True, [0, 1, 2]),
        ([NOT_FOUND], False, [0, 1, 2, 4, 8]),
        ([UNAVAILABLE, NOT_FOUND], False, [0, 1, 2, 4, 8]),
        ([UNAVAILABLE, UNAVAILABLE, FOUND], True, [0, 1, 2]),
    ],
)
async def test_settle_asks_with_growing_waits_until_the_order_is_found(
    waits: list[float], replies: list[bytes], *, is_found: bool, expected_waits: list[float]
) -> None:
    """If the order isn't found after the last wait, the result is None."""
    no_retries = RetryPolicy(attempts=1)
    async with serve(*replies) as server, make_client(server, retry=no_retries) as gatepay:
        status = await gatepay.settle(UNKNOWN)
    assert (status is not None) == is_found
    assert waits == expected_waits
    assert {parse_target(head)[2]["out_order_id"] for head in server.heads} == {"T-1001-X"}


async def test_settle_raises_if_gatepay_is_unavailable_or_refuses(waits: list[float]) -> None:
    """If the last check fails, its error is raised instead of returning None. A refusal ends the checks at once."""
    async with serve(NOT_FOUND, UNAVAILABLE) as server, make_client(server, retry=RetryPolicy(attempts=1)) as gatepay:
        with pytest.raises(ProtocolError):
            await gatepay.settle(UNKNOWN)
    assert len(server.heads) == 5
    async with serve(http(reply_body(107))) as server, make_client(server) as gatepay:
        with pytest.raises(EndpointClosedError):
            await gatepay.settle(UNKNOWN)
    assert len(server.heads) == 1


async def test_settle_accepts_only_an_unknown_outcome_of_an_order() -> None:
    """Another error, or an unknown outcome of ``send_raw``, raises ``InvalidRequestError``."""
    error_of_send_raw: Any = OutcomeUnknownError(endpoint="some/path", out_order_id="")
    async with AsyncGatePay("K", "S") as gatepay:
        other_error: Any = ValueError("x")
        for error, field in ((error_of_send_raw, "out_order_id"), (other_error, "error")):
            with pytest.raises(InvalidRequestError) as caught:
                await gatepay.settle(error)
            assert caught.value.field == field
