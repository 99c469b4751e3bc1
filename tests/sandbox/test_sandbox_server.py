"""serve(), which runs a real server in its own thread, called from asyncio and trio."""

import asyncio
import gc
import logging
import pickle
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


def sandbox_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gatepay-sandbox")]


async def call_product_show(url: str, sandbox: Sandbox, api: Any, no_certificates: ssl.SSLContext) -> Any:
    """Call product/show at *url*. Return the code of the reply."""
    async with httpx.AsyncClient(base_url=url, verify=no_certificates) as client:
        return (await client.post("product/show", data=api.form("product/show"))).json()["code"]


async def test_serve_ends_with_its_block(sandbox: Sandbox) -> None:
    """Inside the block the URL accepts connections. After it the port is free and the thread has ended."""
    async with sandbox.serve() as url:
        port = httpx.URL(url).port
        assert url == f"http://127.0.0.1:{port}/api/"
        with socket.create_connection(("127.0.0.1", port)):
            assert f"gatepay-sandbox-{port}" in sandbox_threads()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass
    assert f"gatepay-sandbox-{port}" not in sandbox_threads()


async def test_server_works_while_callers_loop_is_blocked(
    sandbox: Sandbox, api: Any, no_certificates: ssl.SSLContext
) -> None:
    """The server replies while the caller's event loop is blocked."""
    async with sandbox.serve() as url:
        with httpx.Client(base_url=url, verify=no_certificates) as blocking:
            reply = blocking.post("product/show", data=api.form("product/show"))  # noqa: ASYNC212 -- on purpose
    assert reply.json()["code"] == 100


async def test_sandbox_can_be_served_on_two_ports(sandbox: Sandbox, api: Any, no_certificates: ssl.SSLContext) -> None:
    """A sandbox can be served on two ports at the same time, with one database."""
    async with sandbox.serve() as first, sandbox.serve() as second:
        assert first != second
        assert [await call_product_show(url, sandbox, api, no_certificates) for url in (first, second)] == [100, 100]
    assert len(sandbox.requests) == 2


async def test_port_can_be_reused_immediately(sandbox: Sandbox, api: Any, no_certificates: ssl.SSLContext) -> None:
    """A port can be served again immediately after the server stopped."""
    async with sandbox.serve() as url:
        await call_product_show(url, sandbox, api, no_certificates)
    async with sandbox.serve(port=httpx.URL(url).port or 0) as second_url:
        assert second_url == url
        assert await call_product_show(url, sandbox, api, no_certificates) == 100


async def test_taken_port_raises_port_taken_error(sandbox: Sandbox) -> None:
    """A port that is in use raises PortTakenError with the port, and leaves no thread."""
    before = sandbox_threads()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            PortTakenError, match=rf"can't listen on port {port} of 127\.0\.0\.1 \(.*in use.*\)"
        ) as caught:
            async with sandbox.serve(port=port):
                pytest.fail("serve() must not start")
    restored = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 -- pickled in this test
    assert (restored.port, str(restored)) == (port, str(caught.value))
    assert sandbox_threads() == before


async def test_server_stops_despite_idle_connections(
    sandbox: Sandbox, api: Any, no_certificates: ssl.SSLContext
) -> None:
    """An idle keep-alive connection doesn't delay the server's end."""
    async with httpx.AsyncClient(verify=no_certificates) as client:
        async with sandbox.serve() as url:
            await client.post(url + "product/show", data=api.form("product/show"))
            stop_began = time.monotonic()
        assert time.monotonic() - stop_began < 5
        with pytest.raises(httpx.ConnectError):
            await client.post(url + "product/show", data=api.form("product/show"))


@pytest.mark.parametrize("kind", [FaultKind.SLOW, FaultKind.DRIP])
async def test_server_stops_despite_a_hanging_request(
    kind: FaultKind, sandbox: Sandbox, api: Any, no_certificates: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that a slow fault delays is aborted immediately, and nothing is logged."""
    sandbox.fault(Fault(kind, seconds=600))
    errors = []

    async def send_hanging_request(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, verify=no_certificates, timeout=60) as client:
            try:
                await client.post("pay/create", data=api.form("pay/create"))
            except (httpx.RemoteProtocolError, httpx.ReadError) as error:
                errors.append(error)

    async with anyio.create_task_group() as tasks:
        async with sandbox.serve() as url:
            tasks.start_soon(send_hanging_request, url)
            await until(sandbox.orders)
            stop_began = time.monotonic()
        assert time.monotonic() - stop_began < 5
    assert len(errors) == 1
    assert [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")] == []


async def test_server_stops_when_the_block_raises(sandbox: Sandbox) -> None:
    """An exception in the block is propagated, and the server stops."""
    before = sandbox_threads()
    with pytest.raises(KeyError, match="mine"):
        async with sandbox.serve():
            raise KeyError("mine")
    assert sandbox_threads() == before


async def test_server_stops_when_the_block_is_cancelled(sandbox: Sandbox) -> None:
    """If the block of serve() is cancelled, the server stops."""
    before = sandbox_threads()
    with anyio.CancelScope() as scope:
        async with sandbox.serve():
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert sandbox_threads() == before


async def test_scope_cancelled_before_start_leaves_no_server(sandbox: Sandbox) -> None:
    """A scope that is cancelled before the server accepts connections leaves no server."""
    before = sandbox_threads()
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with sandbox.serve():
            pytest.fail("serve() must not start")
    assert scope.cancelled_caught
    assert sandbox_threads() == before


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_task_cancelled_before_start_leaves_no_server(sandbox: Sandbox) -> None:
    """A task cancelled with asyncio's own cancel() before the server accepts connections leaves no server."""
    before = sandbox_threads()

    async def serve() -> None:
        async with sandbox.serve():
            pytest.fail("serve() must not start")

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sandbox_threads() == before


async def test_failed_start_raises_runtime_error(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server's thread dies before it accepts connections, the caller gets an error immediately."""
    thread_errors = []
    monkeypatch.setattr(threading, "excepthook", lambda args: thread_errors.append(args.exc_type))

    async def fail(*_args: Any, **_kwargs: Any) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr("uvicorn.Server.startup", fail)
    before = sandbox_threads()
    with anyio.fail_after(PATIENCE), pytest.raises(RuntimeError, match="could not start"):
        async with sandbox.serve():
            pytest.fail("serve() must not start")
    assert thread_errors == [OSError]
    assert sandbox_threads() == before


async def test_concurrent_uploads_store_each_key_once(
    sandbox: Sandbox, api: Any, no_certificates: ssl.SSLContext
) -> None:
    """A hundred concurrent uploads store each key once."""
    messages = []

    async def upload(client: httpx.AsyncClient, number: int) -> None:
        form = api.form("ka/create", sandbox.shops[1], product_id="3", content=f"A{number}\nB{number}\nSAME")
        messages.append((await client.post("ka/create", data=form)).json()["data"])

    async with (
        sandbox.serve() as url,
        httpx.AsyncClient(base_url=url, verify=no_certificates) as client,
        anyio.create_task_group() as tasks,
    ):
        for number in range(100):
            tasks.start_soon(upload, client, number)
    assert sorted(messages) == ["成功录入:2条卡密"] * 99 + ["成功录入:3条卡密"]
    assert len(sandbox.keys(3)) == len(set(sandbox.keys(3))) == 201


async def test_connections_being_accepted_are_closed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is being accepted when the server stops is closed."""
    warnings: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: warnings.append(unraisable.exc_value))
    for _ in range(10):
        async with sandbox.serve() as url:
            port = httpx.URL(url).port or 0
            connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for connection in connections:
            connection.close()
    gc.collect()
    assert warnings == []


async def test_connections_have_tcp_nodelay(no_certificates: ssl.SSLContext) -> None:
    """Without TCP_NODELAY, the system may send a body 40 ms after its headers."""
    options = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["state"][CONNECTION_KEY].get_extra_info("socket")
        options.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await PlainTextResponse("")(scope, receive, send)

    server = LoopbackServer(application, host="127.0.0.1", port=0)
    server.start()
    server.wait()
    async with httpx.AsyncClient(verify=no_certificates) as client:
        await client.get(f"http://127.0.0.1:{server.port}/")
    server.stop()
    assert options == [1]


async def test_uvicorns_loggers_are_unchanged(sandbox: Sandbox) -> None:
    """Serving doesn't change uvicorn's loggers, which a user's own server may share."""
    logger = logging.getLogger("uvicorn.access")
    before = (logger.handlers[:], logger.propagate, logger.level)
    async with sandbox.serve():
        assert (logger.handlers, logger.propagate, logger.level) == before


async def test_requests_are_not_in_the_access_log(
    sandbox: Sandbox, api: Any, no_certificates: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests add no lines to uvicorn's access log."""
    caplog.set_level("DEBUG")
    async with sandbox.serve() as url:
        await call_product_show(url, sandbox, api, no_certificates)
    assert [record for record in caplog.records if record.name == "uvicorn.access"] == []


def test_sandbox_can_be_closed_twice() -> None:
    """A sandbox is a context manager, and closing it again does nothing."""
    with Sandbox() as sandbox:
        sandbox.close()
