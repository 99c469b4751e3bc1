"""What is asked and answered around the calls: methods, paths, sizes, forms that are none."""

import importlib
import json
import socket
import sys
from typing import Any
from urllib.parse import urlencode

import anyio
import httpx
import pytest
from tables import rows
from waiting import PATIENCE, until

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = pytest.mark.sockets

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PATHS = ["pay/create", "product/show", "ka/show", "ka/create"]


@rows("path", PATHS)
@rows("method", ["GET", "PUT", "DELETE"])
def test_only_post(method: str, path: str, call: Any) -> None:
    """Another method than POST gets a plain 405."""
    response = call.client.request(method, path)
    assert response.status_code == 405
    assert response.headers["content-type"].startswith("text/plain")


def test_an_unknown_path(call: Any) -> None:
    """A path that is no endpoint gets a 404."""
    assert call.client.post("pay/refund", data=call.form("pay/create")).status_code == 404


@rows(
    "spoil",
    [
        lambda body: body + b"&product_id=8",
        lambda body: body + b"&custom=%FF",
        lambda body: body + b"&x=%zz",
        lambda body: body + b"&x",
        lambda _body: b"\x00\xff",
        lambda _body: b"",
    ],
)
def test_a_form_that_is_none(spoil: Any, sandbox: Sandbox, call: Any) -> None:
    """A hostile form that holds a right call is answered 101, and not carried out."""
    body = urlencode(call.form("pay/create")).encode()
    response = call.client.post("pay/create", content=spoil(body), headers=FORM)
    assert (response.status_code, response.json()["code"], response.json()["data"]) == (200, 101, None)
    assert sandbox.orders() == []


def test_a_json_body_is_no_form(sandbox: Sandbox, call: Any) -> None:
    """A call sent as JSON is answered 101: nothing of it is read."""
    assert call.client.post("pay/create", json=call.form("pay/create")).json()["code"] == 101
    assert sandbox.orders() == []


def test_unknown_fields_are_ignored(call: Any) -> None:
    """A field that the endpoint doesn't know is passed over."""
    assert call.reply("product/show", page="x", lang="zh")["code"] == 100


def test_the_order_of_fields_is_free(call: Any) -> None:
    """Fields may come in any order."""
    backwards = dict(reversed(call.form("pay/create").items()))
    assert call.client.post("pay/create", data=backwards).json()["code"] == 100


@pytest.mark.parametrize(("size", "status"), [(8 * 1024 * 1024, 200), (8 * 1024 * 1024 + 1, 413)])
def test_a_body_too_large(size: int, status: int, call: Any) -> None:
    """8 MiB are read; a byte more is refused with a plain 413."""
    body = urlencode(call.form("product/show")).encode() + b"&x="
    response = call.client.post("product/show", content=body.ljust(size, b"x"), headers=FORM)
    assert response.status_code == status


@pytest.mark.parametrize("kind", [None, FaultKind.SLOW, FaultKind.BAD_GATEWAY])
def test_a_client_that_leaves_in_the_middle(
    kind: FaultKind, sandbox: Sandbox, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that is never finished is never carried out, fault or no fault, and no error is logged."""
    url = call.client.base_url
    body = urlencode(call.form("pay/create"))
    head = (
        f"POST /api/pay/create HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body) + 1}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n"
    )
    if kind is not None:
        sandbox.fault(Fault(kind, seconds=0))
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall((head + body).encode())
        while not sandbox.requests:
            call.client.get("ka/show")  # a round trip on the server's loop
    for _ in range(5):
        call.client.get("ka/show")
    assert sandbox.orders() == []
    assert [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")] == []


@pytest.mark.anyio
async def test_both_loops_carry_the_application(sandbox: Sandbox, call: Any) -> None:
    """The application runs on the caller's own loop too, and makes the page's address of the caller's."""
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://gatepay.io/api/") as client:
        replies = [(await client.post(path, data=call.form(path))).json() for path in PATHS]
        assert [reply["code"] for reply in replies] == [100] * 4
        url = replies[0]["data"]["order_url"]
        assert url.startswith("https://gatepay.io/pay/index?id=")
        assert (await client.get(url)).status_code == 200


@pytest.mark.anyio
async def test_the_database_does_not_block_the_loop(sandbox: Sandbox, call: Any) -> None:
    """While one caller holds the database, the loop that waits for it goes on."""
    transport = httpx.ASGITransport(sandbox.app)
    replies = []

    async def post(client: httpx.AsyncClient) -> None:
        replies.append((await client.post("product/show", data=call.form("product/show"))).json()["code"])

    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test/api/") as client:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                with sandbox._database.transaction():
                    tasks.start_soon(post, client)
                    await until(lambda: sandbox.requests)
                    for _ in range(100):
                        await anyio.lowlevel.checkpoint()
                    assert replies == []
    assert replies == [100]


def test_the_reply_is_not_escaped_twice(call: Any) -> None:
    """The JSON is what json.loads reads back, emoji included."""
    call.reply("ka/create", content="😀\\n")
    assert json.loads(call("ka/show", page="2").content)["data"]["ka"]["data"][-1]["content"] == "😀\\n"


@pytest.mark.parametrize("missing", ["h11", "gatepay_async.sandbox.database"])
def test_without_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the extra brings, the room says how to install it; a module of our own is another matter."""
    for name in [name for name in sys.modules if name.startswith("gatepay_async.sandbox")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("gatepay_async.sandbox")
    assert caught.value.name == missing
    assert ("pip install 'gatepay-async[sandbox]'" in str(caught.value)) == (missing == "h11")
