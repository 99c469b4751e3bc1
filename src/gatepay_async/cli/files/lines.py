"""Text files: bytes to lines, of which none is held that has no end."""

import io
from collections.abc import Iterator
from typing import BinaryIO

from gatepay_async.cli.files import encodings
from gatepay_async.cli.files.reading import FileProblemError

MAX_LINE_BYTES = 65_536  # bytes; a line that is longer is no card key, and the file no list of them


def read_lines(file: BinaryIO, encoding: str) -> Iterator[str]:
    """
    The lines of *file*, without their ends and without a mark at its start.

    What is in another encoding is kept, as lone surrogates.

    Raises:
        FileProblemError: A line is too long, or the file can't be in *encoding*.
    """
    return (_read_wide if encoding in encodings.WIDE else _read_narrow)(file, encoding)


def _read_narrow(file: BinaryIO, encoding: str) -> Iterator[str]:
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1 and raw.startswith(encodings.UTF_8_MARK):
            if encoding != "utf-8":  # read as anything else, the mark would become part of the first card key
                raise FileProblemError("sources.utf8_mark", line=1, encoding=encoding)
            raw = raw.removeprefix(encodings.UTF_8_MARK)
        if len(raw) > MAX_LINE_BYTES:
            raise FileProblemError("sources.long", line=number, most=MAX_LINE_BYTES)
        try:
            yield raw.rstrip(b"\n").decode(encoding)
        except UnicodeDecodeError:
            yield raw.rstrip(b"\n").decode("utf-8" if encoding == "utf-8" else "ascii", "surrogateescape")


def _read_wide(file: BinaryIO, encoding: str) -> Iterator[str]:
    text = io.TextIOWrapper(file, encoding, newline="\n")
    number = 0
    try:
        while line := _next_line(text):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise FileProblemError("sources.long", line=number, most=MAX_LINE_BYTES)
            yield (line.removeprefix("\ufeff") if number == 1 else line).rstrip("\n")
        if line is None:  # decoded in blocks: which line it is, is not known
            raise FileProblemError("sources.not_in", encoding=encoding)
    finally:
        if not file.closed:
            text.detach()  # whoever opened the file closes it


def _next_line(text: io.TextIOWrapper) -> str | None:
    """A line; ``""`` at the end; None: it can't be decoded. The error would hold card keys, and ends here."""
    try:
        return text.readline(MAX_LINE_BYTES + 1)
    except UnicodeError:
        return None
