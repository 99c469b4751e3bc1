"""Writes tables of card keys. The suffix of the file's name decides the format."""

import codecs
import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from gatepay_async.cli.files.columns import EXPORTED_COLUMN
from gatepay_async.cli.files.encodings import WIDE

MAX_ROWS = 1_048_576  # the limit of an Excel sheet
_MAX_CELL_CHARS = 32_767  # the limit of an Excel cell

OutputRow = Sequence[object]


class CantHoldError(Exception):
    """
    A format can't hold a card key.

    Args:
        key: The key of the text in ``words/command.py`` that says why.
        facts: The values for that text.
    """

    def __init__(self, key: str, **facts: object) -> None:
        super().__init__(key)
        self.key = key
        self.facts = facts


class Writer(ABC):
    """
    Writes rows to *file*.

    Args:
        file: A binary file.
        columns: The names of the columns. One of them is ``EXPORTED_COLUMN``.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[str]) -> None:
        self._file = file
        self._columns = columns
        self._key_index = columns.index(EXPORTED_COLUMN)

    @abstractmethod
    def write(self, rows: Iterable[OutputRow]) -> None:
        """Write the next *rows*."""

    @abstractmethod
    def close(self) -> None:
        """Write buffered data. The file stays open."""


class TextWriter(Writer):
    """
    Writes one card key on each line.

    Args:
        encoding: The encoding of the file.
        with_heading: Whether to write a heading first.
        refuse_line_breaks: Whether to refuse a card key with a line break.
    """

    def __init__(
        self, file: BinaryIO, columns: Sequence[str], *, encoding: str, with_heading: bool, refuse_line_breaks: bool
    ) -> None:
        super().__init__(file, columns)
        self._refuse_line_breaks = refuse_line_breaks
        errors = "surrogateescape" if encoding not in WIDE else "surrogatepass"
        self._encode = codecs.getincrementalencoder(encoding)(errors).encode
        if with_heading:
            file.write(self._encode(f"{EXPORTED_COLUMN}\n"))

    def write(self, rows: Iterable[OutputRow]) -> None:
        """
        Write the next *rows*.

        Raises:
            CantHoldError: A card key has a line break.
        """
        for row in rows:
            key = str(row[self._key_index])
            if self._refuse_line_breaks and ("\n" in key or "\r" in key):
                raise CantHoldError("export.line_break")
            self._file.write(self._encode(f"{key}\n"))

    def close(self) -> None:
        """Do nothing, because all rows are written at once."""


class CsvWriter(Writer):
    """
    Writes comma-separated or tab-separated values.

    Args:
        delimiter: The character between two cells.
        excel: Whether the file is for Excel. Then it starts with a byte-order mark, from which Excel recognizes the
            encoding. Each text starts with a tab, so that Excel doesn't convert it to a number, date or formula. The
            upload strips this tab.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[str], *, delimiter: str = ",", excel: bool = False) -> None:
        super().__init__(file, columns)
        self._text = io.StringIO(newline="")
        end = "\r\n" if excel else "\n"
        self._writer = csv.writer(self._text, delimiter=delimiter, lineterminator=end)
        # Python before 3.13 doesn't quote a lone carriage return, which CSV readers can't parse.
        self._quoting_writer = csv.writer(self._text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        self._excel = excel
        if excel:
            file.write(codecs.BOM_UTF8)
        self._writer.writerow(columns)

    def write(self, rows: Iterable[OutputRow]) -> None:
        """Write the next *rows*."""
        for row in rows:
            cells = [f"\t{cell}" if self._excel and isinstance(cell, str) else cell for cell in row]
            has_carriage_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
            (self._quoting_writer if has_carriage_return else self._writer).writerow(cells)
        self.close()

    def close(self) -> None:
        """Write buffered data."""
        self._file.write(self._text.getvalue().encode("utf-8", "surrogatepass"))
        self._text.seek(0)
        self._text.truncate()


class JsonWriter(Writer):
    """
    Writes one JSON object on each line.

    Args:
        fields: The columns to write; empty: all. An unknown column is null.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[str], *, fields: Sequence[str] = ()) -> None:
        super().__init__(file, columns)
        self._column_indexes = {name: columns.index(name) if name in columns else None for name in fields or columns}

    def write(self, rows: Iterable[OutputRow]) -> None:
        """Write the next *rows*."""
        for row in rows:
            named = {name: None if index is None else row[index] for name, index in self._column_indexes.items()}
            line = json.dumps(named, ensure_ascii=False)
            try:
                data = line.encode()
            except UnicodeEncodeError:  # a lone surrogate has no UTF-8 encoding
                data = json.dumps(named).encode()
            self._file.write(data + b"\n")

    def close(self) -> None:
        """Do nothing, because all rows are written at once."""


class ExcelWriter(Writer):
    """
    Writes a workbook with card keys as text. Rows are written one by one, so that memory stays small.

    Args:
        folder: The folder for temporary files.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[str], *, folder: str) -> None:
        super().__init__(file, columns)
        import xlsxwriter.exceptions  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs] -- no types

        library: Any = xlsxwriter
        self._cant_create: type[Exception] = library.exceptions.FileCreateError
        self._book: Any = library.Workbook(file, {"constant_memory": True, "tmpdir": folder})
        self._as_text = self._book.add_format({"num_format": "@"})
        self._next_row = MAX_ROWS  # as if a sheet were full: write() then adds the first one

    def write(self, rows: Iterable[OutputRow]) -> None:
        """
        Write the next *rows*.

        Raises:
            CantHoldError: A card key is longer than a cell can be.
        """
        for row in rows:
            if self._next_row >= MAX_ROWS:
                self._add_sheet()
            for index, cell in enumerate(row):
                if not isinstance(cell, str):
                    self._sheet.write_number(self._next_row, index, cell)
                elif len(cell.encode("utf-16-le", "surrogatepass")) // 2 > _MAX_CELL_CHARS:
                    raise CantHoldError("export.long_cell", most=_MAX_CELL_CHARS)
                elif cell:
                    self._sheet.write_string(self._next_row, index, cell, self._as_text)
            self._next_row += 1

    def close(self) -> None:
        """Write the workbook."""
        if self._next_row == MAX_ROWS:
            self._add_sheet()
        try:
            self._book.close()
        except self._cant_create as error:
            raise error.args[0] from None  # the original OSError, such as for a full disk

    def close_temporary_files(self) -> None:
        """Close the temporary files, whether the workbook is complete or not."""
        for sheet in self._book.worksheets():
            sheet._opt_close()  # noqa: SLF001 -- no public method closes the temporary file of a sheet

    def _add_sheet(self) -> None:
        self._sheet = self._book.add_worksheet()
        self._sheet.set_column(self._key_index, self._key_index, 40, self._as_text)  # 40 characters wide
        for index, name in enumerate(self._columns):
            self._sheet.write_string(0, index, name)
        self._next_row = 1


# open_writer() also knows .jsonl and .xlsx, and writes files with any other suffix as text.
_DELIMITER_OF_ENDING = {".csv": ",", ".tsv": "\t"}
ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".xlsx")


@contextmanager
def open_writer(
    path: Path,
    file: BinaryIO,
    columns: Sequence[str],
    *,
    fields: Sequence[str] = (),
    encoding: str = "utf-8",
    with_heading: bool = False,
    excel: bool = False,
    refuse_line_breaks: bool = False,
) -> Generator[Writer]:
    """
    Open a writer for the format of *path*. If the block ends without an error, everything is written to *file*.

    Args:
        path: The name that the file will have.
        file: A binary file.
        columns: The names of the columns. One of them is ``EXPORTED_COLUMN``.
        fields: The columns to write to a JSON file; empty: all.
        encoding: The encoding of a text file.
        with_heading: Whether a text file gets a heading.
        excel: Whether a CSV file is for Excel.
        refuse_line_breaks: Whether to refuse card keys with a line break in a text file.
    """
    ending = path.suffix.lower()
    writer: Writer
    with ExitStack() as stack:
        if ending in _DELIMITER_OF_ENDING:
            writer = CsvWriter(file, columns, delimiter=_DELIMITER_OF_ENDING[ending], excel=excel)
        elif ending == ".jsonl":
            writer = JsonWriter(file, columns, fields=fields)
        elif ending == ".xlsx":
            # The temporary files hold card keys, so they are in a folder that only its owner can read.
            folder = stack.enter_context(TemporaryDirectory(prefix=".gatepay-", dir=path.parent))
            writer = book = ExcelWriter(file, columns, folder=folder)
            stack.callback(book.close_temporary_files)
        else:
            writer = TextWriter(
                file, columns, encoding=encoding, with_heading=with_heading, refuse_line_breaks=refuse_line_breaks
            )
        yield writer
        writer.close()
