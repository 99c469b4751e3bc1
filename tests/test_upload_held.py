"""An upload to a server that asks for a pause, or answers no more, in virtual time."""

from urllib.parse import parse_qs

import anyio
import httpx
import pytest
import virtual_time

from gatepay_async import AsyncGatePay, Fate, RetryPolicy, TransportError, UploadReport

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]


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


class Cutting(httpx.AsyncBaseTransport):
    """Breaks the connection at each call with one of *bad* in it (None: at every call), and stores all others."""

    def __init__(self, bad: set[str] | None, *, hangs: bool = False) -> None:
        self._bad = bad
        self._hangs = hangs  # instead of breaking it
        self.calls = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        keys = parse_qs((await request.aread()).decode())["content"][0].split("\n")
        self.calls += 1
        await anyio.sleep(0.05)
        if self._bad is None or not self._bad.isdisjoint(keys):
            if self._hangs:
                await anyio.sleep_forever()
            raise httpx.ReadError("cut")
        data = f"成功录入:{len(keys)}条卡密"
        return httpx.Response(200, json={"code": 100, "msg": "", "time": "1", "data": data})


async def upload_few(transport: Cutting) -> tuple[UploadReport, float]:
    async with AsyncGatePay("k", "s", transport=transport) as gatepay:
        report = await gatepay.upload_card_keys(8, (f"KEY-{number}" for number in range(1, 501)))
        return report, anyio.current_time()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_key_that_breaks_the_connection_stands_alone(backend: str) -> None:
    """In an upload of one chunk, too, it is found by halving; that one is in doubt, and the others are stored."""
    for place in (1, 250, 500):
        transport = Cutting({f"KEY-{place}"})
        report, ended = virtual_time.run(upload_few, transport, backend=backend)
        assert (report.stored, report.unknown, report.stopped) == (499, 1, None), place
        (outcome,) = (chunk for chunk in report.chunks if chunk.fate is not Fate.STORED)
        assert outcome.keys == (f"KEY-{place}",)
        assert transport.calls < 60, place
        assert ended < 60, place


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_key_that_is_never_answered_costs_few_others(backend: str) -> None:
    """A firewall swallows each call that holds one card key: most others are stored, and none is lost."""
    for place in (1, 123, 250, 377, 500):
        report, _ = virtual_time.run(upload_few, Cutting({f"KEY-{place}"}, hangs=True), backend=backend)
        assert (report.stored >= 375, report.stored + report.unknown) == (True, 500), (place, report.stored)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_server_that_breaks_every_connection_ends_an_upload(backend: str) -> None:
    """Within forty seconds, at few calls: what is halved is not sent again without a pause."""
    transport = Cutting(None)
    report, ended = virtual_time.run(upload_few, transport, backend=backend)
    assert ended < 40
    assert transport.calls < 40
    assert isinstance(report.stopped, TransportError)
    assert report.unknown == 500
