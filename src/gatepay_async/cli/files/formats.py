"""Chooses the parser of a file by its suffix and the user's options."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from gatepay_async.cli.files import columns, encodings
from gatepay_async.cli.files.lines import read_lines
from gatepay_async.cli.files.reading import AUTO, FileProblemError, Reading
from gatepay_async.cli.files.tables import Cell, csv_rows, json_rows, keys_of, refuse_exponents
from gatepay_async.protocol.checks import is_utf8

# Parses a file. Returns the number of the first line or row with a card key, and the cells from there on.
Parse = Callable[[BinaryIO], tuple[int, Iterator[Cell]]]

WORKBOOK = ".xlsx"
_WORKBOOK_STARTS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .xls
_START_BYTES = 4  # the length of each start


def is_table(path: Path | None, reading: Reading) -> bool:
    """Whether the file at *path* has columns."""
    return path is not None and not reading.as_is and path.suffix.lower() in {".csv", ".tsv", ".jsonl", WORKBOOK}


def parser_for(path: Path | None, file: BinaryIO, reading: Reading) -> tuple[str, Parse]:
    """
    Return the encoding and the parser of *file*, which is a text file or a table in a text file.

    Raises:
        FileProblemError: The file is a workbook, or its encoding can't be guessed.
    """
    file.seek(0)
    if file.read(_START_BYTES).startswith(_WORKBOOK_STARTS):
        raise FileProblemError("sources.is_workbook")
    encoding = reading.encoding
    if encoding == AUTO:
        encoding = encodings.guess(file)
        file.seek(0)
        if not encoding:
            lines = enumerate(read_lines(file, "utf-8"), 1)
            line = next((number for number, line in lines if not is_utf8(line)), 0)
            raise FileProblemError("sources.no_encoding", line=line)
    file.seek(0)
    if path is None or not is_table(path, reading):
        return encoding, partial(_parse_text, encoding=encoding, reading=reading)
    if path.suffix.lower() == ".jsonl":
        return encoding, partial(_parse_json, encoding=encoding, reading=reading)
    return encoding, partial(_parse_csv, encoding=encoding, reading=reading, suffix=path.suffix.lower())


def parse_plain(file: BinaryIO, encoding: str = "utf-8") -> tuple[int, Iterator[Cell]]:
    """Return all lines, unchanged."""
    return 1, read_lines(file, encoding)


def parse_kept(file: BinaryIO, *, first_line: int) -> tuple[int, Iterator[Cell]]:
    """Return the card keys of a table that was kept as lines of text. *first_line* is the number of its first row."""
    return first_line, read_lines(file, "utf-8")


def parse_sheet(file: BinaryIO, *, number: int, reading: Reading) -> tuple[int, Iterator[Cell]]:
    """Return the card keys of one sheet of a workbook. *number* is the index of the sheet, from 0."""
    from gatepay_async.cli.files import workbooks

    sheets, _ = workbooks.sheets(file)
    return sheets[number].keys(reading)


def _parse_text(file: BinaryIO, *, encoding: str, reading: Reading) -> tuple[int, Iterator[Cell]]:
    lines = read_lines(file, encoding)
    if reading.as_is:
        return 1, lines
    first = next(lines, None)
    if first is None:
        return 1, lines
    if reading.skip_heading:
        return 2, lines
    if columns.looks_like_heading(first):
        raise FileProblemError("sources.heading", line=1)
    return 1, chain((first,), lines)


def _parse_csv(file: BinaryIO, *, encoding: str, reading: Reading, suffix: str) -> tuple[int, Iterator[Cell]]:
    first_row_number, _, keys = keys_of(csv_rows(read_lines(file, encoding), suffix), reading)
    return first_row_number, refuse_exponents(keys)


def _parse_json(file: BinaryIO, *, encoding: str, reading: Reading) -> tuple[int, Iterator[Cell]]:
    return 1, json_rows(read_lines(file, encoding), reading)
