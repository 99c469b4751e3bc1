"""Turns lines into chunks of at most 500 card keys, cleaned and deduplicated. No I/O; doesn't read the clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, cast

from gatepay_async.protocol import invisible
from gatepay_async.protocol.bulk import Chunk, Fate, Ledger, failed
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL, CheckedKeys, is_visible_ascii, key_problem
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

_NumberedKeys = tuple[list[int], list[str]]  # the line numbers of card keys in the input, and the card keys


class Deduplicator(Protocol):
    """Finds repeated card keys. ``MemoryDeduplicator`` keeps them in memory."""

    def find_repeated(self, keys: Sequence[str]) -> Collection[int]:
        """Add *keys*. Return the indices of those that were added before, or come earlier in *keys*."""
        ...


class MemoryDeduplicator:
    """Finds repeated card keys with a set in memory. As UTF-8, they take a fifth less memory than as text."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return (key.decode() for key in self._keys)

    def clear(self) -> None:
        """Free the memory. Keys are removed one by one: freeing a million at once would block all other threads."""
        while self._keys:
            self._keys.pop()
        self._keys = set()

    def find_repeated(self, keys: Sequence[str]) -> list[int]:
        """Implement ``Deduplicator.find_repeated``."""
        keys_so_far = self._keys
        encoded = list(map(str.encode, keys))
        added_before = () if keys_so_far.isdisjoint(encoded) else keys_so_far.intersection(encoded)
        length_before = len(keys_so_far)
        keys_so_far.update(encoded)
        if len(keys_so_far) == length_before + len(encoded):
            return []
        seen = set(added_before)
        repeated: list[int] = []
        for index, key in enumerate(encoded):
            if key in seen:
                repeated.append(index)
            else:
                seen.add(key)
        return repeated


class Chunker:
    """
    Turns lines into chunks of at most 500 different card keys, in one pass and in the order of the input.

    Blanks and invisible characters, such as a byte-order mark, are stripped from both ends of a line. A line that can't
    be a card key is recorded in the ledger as refused. If a card key holds an invisible character, its line is
    recorded, too.

    ``chunks()`` does everything. If deduplication may block, call its three steps instead: ``read_lines()``, then have
    the ``deduplicator`` look up the ``pending_keys`` in a thread, then ``full_chunks()`` or ``give_up_pending()``.

    Args:
        ledger: Counts the lines: read, blank, repeated and refused.
        deduplicator: Finds repeated card keys; None: a set in memory.
    """

    def __init__(self, ledger: Ledger, deduplicator: Deduplicator | None = None) -> None:
        self._ledger = ledger
        self._deduplicator = MemoryDeduplicator() if deduplicator is None else deduplicator
        self._index = 0  # of the next chunk
        self._pending: _NumberedKeys = ([], [])  # not deduplicated yet
        self._unchunked: _NumberedKeys = ([], [])  # not in a chunk yet; too few for a full one
        self._refused: _NumberedKeys = ([], [])  # consecutive lines with the same problem, not in the ledger yet
        self._refused_because = ""

    def chunks(self, lines: Iterable[object]) -> Iterator[Chunk]:
        """
        Read *lines*, text or UTF-8 bytes, as the next lines of the input. Yield each full chunk.

        No line is read beyond the one that fills a chunk. If *lines* or the deduplicator raises, each line that was
        read is in the ledger, or will be after ``last_chunk()``.
        """
        source = iter(lines)
        while True:
            room = MAX_KEYS_PER_CALL - len(self._unchunked[1])
            read_before = self._ledger.read
            try:
                self.read_lines(islice(source, room))
            finally:
                # At most one chunk gets full. If *lines* has raised, no chunk gets full, so none is lost.
                full = self.full_chunks(self._deduplicator.find_repeated(self.pending_keys))
            yield from full
            if self._ledger.read - read_before < room:
                return

    @property
    def pending_keys(self) -> Sequence[str]:
        """The card keys to deduplicate before ``full_chunks()``. Don't change the list, and don't keep it."""
        return self._pending[1]

    @property
    def pending_lines(self) -> Sequence[int]:
        """The line of the input of each of the ``pending_keys``."""
        return self._pending[0]

    def read_lines(self, lines: Iterable[object]) -> None:
        """Read and clean *lines*. If the iterator raises, the lines before that are kept."""
        batch: list[object] = []
        try:
            batch.extend(lines)
        finally:
            self._clean(batch)

    def full_chunks(self, repeated: Collection[int]) -> list[Chunk]:
        """Add the pending card keys except those at the indices *repeated*. Return the chunks that are full now."""
        lines, keys = self._pending
        if repeated:
            skip = set(repeated)
            lines = [line for index, line in enumerate(lines) if index not in skip]
            keys = [key for index, key in enumerate(keys) if index not in skip]
            self._ledger.duplicates += len(skip)
        self._pending = ([], [])
        self._unchunked[0].extend(lines)
        self._unchunked[1].extend(keys)
        full: list[Chunk] = []
        while len(self._unchunked[1]) >= MAX_KEYS_PER_CALL:
            full.append(self._cut_chunk())
        return full

    def last_chunk(self) -> Chunk | None:
        """Return the last chunk, which isn't full; None: nothing is left. Also record the last refused lines."""
        self._record_refused()
        self.give_up_pending()
        return self._cut_chunk() if self._unchunked[1] else None

    def give_up_pending(self) -> None:
        """Record the pending card keys as not sent, because they can't be deduplicated any more."""
        lines, keys = self._pending
        if lines:
            # The index -1 means that these lines never got into a chunk; see ChunkOutcome.
            self._ledger.add(failed(Chunk(-1, tuple(lines), tuple(keys)), Fate.NOT_SENT))
        self._pending = ([], [])

    def _cut_chunk(self) -> Chunk:
        """Take the first 500 card keys that are not in a chunk yet, or all if there are fewer."""
        lines, keys = self._unchunked
        chunk = Chunk(self._index, tuple(lines[:MAX_KEYS_PER_CALL]), CheckedKeys(keys[:MAX_KEYS_PER_CALL]))
        self._index += 1
        self._unchunked = (lines[MAX_KEYS_PER_CALL:], keys[MAX_KEYS_PER_CALL:])
        return chunk

    def _clean(self, batch: list[object]) -> None:
        """Clean the lines of *batch*. Each becomes a pending card key, a blank line or a refused line."""
        keys = _plain_keys(batch)
        read_before = self._ledger.read
        self._ledger.read += len(batch)
        if len(keys) == len(batch):
            self._pending[0].extend(range(read_before + 1, self._ledger.read + 1))
            self._pending[1].extend(keys)
            return
        for number, line in enumerate(batch, read_before + 1):
            key, problem = clean(line)
            if problem is not None:
                self._add_refused(number, key, problem)
            elif not key:
                self._ledger.blank += 1
            else:
                self._pending[0].append(number)
                self._pending[1].append(key)
                if invisible.may_have_invisible(key) and invisible.holds_any(key):
                    self._ledger.note_invisible(number)

    def _add_refused(self, line: int, key: str, problem: Problem) -> None:
        """Collect a line that can't be sent."""
        # Consecutive lines with the same problem share an outcome: nearly all lines of a file with another encoding do.
        lines, keys = self._refused
        if lines and (line != lines[-1] + 1 or problem != self._refused_because or len(lines) == MAX_KEYS_PER_CALL):
            self._record_refused()
            lines, keys = self._refused
        lines.append(line)
        keys.append(key)
        self._refused_because = problem

    def _record_refused(self) -> None:
        """Add the refused lines that were collected to the ledger."""
        lines, keys = self._refused
        if lines:
            problem = Problem("line", line=lines[0], problem=self._refused_because)
            if len(lines) > 1:
                problem = Problem("lines", first=lines[0], last=lines[-1], problem=self._refused_because)
            error = InvalidRequestError(field="keys", problem=problem)
            self._ledger.add(failed(Chunk(-1, tuple(lines), tuple(keys)), Fate.REFUSED, error=error))
        self._refused = ([], [])


def _plain_keys(batch: list[object]) -> list[str]:
    """Return the card keys of the ordinary lines. If not all lines are ordinary, call ``clean`` for each line."""
    if set(map(type, batch)) == {str}:
        lines = cast("list[str]", batch)
        if is_visible_ascii("".join(lines)) and all(lines):
            return lines  # no line has blanks at its ends, so there is nothing to strip
    return [
        key
        for line in batch
        if type(line) is str
        and (key := line.strip())
        and key.isprintable()
        and (key.isascii() or not invisible.may_have_invisible(key))
    ]


def clean(line: object) -> tuple[str, Problem | None]:
    """
    Return the card key in *line* (``""`` if the line is blank), and why it can't be sent, or None.

    Bytes are decoded as UTF-8. Invalid bytes are kept as lone surrogates, so that nothing is lost.
    """
    if isinstance(line, bytes):
        line = line.decode("utf-8", "surrogateescape")
    if not isinstance(line, str):
        return "", key_problem(line)
    key = str.strip(line)  # not the method of a subclass
    if not invisible.may_have_invisible(key):  # so it has no line break, no NUL and no lone surrogate
        return key, None
    key = invisible.strip(key)
    return key, key_problem(key) if key else None
