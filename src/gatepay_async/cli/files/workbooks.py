"""Reads Excel files. This module is imported only if an input is an Excel file."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO

from attrs import define, field

from gatepay_async.cli.files.cells import MergedCells, SheetRow, SheetRows
from gatepay_async.cli.files.number_formats import AS_STORED, ShownUnchanged
from gatepay_async.cli.files.parts import DAMAGED, Package, Part, SharedTexts, unescaped
from gatepay_async.cli.files.reading import FileProblemError, HiddenRow, NumberCell, Reading, Refused
from gatepay_async.cli.files.tables import Cell, Keys, keys_of

_INEXACT_FROM = 10**15  # Excel keeps only the first 15 digits of a number


@define
class Sheet:
    """
    A visible sheet that is not empty.

    Attributes:
        name: The sheet's name.
        hidden_rows: The number of hidden rows that are not empty, among the rows read so far.
    """

    name: str
    _book: "_Workbook"
    _part: Part
    hidden_rows: int = field(default=0, init=False)
    _merged: MergedCells = field(factory=MergedCells, init=False)
    _key_index: int = field(default=0, init=False)

    def keys(self, reading: Reading) -> tuple[int, Keys]:
        """
        Return the number of the first row below the heading, and the card keys from that row on.

        Raises:
            FileProblemError: The user must name the column, because it isn't clear or is hidden.
        """
        blocks, hidden_columns, self._merged = self._book.rows(self._part)
        blocks_to_read = (
            self._without_skipped(block, reading) if HiddenRow in map(type, block) else block for block in blocks
        )
        rows = chain.from_iterable(blocks_to_read)
        first_row_number, self._key_index, keys = keys_of(rows, reading, hidden_columns)
        return first_row_number, keys

    def count_covered(self) -> int:
        """
        Return how many cells in the column of the card keys have content that merged cells hide.

        Call this after all card keys were read.
        """
        with _refuse_damaged():
            covered = self._merged.covered_rows(self._key_index)
        if not covered:
            return 0
        rows = chain.from_iterable(self._book.rows(self._part)[0])
        return sum(
            number in covered and any(row[self._key_index : self._key_index + 1]) for number, row in enumerate(rows, 1)
        )

    def _without_skipped(self, rows: Sequence[SheetRow], reading: Reading) -> Iterator[SheetRow]:
        """Yield *rows*, and count the hidden ones. If the user skips hidden rows, they are empty."""
        for row in rows:
            if type(row) is HiddenRow and any(row):
                self.hidden_rows += 1
                yield [] if reading.hidden_rows == "skip" else row
            else:
                yield row


def sheets(file: BinaryIO) -> tuple[list[Sheet], int]:
    """
    Return the visible sheets of an Excel file that are not empty, and the number of hidden sheets that are not empty.

    Raises:
        FileProblemError: *file* is damaged, is no workbook, or is protected by a password.
    """
    book = _Workbook(file)
    filled_parts = [part for part in book.parts if any(map(any, chain.from_iterable(book.rows(part)[0])))]
    visible = [Sheet(part.name, book, part) for part in filled_parts if part.visible]
    return visible, len(filled_parts) - len(visible)


class _Workbook:
    """
    An Excel file: its sheets, and the texts and styles that all sheets share.

    Args:
        file: The file, which is not closed here.
    """

    def __init__(self, file: BinaryIO) -> None:
        with _refuse_damaged():
            self._package = Package(file)
            self.parts, texts, styles = self._package.sheets()
            self._texts = SharedTexts(self._package, texts)
            self._styles = self._package.styles(styles)
            self._plain_styles = frozenset(number for number, shown in enumerate(self._styles) if shown.text)

    def rows(self, part: Part) -> tuple[Iterator[Sequence[SheetRow]], set[int], MergedCells]:
        """Return the rows of a sheet, many at a time; the indexes of hidden columns; and the merged cells."""
        with _refuse_damaged():
            rows = SheetRows(self._package.open(part.path), self._texts, self._plain_styles, self._value_of)
        return _read_rows(rows), rows.hidden_columns, rows.merged

    def _value_of(self, kind: str, style: int, letters: str, formula: bool) -> Cell:  # noqa: FBT001 -- faster than a keyword, for a million calls
        """Return the cell with these properties, in the order of ``MakeCell``."""
        shown = self._styles[style] if 0 <= style < len(self._styles) else AS_STORED
        if kind == "s":
            return _text_cell(self._texts.get(int(letters)), shown) if letters else ""
        if kind in {"str", "inlineStr"}:
            return _text_cell(unescaped(letters), shown)
        if kind == "e" or (formula and not letters):
            return Refused("sources.no_value", {})
        if not letters:
            return ""
        return _number_cell(float(letters), shown) if kind == "n" else Refused("sources.no_text", {})


def _text_cell(letters: str, shown: ShownUnchanged) -> Cell:
    """Return a text. Refuse it if Excel shows other characters."""
    return letters if shown.text or not letters else Refused("sources.formatted", {})


def _number_cell(value: float, shown: ShownUnchanged) -> Cell:
    """Return the digits of a whole number. Refuse it if Excel may have lost digits, or shows other characters."""
    if value != int(value):
        return Refused("sources.float", {})
    if not 0 <= value < _INEXACT_FROM:
        return Refused("sources.rounded", {})
    return NumberCell(int(value)) if (shown.number if value else shown.zero) else Refused("sources.formatted", {})


def _read_rows(rows: SheetRows) -> Iterator[Sequence[SheetRow]]:
    with _refuse_damaged():
        yield from rows


@contextmanager
def _refuse_damaged() -> Generator[None]:
    """Replace an error of a damaged file with one that contains no card keys."""
    try:
        yield
    except DAMAGED:
        pass  # raised below, without the original error as its context
    else:
        return
    raise FileProblemError("sources.no_workbook")
