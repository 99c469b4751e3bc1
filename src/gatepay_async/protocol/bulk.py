"""
Any number of card keys: lines to chunks, outcomes to a ledger that adds up.

Pure: lines come in, chunks of at most 500 card keys go out, and what became of each chunk comes back in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import Protocol

from attrs import field, frozen

from gatepay_async.protocol.checks import MOST_KEYS, how_many, key_problem
from gatepay_async.protocol.errors import (
    AlreadyStoredError,
    DuplicateKeysError,
    EmptyContentError,
    EndpointClosedError,
    GatePayError,
    InvalidAppKeyError,
    InvalidProductError,
    InvalidRequestError,
    MissingParameterError,
    ProductNotFoundError,
    ProtocolError,
    RefusedError,
    ShopNotFoundError,
    SignatureRejectedError,
    TooManyKeysError,
    TransportError,
    UploadIncomplete,
)

_BYTE_ORDER_MARK = "\ufeff"
_Keys = tuple[list[int], list[str]]  # lines of the input, and the card keys that stand in them

# What every chunk would meet: there is no point in sending the next one.
MEETS_EVERY_CHUNK: tuple[type[RefusedError], ...] = (
    MissingParameterError,
    InvalidProductError,
    ProductNotFoundError,
    ShopNotFoundError,
    InvalidAppKeyError,
    SignatureRejectedError,
    EndpointClosedError,
)
# What one card key may have brought upon the others: half of the chunk may be stored without it. GatePay
# counts and compares in its own way (letter case, odd blanks), so our own checks can't exclude it.
MEETS_THIS_CONTENT: tuple[type[RefusedError], ...] = (
    DuplicateKeysError,
    EmptyContentError,
    TooManyKeysError,
)
# What an attempt to store a chunk can end in, besides success.
ATTEMPTED = (RefusedError, ProtocolError, TransportError)


class Fate(StrEnum):
    """What became of a chunk: the column of the ledger that its lines are in."""

    STORED = "stored"  # on the server: new there, or there already
    REFUSED = "refused"  # not on the server: GatePay, or we, said no
    UNKNOWN = "unknown"  # sent, but no answer that can be believed
    NOT_SENT = "not_sent"  # no byte of it has left


@frozen
class Chunk:
    """
    Card keys that are sent in one call.

    Attributes:
        index: From 0, in the order of the input. The halves of a chunk keep its number.
        lines: The line of the input that each card key stands in, from 1.
        keys: Cleaned, none twice; as many as ``lines``.
    """

    index: int
    lines: tuple[int, ...] = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)

    def halves(self) -> tuple[Chunk, Chunk]:
        """The first half and the rest; of a chunk of two or more."""
        middle = len(self.keys) // 2
        return (
            Chunk(self.index, self.lines[:middle], self.keys[:middle]),
            Chunk(self.index, self.lines[middle:], self.keys[middle:]),
        )


@frozen(kw_only=True)
class ChunkOutcome:
    """
    What became of a chunk, or of a part of one that had to be halved.

    Attributes:
        index: Of the chunk, from 0; parts of one chunk share it. -1: lines that never got into a chunk.
        first_line: The line of the input where its first card key stands, from 1.
        last_line: The same of its last one. Lines between may be blank, duplicates, or another outcome's.
        count: Card keys in it.
        fate: The column of the ledger.
        stored: How many were new to the server; None where that isn't known.
        attempts: How often it was sent.
        error: Why it is not known to be stored, or None.
        keys: The card keys, kept only when not all are known to be on the server. Never in ``repr``.
    """

    index: int
    first_line: int
    last_line: int
    count: int
    fate: Fate
    stored: int | None = None
    attempts: int = 0
    error: GatePayError | None = None
    keys: tuple[str, ...] = field(default=(), repr=False)


def stored(chunk: Chunk, *, count: int | None, attempts: int) -> ChunkOutcome:
    """All of *chunk* is on the server, *count* of it new (None: not known)."""
    return ChunkOutcome(
        index=chunk.index,
        first_line=chunk.lines[0],
        last_line=chunk.lines[-1],
        count=len(chunk.keys),
        fate=Fate.STORED,
        stored=count,
        attempts=attempts,
    )


def failed(chunk: Chunk, fate: Fate, *, error: GatePayError | None = None, attempts: int = 0) -> ChunkOutcome:
    """*chunk* is not known to be on the server; its card keys are kept."""
    return ChunkOutcome(
        index=chunk.index,
        first_line=chunk.lines[0],
        last_line=chunk.lines[-1],
        count=len(chunk.keys),
        fate=fate,
        attempts=attempts,
        error=error,
        keys=chunk.keys,
    )


def outcome_of(chunk: Chunk, error: RefusedError | ProtocolError | TransportError) -> ChunkOutcome:
    """What *error*, of an attempt to store *chunk*, means for its card keys."""
    if isinstance(error, AlreadyStoredError):
        return stored(chunk, count=0, attempts=error.attempts)
    if isinstance(error, RefusedError) and not error.in_doubt:
        fate = Fate.REFUSED
    elif isinstance(error, TransportError) and not error.sent:
        fate = Fate.NOT_SENT
    else:
        fate = Fate.UNKNOWN  # it, or an attempt before it, may have been carried out
    return failed(chunk, fate, error=error, attempts=error.attempts)


@frozen(kw_only=True)
class UploadProgress:
    """
    How far an upload has come: the columns of ``UploadReport``, so far.

    Attributes:
        in_flight: Card keys read that are in no other column yet.
        chunks: Outcomes so far.
    """

    read: int
    blank: int
    duplicates: int
    stored: int
    already_there: int
    refused: int
    unknown: int
    not_sent: int
    in_flight: int
    chunks: int


@frozen(kw_only=True)
class UploadReport:
    """
    The ledger of an upload: every line read is in exactly one column.

    ``read == blank + duplicates + stored + already_there + refused + unknown + not_sent``

    Attributes:
        read: Lines, or items, read from the input.
        blank: Nothing in them but blanks.
        duplicates: The same card key stood further up.
        stored: New to the server. (A success whose sentence can't be read counts here.)
        already_there: The server had them; also those of a chunk that was sent again and met its own first copy.
        refused: GatePay said no, or the line can't be a card key; not on the server.
        unknown: Sent, but it can't be known whether they are on the server.
        not_sent: No byte of them has left.
        chunks: What became of each chunk, in the order of the input.
        stopped: Why the upload ended before its input did, or None.
    """

    read: int
    blank: int
    duplicates: int
    stored: int
    already_there: int
    refused: int
    unknown: int
    not_sent: int
    chunks: tuple[ChunkOutcome, ...] = field(repr=how_many)
    stopped: GatePayError | None = None

    @property
    def ok(self) -> bool:
        """Whether the whole input was read and every card key of it is on the server."""
        return self.stopped is None and not (self.refused or self.unknown or self.not_sent)

    def raise_for_failures(self) -> None:
        """
        Do nothing if ``ok``.

        Raises:
            UploadIncomplete: Otherwise, with this report as ``.report``.
        """
        if not self.ok:
            raise UploadIncomplete(self)


class Ledger:
    """Counts; every line goes in once, as blank, duplicate, or part of an outcome."""

    def __init__(self) -> None:
        self.read = self.blank = self.duplicates = 0
        self.stored = self.already_there = 0
        self._not_stored = {Fate.REFUSED: 0, Fate.UNKNOWN: 0, Fate.NOT_SENT: 0}
        self._outcomes: list[ChunkOutcome] = []

    def add(self, outcome: ChunkOutcome) -> None:
        """Enter what became of a chunk."""
        if outcome.fate is Fate.STORED:
            new = outcome.count if outcome.stored is None else outcome.stored
            self.stored += new
            self.already_there += outcome.count - new
        else:
            self._not_stored[outcome.fate] += outcome.count
        self._outcomes.append(outcome)

    def progress(self) -> UploadProgress:
        """The columns so far."""
        columns = self._columns()
        settled = sum(columns.values()) - self.read
        return UploadProgress(**columns, in_flight=self.read - settled, chunks=len(self._outcomes))

    def report(self, *, stopped: GatePayError | None) -> UploadReport:
        """The whole, once nothing is in flight."""
        in_order = sorted(self._outcomes, key=lambda outcome: (outcome.first_line, outcome.last_line))
        return UploadReport(**self._columns(), chunks=tuple(in_order), stopped=stopped)

    def _columns(self) -> dict[str, int]:
        return {
            "read": self.read,
            "blank": self.blank,
            "duplicates": self.duplicates,
            "stored": self.stored,
            "already_there": self.already_there,
            **{fate.value: count for fate, count in self._not_stored.items()},
        }


class Seen(Protocol):
    """Which card keys were there before. ``Remembered`` keeps them all in memory."""

    def repeated(self, keys: Sequence[str]) -> Collection[int]:
        """Enter *keys*; the places, from 0, of those that were there before, or further up in *keys*."""
        ...


class Remembered:
    """Which card keys were there before, as a plain set of text."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def forget(self) -> None:
        """Give the memory back; one by one, for a million at once would keep every other thread waiting."""
        while self._keys:
            self._keys.pop()
        self._keys = set()

    def repeated(self, keys: Sequence[str]) -> list[int]:
        """As ``Seen.repeated``."""
        known = self._keys
        enter = known.add
        places: list[int] = []
        for place, key in enumerate(keys):
            if key in known:
                places.append(place)
            else:
                enter(key)
        return places


class Chunker:
    """
    Lines in, chunks of at most 500 different card keys out; one pass, in the order of the input.

    A line is stripped of a byte-order mark and of blanks at both ends. What can't be a card key is entered in
    the ledger as refused, by its line.

    ``chunks()`` does it all. Where looking for repetitions may block, its three parts are called apart: ``take()``
    some lines; have ``seen`` look up what is ``taken``, elsewhere; ``cut()`` what chunks there are then, or
    ``leave_taken()``.

    Args:
        ledger: Where lines read, blank, repeated and refused are counted.
        seen: What was there before; by default, a set in memory.
    """

    def __init__(self, ledger: Ledger, seen: Seen | None = None) -> None:
        self._ledger = ledger
        self._seen = Remembered() if seen is None else seen
        self._index = 0
        self._taken: _Keys = ([], [])  # not looked up yet
        self._new: _Keys = ([], [])  # in no chunk yet; fewer than fill one
        self._refused: _Keys = ([], [])
        self._problem = ""

    def chunks(self, lines: Iterable[object]) -> Iterator[Chunk]:
        """
        Take *lines*, text or UTF-8 bytes, as the next ones of the input; yield each chunk that is full.

        No line is taken beyond the one that fills a chunk. Also where *lines*, or ``seen``, raises, each line taken
        is in the ledger or will be with ``rest()``.
        """
        source = iter(lines)
        while True:
            room = MOST_KEYS - len(self._new[1])
            before = self._ledger.read
            try:
                self.take(islice(source, room))
            finally:
                # Never more than room: of what was taken before *lines* raised, no chunk is full.
                full = self.cut(self._seen.repeated(self.taken))
            yield from full
            if self._ledger.read - before < room:
                return

    @property
    def taken(self) -> Sequence[str]:
        """The card keys that ``cut()`` is to hear about; not to be changed, nor kept beyond ``cut()``."""
        return self._taken[1]

    def take(self, lines: Iterable[object]) -> None:
        """Read and clean *lines*. When they raise, those before are taken all the same."""
        batch: list[object] = []
        try:
            batch.extend(lines)
        finally:
            self._clean(batch)

    def cut(self, repeated: Collection[int]) -> list[Chunk]:
        """The chunks that are full with what was taken, after the places of its *repeated* ones."""
        lines, keys = self._taken
        if repeated:
            skip = set(repeated)
            lines = [line for place, line in enumerate(lines) if place not in skip]
            keys = [key for place, key in enumerate(keys) if place not in skip]
            self._ledger.duplicates += len(skip)
        self._taken = ([], [])
        self._new[0].extend(lines)
        self._new[1].extend(keys)
        full: list[Chunk] = []
        while len(self._new[1]) >= MOST_KEYS:
            full.append(self._cut())
        return full

    def rest(self) -> Chunk | None:
        """The last chunk, which is not full; None if nothing is left. Also enters what was refused last."""
        self._enter_refused()
        self.leave_taken()
        return self._cut() if self._new[1] else None

    def leave_taken(self) -> None:
        """Enter what was taken as not sent, repetitions included: it can't be looked up any more."""
        lines, keys = self._taken
        if lines:
            self._ledger.add(failed(Chunk(-1, tuple(lines), tuple(keys)), Fate.NOT_SENT))
        self._taken = ([], [])

    def _cut(self) -> Chunk:
        lines, keys = self._new
        chunk = Chunk(self._index, tuple(lines[:MOST_KEYS]), tuple(keys[:MOST_KEYS]))
        self._index += 1
        self._new = (lines[MOST_KEYS:], keys[MOST_KEYS:])
        return chunk

    def _clean(self, batch: list[object]) -> None:
        # Most lines are text with nothing odd in it; they cost no call of ours. See clean().
        keys = [key for line in batch if type(line) is str and (key := line.strip()).isprintable() and key]
        before = self._ledger.read
        self._ledger.read += len(batch)
        if len(keys) == len(batch):
            self._taken[0].extend(range(before + 1, self._ledger.read + 1))
            self._taken[1].extend(keys)
            return
        for number, line in enumerate(batch, before + 1):
            key, problem = clean(line)
            if problem is not None:
                self._refuse(number, key, problem)
            elif not key:
                self._ledger.blank += 1
            else:
                self._taken[0].append(number)
                self._taken[1].append(key)

    def _refuse(self, line: int, key: str, problem: str) -> None:
        # Neighbours with the same fault share an outcome: a file in another encoding is one long fault.
        lines, keys = self._refused
        if lines and (line != lines[-1] + 1 or problem != self._problem or len(lines) == MOST_KEYS):
            self._enter_refused()
            lines, keys = self._refused
        lines.append(line)
        keys.append(key)
        self._problem = problem

    def _enter_refused(self) -> None:
        lines, keys = self._refused
        if lines:
            which = f"line {lines[0]}" if len(lines) == 1 else f"lines {lines[0]} to {lines[-1]}: each"
            error = InvalidRequestError(field="keys", problem=f"{which} {self._problem}")
            self._ledger.add(failed(Chunk(-1, tuple(lines), tuple(keys)), Fate.REFUSED, error=error))
        self._refused = ([], [])


def clean(line: object) -> tuple[str, str | None]:
    """
    The card key in *line*, ``""`` if it is blank, and what keeps it from being one, or None.

    Bytes are read as UTF-8; what is wrong with them is kept (as lone surrogates), so that nothing is lost.
    """
    if isinstance(line, bytes):
        line = line.decode("utf-8", "surrogateescape")
    if not isinstance(line, str):
        return "", key_problem(line)
    key = line.strip()
    if key.isprintable():  # no line break, no NUL, no half of a character; nor is a byte-order mark printable
        return key, None
    key = line.removeprefix(_BYTE_ORDER_MARK).strip()
    return key, key_problem(key) if key else None
