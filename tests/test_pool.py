"""The pool at work: real sockets on loopback, under asyncio and trio."""

import asyncio
import gc
import random
import ssl
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
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

from gatepay_async.pool import OriginPool, PoolClosedError
from gatepay_async.pool.over_httpcore import TRANSLATIONS
from gatepay_async.pool.port import Head, NotAvailableError
from gatepay_async.pool.stream import MAX_COLLECTED_BYTES
from gatepay_async.pool.transport import MAX_EXPIRED_CLOSED_PER_CALL

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

T = TypeVar("T")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


# --- The other end -----------------------------------------------------------------------------------------


class Server:
    """
    A raw HTTP/1.1 server. The body of an answer is the number of the connection it came by, from 1 on.

    Targets: `/` answers; `/hold` answers once `gate` is set; `/last` answers and closes; `/half` sends half a
    body and waits for `gate`; `/stop` sends half a body and closes; `/mute` closes without a word; `/noise`
    is no HTTP; `/long` answers at length; `/parts` answers in parts, chunked.
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

    def change(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is looked at whenever something has changed here."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self.changed.wait()

    async def hang_up(self) -> None:
        """Close every connection, as a server does that is tired of them."""
        for stream in list(self.open.values()):
            await stream.aclose()

    async def handle(self, stream: ByteStream) -> None:
        self.accepted += 1
        number = self.accepted
        self.open[number] = stream
        self.peak = max(self.peak, len(self.open))
        self.change()
        try:
            async with stream:
                await self.converse(BufferedByteReceiveStream(stream), stream, number)
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the client has hung up, or `hang_up()` has
        finally:
            del self.open[number]
            self.change()

    async def converse(self, receive: BufferedByteReceiveStream, stream: ByteStream, number: int) -> None:
        while True:
            head = (await receive.receive_until(b"\r\n\r\n", 65536)).decode().split("\r\n")
            headers = dict(line.lower().split(": ") for line in head[1:])
            if "chunked" in headers.get("transfer-encoding", ""):
                self.bodies.append(await receive.receive_until(b"0\r\n\r\n", 1 << 20))
            else:
                self.bodies.append(await receive.receive_exactly(int(headers.get("content-length", 0))))
            target = head[0].split()[1]
            self.targets.append(target)
            self.change()
            if not await self.answer(stream, target, str(number).encode()):
                return

    async def answer(self, stream: ByteStream, target: str, body: bytes) -> bool:
        """Answer a request for *target*; whether the connection stays open."""
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


# --- This end ----------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def request_for(server: Server, target: str = "/", content: Any = b"", **extensions: Any) -> httpx.Request:
    return httpx.Request("POST", server.url + target, content=content, extensions=extensions)


async def call(pool: OriginPool, server: Server, target: str = "/", **extensions: Any) -> str:
    """Post to *target* and read the whole answer."""
    response = await pool.handle_async_request(request_for(server, target, **extensions))
    try:
        return (await response.aread()).decode()
    finally:
        await response.aclose()


def state(pool: OriginPool) -> tuple[int, int, int]:
    """How many slots are busy, how many idle, how many callers wait."""
    return pool._slots.busy, pool._slots.idle, pool._slots.waiting


async def test_reuse() -> None:
    """Calls one after the other share one connection."""
    async with serving() as server, OriginPool(server.url) as pool:
        assert [await call(pool, server) for _ in range(3)] == ["1", "1", "1"]
        assert state(pool) == (0, 1, 0)
        assert repr(pool) == f"<OriginPool {server.url}: 0 busy, 1 idle, limit 100; 0 waiting>"


async def test_under_a_client() -> None:
    """An httpx client works over the pool as over its own, and closes it."""
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
        await server.until(lambda: not server.open)


async def test_last_used_first() -> None:
    """Of two idle connections, the one that was used last is used next."""
    async with serving() as server, OriginPool(server.url) as pool:
        first, second = [await pool.handle_async_request(request_for(server)) for _ in range(2)]
        await second.aread()
        await first.aread()
        assert state(pool) == (0, 2, 0)
        assert [await call(pool, server) for _ in range(3)] == ["1", "1", "1"]


async def test_first_come_first_served() -> None:
    """Callers who wait are served in the order in which they came."""
    order: list[int] = []
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        held = await pool.handle_async_request(request_for(server))

        async def caller(number: int) -> None:
            await call(pool, server, on_turn=lambda: order.append(number))

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(caller, number)
                await anyio.wait_all_tasks_blocked()
            assert state(pool) == (1, 0, 10)
            await held.aread()
        assert order == list(range(10))
        assert server.accepted == 1


async def test_many_at_once() -> None:
    """Hundreds of calls at once are all answered, over no more connections than allowed."""
    async with serving() as server, OriginPool(server.url, max_connections=20) as pool:
        answers: list[str] = []

        async def caller() -> None:
            answers.append(await call(pool, server))

        async with anyio.create_task_group() as group:
            for _ in range(400):
                group.start_soon(caller)
        assert len(answers) == 400
        assert (server.accepted, server.peak) == (20, 20)
        assert state(pool) == (0, 20, 0)


async def test_expiry() -> None:
    """A connection that has rested for too long is closed, and not used."""
    clock = Clock()
    async with serving() as server, OriginPool(server.url, keepalive_expiry=15, clock=clock) as pool:
        await call(pool, server)
        clock.now += 14.9
        assert await call(pool, server) == "1"
        clock.now += 15
        assert await call(pool, server) == "2"
        await server.until(lambda: list(server.open) == [2])


async def test_expiry_after_a_burst() -> None:
    """After a burst each call closes a few of the expired connections, and uses none of them."""
    clock = Clock()
    burst = 3 * MAX_EXPIRED_CLOSED_PER_CALL
    async with serving() as server, OriginPool(server.url, clock=clock) as pool:
        responses = [await pool.handle_async_request(request_for(server)) for _ in range(burst)]
        for response in responses:
            await response.aread()
        clock.now += 15
        assert await call(pool, server) == str(burst + 1)
        assert state(pool) == (0, burst - MAX_EXPIRED_CLOSED_PER_CALL, 0)
        await call(pool, server)
        await call(pool, server)
        assert state(pool) == (0, 1, 0)
        await server.until(lambda: list(server.open) == [burst + 1])


async def test_closed_by_the_server() -> None:
    """An idle connection that the server has closed is noticed before anything is written to it."""
    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server)
        await server.hang_up()
        await server.until(lambda: not server.open)
        assert await call(pool, server) == "2"
        assert server.targets == ["/", "/"]
        assert state(pool) == (0, 1, 0)


async def test_last_answer() -> None:
    """A connection whose answer says that it is the last is not used again."""
    async with serving() as server, OriginPool(server.url) as pool:
        assert [await call(pool, server, "/last"), await call(pool, server)] == ["1", "2"]
        assert state(pool) == (0, 1, 0)


async def test_another_connection_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says, before it has written anything, that it can't be used is replaced, once."""
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
        # A new one that says so has no excuse; but nothing has left.
        refusals = 2
        with pytest.raises(httpx.ConnectError):
            await call(pool, server)
        assert server.targets == ["/", "/"]
        assert state(pool) == (0, 0, 0)


async def test_no_other_connection_for_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that can be read only once is not sent over another connection: who knows how much of it is gone."""

    async def refuse(*_: object, **__: object) -> Head:
        raise NotAvailableError("busy", untouched=False)

    async def stream() -> AsyncIterator[bytes]:
        yield b"a"

    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server)
        monkeypatch.setattr(type(next(iter(pool._slots._idle)).connection), "send", refuse)
        with pytest.raises(httpx.ConnectError):
            await pool.handle_async_request(httpx.Request("POST", server.url, content=stream()))
        assert server.targets == ["/"]
        assert state(pool)[0] == 0


@pytest.mark.uncounted
@pytest.mark.parametrize("target", ["/mute", "/noise", "/stop"])
async def test_never_sent_twice(target: str) -> None:
    """A request that has left is never sent again, whatever its answer; the slot comes back."""
    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server)
        with pytest.raises(httpx.RemoteProtocolError):
            await call(pool, server, target)
        assert server.targets == ["/", target]
        assert state(pool) == (0, 0, 0)


async def test_timeouts() -> None:
    """Time-outs are httpx's, and a call that has met one gives its slot back."""
    async with serving() as server, OriginPool(server.url) as pool:
        with pytest.raises(httpx.ReadTimeout, match=r"0\.01"):
            await call(pool, server, "/hold", timeout={"connect": 5, "write": 5, "read": 0.01})
        assert state(pool) == (0, 0, 0)
        assert await call(pool, server, timeout={"connect": 5, "write": 5, "read": 5, "pool": 5}) == "2"


async def test_pool_timeout() -> None:
    """Who waits for a connection longer than allowed gets PoolTimeout, and leaves the queue."""
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        held = await pool.handle_async_request(request_for(server))
        with pytest.raises(httpx.PoolTimeout, match="nothing was sent"):
            await call(pool, server, timeout={"pool": 0.01})
        assert state(pool) == (1, 0, 0)
        await held.aread()
        assert await call(pool, server, timeout={"pool": 0.01}) == "1"


async def test_on_wait_on_turn_on_send() -> None:
    """A call is told when its waiting begins, when it is over, and when its first byte leaves: each once."""
    events: list[str] = []

    def tell(event: str) -> Callable[[], None]:
        return lambda: events.append(event)

    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        held = await pool.handle_async_request(request_for(server))

        async def caller() -> None:
            await call(pool, server, on_wait=tell("wait"), on_turn=tell("turn"), on_send=tell("send"))

        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            assert (events, state(pool)) == (["wait"], (1, 0, 1))
            await held.aread()
        assert events == ["wait", "turn", "send"]
        # The next call on that connection is another one's, and does not wait.
        await call(pool, server)
        assert events == ["wait", "turn", "send"]
        await caller()
        assert events == ["wait", "turn", "send", "send"]


async def test_nothing_sent() -> None:
    """A call that finds no server is told ConnectError, with the system's reason; on_send was not called."""
    events: list[str] = []
    async with serving() as server:
        pass
    async with OriginPool(server.url) as pool:
        with pytest.raises(httpx.ConnectError, match=r"Errno|refused"):
            await call(pool, server, on_send=lambda: events.append("send"))
        assert events == []
        assert state(pool) == (0, 0, 0)


@pytest.mark.parametrize("extension", ["on_wait", "on_turn"])
async def test_extensions_that_fail(extension: str) -> None:
    """An on_wait or on_turn that raises fails its own call and costs no slot."""

    def fail() -> None:
        raise ZeroDivisionError

    wishes: dict[str, Any] = {extension: fail}
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        held = await pool.handle_async_request(request_for(server))

        async def caller() -> None:
            with pytest.raises(ZeroDivisionError):
                await call(pool, server, **wishes)

        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            await held.aread()
        assert state(pool) == (0, 1, 0)
        assert await call(pool, server) == "1"


async def test_trace() -> None:
    """The `trace` extension sees what httpcore does."""
    seen: list[str] = []

    async def trace(name: str, info: dict[str, Any]) -> None:
        seen.append(name)

    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server, trace=trace)
    assert seen[:2] == ["connection.connect_tcp.started", "connection.connect_tcp.complete"]
    assert seen[-1] == "http11.response_closed.complete"


@pytest.mark.parametrize(("target", "first"), [("/half", b"01234"), ("/parts", b"x")])
async def test_half_a_body(target: str, first: bytes) -> None:
    """A response that is closed half-way gives its slot back and its connection up."""
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        response = await pool.handle_async_request(request_for(server, target))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert await anext(aiter(response.stream)) == first
        await response.aclose()
        assert state(pool) == (0, 0, 0)
        assert await call(pool, server) == "2"


async def test_unread() -> None:
    """A response that is closed unread, even twice, gives its slot back once and its connection up."""
    async with serving() as server, OriginPool(server.url, max_connections=1) as pool:
        response = await pool.handle_async_request(request_for(server))
        await response.aclose()
        await response.aclose()
        assert state(pool) == (0, 0, 0)
        assert await call(pool, server) == "2"


async def test_reading_that_fails() -> None:
    """A response whose reading fails or is cancelled gives its slot back, also if nobody closes it."""
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


async def test_closed_while_it_is_read() -> None:
    """A response that one task closes while another reads it ends the reading, and its slot comes back once."""
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


async def test_read_to_the_end() -> None:
    """A response that is read to its end needs no closing, and has no second end."""
    async with serving() as server, OriginPool(server.url) as pool:
        response = await pool.handle_async_request(request_for(server, "/long"))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert sum([len(part) async for part in response.stream]) == 1_000_000
        assert state(pool) == (0, 1, 0)
        assert [part async for part in response.stream] == []


async def test_long_request() -> None:
    """A body longer than what is held back arrives whole, in pieces and chunked too."""
    body = random.Random(1).randbytes(3 * MAX_COLLECTED_BYTES)  # noqa: S311 -- no secret, only the same each time

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async with serving() as server, OriginPool(server.url) as pool:
        for content in (body, parts()):
            response = await pool.handle_async_request(request_for(server, content=content))
            await response.aread()
        # As httpx makes them for a redirect.
        request = httpx.Request(
            "POST", server.url, headers={"host": "x", "content-length": "5"}, stream=httpx.ByteStream(b"again")
        )
        await (await pool.handle_async_request(request)).aread()
        whole, chunked, again = server.bodies
        assert (whole, again) == (body, b"again")
        assert len(chunked) > len(body)
        assert state(pool) == (0, 1, 0)


async def test_unix_socket(socket_path: Path) -> None:
    """A pool can reach its origin by a Unix socket; a path with nobody behind it is ConnectError."""
    server = Server()
    listener = await anyio.create_unix_listener(socket_path)
    server.url = "http://gatepay.example"
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.handle)
        async with OriginPool(server.url, uds=str(socket_path)) as pool:
            opened: list[bool] = []
            assert await call(pool, server, on_connect=lambda: opened.append(True)) == await call(pool, server) == "1"
            assert opened == [True]
        async with OriginPool(server.url, uds=f"{socket_path}-none") as pool:
            with pytest.raises(httpx.ConnectError, match="No such file"):
                await call(pool, server)
        group.cancel_scope.cancel()


# --- TLS ---------------------------------------------------------------------------------------------------


def contexts(authority: trustme.CA, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's context, for *name*, and that of a client who trusts *authority*."""
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(theirs)
    ours = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())  # reads no other authorities: slow
    return theirs, ours


async def test_tls(authority: trustme.CA) -> None:
    """Over TLS, connections are reused, and one that the server has closed is noticed."""
    theirs, ours = contexts(authority)
    async with serving(theirs) as server, OriginPool(server.url, ssl_context=ours) as pool:
        assert [await call(pool, server), await call(pool, server)] == ["1", "1"]
        await server.hang_up()
        await server.until(lambda: not server.open)
        response = await pool.handle_async_request(request_for(server))
        assert response.extensions["network_stream"].get_extra_info("ssl_object") is not None
        assert await response.aread() == b"2"


async def test_wrong_certificate(authority: trustme.CA) -> None:
    """A certificate for somebody else is ConnectError, and its slot comes back."""
    theirs, ours = contexts(authority, "gatepay.example")
    async with serving(theirs) as server, OriginPool(server.url, ssl_context=ours) as pool:
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await call(pool, server)
        assert state(pool) == (0, 0, 0)
        await server.until(lambda: not server.open)


async def test_default_trust(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a context httpx's own is made: on first need, once, off the event loop."""
    theirs, ours = contexts(authority)
    made: list[str] = []

    def create_ssl_context() -> ssl.SSLContext:
        made.append(anyio.from_thread.run_sync(lambda: "from a worker thread"))
        return ours

    monkeypatch.setattr(httpx, "create_ssl_context", create_ssl_context)
    async with serving(theirs) as server, OriginPool(server.url) as pool:
        assert made == []
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call, pool, server)
        assert made == ["from a worker thread"]


# --- The edges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://127.0.0.2:{port}/", "https://127.0.0.1:{port}/", "http://127.0.0.1/", "ftp://127.0.0.1/"]
)
async def test_another_origin(url: str) -> None:
    """A request for another origin is refused before it takes a slot."""
    async with OriginPool("http://127.0.0.1:8000/api") as pool:
        with pytest.raises(httpx.UnsupportedProtocol):
            await pool.handle_async_request(httpx.Request("GET", url.format(port=8000)))
        assert state(pool) == (0, 0, 0)


async def test_default_port() -> None:
    """The port that a scheme implies may be said or left out."""
    pool = OriginPool("https://gatepay.example")
    assert pool._outgoing(httpx.Request("GET", "https://gatepay.example:443/")).target == b"/"


async def test_synchronous_body() -> None:
    """A body that can only be read synchronously is a mistake of the caller's, told before anything is sent."""
    request = httpx.Request("POST", "http://127.0.0.1/", content=iter([b"part"]))
    async with OriginPool("http://127.0.0.1") as pool:
        with pytest.raises(TypeError, match="synchronously"):
            await pool.handle_async_request(request)


@pytest.mark.parametrize("origin", ["ftp://gatepay.example", "gatepay.example", "http://", "/pay/create"])
def test_no_origin(origin: str) -> None:
    """What is no origin of HTTP is refused by the constructor."""
    with pytest.raises(httpx.UnsupportedProtocol):
        OriginPool(origin)


def test_no_connections() -> None:
    """A pool that may have no connection is refused by the constructor."""
    with pytest.raises(ValueError, match="at least 1"):
        OriginPool("http://gatepay.example", max_connections=0)


def test_translations() -> None:
    """Every error of httpcore's has its translation, of the same name, and the most special one is met first."""
    errors = {kind for kind in vars(httpcore).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert set(TRANSLATIONS) == errors
    for error, kind in TRANSLATIONS.items():
        assert error is httpcore.ConnectionNotAvailable or error.__name__ == kind.__name__
    order = list(TRANSLATIONS)
    assert all(not issubclass(later, earlier) for place, earlier in enumerate(order) for later in order[place + 1 :])


# --- Closing -----------------------------------------------------------------------------------------------


async def test_closing() -> None:
    """Closing ends those who wait, and lets those who talk finish; nothing stays open."""
    errors: list[Exception] = []
    async with serving() as server:
        pool = OriginPool(server.url, max_connections=2)
        held, other = [await pool.handle_async_request(request_for(server)) for _ in range(2)]
        await other.aread()
        other = await pool.handle_async_request(request_for(server))

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
        assert [await held.aread(), await other.aread()] == [b"1", b"2"]
        assert state(pool) == (0, 0, 0)
        with pytest.raises(httpx.ConnectError, match="closed"):
            await call(pool, server)
        assert len(server.targets) == 3
        await server.until(lambda: not server.open)


async def test_closing_with_a_slot_on_its_way() -> None:
    """A caller that was given a slot, but closed before it could use it, sends nothing and gives it back."""
    async with serving() as server:
        pool = OriginPool(server.url, max_connections=1)
        held = await pool.handle_async_request(request_for(server))
        async with anyio.create_task_group() as group:

            async def caller() -> None:
                with pytest.raises(PoolClosedError):
                    await call(pool, server)

            group.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            ticket = next(iter(pool._slots._waiting))
            wake, ticket.wake = ticket.wake, pool._slots.close
            await held.aread()
            wake()
        assert state(pool) == (0, 0, 0)
        assert server.targets == ["/"]
        await server.until(lambda: not server.open)


# --- respx -------------------------------------------------------------------------------------------------


async def test_respx() -> None:
    """Under respx, by its default way, a request is answered by the test and no connection is opened."""
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


async def test_respx_over_a_used_connection() -> None:
    """Under respx a connection that is open already isn't used either."""
    async with serving() as server, OriginPool(server.url) as pool:
        await call(pool, server)
        with respx.mock as router:
            router.post(server.url + "/").respond(text="mocked")
            assert await call(pool, server) == "mocked"
        assert await call(pool, server) == "1"
        assert len(server.targets) == 2


# --- Cancellation ------------------------------------------------------------------------------------------


@types.coroutine
def interrupted(work: Coroutine[Any, Any, T], turn: int, cancel: Callable[[], object]) -> Generator[Any, Any, T]:
    """Run *work*, and call *cancel* when it waits for the *turn*-th time, from 1 on."""
    send: Callable[[Any], Any] = work.send
    value: Any = None
    waits = 0
    while True:
        try:
            waiting_for = send(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration is Any's
        waits += 1
        if waits == turn:
            cancel()
        try:
            value = yield waiting_for
            send = work.send
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it is for *work*
            value, send = error, work.throw


async def by_scope(work: Coroutine[Any, Any, None], turn: int) -> bool:
    """Cancel *work* at its *turn*-th wait, as anyio and trio do; whether it got that far."""
    with anyio.CancelScope() as scope:
        await interrupted(work, turn, scope.cancel)
    return scope.cancel_called


async def by_task(work: Coroutine[Any, Any, None], turn: int) -> bool:
    """The same as asyncio.timeout() and asyncio.TaskGroup do it: anyio's shields are no shields to that."""
    cancelled: list[bool] = []

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        await interrupted(work, turn, lambda: cancelled.append(task.cancel()))

    await asyncio.wait({asyncio.create_task(run())})
    return bool(cancelled)


Cancel = Callable[[Coroutine[Any, Any, None], int], Awaitable[bool]]

each_way = pytest.mark.parametrize(
    ("anyio_backend", "cancel"),
    [("asyncio", by_scope), ("asyncio", by_task), ("trio", by_scope)],
    ids=["asyncio-scope", "asyncio-task", "trio-scope"],
)


async def connecting(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    return talk(pool, server)


async def reusing(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    await call(pool, server)
    return talk(pool, server)


async def replacing(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    await call(pool, server)
    await server.hang_up()
    await server.until(lambda: not server.open)
    return talk(pool, server)


async def reading(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    return talk(pool, server, "/long")


async def breaking(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    return talk(pool, server, "/mute")


async def dropping(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    response = await pool.handle_async_request(request_for(server))
    return response.aclose()


async def expiring(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    for response in [await pool.handle_async_request(request_for(server)) for _ in range(3)]:
        await response.aread()
    clock = pool._clock
    assert isinstance(clock, Clock)
    clock.now += 100
    return talk(pool, server)


async def closing(pool: OriginPool, server: Server) -> Coroutine[Any, Any, None]:
    for response in [await pool.handle_async_request(request_for(server)) for _ in range(3)]:
        await response.aread()
    return pool.aclose()


async def settled(pool: OriginPool, server: Server) -> None:
    """Wait until the server knows no connection but the idle ones: a socket that is lost never gets there."""
    await server.until(lambda: len(server.open) == pool._slots.idle)


async def talk(pool: OriginPool, server: Server, target: str = "/") -> None:
    try:
        await call(pool, server, target)
    except httpx.RemoteProtocolError:
        assert target in {"/mute", "/stop"}


@each_way
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("begin", [connecting, reusing, replacing, reading, breaking, dropping, expiring, closing])
@pytest.mark.slow
async def test_cancelled_at_any_wait(
    begin: Callable[[OriginPool, Server], Awaitable[Coroutine[Any, Any, None]]],
    tls: bool,  # noqa: FBT001 -- pytest passes it by name
    cancel: Cancel,
    authority: trustme.CA,
) -> None:
    """Cancelled at whichever wait, from the first to the last, a call leaves no slot and no socket behind."""
    theirs, ours = contexts(authority) if tls else (None, None)
    turn = 1
    cancelled = True
    async with serving(theirs) as server:
        while cancelled:
            pool = OriginPool(server.url, max_connections=3, ssl_context=ours, clock=Clock())
            cancelled = await cancel(await begin(pool, server), turn)
            assert (pool._slots.busy, pool._slots.waiting) == (0, 0), f"cancelled at wait {turn}"
            await settled(pool, server)
            if pool._slots.closed:
                assert pool._slots.idle == 0, f"cancelled at wait {turn}"
            else:
                await call(pool, server)
                await pool.aclose()
            await server.until(lambda: not server.open)
            turn += 1
    # Our own connections close without a wait.
    assert turn > (1 if begin in (dropping, closing) else 2)


@each_way
async def test_cancelled_while_waiting(cancel: Cancel) -> None:
    """Cancelled while it waits, or in the very moment of being served, a caller passes the slot on."""
    turn = 1
    cancelled = True
    async with serving() as server:
        while cancelled:
            async with OriginPool(server.url, max_connections=1) as pool, anyio.create_task_group() as group:
                held = await pool.handle_async_request(request_for(server))
                group.start_soon(held.aread)
                # The next in the queue gets what the cancelled one passes on.
                work = talk(pool, server)
                group.start_soon(call, pool, server)
                cancelled = await cancel(work, turn)
            assert state(pool) == (0, 0, 0)
            await server.until(lambda: not server.open)
            turn += 1
    assert turn > 2


@each_way
async def test_churn(cancel: Cancel) -> None:
    """Forty workers cancelled at random over ten connections: then twenty calls are answered, nothing is lost."""
    rng = random.Random(1)  # noqa: S311 -- as above
    targets = ["/", "/", "/", "/last", "/long", "/mute", "/stop"]

    async def worker(pool: OriginPool, server: Server) -> None:
        for _ in range(4):
            await cancel(talk(pool, server, rng.choice(targets)), rng.randrange(1, 25))

    async with serving() as server, OriginPool(server.url, max_connections=10) as pool:
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(worker, pool, server)
        assert (pool._slots.busy, pool._slots.waiting) == (0, 0)
        await settled(pool, server)
        tasks = len(anyio.get_running_tasks())
        answers: list[str] = []

        async def caller() -> None:
            answers.append(await call(pool, server))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(caller)
        assert len(answers) == 20
        assert len(anyio.get_running_tasks()) <= tasks + 10
        await pool.aclose()
        assert state(pool) == (0, 0, 0)
        await server.until(lambda: not server.open)
    gc.collect()
