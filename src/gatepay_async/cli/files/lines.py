"""Splits text files into lines. A line that is too long is refused before all of it is in memory."""

import io
from collections.abc import Iterator
from typing import BinaryIO

from gatepay_async.cli.files import encodings
from gatepay_async.cli.files.reading import FileProblemError

MAX_LINE_BYTES = 65_536  # a file with a longer line is no list of card keys


def read_lines(file: BinaryIO, encoding: str) -> Iterator[str]:
    """
    Yield the lines of *file*, without line ends and without a byte-order mark.

    Bytes that are invalid in *encoding* are kept as lone surrogates.

    Raises:
        FileProblemError: A line is too long, or the file isn't in *encoding*.
    """
    return (_read_wide if encoding in encodings.WIDE else _read_narrow)(file, encoding)


def _read_narrow(file: BinaryIO, encoding: str) -> Iterator[str]:
    """Yield the lines of a file in an encoding whose line end is one byte."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1 and raw.startswith(encodings.UTF_8_MARK):
            if encoding != "utf-8":  # in another encoding, the mark would become part of the first card key
                raise FileProblemError("sources.utf8_mark", line=1, encoding=encoding)
            raw = raw.removeprefix(encodings.UTF_8_MARK)
        if len(raw) > MAX_LINE_BYTES:
            raise FileProblemError("sources.long", line=number, most=MAX_LINE_BYTES)
        try:
            yield raw.rstrip(b"\n").decode(encoding)
        except UnicodeDecodeError:
            yield raw.rstrip(b"\n").decode("utf-8" if encoding == "utf-8" else "ascii", "surrogateescape")


def _read_wide(file: BinaryIO, encoding: str) -> Iterator[str]:
    """Yield the lines of a file in an encoding whose line end has several bytes."""
    text = io.TextIOWrapper(file, encoding, newline="\n")
    number = 0
    try:
        while line := _next_line(text):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise FileProblemError("sources.long", line=number, most=MAX_LINE_BYTES)
            yield (line.removeprefix("\ufeff") if number == 1 else line).rstrip("\n")
        if line is None:  # text is decoded in blocks, so the number of the line is unknown
            raise FileProblemError("sources.not_in", encoding=encoding)
    finally:
        if not file.closed:
            text.detach()  # the caller closes the file


def _next_line(text: io.TextIOWrapper) -> str | None:
    """Read a line, or ``""`` at the end. Return None, not an error that contains card keys, if it can't be decoded."""
    try:
        return text.readline(MAX_LINE_BYTES + 1)
    except UnicodeError:
        return None
