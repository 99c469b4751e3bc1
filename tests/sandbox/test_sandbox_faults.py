"""Every fault, on a real socket: what the client sees, and whether the call was carried out."""

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

ALL = list(FaultKind)


def ordered(sandbox: Sandbox) -> int:
    return len(sandbox.orders())


def raw(call: Any, path: str) -> bytes:
    """Send a call over a bare socket and give every byte that comes back before the end."""
    url = call.client.base_url
    request = call.client.build_request("POST", path, data=call.form(path))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    sent = f"POST {request.url.raw_path.decode()} HTTP/1.1\r\n{head}\r\n".encode() + request.read()
    received = b""
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(sent)
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize(("kind", "orders"), [(FaultKind.CUT_BEFORE, 0), (FaultKind.CUT_AFTER, 1)])
def test_a_cut_answers_no_byte(kind: FaultKind, orders: int, sandbox: Sandbox, call: Any) -> None:
    """A cut connection ends without a byte; the call is carried out when it is cut after."""
    sandbox.fault(Fault(kind))
    assert raw(call, "pay/create") == b""
    assert ordered(sandbox) == orders


@pytest.mark.parametrize("kind", [FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER])
def test_httpx_sees_a_cut(kind: FaultKind, sandbox: Sandbox, call: Any) -> None:
    """To httpx a cut is a RemoteProtocolError, and the next call on the client works."""
    sandbox.fault(Fault(kind))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        call("pay/create")
    assert call.reply("pay/create")["code"] == 100


def test_half_a_body(sandbox: Sandbox, call: Any) -> None:
    """HALF_BODY: the head promises the whole JSON, half of it comes, the call is carried out."""
    sandbox.fault(Fault(FaultKind.HALF_BODY))
    head, _, body = raw(call, "pay/create").partition(b"\r\n\r\n")
    [length] = [line for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
    assert len(body) == int(length.removeprefix(b"content-length: ")) // 2
    assert body.startswith(b'{"code": 100')
    assert ordered(sandbox) == 1
    sandbox.fault(Fault(FaultKind.HALF_BODY))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        call("pay/create")


def test_half_the_json(sandbox: Sandbox, call: Any) -> None:
    """HALF_JSON: a complete reply that is the first half of the JSON, and the call is carried out."""
    whole = call("product/show").content
    sandbox.fault(Fault(FaultKind.HALF_JSON))
    response = call("product/show")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.content == whole[: len(whole) // 2]
    sandbox.fault(Fault(FaultKind.HALF_JSON))
    call("pay/create")
    assert ordered(sandbox) == 1


def test_a_slow_answer_is_whole(sandbox: Sandbox, call: Any) -> None:
    """SLOW: the whole answer, after the wait."""
    sandbox.fault(Fault(FaultKind.SLOW, seconds=0.05))
    began = time.monotonic()
    assert call.reply("pay/create")["code"] == 100
    assert time.monotonic() - began >= 0.05


def test_a_slow_call_is_carried_out_first(sandbox: Sandbox, call: Any) -> None:
    """SLOW: who gives up waiting has ordered all the same."""
    sandbox.fault(Fault(FaultKind.SLOW, seconds=60))
    with pytest.raises(httpx.ReadTimeout):
        call.client.post("pay/create", data=call.form("pay/create"), timeout=2)
    assert ordered(sandbox) == 1


def test_a_dripped_answer_is_whole(sandbox: Sandbox, call: Any) -> None:
    """DRIP: what comes drop by drop is the whole answer."""
    whole = call("product/show").content
    sandbox.fault(Fault(FaultKind.DRIP, seconds=0))
    assert call("product/show").content == whole


@pytest.mark.anyio
async def test_a_drop_is_a_byte(sandbox: Sandbox) -> None:
    """DRIP: the head goes out first, then one byte at a time, then the end."""
    sent = []

    async def receive() -> Message:
        if not received:
            received.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await anyio.sleep_forever()
        return {}

    async def send(message: Message) -> None:
        sent.append(message)

    received: list[bool] = []
    sandbox.fault(Fault(FaultKind.DRIP, seconds=0))
    scope: Scope = {"type": "http", "method": "POST", "path": "/api/product/show", "headers": []}
    await sandbox.app({**scope, "scheme": "http", "server": ("127.0.0.1", 80)}, receive, send)
    head, *drops, end = sent
    assert head["type"] == "http.response.start"
    assert {len(drop["body"]) for drop in drops} == {1}
    assert {drop["more_body"] for drop in drops} == {True}
    assert end == {"type": "http.response.body", "body": b""}
    assert json.loads(b"".join(drop["body"] for drop in drops))["code"] == 101


def test_a_drip_ends_with_its_client(sandbox: Sandbox, call: Any) -> None:
    """DRIP: a client that leaves ends it; the server goes on."""
    sandbox.fault(Fault(FaultKind.DRIP, seconds=60))
    with call.client.stream("POST", "pay/create", data=call.form("pay/create")) as response:
        assert response.status_code == 200
    assert ordered(sandbox) == 1
    assert call.reply("pay/create")["code"] == 100


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({}, "1"),
        ({"retry_after": 7}, "7"),
        ({"retry_after": "Fri, 31 Dec 1999 23:59:59 GMT"}, "Fri, 31 Dec 1999 23:59:59 GMT"),
    ],
)
def test_too_many_requests(given: Any, header: str, sandbox: Sandbox, call: Any) -> None:
    """RATE_LIMITED: 429 with the Retry-After that was asked for, and nothing carried out."""
    sandbox.fault(Fault(FaultKind.RATE_LIMITED, **given))
    response = call("pay/create")
    assert (response.status_code, response.headers["retry-after"]) == (429, header)
    assert ordered(sandbox) == 0


def test_a_bad_gateway(sandbox: Sandbox, call: Any) -> None:
    """BAD_GATEWAY: 502 with a page of HTML, and nothing carried out."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY))
    response = call("pay/create")
    assert response.status_code == 502
    assert response.headers["content-type"].startswith("text/html")
    assert response.text.startswith("<html>")
    assert ordered(sandbox) == 0


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("pay/create", 110, "有效库存不足"),
        ("ka/create", 110, "卡密内容为空"),
        ("ka/create", 108, "未知错误"),
        ("product/show", 100, "请求成功"),
    ],
)
def test_a_given_code(path: str, code: int, text: str, sandbox: Sandbox, call: Any) -> None:
    """CODE: that number with the endpoint's text for it, null data, and nothing carried out."""
    before = sandbox.keys(8)
    sandbox.fault(Fault(FaultKind.CODE, code=code))
    assert call.reply(path) == {"code": code, "msg": text, "time": "1555750250", "data": None}
    assert (ordered(sandbox), sandbox.keys(8)) == (0, before)


def test_a_fault_strikes_once(sandbox: Sandbox, call: Any) -> None:
    """Unless told otherwise a fault strikes one request."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY))
    assert [call("product/show").status_code for _ in range(3)] == [502, 200, 200]


@pytest.mark.uncounted
@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ({"times": 2}, [502, 502, 200, 200]),
        ({"times": None}, [502, 502, 502, 502]),
        ({"skip": 2}, [200, 200, 502, 200]),
        ({"skip": 1, "times": 2}, [200, 502, 502, 200]),
        ({"times": 0}, [200, 200, 200, 200]),
        ({"probability": 0.0}, [200, 200, 200, 200]),
    ],
)
def test_how_often_a_fault_strikes(given: Any, codes: list[int], sandbox: Sandbox, call: Any) -> None:
    """times, skip and probability say which requests are struck."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY, **given))
    assert [call("product/show").status_code for _ in codes] == codes


def test_a_fault_keeps_to_its_endpoint(sandbox: Sandbox, call: Any) -> None:
    """A fault for one endpoint neither strikes nor counts the others."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY, endpoint="ka/show", skip=1))
    paths = ["product/show", "ka/show", "pay/create", "ka/show"]
    assert [call(path).status_code for path in paths] == [200, 200, 200, 502]


def test_the_first_fault_that_matches(sandbox: Sandbox, call: Any) -> None:
    """Of several faults the first that matches and is not used up strikes, and only that one."""
    sandbox.fault(Fault(FaultKind.CODE, code=103, endpoint="ka/show"))
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY))
    sandbox.fault(Fault(FaultKind.RATE_LIMITED))
    assert [call(path).status_code for path in ("product/show", "ka/show", "ka/show", "ka/show")] == [
        502,
        200,
        429,
        200,
    ]


def test_faults_can_be_cleared(sandbox: Sandbox, call: Any) -> None:
    """clear_faults() forgets what is still to come."""
    sandbox.fault(Fault(FaultKind.BAD_GATEWAY, times=None))
    assert call("product/show").status_code == 502
    sandbox.clear_faults()
    assert call("product/show").status_code == 200


def draw(call: Any, seed: int) -> list[int]:
    call.sandbox.fault(Fault(FaultKind.BAD_GATEWAY, times=None, probability=0.5, seed=seed))
    codes = [call("product/show").status_code for _ in range(20)]
    call.sandbox.clear_faults()
    return codes


def test_a_seed_repeats_itself(call: Any) -> None:
    """The same seed strikes the same requests; another seed strikes others."""
    first = draw(call, 1)
    assert first == draw(call, 1) != draw(call, 2)
    assert set(first) == {200, 502}


def test_a_kind_may_be_its_text() -> None:
    """A fault's kind may be given as text, and another word is refused."""
    assert Fault("slow").kind is FaultKind.SLOW
    with pytest.raises(ValueError, match="explode"):
        Fault("explode")


def test_a_code_needs_its_number() -> None:
    """A CODE fault without a code is refused."""
    with pytest.raises(ValueError, match="needs code="):
        Fault(FaultKind.CODE)


def test_a_misspelt_endpoint_is_refused(sandbox: Sandbox) -> None:
    """A fault for an endpoint that there isn't would never strike: it is refused."""
    with pytest.raises(ValueError, match="no endpoint 'ka/shwo'; there are pay/create, product/show"):
        sandbox.fault(Fault(FaultKind.SLOW, endpoint="ka/shwo"))


def test_every_request_is_noted(sandbox: Sandbox, call: Any) -> None:
    """In requests are the endpoints called, those struck too, and nothing of what the calls held."""
    sandbox.fault(Fault(FaultKind.CUT_BEFORE, endpoint="ka/create"))
    call("product/show")
    with pytest.raises(httpx.RemoteProtocolError):
        call("ka/create")
    call.client.post("ka/other")
    call.client.get("ka/show")
    assert sandbox.requests == [("product/show", 1555750250.75), ("ka/create", 1555750250.75)]


def test_no_fault_is_logged_as_an_error(sandbox: Sandbox, call: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No fault makes the server log a traceback, or anything above information."""
    for kind in ALL:
        sandbox.fault(Fault(kind, code=110, seconds=0))
        try:
            call("product/show")
        except httpx.RemoteProtocolError:
            continue
    assert len(sandbox.requests) == len(ALL)
    assert [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")] == []


CUTS = {FaultKind.CUT_BEFORE: 0, FaultKind.CUT_AFTER: 1, FaultKind.HALF_BODY: 1}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ALL)
async def test_faults_without_a_socket(kind: FaultKind, sandbox: Sandbox, call: Any) -> None:
    """In one process a cut is raised, as a ConnectionResetError; the other faults are as on a socket."""
    sandbox.fault(Fault(kind, code=110, seconds=0))
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test/api/") as client:
        with anyio.fail_after(PATIENCE):
            if kind in CUTS:
                with pytest.raises(ConnectionResetError):
                    await client.post("pay/create", data=call.form("pay/create"))
                assert ordered(sandbox) == CUTS[kind]
            status = {FaultKind.RATE_LIMITED: 429, FaultKind.BAD_GATEWAY: 502}.get(kind, 200)
            response = await client.post("pay/create", data=call.form("pay/create"))
    assert response.status_code == status
