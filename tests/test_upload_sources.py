"""The inputs of an upload: lists, iterators, files and pipes, and how their lines are cleaned."""

import gzip
import io
import itertools
import mmap
import os
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from waiting import PATIENCE, until

from gatepay_async import Fate, InvalidRequestError, Stored, UploadReport
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.retrying import Sent
from gatepay_async.upload import upload

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

# More lines than a worker thread takes from a file at once (2,000), and not a multiple of the chunk size.
KEYS = [f"KEY-{number:05d}" for number in range(4_101)]


class Server:
    """A server whose ``send`` stores all card keys in the order they arrive."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.sizes: list[int] = []

    async def send(self, call: KaCreate) -> Sent[Stored]:
        await anyio.lowlevel.checkpoint()
        self.stored += call.keys
        self.sizes.append(len(call.keys))
        return Sent(Stored(len(call.keys), ""), attempts=1)

    async def upload(self, keys: Any, *, concurrency: int = 1) -> UploadReport:
        with anyio.fail_after(PATIENCE):
            return assert_adds_up(await upload(self.send, 8, keys, concurrency=concurrency))


def assert_adds_up(report: UploadReport) -> UploadReport:
    """Check that each line is in one column. Return the report."""
    total_of_results = report.stored + report.already_there + report.refused + report.unknown + report.not_sent
    assert report.read == report.blank + report.duplicates + total_of_results
    assert sum(chunk.count for chunk in report.chunks) == total_of_results
    return report


def all_text_in(error: BaseException) -> str:
    """Return all text in *error* and in its chain that a log could contain."""
    text = "".join(traceback.format_exception(error))
    chain: list[BaseException | None] = [error]
    while chain:
        linked = chain.pop()
        if linked is not None:
            attributes = {name: value for name, value in vars(linked).items() if name != "report"}
            text += f"{linked!r} {linked.args!r} {attributes!r} {getattr(linked, 'object', '')!r}"
            chain += [linked.__cause__, linked.__context__]
    return text


# --- Types of input ----------------------------------------------------------------------------------------


async def one_by_one(lines: list[str]) -> AsyncIterator[str]:
    """Yield each line after letting other tasks run."""
    for line in lines:
        await anyio.lowlevel.checkpoint()
        yield line


def text_file(stack: AsyncExitStack, path: Path, newline: str | None) -> Any:
    return stack.enter_context(path.open(encoding="utf-8", newline=newline))


def temporary_file(stack: AsyncExitStack, path: Path) -> Any:
    file: Any = tempfile.NamedTemporaryFile(dir=path.parent)  # noqa: SIM115 -- the stack closes it
    stack.enter_context(file)
    file.write(path.read_bytes())
    file.seek(0)
    return file


def gzip_file(stack: AsyncExitStack, path: Path, mode: str) -> Any:
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return stack.enter_context(gzip.open(packed, mode))


async def anyio_file(stack: AsyncExitStack, path: Path, mode: Any) -> Any:
    return await stack.enter_async_context(await anyio.open_file(path, mode))


IN_MEMORY: dict[str, Callable[[], Any]] = {
    "list": lambda: KEYS,
    "tuple": lambda: tuple(KEYS),
    "dict": lambda: dict.fromkeys(KEYS),
    "dict keys": lambda: dict.fromkeys(KEYS).keys(),
    "deque": lambda: deque(KEYS),
    "iterator": lambda: iter(KEYS),
    "generator": lambda: (key for key in KEYS),
    "map": lambda: map(str.encode, KEYS),
    "async generator": lambda: one_by_one(KEYS),
    "StringIO": lambda: io.StringIO("\n".join(KEYS)),
    "BytesIO": lambda: io.BytesIO("\r\n".join(KEYS).encode()),
}
FILES: dict[str, Callable[[AsyncExitStack, Path], Any]] = {
    "text": lambda stack, path: text_file(stack, path, None),
    "text, newline=''": lambda stack, path: text_file(stack, path, ""),
    "binary": lambda stack, path: stack.enter_context(path.open("rb")),
    "unbuffered": lambda stack, path: stack.enter_context(path.open("rb", buffering=0)),
    "NamedTemporaryFile": temporary_file,
    "gzip, binary": lambda stack, path: gzip_file(stack, path, "rb"),
    "gzip, text": lambda stack, path: gzip_file(stack, path, "rt"),
}


@pytest.mark.without_coverage
@pytest.mark.parametrize("kind", IN_MEMORY)
async def test_iterables_are_uploaded_in_order(kind: str) -> None:
    """Any iterable or async iterable of text or bytes is uploaded completely, in order, with 500 card keys per call."""
    server = Server()
    report = await server.upload(IN_MEMORY[kind]())
    assert server.stored == KEYS
    assert server.sizes == [500] * 8 + [101]
    assert (report.read, report.stored, report.ok) == (4_101, 4_101, True)


@pytest.mark.parametrize("kind", [set, frozenset])
async def test_sets_are_uploaded_in_any_order(kind: type[set[str]]) -> None:
    """A set is uploaded completely, in the order in which it iterates."""
    server = Server()
    await server.upload(kind(KEYS))
    assert sorted(server.stored) == KEYS


@pytest.mark.without_coverage
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("kind", FILES)
async def test_open_files_are_uploaded_by_line(tmp_path: Path, kind: str, ending: str) -> None:
    """An open text or binary file of any type is uploaded line by line, from its current position."""
    path = tmp_path / "keys.txt"
    path.write_bytes(ending.join(KEYS).encode())
    server = Server()
    async with AsyncExitStack() as stack:
        file = FILES[kind](stack, path)
        report = await server.upload(file)
        assert not file.closed
    assert server.stored == KEYS
    assert (report.read, report.stored) == (4_101, 4_101)


@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_anyio_files_are_uploaded_by_line(tmp_path: Path, mode: str) -> None:
    """A file opened with anyio is uploaded line by line."""
    path = tmp_path / "keys.txt"
    path.write_bytes("\n".join(KEYS[:1_001]).encode())
    server = Server()
    async with AsyncExitStack() as stack:
        await server.upload(await anyio_file(stack, path, mode))
    assert server.sizes == [500, 500, 1]
    assert server.stored == KEYS[:1_001]


@pytest.mark.without_coverage
@pytest.mark.parametrize("line_count", [0, 1, 1_999, 2_000, 2_001, 4_000])
async def test_the_end_of_a_file_is_found_after_a_full_read(line_count: int) -> None:
    """The end of a file is found, even if it comes after a full read of 2,000 lines by the worker thread."""
    server = Server()
    report = await server.upload(io.BytesIO(b"".join(b"%d\n" % line for line in range(line_count))))
    assert report.read == report.stored == line_count


@pytest.mark.without_coverage
@pytest.mark.parametrize(("count", "sizes"), [(0, []), (499, [499]), (500, [500]), (501, [500, 1]), (1_000, [500] * 2)])
async def test_chunks_have_500_keys_and_the_last_one_the_rest(count: int, sizes: list[int]) -> None:
    """Chunks have 500 card keys. The last one has the rest, and no chunk is empty."""
    server = Server()
    report = await server.upload(KEYS[:count])
    assert server.sizes == sizes
    assert [chunk.count for chunk in report.chunks] == sizes
    assert report.ok


@pytest.mark.parametrize(
    "keys",
    ["AAA\nBBB", b"AAA", bytearray(b"AAA"), mmap.mmap(-1, 8), Path("keys.txt"), None, 5, 1.5, object()],
    ids=["text", "bytes", "bytearray", "mmap", "path", "none", "int", "float", "object"],
)
async def test_an_input_of_the_wrong_type_is_refused(keys: Any) -> None:
    """A single text, a path, or an object that can't be iterated is refused before anything is sent."""
    server = Server()
    with pytest.raises(InvalidRequestError) as caught:
        await server.upload(keys)
    assert caught.value.field == "keys"
    # For a text or a path, the error suggests an open file.
    assert ("open file" in caught.value.problem) is isinstance(keys, str | bytes | bytearray | Path)
    assert "AAA" not in all_text_in(caught.value)
    assert server.sizes == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"product_id": 0}, "product_id"),
        ({"product_id": "8"}, "product_id"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 2.0}, "concurrency"),
    ],
)
async def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], field: str) -> None:
    """An invalid number is refused before a line is read."""
    server = Server()
    lines = iter(KEYS)
    with pytest.raises(InvalidRequestError) as caught:
        await upload(server.send, **{"product_id": 8, "keys": lines, **arguments})
    assert caught.value.field == field
    assert next(lines) == KEYS[0]
    assert server.sizes == []


# --- Lines -------------------------------------------------------------------------------------------------

BLANKS = " \t\r\n\x0b\x0c\x1c\x85\xa0\u2003\u2028\u3000"
LINES = [
    "\ufeffAAA\r\n",  # 1
    "BBB\r\n",
    "\r\n",
    f"{BLANKS}CCC{BLANKS}",
    "\ufeffDDD",  # 5: a second file, appended to the first
    "AAA",
    BLANKS,
    "\ufeff",
    "",
    "in  side\tstays",  # 10
    "bbb",
    "卡密-一",
    "\rEEE\r",
    "  BBB",
]
CLEANED = ["AAA", "BBB", "CCC", "DDD", "in  side\tstays", "bbb", "卡密-一", "EEE"]


@pytest.mark.parametrize("as_bytes", [False, True])
async def test_lines_are_cleaned(*, as_bytes: bool) -> None:
    """Byte-order marks, line ends and spaces around a card key are removed. Blank lines and repetitions are counted."""
    server = Server()
    report = await server.upload([line.encode() for line in LINES] if as_bytes else LINES)
    assert server.stored == CLEANED
    assert (report.read, report.blank, report.duplicates, report.stored) == (14, 4, 2, 8)
    (chunk,) = report.chunks
    assert (chunk.first_line, chunk.last_line) == (1, 13)


async def test_mixed_line_ends_are_removed(tmp_path: Path) -> None:
    """In a file with mixed line ends, and none after the last line, each card key is found, as text and as bytes."""
    path = tmp_path / "keys.txt"
    path.write_bytes(b"\xef\xbb\xbfAAA\r\nBBB\n\r\n  CCC \r\r\n\n AAA\nDDD")
    for kind in ("text", "text, newline=''", "binary", "unbuffered"):
        server = Server()
        async with AsyncExitStack() as stack:
            report = await server.upload(FILES[kind](stack, path))
        assert server.stored == ["AAA", "BBB", "CCC", "DDD"]
        assert (report.duplicates, report.ok) == (1, True)


async def test_repetitions_in_later_chunks_are_left_out() -> None:
    """A card key that repeats in a later chunk is sent once. The lines left out count in the line numbers."""
    server = Server()
    report = await server.upload([*KEYS[:700], "", *KEYS[:700], *KEYS[:800]], concurrency=3)
    assert sorted(server.stored) == KEYS[:800]
    assert (report.read, report.blank, report.duplicates, report.stored) == (2_201, 1, 1_400, 800)
    lines = [(chunk.first_line, chunk.last_line, chunk.count) for chunk in report.chunks]
    assert lines == [(1, 500, 500), (501, 2_201, 300)]


async def test_invalid_lines_are_refused_by_line_number() -> None:
    """A line break inside a line, a lone surrogate, or an object that isn't text is refused; other lines are stored."""
    server = Server()
    lines = ["AAA", "one\ntwo", "BBB", "\ud83d", None, 5, ["CCC"], "DDD", b"x\ry", b"\xff\xfe"]
    report = await server.upload(lines)
    assert server.stored == ["AAA", "BBB", "DDD"]
    assert (report.read, report.stored, report.refused, report.ok) == (10, 3, 7, False)
    refused = [chunk for chunk in report.chunks if chunk.fate is Fate.REFUSED]
    assert [(chunk.first_line, chunk.last_line, chunk.attempts) for chunk in refused] == [
        (2, 2, 0),
        (4, 4, 0),
        (5, 5, 0),
        (6, 6, 0),
        (7, 7, 0),
        (9, 9, 0),
        (10, 10, 0),
    ]
    assert [str(chunk.error).partition(" ")[2] for chunk in refused] == [
        "line 2 contains a line break, which would split it into two card keys",
        "line 4 can't be encoded as UTF-8",
        "line 5 must be text, not NoneType",
        "line 6 must be text, not int",
        "line 7 must be text, not list",
        "line 9 contains a line break, which would split it into two card keys",
        "line 10 can't be encoded as UTF-8",
    ]
    assert [chunk.keys for chunk in refused[:2]] == [("one\ntwo",), ("\ud83d",)]


async def test_a_cancelled_upload_from_a_pipe_reports_its_lines() -> None:
    """If an upload is cancelled while a pipe has no more data, its report has the lines read so far."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as file, os.fdopen(write_end, "wb", buffering=0) as pipe:
        pipe.write(b"".join(b"KEY-%d\n" % number for number in range(100)))
        with anyio.move_on_after(1):
            try:
                await Server().upload(file)
            except BaseException as error:
                report = cast("Any", error).report
                raise
        pipe.close()  # ends the thread that reads
    assert (report.read, report.not_sent) == (100, 100)


async def test_on_progress_must_be_callable() -> None:
    """An `on_progress` that isn't callable is refused before anything is sent."""
    server = Server()
    not_callable: Any = 5
    with pytest.raises(InvalidRequestError) as caught:
        await upload(server.send, 8, ["AAA"], on_progress=not_callable)
    assert (caught.value.field, server.sizes) == ("on_progress", [])


@pytest.mark.without_coverage
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
async def test_a_utf_16_file_is_refused(encoding: str) -> None:
    """Each line of a UTF-16 file is refused: its bytes are mostly valid UTF-8, but contain NULs."""
    server = Server()
    report = await server.upload(io.BytesIO("AAA-1\nAAA-2\nAAA-3\n".encode(encoding)))
    assert (report.stored, report.refused, server.stored) == (0, report.read, [])
    assert "contains a NUL character; the file may be UTF-16" in str(report.chunks[-1].error)


async def test_lines_that_are_not_utf_8_are_refused() -> None:
    """Lines of a binary file that aren't UTF-8 are refused, adjacent lines together; other lines are stored."""
    server = Server()
    file = io.BytesIO(b"AAA\n" + "卡密一\n卡密二\n".encode("gbk") + b"BBB\n" + "密\n".encode("gbk"))
    report = await server.upload(file)
    assert server.stored == ["AAA", "BBB"]
    assert (report.stored, report.refused) == (2, 3)
    errors = [str(chunk.error) for chunk in report.chunks if chunk.error]
    assert errors == [
        "keys: lines 2 to 3: each can't be encoded as UTF-8",
        "keys: line 5 can't be encoded as UTF-8",
    ]


async def test_an_input_with_only_invalid_lines_sends_nothing() -> None:
    """An input with only invalid lines sends nothing. The report has chunks of at most 500 lines."""
    server = Server()
    report = await server.upload(["a\nb"] * 1_200)
    assert (report.read, report.refused, server.sizes) == (1_200, 1_200, [])
    assert [chunk.count for chunk in report.chunks] == [500, 500, 200]


# --- The event loop is not blocked -------------------------------------------------------------------------


class WaitingFile:
    """
    A file whose reads wait until `may_read` is set. `reading_threads` has the threads that read it.

    Because of its `readline`, an upload reads it in a worker thread.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self.may_read = threading.Event()
        self.reading_threads: set[int] = set()
        self._lines = lines

    def readline(self) -> str:
        return next(self._lines)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.reading_threads.add(threading.get_ident())
        assert self.may_read.wait(PATIENCE)
        return self.readline()


async def test_a_file_is_read_in_a_worker_thread() -> None:
    """A file is read in another thread, so other tasks run while a read waits."""
    server = Server()
    file = WaitingFile(iter(KEYS))

    async def allow_read() -> None:
        # If the read blocked the event loop, this task would not run, and the read would time out.
        await until(lambda: file.reading_threads)
        file.may_read.set()

    async with anyio.create_task_group() as group:
        group.start_soon(allow_read)
        await server.upload(file)
    assert server.stored == KEYS
    assert threading.get_ident() not in file.reading_threads


async def test_a_cancellation_does_not_wait_for_a_read() -> None:
    """A cancelled upload doesn't wait for a blocked read. Its report has the lines read so far."""
    server = Server()
    file = WaitingFile(iter(KEYS))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await until(lambda: file.reading_threads)
                scope.cancel()

            group.start_soon(cancel)
            try:
                await server.upload(file)
            except BaseException as error:
                report = assert_adds_up(error.report)  # type: ignore[attr-defined]  # an upload adds it to any exception
                raise
    file.may_read.set()
    assert scope.cancelled_caught
    assert (report.read, report.chunks) == (0, ())


async def test_thousands_of_repetitions_let_other_tasks_run() -> None:
    """Other tasks run while an upload reads many repetitions, which fill no chunk."""
    server = Server()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await anyio.lowlevel.checkpoint()
        turns = 0
        report = await server.upload(itertools.repeat("AAA", 50_000))
        group.cancel_scope.cancel()
    assert (report.read, report.duplicates) == (50_000, 49_999)
    assert turns >= 20  # other tasks get a turn after every 2,000 lines


# --- An input that fails -----------------------------------------------------------------------------------


def keys_then_error(error: BaseException, *, after: int) -> Iterator[str]:
    """Yield *after* card keys, then raise *error*."""
    yield from KEYS[:after]
    raise error


class BrokenFile(io.StringIO):
    """A file whose iterator fails after the last line."""

    def __init__(self, error: Exception) -> None:
        super().__init__("\n".join(KEYS[:1_203]) + "\n")
        self.error = error

    def __next__(self) -> str:  # type: ignore[override]  # typeshed declares that StringIO yields bytes
        line = self.readline()
        if not line:
            raise self.error
        return line


async def async_keys_then_error(error: Exception) -> AsyncIterator[str]:
    """Yield card keys, then raise *error*."""
    async for key in one_by_one(KEYS[:1_203]):
        yield key
    raise error


@pytest.mark.parametrize("kind", ["generator", "file", "async generator", "__iter__", "__aiter__"])
async def test_an_error_of_the_input_is_raised_with_the_report(kind: str) -> None:
    """An error of the input is raised unchanged, with the report: full chunks are stored, the rest is not sent."""

    class FailingIterable:
        def __iter__(self) -> Iterator[str]:
            raise failure

    class AsyncFailingIterable:
        def __aiter__(self) -> AsyncIterator[str]:
            raise failure

    failure = OSError(5, "Input/output error")
    inputs: dict[str, Any] = {
        "generator": keys_then_error(failure, after=1_203),
        "file": BrokenFile(failure),
        "async generator": async_keys_then_error(failure),
        "__iter__": FailingIterable(),
        "__aiter__": AsyncFailingIterable(),
    }
    server = Server()
    with pytest.raises(OSError, match="Input/output") as caught:
        await server.upload(inputs[kind], concurrency=2)
    assert caught.value is failure
    report = assert_adds_up(failure.report)  # type: ignore[attr-defined]  # an upload adds it to any exception
    expected = (0, 0, 0) if kind.startswith("__") else (1_203, 1_000, 203)
    assert (report.read, report.stored, report.not_sent) == expected
    assert len(server.stored) == report.stored
    not_stored = [key for chunk in report.chunks for key in chunk.keys]
    assert not_stored == KEYS[report.stored : report.read]


async def test_an_error_that_accepts_no_report_is_raised_unchanged() -> None:
    """An error that doesn't accept the attribute `report` is raised without it."""

    class SealedError(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "report":
                raise AttributeError(name)
            super().__setattr__(name, value)

    failure = SealedError("sealed")
    with pytest.raises(SealedError) as caught:
        await Server().upload(keys_then_error(failure, after=3))
    assert caught.value is failure
    assert not hasattr(failure, "report")


async def test_a_base_exception_of_the_input_is_raised_with_the_report() -> None:
    """A BaseException of the input, such as KeyboardInterrupt, is raised with the report."""

    class Interrupt(BaseException):
        pass

    failure = Interrupt()
    with pytest.raises(BaseException) as caught:  # noqa: PT011 -- trio may wrap it in a group
        await Server().upload(keys_then_error(failure, after=1_203), concurrency=1)
    report = assert_adds_up(caught.value.report)  # type: ignore[attr-defined]  # an upload adds it to any exception
    assert report.read == 1_203


async def test_a_decoding_error_shows_no_card_key(tmp_path: Path) -> None:
    """A GBK file opened as UTF-8 raises InvalidRequestError without its text. Full chunks before it are stored."""
    path = tmp_path / "keys.txt"
    path.write_bytes("\n".join([*KEYS[:3_000], "SECRET-卡密", "SECRET-2"]).encode("gbk"))
    server = Server()
    async with AsyncExitStack() as stack:
        with pytest.raises(InvalidRequestError) as caught:
            await server.upload(text_file(stack, path, None), concurrency=2)
    error = caught.value
    report = assert_adds_up(error.report)  # type: ignore[attr-defined]  # an upload adds it to any exception
    assert error.field == "keys"
    assert f"the text after line {report.read} is not utf-8" in error.problem
    assert 2_000 < report.read <= 3_000  # a text file decodes thousands of characters at once
    assert sorted(server.stored) == KEYS[: report.stored]
    assert report.stored == report.read // 500 * 500
    assert report.not_sent == report.read % 500
    assert "KEY-" not in all_text_in(error)
    assert "SECRET" not in all_text_in(error)


async def test_a_decoding_error_in_a_generator_shows_no_card_key(tmp_path: Path) -> None:
    """A decoding error in the caller's generator raises InvalidRequestError without the text that failed to decode."""

    def decoded() -> Iterator[str]:
        yield "AAA"
        yield b"SECRET-\xff".decode()

    with pytest.raises(InvalidRequestError) as caught:
        await Server().upload(decoded())
    assert "SECRET" not in all_text_in(caught.value)
    assert caught.value.report.not_sent == 1  # type: ignore[attr-defined]  # an upload adds it to any exception


async def test_unread_lines_stay_in_the_generator() -> None:
    """After an upload failed, the generator continues after the last line that the report counts as read."""
    lines = iter(KEYS)

    async def refuse(_: KaCreate) -> Sent[Stored]:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("raised by the transport")

    with pytest.raises(RuntimeError) as caught:
        await upload(refuse, 8, lines, concurrency=1)
    report = assert_adds_up(caught.value.report)  # type: ignore[attr-defined]  # an upload adds it to any exception
    assert report.read < len(KEYS)
    assert next(lines) == KEYS[report.read]


async def test_files_are_split_at_line_feeds_only(tmp_path: Path) -> None:
    """A text file is split at line feeds only, not at Unicode's other line separators."""
    keys = ["A\u2028B", "C\u2029D", "E\x85F", "G\u00a0H"]
    path = tmp_path / "keys.txt"
    path.write_text("\n".join(keys), "utf-8")
    server = Server()
    with path.open(encoding="utf-8") as file:
        report = await server.upload(file)
    # `invisible` has the numbers of the lines that contain an invisible character.
    assert (server.stored, report.invisible) == (keys, (1, 2, 3, 4))
