"""Tests of Excel files in valid but rare forms: no card key is lost, added or moved."""

import io
from pathlib import Path
from typing import Any

import pytest
from raw_workbooks import raw_workbook, rows_of
from tables import rows

from gatepay_async.cli import checking, sources
from gatepay_async.cli.files import cells, parts, workbooks
from gatepay_async.cli.files.reading import Reading
from gatepay_async.cli.status import HaltError

pytestmark = pytest.mark.fast

# A cell with a text. rows_of() replaces @ with the cell's address.
TEXT = '<c r="@" t="inlineStr"><is><t>{}</t></is></c>'
MANY = 5_000  # rows or texts: more than one block that the parser reads


def read(path: Path, data: bytes, **reading: Any) -> list[str]:
    """Return the card keys of a workbook."""
    path.write_bytes(data)
    return list(sources.Reader(checking.check_sources([path], Reading(**reading))))


@rows(
    "form",
    [
        '<c r="@" t="inlineStr"><is><t xml:lang="en">XYZ</t></is></c>',
        '<c r="@" t="inlineStr"><is><t xml:space=\'preserve\'>XYZ</t></is></c>',
        '<c r="@" t="inlineStr"><is>\n<t>XYZ</t></is></c>',
        '<c r="@" t="inlineStr">\n<is><t>XYZ</t></is></c>',
        '<c r="@" t="str">\n<v>XYZ</v></c>',
        '<c r="@" t="str"><f>B1</f><v>XYZ</v></c><c r="B2" t="inlineStr"><is></is></c>',
        '<c r="@" t="inlineStr"><v>0</v><is><t>XYZ</t></is></c>',
        '<c r="@" x="a>b" t="inlineStr"><is><t>XYZ</t></is></c>',
    ],
)
def test_cell_in_a_rare_form_between_usual_cells_is_read(form: str, tmp_path: Path) -> None:
    """A single cell with unusual XML among many usual cells is not lost."""
    data = raw_workbook(rows_of(*[TEXT.format("A")] * MANY, form, TEXT.format("B")))
    assert read(tmp_path / "keys.xlsx", data, column="1")[MANY:] == ["XYZ", "B"]


@rows(("start", "end"), [("<!--", "-->"), ("<?x", "?>")])
def test_rows_in_a_comment_are_ignored(start: str, end: str, tmp_path: Path) -> None:
    """A comment can be longer than a block of the parser."""
    sheet = rows_of(*[TEXT.format("A")] * MANY)
    first_row, row_end, rest = sheet.partition("</row>")
    commented_rows = rest.removesuffix("</sheetData>")
    data = raw_workbook(f"{first_row}{row_end}{start} {commented_rows} {end}</sheetData>")
    assert read(tmp_path / "keys.xlsx", data) == ["A"]


@rows(("start", "end"), [("<!--", "-->"), ("<?x", "?>")])
def test_shared_texts_in_a_comment_are_ignored(start: str, end: str, tmp_path: Path) -> None:
    """A comment can be longer than a block of the parser."""
    shared = f"<si><t>A</t></si>{start} {'<si><t>x</t></si>' * MANY} {end}<si><t>B</t></si>"
    cells = rows_of('<c r="@" t="s"><v>0</v></c>', '<c r="@" t="s"><v>1</v></c>')
    assert read(tmp_path / "keys.xlsx", raw_workbook(cells, texts=shared)) == ["A", "B"]


def test_carriage_return_in_a_cell_is_a_line_break(tmp_path: Path) -> None:
    """XML parsers read CR as LF, in cells and in shared texts."""
    others = "<si><t>A</t></si>" * MANY
    for data in (
        raw_workbook(rows_of(TEXT.format("A"), TEXT.format("A\rB"))),
        raw_workbook(rows_of("", f'<c r="@" t="s"><v>{MANY}</v></c>'), texts=f"{others}<si><t>A\rB</t></si>"),
    ):
        with pytest.raises(HaltError, match="row 2 contains a line break"):
            read(tmp_path / "keys.xlsx", data)


def test_row_without_a_number_follows_an_empty_row(tmp_path: Path) -> None:
    """A row without a number is numbered after the row before it, even if that row is empty."""
    usual = '<row r="{0}"><c r="A{0}" t="str"><v>A</v></c></row>'
    sheet = "".join(usual.format(number) for number in range(1, MANY)) + f'<row r="{MANY + 8}"></row>'
    last = usual.replace(' r="', ' x="').format(1)
    data = raw_workbook(f"<sheetData>{sheet}{' ' * 2**17}{last}</sheetData>")
    assert len(read(tmp_path / "keys.xlsx", data)) == MANY + 9


def test_anchor_of_a_button_is_not_a_row(tmp_path: Path) -> None:
    """The anchor of a button contains elements that are also named ``row``."""
    button = '<controls><from><x:col xmlns:x="y">1</x:col><x:row xmlns:x="y">5</x:row></from></controls>'
    assert read(tmp_path / "keys.xlsx", raw_workbook(rows_of(TEXT.format("A")) + button)) == ["A"]


def test_wide_rows_are_read_in_small_blocks(tmp_path: Path) -> None:
    """A few bytes of XML can define a row of 16,384 cells, so the size of a block is limited by its cells."""
    usual = "".join(f'<row r="{number}"><c r="XFD{number}"><v>7</v></c></row>' for number in range(1, 701))
    for sheet in (
        f"<sheetData>{usual}</sheetData>",
        f"<sheetData>{usual.replace('<v>', '<f/><v>')}</sheetData>",
        f'<x:sheetData xmlns:x="y">{usual.replace("<", "<x:").replace("<x:/", "</x:")}</x:sheetData>',
    ):
        book = workbooks._Workbook(io.BytesIO(raw_workbook(sheet)))
        sizes = [sum(map(len, block)) for block in book.rows(book.parts[0])[0]]
        assert sum(sizes) == 700 * 16_384
        assert max(sizes) <= 300 * 16_384


def test_content_hidden_by_merged_cells_is_refused(tmp_path: Path) -> None:
    """Card keys that merged cells hide are an error; blank cells and other columns are ignored."""
    path = tmp_path / "keys.xlsx"
    pair = '<c r="A{0}" t="str"><v>{1}</v></c><c r="B{0}" t="str"><v>{2}</v></c>'
    table = "".join(f'<row r="{row}">{pair.format(row, *cells)}</row>' for row, cells in enumerate(
        (("id", "content"), ("1", "K1"), ("1", "K2"), ("", "K3"), ("", "")), 1))  # fmt: skip

    def merged(*areas: str) -> bytes:
        cells = "".join(f'<mergeCell ref="{area}"/>' for area in areas)
        return raw_workbook(f"<sheetData>{table}</sheetData><mergeCells>{cells}</mergeCells>")

    assert read(path, merged("A2:A3", "B4:B5")) == ["K1", "K2", "K3", ""]
    for areas, count in ((("B2:B3",), 1), (("B2:B4", "A5:B5"), 2), (("A4:B4",), 1), (("$B$2:$B$3",), 1)):
        with pytest.raises(HaltError, match=rf"merged cells hide content .* \(hidden cells: {count}\)$"):
            read(path, merged(*areas))
    assert read(path, merged("B3", "")) == ["K1", "K2", "K3", ""]
    with pytest.raises(HaltError, match="this is not an Excel file"):
        read(path, merged("A1:B1048576", "B2:B3"))


def test_workbook_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag, a text, the shared texts or a small part that would fill the memory is an error without card keys."""
    monkeypatch.setattr(parts, "_MAX_TEXT_BYTES", 2**21)
    monkeypatch.setattr(parts, "_MAX_SMALL_BYTES", 2**21)
    path = tmp_path / "keys.xlsx"
    sheet, long_text = rows_of('<c r="@" t="s"><v>0</v></c>'), "KEY>" * 2**19
    texts = f"<si><t>{long_text[:1000]}</t></si>"
    for data, expected in (
        (raw_workbook(rows_of(TEXT.format(long_text))), "this is not an Excel file"),
        (
            raw_workbook(rows_of(TEXT.format("A").replace("<c", f"<c x='{long_text.replace('>', '.')}'"))),
            "not an Excel",
        ),
        (raw_workbook(sheet, texts=f"<si><t>{long_text}</t></si>"), "this is not an Excel file"),
        (raw_workbook(sheet, texts=texts, book=f"<workbook>{long_text}</workbook>"), "this is not an Excel file"),
        (raw_workbook(sheet, texts=texts * 3000), "the texts of the workbook take more than 2 MiB"),
    ):
        with pytest.raises(HaltError, match=expected) as caught:
            read(path, data)
        assert "KEY" not in caught.value.text


def test_text_longer_than_a_line_is_refused_during_the_check(tmp_path: Path) -> None:
    """The error names the row before the upload starts."""
    long_text = "密" * 30_000
    book, table = tmp_path / "keys.xlsx", tmp_path / "keys.csv"
    book.write_bytes(raw_workbook(rows_of(TEXT.format("content"), TEXT.format("A"), TEXT.format(long_text))))
    table.write_bytes(f"content\nA\n{long_text}\n".encode("gb18030"))
    for path in (book, table):
        with pytest.raises(HaltError, match="row 3 is longer than 65536 bytes"):
            checking.check_sources([path], Reading())


def test_more_merged_cells_than_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_MAX_SHEET_ROWS", 2)
    merged = cells.MergedCells()
    merged.add("A1:B2")
    merged.add("A3:B4")
    with pytest.raises(ValueError, match="too many merged cells"):
        merged.add("A5:B6")
