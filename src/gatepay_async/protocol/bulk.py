"""What becomes of any number of card keys: outcomes to a ledger that adds up. Pure."""

from __future__ import annotations

from enum import StrEnum

from attrs import field, frozen

from gatepay_async.protocol.checks import how_many
from gatepay_async.protocol.errors import (
    AlreadyStoredError,
    DuplicateKeysError,
    EmptyContentError,
    EndpointClosedError,
    GatePayError,
    InvalidAppKeyError,
    InvalidProductError,
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
