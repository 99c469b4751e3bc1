"""Any number of card keys: lines to chunks of at most 500, cleaned and none twice. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from gatepay_async.protocol import invisible
from gatepay_async.protocol.bulk import Chunk, Fate, Ledger, failed
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL, key_problem
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

_NumberedKeys = tuple[list[int], list[str]]  # lines of the input, and the card keys that stand in them


class Deduplicator(Protocol):
    """Which card keys were there before. ``MemoryDeduplicator`` keeps them all in memory."""

    def find_repeated(self, keys: Sequence[str]) -> Collection[int]:
        """Enter *keys*; the places, from 0, of those that were there before, or further up in *keys*."""
        ...


class MemoryDeduplicator:
    """Which card keys were there before: a plain set of them, in UTF-8, which takes a fifth less memory than text."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return (key.decode() for key in self._keys)

    def clear(self) -> None:
        """Give the memory back; one by one, for a million at once would keep every other thread waiting."""
        while self._keys:
            self._keys.pop()
        self._keys = set()

    def find_repeated(self, keys: Sequence[str]) -> list[int]:
        """As ``Deduplicator.find_repeated``."""
        keys_so_far = self._keys
        add = keys_so_far.add
        places: list[int] = []
        for place, key in enumerate(map(str.encode, keys)):
            if key in keys_so_far:
                places.append(place)
            else:
                add(key)
        return places


class Chunker:
    """
    Lines in, chunks of at most 500 different card keys out; one pass, in the order of the input.

    A line is stripped of blanks and of invisible characters, such as a byte-order mark, at both ends. What can't be a
    card key is entered in the ledger as refused, by its line; the line of one that holds an invisible character is
    noted there.

    ``chunks()`` does it all. Where looking for repetitions may block, its three parts are called apart:
    ``read_lines()``; have ``deduplicator`` look up the ``pending_keys``, elsewhere; ``full_chunks()``, or
    ``give_up_pending()``.

    Args:
        ledger: Where lines read, blank, repeated and refused are counted.
        deduplicator: What was there before; by default, a set in memory.
    """

    def __init__(self, ledger: Ledger, deduplicator: Deduplicator | None = None) -> None:
        self._ledger = ledger
        self._deduplicator = MemoryDeduplicator() if deduplicator is None else deduplicator
        self._index = 0
        self._pending: _NumberedKeys = ([], [])  # not looked up yet
        self._unchunked: _NumberedKeys = ([], [])  # in no chunk yet; fewer than fill one
        self._refused: _NumberedKeys = ([], [])
        self._refused_because = ""

    def chunks(self, lines: Iterable[object]) -> Iterator[Chunk]:
        """
        Take *lines*, text or UTF-8 bytes, as the next ones of the input; yield each chunk that is full.

        No line is taken beyond the one that fills a chunk. Also where *lines*, or ``deduplicator``, raises, each line
        taken is in the ledger or will be with ``last_chunk()``.
        """
        source = iter(lines)
        while True:
            room = MAX_KEYS_PER_CALL - len(self._unchunked[1])
            before = self._ledger.read
            try:
                self.read_lines(islice(source, room))
            finally:
                # Never more than room: of what was taken before *lines* raised, no chunk is full.
                full = self.full_chunks(self._deduplicator.find_repeated(self.pending_keys))
            yield from full
            if self._ledger.read - before < room:
                return

    @property
    def pending_keys(self) -> Sequence[str]:
        """The card keys that ``full_chunks()`` is to hear about; not to be changed, nor kept beyond it."""
        return self._pending[1]

    @property
    def pending_lines(self) -> Sequence[int]:
        """The lines of the input that ``pending_keys`` stands in."""
        return self._pending[0]

    def read_lines(self, lines: Iterable[object]) -> None:
        """Read and clean *lines*. When they raise, those before are taken all the same."""
        batch: list[object] = []
        try:
            batch.extend(lines)
        finally:
            self._clean(batch)

    def full_chunks(self, repeated: Collection[int]) -> list[Chunk]:
        """The chunks that are full with what was taken, after the places of its *repeated* ones."""
        lines, keys = self._pending
        if repeated:
            skip = set(repeated)
            lines = [line for place, line in enumerate(lines) if place not in skip]
            keys = [key for place, key in enumerate(keys) if place not in skip]
            self._ledger.duplicates += len(skip)
        self._pending = ([], [])
        self._unchunked[0].extend(lines)
        self._unchunked[1].extend(keys)
        full: list[Chunk] = []
        while len(self._unchunked[1]) >= MAX_KEYS_PER_CALL:
            full.append(self._cut_chunk())
        return full

    def last_chunk(self) -> Chunk | None:
        """The last chunk, which is not full; None if nothing is left. Also enters what was refused last."""
        self._record_refused()
        self.give_up_pending()
        return self._cut_chunk() if self._unchunked[1] else None

    def give_up_pending(self) -> None:
        """Enter what was taken as not sent, repetitions included: it can't be looked up any more."""
        lines, keys = self._pending
        if lines:
            self._ledger.add(failed(Chunk(-1, tuple(lines), tuple(keys)), Fate.NOT_SENT))
        self._pending = ([], [])

    def _cut_chunk(self) -> Chunk:
        lines, keys = self._unchunked
        chunk = Chunk(self._index, tuple(lines[:MAX_KEYS_PER_CALL]), tuple(keys[:MAX_KEYS_PER_CALL]))
        self._index += 1
        self._unchunked = (lines[MAX_KEYS_PER_CALL:], keys[MAX_KEYS_PER_CALL:])
        return chunk

    def _clean(self, batch: list[object]) -> None:
        # Most lines are text with nothing odd in it; they cost no call of ours. See clean().
        keys = [
            key
            for line in batch
            if type(line) is str
            and (key := line.strip())
            and key.isprintable()
            and (key.isascii() or not invisible.may_be_odd(key))
        ]
        before = self._ledger.read
        self._ledger.read += len(batch)
        if len(keys) == len(batch):
            self._pending[0].extend(range(before + 1, self._ledger.read + 1))
            self._pending[1].extend(keys)
            return
        for number, line in enumerate(batch, before + 1):
            key, problem = clean(line)
            if problem is not None:
                self._add_refused(number, key, problem)
            elif not key:
                self._ledger.blank += 1
            else:
                self._pending[0].append(number)
                self._pending[1].append(key)
                if invisible.may_be_odd(key) and invisible.holds_any(key):
                    self._ledger.note_invisible(number)

    def _add_refused(self, line: int, key: str, problem: Problem) -> None:
        # Neighbours with the same fault share an outcome: a file in another encoding is one long fault.
        lines, keys = self._refused
        if lines and (line != lines[-1] + 1 or problem != self._refused_because or len(lines) == MAX_KEYS_PER_CALL):
            self._record_refused()
            lines, keys = self._refused
        lines.append(line)
        keys.append(key)
        self._refused_because = problem

    def _record_refused(self) -> None:
        lines, keys = self._refused
        if lines:
            problem = Problem("line", line=lines[0], problem=self._refused_because)
            if len(lines) > 1:
                problem = Problem("lines", first=lines[0], last=lines[-1], problem=self._refused_because)
            error = InvalidRequestError(field="keys", problem=problem)
            self._ledger.add(failed(Chunk(-1, tuple(lines), tuple(keys)), Fate.REFUSED, error=error))
        self._refused = ([], [])


def clean(line: object) -> tuple[str, Problem | None]:
    """
    The card key in *line*, ``""`` if nothing visible is in it, and what keeps it from being one, or None.

    Bytes are read as UTF-8; what is wrong with them is kept (as lone surrogates), so that nothing is lost.
    """
    if isinstance(line, bytes):
        line = line.decode("utf-8", "surrogateescape")
    if not isinstance(line, str):
        return "", key_problem(line)
    key = line.strip()
    if not invisible.may_be_odd(key):  # no line break, no NUL, no half of a character
        return key, None
    key = invisible.strip(key)
    return key, key_problem(key) if key else None
