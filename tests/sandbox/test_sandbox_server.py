"""serve(): a real server in a thread of its own, from asyncio and from trio."""

import asyncio
import gc
import logging
import socket
import ssl
import sys
import threading
import time
from typing import Any

import anyio
import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from waiting import PATIENCE, until

from gatepay_async.sandbox import Fault, FaultKind, PortTakenError, Sandbox
from gatepay_async.sandbox.fault_injection import CONNECTION_KEY
from gatepay_async.sandbox.server import LoopbackServer

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gatepay-sandbox")]


async def show(url: str, sandbox: Sandbox, call: Any, no_tls: ssl.SSLContext) -> Any:
    async with httpx.AsyncClient(base_url=url, verify=no_tls) as client:
        return (await client.post("product/show", data=call.form("product/show"))).json()["code"]


async def test_it_serves_until_the_block_ends(sandbox: Sandbox) -> None:
    """The base URL answers inside the block; after it the port is free and the thread is gone."""
    async with sandbox.serve() as url:
        port = httpx.URL(url).port
        assert url == f"http://127.0.0.1:{port}/api/"
        with socket.create_connection(("127.0.0.1", port)):
            assert f"gatepay-sandbox-{port}" in threads()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass
    assert f"gatepay-sandbox-{port}" not in threads()


async def test_the_loop_is_its_own(sandbox: Sandbox, call: Any, no_tls: ssl.SSLContext) -> None:
    """The server answers while the caller's loop is blocked."""
    async with sandbox.serve() as url:
        with httpx.Client(base_url=url, verify=no_tls) as blocking:
            reply = blocking.post("product/show", data=call.form("product/show"))  # noqa: ASYNC212 -- meant
    assert reply.json()["code"] == 100


async def test_several_serve_at_once(sandbox: Sandbox, call: Any, no_tls: ssl.SSLContext) -> None:
    """One sandbox may be served twice, on two ports, with one database."""
    async with sandbox.serve() as first, sandbox.serve() as second:
        assert first != second
        assert [await show(url, sandbox, call, no_tls) for url in (first, second)] == [100, 100]
    assert len(sandbox.requests) == 2


async def test_a_port_is_used_again(sandbox: Sandbox, call: Any, no_tls: ssl.SSLContext) -> None:
    """The same port can be served again right after."""
    async with sandbox.serve() as url:
        await show(url, sandbox, call, no_tls)
    async with sandbox.serve(port=httpx.URL(url).port or 0) as again:
        assert again == url
        assert await show(url, sandbox, call, no_tls) == 100


async def test_a_taken_port(sandbox: Sandbox) -> None:
    """A port that somebody has is a PortTakenError that names it, and leaves no thread."""
    before = threads()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            PortTakenError, match=rf"can't listen on port {port} of 127\.0\.0\.1 \(.*in use.*\)"
        ) as caught:
            async with sandbox.serve(port=port):
                pytest.fail("it must not serve")
    assert caught.value.port == port
    assert threads() == before


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "::1", ""])  # noqa: S104 -- what must be refused
async def test_loopback_only(host: str, sandbox: Sandbox) -> None:
    """Any host but 127.0.0.1 is refused."""
    with pytest.raises(ValueError, match=r"on 127\.0\.0\.1 only"):
        async with sandbox.serve(host=host):
            pytest.fail("it must not serve")


async def test_it_stops_over_open_connections(sandbox: Sandbox, call: Any, no_tls: ssl.SSLContext) -> None:
    """An idle kept-alive connection doesn't hold the server up."""
    async with httpx.AsyncClient(verify=no_tls) as client:
        async with sandbox.serve() as url:
            await client.post(url + "product/show", data=call.form("product/show"))
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 5
        with pytest.raises(httpx.ConnectError):
            await client.post(url + "product/show", data=call.form("product/show"))


@pytest.mark.parametrize("kind", [FaultKind.SLOW, FaultKind.DRIP])
async def test_it_stops_over_a_hanging_request(
    kind: FaultKind, sandbox: Sandbox, call: Any, no_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that hangs in a slow fault is cut off, at once and without a word in the log."""
    sandbox.fault(Fault(kind, seconds=600))
    ends = []

    async def hang(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, verify=no_tls, timeout=60) as client:
            try:
                await client.post("pay/create", data=call.form("pay/create"))
            except (httpx.RemoteProtocolError, httpx.ReadError) as error:
                ends.append(error)

    async with anyio.create_task_group() as tasks:
        async with sandbox.serve() as url:
            tasks.start_soon(hang, url)
            await until(sandbox.orders)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 5
    assert len(ends) == 1
    assert [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")] == []


async def test_it_stops_when_the_block_raises(sandbox: Sandbox) -> None:
    """An exception in the block passes through, and the server stops."""
    before = threads()
    with pytest.raises(KeyError, match="mine"):
        async with sandbox.serve():
            raise KeyError("mine")
    assert threads() == before


async def test_it_stops_when_cancelled(sandbox: Sandbox) -> None:
    """A cancelled block stops its server."""
    before = threads()
    with anyio.CancelScope() as scope:
        async with sandbox.serve():
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert threads() == before


async def test_cancelled_before_it_accepts(sandbox: Sandbox) -> None:
    """A scope cancelled before the server accepts leaves no server behind."""
    before = threads()
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with sandbox.serve():
            pytest.fail("it must not serve")
    assert scope.cancelled_caught
    assert threads() == before


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_cancelled_before_it_accepts(sandbox: Sandbox) -> None:
    """The loop's own way of cancelling leaves no server behind either."""
    before = threads()

    async def serve() -> None:
        async with sandbox.serve():
            pytest.fail("it must not serve")

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert threads() == before


async def test_a_server_that_cannot_start(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the thread dies before it accepts, the caller hears of it, and nothing waits for ever."""
    died = []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_type))

    async def fail(*_args: Any, **_kwargs: Any) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr("uvicorn.Server.startup", fail)
    before = threads()
    with anyio.fail_after(PATIENCE), pytest.raises(RuntimeError, match="could not start"):
        async with sandbox.serve():
            pytest.fail("it must not serve")
    assert died == [OSError]
    assert threads() == before


async def test_many_at_once(sandbox: Sandbox, call: Any, no_tls: ssl.SSLContext) -> None:
    """A hundred uploads at once are carried out one by one: each key is stored once."""
    stored = []

    async def upload(client: httpx.AsyncClient, number: int) -> None:
        form = call.form("ka/create", sandbox.shops[1], product_id="3", content=f"A{number}\nB{number}\nSAME")
        stored.append((await client.post("ka/create", data=form)).json()["data"])

    async with (
        sandbox.serve() as url,
        httpx.AsyncClient(base_url=url, verify=no_tls) as client,
        anyio.create_task_group() as tasks,
    ):
        for number in range(100):
            tasks.start_soon(upload, client, number)
    assert sorted(stored) == ["成功录入:2条卡密"] * 99 + ["成功录入:3条卡密"]
    assert len(sandbox.keys(3)) == len(set(sandbox.keys(3))) == 201


async def test_no_socket_is_left_behind(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is being accepted when the server stops is closed with it."""
    left: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda caught: left.append(caught.exc_value))
    for _ in range(10):
        async with sandbox.serve() as url:
            port = httpx.URL(url).port or 0
            arriving = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for connection in arriving:
            connection.close()
    gc.collect()
    assert left == []


async def test_replies_are_not_held_back(no_tls: ssl.SSLContext) -> None:
    """Connections have TCP_NODELAY: or the system would hold a body back, 40 ms behind its head."""
    options = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["state"][CONNECTION_KEY].get_extra_info("socket")
        options.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await PlainTextResponse("")(scope, receive, send)

    server = LoopbackServer(application, host="127.0.0.1", port=0)
    server.start()
    server.wait()
    async with httpx.AsyncClient(verify=no_tls) as client:
        await client.get(f"http://127.0.0.1:{server.port}/")
    server.stop()
    assert options == [1]


async def test_users_loggers_are_left_alone(sandbox: Sandbox) -> None:
    """Serving changes nothing on uvicorn's loggers, which a user's own server may share."""
    logger = logging.getLogger("uvicorn.access")
    before = (logger.handlers[:], logger.propagate, logger.level)
    async with sandbox.serve():
        assert (logger.handlers, logger.propagate, logger.level) == before


async def test_no_access_log(
    sandbox: Sandbox, call: Any, no_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests leave no line in uvicorn's access log."""
    caplog.set_level("DEBUG")
    async with sandbox.serve() as url:
        await show(url, sandbox, call, no_tls)
    assert [record for record in caplog.records if record.name == "uvicorn.access"] == []


def test_a_sandbox_closes_with_its_block() -> None:
    """A sandbox is a context manager, and closing twice is closing once."""
    with Sandbox() as sandbox:
        sandbox.close()
