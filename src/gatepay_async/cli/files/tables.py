"""Reads card keys from CSV, TSV and JSON Lines, in the order of the rows."""

import csv
import json
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from operator import add, itemgetter
from typing import Any, cast

from gatepay_async.cli.files import columns
from gatepay_async.cli.files.odd import is_exponent
from gatepay_async.cli.files.reading import FileProblemError, Reading, Refused

Cell = str | Refused
Keys = Iterator[Cell]
_INVALID_JSON = object()  # what _json_value() returns for invalid JSON
_SEPARATOR = re.compile(r'sep=([^"])', re.IGNORECASE)  # Excel's own first line
_MAX_ROWS_BELOW_TITLE = 10  # how far below a title the headings may be
_BLOCK_ROWS = 64  # rows to read at once; few, because a row can have 65,536 cells
_POSSIBLE_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}


def csv_rows(lines: Iterable[str], suffix: str) -> Iterator[list[str]]:
    """
    Yield the rows of a CSV or TSV file.

    The first line that isn't blank decides the delimiter of a CSV file: a comma if the line has one, else a semicolon
    or a tab. Excel's own line ``sep=;`` names the delimiter.

    Raises:
        FileProblemError: The file is invalid from this row on.
    """
    source = iter(lines)
    start: list[str] = []
    for line in source:
        start.append(line)
        if line.strip():
            break
    first_line = start[-1] if start else ""
    delimiters = _POSSIBLE_DELIMITERS[suffix]
    used_delimiters = (character for character in delimiters[1:] if character in first_line and "," not in first_line)
    delimiter = next(used_delimiters, delimiters[0])
    separator_line = _SEPARATOR.fullmatch(first_line.rstrip("\r"))
    if separator_line is not None:
        delimiter, start[-1] = separator_line[1], ""
    rows = csv.reader(map(add, chain(start, source), repeat("\n")), delimiter=delimiter, strict=True)
    row_number = 0
    while block := _next_rows(rows, row_number):
        row_number += len(block)
        yield from block


def _next_rows(rows: Iterator[list[str]], row_number: int) -> list[list[str]]:
    """Return the next rows, at most ``_BLOCK_ROWS``. *row_number* is the number of the row before them."""
    block: list[list[str]] = []
    try:
        block.extend(islice(rows, _BLOCK_ROWS))
    except csv.Error:  # the block has the rows before the error
        raise FileProblemError("sources.no_csv", line=row_number + len(block) + 1) from None
    except FileProblemError as problem:
        # Replace the number of the line with that of the row, which may have several lines.
        problem.line = problem.line and row_number + len(block) + 1
        raise
    return block


def refuse_exponents(keys: Keys) -> Keys:
    """Refuse the card keys that a spreadsheet has converted to numbers, such as ``1.23E+15``."""
    refused = Refused("sources.exponent", {})
    return (refused if isinstance(key, str) and "E+" in key and is_exponent(key.strip()) else key for key in keys)


def json_rows(lines: Iterable[str], reading: Reading) -> Keys:
    """
    Yield the card keys of a file with one JSON object, or one JSON string, in each line.

    Raises:
        FileProblemError: A line is invalid, or the user must name the column.
    """
    name: str | None = None
    value: Any
    for number, line in enumerate(lines, 1):
        if not line.strip():
            yield ""
            continue
        value = _json_value(line)
        if value is _INVALID_JSON:
            raise FileProblemError("sources.no_json", line=number)
        if isinstance(value, dict):
            row = cast("dict[str, Any]", value)
            name = _json_column(row, reading.column) if name is None else name
            value = row.get(name)
        yield value if isinstance(value, str | Refused) else Refused("sources.no_json_text", {})


def keys_of(
    rows: Iterable[Sequence[Cell]], reading: Reading, hidden_columns: Container[int] = ()
) -> tuple[int, int, Keys]:
    """
    Return the card keys of a table.

    Args:
        rows: All rows.
        reading: The user's options.
        hidden_columns: The indexes of hidden columns. *rows* adds them when it yields its first row.

    Returns:
        The number of the first row below the heading, from 1; the index of the column with the card keys; and the card
        keys from that row on, empty where a row has none.

    Raises:
        FileProblemError: The user must name the column, because it isn't clear or is hidden.
    """
    source = iter(rows)
    row_number = 0
    for row in source:
        row_number += 1
        first_row = _without_blanks(row)
        if first_row:
            break
    else:
        return 1, 0, iter(())
    if _is_title(first_row):
        next_rows = list(islice(source, _MAX_ROWS_BELOW_TITLE))
        distance = _find_heading(next_rows, row_number)
        if distance:
            row_number, first_row = row_number + distance, _without_blanks(next_rows[distance - 1])
        source = chain(next_rows[distance:], source)
    index, is_heading = columns.choose_column(_names(first_row), reading.column)
    if index in hidden_columns and not reading.column:
        raise FileProblemError("sources.hidden_column")
    is_only_column = not reading.column and not _has_other_cells(first_row, index)
    blocks = iter(lambda: list(islice(source, _BLOCK_ROWS)), [])
    keys = chain.from_iterable(_cells(block, index, is_only_column=is_only_column) for block in blocks)
    if is_heading or reading.skip_heading:
        return row_number + 1, index, keys
    return row_number, index, chain((_cell(first_row, index, is_only_column=is_only_column),), keys)


def _is_title(row: Sequence[Cell]) -> bool:
    """Whether the first row may be a title: it has one filled cell, which isn't a common name of a column."""
    return _count_filled(row) == 1 and not columns.contain_column_name(_names(row))


def _find_heading(rows: Sequence[Sequence[Cell]], row_number: int) -> int:
    """
    Find the headings of several columns in *rows*. Return how far below row *row_number* they are, or 0.

    Raises:
        FileProblemError: There is a heading of a single column. The rows above it may be a title or card keys.
    """
    for distance, row in enumerate(rows, 1):
        is_single = _count_filled(row) == 1
        if columns.contain_column_name(_names(row)):
            if is_single:
                raise FileProblemError("sources.title", line=row_number + distance)
            return distance
        if not is_single and _count_filled(row):  # the table has started without a heading
            break
    return 0


def _count_filled(row: Sequence[Cell]) -> int:
    """Return how many cells of *row* are not blank."""
    return sum(not isinstance(cell, str) or bool(cell.strip()) for cell in row)


def _names(row: Sequence[Cell]) -> list[str]:
    """Return the cells as possible names of columns. A refused cell can't be a name, so it becomes ``0``."""
    return [cell if isinstance(cell, str) else "0" for cell in row]


def _cells(rows: list[Sequence[Cell]], index: int, *, is_only_column: bool) -> Iterable[Cell]:
    """Return the cell at *index* of each row. This is faster than ``_cell`` if all rows have that cell."""
    lengths = set(map(len, rows))
    if min(lengths) > index and not (is_only_column and max(lengths) > 1):
        return map(itemgetter(index), rows)
    return [_cell(row, index, is_only_column=is_only_column) for row in rows]


def _cell(row: Sequence[Cell], index: int, *, is_only_column: bool) -> Cell:
    """Return the cell at *index*. If it should be the only one (*is_only_column*), refuse a row with more cells."""
    if is_only_column and len(row) > 1 and _has_other_cells(row, index):
        return Refused("sources.more_cells", {})
    return row[index] if index < len(row) else ""


def _has_other_cells(row: Sequence[Cell], index: int) -> bool:
    """Whether *row* has content outside the column with this *index*."""
    return any(cell for cell_index, cell in enumerate(row) if cell_index != index)


def _without_blanks(row: Sequence[Cell]) -> list[Cell]:
    """Return *row* without the blank cells at its end."""
    cells = list(row)
    while cells and isinstance(cells[-1], str) and not cells[-1].strip():
        cells.pop()
    return cells


def _json_column(row: dict[str, Any], column_option: str) -> str:
    """Return the name of the column with the card keys. The names in the first object serve as the heading."""
    names = list(row)
    if columns.EXPORTED_COLUMN in names and not column_option:
        return columns.EXPORTED_COLUMN
    if not names:
        raise FileProblemError("sources.which_column", columns="–", likely=columns.EXPORTED_COLUMN)
    try:
        index, _ = columns.choose_column(names, column_option)
    except FileProblemError as problem:
        problem.facts["columns"] = ", ".join(f"{number} ({name[:20]})" for number, name in enumerate(names, 1))
        raise
    return names[index]


def _json_value(line: str) -> Any:
    """Parse *line*. Return ``_INVALID_JSON`` if it is invalid, because an error would contain the line."""
    try:
        return json.loads(line, parse_int=str, parse_float=_refuse_float)
    except (ValueError, RecursionError):
        return _INVALID_JSON


def _refuse_float(_: str) -> Refused:
    """Refuse a number with a fraction or an exponent, which may have lost digits."""
    return Refused("sources.float", {})
