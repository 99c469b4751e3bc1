"""A whole exchange on a connection that its caller has waited for, because all were busy."""

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any, Self

import anyio
import httpcore
import httpx
import pytest
from attrs import define, field
from odd_server import Connection, OddServer, Request, http
from waiting import PATIENCE, until

from gatepay_async.pool import OriginPool, PoolClosedError
from gatepay_async.pool.port import Answer, TooLateError

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

BUSY = b"busy"  # the body of a request whose reply the server holds back


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define
class Caller:
    """A caller with a time limit, which notes what it is told."""

    limit: float = PATIENCE
    told: list[str] = field(factory=list[str])
    ends: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.ends = asyncio.get_running_loop().time() + self.limit

    def extensions(self) -> dict[str, Callable[[], None]]:
        def note(what: str) -> Callable[[], None]:
            return lambda: self.told.append(what)

        return {"on_" + what: note(what) for what in ("wait", "turn", "connect", "send")}


class Queue:
    """A pool with one connection, which is busy until `release`; an asynchronous context manager."""

    def __init__(self, *, headers: str = "", tls: bool = False) -> None:
        self._headers = headers  # of each reply
        self._released = threading.Event()
        self.server = OddServer(self._answer, tls=tls)
        self.bodies: list[bytes] = []

    def _answer(self, connection: Connection, request: Request) -> None:
        self.bodies.append(request.body)
        if request.body == BUSY:
            self._released.wait(PATIENCE)
        connection.raw.sendall(connection.encrypt(http(b"to " + request.body, headers=self._headers)))

    async def __aenter__(self) -> Self:
        self.server.__enter__()
        self.pool = OriginPool(self.server.base_url, ssl_context=self.server.client_tls, max_connections=1)
        self.form = self.pool.prepare(httpx.URL(self.server.base_url + "x"), httpx.Headers())
        self._holder = asyncio.create_task(self._hold())
        await until(lambda: bool(self.bodies))
        return self

    async def _hold(self) -> None:
        exchange = await self.pool.post(self.form, BUSY, {})
        await exchange.read_whole(most=100)

    def release(self) -> None:
        self._released.set()

    async def line_up(self, *bodies: bytes) -> list["asyncio.Task[Answer | None]"]:
        """Start a caller for each of *bodies*, one behind the other."""
        tasks: list[asyncio.Task[Answer | None]] = []
        for body in bodies:
            waiting = self.pool._slots.waiting
            tasks.append(asyncio.create_task(self.ask(body)))
            await until(lambda before=waiting: self.pool._slots.waiting == before + 1)  # type: ignore[misc]  # a default
        return tasks

    async def ask(self, body: bytes, caller: Caller | None = None) -> Answer | None:
        caller = caller or Caller()
        return await self.pool.post_in_turn(self.form, body, caller.extensions(), watch=caller, most=100)

    async def __aexit__(self, *_: object) -> None:
        self.release()
        await self._holder
        await self.pool.aclose()
        self.server.__exit__(None, None, None)


@pytest.mark.parametrize("tls", [False, True])
async def test_callers_get_their_turn(*, tls: bool) -> None:
    """Callers get the connection in the order in which they came, and are told when they wait and when they send."""
    async with Queue(tls=tls) as queue:
        caller = Caller()
        first = asyncio.create_task(queue.ask(b"0", caller))
        await until(lambda: caller.told == ["wait"])
        others = await queue.line_up(b"1", b"2", b"3")
        queue.release()
        answers = await asyncio.gather(first, *others)
        assert [answer.body for answer in answers if answer is not None] == [b"to 0", b"to 1", b"to 2", b"to 3"]
        assert queue.bodies == [BUSY, b"0", b"1", b"2", b"3"]
        assert caller.told == ["wait", "turn", "send"]
        assert len(queue.server.connections) == 1


async def test_nobody_has_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a connection is idle or may be opened, or httpcore is patched, nothing is sent this way."""
    async with Queue() as queue:
        with monkeypatch.context() as patch:
            patch.setattr("gatepay_async.pool.transport.is_patched", lambda: True)
            assert await queue.ask(b"1") is None
        queue.release()
        await until(lambda: queue.pool._slots.idle == 1)
        assert await queue.ask(b"2") is None
    assert await queue.ask(b"3") is None  # closed
    assert queue.bodies == [BUSY]


async def test_a_connection_that_ends_meanwhile() -> None:
    """A caller whose turn comes with a connection that can't be used opens another one, and keeps its turn."""
    async with Queue(headers="connection: close\r\n") as queue:
        tasks = await queue.line_up(b"1", b"2")
        queue.release()
        answers = await asyncio.gather(*tasks)
        assert [answer.body for answer in answers if answer is not None] == [b"to 1", b"to 2"]
        assert (queue.bodies, len(queue.server.connections)) == ([BUSY, b"1", b"2"], 3)
        assert (queue.pool._slots.busy, queue.pool._slots.idle) == (0, 0)


async def test_the_wait_takes_too_long() -> None:
    """The wait ends at the deadline, and nothing was sent. The next caller gets the turn."""
    async with Queue() as queue:
        late = Caller(limit=0.02)
        with pytest.raises(TooLateError):
            await queue.ask(b"1", late)
        assert late.told == ["wait"]
        (task,) = await queue.line_up(b"2")
        queue.release()
        assert await task is not None
        assert queue.bodies == [BUSY, b"2"]


async def test_two_reasons_to_wake_up() -> None:
    """A caller whose turn and whose deadline come at the same moment wakes up once. Without a deadline, it waits on."""
    async with Queue() as queue:
        caller = Caller(limit=math.inf)
        task = asyncio.create_task(queue.ask(b"1", caller))
        await until(lambda: queue.pool._slots.waiting == 1)
        (ticket,) = queue.pool._slots._waiting
        ticket.wake()
        ticket.wake()
        with pytest.raises(TooLateError):
            await task


async def test_the_new_connection_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline also ends the opening of a connection, and the slot is free again."""
    async with Queue(headers="connection: close\r\n") as queue:

        async def never(*_: object, **__: object) -> Any:
            await anyio.sleep_forever()

        monkeypatch.setattr(queue.pool._opener, "new_connection", never)
        caller = Caller(limit=0.05)
        task = asyncio.create_task(queue.ask(b"1", caller))
        await until(lambda: caller.told == ["wait"])
        queue.release()
        with pytest.raises(TooLateError):
            await task
        assert (queue.pool._slots.busy, queue.bodies) == (0, [BUSY])


async def test_cancelled_while_waiting() -> None:
    """A cancelled caller leaves the queue. If its turn has come at the same moment, the next caller gets it."""
    async with Queue() as queue:
        gone, first, second = await queue.line_up(b"1", b"2", b"3")
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        release = queue.pool._slots.release_open

        def release_and_cancel(*args: Any, **options: Any) -> bool:
            done = release(*args, **options)
            first.cancel()
            return done

        queue.pool._slots = Watched(queue.pool._slots, release_and_cancel)  # type: ignore[assignment]  # has the same methods
        queue.release()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second is not None
        assert queue.bodies == [BUSY, b"3"]


class Watched:
    """Slots whose `release_open` is another function."""

    def __init__(self, slots: Any, release_open: Callable[..., bool]) -> None:
        self._slots = slots
        self.release_open = release_open

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slots, name)


async def test_closed_while_waiting() -> None:
    """Closing the pool ends the wait, and nothing was sent."""
    async with Queue() as queue:
        (task,) = await queue.line_up(b"1")
        await queue.pool.aclose()
        with pytest.raises(PoolClosedError):
            await task
        assert queue.bodies == [BUSY]


async def test_a_report_that_fails() -> None:
    """What `on_turn` raises comes out, and the connection is free again."""
    async with Queue() as queue:
        caller = Caller()

        def fail() -> None:
            raise ZeroDivisionError

        extensions = caller.extensions() | {"on_turn": fail}
        call = queue.pool.post_in_turn(queue.form, b"1", extensions, watch=caller, most=100)
        task = asyncio.create_task(call)
        await until(lambda: caller.told == ["wait"])
        queue.release()
        with pytest.raises(ZeroDivisionError):
            await task
        await until(lambda: queue.pool._slots.idle == 1)
        assert queue.bodies == [BUSY]


async def test_patched_while_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """If httpcore gets patched while a caller waits, the patch gets the request, not the network."""

    async def mock(*_: object) -> httpcore.Response:
        return httpcore.Response(200, content=b"mock")

    async with Queue() as queue:
        (task,) = await queue.line_up(b"1")
        monkeypatch.setattr(httpcore.AsyncHTTPConnection, "handle_async_request", mock)
        queue.release()
        answer = await task
        assert answer is not None
        assert (answer.body, queue.bodies) == (b"mock", [BUSY])


async def test_the_turn_comes_too_late() -> None:
    """If the deadline has passed when a caller gets its turn, nothing is sent."""
    async with Queue() as queue:
        caller = Caller()
        extensions = caller.extensions() | {"on_turn": lambda: setattr(caller, "ends", 0.0)}
        task = asyncio.create_task(queue.pool.post_in_turn(queue.form, b"1", extensions, watch=caller, most=100))
        await until(lambda: caller.told == ["wait"])
        queue.release()
        with pytest.raises(TooLateError):
            await task
        assert (caller.told, queue.bodies) == (["wait"], [BUSY])


async def test_cancelled_when_the_turn_comes() -> None:
    """A caller whose cancel scope ends when its turn comes sends nothing: its connection is free for the next one."""
    async with Queue() as queue:
        told: list[str] = []
        with anyio.CancelScope() as scope:
            extensions = {"on_wait": queue.release, "on_turn": scope.cancel, "on_send": lambda: told.append("send")}
            await queue.pool.post(queue.form, b"1", extensions)
        assert (told, queue.bodies, queue.pool._slots.idle) == ([], [BUSY], 1)
