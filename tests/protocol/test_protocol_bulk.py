"""Lines to chunks, outcomes to a ledger that adds up."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async.protocol import bulk, chunking, errors, invisible
from gatepay_async.protocol.bulk import (
    Chunk,
    ChunkOutcome,
    Fate,
    Ledger,
    UploadIncomplete,
    UploadReport,
    failed,
    outcome_of,
)
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.catalogue import REFUSALS
from gatepay_async.protocol.chunking import Chunker
from gatepay_async.protocol.errors import (
    InvalidRequestError,
    ProtocolError,
    RefusedError,
    TransportError,
)

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]


def cut(*lines: Any) -> tuple[list[Chunk], UploadReport]:
    """All chunks of *lines*, none of them sent."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    chunks = list(chunker.chunks(lines))
    rest = chunker.last_chunk()
    return chunks + ([rest] if rest else []), ledger.report(stopped=None)


def adds_up(report: Any) -> bool:
    columns = (report.blank, report.duplicates, report.stored, report.already_there)
    return bool(report.read == sum(columns) + report.refused + report.unknown + report.not_sent)


# What a careful reader makes of the input, written as simply as can be: (line, card key), in order.
def reference(lines: list[Any]) -> tuple[list[tuple[int, str]], int, int, int]:
    kept: dict[str, int] = {}
    blank = duplicates = bad = 0
    for number, line in enumerate(lines, 1):
        text = line.decode("utf-8", "surrogateescape") if isinstance(line, bytes) else line
        if not isinstance(text, str):
            bad += 1
            continue
        text = invisible.strip(text)
        if not text:
            blank += 1
        elif set("\n\r\0") & set(text) or any(0xD800 <= ord(letter) < 0xE000 for letter in text):
            bad += 1
        elif text in kept:
            duplicates += 1
        else:
            kept[text] = number
    return [(number, text) for text, number in kept.items()], blank, duplicates, bad


simple = st.one_of(st.sampled_from(["A", "B", "C", "a"]), st.integers(0, 40).map(lambda number: f"K{number}"))
noise = st.sampled_from(["", " ", "\t", "\r", "\r\n", "\n", "\u3000"])
decorated = st.builds(
    lambda mark, before, key, after: mark + before + key + after,
    st.sampled_from(["", "", "\ufeff"]),
    noise,
    simple,
    noise,
)
bad = st.sampled_from(["A\nB", "A\rB", "A\ud800", "\udfff", b"\xff", b"A\xe5", None, 7, True, ["A"], "A\r\nB", b"A\0"])
line = st.one_of(simple, decorated, decorated.map(str.encode), noise, bad, st.text(max_size=3), st.binary(max_size=3))
batches = st.lists(st.lists(line, max_size=30), max_size=5)


@given(batches, st.integers(1, 5))
def test_cutting(inputs: list[list[Any]], most: int) -> None:
    """Chunks hold the different card keys of the input, in order, each with the line it first stood in."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    chunks: list[Chunk] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "MAX_KEYS_PER_CALL", most)
        for lines in inputs:
            chunks += chunker.chunks(lines)
            assert adds_up_with(ledger, sum(len(chunk.keys) for chunk in chunks))
        rest = chunker.last_chunk()
    assert all(len(chunk.keys) == most for chunk in chunks)
    assert rest is None or 0 < len(rest.keys) < most
    chunks += [rest] if rest else []
    kept, blank, duplicates, refused = reference([line for lines in inputs for line in lines])
    assert [pair for chunk in chunks for pair in zip(chunk.lines, chunk.keys, strict=True)] == kept
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    report = ledger.report(stopped=None)
    assert (report.blank, report.duplicates, report.refused) == (blank, duplicates, refused)
    assert report.read == sum(map(len, inputs)) == blank + duplicates + refused + len(kept)
    assert all(KaCreate(8, chunk.keys).keys == chunk.keys for chunk in chunks)


def adds_up_with(ledger: Ledger, cut_off: int) -> bool:
    """Whether what is in flight is what was cut off, and what waits in the chunker."""
    progress = ledger.progress()
    settled = progress.blank + progress.duplicates + progress.refused
    return progress.read == settled + progress.in_flight and progress.in_flight >= cut_off


def refusal(cls: type[RefusedError], *, in_doubt: bool = False) -> RefusedError:
    return cls(code=1, message="", endpoint="ka/create", attempts=3, in_doubt=in_doubt)


def lost(*, sent: bool) -> TransportError:
    return TransportError(endpoint="ka/create", sent=sent, problem="x", attempts=3)


STRANGE = ProtocolError(endpoint="ka/create", http_status=502, problem="x", attempts=3)
answers = st.sampled_from(
    [
        "stored",
        "some",
        "unreadable",
        "not sent",
        refusal(errors.AlreadyStoredError),
        refusal(errors.StorageFailedError),
        refusal(errors.StorageFailedError, in_doubt=True),
        refusal(errors.DuplicateKeysError),
        lost(sent=True),
        lost(sent=False),
        STRANGE,
    ]
)


def settle(chunk: Chunk, choose: Iterator[Any]) -> Iterator[ChunkOutcome]:
    """What becomes of *chunk*, as an upload would enter it: halved while its content is refused."""
    answer = next(choose)
    if answer == "stored":
        yield bulk.stored(chunk, count=len(chunk.keys), attempts=1)
    elif answer == "some":
        yield bulk.stored(chunk, count=len(chunk.keys) // 2, attempts=1)
    elif answer == "unreadable":
        yield bulk.stored(chunk, count=None, attempts=1)
    elif answer == "not sent":
        yield failed(chunk, Fate.NOT_SENT)
    elif isinstance(answer, errors.DuplicateKeysError) and len(chunk.keys) > 1:
        for half in chunk.halves():
            yield from settle(half, choose)
    else:
        yield outcome_of(chunk, answer)


@given(batches, st.integers(1, 5), st.data())
def test_the_ledger_adds_up(inputs: list[list[Any]], most: int, data: st.DataObject) -> None:
    """Whatever becomes of the chunks, in whatever order, every line is in exactly one column."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    lines = [line for batch in inputs for line in batch]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "MAX_KEYS_PER_CALL", most)
        chunks = [*chunker.chunks(lines)]
        rest = chunker.last_chunk()
    chunks += [rest] if rest else []
    choose = iter(lambda: data.draw(answers), None)
    waiting = sum(len(chunk.keys) for chunk in chunks)
    for chunk in data.draw(st.permutations(chunks)):
        for outcome in settle(chunk, choose):
            assert ledger.progress().in_flight == waiting
            ledger.add(outcome)
            waiting -= outcome.count
    progress = ledger.progress()
    report = ledger.report(stopped=None)
    assert waiting == progress.in_flight == 0
    assert adds_up(report)
    assert adds_up(progress)
    assert progress.chunks == len(report.chunks)
    assert report.ok == all(outcome.fate is Fate.STORED for outcome in report.chunks)
    by_fate = {fate: sum(outcome.count for outcome in report.chunks if outcome.fate is fate) for fate in Fate}
    assert by_fate[Fate.STORED] == report.stored + report.already_there
    assert (by_fate[Fate.REFUSED], by_fate[Fate.UNKNOWN]) == (report.refused, report.unknown)
    assert by_fate[Fate.NOT_SENT] == report.not_sent
    assert [outcome.first_line for outcome in report.chunks] == sorted(outcome.first_line for outcome in report.chunks)
    kept = [text for _, text in reference(lines)[0]]
    on_server = sum(outcome.count for outcome in report.chunks if outcome.fate is Fate.STORED)
    held = [key for outcome in report.chunks if outcome.index >= 0 for key in outcome.keys]
    assert len(kept) == on_server + len(held)
    assert set(held) <= set(kept)


def test_five_hundred() -> None:
    """A chunk is full with 500 card keys; the rest is what is left, and may be nothing."""
    chunks, report = cut(*(f"K{number}" for number in range(1201)))
    assert [len(chunk.keys) for chunk in chunks] == [500, 500, 201]
    assert [(chunk.index, chunk.lines[0], chunk.lines[-1]) for chunk in chunks] == [
        (0, 1, 500),
        (1, 501, 1000),
        (2, 1001, 1201),
    ]
    assert report.read == 1201
    assert [len(chunk.keys) for chunk in cut(*(f"K{number}" for number in range(500)))[0]] == [500]


def test_a_chunk_comes_as_soon_as_it_is_full() -> None:
    """No line is read beyond the one that fills a chunk."""
    ledger = Ledger()
    endless = (f"K{number}" for number in iter(int, None) for number in range(10**9))
    next(Chunker(ledger).chunks(endless))
    assert ledger.read == 500


def test_batches_are_one_input() -> None:
    """Lines are counted, and repetitions seen, over all batches; a chunk may begin in one and end in another."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    assert [*chunker.chunks(["A", "B"]), *chunker.chunks(["B", "", "C"]), *chunker.chunks([])] == []
    assert chunker.last_chunk() == Chunk(0, (1, 2, 5), ("A", "B", "C"))
    assert chunker.last_chunk() is None
    assert (ledger.read, ledger.duplicates, ledger.blank) == (5, 1, 1)


@rows(
    ("line", "key", "problem"),
    [
        ("A", "A", None),
        ("\ufeffA\r\n", "A", None),
        ("  A B \t", "A B", None),
        (b"\xef\xbb\xbfA\r\n", "A", None),
        ("卡 密".encode(), "卡 密", None),
        ("", "", None),
        (" \r\n", "", None),
        ("\ufeff", "", None),
        (b"", "", None),
        ("A\nB", "A\nB", "contains a line break, which would split it into two card keys"),
        ("A\rB", "A\rB", "contains a line break, which would split it into two card keys"),
        (b"A\0B\0", "A\0B\0", "contains a NUL character; the file may be UTF-16"),
        ("A\ud800", "A\ud800", "can't be encoded as UTF-8"),
        (b"A\xff", "A\udcff", "can't be encoded as UTF-8"),
        (None, "", "must be text, not NoneType"),
        (7, "", "must be text, not int"),
        (bytearray(b"A"), "", "must be text, not bytearray"),
    ],
)
def test_cleaning(line: object, key: str, problem: str | None) -> None:
    """A line loses its byte-order mark and the blanks at its ends; what can't be a card key is said."""
    assert chunking.clean(line) == (key, problem)


def test_refused_neighbours_share_an_outcome() -> None:
    """Lines in a row with one fault are one outcome, with their card keys; another fault, or a gap, begins another."""
    chunks, report = cut("A\nB", "C\nD", "E\ud800", "F\nG", "fine", "H\nI", 7, 8)
    assert [chunk.keys for chunk in chunks] == [("fine",)]
    assert [(each.first_line, each.last_line, each.count, each.keys) for each in report.chunks] == [
        (1, 2, 2, ("A\nB", "C\nD")),
        (3, 3, 1, ("E\ud800",)),
        (4, 4, 1, ("F\nG",)),
        (6, 6, 1, ("H\nI",)),
        (7, 8, 2, ("", "")),
    ]
    assert {(each.index, each.fate, each.stored, each.attempts) for each in report.chunks} == {
        (-1, Fate.REFUSED, None, 0)
    }
    line_break = "contains a line break, which would split it into two card keys"
    assert [str(each.error) for each in report.chunks] == [
        f"keys: lines 1 to 2: each {line_break}",
        "keys: line 3 can't be encoded as UTF-8",
        f"keys: line 4 {line_break}",
        f"keys: line 6 {line_break}",
        "keys: lines 7 to 8: each must be text, not int",
    ]
    assert all(type(each.error) is InvalidRequestError for each in report.chunks)
    assert report.refused == 7


def test_a_long_fault_is_cut_too() -> None:
    """A file in another encoding is one fault, entered 500 lines at a time."""
    _, report = cut(*[b"\xff"] * 1001)
    assert [(each.first_line, each.last_line) for each in report.chunks] == [(1, 500), (501, 1000), (1001, 1001)]


def test_refused_lines_are_in_flight_until_entered() -> None:
    """A refused line that waits for its neighbours is in flight, and refused once the rest has been asked for."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    assert list(chunker.chunks(["A", "B\nC"])) == []
    assert (ledger.progress().in_flight, ledger.progress().refused) == (2, 0)
    chunker.last_chunk()
    assert (ledger.progress().in_flight, ledger.progress().refused, ledger.progress().chunks) == (1, 1, 1)


@rows(("size", "first"), [(2, 1), (3, 1), (4, 2), (5, 2), (500, 250)])
def test_halves(size: int, first: int) -> None:
    """A chunk's halves are all of it, in order, under its number."""
    lines = tuple(range(3, 3 + size))
    one, two = Chunk(7, lines, tuple(f"K{number}" for number in lines)).halves()
    assert (one.index, two.index, len(one.keys)) == (7, 7, first)
    assert one.lines + two.lines == lines
    assert [*one.keys, *two.keys] == [f"K{number}" for number in lines]
    assert len(one.lines) == len(one.keys)


CHUNK = Chunk(4, (10, 12, 19), ("A", "B", "C"))


@rows(
    ("error", "fate"),
    [
        (refusal(errors.AlreadyStoredError), Fate.STORED),
        (refusal(errors.AlreadyStoredError, in_doubt=True), Fate.STORED),
        (refusal(errors.StorageFailedError), Fate.REFUSED),
        (refusal(errors.StorageFailedError, in_doubt=True), Fate.UNKNOWN),
        (refusal(RefusedError), Fate.REFUSED),
        (refusal(errors.SignatureRejectedError, in_doubt=True), Fate.UNKNOWN),
        (lost(sent=False), Fate.NOT_SENT),
        (lost(sent=True), Fate.UNKNOWN),
        (errors.DeadlineExceededError(endpoint="ka/create", sent=False, problem="x", attempts=3), Fate.NOT_SENT),
        (STRANGE, Fate.UNKNOWN),
    ],
)
def test_outcomes(error: Any, fate: Fate) -> None:
    """What an error means for a chunk's card keys; they are kept unless all are on the server."""
    outcome = outcome_of(CHUNK, error)
    there = fate is Fate.STORED
    assert outcome == ChunkOutcome(
        index=4,
        first_line=10,
        last_line=19,
        count=3,
        fate=fate,
        stored=0 if there else None,
        attempts=3,
        error=None if there else error,
        keys=() if there else ("A", "B", "C"),
    )


def test_what_meets_whom() -> None:
    """Refusals that every chunk would meet are refusals of ka/create; what else it refuses is about some card keys."""
    causes = {each.error for each in REFUSALS.values() if each.endpoint == KaCreate.path}
    assert causes - set(bulk.MEETS_EVERY_CHUNK) == {
        errors.AlreadyStoredError,
        errors.DuplicateKeysError,
        errors.EmptyContentError,
        errors.StorageFailedError,
        errors.TooManyKeysError,
    }
    assert set(bulk.MEETS_EVERY_CHUNK) <= causes


def test_the_columns() -> None:
    """New, already there, unreadable: each success is counted in its columns."""
    ledger = Ledger()
    ledger.read = 12
    ledger.add(bulk.stored(CHUNK, count=2, attempts=1))
    ledger.add(bulk.stored(CHUNK, count=None, attempts=1))
    ledger.add(bulk.stored(CHUNK, count=0, attempts=2))
    ledger.add(failed(CHUNK, Fate.UNKNOWN))
    report = ledger.report(stopped=None)
    assert (report.stored, report.already_there, report.unknown) == (5, 4, 3)
    assert adds_up(report)


@rows("fate", [Fate.REFUSED, Fate.UNKNOWN, Fate.NOT_SENT])
def test_failures_raise(fate: Fate) -> None:
    """A report with a card key that isn't known to be stored is not ok, and raises itself."""
    ledger = Ledger()
    ledger.read = 3
    ledger.add(failed(CHUNK, fate))
    report = ledger.report(stopped=None)
    assert not report.ok
    with pytest.raises(UploadIncomplete) as caught:
        report.raise_for_failures()
    assert caught.value.report is report


def test_a_report_without_failures() -> None:
    """A report is ok, and raises nothing, when all is on the server; not when the upload was stopped."""
    ledger = Ledger()
    assert ledger.report(stopped=None).ok
    ledger.read = 3
    ledger.add(bulk.stored(CHUNK, count=1, attempts=1))
    report = ledger.report(stopped=None)
    assert report.ok
    report.raise_for_failures()
    stopped = ledger.report(stopped=refusal(errors.EndpointClosedError))
    assert not stopped.ok
    with pytest.raises(UploadIncomplete):
        stopped.raise_for_failures()
