"""Tests of reading and writing files of card keys: encodings, columns, headings, numbers of spreadsheets."""

import csv
import io
import re
import zipfile
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from merchant_files import KEYS, TABLES, TEXTS, workbook

from gatepay_async.cli import checking, sources
from gatepay_async.cli.files import columns, encodings, odd, writing
from gatepay_async.cli.files.lines import read_lines
from gatepay_async.cli.files.reading import FileProblemError, NumberCell, Reading
from gatepay_async.cli.status import HaltError

pytestmark = pytest.mark.fast

COLUMNS = ("id", "content", "status")


def read(path: Path, **reading: Any) -> list[str]:
    """Return the card keys of a file, as an upload reads them."""
    return list(sources.Reader(checking.check_sources([path], Reading(**reading))))


def error_of(path: Path, data: bytes, **reading: Any) -> str:
    """Return the error text and the remedy for an invalid file."""
    path.write_bytes(data)
    with pytest.raises(HaltError) as caught:
        read(path, **reading)
    return f"{caught.value.text} | {caught.value.todo}".removeprefix(f"{path}")


def test_text_files_of_common_programs_are_read_without_options(tmp_path: Path) -> None:
    """Text files of Notepad, PowerShell and iconv are read in any of their encodings and with any line ends."""
    for name, make_bytes in TEXTS.items():
        (tmp_path / name).write_bytes(make_bytes(KEYS))
        keys = [key.strip() for key in read(tmp_path / name)]
        assert keys[:3] == KEYS, name
        assert keys[3:] in ([], ["卡密-㐂"]), name


def test_tables_of_excel_and_wps_are_read_by_column(tmp_path: Path) -> None:
    """The column can be given by its heading or its number; without it the error lists the columns."""
    for name, make_bytes in TABLES.items():
        (tmp_path / name).write_bytes(make_bytes(KEYS))
        number = "3" if name == "wps.xlsx" else "2"
        for column in ("卡密", number):
            assert read(tmp_path / name, column=column) == KEYS, (name, column)
        assert f"{number} (卡密)" in error_of(tmp_path / name, make_bytes(KEYS)), name


def test_guess_recognizes_utf8_and_common_chinese_only() -> None:
    """An encoding is guessed only for UTF-8 and common Chinese in GB18030; an empty string means unknown."""
    for data, expected in (
        (b"AAAA\n", "utf-8"),
        ("é\n".encode(), "utf-8"),
        ("été-1\nnaïve\n".encode("latin-1"), ""),
        ("カード番号\n".encode("shift-jis"), ""),
        ("卡號密碼一二三\n".encode("big5"), ""),
        ("卡号密码一二三\n".encode("gbk"), "gb18030"),
        (("密" * 70_000).encode("gb18030") + b"\xff", ""),
        (b"\xff\xfeA", ""),
        ("\ufeffA\n".encode("gb18030"), "gb18030"),
        (b"", "utf-8"),
    ):
        assert encodings.guess(io.BytesIO(data)) == expected, data[:20]


def test_encoding_names_are_normalized_or_unknown() -> None:
    """Encoding names are accepted in any spelling. An empty string means that card keys can't have the encoding."""
    for name, expected in (
        ("UTF8", "utf-8"), ("utf-8-sig", "utf-8"), (" GBK ", "gbk"), ("gb2312", "gb18030"), ("CP936", "gbk"),
        ("Big5", "big5"), ("UTF-16LE", "utf-16-le"), ("latin-1", ""), ("rot13", ""), ("x\0", ""), ("", ""),
    ):  # fmt: skip
        assert encodings.normalized_name(name) == expected, name


def test_heading_is_distinguished_from_a_card_key() -> None:
    for line in (
        "卡密",
        "卡号,密码",
        "key",
        "Code",
        "card key",
        "Card-Key:",
        '"content"',
        "id,content",
        "编号\t卡密",
        "CDK",
    ):
        assert columns.looks_like_heading(line), line
    for line in ("AAAA-1111", "KEY-0001", "CODE123", "账户名----密语", "1,2,3", ""):
        assert not columns.looks_like_heading(line), line


def test_column_is_chosen_by_name_number_or_heading() -> None:
    """The column `content`, the only column or the given one is chosen. Otherwise the error lists the columns."""
    for first_row, column, chosen in (
        (["id", "Content", "status"], "", (1, True)),
        (["AAAA"], "", (0, False)),
        (["卡密"], "", (0, True)),
        (["", "AAAA", " "], "", (1, False)),
        (["A1", "K1"], "2", (1, False)),
        (["id", "my key"], "MY KEY", (1, True)),
        (["content"], "3", (0, True)),
    ):
        assert columns.choose_column(first_row, column) == chosen, first_row
    for first_row, column, listed, likely in (
        (["id", "卡密", "x" * 30], "", f"1 (id), 2 (卡密), 3 ({'x' * 20})", "卡密"),
        (["AAAA", "BBBB"], "", "1-2", "N"),
        (["AAAA", "BBBB"], "3", "1-2", "N"),
        (["AAAA", "BBBB"], "0", "1-2", "N"),
        (["key", "key"], "key", "1 (key), 2 (key)", "key"),
    ):
        with pytest.raises(FileProblemError) as caught:
            columns.choose_column(first_row, column)
        assert (caught.value.facts["columns"], caught.value.facts["likely"]) == (listed, likely), first_row


def test_odd_lines_are_classified() -> None:
    """Separators, markup and shortened numbers make a line of a text file odd; other characters don't."""
    for line, kind in (
        ("A,B", "comma"), ("A\tB", "tab"), ("<b>A</b>", "markup"), ("A&nbsp;B", "markup"), ("1.23E+15", "exponent"),
        (' "A"\r', "quotes"), ("'00123", "sign"), ('="00123"', "sign"), ("'A", ""), ('A"B"', ""), ('"', ""),
        ("AAAA", ""), (" A ", ""), ("A<1&C>D", ""), ("\tA", ""), ("E+E", ""), ("1E5", ""), ("KEY-1.2E+05", ""),
    ):  # fmt: skip
        assert odd.Oddities(is_table=False).kind_of(line) == kind, line


def test_numbers_rounded_by_a_spreadsheet_are_odd(tmp_path: Path) -> None:
    """Excel keeps 15 digits. Longer numbers are odd lines if most of them have only zeros after the 15th digit."""
    rounded, exact = ["6222020000000000000", "6222021234567890000"], ["6222021234567891234", "6222021234567891235"]
    # With 16 digits, a single zero after the 15th digit may be coincidence.
    short = ["1234567890123450", "1234567890123456", "1234567890123457"]
    for keys, odd_lines in (
        (rounded, [1, 2]), (rounded[:1], [1]), ([*rounded, exact[0]], [1, 2]), ([*rounded, *exact], []),
        (exact, []), (short, []), (short[:1], []), (["1234567890123450"] * 3, [1, 2, 3]), (["100000000000000"] * 9, []),
        ([f"{rounded[0]}A"], []),
    ):  # fmt: skip
        for name in ("keys.csv", "keys.txt"):
            (tmp_path / name).write_text("".join(f"{key}\r\n" for key in keys))
            [checked] = checking.check_sources([tmp_path / name], Reading())
            assert [line.line for line in checked.odd] == odd_lines, (name, keys)
            assert checked.odd_count == len(odd_lines)
    (tmp_path / "keys.csv").write_text("".join(f"{key}\n" for key in [*rounded * 4, "'1"]))
    [checked] = checking.check_sources([tmp_path / "keys.csv"], Reading())
    assert ([line.line for line in checked.odd], checked.odd_count) == ([1, 2, 3, 4, 5], 9)
    [checked] = checking.check_sources([tmp_path / "keys.csv"], Reading(as_is=True))
    assert checked.odd_count == 0


def test_title_rows_above_the_headings_are_skipped(tmp_path: Path) -> None:
    """Title rows are skipped if the heading row has several columns; with a single column they are an error."""
    path = tmp_path / "keys.csv"
    for text, reading in (
        ("2024年卡密\n\nid,content\n1,AAAA\n2,BBBB\n", {}),
        ("2024年卡密,,\n编号,卡密,价格\n1,AAAA,5\n2,BBBB,5\n", {"column": "卡密"}),
        ("2024年卡密,\n说明, \n编号,卡密\n1,AAAA\n2,BBBB\n", {"column": "2"}),
        ("sep=;\nid;content\n1;AAAA\n2;BBBB\n", {}),
        ("SEP=|\r\nid|content\r\n1|AAAA\r\n2|BBBB\r\n", {}),
        ("AAAA\nBBBB\n", {}),
    ):
        path.write_text(text)
        assert [key.strip() for key in read(path, **reading)] == ["AAAA", "BBBB"], text
    path.write_text("2024年卡密\n\nid,content\n1,AAAA\n")
    assert sources.Reader(checking.check_sources([path], Reading())).__next__() == "AAAA"
    for data, expected in (
        (
            "本月\n\n卡密\nAAAA\n".encode(),
            ": row 3 looks like a heading, but there are other rows above it | delete the rows",
        ),
        ("本月\n1,2\n卡密,id\n".encode(), ": row 2 has more than one column"),
        (
            "本月\n编号,卡号,密码\n".encode(),
            ": several columns; which one holds the card keys? Columns: 1 (编号), 2 (卡号)",
        ),
    ):
        error = error_of(path, data)
        assert error.startswith(expected), error
    assert "--column 卡号. Other columns are not uploaded" in error


def test_masked_card_key_shows_two_characters_at_each_end() -> None:
    """A short card key is shown with fewer characters."""
    assert [odd.masked(key) for key in (" AAAA-1111 ", "ABCDEFGH", "ABCD", "ABC", "")] == [
        "AA…11", "AB…GH", "A…D", "…", "…",
    ]  # fmt: skip


def test_numeric_cells_are_read_only_if_no_digit_can_be_missing(tmp_path: Path) -> None:
    """A number cell is read as its digits if it is exact; otherwise the error names its row."""
    path = tmp_path / "keys.xlsx"
    path.write_bytes(workbook([["卡密"], [123456789012345], ["00123"], ["1.23E+15"], ["=1+1"]]))
    assert read(path) == ["123456789012345", "00123", "1.23E+15", "=1+1"]
    for cell, expected in (
        (1.23e15, ": row 2 holds a number of more than 15 digits"),
        (-5, ": row 2 holds a number of more"),
        (1.5, ": row 2 holds a number with decimals"),
        (True, ": row 2 holds a date, a truth value"),
    ):
        assert error_of(path, workbook([["卡密"], [cell]])).startswith(expected), cell
    for number_format in ("00000000", "000\\-0000", '"VIP"0000'):
        assert "shown differently from what the file stores" in error_of(
            path, workbook([[1234]], number_format=number_format)
        )
    for name in ("keys.csv", "keys.tsv"):
        assert ": row 2 holds a number that a spreadsheet shortened" in error_of(tmp_path / name, b"AAAA\n 1.23E+15 \n")
    path.write_bytes(workbook([["卡密"], [12345678], [345678], [23456789]]))
    [checked] = checking.check_sources([path], Reading())
    assert [(line.line, line.kind, line.shown) for line in checked.odd] == [(3, "zeros", "3…8")]
    assert isinstance(NumberCell("1"), str)
    (tmp_path / "keys.csv").write_bytes(b'AAAA\n"=""00123"""\n="00123"\n=1+1\n\'1\n')
    [checked] = checking.check_sources([tmp_path / "keys.csv"], Reading())
    assert [(line.line, line.kind) for line in checked.odd] == [(2, "sign"), (3, "sign"), (5, "sign")]


def test_formula_without_a_result_is_refused(tmp_path: Path) -> None:
    """The error names the row of an error cell or of an uncalculated formula. An empty result is a blank cell."""
    path = tmp_path / "keys.xlsx"
    for cell, refused in (
        (b'<c r="B2" t="e"><f>NA()</f><v>#N/A</v></c>', True),
        (b'<c r="B2"><f>A2</f></c>', True),
        (b'<c r="B2"><f>A2</f><v></v></c>', True),
        (b'<c r="B2" t="str"><f>A2</f><v></v></c>', False),
    ):
        data = replace_cell(workbook([["id", "content"], [1, "LOST"], [2, "AAAA"]], shared=False), cell)
        if refused:
            assert error_of(path, data).startswith(": row 2 holds a formula without a result"), cell
        else:
            path.write_bytes(data)
            assert read(path) == ["", "AAAA"]
    two_sheets = workbook([["content", "price"], ["AAAA", "1"]], [["content"], ["BBBB"]])
    path.write_bytes(replace_cell(two_sheets, b'<c r="B2" t="e"><v>#N/A</v></c>'))  # not among the card keys
    assert read(path, column="content") == ["AAAA", "BBBB"]
    error_in_last_row = replace_cell(workbook([["content"], ["AAAA"], [], ["LOST"]]), b'<c r="A4"><f>A2</f></c>')
    assert error_of(path, error_in_last_row).startswith(": row 4 holds a formula without a result")


def replace_cell(book: bytes, cell: bytes) -> bytes:
    """Return the workbook with *cell* in place of the cell at the same address."""
    address = cell.partition(b">")[0].split()[1]
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, re.sub(rb"<c " + address + b".*?</c>", cell, old.read(name)))
    return changed.getvalue()


def test_visible_sheets_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each visible sheet with content is read with its own heading, and places are Excel's row numbers."""
    path = tmp_path / "keys.xlsx"
    path.write_bytes(workbook([["卡密"], ["AAAA"]], [], [[], ["BBBB"], ["CCCC"]], [["HIDDEN"]], hidden=True))
    reader = sources.Reader(checking.check_sources([path], Reading()))
    assert list(reader) == ["AAAA", "BBBB", "CCCC"]
    assert [reader.place(line) for line in (1, 2, 3)] == [
        f"{path}[Sheet1]:2", f"{path}[Sheet3]:2", f"{path}[Sheet3]:3",
    ]  # fmt: skip
    monkeypatch.setattr("sys.platform", "win32")  # Windows has no way to return freed memory to the system
    assert list(sources.Reader(checking.check_sources([path], Reading()))) == ["AAAA", "BBBB", "CCCC"]
    monkeypatch.undo()
    assert "contains no card keys" in error_of(path, workbook([]))
    assert "is not an Excel file, or a password" in error_of(path, b"PK\3\4 no workbook")
    assert "this is an Excel file" in error_of(tmp_path / "keys.txt", workbook([["AAAA"]]))
    assert "no lines for --as-is" in error_of(path, workbook([["AAAA"]]), as_is=True)


def test_invalid_table_is_refused_with_its_row(tmp_path: Path) -> None:
    """The error names the row and contains no card key."""
    for name, data, expected in (
        ("k.csv", b'AAAA\n"BBBB\n', ": row 2 is not valid CSV"),
        ("k.csv", b"AAAA\nBBBB,CCCC\n", ": row 2 has more than one column"),
        ("k.csv", b"\n1;AAAA;5\n", ": several columns; which one holds the card keys? Columns: 1-3"),
        ("k.csv", "1\tAAAA\t5\n".encode("utf-16"), ": several columns; which one holds the card keys? Columns: 1-3"),
        ("k.csv", b'AAAA\n"BB\nBB"\n', ": row 2 contains a line break"),
        ("k.csv", b'AAAA\n"BBBB\n\n"\n' + b"x" * 70_000, ": row 3 is longer than"),
        ("k.csv", b'content\n"A\rB"\n', ": row 2 contains a carriage return"),
        ("k.jsonl", b'"AAAA"\n{"con\n', ": row 2 is not valid JSON"),
        ("k.jsonl", b'{"a": "A", "b": "B"}\n', ": several columns; which one holds the card keys? Columns: 1 (a), 2"),
        ("k.jsonl", b"{}\n", ": several columns"),
        ("k.jsonl", b'{"key": 1.5}\n', ": row 1 holds a number with decimals"),
        ("k.jsonl", b'{"key": "A"}\n{"id": "A"}\n', ": row 2 has no card key, or one that is not text"),
        ("k.jsonl", b'{"key": "A"}\n{"key": null}\n', ": row 2 has no card key, or one that is not text"),
        ("k.jsonl", b'"A"\n[1]\n', ": row 2 has no card key, or one that is not text"),
        ("k.jsonl", b"[" * 100_000, ": row 1 is longer than"),
        ("k.txt", b"content\nAAAA\n", ": line 1 looks like a heading"),
        ("k.csv", b"", ": the file contains no card keys"),
    ):
        error = error_of(tmp_path / name, data)
        assert error.startswith(expected), (data[:20], error)
        assert not any(key in error for key in ("AAAA", "BBBB"))
    assert "none of the files is a table" in error_of(tmp_path / "k.txt", b"AAAA\n", column="2")
    assert "the file is not utf-16" in error_of(tmp_path / "k.txt", b"A\0B", encoding="utf-16")
    assert ": line 2 is longer than" in error_of(tmp_path / "k.txt", f"A\n{'x' * 70_000}".encode("utf-16"))


def test_json_lines_hold_objects_texts_or_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_bytes(b'{"id": 1, "content": "AAAA"}\n\n{"content": 12345678901234567890123}\n"BBBB"\n')
    assert read(path) == ["AAAA", "", "12345678901234567890123", "BBBB"]
    path.write_bytes(b'{"id": 1, "content": "AAAA"}\n')
    assert read(path, column="id") == ["1"]


def test_skip_heading_and_as_is_change_what_is_read(tmp_path: Path) -> None:
    """--skip-heading drops the first line or row; --as-is reads each line unchanged, even of a table."""
    path = tmp_path / "keys.txt"
    path.write_text("My keys\nAAAA,1\n")
    assert read(path, skip_heading=True) == ["AAAA,1"]
    assert read(path, as_is=True) == ["My keys", "AAAA,1"]
    table = tmp_path / "keys.csv"
    table.write_text("\n,\nMy keys\nAAAA\n\nBBBB\n")
    reader = sources.Reader(checking.check_sources([table], Reading(skip_heading=True)))
    assert list(reader) == ["AAAA", "", "BBBB"]
    assert reader.place(3) == f"{table}:6"
    assert read(table, as_is=True) == ["", ",", "My keys", "AAAA", "", "BBBB"]


def write_and_read_bytes(path: Path, keys: Iterable[str], **options: Any) -> bytes:
    rows = [(number, key, "soldin") for number, key in enumerate(keys, 1)]
    with path.open("wb") as file, writing.open_writer(path, file, COLUMNS, **options) as writer:
        writer.write(rows)
    return path.read_bytes()


# Characters of card keys that GatePay stores and an upload can send: no line ends and no surrogates. KEY has no spaces
# at its ends, because GatePay and the upload strip them.
LETTER = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufffe\uffff")
TRICKY_KEYS = st.sampled_from(
    ["00123", "=1+1", "@SUM(1)", "+1", "-1", '"', '""', ",", "a,b", "'", "1E5", "TRUE", "_x0041_", "#N/A", "{", "a;b",
     "content", "1/2", "12345678901234567890", "a\tb", "&amp;", "<b>", "]]>"]
)  # fmt: skip
KEY = st.one_of(TRICKY_KEYS, st.text(LETTER, min_size=1, max_size=12)).filter(lambda key: key.strip() == key != "")


@settings(max_examples=20)  # each example writes six files
@given(keys=st.lists(KEY, min_size=1, max_size=40))
def test_exported_card_keys_are_read_back(keys: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """An upload reads exactly the card keys that an export wrote, in each format."""
    folder = tmp_path_factory.mktemp("written")
    for name, options, reading in (
        ("keys.csv", {}, {}),
        ("keys.csv", {"excel": True}, {}),
        ("keys.tsv", {}, {}),
        ("keys.jsonl", {}, {}),
        ("keys.xlsx", {}, {}),
        ("keys.txt", {}, {"as_is": True}),
    ):
        write_and_read_bytes(folder / name, keys, **options)
        assert [key.strip("\t") for key in read(folder / name, **reading)] == keys, (name, options)


def test_excel_csv_prefixes_texts_with_a_tab(tmp_path: Path) -> None:
    """With a tab in front, Excel doesn't convert a text to a formula, a number or a date."""
    data = write_and_read_bytes(tmp_path / "keys.csv", ["=1+1", "00123", "+1", "@A", "MAR1", '"\r'], excel=True)
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.count(b"\r\n") == 7
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))[1:]
    assert all(cell.startswith("\t") for row in rows for cell in row[1:])
    assert [row[1] for row in rows] == ["\t=1+1", "\t00123", "\t+1", "\t@A", "\tMAR1", '\t"\r']


def test_unsupported_card_keys_are_refused_by_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text file can't contain a line break within a card key, and an Excel cell no more than 32,767 characters."""
    with pytest.raises(writing.CantHoldError):
        write_and_read_bytes(tmp_path / "keys.txt", ["A\nB"], refuse_line_breaks=True)
    lines = write_and_read_bytes(tmp_path / "keys.txt", ["A\rB", "卡"], encoding="gbk", with_heading=True)
    assert lines.decode("gbk") == "content\nA\rB\n卡\n"
    with pytest.raises(writing.CantHoldError):
        write_and_read_bytes(tmp_path / "keys.xlsx", ["x" * 32_768])
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    write_and_read_bytes(tmp_path / "keys.jsonl", ["half \ud800"])
    assert b"\\ud800" in (tmp_path / "keys.jsonl").read_bytes()
    write_and_read_bytes(tmp_path / "empty.xlsx", ["A", "", "B"])
    assert read(tmp_path / "empty.xlsx") == ["A", "", "B"]
    monkeypatch.setattr(writing, "MAX_ROWS", 3)
    write_and_read_bytes(tmp_path / "keys.xlsx", ["A", "B", "C"])
    assert read(tmp_path / "keys.xlsx") == ["A", "B", "C"]
    assert "contains no card keys" in error_of(tmp_path / "keys.xlsx", write_and_read_bytes(tmp_path / "keys.xlsx", []))


def test_table_too_large_for_memory_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check keeps a small file in memory; a larger table is read again for the upload."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 10)
    keys = [f"KEY-{number}" for number in range(5000)]
    for name in ("keys.csv", "keys.jsonl", "keys.xlsx", "keys.tsv"):
        write_and_read_bytes(tmp_path / name, keys)
        [checked] = checking.check_sources([tmp_path / name], Reading())
        assert (checked.content, checked.line_count) == (None, 5000), name
        assert list(sources.Reader([checked])) == keys, name


def test_lines_can_be_closed_after_their_file() -> None:
    """A UTF-16 file may be closed before all of its lines are read."""
    file = io.BytesIO("A\nB\n".encode("utf-16"))
    lines = read_lines(file, "utf-16")
    assert next(lines) == "A"
    file.close()
    cast("Generator[str]", lines).close()
