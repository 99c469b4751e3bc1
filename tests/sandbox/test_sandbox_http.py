"""HTTP around the calls: methods, paths, body sizes and malformed forms."""

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
def test_other_methods_get_405(method: str, path: str, api: Any) -> None:
    """A method other than POST gets a plain-text 405."""
    response = api.client.request(method, path)
    assert response.status_code == 405
    assert response.headers["content-type"].startswith("text/plain")


def test_unknown_path_gets_404(api: Any) -> None:
    """A path that isn't an endpoint gets a 404."""
    assert api.client.post("pay/refund", data=api.form("pay/create")).status_code == 404


@rows(
    "corrupt",
    [
        lambda body: body + b"&product_id=8",
        lambda body: body + b"&custom=%FF",
        lambda body: body + b"&x=%zz",
        lambda body: body + b"&x",
        lambda _body: b"\x00\xff",
        lambda _body: b"",
    ],
)
def test_malformed_form_gets_101(corrupt: Any, sandbox: Sandbox, api: Any) -> None:
    """A call whose form is malformed gets code 101 and isn't executed."""
    body = urlencode(api.form("pay/create")).encode()
    response = api.client.post("pay/create", content=corrupt(body), headers=FORM)
    assert (response.status_code, response.json()["code"], response.json()["data"]) == (200, 101, None)
    assert sandbox.orders() == []


def test_json_body_gets_101(sandbox: Sandbox, api: Any) -> None:
    """A call sent as JSON gets code 101 and isn't executed."""
    assert api.client.post("pay/create", json=api.form("pay/create")).json()["code"] == 101
    assert sandbox.orders() == []


def test_unknown_fields_are_ignored(api: Any) -> None:
    """A field that the endpoint doesn't have is ignored."""
    assert api.reply("product/show", page="x", lang="zh")["code"] == 100


def test_fields_may_be_in_any_order(api: Any) -> None:
    """A call whose fields are in reverse order is accepted."""
    backwards = dict(reversed(api.form("pay/create").items()))
    assert api.client.post("pay/create", data=backwards).json()["code"] == 100


@pytest.mark.parametrize(("size", "status"), [(8 * 1024 * 1024, 200), (8 * 1024 * 1024 + 1, 413)])
def test_body_over_8_mib_gets_413(size: int, status: int, api: Any) -> None:
    """A body of 8 MiB is read; one byte more gets a 413."""
    body = urlencode(api.form("product/show")).encode() + b"&x="
    response = api.client.post("product/show", content=body.ljust(size, b"x"), headers=FORM)
    assert response.status_code == status


@pytest.mark.parametrize("kind", [None, FaultKind.SLOW, FaultKind.BAD_GATEWAY])
def test_unfinished_request_is_not_executed(
    kind: FaultKind, sandbox: Sandbox, api: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A request whose body ends early isn't executed, with or without a fault, and no error is logged."""
    url = api.client.base_url
    body = urlencode(api.form("pay/create"))
    head = (
        f"POST /api/pay/create HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body) + 1}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n"
    )
    if kind is not None:
        sandbox.fault(Fault(kind, seconds=0))
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall((head + body).encode())
        while not sandbox.requests:
            api.client.get("ka/show")  # gives the server time
    for _ in range(5):  # enough for the server to notice the closed connection
        api.client.get("ka/show")
    assert sandbox.orders() == []
    assert [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")] == []


@pytest.mark.anyio
async def test_app_runs_over_asgi(sandbox: Sandbox, api: Any) -> None:
    """The ASGI app runs on the caller's event loop, and order_url has the origin of the caller's request."""
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://gatepay.io/api/") as client:
        replies = [(await client.post(path, data=api.form(path))).json() for path in PATHS]
        assert [reply["code"] for reply in replies] == [100] * 4
        url = replies[0]["data"]["order_url"]
        assert url.startswith("https://gatepay.io/pay/index?id=")
        assert (await client.get(url)).status_code == 200


@pytest.mark.anyio
async def test_locked_database_does_not_block_the_loop(sandbox: Sandbox, api: Any) -> None:
    """While another caller holds the database, a call waits without blocking the event loop."""
    transport = httpx.ASGITransport(sandbox.app)
    replies = []

    async def post(client: httpx.AsyncClient) -> None:
        replies.append((await client.post("product/show", data=api.form("product/show"))).json()["code"])

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


def test_replies_round_trip_through_json(api: Any) -> None:
    """Emoji and backslashes in a reply are unchanged after json.loads."""
    api.reply("ka/create", content="😀\\n")
    assert json.loads(api.call("ka/show", page="2").content)["data"]["ka"]["data"][-1]["content"] == "😀\\n"


@pytest.mark.parametrize("missing", ["h11", "gatepay_async.sandbox.database"])
def test_import_without_the_extra_says_how_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing dependency of the extra raises an error with the pip command. A missing module of our own doesn't."""
    for name in [name for name in sys.modules if name.startswith("gatepay_async.sandbox")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("gatepay_async.sandbox")
    assert caught.value.name == missing
    assert ("pip install 'gatepay-async[sandbox]'" in str(caught.value)) == (missing == "h11")
