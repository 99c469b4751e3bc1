"""``gatepay keys``: uploads and their ledgers, exports that are whole or not there, counts; with faults on the way."""

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

COLUMNS = ("blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file as merchants have them: a byte-order mark, blanks, repetitions, two kinds of line ends."""
    path = tmp_path / "keys.txt"
    path.write_bytes(b"\xef\xbb\xbfAAAA-1\r\n\r\nBBBB-2\n AAAA-1 \nCCCC-3")
    return path


def many(path: Path, count: int) -> Path:
    path.write_text("".join(f"KEY-{number:06d}\n" for number in range(count)))
    return path


# -- upload -----------------------------------------------------------------------------------------------------------


def test_upload(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    """A file is uploaded, and each of its lines accounted for."""
    before = len(shop.keys(8))
    run = gatepay("keys", "upload", keys, "--product", 8, "--json")
    assert run.status == 0
    assert sum(run.json[name] for name in COLUMNS) == run.json["read"] == 5
    assert {name: run.json[name] for name in ("blank", "duplicates", "stored", "ok")} == {
        "blank": 1, "duplicates": 1, "stored": 3, "ok": True,
    }  # fmt: skip
    assert shop.keys(8)[before:] == ["AAAA-1", "BBBB-2", "CCCC-3"]


@pytest.mark.parametrize(
    ("lang", "said"), [("en", "All card keys are on the server."), ("zh", "全部卡密都已在服务器上")]
)
def test_upload_for_people(gatepay: Any, shop: Sandbox, keys: Path, lang: str, said: str) -> None:
    """People see a table, in their language, and no card key."""
    run = gatepay("keys", "upload", keys, "-p", 8, "--lang", lang)
    assert (run.status, run.err) == (0, "")
    assert said in run.out
    assert "AAAA" not in run.out
    assert shop.requests


def test_upload_again(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    """Run again, it says on the server's word that all is there already."""
    gatepay("keys", "upload", keys, "-p", 8)
    run = gatepay("keys", "upload", keys, "-p", 8, "--json")
    assert (run.status, run.json["stored"], run.json["already_there"]) == (0, 0, 3)
    assert len(shop.keys(8)) == 89 + 3


def test_upload_of_several(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """Several files are one input: what stands in two of them is sent once; one that is named twice is read once."""
    more = tmp_path / "more.txt"
    more.write_text("BBBB-2\nDDDD-4\n")
    (tmp_path / "link.txt").symlink_to(keys)
    run = gatepay("keys", "upload", keys, more, tmp_path / "link.txt", "-p", 8, "--json")
    assert (run.json["read"], run.json["stored"], run.json["duplicates"]) == (7, 4, 2)
    assert "link.txt is listed twice" in run.err
    assert shop.keys(8)[-1] == "DDDD-4"


def test_upload_of_standard_input(gatepay: Any, shop: Sandbox) -> None:
    """`-` is standard input; with --as-is, a line that can't be a card key is refused by its number, others stored."""
    broken = b"AAAA\nB\0B\n\xff\xfe\nCCCC\n"
    run = gatepay("keys", "upload", "-", "-p", 8, "--as-is", "--json", input=broken)
    assert run.status == 1
    assert (run.json["stored"], run.json["refused"]) == (2, 2)
    assert [each["first"] for each in run.json["troubles"]] == ["standard input:2", "standard input:3"]
    assert shop.keys(8)[-2:] == ["AAAA", "CCCC"]
    before = len(shop.requests)
    checked = gatepay("keys", "upload", "-", "-p", 8, input=broken)
    assert (checked.status, "standard input: line 3 is not UTF-8" in checked.err) == (2, True)
    assert len(shop.requests) == before


def test_upload_of_nothing(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A file without card keys is hardly the one that was meant: an error. A pipe that is read as it comes is none."""
    for name, text in (("empty.txt", ""), ("blank.txt", "\n \n"), ("empty.csv", ""), ("head.csv", "content\n")):
        path = tmp_path / name
        path.write_text(text)
        for more in ([], ["--dry-run"]):
            run = gatepay("keys", "upload", path, "-p", 8, *more)
            assert (run.status, "contains no card keys" in run.err) == (2, True), (name, run)
    assert gatepay("keys", "upload", "-", "-p", 8).status == 2
    run = gatepay("keys", "upload", "-", "-p", 8, "--as-is", input="\n \n")
    assert (run.status, "there was nothing to upload" in run.out) == (0, True)
    assert not shop.requests


def test_upload_from_a_closed_input(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """``<&-`` is a mistake, and not an upload of nothing."""
    monkeypatch.setattr(output, "_closed", {"stdin"})
    run = gatepay("keys", "upload", "-", "-p", 8)
    assert (run.status, "Standard input is closed" in run.err) == (2, True)
    assert not shop.requests


def test_done_in_part(gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 1: some chunks were refused; which lines is shown, and they are in a private file to be sent again."""
    monkeypatch.chdir(tmp_path)  # a long path would be folded
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=111, skip=1, times=None))
    failed = Path("failed.txt")
    file = many(Path("keys.txt"), 600)
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


def test_refused(gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 3: GatePay refused the first chunk, and every other would have met the same; all lines are kept."""
    monkeypatch.chdir(tmp_path)  # a long path would leave little room for the reason
    failed = Path("failed.txt")
    file = many(Path("keys.txt"), 5000)
    shop.change_shop(closed=True)
    run = gatepay("keys", "upload", file, "-p", 8, "--failed-lines", failed, "--lang", "zh")
    assert run.status == 3
    assert "该接口未对店铺开放" in run.out
    assert "已提前停止" in run.err
    assert failed.read_text() == file.read_text()


def test_no_answer(gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 4: nobody answers."""
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://127.0.0.1:9/api/")
    run = gatepay("keys", "upload", keys, "-p", 8)
    assert run.status == 4
    assert "gatepay doctor" in run.out
    assert gatepay("products").status == 4


def test_many_troubles(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """Of many troubles the first twenty are shown, and the number of the others."""
    lines = "".join(f"GOOD-{number}\nBAD\0-{number}\n" for number in range(30))
    run = gatepay("keys", "upload", "-", "-p", 8, "--as-is", input=lines)
    assert run.status == 1
    assert re.search(r"standard input:2 +1 +refused +contains a NUL character; the file may be UTF-16", run.out)
    assert "standard input:40 " in run.out
    assert "standard input:42" not in run.out
    assert "… and 10 more" in run.out
    assert len(shop.keys(8)) == 89 + 30


def test_neighbours_in_trouble(gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks side by side that met the same are one row for people, and each its own for programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gatepay_async.protocol.progress._FULL_CREDIT", 0)  # no halves
    one, two = many(Path("one.txt"), 1500), Path("two.txt")
    two.write_text("".join(f"TWO-{number}\n" for number in range(1000)))
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=199, times=None, skip=1))
    run = gatepay("keys", "upload", one, two, "-p", 8, "--concurrency", 1)
    assert re.search(rf"{one}:501 – {two}:1000 +2,000 +refused", run.out)
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=199, times=None))
    run = gatepay("keys", "upload", one, "-p", 9, "--concurrency", 1)
    assert re.search(rf"{one}:1 – 1500 +1,500 +refused", run.out)
    troubles = gatepay("keys", "upload", one, "-p", 9, "--concurrency", 1, "--json").json["troubles"]
    assert [(each["first"], each["count"]) for each in troubles] == [(f"{one}:{n}", 500) for n in (1, 501, 1001)]


@pytest.mark.parametrize("how", ["same", "linked", "read by the shell"])
def test_failed_lines_that_are_the_input(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A file that is uploaded is never replaced by what failed of it, under whatever name it is given."""
    before = keys.read_bytes()
    failed = keys
    if how == "linked":
        failed = keys.with_name("linked.txt")
        failed.symlink_to(keys)
    with keys.open("rb") as opened:
        if how == "read by the shell":
            monkeypatch.setattr("typer.testing._NamedTextIOWrapper.fileno", lambda _: opened.fileno())
        given = "-" if how == "read by the shell" else keys
        run = gatepay("keys", "upload", given, "-p", 8, "--failed-lines", failed)
    assert (run.status, run.out) == (2, "")
    assert "would be replaced" in run.err
    assert keys.read_bytes() == before
    assert not shop.requests


def test_failed_lines_of_an_earlier_run(
    gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed before is there until this run has ended: one that is killed loses nothing."""
    failed = tmp_path / "failed.txt"
    failed.write_text("OLD\n")
    seen: list[str] = []
    end = keys_upload._finish

    def look_first(*arguments: Any) -> Any:
        seen.append(failed.read_text())
        return end(*arguments)

    monkeypatch.setattr(keys_upload, "_finish", look_first)
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=113, times=None))
    assert gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", failed).status == 3
    assert (seen, failed.read_text()) == (["OLD\n"], "AAAA-1\nBBBB-2\nCCCC-3\n")
    assert sorted(tmp_path.iterdir()) == sorted([failed, keys])


def test_failed_lines_where_none_failed(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """The file of failed lines is there after every run, so that nobody uploads an older one by mistake."""
    failed = tmp_path / "failed.txt"
    failed.write_text("OLD\n")
    assert gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", failed).status == 0
    assert failed.read_text() == ""
    assert shop.requests


def test_concurrency(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    """Is a number, or auto; anything else is refused before anything is sent."""
    for wrong in ("fast", "0", "-1", "1.5"):
        run = gatepay("keys", "upload", keys, "-p", 8, f"--concurrency={wrong}")
        assert run.status == 2, wrong
        assert "must be a whole number above 0, or auto" in run.err
    assert not shop.requests
    assert gatepay("keys", "upload", keys, "-p", 8, "--concurrency", "auto").status == 0
    assert shop.requests


@pytest.mark.parametrize("target", ["no/such/folder/failed.txt", "."])
def test_failed_lines_that_cant_be_written(gatepay: Any, shop: Sandbox, keys: Path, target: str) -> None:
    """Whether the failed lines can be written is known before anything is sent."""
    run = gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", target)
    assert run.status == 2
    assert target in run.err
    assert not shop.requests


def opens_of(path: Path) -> list[str]:
    """Is appended to whenever *path* is opened. A hook can't be taken away again; it costs nothing worth it."""
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
def test_a_file_is_opened_once(  # noqa: PLR0917 -- fixtures, by name
    gatepay: Any,
    shop: Sandbox,
    keys: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    status: int,
) -> None:
    """What was checked is what is sent, also where the upload stops and the rest becomes failed lines."""
    monkeypatch.chdir(keys.parent)
    monkeypatch.setenv("GATEPAY_UPLOADS", f"sqlite:///{keys.parent}/uploads.sqlite3")
    shop.change_shop(closed=status == 3)
    opens = opens_of(many(keys, 20_000))
    assert gatepay("keys", "upload", keys, "-p", 8, *options).status == status
    assert len(opens) == 1
    assert status == 0 or len((keys.parent / "failed.txt").read_text().splitlines()) == 20_000


def test_a_file_that_changes(gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file that is written to while it is read is noticed; what was read by then is sent, or kept."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 100)
    many(keys, 700)
    look_through = checking.check_sources

    def then_append(names: list[Path], reading: Reading) -> list[sources.Source]:
        found = look_through(names, reading)
        with keys.open("a") as file:
            file.write("DDDD-4\n")
        return found

    monkeypatch.setattr(checking, "check_sources", then_append)
    failed = keys.with_name("failed.txt")
    run = gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", failed)
    assert run.status == 1
    assert "changed while it was being read" in run.err
    assert sorted(shop.keys(8)[89:] + failed.read_text().splitlines()) == sorted(keys.read_text().splitlines())


def test_a_file_that_goes_away(gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file that is gone when it is to be read again is told so."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 10)
    look_through = checking.check_sources

    def then_unlink(names: list[Path], reading: Reading) -> list[sources.Source]:
        found = look_through(names, reading)
        keys.unlink()
        return found

    monkeypatch.setattr(checking, "check_sources", then_unlink)
    run = gatepay("keys", "upload", keys, "-p", 8)
    assert run.status == 2
    assert "File not found" in run.err
    assert not shop.requests


def test_failed_lines_and_a_file_that_is_gone(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the upload stops and its large file is gone by then, what was read is kept; the rest is missing."""
    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 100)
    file, failed = many(tmp_path / "keys.txt", 20_000), tmp_path / "failed.txt"
    unread = sources.unread_lines

    def gone(found: list[sources.Source], *, after: int) -> Any:
        file.unlink()
        return unread(found, after=after)

    monkeypatch.setattr(sources, "unread_lines", gone)
    shop.change_shop(closed=True)
    run = gatepay("keys", "upload", file, "-p", 8, "--failed-lines", failed)
    assert run.status == 3
    assert "Input that was not read yet" in run.out
    assert len(failed.read_text().splitlines()) >= 2000


def test_failed_lines_and_a_full_disk(
    gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the failed lines can't be written in the end, the ledger is shown all the same; status 1."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    run = gatepay("keys", "upload", keys, "-p", 8, "--failed-lines", tmp_path / "failed.txt")
    assert run.status == 1
    assert "newly stored" in run.out
    assert "No space left" in run.err
    assert shop.requests


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("durable", [(), ("--durable",)])
def test_no_word_of_failed_lines_that_could_not_be_written(
    gatepay: Any, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: tuple[str, ...]
) -> None:
    """The report is shown, and doesn't name a file that isn't there."""

    @contextmanager
    def full(*_: object) -> Generator[Any]:
        yield io.BytesIO()
        raise HaltError("No space left", status=Status.NO_OUTPUT)

    for module in ("keys_upload", "uploads"):
        monkeypatch.setattr(f"gatepay_async.cli.commands.{module}.atomic_write", full)
    failed = tmp_path / "failed.txt"
    run = gatepay("keys", "upload", keys, "-p", 999, "--failed-lines", failed, *durable)
    assert "refused" in run.out
    assert "failed.txt" not in run.out
    assert "No space left" in run.err


def test_an_upload_that_breaks(gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no error of ours comes through, after the ledger has been shown; without a ledger, at once."""

    class Broken(Exception):  # noqa: N818 -- a test's own
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


def test_a_pipe_that_is_cut_short(tmp_path: Path) -> None:
    """What a pipe has not given yet can't be in the file of failed lines, and that is said."""
    counts: dict[str, Any] = dict.fromkeys(("read", *COLUMNS), 0)
    source = sources.Source("standard input", None)
    job = keys_upload._UploadCommand(sources.Reader([source]), [source], Reading(), tmp_path / "failed.txt")
    error = HaltError("a line without an end")
    assert keys_upload._finish(job, UploadReport(**counts, chunks=()), error) == 2


# -- what files can hold ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
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
@pytest.mark.parametrize("options", [["--dry-run"], []], ids=["rehearsed", "uploaded"])
def test_accidents_of_encoding(  # noqa: PLR0917 -- fixtures, by name
    gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path, content: bytes | None, said: str, options: list[str]
) -> None:
    """A file that can't be right is refused by its line, and nothing is sent: not of the files before it, either."""
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"AAAA\n" + b"x" * 100_000_000 + b"\nBBBB\n" if content is None else content)
    run = gatepay("keys", "upload", keys, bad, "-p", 8, *options)
    assert (run.status, run.out) == (2, "")
    assert f"{bad}: " in run.err
    assert said in run.err
    assert "save the file as UTF-8" in run.err
    assert not shop.requests


def test_what_is_no_plain_file(gatepay: Any, shop: Sandbox) -> None:
    """What is neither a file nor a folder is read to its end, with --as-is as it comes."""
    assert gatepay("keys", "upload", "/dev/null", "-p", 8, "--json").status == 2
    run = gatepay("keys", "upload", "/dev/null", "-p", 8, "--as-is", "--json")
    assert (run.status, run.json["read"]) == (0, 0)
    assert not shop.requests


def test_a_reader_is_a_file(keys: Path) -> None:
    """The library reads what has readline() in a worker thread; it gives lines, and nothing at the end."""
    reader = sources.Reader(checking.check_sources([keys], Reading()))
    assert [reader.readline() for _ in range(6)][3:] == [" AAAA-1 ", "CCCC-3", ""]


def test_many_accidents(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """Of a file that is wrong all through, the first five lines are named."""
    (tmp_path / "bad.txt").write_bytes("密\n".encode("gbk") * 100)
    run = gatepay("keys", "upload", tmp_path / "bad.txt", "-p", 8, "--encoding", "utf-8")
    assert "line 5 is in" in run.err
    assert "line 6" not in run.err
    assert not shop.requests


def test_another_encoding_by_name(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A GBK file is uploaded as what it says, when --encoding names it; what that can't read is refused, too."""
    path = tmp_path / "gbk.txt"
    path.write_bytes("张三----密语\n".encode("gbk"))
    assert gatepay("keys", "upload", path, "-p", 8, "--encoding", "gbk").status == 0
    assert shop.keys(8)[-1] == "张三----密语"
    path.write_bytes(b"\xff\xff\n")
    run = gatepay("keys", "upload", path, "-p", 8, "--encoding", "gb18030")
    assert (run.status, "line 1 is in a different encoding" in run.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere.txt", "File not found"), (".", "is a folder"), ("x" * 300, "File name too long")],
)
def test_files_that_are_none(gatepay: Any, shop: Sandbox, name: str, said: str) -> None:
    """A file that is missing, or a folder, is an error that names it; nothing is sent."""
    run = gatepay("keys", "upload", name, "-p", 8)
    assert run.status == 2
    assert said in run.err
    assert name in run.err
    assert not shop.requests


def test_a_line_without_end_from_a_pipe(gatepay: Any, shop: Sandbox) -> None:
    """From standard input a line without an end ends the upload: nothing is lost, and nothing is held for ever."""
    run = gatepay("keys", "upload", "-", "-p", 8, "--as-is", "--json", input=b"AAAA\n" * 2 + b"x" * 70_000)
    assert run.status == 2
    ledger, error = map(json.loads, run.out.splitlines())
    assert (ledger["duplicates"], ledger["not_sent"], ledger["read"]) == (1, 1, 2)
    assert "line 3 is longer than" in error["error"]["headline"]
    assert not shop.requests


# -- a rehearsal ------------------------------------------------------------------------------------------------------


def test_dry_run(gatepay: Any, keys: Path) -> None:
    """--dry-run says what would be sent, with the numbers of repeated lines; it needs no key, and calls nobody."""
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


def test_dry_run_of_a_pipe(gatepay: Any) -> None:
    """What can't be a card key in a pipe is named by its line; long lists are cut."""
    options = ("-p", 8, "--as-is", "--dry-run")
    assert "For example" not in gatepay("keys", "upload", "-", *options, input=b"B\0\n").out
    shown = gatepay("keys", "upload", "-", *options, input=b"A\n" * 30 + b"B\0\n")
    assert "standard input:31 is not a valid card key" in shown.out
    assert "… and 9 more" in shown.out
    listed = gatepay("keys", "upload", "-", *options, "--json", input=b"A\n" * 3 + b"B\0\nB\0\n").json
    assert [each["line"] for each in listed["repetitions"]] == ["standard input:2", "standard input:3"]
    assert listed["refused_lines"] == ["standard input:4", "standard input:5"]
    assert (listed["read"], listed["refused"], listed["would_send"], listed["chunks"]) == (5, 2, 1, 1)


def test_dry_run_of_full_calls(gatepay: Any) -> None:
    """Card keys that fill their calls exactly take no further one."""
    lines = "".join(f"KEY-{number}\n" for number in range(2_500)).encode()
    counted = gatepay("keys", "upload", "-", "-p", 8, "--dry-run", "--json", input=lines).json
    assert (counted["would_send"], counted["chunks"]) == (2_500, 5)


def test_dry_run_holds_no_card_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory does not grow with a large file: card keys are looked up as digests, and none is kept."""
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


def test_export_to_csv(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A CSV file has a heading and every card key, and only its owner may read it."""
    path = tmp_path / "keys.csv"
    run = gatepay("keys", "export", "--product", 8, "--output", path)
    assert run.status == 0
    assert "89 card keys written to" in run.out
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
    assert [row["content"] for row in rows] == shop.keys(8)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["keys.csv"]


def test_export_reads_four_pages_at_once(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages of an export are fetched four at a time; --thorough is handed on."""
    asked: list[dict[str, Any]] = []
    listing = AsyncGatePay.list_card_keys

    def note(self: AsyncGatePay, product_id: int, **options: Any) -> CardKeyListing:
        asked.append(options)
        return listing(self, product_id, **options)

    monkeypatch.setattr(AsyncGatePay, "list_card_keys", note)
    for more in ((), ("--thorough",)):
        assert gatepay("keys", "export", "-p", 8, "-o", tmp_path / f"k{len(more)}.txt", *more).status == 0
    assert asked == [{"prefetch": 4, "thorough": False}, {"prefetch": 4, "thorough": True}]


def test_export_to_txt_and_jsonl(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A text file has one card key a line; JSON Lines one object."""
    shop.add_keys(8, ['=HYPERLINK("x")', "密,钥"])
    assert gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.txt", "--thorough").status == 0
    assert (tmp_path / "k.txt").read_text("utf-8").splitlines() == shop.keys(8)
    run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.JSONL", "--json")
    assert run.json == {"written": 91, "output": str(tmp_path / "k.JSONL"), "drifted": False}
    lines = (tmp_path / "k.JSONL").read_text("utf-8").splitlines()
    assert [json.loads(line)["content"] for line in lines] == shop.keys(8)


def test_export_to_standard_output(gatepay: Any, shop: Sandbox) -> None:
    """`-` is standard output, with nothing but card keys on it, or with --json an object for each."""
    run = gatepay("keys", "export", "-p", 8, "-o", "-")
    assert run.out.splitlines() == shop.keys(8)
    for_programs = gatepay("keys", "export", "-p", 8, "-o", "-", "--json")
    assert [json.loads(line)["content"] for line in for_programs.out.splitlines()] == shop.keys(8)
    assert json.loads(for_programs.err)["written"] == 89


def test_export_to_a_terminal(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal card keys are shown with --reveal only."""
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    refused = gatepay("keys", "export", "-p", 8, "-o", "-")
    assert (refused.status, "--reveal" in refused.err, refused.out) == (2, True, "")
    assert gatepay("keys", "export", "-p", 8, "-o", "-", "--reveal").out.splitlines() == shop.keys(8)


def test_export_replaces_nothing_unasked(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A file that is there stays as it is without --force."""
    path = tmp_path / "keys.txt"
    path.write_text("mine")
    run = gatepay("keys", "export", "-p", 8, "-o", path)
    assert (run.status, path.read_text()) == (2, "mine")
    assert "--force" in run.err
    assert gatepay("keys", "export", "-p", 8, "-o", path, "--force").status == 0
    assert path.read_text().splitlines() == shop.keys(8)


def test_an_export_that_breaks_leaves_nothing(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """There is never half a file: one that was there stays, and no other is left behind."""
    path = tmp_path / "keys.txt"
    path.write_text("mine")
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/show", code=107, skip=1))
    run = gatepay("keys", "export", "-p", 8, "-o", path, "--force")
    assert run.status == 3
    assert "This endpoint is closed" in run.err
    assert [each.name for each in tmp_path.iterdir()] == ["keys.txt"]
    assert path.read_text() == "mine"


def test_export_where_it_cant_be(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """Another ending, a folder that isn't there, or a folder of that name: said before anything is fetched."""
    (tmp_path / "folder.csv").mkdir()
    for target, said in (
        ("k.pdf", "the extension must be"),
        ("no/k.csv", "No such file"),
        ("folder.csv", "not a regular file"),
    ):
        run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / target, "--force")
        assert run.status == 2
        assert said in run.err
    assert not shop.requests


def test_a_stock_that_changes_under_the_export(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """When the stock has changed meanwhile, the export says so."""
    requests = 0

    original = shop._pick

    def pick(endpoint: str) -> Fault | None:
        nonlocal requests
        requests += 1
        if requests == 5:
            shop.delete_keys(8, shop.key_ids(8)[:1])
        return original(endpoint)

    shop.app._pick = pick
    shop.add_keys(8, [f"MORE-{number}" for number in range(200)])
    run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.txt")
    assert run.status == 0
    assert "the stock changed during the export" in run.err


def test_a_full_disk(gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be written at the end is said, and leaves nothing behind."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    run = gatepay("keys", "export", "-p", 8, "-o", tmp_path / "k.txt")
    assert run.status == 5
    assert "No space left" in run.err
    assert not list(tmp_path.iterdir())
    assert shop.requests


# -- counts -----------------------------------------------------------------------------------------------------------


def test_count(gatepay: Any, shop: Sandbox) -> None:
    """Each product's card keys are counted: those on the server, and those in stock."""
    run = gatepay("keys", "count", "--json")
    assert [(each["product"], each["stock"], each["total"]) for each in run.json["counts"]] == [
        (4, 4, 4), (5, 1, 1), (8, 89, 89),
    ]  # fmt: skip
    shown = gatepay("keys", "count", "-p", 8)
    assert "腾讯视频SVIP账号" in shown.out
    assert "89" in shown.out
    assert shop.requests


def test_count_of_what_is_not_there(gatepay: Any, shop: Sandbox) -> None:
    """A product that the shop doesn't have is refused, with what to do in the command's words."""
    run = gatepay("keys", "count", "-p", 77)
    assert run.status == 3
    assert "gatepay products" in run.err
    assert shop.requests


def drawn(task: Task, columns: int, lang: Lang = "en") -> str:
    language.set_language(lang)
    try:
        bar = screens._Bar(Console(width=columns, force_terminal=True))
    finally:
        language.set_language("en")
    shown: list[str] = []
    # By another thread, which speaks the language of the one that made it.
    drawing = Thread(target=lambda: shown.append(bar.render(task).plain))
    drawing.start()
    drawing.join()
    return shown[0]


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the bar shows what is done, the rate and the time left; no rate before there is one."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with screens.progress("Uploading", total=10) as update:
        update(5, 10)
    now = [0.0]
    bar = Progress(get_time=lambda: now[0])
    bar.add_task("Uploading", total=40_000)
    [task] = bar.tasks

    def line() -> str:
        return drawn(task, 200).replace("━", "")

    assert line() == "Uploading  0/40,000"
    bar.advance(task.id, 500)
    assert line() == "Uploading  500/40,000"
    now[0] = 1.9
    bar.advance(task.id, 500)
    bar.advance(task.id, 500)  # two chunks within no time, after two seconds: no millions a second
    now[0] = 2.0
    assert line() == "Uploading  1,500/40,000 750/s 0:00:52 left"
    now[0] = 4000.0
    assert line() == "Uploading  1,500/40,000 0/s 28:31:07 left"
    bar.advance(task.id, 38_500)
    assert line() == "Uploading  40,000/40,000 10/s"
    task.total = None
    assert line() == "Uploading 40,000 10/s"


def test_progress_at_any_width() -> None:
    """The bar is one line with room for ^C, from 40 columns on; what matters least is left out first."""
    bar = Progress(get_time=lambda: 40.0)
    bar.add_task("正在上传", start=False, total=1_000_000)
    [task] = bar.tasks
    task.start_time, task.completed = 0.0, 456_000
    said: dict[int, str] = {}
    for lang in LANGUAGES:
        for columns in range(20, 201):
            said[columns] = drawn(task, columns, lang)
            assert cell_len(said[columns]) <= columns - 3, (columns, said[columns])
            assert "456,000/1,000,000" in said[columns]
    assert said[40] == "456,000/1,000,000 剩余 0:00:48"
    assert said[60] == "正在上传 456,000/1,000,000 11,400 条/秒 剩余 0:00:48"
    assert re.fullmatch(r"正在上传 ━{24} 456,000/1,000,000 11,400 条/秒 剩余 0:00:48", said[80])
    assert "━" * 40 in said[200]
