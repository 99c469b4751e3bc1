"""
Finds uniform rows of a sheet: rows whose XML differs only in the row number and the values of the cells.

Nearly all rows of a long sheet are uniform. A regular expression that is made from the first row reads all of them.
Often the number in each column also grows by the same step from row to row, as the numbers of shared texts do. Then it
is even faster to generate the XML that such rows would have, and to compare it with the sheet.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain

from attrs import frozen

ROW_END = b"</row>"
_MAX_ROW_BYTES = 2**10  # for a longer row, making the regular expression takes longer than it saves
# A cell with a number. The groups are the letters of its column, and its attributes.
_CELL = rb'<c r="([A-Z]{1,2})\d+"([^<>]*)><v>\d+</v></c>'
_ROW = re.compile(rb'<row r="\d{1,7}"([^<>]*)>(?:%b)+</row>' % _CELL)
_CELLS = re.compile(_CELL)


@frozen
class UniformRows:
    """
    Consecutive, uniform rows.

    Attributes:
        first: The number of the first row.
        count: How many rows there are.
        attributes: The attributes of each row, without its number.
        columns: For each cell of a row: its column letters, its attributes, and its values as bytes or as a range.
    """

    first: int
    count: int
    attributes: bytes
    columns: list[tuple[bytes, bytes, Sequence[bytes] | range]]


def find_uniform_rows(piece: bytes) -> UniformRows | None:
    """Return the rows of *piece*, or None if they aren't uniform."""
    row = piece[: piece.find(ROW_END) + len(ROW_END)]
    match = _ROW.fullmatch(row) if len(row) <= _MAX_ROW_BYTES else None
    if match is None:
        return None
    attributes: bytes = match[1]
    cells: list[tuple[bytes, bytes]] = _CELLS.findall(row)
    pattern = _pattern(attributes, tuple(cells))
    ranges = _find_ranges(pattern, piece, _template(attributes, cells))
    if ranges:
        return UniformRows(ranges[0].start, len(ranges[0]), attributes, _pair_columns(cells, ranges[1:]))
    rows = pattern.findall(piece)
    if row.count(b"<") * len(rows) != piece.count(b"<"):  # the pattern has missed something
        return None
    numbers, *values = zip(*rows, strict=True)
    first = int(numbers[0])
    if list(map(int, numbers)) != list(range(first, first + len(rows))):
        return None
    return UniformRows(first, len(rows), attributes, _pair_columns(cells, values))


def _pair_columns(
    cells: list[tuple[bytes, bytes]], values: Iterable[Sequence[bytes] | range]
) -> list[tuple[bytes, bytes, Sequence[bytes] | range]]:
    """Return the columns for ``UniformRows.columns``: the attributes of each cell with its values in all rows."""
    return [(*cell, value) for cell, value in zip(cells, values, strict=True)]


def _find_ranges(pattern: re.Pattern[bytes], piece: bytes, template: bytes) -> list[range]:
    """Return the row numbers and the values of each cell as ranges, if the first two rows predict all others."""
    first = pattern.match(piece)
    second = pattern.match(piece, first.end()) if first else None
    if first is None or second is None:
        return []
    count = piece.count(ROW_END)
    ranges: list[range] = []
    for start, second_value in zip(map(int, first.groups()), map(int, second.groups()), strict=True):
        step = second_value - start
        stop = start + step * count
        if not step or stop < step:  # a range needs a step, and no number is negative
            return []
        ranges.append(range(start, stop, step))
    numbers, *values = ranges
    if numbers.step != 1:
        return []
    columns = [numbers, *chain.from_iterable((numbers, value_range) for value_range in values)]
    numbers_in_order = [0] * (count * len(columns))
    for index, column in enumerate(columns):
        numbers_in_order[index :: len(columns)] = column
    return ranges if piece == template * count % tuple(numbers_in_order) else []


def _template(attributes: bytes, cells: list[tuple[bytes, bytes]]) -> bytes:
    """Return a row as a template for the operator ``%`` of bytes. Each cell takes its row number and its value."""
    row_attributes, *cell_parts = (part.replace(b"%", b"%%") for part in (attributes, *chain.from_iterable(cells)))
    cells_xml = b"".join(
        b'<c r="%b%%d"%b><v>%%d</v></c>' % cell for cell in zip(cell_parts[::2], cell_parts[1::2], strict=True)
    )
    return b'<row r="%%d"%b>%b</row>' % (row_attributes, cells_xml)


@lru_cache
def _pattern(attributes: bytes, cells: tuple[tuple[bytes, bytes], ...]) -> re.Pattern[bytes]:
    """Return a pattern for rows with these attributes and cells. Its groups are the row number and the values."""
    cell_patterns = (
        rb'<c r="%b\1"%b><v>(\d+)</v></c>' % (letters, re.escape(cell_attributes)) for letters, cell_attributes in cells
    )
    return re.compile(rb'<row r="(\d{1,7})"%b>%b</row>' % (re.escape(attributes), b"".join(cell_patterns)))
