"""Creates workbooks from XML, to imitate programs other than Excel."""

import io
import zipfile

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def raw_workbook(sheet: str | bytes, *, texts: str = "", formats: tuple[str, ...] = (), **parts: str | bytes) -> bytes:
    """
    Return a workbook with one sheet.

    Args:
        sheet: The XML of the sheet, or the contents of ``<worksheet>``.
        texts: The contents of ``<sst>``, the shared strings.
        formats: Number formats; cells with ``s="1"`` have the first one.
        parts: The XML of other files, instead of the default: ``book`` is the workbook, ``relationships`` has its
            relationships, and ``root`` has the relationships of the whole package.
    """
    # Custom number formats have the ids 164 and above.
    codes = "".join(f'<numFmt numFmtId="{170 + number}" formatCode="{code}"/>' for number, code in enumerate(formats))
    styles = "".join(f'<xf numFmtId="{170 + number}"/>' for number in range(len(formats)))
    if isinstance(sheet, str) and not sheet.startswith("<?xml"):
        sheet = f'<worksheet xmlns="{_MAIN}">{sheet}</worksheet>'
    files: dict[str, str | bytes] = {
        "_rels/.rels": parts.get("root", relationships(("r1", "officeDocument", "xl/workbook.xml"))),
        "xl/workbook.xml": parts.get(
            "book",
            f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATED}">'
            '<sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        ),
        "xl/_rels/workbook.xml.rels": parts.get(
            "relationships",
            relationships(
                ("r1", "worksheet", "worksheets/sheet1.xml"),
                ("r2", "styles", "styles.xml"),
                ("r3", "sharedStrings", "/xl/sharedStrings.xml"),
            ),
        ),
        "xl/worksheets/sheet1.xml": sheet,
        # The date format 14 in cellStyleXfs belongs to no cell: cells use cellXfs.
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><numFmts>{codes}</numFmts>'
        f'<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs><xf numFmtId="0"/>{styles}</cellXfs></styleSheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{_MAIN}">{texts}</sst>',
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        for name, content in files.items():
            book.writestr(name, content)
    return file.getvalue()


def relationships(*references: tuple[str, str, str]) -> str:
    """Return the relationships of a part. Each has an ID, a type and a target."""
    elements = "".join(
        f'<Relationship Id="{key}" Type="{_RELATED}/{kind}" Target="{target}"/>' for key, kind, target in references
    )
    return f'<Relationships xmlns="{_PACKAGE}">{elements}</Relationships>'


def rows_of(*cells: str, attributes: str = "") -> str:
    """Return ``<sheetData>`` with one row for each cell. A cell is XML in which ``@`` is replaced with its address."""
    rows = (
        f'<row r="{number}"{attributes}>{cell.replace("@", f"A{number}")}</row>' for number, cell in enumerate(cells, 1)
    )
    return f"<sheetData>{''.join(rows)}</sheetData>"
