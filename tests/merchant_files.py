"""Makes files of card keys with the exact bytes that common programs write."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import xlsxwriter  # type: ignore[import-untyped]  # the package has no types

KEYS = ["卡密-0001", "PLAIN-0002", "卡密-0003"]
HEADING = ["编号", "卡密"]


def _text_file(keys: Sequence[str], end: str = "\r\n") -> str:
    return "".join(f"{key}{end}" for key in keys)


def _separated_rows(keys: Sequence[str], separator: str) -> str:
    rows = [HEADING, *([str(number), key] for number, key in enumerate(keys, 1))]
    return "".join(f"{separator.join(row)}\r\n" for row in rows)


# Functions that return the bytes of a file, by file name. The first file has no line end after its last line: Notepad
# writes none that the user didn't type.
TEXTS: dict[str, Callable[[Sequence[str]], bytes]] = {
    "notepad-utf-8.txt": lambda keys: _text_file(keys).removesuffix("\r\n").encode(),
    "notepad-utf-8-bom.txt": lambda keys: b"\xef\xbb\xbf" + _text_file(keys).encode(),
    "notepad-ansi.txt": lambda keys: _text_file(keys).encode("gbk"),
    "notepad-utf-16-le.txt": lambda keys: b"\xff\xfe" + _text_file(keys).encode("utf-16-le"),
    "notepad-utf-16-be.txt": lambda keys: b"\xfe\xff" + _text_file(keys).encode("utf-16-be"),
    "powershell-5.txt": lambda keys: b"\xff\xfe" + _text_file(keys).encode("utf-16-le"),
    "iconv-gb18030.txt": lambda keys: _text_file(keys, "\n").encode("gb18030"),
    "iconv-utf-16.txt": lambda keys: _text_file(keys, "\n").encode("utf-16"),
    "iconv-utf-32.txt": lambda keys: _text_file(keys, "\n").encode("utf-32"),
    "iconv-gb18030-rare.txt": lambda keys: _text_file([*keys, "卡密-㐂"], "\n").encode("gb18030"),
}
TABLES: dict[str, Callable[[Sequence[str]], bytes]] = {
    "excel-csv-utf-8.csv": lambda keys: b"\xef\xbb\xbf" + _separated_rows(keys, ",").encode(),
    "excel-csv.csv": lambda keys: _separated_rows(keys, ",").encode("gbk"),
    "excel-semicolons.csv": lambda keys: b"\xef\xbb\xbf" + _separated_rows(keys, ";").encode(),
    "excel-unicode-text.tsv": lambda keys: b"\xff\xfe" + _separated_rows(keys, "\t").encode("utf-16-le"),
    "wps.csv": lambda keys: _separated_rows(keys, ",").encode("gbk"),
    "excel.xlsx": lambda keys: workbook([[*HEADING], *([number, key] for number, key in enumerate(keys, 1))]),
    "wps.xlsx": lambda keys: workbook(
        [[], ["", *HEADING], *(["", f"{number}", key] for number, key in enumerate(keys, 1))], shared=False
    ),
}


def workbook(
    rows: Sequence[Sequence[object]],
    *more: Sequence[Sequence[object]],
    shared: bool = True,
    number_format: str = "General",
    hidden: bool = False,
) -> bytes:
    """
    Return a workbook with one sheet for each table.

    Args:
        rows: The first sheet. Text is written as text, even if it looks like a number or a formula.
        more: Further sheets.
        shared: Whether texts are in one shared table, as Excel writes them, or in the cells, as other programs do.
        number_format: The format of numbers.
        hidden: Whether the last sheet is hidden.
    """
    file = io.BytesIO()
    book: Any = xlsxwriter.Workbook(file, {"constant_memory": not shared})
    numbers = book.add_format({"num_format": number_format})
    for table in (rows, *more):
        sheet = book.add_worksheet()
        for row, cells in enumerate(table):
            for column, cell in enumerate(cells):
                if isinstance(cell, bool):
                    sheet.write_boolean(row, column, cell)
                elif isinstance(cell, int | float):
                    sheet.write_number(row, column, cell, numbers)
                elif cell:
                    sheet.write_string(row, column, cell)
    if hidden:
        sheet.hide()
    book.close()
    return file.getvalue()
