"""`OriginPool.post_in_turn`: a whole exchange after waiting for a connection, because all were busy."""

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any, Self

import anyio
import httpcore
import httpx
import pytest
from attrs import define, evolve, field
from odd_server import Connection, OddServer, Request, http
from waiting import PATIENCE, until

from gatepay_async.pool import OriginPool, PoolClosedError
from gatepay_async.pool.port import Hooks, TooLateError, WholeResponse

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

BUSY = b"busy"  # the body of a request whose reply the server holds back


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define
class Caller:
    """
    A caller with a deadline.

    Attributes:
        seconds: The time until the deadline.
        events: The names of the hooks that were called, such as "wait" for `on_wait`.
        ends_at: The event loop's time of the deadline.
    """

    seconds: float = PATIENCE
    events: list[str] = field(factory=list[str])
    ends_at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.ends_at = asyncio.get_running_loop().time() + self.seconds

    def hooks(self) -> Hooks:
        """Return hooks that record their events."""

        def record(event: str) -> Callable[[], None]:
            return lambda: self.events.append(event)

        return Hooks(**{"on_" + event: record(event) for event in ("wait", "turn", "connect", "send")})


class BusyPool:
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
        self.prepared = self.pool.prepare(httpx.URL(self.server.base_url + "x"), httpx.Headers())
        self._busy_task = asyncio.create_task(self._keep_busy())
        await until(lambda: bool(self.bodies))
        return self

    async def _keep_busy(self) -> None:
        """Make the call whose reply the server holds back."""
        exchange = await self.pool.post(self.prepared, BUSY, Hooks())
        await exchange.read_whole(max_bytes=100)

    def release(self) -> None:
        self._released.set()

    async def start_callers(self, *bodies: bytes) -> list["asyncio.Task[WholeResponse | None]"]:
        """Start a caller for each of *bodies*. They wait in this order."""
        tasks: list[asyncio.Task[WholeResponse | None]] = []
        for body in bodies:
            waiting_before = self.pool._slots.waiting
            tasks.append(asyncio.create_task(self.post_in_turn(body)))
            await until(lambda before=waiting_before: self.pool._slots.waiting == before + 1)  # type: ignore[misc]  # a default argument
        return tasks

    async def post_in_turn(self, body: bytes, caller: Caller | None = None) -> WholeResponse | None:
        caller = caller or Caller()
        return await self.pool.post_in_turn(self.prepared, body, caller.hooks(), deadline=caller, max_bytes=100)

    async def __aexit__(self, *_: object) -> None:
        self.release()
        await self._busy_task
        await self.pool.aclose()
        self.server.__exit__(None, None, None)


@pytest.mark.parametrize("tls", [False, True])
async def test_waiting_callers_are_served_in_order(*, tls: bool) -> None:
    """Waiting callers are served in order, and their `on_wait`, `on_turn` and `on_send` are called."""
    async with BusyPool(tls=tls) as busy_pool:
        caller = Caller()
        first = asyncio.create_task(busy_pool.post_in_turn(b"0", caller))
        await until(lambda: caller.events == ["wait"])
        others = await busy_pool.start_callers(b"1", b"2", b"3")
        busy_pool.release()
        answers = await asyncio.gather(first, *others)
        assert [answer.body for answer in answers if answer is not None] == [b"to 0", b"to 1", b"to 2", b"to 3"]
        assert busy_pool.bodies == [BUSY, b"0", b"1", b"2", b"3"]
        assert caller.events == ["wait", "turn", "send"]
        assert len(busy_pool.server.connections) == 1


async def test_returns_none_if_no_wait_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a free connection, a closed pool or a patched httpcore, `post_in_turn` returns None and sends nothing."""
    async with BusyPool() as busy_pool:
        with monkeypatch.context() as patch:
            patch.setattr("gatepay_async.pool.transport.is_patched", lambda: True)
            assert await busy_pool.post_in_turn(b"1") is None
        busy_pool.release()
        await until(lambda: busy_pool.pool._slots.idle == 1)
        assert await busy_pool.post_in_turn(b"2") is None
    assert await busy_pool.post_in_turn(b"3") is None  # closed
    assert busy_pool.bodies == [BUSY]


async def test_closed_connection_is_replaced_for_the_waiting_caller() -> None:
    """If the connection can't be reused, the waiting caller opens another one and keeps its turn."""
    async with BusyPool(headers="connection: close\r\n") as busy_pool:
        tasks = await busy_pool.start_callers(b"1", b"2")
        busy_pool.release()
        answers = await asyncio.gather(*tasks)
        assert [answer.body for answer in answers if answer is not None] == [b"to 1", b"to 2"]
        assert (busy_pool.bodies, len(busy_pool.server.connections)) == ([BUSY, b"1", b"2"], 3)
        assert (busy_pool.pool._slots.busy, busy_pool.pool._slots.idle) == (0, 0)


async def test_deadline_ends_the_wait() -> None:
    """At the deadline the wait ends and nothing is sent. The next caller gets the turn."""
    async with BusyPool() as busy_pool:
        late_caller = Caller(seconds=0.02)
        with pytest.raises(TooLateError):
            await busy_pool.post_in_turn(b"1", late_caller)
        assert late_caller.events == ["wait"]
        (task,) = await busy_pool.start_callers(b"2")
        busy_pool.release()
        assert await task is not None
        assert busy_pool.bodies == [BUSY, b"2"]


async def test_waking_up_twice_is_harmless() -> None:
    """A caller that is woken twice, as by its turn and its deadline at the same moment, raises TooLateError once."""
    async with BusyPool() as busy_pool:
        caller = Caller(seconds=math.inf)
        task = asyncio.create_task(busy_pool.post_in_turn(b"1", caller))
        await until(lambda: busy_pool.pool._slots.waiting == 1)
        (ticket,) = busy_pool.pool._slots._waiting
        ticket.wake()
        ticket.wake()  # without a slot, waking up means that the deadline has passed
        with pytest.raises(TooLateError):
            await task


async def test_deadline_ends_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline also ends the opening of a connection, and the slot is released."""
    async with BusyPool(headers="connection: close\r\n") as busy_pool:

        async def never(*_: object, **__: object) -> Any:
            await anyio.sleep_forever()

        monkeypatch.setattr(busy_pool.pool._opener, "new_connection", never)
        caller = Caller(seconds=0.05)
        task = asyncio.create_task(busy_pool.post_in_turn(b"1", caller))
        await until(lambda: caller.events == ["wait"])
        busy_pool.release()
        with pytest.raises(TooLateError):
            await task
        assert (busy_pool.pool._slots.busy, busy_pool.bodies) == (0, [BUSY])


async def test_cancelled_caller_leaves_the_queue() -> None:
    """A cancelled caller leaves the queue. If it has just got its turn, the next caller gets the turn."""
    async with BusyPool() as busy_pool:
        cancelled, first, second = await busy_pool.start_callers(b"1", b"2", b"3")
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        release = busy_pool.pool._slots.release_open

        def release_and_cancel(*args: Any, **options: Any) -> bool:
            was_released = release(*args, **options)
            first.cancel()
            return was_released

        busy_pool.pool._slots = SlotsWithPatchedRelease(busy_pool.pool._slots, release_and_cancel)  # type: ignore[assignment]  # has the same methods
        busy_pool.release()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second is not None
        assert busy_pool.bodies == [BUSY, b"3"]


class SlotsWithPatchedRelease:
    """Slots whose `release_open` is replaced by another function."""

    def __init__(self, slots: Any, release_open: Callable[..., bool]) -> None:
        self._slots = slots
        self.release_open = release_open

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slots, name)


async def test_closing_the_pool_ends_the_wait() -> None:
    """Closing the pool ends the wait, and nothing is sent."""
    async with BusyPool() as busy_pool:
        (task,) = await busy_pool.start_callers(b"1")
        await busy_pool.pool.aclose()
        with pytest.raises(PoolClosedError):
            await task
        assert busy_pool.bodies == [BUSY]


async def test_exception_in_on_turn_frees_the_connection() -> None:
    """If `on_turn` raises, the call raises that exception and the connection becomes idle."""
    async with BusyPool() as busy_pool:
        caller = Caller()

        def fail() -> None:
            raise ZeroDivisionError

        hooks = evolve(caller.hooks(), on_turn=fail)
        call = busy_pool.pool.post_in_turn(busy_pool.prepared, b"1", hooks, deadline=caller, max_bytes=100)
        task = asyncio.create_task(call)
        await until(lambda: caller.events == ["wait"])
        busy_pool.release()
        with pytest.raises(ZeroDivisionError):
            await task
        await until(lambda: busy_pool.pool._slots.idle == 1)
        assert busy_pool.bodies == [BUSY]


async def test_request_goes_to_a_patch_applied_during_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """If httpcore is patched while a caller waits, the patch gets the request."""

    async def mock(*_: object) -> httpcore.Response:
        return httpcore.Response(200, content=b"mock")

    async with BusyPool() as busy_pool:
        (task,) = await busy_pool.start_callers(b"1")
        monkeypatch.setattr(httpcore.AsyncHTTPConnection, "handle_async_request", mock)
        busy_pool.release()
        answer = await task
        assert answer is not None
        assert (answer.body, busy_pool.bodies) == (b"mock", [BUSY])


async def test_nothing_is_sent_if_the_deadline_passes_in_on_turn() -> None:
    """If the deadline has passed when a caller gets its turn, nothing is sent."""
    async with BusyPool() as busy_pool:
        caller = Caller()
        hooks = evolve(caller.hooks(), on_turn=lambda: setattr(caller, "ends_at", 0.0))
        task = asyncio.create_task(
            busy_pool.pool.post_in_turn(busy_pool.prepared, b"1", hooks, deadline=caller, max_bytes=100)
        )
        await until(lambda: caller.events == ["wait"])
        busy_pool.release()
        with pytest.raises(TooLateError):
            await task
        assert (caller.events, busy_pool.bodies) == (["wait"], [BUSY])


async def test_cancellation_in_on_turn_sends_nothing() -> None:
    """If `on_turn` cancels the caller's scope, nothing is sent and the connection becomes idle."""
    async with BusyPool() as busy_pool:
        events: list[str] = []
        with anyio.CancelScope() as scope:
            hooks = Hooks(busy_pool.release, on_turn=scope.cancel, on_send=lambda: events.append("send"))
            await busy_pool.pool.post(busy_pool.prepared, b"1", hooks)
        assert (events, busy_pool.bodies, busy_pool.pool._slots.idle) == ([], [BUSY], 1)
