"""
The inputs of card keys: files, standard input and other pipes.

All files are checked before anything is sent (``checking``). Up to 32 MiB of checked content is kept in memory and sent
from there. So a file of up to about a million card keys is read only once, and nobody can change it between the check
and the upload. A larger file is read again, because a copy would leave card keys on the disk.
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
from gatepay_async.cli.language import CommandText, text
from gatepay_async.cli.output import escape, is_closed, warn
from gatepay_async.cli.status import HaltError
from gatepay_async.words.problem import os_reason


@frozen
class InputSource:
    """
    One file, one sheet of a workbook, or a pipe.

    Attributes:
        name: The name from the command line; for a sheet, followed by the sheet's name in brackets.
        path: The path, or None for standard input.
        is_pipe: Whether it is a pipe, which can be read only once and has an unknown length.
        identity: The device and inode of the file, which are equal for two names of the same file.
        parse: Returns the number of the first line or row with a card key, and the lines from there.
        first_line: The number of the first line with a card key, after the check.
        line_count: The number of lines, after the check; None: unknown, because a pipe wasn't checked to its end.
        stamp: If the file is read again after the check: its size and modification time, to detect changes.
        content: The content kept in memory: everything, or the start of a long pipe.
        rest: The rest of a long pipe.
        odd: The first odd lines, which may not be card keys.
        odd_count: The number of odd lines.
    """

    name: str
    path: Path | None
    is_pipe: bool = True
    identity: object = None
    parse: formats.Parse = field(default=formats.parse_plain, eq=False)
    first_line: int = 1
    line_count: int | None = None
    stamp: tuple[int, int] | None = None
    content: bytes | None = field(default=None, repr=False)
    rest: BinaryIO | None = field(default=None, repr=False)
    odd: tuple[Odd, ...] = ()
    odd_count: int = 0

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open the source for reading, as a context manager."""
        if self.rest is not None:
            return io.BufferedReader(_Joined(self.content or b"", self.rest))
        if self.content is not None:
            return BytesIO(self.content)
        return nullcontext(sys.stdin.buffer) if self.path is None else _open_file(self.path)


class _Joined(io.RawIOBase):
    """Reads the start of a pipe from memory, then the rest from the pipe."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._start = BytesIO(start)
        self._rest = rest

    def readable(self) -> bool:
        """Implement ``RawIOBase.readable``."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Implement ``RawIOBase.readinto``."""
        data = self._start.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Implement ``RawIOBase.close``. Standard input stays open."""
        if self._rest is not sys.stdin.buffer:
            self._rest.close()
        super().close()


def find_sources(names: list[Path]) -> list[InputSource]:
    """
    Return the sources for *names*, without reading their content. A file with two names is returned once.

    Raises:
        HaltError: A file is missing, or can't be read.
    """
    sources: dict[object, InputSource] = {}
    for name in names:
        with add_nothing_sent():
            source = _find_source(name)
        if source.identity in sources:
            warn(text("sources.twice", name=escape(source.name)))
        sources.setdefault(source.identity, source)
    return list(sources.values())


class Reader:
    """
    Iterates over all lines of all *sources*. Its ``readline`` makes the library read it in a worker thread.

    Args:
        sources: The result of ``check_sources``.
        accept_changed: Whether to accept files that have changed since the check.

    Raises:
        HaltError: A line is too long, or a file was deleted or changed since the check. Raised by ``next()``.
    """

    def __init__(self, sources: list[InputSource], *, accept_changed: bool = False) -> None:
        self._sources = sources
        self._accept_changed = accept_changed
        self._starts: list[int] = []  # for each source, the number of its first line in the whole input
        self._lines = self._read_lines()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._lines)

    def readline(self) -> str:
        """
        Return the next line, or an empty string at the end.

        The library treats an object with this method as a file.
        """
        return next(self._lines, "")

    def place(self, line: int) -> str:
        """Return the file and its line for line number *line* of the whole input: ``keys.txt:7``."""
        index = bisect_right(self._starts, line) - 1
        source = self._sources[index]
        return f"{escape(source.name)}:{line - self._starts[index] + source.first_line}"

    def _read_lines(self) -> Iterator[str]:
        number = 1
        for source in self._sources:
            self._starts.append(number)
            with source.open() as file:
                for line in _read_source(source, file):
                    yield line
                    number += 1
                is_unchanged = self._accept_changed or source.stamp is None or file_stamp(file) == source.stamp
            if not is_unchanged:
                raise HaltError(text("sources.changed", name=source.name), todo=text("sources.changed.todo"))


def _read_source(source: InputSource, file: BinaryIO) -> Iterator[str]:
    """Yield the lines of *source*. A refused cell becomes empty: it passed the check, so the file has changed."""
    with explain_problems(source.name):
        _, keys = source.parse(file)
        for key in keys:
            yield key if isinstance(key, str) else ""


def includes_file(sources: list[InputSource], path: Path) -> bool:
    """Whether the file at *path* is one of *sources*, even under another name."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) in [source.identity for source in sources]


def unread_lines(sources: list[InputSource], *, after: int) -> Iterator[str] | None:
    """Return the lines after the first *after* lines, or None if a source is a pipe, which can't be read again."""
    if any(source.is_pipe for source in sources):
        return None
    return islice(Reader(sources, accept_changed=True), after, None)


def encode_lines(keys: Iterable[str]) -> Iterable[bytes]:
    """Encode *keys* as lines of a text file. Bytes that were not valid UTF-8 are written unchanged."""
    return (key.encode("utf-8", "surrogateescape") + b"\n" for key in keys)


@contextmanager
def add_nothing_sent() -> Generator[None]:
    """Add "nothing was sent" to the remedy of an error."""
    try:
        yield
    except HaltError as error:
        error.todo = error.todo and error.todo + text("sources.nothing_sent")
        raise


@contextmanager
def explain_problems(name: str) -> Generator[None]:
    """Turn a ``FileProblemError`` into a ``HaltError`` with a text and a remedy."""
    try:
        yield
    except FileProblemError as problem:
        message = text(problem.key, **problem.facts)
        if problem.line:
            message = locate_problem(name, problem.line, message)
        raise file_error(name, message, problem.key, **problem.facts) from None


def locate_problem(name: str, line: int, problem: CommandText) -> CommandText:
    """Return *problem* with the number of its line, or of its row if the file is a table."""
    is_table = _TABLE.search(name) is not None
    return text("sources.row" if is_table else "sources.line", line=line, problem=problem)


def file_error(name: str, problem: CommandText, key: str, **facts: object) -> HaltError:
    """Return the error for a file with a *problem*, with the remedy for the problem's *key*."""
    todo = text(_REMEDIES.get(key, "sources.todo"), **facts)
    return HaltError(text("sources.bad", name=name, problem=problem), todo=todo)


# The name of a table; for a workbook, the name of a sheet may follow in brackets.
_TABLE = re.compile(r"\.(csv|tsv|jsonl|xlsx)(\[.*\])?$", re.IGNORECASE | re.DOTALL)
# For the key of a problem, the key of its remedy. All other problems have the remedy "sources.todo".
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
    "sources.merged": "sources.merged.todo",
    "sources.too_large": "sources.too_large.todo",
    "sources.long_table": "sources.long_table.todo",
    **dict.fromkeys(
        ("sources.more_cells", "sources.no_csv", "sources.no_json", "sources.no_json_text"), "sources.table.todo"
    ),
    "sources.lf": "sources.table.todo",
    "sources.no_value": "sources.no_value.todo",
}


@contextmanager
def explain_format() -> Generator[None]:
    """Turn the error of a format that can't hold a card key into a ``HaltError``."""
    try:
        yield
    except writing.CantHoldError as problem:
        raise HaltError(text(problem.key, **problem.facts), todo=text("export.other_format")) from None


@contextmanager
def explain_unreadable(name: object) -> Generator[None]:
    """Turn an ``OSError`` of opening or reading a file into a ``HaltError``."""
    try:
        yield
    except FileNotFoundError:
        raise HaltError(text("sources.missing", name=name)) from None
    except OSError as error:
        raise HaltError(text("sources.unreadable", name=name, reason=os_reason(error))) from None


def file_stamp(file: BinaryIO) -> tuple[int, int]:
    """Return the size and the modification time of *file*."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _find_source(name: Path) -> InputSource:
    """Return the source for a name on the command line; ``-`` is standard input."""
    if str(name) == "-":
        if is_closed("stdin"):
            raise HaltError(text("sources.closed"))
        return InputSource(text("sources.stdin"), path=None, identity=_stdin_identity())
    with explain_unreadable(name):
        status = name.stat()
    if stat.S_ISDIR(status.st_mode):
        raise HaltError(text("sources.directory", name=name))
    is_pipe = not stat.S_ISREG(status.st_mode)  # for example a FIFO, or a shell's <(…)
    return InputSource(str(name), name, is_pipe, (status.st_dev, status.st_ino))


def _stdin_identity() -> object:
    """Return the identity of standard input: a file after a shell's ``<`` may also be named on the command line."""
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):  # sys.stdin was replaced by an object without a descriptor
        return None
    return status.st_dev, status.st_ino


def _open_file(path: Path) -> BinaryIO:
    with explain_unreadable(path):
        return path.open("rb")
