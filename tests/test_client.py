"""AsyncGatePay: its arguments, opening and closing, time limits, retries, and the user's own httpx objects."""

import asyncio
import errno
import gzip
import json
import math
import os
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio
import httpx as default_httpx  # it creates the TLS context, also if the tests use httpx2
import pytest
import respx
import trustme
from anyio.abc import SocketStream
from httpx_aiohttp import AiohttpTransport
from selected_httpx import httpx
from servers import free_port, http, raw_server, read_request
from tables import rows
from waiting import PATIENCE, until

from gatepay_async import (
    AlreadyStoredError,
    AsyncGatePay,
    DeadlineExceededError,
    EndpointClosedError,
    GatePayError,
    InvalidRequestError,
    OutcomeUnknownError,
    ProtocolError,
    RefusedError,
    RetryPolicy,
    SignatureRejectedError,
    StorageFailedError,
    TransportError,
)
from gatepay_async.exchange import proxies, trust
from gatepay_async.pool import OriginPool
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.testing import signed_callback

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

QUICK = RetryPolicy(first_wait=0, longest_wait=0)  # the default of 4 attempts, without waits between them
TWO_ATTEMPTS = RetryPolicy(attempts=2, first_wait=0)
ORDER: dict[str, Any] = {
    "product_id": 8,
    "product_num": 1,
    "pay_type": "alipay",
    "out_order_id": "T-1001-X",
    "custom": "terry@example.com",
}
EMPTY_CATALOG = json.dumps({"code": 100, "msg": "请求成功", "time": "1555773183", "data": {"category": []}}).encode()
# The connection is cut before or after the sandbox carries out the call, or the reply is incomplete.
LOST_REPLY_FAULTS = [FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER, FaultKind.HALF_BODY, FaultKind.HALF_JSON]


async def never_reply(*_: object) -> None:
    await anyio.sleep_forever()


async def close_without_reply(stream: SocketStream, _: int) -> None:
    """Close the connection without a reply."""
    raise ConnectionAbortedError


class RecordedWaits:
    """Replaces ``anyio.sleep``: records the seconds and doesn't wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> RecordedWaits:
    waits = RecordedWaits()
    monkeypatch.setattr(anyio, "sleep", waits)
    return waits


# -- each endpoint, over a socket ---------------------------------------------------------------------------------


async def test_payment_creates_one_order(gatepay: AsyncGatePay, sandbox: Sandbox) -> None:
    """A payment creates one order on the server, with the fields that were sent."""
    payment = await gatepay.create_payment(**ORDER)
    [order] = sandbox.orders()
    assert (order.out_order_id, order.custom, order.price) == ("T-1001-X", "terry@example.com", payment.order_price)
    assert payment.out_order_id == "T-1001-X"
    assert payment.order_qrcode.media_type == "image/png"
    assert payment.order_qrcode.data.startswith(b"\x89PNG")


async def test_signed_callback_passes_verification(gatepay: AsyncGatePay, sandbox: Sandbox) -> None:
    """A callback that the sandbox signed passes verification and contains the order's fields."""
    await gatepay.create_payment(**ORDER)
    [order] = sandbox.orders()
    paid_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    callback = gatepay.parse_callback(sandbox.callback_query(order, paid_at=paid_at))
    assert (callback.out_order_id, callback.extend) == ("T-1001-X", "terry@example.com")
    assert callback.paid_at == paid_at


async def test_list_products_returns_the_example_shop(gatepay: AsyncGatePay) -> None:
    """``list_products`` returns the products of the example shop."""
    catalog = await gatepay.list_products()
    assert [product.id for product in catalog.products] == [4, 5, 8]
    assert [product.stock for product in catalog.products] == [4, 1, 89]
    assert str(catalog.product(8).price) == "0.99"
    with pytest.raises(KeyError):
        catalog.product(7)


async def test_card_keys_are_stored_and_counted(gatepay: AsyncGatePay, sandbox: Sandbox) -> None:
    """New card keys are stored and counted. A call without a new card key raises AlreadyStoredError."""
    stored = await gatepay.create_card_keys(8, ["AAA", "BBB"])
    assert (stored.stored, stored.message) == (2, "成功录入:2条卡密")
    assert sandbox.keys(8)[-2:] == ["AAA", "BBB"]
    assert (await gatepay.create_card_keys(8, ["BBB", "CCC"])).stored == 1
    with pytest.raises(AlreadyStoredError) as caught:
        await gatepay.create_card_keys(8, ["AAA", "BBB"])
    assert not caught.value.in_doubt
    page = await gatepay.list_card_keys(8, page=2)
    assert (page.current_page, page.last_page, page.total) == (2, 2, 92)


async def test_wrong_appsecret_is_rejected(sandbox: Sandbox, base_url: str) -> None:
    """With a wrong appsecret the server rejects the signature."""
    async with AsyncGatePay(sandbox.appkey, "another", base_url=base_url) as gatepay:
        with pytest.raises(SignatureRejectedError) as caught:
            await gatepay.list_products()
    assert (caught.value.code, caught.value.endpoint, caught.value.attempts) == (103, "product/show", 1)
    assert caught.value.time is not None


async def test_request_has_the_expected_form_and_headers() -> None:
    """The default transport sends exactly this form, with these headers. respx receives the request."""
    with respx.mock(base_url="https://gatepay.io/api") as router:
        route = router.post("/pay/create").respond(json={"code": 110, "msg": "有效库存不足", "time": "1", "data": []})
        async with AsyncGatePay("K", "S") as gatepay:
            with pytest.raises(RefusedError):
                await gatepay.create_payment(
                    product_id=11, product_num=1, pay_type="alipay", out_order_id="O", custom="c"
                )
    request = route.calls.last.request
    # The signature was computed outside this project.
    assert dict(parse_qsl(request.content.decode())) == {
        "appkey": "K",
        "product_id": "11",
        "out_order_id": "O",
        "product_num": "1",
        "pay_type": "alipay",
        "custom": "c",
        "sign": "d2d3d435c60877adadd7d2b5211a2ffa",
    }
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("gatepay-async/")


# -- arguments, opening and closing ----------------------------------------------------------------------------------


def test_settings_default_to_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The appkey, the appsecret and the base URL default to environment variables."""
    monkeypatch.setenv("GATEPAY_APPKEY", "key-of-the-environment")
    monkeypatch.setenv("GATEPAY_APPSECRET", "secret-of-the-environment")
    monkeypatch.setenv("GATEPAY_BASE_URL", "https://other.example/api")
    shown = repr(AsyncGatePay())
    assert "key-of-the-environment" in shown
    assert "https://other.example/api/" in shown
    assert "secret-of-the-environment" not in shown
    assert "https://gatepay.io/api/" in repr(AsyncGatePay("a", "b", base_url="https://gatepay.io/api"))


@rows(
    "content",
    ["the-secret\r\n".encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16")],
)
def test_secret_may_be_in_a_file(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GATEPAY_APPSECRET_FILE names a file with the secret, in UTF-8 or UTF-16. An argument takes precedence."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    with monkeypatch.context() as patch:
        patch.delenv("GATEPAY_APPSECRET", raising=False)
        patch.setenv("GATEPAY_APPSECRET_FILE", str(file))
        for client, secret in ((AsyncGatePay("a"), "the-secret"), (AsyncGatePay("a", "another"), "another")):
            assert client.parse_callback(signed_callback(appkey="a", appsecret=secret)).out_order_id == "T-1001-X"


@rows(
    ("content", "problem"),
    [(b"", "secret_form"), (b"two canaries", "secret_form"), (b"x" * 5000, "secret_form"), (None, "secret_unreadable")],
)
def test_file_without_a_secret_is_rejected(
    content: bytes | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable and the file, but not the contents. Both variables together are an error, too."""
    file = tmp_path / f"secret {problem} {len(content or b'')}"
    if content is not None:
        file.write_bytes(content)
    with monkeypatch.context() as patch:
        patch.delenv("GATEPAY_APPSECRET", raising=False)
        patch.setenv("GATEPAY_APPSECRET_FILE", str(file))
        with pytest.raises(InvalidRequestError) as caught:
            AsyncGatePay("a")
        assert (caught.value.field, caught.value.problem.name) == ("GATEPAY_APPSECRET_FILE", problem)
        assert str(file) in str(caught.value)
        assert "canaries" not in str(caught.value)
        patch.setenv("GATEPAY_APPSECRET", "another")
        with pytest.raises(InvalidRequestError, match="GATEPAY_APPSECRET_FILE: is set, and so is GATEPAY_APPSECRET"):
            AsyncGatePay("a")


@pytest.mark.parametrize("name", ["appkey", "appsecret"])
def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """If the appkey or the appsecret is missing, the error names the parameter and the variable."""
    arguments: dict[str, Any] = {"appkey": "a", "appsecret": "b"} | {name: None}
    monkeypatch.delenv(f"GATEPAY_{name.upper()}", raising=False)
    with pytest.raises(InvalidRequestError, match=f"GATEPAY_{name.upper()}") as caught:
        AsyncGatePay(**arguments)
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("appkey", ""),
        ("appkey", 5),
        ("appsecret", "canary\nafter a line break"),
        ("appkey", "my\u200bkey"),
        ("appsecret", " "),
        ("base_url", ""),
        ("base_url", "gatepay.io"),
        ("base_url", "ftp://gatepay.io"),
        ("base_url", "https://"),
        ("base_url", "https://a:b@gatepay.io/api/"),
        ("base_url", "https://gatepay.io/api/?x=1"),
        ("base_url", "https://gatepay.io/api/#x"),
        ("base_url", "https://gatepay.io/api/?"),
        ("base_url", "https://gatepay.io/api/#"),
        ("base_url", "https://gate pay\x00/"),
        ("base_url", "http://gatepay.io/api/"),
        ("base_url", "http://10.0.0.1/api/"),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", True),
        ("timeout", "5"),
        ("timeout", float("nan")),
        ("deadline", 0),
        ("deadline", 10**400),
        ("retry", 3),
        ("http_client", httpx.Client()),
        ("transport", httpx.HTTPTransport()),
        ("transport", "requests"),
        ("base_url", 7),
        ("max_connections", 0),
        ("max_connections", 1.5),
        ("allow_http", "false"),
        ("trust_env", 0),
    ],
)
def test_invalid_arguments_are_rejected(field: str, value: Any) -> None:
    """The constructor rejects invalid arguments. The error names the argument and doesn't quote its value."""
    with pytest.raises(InvalidRequestError) as caught:
        AsyncGatePay(**({"appkey": "a", "appsecret": "b"} | {field: value}))
    assert caught.value.field == field
    assert "canary" not in str(caught.value)


def test_http_client_and_transport_exclude_each_other() -> None:
    """Passing both ``http_client`` and ``transport`` is an error."""
    with pytest.raises(InvalidRequestError) as caught:
        AsyncGatePay(
            "a", "b", http_client=httpx.AsyncClient(), transport=httpx.MockTransport(lambda _: httpx.Response(200))
        )
    assert caught.value.field == "transport"


def test_transport_name_is_rejected() -> None:
    """Passing a name as the transport, as an earlier version allowed, raises an error that says what to pass."""
    name: Any = "aiohttp"
    with pytest.raises(InvalidRequestError, match=r"httpx_aiohttp\.AiohttpTransport\(\)") as caught:
        AsyncGatePay("a", "b", transport=name)
    assert caught.value.field == "transport"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"])
def test_loopback_needs_no_tls(host: str) -> None:
    """Plain http is allowed for a server on this machine."""
    assert f"http://{host}:1/api/" in repr(AsyncGatePay("a", "b", base_url=f"http://{host}:1/api"))


def test_allow_http_permits_http_to_another_machine() -> None:
    """Plain http to another machine needs ``allow_http``."""
    assert "http://10.0.0.1/" in repr(AsyncGatePay("a", "b", base_url="http://10.0.0.1", allow_http=True))


async def test_call_before_opening_raises(sandbox: Sandbox) -> None:
    """A call outside ``async with`` raises an error that shows how to open the client."""
    gatepay = AsyncGatePay(sandbox.appkey, sandbox.appsecret)
    with pytest.raises(InvalidRequestError, match="not open") as caught:
        await gatepay.list_products()
    assert caught.value.field == "client"
    assert "async with AsyncGatePay(appkey, appsecret) as gatepay:\n        await" in str(caught.value)


async def test_call_after_closing_raises(sandbox: Sandbox, base_url: str) -> None:
    """A call after closing raises an error, and a closed client can't be opened again."""
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay:
        await gatepay.list_products()
    with pytest.raises(InvalidRequestError, match="has been closed"):
        await gatepay.list_products()
    with pytest.raises(InvalidRequestError, match="only once"):
        await gatepay.__aenter__()


def test_call_on_another_event_loop_raises(sandbox: Sandbox) -> None:
    """A call on another event loop than the client's raises an error."""
    gatepay = AsyncGatePay("a", "b", transport=httpx.ASGITransport(sandbox.app))

    async def enter() -> None:
        await gatepay.__aenter__()

    asyncio.run(enter())
    with pytest.raises(InvalidRequestError, match="another event loop"):
        asyncio.run(gatepay.list_products())


async def test_tls_context_is_created_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The TLS context is created in another thread, once for all clients."""
    threads: list[threading.Thread] = []
    create_real = default_httpx.create_ssl_context

    def create(**options: Any) -> Any:
        threads.append(threading.current_thread())
        return create_real(**options)

    monkeypatch.setattr(default_httpx, "create_ssl_context", create)
    trust._context.cache_clear()
    for _ in range(2):
        async with AsyncGatePay("a", "b"):
            pass
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


# -- time limits -----------------------------------------------------------------------------------------------------


async def test_attempt_times_out() -> None:
    """An attempt without a reply ends after ``timeout``, and is retried."""
    async with (
        raw_server(never_reply) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, timeout=1, retry=TWO_ATTEMPTS) as gatepay,
    ):
        with pytest.raises(TransportError, match=r"no whole reply within 1 s") as caught:
            await gatepay.list_products()
    assert (caught.value.attempts, caught.value.sent, len(server.bodies)) == (2, True, 2)
    assert not isinstance(caught.value, DeadlineExceededError)


@pytest.mark.parametrize("first_bytes", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"])
@pytest.mark.parametrize("error_class", [TransportError, DeadlineExceededError])
async def test_time_limits_on_a_reused_connection(first_bytes: bytes, error_class: type[Exception]) -> None:
    """The time-out and the deadline also hold on a reused connection, before the reply and during a slow one."""

    async def answer(stream: SocketStream, number: int) -> None:
        if number == 1:
            await stream.send(http(b'{"code": 100}'))
            return
        await stream.send(first_bytes)
        while first_bytes:  # a slow reply; without first bytes there is no reply at all
            await stream.send(b" ")
            await anyio.sleep(0.01)
        await anyio.sleep_forever()

    async with (
        raw_server(answer) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, retry=RetryPolicy(attempts=1)) as gatepay,
    ):
        await gatepay.send_raw("some/path")
        # Only the second call has a short limit. The first one only opens the connection.
        limiter = gatepay._caller if error_class is DeadlineExceededError else gatepay._caller._attempts
        setattr(limiter, "_deadline" if error_class is DeadlineExceededError else "_timeout", 0.1)
        with anyio.fail_after(PATIENCE), pytest.raises(TransportError) as caught:
            await gatepay.send_raw("some/path", repeatable=True)
        assert (type(caught.value), caught.value.sent, server.connections) == (error_class, True, 1)


async def test_slow_reply_times_out() -> None:
    """A reply that arrives byte by byte never triggers a read time-out, but the attempt still times out."""

    async def send_byte_by_byte(stream: SocketStream, _: int) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while True:
            await stream.send(b" ")
            await anyio.sleep(0.01)

    async with (
        raw_server(send_byte_by_byte) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, timeout=0.1, retry=RetryPolicy(attempts=1)) as gatepay,
    ):
        with anyio.fail_after(PATIENCE), pytest.raises(TransportError, match="no whole reply"):
            await gatepay.list_products()


async def test_deadline_limits_the_whole_call() -> None:
    """The deadline limits the whole call, even if attempts have no time-out."""
    async with (
        raw_server(never_reply) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, timeout=None, deadline=1) as gatepay,
    ):
        with pytest.raises(DeadlineExceededError) as caught:
            await gatepay.list_products()
    assert (caught.value.endpoint, caught.value.sent, caught.value.attempts) == ("product/show", True, 1)


async def test_waiting_for_a_connection_is_not_timed() -> None:
    """Time spent waiting for a connection doesn't count towards the attempt's time-out."""
    request_numbers: list[int] = []

    async def answer_slowly(stream: SocketStream, number: int) -> None:
        request_numbers.append(number)
        await anyio.sleep(0.5)
        await stream.send(http(EMPTY_CATALOG))

    async with (
        raw_server(answer_slowly) as server,
        AsyncGatePay(
            "a", "b", base_url=server.base_url, timeout=2.5, max_connections=1, retry=RetryPolicy(attempts=1)
        ) as gatepay,
        anyio.create_task_group() as group,
    ):
        for _ in range(7):  # the last one waits for 3 s
            group.start_soon(gatepay.list_products)
    assert (request_numbers, server.connections) == ([1, 2, 3, 4, 5, 6, 7], 1)


async def test_client_without_time_limits_works(sandbox: Sandbox, base_url: str) -> None:
    async with AsyncGatePay(
        sandbox.appkey, sandbox.appsecret, base_url=base_url, timeout=None, deadline=None
    ) as gatepay:
        assert (await gatepay.list_products()).products


# -- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.without_coverage
@pytest.mark.parametrize("kind", [*LOST_REPLY_FAULTS, FaultKind.RATE_LIMITED, FaultKind.BAD_GATEWAY])
async def test_reads_are_retried(gatepay: AsyncGatePay, sandbox: Sandbox, kind: FaultKind) -> None:
    """A call that only reads is retried after any failure, three times."""
    sandbox.fault(Fault(kind, times=3, retry_after=0))
    assert len((await gatepay.list_products()).products) == 3
    sandbox.fault(Fault(kind, times=3, retry_after=0))
    assert (await gatepay.list_card_keys(8)).total == 89
    sandbox.fault(Fault(kind, times=4, retry_after=0))
    with pytest.raises((TransportError, ProtocolError)) as caught:
        await gatepay.list_products()
    assert vars(caught.value)["attempts"] == 4  # vars(), because the common base class has no `attempts`


@pytest.mark.parametrize("kind", [*LOST_REPLY_FAULTS, FaultKind.RATE_LIMITED, FaultKind.BAD_GATEWAY])
async def test_create_card_keys_is_retried(gatepay: AsyncGatePay, sandbox: Sandbox, kind: FaultKind) -> None:
    """The call is retried, and each card key is stored once. If the first attempt stored them, `stored` is None."""
    sandbox.fault(Fault(kind, retry_after=0))
    stored = await gatepay.create_card_keys(8, ["AAA", "BBB"])
    stored_by_first_attempt = kind in (FaultKind.CUT_AFTER, FaultKind.HALF_BODY, FaultKind.HALF_JSON)
    assert stored.stored == (None if stored_by_first_attempt else 2)
    assert [sandbox.keys(8).count(key) for key in ("AAA", "BBB")] == [1, 1]


@pytest.mark.without_coverage
@pytest.mark.parametrize("kind", [*LOST_REPLY_FAULTS, FaultKind.BAD_GATEWAY])
async def test_payment_is_not_retried(gatepay: AsyncGatePay, sandbox: Sandbox, kind: FaultKind) -> None:
    """A payment whose reply is lost is never retried, and the error says what to do."""
    sandbox.fault(Fault(kind))
    with pytest.raises(OutcomeUnknownError, match="check_order\\('T-1001-X'\\) first") as caught:
        await gatepay.create_payment(**ORDER)
    assert (caught.value.endpoint, caught.value.out_order_id, caught.value.attempts) == ("pay/create", "T-1001-X", 1)
    assert isinstance(caught.value.__cause__, TransportError | ProtocolError)
    is_created = kind not in (FaultKind.CUT_BEFORE, FaultKind.BAD_GATEWAY)
    assert len(sandbox.orders()) == int(is_created)
    assert [request.endpoint for request in sandbox.requests] == ["pay/create"]


async def test_payment_is_not_retried_if_the_server_read_it_and_closed() -> None:
    """If the server closes the connection after reading the payment, it isn't sent again."""
    async with (
        raw_server(close_without_reply) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, retry=QUICK) as gatepay,
    ):
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    assert len(server.bodies) == 1


async def test_payment_is_not_retried_if_the_server_closed_without_reading() -> None:
    """If the server closes the connection without reading, the payment isn't sent again: it may have been read."""
    async with (
        raw_server(close_without_reply, read=False) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, retry=QUICK) as gatepay,
    ):
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    assert server.connections == 1


async def test_outcome_of_a_timed_out_payment_is_unknown() -> None:
    """If the time-out or the deadline passes after the payment was sent, its outcome is unknown."""
    for timeout, deadline in ((0.3, 60), (60, 0.3)):
        async with (
            raw_server(never_reply) as server,
            AsyncGatePay("a", "b", base_url=server.base_url, timeout=timeout, deadline=deadline) as gatepay,
        ):
            with pytest.raises(OutcomeUnknownError) as caught:
                await gatepay.create_payment(**ORDER)
        assert isinstance(caught.value.__cause__, TransportError)
        assert len(server.bodies) == 1


async def test_payment_that_cannot_connect_is_retried(sandbox: Sandbox) -> None:
    """A payment is retried while no byte of it was sent. The final error says that nothing was sent."""
    async with sandbox.serve() as url:
        pass  # from here on nothing listens at the URL
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url, retry=QUICK) as gatepay:
        with pytest.raises(TransportError, match="4 attempts; no byte of the request has left") as caught:
            await gatepay.create_payment(**ORDER)
    assert (caught.value.sent, caught.value.attempts) == (False, 4)


async def test_payment_succeeds_after_failed_connects(sandbox: Sandbox) -> None:
    """If connecting succeeds after some failures, the payment creates one order."""
    sandbox_transport = httpx.ASGITransport(sandbox.app)

    class FlakyTransport(httpx.AsyncBaseTransport):
        tries = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.tries += 1
            if self.tries < 3:
                raise httpx.ConnectError("no route")
            return await sandbox_transport.handle_async_request(request)

    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, transport=FlakyTransport(), retry=QUICK) as gatepay:
        await gatepay.create_payment(**ORDER)
    assert len(sandbox.orders()) == 1


async def test_rate_limited_payment_is_not_retried(gatepay: AsyncGatePay, sandbox: Sandbox) -> None:
    """A 429 means that no order was created: the outcome is known, and the payment isn't retried."""
    sandbox.fault(Fault(FaultKind.RATE_LIMITED, retry_after=7))
    with pytest.raises(ProtocolError) as caught:
        await gatepay.create_payment(**ORDER)
    assert (caught.value.http_status, caught.value.retry_after, caught.value.attempts) == (429, 7, 1)
    assert sandbox.orders() == []


async def test_outcome_is_unknown_if_the_success_is_unreadable() -> None:
    """If a successful reply can't be decoded, the outcome of the payment is unknown."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(b'{"code": 100, "msg": "", "time": "1", "data": {"order_type": 5}}'))

    async with raw_server(answer) as server, AsyncGatePay("a", "b", base_url=server.base_url) as gatepay:
        with pytest.raises(OutcomeUnknownError) as caught:
            await gatepay.create_payment(**ORDER)
    assert isinstance(caught.value.__cause__, ProtocolError)
    assert caught.value.__cause__.path == "data.order_type"


@pytest.mark.without_coverage
@pytest.mark.parametrize("code", [101, 105, 107, 109, 199])
async def test_refusals_are_not_retried(gatepay: AsyncGatePay, sandbox: Sandbox, code: int) -> None:
    sandbox.fault(Fault(FaultKind.CODE, code=code, times=None))
    with pytest.raises(RefusedError) as caught:
        await gatepay.create_card_keys(8, ["AAA"])
    assert (caught.value.code, caught.value.attempts, caught.value.in_doubt) == (code, 1, False)
    assert len(sandbox.requests) == 1


async def test_failed_storage_is_retried(gatepay: AsyncGatePay, sandbox: Sandbox) -> None:
    """Code 113 (GatePay's database failed) is the only refusal that is retried."""
    sandbox.fault(Fault(FaultKind.CODE, code=113, times=2))
    assert (await gatepay.create_card_keys(8, ["AAA"])).stored == 1
    sandbox.fault(Fault(FaultKind.CODE, code=113, times=None))
    with pytest.raises(StorageFailedError) as caught:
        await gatepay.create_card_keys(8, ["BBB"])
    assert caught.value.attempts == 4


async def test_refusal_after_a_lost_reply_is_in_doubt(gatepay: AsyncGatePay, sandbox: Sandbox) -> None:
    """A refusal is in doubt if an earlier attempt got no reply: that attempt may have been carried out."""
    sandbox.fault(Fault(FaultKind.CUT_AFTER))
    sandbox.fault(Fault(FaultKind.CODE, code=107, times=None))
    with pytest.raises(EndpointClosedError) as caught:
        await gatepay.create_card_keys(8, ["AAA"])
    assert (caught.value.in_doubt, caught.value.attempts) == (True, 2)
    assert "AAA" in sandbox.keys(8)


async def test_error_says_sent_if_any_attempt_sent(sandbox: Sandbox) -> None:
    """The error has ``sent=True`` if any attempt sent a byte, even if the last one didn't."""
    sandbox_transport = httpx.ASGITransport(sandbox.app)

    class TransportThatBreaks(httpx.AsyncBaseTransport):
        tries = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.tries += 1
            if self.tries == 1:
                await sandbox_transport.handle_async_request(request)
                raise httpx.ReadError("cut")
            raise httpx.ConnectError("gone")

    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, transport=TransportThatBreaks(), retry=QUICK) as gatepay:
        with pytest.raises(TransportError, match="ConnectError") as caught:
            await gatepay.create_card_keys(8, ["AAA"])
    assert caught.value.sent


@pytest.mark.parametrize("uses_origin_pool", [True, False])
async def test_unreachable_servers_are_reported_in_the_systems_words(*, uses_origin_pool: bool) -> None:
    """The error and its cause say "Connection refused", without the address, which would be masked anyway."""
    transport = None if uses_origin_pool else httpx.AsyncHTTPTransport()  # None: the client's own pool
    base_url = f"http://127.0.0.1:{free_port()}/"
    async with AsyncGatePay("key", "secret", base_url=base_url, transport=transport, retry=QUICK) as gatepay:
        with pytest.raises(TransportError) as caught:
            await gatepay.list_products()
    assert caught.value.problem == f"ConnectError: {os.strerror(errno.ECONNREFUSED)}"
    assert str(caught.value.__cause__) == os.strerror(errno.ECONNREFUSED)


async def test_reason_is_no_error_that_the_caller_handles() -> None:
    """The reason is one of the causes, never an error that the caller was handling. A cycle of causes doesn't hang."""

    class LoopingTransport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002 -- httpx's interface
            error = httpx.ConnectError("gone")
            raise error from ExceptionGroup("all", [OSError(9999, "not in `errno`"), error])

    async with AsyncGatePay("key", "secret", transport=LoopingTransport(), retry=QUICK) as gatepay:
        try:
            raise FileNotFoundError(errno.ENOENT, "of the caller")  # noqa: TRY301 -- the call is made while it is handled
        except FileNotFoundError:
            with pytest.raises(TransportError) as caught:
                await gatepay.list_products()
    assert caught.value.problem == "ConnectError: gone"


async def test_waits_double_with_jitter(sandbox: Sandbox, base_url: str, waits: RecordedWaits) -> None:
    """Each wait is twice as long as the one before, minus up to half of it at random."""
    sandbox.fault(Fault(FaultKind.CUT_BEFORE, times=None))
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay:
        with pytest.raises(TransportError):
            await gatepay.list_products()
    assert len(waits.seconds) == 3
    for wait, limit in zip(waits.seconds, (0.25, 0.5, 1.0), strict=True):
        assert limit / 2 <= wait <= limit


async def test_retry_after_is_obeyed_up_to_30_s(sandbox: Sandbox, base_url: str, waits: RecordedWaits) -> None:
    """A ``Retry-After`` of up to 30 s is obeyed. After a longer one the call raises at once; the error has the wait."""
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay:
        sandbox.fault(Fault(FaultKind.RATE_LIMITED, retry_after=30))
        assert (await gatepay.list_products()).products
        assert waits.seconds == [30]
        sandbox.fault(Fault(FaultKind.RATE_LIMITED, retry_after=31))
        with pytest.raises(ProtocolError, match="retry after 31 s") as caught:
            await gatepay.list_products()
    assert (caught.value.retry_after, caught.value.attempts, waits.seconds) == (31, 1, [30])


async def test_no_wait_beyond_the_deadline(sandbox: Sandbox, base_url: str, waits: RecordedWaits) -> None:
    """If the wait would pass the deadline, the call raises the server's error at once."""
    sandbox.fault(Fault(FaultKind.RATE_LIMITED, retry_after=20))
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, deadline=10) as gatepay:
        with pytest.raises(ProtocolError):
            await gatepay.list_products()
    assert waits.seconds == []


async def test_no_retry_past_the_deadline(sandbox: Sandbox, base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the deadline passes during a wait, because the event loop was busy, nothing more is sent."""
    sandbox.fault(Fault(FaultKind.RATE_LIMITED, retry_after=1))
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, deadline=10) as gatepay:

        async def oversleep(_: float) -> None:
            gatepay._caller._attempts.now = lambda: math.inf

        monkeypatch.setattr(anyio, "sleep", oversleep)
        with pytest.raises(DeadlineExceededError) as caught:
            await gatepay.list_products()
    # The second attempt counts, although it ended before it sent anything.
    assert (caught.value.sent, caught.value.attempts, len(sandbox.requests)) == (True, 2, 1)


async def test_retries_of_a_client_are_limited(sandbox: Sandbox, base_url: str) -> None:
    """Without a success, a client retries 20 times in all. Each success allows half a retry more."""
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, retry=QUICK) as gatepay:
        sandbox.fault(Fault(FaultKind.CUT_BEFORE, times=None))
        for _ in range(50):
            with pytest.raises(TransportError):
                await gatepay.list_products()
        assert len(sandbox.requests) == 50 + 20
        sandbox.clear_faults()
        await gatepay.list_products()
        await gatepay.list_products()
        requests_before = len(sandbox.requests)
        sandbox.fault(Fault(FaultKind.CUT_BEFORE, times=None))
        with pytest.raises(TransportError):
            await gatepay.list_products()
        assert len(sandbox.requests) - requests_before == 2  # one attempt and one retry


# -- unexpected replies ------------------------------------------------------------------------------------------------


async def test_redirect_is_not_followed() -> None:
    """Redirects are not followed, so the signed form isn't sent to another server."""

    async def redirect(stream: SocketStream, _: int) -> None:
        await stream.send(http(b"", status="307 Temporary Redirect", headers="location: http://127.0.0.1:9/\r\n"))

    async with (
        raw_server(redirect) as server,
        httpx.AsyncClient(follow_redirects=True) as http_client,
        AsyncGatePay("a", "b", base_url=server.base_url, http_client=http_client) as through_client,
        AsyncGatePay("a", "b", base_url=server.base_url) as through_pool,
    ):
        for gatepay in (through_client, through_pool):
            with pytest.raises(ProtocolError, match="redirect, which is not followed") as caught:
                await gatepay.list_products()
            assert (caught.value.http_status, caught.value.attempts) == (307, 1)
    assert len(server.bodies) == 2


async def test_endless_reply_is_cut_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless reply is only read up to the size limit."""
    monkeypatch.setattr("gatepay_async.exchange.replies.MAX_REPLY_BYTES", 100_000)

    async def send_endlessly(stream: SocketStream, _: int) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while True:
            await stream.send(b" " * 10_000)

    async with raw_server(send_endlessly) as server, AsyncGatePay("a", "b", base_url=server.base_url) as gatepay:
        with pytest.raises(ProtocolError, match="larger than 100000 bytes"):
            await gatepay.list_products()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio, httpx leaves a generator unclosed, and trio warns
async def test_endless_reply_to_own_client_is_cut_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless reply to the user's own client is only read up to the size limit."""
    monkeypatch.setattr("gatepay_async.exchange.replies.MAX_REPLY_BYTES", 1000)

    async def send_endlessly(stream: SocketStream, _: int) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while True:
            await stream.send(b" " * 10_000)

    async with (
        raw_server(send_endlessly) as server,
        httpx.AsyncClient() as http_client,
        AsyncGatePay("a", "b", base_url=server.base_url, http_client=http_client) as gatepay,
    ):
        with pytest.raises(ProtocolError, match="larger than 1000 bytes"):
            await gatepay.list_products()


async def test_compressed_reply_is_decompressed() -> None:
    """A compressed reply is decompressed, although the client asked for none."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(gzip.compress(EMPTY_CATALOG), headers="content-encoding: gzip\r\n"))

    async with raw_server(answer) as server, AsyncGatePay("a", "b", base_url=server.base_url) as gatepay:
        assert (await gatepay.list_products()).products == ()


# -- the user's own httpx objects --------------------------------------------------------------------------------------


async def test_own_transport_is_used_and_not_closed(sandbox: Sandbox) -> None:
    """The user's own transport is used unchanged, and not closed."""

    class OwnTransport(httpx.ASGITransport):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    transport = OwnTransport(sandbox.app)
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, transport=transport) as gatepay:
        assert (await gatepay.list_products()).products
    assert not transport.closed


async def test_foreign_exception_becomes_a_transport_error(sandbox: Sandbox) -> None:
    """If a transport raises an exception that isn't httpx's, the call raises a TransportError."""
    sandbox.fault(Fault(FaultKind.CUT_AFTER, times=None))
    transport = httpx.ASGITransport(sandbox.app)
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, transport=transport, retry=QUICK) as gatepay:
        with pytest.raises(TransportError) as caught:
            await gatepay.list_products()
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    assert caught.value.sent


async def test_own_client_is_used_and_not_closed(sandbox: Sandbox, base_url: str) -> None:
    """The user's own httpx client is used unchanged, with its headers and hooks, and not closed."""
    seen: list[httpx.Request] = []

    async def hook(request: httpx.Request) -> None:
        seen.append(request)

    async with httpx.AsyncClient(headers={"x-shop": "one"}, event_hooks={"request": [hook]}) as http_client:
        async with AsyncGatePay(
            sandbox.appkey, sandbox.appsecret, base_url=base_url, http_client=http_client
        ) as gatepay:
            await gatepay.list_products()
            await gatepay.create_payment(**ORDER)
        assert not http_client.is_closed
    assert [request.headers["x-shop"] for request in seen] == ["one", "one"]


async def test_payment_is_not_sent_if_own_client_cannot_connect(sandbox: Sandbox) -> None:
    """With the user's own client, httpx's trace shows that no byte was sent."""
    async with sandbox.serve() as url:
        pass  # from here on nothing listens at the URL
    async with (
        httpx.AsyncClient() as http_client,
        AsyncGatePay("a", "b", base_url=url, http_client=http_client, retry=QUICK) as gatepay,
    ):
        with pytest.raises(TransportError) as caught:
            await gatepay.create_payment(**ORDER)
    assert (caught.value.sent, caught.value.attempts) == (False, 4)


async def test_outcome_is_unknown_if_own_client_times_out() -> None:
    """With the user's own client, httpx's trace shows that the payment was sent before the time-out."""
    async with (
        raw_server(never_reply) as server,
        httpx.AsyncClient(timeout=None) as http_client,
        AsyncGatePay("a", "b", base_url=server.base_url, http_client=http_client, timeout=1) as gatepay,
    ):
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    assert len(server.bodies) == 1


async def test_outcome_is_unknown_if_a_transport_has_no_trace() -> None:
    """A transport without a trace may have sent the payment, so its outcome is unknown."""

    class SilentTransport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await anyio.sleep_forever()
            raise AssertionError(request)

    async with AsyncGatePay("a", "b", transport=SilentTransport(), timeout=0.01, retry=QUICK) as gatepay:
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)


async def test_payment_is_retried_if_own_client_has_no_connection() -> None:
    """If httpx's own pool has no free connection, nothing was sent, so the payment is retried."""
    async with (
        raw_server(never_reply) as server,
        httpx.AsyncClient(
            limits=httpx.Limits(max_connections=1), timeout=httpx.Timeout(None, pool=0.01)
        ) as http_client,
        AsyncGatePay("a", "b", base_url=server.base_url, http_client=http_client, timeout=5, retry=QUICK) as gatepay,
        anyio.create_task_group() as group,
    ):
        group.start_soon(gatepay.list_products)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(TransportError, match="PoolTimeout") as caught:
            await gatepay.create_payment(**ORDER)
        group.cancel_scope.cancel()
    assert (caught.value.sent, caught.value.attempts) == (False, 4)


@pytest.mark.gatepay_live  # otherwise the pytest plugin forbids calls to this host
@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
async def test_proxy_from_environment_is_used(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The proxy from the environment is used, except for hosts in ``no_proxy``."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(EMPTY_CATALOG))

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    shop = "http://gatepay.example/api/"
    async with raw_server(answer) as proxy:
        monkeypatch.setenv(variable, proxy.base_url.removeprefix("http://").removesuffix("/api/"))
        async with AsyncGatePay("a", "b", base_url=shop, allow_http=True) as gatepay:
            await gatepay.list_products()
        assert proxy.heads[0].startswith(b"POST http://gatepay.example/api/product/show ")
        assert isinstance(proxies.proxy_for(httpx.URL(shop)), proxies.Proxy)
        monkeypatch.setenv("no_proxy", "gatepay.example")
        assert proxies.proxy_for(httpx.URL(shop)) == proxies.Bypass(host_excluded=True)


async def test_loopback_bypasses_the_proxy(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, base_url: str) -> None:
    """Calls to this machine bypass the proxy, which would send card keys over the network in clear text."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay:
        assert (await gatepay.list_products()).products


async def test_unsupported_proxy_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy with an unsupported scheme raises an error that doesn't contain its password."""
    monkeypatch.setenv("https_proxy", "socks4://me:password@proxy.example:1080")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(
        InvalidRequestError, match=r"https_proxy: names a proxy, which must begin with http://"
    ) as caught:
        await AsyncGatePay("a", "b").__aenter__()
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_gateway_error_as_json_is_no_refusal(status: int) -> None:
    """JSON from a gateway isn't a refusal by GatePay: reads are retried, and a payment's outcome is unknown."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(b'{"code": %d, "msg": "gateway"}' % status, status=f"{status} No"))

    async with (
        raw_server(answer) as server,
        AsyncGatePay("a", "b", base_url=server.base_url, retry=QUICK) as gatepay,
    ):
        with pytest.raises(ProtocolError, match="is not a code of GatePay's") as caught:
            await gatepay.list_products()
        assert (caught.value.http_status, caught.value.attempts) == (status, 4)
        # 429 means that no order was created, so the outcome is known.
        with pytest.raises(ProtocolError if status == 429 else OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    assert len(server.bodies) == 5  # four attempts to list the products, and one payment


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("transport_kind", ["pool", "httpx"])
async def test_own_certificate_authority_is_trusted(authority: trustme.CA, transport_kind: str) -> None:
    """The user's own CA is passed in a transport (OriginPool or httpx). A client without it rejects the certificate."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(EMPTY_CATALOG))

    server_tls, client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server_tls)
    authority.configure_trust(client_tls)
    async with raw_server(answer, tls=server_tls) as server:
        pool: httpx.AsyncBaseTransport = OriginPool(server.base_url, ssl_context=client_tls)
        async with (
            pool if transport_kind == "pool" else httpx.AsyncHTTPTransport(verify=client_tls) as transport,
            AsyncGatePay("a", "b", base_url=server.base_url, transport=transport) as gatepay,
        ):
            assert (await gatepay.list_products()).products == ()
        async with AsyncGatePay("a", "b", base_url=server.base_url, retry=QUICK) as gatepay:
            with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED") as caught:
                await gatepay.create_payment(**ORDER)
    assert not caught.value.sent


async def test_own_pool_connects_to_a_unix_socket(socket_path: Path) -> None:
    """An ``OriginPool`` of the user can connect to a Unix socket."""

    async def serve(stream: SocketStream) -> None:
        async with stream:
            await read_request(stream)
            await stream.send(http(EMPTY_CATALOG))

    async with await anyio.create_unix_listener(socket_path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        async with (
            OriginPool("http://localhost/", uds=str(socket_path)) as pool,
            AsyncGatePay("a", "b", base_url="http://localhost/api/", transport=pool) as gatepay,
        ):
            assert (await gatepay.list_products()).products == ()
        group.cancel_scope.cancel()


async def test_own_transport_may_use_a_proxy() -> None:
    """A proxy can be passed in httpx's own transport."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(http(EMPTY_CATALOG))

    async with (
        raw_server(answer) as proxy,
        httpx.AsyncHTTPTransport(proxy=proxy.base_url) as transport,
        AsyncGatePay("a", "b", base_url="http://127.0.0.1:9/api", transport=transport) as gatepay,
    ):
        await gatepay.list_products()
    assert proxy.heads[0].startswith(b"POST http://127.0.0.1:9/api/product/show ")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # aiohttp doesn't support trio
async def test_aiohttp_payment_is_not_retried() -> None:
    """A payment whose reply is lost isn't retried, although httpx-aiohttp reports the loss as a ConnectTimeout."""
    async with (
        raw_server(close_without_reply) as server,
        AiohttpTransport() as transport,
        AsyncGatePay("a", "b", base_url=server.base_url, transport=transport, retry=QUICK) as gatepay,
    ):
        with pytest.raises(OutcomeUnknownError) as caught:
            await gatepay.create_payment(**ORDER)
    assert "ConnectTimeout" in str(caught.value.__cause__)
    assert len(server.bodies) == 1


# -- concurrent and cancelled calls ------------------------------------------------------------------------------------


async def test_more_calls_than_connections_all_succeed(gatepay: AsyncGatePay) -> None:
    """With more concurrent calls than connections, each call gets its reply."""
    totals: list[int] = []

    async def call() -> None:
        totals.append((await gatepay.list_card_keys(8)).total)

    async with anyio.create_task_group() as group:
        for _ in range(120):
            group.start_soon(call)
    assert totals == [89] * 120


async def test_cancelled_call_frees_its_connection(sandbox: Sandbox, base_url: str) -> None:
    """After a call is cancelled, the pool's only connection slot works for the next call."""
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, max_connections=1) as gatepay:
        sandbox.fault(Fault(FaultKind.SLOW, seconds=30))
        async with anyio.create_task_group() as group:
            group.start_soon(gatepay.list_products)
            await until(lambda: sandbox.requests)
            group.cancel_scope.cancel()
        assert len((await gatepay.list_products()).products) == 3


async def test_closing_ends_waiting_calls(sandbox: Sandbox, base_url: str) -> None:
    """Closing ends waiting calls with an error that says that nothing was sent."""
    errors: list[GatePayError] = []
    gatepay = AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, max_connections=1, retry=QUICK)
    sandbox.fault(Fault(FaultKind.SLOW, seconds=30))

    async def call() -> None:
        try:
            await gatepay.list_products()
        except GatePayError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        async with gatepay:
            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(call)  # waits, because the first call has the only connection
            await anyio.wait_all_tasks_blocked()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    [error] = errors  # of the waiting call: closing the client doesn't end the call that has the connection
    assert isinstance(error, TransportError)
    assert (error.sent, error.attempts) == (False, 1)


@pytest.mark.parametrize("closed_during", ["the attempt", "the wait"])
async def test_closing_after_an_attempt_raises_its_error(monkeypatch: pytest.MonkeyPatch, closed_during: str) -> None:
    """Closing the client during a failing attempt, or the wait after it, raises that attempt's error."""

    class FailingTransport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if closed_during == "the attempt":
                await gatepay.__aexit__(None, None, None)
            raise httpx.ReadError("cut", request=request)

    async def close(_: float) -> None:
        await gatepay.__aexit__(None, None, None)

    monkeypatch.setattr(anyio, "sleep", close)
    async with AsyncGatePay("a", "b", transport=FailingTransport()) as gatepay:
        with pytest.raises(TransportError, match="ReadError: cut") as caught:
            await gatepay.create_card_keys(8, ["AAA"])
    assert (caught.value.sent, caught.value.attempts) == (True, 1)
