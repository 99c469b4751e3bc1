"""Splitting an input into chunks, and counting each line in exactly one column of the report."""

from collections.abc import Iterator
from itertools import count
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

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]


def make_chunks(*lines: Any) -> tuple[list[Chunk], UploadReport]:
    """Return the chunks of *lines*, and the report before any chunk is sent."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    chunks = list(chunker.chunks(lines))
    last = chunker.last_chunk()
    return chunks + ([last] if last else []), ledger.report(stopped=None)


def columns_add_up(report: Any) -> bool:
    columns = (report.blank, report.duplicates, report.stored, report.already_there)
    return bool(report.read == sum(columns) + report.refused + report.unknown + report.not_sent)


def reference(lines: list[Any]) -> tuple[list[tuple[int, str]], int, int, int]:
    """
    A simple second implementation of chunking.

    Returns:
        The different card keys with their first lines, and the numbers of blank, repeated and refused lines.
    """
    first_lines: dict[str, int] = {}
    blank = duplicates = refused = 0
    for number, line in enumerate(lines, 1):
        text = line.decode("utf-8", "surrogateescape") if isinstance(line, bytes) else line
        if not isinstance(text, str):
            refused += 1
            continue
        text = invisible.strip(text)
        if not text:
            blank += 1
        elif set("\n\r\0") & set(text) or any(0xD800 <= ord(letter) < 0xE000 for letter in text):
            refused += 1
        elif text in first_lines:
            duplicates += 1
        else:
            first_lines[text] = number
    return [(number, text) for text, number in first_lines.items()], blank, duplicates, refused


plain_keys = st.one_of(st.sampled_from(["A", "B", "C", "a"]), st.integers(0, 40).map(lambda number: f"K{number}"))
blanks = st.sampled_from(["", " ", "\t", "\r", "\r\n", "\n", "\u3000"])
keys_with_blanks = st.builds(
    lambda mark, before, key, after: mark + before + key + after,
    st.sampled_from(["", "", "\ufeff"]),
    blanks,
    plain_keys,
    blanks,
)
invalid_lines = st.sampled_from(
    ["A\nB", "A\rB", "A\ud800", "\udfff", b"\xff", b"A\xe5", None, 7, True, ["A"], "A\r\nB", b"A\0"]
)
any_lines = st.one_of(
    plain_keys,
    keys_with_blanks,
    keys_with_blanks.map(str.encode),
    blanks,
    invalid_lines,
    st.text(max_size=3),
    st.binary(max_size=3),
)
# An input, as the lists of lines that are read one after the other.
lists_of_lines = st.lists(st.lists(any_lines, max_size=30), max_size=5)


@given(lists_of_lines, st.integers(1, 5))
def test_chunks_hold_each_card_key_once_with_its_first_line(inputs: list[list[Any]], chunk_size: int) -> None:
    """The chunks hold the different card keys of the input, in order, each with the line of its first occurrence."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    chunks: list[Chunk] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "MAX_KEYS_PER_CALL", chunk_size)
        for some_lines in inputs:
            chunks += chunker.chunks(some_lines)
            assert_in_flight(ledger, at_least=sum(len(chunk.keys) for chunk in chunks))
        last = chunker.last_chunk()
    assert all(len(chunk.keys) == chunk_size for chunk in chunks)
    assert last is None or 0 < len(last.keys) < chunk_size
    chunks += [last] if last else []
    expected, blank, duplicates, refused = reference([line for some_lines in inputs for line in some_lines])
    assert [pair for chunk in chunks for pair in zip(chunk.lines, chunk.keys, strict=True)] == expected
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    report = ledger.report(stopped=None)
    assert (report.blank, report.duplicates, report.refused) == (blank, duplicates, refused)
    assert report.read == sum(map(len, inputs)) == blank + duplicates + refused + len(expected)
    assert all(KaCreate(8, chunk.keys).keys == chunk.keys for chunk in chunks)


def assert_in_flight(ledger: Ledger, *, at_least: int) -> None:
    """Assert that each line read is in a column or in flight, and that *at_least* this many lines are in flight."""
    progress = ledger.progress()
    assert progress.read == progress.blank + progress.duplicates + progress.refused + progress.in_flight
    assert progress.in_flight >= at_least


def refusal(cls: type[RefusedError], *, in_doubt: bool = False) -> RefusedError:
    return cls(code=1, message="", endpoint="ka/create", attempts=3, in_doubt=in_doubt)


def lost_reply(*, sent: bool) -> TransportError:
    return TransportError(endpoint="ka/create", sent=sent, problem="x", attempts=3)


BAD_GATEWAY = ProtocolError(endpoint="ka/create", http_status=502, problem="x", attempts=3)
results = st.sampled_from(
    [
        "all stored",
        "half stored",
        "stored, count unknown",
        "not sent",
        refusal(errors.AlreadyStoredError),
        refusal(errors.StorageFailedError),
        refusal(errors.StorageFailedError, in_doubt=True),
        refusal(errors.DuplicateKeysError),
        lost_reply(sent=True),
        lost_reply(sent=False),
        BAD_GATEWAY,
    ]
)


def outcomes_of(chunk: Chunk, results: Iterator[Any]) -> Iterator[ChunkOutcome]:
    """Yield the outcomes of *chunk*, like an upload: halve it while its content is refused."""
    result = next(results)
    if result == "all stored":
        yield bulk.stored(chunk, count=len(chunk.keys), attempts=1)
    elif result == "half stored":
        yield bulk.stored(chunk, count=len(chunk.keys) // 2, attempts=1)
    elif result == "stored, count unknown":
        yield bulk.stored(chunk, count=None, attempts=1)
    elif result == "not sent":
        yield failed(chunk, Fate.NOT_SENT)
    elif isinstance(result, errors.DuplicateKeysError) and len(chunk.keys) > 1:
        for half in chunk.halves():
            yield from outcomes_of(half, results)
    else:
        yield outcome_of(chunk, result)


@given(lists_of_lines, st.integers(1, 5), st.data())
def test_every_line_is_in_exactly_one_column(inputs: list[list[Any]], chunk_size: int, data: st.DataObject) -> None:
    """The columns of the report add up for any results of the chunks, in any order."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    lines = [line for some_lines in inputs for line in some_lines]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "MAX_KEYS_PER_CALL", chunk_size)
        chunks = [*chunker.chunks(lines)]
        last = chunker.last_chunk()
    chunks += [last] if last else []
    drawn_results = iter(lambda: data.draw(results), None)  # endless: no result is None
    keys_in_flight = sum(len(chunk.keys) for chunk in chunks)
    for chunk in data.draw(st.permutations(chunks)):
        for outcome in outcomes_of(chunk, drawn_results):
            assert ledger.progress().in_flight == keys_in_flight
            ledger.add(outcome)
            keys_in_flight -= outcome.count
    progress = ledger.progress()
    report = ledger.report(stopped=None)
    assert keys_in_flight == progress.in_flight == 0
    assert columns_add_up(report)
    assert columns_add_up(progress)
    assert progress.chunks == len(report.chunks)
    assert report.ok == all(outcome.fate is Fate.STORED for outcome in report.chunks)
    by_fate = {fate: sum(outcome.count for outcome in report.chunks if outcome.fate is fate) for fate in Fate}
    assert by_fate[Fate.STORED] == report.stored + report.already_there
    assert (by_fate[Fate.REFUSED], by_fate[Fate.UNKNOWN]) == (report.refused, report.unknown)
    assert by_fate[Fate.NOT_SENT] == report.not_sent
    assert [outcome.first_line for outcome in report.chunks] == sorted(outcome.first_line for outcome in report.chunks)
    expected = [text for _, text in reference(lines)[0]]
    on_server = sum(outcome.count for outcome in report.chunks if outcome.fate is Fate.STORED)
    # The outcomes with index -1 are of lines that are no card keys.
    not_on_server = [key for outcome in report.chunks if outcome.index >= 0 for key in outcome.keys]
    assert len(expected) == on_server + len(not_on_server)
    assert set(not_on_server) <= set(expected)


def test_chunk_holds_up_to_500_card_keys() -> None:
    """The last chunk holds the remaining card keys. If there are none, there is no last chunk."""
    chunks, report = make_chunks(*(f"K{number}" for number in range(1201)))
    assert [len(chunk.keys) for chunk in chunks] == [500, 500, 201]
    assert [(chunk.index, chunk.lines[0], chunk.lines[-1]) for chunk in chunks] == [
        (0, 1, 500),
        (1, 501, 1000),
        (2, 1001, 1201),
    ]
    assert report.read == 1201
    assert [len(chunk.keys) for chunk in make_chunks(*(f"K{number}" for number in range(500)))[0]] == [500]


def test_no_line_is_read_beyond_a_full_chunk() -> None:
    """A chunk is yielded as soon as it is full."""
    ledger = Ledger()
    endless = (f"K{number}" for number in count())
    next(Chunker(ledger).chunks(endless))
    assert ledger.read == 500


def test_lines_and_duplicates_are_counted_across_calls() -> None:
    """Several calls of ``chunks()`` read one input: a chunk may start in one call and end in another."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    assert [*chunker.chunks(["A", "B"]), *chunker.chunks(["B", "", "C"]), *chunker.chunks([])] == []
    assert chunker.last_chunk() == Chunk(index=0, lines=(1, 2, 5), keys=("A", "B", "C"))
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
def test_clean_strips_a_line_and_says_why_it_is_no_card_key(line: object, key: str, problem: str | None) -> None:
    """The byte-order mark and the spaces at both ends are stripped."""
    assert chunking.clean(line) == (key, problem)


def test_consecutive_lines_with_the_same_problem_share_an_outcome() -> None:
    """Another problem, or a valid line in between, starts a new outcome."""
    chunks, report = make_chunks("A\nB", "C\nD", "E\ud800", "F\nG", "fine", "H\nI", 7, 8)
    assert [chunk.keys for chunk in chunks] == [("fine",)]
    assert [(outcome.first_line, outcome.last_line, outcome.count, outcome.keys) for outcome in report.chunks] == [
        (1, 2, 2, ("A\nB", "C\nD")),
        (3, 3, 1, ("E\ud800",)),
        (4, 4, 1, ("F\nG",)),
        (6, 6, 1, ("H\nI",)),
        (7, 8, 2, ("", "")),
    ]
    assert {(outcome.index, outcome.fate, outcome.stored, outcome.attempts) for outcome in report.chunks} == {
        (-1, Fate.REFUSED, None, 0)
    }
    line_break = "contains a line break, which would split it into two card keys"
    assert [str(outcome.error) for outcome in report.chunks] == [
        f"keys: lines 1 to 2: each {line_break}",
        "keys: line 3 can't be encoded as UTF-8",
        f"keys: line 4 {line_break}",
        f"keys: line 6 {line_break}",
        "keys: lines 7 to 8: each must be text, not int",
    ]
    assert all(type(outcome.error) is InvalidRequestError for outcome in report.chunks)
    assert report.refused == 7


def test_outcome_of_refused_lines_has_at_most_500_lines() -> None:
    """All lines of a file with another encoding have the same problem. They are recorded 500 at a time."""
    _, report = make_chunks(*[b"\xff"] * 1001)
    assert [(outcome.first_line, outcome.last_line) for outcome in report.chunks] == [
        (1, 500),
        (501, 1000),
        (1001, 1001),
    ]


def test_refused_line_counts_as_in_flight_until_it_is_recorded() -> None:
    """A refused line is recorded together with the following lines, at the latest by ``last_chunk()``."""
    ledger = Ledger()
    chunker = Chunker(ledger)
    assert list(chunker.chunks(["A", "B\nC"])) == []
    assert (ledger.progress().in_flight, ledger.progress().refused) == (2, 0)
    chunker.last_chunk()
    assert (ledger.progress().in_flight, ledger.progress().refused, ledger.progress().chunks) == (1, 1, 1)


@rows(("size", "first_size"), [(2, 1), (3, 1), (4, 2), (5, 2), (500, 250)])
def test_halves_split_a_chunk_and_keep_its_number(size: int, first_size: int) -> None:
    """The two halves have all lines and card keys of the chunk, in order."""
    lines = tuple(range(3, 3 + size))
    chunk = Chunk(index=7, lines=lines, keys=tuple(f"K{number}" for number in lines))
    first_half, second_half = chunk.halves()
    assert (first_half.index, second_half.index, len(first_half.keys)) == (7, 7, first_size)
    assert first_half.lines + second_half.lines == lines
    assert [*first_half.keys, *second_half.keys] == [f"K{number}" for number in lines]
    assert len(first_half.lines) == len(first_half.keys)


CHUNK = Chunk(index=4, lines=(10, 12, 19), keys=("A", "B", "C"))


@rows(
    ("error", "fate"),
    [
        (refusal(errors.AlreadyStoredError), Fate.STORED),
        (refusal(errors.AlreadyStoredError, in_doubt=True), Fate.STORED),
        (refusal(errors.StorageFailedError), Fate.REFUSED),
        (refusal(errors.StorageFailedError, in_doubt=True), Fate.UNKNOWN),
        (refusal(RefusedError), Fate.REFUSED),
        (refusal(errors.SignatureRejectedError, in_doubt=True), Fate.UNKNOWN),
        (lost_reply(sent=False), Fate.NOT_SENT),
        (lost_reply(sent=True), Fate.UNKNOWN),
        (errors.DeadlineExceededError(endpoint="ka/create", sent=False, problem="x", attempts=3), Fate.NOT_SENT),
        (BAD_GATEWAY, Fate.UNKNOWN),
    ],
)
def test_error_of_a_call_determines_the_outcome(error: Any, fate: Fate) -> None:
    """The outcome keeps the card keys unless all of them are on the server."""
    outcome = outcome_of(CHUNK, error)
    is_stored = fate is Fate.STORED
    assert outcome == ChunkOutcome(
        index=4,
        first_line=10,
        last_line=19,
        count=3,
        fate=fate,
        stored=0 if is_stored else None,
        attempts=3,
        error=None if is_stored else error,
        keys=() if is_stored else ("A", "B", "C"),
    )


def test_list_of_refusals_that_every_chunk_would_get_is_complete() -> None:
    """All other refusals of ``ka/create`` are about the card keys of one chunk."""
    causes = {refusal.error for refusal in REFUSALS.values() if refusal.endpoint == KaCreate.path}
    assert causes - set(bulk.REFUSALS_OF_EVERY_CHUNK) == {
        errors.AlreadyStoredError,
        errors.DuplicateKeysError,
        errors.EmptyContentError,
        errors.StorageFailedError,
        errors.TooManyKeysError,
    }
    assert set(bulk.REFUSALS_OF_EVERY_CHUNK) <= causes


def test_stored_card_keys_are_counted_as_new_or_already_there() -> None:
    """If the reply doesn't say how many card keys are new, all of them count as new."""
    ledger = Ledger()
    ledger.read = 12
    ledger.add(bulk.stored(CHUNK, count=2, attempts=1))
    ledger.add(bulk.stored(CHUNK, count=None, attempts=1))
    ledger.add(bulk.stored(CHUNK, count=0, attempts=2))
    ledger.add(failed(CHUNK, Fate.UNKNOWN))
    report = ledger.report(stopped=None)
    assert (report.stored, report.already_there, report.unknown) == (5, 4, 3)
    assert columns_add_up(report)


@rows("fate", [Fate.REFUSED, Fate.UNKNOWN, Fate.NOT_SENT])
def test_report_with_failures_is_not_ok_and_raises(fate: Fate) -> None:
    """A card key that isn't known to be stored is a failure."""
    ledger = Ledger()
    ledger.read = 3
    ledger.add(failed(CHUNK, fate))
    report = ledger.report(stopped=None)
    assert not report.ok
    with pytest.raises(UploadIncomplete) as caught:
        report.raise_for_failures()
    assert caught.value.report is report


def test_report_without_failures_is_ok_unless_the_upload_was_stopped() -> None:
    """``raise_for_failures()`` raises only if the report is not ok."""
    ledger = Ledger()
    assert ledger.report(stopped=None).ok
    ledger.read = 3
    ledger.add(bulk.stored(CHUNK, count=1, attempts=1))
    report = ledger.report(stopped=None)
    assert report.ok
    report.raise_for_failures()
    stopped = ledger.report(stopped=refusal(errors.EndpointClosedError))
    assert not stopped.ok
    with pytest.raises(UploadIncomplete, match="ended early: ka/create refused with") as caught:
        stopped.raise_for_failures()
    assert caught.value.__cause__ is stopped.stopped


class Word(str):
    """A subclass of ``str``, as users may define it."""

    __slots__ = ()


def test_failed_card_keys_are_plain_texts_in_a_plain_tuple() -> None:
    """Users may pickle a report, so it has no private class and none of the input's classes."""
    chunker = chunking.Chunker(Ledger())
    assert list(chunker.chunks(Word(f"KEY-{number}") for number in range(3))) == []
    chunk = chunker.last_chunk()
    assert chunk is not None
    outcome = failed(chunk, Fate.NOT_SENT)
    assert (type(outcome.keys), {type(key) for key in outcome.keys}) == (tuple, {str})
