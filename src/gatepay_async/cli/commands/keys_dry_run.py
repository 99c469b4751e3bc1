"""``gatepay keys upload --dry-run``: what would be sent. Nothing is, and no key or secret is needed."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from gatepay_async.cli import ledger, sources
from gatepay_async.cli.language import say
from gatepay_async.cli.output import emit_long, wants_json
from gatepay_async.cli.screens import facts, line, show
from gatepay_async.cli.status import Status
from gatepay_async.dedup import FirstLines
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Ledger
from gatepay_async.protocol.chunking import Chunker

_SHOWN = 20
_BATCH = 2000  # lines read, and looked up, at a time

Place = Callable[[int], str]


def rehearse(names: list[Path], *, encoding: str) -> Status:
    """Count lines, blanks, repetitions and chunks, as the upload would."""
    reader = sources.Reader(sources.look_through(names, encoding), encoding)
    rehearsal = _Rehearsal()
    with closing(FirstLines()) as first_lines:
        rehearsal.read(reader, first_lines)
    if wants_json():
        emit_long(rehearsal.counts(), rehearsal.lists(reader.place))
    else:
        rehearsal.show(reader.place)
    return Status.DONE


class _Lines(Ledger):
    """As an upload's, but it keeps numbers of lines in the place of outcomes: all of them, and no card key."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = array("Q")
        self.holding_invisible = array("Q")

    def add(self, outcome: ChunkOutcome) -> None:
        """Lines that can't be card keys; there is no other outcome where nothing is sent. They are neighbours."""
        self.refused.extend(range(outcome.first_line, outcome.last_line + 1))

    def note_invisible(self, line: int) -> None:
        """As ``Ledger.note_invisible``."""
        self.holding_invisible.append(line)


class _Rehearsal:
    """Cuts lines into chunks as an upload does, and counts these."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._chunker = Chunker(self._lines)
        self._repeated = array("Q")  # lines
        self._repeats = array("Q")  # for each of them, the line where its card key stands first
        self._chunks = self._would_send = 0

    def read(self, lines: Iterator[str], first_lines: FirstLines) -> None:
        """Read all *lines*."""
        while batch := list(islice(lines, _BATCH)):
            self._chunker.take(batch)
            numbers = self._chunker.taken_from
            repeated = first_lines.repeated(numbers, self._chunker.taken)
            for place, first in repeated.items():
                self._repeated.append(numbers[place])
                self._repeats.append(first)
            self._count(self._chunker.cut(repeated))
        rest = self._chunker.rest()
        if rest is not None:
            self._count([rest])

    def counts(self) -> dict[str, int]:
        """By name."""
        return {
            "read": self._lines.read,
            "blank": self._lines.blank,
            "duplicates": self._lines.duplicates,
            "refused": len(self._lines.refused),
            "would_send": self._would_send,
            "chunks": self._chunks,
        }

    def lists(self, place: Place) -> dict[str, Iterable[object]]:
        """Every line that there is something to be said about."""
        return {
            "repetitions": ({"line": again, "first": first} for again, first in self._repetitions(place)),
            "refused_lines": map(place, self._lines.refused),
            "invisible_lines": map(place, self._lines.holding_invisible),
        }

    def show(self, place: Place) -> None:
        """For people."""
        show(facts((say(f"upload.{name}"), f"{count:,}") for name, count in self.counts().items()))
        for again, first in islice(self._repetitions(place), _SHOWN):
            line(say("upload.repeats", line=again, first=first))
        if len(self._repeated) > _SHOWN:
            line(say("upload.more", count=len(self._repeated) - _SHOWN))
        for each in self._lines.refused[:_SHOWN]:
            line(say("upload.cant_be", line=place(each)))
        odd = self._lines.holding_invisible
        ledger.show_invisible([place(each) for each in odd[:_SHOWN]], of=len(odd))
        line(say("upload.nothing_sent"))

    def _count(self, chunks: list[Chunk]) -> None:
        self._chunks += len(chunks)
        self._would_send += sum(len(chunk.keys) for chunk in chunks)

    def _repetitions(self, place: Place) -> Iterator[tuple[str, str]]:
        return ((place(again), place(first)) for again, first in zip(self._repeated, self._repeats, strict=True))
