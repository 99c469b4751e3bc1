"""Uploading card keys: against the sandbox over a real socket, and against a server whose timing is exact."""

import asyncio
import gc
import itertools
import math
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from durable_shop import Shop, serving
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE, until

from gatepay_async import (
    AlreadyStoredError,
    AsyncGatePay,
    ChunkOutcome,
    DuplicateKeysError,
    EmptyContentError,
    EndpointClosedError,
    Fate,
    InvalidAppKeyError,
    InvalidRequestError,
    ProductNotFoundError,
    ProtocolError,
    RefusedError,
    RetryPolicy,
    ShopNotFoundError,
    SignatureRejectedError,
    StorageFailedError,
    Stored,
    TooManyKeysError,
    TransportError,
    UploadIncomplete,
    UploadProgress,
    UploadReport,
)
from gatepay_async.protocol import invisible
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.retrying import Sent
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.upload import OnProgress, upload

pytestmark = [pytest.mark.sockets, pytest.mark.anyio, pytest.mark.usefixtures("impatient_uploads")]


def some(count: int, *, start: int = 0) -> list[str]:
    return [f"KEY-{number:05d}" for number in range(start, start + count)]


# --- What always holds -------------------------------------------------------------------------------------


def adds_up(report: UploadReport) -> UploadReport:
    """The ledger of the contract, and outcomes that agree with it."""
    settled = report.stored + report.already_there + report.refused + report.unknown + report.not_sent
    assert report.read == report.blank + report.duplicates + settled
    by_fate = Counter[str]()
    for chunk in report.chunks:
        by_fate[chunk.fate] += chunk.count
        assert len(chunk.keys) == (0 if chunk.fate is Fate.STORED else chunk.count)
        assert 1 <= chunk.first_line <= chunk.last_line <= report.read
    assert by_fate["stored"] == report.stored + report.already_there
    for column in ("refused", "unknown", "not_sent"):
        assert by_fate[column] == getattr(report, column)
    assert list(report.chunks) == sorted(report.chunks, key=lambda chunk: chunk.first_line)
    return report


def failed_keys(report: UploadReport, *fates: Fate) -> list[str]:
    return [key for chunk in report.chunks if not fates or chunk.fate in fates for key in chunk.keys]


def columns(report: UploadReport) -> dict[str, int]:
    names = ("stored", "already_there", "refused", "unknown", "not_sent")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def report_on(error: BaseException) -> UploadReport:
    report = getattr(error, "report", None)
    assert isinstance(report, UploadReport)
    return adds_up(report)


def is_accounted(report: UploadReport, read: Iterable[str], on_server: Iterable[str]) -> None:
    """Each key is on the server once, or the report says where it is."""
    times = Counter(list(on_server))
    assert max(times.values(), default=1) == 1
    failed = failed_keys(report)
    assert len(failed) == len(set(failed))
    assert set(read) - set(failed) <= set(times)
    assert not set(times) & set(failed_keys(report, Fate.REFUSED, Fate.NOT_SENT))


# --- The other end -----------------------------------------------------------------------------------------

Step = Callable[[KaCreate], None]


class Server:
    """
    ``send`` of a server that does to each call what the script says, and stores once the script is at its end.

    A step of the script is an exception to raise, a function to call first, or None.
    """

    def __init__(self, *script: Exception | Step | None) -> None:
        self.script = iter(script)
        self.stored: dict[str, None] = {}
        self.calls: list[tuple[str, ...]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.gate: anyio.Event | None = None
        self.steps = 1

    async def send(self, call: KaCreate) -> Sent[Stored]:
        assert call.product_id == 8
        self.calls.append(call.keys)
        step = next(self.script, None)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for _ in range(self.steps):
                await anyio.lowlevel.checkpoint()
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.in_flight -= 1
        if isinstance(step, Exception):
            raise step
        if step is not None:
            step(call)
        return self.store(call.keys)

    def store(self, keys: tuple[str, ...]) -> Sent[Stored]:
        before = len(self.stored)
        self.stored.update(dict.fromkeys(keys))
        if len(self.stored) == before:
            raise refusal(AlreadyStoredError, 112)
        return Sent(Stored(len(self.stored) - before, ""), 1)

    async def upload(
        self, keys: Iterable[str], *, concurrency: int = 1, on_progress: OnProgress | None = None
    ) -> UploadReport:
        with anyio.fail_after(PATIENCE):
            return adds_up(await upload(self.send, 8, keys, concurrency=concurrency, on_progress=on_progress))


def refusal(kind: type[RefusedError] = RefusedError, code: int = 199, **facts: Any) -> RefusedError:
    return kind(code=code, message="未知错误", endpoint="ka/create", **facts)


def unreachable(*, sent: bool = True, attempts: int = 4) -> TransportError:
    return TransportError(endpoint="ka/create", sent=sent, problem="the connection broke", attempts=attempts)


def garbled() -> ProtocolError:
    return ProtocolError(endpoint="ka/create", http_status=502, problem="is not complete JSON", attempts=4)


@asynccontextmanager
async def client_of(
    sandbox: Sandbox, *, appkey: str | None = None, appsecret: str | None = None
) -> AsyncIterator[AsyncGatePay]:
    keys = (appkey or sandbox.appkey, appsecret or sandbox.appsecret)
    quick = RetryPolicy(first_wait=0, longest_wait=0)
    async with sandbox.serve() as base_url, AsyncGatePay(*keys, base_url=base_url, retry=quick) as gatepay:
        yield gatepay


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Products without card keys: what is there was uploaded."""
    with Sandbox(seed=False) as it:
        yield it


class Counting:
    """Lines without end, and how many were asked for."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        while True:
            self.read += 1
            yield f"KEY-{self.read:07d}"


# --- All goes well -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4, 50])
async def test_everything_is_stored_once(sandbox: Sandbox, gatepay: AsyncGatePay, concurrency: int) -> None:
    """What is uploaded is on the server, each key once, and the report says so chunk by chunk."""
    keys = some(2_750)
    report = adds_up(await gatepay.upload_card_keys(8, keys, concurrency=concurrency))
    assert sorted(sandbox.keys(8)) == keys
    assert (report.read, columns(report), report.ok, report.stopped) == (2_750, {"stored": 2_750}, True, None)
    assert [(chunk.index, chunk.first_line, chunk.last_line) for chunk in report.chunks] == [
        (0, 1, 500),
        (1, 501, 1_000),
        (2, 1_001, 1_500),
        (3, 1_501, 2_000),
        (4, 2_001, 2_500),
        (5, 2_501, 2_750),
    ]
    assert {(chunk.fate, chunk.attempts, chunk.error, chunk.keys) for chunk in report.chunks} == {
        (Fate.STORED, 1, None, ())
    }
    assert sum(chunk.stored or 0 for chunk in report.chunks) == 2_750
    assert len(sandbox.requests) == 6
    report.raise_for_failures()


async def test_one_after_the_other_keeps_the_order(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """With ``concurrency=1`` the keys are on the server in the order of the input."""
    keys = some(1_700)[::-1]
    await gatepay.upload_card_keys(8, keys, concurrency=1)
    assert sandbox.keys(8) == keys


async def test_uploading_the_same_again(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A second upload of the same input finds everything there, and that is no failure."""
    keys = some(1_203)
    await gatepay.upload_card_keys(8, keys)
    report = adds_up(await gatepay.upload_card_keys(8, [*keys, "", keys[0]]))
    assert columns(report) == {"already_there": 1_203}
    assert (report.blank, report.duplicates, report.ok) == (1, 1, True)
    assert [chunk.stored for chunk in report.chunks] == [0, 0, 0]
    assert sorted(sandbox.keys(8)) == keys


async def test_some_were_there_before(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """Keys that the server had are told from new ones, also within one chunk."""
    sandbox.add_keys(8, some(700))
    report = adds_up(await gatepay.upload_card_keys(8, some(1_200)))
    assert columns(report) == {"stored": 500, "already_there": 700}
    assert [chunk.stored for chunk in report.chunks] == [0, 300, 200]
    assert report.ok


async def test_a_success_that_can_not_be_counted() -> None:
    """A success whose sentence can't be read counts as stored, and its outcome says that the number isn't known."""

    async def send(_: KaCreate) -> Sent[Stored]:
        await anyio.lowlevel.checkpoint()
        return Sent(Stored(None, "?"), 3)

    report = adds_up(await upload(send, 8, some(3)))
    assert columns(report) == {"stored": 3}
    assert [(chunk.stored, chunk.attempts) for chunk in report.chunks] == [(None, 3)]


async def test_nothing_to_upload(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """An empty input, or one of blanks, is an empty report and no request."""
    report = adds_up(await gatepay.upload_card_keys(8, []))
    assert (report.read, report.chunks, report.ok) == (0, (), True)
    report = adds_up(await gatepay.upload_card_keys(8, [" ", "\n"]))
    assert (report.read, report.blank, report.ok) == (2, 2, True)
    assert sandbox.requests == []


# --- Bounds ------------------------------------------------------------------------------------------------


@pytest.mark.uncounted
@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_no_more_than_concurrency_are_in_flight(concurrency: int) -> None:
    """Never more than ``concurrency`` calls are under way, and that many while there is enough to send."""
    server = Server()
    server.steps = 50
    report = await server.upload(some(5_000), concurrency=concurrency)
    assert server.most_in_flight == concurrency
    assert columns(report) == {"stored": 5_000}


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_slow_server_slows_the_reading(concurrency: int) -> None:
    """While nothing is answered, one chunk more is read than is in flight, and no line more."""
    server = Server()
    server.gate = anyio.Event()
    lines = Counting()
    async with anyio.create_task_group() as group:
        group.start_soon(upload, server.send, 8, lines)
        await anyio.wait_all_tasks_blocked()
        assert (server.in_flight, lines.read) == (4, 2_500)
        group.cancel_scope.cancel()


async def test_a_slow_consumer_of_progress_slows_the_reading() -> None:
    """While ``on_progress`` takes its time, no more is read than while the server does."""
    server = Server()
    lines = Counting()

    async def never_done(_: UploadProgress) -> None:
        await anyio.sleep_forever()

    async def run() -> None:
        await upload(server.send, 8, lines, concurrency=3, on_progress=never_done)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        assert (len(server.stored), lines.read) == (1_500, 2_000)
        group.cancel_scope.cancel()


# --- Progress ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
async def test_progress(sandbox: Sandbox, gatepay: AsyncGatePay, *, plain: bool) -> None:
    """``on_progress``, plain or async, hears of each chunk and of the end, never twice at a time, columns growing."""
    heard: list[UploadProgress] = []
    inside = 0

    async def take_time(progress: UploadProgress) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        inside -= 1
        heard.append(progress)

    sandbox.add_keys(8, some(300))
    keys = [*some(1_800), "", "a\nb", *some(100)]
    report = adds_up(
        await gatepay.upload_card_keys(8, keys, concurrency=3, on_progress=heard.append if plain else take_time)
    )
    assert len(heard) == 5
    for before, after in itertools.pairwise(heard):
        for name in ("read", "blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent"):
            assert getattr(before, name) <= getattr(after, name)
        assert before.chunks <= after.chunks
    for progress in heard:
        settled = progress.blank + progress.duplicates + progress.stored + progress.already_there + progress.refused
        assert progress.read == settled + progress.in_flight
    last = heard[-1]
    assert (last.read, last.blank, last.duplicates, last.refused) == (1_902, 1, 100, 1)
    assert (last.stored, last.already_there, last.in_flight) == (1_500, 300, 0)
    assert last.chunks == len(report.chunks) == 5


async def test_progress_of_nothing() -> None:
    """Also an upload of nothing ends with a last word."""
    heard: list[UploadProgress] = []
    await Server().upload([], on_progress=heard.append)
    assert [(progress.read, progress.in_flight, progress.chunks) for progress in heard] == [(0, 0, 0)]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("at_the_end", [True, False])
async def test_progress_that_fails(*, plain: bool, at_the_end: bool) -> None:
    """What ``on_progress`` raises comes out, with the report, when nothing is in flight; nothing is lost."""
    server = Server()
    failure = KeyError("a progress bar's own")

    def fail(progress: UploadProgress) -> None:
        if not at_the_end or progress.stored == 1_900:
            raise failure

    async def fail_later(progress: UploadProgress) -> None:
        await anyio.lowlevel.checkpoint()
        fail(progress)

    keys = some(1_900)
    with pytest.raises(KeyError) as caught:
        await server.upload(keys, concurrency=2, on_progress=fail if plain else fail_later)
    assert caught.value is failure
    report = report_on(failure)
    is_accounted(report, keys[: report.read], server.stored)
    assert report.read == (1_900 if at_the_end else 1_500)
    assert server.in_flight == 0
    assert report.unknown == 0


async def test_of_several_errors_the_first_is_raised() -> None:
    """Where one thing after the other goes wrong, the first comes out: the others are its consequence."""
    first, second = RuntimeError("first"), RuntimeError("second")
    failed = anyio.Event()
    server = Server()

    async def send(call: KaCreate) -> Sent[Stored]:
        if call.keys[0] != "KEY-00000":
            await failed.wait()
            raise second
        return await server.send(call)

    def fail(_: UploadProgress) -> None:
        if not failed.is_set():
            failed.set()
            raise first

    with pytest.raises(RuntimeError) as caught:
        await upload(send, 8, some(3_000), concurrency=2, on_progress=fail)
    assert caught.value is first
    assert columns(report_on(first)) == {"stored": 500, "unknown": 500, "not_sent": 500}


# --- Faults on the way -------------------------------------------------------------------------------------

NOT_CARRIED_OUT = [
    Fault(FaultKind.CUT_BEFORE, skip=1),
    Fault(FaultKind.RATE_LIMITED, skip=1, retry_after=0),
    Fault(FaultKind.BAD_GATEWAY, skip=1),
    Fault(FaultKind.CODE, skip=1, code=113),
]
CARRIED_OUT = [
    Fault(FaultKind.CUT_AFTER, skip=1),
    Fault(FaultKind.HALF_BODY, skip=1),
    Fault(FaultKind.HALF_JSON, skip=1),
]


def kind_of(fault: Fault) -> str:
    return fault.kind.value


@pytest.mark.uncounted
@pytest.mark.parametrize("fault", NOT_CARRIED_OUT, ids=kind_of)
async def test_a_call_that_is_lost_is_sent_again(sandbox: Sandbox, gatepay: AsyncGatePay, fault: Fault) -> None:
    """A chunk that the server did not store at first is stored by the second attempt."""
    sandbox.fault(fault)
    report = adds_up(await gatepay.upload_card_keys(8, some(1_200), concurrency=1))
    assert columns(report) == {"stored": 1_200}
    assert [chunk.attempts for chunk in report.chunks] == [1, 2, 1]
    assert sandbox.keys(8) == some(1_200)
    assert report.ok


@pytest.mark.uncounted
@pytest.mark.parametrize("fault", CARRIED_OUT, ids=kind_of)
@pytest.mark.parametrize("before", [0, 600])
async def test_an_answer_that_is_lost(sandbox: Sandbox, gatepay: AsyncGatePay, fault: Fault, before: int) -> None:
    """A chunk that was stored and not answered meets its own first copy: already there, and no failure."""
    sandbox.add_keys(8, some(before))
    sandbox.fault(fault)
    report = adds_up(await gatepay.upload_card_keys(8, some(1_200), concurrency=1))
    assert columns(report) == {"stored": 700 - (500 if before else 0), "already_there": 500 + (500 if before else 0)}
    assert [chunk.attempts for chunk in report.chunks] == [1, 2, 1]
    assert sorted(sandbox.keys(8)) == some(1_200)
    assert report.ok


@pytest.mark.parametrize("fault", [FaultKind.SLOW, FaultKind.DRIP])
async def test_an_answer_that_is_slow(sandbox: Sandbox, gatepay: AsyncGatePay, fault: FaultKind) -> None:
    """An answer that comes late, or byte by byte, is an answer."""
    sandbox.fault(Fault(fault, times=2, seconds=0.002))
    assert columns(adds_up(await gatepay.upload_card_keys(8, some(600)))) == {"stored": 600}


@pytest.mark.parametrize(
    ("fault", "column", "error", "carried_out"),
    [
        (Fault(FaultKind.CUT_BEFORE, times=None), "unknown", TransportError, False),
        (Fault(FaultKind.CUT_AFTER, times=None), "unknown", TransportError, True),
        (Fault(FaultKind.HALF_BODY, times=None), "unknown", TransportError, True),
        (Fault(FaultKind.HALF_JSON, times=None), "unknown", ProtocolError, True),
        (Fault(FaultKind.BAD_GATEWAY, times=None), "unknown", ProtocolError, False),
        (Fault(FaultKind.RATE_LIMITED, times=None, retry_after=0), "unknown", ProtocolError, False),
        (Fault(FaultKind.CODE, times=None, code=113), "refused", StorageFailedError, False),
        (Fault(FaultKind.CODE, times=None, code=199), "refused", RefusedError, False),
    ],
    ids=lambda value: kind_of(value) if isinstance(value, Fault) else "",
)
async def test_a_fault_that_stays(
    sandbox: Sandbox,
    gatepay: AsyncGatePay,
    *,
    fault: Fault,
    column: str,
    error: type[RefusedError],
    carried_out: bool,
) -> None:
    """What fails every time is in the column that says what is known of it, with its error and its keys."""
    sandbox.fault(fault)
    keys = some(60 if fault.code == 199 else 600)  # each key is asked about by itself
    report = adds_up(await gatepay.upload_card_keys(8, keys, concurrency=3))
    # On a slow machine the server counts as away before the last chunk is sent.
    assert columns(report).keys() - {"not_sent"} == {column}
    assert failed_keys(report) == keys
    assert {type(chunk.error) for chunk in report.chunks} == {error}
    assert (sorted(sandbox.keys(8)) != []) == carried_out
    assert not report.ok
    with pytest.raises(UploadIncomplete) as caught:
        report.raise_for_failures()
    assert caught.value.report is report


async def test_nobody_listens(quick: RetryPolicy) -> None:
    """Where no connection comes about no byte has left: not sent, whatever was tried."""
    with Sandbox() as sandbox:
        async with sandbox.serve() as base_url:
            pass
        async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, retry=quick) as gatepay:
            report = adds_up(await gatepay.upload_card_keys(8, some(1_200)))
    assert columns(report) == {"not_sent": 1_200}
    assert all(chunk.attempts >= 1 for chunk in report.chunks)
    assert isinstance(report.stopped, TransportError)


@pytest.mark.slow
@pytest.mark.uncounted
async def test_a_bad_day(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """Whatever goes wrong, at random and often, each key is on the server once or in the report with its error."""
    for kind in (FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER, FaultKind.HALF_JSON, FaultKind.BAD_GATEWAY):
        sandbox.fault(Fault(kind, times=None, probability=0.3, seed=1))
    sandbox.fault(Fault(FaultKind.CODE, times=None, probability=0.3, seed=1, code=199))
    keys = some(3_000)
    report = adds_up(await gatepay.upload_card_keys(8, keys, concurrency=4))
    is_accounted(report, keys[: report.read], sandbox.keys(8))
    assert all((chunk.error is None) == (chunk.fate is Fate.STORED) for chunk in report.chunks)
    sandbox.clear_faults()
    report = adds_up(await gatepay.upload_card_keys(8, keys))
    assert report.ok
    assert sorted(sandbox.keys(8)) == keys


# --- Refusals ----------------------------------------------------------------------------------------------

Spoil = Callable[[Sandbox], None]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("error", "product_id", "appkey", "spoil"),
    [
        (InvalidAppKeyError, 8, "nobody", None),
        (EndpointClosedError, 8, None, lambda sandbox: sandbox.change_shop(closed=True)),
        (ShopNotFoundError, 8, None, lambda sandbox: sandbox.remove_shop()),
        (ProductNotFoundError, 99, None, None),
    ],
    ids=["appkey", "closed", "shop", "product"],
)
async def test_what_every_chunk_would_meet_stops_the_upload(
    sandbox: Sandbox,
    *,
    concurrency: int,
    error: type[RefusedError],
    product_id: int,
    appkey: str | None,
    spoil: Spoil | None,
) -> None:
    """A refusal that every chunk would meet ends the upload: what was read is accounted for, the rest stays unread."""
    if spoil is not None:
        spoil(sandbox)
    lines = Counting()
    async with client_of(sandbox, appkey=appkey) as gatepay:
        report = adds_up(await gatepay.upload_card_keys(product_id, lines, concurrency=concurrency))
    assert type(report.stopped) is error
    assert report.read == lines.read <= (concurrency + 1) * 500
    assert len(sandbox.requests) <= concurrency
    assert report.refused == len(sandbox.requests) * 500
    assert report.not_sent == report.read - report.refused > 0
    assert failed_keys(report) == [f"KEY-{number:07d}" for number in range(1, report.read + 1)]
    assert all(type(chunk.error) is error for chunk in report.chunks)
    assert not report.ok
    assert sandbox.keys(8) == []


async def test_auto_tries_more_than_four_at_once() -> None:
    """Over a socket: more than four calls are in flight before long, and never more than there may be connections."""
    shop = Shop(latency=0.1)
    async with serving(shop), AsyncGatePay("key", "secret", base_url=shop.base_url, max_connections=20) as gatepay:
        report = adds_up(await gatepay.upload_card_keys(8, some(15_000), concurrency="auto"))
        with pytest.raises(InvalidRequestError, match='concurrency: must be a whole number above 0, or "auto"'):
            await gatepay.upload_card_keys(8, [], concurrency="fast")  # type: ignore[arg-type]  # that is the point
    assert (report.ok, report.stored, set(shop.sent.values())) == (True, 15_000, {1})
    assert 4 < shop.most_in_flight <= 20


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_wrong_secret_stops_the_upload(sandbox: Sandbox, concurrency: int) -> None:
    """A wrong secret costs as many calls as are under way at once, or three; nothing more is read."""
    lines = Counting()
    async with client_of(sandbox, appsecret="wrong") as gatepay:
        report = adds_up(await gatepay.upload_card_keys(8, lines, concurrency=concurrency))
    assert type(report.stopped) is SignatureRejectedError
    assert len(sandbox.requests) <= max(concurrency, 3)
    assert report.read == lines.read <= (concurrency + 1) * 500
    assert report.refused == concurrency * 500
    assert report.not_sent == report.read - report.refused
    assert all(type(chunk.error) is SignatureRejectedError for chunk in report.chunks)


async def test_a_text_that_breaks_the_signature_of_the_first_chunk() -> None:
    """A rejected signature at the very beginning ends nothing while calls are under way that may still succeed."""
    keys = ["BAD", *some(1_999)]
    server = Server()
    rejected = anyio.Event()

    async def send(call: KaCreate) -> Sent[Stored]:
        if "BAD" in call.keys:
            server.calls.append(call.keys)
            await anyio.wait_all_tasks_blocked()
            if rejected.is_set():
                assert server.stored, "sent before the others were answered"
            rejected.set()
            raise refusal(SignatureRejectedError, 106)
        await rejected.wait()
        await anyio.wait_all_tasks_blocked()
        return await server.send(call)

    with anyio.fail_after(PATIENCE):
        report = adds_up(await upload(send, 8, keys, concurrency=4))
    assert (columns(report), report.stopped) == ({"stored": 1_999, "refused": 1}, None)
    assert failed_keys(report) == ["BAD"]
    assert len(server.calls) <= 3 + 2 * (math.log2(500) + 1)


async def test_a_stop_does_not_wait_for_a_slow_input() -> None:
    """Once stopped, the upload takes the line that comes next, and doesn't wait for a whole chunk of them."""
    server = Server(refusal(EndpointClosedError, 107))
    read = 0

    async def trickle() -> AsyncGenerator[str, None]:
        nonlocal read
        for key in some(5_000):
            read += 1
            if read > 500:
                await anyio.wait_all_tasks_blocked()
            yield key

    async with aclosing(trickle()) as lines:
        with anyio.fail_after(PATIENCE):
            report = adds_up(await upload(server.send, 8, lines, concurrency=2))
    assert columns(report) == {"refused": 500, "not_sent": 1}


async def test_a_stop_does_not_wait_for_a_long_input_without_new_keys() -> None:
    """Once stopped, the upload does not read repetitions without end in search of a chunk."""
    server = Server(refusal(EndpointClosedError, 107))
    report = await server.upload(itertools.chain(some(500), itertools.repeat("KEY-00000")), concurrency=2)
    assert columns(report) == {"refused": 500}
    assert report.read < 20_000


async def test_the_last_chunk_may_stop_it_too() -> None:
    """A fatal refusal of the only chunk is an upload that was stopped, although nothing was left to send."""
    report = await Server(refusal(EndpointClosedError, 107)).upload(some(10))
    assert isinstance(report.stopped, EndpointClosedError)
    assert columns(report) == {"refused": 10}


async def test_what_only_one_chunk_met_stops_nothing(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A refusal without a meaning of its own is its chunk's affair: the others are stored, its halves are tried."""
    sandbox.fault(Fault(FaultKind.CODE, code=199, skip=1))
    report = adds_up(await gatepay.upload_card_keys(8, some(1_501), concurrency=1))
    assert columns(report) == {"stored": 1_501}
    sandbox.fault(Fault(FaultKind.CODE, code=199))
    report = adds_up(await gatepay.upload_card_keys(8, ["ALONE"]))
    assert columns(report) == {"refused": 1}
    assert report.stopped is None
    (chunk,) = report.chunks
    assert isinstance(chunk.error, RefusedError)
    assert (chunk.index, chunk.first_line, chunk.last_line, chunk.error.code) == (0, 1, 1, 199)


async def test_a_refusal_in_doubt_is_unknown() -> None:
    """A refusal after an attempt that may have been carried out says nothing about that attempt."""
    report = await Server(refusal(in_doubt=True, attempts=2)).upload(some(1))
    assert columns(report) == {"unknown": 1}
    assert report.chunks[0].attempts == 2


async def test_there_already_after_a_doubt() -> None:
    """112 after an attempt that broke off means that all of them are there."""
    report = await Server(refusal(AlreadyStoredError, 112, in_doubt=True, attempts=2)).upload(some(5))
    assert columns(report) == {"already_there": 5}
    assert report.ok


# --- Content that GatePay objects to -----------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 499), (248, 251), (498, 499)])
async def test_keys_that_differ_in_case_only(one: int, other: int) -> None:
    """Where the server takes two keys for one, the chunk is halved until they stand apart; all others are stored."""
    keys = some(1_000)
    keys[one], keys[other] = "abc", "ABC"
    with Sandbox(seed=False, case_insensitive_keys=True) as sandbox:
        async with client_of(sandbox) as gatepay:
            report = adds_up(await gatepay.upload_card_keys(8, keys))
        assert sorted(sandbox.keys(8)) == sorted(set(keys) - {"ABC"})
        assert columns(report) == {"stored": 999, "already_there": 1}
        assert report.ok
        assert len(sandbox.requests) <= 2 * (math.log2(500) + 1) + 1
    parts = [chunk for chunk in report.chunks if chunk.index == 0]
    assert sum(chunk.count for chunk in parts) == 500
    assert [parts[0].first_line, parts[-1].last_line] == [1, 500]
    for before, after in itertools.pairwise(parts):
        assert before.last_line + 1 == after.first_line


@pytest.mark.uncounted
@pytest.mark.parametrize(
    ("kind", "code"), [(DuplicateKeysError, 109), (EmptyContentError, 110), (TooManyKeysError, 111)]
)
@pytest.mark.parametrize("place", [0, 251, 499])
async def test_a_key_that_the_server_objects_to(kind: type[RefusedError], code: int, place: int) -> None:
    """One key that spoils every call it is in is found by halving, and refused alone, by its line."""
    keys = some(500)
    keys[place] = "BAD"
    server = Server()

    async def send(call: KaCreate) -> Sent[Stored]:
        if "BAD" in call.keys:
            server.calls.append(call.keys)
            raise refusal(kind, code)
        return await server.send(call)

    report = adds_up(await upload(send, 8, keys))
    assert columns(report) == {"stored": 499, "refused": 1}
    (refused,) = [chunk for chunk in report.chunks if chunk.error]
    assert (refused.keys, refused.first_line, refused.last_line) == (("BAD",), place + 1, place + 1)
    assert isinstance(refused.error, kind)
    assert list(server.stored) == [key for key in keys if key != "BAD"]
    assert len(server.calls) <= 2 * (math.log2(500) + 1)


async def test_a_stop_in_the_middle_of_the_halves() -> None:
    """Halves that are not sent any more, because the upload has ended, are not sent."""
    repeats = refusal(DuplicateKeysError, 109)
    server = Server(repeats, repeats, refusal(EndpointClosedError, 107))
    report = await server.upload(some(500))
    assert columns(report) == {"refused": 125, "not_sent": 375}
    outcomes = [(chunk.fate, chunk.first_line, chunk.last_line) for chunk in report.chunks]
    assert outcomes == [(Fate.REFUSED, 1, 125), (Fate.NOT_SENT, 126, 250), (Fate.NOT_SENT, 251, 500)]
    assert [len(keys) for keys in server.calls] == [500, 250, 125]


# --- Nobody answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "column"), [(False, "not_sent"), (True, "unknown")])
async def test_a_server_that_is_away_stops_the_upload(*, sent: bool, column: str) -> None:
    """Calls that nobody answers end an upload, which holds what is in flight and reads nothing more meanwhile."""
    server = Server(*(unreachable(sent=sent) for _ in range(10_000)))
    lines = Counting()
    report = await server.upload(lines, concurrency=3)
    assert isinstance(report.stopped, TransportError)
    assert report.read == lines.read == 2_000
    assert report.unknown + report.not_sent == 2_000
    assert getattr(report, column) >= 500


@pytest.mark.parametrize("what", [garbled, lambda: refusal(StorageFailedError, 113)], ids=["garbled", "113"])
async def test_calls_in_vain_stop_the_upload(what: Callable[[], Exception]) -> None:
    """So do calls that somebody else answers (a wrong address), or after which the database stores nothing."""
    server = Server(*(what() for _ in range(10_000)))
    report = await server.upload(some(10_000))
    assert report.stopped is not None
    assert report.stored == 0
    assert len(server.calls) < 500


# --- Cancelled, closed, broken -----------------------------------------------------------------------------


class HalfWay:
    """An upload that stands still: two chunks stored, two in flight, one waiting, and no line read beyond."""

    def __init__(self) -> None:
        self.server = Server(None, None)
        self.lines = Counting()
        self.report: UploadReport | None = None

    async def send(self, call: KaCreate) -> Sent[Stored]:
        if call.keys[0] <= "KEY-0001000":
            return await self.server.send(call)
        self.server.in_flight += 1
        try:
            await anyio.sleep_forever()
            raise AssertionError("not reached")
        finally:
            self.server.in_flight -= 1

    async def run(self) -> None:
        try:
            await upload(self.send, 8, self.lines, concurrency=2)
        except BaseException as error:
            self.report = report_on(error)
            raise

    def check(self) -> None:
        assert self.report is not None
        assert columns(self.report) == {"stored": 1_000, "unknown": 1_000, "not_sent": 500}
        assert self.report.read == self.lines.read == 2_500
        assert failed_keys(self.report) == [f"KEY-{number:07d}" for number in range(1_001, 2_501)]
        assert [chunk.fate for chunk in self.report.chunks] == ["stored"] * 2 + ["unknown"] * 2 + ["not_sent"]
        assert self.server.in_flight == 0


async def test_cancelled_by_a_scope() -> None:
    """Cancelled half-way, the upload has its report on the exception, and what was in flight is unknown."""
    half_way = HalfWay()
    async with anyio.create_task_group() as group:
        group.start_soon(half_way.run)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    half_way.check()


async def test_cancelled_by_a_deadline() -> None:
    """The same under ``fail_after``: the report is on what is raised inside its scope."""
    half_way = HalfWay()

    async def end(scope: anyio.CancelScope) -> None:
        await anyio.wait_all_tasks_blocked()
        scope.deadline = anyio.current_time()

    async def run() -> None:
        with anyio.fail_after(PATIENCE) as scope:
            group.start_soon(end, scope)
            await half_way.run()

    async with anyio.create_task_group() as group:
        with pytest.raises(TimeoutError):
            await run()
    half_way.check()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelled_the_way_of_asyncio() -> None:
    """``task.cancel()`` and ``asyncio.timeout()`` leave the report on the CancelledError."""
    half_way = HalfWay()
    task = asyncio.create_task(half_way.run())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    half_way.check()
    half_way = HalfWay()

    async def end(limit: asyncio.Timeout) -> None:
        await anyio.wait_all_tasks_blocked()
        limit.reschedule(asyncio.get_running_loop().time())

    async def run() -> None:
        async with asyncio.timeout(PATIENCE) as limit:
            group.start_soon(end, limit)
            await half_way.run()

    async with anyio.create_task_group() as group:
        with pytest.raises(TimeoutError):
            await run()
    half_way.check()


@pytest.mark.slow
async def test_cancelled_at_any_step() -> None:
    """Wherever the cancellation strikes, every line that was read is in one column."""
    for steps in range(60):
        server = Server(None, refusal(DuplicateKeysError, 109), refusal())
        lines = some(2_600)
        report = None
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_after, steps, scope.cancel)
                try:
                    report = await upload(server.send, 8, lines, concurrency=2, on_progress=a_moment)
                except BaseException as error:
                    report = report_on(error)
                    raise
        assert report is not None
        is_accounted(adds_up(report), lines[: report.read], server.stored)


# asyncio's own words on a task that was cancelled before it began.
@pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_every_task_cancelled_at_any_step() -> None:
    """As when asyncio.run() ends: each task is cancelled by itself, also one that has not begun; the ledger adds up."""
    this = asyncio.current_task()
    before = asyncio.all_tasks()
    for steps in range(40):
        server = Server(None, refusal(DuplicateKeysError, 109), refusal())
        lines = some(2_600)
        task = asyncio.create_task(upload(server.send, 8, lines, concurrency=3, on_progress=a_moment))
        for _ in range(steps):
            await asyncio.sleep(0)
        for other in asyncio.all_tasks() - before - {this}:
            other.cancel()
        try:
            report = await task
        except asyncio.CancelledError as error:
            if steps == 0:
                continue  # the upload itself had not begun
            report = report_on(error)
        is_accounted(adds_up(report), lines[: report.read], server.stored)
    # What never began hangs in cycles; it must go while the filter above holds, and not when the whole run ends.
    del task, other, report
    gc.collect()


async def a_moment(_: UploadProgress) -> None:
    await anyio.lowlevel.checkpoint()


async def cancel_after(steps: int, cancel: Callable[[], None]) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    cancel()


async def test_cancelled_over_a_real_socket(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """Cancelled in the middle of real requests, nothing is lost, and the client goes on."""
    sandbox.fault(Fault(FaultKind.SLOW, skip=3, times=None, seconds=60))
    keys = some(10_000)
    report = None
    async with anyio.create_task_group() as group:

        async def run() -> None:
            nonlocal report
            try:
                await gatepay.upload_card_keys(8, keys, concurrency=3)
            except BaseException as error:
                report = report_on(error)
                raise

        group.start_soon(run)
        await until(lambda: len(sandbox.keys(8)) >= 3_000)
        group.cancel_scope.cancel()
    assert report is not None
    assert columns(report) == {"stored": 1_500, "unknown": 1_500, "not_sent": 500}
    is_accounted(report, keys[:3_500], sandbox.keys(8))
    sandbox.clear_faults()
    assert adds_up(await gatepay.upload_card_keys(8, keys)).ok
    assert sorted(sandbox.keys(8)) == keys


async def test_a_client_that_is_closed_half_way(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """Closing the client under an upload ends it with the error that says so, and the report."""

    async def close(_: UploadProgress) -> None:
        await gatepay.__aexit__(None, None, None)

    keys = some(10_000)
    with pytest.raises(InvalidRequestError, match="has been closed") as caught:
        await gatepay.upload_card_keys(8, keys, concurrency=2, on_progress=close)
    report = report_on(caught.value)
    assert report.stored >= 500
    assert report.not_sent >= 500
    is_accounted(report, keys[: report.read], sandbox.keys(8))


async def test_a_client_that_is_not_open(sandbox: Sandbox) -> None:
    """Through a client that was never opened nothing is sent, and the report says so."""
    lines = Counting()
    with pytest.raises(InvalidRequestError, match="not open yet") as caught:
        await AsyncGatePay(sandbox.appkey, sandbox.appsecret).upload_card_keys(8, lines)
    report = report_on(caught.value)
    assert columns(report) == {"not_sent": report.read}
    assert report.read == lines.read <= 2_500


class Odd(httpx.AsyncBaseTransport):
    """A transport that raises what no transport should."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002 -- httpx's
        await anyio.lowlevel.checkpoint()
        raise ZeroDivisionError("a transport's own")


async def test_an_error_of_the_transports_own(sandbox: Sandbox, quick: RetryPolicy) -> None:
    """An exception that is none of ours comes out as it is, with the report: what was in flight is unknown."""
    keys = some(1_200)
    client = AsyncGatePay(sandbox.appkey, sandbox.appsecret, transport=Odd(), retry=quick)
    async with client as gatepay:
        with pytest.raises(ZeroDivisionError) as caught:
            await gatepay.upload_card_keys(8, keys, concurrency=1)
    report = report_on(caught.value)
    assert columns(report) == {"unknown": 500, "not_sent": 500}
    assert (report.read, report.stopped) == (1_000, None)


# --- Secrets -----------------------------------------------------------------------------------------------


async def test_no_key_is_shown(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """Neither the report, its outcomes, their errors nor UploadIncomplete show a card key."""
    keys = ["SECRET\nSECRET", "SECRET-\ud83d", ["SECRET"], *(f"SECRET-{number}" for number in range(4))]
    refusing, failing = Fault(FaultKind.CODE, code=199, times=None), Fault(FaultKind.BAD_GATEWAY, times=None)
    for fault, shown in (refusing, "199"), (failing, "502"):
        sandbox.clear_faults()
        sandbox.fault(fault)
        report = adds_up(await gatepay.upload_card_keys(8, keys, concurrency=1))  # type: ignore[arg-type]  # on purpose
        with pytest.raises(UploadIncomplete) as caught:
            report.raise_for_failures()
        text = repr(report) + str(report) + repr(caught.value) + "".join(traceback.format_exception(caught.value))
        for chunk in report.chunks:
            assert chunk.error is not None
            text += repr(chunk) + repr(chunk.error) + "".join(traceback.format_exception(chunk.error))
        assert "SECRET" not in text
        assert repr(report.chunks[0]).startswith("ChunkOutcome(index=")
        assert shown in text


# --- Whatever happens --------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[], Exception | None]] = {
    "stores": lambda: None,
    "there already": lambda: refusal(AlreadyStoredError, 112),
    "objects": lambda: refusal(DuplicateKeysError, 109),
    "fails": lambda: refusal(StorageFailedError, 113),
    "refuses": refusal,
    "refuses in doubt": lambda: refusal(in_doubt=True),
    "closes": lambda: refusal(EndpointClosedError, 107),
    "never sends": lambda: unreachable(sent=False),
    "breaks": unreachable,
    "garbles": garbled,
    "is closed": lambda: InvalidRequestError(field="client", problem="has been closed"),
    "is odd": lambda: ValueError("odd"),
}
LETTERS = st.text("abAB \n\r\t\ufeff\u3000\ud83d密", max_size=4)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@given(
    blocks=st.lists(st.one_of(st.integers(1, 700), st.lists(LETTERS, max_size=8)), max_size=6),
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=14),
    concurrency=st.integers(1, 4),
    cancelled=st.integers(0, 60),
)
async def test_whatever_happens_the_ledger_adds_up(
    *, blocks: list[int | list[str]], steps: list[str], concurrency: int, cancelled: int
) -> None:
    """Any input, any outcomes, cancelled anywhere or not: each line is in one column, each key is accounted for."""
    lines: list[str] = []
    for block in blocks:
        lines += some(block, start=len(lines) // 2) if isinstance(block, int) else block
    server = Server(*(STEPS[step]() for step in steps))
    report: UploadReport | None = None
    with anyio.CancelScope() as scope:
        try:
            async with anyio.create_task_group() as group:
                if cancelled < 40:
                    group.start_soon(cancel_after, cancelled, scope.cancel)
                report = await upload(server.send, 8, lines, concurrency=concurrency, on_progress=a_moment)
                group.cancel_scope.cancel()
        except* Exception as errors:  # noqa: BLE001 -- whatever it is, it has the report
            (error,) = errors.exceptions
            report = report_on(error)
        except* asyncio.CancelledError as errors:
            report = report_on(errors.exceptions[0])
            raise
    assert report is not None
    adds_up(report)
    clean = [invisible.strip(line) for line in lines[: report.read]]
    assert report.blank == clean.count("")
    times = Counter(server.calls[0]) if server.calls else Counter[str]()
    assert max(times.values(), default=1) == 1
    claimed = {key for chunk in report.chunks for key in chunk.keys}
    there = set(server.stored)
    if "there already" in steps:
        there |= {key for keys in server.calls for key in keys}
    assert {key for key in clean if key} - claimed <= there
    assert not set(server.stored) & set(failed_keys(report, Fate.REFUSED, Fate.NOT_SENT))
    assert isinstance(report.chunks[0], ChunkOutcome) if report.chunks else report.read >= 0
