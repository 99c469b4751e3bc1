"""Excel files in forms that are valid, but that hardly any program writes: no card key is lost, added or moved."""

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

TEXT = '<c r="@" t="inlineStr"><is><t>{}</t></is></c>'
MANY = 5_000  # rows or texts: more than are read together


def read(path: Path, data: bytes, **reading: Any) -> list[str]:
    """The card keys of a workbook."""
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
def test_a_cell_in_a_rare_form_between_usual_ones(form: str, tmp_path: Path) -> None:
    """The card key of one cell that is written otherwise than all others isn't lost."""
    data = raw_workbook(rows_of(*[TEXT.format("A")] * MANY, form, TEXT.format("B")))
    assert read(tmp_path / "keys.xlsx", data, column="1")[MANY:] == ["XYZ", "B"]


@rows(("start", "end"), [("<!--", "-->"), ("<?x", "?>")])
def test_rows_in_a_long_comment(start: str, end: str, tmp_path: Path) -> None:
    """Rows in a comment are no rows, also if the comment is longer than what is read together."""
    sheet = rows_of(*[TEXT.format("A")] * MANY)
    first, after, others = sheet.partition("</row>")
    hidden = others.removesuffix("</sheetData>")
    data = raw_workbook(f"{first}{after}{start} {hidden} {end}</sheetData>")
    assert read(tmp_path / "keys.xlsx", data) == ["A"]


@rows(("start", "end"), [("<!--", "-->"), ("<?x", "?>")])
def test_texts_in_a_long_comment(start: str, end: str, tmp_path: Path) -> None:
    """Shared texts in a comment don't count, also if the comment is longer than what is read together."""
    shared = f"<si><t>A</t></si>{start} {'<si><t>x</t></si>' * MANY} {end}<si><t>B</t></si>"
    cells = rows_of('<c r="@" t="s"><v>0</v></c>', '<c r="@" t="s"><v>1</v></c>')
    assert read(tmp_path / "keys.xlsx", raw_workbook(cells, texts=shared)) == ["A", "B"]


def test_line_ends_in_cells(tmp_path: Path) -> None:
    """As in all XML, CR is read as LF: in cells, and in shared texts."""
    others = "<si><t>A</t></si>" * MANY
    for data in (
        raw_workbook(rows_of(TEXT.format("A"), TEXT.format("A\rB"))),
        raw_workbook(rows_of("", f'<c r="@" t="s"><v>{MANY}</v></c>'), texts=f"{others}<si><t>A\rB</t></si>"),
    ):
        with pytest.raises(HaltError, match="row 2 contains a line break"):
            read(tmp_path / "keys.xlsx", data)


def test_empty_rows_count(tmp_path: Path) -> None:
    """A row without a number is the one after the row before it, also if that one is empty."""
    usual = '<row r="{0}"><c r="A{0}" t="str"><v>A</v></c></row>'
    sheet = "".join(usual.format(number) for number in range(1, MANY)) + f'<row r="{MANY + 8}"></row>'
    last = usual.replace(' r="', ' x="').format(1)
    data = raw_workbook(f"<sheetData>{sheet}{' ' * 2**17}{last}</sheetData>")
    assert len(read(tmp_path / "keys.xlsx", data)) == MANY + 9


def test_anchors_of_controls_are_no_rows(tmp_path: Path) -> None:
    """The anchor of a button below the table has elements with the name of a row; it is none."""
    button = '<controls><from><x:col xmlns:x="y">1</x:col><x:row xmlns:x="y">5</x:row></from></controls>'
    assert read(tmp_path / "keys.xlsx", raw_workbook(rows_of(TEXT.format("A")) + button)) == ["A"]


def test_wide_rows_are_not_in_memory_together(tmp_path: Path) -> None:
    """A few bytes of XML can make a row of 16,384 cells. However they are written, only some rows are read together."""
    usual = "".join(f'<row r="{each}"><c r="XFD{each}"><v>7</v></c></row>' for each in range(1, 701))
    for sheet in (
        f"<sheetData>{usual}</sheetData>",
        f"<sheetData>{usual.replace('<v>', '<f/><v>')}</sheetData>",
        f'<x:sheetData xmlns:x="y">{usual.replace("<", "<x:").replace("<x:/", "</x:")}</x:sheetData>',
    ):
        book = workbooks._Workbook(io.BytesIO(raw_workbook(sheet)))
        sizes = [sum(map(len, block)) for block in book.rows(book.parts[0])[0]]
        assert sum(sizes) == 700 * 16_384
        assert max(sizes) <= 300 * 16_384


def test_content_below_merged_cells(tmp_path: Path) -> None:
    """What merged cells hide isn't uploaded without a word; blank cells below them, or other columns, don't matter."""
    path = tmp_path / "keys.xlsx"
    pair = '<c r="A{0}" t="str"><v>{1}</v></c><c r="B{0}" t="str"><v>{2}</v></c>'
    table = "".join(f'<row r="{row}">{pair.format(row, *cells)}</row>' for row, cells in enumerate(
        (("id", "content"), ("1", "K1"), ("1", "K2"), ("", "K3"), ("", "")), 1))  # fmt: skip

    def merged(*areas: str) -> bytes:
        cells = "".join(f'<mergeCell ref="{area}"/>' for area in areas)
        return raw_workbook(f"<sheetData>{table}</sheetData><mergeCells>{cells}</mergeCells>")

    assert read(path, merged("A2:A3", "B4:B5")) == ["K1", "K2", "K3", ""]
    for areas, count in ((("B2:B3",), 1), (("B2:B4", "A5:B5"), 2), (("A4:B4",), 1), (("$B$2:$B$3",), 1)):
        with pytest.raises(HaltError, match=f"that merged cells hide, in the column of the card keys: {count}$"):
            read(path, merged(*areas))
    assert read(path, merged("B3", "")) == ["K1", "K2", "K3", ""]
    with pytest.raises(HaltError, match="this is not an Excel file"):
        read(path, merged("A1:B1048576", "B2:B3"))


def test_workbooks_that_unpack_to_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag, a text, all shared texts, or a small part that would fill the memory is refused, without a card key."""
    monkeypatch.setattr(parts, "_MAX_TEXT_BYTES", 2**21)
    monkeypatch.setattr(parts, "_MAX_SMALL_BYTES", 2**21)
    path = tmp_path / "keys.xlsx"
    sheet, long = rows_of('<c r="@" t="s"><v>0</v></c>'), "KEY>" * 2**19
    texts = f"<si><t>{long[:1000]}</t></si>"
    for data, said in (
        (raw_workbook(rows_of(TEXT.format(long))), "this is not an Excel file"),
        (raw_workbook(rows_of(TEXT.format("A").replace("<c", f"<c x='{long.replace('>', '.')}'"))), "not an Excel"),
        (raw_workbook(sheet, texts=f"<si><t>{long}</t></si>"), "this is not an Excel file"),
        (raw_workbook(sheet, texts=texts, book=f"<workbook>{long}</workbook>"), "this is not an Excel file"),
        (raw_workbook(sheet, texts=texts * 3000), "the texts of the workbook take more than 2 MiB"),
    ):
        with pytest.raises(HaltError, match=said) as caught:
            read(path, data)
        assert "KEY" not in caught.value.text


def test_texts_that_are_too_long_for_a_line(tmp_path: Path) -> None:
    """A text of more bytes than a line may have is refused by its row while files are checked, not in an upload."""
    long = "密" * 30_000
    book, table = tmp_path / "keys.xlsx", tmp_path / "keys.csv"
    book.write_bytes(raw_workbook(rows_of(TEXT.format("content"), TEXT.format("A"), TEXT.format(long))))
    table.write_bytes(f"content\nA\n{long}\n".encode("gb18030"))
    for path in (book, table):
        with pytest.raises(HaltError, match="row 3 is longer than 65536 bytes"):
            checking.check_sources([path], Reading())


def test_too_many_merged_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet can't have more merged cells than rows."""
    monkeypatch.setattr(cells, "_MAX_ROWS", 2)
    merged = cells.MergedCells()
    merged.add("A1:B2")
    merged.add("A3:B4")
    with pytest.raises(ValueError, match="too many merged cells"):
        merged.add("A5:B6")
