"""Tests of ``gatepay keys upload``, ``keys export`` and ``keys count``, also with failing servers and files."""

import csv
import io
import json
import os
import re
import stat
import sys
import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress, Task

from gatepay_async import AsyncGatePay, CardKeyListing, UploadReport
from gatepay_async.cli import checking, language, output, screens, sources
from gatepay_async.cli.commands import keys_dry_run, keys_upload
from gatepay_async.cli.files.reading import Reading
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.words import LANGUAGES, Lang

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("impatient_uploads")]

# The columns of the report. Each line of the input is counted in one of them.
COLUMNS = ("blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent")

INITIAL_KEYS = 89  # card keys that a new sandbox has of product 8

# Codes of refusals
ENDPOINT_CLOSED = 107
TOO_MANY_KEYS = 111
STORAGE_FAILED = 113
UNDOCUMENTED = 199


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file such as merchants have: a byte-order mark, blank lines, duplicates and two kinds of line ends."""
    path = tmp_path / "keys.txt"
    path.write_bytes(b"\xef\xbb\xbfAAAA-1\r\n\r\nBBBB-2\n AAAA-1 \nCCCC-3")
    return path


def write_keys(path: Path, count: int) -> Path:
    path.write_text("".join(f"KEY-{number:06d}\n" for number in range(count)))
    return path


# -- upload -----------------------------------------------------------------------------------------------------------


def test_upload_counts_each_line_of_a_file(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    """The report counts each line of the file, and the shop has each card key once."""
    before = len(shop.keys(8))
    run = gatepay("keys", "upload", keys, "--product", 8, "--json")
    assert run.status == 0
    assert sum(run.json[name] for name in COLUMNS) == run.json["read"] == 5
    assert {name: run.json[name] for name in ("blank", "duplicates", "stored", "ok")} == {
        "blank": 1, "duplicates": 1, "stored": 3, "ok": True,
    }  # fmt: skip
    assert (run.json["product"], run.json["base_url"]) == (8, os.environ["GATEPAY_BASE_URL"])
    assert shop.keys(8)[before:] == ["AAAA-1", "BBBB-2", "CCCC-3"]


@pytest.mark.parametrize(
    ("lang", "expected"), [("en", "All card keys are on the server."), ("zh", "全部卡密都已在服务器上")]
)
def test_upload_prints_a_translated_report_without_card_keys(
    gatepay: Any, shop: Sandbox, keys: Path, lang: str, expected: str
) -> None:
    run = gatepay("keys", "upload", keys, "-p", 8, "--lang", lang)
    assert (run.status, run.err) == (0, "")
    assert expected in run.out
    assert run.out.startswith({"en": "Product 8 on http://127.0.0.1:", "zh": "商品 8，服务器 http://127.0.0.1:"}[lang])
    assert "AAAA" not in run.out
    assert shop.requests


def test_second_upload_of_a_file_stores_nothing(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    """The second upload of a file reports its card keys as already there."""
    gatepay("keys", "upload", keys, "-p", 8)
    run = gatepay("keys", "upload", keys, "-p", 8, "--json")
    assert (run.status, run.json["stored"], run.json["already_there"]) == (0, 0, 3)
    assert len(shop.keys(8)) == INITIAL_KEYS + 3


def test_several_files_are_deduplicated_as_one_input(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """A card key that is in two files is sent once, and a file that is listed twice is read once."""
    more = tmp_path / "more.txt"
    more.write_text("BBBB-2\nDDDD-4\n")
    (tmp_path / "link.txt").symlink_to(keys)
    run = gatepay("keys", "upload", keys, more, tmp_path / "link.txt", "-p", 8, "--json")
    assert (run.json["read"], run.json["stored"], run.json["duplicates"]) == (7, 4, 2)
    assert "link.txt is listed twice" in run.err
    assert shop.keys(8)[-1] == "DDDD-4"


def test_as_is_upload_of_standard_input_refuses_invalid_lines_only(gatepay: Any, shop: Sandbox) -> None:
    """With --as-is, only the invalid lines of standard input are refused. Without --as-is, nothing is sent."""
    broken = b"AAAA\nB\0B\n\xff\xfe\nCCCC\n"
    run = gatepay("keys", "upload", "-", "-p", 8, "--as-is", "--json", input=broken)
    assert run.status == 1
    assert (run.json["stored"], run.json["refused"]) == (2, 2)
    assert [trouble["first"] for trouble in run.json["troubles"]] == ["standard input:2", "standard input:3"]
    assert shop.keys(8)[-2:] == ["AAAA", "CCCC"]
    before = len(shop.requests)
    checked = gatepay("keys", "upload", "-", "-p", 8, input=broken)
    assert (checked.status, "standard input: line 3 is not UTF-8" in checked.err) == (2, True)
    assert len(shop.requests) == before


def test_upload_without_card_keys_is_an_error(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """An input without card keys is probably the wrong one: a usage error, except from a pipe with --as-is."""
    for name, text in (("empty.txt", ""), ("blank.txt", "\n \n"), ("empty.csv", ""), ("head.csv", "content\n")):
        path = tmp_path / name
        path.write_text(text)
        for options in ([], ["--dry-run"]):
            run = gatepay("keys", "upload", path, "-p", 8, *options)
            assert (run.status, "contains no card keys" in run.err) == (2, True), (name, run)
    assert gatepay("keys", "upload", "-", "-p", 8).status == 2
    run = gatepay("keys", "upload", "-", "-p", 8, "--as-is", input="\n \n")
    assert (run.status, "there was nothing to upload" in run.out) == (0, True)
    assert not shop.requests


def test_upload_from_closed_standard_input_is_an_error(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_closed", {"stdin"})
    run = gatepay("keys", "upload", "-", "-p", 8)
    assert (run.status, "Standard input is closed" in run.err) == (2, True)
    assert not shop.requests


def test_partly_refused_upload_exits_with_1(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of a partly refused upload shows the refused lines, and the failed lines can be uploaded again."""
    monkeypatch.chdir(tmp_path)  # a long path would be wrapped
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=TOO_MANY_KEYS, skip=1, times=None))
    failed = Path("failed.txt")
    file = write_keys(Path("keys.txt"), 600)
    run = gatepay("keys", "upload", file, "-p", 8, "--concurrency", 1, "--failed-lines", failed)
    assert run.status == 1
    assert "refused" in run.out
    assert f"{file}:501" in run.out
    assert f"are in {failed}. You can upload that file" in run.out.replace("\n", "")
    assert stat.S_IMODE(failed.stat().st_mode) == 0o600
    assert failed.read_text().splitlines() == [f"KEY-{number:06d}" for number in range(500, 600)]
    shop.clear_faults()
    again = gatepay("keys", "upload", failed, "-p", 8, "--json")
    assert (again.status, again.json["stored"]) == (0, 100)


def test_refused_long_card_key_has_a_remedy(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """GatePay says only that its database failed. The remedy names the likely cause if single lines fail."""
    (tmp_path / "keys.txt").write_text("A" * 300)
    run = gatepay("keys", "upload", tmp_path / "keys.txt", "-p", 8, "--json")
    [trouble] = run.json["troubles"]
    assert (run.status, "up to 255 characters" in trouble["todo"], len(shop.keys(8))) == (3, True, INITIAL_KEYS)


def test_upload_stops_after_a_refusal_that_affects_all_chunks(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed shop refuses every chunk: the upload stops early with status 3 and writes all lines to the file."""
    monkeypatch.chdir(tmp_path)  # a long path would leave little room for the reason
    failed = Path("failed.txt")
    file = write_keys(Path("keys.txt"), 5000)
    shop.change_shop(closed=True)
    run = gatepay("keys", "upload", file, "-p", 8, "--failed-lines", failed, "--lang", "zh")
    assert run.status == 3
    assert "该接口未对店铺开放" in run.out
    assert "已提前停止" in run.err
    assert failed.read_text() == file.read_text()


def test_unreachable_server_exits_with_4(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://127.0.0.1:9/api/")
    run = gatepay("keys", "upload", keys, "-p", 8)
    assert run.status == 4
    assert "gatepay doctor" in run.out
    assert gatepay("products").status == 4


def test_report_shows_the_first_twenty_failures(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """The report shows the first twenty failed lines, and how many more there are."""
    lines = "".join(f"GOOD-{number}\nBAD\0-{number}\n" for number in range(30))
    run = gatepay("keys", "upload", "-", "-p", 8, "--as-is", input=lines)
    assert run.status == 1
    assert re.search(r"standard input:2 +1 +refused +contains a NUL character; the file may be UTF-16", run.out)
    assert "standard input:40 " in run.out
    assert "standard input:42" not in run.out
    assert "… and 10 more" in run.out
    assert len(shop.keys(8)) == INITIAL_KEYS + 30


def test_adjacent_chunks_with_the_same_error_share_a_row(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adjacent chunks with the same error are one row in the table; --json lists each chunk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gatepay_async.protocol.progress._FULL_CREDIT", 0)  # refused chunks are not halved
    first, second = write_keys(Path("one.txt"), 1500), Path("two.txt")
    second.write_text("".join(f"TWO-{number}\n" for number in range(1000)))
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=UNDOCUMENTED, times=None, skip=1))
    run = gatepay("keys", "upload", first, second, "-p", 8, "--concurrency", 1)
    assert re.search(rf"{first}:501 – {second}:1000 +2,000 +refused", run.out)
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=UNDOCUMENTED, times=None))
    run = gatepay("keys", "upload", first, "-p", 9, "--concurrency", 1)
    assert re.search(rf"{first}:1 – 1500 +1,500 +refused", run.out)
    troubles = gatepay("keys", "upload", first, "-p", 9, "--concurrency", 1, "--json").json["troubles"]
    assert [(trouble["first"], trouble["count"]) for trouble in troubles] == [
        (f"{first}:{n}", 500) for n in (1, 501, 1001)
    ]


@pytest.mark.parametrize("relation", ["same", "linked", "read by the shell"])
def test_failed_lines_file_must_not_be_the_input(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch, relation: str
) -> None:
    """--failed-lines refuses a path that is the input file, also through a link or a redirection."""
    before = keys.read_bytes()
    failed = keys
    if relation == "linked":
        failed = keys.with_name("linked.txt")
        failed.symlink_to(keys)
    with keys.open("rb") as opened:
        if relation == "read by the shell":
            monkeypatch.setattr("typer.testing._NamedTextIOWrapper.fileno", lambda _: opened.fileno())
        source = "-" if relation == "read by the shell" else keys
        run = gatepay("keys", "upload", source, "-p", 8, "--failed-lines", failed)
    assert (run.status, run.out) == (2, "")
    assert "would be replaced" in run.err
    assert keys.read_bytes() == before
    assert not shop.requests


def test_old_failed_lines_are_kept_until_the_upload_ends(
    gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed lines of an earlier run are replaced only when the new run ends, so a killed run loses nothing."""
    failed = tmp_path / "failed.txt"
    failed.write_text("OLD\n")
    content_during_upload: list[str] = []
    finish = keys_upload._finish

    def read_and_finish(*arguments: Any) -> Any:
        content_during_upload.append(failed.read_text())
        return finish(*arguments)

    monkeypatch.setattr(keys_upload, "_finish", read_and_finish)
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=STORAGE_FAILED, times=None))
    assert gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", failed).status == 3
    assert (content_during_upload, failed.read_text()) == (["OLD\n"], "AAAA-1\nBBBB-2\nCCCC-3\n")
    assert sorted(tmp_path.iterdir()) == sorted([failed, keys])


@pytest.mark.parametrize("content", ["OLD\n", None])
def test_failed_lines_are_written_through_a_link(gatepay: Any, shop: Sandbox, keys: Path, content: str | None) -> None:
    """A symbolic link to the file of failed lines stays a link."""
    folder = keys.with_name("folder")
    folder.mkdir()
    if content is not None:
        (folder / "failed.txt").write_text(content)
    link = keys.with_name("link.txt")
    link.symlink_to(folder / "failed.txt")
    # Product 999 does not exist, so all card keys are refused.
    assert gatepay("keys", "upload", keys, "-p", 999, "--failed-lines", link).status == 3
    assert link.is_symlink()
    assert [path.read_text() for path in folder.iterdir()] == ["AAAA-1\nBBBB-2\nCCCC-3\n"]
    assert shop.requests


def test_failed_lines_do_not_replace_the_file_that_gets_the_output(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell may redirect the command's output to the file; /dev/stdout then names that file, too."""
    log = keys.with_name("report.log")
    log.write_text("old report\n")
    status = log.stat()
    monkeypatch.setattr(os, "fstat", lambda _: status)  # as if a shell had redirected the output
    run = gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", log)
    assert (run.status, "this command's output goes" in run.err) == (2, True)
    assert log.read_text() == "old report\n"
    assert not shop.requests


def test_failed_lines_file_is_emptied_when_no_line_failed(
    gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path
) -> None:
    """An upload without failed lines leaves an empty file, so that nobody uploads older lines by mistake."""
    failed = tmp_path / "failed.txt"
    failed.write_text("OLD\n")
    assert gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", failed).status == 0
    assert failed.read_text() == ""
    assert shop.requests


def test_concurrency_takes_a_number_or_auto(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    """--concurrency takes a whole number above 0, or auto. Other values are refused before anything is sent."""
    for wrong in ("fast", "0", "-1", "1.5"):
        run = gatepay("keys", "upload", keys, "-p", 8, f"--concurrency={wrong}")
        assert run.status == 2, wrong
        assert "must be a whole number above 0, or auto" in run.err
    assert not shop.requests
    assert gatepay("keys", "upload", keys, "-p", 8, "--concurrency", "auto").status == 0
    assert shop.requests


@pytest.mark.parametrize("target", ["no/such/folder/failed.txt", "."])
def test_unwritable_failed_lines_file_is_refused_before_sending(
    gatepay: Any, shop: Sandbox, keys: Path, target: str
) -> None:
    run = gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", target)
    assert run.status == 2
    assert target in run.err
    assert not shop.requests


def record_opens(path: Path) -> list[str]:
    """Return a list that grows each time *path* is opened. Python can't remove an audit hook again."""
    opens: list[str] = []
    sys.addaudithook(lambda event, facts: opens.append(event) if event == "open" and facts[0] == str(path) else None)
    return opens


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ([], 0),
        (["--failed-lines", "failed.txt"], 3),
        (["--durable", "--no-wait"], 0),
        (["--dry-run"], 0),
    ],
)
def test_input_file_is_opened_once(  # noqa: PLR0917 -- pytest passes fixtures by name
    gatepay: Any,
    shop: Sandbox,
    keys: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    status: int,
) -> None:
    """The checked bytes are the sent bytes: a file is opened once, even if the rest of it becomes failed lines."""
    monkeypatch.chdir(keys.parent)
    monkeypatch.setenv("GATEPAY_UPLOADS", f"sqlite:///{keys.parent}/uploads.sqlite3")
    shop.change_shop(closed=status == 3)
    opens = record_opens(write_keys(keys, 20_000))
    assert gatepay("keys", "upload", keys, "-p", 8, *options).status == status
    assert len(opens) == 1
    assert status == 0 or len((keys.parent / "failed.txt").read_text().splitlines()) == 20_000


def test_file_that_changes_during_the_upload_is_reported(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of a large file during the upload is reported. Each of its lines is stored or in the failed lines."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 100)  # so that the file counts as large
    write_keys(keys, 700)
    check_sources = checking.check_sources

    def check_and_append(names: list[Path], reading: Reading) -> list[sources.InputSource]:
        checked = check_sources(names, reading)
        with keys.open("a") as file:
            file.write("DDDD-4\n")
        return checked

    monkeypatch.setattr(checking, "check_sources", check_and_append)
    failed = keys.with_name("failed.txt")
    run = gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", failed)
    assert run.status == 1
    assert "changed while it was being read" in run.err
    assert sorted(shop.keys(8)[INITIAL_KEYS:] + failed.read_text().splitlines()) == sorted(
        keys.read_text().splitlines()
    )


def test_file_deleted_after_the_check_is_reported(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file that is deleted between the check and the upload is a usage error."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 10)  # so that the file counts as large
    check_sources = checking.check_sources

    def check_and_unlink(names: list[Path], reading: Reading) -> list[sources.InputSource]:
        checked = check_sources(names, reading)
        keys.unlink()
        return checked

    monkeypatch.setattr(checking, "check_sources", check_and_unlink)
    run = gatepay("keys", "upload", keys, "-p", 8)
    assert run.status == 2
    assert "File not found" in run.err
    assert not shop.requests


def test_failed_lines_of_a_deleted_file_are_those_read_before(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a large file is deleted before an upload stops, the report says so and the lines read so far are saved."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 100)  # so that the file counts as large
    file, failed = write_keys(tmp_path / "keys.txt", 20_000), tmp_path / "failed.txt"
    unread_lines = sources.unread_lines

    def unlink_first(checked: list[sources.InputSource], *, after: int) -> Any:
        file.unlink()
        return unread_lines(checked, after=after)

    monkeypatch.setattr(sources, "unread_lines", unlink_first)
    shop.change_shop(closed=True)
    run = gatepay("keys", "upload", file, "-p", 8, "--failed-lines", failed)
    assert run.status == 3
    assert "Input that was not read yet" in run.out
    assert len(failed.read_text().splitlines()) >= 2000


def test_report_is_shown_when_failed_lines_cant_be_written(
    gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the end of the upload: the report is shown, and the status is 5."""

    def fail_with_full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_with_full_disk)
    run = gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", tmp_path / "failed.txt")
    assert run.status == 5
    assert "newly stored" in run.out
    assert "No space left" in run.err
    assert shop.requests


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("durable", [(), ("--durable",)])
def test_report_omits_a_failed_lines_file_that_was_not_written(
    gatepay: Any, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: tuple[str, ...]
) -> None:
    """The report doesn't name a file of failed lines that couldn't be written."""

    @contextmanager
    def write_to_full_disk(*_: object) -> Generator[Any]:
        yield io.BytesIO()
        raise HaltError(language.text("output.unwritable", reason="No space left"), status=Status.NO_OUTPUT)

    for module in ("keys_upload", "uploads"):
        monkeypatch.setattr(f"gatepay_async.cli.commands.{module}.atomic_write", write_to_full_disk)
    failed = tmp_path / "failed.txt"
    # Product 999 does not exist, so all card keys are refused.
    run = gatepay("keys", "upload", keys, "-p", 999, "--failed-lines", failed, *durable)
    assert "refused" in run.out
    assert "failed.txt" not in run.out
    assert "No space left" in run.err


def test_unexpected_exception_of_an_upload_is_raised(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that is not the library's is raised, after the report if it has one."""

    class Broken(Exception):  # noqa: N818 -- not part of the library
        report: UploadReport | None = None

    async def upload(*_: object, **__: object) -> None:
        raise error

    error = Broken()
    monkeypatch.setattr("gatepay_async.client.AsyncGatePay.upload_card_keys", upload)
    with pytest.raises(Broken):
        gatepay("keys", "upload", keys, "-p", 8)
    counts: dict[str, Any] = dict.fromkeys(("read", *COLUMNS), 0)
    error.report = UploadReport(**counts, chunks=())
    with pytest.raises(Broken):
        gatepay("keys", "upload", keys, "-p", 8)
    assert not shop.requests


def test_interrupted_pipe_has_status_2(tmp_path: Path) -> None:
    """A pipe that breaks off ends the upload with status 2, although the unread lines can't be written to the file."""
    counts: dict[str, Any] = dict.fromkeys(("read", *COLUMNS), 0)
    source = sources.InputSource("standard input", path=None)
    command = keys_upload._UploadCommand(
        product_id=8, reader=sources.Reader([source]), sources=[source], reading=Reading(),
        failed_lines=tmp_path / "failed.txt",
    )  # fmt: skip
    error = HaltError(language.text("sources.closed"))
    assert keys_upload._finish(command, UploadReport(**counts, chunks=()), error) == 2


# -- encodings and unusual files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("AAAA\nClé-1\n".encode("latin-1"), "line 2 is not UTF-8, and the encoding can't be recognized"),
        ("AAAA\n".encode("utf-16") + b"\0", "the encoding can't be recognized"),
        ("AAAA\nBBBB\n".encode("utf-16-le"), "line 1 contains a NUL"),
        (b"AAAA\nBB\0BB\n", "line 2 contains a NUL"),
        (b"AAAA\rBBBB\rCCCC", "line 1 contains a carriage return"),
        (b"AAAA\nBBBB\xc3\n", "line 2 is not UTF-8"),
        (None, "line 2 is longer than 65536 bytes"),
    ],
    ids=["latin-1", "half of utf-16", "utf-16 without mark", "nul", "cr only", "cut short", "100 MB"],
)
@pytest.mark.parametrize("options", [["--dry-run"], []], ids=["dry run", "upload"])
def test_file_in_a_wrong_encoding_is_refused_with_its_line(  # noqa: PLR0917 -- pytest passes fixtures by name
    gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path, content: bytes | None, expected: str, options: list[str]
) -> None:
    """The error names the line, and nothing is sent, not even from the valid file before it."""
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"AAAA\n" + b"x" * 100_000_000 + b"\nBBBB\n" if content is None else content)
    run = gatepay("keys", "upload", keys, bad, "-p", 8, *options)
    assert (run.status, run.out) == (2, "")
    assert f"{bad}: " in run.err
    assert expected in run.err
    assert "save the file as UTF-8" in run.err
    assert not shop.requests


def test_device_is_read_to_its_end(gatepay: Any, shop: Sandbox) -> None:
    """A device such as /dev/null is read to its end. Without card keys it is an error, except with --as-is."""
    assert gatepay("keys", "upload", "/dev/null", "-p", 8, "--json").status == 2
    run = gatepay("keys", "upload", "/dev/null", "-p", 8, "--as-is", "--json")
    assert (run.status, run.json["read"]) == (0, 0)
    assert not shop.requests


def test_reader_returns_an_empty_line_at_the_end(keys: Path) -> None:
    """The library reads a file by readline(), which returns each line, then an empty string."""
    reader = sources.Reader(checking.check_sources([keys], Reading()))
    assert [reader.readline() for _ in range(6)][3:] == [" AAAA-1 ", "CCCC-3", ""]


def test_error_names_the_first_five_invalid_lines(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes("密\n".encode("gbk") * 100)
    run = gatepay("keys", "upload", tmp_path / "bad.txt", "-p", 8, "--encoding", "utf-8")
    assert "line 5 is not valid text" in run.err
    assert "line 6" not in run.err
    assert not shop.requests


def test_encoding_option_decodes_the_file(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """--encoding gbk decodes the file; a line that is invalid in the named encoding is refused."""
    path = tmp_path / "gbk.txt"
    path.write_bytes("张三----密语\n".encode("gbk"))
    assert gatepay("keys", "upload", path, "-p", 8, "--encoding", "gbk").status == 0
    assert shop.keys(8)[-1] == "张三----密语"
    path.write_bytes(b"\xff\xff\n")
    run = gatepay("keys", "upload", path, "-p", 8, "--encoding", "gb18030")
    assert (run.status, "line 1 is not valid text in this encoding" in run.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nowhere.txt", "File not found"), (".", "is a folder"), ("x" * 300, "File name too long")],
)
def test_missing_file_or_folder_is_refused_by_name(gatepay: Any, shop: Sandbox, name: str, expected: str) -> None:
    """The error names the path, and nothing is sent."""
    run = gatepay("keys", "upload", name, "-p", 8)
    assert run.status == 2
    assert expected in run.err
    assert name in run.err
    assert not shop.requests


def test_overlong_line_from_a_pipe_ends_the_upload(gatepay: Any, shop: Sandbox) -> None:
    """A line of a pipe that exceeds the size limit ends the upload, and the report counts the lines before it."""
    run = gatepay("keys", "upload", "-", "-p", 8, "--as-is", "--json", input=b"AAAA\n" * 2 + b"x" * 70_000)
    assert run.status == 2
    report = run.json
    assert (report["duplicates"], report["not_sent"], report["read"]) == (1, 1, 2)
    assert "line 3 is longer than" in report["error"]["headline"]
    assert not shop.requests


# -- dry run ----------------------------------------------------------------------------------------------------------


def test_dry_run_reports_without_key_or_request(gatepay: Any, keys: Path) -> None:
    """--dry-run counts what would be sent, and names duplicates. It needs no appkey and sends no request."""
    run = gatepay("keys", "upload", keys, "-p", 8, "--dry-run", "--json")
    assert run.status == 0
    assert run.json == {
        "read": 5, "blank": 1, "duplicates": 1, "refused": 0, "would_send": 3, "chunks": 1,
        "repetitions": [{"line": f"{keys}:4", "first": f"{keys}:1"}], "refused_lines": [],
        "invisible_lines": [], "odd_lines": [], "samples": ["A…1", "B…2", "C…3"],
    }  # fmt: skip
    shown = gatepay("keys", "upload", keys, "-p", 8, "--dry-run")
    assert "Nothing was sent." in shown.out
    assert f"{keys}:4 is a duplicate of {keys}:1" in shown.out
    assert "For example: A…1  B…2  C…3" in shown.out


def test_dry_run_of_a_pipe_names_invalid_lines(gatepay: Any) -> None:
    """Invalid lines of a pipe are named by line number, and long lists are cut."""
    options = ("-p", 8, "--as-is", "--dry-run")
    assert "For example" not in gatepay("keys", "upload", "-", *options, input=b"B\0\n").out
    shown = gatepay("keys", "upload", "-", *options, input=b"A\n" * 30 + b"B\0\n")
    assert "standard input:31 is not a valid card key" in shown.out
    assert "… and 9 more" in shown.out
    listed = gatepay("keys", "upload", "-", *options, "--json", input=b"A\n" * 3 + b"B\0\nB\0\n").json
    assert [repetition["line"] for repetition in listed["repetitions"]] == ["standard input:2", "standard input:3"]
    assert listed["refused_lines"] == ["standard input:4", "standard input:5"]
    assert (listed["read"], listed["refused"], listed["would_send"], listed["chunks"]) == (5, 2, 1, 1)


def test_dry_run_of_full_chunks_counts_no_empty_chunk(gatepay: Any) -> None:
    """2,500 card keys are exactly five chunks."""
    lines = "".join(f"KEY-{number}\n" for number in range(2_500)).encode()
    counted = gatepay("keys", "upload", "-", "-p", 8, "--dry-run", "--json", input=lines).json
    assert (counted["would_send"], counted["chunks"]) == (2_500, 5)


def test_dry_run_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run keeps digests instead of card keys, so its memory stays below the size of the file."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 1_000_000)
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"{number:0200}\n" for number in range(12_000)))
    tracemalloc.start()
    try:
        keys_dry_run.dry_run([path], Reading())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_500_000


# -- export -----------------------------------------------------------------------------------------------------------


def test_export_to_csv_is_complete_and_private(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A CSV file has a heading and every card key, and is readable by its owner only."""
    path = tmp_path / "keys.csv"
    run = gatepay("keys", "export", "--product", 8, "--output", path)
    assert run.status == 0
    assert "89 card keys written to" in run.out
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
    assert [row["content"] for row in rows] == shop.keys(8)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keys.csv"]


def test_export_fetches_four_pages_at_once(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export fetches four pages at once, and passes --thorough to the client."""
    options_of_calls: list[dict[str, Any]] = []
    list_card_keys = AsyncGatePay.list_card_keys

    def record_options(self: AsyncGatePay, product_id: int, **options: Any) -> CardKeyListing:
        options_of_calls.append(options)
        return list_card_keys(self, product_id, **options)

    monkeypatch.setattr(AsyncGatePay, "list_card_keys", record_options)
    for flags in ((), ("--thorough",)):
        assert gatepay("keys", "export", "-p", 8, "-o", tmp_path / f"k{len(flags)}.txt", *flags).status == 0
    assert options_of_calls == [{"prefetch": 4, "thorough": False}, {"prefetch": 4, "thorough": True}]


def test_export_writes_text_and_json_lines(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A text file has one card key on each line; a JSON Lines file has one object on each line."""
    shop.add_keys(8, ['=HYPERLINK("x")', "密,钥"])
    assert gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.txt", "--thorough").status == 0
    assert (tmp_path / "k.txt").read_text("utf-8").splitlines() == shop.keys(8)
    run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.JSONL", "--json")
    assert run.json == {"written": 91, "output": str(tmp_path / "k.JSONL"), "drifted": False}
    lines = (tmp_path / "k.JSONL").read_text("utf-8").splitlines()
    assert [json.loads(line)["content"] for line in lines] == shop.keys(8)


def test_export_to_standard_output_prints_card_keys_only(gatepay: Any, shop: Sandbox) -> None:
    """`-o -` prints one card key per line, or with --json one object per line; the summary goes to standard error."""
    run = gatepay("keys", "export", "-p", 8, "-o", "-")
    assert run.out.splitlines() == shop.keys(8)
    json_run = gatepay("keys", "export", "-p", 8, "-o", "-", "--json")
    assert [json.loads(line)["content"] for line in json_run.out.splitlines()] == shop.keys(8)
    assert json.loads(json_run.err)["written"] == 89


def test_export_to_a_terminal_requires_reveal(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Card keys are printed on a terminal only with --reveal."""
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    refused = gatepay("keys", "export", "-p", 8, "-o", "-")
    assert (refused.status, "--reveal" in refused.err, refused.out) == (2, True, "")
    assert gatepay("keys", "export", "-p", 8, "-o", "-", "--reveal").out.splitlines() == shop.keys(8)


def test_export_replaces_a_file_only_with_force(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("mine")
    run = gatepay("keys", "export", "-p", 8, "-o", path)
    assert (run.status, path.read_text()) == (2, "mine")
    assert "--force" in run.err
    assert gatepay("keys", "export", "-p", 8, "-o", path, "--force").status == 0
    assert path.read_text().splitlines() == shop.keys(8)


def test_failed_export_leaves_the_old_file_and_no_other(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """An export that fails halfway doesn't change the existing file and leaves no partial one."""
    path = tmp_path / "keys.txt"
    path.write_text("mine")
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/show", code=ENDPOINT_CLOSED, skip=1))
    run = gatepay("keys", "export", "-p", 8, "-o", path, "--force")
    assert run.status == 3
    assert "This endpoint is closed" in run.err
    assert [path.name for path in tmp_path.iterdir()] == ["keys.txt"]
    assert path.read_text() == "mine"


def test_export_to_an_invalid_path_is_refused_before_fetching(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """An unknown extension, a missing folder and a path that is a folder are refused before anything is fetched."""
    (tmp_path / "folder.csv").mkdir()
    for target, expected in (
        ("k.pdf", "the extension must be"),
        ("no/k.csv", "No such file"),
        ("folder.csv", "not a regular file"),
    ):
        run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / target, "--force")
        assert run.status == 2
        assert expected in run.err
    assert not shop.requests


def test_export_warns_when_the_stock_changes_meanwhile(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A card key that is deleted during the export causes a warning."""
    requests = 0

    pick_fault = shop._pick

    def delete_and_pick(endpoint: str) -> Fault | None:
        nonlocal requests
        requests += 1
        if requests == 5:  # by then, some pages are fetched
            shop.delete_keys(8, shop.key_ids(8)[:1])
        return pick_fault(endpoint)

    shop.app._pick = delete_and_pick
    shop.add_keys(8, [f"MORE-{number}" for number in range(200)])
    run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.txt")
    assert run.status == 0
    assert "the stock changed during the export" in run.err


def test_export_to_a_full_disk_leaves_no_file(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that can't be written completely exits with 5 and is removed."""

    def fail_with_full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_with_full_disk)
    run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.txt")
    assert run.status == 5
    assert "No space left" in run.err
    assert not list(tmp_path.iterdir())
    assert shop.requests


# -- count ------------------------------------------------------------------------------------------------------------


def test_count_shows_stock_and_total_of_each_product(gatepay: Any, shop: Sandbox) -> None:
    run = gatepay("keys", "count", "--json")
    assert [(count["product"], count["stock"], count["total"]) for count in run.json["counts"]] == [
        (4, 4, 4), (5, 1, 1), (8, 89, 89),
    ]  # fmt: skip
    shown = gatepay("keys", "count", "-p", 8)
    assert "腾讯视频SVIP账号" in shown.out
    assert "89" in shown.out
    assert shop.requests


def test_count_of_an_unknown_product_advises_a_command(gatepay: Any, shop: Sandbox) -> None:
    run = gatepay("keys", "count", "-p", 77)
    assert run.status == 3
    assert "gatepay products" in run.err
    assert shop.requests


def render_bar(task: Task, columns: int, lang: Lang = "en") -> str:
    """Return the progress bar of *task* as text, on a terminal with *columns*."""
    language.set_language(lang)
    try:
        bar = screens._Bar(Console(width=columns, force_terminal=True))
    finally:
        language.set_language("en")
    rendered: list[str] = []
    # Rich renders in another thread; the bar must keep the language of the thread that created it.
    drawing = Thread(target=lambda: rendered.append(bar.render(task).plain))
    drawing.start()
    drawing.join()
    return rendered[0]


def test_progress_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar on a terminal shows the count, the rate and the time left, but no rate until it can be measured."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with screens.progress("Uploading", total=10) as update:
        update(5, 10)
    now = [0.0]  # seconds
    bar = Progress(get_time=lambda: now[0])
    bar.add_task("Uploading", total=40_000)
    [task] = bar.tasks

    def line() -> str:
        return render_bar(task, 200).replace("━", "")

    assert line() == "Uploading  0/40,000"
    bar.advance(task.id, 500)
    assert line() == "Uploading  500/40,000"
    now[0] = 1.9
    bar.advance(task.id, 500)
    bar.advance(task.id, 500)  # two chunks at almost the same time must not show as millions per second
    now[0] = 2.0
    assert line() == "Uploading  1,500/40,000 750/s 0:00:52 left"
    now[0] = 4000.0
    assert line() == "Uploading  1,500/40,000 0/s 28:31:07 left"
    bar.advance(task.id, 38_500)
    assert line() == "Uploading  40,000/40,000 10/s"
    task.total = None
    assert line() == "Uploading 40,000 10/s"


def test_progress_fits_into_any_width() -> None:
    """The bar is one line and leaves three columns for ``^C``; a narrow terminal shows the most important parts."""
    bar = Progress(get_time=lambda: 40.0)
    bar.add_task("正在上传", start=False, total=1_000_000)
    [task] = bar.tasks
    task.start_time, task.completed = 0.0, 456_000
    lines: dict[int, str] = {}
    for lang in LANGUAGES:
        for columns in range(20, 201):
            lines[columns] = render_bar(task, columns, lang)
            assert cell_len(lines[columns]) <= columns - 3, (columns, lines[columns])
            assert "456,000/1,000,000" in lines[columns]
    assert lines[40] == "456,000/1,000,000 剩余 0:00:48"
    assert lines[60] == "正在上传 456,000/1,000,000 11,400 条/秒 剩余 0:00:48"
    assert re.fullmatch(r"正在上传 ━{24} 456,000/1,000,000 11,400 条/秒 剩余 0:00:48", lines[80])
    assert "━" * 40 in lines[200]
