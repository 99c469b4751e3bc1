"""OriginPool over real sockets on loopback, on asyncio and trio."""

import asyncio
import gc
import pickle
import random
import ssl
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpcore
import httpx
import pytest
import respx
import trustme
from anyio.abc import ByteStream, SocketAttribute, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener
from waiting import PATIENCE

from gatepay_async import InvalidArgumentError
from gatepay_async.pool import OriginPool, PoolClosedError
from gatepay_async.pool.over_httpcore import TRANSLATIONS
from gatepay_async.pool.port import Head, NotAvailableError, TooLateError
from gatepay_async.pool.stream import MAX_COLLECTED_BYTES
from gatepay_async.pool.transport import MAX_EXPIRED_CLOSED_PER_CALL

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

T = TypeVar("T")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


# --- The server -------------------------------------------------------------------------------------------


class Server:
    """
    A raw HTTP/1.1 server. The body of a reply is the number of the connection, counted from 1.

    Replies by path: `/` replies at once; `/hold` replies once `gate` is set; `/last` replies with `connection: close`;
    `/half` sends half a body and waits for `gate`; `/stop` sends half a body and closes; `/mute` closes without a
    reply; `/noise` sends bytes that are not HTTP; `/long` sends a body of 1 MB; `/parts` sends a chunked body, and
    waits for `gate` before its end.
    """

    def __init__(self) -> None:
        self.url = ""
        self.accepted = 0
        self.targets: list[str] = []
        self.bodies: list[bytes] = []
        self.open: dict[int, ByteStream] = {}
        self.peak = 0
        self.gate = anyio.Event()
        self.changed = anyio.Event()

    def notify(self) -> None:
        """Let `wait_until` evaluate its condition again."""
        self.changed.set()
        self.changed = anyio.Event()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* is true. It is evaluated again after each connection, request and disconnection."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self.changed.wait()

    async def close_all(self) -> None:
        """Close every connection."""
        for stream in list(self.open.values()):
            await stream.aclose()

    async def handle(self, stream: ByteStream) -> None:
        self.accepted += 1
        number = self.accepted
        self.open[number] = stream
        self.peak = max(self.peak, len(self.open))
        self.notify()
        try:
            async with stream:
                await self.handle_requests(BufferedByteReceiveStream(stream), stream, number)
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the client has closed the connection, or `close_all()` has
        finally:
            del self.open[number]
            self.notify()

    async def handle_requests(self, receive: BufferedByteReceiveStream, stream: ByteStream, number: int) -> None:
        while True:
            head = (await receive.receive_until(b"\r\n\r\n", 65536)).decode().split("\r\n")
            headers = dict(line.lower().split(": ") for line in head[1:])
            if "chunked" in headers.get("transfer-encoding", ""):
                self.bodies.append(await receive.receive_until(b"0\r\n\r\n", 1 << 20))
            else:
                self.bodies.append(await receive.receive_exactly(int(headers.get("content-length", 0))))
            target = head[0].split()[1]
            self.targets.append(target)
            self.notify()
            if not await self.reply(stream, target, str(number).encode()):
                return

    async def reply(self, stream: ByteStream, target: str, body: bytes) -> bool:
        """Reply to a request for *target*. Return whether the connection stays open."""
        if target == "/hold":
            await self.gate.wait()
        if target in {"/half", "/stop"}:
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234")
            if target == "/half":
                await self.gate.wait()
            return False
        if target == "/mute":
            return False
        if target == "/noise":
            await stream.send(b"\x00\x01\x02\r\n\r\n")
            return False
        if target == "/parts":
            await stream.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 3)
            await self.gate.wait()
        if target == "/long":
            body = b"x" * 1_000_000
        close = b"connection: close\r\n" if target == "/last" else b""
        await stream.send(b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (close, len(body), body))
        return not close


async def serve(server: Server, context: ssl.SSLContext | None, *, task_status: TaskStatus[None]) -> None:
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=2048)
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- anyio's extra(), not Django's
    if context is not None:
        listener = TLSListener(listener, context, standard_compatible=False)
    server.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    async with listener:
        task_status.started()
        await listener.serve(server.handle)


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: serve(server, context, task_status=task_status))
        with anyio.fail_after(PATIENCE):
            yield server
        group.cancel_scope.cancel()


# --- The client --------------------------------------------------------------------------------------------


class Clock:
    """A clock that stands still unless a test changes `now`."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def request_for(server: Server, target: str = "/", content: Any = b"", **extensions: Any) -> httpx.Request:
    return httpx.Request("POST", server.url + target, content=content, extensions=extensions)


async def call(pool: OriginPool, server: Server, target: str = "/", **extensions: Any) -> str:
    """Post to *target* and return the body of the reply."""
    response = await pool.handle_async_request(request_for(server, target, **extensions))
    try:
        return (await response.aread()).decode()
    finally:
        await response.aclose()


def state(pool: OriginPool) -> tuple[int, int, int]:
    """Return the numbers of busy slots, idle slots and waiting callers."""
    return pool._slots.busy, pool._slots.idle, pool._slots.waiting


async def test_sequential_calls_share_one_connection() -> None:
    async with serving() as server, OriginPool(server.url) as pool:
        assert [await call(pool, server) for _ in range(3)] == ["1", "1", "1"]
        assert state(pool) == (0, 1, 0)
        assert repr(pool) == f"<OriginPool {server.url}: 0 busy, 1 idle, limit 100; 0 waiting>"


async def test_httpx_client_uses_and_closes_the_pool() -> None:
    """An httpx client sends requests over the pool, and closes the pool with itself."""
    async with serving() as server:
        pool = OriginPool(server.url)
        async with httpx.AsyncClient(transport=pool, base_url=server.url) as client:
            response = await client.post("/", content=b"hello")
            assert (response.text, server.bodies) == ("1", [b"hello"])
            assert response.http_version == "HTTP/1.1"
            peer = response.extensions["network_stream"].get_extra_info("server_addr")
            assert f"http://{peer[0]}:{peer[1]}" == server.url
        assert state(pool) == (0, 0, 0)
        assert repr(pool).endswith("closed>")
        await server.wait_until(lambda: not server.open)


async def test_most_recently_used_connection_is_used_next() -> None:
    async with serving() as server, OriginPool(server.url) as pool:
        first, second = [await pool.handle_async_request(request_for(server)) for _ in range(2)]
        await second.aread()
        await first.aread()
        assert state(pool) == (0, 2, 0)
        assert [await call(pool, server) for _ in range(3)] == ["1", "1", "1"]


async def test_waiting_callers_are_served_in_order() -> None:
    order: list[int] = []
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        held_response = await pool.handle_async_request(request_for(server))

        async def caller(number: int) -> None:
            await call(pool, server, on_turn=lambda: order.append(number))

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(caller, number)
                await anyio.wait_all_tasks_blocked()
            assert state(pool) == (1, 0, 10)
            await held_response.aread()
        assert order == list(range(10))
        assert server.accepted == 1


async def test_many_concurrent_calls_respect_the_limit() -> None:
    """400 concurrent calls are all answered, over no more than ``max_connections`` connections."""
    async with serving() as server, OriginPool(server.url, max_connections=20) as pool:
        bodies: list[str] = []

        async def caller() -> None:
            bodies.append(await call(pool, server))

        async with anyio.create_task_group() as group:
            for _ in range(400):
                group.start_soon(caller)
        assert len(bodies) == 400
        assert (server.accepted, server.peak) == (20, 20)
        assert state(pool) == (0, 20, 0)


async def test_expired_connection_is_closed_and_not_reused() -> None:
    clock = Clock()
    async with serving() as server, OriginPool(server.url, keepalive_expiry=timedelta(seconds=15), clock=clock) as pool:
        await call(pool, server)
        clock.now += 14.9
        assert await call(pool, server) == "1"
        clock.now += 15
        assert await call(pool, server) == "2"
        await server.wait_until(lambda: list(server.open) == [2])


async def test_each_call_closes_a_few_expired_connections() -> None:
    """After a burst, no expired connection is reused. Each call closes only a few of them, so that it isn't slow."""
    clock = Clock()
    burst = 3 * MAX_EXPIRED_CLOSED_PER_CALL
    async with serving() as server, OriginPool(server.url, clock=clock) as pool:
        responses = [await pool.handle_async_request(request_for(server)) for _ in range(burst)]
        for response in responses:
            await response.aread()
        clock.now += 15  # the default keepalive_expiry, in seconds
        assert await call(pool, server) == str(burst + 1)
        assert state(pool) == (0, burst - MAX_EXPIRED_CLOSED_PER_CALL, 0)
        await call(pool, server)
        await call(pool, server)
        assert state(pool) == (0, 1, 0)
        await server.wait_until(lambda: list(server.open) == [burst + 1])


async def test_connection_closed_by_server_is_replaced_before_writing() -> None:
    """If the server has closed an idle connection, the pool notices that before it writes, and opens another."""
    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server)
        await server.close_all()
        await server.wait_until(lambda: not server.open)
        assert await call(pool, server) == "2"
        assert server.targets == ["/", "/"]
        assert state(pool) == (0, 1, 0)


async def test_connection_close_in_reply_prevents_reuse() -> None:
    async with serving() as server, OriginPool(server.url) as pool:
        assert [await call(pool, server, "/last"), await call(pool, server)] == ["1", "2"]
        assert state(pool) == (0, 1, 0)


async def test_unavailable_connection_is_replaced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a reused connection can't be used, a new one is opened. If that can't be used either, the call fails."""
    real = httpcore.AsyncHTTPConnection.handle_async_request
    refusals = 0

    async def handle(self: httpcore.AsyncHTTPConnection, request: httpcore.Request) -> httpcore.Response:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise httpcore.ConnectionNotAvailable
        return await real(self, request)

    monkeypatch.setattr(httpcore.AsyncHTTPConnection, "handle_async_request", handle)
    async with serving() as server, OriginPool(server.url) as pool:
        assert await call(pool, server) == "1"
        refusals = 1
        assert await call(pool, server) == "2"
        # The new connection can't be used either. Nothing was sent.
        refusals = 2
        with pytest.raises(httpx.ConnectError):
            await call(pool, server)
        assert server.targets == ["/", "/"]
        assert state(pool) == (0, 0, 0)


async def test_streamed_body_is_not_sent_on_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that can be read only once is not retried on another connection: part of it may have been read."""

    async def refuse(*_: object, **__: object) -> Head:
        raise NotAvailableError("busy", body_unread=False)

    async def stream() -> AsyncIterator[bytes]:
        yield b"a"

    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server)
        monkeypatch.setattr(type(next(iter(pool._slots._idle)).connection), "send", refuse)
        with pytest.raises(httpx.ConnectError):
            await pool.handle_async_request(httpx.Request("POST", server.url, content=stream()))
        assert server.targets == ["/"]
        assert state(pool)[0] == 0


@pytest.mark.without_coverage
@pytest.mark.parametrize("target", ["/mute", "/noise", "/stop"])
async def test_sent_request_is_not_retried(target: str) -> None:
    """A request that was sent is not sent again after a missing, invalid or incomplete reply. Its slot is released."""
    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server)
        with pytest.raises(httpx.RemoteProtocolError):
            await call(pool, server, target)
        assert server.targets == ["/", target]
        assert state(pool) == (0, 0, 0)


async def test_read_timeout_raises_and_releases_the_slot() -> None:
    async with serving() as server, OriginPool(server.url) as pool:
        with pytest.raises(httpx.ReadTimeout, match=r"0\.01"):
            await call(pool, server, "/hold", timeout={"connect": 5, "write": 5, "read": 0.01})
        assert state(pool) == (0, 0, 0)
        assert await call(pool, server, timeout={"connect": 5, "write": 5, "read": 5, "pool": 5}) == "2"


async def test_waiting_too_long_for_a_connection_raises_pool_timeout() -> None:
    """A caller that waits longer than the pool time-out gets PoolTimeout and leaves the queue."""
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        held_response = await pool.handle_async_request(request_for(server))
        with pytest.raises(httpx.PoolTimeout, match="nothing was sent"):
            await call(pool, server, timeout={"pool": 0.01})
        assert state(pool) == (1, 0, 0)
        await held_response.aread()
        assert await call(pool, server, timeout={"pool": 0.01}) == "1"


async def test_wait_turn_and_send_hooks_are_each_called_once() -> None:
    """If a call waits, its `on_wait`, `on_turn` and `on_send` are called once each. Another call doesn't call them."""
    events: list[str] = []

    def record(event: str) -> Callable[[], None]:
        return lambda: events.append(event)

    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        held_response = await pool.handle_async_request(request_for(server))

        async def caller() -> None:
            await call(pool, server, on_wait=record("wait"), on_turn=record("turn"), on_send=record("send"))

        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            assert (events, state(pool)) == (["wait"], (1, 0, 1))
            await held_response.aread()
        assert events == ["wait", "turn", "send"]
        # This call has no hooks, on the same connection.
        await call(pool, server)
        assert events == ["wait", "turn", "send"]
        await caller()  # needs no wait
        assert events == ["wait", "turn", "send", "send"]


async def test_connection_refused_raises_connect_error() -> None:
    """If no server listens, the call raises ConnectError with the system's message, and on_send is not called."""
    events: list[str] = []
    async with serving() as server:
        pass
    async with OriginPool(server.url) as pool:
        with pytest.raises(httpx.ConnectError, match=r"Errno|refused"):
            await call(pool, server, on_send=lambda: events.append("send"))
        assert events == []
        assert state(pool) == (0, 0, 0)


@pytest.mark.parametrize("extension", ["on_wait", "on_turn"])
async def test_exception_in_a_hook_fails_the_call_and_frees_the_slot(extension: str) -> None:
    """If `on_wait` or `on_turn` raises, the call raises that exception and its slot is released."""

    def fail() -> None:
        raise ZeroDivisionError

    extensions: dict[str, Any] = {extension: fail}
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        held_response = await pool.handle_async_request(request_for(server))

        async def caller() -> None:
            with pytest.raises(ZeroDivisionError):
                await call(pool, server, **extensions)

        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            await held_response.aread()
        assert state(pool) == (0, 1, 0)
        assert await call(pool, server) == "1"


async def test_trace_extension_gets_httpcores_events() -> None:
    event_names: list[str] = []

    async def trace(name: str, info: dict[str, Any]) -> None:
        event_names.append(name)

    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server, trace=trace)
    assert event_names[:2] == ["connection.connect_tcp.started", "connection.connect_tcp.complete"]
    assert event_names[-1] == "http11.response_closed.complete"


@pytest.mark.parametrize(("target", "first_part"), [("/half", b"01234"), ("/parts", b"x")])
async def test_closing_a_half_read_response_closes_its_connection(target: str, first_part: bytes) -> None:
    """Closing a half-read response releases its slot and closes its connection."""
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        response = await pool.handle_async_request(request_for(server, target))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert await anext(aiter(response.stream)) == first_part
        await response.aclose()
        assert state(pool) == (0, 0, 0)
        assert await call(pool, server) == "2"


async def test_closing_an_unread_response_twice_releases_the_slot_once() -> None:
    """Closing an unread response closes its connection. Closing it again does nothing."""
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        response = await pool.handle_async_request(request_for(server))
        await response.aclose()
        await response.aclose()
        assert state(pool) == (0, 0, 0)
        assert await call(pool, server) == "2"


async def test_failed_or_cancelled_read_releases_the_slot() -> None:
    """If reading a body fails or is cancelled, the slot is released even if nobody closes the response."""
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        response = await pool.handle_async_request(request_for(server, "/stop"))
        with pytest.raises(httpx.RemoteProtocolError):
            await response.aread()
        assert state(pool) == (0, 0, 0)
        response = await pool.handle_async_request(request_for(server, "/half"))
        async with anyio.create_task_group() as group:
            group.start_soon(response.aread)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert state(pool) == (0, 0, 0)
        assert await call(pool, server) == "3"


async def test_closing_a_response_ends_a_concurrent_read() -> None:
    """If one task closes a response while another reads it, the read fails and the slot is released once."""
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        response = await pool.handle_async_request(request_for(server, "/half"))

        async def reader() -> None:
            with pytest.raises(httpx.ReadError):
                await response.aread()

        async with anyio.create_task_group() as group:
            group.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            assert isinstance(response.stream, httpx.AsyncByteStream)
            await response.stream.aclose()
        assert state(pool) == (0, 0, 0)


async def test_response_read_to_the_end_needs_no_closing() -> None:
    """Reading to the end releases the slot. Iterating again yields nothing."""
    async with serving() as server, OriginPool(server.url) as pool:
        response = await pool.handle_async_request(request_for(server, "/long"))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert sum([len(part) async for part in response.stream]) == 1_000_000
        assert state(pool) == (0, 1, 0)
        assert [part async for part in response.stream] == []


async def test_long_request_body_arrives_completely() -> None:
    """A body longer than the write buffer arrives completely, whether it is bytes or a stream."""
    body = random.Random(1).randbytes(3 * MAX_COLLECTED_BYTES)  # noqa: S311 -- reproducible, not secret

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async with serving() as server, OriginPool(server.url) as pool:
        for content in (body, parts()):
            response = await pool.handle_async_request(request_for(server, content=content))
            await response.aread()
        # httpx builds a redirected request like this: explicit headers and a ByteStream.
        request = httpx.Request(
            "POST", server.url, headers={"host": "x", "content-length": "5"}, stream=httpx.ByteStream(b"again")
        )
        await (await pool.handle_async_request(request)).aread()
        whole, chunked, again = server.bodies
        assert (whole, again) == (body, b"again")
        assert len(chunked) > len(body)
        assert state(pool) == (0, 1, 0)


async def test_unix_socket_connects(socket_path: Path) -> None:
    """A pool connects to a Unix socket. If nothing listens there, the call raises ConnectError."""
    server = Server()
    listener = await anyio.create_unix_listener(socket_path)
    server.url = "http://gatepay.example"
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.handle)
        async with OriginPool(server.url, uds=socket_path) as pool:
            opened: list[bool] = []
            assert await call(pool, server, on_connect=lambda: opened.append(True)) == await call(pool, server) == "1"
            assert opened == [True]
        async with OriginPool(server.url, uds=f"{socket_path}-none") as pool:
            with pytest.raises(httpx.ConnectError, match="No such file"):
                await call(pool, server)
        group.cancel_scope.cancel()


# --- TLS ---------------------------------------------------------------------------------------------------


def tls_contexts(authority: trustme.CA, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return TLS contexts for a server called *name* and for a client that trusts *authority*."""
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(server_context)
    client_context = ssl.create_default_context(
        cadata=authority.cert_pem.bytes().decode()
    )  # not the system's authorities: reading them is slow
    return server_context, client_context


async def test_tls_connections_are_reused_and_replaced(authority: trustme.CA) -> None:
    """Over TLS, connections are reused; one that the server has closed is replaced."""
    server_context, client_context = tls_contexts(authority)
    async with serving(server_context) as server, OriginPool(server.url, ssl_context=client_context) as pool:
        assert [await call(pool, server), await call(pool, server)] == ["1", "1"]
        await server.close_all()
        await server.wait_until(lambda: not server.open)
        response = await pool.handle_async_request(request_for(server))
        assert response.extensions["network_stream"].get_extra_info("ssl_object") is not None
        assert await response.aread() == b"2"


async def test_certificate_for_another_host_raises_connect_error(authority: trustme.CA) -> None:
    """A certificate for another host raises ConnectError and releases the slot."""
    server_context, client_context = tls_contexts(authority, "gatepay.example")
    async with serving(server_context) as server, OriginPool(server.url, ssl_context=client_context) as pool:
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await call(pool, server)
        assert state(pool) == (0, 0, 0)
        await server.wait_until(lambda: not server.open)


async def test_default_tls_context_is_created_once_in_a_thread(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``ssl_context``, httpx's default is created for the first connection, once, in a worker thread."""
    server_context, client_context = tls_contexts(authority)
    created_in: list[str] = []

    def create_ssl_context() -> ssl.SSLContext:
        created_in.append(anyio.from_thread.run_sync(lambda: "from a worker thread"))
        return client_context

    monkeypatch.setattr(httpx, "create_ssl_context", create_ssl_context)
    async with serving(server_context) as server, OriginPool(server.url) as pool:
        assert created_in == []
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call, pool, server)
        assert created_in == ["from a worker thread"]


# --- Invalid arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://127.0.0.2:8000/", "https://127.0.0.1:8000/", "http://127.0.0.1/", "ftp://127.0.0.1/"]
)
async def test_request_to_another_origin_is_rejected(url: str) -> None:
    """A request to another origin raises UnsupportedProtocol, and takes no slot."""
    async with OriginPool("http://127.0.0.1:8000/api") as pool:
        with pytest.raises(httpx.UnsupportedProtocol):
            await pool.handle_async_request(httpx.Request("GET", url))
        assert state(pool) == (0, 0, 0)


async def test_default_port_may_be_omitted() -> None:
    """A URL with the scheme's default port belongs to the same origin as a URL without a port."""
    pool = OriginPool("https://gatepay.example")
    assert pool._from_httpx(httpx.Request("GET", "https://gatepay.example:443/")).target == b"/"


async def test_synchronous_body_is_rejected() -> None:
    """A body that can only be read synchronously raises InvalidArgumentError before anything is sent."""
    request = httpx.Request("POST", "http://127.0.0.1/", content=iter([b"part"]))
    async with OriginPool("http://127.0.0.1") as pool:
        with pytest.raises(InvalidArgumentError, match="synchronously"):
            await pool.handle_async_request(request)


def test_every_httpcore_error_has_a_translation() -> None:
    """Each error of httpcore has an httpx error of the same name, and subclasses come before their base classes."""
    errors = {value for value in vars(httpcore).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert set(TRANSLATIONS) == errors
    for httpcore_error, httpx_error in TRANSLATIONS.items():
        # httpx has no ConnectionNotAvailable.
        assert httpcore_error is httpcore.ConnectionNotAvailable or httpcore_error.__name__ == httpx_error.__name__
    in_order = list(TRANSLATIONS)
    assert all(not issubclass(later, earlier) for i, earlier in enumerate(in_order) for later in in_order[i + 1 :])


# --- Closing -----------------------------------------------------------------------------------------------


async def test_closing_ends_waiting_calls_and_lets_running_ones_finish() -> None:
    """Closing the pool fails the waiting calls. Running calls finish, then all connections are closed."""
    errors: list[Exception] = []
    async with serving() as server:
        pool = OriginPool(server.url, max_connections=2)
        held_response, read_response = [await pool.handle_async_request(request_for(server)) for _ in range(2)]
        await read_response.aread()
        reused_response = await pool.handle_async_request(request_for(server))

        async def caller() -> None:
            with pytest.raises(PoolClosedError, match="nothing was sent") as caught:
                await call(pool, server)
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            await pool.aclose()
            await pool.aclose()
        assert len(errors) == 3
        assert state(pool) == (2, 0, 0)
        assert [await held_response.aread(), await reused_response.aread()] == [b"1", b"2"]
        assert state(pool) == (0, 0, 0)
        with pytest.raises(httpx.ConnectError, match="closed"):
            await call(pool, server)
        assert len(server.targets) == 3
        await server.wait_until(lambda: not server.open)


async def test_caller_with_a_slot_sends_nothing_if_the_pool_closes_first() -> None:
    """A caller that got a slot, but whose pool closes before it wakes up, sends nothing and releases the slot."""
    async with serving() as server:
        pool = OriginPool(server.url, max_connections=1)
        held_response = await pool.handle_async_request(request_for(server))
        async with anyio.create_task_group() as group:

            async def caller() -> None:
                with pytest.raises(PoolClosedError):
                    await call(pool, server)

            group.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            ticket = next(iter(pool._slots._waiting))
            # When the slot is handed to the caller, close the pool first, and wake the caller afterwards.
            wake, ticket.wake = ticket.wake, pool._slots.close
            await held_response.aread()
            wake()
        assert state(pool) == (0, 0, 0)
        assert server.targets == ["/"]
        await server.wait_until(lambda: not server.open)


# --- respx -------------------------------------------------------------------------------------------------


async def test_respx_answers_without_opening_a_connection() -> None:
    """Under ``respx.mock``, requests get the mocked replies and no connection is opened."""
    async with OriginPool("https://gatepay.example", max_connections=1) as pool:
        with respx.mock(base_url="https://gatepay.example") as router:
            route = router.post("/pay/create").respond(json={"code": 100})
            router.post("/ka/show").mock(side_effect=httpx.ReadTimeout)
            router.post("/nothing").respond(200)
            async with httpx.AsyncClient(transport=pool) as client:
                for _ in range(2):
                    response = await client.post("https://gatepay.example/pay/create", data={"product_id": "8"})
                    assert response.json() == {"code": 100}
                with pytest.raises(httpx.ReadTimeout):
                    await client.post("https://gatepay.example/ka/show")
                assert (await client.post("https://gatepay.example/nothing")).content == b""
                assert route.calls.last.request.content == b"product_id=8"
                assert state(pool) == (0, 0, 0)


async def test_respx_does_not_use_an_open_connection() -> None:
    """Under ``respx.mock``, an open idle connection is not used, and is reused after the mock ends."""
    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server)
        with respx.mock as router:
            router.post(server.url + "/").respond(text="mocked")
            assert await call(pool, server) == "mocked"
        assert await call(pool, server) == "1"
        assert len(server.targets) == 2


# --- Cancellation ------------------------------------------------------------------------------------------


@types.coroutine
def run_and_cancel_at(
    work: Coroutine[Any, Any, T], wait_number: int, cancel: Callable[[], object]
) -> Generator[Any, Any, T]:
    """Run *work*, and call *cancel* when it suspends for the *wait_number*-th time, counted from 1."""
    send: Callable[[Any], Any] = work.send
    value: Any = None
    wait_count = 0
    while True:
        try:
            waiting_for = send(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration is Any's
        wait_count += 1
        if wait_count == wait_number:
            cancel()
        try:
            value = yield waiting_for
            send = work.send
        except BaseException as error:  # noqa: BLE001 -- every exception is passed on to *work*
            value, send = error, work.throw


async def cancel_by_scope(work: Coroutine[Any, Any, None], wait_number: int) -> bool:
    """Cancel *work* with a cancel scope at its *wait_number*-th wait. Return whether it waited that often."""
    with anyio.CancelScope() as scope:
        await run_and_cancel_at(work, wait_number, scope.cancel)
    return scope.cancel_called


async def cancel_by_task(work: Coroutine[Any, Any, None], wait_number: int) -> bool:
    """Cancel *work* as ``asyncio.timeout()`` does, ignoring anyio's shields. Return whether it waited that often."""
    cancelled: list[bool] = []

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        await run_and_cancel_at(work, wait_number, lambda: cancelled.append(task.cancel()))

    await asyncio.wait({asyncio.create_task(run())})
    return bool(cancelled)


Cancel = Callable[[Coroutine[Any, Any, None], int], Awaitable[bool]]

with_each_kind_of_cancellation = pytest.mark.parametrize(
    ("anyio_backend", "cancel"),
    [("asyncio", cancel_by_scope), ("asyncio", cancel_by_task), ("trio", cancel_by_scope)],
    ids=["asyncio-scope", "asyncio-task", "trio-scope"],
)


# Each of the next functions prepares a situation, and returns the coroutine to cancel.


async def new_connection(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    """Make the first call of the pool."""
    return call_tolerating_broken_replies(pool, server)


async def reused_connection(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    """Make a call on an idle connection."""
    await call(pool, server)
    return call_tolerating_broken_replies(pool, server)


async def replaced_connection(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    """Make a call after the server has closed the idle connection."""
    await call(pool, server)
    await server.close_all()
    await server.wait_until(lambda: not server.open)
    return call_tolerating_broken_replies(pool, server)


async def long_reply(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    """Make a call whose reply arrives in many parts."""
    return call_tolerating_broken_replies(pool, server, "/long")


async def missing_reply(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    """Make a call to which the server doesn't reply."""
    return call_tolerating_broken_replies(pool, server, "/mute")


async def unread_response(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    """Close a response that was not read."""
    response = await pool.handle_async_request(request_for(server))
    return response.aclose()


async def expired_connections(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    """Make a call when three idle connections have expired."""
    for response in [await pool.handle_async_request(request_for(server)) for _ in range(3)]:
        await response.aread()
    clock = pool._clock
    assert isinstance(clock, Clock)
    clock.now += 100
    return call_tolerating_broken_replies(pool, server)


async def close_pool(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    """Close a pool with three idle connections."""
    for response in [await pool.handle_async_request(request_for(server)) for _ in range(3)]:
        await response.aread()
    return pool.aclose()


async def wait_until_only_idle_are_open(pool: OriginPool, server: Server) -> None:
    """Wait until the server's open connections are exactly the pool's idle ones. If a socket leaked, this times out."""
    await server.wait_until(lambda: len(server.open) == pool._slots.idle)


async def call_tolerating_broken_replies(pool: OriginPool, server: Server, target: str = "/") -> None:
    """Make a call. If the server's reply is missing or incomplete, ignore the error."""
    try:
        await call(pool, server, target)
    except httpx.RemoteProtocolError:
        assert target in {"/mute", "/stop"}


@with_each_kind_of_cancellation
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize(
    "prepare",
    [
        new_connection,
        reused_connection,
        replaced_connection,
        long_reply,
        missing_reply,
        unread_response,
        expired_connections,
        close_pool,
    ],
)
@pytest.mark.slow
async def test_cancelling_at_any_wait_leaks_nothing(
    prepare: Callable[[OriginPool, Server], Awaitable[Coroutine[Any, Any, None]]],
    tls: bool,  # noqa: FBT001 -- pytest passes it by name
    cancel: Cancel,
    authority: trustme.CA,
) -> None:
    """A call that is cancelled at any of its waits leaks no slot and no socket."""
    server_context, client_context = tls_contexts(authority) if tls else (None, None)
    wait_number = 1
    cancelled = True
    async with serving(server_context) as server:
        while cancelled:
            pool = OriginPool(server.url, max_connections=3, ssl_context=client_context, clock=Clock())
            cancelled = await cancel(await prepare(pool, server), wait_number)
            assert (pool._slots.busy, pool._slots.waiting) == (0, 0), f"cancelled at wait {wait_number}"
            await wait_until_only_idle_are_open(pool, server)
            if pool._slots.closed:
                assert pool._slots.idle == 0, f"cancelled at wait {wait_number}"
            else:
                await call(pool, server)
                await pool.aclose()
            await server.wait_until(lambda: not server.open)
            wait_number += 1
    # *wait_number* is above 2 if at least one wait was cancelled. Our own asyncio connections close without a wait.
    assert wait_number > (1 if prepare in (unread_response, close_pool) else 2)


@with_each_kind_of_cancellation
async def test_cancelled_waiting_caller_passes_its_slot_on(cancel: Cancel) -> None:
    """If a waiting caller is cancelled, even at the moment it gets a slot, the next caller gets the slot."""
    wait_number = 1
    cancelled = True
    async with serving() as server:
        while cancelled:
            async with OriginPool(server.url, max_connections=1) as pool, anyio.create_task_group() as group:
                held_response = await pool.handle_async_request(request_for(server))
                group.start_soon(held_response.aread)
                # This caller is next in the queue, and gets the slot of the cancelled one.
                work = call_tolerating_broken_replies(pool, server)
                group.start_soon(call, pool, server)
                cancelled = await cancel(work, wait_number)
            assert state(pool) == (0, 0, 0)
            await server.wait_until(lambda: not server.open)
            wait_number += 1
    assert wait_number > 2


@with_each_kind_of_cancellation
async def test_random_cancellations_leak_nothing(cancel: Cancel) -> None:
    """After 160 calls, some of them cancelled at a random wait, 20 new calls succeed. No slot, socket or task leaks."""
    rng = random.Random(1)  # noqa: S311 -- reproducible, not secret
    targets = ["/", "/", "/", "/last", "/long", "/mute", "/stop"]

    async def worker(pool: OriginPool, server: Server) -> None:
        for _ in range(4):
            # A call that waits less often than this number is not cancelled.
            await cancel(call_tolerating_broken_replies(pool, server, rng.choice(targets)), rng.randrange(1, 25))

    async with serving() as server, OriginPool(server.url, max_connections=10) as pool:
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(worker, pool, server)
        assert (pool._slots.busy, pool._slots.waiting) == (0, 0)
        await wait_until_only_idle_are_open(pool, server)
        tasks = len(anyio.get_running_tasks())
        bodies: list[str] = []

        async def caller() -> None:
            bodies.append(await call(pool, server))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(caller)
        assert len(bodies) == 20
        assert len(anyio.get_running_tasks()) <= tasks + 10  # the server has a task for each of 10 connections
        await pool.aclose()
        assert state(pool) == (0, 0, 0)
        await server.wait_until(lambda: not server.open)
    gc.collect()  # an unclosed socket that is collected here fails the test with a ResourceWarning


def test_errors_of_the_pool_can_be_pickled() -> None:
    """A program may pass the errors to another process, with any protocol of pickle."""
    for error in (NotAvailableError("no", body_unread=True), TooLateError(), PoolClosedError("closed")):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            restored = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 -- pickled in this test
            assert (type(restored), str(restored)) == (type(error), str(error))
            assert getattr(restored, "body_unread", None) == getattr(error, "body_unread", None)
