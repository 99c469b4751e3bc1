"""
Finds uniform rows of a sheet: rows whose XML differs only in the row number and the values of the cells.

Nearly all rows of a long sheet are uniform. One regular expression, made from the first row, reads them all.
"""

import re
from functools import lru_cache

from attrs import frozen

_ROW_END = b"</row>"
_MAX_ROW_BYTES = 2**10  # of a longer row, making the regular expression takes longer than it saves
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
        columns: The column letters and the attributes of each cell of a row, and its value in each row.
    """

    first: int
    count: int
    attributes: bytes
    columns: list[tuple[bytes, bytes, tuple[bytes, ...]]]


def find_uniform_rows(piece: bytes) -> UniformRows | None:
    """Return the rows of *piece*, or None if they aren't uniform."""
    row = piece[: piece.find(_ROW_END) + len(_ROW_END)]
    found = _ROW.fullmatch(row) if len(row) <= _MAX_ROW_BYTES else None
    if found is None:
        return None
    attributes: bytes = found[1]
    cells: list[tuple[bytes, bytes]] = _CELLS.findall(row)
    rows = _pattern(attributes, tuple(cells)).findall(piece)
    if row.count(b"<") * len(rows) != piece.count(b"<"):
        return None
    numbers, *values = zip(*rows, strict=True)
    first = int(numbers[0])
    if list(map(int, numbers)) != list(range(first, first + len(rows))):
        return None
    columns = [(*letters_and_attributes, column) for letters_and_attributes, column in zip(cells, values, strict=True)]
    return UniformRows(first, len(rows), attributes, columns)


@lru_cache
def _pattern(attributes: bytes, cells: tuple[tuple[bytes, bytes], ...]) -> re.Pattern[bytes]:
    """Return a pattern for rows with these attributes and cells. Its groups are the row number and the values."""
    cell_patterns = (rb'<c r="%b\1"%b><v>(\d+)</v></c>' % (letters, re.escape(each)) for letters, each in cells)
    return re.compile(rb'<row r="(\d{1,7})"%b>%b</row>' % (re.escape(attributes), b"".join(cell_patterns)))
