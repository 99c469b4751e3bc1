"""Excel files, read by python-calamine; imported only when there is one."""

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import reduce
from typing import IO, Any, BinaryIO

import python_calamine

from gatepay_async.cli.files.reading import Digits, FileProblemError, Refused
from gatepay_async.cli.files.tables import Cell

_EXACT = 10**15  # Excel keeps fifteen digits of a number
# A number format that shows zeros in front, such as 00000000, 000\-0000 or "VIP"0000: the file holds the number without
# them, and without the letters.
_PADDED = re.compile(rb'formatCode="(?:&quot;[^"]*?&quot;|[A-Z \\-])*0[0 \\-]*0[0 \\-]*"')

# A cell whose formula gives an error, or has never been calculated: what reads the sheet says that it is blank.
_NO_VALUE = re.compile(
    rb'<c r="([A-Z]+)(\d+)"(?:[^>]* t="e"'
    rb'|(?![^>]* t="str")[^>]*>(?:<f[^>]*/>|<f[^>]*>[^<]*</f>)(?:<v ?/>|<v></v>)?</c>)'
)
_SHEET = re.compile(r"xl/worksheets/[^/]*\.xml")
# What a damaged file raises; whether it is a workbook at all, its reader says.
_DAMAGED = (zipfile.BadZipFile, KeyError, OSError, EOFError, RuntimeError, zlib.error)
_BLOCK_BYTES = 2**20  # bytes of a sheet looked at together

_Places = dict[int, list[int]]  # the numbers of rows, from 1, each with places of cells, from 0


def sheets(file: BinaryIO) -> list[tuple[str, Iterator[list[Cell]]]]:
    """
    The sheets of a workbook that can be seen and hold something, each with its rows; the first row is row 1.

    Raises:
        FileProblemError: It is no workbook, or a password protects it.
    """
    padded = _shows_padding(file)
    no_value = _find_no_values(file)
    file.seek(0)
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(file)
        found = [
            (each.name, book.get_sheet_by_name(each.name))
            for each in book.sheets_metadata
            if each.visible == python_calamine.SheetVisibleEnum.Visible
            and each.typ == python_calamine.SheetTypeEnum.WorkSheet
        ]
    except (python_calamine.CalamineError, OSError):
        raise FileProblemError("sources.no_workbook") from None
    alone = len(book.sheets_metadata) == 1
    return [(name, _rows(sheet, no_value, padded=padded, alone=alone)) for name, sheet in found if sheet.height]


def _rows(sheet: Any, no_value: _Places, *, padded: bool, alone: bool) -> Iterator[list[Cell]]:
    left: list[Cell] = [""] * sheet.start[1]  # columns that are empty are missing in the rows, and count all the same
    number = 0
    for row in sheet.iter_rows():
        number += 1
        cells: list[Cell] = [value if type(value) is str else _excel_cell(value, padded=padded) for value in row]
        yield _with_refused(left + cells, no_value.get(number, ()))
    if alone:  # the reader leaves out the last rows if nothing in them has a value
        for later in range(number + 1, max(no_value, default=0) + 1):
            places = no_value.get(later, ())
            yield _with_refused([""] * (max(places, default=-1) + 1), places)


def _with_refused(cells: list[Cell], no_value: Iterable[int]) -> list[Cell]:
    for place in no_value:
        if cells[place : place + 1] == [""]:
            cells[place] = Refused("sources.no_value", {})
    return cells


def _excel_cell(value: object, *, padded: bool) -> Cell:
    """What is no text: a number is its digits where none can be missing; the rest is no card key."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Refused("sources.no_text", {})
    if value != int(value):
        return Refused("sources.float", {})
    if not 0 <= value < _EXACT:
        return Refused("sources.rounded", {})
    return Refused("sources.padded", {}) if padded else Digits(int(value))


def _shows_padding(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as book, book.open("xl/styles.xml") as styles:
            return _PADDED.search(styles.read()) is not None
    except _DAMAGED:
        return False


def _find_no_values(file: BinaryIO) -> _Places:
    """Where any sheet has a cell without a value. Which sheet it is matters little: only blank cells are compared."""
    found: _Places = {}
    with suppress(*_DAMAGED), zipfile.ZipFile(file) as book:
        for name in filter(_SHEET.fullmatch, book.namelist()):
            with book.open(name) as sheet:
                for column, row in _no_value_cells(sheet):
                    found.setdefault(int(row), []).append(_column_place(column))
    return found


def _no_value_cells(sheet: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    kept = b""
    while block := sheet.read(_BLOCK_BYTES):
        kept += block
        end = max(kept.rfind(b"<c "), 0)  # the last cell may not be whole
        yield from _NO_VALUE.findall(kept, 0, end)
        kept = kept[end:]
    yield from _NO_VALUE.findall(kept)


def _column_place(letters: bytes) -> int:
    """``A`` is 0, ``AA`` is 26."""
    return reduce(lambda place, letter: place * 26 + letter - ord("A") + 1, letters, 0) - 1
