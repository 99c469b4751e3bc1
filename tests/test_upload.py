"""Uploads card keys: to the sandbox over a real socket, and to simulated servers with exact timing."""

import asyncio
import gc
import itertools
import math
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
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
from gatepay_async.protocol.bulk import OnProgress
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.retrying import Sent
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.upload import upload

# Finding one refused card key among 500 by halving takes at most this many calls: two for each of about 10 sizes.
MAX_HALVING_CALLS = 2 * (math.log2(500) + 1)

# With `impatient_uploads`, an upload ends after eight failed calls in a row.
pytestmark = [pytest.mark.sockets, pytest.mark.anyio, pytest.mark.usefixtures("impatient_uploads")]


def make_keys(count: int, *, start: int = 0) -> list[str]:
    return [f"KEY-{number:05d}" for number in range(start, start + count)]


# --- Checks of a report ------------------------------------------------------------------------------------


def assert_adds_up(report: UploadReport) -> UploadReport:
    """Check that each line is in exactly one column, and that the chunks agree with the columns. Return the report."""
    total_of_results = report.stored + report.already_there + report.refused + report.unknown + report.not_sent
    assert report.read == report.blank + report.duplicates + total_of_results
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
    """Return the card keys in the chunks with these fates; without fates, in all chunks that are not stored."""
    return [key for chunk in report.chunks if not fates or chunk.fate in fates for key in chunk.keys]


def columns(report: UploadReport) -> dict[str, int]:
    """Return the result columns of the report that aren't 0."""
    names = ("stored", "already_there", "refused", "unknown", "not_sent")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def report_of(error: BaseException) -> UploadReport:
    """Return the report that an upload attached to its exception."""
    report = getattr(error, "report", None)
    assert isinstance(report, UploadReport)
    return assert_adds_up(report)


def assert_accounted_for(report: UploadReport, read: Iterable[str], on_server: Iterable[str]) -> None:
    """Check that each card key is on the server once, or in a chunk of the report that isn't stored."""
    stored_counts = Counter(list(on_server))
    assert max(stored_counts.values(), default=1) == 1
    failed = failed_keys(report)
    assert len(failed) == len(set(failed))
    assert set(read) - set(failed) <= set(stored_counts)
    assert not set(stored_counts) & set(failed_keys(report, Fate.REFUSED, Fate.NOT_SENT))


# --- Simulated servers -------------------------------------------------------------------------------------

Step = Callable[[KaCreate], None]


class Server:
    """
    A server whose ``send`` follows a script, one step per call. After the script it stores all card keys.

    A step is an exception to raise, a function to call before storing, or None.
    """

    def __init__(self, *script: Exception | Step | None) -> None:
        self.script = iter(script)
        self.stored: dict[str, None] = {}
        self.calls: list[tuple[str, ...]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.gate: anyio.Event | None = None  # calls wait for it
        self.checkpoints = 1  # how often a call lets other tasks run before it is answered

    async def send(self, call: KaCreate) -> Sent[Stored]:
        assert call.product_id == 8
        self.calls.append(call.keys)
        step = next(self.script, None)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for _ in range(self.checkpoints):
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
        return Sent(Stored(len(self.stored) - before, ""), attempts=1)

    async def upload(
        self, keys: Iterable[str], *, concurrency: int = 1, on_progress: OnProgress | None = None
    ) -> UploadReport:
        with anyio.fail_after(PATIENCE):
            return assert_adds_up(await upload(self.send, 8, keys, concurrency=concurrency, on_progress=on_progress))


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
    credentials = (appkey or sandbox.appkey, appsecret or sandbox.appsecret)
    quick = RetryPolicy(first_wait=0, longest_wait=0)
    async with sandbox.serve() as base_url, AsyncGatePay(*credentials, base_url=base_url, retry=quick) as gatepay:
        yield gatepay


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Return a sandbox without card keys, so that all of its card keys were uploaded."""
    with Sandbox(seed=False) as empty_sandbox:
        yield empty_sandbox


class EndlessKeys:
    """An endless iterable of card keys. `read` is the number of lines read so far."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        while True:
            self.read += 1
            yield f"KEY-{self.read:07d}"


# --- Without faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4, 50])
async def test_each_key_is_stored_once(sandbox: Sandbox, gatepay: AsyncGatePay, concurrency: int) -> None:
    """Each uploaded card key is on the server once, and the report lists each chunk as stored."""
    keys = make_keys(2_750)
    report = assert_adds_up(await gatepay.upload_card_keys(8, keys, concurrency=concurrency))
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


async def test_concurrency_1_keeps_the_order_of_the_keys(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """With ``concurrency=1`` the server gets the card keys in the order of the input."""
    keys = make_keys(1_700)[::-1]
    await gatepay.upload_card_keys(8, keys, concurrency=1)
    assert sandbox.keys(8) == keys


async def test_a_second_upload_of_the_same_keys_is_ok(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A second upload of the same card keys reports them as already there, and is `ok`."""
    keys = make_keys(1_203)
    await gatepay.upload_card_keys(8, keys)
    report = assert_adds_up(await gatepay.upload_card_keys(8, [*keys, "", keys[0]]))
    assert columns(report) == {"already_there": 1_203}
    assert (report.blank, report.duplicates, report.ok) == (1, 1, True)
    assert [chunk.stored for chunk in report.chunks] == [0, 0, 0]
    assert sorted(sandbox.keys(8)) == keys


async def test_new_and_existing_keys_are_counted_separately(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """Card keys that the server already has are counted separately from new ones, even within one chunk."""
    sandbox.add_keys(8, make_keys(700))
    report = assert_adds_up(await gatepay.upload_card_keys(8, make_keys(1_200)))
    assert columns(report) == {"stored": 500, "already_there": 700}
    assert [chunk.stored for chunk in report.chunks] == [0, 300, 200]
    assert report.ok


async def test_a_success_without_a_count_is_stored() -> None:
    """If the success message has no count, the card keys count as stored, and the chunk's `stored` is None."""

    async def send(_: KaCreate) -> Sent[Stored]:
        await anyio.lowlevel.checkpoint()
        return Sent(Stored(None, "?"), attempts=3)

    report = assert_adds_up(await upload(send, 8, make_keys(3)))
    assert columns(report) == {"stored": 3}
    assert [(chunk.stored, chunk.attempts) for chunk in report.chunks] == [(None, 3)]


async def test_an_input_without_keys_sends_nothing(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """An empty input, or one with only blank lines, sends no request."""
    report = assert_adds_up(await gatepay.upload_card_keys(8, []))
    assert (report.read, report.chunks, report.ok) == (0, (), True)
    report = assert_adds_up(await gatepay.upload_card_keys(8, [" ", "\n"]))
    assert (report.read, report.blank, report.ok) == (2, 2, True)
    assert sandbox.requests == []


# --- Bounds ------------------------------------------------------------------------------------------------


@pytest.mark.without_coverage
@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_concurrency_limits_the_calls_in_flight(concurrency: int) -> None:
    """The largest number of calls in flight is ``concurrency``."""
    server = Server()
    server.checkpoints = 50
    report = await server.upload(make_keys(5_000), concurrency=concurrency)
    assert server.most_in_flight == concurrency
    assert columns(report) == {"stored": 5_000}


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_reading_waits_for_a_slow_server(concurrency: int) -> None:
    """While no reply arrives, the upload reads one chunk more than is in flight, and then waits."""
    server = Server()
    server.gate = anyio.Event()
    lines = EndlessKeys()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(upload, server.send, 8, lines, concurrency=concurrency))
        await anyio.wait_all_tasks_blocked()
        assert (server.in_flight, lines.read) == (concurrency, 500 * (concurrency + 1))
        group.cancel_scope.cancel()


async def test_reading_waits_for_a_slow_on_progress() -> None:
    """While ``on_progress`` is running, the upload reads one chunk more than is in flight, and then waits."""
    server = Server()
    lines = EndlessKeys()

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


@pytest.mark.parametrize("is_plain", [True, False])
async def test_on_progress_is_called_after_each_chunk(
    sandbox: Sandbox, gatepay: AsyncGatePay, *, is_plain: bool
) -> None:
    """A plain or async ``on_progress`` is called after each chunk, never concurrently, with columns that only grow."""
    events: list[UploadProgress] = []
    running = 0

    async def record_slowly(progress: UploadProgress) -> None:
        nonlocal running
        running += 1
        assert running == 1
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        running -= 1
        events.append(progress)

    sandbox.add_keys(8, make_keys(300))
    keys = [*make_keys(1_800), "", "a\nb", *make_keys(100)]  # "a\nb" is refused, for its line break
    report = assert_adds_up(
        await gatepay.upload_card_keys(8, keys, concurrency=3, on_progress=events.append if is_plain else record_slowly)
    )
    assert len(events) == 5
    for before, after in itertools.pairwise(events):
        for name in ("read", "blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent"):
            assert getattr(before, name) <= getattr(after, name)
        assert before.chunks <= after.chunks
    for progress in events:
        finished = progress.blank + progress.duplicates + progress.stored + progress.already_there + progress.refused
        assert progress.read == finished + progress.in_flight
    last = events[-1]
    assert (last.read, last.blank, last.duplicates, last.refused) == (1_902, 1, 100, 1)
    assert (last.stored, last.already_there, last.in_flight) == (1_500, 300, 0)
    assert last.chunks == len(report.chunks) == 5


async def test_on_progress_is_called_once_for_an_empty_upload() -> None:
    """An upload without lines calls ``on_progress`` once, at its end."""
    events: list[UploadProgress] = []
    await Server().upload([], on_progress=events.append)
    assert [(progress.read, progress.in_flight, progress.chunks) for progress in events] == [(0, 0, 0)]


@pytest.mark.parametrize("is_plain", [True, False])
@pytest.mark.parametrize("at_the_end", [True, False])
async def test_an_error_in_on_progress_is_raised_with_the_report(*, is_plain: bool, at_the_end: bool) -> None:
    """An error in ``on_progress`` is raised unchanged, with the report, after all calls in flight have ended."""
    server = Server()
    failure = KeyError("raised by on_progress")

    def fail(progress: UploadProgress) -> None:
        if not at_the_end or progress.stored == 1_900:
            raise failure

    async def fail_async(progress: UploadProgress) -> None:
        await anyio.lowlevel.checkpoint()
        fail(progress)

    keys = make_keys(1_900)
    with pytest.raises(KeyError) as caught:
        await server.upload(keys, concurrency=2, on_progress=fail if is_plain else fail_async)
    assert caught.value is failure
    report = report_of(failure)
    assert_accounted_for(report, keys[: report.read], server.stored)
    assert report.read == (1_900 if at_the_end else 1_500)
    assert server.in_flight == 0
    assert report.unknown == 0


async def test_the_first_of_several_errors_is_raised() -> None:
    """If one error causes another, the upload raises the first one."""
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
        await upload(send, 8, make_keys(3_000), concurrency=2, on_progress=fail)
    assert caught.value is first
    assert columns(report_of(first)) == {"stored": 500, "unknown": 500, "not_sent": 500}


# --- Lost and failed calls ---------------------------------------------------------------------------------

FAULTS_BEFORE_STORING = [
    Fault(FaultKind.CUT_BEFORE, skip=1),
    Fault(FaultKind.RATE_LIMITED, skip=1, retry_after=0),
    Fault(FaultKind.BAD_GATEWAY, skip=1),
    Fault(FaultKind.CODE, skip=1, code=113),
]
FAULTS_AFTER_STORING = [
    Fault(FaultKind.CUT_AFTER, skip=1),
    Fault(FaultKind.HALF_BODY, skip=1),
    Fault(FaultKind.HALF_JSON, skip=1),
]


def fault_id(fault: Fault) -> str:
    return fault.kind.value


@pytest.mark.without_coverage
@pytest.mark.parametrize("fault", FAULTS_BEFORE_STORING, ids=fault_id)
async def test_a_failed_call_is_retried(sandbox: Sandbox, gatepay: AsyncGatePay, fault: Fault) -> None:
    """A chunk that the server doesn't store at the first attempt is stored at the second."""
    sandbox.fault(fault)
    report = assert_adds_up(await gatepay.upload_card_keys(8, make_keys(1_200), concurrency=1))
    assert columns(report) == {"stored": 1_200}
    assert [chunk.attempts for chunk in report.chunks] == [1, 2, 1]
    assert sandbox.keys(8) == make_keys(1_200)
    assert report.ok


@pytest.mark.without_coverage
@pytest.mark.parametrize("fault", FAULTS_AFTER_STORING, ids=fault_id)
@pytest.mark.parametrize("existing", [0, 600])
async def test_a_retry_after_a_lost_reply_is_already_there(
    sandbox: Sandbox, gatepay: AsyncGatePay, fault: Fault, existing: int
) -> None:
    """If a chunk is stored but its reply is lost, the retry reports the card keys as already there."""
    sandbox.add_keys(8, make_keys(existing))
    sandbox.fault(fault)
    report = assert_adds_up(await gatepay.upload_card_keys(8, make_keys(1_200), concurrency=1))
    # The reply to the second chunk is lost. 600 existing card keys include the whole first chunk.
    assert columns(report) == {
        "stored": 700 - (500 if existing else 0),
        "already_there": 500 + (500 if existing else 0),
    }
    assert [chunk.attempts for chunk in report.chunks] == [1, 2, 1]
    assert sorted(sandbox.keys(8)) == make_keys(1_200)
    assert report.ok


@pytest.mark.parametrize("fault", [FaultKind.SLOW, FaultKind.DRIP])
async def test_a_slow_reply_is_accepted(sandbox: Sandbox, gatepay: AsyncGatePay, fault: FaultKind) -> None:
    """A reply that arrives late, or byte by byte, is accepted."""
    sandbox.fault(Fault(fault, times=2, seconds=0.002))
    assert columns(assert_adds_up(await gatepay.upload_card_keys(8, make_keys(600)))) == {"stored": 600}


@pytest.mark.parametrize(
    ("fault", "column", "error", "is_stored"),
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
    ids=lambda value: fault_id(value) if isinstance(value, Fault) else "",
)
async def test_a_permanent_fault_is_in_the_matching_column(
    sandbox: Sandbox,
    gatepay: AsyncGatePay,
    *,
    fault: Fault,
    column: str,
    error: type[RefusedError],
    is_stored: bool,
) -> None:
    """Card keys whose calls always fail are in the matching column, with the error."""
    sandbox.fault(fault)
    keys = make_keys(60 if fault.code == 199 else 600)  # code 199 leads to one call per card key, so use few
    report = assert_adds_up(await gatepay.upload_card_keys(8, keys, concurrency=3))
    # On a slow machine the upload may stop before the last chunk is sent.
    assert columns(report).keys() - {"not_sent"} == {column}
    assert failed_keys(report) == keys
    assert {type(chunk.error) for chunk in report.chunks} == {error}
    assert (sorted(sandbox.keys(8)) != []) == is_stored
    assert not report.ok
    with pytest.raises(UploadIncomplete) as caught:
        report.raise_for_failures()
    assert caught.value.report is report


async def test_keys_are_not_sent_without_a_connection(quick: RetryPolicy) -> None:
    """If no connection can be opened, all card keys count as not sent."""
    with Sandbox() as sandbox:
        async with sandbox.serve() as base_url:
            pass
        async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, retry=quick) as gatepay:
            report = assert_adds_up(await gatepay.upload_card_keys(8, make_keys(1_200)))
    assert columns(report) == {"not_sent": 1_200}
    assert all(chunk.attempts >= 1 for chunk in report.chunks)
    assert isinstance(report.stopped, TransportError)


@pytest.mark.slow
@pytest.mark.without_coverage
async def test_random_faults_lose_no_key(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """With frequent random faults, each card key is on the server once, or in the report with its error."""
    for kind in (FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER, FaultKind.HALF_JSON, FaultKind.BAD_GATEWAY):
        sandbox.fault(Fault(kind, times=None, probability=0.3, seed=1))
    sandbox.fault(Fault(FaultKind.CODE, times=None, probability=0.3, seed=1, code=199))
    keys = make_keys(3_000)
    report = assert_adds_up(await gatepay.upload_card_keys(8, keys, concurrency=4))
    assert_accounted_for(report, keys[: report.read], sandbox.keys(8))
    assert all((chunk.error is None) == (chunk.fate is Fate.STORED) for chunk in report.chunks)
    sandbox.clear_faults()
    report = assert_adds_up(await gatepay.upload_card_keys(8, keys))
    assert report.ok
    assert sorted(sandbox.keys(8)) == keys


# --- Refusals ----------------------------------------------------------------------------------------------

Change = Callable[[Sandbox], None]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("error", "product_id", "appkey", "change"),
    [
        (InvalidAppKeyError, 8, "nobody", None),
        (EndpointClosedError, 8, None, lambda sandbox: sandbox.change_shop(closed=True)),
        (ShopNotFoundError, 8, None, lambda sandbox: sandbox.remove_shop()),
        (ProductNotFoundError, 99, None, None),
    ],
    ids=["appkey", "closed", "shop", "product"],
)
async def test_a_refusal_that_concerns_all_chunks_stops_the_upload(
    sandbox: Sandbox,
    *,
    concurrency: int,
    error: type[RefusedError],
    product_id: int,
    appkey: str | None,
    change: Change | None,
) -> None:
    """A refusal that would repeat for every chunk ends the upload, and the rest of the input isn't read."""
    if change is not None:
        change(sandbox)
    lines = EndlessKeys()
    async with client_of(sandbox, appkey=appkey) as gatepay:
        report = assert_adds_up(await gatepay.upload_card_keys(product_id, lines, concurrency=concurrency))
    assert type(report.stopped) is error
    assert report.read == lines.read <= (concurrency + 1) * 500
    assert len(sandbox.requests) <= concurrency
    assert report.refused == len(sandbox.requests) * 500
    assert report.not_sent == report.read - report.refused > 0
    assert failed_keys(report) == [f"KEY-{number:07d}" for number in range(1, report.read + 1)]
    assert all(type(chunk.error) is error for chunk in report.chunks)
    assert not report.ok
    assert sandbox.keys(8) == []


async def test_auto_concurrency_is_above_four_and_at_most_max_connections() -> None:
    """With ``concurrency='auto'``, more than four calls are in flight, and at most ``max_connections``."""
    shop = Shop(latency=0.1)
    async with serving(shop), AsyncGatePay("key", "secret", base_url=shop.base_url, max_connections=20) as gatepay:
        report = assert_adds_up(await gatepay.upload_card_keys(8, make_keys(15_000), concurrency="auto"))
        with pytest.raises(InvalidRequestError, match='concurrency: must be a whole number above 0, or "auto"'):
            await gatepay.upload_card_keys(8, [], concurrency="fast")  # type: ignore[arg-type]  # tests the refusal
    assert (report.ok, report.stored, set(shop.sent.values())) == (True, 15_000, {1})
    assert 4 < shop.most_in_flight <= 20


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_wrong_secret_stops_the_upload(sandbox: Sandbox, concurrency: int) -> None:
    """A wrong appsecret ends the upload after ``concurrency`` calls, but not before three: a chunk and its halves."""
    lines = EndlessKeys()
    async with client_of(sandbox, appsecret="wrong") as gatepay:
        report = assert_adds_up(await gatepay.upload_card_keys(8, lines, concurrency=concurrency))
    assert type(report.stopped) is SignatureRejectedError
    assert len(sandbox.requests) <= max(concurrency, 3)
    assert report.read == lines.read <= (concurrency + 1) * 500
    assert report.refused == concurrency * 500
    assert report.not_sent == report.read - report.refused
    assert all(type(chunk.error) is SignatureRejectedError for chunk in report.chunks)


async def test_a_rejected_signature_waits_for_the_calls_in_flight() -> None:
    """A rejected signature doesn't end the upload while other calls are in flight, which may succeed."""
    keys = ["BAD", *make_keys(1_999)]
    server = Server()
    rejected = anyio.Event()

    async def send(call: KaCreate) -> Sent[Stored]:
        if "BAD" in call.keys:
            server.calls.append(call.keys)
            await anyio.wait_all_tasks_blocked()
            if rejected.is_set():
                assert server.stored, "retried before the other calls were answered"
            rejected.set()
            raise refusal(SignatureRejectedError, 106)
        await rejected.wait()
        await anyio.wait_all_tasks_blocked()
        return await server.send(call)

    with anyio.fail_after(PATIENCE):
        report = assert_adds_up(await upload(send, 8, keys, concurrency=4))
    assert (columns(report), report.stopped) == ({"stored": 1_999, "refused": 1}, None)
    assert failed_keys(report) == ["BAD"]
    assert len(server.calls) <= 3 + MAX_HALVING_CALLS


async def test_a_stop_does_not_wait_for_a_slow_input() -> None:
    """After a stop the upload ends when the next line arrives. It doesn't wait for a full chunk."""
    server = Server(refusal(EndpointClosedError, 107))
    read = 0

    async def trickle() -> AsyncGenerator[str, None]:
        nonlocal read
        for key in make_keys(5_000):
            read += 1
            if read > 500:
                await anyio.wait_all_tasks_blocked()
            yield key

    async with aclosing(trickle()) as lines:
        with anyio.fail_after(PATIENCE):
            report = assert_adds_up(await upload(server.send, 8, lines, concurrency=2))
    assert columns(report) == {"refused": 500, "not_sent": 1}


async def test_a_stop_does_not_wait_for_a_long_input_without_new_keys() -> None:
    """After a stop the upload doesn't read on through endless repetitions to fill a chunk."""
    server = Server(refusal(EndpointClosedError, 107))
    report = await server.upload(itertools.chain(make_keys(500), itertools.repeat("KEY-00000")), concurrency=2)
    assert columns(report) == {"refused": 500}
    assert report.read < 20_000


async def test_the_only_chunk_can_stop_the_upload() -> None:
    """If the only chunk gets a fatal refusal, the report says that the upload was stopped."""
    report = await Server(refusal(EndpointClosedError, 107)).upload(make_keys(10))
    assert isinstance(report.stopped, EndpointClosedError)
    assert columns(report) == {"refused": 10}


async def test_an_unknown_refusal_does_not_stop_the_upload(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """After a refusal with an unknown code the upload halves the refused chunk, and sends the other chunks, too."""
    sandbox.fault(Fault(FaultKind.CODE, code=199, skip=1))
    report = assert_adds_up(await gatepay.upload_card_keys(8, make_keys(1_501), concurrency=1))
    assert columns(report) == {"stored": 1_501}
    sandbox.fault(Fault(FaultKind.CODE, code=199))
    report = assert_adds_up(await gatepay.upload_card_keys(8, ["ALONE"]))
    assert columns(report) == {"refused": 1}
    assert report.stopped is None
    (chunk,) = report.chunks
    assert isinstance(chunk.error, RefusedError)
    assert (chunk.index, chunk.first_line, chunk.last_line, chunk.error.code) == (0, 1, 1, 199)


async def test_a_refusal_in_doubt_is_unknown() -> None:
    """A refusal says nothing about an earlier attempt that may have succeeded, so the outcome is unknown."""
    report = await Server(refusal(in_doubt=True, attempts=2)).upload(make_keys(1))
    assert columns(report) == {"unknown": 1}
    assert report.chunks[0].attempts == 2


async def test_code_112_settles_an_earlier_attempt() -> None:
    """After an attempt with unknown outcome, code 112 (all card keys exist) means that they are stored."""
    report = await Server(refusal(AlreadyStoredError, 112, in_doubt=True, attempts=2)).upload(make_keys(5))
    assert columns(report) == {"already_there": 5}
    assert report.ok


# --- Chunks refused for a single card key ------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 499), (248, 251), (498, 499)])
async def test_keys_that_the_server_considers_equal_are_split(first: int, second: int) -> None:
    """If two card keys are equal for the server, the chunk is halved until they are in different calls."""
    keys = make_keys(1_000)
    keys[first], keys[second] = "abc", "ABC"
    with Sandbox(seed=False, case_insensitive_keys=True) as sandbox:
        async with client_of(sandbox) as gatepay:
            report = assert_adds_up(await gatepay.upload_card_keys(8, keys))
        assert sorted(sandbox.keys(8)) == sorted(set(keys) - {"ABC"})
        assert columns(report) == {"stored": 999, "already_there": 1}
        assert report.ok
        assert len(sandbox.requests) <= MAX_HALVING_CALLS + 1
    parts = [chunk for chunk in report.chunks if chunk.index == 0]
    assert sum(chunk.count for chunk in parts) == 500
    assert [parts[0].first_line, parts[-1].last_line] == [1, 500]
    for before, after in itertools.pairwise(parts):
        assert before.last_line + 1 == after.first_line


@pytest.mark.without_coverage
@pytest.mark.parametrize(
    ("kind", "code"), [(DuplicateKeysError, 109), (EmptyContentError, 110), (TooManyKeysError, 111)]
)
@pytest.mark.parametrize("place", [0, 251, 499])
async def test_a_refused_key_is_found_by_halving(kind: type[RefusedError], code: int, place: int) -> None:
    """A card key for which every call is refused is found by halving, and is the only one refused."""
    keys = make_keys(500)
    keys[place] = "BAD"
    server = Server()

    async def send(call: KaCreate) -> Sent[Stored]:
        if "BAD" in call.keys:
            server.calls.append(call.keys)
            raise refusal(kind, code)
        return await server.send(call)

    report = assert_adds_up(await upload(send, 8, keys))
    assert columns(report) == {"stored": 499, "refused": 1}
    (refused,) = [chunk for chunk in report.chunks if chunk.error]
    assert (refused.keys, refused.first_line, refused.last_line) == (("BAD",), place + 1, place + 1)
    assert isinstance(refused.error, kind)
    assert list(server.stored) == [key for key in keys if key != "BAD"]
    assert len(server.calls) <= MAX_HALVING_CALLS


async def test_a_stop_while_halving_leaves_the_other_halves_unsent() -> None:
    """If the upload stops while it halves a chunk, the remaining halves aren't sent."""
    repeats = refusal(DuplicateKeysError, 109)
    server = Server(repeats, repeats, refusal(EndpointClosedError, 107))
    report = await server.upload(make_keys(500))
    assert columns(report) == {"refused": 125, "not_sent": 375}
    outcomes = [(chunk.fate, chunk.first_line, chunk.last_line) for chunk in report.chunks]
    assert outcomes == [(Fate.REFUSED, 1, 125), (Fate.NOT_SENT, 126, 250), (Fate.NOT_SENT, 251, 500)]
    assert [len(keys) for keys in server.calls] == [500, 250, 125]


# --- Unreachable servers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "column"), [(False, "not_sent"), (True, "unknown")])
async def test_an_unreachable_server_stops_the_upload(*, sent: bool, column: str) -> None:
    """Calls without a reply end the upload. Meanwhile it reads no further lines."""
    server = Server(*(unreachable(sent=sent) for _ in range(10_000)))
    lines = EndlessKeys()
    report = await server.upload(lines, concurrency=3)
    assert isinstance(report.stopped, TransportError)
    assert report.read == lines.read == 2_000
    assert report.unknown + report.not_sent == 2_000
    assert getattr(report, column) >= 500


@pytest.mark.parametrize("make_error", [garbled, lambda: refusal(StorageFailedError, 113)], ids=["garbled", "113"])
async def test_repeated_failures_stop_the_upload(make_error: Callable[[], Exception]) -> None:
    """If all replies are invalid (a wrong URL), or all calls fail to store, the upload ends."""
    server = Server(*(make_error() for _ in range(10_000)))
    report = await server.upload(make_keys(10_000))
    assert report.stopped is not None
    assert report.stored == 0
    assert len(server.calls) < 500


# --- Cancelled, closed, broken -----------------------------------------------------------------------------


class HalfDoneUpload:
    """An upload that can't proceed: two chunks are stored, two are in flight, and one is waiting."""

    def __init__(self) -> None:
        self.server = Server(None, None)
        self.lines = EndlessKeys()
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
            self.report = report_of(error)
            raise

    def check(self) -> None:
        assert self.report is not None
        assert columns(self.report) == {"stored": 1_000, "unknown": 1_000, "not_sent": 500}
        assert self.report.read == self.lines.read == 2_500
        assert failed_keys(self.report) == [f"KEY-{number:07d}" for number in range(1_001, 2_501)]
        assert [chunk.fate for chunk in self.report.chunks] == ["stored"] * 2 + ["unknown"] * 2 + ["not_sent"]
        assert self.server.in_flight == 0


async def test_a_cancelled_scope_raises_with_the_report() -> None:
    """The exception of a cancelled upload has the report, in which calls in flight are unknown."""
    half_done = HalfDoneUpload()
    async with anyio.create_task_group() as group:
        group.start_soon(half_done.run)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    half_done.check()


async def test_fail_after_raises_with_the_report() -> None:
    """If ``fail_after`` ends the upload, the exception inside the scope has the report."""
    half_done = HalfDoneUpload()

    async def end(scope: anyio.CancelScope) -> None:
        await anyio.wait_all_tasks_blocked()
        scope.deadline = anyio.current_time()

    async def run() -> None:
        with anyio.fail_after(PATIENCE) as scope:
            group.start_soon(end, scope)
            await half_done.run()

    async with anyio.create_task_group() as group:
        with pytest.raises(TimeoutError):
            await run()
    half_done.check()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncio_cancellation_raises_with_the_report() -> None:
    """After ``task.cancel()`` or ``asyncio.timeout()`` the CancelledError has the report."""
    half_done = HalfDoneUpload()
    task = asyncio.create_task(half_done.run())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    half_done.check()
    half_done = HalfDoneUpload()

    async def end(limit: asyncio.Timeout) -> None:
        await anyio.wait_all_tasks_blocked()
        limit.reschedule(asyncio.get_running_loop().time())

    async def run() -> None:
        async with asyncio.timeout(PATIENCE) as limit:
            group.start_soon(end, limit)
            await half_done.run()

    async with anyio.create_task_group() as group:
        with pytest.raises(TimeoutError):
            await run()
    half_done.check()


@pytest.mark.slow
async def test_a_cancellation_at_any_step_adds_up() -> None:
    """Wherever the upload is cancelled, every line that was read is in one column."""
    for steps in range(60):
        server = Server(None, refusal(DuplicateKeysError, 109), refusal())
        lines = make_keys(2_600)
        report = None
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_after, steps, scope.cancel)
                try:
                    report = await upload(server.send, 8, lines, concurrency=2, on_progress=yield_once)
                except BaseException as error:
                    report = report_of(error)
                    raise
        assert report is not None
        assert_accounted_for(assert_adds_up(report), lines[: report.read], server.stored)


# asyncio warns about a task that was cancelled before it started.
@pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tasks_cancelled_separately_at_any_step_add_up() -> None:
    """
    If each task is cancelled separately, even one that hasn't started, every line is in one column.

    That is what asyncio.run() does when it ends.
    """
    this_task = asyncio.current_task()
    other_tasks = asyncio.all_tasks()
    for steps in range(40):
        server = Server(None, refusal(DuplicateKeysError, 109), refusal())
        lines = make_keys(2_600)
        task = asyncio.create_task(upload(server.send, 8, lines, concurrency=3, on_progress=yield_once))
        for _ in range(steps):
            await asyncio.sleep(0)
        for started in asyncio.all_tasks() - other_tasks - {this_task}:
            started.cancel()
        try:
            report = await task
        except asyncio.CancelledError as error:
            if steps == 0:
                continue  # the upload itself had not started
            report = report_of(error)
        assert_accounted_for(assert_adds_up(report), lines[: report.read], server.stored)
    # Coroutines that never started are in reference cycles. Collect them while the warning filter above is active.
    del task, started, report
    gc.collect()


async def yield_once(_: UploadProgress) -> None:
    await anyio.lowlevel.checkpoint()


async def cancel_after(steps: int, cancel: Callable[[], None]) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    cancel()


async def test_a_cancelled_upload_can_be_repeated(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A cancelled upload over a real socket loses no card key, and the client can upload again."""
    sandbox.fault(Fault(FaultKind.SLOW, skip=3, times=None, seconds=60))
    keys = make_keys(10_000)
    report = None
    async with anyio.create_task_group() as group:

        async def run() -> None:
            nonlocal report
            try:
                await gatepay.upload_card_keys(8, keys, concurrency=3)
            except BaseException as error:
                report = report_of(error)
                raise

        group.start_soon(run)
        await until(lambda: len(sandbox.keys(8)) >= 3_000)
        group.cancel_scope.cancel()
    assert report is not None
    assert columns(report) == {"stored": 1_500, "unknown": 1_500, "not_sent": 500}
    assert_accounted_for(report, keys[:3_500], sandbox.keys(8))
    sandbox.clear_faults()
    assert assert_adds_up(await gatepay.upload_card_keys(8, keys)).ok
    assert sorted(sandbox.keys(8)) == keys


async def test_closing_the_client_ends_the_upload(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """If the client is closed during an upload, the upload raises InvalidRequestError with the report."""

    async def close(_: UploadProgress) -> None:
        await gatepay.__aexit__(None, None, None)

    keys = make_keys(10_000)
    with pytest.raises(InvalidRequestError, match="has been closed") as caught:
        await gatepay.upload_card_keys(8, keys, concurrency=2, on_progress=close)
    report = report_of(caught.value)
    assert report.stored >= 500
    assert report.not_sent >= 500
    assert_accounted_for(report, keys[: report.read], sandbox.keys(8))


async def test_an_unopened_client_sends_nothing(sandbox: Sandbox) -> None:
    """An upload with a client that was never opened raises InvalidRequestError with the report."""
    lines = EndlessKeys()
    with pytest.raises(InvalidRequestError, match="not open yet") as caught:
        await AsyncGatePay(sandbox.appkey, sandbox.appsecret).upload_card_keys(8, lines)
    report = report_of(caught.value)
    assert columns(report) == {"not_sent": report.read}
    assert report.read == lines.read <= 2_500


class BrokenTransport(httpx.AsyncBaseTransport):
    """A transport that raises an exception that isn't httpx's."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002 -- httpx's
        await anyio.lowlevel.checkpoint()
        raise ZeroDivisionError("raised by the transport")


async def test_an_unexpected_error_of_the_transport_is_raised(sandbox: Sandbox, quick: RetryPolicy) -> None:
    """An unexpected exception of the transport is raised unchanged, with the report; calls in flight are unknown."""
    keys = make_keys(1_200)
    client = AsyncGatePay(sandbox.appkey, sandbox.appsecret, transport=BrokenTransport(), retry=quick)
    async with client as gatepay:
        with pytest.raises(ZeroDivisionError) as caught:
            await gatepay.upload_card_keys(8, keys, concurrency=1)
    report = report_of(caught.value)
    assert columns(report) == {"unknown": 500, "not_sent": 500}
    assert (report.read, report.stopped) == (1_000, None)


# --- Secrets -----------------------------------------------------------------------------------------------


async def test_no_key_is_shown(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """The texts of the report, its chunks and errors, and of UploadIncomplete contain no card key."""
    keys = ["SECRET\nSECRET", "SECRET-\ud83d", ["SECRET"], *(f"SECRET-{number}" for number in range(4))]
    refusing, failing = Fault(FaultKind.CODE, code=199, times=None), Fault(FaultKind.BAD_GATEWAY, times=None)
    for fault, code in (refusing, "199"), (failing, "502"):
        sandbox.clear_faults()
        sandbox.fault(fault)
        uploading = gatepay.upload_card_keys(8, keys, concurrency=1)  # type: ignore[arg-type]  # a list is no card key
        report = assert_adds_up(await uploading)
        with pytest.raises(UploadIncomplete) as caught:
            report.raise_for_failures()
        text = repr(report) + str(report) + repr(caught.value) + "".join(traceback.format_exception(caught.value))
        for chunk in report.chunks:
            assert chunk.error is not None
            text += repr(chunk) + repr(chunk.error) + "".join(traceback.format_exception(chunk.error))
        assert "SECRET" not in text
        assert repr(report.chunks[0]).startswith("ChunkOutcome(index=")
        assert code in text


# --- Random uploads ----------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[], Exception | None]] = {
    "stores": lambda: None,
    "already there": lambda: refusal(AlreadyStoredError, 112),
    "duplicates": lambda: refusal(DuplicateKeysError, 109),
    "storage fails": lambda: refusal(StorageFailedError, 113),
    "refuses": refusal,
    "refuses after a doubt": lambda: refusal(in_doubt=True),
    "shop closed": lambda: refusal(EndpointClosedError, 107),
    "not sent": lambda: unreachable(sent=False),
    "connection breaks": unreachable,
    "garbled": garbled,
    "client closed": lambda: InvalidRequestError(field="client", problem="has been closed"),
    "unexpected error": lambda: ValueError("odd"),
}
LINES = st.text("abAB \n\r\t\ufeff\u3000\ud83d密", max_size=4)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@given(
    blocks=st.lists(st.one_of(st.integers(1, 700), st.lists(LINES, max_size=8)), max_size=6),
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=14),
    concurrency=st.integers(1, 4),
    cancel_after_steps=st.integers(0, 60),
)
async def test_random_uploads_add_up(
    *, blocks: list[int | list[str]], steps: list[str], concurrency: int, cancel_after_steps: int
) -> None:
    """Any input, replies and cancellation: each line is in one column, and each card key is accounted for."""
    lines: list[str] = []
    for block in blocks:
        # Starting at half of the lines so far may repeat card keys of earlier blocks.
        lines += make_keys(block, start=len(lines) // 2) if isinstance(block, int) else block
    server = Server(*(STEPS[step]() for step in steps))
    report: UploadReport | None = None
    with anyio.CancelScope() as scope:
        try:
            async with anyio.create_task_group() as group:
                if cancel_after_steps < 40:  # otherwise the upload is not cancelled
                    group.start_soon(cancel_after, cancel_after_steps, scope.cancel)
                report = await upload(server.send, 8, lines, concurrency=concurrency, on_progress=yield_once)
                group.cancel_scope.cancel()
        except* Exception as errors:  # noqa: BLE001 -- any error has the report
            (error,) = errors.exceptions
            report = report_of(error)
        except* asyncio.CancelledError as errors:
            report = report_of(errors.exceptions[0])
            raise
    assert report is not None
    assert_adds_up(report)
    cleaned = [invisible.strip(line) for line in lines[: report.read]]
    assert report.blank == cleaned.count("")
    first_call = Counter(server.calls[0]) if server.calls else Counter[str]()
    assert max(first_call.values(), default=1) == 1  # no card key is twice in a call
    not_stored = {key for chunk in report.chunks for key in chunk.keys}
    on_server = set(server.stored)
    if "already there" in steps:
        # The server claimed to have the card keys of some call, so the report need not list them as failed.
        on_server |= {key for keys in server.calls for key in keys}
    assert {key for key in cleaned if key} - not_stored <= on_server
    assert not set(server.stored) & set(failed_keys(report, Fate.REFUSED, Fate.NOT_SENT))
    assert all(isinstance(chunk, ChunkOutcome) for chunk in report.chunks)
