"""What an upload has seen: exact whatever its size, in a file that shows nothing, and never on the event loop."""

import asyncio
import contextlib
import itertools
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE, until

from gatepay_async import EndpointClosedError, Fate, InvalidRequestError, Stored, UploadProgress, UploadReport, dedup
from gatepay_async.dedup import FirstLines, SpillingDeduplicator
from gatepay_async.lines import read_lines
from gatepay_async.permits import Permits
from gatepay_async.protocol import chunking
from gatepay_async.protocol.bulk import Chunk, Ledger
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.chunking import Chunker
from gatepay_async.protocol.retrying import Sent
from gatepay_async.upload import _Upload, upload

pytestmark = pytest.mark.sockets

thresholds = st.sampled_from([0, 1, 5, 500])
DESCRIPTORS = Path("/proc/self/fd")
only_linux = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="what a process has open is read from /proc")


def some(count: int, *, start: int = 0) -> list[str]:
    return [f"KEY-{number:05d}" for number in range(start, start + count)]


def plain(batches: Iterable[Iterable[str]]) -> list[list[int]]:
    """What a plain set says of *batches*: the places of what was there before."""
    seen: set[str] = set()
    return [
        [place for place, key in enumerate(keys) if key in seen or seen.add(key)]  # type: ignore[func-returns-value]  # None is false
        for keys in batches
    ]


# --- Exact -------------------------------------------------------------------------------------------------

keys_of_few = st.integers(0, 60).map(lambda number: f"K{number}")
any_key = st.one_of(keys_of_few, keys_of_few, st.text(st.characters(exclude_categories=["Cs"]), max_size=3))


@given(
    most=thresholds, batches=st.lists(st.lists(any_key, max_size=40), max_size=8), at_once=st.sampled_from([1, 3, 2000])
)
def test_as_a_plain_set(most: int, batches: list[list[str]], at_once: int) -> None:
    """Whatever comes, in whatever batches, it says what a plain set would say, before the spill and after it."""
    with (
        contextlib.closing(SpillingDeduplicator(max_keys_in_memory=most)) as seen,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(dedup, "_ROWS_PER_STATEMENT", at_once)
        assert [seen.find_repeated(keys) for keys in batches] == plain(batches)


def test_many() -> None:
    """Thousands of card keys, each with one that was there, are told apart in memory, across the spill and beyond."""
    batches = [[key for pair in zip(some(700, start=at), some(700, start=at // 2), strict=True) for key in pair]
               for at in range(0, 9_000, 700)]  # fmt: skip
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=5_000)) as seen:
        assert [seen.find_repeated(keys) for keys in batches] == plain(batches)
        assert not seen.fits_in_memory(0)


def test_first_lines() -> None:
    """Each repetition is told with the line where its card key stood first, in the same look-up or a long one ago."""
    with contextlib.closing(FirstLines()) as first_lines:
        assert first_lines.find_repeated([1, 3, 4, 5], ["A", "B", "A", "A"]) == {2: 1, 3: 1}
        assert first_lines.find_repeated([6, 7, 9], ["C", "B", "C"]) == {1: 3, 2: 6}
        assert first_lines.find_repeated(range(10, 2_010), some(2_000)) == {}
        assert first_lines.find_repeated([2_010], ["KEY-01999"]) == {0: 2_009}
        assert first_lines.find_repeated([], []) == {}


lines_of_any_kind = st.one_of(
    keys_of_few,
    keys_of_few.map(lambda key: f" {key}\r\n"),
    keys_of_few.map(str.encode),
    st.sampled_from(["", "\ufeff", " \n", "a\nb", "\ud800", b"\xff", "密\n", None, "\ufeffK1", "a\0", "\u200b"]),
)


def chunked(
    inputs: list[list[Any]], seen: SpillingDeduplicator | None, by: Callable[[Chunker, list[Any]], list[Chunk]]
) -> tuple[list[Chunk], UploadReport]:
    ledger = Ledger()
    chunker = Chunker(ledger, seen)
    chunks = [chunk for lines in inputs for chunk in by(chunker, lines)]
    rest = chunker.last_chunk()
    return [*chunks, *([rest] if rest else [])], ledger.report(stopped=None)


def whole(chunker: Chunker, lines: list[Any]) -> list[Chunk]:
    return list(chunker.chunks(lines))


def in_parts(chunker: Chunker, lines: list[Any]) -> list[Chunk]:
    chunker.read_lines(lines)
    return chunker.full_chunks(chunker._deduplicator.find_repeated(chunker.pending_keys))


@given(
    most=thresholds,
    inputs=st.lists(st.lists(lines_of_any_kind, max_size=60), max_size=5),
    size=st.sampled_from([1, 3, 500]),
)
def test_chunks_do_not_depend_on_the_threshold(most: int, inputs: list[list[Any]], size: int) -> None:
    """The same chunks, cut from the same lines, and the same ledger, whenever and wherever it spills."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "MAX_KEYS_PER_CALL", size)
        expected, expected_report = chunked(inputs, None, whole)
        for by in (whole, in_parts):
            with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=most)) as seen:
                chunks, report = chunked(inputs, seen, by)
            assert chunks == expected
            columns = [(each.read, each.blank, each.duplicates, each.refused) for each in (report, expected_report)]
            assert columns[0] == columns[1]


def test_spilled_in_the_middle_of_a_chunk() -> None:
    """A chunk whose first half was looked up in memory and whose second half in the file is whole, and in order."""
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=300)) as seen:
        ledger = Ledger()
        chunker = Chunker(ledger, seen)
        assert list(chunker.chunks(some(300))) == []
        assert seen.fits_in_memory(0)
        assert list(chunker.chunks(["KEY-00299", *some(100, start=300), "KEY-00000", "KEY-00350"])) == []
        assert not seen.fits_in_memory(0)
        (chunk,) = chunker.chunks(some(100, start=400))
    assert list(chunk.keys) == some(500)
    assert chunk.lines == (*range(1, 301), *range(302, 402), *range(404, 504))
    assert ledger.duplicates == 3


def test_it_fits_until_it_does_not() -> None:
    """It fits while the threshold isn't passed; once in the file, nothing fits any more."""
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=5)) as seen:
        assert (seen.fits_in_memory(5), seen.fits_in_memory(6)) == (True, False)
        seen.find_repeated(["A", "B", "B"])
        assert (seen.fits_in_memory(3), seen.fits_in_memory(4)) == (True, False)
        seen.find_repeated(["C", "D", "E", "F"])
        assert not seen.fits_in_memory(0)
        assert seen.find_repeated(["A", "F", "G"]) == [0, 1]


def test_nothing_stays_in_memory() -> None:
    """Once it has spilled no card key is held in memory, and what SQLite holds is bounded."""
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=5)) as seen:
        seen.find_repeated(some(5))
        first = seen._in_memory._keys
        assert len(first) == 5
        seen.find_repeated(some(5_000))
        assert (len(first), seen._in_memory._keys) == (0, set())
        assert seen._in_memory._keys is not first  # an emptied set keeps its table
        assert seen._in_file is not None
        assert list(vars(seen._in_file)) == ["_blank", "_database"]
        ((cache,),) = seen._in_file._database.execute("PRAGMA cache_size")
        assert cache == -dedup._CACHE_KIB
        ((rows,),) = seen._in_file._database.execute("SELECT count(*) FROM seen")
        assert rows == 5_000


def test_the_threshold() -> None:
    """By default a million card keys are held in memory, and not one more."""
    seen = SpillingDeduplicator()
    assert (seen.fits_in_memory(1_000_000), seen.fits_in_memory(1_000_001)) == (True, False)


# --- The file ----------------------------------------------------------------------------------------------


def digests_of(seen: SpillingDeduplicator) -> list[bytes]:
    assert seen._in_file is not None
    return [digest for (digest,) in seen._in_file._database.execute("SELECT digest FROM seen")]


def test_keyed() -> None:
    """Two uploads have different digests of one card key: nobody can try card keys on them."""
    with (
        contextlib.closing(SpillingDeduplicator(max_keys_in_memory=0)) as one,
        contextlib.closing(SpillingDeduplicator(max_keys_in_memory=0)) as other,
    ):
        one.find_repeated(some(20))
        other.find_repeated(some(20))
        assert {len(digest) for digest in digests_of(one)} == {16}
        assert len({*digests_of(one), *digests_of(other)}) == 40


def open_files(process: str = "self") -> dict[str, Path]:
    """What a process has open: name, and where to read it."""
    found: dict[str, Path] = {}
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists the folder
            found[str(descriptor.readlink())] = descriptor
    return found


@only_linux
def test_the_file_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has no name, nobody else may read it, no card key stands in it, and closing it is its end."""
    monkeypatch.setattr(dedup, "_CACHE_KIB", 64)
    before = open_files()
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=10)) as seen:
        seen.find_repeated(some(20_000))
        ((name, file),) = [each for each in open_files().items() if each[0] not in before]
        assert name.endswith(" (deleted)")
        assert not Path(name.removesuffix(" (deleted)")).exists()
        status = file.stat()
        assert (status.st_nlink, status.st_mode & 0o777) == (0, 0o600)
        content = file.read_bytes()
        assert len(content) == status.st_size > 20_000 * 16
        assert b"KEY-" not in content
        assert sum(digest in content for digest in digests_of(seen)[:1_000]) > 900  # this is the file
    assert name not in open_files()


class Watched(sqlite3.Connection):
    """A connection that knows who used it, and can be told to fail, or to wait."""

    made: list["Watched"]
    before: Callable[[str], object]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.used_in = {threading.get_ident()}
        self.closed = threading.Event()
        self.made.append(self)

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        self.used_in.add(threading.get_ident())
        self.before(sql)
        return super().execute(sql, *args)

    def close(self) -> None:
        self.used_in.add(threading.get_ident())
        super().close()
        self.closed.set()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Watched]]:
    """The connections that were made; each is closed at the end of the test, or will be."""

    class Ours(Watched):
        made: list[Watched] = []  # noqa: RUF012 -- of this test alone

        @staticmethod
        def before(sql: str) -> None:
            pass

    original = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: original(*args, factory=Ours, **kwargs))
    yield Ours
    assert all(connection.closed.wait(PATIENCE) for connection in Ours.made)


def failing(part: str, *, after: int = 0) -> Callable[[str], None]:
    """Fails as on a full disk, at each statement with *part* in it, the first ones left out."""
    counted = itertools.count()

    def before(sql: str) -> None:
        if part in sql and next(counted) >= after:
            raise sqlite3.OperationalError("database or disk is full")

    return before


def test_closed_is_closed(watched: type[Watched]) -> None:
    """Closed, it answers nothing any more; closing again is nothing; and what never spilled has nothing to close."""
    seen = SpillingDeduplicator(max_keys_in_memory=2)
    seen.find_repeated(some(3))
    seen.close()
    seen.close()
    with pytest.raises(RuntimeError, match="closed"):
        seen.find_repeated(["A"])
    in_memory = SpillingDeduplicator()
    in_memory.find_repeated(["A"])
    in_memory.close()
    assert len(watched.made) == 1
    assert len(in_memory._in_memory) == 0


def test_a_spill_that_fails(watched: type[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that can't be made or filled leaves what is in memory as it was, and no file."""
    for part in ("PRAGMA", "CREATE", "group_concat", "INSERT"):
        fail_at(part, watched, monkeypatch)


def fail_at(part: str, watched: type[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spill, with a full disk at this part of it; then again, with room."""
    before = len(watched.made)
    seen = SpillingDeduplicator(max_keys_in_memory=5)
    seen.find_repeated(some(5))
    with monkeypatch.context() as patch:
        patch.setattr(watched, "before", staticmethod(failing(part)))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            seen.find_repeated(["KEY-00000", "A"])
    assert watched.made[before].closed.is_set()
    assert len(seen._in_memory) == 5
    assert seen.find_repeated(["KEY-00000", "A"]) == [0]
    seen.close()


# --- The whole upload --------------------------------------------------------------------------------------


class Server:
    """``send`` of a server that stores whatever comes, in the order it comes; a script may have it raise."""

    def __init__(self, *script: Exception | None) -> None:
        self.script = iter(script)
        self.stored: list[str] = []
        self.gate: anyio.Event | None = None

    async def send(self, call: KaCreate) -> Sent[Stored]:
        await anyio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        step = next(self.script, None)
        if step is not None:
            raise step
        self.stored += call.keys
        return Sent(Stored(len(call.keys), ""), 1)

    async def upload(self, lines: Any, *, most: int = 0, concurrency: int = 1, on_progress: Any = None) -> UploadReport:
        with anyio.fail_after(PATIENCE):
            return adds_up(
                await upload(
                    self.send, 8, lines, concurrency=concurrency, on_progress=on_progress, max_keys_in_memory=most
                )
            )  # fmt: skip


def adds_up(report: UploadReport) -> UploadReport:
    settled = report.stored + report.already_there + report.refused + report.unknown + report.not_sent
    assert report.read == report.blank + report.duplicates + settled
    assert sum(chunk.count for chunk in report.chunks) == settled
    return report


def report_on(error: BaseException) -> UploadReport:
    report = getattr(error, "report", None)
    assert isinstance(report, UploadReport)
    return adds_up(report)


@pytest.mark.anyio
@given(most=thresholds, lines=st.lists(lines_of_any_kind, max_size=150), size=st.sampled_from([1, 7, 500]))
async def test_an_upload_does_not_depend_on_the_threshold(most: int, lines: list[Any], size: int) -> None:
    """The server gets the same card keys in the same order, and the report is the same, wherever it spills."""
    servers = Server(), Server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "MAX_KEYS_PER_CALL", size)
        patch.setattr("gatepay_async.lines.LINES_PER_BATCH", 20)
        patch.setattr("gatepay_async.upload.LINES_PER_BATCH", 20)
        report = await servers[0].upload(lines, most=most)
        expected = await servers[1].upload(lines, most=1_000_000)
    assert servers[0].stored == servers[1].stored
    assert repr(report) == repr(expected)
    assert [repr(chunk) for chunk in report.chunks] == [repr(chunk) for chunk in expected.chunks]


LONG = [*some(3_300), "", *some(2_600, start=1_500), "a\nb", *some(50), *some(2_000, start=4_100)]


class File:
    """An open file, as far as an upload is concerned."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)

    def readline(self) -> str:
        return next(self._lines)

    def __iter__(self) -> Iterator[str]:
        return self._lines


class Trickle:
    """An asynchronous iterable; unlike a generator, nobody needs to close it."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        for line in self._lines:
            return line
        raise StopAsyncIteration


KINDS: dict[str, Callable[[Iterable[str]], Any]] = {"iterable": lambda lines: lines, "file": File, "async": Trickle}


@pytest.mark.anyio
async def test_a_long_upload(watched: type[Watched]) -> None:
    """Repetitions before, across and after the spill are found, order is kept, and the loop never asks SQLite."""
    every = [(2_500, kind) for kind in KINDS]
    for most, kind in [*every, *zip([0, 700, 5_000, 1_000_000], itertools.cycle(KINDS), strict=False)]:
        await upload_long(watched, kind, most)


async def upload_long(watched: type[Watched], kind: str, most: int) -> None:
    """Upload, with so many held in memory."""
    before = len(watched.made)
    server = Server()
    report = await server.upload(KINDS[kind](LONG), most=most)
    assert server.stored == some(6_100)
    assert (report.read, report.blank, report.refused, report.stored) == (7_952, 1, 1, 6_100)
    assert report.duplicates == 7_952 - 1 - 1 - 6_100
    assert [(chunk.index, chunk.count) for chunk in report.chunks if chunk.index >= 0] == [
        *((index, 500) for index in range(12)),
        (12, 100),
    ]
    made = watched.made[before:]
    assert len(made) == (most < 6_100)
    for connection in made:
        assert connection.closed.wait(PATIENCE)
        assert threading.get_ident() not in connection.used_in


@pytest.mark.anyio
async def test_an_input_that_fails(watched: type[Watched]) -> None:
    """After an input that failed, wherever it spilled, full chunks are stored, and the rest is not sent."""

    def lines() -> Iterator[str]:
        yield from some(2_750)
        yield from some(500)
        yield b"SECRET-\xff".decode()

    for most, kind in itertools.product([0, 1_000, 1_000_000], KINDS):
        server = Server()
        with pytest.raises(InvalidRequestError, match="what follows line 3250 is not utf-8") as caught:
            await server.upload(KINDS[kind](lines()), most=most)
        report = report_on(caught.value)
        assert (kind, most, server.stored) == (kind, most, some(2_500))
        assert (report.read, report.duplicates, report.stored, report.not_sent) == (3_250, 500, 2_500, 250)
        assert [key for chunk in report.chunks for key in chunk.keys] == some(250, start=2_500)


@pytest.mark.anyio
async def test_a_stop_after_the_spill(watched: type[Watched]) -> None:
    """A stop leaves what was read ahead as not sent, repetitions told; what was not read stays in the input."""
    closed = EndpointClosedError(code=107, message="", endpoint="ka/create")
    server = Server(None, closed)
    lines = iter([*some(1_200), *some(800), *some(100_000, start=1_200)])
    report = await server.upload(lines)
    assert report.stopped is closed
    assert (report.stored, report.refused) == (500, 500)
    assert next(lines) == f"KEY-{report.read - 800:05d}"
    assert report.duplicates == 800
    assert report.read <= 3 * 2_000


@pytest.mark.anyio
async def test_a_stop_starts_nothing_more(watched: type[Watched]) -> None:
    """Of several chunks that one look-up gave, those that were not started when the upload stopped never are."""
    heard: list[UploadProgress] = []
    server = Server(EndpointClosedError(code=107, message="", endpoint="ka/create"))
    report = await server.upload(some(10_000), on_progress=heard.append)
    assert (report.read, report.refused, report.not_sent) == (2_000, 500, 1_500)
    # The first chunk, the second, which had waited for its slot, and the end.
    assert [progress.chunks for progress in heard] == [1, 2, 4]


@pytest.mark.anyio
async def test_what_waits_for_a_look_up_is_looked_up(watched: type[Watched]) -> None:
    """Lines of a slow input that had not been looked up when the upload stopped are told apart all the same."""
    server = Server(EndpointClosedError(code=107, message="", endpoint="ka/create"))

    class Slow(Trickle):
        async def __anext__(self) -> str:
            line = await super().__anext__()
            if line == "last":
                await anyio.wait_all_tasks_blocked()
            return line

    report = await server.upload(Slow([*some(500), *some(300), "KEY-00500", "last", "never read"]))
    assert (report.read, report.duplicates, report.refused, report.not_sent) == (802, 300, 500, 2)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["iterable", "async"])
async def test_a_slow_server_slows_the_reading(watched: type[Watched], kind: str) -> None:
    """Also after the spill reading waits for sending: one batch is read ahead, and no more."""
    server = Server()
    server.gate = anyio.Event()
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        for number in itertools.count():
            read += 1
            yield f"KEY-{number}"

    permits = Permits(2)
    async with anyio.create_task_group() as group:
        running = _Upload(server.send, 8, permits, None, 0)
        group.start_soon(running.run, read_lines(KINDS[kind](lines()), running.read_late_lines))
        await until(lambda: permits._waiting)  # the one that reads
        assert read == (2_000 if kind == "iterable" else 1_500)
        group.cancel_scope.cancel()


# --- Cancelled, failed -------------------------------------------------------------------------------------


class Held:
    """Keeps a look-up waiting in its thread until it is let go on."""

    def __init__(self, nth: int) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._left = nth

    def before(self, sql: str) -> None:
        if "group_concat" in sql:
            self._left -= 1
            if self._left == 0:
                self.reached.set()
                assert self.go_on.wait(PATIENCE)

    async def until_reached(self) -> None:
        await until(self.reached.is_set)


@pytest.mark.anyio
async def test_cancelled_during_a_look_up(watched: type[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while a thread looks something up: it is waited for, and what was taken is in the report, not sent."""
    held = Held(2)
    monkeypatch.setattr(watched, "before", staticmethod(held.before))
    server = Server()
    reports: list[UploadReport] = []

    async def run() -> None:
        try:
            await server.upload(iter(some(10_000)))
        except BaseException as error:
            reports.append(report_on(error))
            raise

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await held.until_reached()
        group.cancel_scope.cancel()
        held.go_on.set()
    (report,) = reports
    assert (report.read, report.stored + report.unknown + report.not_sent) == (4_000, 4_000)
    kept = [key for chunk in report.chunks for key in chunk.keys]
    assert sorted([*server.stored, *kept]) == some(4_000)
    (connection,) = watched.made
    assert connection.closed.wait(PATIENCE)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelled_the_way_of_asyncio(watched: type[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ``task.cancel()`` leaves behind disturbs nothing: the file is closed when it has ended."""
    held = Held(2)
    monkeypatch.setattr(watched, "before", staticmethod(held.before))
    server = Server()
    task = asyncio.create_task(server.upload(iter(some(10_000))))
    await held.until_reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    report = report_on(caught.value)
    assert (report.read, report.stored + report.unknown + report.not_sent) == (4_000, 4_000)
    kept = [key for chunk in report.chunks for key in chunk.keys]
    assert sorted([*server.stored, *kept]) == some(4_000)
    (connection,) = watched.made
    assert not connection.closed.is_set()
    held.go_on.set()
    assert connection.closed.wait(PATIENCE)


async def cancel_after(steps: int, cancel: Callable[[], None]) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
async def test_cancelled_at_any_step(watched: type[Watched], kind: str) -> None:
    """Wherever a cancellation strikes an upload that has spilled, every line that was read is in one column."""
    for steps in range(0, 60, 2):
        server = Server()
        report = None
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_after, steps, scope.cancel)
                try:
                    report = await upload(server.send, 8, KINDS[kind](LONG), concurrency=2, max_keys_in_memory=1_000)
                except BaseException as error:
                    report = report_on(error)
                    raise
        assert report is not None
        adds_up(report)
        kept = {key for chunk in report.chunks for key in chunk.keys}
        assert {key for key in LONG[: report.read] if key} == {*server.stored, *kept}
        assert len(server.stored) == len(set(server.stored))


FULL_DISKS: list[tuple[str, int, int | None]] = [
    ("CREATE", 0, 1_500), ("group_concat", 0, 1_500), ("group_concat", 2, None), ("INSERT", 1, None)
]  # fmt: skip


@pytest.mark.anyio
async def test_a_full_disk(watched: type[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own error comes out with the report; what was in flight is settled, and nothing read is lost."""
    monkeypatch.setattr("gatepay_async.lines.LINES_PER_BATCH", 1_000)
    monkeypatch.setattr("gatepay_async.upload.LINES_PER_BATCH", 1_000)
    for kind, (part, after, stored) in itertools.product(KINDS, FULL_DISKS):
        monkeypatch.setattr(watched, "before", staticmethod(failing(part, after=after)))
        await upload_to_full_disk(kind, stored)


async def upload_to_full_disk(kind: str, stored: int | None) -> None:
    """Upload while SQLite fails, with so many *stored* at most."""
    server = Server()
    lines = iter([*some(500), *some(20_000)])
    with pytest.raises(sqlite3.OperationalError, match="disk is full") as caught:
        await server.upload(KINDS[kind](lines), most=1_600, concurrency=3)
    report = report_on(caught.value)
    assert report.unknown == report.refused == 0
    kept = [key for chunk in report.chunks for key in chunk.keys]
    assert {chunk.fate for chunk in report.chunks} == {Fate.STORED, Fate.NOT_SENT}
    assert sorted([*server.stored, *kept]) == some(report.read - 500)
    assert report.duplicates == 500
    assert stored is None or report.stored <= stored
    if kind != "file":  # of which a batch may have been read that was not taken
        assert next(lines) == f"KEY-{report.read - 500:05d}"


@pytest.mark.anyio
async def test_a_full_disk_at_the_end(watched: type[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last lines can't be looked up it is SQLite's error that comes out, with the report."""
    for kind, kind_of in KINDS.items():
        monkeypatch.setattr(watched, "before", staticmethod(failing("INSERT")))
        with pytest.raises(sqlite3.OperationalError, match="disk is full") as caught:
            await Server().upload(kind_of(some(300)))
        report = report_on(caught.value)
        assert (kind, report.read, report.not_sent, report.duplicates) == (kind, 300, 300, 0)


@pytest.mark.anyio
async def test_a_file_that_is_really_full(watched: type[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where SQLite itself finds no room, in the middle of a statement."""
    monkeypatch.setattr(dedup, "_PRAGMAS", (*dedup._PRAGMAS, "max_page_count=60"))
    server = Server()
    with pytest.raises(sqlite3.OperationalError, match="database or disk is full") as caught:
        await server.upload(some(20_000))
    report = report_on(caught.value)
    assert 0 < report.stored < report.read < 20_000
    kept = [key for chunk in report.chunks for key in chunk.keys]
    assert sorted([*server.stored, *kept]) == some(report.read)


@pytest.mark.anyio
async def test_a_look_up_that_failed_is_not_repeated(watched: type[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failed look-up may have entered is not looked up again: it would pass for a repetition."""
    repeated = SpillingDeduplicator.find_repeated
    once = iter([sqlite3.OperationalError("database or disk is full")])

    def enter_and_fail(seen: SpillingDeduplicator, keys: list[str]) -> list[int]:
        places = repeated(seen, keys)
        for error in once:
            raise error
        return places

    monkeypatch.setattr(SpillingDeduplicator, "find_repeated", enter_and_fail)
    with pytest.raises(sqlite3.OperationalError, match="disk is full") as caught:
        await Server().upload(some(2_000))
    report = report_on(caught.value)
    assert (report.read, report.not_sent, report.duplicates) == (2_000, 2_000, 0)


@pytest.mark.anyio
async def test_progress_is_never_ahead(watched: type[Watched]) -> None:
    """What is being looked up is in flight, so that also after the spill every column only grows."""
    heard: list[UploadProgress] = []
    await Server().upload(LONG, concurrency=3, on_progress=heard.append)
    for before, after in itertools.pairwise(heard):
        for column in ("read", "blank", "duplicates", "stored", "refused", "not_sent"):
            assert getattr(before, column) <= getattr(after, column)
    assert all(progress.in_flight >= 0 for progress in heard)
    assert heard[-1].in_flight == 0
