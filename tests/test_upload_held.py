"""An upload to a server that asks for a pause, or answers no more, in virtual time."""

import anyio
import httpx
import pytest
import virtual_time

from gatepay_async import AsyncGatePay, RetryPolicy, TransportError, UploadReport

pytestmark = pytest.mark.fast


class Pausing(httpx.AsyncBaseTransport):
    """Asks for a pause of forty seconds once, and stores everything after it; it notes when each call came."""

    def __init__(self) -> None:
        self.came: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.came.append(anyio.current_time())
        await request.aread()
        if len(self.came) == 1:
            return httpx.Response(429, headers={"retry-after": "40"})
        await anyio.sleep(1)
        return httpx.Response(200, json={"code": 100, "msg": "", "time": "1", "data": "成功录入:500条卡密"})


async def upload(transport: Pausing) -> UploadReport:
    async with AsyncGatePay("k", "s", transport=transport, retry=RetryPolicy(attempts=1)) as gatepay:
        return await gatepay.upload_card_keys(8, (f"KEY-{number}" for number in range(3_000)), concurrency=1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nothing_is_sent_while_the_server_wants_a_pause(backend: str) -> None:
    """No call is made before the time that the server gave has passed, whatever card keys it is for."""
    transport = Pausing()
    report = virtual_time.run(upload, transport, backend=backend)
    assert report.ok
    assert transport.came[0] == 0
    assert len(transport.came) == 7
    assert min(transport.came[1:]) >= 40


class Hanging(httpx.AsyncBaseTransport):
    """Stores what comes in its first seconds; answers nothing after them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        await anyio.sleep(0.7)
        if anyio.current_time() > self._seconds:
            await anyio.sleep_forever()
        return httpx.Response(200, json={"code": 100, "msg": "", "time": "1", "data": "成功录入:500条卡密"})


async def upload_until(transport: Hanging) -> tuple[UploadReport, float]:
    async with AsyncGatePay("k", "s", transport=transport) as gatepay:
        report = await gatepay.upload_card_keys(8, (f"KEY-{number}" for number in range(50_000)))
        return report, anyio.current_time()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_server_that_hangs_ends_an_upload_within_forty_seconds(backend: str) -> None:
    """From the start, or at any moment of it: forty seconds after its last answer the upload has ended."""
    for seconds in (0, 1, 3.3, 5):
        report, ended = virtual_time.run(upload_until, Hanging(seconds), backend=backend)
        assert ended - seconds < 40, seconds
        assert isinstance(report.stopped, TransportError)
        assert report.unknown > 0
