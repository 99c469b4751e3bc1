"""Every fault over a real socket: what the client receives, and whether the call was executed."""

import json
import socket
import time
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import Message, Scope
from waiting import PATIENCE

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = pytest.mark.sockets

ALL_KINDS = list(FaultKind)


def order_count(sandbox: Sandbox) -> int:
    """Return how many orders were created, which tells whether a pay/create was executed."""
    return len(sandbox.orders())


def raw_response(api: Any, path: str) -> bytes:
    """Send a call over a plain socket. Return all bytes received until the connection ends."""
    url = api.client.base_url
    request = api.client.build_request("POST", path, data=api.form(path))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    request_bytes = f"POST {request.url.raw_path.decode()} HTTP/1.1\r\n{head}\r\n".encode() + request.read()
    received = b""
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(request_bytes)
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize(("kind", "orders"), [(FaultKind.CUT_BEFORE, 0), (FaultKind.CUT_AFTER, 1)])
def test_cut_connection_sends_no_bytes(kind: FaultKind, orders: int, sandbox: Sandbox, api: Any) -> None:
    """A cut connection sends no bytes. Only CUT_AFTER executes the call."""
    sandbox.fault(Fault(kind))
    assert raw_response(api, "pay/create") == b""
    assert order_count(sandbox) == orders


@pytest.mark.parametrize("kind", [FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER])
def test_httpx_raises_for_a_cut_connection(kind: FaultKind, sandbox: Sandbox, api: Any) -> None:
    """A cut connection raises RemoteProtocolError in httpx, and the next call works."""
    sandbox.fault(Fault(kind))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        api.call("pay/create")
    assert api.reply("pay/create")["code"] == 100


def test_half_body_sends_half_of_the_content_length(sandbox: Sandbox, api: Any) -> None:
    """HALF_BODY executes the call and sends half of the body that Content-Length declares."""
    sandbox.fault(Fault(FaultKind.HALF_BODY))
    head, _, body = raw_response(api, "pay/create").partition(b"\r\n\r\n")
    [length] = [line for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
    assert len(body) == int(length.removeprefix(b"content-length: ")) // 2
    assert body.startswith(b'{"code": 100')
    assert order_count(sandbox) == 1
    sandbox.fault(Fault(FaultKind.HALF_BODY))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        api.call("pay/create")


def test_half_json_sends_truncated_json(sandbox: Sandbox, api: Any) -> None:
    """HALF_JSON executes the call and sends a complete response with the first half of the JSON."""
    whole = api.call("product/show").content
    sandbox.fault(Fault(FaultKind.HALF_JSON))
    response = api.call("product/show")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.content == whole[: len(whole) // 2]
    sandbox.fault(Fault(FaultKind.HALF_JSON))
    api.call("pay/create")
    assert order_count(sandbox) == 1


def test_slow_sends_the_response_after_the_wait(sandbox: Sandbox, api: Any) -> None:
    """SLOW waits, and then sends the whole response."""
    sandbox.fault(Fault(FaultKind.SLOW, seconds=0.05))
    began = time.monotonic()
    assert api.reply("pay/create")["code"] == 100
    assert time.monotonic() - began >= 0.05


def test_slow_executes_the_call_before_the_wait(sandbox: Sandbox, api: Any) -> None:
    """With SLOW, the call is executed even if the client times out."""
    sandbox.fault(Fault(FaultKind.SLOW, seconds=60))
    with pytest.raises(httpx.ReadTimeout):
        api.client.post("pay/create", data=api.form("pay/create"), timeout=2)
    assert order_count(sandbox) == 1


def test_drip_sends_the_whole_response(sandbox: Sandbox, api: Any) -> None:
    """The bytes sent by DRIP are the whole response."""
    whole = api.call("product/show").content
    sandbox.fault(Fault(FaultKind.DRIP, seconds=0))
    assert api.call("product/show").content == whole


@pytest.mark.anyio
async def test_drip_sends_one_byte_at_a_time(sandbox: Sandbox) -> None:
    """DRIP sends the headers first and then one byte per message."""
    messages = []

    async def receive() -> Message:
        if not received:
            received.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await anyio.sleep_forever()
        return {}

    async def send(message: Message) -> None:
        messages.append(message)

    received: list[bool] = []
    sandbox.fault(Fault(FaultKind.DRIP, seconds=0))
    scope: Scope = {"type": "http", "method": "POST", "path": "/api/product/show", "headers": []}
    await sandbox.app({**scope, "scheme": "http", "server": ("127.0.0.1", 80)}, receive, send)
    head, *chunks, end = messages
    assert head["type"] == "http.response.start"
    assert {len(chunk["body"]) for chunk in chunks} == {1}
    assert {chunk["more_body"] for chunk in chunks} == {True}
    assert end == {"type": "http.response.body", "body": b""}
    # 101: the empty request lacks all parameters.
    assert json.loads(b"".join(chunk["body"] for chunk in chunks))["code"] == 101


def test_drip_ends_when_the_client_disconnects(sandbox: Sandbox, api: Any) -> None:
    """A DRIP response ends when the client disconnects, and the server still works."""
    sandbox.fault(Fault(FaultKind.DRIP, seconds=60))
    with api.client.stream("POST", "pay/create", data=api.form("pay/create")) as response:
        assert response.status_code == 200
    assert order_count(sandbox) == 1
    assert api.reply("pay/create")["code"] == 100


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({}, "1"),
        ({"retry_after": 7}, "7"),
        ({"retry_after": "Fri, 31 Dec 1999 23:59:59 GMT"}, "Fri, 31 Dec 1999 23:59:59 GMT"),
    ],
)
def test_rate_limited_sends_429_with_retry_after(options: Any, header: str, sandbox: Sandbox, api: Any) -> None:
    """RATE_LIMITED responds with 429 and the given Retry-After, and doesn't execute the call."""
    sandbox.fault(Fault(FaultKind.RATE_LIMITED, **options))
    response = api.call("pay/create")
    assert (response.status_code, response.headers["retry-after"]) == (429, header)
    assert order_count(sandbox) == 0


def test_bad_gateway_sends_an_html_page(sandbox: Sandbox, api: Any) -> None:
    """BAD_GATEWAY responds with 502 and an HTML page, and doesn't execute the call."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY))
    response = api.call("pay/create")
    assert response.status_code == 502
    assert response.headers["content-type"].startswith("text/html")
    assert response.text.startswith("<html>")
    assert order_count(sandbox) == 0


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("pay/create", 110, "有效库存不足"),
        ("ka/create", 110, "卡密内容为空"),
        ("ka/create", 108, "未知错误"),
        ("product/show", 100, "请求成功"),
    ],
)
def test_code_sends_the_given_code(path: str, code: int, text: str, sandbox: Sandbox, api: Any) -> None:
    """CODE replies with the given code, the endpoint's message for it and null data, and doesn't execute the call."""
    before = sandbox.keys(8)
    sandbox.fault(Fault(FaultKind.CODE, code=code))
    assert api.reply(path) == {"code": code, "msg": text, "time": "1555750250", "data": None}
    assert (order_count(sandbox), sandbox.keys(8)) == (0, before)


def test_fault_applies_to_one_request_by_default(sandbox: Sandbox, api: Any) -> None:
    """Without `times`, a fault applies to a single request."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY))
    assert [api.call("product/show").status_code for _ in range(3)] == [502, 200, 200]


@pytest.mark.without_coverage
@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({"times": 2}, [502, 502, 200, 200]),
        ({"times": None}, [502, 502, 502, 502]),
        ({"skip": 2}, [200, 200, 502, 200]),
        ({"skip": 1, "times": 2}, [200, 502, 502, 200]),
        ({"times": 0}, [200, 200, 200, 200]),
        ({"probability": 0.0}, [200, 200, 200, 200]),
    ],
)
def test_times_skip_and_probability_select_the_affected_requests(
    options: Any, codes: list[int], sandbox: Sandbox, api: Any
) -> None:
    """times, skip and probability determine which requests a fault applies to."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY, **options))
    assert [api.call("product/show").status_code for _ in codes] == codes


def test_fault_for_one_endpoint_ignores_others(sandbox: Sandbox, api: Any) -> None:
    """A fault for one endpoint neither affects nor counts requests to others."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY, endpoint="ka/show", skip=1))
    paths = ["product/show", "ka/show", "pay/create", "ka/show"]
    assert [api.call(path).status_code for path in paths] == [200, 200, 200, 502]


def test_only_the_first_matching_fault_applies(sandbox: Sandbox, api: Any) -> None:
    """If several faults match a request, only the first one that isn't used up applies."""
    sandbox.fault(Fault(FaultKind.CODE, code=103, endpoint="ka/show"))
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY))
    sandbox.fault(Fault(FaultKind.RATE_LIMITED))
    assert [api.call(path).status_code for path in ("product/show", "ka/show", "ka/show", "ka/show")] == [
        502,
        200,
        429,
        200,
    ]


def test_clear_faults_removes_all_faults(sandbox: Sandbox, api: Any) -> None:
    """After clear_faults(), no fault applies."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY, times=None))
    assert api.call("product/show").status_code == 502
    sandbox.clear_faults()
    assert api.call("product/show").status_code == 200


def status_codes(api: Any, seed: int) -> list[int]:
    """Return the status of 20 calls while a fault with probability 0.5 and this seed is active."""
    api.sandbox.fault(Fault(FaultKind.BAD_GATEWAY, times=None, probability=0.5, seed=seed))
    codes = [api.call("product/show").status_code for _ in range(20)]
    api.sandbox.clear_faults()
    return codes


def test_seed_determines_affected_requests(api: Any) -> None:
    """The same seed affects the same requests; another seed affects others."""
    first = status_codes(api, 1)
    assert first == status_codes(api, 1) != status_codes(api, 2)
    assert set(first) == {200, 502}


def test_fault_kind_may_be_a_string() -> None:
    """A fault's kind may be a string."""
    assert Fault("slow").kind is FaultKind.SLOW


def test_requests_records_every_call(sandbox: Sandbox, api: Any) -> None:
    """`requests` contains the endpoint and time of every call, also of failed ones, but none of its fields."""
    sandbox.fault(Fault(FaultKind.CUT_BEFORE, endpoint="ka/create"))
    api.call("product/show")
    with pytest.raises(httpx.RemoteProtocolError):
        api.call("ka/create")
    # These two aren't calls: an unknown path, and the wrong method.
    api.client.post("ka/other")
    api.client.get("ka/show")
    assert sandbox.requests == [("product/show", 1555750250.75), ("ka/create", 1555750250.75)]


def test_faults_log_nothing_above_info(sandbox: Sandbox, api: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No fault makes the server log a traceback or a warning."""
    for kind in ALL_KINDS:
        sandbox.fault(Fault(kind, code=110, seconds=0))
        try:
            api.call("product/show")
        except httpx.RemoteProtocolError:
            continue
    assert len(sandbox.requests) == len(ALL_KINDS)
    assert [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")] == []


# The faults that end a connection, and the number of orders that each leaves.
CUTS = {FaultKind.CUT_BEFORE: 0, FaultKind.CUT_AFTER: 1, FaultKind.HALF_BODY: 1}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_faults_work_without_a_socket(kind: FaultKind, sandbox: Sandbox, api: Any) -> None:
    """Over ASGI, without a socket, a cut connection is a ConnectionResetError. Other faults work as over a socket."""
    sandbox.fault(Fault(kind, code=110, seconds=0))
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test/api/") as client:
        with anyio.fail_after(PATIENCE):
            if kind in CUTS:
                with pytest.raises(ConnectionResetError):
                    await client.post("pay/create", data=api.form("pay/create"))
                assert order_count(sandbox) == CUTS[kind]
            status = {FaultKind.RATE_LIMITED: 429, FaultKind.BAD_GATEWAY: 502}.get(kind, 200)
            response = await client.post("pay/create", data=api.form("pay/create"))
    assert response.status_code == status
