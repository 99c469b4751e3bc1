"""The results of an upload: counts the outcomes of chunks, and builds the report. No I/O; doesn't read the clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from attrs import evolve, field, fields, frozen

from gatepay_async.protocol.checks import show_length
from gatepay_async.protocol.errors import (
    AlreadyStoredError,
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
    TransportError,
)
from gatepay_async.words.problem import Problem

# Refusals that every chunk would get. After one of them, the upload ends.
REFUSALS_OF_EVERY_CHUNK: tuple[type[RefusedError], ...] = (
    MissingParameterError,
    InvalidProductError,
    ProductNotFoundError,
    ShopNotFoundError,
    InvalidAppKeyError,
    SignatureRejectedError,
    EndpointClosedError,
)
# The errors that a call to store card keys can raise after its arguments were checked.
ATTEMPT_ERRORS = (RefusedError, ProtocolError, TransportError)
AttemptError: TypeAlias = RefusedError | ProtocolError | TransportError

MAX_INVISIBLE_LINES = 1000  # a report lists at most so many lines with invisible characters


class Fate(StrEnum):
    """The result of a chunk: the column of the report that counts its lines."""

    STORED = "stored"  # on the server: new there, or there already
    REFUSED = "refused"  # not stored by this upload: refused by GatePay or by us
    UNKNOWN = "unknown"  # sent, but no valid reply arrived
    NOT_SENT = "not_sent"  # no byte of the request has left, or GatePay refused it in a way that isn't final


@frozen
class Chunk:
    """
    Card keys that are sent in one call.

    Attributes:
        index: From 0, in the order of the input. The halves of a chunk keep its number.
        lines: The line of the input of each card key, from 1.
        keys: The card keys, cleaned and without duplicates; as many as ``lines``.
        in_doubt: An earlier call may have stored these card keys. Only a reply that says "stored" ends the doubt.
            Halves, later attempts and later runs inherit it.
        doubt: The error that left the card keys in doubt, if it is known.
        last_error: The error of the last call, if the card keys are to be sent again; None: not sent yet.
        calls: Failed calls with exactly these card keys so far.
        proofs: How many of those calls are evidence against these card keys. The first one is. A later one is only if
            another call got a clear reply since the previous failure.
        attempts: Attempts of those calls, retries included.
        failed_at: When the last of those calls ended.
        not_before: The earliest time to send the card keys again, on the caller's clock.
    """

    index: int
    lines: tuple[int, ...] = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    in_doubt: bool = field(default=False, repr=False)
    doubt: GatePayError | None = field(default=None, repr=False, eq=False)
    last_error: AttemptError | None = field(default=None, repr=False, eq=False)
    calls: int = field(default=0, repr=False)
    proofs: int = field(default=0, repr=False)
    attempts: int = field(default=0, repr=False)
    failed_at: float = field(default=-math.inf, repr=False)
    not_before: float = field(default=-math.inf, repr=False)

    def halves(self, *, not_before: float = -math.inf) -> tuple[Chunk, Chunk]:
        """Return the first half and the rest. The chunk must have at least two card keys."""
        middle = len(self.keys) // 2
        new = evolve(self, calls=0, proofs=0, attempts=0, failed_at=-math.inf, not_before=not_before)
        first = evolve(new, lines=self.lines[:middle], keys=self.keys[:middle])
        return first, evolve(new, lines=self.lines[middle:], keys=self.keys[middle:])


@frozen(kw_only=True)
class ChunkOutcome:
    """
    The result of a chunk, or of a part of one that had to be halved.

    Attributes:
        index: Of the chunk, from 0; parts of one chunk share it. -1: lines that never got into a chunk.
        first_line: The line of its first card key in the input, from 1.
        last_line: The line of its last card key. Lines between may be blank, duplicates, or in another outcome.
        count: Card keys in it.
        fate: The column of the report.
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
    """Return the outcome of *chunk* if it is on the server. *count* of its card keys are new (None: unknown)."""
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
    """Return the outcome of *chunk* if it isn't known to be on the server. The outcome keeps the card keys."""
    return ChunkOutcome(
        index=chunk.index,
        first_line=chunk.lines[0],
        last_line=chunk.lines[-1],
        count=len(chunk.keys),
        fate=fate,
        attempts=attempts,
        error=error,
        keys=tuple(chunk.keys),  # users may pickle it, and `checks.CheckedKeys`, a tuple, is private
    )


def may_have_stored(error: AttemptError) -> bool:
    """Whether any attempt of a call that ended with *error* may have stored its card keys."""
    if isinstance(error, RefusedError):
        return error.in_doubt
    # A reply that is not GatePay's proves nothing: a gateway may have sent it in place of GatePay's "stored".
    return isinstance(error, ProtocolError) or error.sent


def outcome_of(chunk: Chunk, error: AttemptError) -> ChunkOutcome:
    """Return the outcome of *chunk* after a call to store it has raised *error*."""
    attempts = chunk.attempts + error.attempts
    if isinstance(error, AlreadyStoredError):
        return stored(chunk, count=0, attempts=attempts)
    return _not_stored(chunk, error, attempts=attempts)


def _not_stored(chunk: Chunk, error: AttemptError, *, attempts: int) -> ChunkOutcome:
    """Return the outcome after a failed call. An unknown outcome has the error of the call that made it unknown."""
    if may_have_stored(error):
        return failed(chunk, Fate.UNKNOWN, error=error, attempts=attempts)
    if chunk.in_doubt:
        return failed(chunk, Fate.UNKNOWN, error=chunk.doubt or error, attempts=attempts)
    fate = Fate.REFUSED if isinstance(error, RefusedError) else Fate.NOT_SENT
    return failed(chunk, fate, error=error, attempts=attempts)


def abandoned(chunk: Chunk, *, error: GatePayError | None = None) -> ChunkOutcome:
    """Return the outcome of *chunk* if it is not sent, or not sent again, because of *error*."""
    # If the chunk has failed in the same way itself, its own error tells more than the error of another chunk.
    if chunk.last_error is not None and (error is None or type(error) is type(chunk.last_error)):
        return _not_stored(chunk, chunk.last_error, attempts=chunk.attempts)
    if chunk.in_doubt:
        return failed(chunk, Fate.UNKNOWN, error=chunk.doubt or error, attempts=chunk.attempts)
    return failed(chunk, Fate.NOT_SENT, error=error)


@frozen(kw_only=True)
class Counts:
    """The columns of a report, in their order; ``UploadReport`` explains each of them."""

    read: int
    blank: int
    duplicates: int
    stored: int
    already_there: int
    refused: int
    unknown: int
    not_sent: int

    def columns(self) -> dict[str, int]:
        """Return the counts by the name of the column."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS: tuple[str, ...] = tuple(attribute.name for attribute in fields(Counts))


@frozen(kw_only=True)
class UploadProgress(Counts):
    """
    How far an upload has come: the columns of ``UploadReport``, so far.

    Attributes:
        in_flight: Card keys read that are in no other column yet.
        chunks: Outcomes so far.
    """

    in_flight: int
    chunks: int


OnProgress = Callable[[UploadProgress], object]


@frozen(kw_only=True)
class UploadReport(Counts):
    """
    The report of an upload: every line read is in exactly one column.

    ``read == blank + duplicates + stored + already_there + refused + unknown + not_sent``

    Attributes:
        read: Lines, or items, read from the input.
        blank: Lines without visible characters.
        duplicates: Lines that repeat an earlier card key of the input.
        stored: New to the server. If a reply doesn't say how many are new, all card keys of its call count here.
        already_there: The server had them, perhaps from an earlier attempt of this upload.
        refused: Refused by GatePay, or the line can't be a card key. This upload has not stored them; an earlier one
            may have.
        unknown: Sent, but no valid reply arrived: they may or may not be on the server.
        not_sent: Never sent, or refused in a way that isn't final, so that another try may succeed. This upload has not
            stored them; an earlier one may have.
        chunks: The result of each chunk, in the order of the input.
        stopped: Why the upload ended before its input did, or None.
        whole: Whether the input was read to its end. False if it raised an error or the upload was cancelled.
        invisible: Lines whose card key holds an invisible character, such as a zero-width space; the first 1,000 of
            them. The card key was sent unchanged.
    """

    chunks: tuple[ChunkOutcome, ...] = field(repr=show_length)
    stopped: GatePayError | None = None
    invisible: tuple[int, ...] = field(default=(), repr=False)
    whole: bool = True

    @property
    def ok(self) -> bool:
        """Whether the whole input was read and every card key of it is on the server."""
        return self.stopped is None and self.whole and not (self.refused or self.unknown or self.not_sent)

    def raise_for_failures(self) -> None:
        """
        Do nothing if ``ok``.

        Raises:
            UploadIncomplete: Otherwise, with this report as ``.report``.
        """
        if not self.ok:
            raise UploadIncomplete(self) from self.stopped


class UploadIncomplete(GatePayError):  # noqa: N818 -- a public name; it carries a report to act on
    """
    Some card keys of an upload are not known to be on the server.

    Attributes:
        report: The whole report; ``report.chunks`` has the lines and their card keys.
    """

    def __init__(self, report: UploadReport) -> None:
        self.report = report
        reason = f"The upload ended early: {report.stopped} " if report.stopped else ""
        super().__init__(
            f"{report.refused} refused, {report.unknown} unknown, {report.not_sent} not sent "
            f"(of {report.read} lines; {report.stored} stored, {report.already_there} there already). "
            f"{reason}Uploading the same input again is safe: GatePay keeps one copy of each card key.",
        )

    @property
    def problem(self) -> Problem:  # type: ignore[override]  # built from the report, so it can't be set
        """How many card keys are not known to be stored."""
        report = self.report
        return Problem("upload_incomplete", refused=report.refused, unknown=report.unknown, not_sent=report.not_sent)


class Ledger:
    """Counts the lines of an upload, each once: as blank, as duplicate, or in the outcome of a chunk."""

    def __init__(self) -> None:
        self.read = self.blank = self.duplicates = 0
        self.stored = self.already_there = 0
        self.invisible: list[int] = []
        self._not_stored = {Fate.REFUSED: 0, Fate.UNKNOWN: 0, Fate.NOT_SENT: 0}
        self._outcomes: list[ChunkOutcome] = []

    def add(self, outcome: ChunkOutcome) -> None:
        """Count the result of a chunk."""
        if outcome.fate is Fate.STORED:
            new = outcome.count if outcome.stored is None else outcome.stored
            self.stored += new
            self.already_there += outcome.count - new
        else:
            self._not_stored[outcome.fate] += outcome.count
        self._outcomes.append(outcome)

    def note_invisible(self, line: int) -> None:
        """Record that the card key in *line* contains an invisible character."""
        if len(self.invisible) < MAX_INVISIBLE_LINES:
            self.invisible.append(line)

    def progress(self) -> UploadProgress:
        """Return the counts so far."""
        counts = self.counts().columns()
        settled = sum(counts.values()) - self.read
        return UploadProgress(**counts, in_flight=self.read - settled, chunks=len(self._outcomes))

    def report(self, *, stopped: GatePayError | None, whole: bool = True) -> UploadReport:
        """Return the report. Call this when no chunk is in flight any more."""
        in_order = sorted(self._outcomes, key=lambda outcome: (outcome.first_line, outcome.last_line))
        counts = self.counts().columns()
        return UploadReport(
            **counts, chunks=tuple(in_order), stopped=stopped, invisible=tuple(self.invisible), whole=whole
        )

    def counts(self) -> Counts:
        """Return the counts so far, without the card keys in flight."""
        return Counts(
            read=self.read,
            blank=self.blank,
            duplicates=self.duplicates,
            stored=self.stored,
            already_there=self.already_there,
            refused=self._not_stored[Fate.REFUSED],
            unknown=self._not_stored[Fate.UNKNOWN],
            not_sent=self._not_stored[Fate.NOT_SENT],
        )
