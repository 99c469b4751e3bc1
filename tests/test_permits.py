"""Uploads with ``concurrency="auto"``, and the permits of their calls, in virtual time."""

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


class TenAtOnce(httpx.AsyncBaseTransport):
    """Answers each call after 20 ms, and refuses calls while ten others are in flight."""

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


async def upload(transport: TenAtOnce) -> UploadReport:
    async with AsyncGatePay("k", "s", transport=transport) as gatepay:
        keys = (f"KEY-{number}" for number in range(30_000))
        return await gatepay.upload_card_keys(8, keys, concurrency="auto")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_auto_concurrency_reaches_the_servers_limit(backend: str) -> None:
    """If the server accepts ten calls at a time, the upload has ten in flight, and few are refused."""
    transport = TenAtOnce()
    report = virtual_time.run(upload, transport, backend=backend)
    assert (report.ok, report.stored) == (True, 30_000)
    assert transport.most_in_flight == 10
    assert transport.refused < 15


async def report_of_cancelled_upload(transport: TenAtOnce) -> object:
    """Cancel an upload after 50 ms. Return its report."""
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
def test_a_cancelled_auto_upload_adds_up(backend: str) -> None:
    """After a cancellation, calls in flight are unknown, and calls that waited for a permit are not sent."""
    transport = TenAtOnce()
    report = virtual_time.run(report_of_cancelled_upload, transport, backend=backend)
    assert isinstance(report, UploadReport)
    assert report.stored + report.unknown + report.not_sent == report.read
    assert min(report.stored, report.unknown, report.not_sent) > 0
    assert transport.in_flight == 0


@pytest.mark.anyio
async def test_permits_are_granted_in_order_of_request() -> None:
    """Permits are granted in order. A task that is cancelled while it waits takes none."""
    permits = AutoPermits(4)
    for _ in range(4):
        await permits.acquire()
    order: list[str] = []

    async def take(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await permits.acquire()
            order.append(name)

    def has_waiting_tasks(count: int) -> bool:
        return len(permits._waiting) == count

    scopes = {name: anyio.CancelScope() for name in "abc"}
    async with anyio.create_task_group() as group:
        for number, (name, scope) in enumerate(scopes.items(), 1):
            group.start_soon(take, name, scope)
            await until(partial(has_waiting_tasks, number))
        scopes["a"].cancel()
        await until(partial(has_waiting_tasks, 2))
        permits.release()
        await until(lambda: order == ["b"])
        permits.release()
    assert order == ["b", "c"]


def test_the_permit_of_a_cancelled_task_goes_to_the_next() -> None:
    """On asyncio a task can be cancelled after it got a permit, before it runs. The next task then gets the permit."""

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
async def test_the_result_of_an_attempt_changes_the_limit() -> None:
    """A reply from GatePay raises the limit, HTTP 429 and 503 lower it, and other errors leave it unchanged."""
    refused = RefusedError(code=109, message="", endpoint="ka/create")
    gateway = ProtocolError(endpoint="ka/create", http_status=500, problem=Problem("empty"))
    broken = TransportError(endpoint="ka/create", sent=True, problem=Problem("empty"))
    # The limit is 4 at first. A step up doubles it, and a step down halves it.
    for error, limit in ((None, 8), (refused, 8), (gateway, 4), (broken, 4), (anyio.EndOfStream(), 4)):
        permits = AutoPermits(100)
        for end_attempt in [permits.observe(CALL, 1) for _ in range(4)]:
            end_attempt(error, None)  # None: the HTTP status, which AutoPermits doesn't read
        assert permits._auto.limit == limit, error
    for status in (429, 503):
        permits = AutoPermits(100)
        permits.observe(CALL, 1)(
            ProtocolError(endpoint="ka/create", http_status=status, problem=Problem("empty")), status
        )
        assert permits._auto.limit == 2, status
