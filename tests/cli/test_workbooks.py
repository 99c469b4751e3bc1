"""Tests of Excel files: hidden content, number formats, and XML of different programs."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
import python_calamine
import xlsxwriter  # type: ignore[import-untyped]  # the package has no types
from hypothesis import given, settings
from hypothesis import strategies as st
from merchant_files import workbook
from raw_workbooks import raw_workbook, relationships, rows_of

from gatepay_async.cli import checking, sources
from gatepay_async.cli.files import cells, number_formats, parts, uniform_rows, workbooks
from gatepay_async.cli.files.reading import Reading
from gatepay_async.cli.status import HaltError

pytestmark = pytest.mark.fast

# A cell with a text. rows_of() replaces @ with the cell's address.
TEXT = '<c r="@" t="inlineStr"><is><t>{}</t></is></c>'


def read(path: Path, data: bytes, **reading: Any) -> list[str]:
    """Return the card keys of a workbook."""
    path.write_bytes(data)
    return list(sources.Reader(checking.check_sources([path], Reading(**reading))))


def error_of(path: Path, data: bytes, **reading: Any) -> str:
    """Return the error text and the remedy for an invalid workbook."""
    with pytest.raises(HaltError) as caught:
        read(path, data, **reading)
    return f"{caught.value.text} | {caught.value.todo}".removeprefix(f"{path}")


def hidden_workbook(*, rows: tuple[int, ...] = (), column: int | None = None) -> bytes:
    """Return a workbook of four card keys with hidden rows or a hidden column."""
    file = io.BytesIO()
    book: Any = xlsxwriter.Workbook(file)
    sheet = book.add_worksheet()
    for row, texts in enumerate((("id", "content"), *((f"{number}", f"KEY-{number}") for number in range(1, 5)))):
        sheet.write_row(row, 0, texts)
    for row in rows:
        sheet.set_row(row, None, None, {"hidden": True})
    if column is not None:
        sheet.set_column(column, column, None, None, {"hidden": True})
    if rows:
        sheet.autofilter(0, 0, 4, 1)
    book.close()
    return file.getvalue()


def test_hidden_rows_need_an_explicit_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows hidden by a filter are neither uploaded nor skipped until the user chooses with --hidden-rows."""
    path = tmp_path / "keys.xlsx"
    data = hidden_workbook(rows=(2, 3))
    error = error_of(path, data)
    assert error.startswith(": hidden rows with content: 2 (hidden by a filter, perhaps) | add --hidden-rows skip"), (
        error
    )
    assert capsys.readouterr().err == ""
    assert read(path, data, hidden_rows="skip") == ["KEY-1", "", "", "KEY-4"]
    assert "hidden rows left out: 2" in capsys.readouterr().err
    assert read(path, data, hidden_rows="upload") == ["KEY-1", "KEY-2", "KEY-3", "KEY-4"]
    assert "hidden rows included: 2" in capsys.readouterr().err
    for size in (16, 2**16):
        monkeypatch.setattr(cells, "BLOCK_BYTES", size)
        for cell in (TEXT.format("A"), '<c r="@"><v>7</v></c>'):
            for attributes in (
                ' hidden="true"',
                ' ht="0" customHeight="1"',
                " hidden='1'",
                ' hidden = "1" spans="1:1"',
            ):
                data = raw_workbook(rows_of(*[cell] * 5, attributes=attributes))
                assert error_of(path, data).startswith(": hidden rows with content: 5"), (size, cell, attributes)
    visible_rows = raw_workbook(rows_of(TEXT.format("A"), attributes=' hidden="false" ht="12.8"'))
    assert read(path, visible_rows) == ["A"]
    truncated = raw_workbook('<sheetData><row r="1" hidden="1"/><row r="2">' + TEXT.replace("@", "A2").format("A"))
    assert "not an Excel file" in error_of(path, truncated)
    empty = '<sheetData><row r="1" hidden="1"><c r="A1"/></row><row r="2">{}</row></sheetData>'
    assert read(path, raw_workbook(empty.format(TEXT.replace("@", "A2").format("A")))) == ["A"]


def test_hidden_column_needs_its_name_and_hidden_sheets_cause_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.xlsx"
    assert error_of(path, hidden_workbook(column=1)).startswith(
        ": the column of the card keys is hidden | if it is the right column, name it with"
    )
    assert read(path, hidden_workbook(column=1), column="content")[0] == "KEY-1"
    assert read(path, hidden_workbook(column=0))[0] == "KEY-1"
    narrow = '<cols><col min="1" max="99999" width="0"/></cols>' + rows_of(TEXT.format("A"))
    assert "column of the card keys is hidden" in error_of(path, raw_workbook(narrow))
    assert capsys.readouterr().err == ""
    assert read(path, workbook([["A"]], [["HIDDEN"]], hidden=True)) == ["A"]
    assert "hidden sheets are not read (1)" in capsys.readouterr().err


def test_shown_unchanged_recognizes_formats_that_change_a_value() -> None:
    """For each format, the table says whether it shows numbers, zero and texts exactly as they are stored."""
    for code, number, zero, text in (
        ("General", 1, 1, 1), ("0", 1, 1, 1), ("@", 1, 1, 1), ("#", 1, 0, 1), ("0_ ", 1, 1, 1),
        ("0_);[Red]\\(0\\)", 1, 1, 1), ("0_ ;[红色]\\-0\\ ", 1, 1, 1), ("[$-804]0", 1, 1, 1), ("* 0", 1, 1, 1),
        ("0;-0;;@", 1, 0, 1), ("G/通用格式", 1, 1, 1), ("00000000", 0, 0, 1), ("000\\-0000", 0, 0, 1),
        ('"VIP"0', 0, 0, 1), ('0"VIP"', 0, 0, 1), ('"VIP"@', 0, 0, 0), ('@"-2024"', 0, 0, 0), ("#,##0", 0, 0, 1),
        ("0.00", 0, 0, 1), ("0%", 0, 0, 1), ("yyyy\\-mm\\-dd", 0, 0, 1), (";;;", 0, 0, 0), ("0,", 0, 0, 1),
        ('0;0;0;"SN"@', 1, 0, 0), ("[DBNum1]0", 0, 0, 1), ("[>100]0", 0, 0, 1), ("[$¥-804]0", 0, 0, 1),
        ("*-0", 0, 0, 1), ('""@', 1, 1, 1), ("\\A0", 0, 0, 1), ("# ?/?", 0, 0, 1), ("", 0, 0, 1),
    ):  # fmt: skip
        unchanged = number_formats.shown_unchanged(170, code)  # a custom format has an ID from 164
        assert (unchanged.number, unchanged.zero, unchanged.text) == (bool(number), bool(zero), bool(text)), code
    for format_id, is_plain in ((0, True), (1, True), (49, True), (2, False), (3, False), (14, False), (31, False)):
        unchanged = number_formats.shown_unchanged(format_id, None)
        assert (unchanged.number, unchanged.zero, unchanged.text) == (is_plain, is_plain, True), format_id


def test_cell_shown_differently_from_its_value_is_refused(tmp_path: Path) -> None:
    """The error names the row; other cells of the workbook are read."""
    path = tmp_path / "keys.xlsx"
    formats = ("&quot;VIP&quot;@", "#,##0", "0_ ")
    for cell, refused in (
        ('<c r="@" s="0"><v>1234</v></c>', False),
        ('<c r="@" s="3"><v>1234</v></c>', False),
        ('<c r="@" s="2" t="inlineStr"><is><t>1234</t></is></c>', False),
        ('<c r="@" s="9"><v>1234</v></c>', False),
        ('<c r="@" s="1" t="inlineStr"><is><t>1234</t></is></c>', True),
        ('<c r="@" s="1" t="s"><v>0</v></c>', True),
        ('<c r="@" s="1" t="str"><f>B1</f><v>1234</v></c>', True),
        ('<c r="@" s="2"><v>1234</v></c>', True),
    ):
        data = raw_workbook(rows_of(TEXT.format("A"), cell), texts="<si><t>1234</t></si>", formats=formats)
        if refused:
            error = error_of(path, data)
            assert error.startswith(": row 2 is shown differently from what the file stores"), (cell, error)
            assert "paste it into a text file" in error
        else:
            assert read(path, data) == ["A", "1234"], cell
    styled = raw_workbook(rows_of('<c r="@" s="1" t="s"><v>1</v></c>', TEXT.format("A")), formats=formats,
                          texts="<si><t>B</t></si><si><t></t></si>")  # fmt: skip
    assert read(path, styled) == ["A"]  # nothing is shown of an empty text


def test_xml_variants_of_different_programs_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variants have prefixes, quotes, runs, phonetic texts, comments, UTF-16, and cells without addresses."""
    path = tmp_path / "keys.xlsx"
    declaration = '<?xml version="1.0" encoding="{}"?>'
    namespace = "xmlns='http://schemas.openxmlformats.org/spreadsheetml/2006/main'"
    a, b = TEXT.format("A"), TEXT.format("卡密1")
    shared = "<si><t>A</t></si><si><r><t>卡</t></r><r><rPr/><t>密1</t></r><rPh><t>かみ</t></rPh></si>"
    by_number = rows_of('<c r="@" t="s"><v>0</v></c>', '<c r="@" t="s"><v>1</v></c>')
    by_formula = rows_of('<c r="@" t="str"><f>B1</f><v>A</v></c>', '<c r="@" t="str"><f si="0"/><v>卡密1</v></c>')
    prefixed = f"<worksheet {namespace.replace('=', ':x=')}>{rows_of(a, b)}</worksheet>"
    prefixed = declaration.format("UTF-8") + re.sub("<(/?)", r"<\1x:", prefixed)
    more_texts = "".join(f"<si><t>{number}</t></si>" for number in range(50))
    special_texts = '<si><t>&amp;</t></si><si><t xml:space="preserve"> </t></si><si><t>x</t><rPh><t>y</t></rPh></si>'
    for size in (16, 2**16):
        monkeypatch.setattr(cells, "BLOCK_BYTES", size)
        monkeypatch.setattr(parts, "BLOCK_BYTES", size)
        for sheet, texts in (
            (rows_of(a, b), ""),
            (by_number, shared),
            (by_number, "<si><t xml:space='preserve'> A </t></si><si><t>&#21345;密1</t></si>" + more_texts),
            (by_number, "\n <si> <t>A</t> </si> " + shared.partition("</si>")[2]),
            (by_number, "<si><t>A</t></si><si><t>卡密1</t></si>" + more_texts + special_texts),
            (rows_of(a + '<c r="B1" s="1"/>', b), ""),
            (rows_of(a, b).replace(' r="A1"', "").replace(' r="2"', "").replace(' r="A2"', ""), ""),
            (rows_of(a, b).replace('"', "'"), ""),
            (rows_of(a, b).replace("><", ">\n  <"), ""),
            (rows_of(a, b).replace("A</t>", "<![CDATA[A]]></t>"), ""),
            (rows_of(a, b).replace("</row>", "</row><!-- <row r='9'> </row> -->", 1), ""),
            (rows_of(a, b).replace("<row", "<!-- x --><row", 1), ""),
            (by_formula, ""),
            (rows_of(a.replace("</is>", "<rPh><t>x</t></rPh></is>"), b), ""),
            (rows_of(a, b).replace("</sheetData>", '<row r="5"/><row r="6"></row></sheetData>'), ""),
            (rows_of(a, b).replace("</row>", '</row><row r="2"/>', 1).replace('"2">', '"3">').replace("A2", "A3"), ""),
            (prefixed, ""),
        ):  # fmt: skip
            assert [key.strip() for key in read(path, raw_workbook(sheet, texts=texts)) if key] == ["A", "卡密1"], (
                size,
                sheet,
                texts,
            )
        utf16_sheet = (
            declaration.format("UTF-16") + f"<worksheet {namespace}>" + rows_of(a, b) + "</worksheet>"
        ).encode("utf-16")
        assert read(path, raw_workbook(utf16_sheet)) == ["A", "卡密1"]
        gaps = rows_of(a, b).replace('"2"', '"4"').replace("A2", "A4")
        assert read(path, raw_workbook(gaps)) == ["A", "", "", "卡密1"]


def test_shared_texts_are_read_in_any_order(tmp_path: Path) -> None:
    """Cells refer to shared texts in any order, and some shared texts consist of several runs."""
    plain = [(str(number), str(number)) for number in range(5_000)]  # more than one block
    texts = [*plain, ("<r><t>卡</t></r><r><t>密</t></r>", "卡密"), *plain, ("A&amp;B", "A&B"), *plain]
    shared = "".join(f"<si>{xml}</si>" if "<" in xml else f"<si><t>{xml}</t></si>" for xml, _ in texts)
    order = (*range(len(texts)), *reversed(range(len(texts))))
    numbers = [f'<c r="@" t="s"><v>{number}</v></c>' for number in order]
    keys = read(tmp_path / "keys.xlsx", raw_workbook(rows_of(*numbers), texts=shared))
    assert keys == [texts[number][1] for number in order]


def test_cells_that_cant_be_card_keys_are_refused(tmp_path: Path) -> None:
    """Truth values, dates, errors and formulas without a result are refused with their row, in any XML form."""
    path = tmp_path / "keys.xlsx"
    for cell, expected in (
        ('<c r="@" t="b"><v>1</v></c>', "holds a date, a truth value"),
        ('<c r="@" t="d"><v>2024-01-01</v></c>', "holds a date, a truth value"),
        ('<c r="@" t="e"><v>#N/A</v></c>', "holds a formula without a result"),
        ('<c r="@"><f>B1</f></c>', "holds a formula without a result"),
        ('<c r="@"><f>B1</f><v/></c>', "holds a formula without a result"),
        ('<c r="@"><v>1E400</v></c>', ""),
        ('<c r="@"><v>abc</v></c>', ""),
        ('<c r="@" t="s"><v>7</v></c>', ""),
        ('<c r="@" t="s"><v>-1</v></c>', ""),
        ('<c r="@" t="s"><f/><v>-1</v></c>', ""),
        ('<c r="A9" s="0"/><c r="A9"><v>1</v></c>', ""),
        ('<c r="XFE9"><v>1</v></c>', ""),  # beyond the last column, XFD
    ):
        error = error_of(path, raw_workbook(rows_of(TEXT.format("A"), cell)))
        assert error.startswith(f": row 2 {expected}" if expected else ": this is not an Excel file"), (cell, error)
    assert read(path, raw_workbook(rows_of(TEXT.format("A"), '<c r="@" t="str"><f>B1</f><v></v></c>'))) == ["A", ""]


def test_parts_are_found_by_relationships(tmp_path: Path) -> None:
    """The paths of the parts are read from the relationships. A damaged workbook is an error without card keys."""
    path = tmp_path / "keys.xlsx"
    sheet = rows_of(TEXT.format("SECRET-1"))
    elsewhere = relationships(("r1", "worksheet", "..\\XL\\Worksheets\\SHEET1.xml"))
    assert read(path, raw_workbook(sheet, relationships=elsewhere)) == ["SECRET-1"]
    chart = relationships(("r1", "chartsheet", "worksheets/sheet1.xml"))
    assert "contains no card keys" in error_of(path, raw_workbook(sheet, relationships=chart))
    for data in (
        raw_workbook(sheet, relationships=relationships(("r9", "worksheet", "worksheets/sheet1.xml"))),
        raw_workbook(sheet, relationships=relationships(("r1", "worksheet", "nowhere.xml"))),
        raw_workbook(sheet, root=relationships()),
        raw_workbook(sheet, book="<!DOCTYPE x [<!ENTITY a 'b'>]><workbook/>"),
        raw_workbook(sheet.replace("</sheetData>", "")),
        raw_workbook(sheet.replace('r="1"', 'r="0"').replace("A1", "A0") + sheet),
        raw_workbook(sheet.replace('r="1"', 'r="1048577"')),
        raw_workbook(sheet)[:-40],
        raw_workbook(sheet, texts="<si><t>SECRET-2</t></si>" * 9000 + "<si><t>SECRET-3\0SECRET-4</t></si>"),
    ):
        error = error_of(path, data)
        assert error.startswith(": this is not an Excel file"), error
        assert "SECRET" not in error


def test_find_uniform_rows_requires_equal_forms() -> None:
    """Rows are uniform only if their addresses continue and their attributes and cells have the same form."""

    def rows_xml(*rows: tuple[int, str]) -> bytes:
        return "".join(f'<row r="{number}" spans="1:2">{cells_xml}</row>' for number, cells_xml in rows).encode()

    def cell(number: int, value: str, style: int = 1) -> str:
        return f'<c r="B{number}" s="{style}" t="s"><v>{value}</v></c>'

    # The range holds the values of column B: 70 and 8.
    assert uniform_rows.find_uniform_rows(
        rows_xml((9, cell(9, "70")), (10, cell(10, "8")))
    ) == uniform_rows.UniformRows(
        first=9, count=2, attributes=b' spans="1:2"', columns=[(b"B", b' s="1" t="s"', range(70, -54, -62))]
    )
    long_block = rows_xml(*((number, f'<c r="A{number}"><v>1</v></c>{cell(number, "5")}') for number in range(1, 100)))
    uniform = uniform_rows.find_uniform_rows(long_block)
    assert uniform is not None
    assert [(letters, len(values)) for letters, _, values in uniform.columns] == [(b"A", 99), (b"B", 99)]
    for block in (
        rows_xml((1, cell(1, "1")), (3, cell(3, "1"))),
        rows_xml((1, cell(1, "1")), (2, cell(3, "1"))),
        rows_xml((1, cell(1, "1")), (2, cell(2, "1", style=2))),
        rows_xml((1, cell(1, "1")), (2, cell(2, ""))),
        rows_xml((1, cell(1, "1")), (2, cell(2, "1.5"))),
        rows_xml((1, cell(1, "1")), (2, cell(2, "1") * 2)),
        rows_xml((1, cell(1, "1")), (2, cell(2, "1"))).replace(b"1:2", b":2", 1),
        rows_xml((1, cell(1, "1")), (2, cell(2, "1"))) + b"<!-- -->",
        rows_xml((1, cell(1, "x"))),
        rows_xml(*((number, cell(number, str(3 - number))) for number in range(1, 5))),  # the last value is -1
        rows_xml((1, cell(1, "0")), (3, cell(3, "1")), (5, cell(5, "2"))),
        rows_xml((1, cell(1, "0")), (2, cell(2, "1")), (3, cell(3, "02"))) + b"<row/>",
        rows_xml((1, cell(1, "1") * 40), (2, cell(2, "1") * 40)),  # longer than _MAX_ROW_BYTES
        b"",
    ):
        assert uniform_rows.find_uniform_rows(block) is None, block


def test_cells_out_of_order_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row whose cells are not in order is damaged. A missing cell is blank."""
    monkeypatch.setattr(cells, "BLOCK_BYTES", 16)
    path = tmp_path / "keys.xlsx"
    numbers = rows_of(*['<c r="@"><v>1</v></c><c r="C1"><v>2</v></c>'] * 3).replace("C1", "C@")
    for number in range(1, 4):
        numbers = numbers.replace("C@", f"C{number}", 1)
    assert read(path, raw_workbook(numbers), column="3") == ["2", "2", "2"]
    mixed = rows_of(TEXT.format("x"), '<c r="@" t="s"><v>0</v></c>', TEXT.format("y") + '<c r="B3" t="s"><v>0</v></c>')
    assert read(path, raw_workbook(mixed, texts="<si><t>K</t></si>"), column="1") == ["x", "K", "y"]
    monkeypatch.setattr(cells, "BLOCK_BYTES", 300)
    assert read(path, raw_workbook(mixed, texts="<si><t>K</t></si>"), column="1") == ["x", "K", "y"]
    for damaged in (numbers.replace('"C', '"A'), numbers.replace('"C', '"ZZZ')):
        assert "not an Excel file" in error_of(path, raw_workbook(damaged), column="1")


CELL = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufffe\uffff"), max_size=9),
    st.integers(1, 10**15 - 1),
    st.sampled_from(["", "a&b", "<b>", "_x0041_", " x ", "卡密", 7]),
)


@settings(max_examples=15)
@given(
    table=st.lists(st.lists(CELL, max_size=4), min_size=1, max_size=12), shared=st.booleans(),
    size=st.sampled_from([40, 500, 2**16]),
)  # fmt: skip
def test_cells_equal_those_of_python_calamine(table: list[list[object]], shared: bool, size: int) -> None:  # noqa: FBT001 -- hypothesis passes it by name
    data = workbook(table, shared=shared)
    calamine_sheet = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data)).get_sheet_by_index(0)
    expected = [[str(int(cell) if isinstance(cell, float) else cell) for cell in row] for row in
              calamine_sheet.to_python(skip_empty_area=False)]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "BLOCK_BYTES", size)
        patch.setattr(parts, "BLOCK_BYTES", size)
        sheets, _ = workbooks.sheets(io.BytesIO(data))
        rows = [list(map(str, row)) for sheet in sheets for block in sheet._book.rows(sheet._part)[0] for row in block]
    while rows and not any(rows[-1]):
        rows.pop()
    while expected and not any(expected[-1]):
        expected.pop()
    assert [row + [""] * (4 - len(row)) for row in rows] == [row + [""] * (4 - len(row)) for row in expected]
