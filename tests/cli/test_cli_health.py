"""Tests of the health checks and metrics of ``gatepay uploads work``, also with clients that never finish."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import pytest
from durable_workspace import POLL_S, poll_often
from waiting import until

from gatepay_async.cli import health
from gatepay_async.cli.commands import uploads_work
from gatepay_async.cli.health import HealthAddress, Page, serve_health
from gatepay_async.cli.status import HaltError
from gatepay_async.cli.worker_metrics import WorkerMetrics
from gatepay_async.durable import QueueInfo, QueueUnavailableError, Submitter
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.observing import ClientFacts, Connections
from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("home")]

LOOPBACK = HealthAddress("127.0.0.1", 0)
PAGES = {"/healthz": lambda: Page("ok\n"), "/readyz": lambda: Page("not ready\n", 503)}


@pytest.fixture
def anyio_backend() -> str:
    """DBOS runs on asyncio only."""
    return "asyncio"


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The server's messages on standard error."""
    messages: list[str] = []
    monkeypatch.setattr(health, "warn", messages.append)
    return messages


def port_of(messages: list[str]) -> int:
    """Return the port in the server's first message, which contains its URL."""
    return int(messages[0].partition("http://")[2].partition("/")[0].rpartition(":")[2])


@asynccontextmanager
async def serve_pages(messages: list[str], address: HealthAddress = LOOPBACK) -> AsyncIterator[int]:
    async with serve_health(address, PAGES):
        yield port_of(messages)


async def send_request(port: int, request: bytes) -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request)
        reply = b""
        with anyio.fail_after(10):
            try:
                while True:
                    reply += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return reply


@pytest.mark.anyio
async def test_each_request_gets_its_status(warnings: list[str]) -> None:
    """A response to HEAD has no body, and an invalid request gets the status 400."""
    expected = {
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n": b"200 OK",
        b"GET /healthz?a=b HTTP/1.0\n\n": b"200 OK",
        b"GET /readyz HTTP/1.1\r\n\r\n": b"503 Service Unavailable",
        b"GET / HTTP/1.1\r\n\r\n": b"404 Not Found",
        b"POST /healthz HTTP/1.1\r\n\r\n": b"405 Method Not Allowed",
        b"PRI * HTTP/2.0\r\n\r\n": b"400 Bad Request",
        b"\x16\x03\x01\x02\n\n": b"400 Bad Request",
        b"GET /\xff HTTP/1.1\r\n\r\n": b"400 Bad Request",
        b"x" * 20_000: b"400 Bad Request",
    }
    async with serve_pages(warnings) as port:
        replies = {request: (await send_request(port, request)).partition(b"\r\n")[0] for request in expected}
        assert replies == {request: b"HTTP/1.1 " + status for request, status in expected.items()}
        head = await send_request(port, b"HEAD /healthz HTTP/1.1\r\n\r\n")
        assert head.endswith(b"Content-Length: 3\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n")
    assert len(warnings) == 1


@pytest.mark.anyio
async def test_silent_clients_are_disconnected(warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent client is disconnected after a timeout, or earlier if it is the oldest of too many clients."""
    monkeypatch.setattr(health, "_REQUEST_TIMEOUT_S", 0.2)
    async with serve_pages(warnings) as port:
        streams = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(2 * health._MAX_CLIENTS)]
        await streams[0].aclose()
        for stream in streams[1:]:
            with anyio.fail_after(10), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
            await stream.aclose()
        assert (await send_request(port, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok\n")


@pytest.mark.anyio
async def test_request_is_answered_despite_idle_connections(
    warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request gets its reply even if the maximum of clients is connected and idle."""
    monkeypatch.setattr(health, "_REQUEST_TIMEOUT_S", 60)
    async with serve_pages(warnings) as port, AsyncExitStack() as stack:
        for _ in range(health._MAX_CLIENTS):
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        assert (await send_request(port, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok\n")


@pytest.mark.anyio
async def test_405_lists_the_allowed_methods(warnings: list[str]) -> None:
    async with serve_pages(warnings) as port:
        assert b"\r\nAllow: GET, HEAD\r\n" in await send_request(port, b"POST /healthz HTTP/1.1\r\n\r\n")


@pytest.mark.anyio
async def test_failing_page_is_a_500_and_the_server_continues(
    warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PAGES, "/metrics", lambda: Page(str(1 // 0)))
    async with serve_pages(warnings) as port:
        reply = await send_request(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        with anyio.fail_after(10):
            assert (await send_request(port, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok\n")


@pytest.mark.anyio
async def test_error_in_a_connection_doesnt_end_the_server(
    warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError, such as too many open files, doesn't end the server."""
    monkeypatch.setattr(health, "_RESTART_DELAY_S", 0)
    errors = [OSError("too many open files")] * 2
    respond = health._Responder.respond

    async def fail_or_respond(self: Any, stream: Any) -> None:
        if errors:
            await stream.aclose()
            raise errors.pop()
        await respond(self, stream)

    monkeypatch.setattr(health._Responder, "respond", fail_or_respond)
    async with serve_pages(warnings) as port:
        replies = [await send_request(port, b"GET /healthz HTTP/1.1\r\n\r\n") for _ in range(3)]
    assert replies[-1].endswith(b"ok\n")


@pytest.mark.anyio
async def test_used_port_is_an_error_and_a_public_address_causes_a_warning(warnings: list[str]) -> None:
    """A port in use is an error with a remedy; an address that others can reach causes a warning."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(HaltError, match="Can't listen on port") as caught:
            async with serve_pages(warnings, HealthAddress("127.0.0.1", taken.getsockname()[1])):
                raise AssertionError
    assert "each worker on a machine needs its own" in caught.value.todo
    async with serve_pages(warnings, HealthAddress("0.0.0.0", 0)) as port:  # noqa: S104 -- the test needs a public address
        assert (await send_request(port, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok\n")
    assert "Anyone who can reach this address" in warnings[1]
    warnings.clear()
    async with serve_pages(warnings, HealthAddress("::1", 0)):
        assert warnings[0].startswith("Health and metrics: http://[::1]:")


def test_health_address_is_parsed_or_refused(gatepay: Any) -> None:
    """A port alone means 127.0.0.1."""
    addresses = {
        "9100": ("127.0.0.1", 9100),
        "localhost:1": ("127.0.0.1", 1),
        "[::1]:2": ("::1", 2),
        "10.0.0.1:3": ("10.0.0.1", 3),
    }
    for text, expected in addresses.items():
        address = HealthAddress.parse(text)
        assert (address.host, address.port) == expected
    for wrong in ("", ":1", "x", "x:1", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "::1:x", "[::1]", "-1"):
        run = gatepay("uploads", "work", f"--health={wrong}")
        assert (wrong, run.status) == (wrong, 2)
        assert "must be a port" in run.err


async def run_worker_until_sent(messages: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[int]]:
    """Return the metrics after all card keys are sent, and the statuses of /readyz."""
    statuses: list[int] = []
    unavailable = False
    queue_info = Submitter.queue

    async def queue(self: Submitter) -> QueueInfo:
        if unavailable:
            raise QueueUnavailableError(reason="gone")
        return await queue_info(self)

    monkeypatch.setattr(Submitter, "queue", queue)
    async with httpx.AsyncClient() as http, anyio.create_task_group() as group:
        group.start_soon(
            lambda: uploads_work.work(concurrency=2, global_concurrency=None, rate=None, drain=False, health=LOOPBACK)
        )
        await until(lambda: messages)
        url = f"http://127.0.0.1:{port_of(messages)}"

        async def readyz() -> int:
            return (await http.get(f"{url}/readyz")).status_code

        async def metrics() -> str:
            assert (await http.get(f"{url}/healthz")).text == "ok\n"
            return (await http.get(f"{url}/metrics")).text

        text = ""
        with anyio.fail_after(30):
            while "gatepay_queue_batches" not in text or 'card_keys_total{result="stored"} 2500' not in text:
                text = await metrics()
            while 'gatepay_queue_batches{state="running"} 0' not in text:
                text = await metrics()
            statuses.append(await readyz())
            unavailable = True
            while "gatepay_queue_batches" in await metrics():
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    return text, statuses


def test_worker_is_ready_and_counts_its_work(
    gatepay: Any, shop: Sandbox, warnings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metrics contain no card key, file name, appkey or secret."""
    poll_often(monkeypatch)
    monkeypatch.setattr(uploads_work, "_COUNT_INTERVAL_S", POLL_S)
    keys = tmp_path / "CANARY.txt"
    keys.write_text("".join(f"CANARY-{number:06d}\n" for number in range(2500)))
    assert gatepay("keys", "upload", keys, "-p", 8, "--no-wait").status == 0
    text, statuses = anyio.run(run_worker_until_sent, warnings, monkeypatch)
    assert statuses == [200]
    lines = text.splitlines()
    for line in (
        "gatepay_worker_ready 1",
        'gatepay_worker_calls_total{outcome="success"} 5',
        'gatepay_worker_batch_runs_total{result="done"} 1',
        'gatepay_worker_batch_runs_total{result="failed"} 0',
        'gatepay_queue_batches{state="waiting"} 0',
        "gatepay_queue_oldest_waiting_seconds 0",
        "# TYPE gatepay_worker_calls_total counter",
    ):
        assert line in lines
    assert "CANARY" not in text
    assert shop.appkey not in text
    assert shop.appsecret not in text


def test_metrics_count_calls_connections_and_batches() -> None:
    """Calls are counted by outcome, connections by state, batches and card keys by result."""
    metrics = WorkerMetrics()
    with metrics.submission("queue") as submitted, metrics.batch("queue", "name", submitted) as record:
        record({"stored": 1, "already_there": 2, "refused": 3, "unknown": 4, "not_sent": 5}, KeyError())
    metrics.callback("handled", None)
    with metrics.upload():
        pass
    assert "gatepay_worker_connections" not in metrics.text(ready=False)
    assert 'gatepay_worker_calls_total{outcome="failed"} 0' in metrics.text(ready=False).splitlines()
    client = metrics.client(
        ClientFacts(
            "http://127.0.0.1/", cloud_base_url=None, connections=lambda: Connections(busy=1, idle=2, waiting=3)
        )
    )
    with pytest.raises(KeyError), client.call(KaCreate(8, ["A"])):
        raise KeyError
    metrics.queue = QueueInfo(waiting=7, delayed=0, running=0, oldest_waiting=datetime(2026, 1, 1, tzinfo=UTC))
    text = metrics.text(ready=False)
    for line in (
        "gatepay_worker_ready 0",
        'gatepay_worker_calls_total{outcome="failed"} 1',
        'gatepay_worker_batch_runs_total{result="failed"} 1',
        'gatepay_worker_card_keys_total{result="already_there"} 2',
        'gatepay_worker_connections{state="busy"} 1',
        "gatepay_worker_waiting_calls 3",
        'gatepay_queue_batches{state="waiting"} 7',
    ):
        assert line in text.splitlines()
    assert "gatepay_queue_oldest_waiting_seconds 0" not in text


@pytest.mark.anyio
async def test_queue_metrics_disappear_if_the_database_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database raises no error but doesn't respond, so the numbers of the queue would be outdated."""
    monkeypatch.setattr(uploads_work, "_COUNT_INTERVAL_S", POLL_S)
    metrics = WorkerMetrics()
    replies = [QueueInfo(waiting=7, delayed=0, running=0, oldest_waiting=None)]

    class HangingSubmitter:
        async def queue(self) -> QueueInfo:
            if not replies:
                await anyio.sleep_forever()
            return replies.pop()

    async with anyio.create_task_group() as group:
        group.start_soon(uploads_work._count_queue, cast("Submitter", HangingSubmitter()), metrics)
        await until(lambda: not replies and metrics.queue is None)
        group.cancel_scope.cancel()
    assert "gatepay_queue" not in metrics.text(ready=False)
