"""``concurrency="auto"`` in an upload and in the permits of its calls: in virtual time."""

import asyncio
from functools import partial

import anyio
import httpx
import pytest
import virtual_time
from waiting import until

from gatepay_async import AsyncGatePay, ProtocolError, RefusedError, TransportError, UploadReport
from gatepay_async.permits import AutoPermits
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.words.problem import Problem

pytestmark = pytest.mark.fast

CALL = KaCreate(8, ["A"])


class Refusing(httpx.AsyncBaseTransport):
    """20 ms for each call; refuses the eleventh in flight."""

    def __init__(self) -> None:
        self.in_flight = self.most_in_flight = self.calls = self.refused = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.calls += 1
        if self.in_flight == 10:
            self.refused += 1
            return httpx.Response(429)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await anyio.sleep(0.02)
        finally:
            self.in_flight -= 1
        return httpx.Response(200, json={"code": 100, "msg": "", "time": "1", "data": "成功录入:500条卡密"})


async def upload(transport: Refusing) -> UploadReport:
    async with AsyncGatePay("k", "s", transport=transport) as gatepay:
        keys = (f"KEY-{number}" for number in range(30_000))
        return await gatepay.upload_card_keys(8, keys, concurrency="auto")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_upload_finds_what_the_server_allows(backend: str) -> None:
    """More than four calls are in flight where the server takes ten, and few are refused."""
    transport = Refusing()
    report = virtual_time.run(upload, transport, backend=backend)
    assert (report.ok, report.stored) == (True, 30_000)
    assert transport.most_in_flight == 10
    assert transport.refused < 15


async def cancel_half_way(transport: Refusing) -> object:
    raised: BaseException | None = None
    async with AsyncGatePay("k", "s", transport=transport) as gatepay:
        with anyio.move_on_after(0.05):
            try:
                await gatepay.upload_card_keys(8, (f"KEY-{number}" for number in range(20_000)), concurrency="auto")
            except BaseException as error:
                raised = error
                raise
    return getattr(raised, "report", None)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_upload_adds_up(backend: str) -> None:
    """What was in flight is unknown, and what waited for a permit was not sent."""
    transport = Refusing()
    report = virtual_time.run(cancel_half_way, transport, backend=backend)
    assert isinstance(report, UploadReport)
    assert report.stored + report.unknown + report.not_sent == report.read
    assert min(report.stored, report.unknown, report.not_sent) > 0
    assert transport.in_flight == 0


@pytest.mark.anyio
async def test_permits_are_given_in_turn() -> None:
    """First come, first served; who gives up waiting takes nothing."""
    permits = AutoPermits(4)
    for _ in range(4):
        await permits.acquire()
    order: list[str] = []

    async def take(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await permits.acquire()
            order.append(name)

    def is_waiting(number: int) -> bool:
        return len(permits._waiting) == number

    scopes = {name: anyio.CancelScope() for name in "abc"}
    async with anyio.create_task_group() as group:
        for number, (name, scope) in enumerate(scopes.items(), 1):
            group.start_soon(take, name, scope)
            await until(partial(is_waiting, number))
        scopes["a"].cancel()
        await until(partial(is_waiting, 2))
        permits.release()
        await until(lambda: order == ["b"])
        permits.release()
    assert order == ["b", "c"]


def test_a_permit_that_comes_with_a_cancellation_goes_to_the_next() -> None:
    """As asyncio alone can have it: a task is cancelled that has its permit and has not run since."""

    async def main() -> None:
        permits = AutoPermits(1)
        await permits.acquire()
        first, second = (asyncio.create_task(permits.acquire()) for _ in range(2))
        await until(lambda: len(permits._waiting) == 2)
        permits.release()
        first.cancel()
        await second
        assert first.cancelled()

    asyncio.run(main())


@pytest.mark.anyio
async def test_what_an_attempt_meets_is_told() -> None:
    """An answer lets more calls start, whatever it says; 429 and 503 fewer; what says nothing changes nothing."""
    said_no = RefusedError(code=109, message="", endpoint="ka/create")
    gateway = ProtocolError(endpoint="ka/create", http_status=500, problem=Problem("empty"))
    broken = TransportError(endpoint="ka/create", sent=True, problem=Problem("empty"))
    for error, limit in ((None, 8), (said_no, 8), (gateway, 4), (broken, 4), (anyio.EndOfStream(), 4)):
        permits = AutoPermits(100)
        for ended in [permits.observe(CALL, 1) for _ in range(4)]:
            ended(error, None)
        assert permits._auto.limit == limit, error
    for status in (429, 503):
        permits = AutoPermits(100)
        permits.observe(CALL, 1)(
            ProtocolError(endpoint="ka/create", http_status=status, problem=Problem("empty")), status
        )
        assert permits._auto.limit == 2, status
