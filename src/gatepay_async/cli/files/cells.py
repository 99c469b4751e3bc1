"""Reads the rows of an Excel sheet one after the other. Its XML is never in memory as a whole."""

import re
from collections.abc import Callable, Iterator
from functools import reduce
from typing import IO

from gatepay_async.cli.files.parts import BLOCK_BYTES, SharedTexts, local, safe_parser
from gatepay_async.cli.files.reading import HiddenRow
from gatepay_async.cli.files.tables import Cell

# Makes a cell from its kind, the number of its style, its text, and whether a formula computes it.
CellOf = Callable[[str, int, str, bool], Cell]

_MAX_ROWS, _MAX_COLUMNS = 1_048_576, 16_384
_MAX_WAITING = 16 * 2**20  # the most bytes to collect without the end of a row
_ROW_END = b"</row>"
# A cell, with the start of its row if it is the first one, as nearly all programs write it; or an empty row. The XML
# parser, which takes five times as long, reads everything else.
_SIMPLE = re.compile(
    rb'(?:<row r="(\d{1,7})"([^<>]*)>)?<c r="([A-Z]{1,3})\d+"([^<>]*)>'
    rb'(?:<v>([^<]+)</v>|<is><t(?: xml:space="preserve")?>([^<]*)</t></is>)?'
    rb"|<row [^<>]*(?:/>|></row>)"
)
_ATTRIBUTE = re.compile(rb' (s|t)="(\w+)"')
_HIDDEN_ROW = re.compile(rb' hidden="(?:1|true)"| ht="0(?:\.0*)?"')


class SheetRows:
    """
    Reads a sheet.

    Args:
        sheet: The XML of the sheet.
        texts: The shared texts, which cells refer to by number.
        plain: The styles that show a text unchanged.
        cell_of: Makes all other cells.

    Attributes:
        hidden_columns: The indexes of hidden columns, from 0. Complete once the first row was read.
    """

    def __init__(self, sheet: IO[bytes], texts: SharedTexts, plain: frozenset[int], cell_of: CellOf) -> None:
        self._sheet = sheet
        self._texts = texts
        self._plain = plain
        self._cell_of = cell_of
        self._number = 0
        self._places = _Places()
        # Caches. By the attributes of a row: whether it is hidden. By the attributes of a cell: its kind, its style,
        # and whether it is a shared text that is shown unchanged.
        self._hides: dict[bytes, bool] = {}
        self._kinds: dict[bytes, tuple[str, int, bool]] = {}
        self.hidden_columns: set[int] = set()

    def __iter__(self) -> Iterator[list[Cell]]:
        """
        Yield the rows from row 1 on. A row that the file omits is empty.

        Raises:
            ValueError: The file is damaged, as with the other errors in ``DAMAGED``.
        """
        parser = _RowParser(self)
        try:
            yield from self._read_with(parser)
        finally:
            parser.close()

    def _read_with(self, parser: "_RowParser") -> Iterator[list[Cell]]:
        waiting = b""
        while block := self._sheet.read(BLOCK_BYTES):
            waiting += block
            end = waiting.rfind(_ROW_END) + len(_ROW_END)
            if end < len(_ROW_END):
                if len(waiting) < _MAX_WAITING and parser.simple:
                    continue
                end = len(waiting)
            piece, waiting = waiting[:end], waiting[end:]
            found = _find_simple(piece) if parser.simple else []
            yield from self._simple_rows(found) if found else parser.read(piece)
        yield from parser.read(waiting, last=True)

    def start_row(self, number: int, rows: list[list[Cell]], *, hidden: bool) -> list[Cell]:
        """Append omitted rows and then a new row with this *number* (0: the next) to *rows*. Return the new row."""
        number = number or self._number + 1
        if not self._number < number <= _MAX_ROWS:
            raise ValueError("the rows of the sheet are not in order")
        if number != self._number + 1:
            rows.extend([] for _ in range(self._number + 1, number))
        self._number = number
        row: list[Cell] = HiddenRow() if hidden else []
        rows.append(row)
        return row

    def add_cell(self, row: list[Cell], place: int, cell: tuple[str, int, str], *, formula: bool) -> None:
        """Append omitted cells up to *place*, then this cell, to *row*."""
        if place != len(row):
            _fill(row, place)
        row.append(self._cell_of(*cell, formula))

    def _simple_rows(self, found: list[tuple[bytes, ...]]) -> list[list[Cell]]:
        rows: list[list[Cell]] = []
        row: list[Cell] = []
        hides, kinds, places, text_of = self._hides, self._kinds, self._places, self._texts.get
        for number, of_row, column, of_cell, value, inline in found:
            if number:
                if of_row not in hides:
                    hides[of_row] = _HIDDEN_ROW.search(of_row) is not None
                row = self.start_row(int(number), rows, hidden=hides[of_row])
            if column:
                if of_cell not in kinds:
                    kinds[of_cell] = self._kind_and_style(of_cell)
                kind, style, is_text = kinds[of_cell]
                place = places[column]
                if is_text and place == len(row) and value:
                    row.append(text_of(int(value)))
                else:
                    self.add_cell(row, place, (kind, style, (value or inline).decode()), formula=False)
        return rows

    def _kind_and_style(self, attributes: bytes) -> tuple[str, int, bool]:
        """Return the cell's kind, its style, and whether it is a shared text that is shown unchanged."""
        said = {name: value.decode() for name, value in _ATTRIBUTE.findall(attributes)}
        kind, style = said.get(b"t", "n"), int(said.get(b"s", 0))
        return kind, style, kind == "s" and style in self._plain


def _find_simple(piece: bytes) -> list[tuple[bytes, ...]]:
    """Return the cells of *piece* if all of them are simple, else an empty list."""
    if not piece.lstrip().startswith(b"<row ") or b"&" in piece:
        return []
    found = _SIMPLE.findall(piece)
    without_row = [each[0] for each in found].count(b"")
    without_cell = [each[2] for each in found].count(b"")
    rows, cells = len(found) - without_row + without_cell, len(found) - without_cell
    closing = piece.count(b"</") + piece.count(b"<v>") + 2 * piece.count(b"<is>")
    return found if piece.count(b"<") == rows + cells + closing else []  # more tags: _SIMPLE has missed something


def _fill(row: list[Cell], place: int) -> None:
    """
    Append blank cells up to *place*.

    Raises:
        ValueError: The row is longer already, or *place* is beyond the last possible column.
    """
    if not len(row) <= place < _MAX_COLUMNS:
        raise ValueError("the cells of the row are not in order")
    row += [""] * (place - len(row))


class _Places(dict[bytes, int]):
    """The indexes of columns by name: ``A`` is 0, ``AA`` is 26."""

    def __missing__(self, column: bytes) -> int:
        place = reduce(lambda place, letter: place * 26 + letter - ord("A") + 1, column, 0) - 1
        self[column] = place
        return place


class _RowParser:
    """Reads rows with an XML parser."""

    def __init__(self, sheet: SheetRows) -> None:
        self._sheet = sheet
        self._parser = safe_parser(self._start_element, self._end_element, self._add_cell_letters)
        self._parser.XmlDeclHandler = self._declare
        self._parser.CommentHandler = self._parser.StartCdataSectionHandler = self._meet_other
        self._rows: list[list[Cell]] = []
        self._row: list[Cell] = []
        self._cell: tuple[int, str, int] = (0, "", 0)
        self._letters: list[str] = []
        self._formula = False
        self._hidden = 0  # the depth within <rPh> (how a text is pronounced), which no cell shows
        self._reads = False
        self._as_it_stands = True  # whether the file is UTF-8 without comments, so that _SIMPLE can read it
        self._in_table = self._in_row = False

    @property
    def simple(self) -> bool:
        """Whether the next bytes are the start of a row, which ``_SIMPLE`` may read."""
        return self._as_it_stands and self._in_table and not self._in_row

    def close(self) -> None:
        """Break the reference cycle of sheet and parser, which would keep all texts in memory."""
        self._parser.StartElementHandler = self._parser.EndElementHandler = self._parser.CharacterDataHandler = None
        self._parser.XmlDeclHandler = self._parser.CommentHandler = self._parser.StartCdataSectionHandler = None

    def read(self, data: bytes, *, last: bool = False) -> list[list[Cell]]:
        """Return the rows that end in *data*."""
        self._parser.Parse(data, last)
        whole, self._rows = self._rows, []
        if self._in_row:
            self._rows.append(whole.pop())
        return whole

    def _declare(self, _: str, encoding: str | None, __: int) -> None:
        self._as_it_stands = (encoding or "utf-8").casefold() == "utf-8"

    def _meet_other(self, *_: object) -> None:
        """Note a comment or a CDATA section: from now on only the XML parser can read the sheet."""
        self._as_it_stands = False

    def _start_element(self, name: str, attributes: dict[str, str]) -> None:
        name = local(name)
        if name == "c":
            self._start_cell(attributes)
        elif name in {"v", "t"}:
            self._reads = not self._hidden
        elif name == "f":
            self._formula = True
        elif name == "row":
            self._in_row = True
            hidden = attributes.get("hidden") in {"1", "true"} or not float(attributes.get("ht", 1))
            self._row = self._sheet.start_row(int(attributes.get("r", 0)), self._rows, hidden=hidden)
        elif name == "rPh":
            self._hidden += 1
        elif name == "sheetData":
            self._in_table = True
        elif name == "col" and (attributes.get("hidden") in {"1", "true"} or not float(attributes.get("width", 1))):
            last = min(int(attributes["max"]), _MAX_COLUMNS)
            self._sheet.hidden_columns.update(range(int(attributes["min"]) - 1, last))

    def _start_cell(self, attributes: dict[str, str]) -> None:
        column = re.match("[A-Z]{1,3}", attributes.get("r", ""))
        place = len(self._row) if column is None else _place_of(column[0])
        self._cell = place, attributes.get("t", "n"), int(attributes.get("s", 0))
        self._letters.clear()
        self._formula = False

    def _end_element(self, name: str) -> None:
        name = local(name)
        self._reads = False
        if name == "c":
            place, kind, style = self._cell
            cell = kind, style, "".join(self._letters)
            self._sheet.add_cell(self._row, place, cell, formula=self._formula)
        elif name == "row":
            self._in_row = False
        elif name == "rPh":
            self._hidden -= 1
        elif name == "sheetData":
            self._in_table = False

    def _add_cell_letters(self, letters: str) -> None:
        if self._reads:
            self._letters.append(letters)


def _place_of(column: str) -> int:
    return _Places()[column.encode()]
