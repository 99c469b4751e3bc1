"""Tests of ``gatepay keys`` with files of merchants: tables, odd lines, headings, encodings, long pipes."""

import json
import os
import re
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from merchant_files import KEYS, TEXTS, workbook

from gatepay_async.cli import checking
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("impatient_uploads")]

ENDPOINT_CLOSED = 107  # the code with which ka/create refuses every chunk
TRICKY_KEYS = ["00123", "=1+1", 'say "hi"', "a,b", "卡密-1", "a\tb", "1E5", "KEY-1"]


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make standard input and output a terminal, so that the command asks for confirmation."""
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)


def test_exported_file_can_be_uploaded_in_each_format(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """An upload of an exported file stores the same card keys for another product."""
    shop.add_keys(8, TRICKY_KEYS)
    initial_count = len(shop.keys(4))
    for number, (name, *options) in enumerate((
        ("k.csv",), ("e.csv", "--excel"), ("k.tsv",), ("k.jsonl",), ("k.xlsx",), ("e.XLSX", "--excel"), ("k.txt",),
    )):  # fmt: skip
        path = tmp_path / name
        assert gatepay("keys", "export", "-p", 8, "-o", path, *options).status == 0, name
        assert path.stat().st_mode & 0o777 == 0o600
        confirmation = ["--yes"] if name == "k.txt" else []  # some of the card keys are odd lines in a text file
        run = gatepay("keys", "upload", path, "-p", 4, "--json", *confirmation)
        assert (run.status, run.json["read"]) == (0, len(shop.keys(8))), (name, run)
        assert shop.keys(4)[initial_count:] == shop.keys(8), name
        # The first upload stores all card keys; the later ones find them on the server.
        assert run.json["stored"] == (0 if number else len(shop.keys(8))), name
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["e.XLSX", "e.csv", "k.csv", "k.jsonl", "k.tsv", "k.txt", "k.xlsx"]
    )


def test_export_refuses_unsupported_content_and_leaves_no_file(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export to .txt refuses a line break in a card key, and --excel. An export to a full disk leaves no file."""
    shop.add_keys(8, ["TWO\nLINES"])
    run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.txt")
    assert (run.status, "contains a line break" in run.err, "export to .csv" in run.err) == (2, True, True)
    run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.txt", "--excel")
    assert (run.status, "--excel is for .csv" in run.err) == (2, True)
    assert gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.csv").status == 0
    run = gatepay("keys", "upload", tmp_path / "k.csv", "-p", 4)
    assert (run.status, f"row {len(shop.keys(8)) + 1} contains a line break" in run.err) == (2, True)
    (tmp_path / "k.csv").unlink()

    def fail_with_full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xlsxwriter.workbook.ZipFile", fail_with_full_disk)
    run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.xlsx")
    assert (run.status, "No space left" in run.err) == (5, True)
    assert not list(tmp_path.iterdir())


def test_gb18030_file_is_uploaded_with_a_note(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A guessed encoding causes a note on standard error. Names of encodings are accepted in upper case."""
    path = tmp_path / "keys.txt"
    path.write_bytes(TEXTS["notepad-ansi.txt"](KEYS))
    run = gatepay("keys", "upload", path, "-p", 8)
    note = f"Note: {path} is not UTF-8; it is read as gb18030. To change that, use --encoding.\n"
    assert (run.status, run.err) == (0, note)
    assert shop.keys(8)[-3:] == KEYS
    assert gatepay("keys", "upload", path, "-p", 8, "--encoding", "GBK").err == ""
    assert gatepay("keys", "upload", path, "-p", 8, "--encoding", "AUTO").status == 0
    run = gatepay("keys", "upload", path, "-p", 8, "--encoding", "klingon")
    assert (run.status, "choose from auto, utf-8" in run.err) == (2, True)


def test_heading_in_a_text_file_needs_an_option(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A text file with a heading needs --skip-heading or --as-is; --skip-heading writes a heading to failed lines."""
    path, failed = tmp_path / "keys.txt", tmp_path / "failed.txt"
    path.write_text("卡密\nAAAA\nBBBB\n")
    run = gatepay("keys", "upload", path, "-p", 8)
    assert (run.status, "--skip-heading" in run.err, "--as-is" in run.err) == (2, True, True)
    assert not shop.requests
    options = ("-p", 8, "--skip-heading", "--failed-lines", failed)
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=ENDPOINT_CLOSED))
    run = gatepay("keys", "upload", path, *options, "--json")
    assert (run.status, run.json["troubles"][0]["first"]) == (3, f"{path}:2")
    assert run.json["troubles"][0]["code"] == ENDPOINT_CLOSED
    assert failed.read_text() == "content\nAAAA\nBBBB\n"
    assert gatepay("keys", "upload", failed, *options[:-2]).status == 0
    assert shop.keys(8)[-2:] == ["AAAA", "BBBB"]
    assert gatepay("keys", "upload", path, "-p", 8, "--as-is", "--json").json["stored"] == 1


def test_failed_lines_have_the_format_of_their_extension(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A file of failed lines can be uploaded with the same options as the input."""
    path = tmp_path / "keys.csv"
    path.write_text("id,卡密\n1,AAAA\n2,00123\n")
    for name in ("f.csv", "f.xlsx", "f.jsonl", "f.tsv"):
        options = ("-p", 8, "--column", "2", "--failed-lines", tmp_path / name)
        shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=ENDPOINT_CLOSED))
        assert gatepay("keys", "upload", path, *options).status == 3, name
        assert gatepay("keys", "upload", tmp_path / name, *options[:-1], tmp_path / "more.txt").status == 0, name
    assert shop.keys(8)[-2:] == ["AAAA", "00123"]
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=ENDPOINT_CLOSED))
    options = ("-p", 8, "--as-is", "--skip-heading", "--failed-lines", tmp_path / "lines.csv")
    run = gatepay("keys", "upload", path, *options)
    assert (run.status, "Upload that file with --as-is, too." in run.out) == (3, True)
    assert (tmp_path / "lines.csv").read_text() == path.read_text()


def test_odd_lines_without_a_terminal_need_yes(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """Without a terminal odd lines are an error that shows them masked. --yes uploads them, --dry-run lists them."""
    path = tmp_path / "keys.txt"
    path.write_text("AAAA-QWERTY,5\nBBBB-2222\n<b>CCCC-3333</b>\n")
    run = gatepay("keys", "upload", path, "-p", 8)
    assert (run.status, "AA…,5  (contains a comma)" in run.err, "--yes" in run.err) == (2, True, True)
    assert "QWERTY" not in run.err
    assert not shop.requests
    shown = gatepay("keys", "upload", path, "-p", 8, "--dry-run")
    assert (shown.status, f"{path}:3  <b…b>  (contains markup)" in shown.out) == (0, True)
    listed = gatepay("keys", "upload", path, "-p", 8, "--dry-run", "--json").json
    assert listed["odd_lines"] == [f"{path}:1", f"{path}:3"]
    assert gatepay("keys", "upload", path, "-p", 8, "--yes").status == 0
    assert gatepay("keys", "upload", "-", "-p", 8, "-y", input="A,B\n").status == 0
    assert shop.keys(8)[-2:] == ["<b>CCCC-3333</b>", "A,B"]


@pytest.mark.usefixtures("at_terminal")
def test_odd_lines_on_a_terminal_need_confirmation(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"AAAA-{number},5\n" for number in range(1200)))
    for lang, answer, status in (("en", "\n", 2), ("zh", "n\n", 2), ("zh", "是\n", 0), ("en", "Y\n", 0)):
        run = gatepay("keys", "upload", path, "-p", 8, "--lang", lang, input=answer)
        assert run.status == status, (lang, answer, run)
        assert ("1,200" in run.err, run.err.count("AA…,5")) == (True, 5)
    before = len(shop.requests)
    assert gatepay("keys", "upload", "-", "-p", 8, input="A,B\n").status == 2
    assert len(shop.requests) == before


def test_durable_upload_of_a_table_is_the_same_job_in_any_format(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEPAY_UPLOADS", f"sqlite:///{tmp_path}/uploads.sqlite3")
    (tmp_path / "keys.xlsx").write_bytes(workbook([["卡密", "面值"], ["AAAA", 5], ["00123", 5]]))
    (tmp_path / "keys.csv").write_text("content\nAAAA\n00123\n")
    (tmp_path / "odd.txt").write_text("AAAA,5\n")
    options = ("-p", 8, "--durable", "--json")
    first = gatepay("keys", "upload", tmp_path / "keys.xlsx", *options, "--column", "卡密")
    assert (first.status, first.json["stored"]) == (0, 2)
    again = gatepay("keys", "upload", tmp_path / "keys.csv", *options)
    assert (again.status, again.json["job"]) == (0, first.json["job"])
    assert shop.keys(8)[-2:] == ["AAAA", "00123"]
    assert gatepay("keys", "upload", tmp_path / "odd.txt", *options).status == 2


def test_long_pipe_is_checked_at_its_start_only(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the start of a long pipe is checked before the upload; later invalid lines are refused when read."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 1000)
    monkeypatch.setattr(checking, "_MIN_PIPE_BYTES", 0)
    text = "".join(f"卡密-{number:04}\n" for number in range(700))
    for encoding in ("utf-8", "utf-16", "gb18030"):
        run = gatepay("keys", "upload", "-", "-p", 8, "--json", input=text.encode(encoding))
        assert (run.status, run.json["read"], run.json["not_read"]) == (0, 700, None), encoding
    assert sorted(shop.keys(8)[-700:]) == text.splitlines()
    late_error = b"AAAA\n" * 1000 + b"\xff\n"
    run = gatepay("keys", "upload", "-", "-p", 8, "--json", input=late_error)
    assert (run.status, run.json["troubles"][0]["first"]) == (1, "standard input:1001")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = Thread(target=fifo.write_text, args=("".join(f"FIFO-{number}\n" for number in range(200)),))
    writer.start()
    assert gatepay("keys", "upload", fifo, "-p", 8, "--json").json["stored"] == 200
    writer.join()


def test_long_utf16_pipe_is_not_cut_within_a_character(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long UTF-16 pipe is accepted, wherever its checked start ends: between the halves of an emoji, for example."""
    monkeypatch.setattr(checking, "_MIN_PIPE_BYTES", 0)
    keys = [f"{'😀' * 200}-{number}" for number in range(4)]
    for max_bytes_kept in range(1000, 1004):
        monkeypatch.setattr(checking, "MAX_BYTES_KEPT", max_bytes_kept)
        run = gatepay(
            *("keys", "upload", "-", "-p", 8, "--encoding", "utf-16-le", "--json"),
            input="\n".join(keys).encode("utf-16-le"),
        )
        assert (run.status, run.json["read"]) == (0, len(keys)), max_bytes_kept


def test_pipe_after_a_long_input_is_read(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe is read even if an earlier file has used up the memory for checked inputs."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 1000)
    path = tmp_path / "long.txt"
    for size in (990, 1000):  # some bytes are left, or none
        path.write_text("A" * (size // 2 - 1) + "\n" + "B" * (size // 2 - 1) + "\n")
        run = gatepay("keys", "upload", path, "-", "-p", 8, "--dry-run", "--json", input="LAST-KEY-1\nLAST-KEY-2\n")
        assert (run.status, run.json["would_send"]) == (0, 4), size


def test_long_table_in_a_pipe_is_refused(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table in a pipe is refused if it doesn't fit into memory. Otherwise its whole rows would be card keys."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 1000)
    monkeypatch.setattr(checking, "_MIN_PIPE_BYTES", 0)
    fifo = tmp_path / "keys.csv"
    os.mkfifo(fifo)
    content = "id,content\n" + "".join(f"{number},KEY-{number}\n" for number in range(200))
    writer = Thread(target=fifo.write_text, args=(content,))
    writer.start()
    run = gatepay("keys", "upload", fifo, "-p", 8, "--json")
    writer.join()
    problem = run.json["error"]["problem"]["facts"]["problem"]
    assert (run.status, problem["name"], shop.requests) == (2, "sources.long_table", [])


def test_stopped_upload_reports_the_lines_not_read(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """An upload that stops early reports how many lines of the file were not read."""
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"KEY-{number:06}\n" for number in range(60_000)))
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=ENDPOINT_CLOSED, times=None))
    run = gatepay("keys", "upload", path, "-p", 8, "--concurrency", 1)
    read, not_read = (re.search(rf"^ {name} +([\d,]+)$", run.out, re.MULTILINE) for name in ("read", "not read yet"))
    assert read
    assert not_read
    assert sum(int(match[1].replace(",", "")) for match in (read, not_read)) == 60_000
    as_json = json.loads(gatepay("keys", "upload", path, "-p", 8, "--json").out)
    assert as_json["read"] + as_json["not_read"] == 60_000
