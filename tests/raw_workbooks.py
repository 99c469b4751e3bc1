"""Workbooks written by hand, as programs other than Excel write them."""

import io
import zipfile

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def raw_workbook(sheet: str | bytes, *, texts: str = "", formats: tuple[str, ...] = (), **parts: str | bytes) -> bytes:
    """
    A workbook with one sheet.

    Args:
        sheet: Its XML; or what is in ``<worksheet>``.
        texts: What is in ``<sst>``.
        formats: Number formats; cells with ``s="1"`` have the first one.
        parts: In the place of others: ``book``, ``related``, ``root``.
    """
    codes = "".join(f'<numFmt numFmtId="{170 + number}" formatCode="{code}"/>' for number, code in enumerate(formats))
    styles = "".join(f'<xf numFmtId="{170 + number}"/>' for number in range(len(formats)))
    if isinstance(sheet, str) and not sheet.startswith("<?xml"):
        sheet = f'<worksheet xmlns="{_MAIN}">{sheet}</worksheet>'
    files: dict[str, str | bytes] = {
        "_rels/.rels": parts.get("root", related(("r1", "officeDocument", "xl/workbook.xml"))),
        "xl/workbook.xml": parts.get(
            "book",
            f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATED}">'
            '<sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        ),
        "xl/_rels/workbook.xml.rels": parts.get(
            "related",
            related(
                ("r1", "worksheet", "worksheets/sheet1.xml"),
                ("r2", "styles", "styles.xml"),
                ("r3", "sharedStrings", "/xl/sharedStrings.xml"),
            ),
        ),
        "xl/worksheets/sheet1.xml": sheet,
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><numFmts>{codes}</numFmts>'
        f'<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs><xf numFmtId="0"/>{styles}</cellXfs></styleSheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{_MAIN}">{texts}</sst>',
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        for name, content in files.items():
            book.writestr(name, content)
    return file.getvalue()


def related(*references: tuple[str, str, str]) -> str:
    """The references of a part: their keys, their kinds, and where they lead."""
    each = "".join(
        f'<Relationship Id="{key}" Type="{_RELATED}/{kind}" Target="{target}"/>' for key, kind, target in references
    )
    return f'<Relationships xmlns="{_PACKAGE}">{each}</Relationships>'


def rows_of(*cells: str, attributes: str = "") -> str:
    """``<sheetData>`` with each of *cells*, XML with ``@`` in the place of its address, in a row of its own."""
    rows = (
        f'<row r="{number}"{attributes}>{cell.replace("@", f"A{number}")}</row>' for number, cell in enumerate(cells, 1)
    )
    return f"<sheetData>{''.join(rows)}</sheetData>"
