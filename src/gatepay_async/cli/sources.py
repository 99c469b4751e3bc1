"""
Where card keys come from: files, and standard input or another pipe.

All files are checked before anything is sent (``checking``). What was checked is kept in memory, up to 32 MiB, and sent
from there: a file of up to a million card keys or so is read once, and nobody can change it in between. A larger one is
read again, because the alternative is worse: a second copy of the card keys on a disk.
"""

import io
import os
import re
import stat
import sys
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from attrs import field, frozen

from gatepay_async.cli.files import formats, writing
from gatepay_async.cli.files.odd import Odd
from gatepay_async.cli.files.reading import FileProblemError
from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, is_closed, warn
from gatepay_async.cli.status import HaltError


@frozen
class Source:
    """
    One file, one sheet of a workbook, or a pipe.

    Attributes:
        name: As it was given; of a sheet, with its name.
        path: None: standard input.
        is_pipe: It can be read once, and nobody knows how much it gives.
        identity: The same for a file that is given under two names.
        parse: Its bytes to the number of its first line, or row, that counts, and the lines from there on.
        first: That number, of a file that was checked.
        lines: How many a file has that was checked.
        stamp: Of a file that was checked and is read again: what changes when it does.
        content: What is kept of it: all, or the start of a long pipe.
        rest: What follows the start.
        odd: Lines that may be no card keys; the first ones.
        odd_count: How many there are.
    """

    name: str
    path: Path | None
    is_pipe: bool = True
    identity: object = None
    parse: formats.Parse = field(default=formats.parse_plain, eq=False)
    first: int = 1
    lines: int | None = None
    stamp: tuple[int, int] | None = None
    content: bytes | None = field(default=None, repr=False)
    rest: BinaryIO | None = field(default=None, repr=False)
    odd: tuple[Odd, ...] = ()
    odd_count: int = 0

    def open(self) -> AbstractContextManager[BinaryIO]:
        """What it holds."""
        if self.rest is not None:
            return io.BufferedReader(_Joined(self.content or b"", self.rest))
        if self.content is not None:
            return BytesIO(self.content)
        return nullcontext(sys.stdin.buffer) if self.path is None else _open_file(self.path)


class _Joined(io.RawIOBase):
    """The start of a pipe, and what follows it."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._start = BytesIO(start)
        self._rest = rest

    def readable(self) -> bool:
        """As ``RawIOBase.readable``."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """As ``RawIOBase.readinto``."""
        data = self._start.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """As ``RawIOBase.close``; standard input stays open."""
        if self._rest is not sys.stdin.buffer:
            self._rest.close()
        super().close()


def find_sources(names: list[Path]) -> list[Source]:
    """
    What *names* are; nothing is read.

    Raises:
        HaltError: Something is missing, or can't be read.
    """
    sources: dict[object, Source] = {}
    for name in names:
        with nothing_sent():
            source = _find_source(name)
        if source.identity in sources:
            warn(text("sources.twice", name=escape(source.name)))
        sources.setdefault(source.identity, source)
    return list(sources.values())


class Reader:
    """
    All lines of all *sources*, one after the other; the library reads it as it reads a file, in a worker thread.

    Args:
        sources: As ``check_sources`` gives them.
        again: They have been read before: for what is in them now, changed or not.

    Raises:
        HaltError: From ``next()``: a line is too long; or a file is gone, or has changed since it was checked.
    """

    def __init__(self, sources: list[Source], *, again: bool = False) -> None:
        self._sources = sources
        self._again = again
        self._starts: list[int] = []  # the number, over all, of each source's first line
        self._lines = self._read_lines()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._lines)

    def readline(self) -> str:
        """What makes this a file."""
        return next(self._lines, "")

    def place(self, line: int) -> str:
        """Where line number *line* of the whole input stands: ``keys.txt:7``."""
        which = bisect_right(self._starts, line) - 1
        source = self._sources[which]
        return f"{escape(source.name)}:{line - self._starts[which] + source.first}"

    def _read_lines(self) -> Iterator[str]:
        number = 1
        for source in self._sources:
            self._starts.append(number)
            with source.open() as file:
                for line in _read_source(source, file):
                    yield line
                    number += 1
                fresh = self._again or source.stamp is None or file_stamp(file) == source.stamp
            if not fresh:
                raise HaltError(text("sources.changed", name=source.name), todo=text("sources.changed.todo"))


def _read_source(source: Source, file: BinaryIO) -> Iterator[str]:
    """The lines of *source*. What is refused there now has changed since it was checked."""
    with explain_problems(source.name):
        _, keys = source.parse(file)
        for key in keys:
            yield key if isinstance(key, str) else ""


def include_file(sources: list[Source], path: Path) -> bool:
    """Whether the file at *path*, by whatever name, is one of *sources*."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) in [source.identity for source in sources]


def unread_lines(sources: list[Source], *, after: int) -> Iterator[str] | None:
    """The lines behind the first *after* ones, or None: a pipe can't be read again."""
    if any(source.is_pipe for source in sources):
        return None
    return islice(Reader(sources, again=True), after, None)


def encode_lines(keys: Iterable[str]) -> Iterable[bytes]:
    """As a text file has them; what was in another encoding, as it came."""
    return (key.encode("utf-8", "surrogateescape") + b"\n" for key in keys)


@contextmanager
def nothing_sent() -> Generator[None]:
    """Say of an error that nothing has been sent."""
    try:
        yield
    except HaltError as error:
        raise HaltError(error.text, todo=error.todo and error.todo + text("sources.nothing_sent")) from None


@contextmanager
def explain_problems(name: str) -> Generator[None]:
    """Say of a file that it can't be read as card keys, and what to do."""
    try:
        yield
    except FileProblemError as problem:
        said = text(problem.key, **problem.facts)
        if problem.line:
            said = line_problem(name, problem.line, said)
        raise problem_of(name, said, problem.key, **problem.facts) from None


def line_problem(name: str, line: int, problem: str) -> str:
    """What is wrong with a line of a file, or with a row of a table."""
    is_table = _TABLE.search(name) is not None
    return text("sources.row" if is_table else "sources.line", line=line, problem=problem)


def problem_of(name: str, said: str, key: str, **facts: object) -> HaltError:
    """That a file is not as it must be, with the remedy that belongs to *key*."""
    todo = text(_REMEDIES.get(key, "sources.todo"), **facts)
    return HaltError(text("sources.bad", name=name, problem=said), todo=todo)


_TABLE = re.compile(r"\.(csv|tsv|jsonl|xlsx)(\[.*\])?$", re.IGNORECASE | re.DOTALL)
# The key of a problem -> that of its remedy, where it has its own.
_REMEDIES = {
    "sources.utf8_mark": "sources.utf8_mark.todo",
    "sources.heading": "sources.heading.todo",
    "sources.title": "sources.title.todo",
    "sources.no_encoding": "sources.no_encoding.todo",
    "sources.not_in": "sources.no_encoding.todo",
    "sources.which_column": "sources.which_column.todo",
    "sources.no_column": "sources.which_column.todo",
    "sources.is_workbook": "sources.is_workbook.todo",
    "sources.no_workbook": "sources.is_workbook.todo",
    "sources.workbook_as_is": "sources.workbook_as_is.todo",
    "sources.empty": "sources.empty.todo",
    **dict.fromkeys(
        ("sources.exponent", "sources.float", "sources.rounded", "sources.no_text"), "sources.as_text.todo"
    ),
    "sources.formatted": "sources.formatted.todo",
    "sources.hidden_rows": "sources.hidden_rows.todo",
    "sources.hidden_column": "sources.hidden_column.todo",
    **dict.fromkeys(("sources.more_cells", "sources.no_csv", "sources.no_json"), "sources.table.todo"),
    "sources.lf": "sources.table.todo",
    "sources.no_value": "sources.no_value.todo",
}


@contextmanager
def explain_format() -> Generator[None]:
    """Say that the format of a file that is written can't hold a card key."""
    try:
        yield
    except writing.CantHoldError as problem:
        raise HaltError(text(problem.key, **problem.facts), todo=text("export.other_format")) from None


@contextmanager
def explain_unreadable(name: object) -> Generator[None]:
    """Say of a file that it can't be read at all."""
    try:
        yield
    except FileNotFoundError:
        raise HaltError(text("sources.missing", name=name)) from None
    except OSError as error:
        raise HaltError(text("sources.unreadable", name=name, reason=error.strerror)) from None


def file_stamp(file: BinaryIO) -> tuple[int, int]:
    """What changes when *file* does."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _find_source(name: Path) -> Source:
    if str(name) == "-":
        if is_closed("stdin"):
            raise HaltError(text("sources.closed"))
        return Source(text("sources.stdin"), None, identity=_stdin_identity())
    with explain_unreadable(name):
        status = name.stat()
    if stat.S_ISDIR(status.st_mode):
        raise HaltError(text("sources.directory", name=name))
    is_pipe = not stat.S_ISREG(status.st_mode)  # a FIFO, or what a shell makes of <(…)
    return Source(str(name), name, is_pipe, (status.st_dev, status.st_ino))


def _stdin_identity() -> object:
    """That of the file which a shell's ``<`` has opened; also of a pipe or a terminal, which is no other source's."""
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):  # something in the place of standard input, within Python
        return None
    return status.st_dev, status.st_ino


def _open_file(path: Path) -> BinaryIO:
    with explain_unreadable(path):
        return path.open("rb")
