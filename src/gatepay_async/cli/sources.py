"""
Where card keys come from: files, and standard input or another pipe.

Files are looked through before anything is sent, in bounded memory, and again while they are read. A pipe can be
read only once: what is wrong in it is met on the way, line by line.
"""

import os
import stat
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, is_closed, warn
from gatepay_async.cli.status import HaltError
from gatepay_async.protocol import invisible

MAX_LINE_BYTES = 65_536  # bytes; a line that is longer is no card key, and the file no list of them
_MAX_PROBLEMS = 5  # problems; a file in another encoding has one in every line
_UTF_16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_UTF_8_BOM = b"\xef\xbb\xbf"


@frozen
class Source:
    """
    One file, or a pipe.

    Attributes:
        name: As it was given.
        path: None: standard input.
        lines: How many it has; None: a pipe, nobody knows.
        stamp: What changes when the file does.
        identity: The same for a file that is given under two names.
    """

    name: str
    path: Path | None
    lines: int | None
    stamp: tuple[int, int] = (0, 0)
    identity: object = None


def check_sources(names: list[Path], encoding: str) -> list[Source]:
    """
    See whether all of it can be uploaded; nothing has been sent yet.

    Raises:
        HaltError: Something is missing, is no file, or holds what can't be a card key; it says where.
    """
    sources: dict[object, Source] = {}
    for name in names:
        try:
            source = _check_source(name, encoding)
        except HaltError as error:
            raise HaltError(error.text, todo=error.todo and error.todo + text("sources.nothing_sent")) from None
        if source.identity in sources:
            warn(text("sources.twice", name=escape(source.name)))
        sources.setdefault(source.identity, source)
    return list(sources.values())


class Reader:
    """
    All lines of all *sources*, one after the other; the library reads it as it reads a file, in a worker thread.

    Args:
        sources: As ``check_sources`` gives them.
        encoding: Of all of them.
        again: They have been read before: for what is in them now, changed or not.

    Raises:
        HaltError: From ``next()``: a line is too long, or a file is gone, or has changed since it was looked through.
    """

    def __init__(self, sources: list[Source], encoding: str, *, again: bool = False) -> None:
        self._sources = sources
        self._again = again
        self._starts: list[int] = []  # the number, over all, of each source's first line
        self._lines = self._read_lines(encoding)

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
        return f"{escape(self._sources[which].name)}:{line - self._starts[which] + 1}"

    def _read_lines(self, encoding: str) -> Iterator[str]:
        number = 1
        for source in self._sources:
            self._starts.append(number)
            with ExitStack() as stack:
                file = sys.stdin.buffer if source.path is None else stack.enter_context(_open_file(source.path))
                for line in _decode_lines(source.name, file, encoding):
                    yield line
                    number += 1
                if not self._again and source.lines is not None and _file_stamp(file) != source.stamp:
                    raise HaltError(text("sources.changed", name=source.name), todo=text("sources.changed.todo"))


def include_file(sources: list[Source], path: Path) -> bool:
    """Whether the file at *path*, by whatever name, is one of *sources*."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) in [source.identity for source in sources]


def unread_lines(sources: list[Source], encoding: str, *, after: int) -> Iterator[str] | None:
    """The lines behind the first *after* ones, or None: a pipe can't be read again."""
    if any(source.lines is None for source in sources):
        return None
    return islice(Reader(sources, encoding, again=True), after, None)


def encode_lines(keys: Iterable[str], encoding: str) -> Iterable[bytes]:
    """As a text file in *encoding* has them; what was in another encoding, as it came."""
    return (key.encode(encoding, "surrogateescape") + b"\n" for key in keys)


def _check_source(name: Path, encoding: str) -> Source:
    if str(name) == "-":
        if is_closed("stdin"):
            raise HaltError(text("sources.closed"))
        return Source(text("sources.stdin"), None, None, identity=_stdin_identity())
    try:
        status = name.stat()
        mode, identity = status.st_mode, (status.st_dev, status.st_ino)
        if stat.S_ISDIR(mode):
            raise HaltError(text("sources.directory", name=name))
        if not stat.S_ISREG(mode):
            return Source(str(name), name, None, identity=identity)  # a FIFO, or what a shell makes of <(…)
        with name.open("rb") as file:
            stamp = _file_stamp(file)
            lines = _count_lines(str(name), file, encoding)
    except FileNotFoundError:
        raise HaltError(text("sources.missing", name=name)) from None
    except OSError as error:
        raise HaltError(text("sources.unreadable", name=name, reason=error.strerror)) from None
    return Source(str(name), name, lines, stamp, identity)


def _stdin_identity() -> object:
    """That of the file which a shell's ``<`` has opened; also of a pipe or a terminal, which is no other source's."""
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):  # something in the place of standard input, within Python
        return None
    return status.st_dev, status.st_ino


def _count_lines(name: str, file: BinaryIO, encoding: str) -> int:
    """
    How many lines there are.

    Raises:
        HaltError: Some of them can't be card keys.
    """
    number = 0
    problems: list[str] = []
    if file.peek(2)[:2] in _UTF_16_BOMS:  # type: ignore[attr-defined]  # a buffered reader, as open("rb") gives
        problems.append(text("sources.line", line=1, problem=text("sources.utf16")))
    else:
        for number, line in enumerate(_decode_lines(name, file, encoding), 1):
            key = _line_problem(line)
            if key:
                problems.append(text("sources.line", line=number, problem=text(key)))
                if len(problems) == _MAX_PROBLEMS:
                    break
    if problems:
        raise _source_error(name, text("sources.and").join(problems))
    return number


def _source_error(name: str, problem: str) -> HaltError:
    return HaltError(text("sources.bad", name=name, problem=problem), todo=text("sources.todo"))


def _line_problem(line: str) -> str:
    """The key of what keeps *line* from being a card key, or nothing."""
    if line.isprintable():
        return ""
    key = invisible.strip(line)
    if "\0" in key:
        return "sources.nul"
    if "\r" in key:
        return "sources.cr"
    return "sources.encoding" if any("\ud800" <= letter <= "\udfff" for letter in key) else ""


def _decode_lines(name: str, file: BinaryIO, encoding: str) -> Iterator[str]:
    """Lines, without ever holding one that has no end. What is in another encoding is kept, as lone surrogates."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1 and raw.startswith(_UTF_8_BOM) and encoding != "utf-8":
            # Read as anything else, the mark would become part of the first card key.
            problem = text("sources.line", line=1, problem=text("sources.utf8_mark", encoding=encoding))
            raise HaltError(text("sources.bad", name=name, problem=problem), todo=text("sources.utf8_mark.todo"))
        if len(raw) > MAX_LINE_BYTES:
            raise _source_error(
                name, text("sources.line", line=number, problem=text("sources.long", most=MAX_LINE_BYTES))
            )
        try:
            yield raw.rstrip(b"\n").decode(encoding)
        except UnicodeDecodeError:
            yield raw.rstrip(b"\n").decode("utf-8" if encoding == "utf-8" else "ascii", "surrogateescape")


def _open_file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise HaltError(text("sources.unreadable", name=path, reason=error.strerror)) from None


def _file_stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
