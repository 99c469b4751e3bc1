"""
Where card keys come from: files, and standard input or another pipe.

All files are checked before anything is sent. What was checked is kept in memory, up to 32 MiB, and sent from there: a
file of up to a million card keys or so is read once, and nobody can change it in between. A larger one is read again,
because the alternative is worse: a second copy of the card keys on a disk. Where nothing is sent before the end, in a
dry run and in a durable upload, files are checked while they are read, and nothing is kept.

A pipe can be read only once: what is wrong in it is met on the way, line by line.
"""

import os
import stat
import sys
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from attrs import evolve, field, frozen

from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, is_closed, warn
from gatepay_async.cli.status import HaltError
from gatepay_async.protocol import invisible

MAX_LINE_BYTES = 65_536  # bytes; a line that is longer is no card key, and the file no list of them
MAX_BYTES_KEPT = 32 * 2**20  # bytes of all files together
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
        is_pipe: It can be read once, and nobody knows how much it gives.
        identity: The same for a file that is given under two names.
        lines: How many a file has that was checked.
        stamp: Of a file that was checked: what changes when it does.
        content: All of a file that was checked, if it is kept.
    """

    name: str
    path: Path | None
    is_pipe: bool = True
    identity: object = None
    lines: int | None = None
    stamp: tuple[int, int] | None = None
    content: bytes | None = field(default=None, repr=False)

    def open(self) -> AbstractContextManager[BinaryIO]:
        """What it holds."""
        if self.content is not None:
            return BytesIO(self.content)
        return nullcontext(sys.stdin.buffer) if self.path is None else _open_file(self.path)


def find_sources(names: list[Path]) -> list[Source]:
    """
    What *names* are; nothing is read.

    Raises:
        HaltError: Something is missing, or can't be read.
    """
    sources: dict[object, Source] = {}
    for name in names:
        with _nothing_sent():
            source = _find_source(name)
        if source.identity in sources:
            warn(text("sources.twice", name=escape(source.name)))
        sources.setdefault(source.identity, source)
    return list(sources.values())


def check_sources(names: list[Path], encoding: str) -> list[Source]:
    """
    See whether all of it can be uploaded, and keep as much of it as ``MAX_BYTES_KEPT`` allows.

    Raises:
        HaltError: Something is missing, is no file, or holds what can't be a card key; it says where.
    """
    sources: list[Source] = []
    room = MAX_BYTES_KEPT
    for source in find_sources(names):
        checked = source if source.is_pipe else _check_file(source, encoding, room)
        room -= len(checked.content or b"")
        sources.append(checked)
    return sources


class Reader:
    """
    All lines of all *sources*, one after the other; the library reads it as it reads a file, in a worker thread.

    Args:
        sources: As ``check_sources`` gives them; or ``find_sources``: then files are checked while they are read.
        encoding: Of all of them.
        again: They have been read before: for what is in them now, changed or not.

    Raises:
        HaltError: From ``next()``: a line is too long; or a file is gone, has changed since it was checked, or holds
            what can't be a card key.
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
            with source.open() as file:
                unchecked = not source.is_pipe and source.stamp is None
                stamp = _file_stamp(file) if unchecked else source.stamp
                for line in (_check_lines if unchecked else _decode_lines)(source.name, file, encoding):
                    yield line
                    number += 1
                fresh = self._again or source.is_pipe or source.content is not None or _file_stamp(file) == stamp
            if not fresh:
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
    if any(source.is_pipe for source in sources):
        return None
    return islice(Reader(sources, encoding, again=True), after, None)


def encode_lines(keys: Iterable[str], encoding: str) -> Iterable[bytes]:
    """As a text file in *encoding* has them; what was in another encoding, as it came."""
    return (key.encode(encoding, "surrogateescape") + b"\n" for key in keys)


@contextmanager
def _nothing_sent() -> Generator[None]:
    """Say of an error that nothing has been sent."""
    try:
        yield
    except HaltError as error:
        raise HaltError(error.text, todo=error.todo and error.todo + text("sources.nothing_sent")) from None


def _find_source(name: Path) -> Source:
    if str(name) == "-":
        if is_closed("stdin"):
            raise HaltError(text("sources.closed"))
        return Source(text("sources.stdin"), None, identity=_stdin_identity())
    with _explain_unreadable(name):
        status = name.stat()
    if stat.S_ISDIR(status.st_mode):
        raise HaltError(text("sources.directory", name=name))
    is_pipe = not stat.S_ISREG(status.st_mode)  # a FIFO, or what a shell makes of <(…)
    return Source(str(name), name, is_pipe, (status.st_dev, status.st_ino))


def _check_file(source: Source, encoding: str, room: int) -> Source:
    """*source*, checked; with its content, if that is at most *room* bytes."""
    with source.open() as file, _explain_unreadable(source.name):
        stamp = _file_stamp(file)
        content = file.read(room + 1) if stamp[0] <= room else None
        kept = content is not None and len(content) <= room  # it may have grown since
        source = evolve(source, stamp=stamp, content=content if kept else None)
        with source.open() if kept else nullcontext(file) as checked:
            lines = sum(1 for _ in _check_lines(source.name, checked, encoding))
    return evolve(source, lines=lines)


def _stdin_identity() -> object:
    """That of the file which a shell's ``<`` has opened; also of a pipe or a terminal, which is no other source's."""
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):  # something in the place of standard input, within Python
        return None
    return status.st_dev, status.st_ino


def _check_lines(name: str, file: BinaryIO, encoding: str) -> Iterator[str]:
    """
    As ``_decode_lines``.

    Raises:
        HaltError: Some of them can't be card keys; at the end, unless there are many.
    """
    problems: list[str] = []
    with _nothing_sent():
        start = file.read(2)
        file.seek(0)
        if start in _UTF_16_BOMS:
            raise _source_error(name, text("sources.line", line=1, problem=text("sources.utf16")))
        for number, line in enumerate(_decode_lines(name, file, encoding), 1):
            key = _line_problem(line)
            if key:
                problems.append(text("sources.line", line=number, problem=text(key)))
                if len(problems) == _MAX_PROBLEMS:
                    break
            yield line
        if problems:
            raise _source_error(name, text("sources.and").join(problems))


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
    with _explain_unreadable(path):
        return path.open("rb")


@contextmanager
def _explain_unreadable(name: object) -> Generator[None]:
    try:
        yield
    except FileNotFoundError:
        raise HaltError(text("sources.missing", name=name)) from None
    except OSError as error:
        raise HaltError(text("sources.unreadable", name=name, reason=error.strerror)) from None


def _file_stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
