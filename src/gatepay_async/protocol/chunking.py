"""Any number of card keys: lines to chunks of at most 500, cleaned and none twice. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from gatepay_async.protocol import invisible
from gatepay_async.protocol.bulk import Chunk, Fate, Ledger, failed
from gatepay_async.protocol.checks import MOST_KEYS, key_problem
from gatepay_async.protocol.errors import InvalidRequestError

_Keys = tuple[list[int], list[str]]  # lines of the input, and the card keys that stand in them


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

    A line is stripped of blanks and of invisible characters, such as a byte-order mark, at both ends. What can't be a
    card key is entered in the ledger as refused, by its line; the line of one that holds an invisible character is
    noted there.

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

    @property
    def taken_from(self) -> Sequence[int]:
        """The lines of the input that ``taken`` stands in."""
        return self._taken[0]

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
                if invisible.may_be_odd(key) and invisible.holds_any(key):
                    self._ledger.note_invisible(number)

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
            problem = f"line {lines[0]} {self._problem}"
            if len(lines) > 1:
                problem = f"lines {lines[0]} to {lines[-1]}: each {self._problem}"
            error = InvalidRequestError(field="keys", problem=problem)
            self._ledger.add(failed(Chunk(-1, tuple(lines), tuple(keys)), Fate.REFUSED, error=error))
        self._refused = ([], [])


def clean(line: object) -> tuple[str, str | None]:
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
