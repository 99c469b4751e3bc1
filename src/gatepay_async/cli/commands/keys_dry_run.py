"""``gatepay keys upload --dry-run``: shows what would be sent. It sends nothing, and needs no credentials."""

from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from gatepay_async.cli import checking, ledger, sources
from gatepay_async.cli.files.odd import masked
from gatepay_async.cli.files.reading import Reading
from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, print_long_json, wants_json
from gatepay_async.cli.screens import name_value_table, print_line, print_table
from gatepay_async.cli.status import Status
from gatepay_async.dedup import FirstLines
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Ledger
from gatepay_async.protocol.chunking import Chunker

_MAX_LINES_SHOWN = 20
_MAX_SAMPLES = 3  # masked card keys to show


def dry_run(names: list[Path], reading: Reading) -> Status:
    """Count lines, blank lines, duplicates and chunks as the upload would, and print the result."""
    inputs = checking.check_sources(names, reading)
    reader = sources.Reader(inputs)
    run = _DryRun(inputs)
    with closing(FirstLines()) as first_lines:
        run.read(reader, first_lines)
    if wants_json():
        print_long_json(run.counts(), run.lists(reader.place))
    else:
        run.print_summary(reader.place)
    return Status.DONE


class _LineLedger(Ledger):
    """A ledger that stores line numbers instead of outcomes, so that it needs little memory and has no card keys."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = array("Q")
        self.with_invisible = array("Q")

    def add(self, outcome: ChunkOutcome) -> None:
        """Record consecutive lines that can't be card keys. A dry run has no other outcomes."""
        self.refused.extend(range(outcome.first_line, outcome.last_line + 1))

    def note_invisible(self, line: int) -> None:
        """Record every line with invisible characters. ``Ledger`` records only the first thousand."""
        self.with_invisible.append(line)


class _DryRun:
    """Splits lines into chunks as an upload does, and counts lines and chunks."""

    def __init__(self, inputs: list[sources.InputSource]) -> None:
        self._inputs = inputs
        self._samples: list[str] = []
        self._ledger = _LineLedger()
        self._chunker = Chunker(self._ledger)
        self._duplicate_lines = array("Q")  # the line numbers of duplicates
        self._original_lines = array("Q")  # for each duplicate, the line number of the first copy
        self._chunks = self._would_send = 0  # the numbers of chunks and of card keys in them

    def read(self, lines: Iterator[str], first_lines: FirstLines) -> None:
        """Read all *lines*. Find duplicates with *first_lines*."""
        while batch := list(islice(lines, checking.BATCH_LINES)):
            self._chunker.read_lines(batch)
            numbers = self._chunker.pending_lines
            repeated = first_lines.find_repeated(numbers, self._chunker.pending_keys)
            for index, first in repeated.items():
                self._duplicate_lines.append(numbers[index])
                self._original_lines.append(first)
            self._count_chunks(self._chunker.full_chunks(repeated))
        rest = self._chunker.last_chunk()
        if rest is not None:
            self._count_chunks([rest])

    def counts(self) -> dict[str, int]:
        """Return the counts by name."""
        return {
            "read": self._ledger.read,
            "blank": self._ledger.blank,
            "duplicates": self._ledger.duplicates,
            "refused": len(self._ledger.refused),
            "would_send": self._would_send,
            "chunks": self._chunks,
        }

    def lists(self, place: ledger.Place) -> dict[str, Iterable[object]]:
        """
        Return the lists of the JSON output by name.

        *place* converts a line number to text such as ``keys.txt:7``.
        """
        return {
            "repetitions": ({"line": duplicate, "first": first} for duplicate, first in self._repetitions(place)),
            "refused_lines": map(place, self._ledger.refused),
            "invisible_lines": map(place, self._ledger.with_invisible),
            "odd_lines": (f"{source.name}:{odd.line}" for source in self._inputs for odd in source.odd),
            "samples": self._samples,
        }

    def print_summary(self, place: ledger.Place) -> None:
        """Print the counts and the first lines of each list."""
        print_table(name_value_table((text(f"upload.{name}"), f"{count:,}") for name, count in self.counts().items()))
        if self._samples:
            print_line(text("upload.samples", samples="  ".join(map(escape, self._samples))))
        odd_count = sum(source.odd_count for source in self._inputs)
        if odd_count:
            print_line(text("odd.these", count=odd_count))
            for line in checking.odd_lines(self._inputs):
                print_line(f"  {line}")
        for duplicate, first in islice(self._repetitions(place), _MAX_LINES_SHOWN):
            print_line(text("upload.repeats", line=duplicate, first=first))
        if len(self._duplicate_lines) > _MAX_LINES_SHOWN:
            print_line(text("upload.more", count=len(self._duplicate_lines) - _MAX_LINES_SHOWN))
        for number in self._ledger.refused[:_MAX_LINES_SHOWN]:
            print_line(text("upload.cant_be", line=place(number)))
        numbers = self._ledger.with_invisible
        ledger.print_invisible([place(number) for number in numbers[:_MAX_LINES_SHOWN]], total=len(numbers))
        print_line(text("upload.nothing_sent"))

    def _count_chunks(self, chunks: list[Chunk]) -> None:
        if chunks and not self._chunks:
            self._samples = [masked(key) for key in chunks[0].keys[:_MAX_SAMPLES]]
        self._chunks += len(chunks)
        self._would_send += sum(len(chunk.keys) for chunk in chunks)

    def _repetitions(self, place: ledger.Place) -> Iterator[tuple[str, str]]:
        pairs = zip(self._duplicate_lines, self._original_lines, strict=True)
        return ((place(duplicate), place(first)) for duplicate, first in pairs)
