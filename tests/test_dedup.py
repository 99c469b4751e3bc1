"""
The deduplicator of an upload: its results, its private file, and that it never blocks the event loop.

Up to a threshold it keeps the card keys in memory. Above the threshold it moves them to the file: the *spill*.
"""

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
only_linux = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="open files are read from /proc")


def make_keys(count: int, *, start: int = 0) -> list[str]:
    return [f"KEY-{number:05d}" for number in range(start, start + count)]


def find_repeated_with_a_set(batches: Iterable[Iterable[str]]) -> list[list[int]]:
    """Return for each batch the indexes of its repeated card keys, found with a plain set."""
    seen: set[str] = set()
    return [
        [index for index, key in enumerate(keys) if key in seen or seen.add(key)]  # type: ignore[func-returns-value]  # None is false
        for keys in batches
    ]


# --- Results -----------------------------------------------------------------------------------------------

repeating_keys = st.integers(0, 60).map(lambda number: f"K{number}")  # so few that lists of them have repetitions
any_key = st.one_of(repeating_keys, repeating_keys, st.text(st.characters(exclude_categories=["Cs"]), max_size=3))


@given(
    threshold=thresholds,
    batches=st.lists(st.lists(any_key, max_size=40), max_size=8),
    rows_per_statement=st.sampled_from([1, 3, 2000]),
)
def test_results_equal_those_of_a_set(threshold: int, batches: list[list[str]], rows_per_statement: int) -> None:
    """In memory and in the file, the repeated card keys are the same as those found with a set."""
    with (
        contextlib.closing(SpillingDeduplicator(max_keys_in_memory=threshold)) as deduplicator,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(dedup, "_ROWS_PER_STATEMENT", rows_per_statement)
        assert [deduplicator.find_repeated(keys) for keys in batches] == find_repeated_with_a_set(batches)


def test_repetitions_among_thousands_of_keys_are_found() -> None:
    """Among thousands of card keys, every repetition is found: in memory, during the spill and in the file."""
    batches = [
        [key for pair in zip(make_keys(700, start=n), make_keys(700, start=n // 2), strict=True) for key in pair]
        for n in range(0, 9_000, 700)
    ]
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=5_000)) as deduplicator:
        assert [deduplicator.find_repeated(keys) for keys in batches] == find_repeated_with_a_set(batches)
        assert not deduplicator.fits_in_memory(0)


def test_each_repetition_has_the_line_of_its_first_occurrence() -> None:
    """Each repetition has the line of its first occurrence, whether that was in this look-up or an earlier one."""
    with contextlib.closing(FirstLines()) as first_lines:
        assert first_lines.find_repeated([1, 3, 4, 5], ["A", "B", "A", "A"]) == {2: 1, 3: 1}
        assert first_lines.find_repeated([6, 7, 9], ["C", "B", "C"]) == {1: 3, 2: 6}
        assert first_lines.find_repeated(range(10, 2_010), make_keys(2_000)) == {}
        assert first_lines.find_repeated([2_010], ["KEY-01999"]) == {0: 2_009}
        assert first_lines.find_repeated([], []) == {}


lines_of_any_kind = st.one_of(
    repeating_keys,
    repeating_keys.map(lambda key: f" {key}\r\n"),
    repeating_keys.map(str.encode),
    st.sampled_from(["", "\ufeff", " \n", "a\nb", "\ud800", b"\xff", "密\n", None, "\ufeffK1", "a\0", "\u200b"]),
)


def chunks_and_report(
    inputs: list[list[Any]], deduplicator: SpillingDeduplicator | None, cut: Callable[[Chunker, list[Any]], list[Chunk]]
) -> tuple[list[Chunk], UploadReport]:
    """
    Return the chunks of all inputs, and the report.

    *cut* divides the lines of one input into chunks. Without *deduplicator*, a plain set finds the repeated card keys.
    """
    ledger = Ledger()
    chunker = Chunker(ledger, deduplicator)
    chunks = [chunk for lines in inputs for chunk in cut(chunker, lines)]
    last_chunk = chunker.last_chunk()
    return [*chunks, *([last_chunk] if last_chunk else [])], ledger.report(stopped=None)


def cut_at_once(chunker: Chunker, lines: list[Any]) -> list[Chunk]:
    """Read, deduplicate and cut the lines with one method."""
    return list(chunker.chunks(lines))


def cut_in_steps(chunker: Chunker, lines: list[Any]) -> list[Chunk]:
    """Read, deduplicate and cut the lines in three steps, as an upload does after the spill."""
    chunker.read_lines(lines)
    return chunker.full_chunks(chunker._deduplicator.find_repeated(chunker.pending_keys))


@given(
    threshold=thresholds,
    inputs=st.lists(st.lists(lines_of_any_kind, max_size=60), max_size=5),
    size=st.sampled_from([1, 3, 500]),
)
def test_chunks_do_not_depend_on_the_threshold(threshold: int, inputs: list[list[Any]], size: int) -> None:
    """The chunks and the report are the same for every threshold and for both ways to cut the lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "MAX_KEYS_PER_CALL", size)
        expected, expected_report = chunks_and_report(inputs, None, cut_at_once)
        for cut in (cut_at_once, cut_in_steps):
            with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=threshold)) as deduplicator:
                chunks, report = chunks_and_report(inputs, deduplicator, cut)
            assert chunks == expected
            columns = [(r.read, r.blank, r.duplicates, r.refused) for r in (report, expected_report)]
            assert columns[0] == columns[1]


def test_a_spill_in_the_middle_of_a_chunk_keeps_it_complete() -> None:
    """If the spill happens in the middle of a chunk, the chunk is still complete and in order."""
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=300)) as deduplicator:
        ledger = Ledger()
        chunker = Chunker(ledger, deduplicator)
        assert list(chunker.chunks(make_keys(300))) == []
        assert deduplicator.fits_in_memory(0)
        assert list(chunker.chunks(["KEY-00299", *make_keys(100, start=300), "KEY-00000", "KEY-00350"])) == []
        assert not deduplicator.fits_in_memory(0)
        (chunk,) = chunker.chunks(make_keys(100, start=400))
    assert list(chunk.keys) == make_keys(500)
    assert chunk.lines == (*range(1, 301), *range(302, 402), *range(404, 504))
    assert ledger.duplicates == 3


def test_fits_in_memory_until_the_spill() -> None:
    """fits_in_memory() is true up to the threshold, and always false after the spill."""
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=5)) as deduplicator:
        assert (deduplicator.fits_in_memory(5), deduplicator.fits_in_memory(6)) == (True, False)
        deduplicator.find_repeated(["A", "B", "B"])
        assert (deduplicator.fits_in_memory(3), deduplicator.fits_in_memory(4)) == (True, False)
        deduplicator.find_repeated(["C", "D", "E", "F"])
        assert not deduplicator.fits_in_memory(0)
        assert deduplicator.find_repeated(["A", "F", "G"]) == [0, 1]


def test_a_spill_frees_the_memory() -> None:
    """After the spill no card key is in memory, and SQLite's cache has a limit."""
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=5)) as deduplicator:
        deduplicator.find_repeated(make_keys(5))
        keys = deduplicator._in_memory._keys
        assert len(keys) == 5
        deduplicator.find_repeated(make_keys(5_000))
        assert (len(keys), deduplicator._in_memory._keys) == (0, set())
        assert deduplicator._in_memory._keys is not keys  # an emptied set would keep its memory
        assert deduplicator._in_file is not None
        # The table keeps no card keys: only the keyed hash that it copies for each digest, and the database.
        assert list(vars(deduplicator._in_file)) == ["_keyed_hash", "_database"]
        ((cache,),) = deduplicator._in_file._database.execute("PRAGMA cache_size")
        assert cache == -dedup._CACHE_KIB
        ((rows,),) = deduplicator._in_file._database.execute("SELECT count(*) FROM seen")
        assert rows == 5_000


def test_the_default_threshold_is_a_million() -> None:
    """By default up to a million card keys are held in memory."""
    deduplicator = SpillingDeduplicator()
    assert (deduplicator.fits_in_memory(1_000_000), deduplicator.fits_in_memory(1_000_001)) == (True, False)


# --- The file ----------------------------------------------------------------------------------------------


def digests_of(deduplicator: SpillingDeduplicator) -> list[bytes]:
    """Return the digests in the file."""
    assert deduplicator._in_file is not None
    return [digest for (digest,) in deduplicator._in_file._database.execute("SELECT digest FROM seen")]


def test_digests_differ_between_uploads() -> None:
    """Two uploads store different digests of a card key, so nobody can test guesses against the file."""
    with (
        contextlib.closing(SpillingDeduplicator(max_keys_in_memory=0)) as first,
        contextlib.closing(SpillingDeduplicator(max_keys_in_memory=0)) as second,
    ):
        first.find_repeated(make_keys(20))
        second.find_repeated(make_keys(20))
        assert {len(digest) for digest in digests_of(first)} == {16}
        assert len({*digests_of(first), *digests_of(second)}) == 40


def open_files(process: str = "self") -> dict[str, Path]:
    """Return the open files of a process: each name, with the path in /proc where its content can be read."""
    files: dict[str, Path] = {}
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor that reads the folder itself is closed again
            files[str(descriptor.readlink())] = descriptor
    return files


@only_linux
def test_the_file_is_private_and_has_no_card_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has no name, is readable only by its owner, contains no card key, and is deleted on close."""
    monkeypatch.setattr(dedup, "_CACHE_KIB", 64)
    files_before = open_files()
    with contextlib.closing(SpillingDeduplicator(max_keys_in_memory=10)) as deduplicator:
        deduplicator.find_repeated(make_keys(20_000))
        ((name, file),) = [item for item in open_files().items() if item[0] not in files_before]
        assert name.endswith(" (deleted)")
        assert not Path(name.removesuffix(" (deleted)")).exists()
        status = file.stat()
        assert (status.st_nlink, status.st_mode & 0o777) == (0, 0o600)
        content = file.read_bytes()
        assert len(content) == status.st_size > 20_000 * 16
        assert b"KEY-" not in content
        # Most digests are in this file (some may still be in SQLite's cache), so it is the deduplicator's.
        assert sum(digest in content for digest in digests_of(deduplicator)[:1_000]) > 900
    assert name not in open_files()


class RecordingConnection(sqlite3.Connection):
    """
    A connection that records the threads that use it.

    It calls ``before_statement`` with each SQL statement. A test can replace that, to let the statement fail or wait.
    """

    opened: list["RecordingConnection"]
    before_statement: Callable[[str], object]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.used_in = {threading.get_ident()}
        self.closed = threading.Event()
        self.opened.append(self)

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        self.used_in.add(threading.get_ident())
        self.before_statement(sql)
        return super().execute(sql, *args)

    def close(self) -> None:
        self.used_in.add(threading.get_ident())
        super().close()
        self.closed.set()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[RecordingConnection]]:
    """Record all connections that the test opens, and check that each one is closed in the end."""

    class ConnectionOfThisTest(RecordingConnection):
        opened: list[RecordingConnection] = []  # noqa: RUF012 -- the class is used in this test only

        @staticmethod
        def before_statement(sql: str) -> None:
            pass

    original = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **kwargs: original(*args, factory=ConnectionOfThisTest, **kwargs)
    )
    yield ConnectionOfThisTest
    assert all(connection.closed.wait(PATIENCE) for connection in ConnectionOfThisTest.opened)


def fail_on(part: str, *, after: int = 0) -> Callable[[str], None]:
    """Return a function that raises SQLite's disk-full error for statements with *part*, after *after* of them."""
    matches = itertools.count()

    def before_statement(sql: str) -> None:
        if part in sql and next(matches) >= after:
            raise sqlite3.OperationalError("database or disk is full")

    return before_statement


def test_a_closed_deduplicator_refuses_keys(connections: type[RecordingConnection]) -> None:
    """After close() look-ups raise RuntimeError. A second close() does nothing. Without a spill no file is opened."""
    deduplicator = SpillingDeduplicator(max_keys_in_memory=2)
    deduplicator.find_repeated(make_keys(3))
    deduplicator.close()
    deduplicator.close()
    with pytest.raises(RuntimeError, match="closed"):
        deduplicator.find_repeated(["A"])
    in_memory = SpillingDeduplicator()
    in_memory.find_repeated(["A"])
    in_memory.close()
    assert len(connections.opened) == 1
    assert len(in_memory._in_memory) == 0


def test_a_failed_spill_keeps_the_keys_in_memory(
    connections: type[RecordingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file can't be created or filled, the card keys in memory are kept, and no file is left."""
    for part in ("PRAGMA", "CREATE", "group_concat", "INSERT"):
        assert_failed_spill_is_undone(part, connections, monkeypatch)


def assert_failed_spill_is_undone(
    part: str, connections: type[RecordingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the spill fail in the statement with *part*; then spill again successfully."""
    opened_before = len(connections.opened)
    deduplicator = SpillingDeduplicator(max_keys_in_memory=5)
    deduplicator.find_repeated(make_keys(5))
    with monkeypatch.context() as patch:
        patch.setattr(connections, "before_statement", staticmethod(fail_on(part)))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            deduplicator.find_repeated(["KEY-00000", "A"])
    assert connections.opened[opened_before].closed.is_set()
    assert len(deduplicator._in_memory) == 5
    assert deduplicator.find_repeated(["KEY-00000", "A"]) == [0]
    deduplicator.close()


# --- Whole uploads -----------------------------------------------------------------------------------------


class Server:
    """
    A server whose ``send`` stores all card keys in order.

    *script* has an exception or None for each call; None: the call succeeds. If ``gate`` is set to an event, ``send``
    waits for it.
    """

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
        return Sent(Stored(len(call.keys), message=""), attempts=1)

    async def upload(
        self, lines: Any, *, threshold: int = 0, concurrency: int = 1, on_progress: Any = None
    ) -> UploadReport:
        with anyio.fail_after(PATIENCE):
            return assert_adds_up(
                await upload(
                    self.send, 8, lines, concurrency=concurrency, on_progress=on_progress, max_keys_in_memory=threshold
                )
            )  # fmt: skip


def assert_adds_up(report: UploadReport) -> UploadReport:
    """Check that each line is in one column. Return the report."""
    total_of_results = report.stored + report.already_there + report.refused + report.unknown + report.not_sent
    assert report.read == report.blank + report.duplicates + total_of_results
    assert sum(chunk.count for chunk in report.chunks) == total_of_results
    return report


def report_of(error: BaseException) -> UploadReport:
    """Return the report that an upload attached to its exception."""
    report = getattr(error, "report", None)
    assert isinstance(report, UploadReport)
    return assert_adds_up(report)


@pytest.mark.anyio
@given(threshold=thresholds, lines=st.lists(lines_of_any_kind, max_size=150), size=st.sampled_from([1, 7, 500]))
async def test_an_upload_does_not_depend_on_the_threshold(threshold: int, lines: list[Any], size: int) -> None:
    """For every threshold the server gets the same card keys in the same order, and the report is the same."""
    servers = Server(), Server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "MAX_KEYS_PER_CALL", size)
        patch.setattr("gatepay_async.lines.LINES_PER_BATCH", 20)
        patch.setattr("gatepay_async.upload.LINES_PER_BATCH", 20)
        report = await servers[0].upload(lines, threshold=threshold)
        expected = await servers[1].upload(lines, threshold=1_000_000)
    assert servers[0].stored == servers[1].stored
    assert repr(report) == repr(expected)
    assert [repr(chunk) for chunk in report.chunks] == [repr(chunk) for chunk in expected.chunks]


# 7,952 lines: 6,100 different card keys, repetitions far from their first occurrence, a blank line, an invalid line.
LONG_INPUT = [
    *make_keys(3_300),
    "",
    *make_keys(2_600, start=1_500),
    "a\nb",
    *make_keys(50),
    *make_keys(2_000, start=4_100),
]


class File:
    """An open file, with only the methods that an upload uses."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)

    def readline(self) -> str:
        return next(self._lines)

    def __iter__(self) -> Iterator[str]:
        return self._lines


class AsyncLines:
    """An async iterable that, unlike a generator, needs no aclose()."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        for line in self._lines:
            return line
        raise StopAsyncIteration


INPUT_KINDS: dict[str, Callable[[Iterable[str]], Any]] = {
    "iterable": lambda lines: lines,
    "file": File,
    "async": AsyncLines,
}


@pytest.mark.anyio
async def test_a_long_upload_finds_all_repetitions(connections: type[RecordingConnection]) -> None:
    """Repetitions before and after the spill are found, the order is kept, and SQLite isn't used on the event loop."""
    # Each kind of input with the same threshold; then each other threshold with one of the kinds.
    thresholds_and_kinds = [(2_500, kind) for kind in INPUT_KINDS]
    thresholds_and_kinds += zip([0, 700, 5_000, 1_000_000], itertools.cycle(INPUT_KINDS), strict=False)
    for threshold, kind in thresholds_and_kinds:
        await check_long_upload(connections, kind, threshold)


async def check_long_upload(connections: type[RecordingConnection], kind: str, threshold: int) -> None:
    """Upload LONG_INPUT with a threshold of *threshold* card keys, and check the result."""
    opened_before = len(connections.opened)
    server = Server()
    report = await server.upload(INPUT_KINDS[kind](LONG_INPUT), threshold=threshold)
    assert server.stored == make_keys(6_100)
    assert (report.read, report.blank, report.refused, report.stored) == (7_952, 1, 1, 6_100)
    assert report.duplicates == 7_952 - 1 - 1 - 6_100
    sent_chunks = [chunk for chunk in report.chunks if chunk.index >= 0]  # -1: lines that were never in a chunk
    assert [(chunk.index, chunk.count) for chunk in sent_chunks] == [
        *((index, 500) for index in range(12)),
        (12, 100),
    ]
    opened = connections.opened[opened_before:]
    assert len(opened) == (threshold < 6_100)
    for connection in opened:
        assert connection.closed.wait(PATIENCE)
        assert threading.get_ident() not in connection.used_in


@pytest.mark.anyio
async def test_a_failed_input_leaves_full_chunks_stored(connections: type[RecordingConnection]) -> None:
    """If the input fails, before or after the spill, full chunks are stored and the rest is not sent."""

    def lines() -> Iterator[str]:
        yield from make_keys(2_750)
        yield from make_keys(500)
        yield b"SECRET-\xff".decode()  # raises UnicodeDecodeError

    for threshold, kind in itertools.product([0, 1_000, 1_000_000], INPUT_KINDS):
        server = Server()
        with pytest.raises(InvalidRequestError, match="the text after line 3250 is not utf-8") as caught:
            await server.upload(INPUT_KINDS[kind](lines()), threshold=threshold)
        report = report_of(caught.value)
        # *kind* and *threshold* are in the comparison only so that a failure shows them.
        assert (kind, threshold, server.stored) == (kind, threshold, make_keys(2_500))
        assert (report.read, report.duplicates, report.stored, report.not_sent) == (3_250, 500, 2_500, 250)
        assert [key for chunk in report.chunks for key in chunk.keys] == make_keys(250, start=2_500)


@pytest.mark.anyio
async def test_a_stop_after_the_spill_reads_no_further(connections: type[RecordingConnection]) -> None:
    """After a stop, lines that were read ahead are deduplicated and not sent, and the rest of the input isn't read."""
    closed = EndpointClosedError(code=107, message="", endpoint="ka/create")
    server = Server(None, closed)
    lines = iter([*make_keys(1_200), *make_keys(800), *make_keys(100_000, start=1_200)])
    report = await server.upload(lines)
    assert report.stopped is closed
    assert (report.stored, report.refused) == (500, 500)
    assert next(lines) == f"KEY-{report.read - 800:05d}"  # 800 of the lines that were read are repetitions
    assert report.duplicates == 800
    assert report.read <= 3 * 2_000  # three batches of lines


@pytest.mark.anyio
async def test_a_stop_starts_no_further_chunk(connections: type[RecordingConnection]) -> None:
    """If one look-up fills several chunks, and the reply to the first one stops the upload, the others aren't sent."""
    events: list[UploadProgress] = []
    server = Server(EndpointClosedError(code=107, message="", endpoint="ka/create"))
    report = await server.upload(make_keys(10_000), on_progress=events.append)
    assert (report.read, report.refused, report.not_sent) == (2_000, 500, 1_500)
    # Progress is reported after the first chunk; after the second one, which was started and then not sent; and at
    # the end, with all four.
    assert [progress.chunks for progress in events] == [1, 2, 4]


@pytest.mark.anyio
async def test_pending_lines_are_deduplicated_after_a_stop(connections: type[RecordingConnection]) -> None:
    """Lines of a slow input that were read but not looked up before the stop are still deduplicated."""
    server = Server(EndpointClosedError(code=107, message="", endpoint="ka/create"))

    class Slow(AsyncLines):
        async def __anext__(self) -> str:
            line = await super().__anext__()
            if line == "last":
                await anyio.wait_all_tasks_blocked()
            return line

    report = await server.upload(Slow([*make_keys(500), *make_keys(300), "KEY-00500", "last", "never read"]))
    assert (report.read, report.duplicates, report.refused, report.not_sent) == (802, 300, 500, 2)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["iterable", "async"])
async def test_reading_waits_for_a_slow_server_after_the_spill(
    connections: type[RecordingConnection], kind: str
) -> None:
    """After the spill the upload reads one batch ahead and then waits for the server."""
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
        running = _Upload(server.send, 8, permits, on_progress=None, max_keys_in_memory=0)
        group.start_soon(running.run, read_lines(INPUT_KINDS[kind](lines()), running.read_late_lines))
        await until(lambda: permits._waiting)  # the reader
        # An iterable is read in batches of 2,000 lines. Async lines are read until one chunk waits for two in flight.
        assert read == (2_000 if kind == "iterable" else 1_500)
        group.cancel_scope.cancel()


# --- Cancelled, failed -------------------------------------------------------------------------------------


class PausedLookUp:
    """Makes look-up number *nth* wait in its thread until `may_continue` is set."""

    def __init__(self, nth: int) -> None:
        self.reached = threading.Event()
        self.may_continue = threading.Event()
        self._remaining = nth

    def before_statement(self, sql: str) -> None:
        if "group_concat" in sql:  # the statement of a look-up
            self._remaining -= 1
            if self._remaining == 0:
                self.reached.set()
                assert self.may_continue.wait(PATIENCE)

    async def until_reached(self) -> None:
        await until(self.reached.is_set)


@pytest.mark.anyio
async def test_a_cancellation_waits_for_the_look_up(
    connections: type[RecordingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled upload waits for the thread that deduplicates. Lines that were read are in the report as not sent."""
    paused = PausedLookUp(nth=2)
    monkeypatch.setattr(connections, "before_statement", staticmethod(paused.before_statement))
    server = Server()
    reports: list[UploadReport] = []

    async def run() -> None:
        try:
            await server.upload(iter(make_keys(10_000)))
        except BaseException as error:
            reports.append(report_of(error))
            raise

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await paused.until_reached()
        group.cancel_scope.cancel()
        paused.may_continue.set()
    (report,) = reports
    assert (report.read, report.stored + report.unknown + report.not_sent) == (4_000, 4_000)
    not_stored = [key for chunk in report.chunks for key in chunk.keys]
    assert sorted([*server.stored, *not_stored]) == make_keys(4_000)
    (connection,) = connections.opened
    assert connection.closed.wait(PATIENCE)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_task_cancel_leaves_the_look_up_to_its_thread(
    connections: type[RecordingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ``task.cancel()`` the upload doesn't wait for the thread that deduplicates. The thread closes the file."""
    paused = PausedLookUp(nth=2)
    monkeypatch.setattr(connections, "before_statement", staticmethod(paused.before_statement))
    server = Server()
    task = asyncio.create_task(server.upload(iter(make_keys(10_000))))
    await paused.until_reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    report = report_of(caught.value)
    assert (report.read, report.stored + report.unknown + report.not_sent) == (4_000, 4_000)
    not_stored = [key for chunk in report.chunks for key in chunk.keys]
    assert sorted([*server.stored, *not_stored]) == make_keys(4_000)
    (connection,) = connections.opened
    assert not connection.closed.is_set()
    paused.may_continue.set()
    assert connection.closed.wait(PATIENCE)


async def cancel_after(steps: int, cancel: Callable[[], None]) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", INPUT_KINDS)
@pytest.mark.slow
async def test_a_cancellation_at_any_step_adds_up(connections: type[RecordingConnection], kind: str) -> None:
    """Wherever an upload is cancelled after the spill, every line that was read is in one column."""
    for steps in range(0, 60, 2):
        server = Server()
        report = None
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_after, steps, scope.cancel)
                try:
                    report = await upload(
                        server.send, 8, INPUT_KINDS[kind](LONG_INPUT), concurrency=2, max_keys_in_memory=1_000
                    )
                except BaseException as error:
                    report = report_of(error)
                    raise
        assert report is not None
        assert_adds_up(report)
        not_stored = {key for chunk in report.chunks for key in chunk.keys}
        assert {key for key in LONG_INPUT[: report.read] if key} == {*server.stored, *not_stored}
        assert len(server.stored) == len(set(server.stored))


# Part of the statement that fails, how many such statements succeed before, and the most card keys that are stored
# (None: not checked).
FULL_DISKS: list[tuple[str, int, int | None]] = [
    ("CREATE", 0, 1_500), ("group_concat", 0, 1_500), ("group_concat", 2, None), ("INSERT", 1, None)
]  # fmt: skip


@pytest.mark.anyio
async def test_a_full_disk_raises_with_the_report(
    connections: type[RecordingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's error is raised with the report. Calls in flight are finished, and no line that was read is lost."""
    monkeypatch.setattr("gatepay_async.lines.LINES_PER_BATCH", 1_000)
    monkeypatch.setattr("gatepay_async.upload.LINES_PER_BATCH", 1_000)
    for kind, (part, after, limit) in itertools.product(INPUT_KINDS, FULL_DISKS):
        monkeypatch.setattr(connections, "before_statement", staticmethod(fail_on(part, after=after)))
        await check_upload_to_full_disk(kind, limit)


async def check_upload_to_full_disk(kind: str, limit: int | None) -> None:
    """Upload while SQLite fails. At most *limit* card keys are stored."""
    server = Server()
    lines = iter([*make_keys(500), *make_keys(20_000)])
    with pytest.raises(sqlite3.OperationalError, match="disk is full") as caught:
        await server.upload(INPUT_KINDS[kind](lines), threshold=1_600, concurrency=3)
    report = report_of(caught.value)
    assert report.unknown == report.refused == 0
    not_stored = [key for chunk in report.chunks for key in chunk.keys]
    assert {chunk.fate for chunk in report.chunks} == {Fate.STORED, Fate.NOT_SENT}
    assert sorted([*server.stored, *not_stored]) == make_keys(report.read - 500)
    assert report.duplicates == 500
    assert limit is None or report.stored <= limit
    if kind != "file":  # a thread may have read a further batch of a file
        assert next(lines) == f"KEY-{report.read - 500:05d}"


@pytest.mark.anyio
async def test_a_full_disk_at_the_last_look_up_raises_with_the_report(
    connections: type[RecordingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the look-up of the last lines fails, SQLite's error is raised with the report."""
    for kind, make_input in INPUT_KINDS.items():
        monkeypatch.setattr(connections, "before_statement", staticmethod(fail_on("INSERT")))
        with pytest.raises(sqlite3.OperationalError, match="disk is full") as caught:
            await Server().upload(make_input(make_keys(300)))
        report = report_of(caught.value)
        assert (report.read, report.not_sent, report.duplicates) == (300, 300, 0), kind


@pytest.mark.anyio
async def test_a_full_database_raises_with_the_report(
    connections: type[RecordingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If SQLite itself finds the file full, in the middle of a statement, its error is raised with the report."""
    monkeypatch.setattr(dedup, "_PRAGMAS", (*dedup._PRAGMAS, "max_page_count=60"))
    server = Server()
    with pytest.raises(sqlite3.OperationalError, match="database or disk is full") as caught:
        await server.upload(make_keys(20_000))
    report = report_of(caught.value)
    assert 0 < report.stored < report.read < 20_000
    not_stored = [key for chunk in report.chunks for key in chunk.keys]
    assert sorted([*server.stored, *not_stored]) == make_keys(report.read)


@pytest.mark.anyio
async def test_a_failed_look_up_is_not_repeated(
    connections: type[RecordingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed look-up may have entered its card keys, so repeating it would report them as duplicates."""
    original = SpillingDeduplicator.find_repeated
    first_error = iter([sqlite3.OperationalError("database or disk is full")])

    def enter_and_fail(deduplicator: SpillingDeduplicator, keys: list[str]) -> list[int]:
        indexes = original(deduplicator, keys)
        for error in first_error:  # only at the first look-up
            raise error
        return indexes

    monkeypatch.setattr(SpillingDeduplicator, "find_repeated", enter_and_fail)
    with pytest.raises(sqlite3.OperationalError, match="disk is full") as caught:
        await Server().upload(make_keys(2_000))
    report = report_of(caught.value)
    assert (report.read, report.not_sent, report.duplicates) == (2_000, 2_000, 0)


@pytest.mark.anyio
async def test_progress_columns_only_grow_after_the_spill(connections: type[RecordingConnection]) -> None:
    """Lines that are being looked up count as in flight, so every column of the progress only grows."""
    events: list[UploadProgress] = []
    await Server().upload(LONG_INPUT, concurrency=3, on_progress=events.append)
    for before, after in itertools.pairwise(events):
        for column in ("read", "blank", "duplicates", "stored", "refused", "not_sent"):
            assert getattr(before, column) <= getattr(after, column)
    assert all(progress.in_flight >= 0 for progress in events)
    assert events[-1].in_flight == 0
