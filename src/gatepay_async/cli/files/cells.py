"""Reads the rows of an Excel sheet in blocks, because the XML of a whole sheet may not fit into memory."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain, repeat
from typing import IO

from gatepay_async.cli.files.parts import (
    BLOCK_BYTES,
    MAX_LETTERS,
    PlainParser,
    SharedTexts,
    end_of_tags,
    local_name,
    safe_parser,
)
from gatepay_async.cli.files.reading import HiddenRow
from gatepay_async.cli.files.tables import Cell
from gatepay_async.cli.files.uniform_rows import ROW_END, find_uniform_rows

SheetRow = Sequence[Cell]
# Makes a cell from its kind (the XML attribute ``t``), the number of its style, its text, and whether it has a formula.
MakeCell = Callable[[str, int, str, bool], Cell]

_MAX_SHEET_ROWS, _MAX_SHEET_COLUMNS = 1_048_576, 16_384  # the limits of an Excel sheet
_MAX_UNREAD_BYTES = 2**20  # of XML to collect until the end of a row is found
# Small, because a cell in the last column, XFD, makes a row of 16,384 cells: a few bytes of XML can need much memory.
_PARSER_BYTES = 2**13  # given to the XML parser at once
_AREA = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7}):\$?([A-Z]{1,3})\$?(\d{1,7})")  # such as A1:B2 or $A$1:$B$2
# Matches a cell or an empty row in the form that nearly all programs write. The match of a row's first cell includes
# the start of the row. Other forms are read by the XML parser, which takes five times as long.
_SIMPLE_CELL = re.compile(
    rb'(?:<row r="(\d{1,7})"([^<>/]*)>)?<c r="([A-Z]{1,2})\d+"([^<>/]*)'
    rb'(?:/>|>(?:<v>([^<]+)</v>|<is><t(?: xml:space="preserve")?>([^<]+)</t></is>)?)'
    rb'|<row r="(\d{1,7})"([^<>/]*)(?:/>|></row>)'
)


class SheetRows:
    """
    Reads the rows of a sheet, once.

    Args:
        sheet: The XML of the sheet.
        texts: The shared texts, which cells refer to by number.
        plain_styles: The numbers of the styles that show a text unchanged.
        make_cell: Makes the cells that are not shared texts in such a style, for example numbers.

    Attributes:
        hidden_columns: The indexes of hidden columns, from 0. Complete once the first row was read.
        merged: The merged cells. Complete once all rows were read.
    """

    def __init__(self, sheet: IO[bytes], texts: SharedTexts, plain_styles: frozenset[int], make_cell: MakeCell) -> None:
        self._sheet = sheet
        self._texts = texts
        self._plain_styles = plain_styles
        self._make_cell = make_cell
        self._number = 0  # of the row that was started last
        self._column_indexes = _ColumnIndexes()
        # Caches of the results of _is_hidden() and _kind_of_cell(), by the attributes of the row or the cell.
        self._hidden_by_attributes: dict[bytes, bool] = {}
        self._kind_by_attributes: dict[bytes, tuple[str, int, bool]] = {}
        self.hidden_columns: set[int] = set()
        self.merged = MergedCells()

    def __iter__(self) -> Iterator[Sequence[SheetRow]]:
        """
        Yield the rows from row 1 on, many at a time. A row that is missing in the file is empty.

        Raises:
            ValueError: The file is damaged. The other errors in ``DAMAGED`` have the same meaning.
        """
        parser = _RowParser(self)
        try:
            yield from self._read_with(parser)
        finally:
            parser.close()

    def _read_with(self, parser: "_RowParser") -> Iterator[Sequence[SheetRow]]:
        """Yield the rows. Use *parser* where the faster methods can't read the XML."""
        unread = b""
        while block := self._sheet.read(BLOCK_BYTES):
            unread += block
            end = unread.rfind(ROW_END) + len(ROW_END)
            if end < len(ROW_END):  # there is no ROW_END
                if len(unread) < _MAX_UNREAD_BYTES and parser.is_at_row:
                    continue
                end = end_of_tags(unread)
            piece, unread = unread[:end], unread[end:]
            rows = parser.is_at_row and (self._uniform_rows(piece) or self._simple_rows(piece))
            yield from (rows,) if rows else map(parser.read, _small_parts(piece))
        yield from map(parser.read, _small_parts(unread))
        yield parser.read(b"", last=True)

    def start_row(self, number: int, rows: list[list[Cell]], *, hidden: bool) -> list[Cell]:
        """Append a new row with this *number* (0: the next) to *rows*, after empty rows for missing ones. Return it."""
        number = number or self._number + 1
        if not self._number < number <= _MAX_SHEET_ROWS:
            raise ValueError("the rows of the sheet are not in order")
        if number != self._number + 1:
            rows.extend([] for _ in range(self._number + 1, number))
        self._number = number
        row: list[Cell] = HiddenRow() if hidden else []
        rows.append(row)
        return row

    def add_cell(self, row: list[Cell], index: int, cell: tuple[str, int, str], *, formula: bool) -> None:
        """Append *cell*, which has a kind, a style and a text, to *row*, after empty cells up to column *index*."""
        if index != len(row):
            row += [""] * _count_missing(len(row), index)
        row.append(self._make_cell(*cell, formula))

    def _uniform_rows(self, piece: bytes) -> Sequence[SheetRow]:
        """Return the rows of *piece* if they are uniform, otherwise no rows."""
        uniform = find_uniform_rows(piece)
        if uniform is None:
            return []
        rows: list[list[Cell]] = []
        is_hidden = self._is_hidden(uniform.attributes)
        self.start_row(uniform.first, rows, hidden=is_hidden)
        rows.pop()  # keep only the empty rows for missing ones; the uniform rows are made below
        columns: list[Iterable[Cell]] = []
        for letters, cell_attributes, values in uniform.columns:
            missing = _count_missing(len(columns), self._column_indexes[letters])
            columns += [repeat("")] * missing
            kind, style, is_plain_text = self._kind_of_cell(cell_attributes)
            if is_plain_text:
                columns.append(self._texts.get_all(values))
            else:
                texts = map(str, values) if isinstance(values, range) else map(bytes.decode, values)
                columns.append([self._make_cell(kind, style, text, False) for text in texts])
        self._number += uniform.count - 1
        row_tuples = zip(*columns, strict=False)  # a column without cells is infinite
        return [*rows, *(map(HiddenRow, row_tuples) if is_hidden else row_tuples)]

    def _simple_rows(self, piece: bytes) -> list[list[Cell]]:
        """Return the rows of *piece* if all of them are simple, otherwise no rows."""
        rows: list[list[Cell]] = []
        row: list[Cell] = []
        for number, row_attributes, column, attributes, value, inline, empty, empty_attributes in _simple_cells(piece):
            if empty:
                self.start_row(int(empty), rows, hidden=self._is_hidden(empty_attributes))
            elif number:
                row = self.start_row(int(number), rows, hidden=self._is_hidden(row_attributes))
            if column:
                kind, style, is_plain_text = self._kind_of_cell(attributes)
                index = self._column_indexes[column]
                if is_plain_text and index == len(row) and value:
                    row.append(self._texts.get(int(value)))
                else:
                    self.add_cell(row, index, (kind, style, (value or inline).decode()), formula=False)
        return rows

    def _is_hidden(self, attributes: bytes) -> bool:
        if attributes not in self._hidden_by_attributes:
            self._hidden_by_attributes[attributes] = hides_row(_attributes_of(attributes))
        return self._hidden_by_attributes[attributes]

    def _kind_of_cell(self, attributes: bytes) -> tuple[str, int, bool]:
        """Return the kind of a cell, its style, and whether it is a shared text that is shown unchanged."""
        if attributes not in self._kind_by_attributes:
            parsed = _attributes_of(attributes)
            kind, style = parsed.get("t", "n"), int(parsed.get("s", 0))
            self._kind_by_attributes[attributes] = kind, style, kind == "s" and style in self._plain_styles
        return self._kind_by_attributes[attributes]


def _small_parts(piece: bytes) -> Iterator[bytes]:
    """Cut *piece* after tags into parts of about ``_PARSER_BYTES``."""
    start = 0
    while start < len(piece):
        end = piece.find(b">", start + _PARSER_BYTES) + 1 or len(piece)
        yield piece[start:end]
        start = end


def hides_row(attributes: dict[str, str]) -> bool:
    """Whether a row with these attributes is hidden: it is marked as hidden, or its height is 0."""
    return attributes.get("hidden") in {"1", "true"} or not float(attributes.get("ht", 1))


def _attributes_of(xml: bytes) -> dict[str, str]:
    """Parse the attributes of a tag, in any form that XML allows."""
    parsed: list[dict[str, str]] = []
    safe_parser(lambda _, attributes: parsed.append(attributes)).Parse(b"<x" + xml + b"/>", True)
    return parsed[0]


def _simple_cells(piece: bytes) -> list[tuple[bytes, ...]]:
    """Return the cells of *piece* if all of them are simple, otherwise an empty list."""
    if not piece.lstrip().startswith(b"<row ") or b"&" in piece or b"\r" in piece:  # XML reads "\r" as "\n"
        return []
    matches = _SIMPLE_CELL.findall(piece)
    counts = [len(matches) - groups.count(b"") for groups in zip(*matches, strict=True)]  # matches that fill each group
    if not counts:
        return []
    row_count, _, cell_count, _, value_count, text_count, empty_row_count, _ = counts
    # The start tags in the matches (two for a text: <is> and <t>), and all end tags.
    tags = row_count + cell_count + value_count + 2 * text_count + empty_row_count + piece.count(b"</")
    # If there are more tags, or a ">" that doesn't end a tag, _SIMPLE_CELL has missed something.
    return matches if tags == piece.count(b"<") == piece.count(b">") else []


def _count_missing(length: int, index: int) -> int:
    """
    Return how many blank cells a row of *length* cells needs before column *index*.

    Raises:
        ValueError: The row is longer already, or *index* is beyond the last possible column.
    """
    if not length <= index < _MAX_SHEET_COLUMNS:
        raise ValueError("the cells of the row are not in order")
    return index - length


class _ColumnIndexes(dict[bytes, int]):
    """Maps names of columns to their indexes: ``A`` to 0, ``AA`` to 26."""

    def __missing__(self, column: bytes) -> int:
        index = reduce(lambda index, letter: index * 26 + letter - ord("A") + 1, column, 0) - 1
        self[column] = index
        return index


class _RowParser:
    """Reads rows with an XML parser."""

    def __init__(self, sheet: SheetRows) -> None:
        self._sheet = sheet
        self._parser = PlainParser(self._start_element, self._end_element, self._add_cell_letters)
        self._rows: list[list[Cell]] = []
        self._row: list[Cell] = []
        self._cell: tuple[int, str, int] = (0, "", 0)  # column index, kind and style
        self._letters: list[str] = []
        self._formula = False
        self._phonetic_depth = 0  # how many <rPh> elements are open; they contain the pronunciation of a text
        self._in_value = False
        self._in_table = self._in_row = False

    @property
    def is_at_row(self) -> bool:
        """Whether the next bytes are the start of a row or the end of the table, so ``_SIMPLE_CELL`` may read them."""
        return self._parser.is_plain and self._in_table and not self._in_row

    def close(self) -> None:
        """Break the reference cycle of sheet and parser, which would keep all texts in memory."""
        self._parser.close()

    def read(self, data: bytes, *, last: bool = False) -> list[list[Cell]]:
        """Return the rows that end in *data*."""
        self._parser.parse(data, last=last)
        if sum(map(len, self._letters)) > MAX_LETTERS:
            raise ValueError("too long")
        complete, self._rows = self._rows, []
        if self._in_row:
            self._rows.append(complete.pop())
        return complete

    def _start_element(self, name: str, attributes: dict[str, str]) -> None:
        name = local_name(name)
        if name == "c":
            self._start_cell(attributes)
        elif name in {"v", "t"}:
            self._in_value = not self._phonetic_depth
        elif name == "is":
            self._letters.clear()  # some programs also write a <v> for readers that don't know <is>
        elif name == "f":
            self._formula = True
        elif name == "row" and self._in_table:  # anchors of controls below the table have <row> elements, too
            self._in_row = True
            number = int(attributes.get("r", 0))
            self._row = self._sheet.start_row(number, self._rows, hidden=hides_row(attributes))
        elif name == "rPh":
            self._phonetic_depth += 1
        elif name == "sheetData":
            self._in_table = True
        elif name == "mergeCell":
            self._sheet.merged.add(attributes.get("ref", ""))
        elif name == "col" and (attributes.get("hidden") in {"1", "true"} or not float(attributes.get("width", 1))):
            last = min(int(attributes["max"]), _MAX_SHEET_COLUMNS)
            self._sheet.hidden_columns.update(range(int(attributes["min"]) - 1, last))

    def _start_cell(self, attributes: dict[str, str]) -> None:
        column = re.match("[A-Z]{1,3}", attributes.get("r", ""))
        index = len(self._row) if column is None else _column_index(column[0])
        self._cell = index, attributes.get("t", "n"), int(attributes.get("s", 0))
        self._letters.clear()
        self._formula = False

    def _end_element(self, name: str) -> None:
        name = local_name(name)
        self._in_value = False
        if name == "c":
            index, kind, style = self._cell
            cell = kind, style, "".join(self._letters)
            self._sheet.add_cell(self._row, index, cell, formula=self._formula)
        elif name == "row":
            self._in_row = False
        elif name == "rPh":
            self._phonetic_depth -= 1
        elif name == "sheetData":
            self._in_table = False

    def _add_cell_letters(self, letters: str) -> None:
        if self._in_value:
            self._letters.append(letters)


def _column_index(column: str) -> int:
    """Return the index of the column with these letters: 26 for ``AA``."""
    return _ColumnIndexes()[column.encode()]


class MergedCells:
    """The merged areas of a sheet. Excel shows only the first cell of an area, but the others can have content."""

    def __init__(self) -> None:
        self._areas: list[tuple[int, int, int, int]] = []

    def add(self, area: str) -> None:
        """
        Add an *area*, such as ``A1:B2``. Ignore a single cell, which some programs write and which hides nothing.

        Raises:
            ValueError: There are too many areas.
        """
        if len(self._areas) == _MAX_SHEET_ROWS:
            raise ValueError("too many merged cells")
        match = _AREA.fullmatch(area)
        if match is not None:
            self._areas.append((_column_index(match[1]), int(match[2]), _column_index(match[3]), int(match[4])))

    def covered_rows(self, index: int) -> set[int]:
        """
        Return the numbers of the rows in which Excel doesn't show the cell of the column *index*.

        Raises:
            ValueError: There are more rows than a sheet can have, because areas overlap.
        """
        rows = [
            range(top + (left == index), bottom + 1)  # in its first column, an area shows its top cell
            for left, top, right, bottom in self._areas
            if left <= index <= right
        ]
        if sum(map(len, rows)) > _MAX_SHEET_ROWS:
            raise ValueError("merged cells overlap")
        return set(chain.from_iterable(rows))
