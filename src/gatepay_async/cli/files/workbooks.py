"""Excel files, read by python-calamine; imported only when there is one."""

import re
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import python_calamine

from gatepay_async.cli.files.reading import Digits, FileProblemError, Refused
from gatepay_async.cli.files.tables import Cell

_EXACT = 10**15  # Excel keeps fifteen digits of a number
# A number format that shows zeros in front, such as 00000000: the file holds the number without them.
_PADDED = re.compile(rb'formatCode="0[0 -]*0[0 -]*"')


def sheets(file: BinaryIO) -> list[tuple[str, Iterator[list[Cell]]]]:
    """
    The sheets of a workbook that can be seen and hold something, each with its rows; the first row is row 1.

    Raises:
        FileProblemError: It is no workbook, or a password protects it.
    """
    padded = _shows_padding(file)
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
    return [(name, _rows(sheet, padded=padded)) for name, sheet in found if sheet.height]


def _rows(sheet: Any, *, padded: bool) -> Iterator[list[Cell]]:
    left: list[Cell] = [""] * sheet.start[1]  # columns that are empty are missing in the rows, and count all the same
    for row in sheet.iter_rows():
        cells: list[Cell] = [value if type(value) is str else _excel_cell(value, padded=padded) for value in row]
        yield left + cells


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
    except (zipfile.BadZipFile, KeyError, OSError):
        return False  # whether it is a workbook at all, its reader says
