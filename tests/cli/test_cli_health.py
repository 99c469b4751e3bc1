"""Health checks and metrics of ``gatepay uploads work``: right answers, and clients that hold up nothing."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import pytest
from durable_workspace import POLL_S, look_often
from waiting import until

from gatepay_async.cli import health
from gatepay_async.cli.commands import uploads_work
from gatepay_async.cli.health import Address, Page, serve_health
from gatepay_async.cli.status import HaltError
from gatepay_async.cli.worker_metrics import WorkerMetrics
from gatepay_async.durable import QueueInfo, QueueUnavailableError, Submitter, Worker
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.observing import ClientFacts, Connections
from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("home")]

LOOPBACK = Address("127.0.0.1", 0)
PAGES = {"/healthz": lambda: Page("ok\n"), "/readyz": lambda: Page("not ready\n", 503)}


@pytest.fixture
def anyio_backend() -> str:
    """DBOS knows no other loop."""
    return "asyncio"


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the server says on standard error."""
    said: list[str] = []
    monkeypatch.setattr(health, "warn", said.append)
    return said


def port_in(said: list[str]) -> int:
    return int(said[0].partition("http://")[2].partition("/")[0].rpartition(":")[2])


@asynccontextmanager
async def served(said: list[str], address: Address = LOOPBACK) -> AsyncIterator[int]:
    async with serve_health(address, PAGES):
        yield port_in(said)


async def ask(port: int, request: bytes) -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request)
        answer = b""
        with anyio.fail_after(10):
            try:
                while True:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return answer


@pytest.mark.anyio
async def test_what_is_answered(warned: list[str]) -> None:
    """Each path has its page, HEAD has no body, and garbage is a bad request."""
    rows = {
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
    async with served(warned) as port:
        answers = {request: (await ask(port, request)).partition(b"\r\n")[0] for request in rows}
        assert answers == {request: b"HTTP/1.1 " + status for request, status in rows.items()}
        head = await ask(port, b"HEAD /healthz HTTP/1.1\r\n\r\n")
        assert head.endswith(b"Content-Length: 3\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n")
    assert len(warned) == 1


@pytest.mark.anyio
async def test_clients_that_hang(warned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that say nothing, or leave, are sent away after a moment; if there are many, the oldest at once."""
    monkeypatch.setattr(health, "_TIMEOUT_S", 0.2)
    async with served(warned) as port:
        streams = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(2 * health._MAX_CLIENTS)]
        await streams[0].aclose()
        for stream in streams[1:]:
            with anyio.fail_after(10), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
            await stream.aclose()
        assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok\n")


@pytest.mark.anyio
async def test_idle_connections_keep_no_probe_out(warned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients are connected and say nothing, a request gets its answer."""
    monkeypatch.setattr(health, "_TIMEOUT_S", 60)
    async with served(warned) as port, AsyncExitStack() as stack:
        for _ in range(health._MAX_CLIENTS):
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok\n")


@pytest.mark.anyio
async def test_which_methods_are_allowed(warned: list[str]) -> None:
    """The refusal of another method names them."""
    async with served(warned) as port:
        assert b"\r\nAllow: GET, HEAD\r\n" in await ask(port, b"POST /healthz HTTP/1.1\r\n\r\n")


@pytest.mark.anyio
async def test_a_page_that_fails(warned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its request fails; the server answers others."""
    monkeypatch.setitem(PAGES, "/metrics", lambda: Page(str(1 // 0)))
    async with served(warned) as port:
        answer = await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        with anyio.fail_after(10):
            assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok\n")


@pytest.mark.anyio
async def test_the_system_has_no_sockets_left(warned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An error where connections are accepted doesn't end the server."""
    monkeypatch.setattr(health, "_RESTART_DELAY_S", 0)
    failing = [OSError("too many open files")] * 2
    respond = health._Responder.respond

    async def broken(self: Any, stream: Any) -> None:
        if failing:
            await stream.aclose()
            raise failing.pop()
        await respond(self, stream)

    monkeypatch.setattr(health._Responder, "respond", broken)
    async with served(warned) as port:
        answers = [await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n") for _ in range(3)]
    assert answers[-1].endswith(b"ok\n")


@pytest.mark.anyio
async def test_where_it_listens(warned: list[str]) -> None:
    """A taken port is an error that says what to do; an address that others can reach is used, with a warning."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(HaltError, match="Can't listen on port") as caught:
            async with served(warned, Address("127.0.0.1", taken.getsockname()[1])):
                raise AssertionError
    assert "each worker on a machine needs its own" in caught.value.todo
    async with served(warned, Address("0.0.0.0", 0)) as port:  # noqa: S104 -- what is tested
        assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok\n")
    assert "Anyone who can reach this address" in warned[1]
    warned.clear()
    async with served(warned, Address("::1", 0)):
        assert warned[0].startswith("Health and metrics: http://[::1]:")


def test_addresses(gatepay: Any) -> None:
    """A port alone is loopback's; what is no address is refused before anything else."""
    read = {
        "9100": ("127.0.0.1", 9100),
        "localhost:1": ("127.0.0.1", 1),
        "[::1]:2": ("::1", 2),
        "10.0.0.1:3": ("10.0.0.1", 3),
    }
    for written, expected in read.items():
        address = Address.parse(written)
        assert (address.host, address.port) == expected
    for wrong in ("", ":1", "x", "x:1", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "::1:x", "[::1]", "-1"):
        it = gatepay("uploads", "work", f"--health={wrong}")
        assert (wrong, it.status) == (wrong, 2)
        assert "must be a port" in it.err


async def work_until_sent(said: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[int]]:
    """The metrics once all is sent; the statuses of /readyz meanwhile."""
    statuses: list[int] = []
    away = False
    queue_info = Submitter.queue

    async def queue(self: Submitter) -> QueueInfo:
        if away:
            raise QueueUnavailableError(reason="gone")
        return await queue_info(self)

    monkeypatch.setattr(Submitter, "queue", queue)
    async with httpx.AsyncClient() as http, anyio.create_task_group() as group:
        group.start_soon(lambda: uploads_work.work(2, None, None, drain=False, health=LOOPBACK))
        await until(lambda: said)
        url = f"http://127.0.0.1:{port_in(said)}"

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
            away = True
            while "gatepay_queue_batches" in await metrics():
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    return text, statuses


def test_a_worker(
    gatepay: Any, shop: Sandbox, warned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is ready once it is open, and counts what it does; nothing of its shop is in the metrics."""
    look_often(monkeypatch)
    monkeypatch.setattr(uploads_work, "_COUNT_INTERVAL_S", POLL_S)
    keys = tmp_path / "CANARY.txt"
    keys.write_text("".join(f"CANARY-{number:06d}\n" for number in range(2500)))
    assert gatepay("keys", "upload", keys, "-p", 8, "--no-wait").status == 0
    text, statuses = anyio.run(work_until_sent, warned, monkeypatch)
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


def test_what_is_counted() -> None:
    """Refusals and failures are counted by outcome, connections by state, and batches by result."""
    metrics = WorkerMetrics()
    with metrics.submission("queue") as submitted, metrics.batch("queue", "name", submitted) as record:
        record({"stored": 1, "already_there": 2, "refused": 3, "unknown": 4, "not_sent": 5}, KeyError())
    metrics.callback("handled", None)
    with metrics.upload():
        pass
    assert "gatepay_worker_connections" not in metrics.text(ready=False)
    assert 'gatepay_worker_calls_total{outcome="failed"} 0' in metrics.text(ready=False).splitlines()
    client = metrics.client(ClientFacts("http://127.0.0.1/", None, lambda: Connections(1, 2, 3)))
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
    assert Worker.ready.__doc__


@pytest.mark.anyio
async def test_a_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of the queue aren't shown any more, although no error is raised."""
    monkeypatch.setattr(uploads_work, "_COUNT_INTERVAL_S", POLL_S)
    metrics = WorkerMetrics()
    answers = [QueueInfo(waiting=7, delayed=0, running=0, oldest_waiting=None)]

    class Silent:
        async def queue(self) -> QueueInfo:
            if not answers:
                await anyio.sleep_forever()
            return answers.pop()

    async with anyio.create_task_group() as group:
        group.start_soon(uploads_work._count_queue, cast("Submitter", Silent()), metrics)
        await until(lambda: not answers and metrics.queue is None)
        group.cancel_scope.cancel()
    assert "gatepay_queue" not in metrics.text(ready=False)
