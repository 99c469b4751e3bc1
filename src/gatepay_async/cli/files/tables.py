"""CSV, TSV and JSON Lines: lines to card keys, in the order of the rows."""

import csv
import json
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, cast

from gatepay_async.cli.files import columns
from gatepay_async.cli.files.odd import is_exponent
from gatepay_async.cli.files.reading import FileProblemError, Reading, Refused

Cell = str | Refused
Keys = Iterator[Cell]
_BAD = object()  # no JSON
_SEPARATOR = re.compile(r'sep=([^"])', re.IGNORECASE)
_MAX_LOOKED_AT = 10  # rows that may stand above the headings
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}


def csv_rows(lines: Iterable[str], suffix: str) -> Iterator[list[Cell]]:
    """
    The rows of a CSV or TSV file.

    A semicolon or a tab separates the cells of a CSV file whose first line that isn't blank has one, and no comma; or
    what this line says, if it is one for Excel, such as ``sep=;``.

    Raises:
        FileProblemError: They are none, from this row on.
    """
    source = iter(lines)
    start: list[str] = []
    for line in source:
        start.append(line)
        if line.strip():
            break
    first = start[-1] if start else ""
    known = _DELIMITERS[suffix]
    delimiter = next((each for each in known[1:] if each in first and "," not in first), known[0])
    said = _SEPARATOR.fullmatch(first.rstrip("\r"))
    if said is not None:
        delimiter, start[-1] = said[1], ""
    rows = csv.reader((f"{line}\n" for line in chain(start, source)), delimiter=delimiter, strict=True)
    number = 0
    try:
        for row in rows:
            number += 1
            yield [Refused("sources.exponent", {}) if is_exponent(cell.strip()) else cell for cell in row]
    except csv.Error:
        raise FileProblemError("sources.no_csv", line=number + 1) from None


def json_rows(lines: Iterable[str], reading: Reading) -> Keys:
    """
    The card keys of a file with one JSON object, or one JSON text, in each line.

    Raises:
        FileProblemError: Which column they are in is not known.
    """
    name: str | None = None
    value: Any
    for number, line in enumerate(lines, 1):
        if not line.strip():
            yield ""
            continue
        value = _json_value(line)
        if value is _BAD:
            raise FileProblemError("sources.no_json", line=number)
        if isinstance(value, dict):
            row = cast("dict[str, Any]", value)
            name = _json_column(row, reading.column) if name is None else name
            value = row.get(name)
        yield value if isinstance(value, str | Refused) else Refused("sources.no_text", {})


def keys_of(rows: Iterable[Sequence[Cell]], reading: Reading, hidden_columns: Container[int] = ()) -> tuple[int, Keys]:
    """
    The card keys of a table.

    Returns:
        The number of the first row that may hold one, from 1; and the card keys of the rows from there on, blank where
        a row has none.

    Args:
        rows: All of it.
        reading: What the user has said.
        hidden_columns: The places of columns that nobody sees; with the first row at the latest.

    Raises:
        FileProblemError: Which column they are in is not known, or it is hidden and nobody has named it.
    """
    source = iter(rows)
    number = 0
    for row in source:
        number += 1
        first = _without_blanks(row)
        if first:
            break
    else:
        return 1, iter(())
    if _is_title(first):
        ahead = list(islice(source, _MAX_LOOKED_AT))
        below = _find_heading(ahead, number)
        if below:
            number, first = number + below, _without_blanks(ahead[below - 1])
        source = chain(ahead[below:], source)
    place, heading = columns.choose(_names(first), reading.column)
    if place in hidden_columns and not reading.column:
        raise FileProblemError("sources.hidden_column")
    alone = not reading.column and not any(cell for other, cell in enumerate(first) if other != place)
    keys = (_cell(each, place, alone=alone) for each in source)
    if heading or reading.skip_heading:
        return number + 1, keys
    return number, chain((_cell(first, place, alone=alone),), keys)


def _is_title(row: Sequence[Cell]) -> bool:
    """Whether *row*, the first one, may be a title: one text, and no heading."""
    return _count_filled(row) == 1 and not columns.are_names(_names(row))


def _find_heading(rows: Sequence[Sequence[Cell]], number: int) -> int:
    """
    How far below row *number* the headings of several columns are, or 0.

    Raises:
        FileProblemError: There is one of a single column: whether what stands above it is a card key can't be said.
    """
    for place, row in enumerate(rows, 1):
        alone = _count_filled(row) == 1
        if columns.are_names(_names(row)):
            if alone:
                raise FileProblemError("sources.title", line=number + place)
            return place
        if not alone and _count_filled(row):
            break
    return 0


def _count_filled(row: Sequence[Cell]) -> int:
    return sum(not isinstance(cell, str) or bool(cell.strip()) for cell in row)


def _names(row: Sequence[Cell]) -> list[str]:
    return [cell if isinstance(cell, str) else "0" for cell in row]


def _cell(row: Sequence[Cell], place: int, *, alone: bool) -> Cell:
    """The cell at *place*; refused if it should be *alone*, and others are there too."""
    if alone and len(row) > 1 and any(cell for other, cell in enumerate(row) if other != place):
        return Refused("sources.more_cells", {})
    return row[place] if place < len(row) else ""


def _without_blanks(row: Sequence[Cell]) -> list[Cell]:
    """*row* without the blank cells at its end."""
    cells = list(row)
    while cells and isinstance(cells[-1], str) and not cells[-1].strip():
        cells.pop()
    return cells


def _json_column(row: dict[str, Any], wanted: str) -> str:
    """The name of the column; the names of the first object are the heading."""
    names = list(row)
    if columns.EXPORTED in names and not wanted:
        return columns.EXPORTED
    if not names:
        raise FileProblemError("sources.which_column", columns="–", likely=columns.EXPORTED)
    try:
        place, _ = columns.choose(names, wanted)
    except FileProblemError as problem:
        problem.facts["columns"] = ", ".join(f"{number} ({name[:20]})" for number, name in enumerate(names, 1))
        raise
    return names[place]


def _json_value(line: str) -> Any:
    """What *line* says, or ``_BAD``. An error would hold the line, and ends here."""
    try:
        return json.loads(line, parse_int=str, parse_float=_a_float)
    except (ValueError, RecursionError):
        return _BAD


def _a_float(_: str) -> Refused:
    return Refused("sources.float", {})
