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

from gatepay_async.cli.language import say
from gatepay_async.cli.output import complain, is_closed, plain
from gatepay_async.cli.status import HaltError
from gatepay_async.protocol import invisible

LONGEST_LINE = 65_536  # bytes; a line that is longer is no card key, and the file no list of them
_SHOWN = 5  # problems; a file in another encoding has one in every line
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_UTF_8_MARK = b"\xef\xbb\xbf"


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


def look_through(names: list[Path], encoding: str) -> list[Source]:
    """
    See whether all of it can be uploaded; nothing has been sent yet.

    Raises:
        HaltError: Something is missing, is no file, or holds what can't be a card key; it says where.
    """
    found: dict[object, Source] = {}
    for name in names:
        try:
            source = _look_at(name, encoding)
        except HaltError as error:
            raise HaltError(error.text, todo=error.todo and error.todo + say("sources.nothing_sent")) from None
        if source.identity in found:
            complain(say("sources.twice", name=plain(source.name)))
        found.setdefault(source.identity, source)
    return list(found.values())


class Reader:
    """
    All lines of all *sources*, one after the other; the library reads it as it reads a file, in a worker thread.

    Args:
        sources: As ``look_through`` gives them.
        encoding: Of all of them.
        again: They have been read before: for what is in them now, changed or not.

    Raises:
        HaltError: From ``next()``: a line is too long, or a file is gone, or has changed since it was looked through.
    """

    def __init__(self, sources: list[Source], encoding: str, *, again: bool = False) -> None:
        self._sources = sources
        self._again = again
        self._starts: list[int] = []  # the number, over all, of each source's first line
        self._lines = self._read(encoding)

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
        return f"{plain(self._sources[which].name)}:{line - self._starts[which] + 1}"

    def _read(self, encoding: str) -> Iterator[str]:
        number = 1
        for source in self._sources:
            self._starts.append(number)
            with ExitStack() as stack:
                file = sys.stdin.buffer if source.path is None else stack.enter_context(_open(source.path))
                for line in _lines(source.name, file, encoding):
                    yield line
                    number += 1
                if not self._again and source.lines is not None and _stamp(file) != source.stamp:
                    raise HaltError(say("sources.changed", name=source.name), todo=say("sources.changed.todo"))


def are_among(sources: list[Source], path: Path) -> bool:
    """Whether the file at *path*, by whatever name, is one of *sources*."""
    try:
        known = path.stat()
    except OSError:
        return False
    return (known.st_dev, known.st_ino) in [source.identity for source in sources]


def unread(sources: list[Source], encoding: str, *, after: int) -> Iterator[str] | None:
    """The lines behind the first *after* ones, or None: a pipe can't be read again."""
    if any(source.lines is None for source in sources):
        return None
    return islice(Reader(sources, encoding, again=True), after, None)


def as_lines(keys: Iterable[str], encoding: str) -> Iterable[bytes]:
    """As a text file in *encoding* has them; what was in another encoding, as it came."""
    return (key.encode(encoding, "surrogateescape") + b"\n" for key in keys)


def _look_at(name: Path, encoding: str) -> Source:
    if str(name) == "-":
        if is_closed("stdin"):
            raise HaltError(say("sources.closed"))
        return Source(say("sources.stdin"), None, None, identity=_identity_of_input())
    try:
        known = name.stat()
        mode, identity = known.st_mode, (known.st_dev, known.st_ino)
        if stat.S_ISDIR(mode):
            raise HaltError(say("sources.directory", name=name))
        if not stat.S_ISREG(mode):
            return Source(str(name), name, None, identity=identity)  # a FIFO, or what a shell makes of <(…)
        with name.open("rb") as file:
            stamp = _stamp(file)
            lines = _count(str(name), file, encoding)
    except FileNotFoundError:
        raise HaltError(say("sources.missing", name=name)) from None
    except OSError as error:
        raise HaltError(say("sources.unreadable", name=name, reason=error.strerror)) from None
    return Source(str(name), name, lines, stamp, identity)


def _identity_of_input() -> object:
    """That of the file which a shell's ``<`` has opened; also of a pipe or a terminal, which is no other source's."""
    try:
        known = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):  # something in the place of standard input, within Python
        return None
    return known.st_dev, known.st_ino


def _count(name: str, file: BinaryIO, encoding: str) -> int:
    """
    How many lines there are.

    Raises:
        HaltError: Some of them can't be card keys.
    """
    number = 0
    problems: list[str] = []
    if file.peek(2)[:2] in _UTF_16:  # type: ignore[attr-defined]  # a buffered reader, as open("rb") gives
        problems.append(say("sources.line", line=1, problem=say("sources.utf16")))
    else:
        for number, line in enumerate(_lines(name, file, encoding), 1):
            key = _problem(line)
            if key:
                problems.append(say("sources.line", line=number, problem=say(key)))
                if len(problems) == _SHOWN:
                    break
    if problems:
        raise _bad(name, say("sources.and").join(problems))
    return number


def _bad(name: str, problem: str) -> HaltError:
    return HaltError(say("sources.bad", name=name, problem=problem), todo=say("sources.todo"))


def _problem(line: str) -> str:
    """The key of what keeps *line* from being a card key, or nothing."""
    if line.isprintable():
        return ""
    key = invisible.strip(line)
    if "\0" in key:
        return "sources.nul"
    if "\r" in key:
        return "sources.cr"
    return "sources.encoding" if any("\ud800" <= letter <= "\udfff" for letter in key) else ""


def _lines(name: str, file: BinaryIO, encoding: str) -> Iterator[str]:
    """Lines, without ever holding one that has no end. What is in another encoding is kept, as lone surrogates."""
    number = 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1 and raw.startswith(_UTF_8_MARK) and encoding != "utf-8":
            # Read as anything else, the mark would become part of the first card key.
            problem = say("sources.line", line=1, problem=say("sources.utf8_mark", encoding=encoding))
            raise HaltError(say("sources.bad", name=name, problem=problem), todo=say("sources.utf8_mark.todo"))
        if len(raw) > LONGEST_LINE:
            raise _bad(name, say("sources.line", line=number, problem=say("sources.long", most=LONGEST_LINE)))
        try:
            yield raw.rstrip(b"\n").decode(encoding)
        except UnicodeDecodeError:
            yield raw.rstrip(b"\n").decode("utf-8" if encoding == "utf-8" else "ascii", "surrogateescape")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise HaltError(say("sources.unreadable", name=path, reason=error.strerror)) from None


def _stamp(file: BinaryIO) -> tuple[int, int]:
    known = os.fstat(file.fileno())
    return known.st_size, known.st_mtime_ns
