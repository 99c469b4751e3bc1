"""Uploads to a server that asks for a pause, stops replying, or breaks connections, in virtual time."""

from urllib.parse import parse_qs

import anyio
import httpx
import pytest
import virtual_time

from gatepay_async import AsyncGatePay, Fate, RetryPolicy, TransportError, UploadReport

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]


class Pausing(httpx.AsyncBaseTransport):
    """Answers the first call with 429 and Retry-After: 40, later ones with success. Records the time of each call."""

    def __init__(self) -> None:
        self.call_times: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.call_times.append(anyio.current_time())
        await request.aread()
        if len(self.call_times) == 1:
            return httpx.Response(429, headers={"retry-after": "40"})
        await anyio.sleep(1)
        return httpx.Response(200, json={"code": 100, "msg": "", "time": "1", "data": "成功录入:500条卡密"})


async def upload(transport: Pausing) -> UploadReport:
    async with AsyncGatePay("k", "s", transport=transport, retry=RetryPolicy(attempts=1)) as gatepay:
        return await gatepay.upload_card_keys(8, (f"KEY-{number}" for number in range(3_000)), concurrency=1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_call_before_retry_after_has_passed(backend: str) -> None:
    """After a Retry-After header no call is made before its time has passed, for any chunk."""
    transport = Pausing()
    report = virtual_time.run(upload, transport, backend=backend)
    assert report.ok
    assert transport.call_times[0] == 0
    assert len(transport.call_times) == 7
    assert min(transport.call_times[1:]) >= 40


class Hanging(httpx.AsyncBaseTransport):
    """Stores card keys for *seconds* seconds. After that it never replies."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        await anyio.sleep(0.7)
        if anyio.current_time() > self._seconds:
            await anyio.sleep_forever()
        return httpx.Response(200, json={"code": 100, "msg": "", "time": "1", "data": "成功录入:500条卡密"})


async def upload_and_time(transport: Hanging) -> tuple[UploadReport, float]:
    async with AsyncGatePay("k", "s", transport=transport) as gatepay:
        report = await gatepay.upload_card_keys(8, (f"KEY-{number}" for number in range(50_000)))
        return report, anyio.current_time()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_upload_ends_within_forty_seconds_after_the_last_reply(backend: str) -> None:
    """If the server never replies, or stops replying after a few seconds, the upload ends within forty seconds."""
    for seconds in (0, 1, 3.3, 5):
        report, ended_at = virtual_time.run(upload_and_time, Hanging(seconds), backend=backend)
        assert ended_at - seconds < 40, seconds
        assert isinstance(report.stopped, TransportError)
        assert report.unknown > 0


class Cutting(httpx.AsyncBaseTransport):
    """
    Breaks the connection for each call with one of the card keys *bad*, and stores all others.

    Args:
        bad: The card keys; None: every call.
        hangs: Whether these calls never get a reply, instead of a broken connection.
    """

    def __init__(self, bad: set[str] | None, *, hangs: bool = False) -> None:
        self._bad = bad
        self._hangs = hangs
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


async def upload_one_chunk(transport: Cutting) -> tuple[UploadReport, float]:
    async with AsyncGatePay("k", "s", transport=transport) as gatepay:
        report = await gatepay.upload_card_keys(8, (f"KEY-{number}" for number in range(1, 501)))
        return report, anyio.current_time()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_key_that_breaks_the_connection_is_found_by_halving(backend: str) -> None:
    """If a card key breaks the connection of every call, its outcome is unknown and the other keys are stored."""
    for place in (1, 250, 500):
        transport = Cutting({f"KEY-{place}"})
        report, ended_at = virtual_time.run(upload_one_chunk, transport, backend=backend)
        assert (report.stored, report.unknown, report.stopped) == (499, 1, None), place
        (outcome,) = (chunk for chunk in report.chunks if chunk.fate is not Fate.STORED)
        assert outcome.keys == (f"KEY-{place}",)
        assert transport.calls < 60, place
        assert ended_at < 60, place


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_key_without_replies_affects_few_others(backend: str) -> None:
    """If calls with a certain card key never get a reply, at least 375 of 500 are stored, and none is lost."""
    # Two parts in a row without a reply end the upload. For card key 377 that happens after 375 are stored.
    for place in (1, 123, 250, 377, 500):
        report, _ = virtual_time.run(upload_one_chunk, Cutting({f"KEY-{place}"}, hangs=True), backend=backend)
        assert (report.stored >= 375, report.stored + report.unknown) == (True, 500), (place, report.stored)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_upload_ends_if_every_connection_breaks(backend: str) -> None:
    """If every connection breaks, the upload ends within forty seconds, after few calls."""
    transport = Cutting(None)
    report, ended_at = virtual_time.run(upload_one_chunk, transport, backend=backend)
    assert ended_at < 40
    assert transport.calls < 40
    assert isinstance(report.stopped, TransportError)
    assert report.unknown == 500
